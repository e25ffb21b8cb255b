"""Predictors against brute force, their scores, and everything that is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import ROOT

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.predictors import (
    PREDICTORS,
    ExactMatch,
    Features,
    Fitted,
    NoisyOracle,
    Oracle,
    PredictedLength,
    Survival,
    auc,
    cutoffs,
    rounded_cutoffs,
    sample_pairs,
    score,
    split,
    training_pairs,
)

AGES = np.arange(0, 25)
NONE = np.full(len(AGES), -1)


def workload(n=300, seed=0, keys=6):
    rng = np.random.default_rng(seed)
    key = rng.integers(0, keys, n)
    output = np.maximum(1, rng.poisson(4 + 3 * key))
    return bro.Instance(np.sort(rng.integers(0, 200, n)), rng.integers(1, 60, n), output, key=key)


def conditioned(outputs, age, horizon):
    """p and mu by their definitions."""
    alive = [o for o in outputs if o > age]
    ending = [o - age for o in alive if o - age <= horizon]
    return (len(ending) / len(alive), np.mean(ending)) if ending else (0.0, 1.0)


def test_survival_by_hand():
    """Outputs 2, 4, 4, 9 at age 2, H = 3: three are longer; two of them end within 3 steps, each after 2."""
    p, mu = Survival([2, 4, 4, 9]).predict([2], [7], [-1], 3)
    assert (p[0], mu[0]) == (2 / 3, 2.0)
    assert Survival([2, 4, 4, 9]).survival(2, 3) == 1 / 3
    # c = (1 - 2/3)*(3 + 1) + 2/3*2 = 2.67, C = 3.
    assert rounded_cutoffs(p, mu, 3).tolist() == [3]


@pytest.mark.parametrize("horizon", [0, 1, 3, 40])
def test_survival_equals_its_definition(horizon):
    outputs = workload().output
    p, mu = Survival(outputs).predict(AGES, AGES, NONE, horizon)
    for age in AGES:
        assert (p[age], mu[age]) == pytest.approx(conditioned(outputs, age, horizon), abs=1e-12)


@pytest.mark.parametrize("horizon", [1, 5])
def test_exact_match_equals_its_definition_and_falls_back(horizon):
    inst = workload()
    model = ExactMatch.fit(inst)
    for key in (0, 5, 77, -1):
        p, mu = model.predict(AGES, AGES, np.full(len(AGES), key), horizon)
        own = inst.output[inst.key == key]
        for age in AGES:
            outputs = own if (own > age).any() else inst.output
            assert (p[age], mu[age]) == pytest.approx(conditioned(outputs, age, horizon), abs=1e-12)


def test_exact_match_needs_enough_requests_of_a_key():
    output, key = [4, 6, 9], [1, 1, 2]
    least_two = ExactMatch(output, key, least=2)
    p, _ = least_two.predict([1, 1], [1, 1], [1, 2], 5)
    assert p.tolist() == [1.0, 2 / 3]  # key 2 has one request: all three outputs count
    assert ExactMatch(output, key, least=3).predict([1], [1], [1], 5)[0][0] == 2 / 3


@pytest.mark.parametrize("buckets", [1, 3, 50])
def test_predicted_length_equals_its_definition(buckets):
    """A request told v may become v + e for every training error e of its bucket."""
    rng = np.random.default_rng(1)
    told = rng.integers(0, 12, 80)
    output = np.maximum(1, told + rng.integers(-4, 5, 80))
    model = PredictedLength(output, told, buckets)
    edges = np.unique(np.sort(told)[np.arange(1, buckets) * 80 // buckets]) if buckets > 1 else np.array([])
    of = np.searchsorted(edges, told, side="right")
    for v in (0, 3, 11, 40, -1):
        p, mu = model.predict(AGES, AGES, np.full(len(AGES), v), 4)
        errors = (output - told)[of == np.searchsorted(edges, v, side="right")]
        for age in AGES:
            outcomes = v + errors if v >= 0 and (v + errors > age).any() else output
            assert (p[age], mu[age]) == pytest.approx(conditioned(outcomes, age, 4), abs=1e-12)


def test_predicted_length_is_right_when_the_prediction_is():
    inst = workload()
    inst = inst.replace(key=inst.output)
    result = score(PredictedLength.fit(inst.head(100)), inst, 5)
    assert (result.auc, result.mae) == (1.0, 0.0)


class OnlyPredict:
    """A predictor without its tables: asked step by step."""

    def __init__(self, model):
        self.predict = model.predict


@pytest.mark.parametrize("name", ["survival", "exact-match", "predicted-length"])
@pytest.mark.parametrize(("capacity", "refresh"), [(None, 1), (130, 1), (None, 3)])
def test_compiled_lookup_decides_as_predict_does(name, capacity, refresh):
    training, later = split(workload(), 0.5)
    model = PREDICTORS[name](training, 6)
    cluster = bro.Cluster(3, 6, kv_capacity=capacity)
    runs = [
        bro.simulate(later, cluster, bro.routers.BRH(H=6, predictor=p, refresh=refresh))
        for p in (model, OnlyPredict(model))
    ]
    assert (runs[0].preemptions > 0) == (capacity is not None)
    assert np.array_equal(runs[0].schedule.start, runs[1].schedule.start)
    assert np.array_equal(runs[0].schedule.worker, runs[1].schedule.worker)


@pytest.mark.parametrize("name", ["survival", "exact-match", "predicted-length"])
def test_tables_hold_what_predict_says(name):
    inst = workload()
    model = PREDICTORS[name](inst, 5)
    keys = np.array([0, 3, 5, 77, -1])
    tables = model.tables(keys, 5)
    for i, key in enumerate(keys):
        for age in range(60):
            at = tables.first[i] + age
            found = tables.table[at] if at < tables.last[i] else tables.shared[min(age, len(tables.shared) - 1)]
            p, mu = model.predict(np.array([age]), np.array([1]), np.array([key]), 5)
            assert found == rounded_cutoffs(p, mu, 5)[0]


def test_oracles_answer_by_index():
    inst = workload()
    for model in (Oracle(), NoisyOracle(0.3, 0.3, seed=2)):
        model.attach(inst)
        index = np.flatnonzero(inst.output > 2)
        age = np.full(len(index), 2)
        p, mu = model.predict(age, inst.prompt[index], index, 5, index=index)
        c = cutoffs(model, index, age, inst.prompt[index], index, 5)
        assert rounded_cutoffs(p, mu, 5).tolist() == c.tolist()
        assert model.survival(2, 5) == (inst.output > 7).sum() / (inst.output > 2).sum()
        with pytest.raises(bro.InputError, match="needs the index of each request"):
            model.predict(age, inst.prompt[index], index, 5)
        with pytest.raises(bro.InputError, match="the oracle knows 300 requests and is asked about request 300"):
            model.remaining(np.array([300]), np.array([1]), np.array([1]))
        with pytest.raises(bro.InputError, match="asked about request 0 at age 999"):
            model.remaining(np.array([0]), np.array([999]), inst.prompt[:1])


def test_noisy_oracle_has_its_rates():
    n = 20_000
    inst = bro.Instance(np.zeros(n), np.ones(n), np.where(np.arange(n) % 2, 5, 500))
    model = NoisyOracle(fpr=0.1, fnr=0.3, seed=4)
    model.attach(inst)
    index = np.arange(n)
    found = cutoffs(model, index, np.ones(n, np.int64), inst.prompt, index, 80)
    ending = inst.output == 5
    assert abs((found[ending] == 81).mean() - 0.3) < 0.02  # 10 000 draws: four standard deviations
    assert abs((found[~ending] == 40).mean() - 0.1) < 0.015
    assert set(np.unique(found)) == {4, 40, 81}
    exact = NoisyOracle(fpr=0, fnr=0)
    exact.attach(inst)
    truth = Oracle()
    truth.attach(inst)
    assert (
        cutoffs(exact, index, index * 0, inst.prompt, index, 80)
        == cutoffs(truth, index, index * 0, inst.prompt, index, 80)
    ).all()


def test_auc_by_hand_and_by_pairs():
    assert auc([0.1, 0.4, 0.4, 0.9], [False, False, True, True]) == 0.875
    rng = np.random.default_rng(0)
    value, truth = rng.integers(0, 5, 60), rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in value[truth] for b in value[~truth]]
    assert auc(value, truth) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc([1.0], [True]))


def test_sampled_pairs():
    index, age = sample_pairs(np.array([3, 1, 4]), None)
    assert list(zip(index.tolist(), age.tolist(), strict=True)) == [(0, 1), (0, 2), (2, 1), (2, 2), (2, 3)]
    index, age = sample_pairs(np.array([3, 1, 4]), 2)  # five pairs, every third, from number 1 on
    assert list(zip(index.tolist(), age.tolist(), strict=True)) == [(0, 2), (2, 3)]


def test_score_of_the_truth_is_perfect():
    inst = workload()
    result = score(Oracle(), inst, 5)
    assert (result.auc, result.mae, result.brier) == (1.0, 0.0, 0.0)
    assert result.pairs == result.of_pairs == int((inst.output - 1).sum())
    noisy = score(NoisyOracle(0.2, 0.2), inst, 5)
    assert 0.7 < noisy.auc < 0.9
    assert sum(b.pairs for b in noisy.calibration) == noisy.pairs


def test_fitted_estimators():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    training, later = split(workload(600), 0.5)
    model = Fitted.fit(training, 5, linear.LogisticRegression(max_iter=2000), linear.LinearRegression())
    assert score(model, later, 5, training=training).auc > score(Survival.fit(training), later, 5).auc
    run = bro.simulate(later, bro.Cluster(2, 4), bro.routers.BRH(H=5, predictor=model))
    bro.check(run.instance, run.cluster, run.schedule)
    with pytest.raises(bro.InputError, match="classifier LogisticRegression is not fitted"):
        Fitted(linear.LogisticRegression(), linear.LinearRegression())
    with pytest.raises(bro.InputError, match="fitted for horizon 5, asked for 6"):
        model.predict(AGES, AGES + 1, NONE, 6)


def test_estimators_that_are_refused():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    tree = pytest.importorskip("sklearn.tree")
    rows, answers = np.arange(18.0).reshape(3, 6), [0, 1, 0]
    classifier = tree.DecisionTreeClassifier().fit(rows, answers)
    regressor = linear.LinearRegression().fit(rows, answers)
    p, mu = Fitted(classifier, regressor).predict([3], [7], [-1], 5)
    assert p[0] in (0, 1)
    assert 1 <= mu[0] <= 5
    for make, message in (
        (lambda: Fitted(classifier, linear.LinearRegression()), "regressor LinearRegression is not fitted"),
        (lambda: Fitted(regressor, regressor), "classifier LinearRegression has no method predict_proba"),
        (lambda: Fitted(tree.DecisionTreeClassifier, regressor), "must be a fitted scikit-learn estimator"),
        (lambda: Fitted(tree.DecisionTreeClassifier().fit(rows, [1, 2, 3]), regressor), "the classes False and True"),
        (lambda: Fitted(tree.DecisionTreeClassifier().fit(rows[:, :2], answers), regressor), "fitted on 2 columns"),
        (lambda: Fitted.fit(bro.Instance([0], [1], [1]), 5), "no training request has more than one token"),
        (lambda: Fitted.fit(bro.Instance([0], [1], [9]), 0), "horizon must be >= 1"),
        (lambda: Fitted.fit(bro.Instance([0], [1], [900]), 5, limit=3), "ends within 5 steps"),
        (lambda: Fitted.fit(bro.Instance([0], [1], [5]), 5, linear.LogisticRegression()), "cannot fit LogisticReg"),
    ):
        with pytest.raises(bro.InputError, match=message):
            make()


def test_features_of_training_pairs_look_back_only():
    inst = bro.Instance([3, 1, 2], [10, 20, 40], [4, 2, 8], key=[7, 7, -1])
    features, x, left = training_pairs(inst)
    columns = dict(zip(Features.names, x.T, strict=True))
    assert columns["age"].tolist() == [1, 2, 3, 1, 1, 2, 3, 4, 5, 6, 7]
    assert left.tolist() == [3, 2, 1, 1, 7, 6, 5, 4, 3, 2, 1]
    # Request 0 comes after request 1 with the same key, whose output is 2; the others know nothing.
    mean = np.log([4, 2, 8]).mean()
    assert columns["key_count"] == pytest.approx([np.log(2)] * 3 + [0] * 8)
    assert columns["key_log_output"] == pytest.approx([np.log(2)] * 3 + [mean] * 8)
    assert columns["log_prompt"] == pytest.approx(np.log([10] * 3 + [20] + [40] * 7))
    later = dict(zip(Features.names, features([1, 1], [5, 5], [7, 8]).T, strict=True))
    assert later["key_count"] == pytest.approx([np.log(3), 0])
    assert later["key_remaining"] == pytest.approx([np.sqrt(8) - 1, np.exp(mean) - 1])


class Says:
    def __init__(self, p, mu):
        self.answer = p, mu

    def predict(self, age, prompt, key, horizon):
        return self.answer


@pytest.mark.parametrize(
    ("p", "mu", "message"),
    [
        ([0.5], [2.0], r"returned p of shape \(1,\) for 2 requests"),
        ([0.5, 1.5], [2.0, 2.0], r"returned p\[1\] = 1.5, outside \[0, 1\]"),
        ([0.5, -0.1], [2.0, 2.0], r"returned p\[1\] = -0.1, outside"),
        ([0.5, float("nan")], [2.0, 2.0], r"returned p\[1\] = nan, outside"),
        ([0.5, 0.5], [0.5, 2.0], r"returned mu\[0\] = 0.5, outside \[1, 5\]"),
        ([0.5, 0.5], [2.0, 6.0], r"returned mu\[1\] = 6.0, outside \[1, 5\]"),
        ([0.5, 0.5], [2.0], r"returned mu of shape \(1,\) for 2 requests"),
        (["x", "y"], [2.0, 2.0], "returned p that is no array of numbers"),
    ],
)
def test_bad_answers(p, mu, message):
    two = np.array([1, 2])
    with pytest.raises(bro.InputError, match=f"Says.predict {message}"):
        cutoffs(Says(p, mu), two, two, two, two, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Survival([]), "the training part is empty"),
        (lambda: Survival([3, 0]), r"output\[1\] must be >= 1, got 0"),
        (lambda: ExactMatch.fit(bro.Instance([0], [1], [1])), "no keys"),
        (lambda: PredictedLength([5], [-1]), "no predicted lengths"),
        (lambda: NoisyOracle(fpr=1.2), "fpr must be <= 1, got 1.2"),
        (lambda: NoisyOracle(fnr=-0.1), "fnr must be >= 0"),
        (lambda: Survival([5]).predict([1], [1], [1], -1), "horizon must be >= 0, got -1"),
        (lambda: Survival([5]).predict([-2], [1], [1], 3), "age must be >= 0, got -2"),
        (lambda: PredictedLength([5], [2**40]), r"predicted length\[0\] must be <="),
        (lambda: score(Survival([5]), workload(), -1), "horizon must be >= 0"),
        (lambda: score(Survival([5]), bro.Instance([0], [1], [1]), 5), "nothing to evaluate"),
        (lambda: score(Survival.fit(workload()), workload(), 5), "was trained on the part"),
        (lambda: split(workload(), 0.0), "the training part is empty: fraction 0"),
        (lambda: split(workload(), 1.0), "fraction must be < 1"),
        (lambda: split(workload(3), 0.2), "the training part is empty"),
        (lambda: score(Survival.fit(workload()), workload(), 5, training=workload()), "overlaps the evaluated part"),
        (lambda: bro.routers.BRH(H=-1), "H must be >= 0, got -1"),
        (lambda: bro.routers.BRH(gamma=0), "gamma must be > 0, got 0"),
        (lambda: bro.routers.BRH(gamma=1.5), "gamma must be <= 1, got 1.5"),
        (lambda: bro.routers.BRH(beta=0), "beta must be > 0, got 0"),
        (lambda: bro.routers.BRH(predictor="survival"), "fit the others"),
        (lambda: bro.routers.BRH(predictor=3), "needs the method predict, int has none"),
        (lambda: bro.predicted_routers(workload(), 0.5, ["survivor"]), "unknown predictor 'survivor'"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(bro.InputError, match=message):
        make()


def test_predicted_routers_run_on_the_later_part():
    evaluation, routers = bro.predicted_routers(workload(400), 0.25)
    assert len(evaluation) == 300
    assert set(routers) == {"br-h-survival", "br-h-exact-match"}
    table = bro.compare(evaluation, bro.Cluster(3, 4), ["br-0", *routers.values()])
    assert {row["router"] for row in table.rows} == {"br-0", *routers}
    assert not any(row["clairvoyant"] for row in table.rows)


def test_split_is_by_release():
    inst = bro.Instance([5, 1, 3, 3], [1, 2, 3, 4], [1, 1, 1, 1], name="x")
    training, evaluation = split(inst, 0.5)
    assert (training.prompt.tolist(), evaluation.prompt.tolist()) == ([2, 3], [4, 1])
    assert (training.name, evaluation.name) == ("x[:2]", "x[2:]")


def test_judged_beside_compared():
    """The same routers on the same part: the same excess."""
    cluster = bro.Cluster(3, 4)
    inst = workload(400)
    judged = bro.judge_predictors(inst, cluster, 0.5, H=8, utilization=1.2)
    evaluation, routers = bro.predicted_routers(inst, 0.5, H=8)
    table = bro.compare(evaluation.scaled_to(cluster, 1.2), cluster, ["br-0"], extra=list(routers.values()))
    assert {row["predictor"]: row["excess"] for row in judged["rows"] if row["predictor"] != "oracle"} == {
        row["router"].removeprefix("br-h-"): row["excess"] for row in table.rows
    }


LENGTHS = "num_prefill_tokens,num_decode_tokens,num_predicted_decode_tokens\n"


@pytest.fixture
def lengths(tmp_path):
    """A trace without times and keys, with predicted lengths that are off by one; one row has no prompt."""
    rng = np.random.default_rng(3)
    output = rng.integers(2, 60, 200)
    columns = zip(rng.integers(1, 90, 200), output, rng.integers(-1, 2, 200), strict=True)
    rows = [f"{p},{o},{o + e}" for p, o, e in columns]
    path = tmp_path / "lengths.csv"
    path.write_text(LENGTHS + "0,7,7\n" + "\n".join(rows) + "\n")
    return str(path)


def test_predicted_lengths_of_a_trace(lengths, capsys):
    inst = bro.read_trace(lengths, key="num_predicted_decode_tokens")
    assert len(inst) == 200
    assert np.abs(inst.key - inst.output).max() == 1
    command = ["predictors", lengths, "--workers", "2", "--slots", "4", "--horizon", "20", "--json"]
    reports = []
    for more in ([], ["--utilization", "1.1"], ["--head", "150", "--key", "num_predicted_decode_tokens"]):
        assert main([*command, *more]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    for report in reports:
        told = next(row for row in report["rows"] if row["predictor"] == "predicted-length")
        assert told["score"]["auc"] > 0.99
        assert told["score"]["mae"] < 1.1
    assert [report["spaced"] for report in reports] == [False, True, False]
    assert [report["utilization"] for report in reports] == [None, pytest.approx(1.1), None]
    assert [report["matched"] for report in reports] == ["prompt length", "prompt length", "key of the trace"]
    assert reports[2]["trained"] == 75


def test_predicted_length_without_any(capsys):
    assert main(["predictors", "--n", "100", "--predictors", "predicted-length"]) == 2
    assert "predicted-length needs predicted lengths" in capsys.readouterr().err
    with pytest.raises(bro.InputError, match="the instance has no keys"):
        bro.predicted_routers(bro.Instance([0, 1], [1, 1], [5, 5]), 0.5, ["predicted-length"])


def test_command(capsys, tmp_path):
    arguments = ["predictors", "--n", "400", "--workers", "2", "--slots", "8", "--horizon", "40"]
    arguments += ["--predictors", "survival,exact-match"]
    plot = str(tmp_path / "c.svg")
    assert main([*arguments, "--json", "--plot", plot]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["predictor"] for row in report["rows"]] == ["br-0", "oracle", "survival", "exact-match"]
    assert 0 <= report["rows"][2]["score"]["auc"] <= 1
    assert b"</svg>" in (tmp_path / "c.svg").read_bytes()
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "proprietary" in printed
    assert "Calibration" in printed
    for wrong, message in (
        (["--train", "0"], "training part is empty"),
        (["--train", "1"], "fraction must be < 1"),
        (["--horizon", "0"], "H must be >= 1"),
        (["--utilization", "-1"], "--utilization must be > 0"),
        (["--plot", plot], "exists"),
        (["--plot", "c.txt"], "a plot is a .png, .pdf or .svg file"),
        (["--predictors", "survivl"], "did you mean survival?"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_compare_with_fitted_predictors(capsys):
    command = ["compare", "--n", "300", "--workers", "2", "--slots", "8", "--json"]
    assert main([*command, "--routers", "br-0,br-h", "--train", "0.4", "--utilization", "1.3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["router"] for row in report["rows"]} == {"br-0", "br-h", "br-h-survival", "br-h-exact-match"}
    assert (report["workload"]["requests"], report["workload"]["name"]) == (180, "bfio[120:]")
    assert report["workload"]["utilization"] == pytest.approx(1.3)
    assert main([*command, "--train", "0"]) == 2
    assert "training part is empty" in capsys.readouterr().err


def test_examples_of_the_page_run(capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    page = (ROOT / "docs" / "predictors.md").read_text()
    namespace = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(block, namespace)
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_known_scores_of_a_public_trace(traces):
    """Golden to four digits: what docs/predictors.md says of azure conv."""
    inst = bro.read_trace(traces / "azure_2023_conv.csv.gz")
    training, later = split(inst.replace(key=inst.prompt), 0.5)
    for model, expected in ((Survival, (0.7549, 16.32)), (ExactMatch, (0.8948, 16.40))):
        result = score(model.fit(training), later, 80, training=training)
        assert (round(result.auc, 4), round(result.mae, 2)) == expected
