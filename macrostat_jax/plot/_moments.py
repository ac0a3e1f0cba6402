"""Simulated moments beside those of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._parts import COLOURS, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..estimation import MomentFit


def moments(found: MomentFit) -> Figure:
    """How far each moment of the model is from the data's, in the data's standard errors."""
    from matplotlib.figure import Figure

    table = found.to_pandas()
    figure = Figure(figsize=(8, 1.6 + 0.34 * len(table)), layout="constrained")
    axis = figure.subplots()
    bare(axis)
    place = np.arange(len(table))
    axis.axvspan(-1.96, 1.96, color="0.93")
    axis.axvline(0, color="0.4", linewidth=0.8)
    axis.plot(table["gap"], place, "o", color=COLOURS[0])
    labels = [f"{n}  ({d:.3g})" for n, d in zip(table.index, table["data"], strict=True)]
    axis.set_yticks(place, labels, fontsize=8)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlabel("model less data, in standard errors of the data (which are in brackets)")
    axis.set_title(
        f"{found.problem.model.name}: simulated moments, {found.runs:,} runs", fontsize=11
    )
    return figure
