"""What an expert would say about a log, each sentence with the numbers that it rests on (``docs/diagnose.md``)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._validate import Float64Array
from ..metrics import Window, percentile
from ..steptime import StepTime
from .log import Log

__all__ = ["Diagnosis", "Estimate", "Finding", "RankSummary", "diagnose"]

# Thresholds [ours]; docs/diagnose.md lists them.
BALANCED = 0.05
"""Excess up to which ranks count as balanced."""
UNEVEN = 0.10
"""Excess from which tokens or requests count as unevenly spread."""
HEAVY = 1.10
"""A rank is heavy if its mean load is this many times the mean of all ranks, and light at the inverse ..."""
PERSISTENT = 0.8
"""... and persistently so if it is above (below) the mean in this share of the moments."""
FEW = 10
"""Below this many moments nothing is called persistent."""
OFTEN = 0.05
"""Share of the moments from which a queue beside an empty rank, or a full cache, is worth a sentence."""
FULL = 0.95
"""Share of the KV capacity from which a cache is full."""
SMALL_GAIN = 0.02
"""Gain in tokens/s up to which a better balance is not worth the work."""
MOST_FINDINGS = 3


@dataclass(frozen=True)
class Finding:
    """One sentence, the name of its rule, and its numbers."""

    rule: str
    text: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class RankSummary:
    """One rank over the moments that count.

    Attributes
    ----------
    rank : str
    load : float or None
        Mean load, in the log's unit.
    relative : float or None
        Mean load over the mean of all ranks.
    above, heaviest : float or None
        Share of the moments at which its load is above the mean of the ranks, and the largest (ties: lowest rank).
    running : float
        Mean running requests.
    queue_p95 : float or None
        95th percentile of its waiting requests.
    silent, counted_empty : int
        Moments at which it did not report, and those of them at which it counts as empty.
    verdict : str
        "heavy", "light" (persistently) or "".
    """

    rank: str
    load: float | None
    relative: float | None
    above: float | None
    heaviest: float | None
    running: float
    queue_p95: float | None
    silent: int
    counted_empty: int
    verdict: str


@dataclass(frozen=True)
class Estimate:
    """Tokens/s that a step time gives to the moments, as they are and with every rank at the mean load.

    Attributes
    ----------
    throughput, balanced : float
        Generated tokens per second of decode time, now and with perfect balance; the same requests in the same steps.
    gain : float
        ``balanced / throughput - 1``: no router can gain more, as long as it keeps these requests in these steps.
    load_share : float
        Share of the decode time that the load of the slowest rank takes.
    barrier_share : float
        Share of the decode time that the other ranks wait for it.
    """

    throughput: float
    balanced: float
    gain: float
    load_share: float
    barrier_share: float


@dataclass(frozen=True)
class Diagnosis:
    """All that :func:`diagnose` finds out.

    Attributes
    ----------
    metrics : dict
        As :meth:`Log.metrics`.
    moments, counted, incomplete, idle : int
        Moments in all; those that count; those left out because a rank is unknown, or because nothing ran.
    wasted : float or None
        Share of the attention time lost to the barrier, ``1 - sum of means / sum of maxima = excess / (1 + excess)``.
    excess_requests : float
        As ``excess``, of running requests.
    reported : float or None
        Mean over moments of the tokens/s that the ranks report, summed.
    estimate : Estimate or None
    ranks : tuple of RankSummary
    findings : tuple of Finding
        At most three, the most useful one first.
    """

    metrics: dict[str, Any]
    moments: int
    counted: int
    incomplete: int
    idle: int
    wasted: float | None
    excess_requests: float
    reported: float | None
    estimate: Estimate | None
    ranks: tuple[RankSummary, ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return asdict(self)


def diagnose(log: Log, window: Window = "all", step_time: StepTime | None = None) -> Diagnosis:
    """Judge the balance of the ranks in a log.

    Parameters
    ----------
    log : Log
    window : "all" or (float, float)
        As in :meth:`Log.metrics`.
    step_time : StepTime, optional
        Adds an estimate in tokens/s; needs loads in tokens.

    Raises
    ------
    InputError
        As :meth:`Log.metrics`.
    """
    metrics = log.metrics(window, step_time)
    rows = log.chosen(window)
    m = log.moments
    load = m.load[rows].astype(np.float64) if "excess" in metrics else None
    running = m.running[rows].astype(np.float64)
    rate = m.rate[rows]
    reported = float(np.nansum(rate, axis=1).mean()) if np.isfinite(rate).any() and np.nansum(rate) > 0 else None
    complete = m.complete
    excess = metrics.get("excess")
    excess_requests = float(running.max(axis=1).sum() / running.mean(axis=1).sum() - 1)
    estimate = None if step_time is None or load is None else _estimate(load, running, step_time)
    ranks = tuple(_rank(log, g, rows, load, running) for g in range(len(log.ranks)))
    candidates = [
        _queue(log, rows, running),
        _persistent(ranks, excess),
        _spread(excess, excess_requests, load),
        _full(log, rows, load),
        _gain(estimate, excess),
        _balanced(excess, excess_requests, estimate),
        _silent(log, ranks, len(m)),
    ]
    findings = [f for f in candidates if f is not None]
    if len(rows) < FEW:
        findings[MOST_FINDINGS - 1 :] = [_few(len(rows))]
    return Diagnosis(
        metrics=metrics,
        moments=len(m),
        counted=len(rows),
        incomplete=int((~complete).sum()),
        idle=int((complete & (m.running.sum(axis=1) == 0)).sum()),
        wasted=None if excess is None else excess / (1 + excess),
        excess_requests=excess_requests,
        reported=reported,
        estimate=estimate,
        ranks=ranks,
        findings=tuple(findings[:MOST_FINDINGS]),
    )


def _estimate(load: Float64Array, running: Float64Array, step_time: StepTime) -> Estimate:
    c, a, b = step_time.fixed, step_time.per_token, step_time.per_mean_token
    peak, mean, tokens = load.max(axis=1).sum(), load.mean(axis=1).sum(), running.sum()
    now = c * len(load) + a * peak + b * mean
    best = now - a * (peak - mean)
    return Estimate(
        throughput=float(tokens / now) if now > 0 else float("nan"),
        balanced=float(tokens / best) if best > 0 else float("nan"),
        gain=float(now / best - 1) if best > 0 else float("nan"),
        load_share=float((a * peak + b * mean) / now) if now > 0 else float("nan"),
        barrier_share=float(a * (peak - mean) / now) if now > 0 else float("nan"),
    )


def _rank(log: Log, g: int, rows: Any, load: Float64Array | None, running: Float64Array) -> RankSummary:
    m = log.moments
    waiting = m.waiting[rows, g]
    waiting = waiting[waiting >= 0]
    mean = relative = above = heaviest = None
    verdict = ""
    if load is not None:
        average = load.mean(axis=1)
        mean = float(load[:, g].mean())
        relative = mean / float(average.mean())
        above = float((load[:, g] > average).mean())
        heaviest = float((load.argmax(axis=1) == g).mean())
        below = float((load[:, g] < average).mean())
        if len(load) >= FEW and relative >= HEAVY and above >= PERSISTENT:
            verdict = "heavy"
        elif len(load) >= FEW and relative <= 1 / HEAVY and below >= PERSISTENT:
            verdict = "light"
    return RankSummary(
        rank=log.ranks[g],
        load=mean,
        relative=relative,
        above=above,
        heaviest=heaviest,
        running=float(running[:, g].mean()),
        queue_p95=percentile(waiting, 95) if len(waiting) else None,
        silent=int((~m.present[:, g]).sum()),
        counted_empty=int(m.empty[:, g].sum()),
        verdict=verdict,
    )


def _queue(log: Log, rows: Any, running: Float64Array) -> Finding | None:
    """A rank queues while another has room: requests are bound too early, or to the wrong place."""
    waiting = log.moments.waiting[rows]
    queued = waiting > 0
    roomy = (waiting == 0) & (running <= running.max(axis=1, keepdims=True) / 2)
    at = queued.any(axis=1) & roomy.any(axis=1)
    share = float(at.mean())
    if share < OFTEN:
        return None
    longest = waiting[at].argmax(axis=1)
    owner, times = np.unique(longest, return_counts=True)
    top = int(owner[times.argmax()])
    same = float(times.max() / times.sum())
    evidence = {
        "share_of_moments": share,
        "queue_median": float(np.median(waiting[at].max(axis=1))),
        "running_beside_median": float(np.median(np.where(roomy[at], running[at], np.inf).min(axis=1))),
        "longest_queue_rank": log.ranks[top],
        "longest_queue_share": same,
    }
    cause = (
        f"it is rank {log.ranks[top]} in {same:.0%} of them: look for sticky affinity (sessions, prefix cache, a hash)"
        if same >= 0.6
        else "the queue changes ranks, so the router seems to act on stale counters (refresh them more often, or add "
        "its own dispatches to them)"
    )
    queue, beside = evidence["queue_median"], evidence["running_beside_median"]
    text = (
        f"In {share:.0%} of the moments a rank has a queue (median {queue:.0f} requests) while another without one "
        f"runs at most half as many requests as the fullest (median {beside:.0f}): {cause}."
    )
    return Finding("queue-beside-room", text, evidence)


def _persistent(ranks: tuple[RankSummary, ...], excess: float | None) -> Finding | None:
    heavy = [r for r in ranks if r.verdict == "heavy"]
    if excess is None or excess <= BALANCED or not heavy:
        return None
    worst = max(heavy, key=lambda r: r.relative or 0.0)
    others = f" (and {len(heavy) - 1} more)" if len(heavy) > 1 else ""
    text = (
        f"Rank {worst.rank}{others} is persistently heavy: {worst.relative:.2f} times the mean load, above the mean in "
        f"{worst.above:.0%} of the moments and the heaviest in {worst.heaviest:.0%}. Chance would change hands: look "
        "for affinity, long-lived sessions, or a router that favours it in ties."
    )
    evidence = {"rank": worst.rank, "relative": worst.relative, "above": worst.above, "heaviest": worst.heaviest}
    return Finding("persistent-rank", text, evidence | {"heavy_ranks": [r.rank for r in heavy]})


def _spread(excess: float | None, requests: float, load: Float64Array | None) -> Finding | None:
    evidence: dict[str, Any] = {"excess": excess, "excess_requests": requests}
    if excess is None:
        if requests < UNEVEN:
            return None
        text = (
            f"Requests are spread unevenly: the fullest rank runs {1 + requests:.2f} times the mean. Tokens are not in "
            "this log; their spread is usually larger."
        )
        return Finding("requests-uneven", text, evidence)
    if excess < UNEVEN or load is None:
        return None
    if requests <= excess / 2:
        text = (
            f"Requests are balanced (fullest rank {1 + requests:.2f} times the mean) but tokens are not (heaviest rank "
            f"{1 + excess:.2f} times): a router that counts requests cannot see long contexts; route by KV tokens."
        )
        return Finding("count-not-tokens", text, evidence)
    top = load.argmax(axis=1)
    changes = float((np.diff(top) != 0).mean()) if len(top) > 1 else None
    text = (
        f"Already the request counts are uneven (fullest rank {1 + requests:.2f} times the mean; heaviest in tokens "
        f"{1 + excess:.2f} times): before its rule, fix what the router counts or how old its counts are."
    )
    if changes is not None:
        text += f" The heaviest rank is another one after {changes:.0%} of the moments."
    return Finding("requests-uneven", text, evidence | {"heaviest_changes": changes})


def _full(log: Log, rows: Any, load: Float64Array | None) -> Finding | None:
    """A cache is full while another is not half full."""
    capacity = 1 if log.unit == "share" else log.kv_capacity
    if load is None or capacity is None:
        return None
    use = load / capacity
    share = float(((use.max(axis=1) >= FULL) & (use.min(axis=1) <= 0.5)).mean())
    if share < OFTEN:
        return None
    fullest = int(use.mean(axis=0).argmax())
    text = (
        f"In {share:.0%} of the moments one rank's KV cache is at least {FULL:.0%} full while another's is at most "
        f"half full (rank {log.ranks[fullest]} is at {use[:, fullest].mean():.0%} on average): requests are preempted "
        "or held back there for want of memory that others have."
    )
    evidence = {"share_of_moments": share, "fullest_rank": log.ranks[fullest], "use": float(use[:, fullest].mean())}
    return Finding("full-beside-empty", text, evidence)


def _gain(estimate: Estimate | None, excess: float | None) -> Finding | None:
    if estimate is None or excess is None or excess < UNEVEN or math.isnan(estimate.gain):
        return None
    small = estimate.gain < SMALL_GAIN
    text = (
        f"Perfect balance is worth at most {estimate.gain:+.1%} tokens/s with this step time "
        f"({estimate.throughput:,.0f} -> {estimate.balanced:,.0f}); "
        + (
            f"reading KV is only {estimate.load_share:.0%} of a step, so another router will hardly be noticed."
            if small
            else f"{estimate.barrier_share:.0%} of the decode time is ranks waiting for the slowest one."
        )
    )
    return Finding("small-gain" if small else "gain", text, asdict(estimate))


def _balanced(excess: float | None, requests: float, estimate: Estimate | None) -> Finding | None:
    if excess is None:
        if requests >= UNEVEN:
            return None
        text = (
            f"Requests are balanced (fullest rank {1 + requests:.2f} times the mean); this log does not say whether "
            "tokens are: add the KV usage to what is scraped."
        )
        return Finding("requests-balanced", text, {"excess_requests": requests})
    if excess >= UNEVEN:
        return None
    wasted = excess / (1 + excess)
    gain = "" if estimate is None else f", or {estimate.gain:+.1%} tokens/s with this step time"
    if excess > BALANCED:
        text = f"The ranks are nearly balanced: a better router saves at most {wasted:.1%} of the attention time{gain}."
        return Finding("nearly-balanced", text, {"excess": excess, "wasted": wasted})
    text = (
        f"The ranks are balanced: no router saves more than {wasted:.1%} of the attention time{gain}. Nothing to gain "
        "here; look at batch size, prefill interference or kernels instead."
    )
    return Finding("balanced", text, {"excess": excess, "wasted": wasted})


def _silent(log: Log, ranks: tuple[RankSummary, ...], moments: int) -> Finding | None:
    most = max(ranks, key=lambda r: r.counted_empty)
    share = most.counted_empty / moments
    if share < 0.25:
        return None
    text = (
        f"Rank {most.rank} is silent at {share:.0%} of the moments and counts as empty then: if its lines were lost "
        "rather than not printed, leave such moments out (missing: skip)."
    )
    return Finding("silent-rank", text, {"rank": most.rank, "share_of_moments": share})


def _few(moments: int) -> Finding:
    count = "moments count" if moments > 1 else "moment counts"
    text = f"Only {moments} {count}: an anecdote; log for longer before acting on it."
    return Finding("few-moments", text, {"moments": moments})
