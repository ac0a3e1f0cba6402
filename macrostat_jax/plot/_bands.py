"""Bands around paths, responses and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._parts import COLOURS, MOST, bare, date_ticks, math, panels, unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..estimation import Bands


def bands(found: Bands) -> Figure:
    """A panel per name; the elements of a vector as lines of their own. Infinite bands are not drawn."""
    how = "delta method" if found.source == "fit" else f"{found.draws - found.failed:,} draws"
    title = f"{found.problem.model.name}: {found.what}, {found.level:.0%} bands ({how})"
    if not found.over_time:
        return _numbers(found, title)
    figure, axes = panels(len(found.names), title, height=2.7)
    for axis, name in zip(axes, found.names, strict=True):
        _over_time(axis, found, name)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def _over_time(axis: Any, found: Bands, name: str) -> None:
    field = found.problem.model.State.fields.get(name)
    labels = found.periods()
    time = np.arange(len(labels))
    line, low, high = (
        part[name].reshape(len(time), -1).T[:MOST] for part in (found.median, found.low, found.high)
    )
    for i, (middle, below, above) in enumerate(zip(line, low, high, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        drawn = np.isfinite(below) & np.isfinite(above)
        axis.fill_between(time, below, above, where=drawn, color=colour, alpha=0.22, linewidth=0)
        text = "estimate" if found.source == "fit" else "median"
        axis.plot(time, middle, color=colour, label=text if len(line) == 1 else f"{name}[{i}]")
    if found.what == "response":
        axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axis.set_xlabel("periods after the shock")
    else:
        _data(axis, found, name, labels)
    ticks = date_ticks(labels)
    axis.set_xticks(ticks, [labels[i] for i in ticks])
    axis.tick_params(labelsize=8)
    title = f"{math(field)}  {name}" if field and field.symbol else name
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_ylabel(unit(field))


def _data(axis: Any, found: Bands, name: str, labels: list[str]) -> None:
    """Observations of the variable itself: transformed ones are of another unit."""
    for one in found.problem.series:
        how = one.observed
        itself = how.transform == "level" and how.over is None and how.of is None
        if one.label == name and itself and one.aggregate is None:
            place = {label: i for i, label in enumerate(labels)}
            at, data = [place[one.dates[row]] for row in one.rows], one.target / how.scale
            axis.plot(at, data, "o", markersize=3, color="0.35", alpha=0.7, label="data")


def _numbers(found: Bands, title: str) -> Figure:
    """Numbers without a time axis: each with its interval, on a scale of its own."""
    from matplotlib.figure import Figure

    table = found.to_pandas()
    figure = Figure(figsize=(8, 0.8 + 0.75 * len(table)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(table), 1, squeeze=False)[:, 0]
    for axis, (index, row) in zip(axes, table.iterrows(), strict=True):
        bare(axis)
        axis.spines["left"].set_visible(False)
        axis.plot([row["low"], row["high"]], [0, 0], color=COLOURS[0], linewidth=5, alpha=0.35)
        axis.plot(row["median"], 0, "o", color=COLOURS[0])
        axis.set_yticks([])
        axis.set_ylim(-1, 1)
        axis.tick_params(labelsize=7)
        parts = index if isinstance(index, tuple) else (index,)
        label = " ".join(str(part) for part in parts if part != "")
        axis.set_title(label, fontsize=8, loc="left", pad=2)
    return figure
