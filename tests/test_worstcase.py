"""Worst cases: the enumerated optima, families, constructions, the adversary and the online game."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.cli import main
from balanceroute_opt.oracles.many import prices_and_optima
from balanceroute_opt.worstcase import batch
from balanceroute_opt.worstcase.adaptive import adaptive
from balanceroute_opt.worstcase.constructions import big_request, big_request_ratio, survivors, survivors_ratio
from balanceroute_opt.worstcase.found import judge
from balanceroute_opt.worstcase.game import Request, least_peak_sum

FAMILY = bro.Family(requests=4, prompts=(1, 3), outputs=(1, 3), releases=1)
BALANCED = ("br-0", "br-0-least-load", "br-h", "bf-io", "least-kv", "lpt", "jsq", "vllm", "sglang-tokens", "trtllm-adp")


def random_columns(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.sort(rng.integers(0, 5, n)), rng.integers(1, 9, n), rng.integers(1, 7, n)


# The optimum of many tiny problems


def test_many_optima_are_those_of_enumeration() -> None:
    rng = np.random.default_rng(0)
    for workers, slots in ((2, 3), (3, 2), (4, 8)):
        cluster = bro.Cluster(workers=workers, slots=slots)
        columns = [random_columns(rng, int(rng.integers(1, 8))) for _ in range(60)]
        price, optimum = batch.prices("least-kv", cluster, columns)
        for c, p, q in zip(columns, price.tolist(), optimum.tolist(), strict=True):
            inst = bro.Instance(*c)
            run = bro.simulate(inst, cluster, "least-kv")
            best = bro.solve_placement(inst, cluster, run.schedule.start, solver="enumeration")
            assert (run.peak_sum, best.objective) == (p, q)


def test_many_optima_refuse_what_they_cannot_do() -> None:
    cluster = bro.Cluster(workers=2, slots=20)
    inst = bro.Instance([0] * 17, [1] * 17, [1] * 17)
    zero = np.zeros(17, np.int64)
    with pytest.raises(bro.InputError, match="problem 0 has 17 requests"):
        prices_and_optima(inst, cluster, zero, zero, np.array([0, 17]))
    with pytest.raises(bro.InputError, match="problems 0 and 1 share step 0"):
        prices_and_optima(inst, cluster, zero, zero, np.array([0, 8, 17]))


@pytest.mark.parametrize("router", sorted(batch._FORGETFUL))
def test_one_run_of_many_instances_decides_as_many_runs(router: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    cluster = bro.Cluster(workers=3, slots=2)
    columns = [random_columns(rng, int(rng.integers(1, 8))) for _ in range(40)]
    together = batch.prices(router, cluster, columns)
    monkeypatch.setattr(batch, "_FORGETFUL", frozenset())
    apart = batch.prices(router, cluster, columns)
    np.testing.assert_array_equal(together, apart)


# Families


def test_family_holds_every_instance_that_does_not_fall_apart() -> None:
    family = bro.Family(requests=3, prompts=(1, 2), outputs=(1, 3), releases=2)
    listed = [
        tuple(zip(r.tolist(), s.tolist(), o.tolist(), strict=True))
        for block in family.blocks(size=7)
        for r, s, o in zip(*block, strict=True)
    ]
    expected = set()
    kinds = list(product(range(3), (1, 2), (1, 3)))
    for n in (1, 2, 3):
        for rows in product(kinds, repeat=n):
            release = [r for r, _, _ in rows]
            ends = [r + o for r, _, o in rows]
            if release[0] == 0 and release == sorted(release) and all(release[j] < max(ends[:j]) for j in range(1, n)):
                expected.add(rows)
    assert len(listed) == len(set(listed)) == family.count() <= family.bound_on_count()
    assert set(listed) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"requests": 0}, "requests must be >= 1"),
        ({"requests": 13}, "requests must be <= 12"),
        ({"prompts": ()}, "prompts must be a list"),
        ({"outputs": (0,)}, r"outputs\[0\] must be >= 1"),
        ({"releases": -1}, "releases must be >= 0"),
    ],
)
def test_bad_families_are_refused(options: dict, words: str) -> None:
    with pytest.raises(bro.InputError, match=words):
        bro.Family(**({"requests": 2, "prompts": (1,), "outputs": (1,), "releases": 0} | options))


@pytest.mark.parametrize("router", ["br-0", "least-kv", "round-robin"])
def test_worst_case_is_the_largest_ratio(router: str) -> None:
    family = bro.Family(requests=3, prompts=(1, 3), outputs=(1, 4), releases=1)
    cluster = bro.Cluster(workers=2, slots=2)
    ratios = []
    for block in family.blocks():
        for columns in zip(*block, strict=True):
            inst = bro.Instance(*columns)
            run = bro.simulate(inst, cluster, router)
            best = bro.solve_placement(inst, cluster, run.schedule.start, solver="enumeration")
            ratios.append(Fraction(run.peak_sum, int(best.objective)))
    worst = bro.worst_case(router, family, cluster)
    assert worst.ratio == max(ratios)
    assert (worst.reached, worst.examined) == (ratios.count(max(ratios)), len(ratios))
    assert str(worst.ratio) in str(worst)


@pytest.mark.parametrize(
    ("workers", "family"),
    [
        (2, bro.Family(requests=5, prompts=(1, 3), outputs=(1, 4), releases=2)),
        (3, bro.Family(requests=6, prompts=(1,), outputs=(1, 5), releases=2)),
        (2, bro.Family(requests=4, prompts=(1, 2, 4), outputs=(1, 2, 4), releases=1)),
        (2, bro.Family(requests=6, prompts=(1, 4), outputs=(1, 6), releases=2)),
    ],
    ids="ABCD",  # of docs/worst_cases.md
)
def test_optima_of_the_families_in_the_docs_are_those_of_the_solvers(workers: int, family: bro.Family) -> None:
    rng, cluster = np.random.default_rng(0), bro.Cluster(workers=workers, slots=family.requests)
    blocks = list(family.blocks())
    at = rng.choice(sum(len(block[0]) for block in blocks), 125, replace=False)
    ends = np.cumsum([len(block[0]) for block in blocks])
    columns = []
    for k in at:
        b = int(np.searchsorted(ends, k, side="right"))
        columns.append(tuple(np.array(column[k - ends[b]]) for column in blocks[b]))
    _, optimum = batch.prices("br-0", cluster, columns)
    for k, (c, best) in enumerate(zip(columns, optimum.tolist(), strict=True)):
        found = bro.solve_placement(bro.Instance(*c), cluster, c[0], solver=("bnb", "highs", "cpsat")[k % 3])
        assert (found.objective, found.lower_bound) == (best, best), c


# Constructions


@pytest.mark.parametrize("workers", range(2, 17))
def test_survivors_force_their_ratio(workers: int) -> None:
    cluster = bro.Cluster(workers=workers, slots=workers)
    for router in BALANCED:
        inst = survivors(router, cluster, 9)
        run = bro.simulate(inst, cluster, router)
        long = np.flatnonzero(inst.output > 1)
        worker = np.empty(len(inst), np.int64)
        worker[long] = np.arange(workers)
        worker[inst.output == 1] = np.repeat(np.arange(workers), workers - 1)
        better = bro.Schedule(run.schedule.start, worker)
        bro.check(inst, cluster, better)
        cost = bro.peak_sum(inst, cluster, better)
        # No placement is better, and the formula is what comes out.
        assert bro.placement_bound(inst, cluster, run.schedule.start, "item").value == cost
        assert Fraction(run.peak_sum, cost) == survivors_ratio(workers, 9)


@pytest.mark.parametrize("workers", range(2, 17))
def test_a_big_request_forces_its_ratio(workers: int) -> None:
    cluster = bro.Cluster(workers=workers, slots=2 * workers)
    inst = big_request(cluster, prompt=500, length=6)
    worker = np.append(np.repeat(np.arange(workers - 1), workers), workers - 1)
    for router in BALANCED:
        run = bro.simulate(inst, cluster, router)
        better = bro.Schedule(run.schedule.start, worker)
        bro.check(inst, cluster, better)
        assert Fraction(run.peak_sum, bro.peak_sum(inst, cluster, better)) == big_request_ratio(workers, 500, 6)


def test_constructions_name_what_does_not_fit() -> None:
    with pytest.raises(bro.InputError, match="as many slots as workers, got 2 for 3"):
        survivors("br-0", bro.Cluster(workers=3, slots=2))
    with pytest.raises(bro.InputError, match="random draws random numbers"):
        survivors("random", bro.Cluster(workers=3, slots=3))
    with pytest.raises(bro.InputError, match="got 1 workers"):
        big_request(bro.Cluster(workers=1, slots=2))


# The adversary


@pytest.mark.parametrize("router", ["br-0", "least-kv", "jsq", "round-robin"])
def test_the_watching_adversary_is_replayed(router: str) -> None:
    cluster = bro.Cluster(workers=3, slots=9)
    columns = adaptive(router, cluster, bro.Family(9, (1, 8), (1, 8), 2))
    found = judge(router, bro.Instance(*columns), cluster)
    assert found.exact
    assert found.ratio > 2


def test_adversary_finds_shrinks_and_proves() -> None:
    cluster = bro.Cluster(workers=3, slots=3)
    found = bro.adversary("br-0", cluster, seed=3, evaluations=4000)
    again = bro.adversary("br-0", cluster, seed=3, evaluations=4000)
    assert found.instance.digest() == again.instance.digest()
    assert found.exact
    # At least as bad as the construction that it starts from.
    assert found.ratio >= survivors_ratio(3, 8)
    run = bro.simulate(found.instance, cluster, "br-0")
    assert Fraction(run.peak_sum, found.optimum) == found.ratio
    assert found.time_ratio < found.ratio
    for i in range(len(found.instance)):
        fewer = found.instance.take(np.delete(np.arange(len(found.instance)), i))
        assert judge("br-0", fewer, cluster).ratio < found.ratio
    own, other = found.placements()
    assert bro.peak_sum(found.instance, cluster, bro.Schedule(run.schedule.start, own)) == run.peak_sum
    assert bro.peak_sum(found.instance, cluster, bro.Schedule(run.schedule.start, other)) == found.optimum
    assert "certified" in str(found)


def test_adversary_takes_a_router_of_ones_own() -> None:
    class First:
        mode = "immediate"

        def bind(self, view, request) -> int:
            return 0

    found = bro.adversary(First(), bro.Cluster(workers=2, slots=4), requests=3, evaluations=300)
    assert found.ratio > Fraction(3, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"router": "random"}, "random draws random numbers"),
        ({"requests": 1}, "requests must be >= 2"),
        ({"requests": 15}, "requests must be <= 14"),
        ({"time_limit": 0}, "time_limit"),
        ({"longest_output": 0}, "longest_output must be >= 1"),
        ({"cluster": bro.Cluster(workers=2, slots=2, kv_capacity=50)}, "without a KV capacity"),
    ],
)
def test_bad_searches_are_refused(options: dict, words: str) -> None:
    with pytest.raises(bro.InputError, match=words):
        bro.adversary(**({"router": "br-0", "cluster": bro.Cluster(workers=2, slots=2)} | options))


# The game


def test_least_peak_sum_is_the_optimum() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        n, workers = int(rng.integers(1, 7)), int(rng.integers(1, 4))
        release, prompt, output = random_columns(rng, n)
        inst = bro.Instance(release, prompt, output)
        best = bro.solve_placement(inst, bro.Cluster(workers=workers, slots=n), release, solver="enumeration")
        requests = tuple(map(Request, release.tolist(), prompt.tolist(), output.tolist()))
        assert least_peak_sum(requests, workers) == best.objective


def naive_value(family: bro.Family, workers: int, known: bool) -> Fraction:
    """The same game by its definition: labelled workers and requests, nothing remembered."""

    def adversary(k: int, requests: tuple[tuple[int, int, int, int], ...], paid: int) -> Fraction:
        # A request is (release, prompt, output or 0, worker).
        active = [x for x in requests if not x[2] or x[0] + x[2] > k]
        values = []
        if requests and not active:
            closed = tuple(sorted(Request(r, s, o) for r, s, o, _ in requests))
            return Fraction(paid, least_peak_sum(closed, workers))
        left = family.requests - len(requests) if k <= family.releases else 0
        kinds = list(product(family.prompts, family.outputs if known else (0,)))
        for n in range(0 if active else 1, left + 1):
            for came in product(kinds, repeat=n):
                values.append(player(k, requests, paid, came))
        return max(values)

    def player(k, requests, paid, came) -> Fraction:
        values = []
        for choice in product(range(workers), repeat=len(came)):
            placed = (*requests, *((k, s, o, g) for (s, o), g in zip(came, choice, strict=True)))
            loads = [0] * workers
            for r, s, o, g in placed:
                if not o or r + o > k:
                    loads[g] += s + k - r
            values.append(ends(k, placed, paid + max(loads)))
        return min(values)

    def ends(k, requests, paid) -> Fraction:
        options = []
        for r, s, o, g in requests:
            age = k - r + 1
            if o or age not in family.outputs:
                options.append([(r, s, o, g)])
            elif age == max(family.outputs):
                options.append([(r, s, age, g)])
            else:
                options.append([(r, s, 0, g), (r, s, age, g)])
        return max(adversary(k + 1, choice, paid) for choice in product(*options))

    return adversary(0, (), 0)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "family", [bro.Family(3, (1,), (1, 3), 1), bro.Family(2, (1, 2), (1, 2), 1), bro.Family(3, (1, 2), (1, 2), 0)]
)
def test_game_value_is_that_of_the_definition(family: bro.Family, known: bool) -> None:
    value = bro.game_value(family, 2, "lengths known" if known else "lengths unknown")
    assert value.value == naive_value(family, 2, known)


def test_no_rule_beats_the_game() -> None:
    cluster = bro.Cluster(workers=2, slots=FAMILY.requests)
    unknown = bro.game_value(FAMILY, 2).value
    known = bro.game_value(FAMILY, 2, "lengths known").value
    assert 1 < known < unknown
    for router in ("br-0", "least-kv", "lpt", "jsq", "round-robin"):
        assert bro.worst_case(router, FAMILY, cluster).ratio >= unknown
    assert bro.worst_case("br-h", FAMILY, cluster).ratio >= known


def test_coins_help_and_their_value_is_bracketed_exactly() -> None:
    pytest.importorskip("scipy")
    for information in ("lengths unknown", "lengths known"):
        mixed = bro.randomized_value(FAMILY, 2, information)
        assert mixed.lower <= mixed.upper <= bro.game_value(FAMILY, 2, information).value
        assert mixed.upper - mixed.lower < Fraction(1, 10**6)
        assert sum(q for q, _ in mixed.hardest) == 1
    tiny = bro.randomized_value(bro.Family(3, (1,), (1, 3)), 2)
    assert tiny.lower == tiny.upper == Fraction(26, 21)  # by hand: the longs meet with probability 1/3, at 12/7


def test_games_refuse_what_they_cannot_do() -> None:
    with pytest.raises(bro.InputError, match="information must be"):
        bro.game_value(FAMILY, 2, "everything")
    with pytest.raises(bro.InputError, match="workers must be >= 1"):
        bro.game_value(FAMILY, 0)


# The command


def test_the_command_prints_a_ratio_that_replays(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / name) for name in ("i.json", "s.json", "c.json")]
    arguments = ["adversary", "--router", "br-0", "--workers", "2", "--slots", "3", "--evaluations", "600", "--json"]
    options = ["--save-instance", files[0], "--schedule", files[1], "--certificate", files[2]]
    assert main([*arguments, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    inst, cluster, start = bro.read_problem(files[0])
    run = bro.simulate(inst, cluster, "br-0")
    assert report["certified"]
    assert Fraction(report["ratio"]) == Fraction(run.peak_sum, bro.verify(inst, cluster, files[2]))
    np.testing.assert_array_equal(start, run.schedule.start)
    assert main(["check", files[0], "--schedule", files[1], "--certificate", files[2]]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--router", "random"], "random draws random numbers"),
        (["--minutes", "0"], "--minutes must be positive"),
        (["--requests", "99"], "requests must be <= 14"),
        (["--game", "--exhaustive"], "either --exhaustive or --game"),
        (["--game", "--plot", "x.png"], "--plot belongs to the search"),
        (["--prompts", "1,b"], "must be integers separated by commas"),
        (["--router", "least-vk"], "unknown router 'least-vk'; did you mean least-kv?"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adversary", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_the_command_shows_game_and_family(capsys: pytest.CaptureFixture[str]) -> None:
    family = ["--workers", "2", "--requests", "3", "--prompts", "1", "--outputs", "1,3", "--releases", "0"]
    assert main(["adversary", "--game", *family]) == 0
    assert "12/7" in capsys.readouterr().out
    assert main(["adversary", "--exhaustive", *family]) == 0
    assert "no instance of the family" in capsys.readouterr().out


# The gallery


def test_the_gallery_says_what_its_routers_pay() -> None:
    library = bro.read_library()
    entries = [entry for entry in library if entry.set == "adversarial"]
    routers: dict[str, int] = {}
    for entry in entries:
        router, paid, best = re.match(r"(\S+) pays (\d+) where (\d+) is possible", entry.about).groups()
        run = bro.simulate(entry.inst, entry.cluster, router)
        np.testing.assert_array_equal(run.schedule.start, entry.start)
        row = entry.row("placement")
        assert (run.peak_sum, row.best, row.bound) == (int(paid), int(best), int(best))
        routers[router] = routers.get(router, 0) + 1
    assert len(routers) >= 10
    assert min(routers.values()) >= 2
