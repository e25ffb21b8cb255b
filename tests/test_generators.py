"""Generators: same seed same instance, the stated distributions, the adversary by hand, clear errors."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.generators import GENERATORS, generate

RANDOM = ["poisson-lognormal", "bfio", "azure-2024-long", "heavy-tail", "bursty"]
N = 20_000


def test_registry() -> None:
    assert set(GENERATORS) == {*RANDOM, "servegen", "adversarial-unit"}
    assert bro.generate is generate
    assert bro.GENERATORS is GENERATORS


@pytest.mark.parametrize("name", RANDOM)
def test_same_seed_same_instance(name: str) -> None:
    first = generate(name, n=500, seed=3)
    assert first.name == name
    assert first.clock == "wall"
    assert len(first) == 500
    assert (np.diff(first.release) >= 0).all()
    assert first == generate(name, n=500, seed=3)
    assert first == generate(name, n=500, seed=np.random.default_rng(3))
    assert first != generate(name, n=500, seed=4)
    assert first == generate(name, n=900, seed=3).take(np.arange(500)), "a shorter instance is a prefix"
    assert len(generate(name)) == 1000


@pytest.mark.parametrize("name", RANDOM)
def test_a_passed_generator_is_advanced(name: str) -> None:
    rng = np.random.default_rng(3)
    assert generate(name, n=50, seed=rng) != generate(name, n=50, seed=rng)


@pytest.mark.parametrize("name", RANDOM)
def test_rate_and_clock_leave_the_lengths(name: str) -> None:
    wall = generate(name, n=N, seed=5, rate=4.0)
    slow = generate(name, n=N, seed=5, rate=0.25)
    step = generate(name, n=N, seed=5, rate=0.25, clock="step")
    assert wall.rate == pytest.approx(4.0, rel=0.12 if name == "bursty" else 0.03)
    assert step.clock == "step"
    assert step.release.dtype == np.int64
    assert np.array_equal(step.release, np.floor(slow.release))
    for other in (slow, step):
        assert np.array_equal(wall.prompt, other.prompt)
        assert np.array_equal(wall.output, other.output)


def test_poisson_lognormal_moments() -> None:
    inst = generate("poisson-lognormal", n=N, seed=1)
    gaps = np.diff(inst.release)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.03)
    assert inst.prompt.mean() == pytest.approx(1147, rel=0.03)
    assert inst.output.mean() == pytest.approx(211, rel=0.05)
    assert np.median(inst.output) == pytest.approx(129, rel=0.04)


def test_small_step_clock_instances_for_the_oracles() -> None:
    """The documented recipe: a fine grid of steps, then one scaling to the wanted utilization."""
    lengths = {"prompt_mu": 6.5, "prompt_sigma": 0.9, "output_mu": 2.8, "output_sigma": 0.7}
    many = generate("poisson-lognormal", n=N, seed=2, rate=0.001, clock="step", **lengths)
    for column, mu, sigma in ((many.prompt, 6.5, 0.9), (many.output, 2.8, 0.7)):
        assert np.log(column).mean() == pytest.approx(mu, abs=0.03)
        assert np.log(column).std() == pytest.approx(sigma, abs=0.03)
    cluster = bro.Cluster(workers=4, slots=8)
    for seed in range(1, 4):
        inst = generate("poisson-lognormal", n=40, seed=seed, rate=0.001, clock="step", **lengths)
        scaled = inst.scaled_to(cluster, utilization=0.9)
        assert scaled.clock == "step"
        assert scaled.utilization(cluster) == pytest.approx(0.9, rel=0.04)


def test_bfio_moments() -> None:
    # Normal truncated at 0.5: mean + sd*phi(a)/(1 - Phi(a)); prompt 3 727, output 1 254 (correlation is small).
    redraw = generate("bfio", n=N, seed=1)
    assert redraw.prompt.mean() == pytest.approx(3727, rel=0.02)
    assert redraw.output.mean() == pytest.approx(1255, rel=0.02)
    assert -0.11 < np.corrcoef(redraw.prompt, redraw.output)[0, 1] < -0.04
    clip = generate("bfio", n=N, seed=1, truncation="clip")
    assert clip.prompt.mean() == pytest.approx(3338, rel=0.02)
    assert clip.output.mean() == pytest.approx(1213, rel=0.02)
    assert (clip.prompt == 1).mean() == pytest.approx(0.109, abs=0.01)


def test_azure_2024_long_has_the_published_moments() -> None:
    inst = generate("azure-2024-long", n=N, seed=1)
    assert inst.prompt.mean() == pytest.approx(4652, rel=0.03)
    assert inst.output.mean() == pytest.approx(1052, abs=2)
    assert inst.output.min() == 1001
    assert inst.prompt.std() / inst.prompt.mean() == pytest.approx(1, abs=0.03)


def test_heavy_tail() -> None:
    inst = generate("heavy-tail", n=N, seed=1)
    assert inst.output.min() >= 64
    assert inst.output.max() <= 32768
    # P(o > 10 * 64) = (10**-1.5 - (64/32768)**1.5) / (1 - (64/32768)**1.5) = 0.0315
    assert (inst.output > 640).mean() == pytest.approx(0.0315, abs=0.005)
    assert set(generate("heavy-tail", n=10, output_min=7, output_max=7).output.tolist()) == {7}


def test_bursty_is_bursty() -> None:
    def dispersion(inst: bro.Instance) -> float:
        counts = np.bincount((inst.release // 10).astype(int))
        return float(counts.var() / counts.mean())

    assert dispersion(generate("bursty", n=N, seed=1)) > 5
    assert dispersion(generate("bursty", n=N, seed=1, ratio=1.0)) == pytest.approx(1, abs=0.15)


def test_adversarial_unit_by_hand() -> None:
    # G = 2, long = 3: requests 0 and 2 live for three steps. The router that fills i mod 2 has loads
    # (2, 2), (4, 0), (6, 0): 12 = G + G*(2 + 3). One survivor per worker: (2, 2), (2, 2), (3, 3): 7 = G + 2 + 3.
    inst = generate("adversarial-unit", workers=2, long=3)
    assert inst.release.tolist() == [0, 0, 0, 0]
    assert inst.prompt.tolist() == [1, 1, 1, 1]
    assert inst.output.tolist() == [3, 1, 3, 1]
    cluster = bro.Cluster(workers=2, slots=2)
    zero = np.zeros(4, np.int64)
    assert bro.peak_sum(inst, cluster, bro.Schedule(zero, np.arange(4) % 2)) == 12
    assert bro.peak_sum(inst, cluster, bro.Schedule(zero, [0, 1, 1, 0])) == 7


def test_adversarial_unit_ratio_and_rounds() -> None:
    one = generate("adversarial-unit", workers=8)
    assert len(one) == 64
    assert one.clock == "step"
    many = generate("adversarial-unit", n=192, workers=8, long=64)
    assert many.take(np.arange(64)) == one
    assert sorted(set(many.release.tolist())) == [0, 64, 128]
    cluster = bro.Cluster(workers=8, slots=8)
    bad = bro.Schedule(many.release, np.arange(192) % 8)
    good = bro.Schedule(many.release, (np.arange(192) + np.arange(192) // 8) % 8)
    for schedule in (bad, good):
        bro.check(many, cluster, schedule)
    # Per round: 8 + 8 * (2 + ... + 64) = 8 + 8 * 2079 against 8 + 2079.
    assert bro.peak_sum(many, cluster, bad) == 3 * (8 + 8 * 2079)
    assert bro.peak_sum(many, cluster, good) == 3 * (8 + 2079)


def test_adversarial_unit_against_a_known_assignment() -> None:
    # Worker 1 has most requests (three); its first two survive.
    inst = generate("adversarial-unit", workers=2, long=5, assignment=[1, 0, 1, 1])
    assert inst.output.tolist() == [5, 1, 5, 1]
    assert generate("adversarial-unit", workers=2, long=1).output.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("poisson", {}, "unknown generator 'poisson'; generators: poisson-lognormal, bfio, azure-2024-long, servegen"),
        (None, {}, "unknown generator None"),
        ("bfio", {"slots": 3}, "generator 'bfio' has no option 'slots'; options: rate, prompt_mean"),
        ("bfio", {"n": 0}, "n must be >= 1, got 0"),
        ("bfio", {"n": 1.5}, "n must be an integer, got 1.5"),
        ("bfio", {"seed": -1}, "seed must be >= 0"),
        ("bfio", {"seed": "x"}, "seed must be an integer"),
        ("bfio", {"rate": 0}, "rate must be > 0"),
        ("bfio", {"rate": float("nan")}, "rate must be finite"),
        ("bfio", {"clock": "utc"}, 'clock must be "step" or "wall"'),
        ("bfio", {"correlation": 1.0}, "correlation must be between -1 and 1"),
        ("bfio", {"truncation": "fold"}, "truncation must be"),
        ("bfio", {"prompt_mean": -1e6}, "next to nothing above 0"),
        ("bfio", {"prompt_std": -1}, "prompt_std must be >= 0"),
        ("poisson-lognormal", {"prompt_sigma": -1}, "prompt_sigma must be >= 0"),
        ("poisson-lognormal", {"output_mu": 1e3}, r"output\[0\]"),
        ("poisson-lognormal", {"rate": 1e-20, "clock": "step"}, "release"),
        ("azure-2024-long", {"output_mean": 900}, "output_mean must be >= 1001"),
        ("azure-2024-long", {"prompt_mean": 0.5}, "prompt_mean must be >= 1"),
        ("heavy-tail", {"alpha": 0}, "alpha must be > 0"),
        ("heavy-tail", {"output_min": 9, "output_max": 8}, "output_max must be >= 9, got 8"),
        ("bursty", {"busy": 1}, "busy must be < 1"),
        ("bursty", {"ratio": 0.5}, "ratio must be >= 1"),
        ("bursty", {"period": 1e-9}, "rate [*] period must not be so small"),
        ("adversarial-unit", {"workers": 1}, "workers must be >= 2"),
        ("adversarial-unit", {"n": 65}, "n must be a multiple of workers[*][*]2 = 64, got 65"),
        ("adversarial-unit", {"long": 0}, "long must be >= 1"),
        ("adversarial-unit", {"workers": 2, "assignment": [0, 1]}, "4 entries, got 2"),
        ("adversarial-unit", {"workers": 2, "n": 8, "assignment": [0, 1, 0, 1]}, "got 4 for n = 8"),
        ("adversarial-unit", {"workers": 2, "assignment": [0, 1, 2, 1]}, r"assignment\[2\] must be <= 1"),
    ],
)
def test_bad_options(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(bro.InputError, match=message):
        generate(name, **options)


ARRIVALS = "client_id,timestamp,rate,cv,pat_name,pat_arg1,pat_arg2\n"
LENGTHS = "client_id,timestamp,field,value,probability\n"


def _statistics(folder: Path, arrivals: str, lengths: str) -> Path:
    for name, text in (("arrivals", arrivals), ("lengths", lengths)):
        (folder / f"servegen_deepseek_r1_{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Client 7 sends 60 requests in the first window, client 9 30 in the second; then nothing all day."""
    return _statistics(
        tmp_path,
        ARRIVALS + "7,0,0.1,1,Gamma,1,10\n9,0,0,0,,0,0\n9,600,0.05,2,Weibull,0.5,10\n",
        LENGTHS
        + "7,0,input_tokens,10,0.25\n7,0,input_tokens,20,0.75\n7,0,output_tokens,5,1\n7,0,reason_ratio,0.5,1\n"
        + "9,0,input_tokens,40,1\n9,0,output_tokens,1,0.5\n9,0,output_tokens,2,0.5\n",
    )


def test_servegen_keeps_counts_and_lengths(small: Path) -> None:
    inst = generate("servegen", n=180, folder=small)
    assert inst.key is not None
    assert inst.clock == "wall"
    day = np.repeat([0, 1], 90) * 86_400
    window = (inst.release - day) // 600
    assert np.array_equal(window, np.tile(np.repeat([0, 1], [60, 30]), 2))
    assert np.array_equal(inst.key, np.where(window == 0, 7, 9))
    assert set(inst.prompt[window == 0].tolist()) == {10, 20}
    assert set(inst.output[window == 0].tolist()) == {5}
    assert set(inst.prompt[window == 1].tolist()) == {40}
    assert set(inst.output[window == 1].tolist()) == {1, 2}
    assert inst == generate("servegen", n=180, folder=small)
    assert inst.take(np.arange(100)) == generate("servegen", n=100, folder=small)


def test_servegen_rate_start_and_environment(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCEROUTE_TRACES", str(small))
    later = generate("servegen", n=30, start=600.0)
    assert set(later.key.tolist()) == {9}  # type: ignore[union-attr]
    assert later.release.max() <= 600
    # Ten times the day's mean rate of 90 / 86 400 per second: 600 and 300 requests.
    dense = generate("servegen", n=900, rate=900 / 86_400)
    assert (dense.release < 600).sum() == 600


@pytest.mark.parametrize(
    ("arrivals", "lengths", "message"),
    [
        ("client_id,timestamp,rate\n7,0,0.1\n", LENGTHS, "cannot be read as CSV with the columns client_id"),
        (
            ARRIVALS + "7,0,0.1,1,Normal,1,10\n",
            LENGTHS + "7,0,input_tokens,1,1\n",
            "client 7, window 0: needs pat_name",
        ),
        (ARRIVALS + "7,0,0.1,1,Gamma,0,10\n", LENGTHS + "7,0,input_tokens,1,1\n", "pat_arg1 > 0"),
        (ARRIVALS + "7,0,0,0,,0,0\n", LENGTHS + "7,0,input_tokens,1,1\n", "no window with requests"),
        (ARRIVALS + "7,0,0.1,1,Gamma,1,10\n", LENGTHS + "8,0,input_tokens,1,1\n", "no lengths of client 7 at 0 s"),
        (ARRIVALS + "7,0,0.1,1,Gamma,1,10\n", LENGTHS + "7,0,input_tokens,1,1\n", "and of output_tokens"),
        (ARRIVALS + "7,90000,0.1,1,Gamma,1,10\n", LENGTHS + "7,86400,input_tokens,1,1\n", "timestamp must be in"),
        (ARRIVALS + "7,0,many,1,Gamma,1,10\n", LENGTHS, "cannot be read"),
    ],
)
def test_servegen_bad_files(tmp_path: Path, arrivals: str, lengths: str, message: str) -> None:
    with pytest.raises(bro.InputError, match=message):
        generate("servegen", folder=_statistics(tmp_path, arrivals, lengths))


def test_servegen_missing_files(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(bro.InputError, match=r"no folder .*nowhere"):
        generate("servegen", folder=tmp_path / "nowhere")
    lengths = small / "servegen_deepseek_r1_lengths.csv.gz"
    lengths.write_bytes(lengths.read_bytes()[:40])
    with pytest.raises(bro.InputError, match="cannot be read"):
        generate("servegen", folder=small)
    lengths.unlink()
    with pytest.raises(bro.InputError, match=r"no file .*lengths"):
        generate("servegen", folder=small)
    monkeypatch.delenv("BALANCEROUTE_TRACES", raising=False)
    with pytest.raises(bro.InputError, match=r"folder=\.\.\., or the environment variable BALANCEROUTE_TRACES"):
        generate("servegen")
    for options, message in (
        ({"start": 86_400}, "start must be < 86400"),
        ({"start": -1}, "start must be >= 0"),
        ({"rate": 0}, "rate must be > 0"),
        ({"rate": 1e9}, r"10000 requests/s"),
    ):
        with pytest.raises(bro.InputError, match=message):
            generate("servegen", folder=_statistics(tmp_path, ARRIVALS + "7,0,0.1,1,Gamma,1,10\n", _ONE), **options)


_ONE = LENGTHS + "7,0,input_tokens,1,1\n7,0,output_tokens,1,1\n"


def test_servegen_day_has_the_statistics_of_the_source(traces: Path) -> None:
    """A full day: the counts exactly, and the rate-weighted length statistics of the traces' own table."""
    inst = generate("servegen", n=1_383_669, folder=traces)
    assert 86_000 < inst.release[-1] <= 86_400
    assert inst.prompt.mean() == pytest.approx(1268, rel=0.02)
    assert inst.output.mean() == pytest.approx(1527, rel=0.02)
    assert np.median(inst.prompt) == pytest.approx(208, rel=0.02)
    assert np.percentile(inst.output, (50, 90, 99)) == pytest.approx([792, 3432, 12_607], rel=0.02)
    minutes = np.bincount((inst.release // 60).astype(int))
    assert minutes.var() / minutes.mean() > 20, "far from Poisson"
