r"""Dual numbers in NumPy: forward mode from first principles.

A dual number a + b \epsilon, with \epsilon^2 = 0, carries a derivative along: f(a + b \epsilon) =
f(a) + f'(a) b \epsilon. Every primitive is computed on values by the NumPy engine; its derivative is
written down here from the calculus of one and two variables, and nothing of JAX's is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._evaluate import Engine
from ._numpy import NumPy

UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "neg": lambda x, y: -1.0,
    "abs": lambda x, y: np.where(x >= 0, 1.0, -1.0),  # at the kink, as in JAX
    "exp": lambda x, y: y,
    "exp2": lambda x, y: math.log(2.0) * y,
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log1p": lambda x, y: 1 / (1 + x),
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y / x,
    "cbrt": lambda x, y: 1 / (3 * y * y),
    "square": lambda x, y: 2 * x,
    "sin": lambda x, y: np.cos(x),
    "cos": lambda x, y: -np.sin(x),
    "tan": lambda x, y: 1 + y * y,
    "asin": lambda x, y: 1 / np.sqrt(1 - x * x),
    "acos": lambda x, y: -1 / np.sqrt(1 - x * x),
    "atan": lambda x, y: 1 / (1 + x * x),
    "sinh": lambda x, y: np.cosh(x),
    "cosh": lambda x, y: np.sinh(x),
    "tanh": lambda x, y: 1 - y * y,
    "logistic": lambda x, y: y * (1 - y),
    "erf": lambda x, y: 2 / math.sqrt(math.pi) * np.exp(-x * x),
    "erfc": lambda x, y: -2 / math.sqrt(math.pi) * np.exp(-x * x),
    "erf_inv": lambda x, y: math.sqrt(math.pi) / 2 * np.exp(y * y),
}
"""f' from x and y = f(x)."""

BINARY: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "add": lambda a, b, y: (1.0, 1.0),
    "add_any": lambda a, b, y: (1.0, 1.0),
    "sub": lambda a, b, y: (1.0, -1.0),
    "mul": lambda a, b, y: (b, a),
    "div": lambda a, b, y: (1 / b, -y / b),
    "rem": lambda a, b, y: (1.0, -np.trunc(a / b)),
    "pow": lambda a, b, y: (_power_slope(a, b), y * np.log(np.where(a == 0, 1.0, a))),
    "atan2": lambda a, b, y: (b / (a * a + b * b), -a / (a * a + b * b)),
    # At a tie the two share: the convention of JAX, and the mean of the one-sided derivatives.
    "max": lambda a, b, y: (_share(a, b), _share(b, a)),
    "min": lambda a, b, y: (_share(b, a), _share(a, b)),
}
"""Both partial derivatives of f(a, b), from a, b and y."""

FLAT = {"sign", "floor", "ceil", "round", "eq", "ne", "lt", "le", "gt", "ge", "is_finite", "and"}
FLAT |= {"or", "xor", "not", "argmin", "argmax", "reduce_and", "reduce_or", "iota"}
"""Primitives whose derivative is zero wherever there is one."""


def _share(a: Any, b: Any) -> Any:
    return np.where(a > b, 1.0, np.where(a == b, 0.5, 0.0))


def _power_slope(a: Any, b: Any) -> Any:
    """b a^(b - 1); 0 where b is 0, whatever a is."""
    return np.where(b == 0, 0.0, b * np.power(a, np.where(b == 0, 1, b - 1)))


class Number:
    """A value with its derivative, two arrays of one shape; `dot` is None where it is zero."""

    __slots__ = ("dot", "value")

    def __init__(self, value: Any, dot: Any = None) -> None:
        self.value, self.dot = np.asarray(value), dot

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


class Dual(Engine):
    """Dual numbers of NumPy arrays."""

    name = "dual"

    def __init__(self) -> None:
        self._numpy = NumPy()

    def run(self, program: Any, *arguments: Any) -> list[Any]:
        with np.errstate(all="ignore"):
            return super().run(program, *arguments)

    def _method(self, name: str) -> Callable[..., Any] | None:
        if own := super()._method(name):
            return own
        values = self._numpy._method(name)
        if values is None:
            return None
        if name in FLAT:
            return lambda *x, **params: Number(values(*(n.value for n in x), **params))
        if name in UNARY:
            return lambda x, **params: _unary(name, values, x, params)
        if name in BINARY:
            return lambda a, b, **params: _binary(name, values, a, b, params)
        return None

    def asarray(self, value: Any) -> Number:
        return Number(value)

    def numpy(self, value: Any) -> np.ndarray:
        return value.value

    def astype(self, value: Any, dtype: np.dtype) -> Any:
        dot = value.dot if np.issubdtype(dtype, np.floating) else None
        return Number(value.value.astype(dtype), None if dot is None else dot.astype(dtype))

    def row(self, value: Any, at: int) -> Any:
        return _linear(lambda x: x[at], value)

    def reshape_to(self, value: Any, shape: Sequence[int]) -> Any:
        return _linear(lambda x: np.reshape(x, shape), value)

    def permute(self, value: Any, axes: Sequence[int]) -> Any:
        return _linear(lambda x: np.transpose(x, axes), value)

    def broadcast_to(self, value: Any, shape: Sequence[int]) -> Any:
        return _linear(lambda x: np.broadcast_to(x, shape), value)

    def join(self, values: Sequence[Any], axis: int) -> Any:
        return _linear(lambda *x: np.concatenate(x, axis), *values)

    def take(self, value: Any, positions: Any) -> Any:
        return _linear(lambda x: x[positions.value], value)

    def added_at(self, value: Any, positions: Any, updates: Any) -> Any:
        def added(x: Any, more: Any) -> Any:
            return self._numpy.added_at(x, positions.value, more)

        return _linear(added, value, updates)

    def matmul(self, a: Any, b: Any) -> Any:
        return Number(
            a.value @ b.value,
            _sum(_product(a.dot, b.value), _product(a.value, b.dot)),
        )

    def linear_solve(self, a: Any, b: Any) -> Any:
        """From a x = b: a dx = db - da x."""
        x = np.linalg.solve(a.value, b.value)
        change = _sum(b.dot, None if a.dot is None else -(a.dot @ x))
        return Number(x, None if change is None else np.linalg.solve(a.value, change))

    def select_n(self, which: Any, *cases: Any, **_: Any) -> Any:
        return _linear(lambda *x: self._numpy.select_n(which.value, *x), *cases)

    def clamp(self, low: Any, x: Any, high: Any, **_: Any) -> Any:
        """Of whichever of the three it is; at a tie, as in JAX, the derivative is 0."""
        change = None
        for one, there in (
            (low, (low.value > x.value) & (low.value < high.value)),
            (x, (x.value > low.value) & (x.value < high.value)),
            (high, high.value < x.value),
        ):
            if one.dot is not None:
                change = _sum(change, np.where(there, one.dot, 0.0))
        return Number(self._numpy.clamp(low.value, x.value, high.value), change)

    def integer_pow(self, x: Any, *, y: int, **_: Any) -> Any:
        value = self._numpy.integer_pow(x.value, y=y)
        if x.dot is None or y == 0:
            return Number(value)
        return Number(value, y * self._numpy.integer_pow(x.value, y=y - 1) * x.dot)

    def stop_gradient(self, x: Any, **_: Any) -> Any:
        return Number(x.value)

    def reduce_sum(self, x: Any, *, axes: Any, **_: Any) -> Any:
        return _linear(lambda v: np.sum(v, axis=tuple(axes)), x)

    def cumsum(self, x: Any, **params: Any) -> Any:
        return _linear(lambda v: self._numpy.cumsum(v, **params), x)

    def reduce_max(self, x: Any, *, axes: Any, **_: Any) -> Any:
        return _extreme(np.max, x, tuple(axes))

    def reduce_min(self, x: Any, *, axes: Any, **_: Any) -> Any:
        return _extreme(np.min, x, tuple(axes))

    def reduce_prod(self, x: Any, *, axes: Any, **_: Any) -> Any:
        value = np.prod(x.value, axis=tuple(axes))
        if x.dot is None:
            return Number(value)
        # Each factor's derivative times the others, found without dividing: a factor may be 0.
        factors, dots = (_flattened(v, axes) for v in (x.value, x.dot))
        one = np.ones_like(factors[..., :1])
        before = np.cumprod(np.concatenate([one, factors[..., :-1]], -1), -1)
        after = np.cumprod(np.concatenate([one, factors[..., :0:-1]], -1), -1)[..., ::-1]
        return Number(value, np.sum(before * dots * after, axis=-1))


def _flattened(x: Any, axes: Sequence[int]) -> Any:
    """The axes as one, the last."""
    kept = [at for at in range(np.ndim(x)) if at not in axes]
    return np.transpose(x, [*kept, *axes]).reshape(*(np.shape(x)[at] for at in kept), -1)


def _extreme(function: Callable[..., Any], x: Number, axes: tuple[int, ...]) -> Number:
    """The largest or smallest; elements that tie share the derivative."""
    value = function(x.value, axis=axes)
    if x.dot is None:
        return Number(value)
    there = x.value == np.expand_dims(value, axes)
    return Number(value, np.sum(np.where(there, x.dot, 0.0), axis=axes) / np.sum(there, axis=axes))


def _linear(function: Callable[..., Any], *x: Number) -> Number:
    """A linear map: the derivative of the image is the image of the derivative."""
    value = function(*(n.value for n in x))
    if all(n.dot is None for n in x):
        return Number(value)
    return Number(value, function(*(_dense(n) for n in x)))


def _dense(x: Number) -> Any:
    return np.zeros(x.value.shape) if x.dot is None else x.dot


def _unary(name: str, values: Callable[..., Any], x: Number, params: Any) -> Number:
    y = values(x.value, **params)
    return Number(y, None if x.dot is None else UNARY[name](x.value, y) * x.dot)


def _binary(name: str, values: Callable[..., Any], a: Number, b: Number, params: Any) -> Number:
    y = values(a.value, b.value, **params)
    if a.dot is None and b.dot is None:
        return Number(y)
    by_a, by_b = BINARY[name](a.value, b.value, y)
    change = _sum(_scaled(by_a, a.dot), _scaled(by_b, b.dot))
    return Number(y, np.broadcast_to(change, np.shape(y)))  # a number may meet an array


def _scaled(factor: Any, dot: Any) -> Any:
    return None if dot is None else factor * dot


def _product(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a @ b


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b
