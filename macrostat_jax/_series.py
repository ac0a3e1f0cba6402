"""Paths of exogenous series and of parameter shocks, from what is declared and what the user changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from . import _values
from ._fields import Field

if TYPE_CHECKING:
    from ._model import Model

SHOCKS = ("add", "multiply")


def exogenous(
    model: Model,
    name: str | None,
    periods: int | None,
    start: int | None,
    series: Mapping[str, Any],
) -> dict[str, Any]:
    """The path of every exogenous field, as `Model.scenario` says."""
    fields = model.Scenario.fields
    if not fields and periods is not None:
        raise ValueError(
            f"{model.name} has no exogenous series, whose length could say how long to run: pass "
            f"periods={periods} to simulate."
        )
    horizon, start = window(model, periods, start)
    own = model.Scenario._by_key(series)
    paths: dict[str, Any] = {
        key: np.broadcast_to(
            np.nan if field.default is None else field.default, (horizon, *field.shape)
        )
        for key, field in fields.items()
    }
    for key, value in {**_named(model, name)[0], **own}.items():
        begin = start if key in own else model.trigger
        paths[key] = _spliced(model.name, fields[key], paths[key], begin, value)
    for key, field in fields.items():
        path = _values.concrete(paths[key])
        if field.default is None and path is not None and np.isnan(path).any():
            _values.default(model.name, field)
    return paths


def shocks(
    model: Model,
    name: str | None,
    periods: int | None,
    start: int | None,
    series: Mapping[str, Any],
) -> dict[str, Any]:
    """The path of every parameter shock, as `Model.shocks` says."""
    horizon, start = window(model, periods, start)
    own = _shocks_by_key(model, series)
    paths: dict[str, Any] = {}
    for label, value in {**_named(model, name)[1], **own}.items():
        key, kind = model.split_shock(label)
        field = model.Params.fields[key]
        begin = start if label in own else model.trigger
        neutral = np.full((horizon, *field.shape), 1.0 if kind == "multiply" else 0.0)
        paths[label] = _spliced(model.name, field, neutral, begin, value)
    return paths


def window(model: Model, periods: int | None, start: int | None) -> tuple[int, int]:
    """The horizon, and the period in which a user's series set in."""
    horizon = model.periods if periods is None else periods
    begin = 0 if start is None else start
    for what, count in (("periods", horizon), ("start", begin)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise TypeError(f"{model.name}: {what} must be an integer, not {count!r}.")
    if horizon < 1:
        raise ValueError(f"{model.name}: periods must be at least 1, not {horizon}.")
    if not 0 <= begin < horizon:
        raise ValueError(f"{model.name}: start must lie in 0 to {horizon - 1}, not {begin}.")
    return horizon, begin


def _named(model: Model, name: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The exogenous series of a declared scenario, and its parameter shocks."""
    if name is None:
        return {}, {}
    if name not in model.scenarios:
        known = ", ".join(repr(key) for key in model.scenarios) or "none besides the default"
        raise KeyError(f"{model.name} has no scenario {name!r}. There are: {known}.")
    declared = model.scenarios[name]
    known = {*model.Scenario.fields, *(field.name for field in model.Scenario.fields.values())}
    series = {label: value for label, value in declared.items() if label in known}
    others = {label: value for label, value in declared.items() if label not in known}
    return model.Scenario._by_key(series), _shocks_by_key(model, others)


def _shocks_by_key(model: Model, series: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for label, value in series.items():
        shock = "_".join(model.split_shock(label))
        if shock in given:
            raise TypeError(f"{model.name}: the shock {shock!r} is given twice.")
        given[shock] = value
    return given


def _spliced(model: str, field: Field, path: Any, start: int, value: Any) -> Any:
    """`path` with `value` from `start` on: a number to the end, an array for its own length."""
    value = _values.numbers(model, "series", field, value)
    horizon, shape = path.shape[0], np.shape(value)
    array = _values.concrete(value)
    if array is not None and not np.all(np.isfinite(array)):
        raise ValueError(f"{model}: series {field.key!r} must be finite, not {value}.")
    if shape in ((), field.shape):
        length = horizon - start
    elif shape[1:] == field.shape and shape[0] <= horizon - start:
        length = shape[0]
    else:
        raise ValueError(
            f"{model}: series {field.key!r} takes one value of shape {field.shape}, or up to "
            f"{horizon - start} of them (from period {start} to {horizon}), not shape {shape}."
        )
    if array is None:
        # A dtype that the user has chosen decides; NumPy's defaults and Python's numbers follow.
        chosen = jnp.issubdtype(value.dtype, jnp.floating) and not value.weak_type
        path = jnp.asarray(path, value.dtype if chosen else None)
        return path.at[start : start + length].set(value.astype(path.dtype))
    result = np.array(path, dtype=np.result_type(path, array))
    result[start : start + length] = array
    return result
