"""Predictors against brute force, their scores, and everything that is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.predictors import (
    PREDICTORS,
    ExactMatch,
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


def test_command(capsys, tmp_path):
    arguments = ["predictors", "--n", "400", "--workers", "2", "--slots", "8", "--horizon", "40"]
    assert main([*arguments, "--json", "--plot", str(tmp_path / "c.png")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["predictor"] for row in report["rows"]] == ["br-0", "oracle", "survival", "exact-match"]
    assert 0 <= report["rows"][2]["score"]["auc"] <= 1
    assert (tmp_path / "c.png").stat().st_size > 5000
    assert main(arguments) == 0
    assert "proprietary" in capsys.readouterr().out
    assert main([*arguments, "--train", "0"]) == 2
    assert "training part is empty" in capsys.readouterr().err
