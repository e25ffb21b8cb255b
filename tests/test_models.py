"""Model files, the relaxation in cvxpy, and prices: translations of one description agree, and prove their value."""

from __future__ import annotations

import gzip
import re
import sys
from fractions import Fraction

import numpy as np
import pytest
from conftest import ROOT

import balanceroute_opt as bro
from balanceroute_opt.oracles import model_files
from balanceroute_opt.oracles import prices as pricing
from balanceroute_opt.oracles.model import LinearModel, placement_case, placement_model

STEP_TIME = bro.StepTime(fixed=0.01, per_token=0.0003, per_mean_token=0.0001)
ENDINGS = (".mps", ".lp", ".mps.gz", ".lp.gz")


def random_case(seed, most=8, workers=None, gap=0):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, most))
    release = np.sort(rng.integers(0, 6, n)) + gap * rng.integers(0, 2, n)
    inst = bro.Instance(release, rng.integers(2, 25, n), rng.integers(1, 6, n))
    cluster = bro.Cluster(workers or int(rng.integers(1, 4)), int(rng.integers(2, 4)), step_time=STEP_TIME)
    return inst, cluster, bro.simulate(inst, cluster, "least-kv").schedule.start


def problems(inst, start):
    """The arguments of the four forms of the two problems; all have a solution."""
    return (
        {"problem": "placement", "start": start},
        {"problem": "schedule", "max_wait": int((start - inst.release).max()) + 1},
        {"problem": "schedule", "latest": start},
        {"problem": "schedule"},
    )


def without_name(given):
    return {k: v for k, v in given.items() if k != "problem"}


def opened(path):
    highspy = pytest.importorskip("highspy")
    highspy.Highs.resetGlobalScheduler(True)
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    assert highs.readModel(str(path)) == highspy.HighsStatus.kOk
    return highs


def solved(path):
    """HiGHS's optimum of a model file, and the file of its solution."""
    highs = opened(path)
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.run()
    assert highs.getModelStatus().name == "kOptimal"
    solution = path.with_name(path.name + ".sol")
    highs.writeSolution(str(solution), 0)
    return highs.getInfo().objective_function_value, solution


def seconds(inst, cluster, objective):
    return STEP_TIME.per_token * objective + STEP_TIME.per_mean_token * inst.total_work / cluster.workers


def cost(inst, cluster, given, objective):
    """The objective of a file in the unit of its problem."""
    return objective if given["problem"] == "placement" else seconds(inst, cluster, objective)


def optimum(inst, cluster, given):
    solve = bro.solve_placement if given["problem"] == "placement" else bro.solve_schedule
    solution = solve(inst, cluster, **without_name(given), solver="enumeration")
    assert solution.status == "optimal"
    return solution.objective


@pytest.mark.parametrize("seed", range(6))
def test_out_to_a_file_and_back(tmp_path, seed):
    """Every format, plain and strengthened: same optimum, and its schedule comes back and costs the same."""
    inst, cluster, start = random_case(seed, most=6)
    for number, given in enumerate(problems(inst, start)):
        best = optimum(inst, cluster, given)
        for plain in (False, True):
            ending = ENDINGS[(number + seed + 2 * plain) % 4]
            path = tmp_path / f"{number}{plain}{ending}"
            summary = model_files.write_model(inst, cluster, path, plain=plain, **given)
            variables = opened(path).getLp().col_names_
            assert summary.variables == len(variables)
            assert summary.integers == sum(name.startswith("x") for name in variables)
            objective, solution = solved(path)
            assert cost(inst, cluster, given, objective) == pytest.approx(best, rel=1e-6)
            schedule = model_files.read_model_solution(inst, cluster, solution, **given)
            price = bro.peak_sum if given["problem"] == "placement" else bro.decode_time
            assert price(inst, cluster, schedule) == pytest.approx(best, rel=1e-9)
        assert bro.prices(inst, cluster, **without_name(given)).bound.value <= best


def test_names_are_readable_and_survive(tmp_path):
    inst, cluster, start = random_case(1, workers=2)
    model_files.write_model(inst, cluster, tmp_path / "p.mps", start=start)
    lp = opened(tmp_path / "p.mps").getLp()
    k = int(start[0])
    assert {"x[i=0,g=1]", f"peak[k={k}]"} <= set(lp.col_names_)
    assert {"sticky[i=0]", f"peak[k={k},g=1]"} <= set(lp.row_names_)
    model_files.write_model(inst, cluster, tmp_path / "p.lp", start=start)
    lp = opened(tmp_path / "p.lp").getLp()
    assert {"x_i0_g1", f"peak_k{k}"} <= set(lp.col_names_)
    assert {"sticky_i0", f"peak_k{k}_g1"} <= set(lp.row_names_)
    release = int(inst.release[0])
    model_files.write_model(inst, cluster, tmp_path / "s.mps", "schedule", max_wait=2)
    lp = opened(tmp_path / "s.mps").getLp()
    assert {f"x[i=0,t={release + 2},g=1]", f"active[k={release}]"} <= set(lp.col_names_)
    assert {"once[i=0]", f"peak[k={release},g=0]", f"slots[k={release},g=1]", "steps"} <= set(lp.row_names_)
    text = (tmp_path / "s.mps").read_text()
    assert text.startswith("* schedule of")
    assert f"* instance {inst.digest()}" in text
    assert "max_wait = 2" in text


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_holds_exactly_the_described_model(tmp_path, ending):
    inst, cluster, start = random_case(3, workers=3)
    model = placement_model(placement_case(inst, cluster, start))
    path = tmp_path / f"m{ending}"
    model_files.write_model(inst, cluster, path, start=start)
    lp = opened(path).getLp()
    spelt = {model_files._safe(name): name for name in (*model.variables, *model.rows)}
    columns = [spelt.get(name, name) for name in lp.col_names_]
    at = [columns.index(name) for name in model.variables]
    assert np.array_equal(np.array(lp.col_cost_)[at], model.cost)
    assert np.array_equal(np.array(lp.col_lower_)[at], model.lower)
    assert np.array_equal(np.array(lp.col_upper_)[at], model.upper)
    assert [kind.name == "kInteger" for kind in np.array(lp.integrality_)[at]] == model.integer.tolist()
    assert [spelt.get(name, name) for name in lp.row_names_] == list(model.rows)
    matrix = lp.a_matrix_
    entries = {
        (int(r), columns[j]): v
        for j in range(lp.num_col_)
        for r, v in zip(
            matrix.index_[matrix.start_[j] : matrix.start_[j + 1]],
            matrix.value_[matrix.start_[j] : matrix.start_[j + 1]],
            strict=True,
        )
    }
    rows = np.repeat(np.arange(len(model.rows)), np.diff(model.first))
    described = zip(rows.tolist(), model.column.tolist(), model.value.tolist(), strict=True)
    assert entries == {(r, model.variables[j]): v for r, j, v in described}


@pytest.mark.parametrize("ending", [".mps", ".lp"])
def test_other_kinds_of_bounds_and_rows(tmp_path, ending):
    """Minimise -x + y/4 with 1 <= x - y <= 3, x in 2 .. 5 whole, y >= 0, and z fixed: x = 5, y = 2 cost -4.5."""
    model = LinearModel(
        name="hand made", variables=["x", "y", "z"], cost=np.array([-1.0, 0.25, 0.0]),
        lower=np.array([2.0, 0.0, 7.0]), upper=np.array([5.0, np.inf, 7.0]), integer=np.array([True, False, True]),
        rows=["both", "less"], row_lower=np.array([1.0, -np.inf]), row_upper=np.array([3.0, 4.5]),
        first=np.array([0, 2, 4]), column=np.array([0, 1, 0, 1]), value=np.array([1.0, -1.0, 1.0, -1.0]), shape=(0, 0),
    )  # fmt: skip
    path = tmp_path / f"hand{ending}"
    with path.open("w") as out:
        write = model_files._write_mps if ending == ".mps" else model_files._write_lp
        write(model, model.integer, ["by hand"], out)
    lp = opened(path).getLp()
    at = [list(lp.col_names_).index(name) for name in "xyz"]
    assert np.array(lp.col_lower_)[at].tolist() == [2, 0, 7]
    assert np.array(lp.col_upper_)[at].tolist() == [5, np.inf, 7]
    assert solved(path)[0] == pytest.approx(-4.5)


def test_a_second_reader_of_the_files(tmp_path):
    """OR-Tools reads MPS files too, and its solution as lines of name and value, zeros left out, comes back."""
    builder = pytest.importorskip("ortools.linear_solver.python.model_builder")
    inst, cluster, start = random_case(2, workers=2)
    for number, given in enumerate(problems(inst, start)[::2]):
        path = tmp_path / f"{number}.mps"
        model_files.write_model(inst, cluster, path, **given)
        model = builder.Model()
        assert model.import_from_mps_file(str(path))
        solver = builder.Solver("scip")
        assert solver.solve(model) == builder.SolveStatus.OPTIMAL
        solution = path.with_suffix(".txt")
        values = {v.name: solver.value(v) for v in model.get_variables()}
        solution.write_text("".join(f"{name}\t{value:.9g}\n" for name, value in values.items() if value))
        schedule = model_files.read_model_solution(inst, cluster, solution, **given)
        price = bro.peak_sum if number == 0 else bro.decode_time
        expected = cost(inst, cluster, given, solver.objective_value)
        assert price(inst, cluster, schedule) == pytest.approx(expected, rel=1e-6)
        assert expected == pytest.approx(cost(inst, cluster, given, solved(path)[0]), rel=1e-6)


def test_kv_capacity_is_in_the_files(tmp_path):
    """Loads 5, 5, 2 on two workers: at best 7, with at most 6 tokens 5 and 5 + 2 do not fit and nothing does."""
    inst = bro.Instance([0, 0, 0], [5, 4, 2], [1, 1, 1])
    for capacity, best in ((None, 6), (6, 6)):
        path = tmp_path / f"{capacity}.mps"
        model_files.write_model(inst, bro.Cluster(2, 2, capacity), path, start=[0, 0, 0])
        assert solved(path)[0] == pytest.approx(best)
    path = tmp_path / "none.lp"
    model_files.write_model(inst, bro.Cluster(1, 3, 10), path, start=[0, 0, 0], plain=True)
    highs = opened(path)
    highs.run()
    assert highs.getModelStatus().name == "kInfeasible"
    solution = tmp_path / "none.sol"
    highs.writeSolution(str(solution), 0)
    with pytest.raises(
        bro.InputError, match=r"none\.sol: names no variable of a placement model, such as x\[i=0,g=0\]"
    ):
        model_files.read_model_solution(inst, bro.Cluster(1, 3, 10), solution, start=[0, 0, 0])


SOLUTIONS = {
    "highs": """Model status
Optimal

# Primal solution values
Feasible
Objective 6
# Columns 7
x[i=0,g=0] 1
x[i=0,g=1] 0
x[i=1,g=0] 0
x[i=1,g=1] 1
x[i=2,g=0] 0
x[i=2,g=1] 0.9999999
peak[k=0] 6
# Rows 5
sticky[i=0] 1

# Dual solution values
Feasible
# Columns 7
x[i=0,g=0] 0.5
""",
    "gurobi": "# Solution for model placement\n# Objective value = 6\nx_i0_g0 1\nx_i0_g1 0\nx_i1_g1 1\nx_i2_g1 1\n",
    "scip": "solution status: optimal\nobjective value:  6\nx[i=0,g=0]    1   (obj:0)\nx[i=1,g=1]   1 \t(obj:0)\n"
    "x[i=2,g=1]   1\t(obj:0)\npeak[k=0]   6 \t(obj:1)\n",
    "cbc": "Optimal - objective value 6.00000000\n      0 x_i0_g0   1   0\n      3 x_i1_g1     1    0\n"
    "      5 x_i2_g1  1  0\n      6 peak_k0  6  1\n",
}


@pytest.mark.parametrize("solver", SOLUTIONS)
def test_solution_files_of_solvers(tmp_path, solver):
    """Prompts 5, 3, 3 for one step on two workers: 5 | 3 + 3 costs 6."""
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    for path, data in (
        (tmp_path / "a.sol", SOLUTIONS[solver].encode()),
        (tmp_path / "a.sol.gz", gzip.compress(SOLUTIONS[solver].encode())),
    ):
        path.write_bytes(data)
        schedule = model_files.read_model_solution(inst, cluster, path, start=[0, 0, 0])
        assert schedule.worker.tolist() == [0, 1, 1]
        assert bro.peak_sum(inst, cluster, schedule) == 6


PLACED = "x[i=0,g=0] 1\nx[i=1,g=1] 1\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"names no variable of a placement model, such as x\[i=0,g=0\] or x_i0_g0"),
        (PLACED, "request 2 has no x of value 1; a variable is missing, or this is no solution"),
        ("x[i=0,g=0] 0.5", r"line 1: x\[i=0,g=0\] = 0.5 is neither 0 nor 1: no solution of the integer program"),
        ("x[i=0,g=0] nan", r"= nan is neither 0 nor 1"),
        ("x[i=0,g=0] one", r"line 1: x\[i=0,g=0\] has a value that is no number: 'one'"),
        (PLACED + "x_i2_g1 1\nx[i=2,g=1] 1", r"line 4: x\[i=2,g=1\] is named twice"),
        (PLACED + "x_i1_g0 1", "line 3: x_i1_g0 is the second x of request 1 with value 1"),
        (PLACED + "x[i=3,g=1] 1", r"x\[i=3,g=1\] is no variable of a model of 3 requests on 2 workers"),
        (PLACED + "x[i=2,g=2] 1", r"x\[i=2,g=2\] is no variable of a model of 3 requests on 2 workers"),
        (PLACED + "x[i=2,t=0,g=1] 1", r"x\[i=2,t=0,g=1\] is a variable of the other problem, not of placement"),
        (PLACED + "x[i=2] 1", r"x\[i=2\] is a variable of the relaxation"),
        ("# Columns 7\n" + PLACED, "ends early: 2 of 7 variables"),
    ],
)
def test_bad_solution_files(tmp_path, text, complaint):
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    path = tmp_path / "a.sol"
    path.write_text(text)
    with pytest.raises(bro.InputError, match=rf"a\.sol: .*{complaint}") as caught:
        model_files.read_model_solution(inst, cluster, path, start=[0, 0, 0])
    assert "\n" not in str(caught.value)


def test_bad_files_of_solutions_of_schedules(tmp_path):
    inst, cluster = bro.Instance([3], [5], [2]), bro.Cluster(2, 2)
    path = tmp_path / "a.sol"
    for text, complaint in (
        ("x[i=0,t=2,g=0] 1", "request 0 starts in 3 .. 5"),
        ("x_i0_t6_g0 1", "request 0 starts in 3 .. 5"),
        (f"x[i=0,t={10**30},g=0] 1", "request 0 starts in 3 .. 5"),
        ("x[i=0,g=0] 1", "a variable of the other problem, not of schedule"),
        ("x[i=0,t=3] 1", "a variable of the relaxation"),
    ):
        path.write_text(text)
        with pytest.raises(bro.InputError, match=complaint):
            model_files.read_model_solution(inst, cluster, path, "schedule", max_wait=2)
    path.write_text("x[i=0,t=0,g=1] 1")
    # The reduced form: all releases are 0, and the schedule is begun in the last release.
    assert model_files.read_model_solution(inst, cluster, path, "schedule").start.tolist() == [3]


def test_solutions_that_break_a_rule_and_files_that_are_none(tmp_path):
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    path = tmp_path / "a.sol"
    path.write_text("x_i0_g0 1\nx_i1_g0 1\nx_i2_g0 1\n")
    with pytest.raises(bro.InvalidSchedule, match=r"a\.sol: .*3"):
        model_files.read_model_solution(inst, cluster, path, start=[0, 0, 0])
    with pytest.raises(bro.InputError, match=r"b\.sol: No such file"):
        model_files.read_model_solution(inst, cluster, tmp_path / "b.sol", start=[0, 0, 0])
    with pytest.raises(bro.InputError, match="directory"):
        model_files.read_model_solution(inst, cluster, tmp_path, start=[0, 0, 0])
    path.write_bytes(gzip.compress(b"x_i0_g0 1\n" * 1000)[:-9])
    with pytest.raises(bro.InputError, match=r"not a complete gzip file|named twice"):
        model_files.read_model_solution(inst, cluster, path, start=[0, 0, 0])
    path.write_bytes(gzip.compress(b"#\n")[:-9])
    with pytest.raises(bro.InputError, match="not a complete gzip file"):
        model_files.read_model_solution(inst, cluster, path, start=[0, 0, 0])


def test_bad_requests_for_files(tmp_path, monkeypatch):
    inst, cluster, start = random_case(0)
    path = tmp_path / "m.mps"
    for arguments, complaint in (
        ({"path": tmp_path / "m.txt", "start": start}, r"m\.txt: a model file ends in .mps, .lp, .mps.gz, .lp.gz"),
        ({"path": tmp_path / "no" / "m.lp", "start": start}, "is not a folder"),
        ({}, "start is missing: a placement model takes admission steps as given"),
        ({"start": start, "max_wait": 3}, 'max_wait and latest belong to problem="schedule"'),
        ({"start": start, "problem": "schedule"}, 'start belongs to problem="placement"'),
        ({"start": start, "problem": "both"}, "unknown problem 'both'; problems: placement, schedule"),
        ({"start": start[:1]}, "start has 1 entries"),
        ({"problem": "schedule", "max_wait": -1}, "max_wait must be >= 0"),
        ({"problem": "schedule", "latest": start * 0 - 1}, "latest"),
    ):
        if arguments.get("problem") == "both":
            arguments = {"problem": "both"}
        with pytest.raises(bro.InputError, match=complaint) as caught:
            model_files.write_model(inst, cluster, **({"path": path} | arguments))
        assert "\n" not in str(caught.value)
    empty = bro.Instance([], [], [])
    with pytest.raises(bro.InputError, match="no requests"):
        model_files.write_model(empty, cluster, path, start=[])
    big = bro.Instance([0, 0], [1, 1], [10**7, 1])
    with pytest.raises(
        bro.InputError, match=r"about 40,000,004 coefficients, more than 10,000,000; take fewer requests"
    ):
        model_files.write_model(big, bro.Cluster(2, 2), path, start=[0, 0])
    with pytest.raises(bro.InputError, match="too large; narrow the windows"):
        model_files.write_model(big, bro.Cluster(2, 2), path, "schedule", max_wait=3)

    def breaks(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_files, "_write_mps", breaks)
    with pytest.raises(bro.InputError, match=r"m\.mps: cannot be written: No space left"):
        model_files.write_model(inst, cluster, path, start=start)
    assert list(tmp_path.iterdir()) == []


def test_files_are_replaced_only_by_force_and_are_the_same_bytes(tmp_path):
    inst, cluster, start = random_case(0)
    path = tmp_path / "m.lp.gz"
    model_files.write_model(inst, cluster, path, start=start)
    before = path.read_bytes()
    with pytest.raises(bro.InputError, match=r"m\.lp\.gz: exists already; use force"):
        model_files.write_model(inst, cluster, path, start=start)
    model_files.write_model(inst, cluster, path, start=start, force=True)
    assert path.read_bytes() == before


def test_no_solver_is_needed_for_files(tmp_path, monkeypatch):
    for module in ("highspy", "ortools", "cvxpy", "scipy"):
        for name in [m for m in sys.modules if m.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
    inst, cluster, start = random_case(0)
    summary = model_files.write_model(inst, cluster, tmp_path / "m.mps", start=start)
    assert str(summary).startswith(f"{tmp_path / 'm.mps'}: placement model, ")
    with pytest.raises(bro.SolverError, match="cvxpy is not installed"):
        bro.relaxation(inst, cluster, start=start)
    with pytest.raises(bro.SolverError, match='"highs" is not installed'):
        bro.prices(inst, cluster, max_wait=2)
    assert bro.prices(inst, cluster, start=start).value == pytest.approx(inst.total_work / cluster.workers)


def relaxed_value(inst, cluster, given, path):
    """HiGHS's value of the relaxation that the description gives."""
    plain = given["problem"] == "placement"
    model_files.write_model(inst, cluster, path, relaxed=True, plain=plain, force=True, **given)
    return cost(inst, cluster, given, solved(path)[0])


@pytest.mark.parametrize("seeds", [range(0, 7), range(7, 14)], ids=str)
def test_cvxpy_and_highs_have_the_same_relaxation(tmp_path, seeds):
    pytest.importorskip("cvxpy")
    for seed in seeds:
        inst, cluster, start = random_case(seed, most=10, gap=50 * (seed % 2))
        if seed % 5 == 4:
            cluster = bro.Cluster(cluster.workers, cluster.slots, kv_capacity=int(60 + seed), step_time=STEP_TIME)
        for given in problems(inst, start):
            problem = bro.relaxation(inst, cluster, **without_name(given))
            assert problem.is_dcp()
            expected = relaxed_value(inst, cluster, given, tmp_path / "r.mps")
            assert problem.solve(solver="HIGHS") == pytest.approx(expected, rel=1e-6)


def test_highs_prints_nothing(capfd):
    inst, cluster, start = random_case(1, workers=2)
    bro.prices(inst, cluster, latest=start)
    bro.solve_placement(inst, cluster, start, solver="highs")
    assert capfd.readouterr() == ("", "")


def test_after_a_run_of_highs_with_other_threads_ours_works():
    """HiGHS keeps one pool of threads per process, and refuses another number of them."""
    cp = pytest.importorskip("cvxpy")
    x = cp.Variable(nonneg=True)
    assert cp.Problem(cp.Minimize(x), [x >= 1]).solve(solver="HIGHS") == pytest.approx(1.0)
    inst, cluster = bro.Instance([0, 0, 0], [5, 3, 3], [1, 1, 1]), bro.Cluster(2, 2)
    assert bro.solve_placement(inst, cluster, [0, 0, 0], solver="highs").objective == 6


def test_bad_requests_for_relaxations_and_prices():
    inst, cluster, start = random_case(0)
    pytest.importorskip("cvxpy")
    for function in (bro.relaxation, bro.prices):
        with pytest.raises(bro.InputError, match="exclude each other"):
            function(inst, cluster, start=start, max_wait=3)
        with pytest.raises(bro.InputError, match="start has 1 entries"):
            function(inst, cluster, start=[0])
    with pytest.raises(bro.InputError, match="no requests"):
        bro.relaxation(bro.Instance([], [], []), cluster)
    big = bro.Instance([0, 0], [1, 1], [10**7, 1])
    with pytest.raises(bro.InputError, match=r"dense matrices of 20,000,0\d\d cells, more than 20,000,000"):
        bro.relaxation(big.replace(output=[10**7 + 5, 1]), cluster, start=[0, 0])
    with pytest.raises(bro.InputError, match="no schedule keeps these windows"):
        bro.prices(bro.Instance([0, 0, 0], [1, 1, 1], [2, 2, 2]), bro.Cluster(1, 2), max_wait=0)
    with pytest.raises(bro.InputError, match="time_limit must be > 0"):
        bro.prices(inst, cluster, max_wait=2, time_limit=0)


@pytest.mark.parametrize("seeds", [range(0, 15), range(15, 30)], ids=str)
def test_prices_prove_the_value_of_the_relaxation(tmp_path, seeds):
    for seed in seeds:
        inst, cluster, start = random_case(seed, most=12, gap=50 * (seed % 2))
        for given in problems(inst, start)[1:3]:
            found = bro.prices(inst, cluster, **without_name(given))
            value = relaxed_value(inst, cluster, given, tmp_path / "r.mps")
            assert found.optimal
            assert found.value == pytest.approx(value, rel=1e-9)
            assert sum(found.bill.values()) == pytest.approx(found.value, rel=1e-12)
            # Rounded down they are a proof, in exact arithmetic, of nearly all of it, and of no more.
            assert bro.verify(inst, cluster, found.bound.certificate) == found.bound.value
            assert found.bound.exact <= Fraction(value) * (1 + Fraction(1, 10**9))
            assert found.bound.value == pytest.approx(value, rel=1e-9)
            # What is spent on steps is the value as well: the solution and the prices agree.
            assert found.steps["cost"].sum() + found.bill["constant"] == pytest.approx(value, rel=1e-9)
            paid = found.bill["requests"] + found.bill["steps"]
            assert found.steps["paid"].sum() == pytest.approx(paid, rel=1e-9)
            assert found.bound.value >= bro.schedule_bound(inst, cluster, **without_name(given)).value


def test_payments_are_least_costs_over_the_window():
    inst, cluster, _ = random_case(5, most=12, workers=2)
    found = bro.prices(inst, cluster, max_wait=4)
    case = pricing.schedule_case(inst, cluster, inst.release + 4)
    dual = pricing._solve(case, 60.0)
    G, B = cluster.workers, cluster.slots
    for i in range(len(inst)):
        costs = []
        for t in range(int(inst.release[i]), int(inst.release[i]) + 5):
            total = 0.0
            for k in range(t, t + int(inst.output[i])):
                p = int(np.searchsorted(case.steps, k))
                own = (dual.request == i) & (dual.position == p)
                total += (dual.mu[p] / G + dual.nu[own].sum()) * (inst.prompt[i] + k - t)
                total += dual.sigma[p] / (G * B) + dual.eta[own].sum()
            costs.append(total)
        assert found.requests["cost"][i] == pytest.approx(min(costs))
        assert costs[int(found.requests["start"][i] - inst.release[i])] == pytest.approx(min(costs))
    # The conditions of the model page: token prices add up to a, those of a step to c and what crowding adds.
    K = len(case.steps)
    assert dual.mu + np.bincount(dual.position, dual.nu, K) == pytest.approx(STEP_TIME.per_token)
    of_step = dual.theta + dual.sigma + np.bincount(dual.position, dual.eta, K)
    assert (of_step <= STEP_TIME.fixed + dual.rho + 1e-12).all()
    assert found.requests["share"].sum() == pytest.approx(1.0)


def test_a_wider_window_saves_no_more_than_the_prices_say():
    for seed in range(12):
        inst, cluster, start = random_case(seed, most=10)
        latest = start + 3
        found = bro.prices(inst, cluster, latest=latest)
        case = pricing.schedule_case(inst, cluster, latest)
        for i in range(len(inst)):
            later = latest.copy()
            later[i] += 1
            if pricing.schedule_case(inst, cluster, later).least == case.least:
                wider = bro.prices(inst, cluster, latest=later).value
                assert wider >= found.value - found.requests["later"][i] - 1e-9
            release = inst.release.copy()
            release[i] -= 1
            if release[i] < 0:
                assert np.isnan(found.requests["earlier"][i])
                continue
            earlier = inst.replace(release=release)
            if pricing.schedule_case(earlier, cluster, latest).least == case.least:
                wider = bro.prices(earlier, cluster, latest=latest).value
                assert wider >= found.value - found.requests["earlier"][i] - 1e-9


def test_placement_prices_are_uniform_by_symmetry(tmp_path):
    """The G prices of a step add up to 1 in every optimal dual, so that their average over workers is 1/G."""
    for seed in range(6):
        inst, cluster, start = random_case(seed, workers=3)
        found = bro.prices(inst, cluster, start=start)
        assert np.unique(found.steps["token"]).tolist() == [1 / 3]
        assert not found.steps["slot"].any()
        assert found.requests["cost"] == pytest.approx(inst.work / 3)
        assert bro.verify(inst, cluster, found.bound.certificate) >= found.value
        path = tmp_path / f"{seed}.mps"
        model_files.write_model(inst, cluster, path, start=start, relaxed=True, plain=True)
        highs = opened(path)
        highs.run()
        assert highs.getInfo().objective_function_value == pytest.approx(found.value)
        dual = dict(zip(highs.getLp().row_names_, highs.getSolution().row_dual, strict=True))
        for k in found.steps["step"].tolist():
            assert sum(dual[f"peak[k={k},g={g}]"] for g in range(3)) == pytest.approx(1.0)


def test_without_windows_prices_are_the_closed_form():
    inst, cluster, _ = random_case(7, workers=2)
    found = bro.prices(inst, cluster)
    assert found.value == pytest.approx(bro.schedule_bound(inst, cluster).value)
    assert np.unique(found.steps["token"]).tolist() == [STEP_TIME.per_token / 2]
    alone = bro.Instance([4, 5], [100, 1], [9, 1])
    found = bro.prices(alone, cluster)
    assert found.requests["cost"].tolist() == pytest.approx([STEP_TIME.per_token * 936, 0.0])
    assert found.value == pytest.approx(bro.schedule_bound(alone, cluster).value)
    assert found.steps["single"].tolist() == [STEP_TIME.per_token] * 9


def test_prices_at_the_time_limit_are_valid(monkeypatch):
    inst, cluster, _ = random_case(11, most=12, workers=3)
    best = bro.prices(inst, cluster, max_wait=6)
    clock = iter([0.0, 0.0, *[100.0] * 9])
    monkeypatch.setattr(pricing.time, "perf_counter", lambda: next(clock))
    found = bro.prices(inst, cluster, max_wait=6)
    monkeypatch.undo()
    assert not found.optimal
    assert "time limit" in str(found)
    assert found.value < best.value
    # What is left out of the prices can be worth more to the closed form, which is certified then.
    assert bro.verify(inst, cluster, found.bound.certificate) == found.bound.value
    assert found.value * (1 - 1e-9) <= found.bound.value <= best.value * (1 + 1e-9)
    with pytest.raises(bro.SolverError, match="no prices in 1e-09 s"):
        bro.prices(inst, cluster, max_wait=6, time_limit=1e-9)


def test_tables_text_and_picture(tmp_path):
    inst, cluster, start = random_case(6, most=12, gap=50, workers=2)
    for given in problems(inst, start):
        found = bro.prices(inst, cluster, **without_name(given))
        table = found.to_polars()
        assert table["cost"].sum() == pytest.approx(found.bill["requests"])
        assert found.to_polars("steps").height == len(found.steps["step"])
        top = found.top(3)
        assert top["cost"].to_list() == sorted(table["cost"], reverse=True)[:3]
        assert found.top(2, "steps").height == 2
        text, page = found.text(n=3), found._repr_html_()
        assert f"costs less than {found.value:.9g} {found.unit}" in text
        assert str(found.requests["request"][int(np.argmax(found.requests["cost"]))]) in text
        assert page.count("<table>") == 2
        assert repr(found).startswith(f"Prices({found.problem}, ")
        figure = found.plot(tmp_path / "p.png", force=True)
        assert (tmp_path / "p.png").stat().st_size > 10_000
        labels = [axes.get_ylabel() for axes in figure.axes]
        assert labels[0].startswith("price of a token")
        assert labels[-1].startswith("what a request pays")
        assert "step" in figure.axes[-1].get_xlabel()
    with pytest.raises(bro.InputError, match=r"p\.gif: a picture's name ends in .png, .svg, .pdf"):
        found.plot(tmp_path / "p.gif")
    with pytest.raises(bro.InputError, match="exists already"):
        found.plot(tmp_path / "p.png")
    with pytest.raises(bro.InputError, match="unknown table 'workers'; tables: requests, steps"):
        found.to_polars("workers")
    empty = bro.prices(bro.Instance([], [], []), cluster, max_wait=3)
    assert empty.value == 0
    assert "nothing" in str(empty)
    with pytest.raises(bro.InputError, match="no prices to draw"):
        empty.plot()


def test_the_examples_of_the_page(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "oracles.md").read_text()
    (tmp_path / "instances").symlink_to(ROOT / "instances")
    monkeypatch.chdir(tmp_path)
    files, priced = (
        re.search(rf"^## {title}\n.*?^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL).group(1)
        for title in ("Files for other solvers", "Prices")
    )
    writing = files.splitlines()[:-2]
    exec("\n".join(writing), {"bro": bro})
    solved(tmp_path / "model.mps")[1].rename(tmp_path / "model.sol")
    (tmp_path / "model.mps").unlink()
    (tmp_path / "late.lp").unlink()
    names = {"bro": bro}
    exec(files.replace("bro.peak_sum", "value = bro.peak_sum"), names)
    assert names["value"] == 350_628
    names = {"bro": bro, "print": lambda text: names.update(shown=text)}
    exec(priced, names)
    first, _, third = names["shown"].splitlines()[:3]
    assert f"{first}\n" in page
    assert f"{third}\n" in page
    assert (tmp_path / "prices.png").exists()
