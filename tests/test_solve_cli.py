"""``balanceroute solve`` and the tables of ``balanceroute bound``: what is said, what is written, how it fails."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest

import balanceroute_opt as bro
from balanceroute_opt import cli
from balanceroute_opt.cli.problem import Searching, problem_from
from balanceroute_opt.oracles.schedule import ScheduleSolution
from balanceroute_opt.oracles.solution import Solution

# instances/tiny/sticky.json: the best placement costs 41, requests that could move would need 35.
START = [0, 0, 1, 1, 1, 3]
INST = bro.Instance(START, [5, 2, 1, 5, 2, 5], [4, 2, 4, 1, 2, 2], name="six")
CLUSTER = bro.Cluster(2, 3, step_time=bro.StepTime(10.0, 1.0))
OPTIMUM = 41
LIMIT = ("--node-limit", "20000")


@pytest.fixture
def run(capfd):
    """Run a command in this process: (status, stdout, stderr), those of compiled libraries included."""

    def call(*argv):
        status = cli.main([str(word) for word in argv])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def problem(tmp_path):
    bro.write_instance(INST, tmp_path / "p.json", cluster=CLUSTER, start=START)
    return tmp_path / "p.json"


# Placement


def test_solve_says_what_is_proved_and_check_proves_it_again(run, problem, tmp_path):
    sched, proof = tmp_path / "s.json", tmp_path / "c.json"
    status, out, err = run("solve", "placement", problem, *LIMIT, "--schedule", sched, "--certificate", proof)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "six: placement of 6 requests on 2 workers x 3 slots, at the admission steps in the file"
    assert f"incumbent       {OPTIMUM} token-steps" in out
    assert "lower bound     " in out
    assert "gap             0 %: optimal" in out
    assert "reproduced by the verifier" in out
    assert max(map(len, lines)) <= 100
    status, out, _ = run("check", problem, "--schedule", sched, "--certificate", proof)
    assert status == 0
    assert f"its peak_sum is {OPTIMUM} token-steps" in out
    assert "(certified)" in out


@pytest.mark.parametrize("solver", ["auto", "bnb", "highs", "cpsat", "enumeration", "search"])
def test_every_solver_prints_one_json_object(run, problem, solver):
    status, out, err = run("solve", "placement", problem, "--solver", solver, *LIMIT, "--json")
    assert (status, err) == (0, "")
    data = json.loads(out, parse_constant=lambda text: pytest.fail(text))
    assert data["objective"] == OPTIMUM
    assert data["status"] == ("feasible" if solver == "search" and data["gap"] else "optimal")
    assert data["certified"]["verified"]
    assert data["certified"]["value"] <= data["lower_bound"] <= data["objective"]
    assert data["instance"] == INST.digest()


def test_same_seed_and_nodes_same_result(run, problem):
    argv = ("solve", "placement", problem, "--solver", "search", "--seed", "3", *LIMIT, "--json")
    first, second = (json.loads(run(*argv)[1]) for _ in range(2))
    for data in (first, second):
        del data["seconds"], data["trajectory"]
    assert first == second


def test_run_file_is_the_problem_the_start_and_the_measure(run, fails, tmp_path):
    saved = bro.simulate(INST, CLUSTER, "round-robin")
    bro.write_run(saved, tmp_path / "r.json")
    out = run("solve", "placement", tmp_path / "r.json", *LIMIT)[1]
    assert "at the admission steps of the run in the file" in " ".join(out.split())
    assert "below the run of round-robin" in out or "as the run of round-robin" in out
    data = json.loads(run("solve", "placement", tmp_path / "r.json", *LIMIT, "--json")[1])
    assert data["router_objective"] == saved.peak_sum
    assert data["objective"] <= saved.peak_sum
    assert "has its own cluster" in fails("solve", "placement", tmp_path / "r.json", "--workers", "5")


def test_starts_of_a_router_and_the_instance_for_check(run, tmp_path):
    files = [tmp_path / name for name in ("p.json", "s.json.gz", "c.json.gz")]
    options = ("--generate", "bfio", "--n", "12", "--workers", "2", "--slots", "4", "--starts-from", "jsq")
    outputs = ("--save-instance", files[0], "--schedule", files[1], "--certificate", files[2])
    assert run("solve", "placement", *options, *LIMIT, *outputs)[0] == 0
    assert run("check", files[0], "--schedule", files[1], "--certificate", files[2])[0] == 0
    status, out, _ = run("solve", "placement", files[0], "--warm", files[1], *LIMIT)
    assert status == 0
    assert "incumbent" in out


def test_overfull_step_is_infeasible_with_step_and_count(run, tmp_path):
    inst = bro.Instance([0] * 5, [1] * 5, [2] * 5)
    bro.write_instance(inst, tmp_path / "p.json", cluster=bro.Cluster(2, 2), start=[0, 0, 0, 1, 1])
    status, out, err = run("solve", "placement", tmp_path / "p.json")
    assert (status, err) == (0, "")
    flat = " ".join(out.split())
    assert "infeasible no placement at these admission steps exists" in flat
    assert "step 1 has 5 active requests, more than workers * slots = 4" in flat
    status, out, err = run("solve", "placement", tmp_path / "p.json", "--schedule", tmp_path / "s.json")
    assert status == 1
    assert "infeasible" in out
    assert err == f"balanceroute: {tmp_path / 's.json'}: not written, there is no schedule\n"


def test_bound_that_is_only_claimed_is_said_to_be(run, problem, tmp_path, monkeypatch):
    found = bro.solve_placement(INST, CLUSTER, START, solver="enumeration")
    claimed = Solution(found.schedule, found.objective, found.objective, "optimal", 0.1, "oracle")
    monkeypatch.setattr(bro, "solve_placement", lambda *args, **kwargs: claimed)
    proof = tmp_path / "c.json"
    out = " ".join(run("solve", "placement", problem, "--certificate", proof)[1].split())
    weak = bro.placement_bound(INST, CLUSTER, START, "migration").value
    assert weak < found.objective
    assert f"{found.objective} token-steps (claimed by oracle); certified: {weak}" in out
    assert "0 %: optimal, as oracle claims" in out
    assert f"proof bound migration for {weak} token-steps" in out
    assert bro.verify(INST, CLUSTER, str(proof)) == weak


def test_certificate_that_proves_too_much_is_an_error(fails, problem, monkeypatch):
    monkeypatch.setattr(bro, "verify", lambda *args: 10**9)
    assert "above a schedule of" in fails("solve", "placement", problem, *LIMIT)


def test_solver_that_is_not_installed(fails, problem, monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    assert 'the solver "highs" is not installed' in fails(
        "solve", "placement", problem, "--solver", "highs", "--time-limit", "0.1"
    )
    assert 'the solver "highs" is not installed' in fails(
        "solve", "schedule", problem, "--max-wait", "2", "--solver", "highs", "--time-limit", "0.1"
    )


# Schedule


def test_schedule_names_its_windows(run, problem, tmp_path):
    sched, proof = tmp_path / "s.json", tmp_path / "c.json"
    outputs = ("--schedule", sched, "--certificate", proof)
    status, out, err = run("solve", "schedule", problem, "--max-wait", "3", *outputs)
    assert (status, err) == (0, "")
    assert "starts at most 3 steps after the release" in " ".join(out.split())
    exact = bro.solve_schedule(INST, CLUSTER, solver="enumeration", max_wait=3).objective
    assert f"incumbent       {exact:.9g} s" in out
    status, out, _ = run("check", problem, "--schedule", sched, "--certificate", proof)
    assert status == 0
    assert "start windows" in out or "optimal" in out
    free = run("solve", "schedule", problem, *LIMIT)[1]
    assert "starts without limit: releases do not matter" in " ".join(free.split())


def test_latest_starts_of_a_router_a_file_or_none(run, fails, problem, tmp_path):
    saved = bro.simulate(INST, CLUSTER.replace(slots=1), "jsq")
    bro.write_run(saved, tmp_path / "r.json")
    want = bro.solve_schedule(INST, saved.cluster, solver="enumeration", latest=saved.schedule.start).objective
    by_file = json.loads(run("solve", "schedule", tmp_path / "r.json", "--json")[1])
    assert "no later than those of the run in the file" in by_file["given"]
    by_router = json.loads(run("solve", "schedule", problem, "--slots", "1", "--latest-from", "jsq", "--json")[1])
    by_other = ("solve", "schedule", problem, "--slots", "1", "--latest-from", tmp_path / "r.json", "--json")
    for data in (by_file, by_router, json.loads(run(*by_other)[1])):
        assert data["objective"] == pytest.approx(want)
        assert data["router"] == "jsq"
    free = json.loads(run("solve", "schedule", tmp_path / "r.json", "--latest-from", "none", *LIMIT, "--json")[1])
    assert "without limit" in free["given"]
    bro.write_instance(INST.head(3), tmp_path / "other.json", cluster=CLUSTER, start=START[:3])
    assert "another instance" in fails("solve", "schedule", problem, "--latest-from", tmp_path / "other.json")
    bro.write_instance(INST, tmp_path / "bare.json", cluster=CLUSTER)
    assert "has no admission steps" in fails("solve", "schedule", problem, "--latest-from", tmp_path / "bare.json")


def test_infeasible_and_no_solution_are_told_apart(run, tmp_path, monkeypatch):
    inst = bro.Instance([0, 0, 0], [1, 1, 1], [4, 4, 4])
    bro.write_instance(inst, tmp_path / "p.json", cluster=bro.Cluster(1, 2))
    status, out, err = run("solve", "schedule", tmp_path / "p.json", "--max-wait", "1")
    assert (status, err) == (0, "")
    flat = " ".join(out.split())
    assert "infeasible no schedule in these windows exists" in flat
    assert "3 requests need 12 slot-steps in steps 0..4, which have 10" in flat
    unknown = ScheduleSolution(None, math.inf, 0.5, "no_solution", 0.1, "oracle")
    monkeypatch.setattr(bro, "solve_schedule", lambda *args, **kwargs: unknown)
    status, out, _ = run("solve", "schedule", tmp_path / "p.json", "--max-wait", "2")
    assert status == 0
    assert "no schedule found" in out
    assert "whether there is one is open" in " ".join(out.split())
    assert "infeasible" not in out


# Models for other solvers


def test_export_and_the_answer_of_another_solver(run, fails, problem, tmp_path):
    model, answer, sched = (tmp_path / name for name in ("m.mps", "m.sol", "s.json"))
    status, out, err = run("solve", "placement", problem, "--export", model, "--no-solve")
    assert (status, err) == (0, "")
    assert "placement model" in out
    assert "x[i=5,g=1]" in model.read_text()
    best = bro.solve_placement(INST, CLUSTER, START, solver="enumeration").schedule
    # Workers are numbered by their first request in the model.
    first = best.worker if best.worker[0] == 0 else 1 - best.worker
    answer.write_text("".join(f"x[i={i},g={g}] 1\n" for i, g in enumerate(first.tolist())))
    status, out, _ = run("solve", "placement", problem, "--solution", answer, "--schedule", sched)
    assert status == 0
    assert f"incumbent       {OPTIMUM} token-steps" in out
    assert "checked against every rule and priced again" in " ".join(out.split())
    assert bro.peak_sum(INST, CLUSTER, bro.read_schedule(sched, INST)) == OPTIMUM
    assert "exists already" in fails("solve", "placement", problem, "--export", model)
    assert "--no-solve writes files only" in fails("solve", "placement", problem, "--no-solve")


# How it fails


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["p.json"], "the first argument must be placement or schedule: balanceroute solve placement p.json"),
        (["placment", "p.json"], "got 'placment'; did you mean placement?"),
        (["placement", "nofile.json"], "nofile.json: no such file"),
        (["placement", "p.json", "--solver", "hihgs"], "unknown solver 'hihgs'; did you mean highs?"),
        (["placement", "p.json", "--solver", "gurobi"], "solvers of placement: auto, bnb, highs"),
        (["schedule", "p.json", "--solver", "mathopt"], "unknown solver 'mathopt' (for placement only)"),
        (["schedule", "p.json", "--gap", "0.1"], "--gap is for solve placement"),
        (["placement", "p.json", "--max-wait", "3"], "limits the starts of the schedule problem"),
        (["placement", "p.json", "--latest-from", "jsq"], "limits the starts of the schedule problem"),
        (["schedule", "p.json", "--max-wait", "-1"], "max_wait must be >= 0, got -1"),
        (["placement", "p.json", "--time-limit", "0"], "time_limit must be > 0, got 0"),
        (["placement", "p.json", "--time-limt", "9"], "unknown option --time-limt; did you mean --time-limit?"),
        (["placement", "p.json", "--node-limit", "0"], "node_limit must be >= 1, got 0"),
        (["placement", "p.json", "--head", "3"], "--head leaves none of a file"),
        (["placement", "--n", "5"], "the hindsight problems work on steps: give --starts-from ROUTER, or --clock step"),
        (["placement", "--n", "5", "--clock", "step"], "needs admission steps: give --starts-from ROUTER"),
        (["placement", "p.json", "--starts-from", "jqs"], "unknown router 'jqs'; did you mean jsq?"),
        (["placement", "p.json", "--certificate", "p.json"], "p.json: exists already"),
        (["placement", "p.json", "--schedule", "x.json", "--certificate", "x.json"], "two outputs have this name"),
        (["placement", "p.json", "--export", "m.txt"], "a model file ends in .mps, .lp"),
        (["placement", "p.json", "--solution", "no.sol"], "no.sol: "),
        (["placement", "p.json", "--solution", "no.sol", "--warm", "s.json"], "--solution makes none"),
    ],
)
def test_wrong_input_is_one_line(fails, problem, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails("solve", *argv)
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_run_with_preemptions_is_refused(fails, tmp_path):
    crowd = bro.Instance(release=[0] * 12, prompt=[10] * 12, output=[40] * 12)
    bro.write_run(bro.simulate(crowd, bro.Cluster(2, 8, kv_capacity=60), "jsq"), tmp_path / "r.json")
    for command in (("solve", "placement"), ("solve", "schedule"), ("bound",)):
        assert "preemptions, which the hindsight problems do not model" in fails(*command, tmp_path / "r.json")


def test_interrupt_is_heard_while_a_library_is_deaf(problem):
    code = (
        "import os, signal, sys, threading, time\n"
        "import balanceroute_opt as bro\n"
        "from balanceroute_opt import cli\n"
        "from balanceroute_opt.cli import problem\n"
        "problem._GRACE = 0.1\n"
        "def deaf(*args, progress, **options):\n"
        "    progress(1.5, 99, 90)\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    time.sleep(30)\n"
        "bro.solve_placement = deaf\n"
        "sys.exit(cli.main(['solve', 'placement', sys.argv[1]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(problem)], capture_output=True, text=True, timeout=25)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("balanceroute: interrupted after ")
    assert "incumbent 99  bound 90  gap 9.09 %" in done.stderr


def test_what_a_solver_returns_when_interrupted_is_shown(problem):
    code = (
        "import os, signal, sys, threading, time\n"
        "import balanceroute_opt as bro\n"
        "from balanceroute_opt import cli\n"
        "solve = bro.solve_placement\n"
        "def listening(inst, cluster, start, **options):\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    try:\n"
        "        while True: time.sleep(0.01)\n"
        "    except KeyboardInterrupt:\n"
        "        return solve(inst, cluster, start, solver='search', node_limit=100)\n"
        "bro.solve_placement = listening\n"
        "from balanceroute_opt.cli import problem\n"
        "problem._GRACE = 60.0\n"
        "sys.exit(cli.main(['solve', 'placement', sys.argv[1], '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(problem)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["interrupted"]


def test_interruption_inside_a_solver_is_status_one(run, problem, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(bro, "solve_placement", interrupted)
    assert run("solve", "placement", problem) == (1, "", "balanceroute: interrupted\n")


def test_progress_is_words_and_only_for_terminals(problem, capsys):
    import argparse

    args = argparse.Namespace(
        trace=str(problem), head=None, utilization=None, clock=None, format=None, workers=None, slots=None,
        kv_capacity=None, step_time=None, command="solve", max_wait=None, latest_from=None, starts_from=None,
        router_seed=0,
    )  # fmt: skip
    course = Searching(problem_from(args, "placement"))
    assert course.text() == "no incumbent yet"
    course(1.0, math.inf, 40.0)
    assert course.text() == "1.0 s  no incumbent yet  bound 40"
    course(2.0, 50.0, 40.0)
    assert course.text() == "2.0 s  incumbent 50  bound 40  gap 20.00 %"
    assert capsys.readouterr() == ("", "")


# Bounds side by side


def test_bounds_side_by_side_ascend_to_the_router(run, problem):
    argv = ("bound", problem, "--method", "all", "--time-limit", "5", "--starts-from", "round-robin")
    status, out, err = run(*argv)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert "run of round-robin" in out
    assert "optimum" in out
    data = json.loads(run(*argv, "--json")[1])
    cheap = [row for row in data["bounds"] if row["method"] not in ("milp", "bnb")]
    values = [row["value"] for row in cheap]
    assert [row["method"] for row in cheap][:4] == ["fluid", "item", "pigeonhole", "migration"]
    assert values == sorted(values)
    assert all(row["verified"] for row in cheap[:4])
    assert data["best_known"]["value"] == max(row["value"] for row in data["bounds"])
    assert data["best_known"]["optimal"]
    assert data["router"]["value"] >= data["best_known"]["value"]


def test_bounds_of_schedules_side_by_side(run, problem, tmp_path):
    proof = tmp_path / "c.json"
    argv = ("bound", problem, "--problem", "schedule", "--max-wait", "2", "--method", "lagrangian,fluid,bnb")
    out = run(*argv, "--certificate", proof)[1]
    assert out.index("fluid") < out.index("lagrangian") < out.index("bnb")
    assert "c.json: the certificate of " in out
    data = json.loads(run(*argv, "--json")[1])
    values = [row["value"] for row in data["bounds"]]
    assert values == sorted(values)
    assert bro.verify(INST, CLUSTER, str(proof)) >= data["bounds"][1]["value"]


def test_starts_that_full_slots_force_bound_the_schedule_too(run, fails, problem):
    argv = ("bound", problem, "--problem", "schedule", "--slots", "1", "--method", "lagrangian,forced")
    data = json.loads(run(*argv, "--latest-from", "least-kv", "--json")[1])
    lagrangian, forced = (row["value"] for row in data["bounds"])
    assert lagrangian <= forced
    assert all(row["verified"] for row in data["bounds"])
    assert "a choice of starts" in fails(*argv, "--max-wait", "9")


def test_one_bound_is_said_as_before(run, problem):
    out = run("bound", problem, "--method", "migration")[1]
    assert out.startswith("No placement at these admission steps has a peak_sum below ")
    assert "Bound migration: certified, and reproduced by the verifier; 6 requests, 2 workers x 3 slots." in out
    data = json.loads(run("bound", problem, "--method", "milp", "--time-limit", "10", "--json")[1])
    assert data["value"] == OPTIMUM
    assert data["status"] in ("claimed", "certified")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--method", "fluid,magic"],
            "unknown method 'magic'; methods of placement: fluid, item, pigeonhole, migration",
        ),
        (["--method", "migratoin"], "did you mean migration?"),
        (["--method", "fluid,"], "names separated by commas"),
        (["--problem", "schedule", "--method", "item"], "unknown method 'item'"),
        (["--window", "5"], "--window T is of --method window"),
        (["--method", "all", "--window", "0"], "window must be >= 1, got 0"),
        (["--method", "window", "--window", "some"], "window must be a number of steps or auto, got 'some'"),
        (["--method", "all", "--jobs", "0"], "jobs must be >= 1, got 0"),
        (["--method", "all", "--time-limit", "0"], "time_limit must be > 0, got 0"),
    ],
)
def test_wrong_methods(fails, problem, argv, message):
    assert message in fails("bound", problem, *argv)


def test_bound_with_a_wrong_certificate_is_not_shown(fails, problem, monkeypatch):
    from balanceroute_opt.oracles import bounds

    honest = bounds.placement_bound

    def optimistic(*args, **kwargs):
        bound = honest(*args, **kwargs)
        return replace(bound, value=bound.value + 1)

    monkeypatch.setattr(bounds, "placement_bound", optimistic)
    assert "its certificate proves" in fails("bound", problem, "--method", "fluid,item")


# compare


def test_compare_brackets_small_step_clock_workloads(run):
    argv = ("compare", "--n", "30", "--clock", "step", "--workers", "2", "--slots", "4", "--routers", "jsq,br-0")
    status, out, err = run(*argv, "--bounds", "migration", "--hindsight", "2000")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    assert "placement (P1)" in out
    assert "schedule (P2)" in out
    assert "a search of 2,000 moves" in " ".join(out.split())
    out = run(*argv, "--hindsight", "0")[1]
    assert "ratios" not in out
    assert "brackets" not in out
    out = run("compare", "--n", "1001", "--clock", "step", "--workers", "2", "--slots", "4", "--routers", "jsq")[1]
    assert out.endswith("No hindsight brackets beyond 1,000 requests; --hindsight N makes them.\n")
    assert (
        "Hindsight ratios" not in run("compare", "--n", "30", "--workers", "2", "--slots", "4", "--routers", "jsq")[1]
    )
