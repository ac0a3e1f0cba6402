"""The NumPy engine: every primitive in float64 or whatever comes in, without derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.special
from jax.lax import RoundingMethod

from ._evaluate import Engine


def _sigmoid(x: Any) -> Any:
    return scipy.special.expit(x)


def _divide(a: Any, b: Any) -> Any:
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return np.trunc(np.true_divide(a, b)).astype(np.asarray(a).dtype)
    return np.true_divide(a, b)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "rem": np.fmod,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "square": np.square,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "logistic": _sigmoid,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "erf_inv": scipy.special.erfinv,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "is_finite": np.isfinite,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
}
"""Primitives of one or two arrays, element by element."""

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": np.sum,
    "reduce_prod": np.prod,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_and": np.all,
    "reduce_or": np.any,
}


class NumPy(Engine):
    """Arrays of NumPy."""

    name = "numpy"

    def _method(self, name: str) -> Callable[..., Any] | None:
        if (function := ELEMENTWISE.get(name)) is not None:
            # What follows the arrays are hints to the compiler: accuracy, sharding.
            return lambda *values, **_: function(*values)
        if (function := REDUCTIONS.get(name)) is not None:
            return lambda x, *, axes, **_: function(x, axis=tuple(axes))
        return super()._method(name)

    def run(self, program: Any, *arguments: Any) -> list[Any]:
        with np.errstate(all="ignore"):  # both branches of a switch are computed, as in JAX
            return super().run(program, *arguments)

    def asarray(self, value: Any) -> Any:
        return np.asarray(value)

    def numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def shape(self, value: Any) -> tuple[int, ...]:
        return np.shape(value)

    def astype(self, value: Any, dtype: np.dtype) -> Any:
        return np.asarray(value).astype(dtype)

    def reshape_to(self, value: Any, shape: Sequence[int]) -> Any:
        return np.reshape(value, shape)

    def permute(self, value: Any, axes: Sequence[int]) -> Any:
        return np.transpose(value, axes)

    def broadcast_to(self, value: Any, shape: Sequence[int]) -> Any:
        return np.broadcast_to(value, shape)

    def join(self, values: Sequence[Any], axis: int) -> Any:
        return np.concatenate(values, axis)

    def take(self, value: Any, positions: Any) -> Any:
        return value[positions]

    def added_at(self, value: Any, positions: Any, updates: Any) -> Any:
        result = np.array(value)
        np.add.at(result, positions, updates)
        return result

    def matmul(self, a: Any, b: Any) -> Any:
        return np.matmul(a, b)

    def linear_solve(self, a: Any, b: Any) -> Any:
        return np.linalg.solve(a, b)

    def select_n(self, which: Any, *cases: Any, **_: Any) -> Any:
        if len(cases) == 2:
            return np.where(which, cases[1], cases[0])
        return np.choose(which, cases)

    def round(self, x: Any, *, rounding_method: Any, **_: Any) -> Any:
        if rounding_method == RoundingMethod.TO_NEAREST_EVEN:
            return np.round(x)
        return np.where(np.abs(x - np.trunc(x)) == 0.5, np.trunc(x) + np.sign(x), np.round(x))

    def clamp(self, low: Any, x: Any, high: Any, **_: Any) -> Any:
        return np.minimum(np.maximum(x, low), high)

    def integer_pow(self, x: Any, *, y: int, **_: Any) -> Any:
        return np.power(x, y) if y >= 0 else 1 / np.power(x, -y)

    def argmin(self, x: Any, *, axes: Any, index_dtype: Any, **_: Any) -> Any:
        return np.argmin(x, axis=axes[0]).astype(index_dtype)

    def argmax(self, x: Any, *, axes: Any, index_dtype: Any, **_: Any) -> Any:
        return np.argmax(x, axis=axes[0]).astype(index_dtype)

    def cumsum(self, x: Any, *, axis: int, reverse: bool = False, **_: Any) -> Any:
        return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)
