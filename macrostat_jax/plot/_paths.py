"""Paths of a simulation, and what a scenario does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._model import Model
from .._record import Record
from .._simulate import simulate
from ._parts import MOST, line, math, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def paths(path: Record, variables: Sequence[str] | None = None, *, title: str = "") -> Figure:
    """The paths of a simulation over time, one panel per unit.

    Args:
        path: what `simulate` returned, leaves of shape (T,) or (T, n).
        variables: which ones, by either name; default: the stocks and flows, and the index variables
            without a namesake among them.
        title: the figure's title.
    """
    keys = [path.key_of(name) for name in variables] if variables else main_variables(path)
    units: dict[str, list[str]] = {}
    for key in keys:
        units.setdefault(path.fields[key].unit, []).append(key)
    figure, axes = panels(len(units), title)
    for axis, (unit, members) in zip(axes, units.items(), strict=True):
        for key in members:
            line(axis, path.fields[key], np.asarray(getattr(path, key)))
        axis.set_ylabel(unit if unit not in ("", ".") else "share or rate")
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

    Args:
        model: the model.
        name: one of `model.scenarios`; None is the default one.
        variables: which ones, by either name; default: six that it changes: incomes first, then
            stocks, flows and others.
        inputs: params, periods, ... as in `simulate`; a random model runs with the key 0 by default.
    """
    if model.random or model.random_start:
        inputs.setdefault("key", jax.random.key(0))
    path = simulate(model, scenario=name, **inputs)
    runs: dict[str, tuple[Any, str, str | None]] = {name or "default": (path, "-", None)}
    if name is not None:
        runs["default"] = (simulate(model, **inputs), "--", "0.5")
    chosen = variables or _telling(path, runs["default"][0])
    keys = [model.State.key_of(one) for one in chosen]
    from matplotlib.figure import Figure

    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.0 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in axes[len(keys) :]:
        panel.set_axis_off()
    for panel, key in zip(axes, keys, strict=False):
        field = model.State.fields[key]
        for label, (path, style, colour) in runs.items():
            values = np.asarray(getattr(path, key))
            lines = values.reshape(len(values), -1)[:, :MOST]
            drawn = panel.plot(lines, style, color=colour, linewidth=1.2)
            drawn[0].set_label(label)
        panel.set_title(f"{math(field)}  {key}" if field.symbol else key, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    if name is not None:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8
        )
    return figure


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
    roles |= dict.fromkeys(("national_income", "disposable_income"), 0)
    fields = path.fields
    keys = sorted(fields, key=lambda key: roles.get(key, roles[fields[key].role]))

    def moves(key: str) -> bool:
        values, others = np.asarray(getattr(path, key)), np.asarray(getattr(default, key))
        return not np.allclose(values, values[:1] if path is default else others, equal_nan=True)

    return [key for key in keys if moves(key)][:6] or keys[:6]
