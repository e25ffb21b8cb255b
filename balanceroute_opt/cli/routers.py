"""``balanceroute routers``: the rules that can be compared."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from .common import add_json, console, print_json

__all__ = ["add"]

_BR = "arXiv:2605.06113 [published; two stages: reading]"
_BFIO = "arXiv:2601.17855, released code"
# What a rule reads of the workers, and where it comes from (docs/model.md, section 5).
_FACTS: dict[str, tuple[str, str]] = {
    "br-0": ("load, free slots, waiting prompts", _BR),
    "br-0-least-load": ("load, free slots, waiting prompts", "BR-0 with another stage 1 [ours]"),
    "br-h": ("load, free slots, waiting prompts, predicted ends", _BR),
    "bf-io": ("load, free slots, waiting prompts, predicted ends", "arXiv:2601.17855 [published]"),
    "bf-io-heuristic": ("load, free slots, waiting prompts, predicted ends", f"{_BFIO} [reading]"),
    "least-kv": ("load, free slots", _BFIO),
    "lpt": ("load, free slots, waiting prompts", "Graham 1969 on present loads [ours]"),
    "deferral": ("load, free slots, waiting prompts and waits", "waits for a margin, a few steps at most [ours]"),
    "jsq": ("requests per worker", "join the shortest queue"),
    "po2": ("requests of two workers", "Mitzenmacher 2001"),
    "round-robin": ("nothing", "classic"),
    "random": ("nothing", "classic"),
    "vllm": ("waiting and running requests", "vLLM up to v0.26"),
    "vllm-kv": ("requests, KV use", "vLLM, merged July 2026"),
    "sglang-tokens": ("load, queued prompts, requests", "SGLang"),
    "dynamo": ("KV blocks, queued blocks", "NVIDIA Dynamo, without prefix cache"),
    "llumnix": ("free KV blocks, requests", "Llumnix; needs a KV capacity"),
    "trtllm-adp": ("load, requests, waiting prompts", "TensorRT-LLM attention DP"),
    "tpu-minmax": ("load, queued prompts, requests", "tpu-inference [reading]"),
}


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "routers",
        help="list the routers",
        description="The routers by name: pooled ones hold requests back until a slot is free, immediate ones bind a "
        "request when it arrives. Options are set as NAME:OPTION=VALUE; a router of your own is FILE.py:CLASS.",
    )
    add_json(parser)
    parser.set_defaults(run=_routers)


def _routers(args: argparse.Namespace) -> int:
    from ..experiments.specs import options_of
    from ..routers import ROUTERS

    listed = []
    for name, factory in ROUTERS.items():
        router = factory()
        uses, source = _FACTS.get(name, ("", ""))
        rule = (inspect.getdoc(router) or "").split("\n\n")[0].replace("\n", " ").replace("``", "")
        listed.append(
            {
                "name": name,
                "mode": router.mode,
                "random": bool(getattr(router, "random", False)),
                "uses": uses,
                "options": options_of(router),
                "source": source,
                "rule": rule,
            }
        )
    if args.json:
        print_json({"routers": listed})
        return 0
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("name", "mode", "looks at", "source"):
        table.add_column(header, overflow="fold")
    for row in listed:
        mode = row["mode"] + (", random" if row["random"] else "")
        table.add_row(row["name"], mode, row["uses"], row["source"])
    out = console()
    out.print(table)
    out.print("Options and their defaults, set as NAME:OPTION=VALUE:")
    for row in listed:
        if row["options"]:
            out.print(f"  {row['name']}: {', '.join(f'{key}={value}' for key, value in row['options'].items())}")
    return 0
