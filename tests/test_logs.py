"""Logs of serving systems: reading, grouping, metrics, findings, writing, and the command (docs/diagnose.md)."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import math
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import balanceroute_opt as bro
from balanceroute_opt.cli import diagnose as command
from balanceroute_opt.cli import main
from balanceroute_opt.logs import FORMATS, diagnose, log_text, read_log, scan, write_log
from balanceroute_opt.logs.picture import plot_log
from balanceroute_opt.metrics import METRICS
from balanceroute_opt.schedule import active_steps

DATA = Path(__file__).parent / "data" / "logs"


def vllm(time: str, engine: int, running: int, waiting: int = 0, usage: float = 10.0, pid: int | None = 7) -> str:
    prefix = f"(APIServer pid={pid}) " if pid else ""
    return (
        f"{prefix}INFO {time} [loggers.py:259] Engine {engine:03d}: Avg prompt throughput: 0.0 tokens/s, "
        f"Avg generation throughput: 100.0 tokens/s, Running: {running} reqs, Waiting: {waiting} reqs, "
        f"GPU KV cache usage: {usage}%, Prefix cache hit rate: 0.0%\n"
    )


def sglang(time: str, rank: int | None, running: int, tokens: int, queue: int = 0, tags: str = " TP0") -> str:
    dp = "" if rank is None else f" DP{rank}"
    return (
        f"[{time}{dp}{tags}] Decode batch. #running-req: {running}, #token: {tokens}, token usage: 0.10, "
        f"cuda graph: True, gen throughput (token/s): 50.00, #queue-req: {queue}\n"
    )


def gauges(engines: dict[int, tuple[int, int, float]], name: str = "kv_cache_usage_perc") -> str:
    lines = ["# HELP vllm:num_requests_running Number of requests.", "python_gc_objects_collected_total 4.0"]
    for gauge, at in (("num_requests_running", 0), ("num_requests_waiting", 1), (name, 2)):
        lines += [f'vllm:{gauge}{{engine="{e}",model_name="a b"}} {float(v[at])}' for e, v in engines.items()]
    lines.append('vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 72.0')
    return "\n".join(lines) + "\n"


@pytest.fixture
def make(tmp_path):
    """Writes texts as files and returns their paths."""

    def write(*texts: str | bytes, name: str = "engine{}.log") -> list[Path]:
        paths = [tmp_path / name.format(i) for i in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return paths

    return write


def columns(log: bro.logs.Log) -> list[tuple]:
    return log.table.rows()


# --- the lines of the logs page -------------------------------------------------------------------------------------


def test_page_lines_of_the_vllm_log():
    log = bro.read_log(DATA / "pages.vllm.log")
    assert (log.format, log.unit, log.start, log.ranks) == ("vllm", "share", "05-28 13:46:18", ("0", "1", "3"))
    # From 05-28 13:46:18 to 07-27 22:30:35 are 60 days, 8 h, 44 min and 17 s.
    later = 60 * 86400 + 8 * 3600 + 44 * 60 + 17
    assert columns(log) == [(0.0, 0, 23, 4, 0.615), (0.0, 1, 19, 0, 0.224), (later, 3, 20, 0, 0.503)]
    assert log.table.columns == ["time", "rank", "running", "waiting", "load"]
    assert any("rank 2 never reports" in note for note in log.notes)
    # Engine 3 had not reported yet at the first moment: empty. 0 and 1 are unknown at the second: left out.
    assert log.moments.complete.tolist() == [True, False]
    metrics = log.metrics()
    assert metrics["imbalance_range"] == pytest.approx(0.615)
    assert metrics["excess"] == pytest.approx(0.615 / ((0.615 + 0.224) / 3) - 1)
    assert metrics["max_over_min_requests_p50"] == math.inf


def test_page_lines_of_the_vllm_metrics():
    log = read_log(DATA / "pages.metrics.txt")
    assert (log.format, log.unit, log.start) == ("vllm-metrics", "share", "2026-05-28 12:53:45")
    assert columns(log) == [(0.0, 0, 8, 0, 0.4127), (0.0, 1, 5, None, 0.1093)]
    assert log.metrics()["max_over_min_requests_p95"] == 8 / 5


def test_page_lines_of_the_sglang_log():
    log = read_log(str(DATA / "pages.sglang.log"))
    assert (log.format, log.unit, log.start) == ("sglang", "tokens", "2026-04-08 14:05:21")
    assert columns(log) == [(0.0, 0, 15, 1, 20800), (0.0, 1, 14, 0, 9377)]
    metrics = log.metrics()
    assert metrics["imbalance_range"] == 20800 - 9377
    assert metrics["imbalance_gap"] == (20800 - 9377) / 2
    assert metrics["peak_sum"] == 20800


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_by_hand(make):
    text = "".join(
        sglang(f"2026-01-01 00:00:{10 * k:02d}", g, n, t)
        for k, row in enumerate([[(2, 30), (2, 10)], [(1, 20), (3, 20)], [(1, 5), (1, 15)]])
        for g, (n, t) in enumerate(row)
    )
    log = read_log(make(text))
    assert log.interval == 10
    got = log.metrics(step_time=bro.StepTime(fixed=1.0, per_token=0.1, per_mean_token=0.2))
    # max 30, 20, 15; min 10, 20, 5; mean 20, 20, 10
    assert got["imbalance_range"] == (20 + 0 + 10) / 3
    assert got["imbalance_gap"] == (10 + 0 + 5) / 3
    assert got["imbalance_sum"] == (20 + 0 + 10) / 3
    assert got["excess"] == pytest.approx(65 / 50 - 1)
    assert got["idle"] == pytest.approx((1 / 3 + 0 + 1 / 3) / 3)
    # max/min of loads 3, 1, 3; of requests 1, 3, 1: sorted 1, 1, 3, the 90th percentile is at position 1.8
    assert got["max_over_min_load_p50"] == 3
    assert got["max_over_min_requests_p50"] == 1
    assert got["max_over_min_requests_p90"] == pytest.approx(1 + 0.8 * 2)
    assert (got["steps"], got["peak_sum"], got["unit"]) == (3, 65, "tokens")
    # tau = 1 + 3 + 4, 1 + 2 + 4, 1 + 1.5 + 2; 10 tokens
    assert got["decode_time"] == pytest.approx(8 + 7 + 4.5)
    assert got["throughput"] == pytest.approx(10 / 19.5)
    power = [(400 + 100 + 300 * (1 / 3) ** 0.7, 8), (800, 7), (400 + 100 + 300 * (1 / 3) ** 0.7, 4.5)]
    assert got["energy"] == pytest.approx(sum(p * tau for p, tau in power))
    assert set(got) - {"unit", "window"} <= set(METRICS)
    found = diagnose(log, step_time=bro.StepTime(1.0, 0.1, 0.2))
    assert found.wasted == pytest.approx(15 / 65)
    # every rank at the mean saves 0.1 * (10 + 0 + 5) seconds
    assert found.estimate.balanced == pytest.approx(10 / 18)
    assert found.estimate.gain == pytest.approx(19.5 / 18 - 1)
    assert found.estimate.barrier_share == pytest.approx(1.5 / 19.5)
    assert found.excess_requests == pytest.approx(6 / 5 - 1)
    assert found.reported == 100
    assert [r.relative for r in found.ranks] == [pytest.approx(55 / 50), pytest.approx(45 / 50)]
    # ties go to the lower rank
    assert [r.heaviest for r in found.ranks] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]


def test_window_takes_a_part_of_the_active_moments(make):
    text = "".join(sglang(f"2026-01-01 00:0{k}:00", g, 1, 10 * (k + 1) * (g + 1)) for k in range(4) for g in (0, 1))
    log = read_log(make(text))
    assert log.metrics((0.5, 1.0))["imbalance_range"] == 35
    with pytest.raises(bro.InputError, match="last request was admitted"):
        log.metrics("loaded")
    with pytest.raises(bro.InputError, match="window must be"):
        log.metrics((0.5, 0.5))


def steps_of(run: bro.Run) -> dict[str, np.ndarray]:
    """Every step of a run as samples: each worker's load and requests, those in the pool waiting with worker 0."""
    inst, sched, workers = run.instance, run.schedule, run.cluster.workers
    position, steps = active_steps(sched.start, inst.output)
    running, load = np.zeros((2, len(steps), workers), np.int64)
    for at, g, s, o in zip(position, sched.worker, inst.prompt, inst.output, strict=True):
        running[at : at + o, g] += 1
        load[at : at + o, g] += s + np.arange(o)
    waiting = np.zeros((len(steps), workers), np.int64)
    waiting[:, 0] = ((inst.release <= steps[:, None]) & (sched.start > steps[:, None])).sum(axis=1)
    return {
        "time": np.repeat(0.035 * np.arange(len(steps)), workers),
        "rank": np.tile(np.arange(workers), len(steps)),
        "running": running.ravel(),
        "waiting": waiting.ravel(),
        "load": load.ravel(),
    }


@pytest.fixture(scope="module")
def simulated() -> bro.Run:
    rng = np.random.default_rng(5)
    inst = bro.Instance(
        release=np.sort(rng.integers(0, 500, 300)),
        prompt=rng.lognormal(5, 1, 300).astype(int) + 1,
        output=rng.lognormal(3, 0.7, 300).astype(int) + 1,
    )
    return bro.simulate(inst, bro.Cluster(workers=4, slots=8), "jsq")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("compress", [False, True])
def test_log_of_simulated_engines_gives_the_simulators_metrics(simulated, tmp_path, format, compress):
    run, capacity = simulated, 60_000
    path = tmp_path / "engines.log"
    write_log(steps_of(run), format, path, kv_capacity=capacity)
    if compress:
        path.write_bytes(gzip.compress(path.read_bytes()))
    log = read_log(path, kv_capacity=capacity if format == "vllm-metrics" else None)
    assert len(log.moments) == len(run.steps)
    assert log.moments.complete.all()
    got, want = log.metrics(step_time=run.cluster.step_time), run.metrics()
    if format != "vllm":
        assert {name: got[name] for name in got if name in METRICS} == {
            name: want[name] for name in got if name in METRICS
        }
        np.testing.assert_array_equal(log.moments.load.max(axis=1), run.peak_loads)
    else:
        # Usage is printed to 0.1 %: loads are exact to capacity / 2000.
        rounding = capacity / 2000 + 1
        assert np.abs(log.moments.load.max(axis=1) - run.peak_loads).max() <= rounding
        for name in ("imbalance_range", "imbalance_gap"):
            assert got[name] == pytest.approx(want[name], abs=2 * rounding)
        assert got["excess"] == pytest.approx(want["excess"], rel=0.02)
        assert got["throughput"] == pytest.approx(want["throughput"], rel=0.02)
        for q in (50, 90, 95):
            assert got[f"max_over_min_requests_p{q}"] == want[f"max_over_min_requests_p{q}"]


# --- grouping in time -------------------------------------------------------------------------------------------------


def moments(log: bro.logs.Log) -> list[list[str]]:
    """Ranks that report at each moment."""
    return [[log.ranks[g] for g in np.flatnonzero(row)] for row in log.moments.present]


def test_moment_ends_when_a_rank_reports_again(make):
    at = "2026-01-01 00:00:00"
    log = read_log(make("".join(sglang(at, g, 1, 5) for g in (0, 1, 1, 0, 0, 1))))
    assert moments(log) == [["0", "1"]] * 3


def test_moment_ends_after_three_quarters_of_the_interval(make):
    lines = [
        vllm(f"05-28 00:00:{10 * k:02d}", g, 1) for k in range(6) for g in (0, 1) if (k, g) not in ((2, 1), (3, 0))
    ]
    log = read_log(make("".join(lines)))
    assert log.interval == 10
    assert moments(log) == [["0", "1"], ["0", "1"], ["0"], ["1"], ["0", "1"], ["0", "1"]]
    # Reports 9 s apart fall together if one says that a rank reports every 20 s.
    assert moments(read_log(make(vllm("05-28 00:00:00", 0, 1) + vllm("05-28 00:00:09", 1, 1)), interval=20)) == [
        ["0", "1"]
    ]


def test_ranks_that_report_out_of_phase_are_one_moment(make):
    # Rank 1 reports 9 s after rank 0: from its first report on it is 1 s before the next one of rank 0.
    lines = [(10 * k + d, g) for k in range(5) for g, d in ((0, 0), (1, 9))]
    log = read_log(make("".join(vllm(f"05-28 00:00:{s:02d}", g, 1) for s, g in lines)))
    assert moments(log) == [["0"], *[["0", "1"]] * 4, ["1"]]


def test_files_of_several_ranks_interleave_within_a_second(make):
    at = "2026-01-01 00:00:00"
    paths = make(*("".join(sglang(at, g, k + 1, 10) for k in range(3)) for g in (0, 1)))
    log = read_log(paths)
    assert log.moments.running.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_files_of_one_rotated_log_are_one_system(make):
    old = "".join(vllm(f"05-28 00:00:{s:02d}", g, 1) for s in (0, 10, 20) for g in (0, 1))
    new = "".join(vllm(f"05-28 00:00:{s:02d}", g, 2) for s in (20, 30) for g in (0, 1))
    first, second = make(old, new)
    log = read_log([second, first])
    assert log.ranks == ("0", "1")
    assert len(log.moments) == 5


def test_same_numbers_in_files_side_by_side_are_different_ranks(make):
    paths = make(*("".join(vllm(f"05-28 00:00:{s:02d}", 0, n) for s in (0, 10, 20)) for n in (1, 5)))
    log = read_log(paths)
    assert log.ranks == ("engine0.log:0", "engine1.log:0")
    assert log.moments.running.tolist() == [[1, 5]] * 3
    assert "ranks of their own, 2 in all" in log.notes[0]


def test_interleaved_processes_with_the_same_number_are_different_ranks(make):
    text = "".join(vllm(f"05-28 00:00:{s:02d}", 0, n, pid=n) for s in (0, 10, 20) for n in (41, 42))
    log = read_log(make(text))
    assert log.ranks == ("pid 41:0", "pid 42:0")
    assert log.moments.running.tolist() == [[41, 42]] * 3


def test_restarted_process_keeps_its_rank(make):
    text = "".join(vllm(f"05-28 00:{m:02d}:00", g, 1, pid=m // 3) for m in range(6) for g in (0, 1))
    assert read_log(make(text)).ranks == ("0", "1")


def test_one_file_per_rank_without_numbers(make):
    paths = make(*("".join(sglang(f"2026-01-01 00:00:{s:02d}", None, n, 10) for s in (0, 10)) for n in (3, 4)))
    log = read_log(paths)
    assert log.ranks == ("engine0.log", "engine1.log")
    assert log.moments.running.tolist() == [[3, 4]] * 2


def test_rank_per_file_overrides_the_numbers(make):
    # Two servers, logged one after the other: told apart only on request.
    paths = make(vllm("05-28 00:00:00", 0, 1), vllm("05-28 00:01:00", 0, 2))
    assert read_log(paths, rank_per_file=True, interval=100).ranks == ("engine0.log:0", "engine1.log:0")
    with pytest.raises(bro.InputError, match="one rank only"):
        read_log(paths)


def test_scrapes_in_files_of_their_own(make):
    texts = [gauges({0: (k, 0, 0.1), 1: (2 * k, 1, 0.2)}) for k in (1, 2, 3)]
    log = read_log(make(*texts, name="scrape{}.prom"))
    assert log.start is None
    assert log.moments.running.tolist() == [[1, 2], [2, 4], [3, 6]]
    assert columns(log)[0] == (0.0, 0, 1, 0, 0.1)


def test_scrapes_without_times_end_when_a_gauge_comes_again(make):
    text = "".join(gauges({0: (k, 0, 0.1), 1: (2 * k, 1, 0.2)}, "gpu_cache_usage_perc") for k in (1, 2))
    log = read_log(make(text))
    assert log.moments.running.tolist() == [[1, 2], [2, 4]]
    assert log.counts["half"] == 0


def test_scrape_times_from_lines_epochs_and_timestamps(make):
    page = gauges({0: (1, 0, 0.1), 1: (2, 1, 0.2)})
    log = read_log(make(f"2026-05-28T12:00:00Z\n{page}# 2026-05-28 12:00:15\n{page}1779969630.5\n{page}"))
    assert log.moments.time.tolist() == [0, 15, 30.5]
    stamped = re.sub(r"(?m)^(vllm:.*)$", r"\1 1779969600000", page) + re.sub(
        r"(?m)^(vllm:.*)$", r"\1 1779969615000", page
    )
    assert read_log(make(stamped)).moments.time.tolist() == [0, 15]


def test_instances_of_a_federated_scrape_are_different_ranks(make):
    text = "".join(
        f'vllm:{gauge}{{engine="0",instance="10.0.0.{i}:8000"}} {v}\n'
        for gauge, v in (("num_requests_running", 3), ("kv_cache_usage_perc", 0.5))
        for i in (1, 2)
    )
    assert read_log(make(text)).ranks == ("10.0.0.1:8000:0", "10.0.0.2:8000:0")


# --- silence ----------------------------------------------------------------------------------------------------------


def silent_log(make, gaps: set[tuple[int, int]], last: dict[tuple[int, int], int] | None = None, **kwargs):
    text = "".join(
        vllm(f"05-28 00:{k:02d}:00", g, (last or {}).get((k, g), 5))
        for k in range(8)
        for g in (0, 1)
        if (k, g) not in gaps
    )
    return read_log(make(text), **kwargs)


def test_lone_gap_is_unknown(make):
    log = silent_log(make, {(4, 1)})
    assert log.moments.complete.tolist() == [True] * 4 + [False] + [True] * 3
    assert diagnose(log).incomplete == 1
    assert [r.silent for r in diagnose(log).ranks] == [0, 1]


def test_silence_is_empty_after_a_report_of_nothing_or_when_long(make):
    # Engines with nothing to do print nothing.
    log = silent_log(make, {(4, 1)}, {(3, 1): 0})
    assert log.moments.complete.all()
    assert log.moments.running[4].tolist() == [5, 0]
    assert silent_log(make, {(4, 1), (5, 1)}).moments.complete.all()
    assert silent_log(make, {(0, 1)}).moments.complete.all()


def test_silence_as_told(make):
    gaps = {(4, 1), (6, 1), (7, 1)}
    assert silent_log(make, gaps, missing="empty").moments.complete.all()
    assert silent_log(make, gaps, missing="skip").moments.complete.sum() == 5


def test_missing_engine_of_a_scrape_is_always_unknown(make):
    both, one = {0: (1, 0, 0.1), 1: (0, 0, 0.0)}, {0: (1, 0, 0.1)}
    text = "".join(f"2026-05-28 12:00:{10 * k:02d}\n{gauges(g)}" for k, g in enumerate((both, one, one, both)))
    assert read_log(make(text)).moments.complete.tolist() == [True, False, False, True]


def test_number_of_ranks_adds_idle_ones(make):
    text = vllm("05-28 00:00:00", 0, 4, usage=20.0)
    log = read_log(make(text), ranks=4)
    assert log.ranks == ("0", "1", "2", "3")
    assert log.metrics()["excess"] == pytest.approx(3)
    with pytest.raises(bro.InputError, match="rank 5 reports, and ranks = 4"):
        read_log(make(vllm("05-28 00:00:00", 5, 4)), ranks=4)


# --- times ------------------------------------------------------------------------------------------------------------


def test_years_that_are_not_printed_move_on(make):
    days = ["2024-06-30", "2024-12-30", "2025-01-01", "2025-05-28", "2025-10-01", "2026-01-02", "2026-05-28"]
    log = read_log(make("".join(vllm(f"{d[5:]} 23:00:00", g, 1) for d in days for g in (0, 1))))
    want = [(datetime.fromisoformat(d) - datetime(2024, 6, 30)).total_seconds() for d in days]
    assert log.moments.time.tolist() == want
    assert log.start == "06-30 23:00:00"


def test_leap_day(make):
    log = read_log(make("".join(vllm(f"{d} 00:00:00", g, 1) for d in ("02-28", "02-29", "03-01") for g in (0, 1))))
    assert log.moments.time.tolist() == [0, 86400, 2 * 86400]
    # After a new year our guess is 2025, which has none: counted as a record without a date, not moved by years.
    log = read_log(make("".join(vllm(f"{d} 00:00:00", g, 1) for d in ("12-31", "02-29", "03-01") for g in (0, 1))))
    assert log.moments.time.tolist() == [0, 60 * 86400]
    assert log.counts["half"] == 2


def test_new_year_is_one_day_later(make):
    log = read_log(make("".join(vllm(d, g, 1) for d in ("12-31 23:59:55", "01-01 00:00:05") for g in (0, 1))))
    assert log.moments.time.tolist() == [0, 10]


def test_new_year_in_files_of_two_ranks(make):
    paths = make(*("".join(vllm(d, g, 1) for d in ("12-31 23:59:55", "01-01 00:00:05")) for g in (0, 1)))
    log = read_log(paths)
    assert log.moments.time.tolist() == [0, 10]
    assert log.moments.complete.all()


def test_impossible_date_counts_as_cut(make):
    text = vllm("05-28 00:00:00", 0, 1) + vllm("05-28 00:00:00", 1, 1) + vllm("13-45 00:00:00", 1, 1)
    assert read_log(make(text)).counts["half"] == 1


def test_log_without_times_counts_reports(make):
    text = re.sub(r"INFO [^\[]*", "INFO ", "".join(vllm("05-28 00:00:00", g, k) for k in (1, 2, 3) for g in (0, 1)))
    log = read_log(make(text))
    assert log.start is None
    assert log.moments.running.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_milliseconds_years_and_container_prefixes(make):
    text = "".join(
        f'{{"log":"2026-10-07T22:01:1{s}.999Z stderr F '
        + vllm(f"2026-10-07 22:01:1{s},250", g, 1).strip()
        + '\\n","stream":"stderr"}\n'
        for s in (1, 5)
        for g in (0, 1)
    )
    log = read_log(make(text))
    assert log.moments.time.tolist() == [0, 4]
    assert log.start == "2026-10-07 22:01:11"


# --- loads and capacity -----------------------------------------------------------------------------------------------

SIZE = "(EngineCore{} pid=9) INFO 05-28 00:00:00 [kv_cache_utils.py:1286] GPU KV cache size: {} tokens\n"


def test_capacity_line_turns_shares_into_tokens(make):
    text = (
        SIZE.format("", "38,144") + vllm("05-28 00:00:00", 0, 1, usage=61.5) + vllm("05-28 00:00:00", 1, 1, usage=22.4)
    )
    log = read_log(make(text))
    assert (log.unit, log.kv_capacity) == ("tokens", 38144)
    assert log.load.tolist() == [round(0.615 * 38144), round(0.224 * 38144)]
    assert log.table["load"].dtype.is_integer()


def test_capacity_given_overrides_and_is_checked(make):
    paths = make(SIZE.format("", "100") + vllm("05-28 00:00:00", 0, 1) + vllm("05-28 00:00:00", 1, 1))
    assert read_log(paths, kv_capacity=1000).load.tolist() == [100, 100]
    for bad in (0, -1, 1.5):
        with pytest.raises(bro.InputError, match="kv_capacity"):
            read_log(paths, kv_capacity=bad)


def test_capacity_of_each_engine(make):
    text = SIZE.format("_DP0", "1,000") + SIZE.format("_DP1", "2,000")
    log = read_log(make(text + vllm("05-28 00:00:00", 0, 1) + vllm("05-28 00:00:00", 1, 1)))
    assert log.load.tolist() == [100, 200]
    assert log.kv_capacity is None


def test_capacity_of_a_part_leaves_shares_and_says_so(make):
    text = SIZE.format("_DP0", "1,000") + SIZE.format("_DP1", "2,000")
    log = read_log(make(text + "".join(vllm("05-28 00:00:00", g, 1) for g in (0, 1, 2))))
    assert log.unit == "share"
    assert "capacity is known for some samples only" in log.notes[0]


def test_capacity_line_of_one_file_serves_all(make):
    log = read_log(make(SIZE.format("", "1,000") + vllm("05-28 00:00:00", 0, 1), vllm("05-28 00:00:00", 1, 1)))
    assert log.load.tolist() == [100, 100]


def test_capacities_of_nobody_in_particular(make):
    ranks = vllm("05-28 00:00:00", 0, 1) + vllm("05-28 00:00:00", 1, 1)
    unclear = read_log(make(SIZE.format("", "1,000") + SIZE.format("", "2,000") + ranks))
    assert unclear.load.tolist() == [200, 200]
    assert "(1,000 .. 2,000) are printed without their ranks" in unclear.notes[0]
    # A restart with another capacity is clear.
    later = ranks.replace("00:00:00", "00:00:30")
    restarted = read_log(make(SIZE.format("", "1,000") + ranks + SIZE.format("", "2,000") + later))
    assert restarted.load.tolist() == [100, 100, 200, 200]
    assert restarted.notes == ()


def test_step_time_needs_tokens(make):
    log = read_log(make(vllm("05-28 00:00:00", 0, 1) + vllm("05-28 00:00:00", 1, 1)))
    with pytest.raises(bro.InputError, match="loads in tokens, and this log has share: give the capacity"):
        log.metrics(step_time=bro.StepTime(0.1, 0.1))


def test_hybrid_models_of_sglang(make):
    text = "".join(
        f"[2026-01-01 00:00:00 DP{g} TP{g}] Decode batch, #running-req: 1, #full token: {95186 + g}, "
        f"full token usage: 0.36, "
        f"#swa token: 7, swa token usage: 0.10, mamba num: 2, mamba usage: 0.03, accept len: 2.83, cuda graph: True, "
        f"gen throughput (token/s): 0.14, #queue-req: {g}\n"
        for g in (0, 1)
    )
    log = read_log(make(text))
    assert columns(log) == [(0.0, 0, 1, 0, 95186), (0.0, 1, 1, 1, 95187)]
    shares = read_log(make(re.sub(r"#full token: \d+, ", "", text)))
    assert (shares.unit, shares.load.tolist()) == ("share", [0.36, 0.36])


def test_other_lines_of_sglang(make):
    text = (
        "[2026-01-01 00:00:00 DP0 TP0] max_total_num_tokens=480406, chunked_prefill_size=8192\n"
        + sglang("2026-01-01 00:00:00", 0, 1, 100).replace("Decode batch.", "Decode batch [51341],")
        + sglang("2026-01-01 00:00:00", 1, 2, 200)
        + sglang("2026-01-01 00:00:00", 1, 2, 200, tags=" TP1")
        + "[2026-01-01 00:00:00 DP0 TP0] Decode batch size is 7\n"
    )
    log = read_log(make(text))
    assert log.load.tolist() == [100, 200]
    assert (log.counts["copies"], log.counts["half"]) == (1, 0)


def test_metrics_without_kv_usage_judge_requests_only(make):
    text = gauges({0: (6, 0, 0.1), 1: (2, 0, 0.1)})
    log = read_log(make("\n".join(line for line in text.split("\n") if "usage" not in line)))
    assert log.unit is None
    got = log.metrics()
    assert got["max_over_min_requests_p50"] == 3
    assert "excess" not in got
    assert diagnose(log).findings[0].rule == "requests-uneven"


# --- dirt -------------------------------------------------------------------------------------------------------------


def test_colours(make):
    text = "".join(
        f"\x1b[0;36m(APIServer pid=7)\x1b[0;0m \x1b[32m{vllm('05-28 00:00:00', g, g + 1)}\x1b[0m" for g in (0, 1)
    )
    assert read_log(make(text)).running.tolist() == [1, 2]


@pytest.mark.parametrize(
    "line", [vllm("05-28 00:00:00", 1, 22, 5, 61.5), sglang("2026-01-01 00:00:00", 1, 22, 9377, 3)]
)
def test_cut_record_is_counted_and_never_guessed(make, line):
    make_line = vllm if "Engine" in line else sglang
    time = "05-28 00:00:00" if "Engine" in line else "2026-01-01 00:00:00"
    whole = make_line(time, 0, 1, 1) + make_line(time, 1, 1, 1)
    other = "(EngineCore pid=3) INFO 05-28 00:00:00 [core.py:1] something else\n"
    full = line.rstrip("\n")
    for cut in range(len(full)):
        log = read_log(make(whole + full[:cut] + other + full[cut:] + "\n"))
        head = full[:cut]
        if "Avg prompt throughput: " in head or "Decode batch." in head:
            assert log.counts["half"] == 1 or set(log.running.tolist()) == {1, 22}, cut
        assert set(log.running.tolist()) <= {1, 22}
        assert set(log.waiting.tolist()) <= {0, 1, 3, 5}


def test_records_glued_into_one_line(make):
    a, b = vllm("05-28 00:00:00", 0, 1).strip(), vllm("05-28 00:00:00", 1, 2).strip()
    assert read_log(make(a + b + "\r\n")).running.tolist() == [1, 2]
    # The first is cut by the second: its numbers are not those of the second.
    log = read_log(make(a + "\n" + a[:150] + b + "\n"))
    assert log.running.tolist() == [1, 2]
    assert log.counts["half"] == 1
    a, b = sglang("2026-01-01 00:00:00", 0, 1, 5).strip(), sglang("2026-01-01 00:00:00", 1, 2, 6).strip()
    log = read_log(make(a + b + a[:80] + b + "\n"))
    assert log.running.tolist() == [1, 2, 2]
    assert log.counts["half"] == 1


def test_block_borders_do_not_matter(make, monkeypatch):
    noise = "INFO 05-28 00:00:00 nothing\n" * 3
    text = "".join(noise + vllm(f"05-28 00:00:{k:02d}", g, k) for k in range(20) for g in (0, 1))
    page = "".join(f"2026-05-28 12:00:{k:02d}\n{noise}{gauges({0: (k, 0, 0.1), 1: (1, 1, 0.2)})}" for k in range(20))
    for content in (text, page):
        path = make(content)[0]
        want = columns(read_log(path))
        for block in (7, 64, 333, 1000, 4096):
            monkeypatch.setattr(scan, "_BLOCK", block)
            assert columns(read_log(path)) == want
        monkeypatch.undo()


def test_line_without_an_end_is_read_in_bounded_memory():
    class Endless:
        left = 30

        def read(self, size: int) -> bytes:
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    kept = [len(block) for block in scan._blocks(Endless())]
    assert sum(kept) <= scan._TAIL


def naive(path: Path) -> list[tuple[int, int, int, float]]:
    """One regular expression per line: the obvious reader."""
    pattern = re.compile(r"Engine (\d+): .*Running: (\d+) reqs, Waiting: (\d+) reqs, GPU KV cache usage: ([\d.]+)%")
    with path.open() as lines:
        found = (pattern.search(line) for line in lines)
        return [(int(m[1]), int(m[2]), int(m[3]), float(f"{m[4]}e-2")) for m in found if m]


def test_fast_reader_equals_the_obvious_one(make):
    rng = np.random.default_rng(3)
    lines = []
    for k in range(300):
        lines += [f"INFO: request {rng.integers(10**9)} Engine done, Running late\n"] * int(rng.integers(0, 20))
        lines += [
            vllm(
                f"05-28 {k // 60:02d}:{k % 60:02d}:00",
                g,
                int(rng.integers(50)),
                int(rng.integers(9)),
                rng.integers(1000) / 10,
            )
            for g in range(4)
        ]
    path = make("".join(lines))[0]
    log = read_log(path)
    got = list(zip(log.rank.tolist(), log.running.tolist(), log.waiting.tolist(), log.load.tolist(), strict=True))
    assert got == naive(path)


# --- files and errors -------------------------------------------------------------------------------------------------

GOOD = "".join(vllm(f"05-28 00:00:{s:02d}", g, 1) for s in (0, 10) for g in (0, 1))


def test_compressed_files_and_standard_input(make, monkeypatch):
    import zstandard

    for data in (gzip.compress(GOOD.encode()), zstandard.compress(GOOD.encode())):
        assert len(read_log(make(data))) == 4
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert len(read_log("-")) == 4
    with pytest.raises(bro.InputError, match="can be given once"):
        read_log(["-", "-"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "engine0.log: empty"),
        (b"\0\x01\xff" * 1000, "no line of a known format; known are: vLLM engine log .*vLLM metrics .*SGLang log"),
        ("INFO: nothing here\n", "no line of a known format"),
        (gzip.compress(GOOD.encode() * 50, mtime=0)[:-30], "broken gzip data"),
        (b"\x1f\x8bnonsense" * 5, "broken gzip data"),
        (b"\x28\xb5\x2f\xfd" + b"nonsense" * 5, "broken zstandard data"),
        ("\n".join(line[:200] for line in GOOD.split("\n")), "4 records of format vllm, and every one of them is cut"),
        (re.sub(r"Engine \d+: ", "", GOOD), "no data-parallel ranks"),
        (sglang("2026-01-01 00:00:00", None, 1, 5), "no data-parallel ranks"),
        (GOOD.replace("Engine 001", "Engine 000"), r"one rank only \(0\): balance needs two"),
        (re.sub(r"Engine \d+: ", "002 Engines Aggregated: ", GOOD), "sums over all engines only"),
        (GOOD + sglang("2026-01-01 00:00:00", 0, 1, 5), r"more than one format \(4 of vllm, 1 of sglang\); name one"),
        ("Engine 000: Avg prompt throughput: 1\n", "every one of them is cut"),
        (gauges({0: (1, 0, math.nan), 1: (1, 0, 2.0)}).replace("running", "walking"), "every one of them is cut"),
    ],
)
def test_bad_logs_get_one_line(make, content, message):
    with pytest.raises(bro.InputError, match=message) as caught:
        read_log(make(content))
    assert "\n" not in str(caught.value)
    assert "engine0.log" in str(caught.value)


def test_bad_arguments(make, tmp_path):
    path = make(GOOD)[0]
    cases = [
        ({"path": tmp_path / "none.log"}, "no such file"),
        ({"path": tmp_path}, "is a folder"),
        ({"path": []}, "no log given"),
        ({"path": path, "format": "trtllm"}, "unknown log format 'trtllm'; known: vllm, vllm-metrics, sglang"),
        ({"path": path, "format": "sglang"}, "no line of format sglang"),
        ({"path": path, "missing": "guess"}, "missing must be"),
        ({"path": path, "interval": 0}, "interval must be > 0"),
        ({"path": path, "ranks": 1}, "ranks must be >= 2"),
    ]
    for kwargs, message in cases:
        with pytest.raises(bro.InputError, match=message):
            read_log(**kwargs)


def test_named_format_picks_its_lines(make):
    log = read_log(make(GOOD + sglang("2026-01-01 00:00:00", 0, 1, 5)), format="vllm")
    assert len(log) == 4


def test_idle_or_unknown_everywhere(make):
    idle = read_log(make(GOOD.replace("Running: 1", "Running: 0")))
    with pytest.raises(bro.InputError, match="no requests were running"):
        idle.metrics()
    unknown = read_log(make(vllm("05-28 00:00:00", 0, 1) + vllm("05-29 00:00:00", 1, 1)), missing="skip")
    with pytest.raises(bro.InputError, match="at none of 2 moments are all 2 ranks known"):
        unknown.metrics()


def test_samples_that_do_not_line_up(make, monkeypatch):
    from balanceroute_opt.logs import log as module

    monkeypatch.setattr(module, "_MOST_CELLS", 3)
    with pytest.raises(bro.InputError, match="do not line up"):
        read_log(make(GOOD))


def check_reads(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    error = ""
    try:
        log = read_log(path)
        log.table.rows()
        diagnose(log).as_dict()
    except bro.InputError as exc:
        error = str(exc)
    assert "\n" not in error


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_logs_end_in_a_log_or_a_typed_error(tmp_path_factory, data):
    base = [
        GOOD,
        "".join(sglang(f"2026-01-01 00:00:{s:02d}", g, 1, 10 * g) for s in (0, 10) for g in (0, 1)),
        "".join(f"2026-05-28 12:00:{s}\n{gauges({0: (1, 0, 0.1), 1: (2, 1, 0.2)})}" for s in (10, 20)),
    ]
    content = bytearray(data.draw(st.sampled_from(base)).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=3))
        elif kind == 1:
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == 2:
            content[at:at] = content[at : at + data.draw(st.integers(1, 300))]
        else:
            content[at:at] = data.draw(st.sampled_from([b"9" * 30, b"-1", b"\n", b"\0", b"NaN", b"%", b'"', b"}"]))
        if not content:
            return
    check_reads(bytes(content), tmp_path_factory.mktemp("fuzz") / "x.log")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_random_bytes_end_in_a_log_or_a_typed_error(tmp_path_factory, data):
    check_reads(data, tmp_path_factory.mktemp("fuzz") / "x.log")


# --- what an expert would say -----------------------------------------------------------------------------------------


def grid_log(make, running, load, waiting=None, capacity=1_000_000):
    running, load = np.asarray(running), np.asarray(load)
    moments, ranks = running.shape
    table = {
        "time": np.repeat(10.0 * np.arange(moments), ranks),
        "rank": np.tile(np.arange(ranks), moments),
        "running": running.ravel(),
        "waiting": np.zeros(running.size, int) if waiting is None else np.asarray(waiting).ravel(),
        "load": load.ravel(),
    }
    out = io.StringIO()
    write_log(table, "sglang", out, kv_capacity=capacity)
    return read_log(make(out.getvalue()))


def rules(found: bro.logs.Diagnosis) -> list[str]:
    return [f.rule for f in found.findings]


def wandering(moments: int, ranks: int) -> np.ndarray:
    """Token loads of which another one is heaviest every few moments."""
    load = np.full((moments, ranks), 1000)
    load[np.arange(moments), (np.arange(moments) // 3) % ranks] = 3000
    return load


def test_balanced(make):
    found = diagnose(grid_log(make, np.full((20, 4), 10), np.full((20, 4), 1000)))
    assert rules(found) == ["balanced"]
    assert "Nothing to gain" in found.findings[0].text


def test_counts_balanced_but_tokens_not(make):
    found = diagnose(grid_log(make, np.full((20, 4), 10), wandering(20, 4)))
    assert rules(found) == ["count-not-tokens"]
    # max 3000, mean 1500
    assert found.findings[0].evidence == {"excess": 1.0, "excess_requests": 0.0}
    assert "route by KV tokens" in found.findings[0].text


def test_gain_and_small_gain(make):
    log = grid_log(make, np.full((20, 4), 10), wandering(20, 4))
    # tau = 0.01 + 3000 a; balanced 0.01 + 1500 a
    found = diagnose(log, step_time=bro.StepTime(0.01, 1e-5))
    assert rules(found) == ["count-not-tokens", "gain"]
    assert found.findings[1].evidence["gain"] == pytest.approx(0.04 / 0.025 - 1)
    assert rules(diagnose(log, step_time=bro.StepTime(0.01, 1e-8)))[-1] == "small-gain"


def test_persistent_rank(make):
    load = np.full((20, 4), 1000)
    load[:, 2] = 2000
    found = diagnose(grid_log(make, np.full((20, 4), 10), load))
    assert rules(found) == ["persistent-rank", "count-not-tokens"]
    assert found.findings[0].evidence["rank"] == "2"
    assert [r.verdict for r in found.ranks] == ["light", "light", "heavy", "light"]


@pytest.mark.parametrize(("moving", "cause"), [(False, "sticky affinity"), (True, "stale counters")])
def test_queue_beside_an_empty_rank(make, moving, cause):
    running, waiting = np.full((20, 4), 10), np.zeros((20, 4), int)
    at = np.arange(20) % 4 if moving else np.full(20, 1)
    running[np.arange(20), at], waiting[np.arange(20), at] = 40, 25
    found = diagnose(grid_log(make, running, running * 100, waiting))
    assert rules(found)[0] == "queue-beside-room"
    assert cause in found.findings[0].text
    assert found.findings[0].evidence["queue_median"] == 25


def test_full_cache_beside_an_empty_one(make):
    load = np.tile([990, 100, 100, 100], (20, 1))
    found = diagnose(grid_log(make, np.full((20, 4), 10), load, capacity=1000))
    assert rules(found) == ["persistent-rank", "count-not-tokens", "full-beside-empty"]


def test_uneven_counts(make):
    running = wandering(20, 4) // 100
    assert rules(diagnose(grid_log(make, running, running * 100))) == ["requests-uneven"]


def test_silent_rank_and_few_moments(make):
    log = silent_log(make, {(k, 1) for k in range(2, 8)})
    assert rules(diagnose(log)) == ["requests-uneven", "silent-rank", "few-moments"]


# --- writing ----------------------------------------------------------------------------------------------------------


def test_log_text_is_the_public_format():
    at = datetime(2026, 5, 28, 13, 46, 18)
    args = ([23], [4], [23460])
    assert log_text("vllm", at, *args, kv_capacity=38144, rate=[640.2]) == (
        "(APIServer pid=4242) INFO 05-28 13:46:18 [loggers.py:259] Engine 000: Avg prompt throughput: 0.0 tokens/s, "
        "Avg generation throughput: 640.2 tokens/s, Running: 23 reqs, Waiting: 4 reqs, GPU KV cache usage: 61.5%, "
        "Prefix cache hit rate: 0.0%\n"
    )
    assert log_text("sglang", at, *args, kv_capacity=38144, ranks=[3], rate=[144.95]) == (
        "[2026-05-28 13:46:18 DP3 TP3] Decode batch. #running-req: 23, #token: 23460, token usage: 0.62, "
        "cuda graph: True, gen throughput (token/s): 144.95, #queue-req: 4\n"
    )
    assert 'vllm:num_requests_waiting{engine="0",model_name="m"} 4.0\n' in log_text(
        "vllm-metrics", at, *args, kv_capacity=38144
    )


def test_write_refuses_bad_tables(tmp_path):
    good = {"time": [0.0, 0.0], "rank": [0, 1], "running": [1, 1], "waiting": [0, 0], "load": [5, 6]}
    cases = [
        ({k: v for k, v in good.items() if k != "load"}, "no column 'load'"),
        (good | {"load": [5, -6]}, "column 'load' must hold whole numbers"),
        (good | {"load": [5, 6.5]}, "column 'load' must hold whole numbers"),
        (good | {"load": [5]}, "column 'load' has shape"),
        (good | {"time": [1.0, 0.0]}, "ascending"),
        (good | {"load": [5, 600]}, "a load of 600 tokens is more than kv_capacity = 100"),
    ]
    for table, message in cases:
        with pytest.raises(bro.InputError, match=message):
            write_log(table, "sglang", tmp_path / "x.log", kv_capacity=100)
    assert not list(tmp_path.iterdir())
    with pytest.raises(bro.InputError, match="kv_capacity is needed"):
        write_log(good, "vllm", io.StringIO())
    with pytest.raises(bro.InputError, match="unknown log format"):
        write_log(good, "trtllm", io.StringIO())


def test_log_round_trip(make, tmp_path):
    log = grid_log(make, [[1, 2], [3, 4]], [[10, 20], [30, 40]])
    write_log(log, "vllm-metrics", tmp_path / "again.txt", kv_capacity=1000)
    again = read_log(tmp_path / "again.txt", kv_capacity=1000)
    assert columns(again) == columns(log)
    write_log(log.table, "sglang", tmp_path / "third.txt")
    assert columns(read_log(tmp_path / "third.txt")) == columns(log)
    with pytest.raises(bro.InputError, match="no column"):
        write_log(log.table.drop("load"), "sglang", io.StringIO())


# --- command and picture ----------------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    """Exit status; errors are raised, so that their text can be looked at."""
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    args = parser.parse_args(["diagnose", *map(str, arguments)])
    return args.run(args)


def test_command_through_main(make, tmp_path, capsys):
    assert main(["diagnose", str(DATA / "pages.sglang.log")]) == 0
    assert "SGLang log: 2 ranks" in capsys.readouterr().out
    assert main(["diagnose", str(tmp_path / "none.log")]) == 2
    assert capsys.readouterr() == ("", f"balanceroute: {tmp_path / 'none.log'}: no such file\n")


@pytest.fixture
def unbalanced(make, tmp_path):
    load = np.full((20, 16), 1000)
    load[:, 2] = 2000
    log = grid_log(make, np.full((20, 16), 10), load)
    return log, [tmp_path / "engine0.log"]


def test_command_prints_tables_within_100_columns(unbalanced, capsys):
    _, paths = unbalanced
    assert run(*paths, "--fixed", 0.01, "--per-token", 1e-6) == 0
    text = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in text.split("\n")) <= 100
    for part in (
        "16 ranks",
        "imbalance_range",
        "excess",
        "max_over_min_load",
        "estimated, balanced",
        "* Rank 2",
        "heavy",
    ):
        assert part in text


def test_command_json(unbalanced, capsys):
    log, paths = unbalanced
    assert run(*paths, "--json", "--fixed", 0.01, "--window", "0.1-0.9") == 0
    data = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert data["metrics"]["excess"] == pytest.approx(log.metrics()["excess"])
    assert len(data["ranks"]) == 16
    assert data["findings"][0]["rule"] == "persistent-rank"
    assert data["estimate"]["gain"] == 0


def test_command_reads_the_page_lines(capsys):
    for name in ("pages.vllm.log", "pages.metrics.txt", "pages.sglang.log"):
        assert run(DATA / name) == 0
        assert run(DATA / name, "--json") == 0
    assert '"max_over_min_load_p50": null' in capsys.readouterr().out  # infinite


def test_command_presets(unbalanced, capsys):
    _, paths = unbalanced
    assert run(*paths, "--preset", "bfio", "--slots", 16) == 0
    assert "estimated now" in capsys.readouterr().out
    with pytest.raises(bro.InputError, match="either --preset or"):
        run(*paths, "--preset", "bfio", "--fixed", 1)
    with pytest.raises(bro.InputError, match="preset"):
        run(*paths, "--preset", "none")


def test_picture(unbalanced, make, tmp_path):
    log, paths = unbalanced
    for suffix in ("png", "svg"):
        out = tmp_path / f"line.{suffix}"
        assert run(*paths, "--plot", out) == 0
        assert out.stat().st_size > 5000
        with pytest.raises(bro.InputError, match="exists"):
            run(*paths, "--plot", out)
    with pytest.raises(bro.InputError, match=r"ends in \.png"):
        plot_log(log, tmp_path / "line.gif")
    with pytest.raises(bro.InputError, match="two moments"):
        plot_log(grid_log(make, [[1, 1]], [[5, 5]]), tmp_path / "one.png")
    many = read_log(make("".join(sglang("2026-01-01 00:00:00", g, 1, 5 + k) for k in range(9) for g in (0, 1))))
    plot_log(many, tmp_path / "line.svg", force=True)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_import_is_cheap():
    code = (
        "import sys, balanceroute_opt.logs, balanceroute_opt.cli.diagnose; "
        "print([m for m in ('polars', 'matplotlib', 'rich', 'numba', 'zstandard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
