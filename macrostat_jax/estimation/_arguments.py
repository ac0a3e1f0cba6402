"""The arguments of a problem, brought to the form in which a run takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._inputs import Inputs
from .._model import Model
from ._calendar import lay_out
from ._free import Place, Tie, place, places
from ._priors import Prior, check_within
from ._programs import _at, _first_state

Bounds = dict[Place, tuple[float, float]]


def _float64(tree: Any) -> Any:
    """Floating arrays as float64 NumPy: calibration computes in float64 whatever the inputs' dtype."""

    def one(leaf: Any) -> Any:
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.asarray(leaf, np.float64)
        return leaf

    return jax.tree.map(one, tree)


def _canonical(tree: Any) -> Any:
    """NumPy's float64 in what JAX computes in: float64 itself, or float32 where that is off."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64)

    def one(leaf: Any) -> Any:
        wide = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype == np.float64
        return np.asarray(leaf, dtype) if wide else leaf

    return jax.tree.map(one, tree)


def _base(model: Model, params: Any, fixed: Mapping[str, Any]) -> Any:
    """The parameters where nothing is moved."""
    if params is None:
        return model.params(**fixed)
    if not fixed:
        return params
    given = {name: getattr(params, name) for name in params.fields}
    derived = {constraint.derived for constraint in model.constraints}
    given |= {model.Params.key_of(name): value for name, value in fixed.items()}
    return model.params(**{k: v for k, v in given.items() if k not in derived})


def _check_fixed(
    model: Model, fixed: Mapping[str, Any], free: Mapping[Place, Any], tied: Sequence[Any]
) -> None:
    rests = {tie.rest for tie in tied}
    for name in fixed:
        key = model.Params.key_of(name)
        for one in places(model, key):
            if one in free or one in rests:
                whole = all(p in free for p in places(model, key))
                if whole or one in rests:
                    raise ValueError(
                        f"{name!r} is both fixed and free, or derived from what is free."
                    )


def _columns(model: Model, scenario: Any) -> dict[str, str]:
    """The series of a scenario that are columns of the data."""
    if not isinstance(scenario, Mapping):
        return {}
    named = {model.Scenario.key_of(name): value for name, value in scenario.items()}
    return {key: value for key, value in named.items() if isinstance(value, str)}


def _length(model: Model, scenario: Any, shocks: Any, noise: Any) -> int | None:
    """The horizon that given paths have."""
    if isinstance(scenario, Mapping):
        for name, value in scenario.items():
            shape = model.Scenario.fields[model.Scenario.key_of(name)].shape
            if not isinstance(value, str) and np.ndim(value) > len(shape):
                return np.shape(value)[0]
        return None
    fields = {} if scenario is None or isinstance(scenario, str) else model.Scenario.fields
    for key, field in fields.items():
        value = getattr(scenario, key)
        if np.ndim(value) > len(field.shape):
            return np.shape(value)[0]
    for label, value in (shocks or {}).items():
        field = model.Params.fields[model.split_shock(label)[0]]
        if np.ndim(value) > len(field.shape):
            return np.shape(value)[0]
    if noise is not None and model.Noise is not None:
        key, field = next(iter(model.Noise.fields.items()))
        return np.shape(getattr(noise, key))[-len(field.shape) - 1] - model.random_start
    return None


def _scenario(
    model: Model, scenario: Any, columns: Mapping[str, str], table: Mapping[str, Any], calendar: Any
) -> Any:
    """Exogenous paths, those that are columns of the data laid out over the run."""
    if not isinstance(scenario, Mapping):
        return scenario
    given = {model.Scenario.key_of(name): value for name, value in scenario.items()}
    for key, column in columns.items():
        if column not in table:
            raise KeyError(
                f"The data have no column {column!r} for the series {key!r}. Columns: {', '.join(table)}."
            )
        values, _, dates = lay_out(column, table[column][0], table[column][1], calendar)
        missing = [date for date, value in zip(dates, values, strict=True) if np.isnan(value)]
        if len(values) != calendar.periods:
            raise ValueError(
                f"The column {column!r} must be of the run's frequency, {calendar.freq}."
            )
        if missing:
            raise ValueError(
                f"The series {key!r} needs a value in every period of the run, {calendar.span}; the column "
                f"{column!r} has none in {len(missing)} of them, the first {missing[0]}."
            )
        given[key] = values
    return model.scenario(periods=calendar.periods, **given)


def _initial(model: Model, inputs: Inputs, given: Mapping[str, Any]) -> Inputs:
    """Inputs with an explicit initial state, of which some fields are given."""
    state = _first_state(model, inputs)
    for key, value in given.items():
        state = state.replace(
            **{key: jnp.broadcast_to(jnp.asarray(value, float), getattr(state, key).shape)}
        )
    return inputs._replace(initial=jax.tree.map(np.asarray, state))


def _priors(
    model: Model, given: Mapping[str, Prior], bounds: Bounds
) -> tuple[dict[str, Prior], dict[str, float]]:
    """The priors by the labels of the free numbers, and the mass of each within its bounds.

    They narrow `bounds` to where they end.
    """
    found: dict[str, Prior] = {}
    mass: dict[str, float] = {}
    for name, prior in given.items():
        for one in places(model, name):
            if one not in bounds:
                raise KeyError(
                    f"priors names {one.label!r}, which is not free. Free are: {_labels(bounds)}."
                )
            if one.label in found:
                raise ValueError(f"priors names {one.label!r} twice.")
            low, high = bounds[one]
            mass[one.label] = check_within(one.label, prior, low, high)
            least, most = prior.support
            bounds[one] = max(low, least), min(high, most)
            found[one.label] = prior
    return found, mass


def _check_ties(ties: Sequence[Tie], bounds: Bounds, inputs: Inputs, given: Sequence[str]) -> None:
    """What is fixed of a sum must be known before a run; a model's own initial state is made in it."""
    whole = inputs.initial is not None and not given
    fixed = [
        one.label
        for tie in ties
        for one in tie.members[:-1]
        if one.group == "initial" and one not in bounds and not whole and one.key not in given
    ]
    if fixed:
        raise ValueError(
            f"{', '.join(fixed)} are in a sum and neither free nor given: say initial=, or free them."
        )


def _named(
    model: Model, values: Mapping[str, Any], what: str, bounds: Bounds
) -> dict[Place, float]:
    """Values of free numbers that are given by name."""
    found = {}
    for name, value in values.items():
        one = place(model, name)
        if one in found:
            raise ValueError(f"{what} names {one.label!r} twice.")
        if one not in bounds:
            raise KeyError(
                f"{what} names {name!r}, which is not free. Free are: {_labels(bounds)}."
            )
        found[one] = float(value)
    return found


def _start_values(
    model: Model,
    inputs: Inputs,
    start: Mapping[str, float],
    bounds: Bounds,
    ties: Sequence[Tie],
    priors: Mapping[str, Prior],
) -> dict[Place, float]:
    """The value of every free, tied and derived number at the start."""
    if inputs.initial is None and any(one.group == "initial" for one in bounds):
        inputs = inputs._replace(initial=_first_state(model, inputs))
    among = {member for tie in ties for member in tie.members}
    values = {one: float(_at(inputs, one)) for one in {*bounds, *among}}
    values |= _named(model, start, "start", bounds)
    for one, (low, high) in bounds.items():
        if not low < values[one] < high:
            where = "at a bound" if values[one] in (low, high) else "outside the bounds"
            prior = f" of its prior {priors[one.label]!r}" if one.label in priors else ""
            raise ValueError(
                f"{model.name}: {one.label!r} starts at {values[one]:g}, {where} "
                f"({low:g}, {high:g}){prior}: give it a start strictly within, "
                f"start={{{one.label!r}: ...}}, or other bounds."
            )
    return values


def _labels(bounds: Bounds) -> str:
    return ", ".join(one.label for one in bounds)
