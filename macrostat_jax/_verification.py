"""The checks that a model makes of its declaration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _constraints
from ._fields import Axis, Field, named_axes
from ._record import Record

if TYPE_CHECKING:
    from ._model import Model

RECORDS = ("Params", "Scenario", "State", "Noise")
FUNCTIONS = ("initial_state", "steady_state", "log_density", "step")
"""What a model is made of."""


def positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The arguments that a function takes by position."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(function).parameters.values() if p.kind in by_position]


def options(function: Callable[..., Any] | None) -> dict[str, Any]:
    """The keyword-only arguments of a function, with their defaults."""
    if function is None:
        return {}
    return {
        name: p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def same(one: Any, other: Any) -> bool:
    """Whether two options are the same, arrays included."""
    return one is other or (type(one) is type(other) and bool(np.all(one == other)))


def verify_records(model: Model) -> None:
    """The first check, on which the others rely."""
    for name in RECORDS:
        record = getattr(model, name)
        if record is None and name == "Noise":
            continue
        if not (inspect.isclass(record) and issubclass(record, Record)):
            raise TypeError(
                f"Model {model.name}: {name} is a class derived from Record, not {record!r}."
            )


def verify(model: Model) -> None:
    """All that can be said without tracing the model's functions."""
    _verify_roles(model)
    for field in (*model.Params.fields.values(), *model.Scenario.fields.values()):
        _verify_default(model.name, field)
    _verify_axes(model)
    _verify_functions(model)
    _verify_stocks(model)
    for key in model.solved:
        model.State.key_of(key)
    _constraints.verify(model.name, model.Params, model.constraints)
    for label in model.shock_series:
        model.split_shock(label)
    _verify_horizon(model)
    for name in model.scenarios:
        if all(field.default is not None for field in model.Scenario.fields.values()):
            model.scenario(name)
        model.shocks(name)


def _verify_roles(model: Model) -> None:
    roles = {"Params": ("param",), "Scenario": ("exogenous",), "State": ("index", "flow", "stock")}
    if model.Noise is not None:
        roles["Noise"] = ("noise",)
    for record, allowed in roles.items():
        for key, field in getattr(model, record).fields.items():
            if field.role not in allowed:
                raise TypeError(
                    f"Model {model.name}: {record}.{key} is declared as {field.role}; "
                    f"allowed there: {', '.join(allowed)}."
                )


def _verify_default(model: str, field: Field) -> None:
    if field.default is None:
        return
    low, high = field.bounds
    try:
        default = np.asarray(field.default, float)
    except (ValueError, TypeError):
        raise TypeError(
            f"Model {model}: the default of {field.key!r} is a number or an array of numbers, not "
            f"{field.default!r}."
        ) from None
    try:
        default = np.broadcast_to(default, field.shape)
    except ValueError:
        raise ValueError(
            f"Model {model}: the default of {field.key!r} has shape {default.shape}, "
            f"declared is {field.shape}."
        ) from None
    if math.isnan(low) or math.isnan(high) or low > high:
        raise ValueError(f"Model {model}: {field.key!r} has the bounds [{low}, {high}].")
    if not (np.all(np.isfinite(default)) and field.within(default)):
        raise ValueError(
            f"Model {model}: the default {field.default} of {field.key!r} is not within its bounds "
            f"{field.interval}."
        )


def axes(model: Model) -> dict[str, Axis]:
    """The named dimensions of a model."""
    records = (getattr(model, name) for name in RECORDS)
    fields = [f for record in records if record is not None for f in record.fields.values()]
    return {axis.name: axis for axis in named_axes(fields)}


def _verify_axes(model: Model) -> None:
    known = axes(model)
    for name in RECORDS:
        record = getattr(model, name)
        for axis in named_axes(record.fields.values()) if record is not None else ():
            if axis != known[axis.name]:
                raise ValueError(
                    f"Model {model.name}: the axis {axis.name!r} is {_slots(axis)} in one place and "
                    f"{_slots(known[axis.name])} in another: give one of them another name."
                )


def _slots(axis: Axis) -> str:
    return f"of size {axis.size}" + (
        f" ({', '.join(map(str, axis.labels))})" if axis.labels else ""
    )


def _verify_functions(model: Model) -> None:
    if model.Noise is not None and not model.random:
        raise TypeError(
            f"Model {model.name}: it declares Noise, and its step takes no fourth argument for it."
        )
    known = axes(model)
    sizes = {name: axis.labels or axis.size for name, axis in known.items()}
    expected = {**sizes, **model.options}
    for function, taken in (("initial_state", 2), ("step", 3)):
        for argument in positional(getattr(model, function))[taken:]:
            if argument.default is not inspect.Parameter.empty:
                raise TypeError(
                    f"Model {model.name}: the argument {argument.name!r} of {function} stands where "
                    "random inputs are given, and has a default. An option goes after a star: "
                    f"def {function}(..., *, {argument.name}={argument.default!r})."
                )
    for function in FUNCTIONS:
        for name, value in options(getattr(model, function)).items():
            if value is inspect.Parameter.empty:
                raise TypeError(f"Model {model.name}: the option {name!r} needs a default.")
            if not (value is expected[name] or np.array_equal(value, expected[name])):
                there = "the size of that axis" if name in known else "another function's"
                raise ValueError(
                    f"Model {model.name}: the option {name!r} of {function} is {value!r}, {there} is "
                    f"{expected[name]!r}."
                )


def _verify_stocks(model: Model) -> None:
    pays: dict[str, str | float] = {}
    for key, field in model.State.fields.items():
        if field.role == "stock" and field.asset is None and field.liability is None:
            raise ValueError(
                f"Model {model.name}: the stock {key!r} belongs to nobody: say whose asset or "
                f"liability it is, or declare it as index."
            )
        if field.price:
            _verify_factor(model, key, field, "price", field.price)
        if field.interest and isinstance(field.interest, str):
            _verify_factor(model, key, field, "rate of interest", field.interest)
        if field.instrument and pays.setdefault(field.instrument, field.interest) != field.interest:
            raise ValueError(
                f"Model {model.name}: the stock {key!r} says of the interest on {field.instrument!r} "
                f"{field.interest!r}, another stock {pays[field.instrument]!r}."
            )


def _verify_factor(model: Model, key: str, field: Field, what: str, name: str) -> None:
    factor = model.State.fields.get(name)
    if factor is None:
        raise ValueError(
            f"Model {model.name}: the {what} {name!r} of the stock {key!r} is no variable."
        )
    if factor.shape not in ((), field.shape):
        raise ValueError(
            f"Model {model.name}: the {what} {name!r} of the stock {key!r} has the shape "
            f"{factor.shape}; it must be a scalar or of the stock's shape {field.shape}."
        )


def _verify_horizon(model: Model) -> None:
    for what, count in (("trigger", model.trigger), ("periods", model.periods)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise TypeError(f"Model {model.name}: {what} is a number of periods, not {count!r}.")
    if not 0 <= model.trigger < model.periods:
        raise ValueError(
            f"Model {model.name}: trigger {model.trigger} is not within {model.periods} periods."
        )
