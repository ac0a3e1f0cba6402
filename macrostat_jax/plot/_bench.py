"""Backends side by side: times against batch and horizon, and where they cross."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._parts import COLOURS, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..bench import Results

MARKS = "os^vDPX*"
MOST = 9
"""So many panels are shown."""


def bench(results: Results) -> Figure:
    """Times against runs or periods where several were measured, one panel each, with a ring where the
    faster of two backends changes; else a bar for each scenario and backend.

    Args:
        results: of `macrostat_jax.bench`.

    Raises:
        ValueError: nothing was measured.
    """
    from matplotlib.figure import Figure

    from ..bench._table import curves

    if not any(row.measured for row in results.rows):
        raise ValueError("A picture of a benchmark needs at least one row that was measured.")
    colours = {
        name: (COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)])
        for i, name in enumerate(results.backends)
    }
    found = curves(results)[:MOST]
    if not found:
        return _bars(results, colours)
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(4.2 * columns + 0.4, 3.4 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in panels[len(found) :]:
        panel.set_axis_off()
    for panel, (what, title, lined) in zip(panels, found, strict=False):
        _panel(panel, what, title, lined, colours)
    names = [name for name in colours if any(name in lined for _, _, lined in found)]
    _legend(figure, names, colours)
    return figure


def _panel(panel: Any, what: str, title: str, lined: Any, colours: Any) -> None:
    from ..bench._table import crossed, number

    bare(panel)
    for name, times in lined.items():
        colour, mark = colours[name]
        x = sorted(times)
        panel.plot(x, [times[n].median for n in x], marker=mark, markersize=4, color=colour)
        ends = [times[n].low for n in x], [times[n].high for n in x]
        panel.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    for one in crossed(lined):
        panel.plot([one.at], [one.seconds], "o", mfc="none", color="black", markersize=11)
        place = {"xytext": (6, -13), "textcoords": "offset points", "fontsize": 7}
        panel.annotate(number(one.at), (one.at, one.seconds), **place)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(what)
    panel.set_ylabel("seconds per call")
    panel.set_title(title, fontsize=9)
    panel.grid(True, which="major", alpha=0.25)


def _bars(results: Results, colours: Any) -> Figure:
    from matplotlib.figure import Figure

    rows = [row for row in results.rows if row.measured]
    places = list(dict.fromkeys((row.model, row.scenario) for row in rows))
    names = [name for name in colours if any(row.backend == name for row in rows)]
    figure = Figure(figsize=(1.0 * len(places) + 3.0, 4.0), layout="constrained")
    panel = figure.subplots()
    bare(panel)
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        mine = [row for row in rows if row.backend == name]
        x = [
            places.index((row.model, row.scenario)) + (i - (len(names) - 1) / 2) * width
            for row in mine
        ]
        middle = [row.median for row in mine]
        ends = [
            [row.median - row.spread.low for row in mine],
            [row.spread.high - row.median for row in mine],
        ]
        panel.bar(x, middle, width, color=colours[name][0], yerr=ends, error_kw={"linewidth": 0.8})
    several = len({model for model, _ in places}) > 1
    labels = [f"{model}\n{scenario}" if several else scenario for model, scenario in places]
    panel.set_xticks(range(len(places)), labels, rotation=30, ha="right", fontsize=8)
    panel.set_yscale("log")
    panel.set_ylabel("seconds per call")
    panel.set_title(
        ", ".join(dict.fromkeys(f"{r.model}, {r.periods:,} periods" for r in rows)), fontsize=9
    )
    _legend(figure, names, colours)
    return figure


def _legend(figure: Any, names: list[str], colours: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colours[n][0], marker=colours[n][1], label=n) for n in names]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(names), 6), frameon=False
    )
