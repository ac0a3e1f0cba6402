"""What a model's functions do, as tracing them with the shapes of their arguments tells."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from ._record import Record

if TYPE_CHECKING:
    from ._model import Model


CLOSED = ("stop_gradient", "while")
"""Operations through which no derivative runs backwards."""


class Traced(NamedTuple):
    """What a run needs to know of a model."""

    remembered: tuple[str, ...]
    """The variables whose last values the step reads."""
    unchanged: tuple[str, ...]
    """Those of them that the step returns as they were given."""
    recomputed: bool
    """Whether reverse mode may compute a period's intermediate values again."""
    real: tuple[str, ...]
    """The variables that are real numbers."""


def abstract_inputs(model: Model) -> tuple[Any, ...]:
    """The shapes and dtypes of what `step` takes: prior state, parameters, exogenous row, and the
    noise or the key."""
    return _abstract(model)[1]


def traced(model: Model) -> Traced:
    """Traces the functions of a model once, without compiling.

    Raises:
        TypeError, ValueError: what a function returns is not of the declared kind, shape or dtype. What
            a function raises itself has a note with the names of the model and of the function.
    """
    first, inputs = _abstract(model)
    after, jaxpr = _traced_step(model, *inputs)
    states = {"initial_state": first, "step": after}
    if model.log_density is not None:
        _check_density(model, model.log_density, inputs)
    if model.steady_state is not None:
        _, params, row, *_ = inputs
        states["steady_state"] = _traced_state(
            model, "steady_state", model.steady_state, params, row
        )
    for function, state in states.items():
        _check_shapes(model, function, state)
    _check_dtypes(model, first, after)
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars}
    read |= {id(var) for var in jaxpr.outvars}
    # The prior state comes first.
    through = list(zip(model.State.fields, jaxpr.invars, jaxpr.outvars, strict=False))
    return Traced(
        remembered=tuple(key for key, var, _ in through if id(var) in read),
        unchanged=tuple(key for key, var, out in through if out is var),
        # The derivative of a largest or smallest element goes to those that equal it. Computed again by
        # another instruction, none may to the last bit, and the derivative would be lost.
        recomputed=not _uses(jaxpr, ("reduce_max", "reduce_min")),
        real=tuple(key for key in model.State.fields if not _is_whole(getattr(first, key))),
    )


def _abstract(model: Model) -> tuple[Any, tuple[Any, ...]]:
    """What `initial_state` gives, and what `step` takes."""
    dtype = jax.dtypes.canonicalize_dtype(float)

    def floats(record: type[Record]) -> Any:
        return record(
            **{k: jax.ShapeDtypeStruct(field.shape, dtype) for k, field in record.fields.items()}
        )

    random: Any = jax.eval_shape(lambda: jax.random.key(0))
    if model.Noise is not None:
        random = _traced_noise(model, dtype)
    params, row = floats(model.Params), floats(model.Scenario)
    more = (random,) if model.random_start else ()
    first = _traced_state(model, "initial_state", model.initial_state, params, row, *more)
    kept = {
        name: jax.ShapeDtypeStruct(field.shape, getattr(first, name).dtype)
        for name, field in model.State.fields.items()
        if _is_whole(getattr(first, name))
    }
    prior = floats(model.State).replace(**kept)
    return first, (prior, params, row, *((random,) if model.random else ()))


def _traced_noise(model: Model, dtype: Any) -> Any:
    draw = functools.partial(jax.eval_shape, lambda: model.draw(jax.random.key(0), dtype))
    drawn = _noted(model, "the distributions of Noise", draw)
    assert model.Noise is not None
    for name, field in model.Noise.fields.items():
        value = getattr(drawn, name)
        shape = getattr(value, "shape", None)
        if shape != field.shape:
            what = f"the shape {shape}" if shape is not None else repr(value)
            raise ValueError(
                f"Model {model.name}: the distribution of {name!r} draws {what}, declared is "
                f"{field.shape}."
            )
    return drawn


def _is_whole(value: Any) -> bool:
    """Positions, counts and flags keep their dtype over a run; Python's integers become floats."""
    return not (jnp.issubdtype(value.dtype, jnp.floating) or value.weak_type)


def _check_shapes(model: Model, function: str, state: Any) -> None:
    for name, field in model.State.fields.items():
        value = getattr(state, name)
        if value.shape not in ((), field.shape):
            raise ValueError(
                f"Model {model.name}: {function} gives {name!r} the shape {value.shape}, "
                f"declared is {field.shape}."
            )


def _check_dtypes(model: Model, first: Any, after: Any) -> None:
    for name in model.State.fields:
        dtypes = [
            value.dtype if _is_whole(value) else "float"
            for value in (getattr(first, name), getattr(after, name))
        ]
        if dtypes[0] != dtypes[1]:
            raise TypeError(
                f"Model {model.name}: {name!r} changes its dtype over a step: initial_state gives "
                f"{dtypes[0]}, step gives {dtypes[1]}."
            )


def _check_density(model: Model, log_density: Any, inputs: tuple[Any, ...]) -> None:
    if not model.random:
        raise TypeError(f"Model {model.name}: it declares log_density, and its step is not random.")
    prior, params, row, *_ = inputs
    trace = functools.partial(jax.eval_shape, log_density)
    value = _noted(model, "log_density", trace, prior, prior, params, row)
    scalar = getattr(value, "shape", None) == ()
    if not (scalar and jnp.issubdtype(value.dtype, jnp.floating)):
        raise TypeError(
            f"Model {model.name}: log_density must return one real number, not {value}."
        )


def _uses(jaxpr: Any, names: tuple[str, ...]) -> bool:
    """Whether a program, or one it calls, has one of these operations on a way by which a derivative runs
    backwards from its results: not through whole numbers and flags, `stop_gradient`, or a loop that ends
    by a condition, as solvers have."""
    leads = {id(var) for var in jaxpr.outvars if _is_real(var)}
    for equation in reversed(jaxpr.eqns):
        name = equation.primitive.name
        if name in CLOSED or not any(id(var) in leads for var in equation.outvars):
            continue
        if name in names or any(_uses(one, names) for one in jaxprs_in_params(equation.params)):
            return True
        leads |= {id(var) for var in equation.invars if _is_real(var)}
    return False


def _is_real(var: Any) -> bool:
    return jnp.issubdtype(getattr(var.aval, "dtype", bool), jnp.inexact)


def _traced_step(model: Model, *args: Any) -> tuple[Any, Any]:
    """The shapes of what the step returns, and its equations."""
    trace = jax.make_jaxpr(model.step, return_shape=True)
    jaxpr, state = _noted(model, "step", trace, *args)
    return _checked_state(model, "step", state), jaxpr.jaxpr


def _traced_state(model: Model, name: str, function: Callable[..., Any], *args: Any) -> Any:
    state = _noted(model, name, functools.partial(jax.eval_shape, function), *args)
    return _checked_state(model, name, state)


def _noted(model: Model, name: str, trace: Callable[..., Any], *args: Any) -> Any:
    try:
        return trace(*args)
    except Exception as error:
        error.add_note(
            f"Model {model.name}: raised by {name}, which is traced when it is declared."
        )
        raise


def _checked_state(model: Model, name: str, state: Any) -> Any:
    # A resized model's records are subclasses, of the same fields, of those that its functions name.
    known = isinstance(state, Record) and issubclass(model.State, type(state))
    if not known or state.fields.keys() != model.State.fields.keys():
        raise TypeError(
            f"Model {model.name}: {name} must return {model.State.__qualname__}, "
            f"not {type(state).__name__}."
        )
    for key in model.State.fields:
        if not hasattr(value := getattr(state, key), "dtype"):
            raise TypeError(
                f"Model {model.name}: {name} must give {key!r} a number or an array, not "
                f"{type(value).__name__}."
            )
    return state
