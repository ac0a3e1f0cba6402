"""Which operation it was: from what watched runs noted to a period, a variable and a line."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import causality
from .._model import Model
from ._diagnose_ladder import Event
from ._diagnose_report import Cause
from ._diagnose_runs import Case, Watched
from ._trace import COMPARISONS, DERIVATIVE, VALUE, Site
from ._trace_flow import Mark

NEARBY = 1e-6
"""How far beside a kink the slopes are taken that differ across it."""


def of_mark(mark: Mark) -> Cause:
    return Cause(mark.name, mark.place)


def of_events(
    case: Case, model: Model, events: list[tuple[np.ndarray, Event]]
) -> list[tuple[Cause, ...]]:
    """For kinks and jumps along directions (n,): the operation that switches there, then others that do."""
    points, widths = [], []
    for direction, event in events:
        width = max(NEARBY, 8 * (event.high - event.low))
        widths.append(width)
        for s in (event.low - width, event.low, event.high, event.high + width):
            points.append(case.x + s * direction)
    seen = case.watch("switches", np.array(points))
    return [
        _switching(model, seen, 4 * i, event, width)
        for i, ((_, event), width) in enumerate(zip(events, widths, strict=True))
    ]


def _switching(
    model: Model, seen: Watched, row: int, event: Event, width: float
) -> tuple[Cause, ...]:
    period, variables = _shown(model, seen, row, event, width)
    low, high = row + 1, row + 2
    flips: dict[int, list[tuple[int, Site]]] = {}
    for (at, site), note in zip(seen.sites(True), seen.inside, strict=True):
        for t in np.flatnonzero(note[low] != note[high]):
            flips.setdefault(int(t), []).append((at, site))
    outside = [
        (at, site)
        for (at, site), note in zip(seen.sites(False), seen.outside, strict=True)
        if note[low] != note[high]
    ]
    if (period is None and outside) or not flips:
        chosen, when = outside, None
    else:
        when = period if period in flips else min(flips)
        chosen = flips[when]
        owned = [(at, s) for at, s in chosen if seen.watch.owners.get(at) in variables]
        chosen = [*owned, *[one for one in chosen if one not in owned]]
    causes = []
    for at, site in chosen:
        owner = seen.watch.owners.get(at, "")
        # Variables with the same switches behind them share their owner: the path says which came first.
        shown = owner if owner in variables or not variables else variables[0]
        causes.append(
            Cause(site.name, site.place, when, shown if when is not None else "", site.phase)
        )
    return _merged(causes, [site for _, site in chosen])


def _merged(causes: list[Cause], sites: list[Site]) -> tuple[Cause, ...]:
    """One cause per line: a comparison and the choice made by it are one switch."""
    found: dict[Any, tuple[Cause, Site]] = {}
    for cause, site in zip(causes, sites, strict=True):
        line = (site.place.file, site.place.line) if site.place else None
        if line not in found or (
            found[line][1].operation in COMPARISONS and site.operation not in COMPARISONS
        ):
            found[line] = (cause, site)
    return tuple(cause for cause, _ in found.values())


def _shown(
    model: Model, seen: Watched, row: int, event: Event, width: float
) -> tuple[int | None, list[str]]:
    """The first period in which the path itself has the jump or the kink, and the variables that do."""
    marks: dict[str, np.ndarray] = {}
    largest = max(
        float(np.max(np.abs(p[row + 1]), where=np.isfinite(p[row + 1]), initial=0.0))
        for p in seen.paths.values()
    )
    apart = event.high - event.low
    for name, path in seen.paths.items():
        if not np.issubdtype(path.dtype, np.floating):
            marks[name] = (path[row + 1] != path[row + 2]).reshape(path.shape[1], -1).any(axis=1)
            continue
        with np.errstate(invalid="ignore"):
            before, low, high, after = (path[row + i].reshape(path.shape[1], -1) for i in range(4))
            left, right = (low - before) / width, (after - high) / width
            if event.kind == "jump":
                expected = 20 * apart * np.maximum(np.abs(left), np.abs(right))
                mark = np.abs(high - low) > expected + 4e-14 * largest
            else:
                gap = np.abs(right - left)
                mark = gap > np.maximum(1e-3 * gap.max(initial=0.0), 2e-14 * largest / width)
        marks[name] = mark.any(axis=1)
    periods = [int(np.argmax(mark)) for mark in marks.values() if mark.any()]
    if not periods:
        return None, []
    period = min(periods)
    return period, _first(model, [name for name, mark in marks.items() if mark[period]])


def _first(model: Model, names: list[str]) -> list[str]:
    """Of variables of one period, those that are computed from none of the others."""
    direct = causality.direct_dependencies(model)
    here = set(names)
    found = [n for n in names if not any(f"now.{other}" in direct[n] for other in here - {n})]
    return found or names


def of_undefined(case: Case, point: np.ndarray, *, value: bool) -> tuple[Cause, ...]:
    """Where a value (or, of a run that is finite, a derivative) is first not finite."""
    seen = case.watch("hazards", point[None])
    wanted = VALUE if value else VALUE | DERIVATIVE
    return _noted(seen, wanted)


def of_rules(case: Case) -> tuple[Cause, ...]:
    """The hand-written derivatives that are not those of their functions, along the path."""
    return _noted(case.watch("rules", case.x[None]), 1)


def _noted(seen: Watched, wanted: int) -> tuple[Cause, ...]:
    found: list[tuple[int, int, Cause]] = []
    for (at, site), note in zip(seen.sites(True), seen.inside, strict=True):
        periods = np.flatnonzero(note[0] & wanted)
        if periods.size:
            owner = seen.watch.owners.get(at, "")
            found.append(
                (int(periods[0]), at, Cause(site.name, site.place, int(periods[0]), owner))
            )
    for (at, site), note in zip(seen.sites(False), seen.outside, strict=True):
        if note[0] & wanted:
            when = -1 if site.phase == "start" else 10**9
            found.append((when, at, Cause(site.name, site.place, phase=site.phase)))
    return tuple(cause for _, _, cause in sorted(found, key=lambda one: one[:2]))
