"""Comparisons: every row verified, sorted, the same for any number of processes, and what its sentences say."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import balanceroute_opt as bro
from balanceroute_opt.evaluation.intervals import mean_and_half_width, t_quantile
from balanceroute_opt.experiments.comparison import COLUMNS
from balanceroute_opt.experiments.specs import resolve, router_from
from balanceroute_opt.experiments.workload import plain, prepare, seconds_per_step

CLUSTER = bro.Cluster(workers=3, slots=6)
INST = bro.generate("bfio", n=150, seed=1).scaled_to(CLUSTER, utilization=1.1)
RANDOM = {"random", "po2", "dynamo"}
MINE = """
class Lightest:
    mode = "immediate"
    def __init__(self, shift=0):
        self.shift = shift
    def bind(self, view, request):
        return int((view.load + view.queued_tokens).argmin() + self.shift) % view.workers
"""


class Stateful:
    """Answers by what it saw before: a copy that is not fresh gives another answer."""

    mode = "immediate"

    def __init__(self):
        self.seen = 0

    def bind(self, view, request):
        self.seen += 1
        return self.seen % view.workers


@pytest.fixture(scope="module")
def every():
    return bro.compare(INST, CLUSTER, seeds=3)


# Rows


def test_every_router_has_a_verified_row(every):
    assert {row["router"] for row in every.rows} | set(every.skipped) == set(bro.ROUTERS)
    for row in every.rows:
        assert row["certified"]
        assert row["verified"]
        assert row["bound"] == row["verified_value"]
        assert row["hindsight_lower"] == 1.0
        assert row["at_most_above"] == row["hindsight_upper"] - 1 >= 0
        assert row["random"] == (row["router"] in RANDOM)
        assert len(row["seeds"]) == (3 if row["random"] else 1)
        assert set(bro.METRICS) <= set(row)
        assert set(row["half_width"]) == (set(bro.METRICS) if row["random"] else set())


def test_rows_are_those_of_single_runs(every):
    for name in ("jsq", "br-0"):
        run = bro.simulate(INST, CLUSTER, name)
        row = next(row for row in every.rows if row["router"] == name)
        np.testing.assert_equal({k: row[k] for k in bro.METRICS}, {k: run.metrics()[k] for k in bro.METRICS})
        bound = bro.placement_bound(run.instance, CLUSTER, run.schedule.start, method="item")
        assert row["bound"] == [bound.value]
        assert row["hindsight_upper"] == bro.hindsight_ratio(run, bound).upper
    row = next(row for row in every.rows if row["router"] == "random")
    runs = [bro.simulate(INST, CLUSTER, "random", seed=seed) for seed in (0, 1, 2)]
    excess = [run.metrics()["excess"] for run in runs]
    assert row["excess"] == pytest.approx(np.mean(excess))
    # Half width by hand: t(0.95, 2) = 4.30265, times the deviation over sqrt(3).
    assert row["half_width"]["excess"] == pytest.approx(4.30265 * np.std(excess, ddof=1) / 3**0.5, rel=1e-5)


def test_lowest_excess_first(every):
    values = [row["excess"] for row in every.rows]
    assert values == sorted(values)
    fast = [row["throughput"] for row in every.sorted("throughput")]
    assert fast == sorted(fast, reverse=True)
    waits = [row["wait_p99"] for row in every.sorted("wait_p99")]
    assert waits == sorted(waits)


def test_router_that_cannot_run_is_left_out_of_all_and_refused_by_name(every):
    if "llumnix" not in bro.ROUTERS:
        pytest.skip("no router needs a KV capacity")
    assert "KV capacity" in every.skipped["llumnix"]
    assert "Left out: llumnix" in every.text()
    with pytest.raises(bro.InputError, match="KV capacity"):
        bro.compare(INST, CLUSTER, "llumnix")


def test_result_does_not_depend_on_jobs():
    routers = ["jsq", "random", Stateful()]
    one, two = (bro.compare(INST, CLUSTER, routers, seeds=2, jobs=jobs) for jobs in (1, 2))
    for row in (*one.rows, *two.rows):  # measured times differ, decisions do not
        row["dispatch_p50"] = row["dispatch_p99"] = 0.0
    assert json.dumps(plain(one.rows)) == json.dumps(plain(two.rows))


def test_objects_are_copied_for_every_run():
    router = Stateful()
    first = bro.compare(INST, CLUSTER, [router]).rows[0]["peak_sum"]
    assert router.seen == 0
    assert bro.compare(INST, CLUSTER, [router]).rows[0]["peak_sum"] == first


def test_clairvoyant_router_is_marked_and_never_the_winner(every):
    if "br-h" not in bro.ROUTERS:
        pytest.skip("no clairvoyant router")
    marked = [row["router"] for row in every.rows if row["clairvoyant"]]
    assert set(marked) == {"br-h", "bf-io-heuristic"} & set(bro.ROUTERS)
    assert "br-h (told lengths)" in every.text()
    pair = bro.compare(INST, CLUSTER, ["br-h", "random"])
    assert pair.sentences()[0].lower().startswith("under random")


def test_best_of_several_bounds_counts():
    weak, strong = (bro.compare(INST, CLUSTER, "jsq", bound=b).rows[0] for b in ("fluid", ["fluid", "item"]))
    assert strong["bound"] >= weak["bound"]
    assert (weak["bound_method"], strong["bound_method"]) == ("fluid", "item")


def test_preempted_runs_have_no_bound():
    crowd = bro.Instance(release=[0] * 12, prompt=[10] * 12, output=[40] * 12)
    result = bro.compare(crowd, bro.Cluster(2, 8, kv_capacity=60), "jsq")
    row = result.rows[0]
    assert row["preemptions"] > 0
    assert (row["bound"], row["verified"], row["at_most_above"]) == ([], False, None)
    assert "nothing is certified" in result.sentences()[1]
    assert "preempted" in result.text()
    assert result.to_polars()["at_most_above"].to_list() == [None]


def test_certificates_verify_by_themselves(tmp_path):
    result = bro.compare(INST, CLUSTER, ["jsq", "random"], seeds=2, certificates=tmp_path / "proofs")
    files = sorted(path.name for path in (tmp_path / "proofs").iterdir())
    assert len(files) == 11  # three of each run, and those of the makespan
    assert sorted(path.name for path in tmp_path.iterdir()) == ["proofs"]
    row = next(row for row in result.rows if row["router"] == "random")
    for seed, value in zip(row["seeds"], row["bound"], strict=True):
        stem = tmp_path / "proofs" / f"random.seed{seed}"
        inst, cluster, start = bro.read_problem(f"{stem}.instance.json.gz")
        sched = bro.read_schedule(f"{stem}.schedule.json.gz", inst)
        bro.check(inst, cluster, sched)
        assert sched.start.tolist() == start.tolist()
        assert bro.verify(inst, cluster, f"{stem}.certificate.json.gz") == value
    with pytest.raises(bro.InputError, match="is not empty"):
        bro.compare(INST, CLUSTER, "jsq", certificates=tmp_path / "proofs")
    bro.compare(INST, CLUSTER, "jsq", certificates=tmp_path / "proofs", force=True)


def test_failed_comparison_leaves_no_folder(tmp_path):
    class Wrong:
        mode = "immediate"

        def bind(self, view, request):
            return view.workers

    with pytest.raises(bro.RouterError, match="puts request"):
        bro.compare(INST, CLUSTER, ["jsq", Wrong()], certificates=tmp_path / "proofs")
    assert list(tmp_path.iterdir()) == []


def test_wrong_certificate_is_not_passed_over(monkeypatch):
    from balanceroute_opt.experiments import comparison

    def optimistic(*args):
        bound = bro.placement_bound(*args)
        return replace(bound, value=bound.value + 1, exact=bound.exact + 1)

    monkeypatch.setattr(comparison, "placement_bound", optimistic)
    with pytest.raises(bro.CertificateError, match="its certificate proves"):
        bro.compare(INST, CLUSTER, "jsq")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"routers": "jqs"}, r"unknown router 'jqs'; did you mean jsq\?"),
        ({"routers": "jsq,jsq"}, "given twice"),
        ({"routers": []}, "routers must be all or names"),
        ({"routers": [object()]}, "a router needs mode"),
        ({"seeds": 0}, "seeds must be >= 1, got 0"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"jobs": 0}, "jobs must be >= 1"),
        ({"window": (0.9, 0.1)}, "window must be"),
        ({"bound": "magic"}, "unknown method 'magic'"),
        ({"bound": []}, "at least one bound"),
        ({"staleness": -1.0}, "staleness must be >= 0"),
        ({"hindsight": -1}, "hindsight must be >= 0, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(bro.InputError, match=message):
        bro.compare(INST, CLUSTER, **({"routers": "jsq"} | arguments))


def test_no_requests_and_requests_that_do_not_fit():
    with pytest.raises(bro.InputError, match="no requests"):
        bro.compare(bro.Instance([], [], []), CLUSTER)
    with pytest.raises(bro.InputError, match=r"request 0 needs 15 KV tokens"):
        bro.compare(bro.Instance([0], [10], [5]), CLUSTER.replace(kv_capacity=14))


# Hindsight brackets


@pytest.fixture(scope="module")
def judged():
    inst = bro.generate("poisson-lognormal", n=40, seed=3, clock="step", prompt_mu=5.0, output_mu=2.5)
    inst = inst.scaled_to(CLUSTER.replace(slots=3), utilization=1.2)
    routers = "jsq,br-0,random"
    return inst, bro.compare(inst, CLUSTER.replace(slots=3), routers, seeds=2, bound="migration", hindsight=5_000)


def test_brackets_of_both_problems(judged):
    inst, result = judged
    cluster = CLUSTER.replace(slots=3)
    for row in result.rows:
        assert 1 <= row["hindsight_lower"] <= row["hindsight_upper"]
        assert 1 <= row["schedule_lower"] <= row["schedule_upper"]
        assert row["schedule_certified"]
        assert row["schedule_windows"] == "latest"
        for seed, best, bound in zip(row["seeds"], row["best_known"], row["bound"], strict=True):
            run = bro.simulate(inst, cluster, row["router"], seed=seed)
            assert bound <= best <= run.peak_sum
        for seed, best, bound in zip(row["seeds"], row["schedule_best_known"], row["schedule_bound"], strict=True):
            run = bro.simulate(inst, cluster, row["router"], seed=seed)
            assert bound >= bro.schedule_bound(inst, cluster, "lagrangian", latest=run.schedule.start).value
            assert bound <= best <= run.decode_time
        # Work-conserving routers leave no other starts: P2 is P1, in seconds.
        if row["router"] == "br-0":
            assert row["schedule_bound_method"] == "forced"
            c, a = cluster.step_time.fixed, cluster.step_time.per_token
            peaks = bro.placement_bound(inst, cluster, run.schedule.start, "pigeonhole").value
            assert row["schedule_bound"][0] == pytest.approx(c * row["steps"] + a * peaks)
    jsq = next(row for row in result.rows if row["router"] == "jsq")
    run = bro.simulate(inst, cluster, "jsq")
    assert jsq["hindsight_lower"] == pytest.approx(run.peak_sum / jsq["best_known"][0])
    assert jsq["hindsight_upper"] == pytest.approx(run.peak_sum / jsq["bound"][0])
    assert jsq["schedule_lower"] == pytest.approx(run.decode_time / jsq["schedule_best_known"][0])
    assert jsq["hindsight_lower"] > 1.001  # the search finds better placements of a rule that sees no tokens


def test_brackets_are_the_same_every_time_and_in_every_form(judged):
    inst, result = judged
    again = bro.compare(
        inst, CLUSTER.replace(slots=3), "random,br-0,jsq", 2, bound="migration", hindsight=5_000, jobs=2
    ).rows
    for row in again:
        first = next(other for other in result.rows if other["router"] == row["router"])
        assert row["best_known"] == first["best_known"]
        assert row["schedule_bound"] == first["schedule_bound"]
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["hindsight"] == 5_000
    assert data["rows"][0]["schedule_upper"] == result.rows[0]["schedule_upper"]
    frame = result.to_polars()
    assert frame["schedule_upper"].to_list() == [row["schedule_upper"] for row in result.rows]
    assert frame["best_known"].dtype == pl.String


def test_table_of_brackets_names_problems_bounds_and_windows(judged):
    text = judged[1].text(width=100)
    assert max(map(len, text.splitlines())) <= 100
    for word in ("placement (P1)", "schedule (P2)", "windows: latest", "migration", "forced", "5,000 moves"):
        assert word in " ".join(text.split())
    assert text.count(" .. ") == 2 * len(judged[1].rows)
    assert "a better one is known" in " ".join(judged[1].sentences()) or judged[1].rows[0]["hindsight_lower"] == 1


def test_other_routers_schedules_count_where_they_start_nothing_later():
    class OneByOne:
        mode = "pooled"

        def route(self, view):
            count = int(not view.active.any())
            return view.pool.index[:count], [0] * count

    inst = bro.Instance(release=[0, 0], prompt=[4, 5], output=[2, 2])
    cluster = bro.Cluster(2, 2, step_time=bro.StepTime(fixed=10.0, per_token=1.0))
    result = bro.compare(inst, cluster, [OneByOne(), "lpt"], hindsight=1)
    soon, late = result.rows
    # One by one: loads 4, 5, 5, 6 = 20 in 4 steps: 60 s. At once, on a worker each: 5, 6 = 11 in 2 steps: 31 s.
    assert (late["router"], late["schedule_best_known"], late["schedule_best_known_by"]) == ("OneByOne", [31.0], "lpt")
    assert late["schedule_lower"] == pytest.approx(60 / 31)
    assert late["hindsight_lower"] == 1
    assert (soon["schedule_lower"], soon["schedule_best_known_by"]) == (1, "run")


def test_no_brackets_without_hindsight_and_none_of_preempted_runs(every):
    assert every.rows[0]["schedule_upper"] is None
    assert every.rows[0]["best_known"] == []
    assert "Hindsight ratios" not in every.text()
    with pytest.raises(bro.InputError, match="without hindsight"):
        every.hindsight_table()
    crowd = bro.Instance(release=[0] * 12, prompt=[10] * 12, output=[40] * 12)
    result = bro.compare(crowd, bro.Cluster(2, 8, kv_capacity=60), "jsq", hindsight=100)
    assert result.rows[0]["schedule_upper"] is None
    assert result.text().count("preempted") >= 3


def test_wrong_schedule_certificate_is_not_passed_over(monkeypatch):
    from balanceroute_opt.experiments import hindsight

    def optimistic(inst, cluster, latest):
        bound = bro.schedule_bound(inst, cluster, latest=latest)
        return replace(bound, value=bound.value * 1.01)

    monkeypatch.setattr(hindsight, "latest_bound", optimistic)
    with pytest.raises(bro.CertificateError, match="its certificate proves"):
        bro.compare(INST.head(20), CLUSTER, "jsq", hindsight=10)


# What is shown


def test_table_fits_a_hundred_columns(every):
    text = every.text(width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "(certified)" in text
    assert "single replay" in text
    assert "± " in text
    for row in every.rows:
        assert row["router"] in text


def test_wide_tables_are_not_cut(every):
    names = [name for name in bro.METRICS if name not in COLUMNS]
    text = every.text(metrics=names, width=80)
    assert "…" not in text
    assert all(name in text for name in names)
    with pytest.raises(bro.InputError, match=r"unknown metric 'wait'.*metrics: imbalance_sum"):
        every.text(metrics=["wait"])


def test_claim_is_rounded_up():
    # 3 requests of 1 token on 2 workers: peak 2, bound 2. Then loads 100 and 1, 1: peak 100 is optimal.
    inst = bro.Instance(release=[0] * 3, prompt=[30_000, 30_000, 1], output=[1] * 3)
    row = bro.compare(inst, bro.Cluster(2, 2), "jsq").rows[0]
    # Fluid: ceil(60001 / 2) = 30001 = the load of one worker: optimal.
    assert row["at_most_above"] == 0.0
    inst = bro.Instance(release=[0] * 3, prompt=[30_000, 30_000, 3], output=[1] * 3)
    result = bro.compare(inst, bro.Cluster(2, 2), "jsq")
    # 30003 over ceil(60003 / 2) = 30002: 0.0033 % above, which must not be shown as 0.00 %.
    assert result.rows[0]["at_most_above"] == pytest.approx(1 / 30002)
    assert "0.01 %" in result.text()


def test_sentences_name_winner_cost_and_claim():
    inst = bro.Instance(release=[0] * 4, prompt=[8, 1, 8, 1], output=[3] * 4, name="four")
    result = bro.compare(inst, bro.Cluster(2, 2), ["round-robin", "least-kv", "lpt"])
    # Loads 9 + 9: peaks 9, 11, 13 = 33 = the bound. Round-robin: 16, 18, 20 = 54; mean 9, 11, 13.
    # lpt: 8, 8, 1, 1, and so as least-kv.
    first, second = result.sentences()
    assert first == (
        "least-kv (with lpt) is the best of 3 here: under least-kv attention takes 0.0 % longer than with perfectly "
        "equal loads; under round-robin it takes 63.6 % longer, which is 63.6 % more attention time than under "
        "least-kv."
    )
    assert second.startswith("With its admission steps as they are, least-kv is at most 0.00 % above the best possible")
    alone = bro.compare(inst, bro.Cluster(2, 2), "round-robin").sentences()
    assert alone[0] == "Under round-robin attention takes 63.6 % longer than with perfectly equal loads."


def test_waits_that_differ_are_mentioned(every):
    quick, slow = (dict(every.rows[0], router=name, wait_p99=wait) for name, wait in (("a", 1.0), ("b", 30.0)))
    text = replace(every, rows=[quick, slow]).sentences()[2]
    assert text.startswith("Waits differ strongly, from 1 s (a) to 30 s (b) at p99.")
    assert len(replace(every, rows=[quick, dict(slow, wait_p99=1.5)]).sentences()) == 3


def test_json_is_one_object_without_nan(every):
    data = json.loads(json.dumps(every.to_json(), allow_nan=False))
    assert data["schema"] == "balanceroute/comparison"
    assert data["workload"]["requests"] == 150
    assert data["workload"]["utilization"] == pytest.approx(1.1)
    assert data["rows"][0]["dispatch_p50"] is None
    assert data["conclusions"] == every.sentences()


def test_data_frame(every, tmp_path):
    frame = every.to_polars()
    assert frame["router"].to_list() == [row["router"] for row in every.rows]
    assert frame.schema["peak_sum"] == pl.Float64
    assert frame.schema["excess_half_width"] == pl.Float64
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    assert pl.read_parquet(tmp_path / "t.parquet").equals(frame, null_equal=True)


def test_html_is_escaped():
    inst = INST.replace(name="<script>")
    page = bro.compare(inst, CLUSTER, "jsq")._repr_html_()
    assert "<script>" not in page
    assert "jsq" in page


# Parts


def test_specs(tmp_path):
    label, router = router_from("br-0:subset_window=6:pool_order=longest")
    assert (label, router.subset_window, router.pool_order) == ("br-0:subset_window=6:pool_order=longest", 6, "longest")
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    assert router_from(f"{file}:Lightest:shift=2")[1].shift == 2
    assert resolve("jsq, br-0") == ["jsq", "br-0"]
    rows = bro.compare(INST, CLUSTER, f"{file}:Lightest,jsq", jobs=2).rows
    assert {row["router"] for row in rows} == {f"{file}:Lightest", "jsq"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("br-0:foo=1", "router br-0 has no option 'foo'; options: greedy_slots"),
        ("br-0:subset_window", "options are written name=value"),
        ("br-0:subset_window=99", "subset_window must be <= 16, got 99"),
        ("jsq:x=1", "options: none"),
        ("none.py:X", "none.py: No such file"),
        ("{}", "name a class of the file"),
        ("{}:Lightes", r"no class 'Lightes'; did you mean Lightest\?; routers in it: Lightest"),
        ("{}:Lightest:a=1", "no option 'a'; options: shift"),
    ],
)
def test_bad_specs(tmp_path, spec, message):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    with pytest.raises(bro.InputError, match=message):
        router_from(spec.format(file))


def test_file_that_cannot_be_executed(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(bro.InputError, match="cannot be executed: ZeroDivisionError"):
        router_from(f"{tmp_path / 'bad.py'}:X")


def test_step_clock_keeps_or_sets_the_load():
    inst = bro.generate("poisson-lognormal", n=2000, seed=0)
    assert inst.clock == "wall"
    kept = prepare(inst, CLUSTER, clock="step")
    assert kept.clock == "step"
    assert kept.utilization(CLUSTER) == pytest.approx(inst.utilization(CLUSTER), rel=0.01)
    assert prepare(inst, CLUSTER, clock="step", utilization=0.7).utilization(CLUSTER) == pytest.approx(0.7, rel=0.01)
    assert len(prepare(inst, CLUSTER, head=10)) == 10
    # u * G*B / (mean(o) * rate) seconds per step, by the definition of the utilization with tau_ref = 1 step.
    expected = 0.7 * 18 / (inst.output.mean() * inst.rate)
    assert seconds_per_step(inst, CLUSTER, 0.7) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": 0}, "head must be >= 1"),
        ({"utilization": 0.0}, "utilization must be > 0"),
        ({"clock": "wall"}, "clock must be step"),
    ],
)
def test_bad_preparation(options, message):
    with pytest.raises(bro.InputError, match=message):
        prepare(bro.Instance([0, 5], [1, 1], [1, 1]), CLUSTER, **options)


def test_t_quantiles_are_those_of_the_tables():
    table = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 9: 2.26216, 10: 2.22814, 30: 2.04227, 100: 1.98397}
    for freedom, value in table.items():
        assert t_quantile(0.95, freedom) == pytest.approx(value, rel=2e-6)
    assert mean_and_half_width([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.30265 / 3**0.5, rel=1e-5))
    assert math.isnan(mean_and_half_width([1.0])[1])
    assert mean_and_half_width([1.0, math.inf])[0] == math.inf
    for bad in ((1.0, 3), (0.95, 0)):
        with pytest.raises(bro.InputError):
            t_quantile(*bad)
