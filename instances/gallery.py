"""Make the set `adversarial`: for each router a small instance that the search finds, and one of the constructions.

    python instances/gallery.py [--evaluations 30000]

Then `python instances/solve.py --set adversarial` gives new instances their rows in the registry.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import balanceroute_opt as bro
from balanceroute_opt.worstcase.constructions import big_request, survivors
from balanceroute_opt.worstcase.found import BadInstance, judge

ROUTERS = (
    "br-0", "br-0-least-load", "br-h", "bf-io", "least-kv", "lpt", "jsq", "vllm", "sglang-tokens", "tpu-minmax",
    "trtllm-adp", "round-robin",
)  # fmt: skip
FOLDER = Path(__file__).parent / "adversarial"


def sentence(found: BadInstance, story: str) -> str:
    paid, best = found.run.peak_sum, found.optimum
    return f"{found.router} pays {paid} where {best} is possible, {float(found.ratio):.3f} times as much: {story}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=30_000, help="instances that each search examines")
    args = parser.parse_args()
    small, large = bro.Cluster(workers=3, slots=3), bro.Cluster(workers=6, slots=6)
    pair = bro.Cluster(workers=2, slots=6)
    FOLDER.mkdir(exist_ok=True)
    about = ["# Made by instances/gallery.py: what the router of the name pays, and what was possible.\n"]
    for router in ROUTERS:
        searched = bro.adversary(router, small, time_limit=600, evaluations=args.evaluations)
        gallery = {
            "g3": (searched, "the long requests meet on one worker (found by search, nothing can be left out)"),
            "g6": (
                judge(router, survivors(router, large, 24), large),
                "36 equal requests arrive, and those of one worker live on",
            ),
        }
        if router in ("br-h", "least-kv"):
            gallery["g2-big"] = (
                judge(router, big_request(pair, 1000, 8), pair),
                "equal requests are spread equally, and then one as large as two of them comes",
            )
        for name, (found, story) in gallery.items():
            assert found.exact
            stem = f"{router}-{name}"
            path = FOLDER / f"{stem}.json"
            inst = found.instance.replace(name=stem)
            bro.write_instance(inst, path, True, found.cluster, found.run.schedule.start)
            about.append(f'[{stem}]\nabout = "{sentence(found, story)}"\n')
            print(about[-1], flush=True)
    (FOLDER / "about.toml").write_text("\n".join(about))


if __name__ == "__main__":
    main()
