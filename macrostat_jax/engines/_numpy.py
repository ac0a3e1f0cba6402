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
    """Quotients; of whole numbers cut, and -1 where the divisor is 0, as XLA has them."""
    if _is_whole(a):
        cut = (a - np.fmod(a, b)) // b
        return np.where(b == 0, np.asarray(-1).astype(cut.dtype), cut)
    return np.true_divide(a, b)


def _remainder(a: Any, b: Any) -> Any:
    """What the quotient leaves; of whole numbers everything, where the divisor is 0."""
    return np.where(b == 0, a, np.fmod(a, b)) if _is_whole(a) else np.fmod(a, b)


def _is_whole(x: Any) -> bool:
    return np.asarray(x).dtype.kind in "iu"


def _converted(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """As another kind of numbers: beyond whole ones are the last of them, and NaN is 0, as XLA has it."""
    if x.dtype.kind != "f" or dtype.kind not in "iu":
        return x.astype(dtype)
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    inside = np.where((x > least) & (x < most), x, 0).astype(dtype)
    return np.where(x >= most, most, np.where(x <= least, least, inside)).astype(dtype)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "rem": _remainder,
    "neg": np.negative,
    "abs": np.abs,
    "sign": lambda x: np.where(x == 0, x, np.sign(x)),
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

REDUCTIONS: dict[str, np.ufunc] = {
    "reduce_sum": np.add,
    "reduce_prod": np.multiply,
    "reduce_max": np.maximum,
    "reduce_min": np.minimum,
    "reduce_and": np.bitwise_and,
    "reduce_or": np.bitwise_or,
    "reduce_xor": np.bitwise_xor,
}


def _reduced(function: np.ufunc, x: Any, axes: Sequence[int]) -> Any:
    """Along all axes at once; numbers stay of their kind, and of none the extremes are the last ones."""
    extreme = {np.maximum: min, np.minimum: max}.get(function)
    more = {}
    if extreme is not None and x.dtype.kind != "b" and not x.size:
        ends = (
            (-np.inf, np.inf)
            if x.dtype.kind == "f"
            else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        )
        more = {"initial": extreme(ends)}
    return function.reduce(x, axis=tuple(axes), dtype=x.dtype, **more)


class NumPy(Engine):
    """Arrays of NumPy."""

    name = "numpy"

    def _method(self, name: str) -> Callable[..., Any] | None:
        if (function := ELEMENTWISE.get(name)) is not None:
            # What follows the arrays are hints to the compiler: accuracy, sharding.
            return lambda *values, **_: function(*values)
        if (function := REDUCTIONS.get(name)) is not None:
            return lambda x, *, axes, **_: _reduced(function, x, axes)
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
        return _converted(np.asarray(value), dtype)

    def reshape_to(self, value: Any, shape: Sequence[int]) -> Any:
        return np.reshape(value, shape)

    def permute(self, value: Any, axes: Sequence[int]) -> Any:
        return np.transpose(value, axes)

    def broadcast_to(self, value: Any, shape: Sequence[int]) -> Any:
        return np.broadcast_to(value, shape)

    def join(self, values: Sequence[Any], axis: int) -> Any:
        return np.concatenate(values, axis)

    def stack(self, *values: Any, axis: int = 0, **_: Any) -> Any:
        return np.stack(values, axis)

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
        result = cases[0]
        for number, case in enumerate(cases[1:], 1):
            result = np.where(which == number, case, result)
        return result

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
        if reverse:
            return np.flip(np.cumsum(np.flip(x, axis), axis, x.dtype), axis)
        return np.cumsum(x, axis, x.dtype)
