"""The dispatcher of docs/embedding.md runs, and decides as the simulator does."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

import balanceroute_opt as bro

PAGE = Path(__file__).resolve().parent.parent / "docs" / "embedding.md"


@pytest.fixture(scope="module")
def dispatcher():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize(
    "router", ["br-0", "br-0-least-load", "least-kv", "lpt", "trtllm-adp", "jsq", "vllm", "sglang-tokens"]
)
def test_decisions_are_those_of_the_simulator(dispatcher, router):
    rng = np.random.default_rng(5)
    n = 120
    release = np.sort(rng.integers(0, 40, n))
    inst = bro.Instance(release, rng.integers(1, 500, n), rng.integers(1, 12, n))
    run = bro.simulate(inst, bro.Cluster(workers=3, slots=4), router)
    requests = list(zip(*(c.tolist() for c in (inst.release, inst.prompt, inst.output)), strict=True))
    found = asyncio.run(dispatcher["serve"](requests, bro.ROUTERS[router](), workers=3, slots=4))
    assert found == run.schedule.worker.tolist()


def test_counters_that_cannot_be():
    for arguments, message in (
        ({"load": [-1], "active": [0], "slots": 2}, r"load\[0\] must be >= 0, got -1"),
        ({"load": [1], "active": [3], "slots": 2}, r"active\[0\] must be <= 2, got 3"),
        ({"load": [1, 2], "active": [1], "slots": 2}, "active has 1 entries, load has 2"),
        ({"load": [], "active": [], "slots": 2}, "one entry per worker, got none"),
        ({"load": [1], "active": [1], "slots": 2, "pool": [0]}, r"pool\[0\] must be >= 1, got 0"),
        ({"load": [1], "active": [1], "slots": 2, "queued": [1.5]}, r"queued\[0\] must be an integer, got 1.5"),
    ):
        with pytest.raises(bro.InputError, match=message):
            bro.View(**arguments)
    twice = bro.routers.PoolView(*(np.array(c) for c in ([4, 4], [1, 2], [0, 0], [-1, -1])))
    with pytest.raises(bro.InputError, match=r"pool.index has request 4 twice"):
        bro.View(load=[1], active=[1], slots=2, pool=twice)
    with pytest.raises(bro.InputError, match="BRH needs the active requests: the view counts 1 and names 0"):
        bro.routers.BRH().route(bro.View(load=[1], active=[1], slots=2, pool=[3]))
