"""What users give for fields: numbers of the declared shape, within the declared bounds."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._fields import Field


def default(model: str, field: Field) -> Any:
    """A Python number where the field is scalar: it takes on the dtype of what it meets."""
    if field.default is None:
        raise ValueError(
            f"{model}: {field.key!r} of shape {field.shape} has no default in this size: give its "
            "values for the whole run."
        )
    return np.broadcast_to(field.default, field.shape) if field.shape else field.default


def concrete(value: Any) -> np.ndarray | None:
    """None of what is traced."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def numbers(model: str, kind: str, field: Field, value: Any) -> Any:
    """`value`; a list or tuple as an array of floats."""
    if isinstance(value, jax.core.Tracer):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # rows of several lengths; a key of JAX's
        array = np.asarray(None)
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{model}: {kind} {field.key!r} takes numbers, not {value!r}.")
    if np.iscomplexobj(array):
        raise TypeError(f"{model}: {kind} {field.key!r} takes real numbers, not {value!r}.")
    return array.astype(float) if isinstance(value, list | tuple) else value


def check(model: str, field: Field, value: Any) -> None:
    """Raises ValueError where the value of a parameter has another shape, or is not within its bounds."""
    shape = np.shape(value)
    if shape not in ((), field.shape) and shape[1:] != field.shape:
        raise ValueError(
            f"{model}: parameter {field.key!r} has shape {field.shape} (or a batch axis before "
            f"it), not {shape}."
        )
    array = concrete(value)
    if array is None:
        return
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{model}: parameter {field.key!r} must be finite, not {value}.")
    if not field.within(array):
        raise ValueError(
            f"{model}: parameter {field.key!r} must lie in its bounds {field.interval}, not {value}."
        )
