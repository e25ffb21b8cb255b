"""Instances and clusters: validation, derived instances, digests (``docs/model.md``, sections 1 and 3)."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import balanceroute_opt as bro
from balanceroute_opt import Cluster, InputError, Instance, StepTime
from balanceroute_opt.instance import MAX_STEP, MAX_TOKENS, require_fit, require_step_clock


@pytest.fixture
def three() -> Instance:
    return Instance(release=[0, 0, 3], prompt=[5, 2, 4], output=[3, 2, 1])


# --- columns -------------------------------------------------------------------------------------


def test_columns_are_read_only_copies():
    release, prompt, output, key = np.array([0, 1]), np.array([5, 2]), np.array([3, 2]), np.array([4, -1])
    inst = Instance(release, prompt, output, key=key)
    for name, given_column in (("release", release), ("prompt", prompt), ("output", output), ("key", key)):
        column = getattr(inst, name)
        assert column.dtype == np.int64
        assert not np.shares_memory(column, given_column)
        given_column[0] = 99
        assert column[0] != 99
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    with pytest.raises(AttributeError):
        inst.release = release  # frozen


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda v: np.array(v, np.uint8), lambda v: np.array(v, float)])
def test_any_flat_sequence_of_whole_numbers_will_do(kind, three):
    assert Instance(kind([0, 0, 3]), kind([5, 2, 4]), kind([3, 2, 1])) == three


def test_wall_clock_releases_are_floats():
    inst = Instance([0, 1, 2.5], [1, 1, 1], [1, 1, 1], clock="wall")
    assert inst.release.dtype == np.float64
    assert inst.release.tolist() == [0.0, 1.0, 2.5]


def test_work_is_exact(three):
    # o*s + o*(o-1)/2: 3*5 + 3 = 18, 2*2 + 1 = 5, 1*4 + 0 = 4.
    assert three.work.tolist() == [18, 5, 4]
    assert three.total_work == 27
    # The largest request that there can be: o*s + o*(o-1)/2 with o = s = 2**31 - 1.
    largest = MAX_TOKENS * MAX_TOKENS + MAX_TOKENS * (MAX_TOKENS - 1) // 2
    with pytest.raises(InputError, match=rf"^total work must be <= {2**62} token-steps to fit int64, got {largest}$"):
        Instance([0], [MAX_TOKENS], [MAX_TOKENS])
    # (2**31 - 1) * 2**30 + 2**30 * (2**30 - 1) / 2 < 2**62 fits exactly.
    assert Instance([0], [MAX_TOKENS], [2**30]).total_work == MAX_TOKENS * 2**30 + 2**29 * (2**30 - 1)


def test_keys():
    words = Instance([0, 0, 0], [1, 1, 1], [1, 1, 1], key=["a", "b", "a"]).key
    assert words[0] == words[2] != words[1]
    assert words.min() >= 0
    # Equal in every process: not Python's salted hash.
    assert words.tolist() == [1702698405120146464, 4226560797588928834, 1702698405120146464]
    assert Instance([0], [1], [1], key=[2**63 - 1]).key.tolist() == [2**63 - 1]
    assert Instance([], [], [], key=[]).key.tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock": "sundial"}, 'clock must be "step" or "wall", got \'sundial\''),
        ({"name": 5}, "name must be a string, got 5"),
        ({"release": 5}, "release must have one dimension, got shape ()"),
        ({"release": [[0, 0, 3]]}, "release must have one dimension, got shape (1, 3)"),
        ({"release": [[0], [0, 3]]}, "release must be a flat list of integers: "),
        ({"release": ["0", "0", "3"]}, "release must hold integers, got release[0] = '0'"),
        ({"release": [True, False, True]}, "release must hold integers, got release[0] = True"),
        ({"release": [0, None, 3]}, "release[1] must be an integer, got None"),
        ({"release": [0, 0.5, 3]}, "release[1] must be an integer, got 0.5"),
        ({"release": [0, math.nan, 3]}, "release[1] must be an integer, got nan"),
        ({"release": [0, 0, -1]}, "release[2] must be >= 0, got -1"),
        ({"release": [0, 0, MAX_STEP + 1]}, f"release[2] must be <= {MAX_STEP}, got {MAX_STEP + 1}"),
        ({"release": [0, 2**63, 3]}, f"release[1] must be <= {MAX_STEP}, got {2**63}"),
        ({"release": [0, 10**30, 3]}, f"release[1] must be <= {MAX_STEP}, got {10**30}"),
        ({"release": [0, 1e30, 3]}, f"release[1] must be <= {MAX_STEP}, got 1"),
        ({"release": [0, 3]}, "prompt has 3 entries, release has 2"),
        ({"prompt": [5, 2, 0]}, "prompt[2] must be >= 1, got 0"),
        ({"prompt": [5, -2, 4]}, "prompt[1] must be >= 1, got -2"),
        ({"prompt": [5, 2, MAX_TOKENS + 1]}, f"prompt[2] must be <= {MAX_TOKENS}, got {MAX_TOKENS + 1}"),
        ({"prompt": [5, 2.5, 4]}, "prompt[1] must be an integer, got 2.5"),
        ({"output": [3, 2, 0]}, "output[2] must be >= 1, got 0"),
        ({"output": [3, 2]}, "output has 2 entries, release has 3"),
        ({"key": [1, 2]}, "key has 2 entries, release has 3"),
        ({"key": [1, 2, -2]}, "key[2] must be >= -1, got -2"),
        ({"key": [[1, 2, 3]]}, "key must have one dimension, got shape (1, 3)"),
        ({"key": ["a", None, "b"]}, "key[0] must be an integer, got 'a'"),
        ({"clock": "wall", "release": [0, 0.5, -0.5]}, "release[2] must be finite and >= 0, got "),
        ({"clock": "wall", "release": [0, math.inf, 1]}, "release[1] must be finite and >= 0, got "),
        ({"clock": "wall", "release": [0, math.nan, 1]}, "release[1] must be finite and >= 0, got "),
        ({"clock": "wall", "release": ["0", "1", "2"]}, "release must hold numbers, got release[0] = '0'"),
        ({"clock": "wall", "release": [[0.0, 1.0, 2.0]]}, "release must have one dimension, got shape (1, 3)"),
        ({"size": [1]}, "an instance has no field 'size'; fields: release, prompt, output, key, name, clock"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refuses_bad_columns(three, change, message):
    with pytest.raises(InputError) as caught:
        three.replace(**change)
    assert str(caught.value).startswith(message)


# --- derived instances ---------------------------------------------------------------------------


def test_replace_changes_what_is_named(three):
    named = three.replace(name="n", key=[1, 2, 3])
    assert (named.name, named.key.tolist()) == ("n", [1, 2, 3])
    assert named.prompt.tolist() == three.prompt.tolist()
    assert three.name == ""
    assert named.replace(key=None) == three


def test_take_keeps_the_order_that_it_is_given(three):
    keyed = three.replace(key=[7, 8, 9], name="n")
    some = keyed.take([2, 0])
    assert some.release.tolist() == [3, 0]
    assert some.prompt.tolist() == [4, 5]
    assert some.output.tolist() == [1, 3]
    assert some.key.tolist() == [9, 7]
    assert some.name == "n"
    assert keyed.take(np.array([True, False, True])) == keyed.take([0, 2]) == keyed.take(slice(None, None, 2))


def test_head_goes_by_release_then_index():
    inst = Instance(release=[4, 1, 4, 0, 1], prompt=[1, 2, 3, 4, 5], output=[1] * 5)
    # Sequence: request 3 (release 0), 1 and 4 (release 1), 0 and 2 (release 4).
    assert inst.head(4).prompt.tolist() == [4, 2, 5, 1]
    assert inst.head(0).prompt.tolist() == []
    assert inst.head(99).prompt.tolist() == [4, 2, 5, 1, 3]
    with pytest.raises(InputError, match=r"^n must be >= 0, got -1$"):
        inst.head(-1)
    with pytest.raises(InputError, match=r"^n must be an integer, got 1.5$"):
        inst.head(1.5)


def test_utilization_in_both_clocks():
    inst = Instance(release=[0, 2, 4, 6], prompt=[10, 20, 30, 40], output=[2, 2, 4, 4])
    cluster = Cluster(2, 3, step_time=StepTime(0.5, 0.01, 0.02))
    # lambda = 3 requests / 6 steps, mean output 3, tau_ref = 1 step, G*B = 6: 0.5 * 3 / 6.
    assert inst.utilization(cluster) == 0.25
    # Work: 2*10+1 = 21, 41, 4*30+6 = 126, 166: 354 token-steps over 12 tokens = 29.5 tokens in a slot.
    # tau_ref = 0.5 + (0.01 + 0.02) * 3 * 29.5 = 3.155 s; u = 0.5 * 3 * 3.155 / 6.
    assert inst.replace(clock="wall").utilization(cluster) == pytest.approx(0.78875, rel=1e-14)
    assert Instance([], [], []).utilization(cluster) == 0.0
    assert Instance([5], [1], [1]).utilization(cluster) == math.inf


def test_scaled_to_keeps_everything_but_the_pace():
    inst = Instance(release=[10, 12, 14, 16], prompt=[10, 20, 30, 40], output=[2, 2, 4, 4], key=[1, 2, 3, 4])
    cluster = Cluster(2, 3)
    # u = 0.25 as above; half the utilization doubles the distances from the first release.
    assert inst.scaled_to(cluster, 0.125).release.tolist() == [10, 14, 18, 22]
    # u = 0.4: factor 0.625: 10, 11.25, 12.5, 13.75; halves are rounded up.
    assert inst.scaled_to(cluster, 0.4).release.tolist() == [10, 11, 13, 14]
    assert inst.scaled_to(cluster, 0.125).replace(release=inst.release) == inst


@given(st.floats(0.05, 5), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_scaled_to_reaches_its_target_in_the_wall_clock(target, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    inst = Instance(rng.random(n) * 100, rng.integers(1, 99, n), rng.integers(1, 99, n), clock="wall")
    cluster = Cluster(3, 4, step_time=StepTime(0.01, 1e-5, 1e-6))
    scaled = inst.scaled_to(cluster, target)
    assert scaled.utilization(cluster) == pytest.approx(target, rel=1e-9)
    assert np.argsort(scaled.release, kind="stable").tolist() == np.argsort(inst.release, kind="stable").tolist()


def test_scaled_to_refuses_what_has_no_factor(three):
    cluster = Cluster(2, 3)
    for utilization, message in ((0, "must be > 0, got 0"), (-1, "must be > 0, got -1"), ("x", "must be a number")):
        with pytest.raises(InputError, match=f"^utilization {message}"):
            three.scaled_to(cluster, utilization)
    for flat in (Instance([], [], []), Instance([3], [1], [1]), three.replace(release=[2, 2, 2])):
        with pytest.raises(InputError, match=r"^cannot scale to a utilization: the requests do not arrive over a span"):
            flat.scaled_to(cluster, 0.9)


def test_to_step_clock_rounds_up_to_a_step_that_sees_the_arrival(three):
    inst = Instance([10.0, 10.1, 10.5, 11.01], [1] * 4, [1] * 4, clock="wall")
    # After the first arrival, in steps of 0.5 s: 0, 0.2, 1, 2.02.
    assert inst.to_step_clock(0.5).release.tolist() == [0, 1, 1, 3]
    assert inst.to_step_clock(0.5).clock == "step"
    assert three.to_step_clock(0.5) is three
    assert len(Instance([], [], [], clock="wall").to_step_clock(1)) == 0
    with pytest.raises(InputError, match=r"^seconds_per_step must be > 0, got 0$"):
        inst.to_step_clock(0)
    with pytest.raises(InputError, match=rf"^release\[1\] must be <= {MAX_STEP}, got "):
        inst.to_step_clock(1e-20)


def test_step_clock_is_required_by_name(three):
    require_step_clock(three, "this")
    with pytest.raises(InputError, match=r"^this works on the step clock, and the instance is on the wall clock; use"):
        require_step_clock(three.replace(clock="wall"), "this")


# --- digests and printing ------------------------------------------------------------------------

# Pinned: files and certificates of other machines and releases refer to these.
DIGEST = "e7b651c1efc95a3a460cdf4dab50dbf2638963096468ee15e1c979e5865c7bb9"


def test_digests_are_pinned(three):
    assert three.digest() == DIGEST
    assert three.replace(key=["a", "b", "a"]).digest() == (
        "c8078d09f013188d30bf7640f1b59b4441e412d06a58c9992f5971b98e63bb80"
    )
    assert Instance([0.0, 0.5, 3], [5, 2, 4], [3, 2, 1], clock="wall").digest() == (
        "777dc5647f1a33d145c7cff78facd0e348286fa09272b3119a28012fe850457c"
    )
    assert Instance([], [], []).digest() == "ace4ce8e17f886d7d66d1598f6da3fe32f93ee77a75a97155bd435fa1a98e8d6"
    assert Cluster(2, 3).digest() == "8fdec21ccf1a50635d5651499c2985827e6e1f34ab18a4b24e0a4deab9027d83"
    assert Cluster(2, 3, 100, StepTime(1, 2, 3)).digest() == (
        "f779ffb46a90939e209c515bd062b02f97bf5bfa08de3d50093c194269e7ef33"
    )


def test_digest_is_the_same_in_another_process():
    code = "import balanceroute_opt as b; print(b.Instance([0, 0, 3], [5, 2, 4], [3, 2, 1]).digest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == DIGEST


@pytest.mark.parametrize(
    "change",
    [
        {"release": [0, 1, 3]},
        {"prompt": [5, 2, 5]},
        {"output": [3, 2, 2]},
        {"key": [-1, -1, -1]},
        {"clock": "wall"},
        {"prompt": [3, 2, 1], "output": [5, 2, 4]},
        {"release": [], "prompt": [], "output": []},
    ],
    ids=str,
)
def test_digest_and_equality_see_every_column(three, change):
    other = three.replace(**change)
    assert other.digest() != three.digest()
    assert other != three


def test_equality_and_hash_go_by_digest_and_not_by_name(three):
    other = three.replace(name="n")
    assert other == three
    assert hash(other) == hash(three)
    assert three != "three"


def test_printing(three):
    assert repr(three) == "Instance(3 requests over 3 steps, mean prompt 3.7, mean output 2.0)"
    assert repr(three.replace(clock="wall", name="n")) == (
        "Instance('n', 3 requests over 3 s, mean prompt 3.7, mean output 2.0)"
    )
    assert repr(Instance([], [], [])) == "Instance(0 requests)"
    page = three.replace(name="<b>&")._repr_html_()
    assert "&lt;b&gt;&amp;" in page
    assert "3.7 / 4 / 5 / 5" in page
    assert "<table>" in Instance([], [], [])._repr_html_()


# --- clusters ------------------------------------------------------------------------------------


def test_cluster_defaults_and_replace():
    cluster = Cluster(8, 72)
    assert cluster.kv_capacity is None
    # BF-IO's coefficients: (0.0006*72 + 0.035)/16 s and 1.5*2*576*61e-6/2**20 s per token.
    assert cluster.step_time == StepTime((0.0006 * 72 + 0.035) / 16, 1.5 * 2 * 576 * 61e-6 / 2**20, 0.0)
    assert cluster.replace(workers=4) == Cluster(4, 72)
    assert Cluster(np.int64(8), 72.0) == cluster
    assert isinstance(Cluster(np.int64(8), 72.0).slots, int)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"workers": 2**20 + 1}, "workers must be <= 1048576, got 1048577"),
        ({"workers": 1.5}, "workers must be an integer, got 1.5"),
        ({"workers": True}, "workers must be an integer, got True"),
        ({"workers": "8"}, "workers must be an integer, got '8'"),
        ({"workers": None}, "workers must be an integer, got None"),
        ({"slots": 0}, "slots must be >= 1, got 0"),
        ({"slots": math.nan}, "slots must be an integer, got nan"),
        ({"kv_capacity": 0}, "kv_capacity must be >= 1, got 0"),
        ({"kv_capacity": math.inf}, "kv_capacity must be an integer, got inf"),
        ({"step_time": 0.5}, "step_time must be a StepTime, got 0.5"),
        ({"gpus": 8}, "a cluster has no field 'gpus'; fields: workers, slots, kv_capacity, step_time"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refuses_bad_clusters(fields, message):
    with pytest.raises(InputError) as caught:
        Cluster(2, 3).replace(**fields)
    assert str(caught.value) == message


def test_cluster_as_plain_data():
    cluster = Cluster(2, 3, 100, StepTime(1, 2, 3))
    assert Cluster.from_dict(cluster.as_dict()) == cluster
    assert Cluster.from_dict({"workers": 2, "slots": 3}) == Cluster(2, 3)
    for data, message in (
        (5, "cluster must be an object, got int"),
        ({"workers": 2}, "cluster lacks the field 'slots'"),
        ({"workers": 2, "slots": 3, "x": 1}, "cluster has an unknown field 'x'; fields: workers, slots, kv_capacity"),
        ({"workers": 2, "slots": 3, "step_time": 1}, "cluster.step_time must be an object, got int"),
        ({"workers": 2, "slots": 3, "step_time": {"fixed": 1}}, "cluster.step_time lacks the field 'per_token'"),
    ):
        with pytest.raises(InputError) as caught:
            Cluster.from_dict(data)
        assert str(caught.value) == message


def test_cluster_digest_sees_every_field():
    base = Cluster(2, 3, 100, StepTime(1, 2, 3))
    others = [
        base.replace(workers=3),
        base.replace(slots=4),
        base.replace(kv_capacity=None),
        base.replace(step_time=StepTime(1.5, 2, 3)),
        base.replace(step_time=StepTime(1, 2.5, 3)),
        base.replace(step_time=StepTime(1, 2, math.nextafter(3, 4))),
    ]
    assert len({cluster.digest() for cluster in [base, *others]}) == 7


# --- instance meets cluster ----------------------------------------------------------------------


def test_a_request_beyond_the_capacity_is_named(three):
    # Largest prompt + output: 5 + 3 = 8.
    require_fit(three, Cluster(2, 3, 8))
    with pytest.raises(InputError) as caught:
        require_fit(three, Cluster(2, 3, 7))
    assert str(caught.value) == "request 0 needs 8 KV tokens (prompt 5 + output 3), more than kv_capacity = 7"


def test_sums_over_workers_must_fit(three):
    huge = Instance([0] * 2000, [MAX_TOKENS] * 2000, [1] * 2000)
    require_fit(huge, Cluster(2**20, 1))
    more = Instance([0] * 2100, [MAX_TOKENS] * 2100, [1] * 2100)
    # 2**20 workers * 2100 requests * 2**31 tokens = 4.73e18 > 2**62 = 4.61e18.
    with pytest.raises(
        InputError, match=rf"^workers \* total tokens must be <= {2**62} to fit int64, got {2100 * 2**51}$"
    ):
        require_fit(more, Cluster(2**20, 1))


# --- step time -----------------------------------------------------------------------------------


def test_step_time_is_linear():
    time = StepTime(fixed=0.5, per_token=0.25, per_mean_token=0.125)
    # Loads 8 and 4 on 2 workers: 0.5 + 0.25*8 + 0.125*12/2 = 3.25 s.
    assert time.seconds(8, 12, 2) == 3.25
    assert time.seconds(np.array([8, 0]), np.array([12, 0]), 2).tolist() == [3.25, 0.5]
    # 3 steps with peaks summing to 20 and work 30: 1.5 + 5 + 0.125*15 = 8.375 s.
    assert time.seconds_of(3, 20, 30, 2) == 8.375
    assert [str(part) for part in time.exact()] == ["1/2", "1/4", "1/8"]
    assert bro.StepTime.bfio(72) == Cluster(1, 72).step_time


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((-1, 0), "step_time.fixed must be >= 0, got -1"),
        ((0, math.nan), "step_time.per_token must be finite, got nan"),
        ((0, math.inf), "step_time.per_token must be finite, got inf"),
        ((0, 0, "x"), "step_time.per_mean_token must be a number, got 'x'"),
        ((True, 0), "step_time.fixed must be a number, got True"),
    ],
)
def test_refuses_bad_step_times(fields, message):
    with pytest.raises(InputError) as caught:
        StepTime(*fields)
    assert str(caught.value) == message
