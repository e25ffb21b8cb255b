"""The page of a report: one HTML text with everything in it. Whatever comes from results is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import platform
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np

from .. import __version__
from ..metrics import METRICS
from .charts import _png, brackets, heat_map, trajectory
from .collect import Picture, Report, Row

__all__ = ["render"]

_E = html.escape


class _Column(NamedTuple):
    metric: str
    title: str
    unit: str
    factor: float
    form: str
    first: str = "ascending"


_SHOWN = (
    _Column("throughput", "throughput", "tokens/s", 1, ",.0f", "descending"),
    _Column("tpot_p95", "TPOT p95", "ms", 1e3, ",.2f"),
    _Column("wait_p99", "wait p99", "", 1, ",.2f"),
    _Column("imbalance_range", "imbalance range", "tokens", 1, ",.0f"),
    _Column("excess", "excess", "%", 100, ",.2f"),
)
_STATUS = {
    "certified": "certified",
    "stated": "certified when made",
    "claimed": "claimed only",
    "": "",
}


def render(report: Report, command: str = "", made: str = "") -> str:
    """The page.

    Parameters
    ----------
    report : Report
    command : str
        What made it, to be shown.
    made : str
        Date, to be shown.
    """
    files = resources.files(__package__)
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(
        part
        for part in (
            '<a class="skip" href="#table">Skip to the table</a>',
            f"<main><h1>{_E(report.title)}</h1>",
            _verdict(report),
            _table(report.rows),
            _bracket_section(report.rows),
            _pictures(report.pictures),
            _definitions(report.rows),
            _made(report, command, made),
            "</main>",
        )
        if part
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{_E(report.title)}</title><style>{style}</style></head>\n'
        f"<body>{body}\n<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    """What a content security policy allows: exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _verdict(report: Report) -> str:
    if not report.sentences:
        return ""
    said = "".join(f"<p>{_E(sentence)}</p>" for sentence in report.sentences)
    return f'<section class="verdict" aria-label="Verdict">{said}</section>'


def _table(rows: Sequence[Row]) -> str:
    """Rows with a sortable head; on narrow screens each row is a card with labels."""
    several = len({row.workload for row in rows}) > 1
    repeated = any(row.runs > 1 for row in rows)
    units = sorted({row.wait_unit for row in rows})
    columns = [c._replace(unit="/".join(units)) if c.metric == "wait_p99" else c for c in _SHOWN]
    columns = [c for c in columns if any(row.values.get(c.metric) is not None for row in rows)]
    shown = {c.metric for c in columns}
    more = [
        _Column(name, name, "/".join(units) if unit == "wait_unit" else unit, 1, "")
        for name, (unit, _) in METRICS.items()
        if name not in shown and any(row.values.get(name) is not None for row in rows)
    ]
    bounded = any(row.upper is not None or row.rests_on for row in rows)

    heads: list[tuple[str, str, str, str, str]] = [
        ("router", "", "word", "ascending", "")
    ]  # title, unit, kind, first, class
    if several:
        heads.append(("workload", "", "word", "ascending", ""))
    if repeated:
        heads.append(("runs", "", "number", "descending", ""))
    heads += [(c.title, c.unit, "number", c.first, "") for c in columns]
    if bounded:
        heads.append(("at most above best placement", "%", "number", "ascending", ""))
    heads += [(c.title, c.unit, "number", c.first, "extra") for c in more]

    lines = []
    for row in rows:
        label = row.router + (" (told lengths)" if row.told else "")
        cells = [("word", row.router, _E(label))]
        if several:
            cells.append(("word", row.workload, _E(row.workload)))
        if repeated:
            cells.append(("", str(row.runs), str(row.runs)))
        cells += [_number(row, c, "") for c in columns]
        if bounded:
            cells.append(_above(row))
        cells += [_number(row, c, "extra") for c in more]
        inside = "".join(
            f'<td class="{kind}" role="cell" data-v="{_E(value)}" data-label="{_E(_label(head))}">'
            f"<span>{text}</span></td>"
            for (kind, value, text), head in zip(cells, heads, strict=True)
        )
        text = _E(f"{label} {row.workload if several else ''} {_STATUS[row.status]}".lower())
        lines.append(f'<tr role="row" data-text="{text}">{inside}</tr>')
    head = "".join(
        f'<th role="columnheader" scope="col" class="{kind} {extra}" data-kind="{kind}" data-first="{first}" '
        f'aria-sort="none"><button type="button">{_E(_label((title, unit, "", "", "")))}</button></th>'
        for title, unit, kind, first, extra in heads
    )
    choices = "".join(f'<option value="{k}">{_E(_label(head))}</option>' for k, head in enumerate(heads))
    return (
        '<section id="table" aria-labelledby="table-title"><h2 id="table-title">Results</h2>'
        '<div id="tools" hidden><label>Filter <input type="search" id="filter" autocomplete="off"></label>'
        f'<label class="only-narrow">Sort by <select id="by">{choices}</select></label>'
        '<label><input type="checkbox" id="all"> all metrics</label>'
        '<span id="count" class="soft" role="status"></span></div>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of results">'
        f'<table id="results" role="table"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(lines)}</tbody></table></div></section>'
    )


def _label(head: tuple[str, str, str, str, str]) -> str:
    return head[0] + (f", {head[1]}" if head[1] else "")


def _number(row: Row, column: _Column, kind: str) -> tuple[str, str, str]:
    value = row.values.get(column.metric)
    if value is None:
        return kind, "", "–"
    half = row.half.get(column.metric)
    text = _shape(value, column)
    if half is not None:
        text += f' <span class="half">± {_shape(half, column)}</span>'
    return kind, repr(value), text


def _shape(value: float, column: _Column) -> str:
    if column.form:
        return format(value * column.factor, column.form)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _above(row: Row) -> tuple[str, str, str]:
    if row.upper is None:
        return "", "", _E(row.rests_on) if row.rests_on == "preempted" else "–"
    above = np.ceil((row.upper - 1) * 10_000 - 1e-6) / 100
    return "", repr(row.upper), f'{above:.2f} <span class="kind">{_STATUS[row.status]}</span>'


def _bracket_section(rows: Sequence[Row]) -> str:
    drawn = brackets(rows)
    if not drawn:
        return ""
    itself = all((row.lower or 1) <= 1 for row in rows)
    left = "the run itself, for want of a better placement" if itself else "the best placement known"
    kinds = dict.fromkeys(f"{row.rests_on}, {_STATUS[row.status]}" for row in rows if row.upper is not None)
    bounds = "; ".join(kinds)
    return (
        '<section aria-labelledby="bracket-title"><h2 id="bracket-title">How far from the best placement</h2>'
        "<p>The sum of largest loads of each run over that of the best placement at the same admission steps lies "
        f"somewhere on its line. The left end rests on {left}, the right end on the lower bound; 1 is optimal.</p>"
        f"<p>Lower bounds: {_E(bounds)}.</p><figure>{drawn}</figure></section>"
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    keys = [("most", "largest load"), ("mean", "mean"), ("least", "least load")]
    if any(p.bound is not None for p in pictures):
        keys.append(("floor", "lower bound on the largest (certified)"))
    legend = "".join(
        '<li><svg width="24" height="8" aria-hidden="true">'
        f'<line class="k-{name}" x1="0" x2="24" y1="4" y2="4"/></svg>{text}</li>'
        for name, text in keys
    )
    parts = []
    for picture in pictures:
        heat = heat_map(picture)
        per = picture.steps / max(len(picture.most), 1)
        caption = f"{picture.steps:,} active steps" + (f", {per:,.0f} a column" if per > 1.5 else "")
        workers = f'<p class="soft">Load of each worker over the mean, worker 0 on top:</p>{heat}' if heat else ""
        note = f"<p>{_E(picture.note)}</p>" if picture.note else ""
        parts.append(
            f"<figure><h3>{_E(picture.label)}</h3>{trajectory(picture)}<figcaption>{caption}</figcaption>{workers}{note}</figure>"
        )
    scale = base64.b64encode(_png(np.linspace(0, 2, 97)[None, :])).decode()
    colours = (
        '<p class="key"><span>0</span>'
        '<img class="scale" width="97" height="14" alt="Colours from 0 to 2 times the mean" '
        f'src="data:image/png;base64,{scale}"><span>2 times the mean or more</span></p>'
        if any(p.heat is not None for p in pictures)
        else ""
    )
    return (
        '<section aria-labelledby="run-title"><h2 id="run-title">Loads over time</h2>'
        "<p>KV tokens per worker. Every step waits for the largest load; the shaded area is what the others wait.</p>"
        f'<ul class="keys">{legend}</ul>{colours}{"".join(parts)}</section>'
    )


_TERMS = (
    ("step", "Every active request gets a token. All workers wait for the one that holds most KV tokens."),
    ("excess", "Sum of largest loads over sum of mean loads, minus 1: attention time lost to imbalance."),
    (
        "at most above best placement",
        "With its admission steps as they are, the run costs at most so much more than the best assignment of its "
        "requests to workers. It says nothing of routers that admit at other steps.",
    ),
    (
        "certified",
        "A verifier without any solver reproduced the bound from instance and certificate in exact arithmetic "
        "while this page was made.",
    ),
    (
        "certified when made",
        "The file says that this was done when it was written; balanceroute check repeats it where certificates were "
        "kept.",
    ),
    ("claimed only", "A solver says so."),
    ("±", "Half of the 95 % t-interval over seeds. Without it, the number is that of a single run."),
    ("told lengths", "The router is told every output length, which no real one is."),
    ("–", "Not defined here, not measured, or infinite."),
)


def _definitions(rows: Sequence[Row]) -> str:
    used = [name for name in METRICS if any(row.values.get(name) is not None for row in rows)]
    metrics = [(name, f"{METRICS[name][1]} ({METRICS[name][0].replace('wait_unit', 'steps or s')})") for name in used]
    return (
        '<section aria-labelledby="means-title"><h2 id="means-title">Methods and definitions</h2>'
        f"{_list(_TERMS)}<details><summary>Every metric</summary>{_list(metrics)}</details>"
        "<p>Routers and baselines: Bu et al., arXiv:2605.06113 (BalanceRoute); Chen et al., arXiv:2601.17855 (BF-IO). "
        "The origin of every definition is in <code>docs/model.md</code> of the package.</p></section>"
    )


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{_E(key)}</dt><dd>{_E(value)}</dd>" for key, value in pairs) + "</dl>"


def _made(report: Report, command: str, made: str) -> str:
    facts = [*report.facts, ("package", f"balanceroute_opt {__version__}")]
    facts.append(("made with", f"Python {platform.python_version()}, numpy {np.__version__}"))
    if made:
        facts.append(("made on", made))
    how = f"<p>Made by <code>{_E(command)}</code></p>" if command else ""
    notes = "".join(f"<p>{_E(note)}</p>" for note in report.notes)
    return (
        '<section aria-labelledby="made-title"><h2 id="made-title">Where it comes from</h2>'
        f"{how}{notes}{_list(facts)}</section>"
    )
