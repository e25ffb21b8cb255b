"""The command line: what it prints, where, and how it fails."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys

import polars as pl
import pytest

import balanceroute_opt as bro

SMALL = ("--workers", "3", "--slots", "6")
N = ("--n", "80", *SMALL)
CSV = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:00:{i:02d}.0000000,{100 + 37 * i % 90},{5 + i % 7}\n" for i in range(60)
)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(CSV)
    return path


# The frame


def test_module_is_the_command_and_help_is_light():
    code = (
        "import sys, runpy; sys.argv = ['x', 'compare', '--help']\n"
        "try: runpy.run_module('balanceroute_opt', run_name='__main__')\n"
        "except SystemExit as exc: assert not exc.code\n"
        "heavy = {'numpy', 'numba', 'polars', 'rich', 'joblib', 'scipy', 'ortools', 'highspy', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: balanceroute compare")


@pytest.mark.parametrize("command", ["compare", "simulate", "bound", "solve", "check", "routers"])
def test_every_command_has_help(run, command):
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert f"usage: balanceroute {command}" in out
    assert run("help", command)[1] == out


def test_version(run):
    assert run("--version") == (0, f"balanceroute_opt {bro.__version__}\n", "")


def test_without_a_command_the_list_is_shown(run):
    status, out, err = run()
    assert status == 2
    assert "compare" in out
    assert err.startswith("balanceroute: no command given")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["comapre"], "unknown command 'comapre'; did you mean compare?"),
        (["compare", "--utilisation", "1"], "unknown option --utilisation; did you mean --utilization?"),
        (["compare", "--worker", "8"], "unknown option --worker; did you mean --workers?"),
        (["compare", "a.csv", "b.csv"], "unexpected argument 'b.csv'"),
        (["compare", "--workers", "many"], "argument --workers: invalid int value: 'many'"),
        (["check"], "the following arguments are required: FILE"),
    ],
)
def test_typing_errors(fails, argv, message):
    assert message in fails(*argv)


def test_interruption_is_status_one(run, monkeypatch, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("balanceroute_opt.experiments.comparison.simulate", interrupted)
    paths = ("--csv", tmp_path / "t.csv", "--certificates", tmp_path / "proofs")
    assert run("compare", *N, "--routers", "jsq", *paths) == (1, "", "balanceroute: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_interruption_while_writing_leaves_the_old_file(run, monkeypatch, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def interrupted(self, file):
        file.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pl.DataFrame, "write_csv", interrupted)
    assert run("compare", *N, "--routers", "jsq", "--csv", path, "--force")[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert path.read_text() == "old"


def test_reader_that_goes_away_is_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from balanceroute_opt.cli import main; sys.exit(main(['check', sys.argv[1]]))"
    bro.write_instance(bro.Instance([0], [1], [1]), tmp_path / "x.json", cluster=bro.Cluster(1, 1))
    argv = [sys.executable, "-c", code, str(tmp_path / "x.json")]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


# compare


def test_compare_prints_one_table(run, trace):
    status, out, err = run("compare", trace, *SMALL, "--utilization", "1.1", "--routers", "jsq,br-0,least-kv")
    assert (status, err) == (0, "")
    assert out.startswith("trace: 60 requests, wall clock, utilization 1.1\n3 workers x 6 slots, no KV limit, step ")
    assert "a single replay of one trace" in out
    assert "above the best" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100


def test_compare_json_is_one_object(run):
    argv = ("compare", *N, "--routers", "jsq,random", "--seeds", "3", "--window", "0.1-0.9", "--bounds", "fluid,item")
    status, out, err = run(*argv, "--json")
    assert (status, err) == (0, "")
    data = json.loads(out, parse_constant=lambda text: pytest.fail(text))
    assert data["window"] == [0.1, 0.9]
    assert sorted(len(row["seeds"]) for row in data["rows"]) == [1, 3]
    assert all(row["verified"] for row in data["rows"])
    assert run(*argv, "--json", "--jobs", "2")[1] == out


def test_compare_writes_tables_and_proofs(run, tmp_path):
    files = [tmp_path / name for name in ("t.csv", "t.parquet", "proofs")]
    argv = (
        "compare",
        *N,
        "--routers",
        "jsq,random",
        "--csv",
        files[0],
        "--parquet",
        files[1],
        "--certificates",
        files[2],
    )
    assert run(*argv)[0] == 0
    assert pl.read_csv(files[0])["router"].sort().to_list() == ["jsq", "random"]
    assert pl.read_parquet(files[1])["verified"].all()
    status, out, _ = run("check", files[2])
    assert status == 0
    assert len(re.findall(r"^(jsq|random)\.seed0: Certificate .* \(certified\)\.$", out, re.MULTILINE)) == 2
    assert run("check", files[2], "--json")[0] == 0


def test_compare_uses_the_cluster_of_an_instance_file(run, tmp_path):
    bro.write_instance(bro.Instance([0, 0], [5, 6], [3, 3]), tmp_path / "x.json", cluster=bro.Cluster(2, 7))
    assert "\n2 workers x 7 slots" in run("compare", tmp_path / "x.json", "--routers", "jsq")[1]
    assert "\n1 workers x 7 slots" in run("compare", tmp_path / "x.json", "--routers", "jsq", "--workers", "1")[1]


def test_sort_and_further_columns(run):
    argv = ("compare", *N, "--routers", "jsq,lpt,random", "--sort", "wait_p99", "--metrics", "energy,peak_sum")
    out = run(*argv)[1]
    assert "energy" in out
    rows = bro.compare(
        bro.generate("bfio", n=80, seed=0).scaled_to(bro.Cluster(3, 6), 0.9), bro.Cluster(3, 6), "jsq,lpt,random"
    ).sorted("wait_p99")
    shown = [line.split()[0] for line in out.splitlines() if re.match(r" ?(jsq|lpt|random) +\d", line)]
    assert shown == [row["router"] for row in rows]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--routers", "jqs"], "unknown router 'jqs'; did you mean jsq?; known: br-0"),
        (["--routers", "jsq,,lpt"], "names separated by commas"),
        (["--metrics", "exces"], "unknown metric 'exces'; did you mean excess?; metrics: imbalance_sum"),
        (["--sort", "speed"], "unknown metric 'speed'"),
        (["--window", "0.9-0.1"], "argument --window: must be all, loaded or fractions such as 0.1-0.9, got '0.9-0.1'"),
        (["--bounds", "magic"], "unknown method 'magic'; methods: fluid, item"),
        (["--utilization", "0"], "--utilization must be > 0, got 0"),
        (["--utilization", "-1"], "--utilization must be > 0, got -1"),
        (["--utilization", "nan"], "--utilization must be > 0, got nan"),
        (["--workers", "0"], "workers must be >= 1, got 0"),
        (["--slots", "-3"], "slots must be >= 1, got -3"),
        (["--kv-capacity", "10"], "request 0 needs 7430 KV tokens (prompt 6563 + output 867), more than kv_capacity"),
        (["--step-time", "bfoi"], "got 'bfoi'; did you mean bfio?; presets: bfio"),
        (["--step-time", "1,2,3,4"], "--step-time must be FIXED,PER_TOKEN[,PER_MEAN_TOKEN]"),
        (["--step-time=-1,0"], "step_time.fixed must be >= 0, got -1"),
        (["--seeds", "0"], "seeds must be >= 1, got 0"),
        (["--jobs", "0"], "jobs must be >= 1"),
        (["--seed", "-1"], "argument --seed: must be a whole number >= 0, got '-1'"),
        (["--router-seed", "x"], "argument --router-seed: must be a whole number >= 0, got 'x'"),
        (["--staleness", "-1"], "staleness must be >= 0, got -1"),
        (["--n", "0"], "n must be >= 1, got 0"),
        (["--head", "0"], "head must be >= 1, got 0"),
        (["--generate", "bfoi"], "unknown generator 'bfoi'; did you mean bfio?"),
        (["--generate", "adversarial-unit", "--clock", "wall"], "clock must be step"),
        (["--format", "azure"], "--format is about reading a trace, and none is given"),
        (["--csv", "no/such/folder/t.csv"], "is not a folder"),
        (["--csv", "same", "--parquet", "same"], "same: two outputs have this name"),
        (["--certificates", "no/such/folder"], "cannot be made"),
    ],
)
def test_bad_arguments_of_compare(fails, argv, message):
    assert message in fails("compare", *argv)


def test_existing_outputs_need_force(fails, run, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("mine")
    assert "exists already" in fails("compare", *N, "--csv", path)
    assert "is a directory" in fails("compare", *N, "--csv", tmp_path, "--force")
    assert "is not empty" in fails("compare", *N, "--certificates", tmp_path)
    assert "is not a folder" in fails("compare", *N, "--certificates", path)
    assert path.read_text() == "mine"
    assert run("compare", *N, "--routers", "jsq", "--csv", path, "--force")[0] == 0
    assert path.read_text().startswith("router,")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("header.csv", CSV.encode().splitlines(keepends=True)[0], "header"),
        ("junk.csv", bytes(range(256)) * 40, "junk.csv: "),
        ("cut.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-30], "gzip stream"),
        ("column.csv", b"TIMESTAMP,ContextTokens\n2023-11-16 18:00:00,5\n", "GeneratedTokens"),
        ("negative.csv", CSV.replace(",100,5", ",-1,5").encode(), "-1"),
        ("fraction.csv", CSV.replace(",100,5", ",1.5,5").encode(), "1.5"),
        ("nan.csv", CSV.replace(",100,5", ",nan,5").encode(), "nan"),
        ("huge.csv", CSV.replace(",100,5", ",99999999999999999999,5").encode(), "99999999999999999999"),
        ("time.csv", CSV.replace("2023-11-16 18:00:03", "yesterday").encode(), "yesterday"),
        ("falling.csv", CSV.replace("18:00:03", "17:00:03").encode(), "line 5"),
        ("zones.csv", CSV.replace("18:00:03.0000000", "18:00:03+02:00").encode(), "zone"),
        ("unknown.json", b'{"schema": "balanceroute/instance", "version": 1, "colour": 1}', 'unknown field "colour"'),
        ("newer.json", b'{"schema": "balanceroute/instance", "version": 2}', "version 2 is newer"),
    ],
)
def test_bad_workload_files(fails, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    line = (
        fails("compare", path, *SMALL, "--format", "azure") if name == "column.csv" else fails("compare", path, *SMALL)
    )
    assert name in line
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_missing_file_directory_and_wrong_format(fails, tmp_path, trace):
    assert "nofile.csv: no such file" in fails("compare", "nofile.csv")
    assert "is a directory" in fails("compare", tmp_path)
    assert "this looks like format azure" in fails("compare", trace, "--format", "mooncake")
    assert "--n makes a workload" in fails("compare", trace, "--n", "5")


def test_users_router(run, fails, tmp_path):
    path = tmp_path / "mine.py"
    head = "class Mine:\n    mode = 'immediate'\n    def bind(self, view, request):\n        return "
    path.write_text(head + "int(view.load.argmin())")
    assert f"{path}:Mine" in run("compare", *N, "--routers", f"jsq,{path}:Mine", "--json")[1]
    path.write_text(head + "float('nan')")
    assert "step 0: Mine.bind must return a worker index" in fails("compare", *N, "--routers", f"{path}:Mine")


# simulate, check, bound, routers


@pytest.mark.parametrize("name", ["r.json", "r.json.gz", "r.parquet"])
def test_simulate_save_check_bound(run, fails, tmp_path, name):
    path, proof = tmp_path / name, tmp_path / "c.json"
    status, out, err = run("simulate", *N, "--router", "least-kv", "--save", path)
    assert (status, err) == (0, "")
    assert "imbalance_range" in out
    assert "saved:" in out
    assert "exists already" in fails("simulate", *N, "--save", path)

    status, out, _ = run("bound", path, "--certificate", proof)
    assert status == 0
    assert "reproduced by the verifier" in out
    status, out, _ = run("check", path, "--certificate", proof)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("The schedule obeys every rule: 80 requests on 3 workers")
    assert lines[1].endswith("as the run states.")
    assert re.search(r"is at most \d+\.\d\d % above the optimum \(certified\)\.$", lines[2])

    data = json.loads(run("check", path, "--certificate", proof, "--json")[1])
    saved = bro.read_run(path)
    assert data["peak_sum"] == saved.peak_sum
    assert data["certificates"][0]["proved"] == bro.verify(saved.instance, saved.cluster, str(proof))


def test_check_names_the_first_broken_rule(run, fails, tmp_path):
    path = tmp_path / "r.json"
    run("simulate", *N, "--save", path)
    data = json.loads(path.read_text())
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(data | {"worker": [9, *data["worker"][1:]]}))
    assert "request 0 is on worker 9, and there are 3 workers" in fails("check", bad)
    moved = [(g + (i == 5)) % 3 for i, g in enumerate(data["worker"])]
    bad.write_text(json.dumps(data | {"worker": moved}))
    assert re.search(r"worker \d has 7 requests|the run states a largest load of", fails("check", bad))


def test_check_of_an_instance_with_a_schedule(run, fails, tmp_path):
    inst, cluster = bro.Instance([0, 0, 3], [5, 2, 4], [3, 2, 1]), bro.Cluster(2, 2)
    problem, schedule, proof = (tmp_path / name for name in ("p.json", "s.json", "c.json.gz"))
    bro.write_instance(inst, problem, cluster=cluster, start=[0, 0, 3])
    bro.write_schedule(bro.Schedule([0, 0, 3], [0, 0, 1]), schedule, inst)
    assert "more is checked" in run("check", problem)[1]
    # Worker 0: 7, 9, 7; worker 1: 4: peaks 7 + 9 + 7 + 4 = 27. Item bound: 5 + 6 + 7 + 4 = 22. 27 / 22 = 1.2273.
    assert run("bound", problem, "--certificate", proof)[0] == 0
    out = run("check", problem, "--schedule", schedule, "--certificate", proof)[1]
    assert "its peak_sum is 27 token-steps" in out
    assert "below 22, so that the schedule is at most 22.73 % above the optimum (certified)." in out
    bro.write_schedule(bro.Schedule([0, 0, 2], [0, 0, 1]), schedule, inst, force=True)
    assert "request 2 starts in step 2, before its release 3" in fails("check", problem, "--schedule", schedule)
    bro.write_instance(inst, problem, force=True)
    assert "has no cluster; give --workers and --slots" in fails("check", problem)
    assert "for cluster" in fails("check", problem, "--workers", 2, "--slots", 3, "--certificate", proof)


def test_check_of_schedule_bounds_respects_their_windows(run, tmp_path):
    inst, cluster = bro.Instance([0, 0, 0], [5, 2, 4], [3, 2, 1]), bro.Cluster(1, 2)
    problem, schedule, proof = (tmp_path / name for name in ("p.json", "s.json", "c.json"))
    bro.write_instance(inst, problem, cluster=cluster)
    bro.write_schedule(bro.Schedule([0, 0, 2], [0, 0, 0]), schedule, inst)
    for wait, sentence in (
        (2, "so that the schedule is optimal (certified)"),
        (1, "the schedule breaks these windows (certified)"),
    ):
        argv = ("bound", problem, "--problem", "schedule", "--max-wait", wait, "--certificate", proof, "--force")
        assert "start windows: max_wait" in run(*argv)[1]
        assert sentence in run("check", problem, "--schedule", schedule, "--certificate", proof)[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["check", "nofile.json"], "nofile.json: no such file"),
        (["check", "nofile.parquet"], "nofile.parquet: no such file"),
        (["check", "."], "holds no file *.instance.json.gz"),
        (["simulate", "--save", "x.txt"], "must end in .json, .json.gz, .parquet"),
        (["simulate", "--router", "br-0:foo=1"], "router br-0 has no option 'foo'"),
        (["bound"], "give --starts-from ROUTER, or --clock step"),
        (["bound", "--clock", "step"], "needs admission steps: give --starts-from ROUTER"),
        (["bound", "--max-wait", "3"], "add --problem schedule"),
        (["bound", *N, "--starts-from", "jsq", "--method", "magic"], "unknown method 'magic'"),
    ],
)
def test_bad_arguments_of_other_commands(fails, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(*argv)
    assert list(tmp_path.iterdir()) == []


def test_damaged_parquet_run_is_one_line(tmp_path):
    bro.write_run(bro.simulate(bro.Instance([0], [1], [1]), bro.Cluster(1, 1), "jsq"), tmp_path / "r.parquet")
    whole = (tmp_path / "r.parquet").read_bytes()
    (tmp_path / "r.parquet").write_bytes(whole[: len(whole) // 2] + b"\xff" * 300 + whole[-100:])
    argv = [sys.executable, "-m", "balanceroute_opt", "check", str(tmp_path / "r.parquet")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_bound_from_a_router(run, tmp_path):
    problem, proof = tmp_path / "p.json", tmp_path / "c.json"
    argv = ("bound", *N, "--starts-from", "jsq", "--save-instance", problem, "--certificate", proof, "--json")
    data = json.loads(run(*argv)[1])
    assert data["verified"]
    inst, cluster, start = bro.read_problem(problem)
    assert bro.verify(inst, cluster, str(proof)) == data["value"] == bro.placement_bound(inst, cluster, start).value
    data = json.loads(run("bound", *N, "--starts-from", "jsq", "--problem", "schedule", "--json")[1])
    assert data["windows"] == "latest"
    assert 0 <= data["above"] < 1


def test_routers_lists_all(run):
    out = run("routers")[1]
    assert all(name in out for name in bro.ROUTERS)
    assert max(map(len, out.splitlines())) <= 100
    listed = json.loads(run("routers", "--json")[1])["routers"]
    assert [row["name"] for row in listed] == list(bro.ROUTERS)
    assert all(row["mode"] in ("pooled", "immediate") and row["rule"] for row in listed)
    missing = [row["name"] for row in listed if not row["uses"] or not row["source"]]
    assert missing == []


@pytest.mark.parametrize("name", ["azure_2023_conv", "mooncake_conversation", "burstgpt_1_first400"])
def test_public_traces(run, traces, name):
    argv = ("compare", traces / f"{name}.csv.gz", "--utilization", "1.1", "--routers", "jsq,br-0", "--json")
    status, out, err = run(*argv, "--workers", "8", "--slots", "72")
    assert (status, err) == (0, "")
    rows = {row["router"]: row for row in json.loads(out)["rows"]}
    assert all(row["verified"] for row in rows.values())
    if name == "azure_2023_conv":
        assert rows["br-0"]["excess"] <= rows["jsq"]["excess"] / 3
