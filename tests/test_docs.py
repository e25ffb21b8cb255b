"""The documentation: complete where a list must be, and its examples run. `make docs` builds the site strictly."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

import balanceroute_opt as bro


def test_the_table_of_routers_is_complete():
    named = re.findall(r"^\| `([\w-]+)` \| (\w+) \|", (ROOT / "docs" / "routers.md").read_text(), re.MULTILINE)
    modes = dict(named)
    assert len(modes) == len(named)
    assert {name: factory().mode for name, factory in bro.ROUTERS.items()}.items() <= modes.items()


@pytest.mark.parametrize("page", ["tutorial.md", "faq.md"])
def test_examples_run(page):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    namespace = {"__name__": page, "bro": bro}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page}, python block {number}", "exec"), namespace)
