"""Samples of a trace: blocks of its requests in another order."""

from __future__ import annotations

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.experiments.workload import shuffled_blocks

INST = bro.generate("poisson-lognormal", n=103, seed=3)


def rows(inst):
    """Per request its lengths, its key and the gap before it."""
    key = np.full(len(inst), -1) if inst.key is None else inst.key
    gap = np.round(np.diff(inst.release, prepend=inst.release[:1]), 6)
    return list(zip(inst.prompt.tolist(), inst.output.tolist(), key.tolist(), gap.tolist(), strict=True))


def test_blocks_move_as_they_are():
    inst = INST.replace(key=np.arange(103))
    other = shuffled_blocks(inst, seed=1, blocks=10)
    before, after = rows(inst), rows(other)
    # The first request of all has no gap, and keeps none; the new first one keeps its own as its release.
    assert after[0][:3] == before[other.key[0]][:3]
    assert sorted(after[1:] + before[other.key[0] : other.key[0] + 1]) == sorted(before)
    cuts = np.cumsum([0] + [len(part) for part in np.array_split(np.arange(103), 10)])
    jumps = np.flatnonzero(np.diff(other.key) != 1) + 1
    assert set(other.key[jumps].tolist()) <= set(cuts.tolist())
    assert len(jumps) >= 5


def test_the_seed_decides():
    assert shuffled_blocks(INST, 1).digest() == shuffled_blocks(INST, 1).digest()
    assert shuffled_blocks(INST, 1).digest() != shuffled_blocks(INST, 2).digest()


def test_one_block_is_the_trace_and_the_order_of_the_rows_does_not_matter():
    whole = shuffled_blocks(INST, 0, blocks=1)
    assert rows(whole) == rows(INST)
    mixed = INST.take(np.random.default_rng(0).permutation(103))
    assert shuffled_blocks(mixed, 1).digest() == shuffled_blocks(INST, 1).digest()


def test_small_instances_and_refusals():
    empty = bro.Instance([], [], [])
    assert len(shuffled_blocks(empty, 0)) == 0
    assert shuffled_blocks(bro.Instance([5], [2], [3]), 0).prompt.tolist() == [2]
    with pytest.raises(bro.InputError, match="blocks"):
        shuffled_blocks(INST, 0, blocks=0)
    with pytest.raises(bro.InputError, match="seed"):
        shuffled_blocks(INST, -1)
