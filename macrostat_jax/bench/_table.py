"""Results as text."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ._figures import Spread, crossovers
from ._results import Results, Row

HEADER = (
    "scenario", "backend", "call", "quartiles", "in sims", "runs", "x limit", "first", "compile",
    "memory", "agrees to",
)  # fmt: skip
LEGEND = """\
call: median of the interleaved repeats. in sims: in plain simulations of the same backend (sweep: per run). \
runs: over the horizon, by definition: of the model + t tangent + a adjoint. x limit: over the time that the \
arithmetic, or moving inputs and results, takes at the rates measured here. first: until the first result; \
compile: the share of tracing and compiling. memory: growth of the process at its peak (on a GPU or TPU: what \
the program takes there). agrees to: largest difference from the reference, relative to the largest entry or \
1; ! where that is more than rounding."""
PROSE = 110
"""The longest line of running text."""


def table(results: Results, width: int | None = None) -> str:
    """All rows, size by size; the reasons below; the limits and versions of every backend.

    Args:
        results: what to show.
        width: in characters; columns that have no room stand in another block below. None: no limit.
    """
    lines = [*_title(results, width), ""]
    for name, about in results.backends.items():
        lines += wrapped(_about(name, about), width, 16)
    for size, rows in groupby(results.rows, key=size_of):
        found = list(rows)
        measured = [row for row in found if row.measured]
        lines += ["", *wrapped(heading(size, measured), width, 2, first=0)]
        if measured:
            lines += blocks([HEADER, *(_cells(row) for row in measured)], width)
        lines += [one for line in _reasons(found, results) for one in wrapped(line, width, 6)]
    if crossed := crossing(results):
        lines += ["", "Crossovers"]
        lines += [one for line in crossed for one in wrapped(line, width, 4)]
    notes: dict[str, list[str]] = {}
    for row in results.rows:
        if row.note:
            notes.setdefault(f"{row.backend}, {row.model}: {row.note}", []).append(row.scenario)
    if notes:
        lines += ["", "Notes"]
        for note, scenarios in notes.items():
            lines += wrapped(f"{note} ({', '.join(dict.fromkeys(scenarios))})", width, 4)
    return "\n".join([*lines, "", *wrapped(LEGEND, min(width or PROSE, PROSE), 2)])


def terminal() -> int | None:
    """The width of the terminal that standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(text: str, width: int | None, hanging: int, first: int = 2) -> list[str]:
    """Text as lines: the first indented by `first`, the others by `hanging`."""
    if width is None:
        return [" " * first + text]
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=" " * first,
        subsequent_indent=" " * hanging,
        break_on_hyphens=False,
    )


def _title(results: Results, width: int | None) -> list[str]:
    machine, settings = results.machine, results.settings
    parts = [f"{machine['cores']} cores", machine["cpu"], machine["system"]]
    many = settings["processes"]
    repeats = f"{many} process{'es' if many > 1 else ''} of {settings['rounds']} rounds each"
    first = f"Backends side by side: {repeats}, {settings['date']}"
    if settings.get("stopped"):
        first += ", stopped early"
    return [*wrapped(first, width, 2, first=0), *wrapped(", ".join(map(str, parts)), width, 4)]


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


def size_of(row: Row) -> tuple[Any, ...]:
    return row.model, row.periods, tuple(sorted(row.sizes.items()))


def heading(size: tuple[Any, ...], rows: Sequence[Row]) -> str:
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
        "" if row.over_limit is None else number(row.over_limit, 3),
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
    if row.agreement == 0:
        return "every bit"
    return f"{row.agreement:.0e}{'' if row.agrees else ' !'}"


def _reasons(rows: Sequence[Row], results: Results) -> list[str]:
    """Why there is no figure: one line for all scenarios and backends that have the same reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.measured:
            name = f"{row.scenario} {row.batch:,}" if row.scenario == "sweep" else row.scenario
            reasons.setdefault((row.backend, row.reason or "not measured"), []).append(name)
    lines: dict[tuple[str, str], list[str]] = {}
    for (backend, reason), scenarios in reasons.items():
        if results.backends.get(backend, {}).get("reason") == reason:
            where, reason = "all", "cannot run here, for the reason given above"
        else:
            where = ", ".join(scenarios)
        lines.setdefault((where, reason), []).append(backend)
    return [f"- {', '.join(names)}, {where}: {why}" for (where, why), names in lines.items()]


def blocks(rows: Sequence[Sequence[str]], width: int | None, fixed: int = 2) -> list[str]:
    """A table; where it is too wide, several, each with the first columns and some of the others."""
    wide = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]))]
    split: list[list[int]] = [[]]
    for at in range(fixed, len(wide)):
        taken = sum(wide[:fixed]) + sum(wide[i] for i in split[-1]) + wide[at]
        if width is not None and split[-1] and taken > width:
            split.append([])
        split[-1].append(at)
    lines = []
    for block in split:
        lines += [""] if lines else []
        for row in rows:
            cells = [row[i].ljust(wide[i] - 2) for i in range(fixed)]
            cells += [row[i].rjust(wide[i] - 2) for i in block]
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
        f"{some.title}: {one.below} is faster below {number(one.at)} {some.what}, {one.above} above"
        for some in curves(results)
        for one in crossed(some.times)
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


def number(value: float, digits: int = 2) -> str:
    """Some significant digits, without an exponent: `7,600`."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 10**digits else f"{rounded:,g}"


class Curves(NamedTuple):
    """Times of one scenario at several sizes: what varies, and what does not."""

    what: str
    title: str
    times: Lined
    of: tuple[str, str]
    """Model and scenario."""


def curves(results: Results) -> list[Curves]:
    """All that was measured at several numbers of runs, periods or agents."""
    found = []
    rows = [row for row in results.rows if row.measured]
    agents = dict.fromkeys(axis for row in rows for axis in row.sizes)
    for what in ("runs", "periods", *agents):
        groups: dict[tuple[Any, ...], Lined] = {}
        for row in rows:
            size = {"runs": row.batch, "periods": row.periods, **row.sizes}
            if what in size and (what != "runs" or row.scenario == "sweep"):
                at = size.pop(what)
                key = (row.model, row.scenario, tuple(size.items()))
                groups.setdefault(key, {}).setdefault(row.backend, {})[at] = row.spread
        for (model, scenario, size), lined in groups.items():
            if max(map(len, lined.values())) < 2:
                continue
            also = [
                f"{number:,} {_plural(name)}"
                for name, number in size
                if name != "runs" or scenario == "sweep"
            ]
            title = ", ".join([f"{model} {scenario}", *also])
            found.append(Curves(_plural(what), title, lined, (model, scenario)))
    return found


def _plural(name: str) -> str:
    return name if name.endswith("s") else f"{name}s"
