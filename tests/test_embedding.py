"""The dispatcher of docs/embedding.md runs, and decides as the simulator does."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

import balanceroute_opt as bro
from balanceroute_opt.routers import ActiveView

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


def test_br_h_looks_ahead_on_a_view_of_plain_lists():
    class Told:
        """Knows the remaining steps: 1 at age 2, 40 at age 4."""

        def predict(self, age, prompt, key, horizon):
            left = np.where(np.asarray(age) == 2, 1, 40)
            return left <= horizon, np.minimum(left, horizon)

    # Worker 0 is heavier in this step by 393 tokens, and empty afterwards: what worker 1 takes costs from then on.
    requests = ActiveView(index=[7, 8, 3], worker=[0, 0, 1], prompt=[598, 298, 503], age=[2, 2, 4], key=[-1, -1, -1])
    view = bro.View(load=[900, 507], active=[2, 1], slots=2, pool=[250, 20], requests=requests)
    for router, chosen in ((bro.routers.BR0(), 0), (bro.routers.BRH(H=10, predictor=Told()), 1)):
        answer = router.route(view)
        assert [column.tolist() for column in answer] == [[chosen], [1]]


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
    for columns, message in (
        (([0, 0], [0, 0], [5, 6], [1, 1], [-1, -1]), "requests.index has request 0 twice"),
        (([0, 1], [0, 1], [5, 6], [1, 1], [-1, -1]), r"requests.worker\[1\] must be <= 0, got 1"),
        (([0, 1], [0, 0], [5, 6], [1], [-1, -1]), "requests.age has 1 entries, requests.index has 2"),
        (([0, 1], [0, 0], [5, 6], [1, -1], [-1, -1]), r"requests.age\[1\] must be >= 0, got -1"),
    ):
        with pytest.raises(bro.InputError, match=message):
            bro.View(load=[13], active=[2], slots=2, requests=ActiveView(*columns))
    with pytest.raises(bro.InputError, match="BRH needs the active requests: the view counts 1 and names 0"):
        bro.routers.BRH().route(bro.View(load=[1], active=[1], slots=2, pool=[3]))
