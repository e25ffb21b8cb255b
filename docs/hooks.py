"""What the documentation site adds to the pages: the API, the notebooks, names for links that leave the folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import balanceroute_opt as bro

ROOT = Path(__file__).resolve().parent.parent

# Heading of the API page -> modules of `_PUBLIC` below it, by their first part; what fits nowhere comes last.
_GROUPS = {
    "Input": ("instance", "steptime", "traces", "generators", "files"),
    "Simulation": ("simulator", "routers", "metrics", "schedule"),
    "Bounds, solutions and certificates": ("oracles", "certificates"),
    "Evaluation": ("evaluation", "experiments", "report"),
    "Logs of running systems": ("logs",),
    "Errors": ("errors",),
}


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name at its end."""
    named = set(re.findall(r"[\w-]+\.md", json.dumps(config.nav)))
    if rest := sorted(path.name for path in Path(config.docs_dir).glob("*.md") if path.name not in named):
        config.nav.append({"More": rest})
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pictures of paper_figures, which pages show without a second copy in the folder."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / "paper_figures" / "figures").glob("*.png")):
        files.append(File.generated(config, f"images/figures/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the markers of two pages, and turn links to files outside the folder into their names."""
    if page.file.src_uri == "api.md":
        markdown = markdown.replace("<!-- api -->", _api())
    if page.file.src_uri == "notebooks.md":
        markdown = markdown.replace("<!-- notebooks -->", _notebooks())
    markdown = markdown.replace("](../paper_figures/figures/", "](images/figures/")
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#\s]+)[^)]*\)", _outside, markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Show the cross-references of docstrings as names."""
    if page.file.src_uri != "api.md":
        return html
    return re.sub(
        r":(?:meth|func|class|data|mod|attr|exc):<code>(?:~[\w.]*\.)?([\w.]+)</code>", r"<code>\1</code>", html
    )


def _outside(link: re.Match[str]) -> str:
    text, target = link[1], link[2].rstrip("/")
    return text if target in text else f"{text} (`{target}`)"


def _api() -> str:
    """Directives for every public name, by group."""
    left = dict(bro._PUBLIC)
    lines = []
    for heading, modules in (*_GROUPS.items(), ("More", ())):
        names = [n for n, module in left.items() if module.split(".")[0] in modules or not modules]
        if names:
            lines.append(f"## {heading}\n")
        for name in names:
            # Where a class or function was defined; constants do not know, and are in the module that `_PUBLIC` names.
            where = getattr(getattr(bro, name), "__module__", None) or f"balanceroute_opt.{left[name]}"
            lines.append(f"::: {where}.{name}\n")
            del left[name]
    for title, module in (("Routers", bro.routers), ("Predictors", bro.predictors)):
        lines.append(f"## {title}\n\nIn `bro.{title.lower()}`.\n")
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and name not in bro._PUBLIC:
                lines.append(f"::: {value.__module__}.{name}\n")
    return "\n".join(lines)


def _notebooks() -> str:
    """The notebooks as text: prose and code, one after the other."""
    parts = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                parts.append(f"```python\n{source}\n```")
            else:
                parts.append(re.sub(r"^(#+ )", r"#\1", source, flags=re.MULTILINE))
    return "\n\n".join(parts)
