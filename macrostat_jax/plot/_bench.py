"""Backends side by side: times by scenario, and against batch, horizon and agents, and where they cross."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._parts import COLOURS, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..bench import Results, Row
    from ..bench._table import Curves

MARKS = "os^vDPX*"
MOST = 12
"""So many panels are shown."""


def bench(results: Results) -> Figure:
    """Times against runs, periods or agents where several were measured, one panel each, with a ring where
    the faster of two backends changes; the other scenarios as bars, one panel for each model and size.

    Args:
        results: of `macrostat_jax.bench`.

    Raises:
        ValueError: nothing was measured.
    """
    from matplotlib.figure import Figure

    from ..bench._table import curves

    measured = [row for row in results.rows if row.measured]
    if not measured:
        raise ValueError("A picture of a benchmark needs at least one row that was measured.")
    colours = {
        name: (COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)])
        for i, name in enumerate(results.backends)
    }
    lined = curves(results)
    drawn = {one.of for one in lined}
    barred = _by_size([row for row in measured if (row.model, row.scenario) not in drawn])
    count = len(barred) + len(lined)
    shown = min(count, MOST)
    columns = min(shown, 3)
    rows = -(-shown // columns)
    figure = Figure(figsize=(max(4.4 * columns, 6.4) + 0.4, 3.4 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in panels[shown:]:
        panel.set_axis_off()
    for panel, (title, some) in zip(panels, barred.items(), strict=False):
        _bars(panel, title, some, colours)
    for panel, one in zip(panels[len(barred) :], lined, strict=False):
        _lines(panel, one, colours)
    if count > shown:
        figure.suptitle(f"the first {shown} of {count} panels", fontsize=9, x=0.99, ha="right")
    _legend(figure, [name for name in colours if any(r.backend == name for r in measured)], colours)
    return figure


def _lines(panel: Any, found: Curves, colours: Any) -> None:
    from ..bench._table import crossed, number

    bare(panel)
    for name, times in found.times.items():
        colour, mark = colours[name]
        x = sorted(times)
        panel.plot(x, [times[n].median for n in x], marker=mark, markersize=4, color=colour)
        ends = [times[n].low for n in x], [times[n].high for n in x]
        panel.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    for one in crossed(found.times):
        panel.plot([one.at], [one.seconds], "o", mfc="none", color="black", markersize=11)
        place = {"xytext": (6, -13), "textcoords": "offset points", "fontsize": 7}
        panel.annotate(number(one.at), (one.at, one.seconds), **place)
    panel.set_xscale("log")
    sizes = sorted({n for times in found.times.values() for n in times})
    panel.set_xticks(sizes, [f"{n:,}" for n in sizes])
    panel.set_xticks([], minor=True)
    _seconds(panel, found.title)
    panel.set_xlabel(found.what)


def _by_size(rows: list[Row]) -> dict[str, list[Row]]:
    """Title of a panel of bars -> its rows."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        agents = "".join(f", {number:,} {axis}s" for axis, number in row.sizes.items())
        found.setdefault(f"{row.model}, {row.periods:,} periods{agents}", []).append(row)
    return found


def _bars(panel: Any, title: str, rows: list[Row], colours: Any) -> None:
    bare(panel)
    labels = list(dict.fromkeys(_label(row) for row in rows))
    names = [name for name in colours if any(row.backend == name for row in rows)]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        mine = [row for row in rows if row.backend == name]
        x = [labels.index(_label(row)) + (i - (len(names) - 1) / 2) * width for row in mine]
        middle = [row.median for row in mine]
        ends = [
            [row.median - row.spread.low for row in mine],
            [row.spread.high - row.median for row in mine],
        ]
        panel.bar(x, middle, width, color=colours[name][0], yerr=ends, error_kw={"linewidth": 0.8})
    panel.set_xticks(range(len(labels)), labels, rotation=40, ha="right", fontsize=7)
    _seconds(panel, title)


def _label(row: Row) -> str:
    return f"{row.scenario} {row.batch:,}" if row.scenario == "sweep" else row.scenario


def _seconds(panel: Any, title: str) -> None:
    """The axis of times, of whole powers of ten, so that the shortest bar is one, too."""
    from ..bench._table import seconds

    panel.set_yscale("log")
    low, high = (math.log10(end) for end in panel.get_ylim())
    panel.set_ylim(10 ** math.floor(low - 0.1), 10 ** math.ceil(high))
    panel.yaxis.set_major_formatter(lambda value, _: seconds(value))
    panel.yaxis.set_minor_formatter(lambda value, _: "")
    panel.set_ylabel("time per call")
    panel.set_title(title, fontsize=9)
    panel.grid(True, axis="y", which="major", alpha=0.25)
    panel.set_axisbelow(True)


def _legend(figure: Any, names: list[str], colours: Any) -> None:
    from matplotlib.lines import Line2D

    many = max(int(figure.get_figwidth() / 1.7), 1)  # names side by side
    handles = [Line2D([], [], color=colours[n][0], marker=colours[n][1], label=n) for n in names]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(names), many), frameon=False
    )
