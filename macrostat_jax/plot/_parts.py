"""What the pictures share: colours, panels, lines and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._record import Field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8
"""How many lines one panel can bear."""
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#888888",
)
"""Okabe and Ito's palette, told apart with every kind of colour vision; grey for yellow, which white
swallows."""
UP, DOWN = COLOURS[0], COLOURS[1]


def panels(count: int, title: str, height: float = 3.4) -> tuple[Figure, list[Any]]:
    """A figure with `count` panels one below the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height * count + 0.6), layout="constrained")
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axis in axes:
        bare(axis)
    if title:
        figure.suptitle(title)
    return figure, list(axes)


def bare(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_prop_cycle(color=COLOURS)


def line(axis: Any, field: Field, values: np.ndarray, also: str = "") -> None:
    """A variable (T,) or its elements (T, n) over time, with a label; of agents their median and spread."""
    slots = [name for one in field.axes for name in one.slots]
    time = np.arange(len(values))
    if values.ndim == 1:
        axis.plot(time, values, label=f"{math(field)}  {field.key}{also}")
        return
    if of_agents(field):
        spread(axis, values, f"{field.key}{also}, median and 80 %")
        return
    for i, column in enumerate(values.reshape(len(values), -1).T[:MOST]):
        axis.plot(time, column, label=f"{field.key} {slots[i] if i < len(slots) else i}")


def of_agents(field: Field) -> bool:
    """Whether the elements are many of a kind (an axis without labels), of which no single one matters."""
    return any(not axis.labels and axis.size > MOST for axis in field.axes)


def spread(axis: Any, values: np.ndarray, label: str, **line: Any) -> None:
    """The median of the elements of (T, ...) over time, and the band that holds 80 % of them."""
    flat = values.reshape(len(values), -1)
    low, middle, high = np.quantile(flat, (0.1, 0.5, 0.9), axis=1)
    time = np.arange(len(flat))
    (drawn,) = axis.plot(time, middle, label=label, **line)
    axis.fill_between(time, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def date_ticks(labels: Sequence[str], most: int = 10) -> list[int]:
    """Which of the labels stand below an axis: at most so many, and of quarters and months the first of a
    year."""
    starts = [i for i, label in enumerate(labels) if label.endswith(("Q1", "-01"))]
    places = starts if len(starts) > 2 else list(range(len(labels)))
    return places[:: max(-(-len(places) // most), 1)]


def math(field: Field) -> str:
    return f"${field.symbol}$" if field.symbol else field.key


def unit(field: Field | None) -> str:
    """`USD`, or nothing where the declaration says nothing."""
    return field.unit if field and field.unit not in ("", ".") else ""
