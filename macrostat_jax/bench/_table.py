"""Results and comparisons as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ._figures import ALONE, Spread, crossovers
from ._results import Results, Row

if TYPE_CHECKING:
    from ._compare import Comparison

HEADER = (
    "scenario", "backend", "call", "quartiles", "in sims", "runs", "x limit", "first", "compile",
    "memory", "agrees to",
)  # fmt: skip
LEGEND = """
  call: median of the interleaved repeats. in sims: in plain simulations of the same backend (sweep: per run).
  runs: over the horizon, by definition: of the model + t tangent + a adjoint. x limit: over the time that the
  arithmetic, or moving inputs and results, takes at the rates measured here. first: until the first result;
  compile: the share of tracing and compiling. memory: growth of the process at its peak. agrees to: largest
  difference from the reference, relative to the largest entry or 1; ! where that is more than rounding."""


def table(results: Results) -> str:
    """All rows, size by size; the reasons below; the limits and versions of every backend."""
    lines = [_title(results), ""]
    for name, about in results.backends.items():
        lines.append("  " + _about(name, about))
    for size, rows in groupby(results.rows, key=_size):
        found = list(rows)
        measured = [row for row in found if row.measured]
        lines += ["", _heading(size, measured)]
        lines += _aligned([HEADER, *(_cells(row) for row in measured)])
        lines += _reasons(found, results)
    if crossed := crossing(results):
        lines += ["", "Crossovers", *(f"  {line}" for line in crossed)]
    notes: dict[str, list[str]] = {}
    for row in results.rows:
        if row.note:
            notes.setdefault(f"{row.backend}, {row.model}: {row.note}", []).append(row.scenario)
    if notes:
        lines += ["", "Notes"]
        lines += [f"  {note} ({', '.join(dict.fromkeys(w))})" for note, w in notes.items()]
    return "\n".join([*lines, LEGEND])


def _title(results: Results) -> str:
    machine, settings = results.machine, results.settings
    parts = [f"{machine['cores']} cores", machine["cpu"], machine["system"]]
    many = settings["processes"]
    repeats = f"{many} process{'es' if many > 1 else ''} of {settings['rounds']} rounds each"
    return f"Backends side by side: {repeats}, {settings['date']}\n  {', '.join(map(str, parts))}"


def _about(name: str, about: dict[str, Any]) -> str:
    if "reason" in about:
        return f"{name:<14}cannot run: {about['reason']}"
    versions = ", ".join(
        f"{package} {version}"
        for package, version in about["versions"].items()
        if package not in ("python", "macrostat-jax")
    )
    limits = about.get("limits") or {}
    rates = (
        f"; {limits['bandwidth'] / 1e9:.1f} GB/s, {limits['rate'] / 1e9:.0f} GFLOP/s measured"
        if limits
        else ""
    )
    return f"{name:<14}{versions}{rates}"


def _size(row: Row) -> tuple[Any, ...]:
    return row.model, row.periods, tuple(sorted(row.sizes.items()))


def _heading(size: tuple[Any, ...], rows: Sequence[Row]) -> str:
    model, periods, sizes = size
    text = f"{model}, {periods:,} periods"
    text += "".join(f", {axis} {number:,}" for axis, number in sizes)
    inside = next((row for row in rows if row.parameters is not None), None)
    if inside is not None:
        text += f"; {inside.parameters} parameters, {inside.outputs:,} numbers out"
    return text


def _cells(row: Row) -> tuple[str, ...]:
    spread = row.spread
    share = row.compile_share
    name = f"{row.scenario} {row.batch:,}" if row.scenario == "sweep" else row.scenario
    return (
        name,
        row.backend,
        seconds(spread.median),
        f"{seconds(spread.low)} - {seconds(spread.high)}",
        "" if row.in_simulations is None else f"{row.in_simulations:.3g}",
        _runs(row),
        "" if row.over_limit is None else f"{row.over_limit:,.3g}",
        seconds(sorted(row.first)[len(row.first) // 2]),
        "" if not share else f"{100 * share:.0f} %",
        size(max(row.memory)) if row.memory else "",
        _agreement(row),
    )


def _runs(row: Row) -> str:
    kinds = {"model": "", "tangent": "t", "adjoint": "a"}
    return " + ".join(f"{row.runs[k]:,}{mark}" for k, mark in kinds.items() if row.runs.get(k))


def _agreement(row: Row) -> str:
    if row.agreement is None:
        return "reference" if row.backend == "jax-cpu" else ""
    return f"{row.agreement:.0e}{'' if row.agrees else ' !'}"


def _reasons(rows: Sequence[Row], results: Results) -> list[str]:
    """Why there is no figure: one line for all scenarios of a backend that have the same reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.measured:
            name = f"{row.scenario} {row.batch:,}" if row.scenario == "sweep" else row.scenario
            reasons.setdefault((row.backend, row.reason or "not measured"), []).append(name)
    lines = []
    for (backend, reason), scenarios in reasons.items():
        whole = "reason" in results.backends.get(backend, {})
        lines.append(f"  - {backend}, {'all' if whole else ', '.join(scenarios)}: {reason}")
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def seconds(value: float) -> str:
    """`1.23 ms`"""
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * scale >= 1 or unit == "us":
            return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value:,.0f} s"
    raise AssertionError


def size(value: float) -> str:
    """`12 MB`"""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= scale:
            return (
                f"{value / scale:.2g} {unit}"
                if value < 100 * scale
                else f"{value / scale:.0f} {unit}"
            )
    return "0"


Lined: TypeAlias = dict[str, dict[int, Spread]]
"""Backend -> size -> time."""


def crossing(results: Results) -> list[str]:
    """Sizes at which the faster of two backends changes, as sentences."""
    return [
        f"{title}: {one.below} is faster below {number(one.at)} {what}, {one.above} above"
        for what, title, lined in curves(results)
        for one in crossed(lined)
    ]


class Crossing(NamedTuple):
    at: float
    seconds: float
    below: str
    above: str


def crossed(lined: Lined) -> list[Crossing]:
    """Where any two backends change places; where their quartiles overlap, neither is ahead."""
    found = []
    for i, a in enumerate(names := list(lined)):
        for b in names[i + 1 :]:
            x = sorted(set(lined[a]) & set(lined[b]))
            left, right = ([lined[name][n] for n in x] for name in (a, b))
            times = [one.median for one in left]
            others = [
                one.median if one.low > two.high or two.low > one.high else two.median
                for one, two in zip(right, left, strict=True)
            ]
            for at in crossovers(x, times, others):
                height = math.exp(np.interp(math.log(at), np.log(x), np.log(times)))
                under = [
                    t - o for n, t, o in zip(x, times, others, strict=True) if n < at and t != o
                ]
                found.append(Crossing(at, height, *((a, b) if under[-1] < 0 else (b, a))))
    return found


def number(value: float) -> str:
    """Two significant digits, without an exponent: `7,600`."""
    return f"{float(f'{value:.2g}'):,g}"


def curves(results: Results) -> list[tuple[str, str, Lined]]:
    """(what varies, title, times), for all that was measured at several sizes."""
    found = []
    rows = [row for row in results.rows if row.measured]
    for what in ("runs", "periods"):
        groups: dict[tuple[Any, ...], Lined] = {}
        for row in rows:
            if what == "runs" and row.scenario != "sweep":
                continue
            fixed = row.periods if what == "runs" else row.batch
            at = row.batch if what == "runs" else row.periods
            key = (row.model, row.scenario, fixed, tuple(sorted(row.sizes.items())))
            groups.setdefault(key, {}).setdefault(row.backend, {})[at] = row.spread
        for (model, scenario, fixed, sizes), lined in groups.items():
            if max(map(len, lined.values())) < 2:
                continue
            also = "".join(f", {axis} {number:,}" for axis, number in sizes)
            if what == "runs":
                also += f", {fixed:,} periods"
            elif scenario == "sweep":
                also += f", {fixed:,} runs"
            found.append((what, f"{model} {scenario}{also}", lined))
    return found


def comparison(found: Comparison) -> str:
    """The verdicts as text."""
    from ._compare import single

    lines = ["New against old: the ratio of times, with its interval"]
    if found.differs:
        lines += ["", "Forced: these differ, and the times with them"]
        lines += [f"  {line}" for line in found.differs]
    header = ("model", "scenario", "backend", "size", "old", "new", "ratio", "interval", "verdict")
    rows: list[tuple[str, ...]] = [header]
    for one in found.judgements:
        row = one.after or one.before
        assert row is not None
        size = f"{row.periods:,}" + (f" x {row.batch:,}" if row.scenario == "sweep" else "")
        size += "".join(f", {axis} {number:,}" for axis, number in row.sizes.items())
        sides = [
            seconds(side.median) if side is not None and side.measured else ""
            for side in (one.before, one.after)
        ]
        there = one.interval
        ratio = f"{there.ratio:.3g}" if there else ""
        band = f"{there.low:.3g} - {there.high:.3g}" if there else ""
        rows.append((row.model, row.scenario, row.backend, size, *sides, ratio, band, one.verdict))
    lines += ["", *_left(rows), ""]
    judged = [one for one in found.judgements if one.interval is not None]
    counts = {word: sum(one.verdict == word for one in judged) for word in ("faster", "slower")}
    lines.append(
        f"{counts['faster']} faster, {counts['slower']} slower, "
        f"{len(judged) - sum(counts.values())} without a difference that the noise allows, "
        f"{len(found.judgements) - len(judged)} not compared; intervals of {100 * found.level:g} %."
    )
    if single(found.judgements):
        lines.append(
            f"Rows of one process: {100 * (ALONE - 1):.0f} % to either side are allowed for what differs "
            "between processes. --processes 3 measures it."
        )
    return "\n".join(lines)


def _left(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
