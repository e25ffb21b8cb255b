"""Step times: the fit of section 3, its errors, the presets, and the measured one refitted from its data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.steptime import STEP_TIME_PRESETS, StepTime, StepTimeFit, step_time_presets


def test_fit_of_a_line() -> None:
    # 1, 2, 4 s at 0, 100, 200 tokens: slope (4 - 1)/200 = 0.015, mean 7/3 at 100 tokens, so c = 7/3 - 1.5 = 5/6.
    # Residuals 1/6, -1/3, 1/6: squares sum to 1/6; variance sum (16 + 1 + 25)/9 = 14/3; R2 = 1 - 1/28.
    fit = StepTime.fit({"tokens": [0, 100, 200], "seconds": [1, 2, 4]})
    assert isinstance(fit, StepTimeFit)
    assert fit.step_time.fixed == pytest.approx(5 / 6)
    assert fit.step_time.per_token == pytest.approx(0.015)
    assert fit.step_time.per_mean_token == 0.0
    assert fit.r2 == pytest.approx(27 / 28)
    assert fit.rmse == pytest.approx(math.sqrt(1 / 18))
    assert fit.max_residual == pytest.approx(1 / 3)
    assert fit.n == 3
    assert fit.residuals == pytest.approx([1 / 6, -1 / 3, 1 / 6])
    assert not fit.residuals.flags.writeable


def test_fit_recovers_three_coefficients() -> None:
    rng = np.random.default_rng(0)
    mean = rng.uniform(1e4, 2e5, 200)
    peak = mean * rng.uniform(1, 2, 200)
    truth = StepTime(fixed=0.02, per_token=1e-7, per_mean_token=3e-8)
    seconds = truth.seconds(peak, 8 * mean, 8)
    for table, workers in (
        ({"tokens": peak, "mean_tokens": mean, "seconds": seconds}, None),
        ({"seconds": seconds, "total_tokens": 8 * mean, "tokens": peak}, 8),
        (np.column_stack((peak, mean, seconds)), 8),
    ):
        found = StepTime.fit(table, workers=workers)
        assert found.step_time.fixed == pytest.approx(0.02)
        assert found.step_time.per_token == pytest.approx(1e-7)
        assert found.step_time.per_mean_token == pytest.approx(3e-8)
        assert found.r2 == pytest.approx(1)
    two = StepTime.fit(np.column_stack((peak, truth.seconds(peak, 0, 8))))
    assert (two.step_time.fixed, two.step_time.per_token) == (pytest.approx(0.02), pytest.approx(1e-7))


def test_fit_takes_a_data_frame() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"tokens": [0, 10], "seconds": [1.0, 3.0]})
    assert StepTime.fit(frame).step_time.per_token == pytest.approx(0.2)


def test_no_coefficient_is_negative_and_the_fit_is_optimal() -> None:
    """Karush-Kuhn-Tucker: gradient 0 where a coefficient is positive, and pointing outwards where it is 0."""
    rng = np.random.default_rng(1)
    clipped = 0
    for _ in range(60):
        mean = rng.uniform(1, 10, 12)
        peak = mean * rng.uniform(1, 2, 12)
        matrix = np.column_stack((np.ones(12), peak, mean))
        seconds = np.maximum(matrix @ rng.normal(0.3, 1, 3) + rng.normal(0, 1, 12), 0)
        time = StepTime.fit({"tokens": peak, "mean_tokens": mean, "seconds": seconds}).step_time
        x = np.array([time.fixed, time.per_token, time.per_mean_token])
        gradient = matrix.T @ (matrix @ x - seconds)
        assert (x >= 0).all()
        assert np.abs(gradient[x > 0]).max(initial=0) < 1e-8
        assert gradient[x == 0].min(initial=0) > -1e-8
        clipped += int((x == 0).any())
    assert clipped > 20


def test_falling_times_give_a_constant() -> None:
    fit = StepTime.fit({"tokens": [1, 2, 3], "seconds": [3, 2, 1]})
    assert (fit.step_time.fixed, fit.step_time.per_token) == (pytest.approx(2.0), 0.0)
    assert fit.r2 == pytest.approx(0)


def test_equal_seconds_have_no_r2() -> None:
    fit = StepTime.fit({"tokens": [1, 2, 3], "seconds": [0.1, 0.1, 0.1]})
    assert math.isnan(fit.r2)
    assert fit.step_time.fixed == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("table", "workers", "message"),
    [
        ({"tokens": [1, 2]}, None, "lacks the column 'seconds'"),
        ({"tokens": [1, 2], "seconds": [1, 2], "mean_token": [1, 2]}, None, "unknown column 'mean_token'"),
        ({"tokens": [1, 2, 3], "seconds": [1, 2]}, None, "seconds has 2 entries, tokens has 3"),
        ({"tokens": [1], "seconds": [1]}, None, "2 coefficients needs as many rows, got 1"),
        ({"tokens": [], "seconds": []}, None, "got 0"),
        ({"tokens": [5, 5, 5], "seconds": [1, 2, 3]}, None, "tokens does not vary over 3 rows"),
        ({"tokens": [0, 0], "seconds": [1, 2]}, None, "does not vary"),
        ({"tokens": [1, -2], "seconds": [1, 2]}, None, r"tokens\[1\] must be finite and >= 0"),
        ({"tokens": [1, 2], "seconds": [1, math.nan]}, None, r"seconds\[1\] must be finite"),
        ({"tokens": ["a", "b"], "seconds": [1, 2]}, None, "tokens must hold numbers"),
        (
            {"tokens": [1, 2, 3], "mean_tokens": [1, 2, 3], "seconds": [1, 2, 3]},
            None,
            "tokens and mean_tokens do not vary independently",
        ),
        ({"tokens": [1, 2, 3], "mean_tokens": [1, 9, 3], "seconds": [1, 2, 3]}, None, "row 1: the mean of 9"),
        ({"tokens": [9, 2, 3], "mean_tokens": [1, 1, 3], "seconds": [1, 2, 3]}, 2, "row 0: tokens = 9 is above"),
        ({"tokens": [1, 2, 3], "total_tokens": [1, 2, 3], "seconds": [1, 2, 3]}, None, "needs workers"),
        (
            {"tokens": [1, 2], "total_tokens": [1, 2], "mean_tokens": [1, 2], "seconds": [1, 2]},
            2,
            "not both",
        ),
        ([1, 2, 3], None, r"shape \(n, 2\) or \(n, 3\), got \(3,\)"),
        ([[1, 2], [3]], None, "two-dimensional"),
        ({"tokens": [1, 2], "seconds": [1, 2]}, 0, "workers must be >= 1"),
    ],
)
def test_bad_tables(table: object, workers: int | None, message: str) -> None:
    with pytest.raises(bro.InputError, match=message):
        StepTime.fit(table, workers=workers)  # type: ignore[arg-type]


def test_from_hardware() -> None:
    # 1 000 bytes per token over 2 devices of 1 MB/s of which half is reached: 1 000 / 1e6 = 1 ms per token.
    time = StepTime.from_hardware(1000, 1e6, weight_bytes=5e6, devices=2, efficiency=0.5)
    assert time == StepTime(fixed=5.0, per_token=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kv_bytes_per_token": 0}, "kv_bytes_per_token must be > 0"),
        ({"bandwidth": -1.0}, "bandwidth must be > 0"),
        ({"weight_bytes": -1.0}, "weight_bytes must be >= 0"),
        ({"devices": 0}, "devices must be >= 1"),
        ({"efficiency": 1.5}, "efficiency must be <= 1"),
        ({"efficiency": 0.0}, "efficiency must be > 0"),
    ],
)
def test_bad_hardware(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(bro.InputError, match=message):
        StepTime.from_hardware(**({"kv_bytes_per_token": 1.0, "bandwidth": 1.0} | arguments))  # type: ignore[arg-type]


def test_presets() -> None:
    assert list(step_time_presets()) == list(STEP_TIME_PRESETS)
    for name, line in step_time_presets().items():
        assert "\n" not in line
        assert line.startswith(f"{STEP_TIME_PRESETS[name].kind}: ")
        assert StepTime.preset(name, slots=72).per_token > 0
    assert StepTime.preset("bfio", slots=72) == StepTime.bfio(72)
    assert bro.STEP_TIME_PRESETS is STEP_TIME_PRESETS
    with pytest.raises(TypeError):
        STEP_TIME_PRESETS["mine"] = STEP_TIME_PRESETS["bfio"]  # type: ignore[index]


def test_preset_numbers() -> None:
    # Llama-3-70B on 8 H100: 80 * 2 * 8 * 128 * 2 = 327 680 bytes over 8 * 3.35e12 * 0.8 = 2.144e13 B/s.
    time = StepTime.preset("llama-3-70b-8xh100")
    assert time.per_token == pytest.approx(327_680 / 2.144e13)
    assert time.fixed == pytest.approx(141.2e9 / 2.144e13)
    # DeepSeek-V3: 61 layers * 576 * 2 bytes = 70 272 bytes over 3.2e12 * 0.8 B/s.
    assert StepTime.preset("deepseek-v3-ascend-910c").per_token == pytest.approx(70_272 / 2.56e12)


def test_unknown_preset_and_missing_slots() -> None:
    with pytest.raises(bro.InputError, match="unknown step time preset 'h100'; presets: bfio, a100-llama-70b"):
        StepTime.preset("h100")
    with pytest.raises(bro.InputError, match="'bfio' needs slots"):
        StepTime.preset("bfio")
    with pytest.raises(bro.InputError, match="slots must be >= 1"):
        StepTime.preset("bfio", slots=0)


def test_measured_preset_is_the_fit_of_its_data(step_time_dir: Path) -> None:
    """Load = sum of KV tokens: the sum explains the measured times, the number of requests adds nothing."""
    rows = np.loadtxt(step_time_dir / "a100_decode_attention.csv.gz", delimiter=",", skiprows=1)
    requests, each, layer = rows[:, 0], rows[:, 1], rows[:, 2] * 1e-3
    fit = StepTime.fit({"tokens": requests * each, "seconds": 80 * layer}, workers=1)
    preset = StepTime.preset("a100-llama-70b")
    assert fit.n == 10_240
    assert fit.step_time.fixed == pytest.approx(preset.fixed, rel=1e-9)
    assert fit.step_time.per_token == pytest.approx(preset.per_token, rel=1e-9)
    assert fit.r2 == pytest.approx(0.97996, abs=1e-5)
    assert fit.rmse / 80 == pytest.approx(19.80e-6, rel=1e-3)
    assert StepTime.fit({"tokens": requests, "seconds": layer}).r2 < 0.34
    assert StepTime.fit({"tokens": each, "seconds": layer}).r2 < 0.50
    both = np.column_stack((np.ones(len(rows)), requests * each, requests))
    rest = layer - both @ np.linalg.lstsq(both, layer, rcond=None)[0]
    assert 1 - rest.var() / layer.var() < fit.r2 + 1e-4
