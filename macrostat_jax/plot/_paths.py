"""Paths of a simulation, and what a scenario does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._model import Model
from .._record import Field, Record
from .._simulate import simulate
from ._parts import MOST, bare, line, math, of_agents, panels, spread, unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


HEADLINES = ("national_income", "disposable_income", "output", "unemployment", "inflation")
LONG = 300
"""Runs of more periods are drawn with thin lines."""


def paths(path: Record, variables: Sequence[str] | None = None, *, title: str = "") -> Figure:
    """The paths of a simulation over time, one panel per unit.

    Args:
        path: what `simulate` returned, leaves of shape (T,) or (T, n).
        variables: which ones, by either name; default: the stocks and flows, and the index variables
            without a namesake among them.
        title: the figure's title.
    """
    keys = [path.key_of(name) for name in variables] if variables else main_variables(path)
    by_unit: dict[str, list[str]] = {}
    for key in keys:
        by_unit.setdefault(unit(path.fields[key]), []).append(key)
    figure, axes = panels(len(by_unit), title)
    for axis, (measure, members) in zip(axes, by_unit.items(), strict=True):
        for key in members:
            line(axis, path.fields[key], np.asarray(getattr(path, key)))
        axis.set_ylabel(measure or "share or rate")
        axis.set_xlabel("period")
        axis.legend(fontsize=8, frameon=False)
    return figure


def scenario(
    model: Model,
    name: str | None = None,
    variables: Sequence[str] | None = None,
    **inputs: Any,
) -> Figure:
    """What a scenario does, one small panel per variable, beside the default scenario (dashed).

    Of agents (an axis without labels) their median is drawn, and a band that holds 80 % of them.

    Args:
        model: the model.
        name: one of `model.scenarios`; None is the default one.
        variables: which ones, by either name; default: six that it changes: income, unemployment and
            inflation first, then stocks, flows and others, and those of agents last.
        inputs: params, periods, ... as in `simulate`; a random model runs with the key 0 by default.
    """
    if model.random or model.random_start:
        inputs.setdefault("key", jax.random.key(0))
    path = simulate(model, scenario=name, **inputs)
    default = path if name is None else simulate(model, **inputs)
    keys = [model.State.key_of(one) for one in variables or _telling(path, default)]
    from matplotlib.figure import Figure

    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    # A single panel has the width of three: it may be of a thousand periods.
    figure = Figure(figsize=(2.9 * max(columns, 3), 2.0 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat[len(keys) :]:
        panel.set_axis_off()
    for panel, key in zip(axes.flat, keys, strict=False):
        field = model.State.fields[key]
        bare(panel)
        _run(panel, field, path, name or "default")
        if name is not None:
            _run(panel, field, default, "default", linestyle="--", color="0.5", zorder=1.5)
        panel.set_title(f"{math(field)}  {key}" if field.symbol else key, fontsize=8)
        panel.set_ylabel(unit(field), fontsize=7)
        panel.tick_params(labelsize=7)
    for panel in axes.flat[max(len(keys) - columns, 0) : len(keys)]:
        panel.set_xlabel("period", fontsize=7)
    _explain(figure, axes.flat[0], model.State.fields[keys[0]], name)
    return figure


def _explain(figure: Any, panel: Any, field: Field, name: str | None) -> None:
    """Above all panels: which line is which scenario, or which sector."""
    handles, labels = panel.get_legend_handles_labels()
    if name is None:
        if len(panel.lines) == 1:
            return
        handles = panel.lines
        labels = [slot for axis in field.axes for slot in axis.slots][: len(handles)]
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8
    )


def _run(panel: Any, field: Field, path: Any, label: str, **style: Any) -> None:
    """A variable of a run: a line, one for each sector, or the median and a band of agents."""
    values = np.asarray(getattr(path, field.key))
    style["linewidth"] = 1.2 if len(values) <= LONG else 0.6
    if of_agents(field):
        spread(panel, values, label, **style)
        return
    drawn = panel.plot(values.reshape(len(values), -1)[:, :MOST], **style)
    drawn[0].set_label(label)


def main_variables(record: Any) -> list[str]:
    """The variables worth a look: stocks and flows, income first; no copies that the accounts already show."""
    fields = record.fields
    accounts = [key for key, field in fields.items() if field.role in ("flow", "stock")]
    income = [key for key in ("national_income", "disposable_income") if key in fields]
    chosen = list(dict.fromkeys([*income, *accounts])) or list(fields)
    return chosen[:MOST]


def _telling(path: Any, default: Any) -> list[str]:
    """Six variables that a scenario changes, or that move in the default one."""
    roles = {"stock": 1, "flow": 2, "index": 3}
    fields = path.fields

    def place(key: str) -> tuple[bool, int]:
        return of_agents(fields[key]), 0 if key in HEADLINES else roles[fields[key].role]

    keys = sorted(fields, key=place)

    def moves(key: str) -> bool:
        values, others = np.asarray(getattr(path, key)), np.asarray(getattr(default, key))
        return not np.allclose(values, values[:1] if path is default else others, equal_nan=True)

    return [key for key in keys if moves(key)][:6] or keys[:6]
