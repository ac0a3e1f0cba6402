"""Sweeps: what was kept against what was varied, and fan charts of paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._parts import COLOURS, MOST, bare

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

POINTS = 2000
"""So many runs are shown as points; the lines are of all of them."""
BINS = 16
ROWS, COLUMNS = 3, 4


def clouds(
    table: pd.DataFrame, about: Sequence[str], kept: Sequence[str], *, title: str = ""
) -> Figure:
    """What was kept of the runs against each parameter: points, and the median with a 90 % band in bins.

    Runs that are not finite are ticks at the lower edge, where their parameters are.

    Args:
        table: a row per run, with a column `finite`.
        about: the columns across; the first 4 numeric ones that vary are shown.
        kept: the columns down; the first 3 are shown.
        title: the figure's title.
    """
    from matplotlib.figure import Figure

    across = [name for name in about if _varies(table[name].to_numpy())][:COLUMNS]
    down = list(kept)[:ROWS]
    if not across or not down:
        raise ValueError("A picture of a sweep needs a parameter that varies, and a number kept.")
    size = (3.2 * len(across) + 0.8, 2.5 * len(down) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(down), len(across), squeeze=False, sharex="col", sharey="row")
    good = table["finite"].to_numpy()
    for row, name in zip(panels, down, strict=True):
        for panel, parameter in zip(row, across, strict=True):
            bare(panel)
            x, y = table[parameter].to_numpy(float), table[name].to_numpy(float)
            _cloud(panel, x[good], y[good])
            if not good.all():
                _ticks(panel, x[~good])
        row[0].set_ylabel(name)
    for panel, parameter in zip(panels[-1], across, strict=True):
        panel.set_xlabel(parameter)
    note = f"{len(table):,} runs, median and 90 %"
    note += f", {int((~good).sum()):,} not finite (ticks below)" if not good.all() else ""
    figure.suptitle(f"{title}: {note}" if title else note, fontsize=10)
    return figure


def _varies(column: np.ndarray) -> bool:
    return np.issubdtype(column.dtype, np.number) and len(column) > 1 and bool(np.ptp(column))


def _cloud(panel: Any, x: np.ndarray, y: np.ndarray) -> None:
    if not len(x):
        return
    few = np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int)
    panel.plot(x[few], y[few], ".", markersize=2, alpha=0.35, color=COLOURS[5], rasterized=True)
    levels = np.unique(x)
    edges = levels if len(levels) <= BINS else np.linspace(x.min(), x.max(), BINS + 1)[:-1]
    where = np.searchsorted(edges, x, side="right")
    middle, band = [], []
    for i in range(1, len(edges) + 1):
        inside = where == i
        if inside.sum() >= 5:
            middle.append(float(np.median(x[inside])))
            band.append(np.quantile(y[inside], (0.05, 0.5, 0.95)))
    if len(middle) > 1:
        low, centre, high = np.array(band).T
        panel.fill_between(middle, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
        panel.plot(middle, centre, color=COLOURS[0], linewidth=1.5)


def _ticks(panel: Any, x: np.ndarray) -> None:
    few = x[np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int)]
    base = np.full(len(few), 0.0)
    transform = panel.get_xaxis_transform()
    panel.plot(few, base, "|", color=COLOURS[1], markersize=7, transform=transform, clip_on=False)


def fans(
    statistics: xr.Dataset, variables: Sequence[str] | None = None, *, title: str = ""
) -> Figure:
    """Paths of many runs over time: the median, and the bands of 90 % and of all.

    Args:
        statistics: as `Sweep.statistics` gives of whole paths.
        variables: which ones; default: the first 6 scalar ones.
        title: the figure's title.
    """
    from matplotlib.figure import Figure

    over_time = [str(n) for n, a in statistics.data_vars.items() if a.dims == ("statistic", "time")]
    names = list(variables or over_time[: MOST - 2])
    if not names or (wrong := [name for name in names if name not in over_time]):
        have = f"{', '.join(wrong)} are none" if names else "none was kept"
        raise ValueError(f"Bands are drawn of scalar variables over time; {have}.")
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.2 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(panels, names, strict=False):
        bare(panel)
        one = statistics[name]
        time = np.arange(one.sizes["time"])
        for low, high, alpha in (("min", "max", 0.1), ("5%", "95%", 0.25)):
            a, b = one.sel(statistic=low).to_numpy(), one.sel(statistic=high).to_numpy()
            panel.fill_between(time, a, b, color=COLOURS[0], alpha=alpha, linewidth=0)
        panel.plot(time, one.sel(statistic="50%").to_numpy(), color=COLOURS[0])
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=7)
    note = f"median, 90 % and all of {statistics.attrs['runs']:,} finite runs"
    figure.suptitle(f"{title}: {note}" if title else note, fontsize=10)
    return figure
