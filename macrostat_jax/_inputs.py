"""What a simulation is given, checked and brought to canonical form."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._fields import Field
from ._model import Model
from ._record import Record


class Inputs(NamedTuple):
    """Everything a run depends on, in canonical form: one float dtype, every path with T rows."""

    params: Any
    scenario: Any
    shocks: dict[str, Any]
    initial: Any
    key: Any
    noise: Any = None
    """The random inputs, where they are given instead of drawn from `key`."""


class Plan(NamedTuple):
    """What a compiled run is specialised to."""

    model: Any
    periods: int
    batch: tuple[int | None, ...] | None = None
    """The batch axis of each leaf of the inputs, None for a single run."""
    checkpoint: bool | int = False
    recorded: tuple[str, ...] | None = None
    """The variables of which the path is kept, None for all."""
    ahead: bool = False
    """Whether the random inputs of all periods may be drawn at once, before the run."""


def prepare(
    model: Model,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    checkpoint: bool | int = False,
    noise: Any = None,
) -> tuple[Inputs, Plan]:
    """Checks what `simulate` was given and brings it to canonical form."""
    if not isinstance(model, Model):
        raise TypeError(f"Expected a model, for instance models.GL06SIM, not {model!r}.")
    shocks = dict(shocks or {})
    given = (params, scenario, shocks, initial, noise)
    if scenario is None or isinstance(scenario, str):
        name = scenario
        scenario = model.scenario(name, periods=periods if model.Scenario.fields else None)
        shocks = {**model.shocks(name, periods=periods), **shocks}
    params = model.params() if params is None else params
    for record, kind in (
        (params, model.Params),
        (scenario, model.Scenario),
        (initial, model.State),
        *(() if model.Noise is None else ((noise, model.Noise),)),
    ):
        # A resized model's records are subclasses of those that its module declares: either will do.
        known = isinstance(record, Record) and (
            isinstance(record, kind) or issubclass(kind, type(record))
        )
        if record is not None and not (known and record.fields.keys() == kind.fields.keys()):
            raise TypeError(
                f"{model.name} expects {kind.__module__}.{kind.__qualname__}, "
                f"not {type(record).__module__}.{type(record).__qualname__}."
            )
    if noise is not None:
        if model.Noise is None:
            raise TypeError(f"{model.name} declares no random inputs: it takes no noise.")
        if key is not None:
            raise TypeError(f"{model.name}: give a key or the noise, not both.")
    elif model.random or model.random_start:
        key = model.check_key(key)
    elif key is not None:
        raise TypeError(f"{model.name} is not random: it takes no key.")

    if not isinstance(checkpoint, int | np.integer) or checkpoint < 0:
        raise ValueError(
            f"{model.name}: checkpoint is True, False or a number of levels, not {checkpoint!r}."
        )
    names: dict[Any, str] = {}
    for label in shocks:
        if (other := names.setdefault(model.split_shock(label), label)) != label:
            raise ValueError(f"{model.name}: {other!r} and {label!r} are one shock: give one.")
    shock_fields = {label: model.Params.fields[model.split_shock(label)[0]] for label in shocks}
    horizon = _find_horizon(model, scenario, shocks, shock_fields, periods, noise)
    dtype = float_dtype(given)
    axes: list[int | None] = []
    sizes: dict[str, int] = {}

    def take(field: Field, value: Any, rows: int | None, whole: bool = False) -> Any:
        kind = jnp.asarray(value).dtype if whole else dtype
        value, batched = _canonical(model, field, value, kind, rows)
        axes.append(0 if batched else None)
        if batched:
            sizes[field.key] = value.shape[0]
        return value

    def record(kind: type[Record], given: Any, rows: int | None = None) -> Any:
        # Positions, counts and flags of an initial state keep their dtype.
        whole = set(kind.fields) - set(model.real) if kind is model.State else set()
        return kind(
            **{k: take(f, getattr(given, k), rows, k in whole) for k, f in kind.fields.items()}
        )

    inputs = Inputs(
        params=record(model.Params, params),
        scenario=record(model.Scenario, scenario, horizon),
        shocks={k: take(shock_fields[k], shocks[k], horizon) for k in sorted(shocks)},
        initial=None if initial is None else record(model.State, initial),
        key=key,
    )
    if key is not None:
        axes.append(0 if jnp.ndim(key) else None)
        if jnp.ndim(key):
            sizes["key"] = key.shape[0]
    if noise is not None:
        assert model.Noise is not None
        rows = horizon + model.random_start
        inputs = inputs._replace(noise=record(model.Noise, noise, rows))
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{model.name}: the batch sizes differ: {sizes}.")
    batch = tuple(axes) if sizes else None
    return inputs, Plan(model, horizon, batch, checkpoint)


def _find_horizon(
    model: Model,
    scenario: Any,
    shocks: dict,
    shock_fields: dict,
    periods: int | None,
    noise: Any = None,
) -> int:
    given = {key: (field, getattr(scenario, key)) for key, field in model.Scenario.fields.items()}
    given |= {label: (shock_fields[label], shocks[label]) for label in shocks}
    lengths = {
        name: np.shape(value)[-len(field.shape) - 1]
        for name, (field, value) in given.items()
        if np.ndim(value) > len(field.shape)
    }
    if noise is not None:
        assert model.Noise is not None
        for name, field in model.Noise.fields.items():
            shape = np.shape(getattr(noise, name))
            if len(shape) <= len(field.shape):
                raise ValueError(
                    f"{model.name}: the noise {name!r} is a path, of shape {('T', *field.shape)}; not "
                    f"{shape}."
                )
            lengths[f"noise.{name}"] = shape[-len(field.shape) - 1] - model.random_start
    if periods is not None:
        lengths["periods"] = periods
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{model.name}: the horizons differ: {lengths}.")
    horizon = next(iter(lengths.values()), model.periods)
    if horizon < 1:
        raise ValueError(f"{model.name}: a run needs at least one period, not {horizon}.")
    return horizon


def _canonical(
    model: Model, field: Field, value: Any, dtype: Any, horizon: int | None
) -> tuple[Any, bool]:
    """The value as an array of the run's dtype (a path if there is a horizon); is it a batch?"""
    lead = () if horizon is None else (horizon,)
    module: Any = jnp if isinstance(value, jax.Array) else np
    if np.shape(value) == ():  # a number fills any shape
        value = module.broadcast_to(value, field.shape)
    shape = np.shape(value)
    if horizon is not None and shape == field.shape:
        value, shape = (
            module.broadcast_to(value, (*lead, *shape)),
            (*lead, *shape),
        )
    batched = len(shape) == len(lead) + len(field.shape) + 1
    if shape[1 if batched else 0 :] != (*lead, *field.shape):
        expected = f"{(*lead, *field.shape)}" + (f" or {field.shape}" if lead else "")
        raise ValueError(
            f"{model.name}: {field.key!r} must have the shape {expected}, or a batch axis before it; "
            f"not {shape}."
        )
    if isinstance(value, jax.Array):
        floating = jnp.issubdtype(value.dtype, jnp.floating)
        return (value.astype(dtype) if floating and value.dtype != dtype else value), batched
    array = np.asarray(value)
    # Numbers from Python and NumPy integers stand for real quantities here.
    return array.astype(dtype) if array.dtype != dtype else array, batched


def float_dtype(*trees: Any) -> Any:
    """The widest float dtype of the JAX arrays; else of the NumPy arrays; else JAX's default float.

    NumPy arrays come second because NumPy makes float64 of every Python number, a model's defaults
    among them: they must not widen what a user keeps in float32.
    """
    found: dict[bool, Any] = {}
    for leaf in jax.tree.leaves(trees):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or getattr(leaf, "weak_type", False):
            continue
        if jnp.issubdtype(dtype, jnp.floating):
            ours, dtype = isinstance(leaf, jax.Array), jax.dtypes.canonicalize_dtype(dtype)
            # Under strict promotion JAX has no common type of float32 and float64.
            found[ours] = max(found.get(ours, dtype), dtype, key=lambda dtype: dtype.itemsize)
    default = jax.dtypes.canonicalize_dtype(float)
    return found.get(True, found.get(False, default))
