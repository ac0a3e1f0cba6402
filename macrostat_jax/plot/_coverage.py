"""Ranks of the truth among posterior draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._parts import COLOURS, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..estimation import Coverage

COLUMNS = 3


def coverage(found: Coverage) -> Figure:
    """A histogram of ranks per parameter; the grey band holds 99 % of the bars if ranks are uniform."""
    from matplotlib.figure import Figure
    from scipy.stats import binom

    count = len(found.names)
    rows = -(-count // COLUMNS)
    figure = Figure(figsize=(10, 0.8 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    low, high = binom.ppf([[0.005], [0.995]], len(found.ranks), found.shares)
    for axis, name, bars in zip(axes, found.names, found.counts.T, strict=False):
        bare(axis)
        axis.bar(np.arange(found.bins), high - low, 1.0, low, color="0.9")
        axis.bar(np.arange(found.bins), bars, width=0.9, color=COLOURS[0], alpha=0.8)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_xticks([0, found.bins - 1], ["lowest", "highest"], fontsize=8)
        axis.set_ylim(0, None)
    for axis in axes[count:]:
        axis.set_axis_off()
    figure.suptitle(
        f"{found.problem.model.name}: rank of the truth in {len(found.ranks):,} posteriors",
        fontsize=11,
    )
    return figure
