"""The SymPy engine: NumPy arrays of symbols and formulas."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._numpy import ELEMENTWISE, NumPy
from ._structure import UnsupportedOperation


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    import sympy as sp

    from . import _choices

    elementwise: dict[str, tuple[int, Callable[..., Any]]] = {
        "max": (2, functools.partial(_extreme, sp.Max)),
        "min": (2, functools.partial(_extreme, sp.Min)),
        "pow": (2, sp.Pow),
        "abs": (1, sp.Abs),
        "sign": (1, sp.sign),
        "exp": (1, sp.exp),
        "expm1": (1, lambda x: sp.exp(x) - 1),
        "log": (1, sp.log),
        "log1p": (1, lambda x: sp.log(1 + x)),
        "sqrt": (1, sp.sqrt),
        "rsqrt": (1, lambda x: 1 / sp.sqrt(x)),
        "square": (1, lambda x: x**2),
        "sin": (1, sp.sin),
        "cos": (1, sp.cos),
        "tan": (1, sp.tan),
        "asin": (1, sp.asin),
        "acos": (1, sp.acos),
        "atan": (1, sp.atan),
        "atan2": (2, sp.atan2),
        "sinh": (1, sp.sinh),
        "cosh": (1, sp.cosh),
        "tanh": (1, sp.tanh),
        "exp2": (1, lambda x: 2**x),
        "logistic": (1, lambda x: 1 / (1 + sp.exp(-x))),
        "erf": (1, sp.erf),
        "erfc": (1, sp.erfc),
        "eq": (2, _choices.equal),
        "ne": (2, lambda a, b: sp.Not(_choices.equal(a, b))),
        "lt": (2, functools.partial(_choices.related, sp.Lt)),
        "le": (2, functools.partial(_choices.related, sp.Le)),
        "gt": (2, functools.partial(_choices.related, sp.Gt)),
        "ge": (2, functools.partial(_choices.related, sp.Ge)),
        "and": (2, sp.And),
        "or": (2, sp.Or),
        "not": (1, sp.Not),
        "is_finite": (1, lambda x: sp.Eq(_choices.Finite(x), 1)),
        "stop_gradient": (1, _choices.Held),
    }
    return {name: np.frompyfunc(f, n, 1) for name, (n, f) in elementwise.items()}


@functools.cache
def _reductions() -> dict[str, Callable[..., Any]]:
    import sympy as sp

    from . import _choices

    return {
        "reduce_sum": _choices.total,
        "reduce_max": functools.partial(_extreme, sp.Max),
        "reduce_min": functools.partial(_extreme, sp.Min),
        "reduce_and": sp.And,
        "reduce_or": sp.Or,
        "argmin": _choices.ArgMin,
        "argmax": _choices.ArgMax,
    }


def _extreme(function: Callable[..., Any], *values: Any) -> Any:
    try:
        return function(*values)
    except ValueError as error:  # differences of infinite limits, say
        raise UnsupportedOperation(
            f"The sympy engine finds no {function.__name__} of formulas that may be undefined."
        ) from error


def _reduced(function: Callable[..., Any], x: Any, axes: Sequence[int]) -> np.ndarray:
    kept = [at for at in range(np.ndim(x)) if at not in axes]
    shape = [np.shape(x)[at] for at in kept]
    lead = np.transpose(x, [*kept, *axes]).reshape(
        *shape, math.prod(np.shape(x)) // max(math.prod(shape), 1)
    )
    result = np.empty(shape, object)
    for place in np.ndindex(result.shape):
        result[place] = function(*lead[place])
    return result


NUMBERS = {*ELEMENTWISE, "round"} - {"add", "add_any", "sub", "mul", "div", "neg"}
"""Operations that the NumPy engine has and formulas have not, unless `_functions` says otherwise."""


NOT_OF_WHOLE = {"div", "and", "or", "not", "reduce_and", "reduce_or"}
"""Operations that are others of whole numbers: the quotient is cut, the bits are combined."""


@functools.lru_cache(1 << 12, typed=True)
def _number(value: Any) -> Any:
    """A constant of the program as an exact number: 0.1 is a tenth."""
    import sympy as sp

    if isinstance(value, bool | np.bool_):
        return sp.true if value else sp.false
    return (
        sp.Integer(int(value)) if float(value).is_integer() else sp.nsimplify(value, rational=True)
    )


class SymPy(NumPy):
    """NumPy arrays of symbols and formulas."""

    name = "sympy"

    def __init__(self, named: dict[Any, Any] | None = None) -> None:
        self._named = named or {}
        self.definitions: dict[Any, Any] = {}

    def _method(self, name: str) -> Callable[..., Any] | None:
        if (function := _functions().get(name)) is not None:
            return lambda *values, **_: np.asarray(function(*values), object)
        if (function := _reductions().get(name)) is not None:
            return lambda x, *, axes, **_: _reduced(function, x, axes)
        if name in NUMBERS:  # NumPy's of numbers: on formulas they fail, or compare them as objects
            return None
        return super()._method(name)

    def _apply(self, equation: Any, given: list[Any]) -> list[Any]:
        name = equation.primitive.name
        whole = name in NOT_OF_WHOLE and equation.invars[0].aval.dtype.kind in "iu"
        if whole and not self._is_fixed(equation, given, False):
            raise UnsupportedOperation(
                f"The {self.name} engine has no operation {name!r} of whole numbers."
            )
        results = super()._apply(equation, given)
        for at, var in enumerate(equation.outvars):
            if var in self._named:  # a variable of the model: what follows uses its symbol
                (self.definitions[var],) = self._present([results[at]])
                results[at] = self._named[var]
        return results

    def asarray(self, value: Any) -> Any:
        value = np.asarray(value)
        if value.dtype == object:
            return value
        return np.reshape(np.array([_number(v) for v in value.ravel()], object), value.shape)

    def numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def astype(self, value: Any, dtype: np.dtype) -> Any:
        """Truth values as 0 and 1, and numbers as whether they are 0; what is whole stays whole.

        Raises:
            UnsupportedOperation: a formula is to be cut to a whole number.
        """
        import sympy as sp

        def converted(x: Any) -> Any:
            x = sp.sympify(x)
            if dtype.kind == "b":
                return sp.Ne(x, 0) if isinstance(x, sp.Expr) else x
            if not isinstance(x, sp.Expr):
                return sp.Piecewise((1, x), (0, True))
            if dtype.kind in "iu" and not x.is_integer:
                raise UnsupportedOperation(
                    f"The {self.name} engine cuts no formula to a whole number."
                )
            return x

        return np.asarray(np.frompyfunc(converted, 1, 1)(value), object)

    def clamp(self, low: Any, x: Any, high: Any, **_: Any) -> Any:
        import sympy as sp

        return np.asarray(
            np.frompyfunc(lambda low, x, high: sp.Min(sp.Max(x, low), high), 3, 1)(low, x, high)
        )

    def while_(self, *given: Any, **params: Any) -> Any:
        try:
            return super().while_(*given, **params)
        except TypeError as error:  # a relation between symbols is neither true nor false
            raise self._undecided("loop") from error

    def cond(self, which: Any, *given: Any, **params: Any) -> Any:
        try:
            return super().cond(which, *given, **params)
        except TypeError as error:
            raise self._undecided("branch") from error

    def _undecided(self, what: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"The {self.name} engine follows no {what} that depends on symbols."
        )

    def take(self, value: Any, positions: Any) -> Any:
        from ._choices import taken

        try:
            found = [taken(value, one) for one in np.ravel(positions)]
        except TypeError as error:
            raise self._undecided("place") from error
        return np.reshape(np.array(found, object), np.shape(positions))

    def added_at(self, value: Any, positions: Any, updates: Any) -> Any:
        from ._choices import taken

        result = np.array(value, object)
        try:
            for place, update in zip(np.ravel(positions), np.ravel(updates), strict=True):
                if place.is_Integer:
                    result[int(place)] += update
                    continue
                for at in range(len(result)):
                    there = np.zeros(len(result), object) + _number(0)
                    there[at] = update
                    result[at] += taken(there, place)
        except TypeError as error:
            raise self._undecided("place") from error
        return result

    def _positions(self, *given: Any, **params: Any) -> Any:
        """Whether a window had to be moved is known of most formulas of positions, too."""
        from ._choices import settled

        positions, moved = super()._positions(*given, **params)
        return positions, np.asarray(np.frompyfunc(settled, 1, 1)(moved), object)

    def select_n(self, which: Any, *cases: Any, **_: Any) -> Any:
        from ._choices import chosen

        return np.asarray(np.frompyfunc(chosen, 1 + len(cases), 1)(which, *cases), object)

        return np.asarray(np.frompyfunc(chosen, 1 + len(cases), 1)(which, *cases), object)

    def linear_solve(self, a: Any, b: Any) -> Any:
        import sympy as sp

        found = sp.Matrix(a).LUsolve(sp.Matrix(b))
        return np.array(list(found), object)
