r"""Formulas of positions: where the least or the greatest of several formulas stands, and what stands there.

`ArgMin(a, b, c)` is the position, from 0 on, of the first that is the least, as JAX counts; `Pick(p, x, y, z)`
is what stands at a position. A formula that chooses has so as many parts as there are candidates, where
conditions on all pairs of them would be the square of that. Positions are steps of their arguments: their
derivative is 0, and that of `Pick` the derivative of what is picked.

Imported where formulas are made: SymPy is optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np
import sympy as sp


class Place(sp.Function):
    """A position among the arguments."""

    is_integer = True
    is_nonnegative = True

    @classmethod
    def eval(cls, *values: Any) -> Any:
        if len(set(values)) == 1:
            return sp.S.Zero
        if not all(v is sp.nan or (v.is_number and v.is_extended_real) for v in values):
            return None
        if sp.nan in values:
            return sp.Integer(values.index(sp.nan))
        return sp.Integer(cls._extreme(range(len(values)), key=values.__getitem__))

    _extreme: Callable[..., int] = staticmethod(min)
    words = ""

    def _eval_derivative(self, s: Any) -> Any:
        return sp.S.Zero

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        inside = ", ".join(map(printer._print, self.args))
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\operatorname{{arg\,{self.words}}}{power}\left({inside}\right)"


class ArgMin(Place):
    """The position of the first that is the least; of the first NaN, where there is one."""

    words = "min"

    @staticmethod
    def _imp_(*values: Any) -> Any:
        return np.argmin(np.stack(np.broadcast_arrays(*values)), axis=0)


class ArgMax(Place):
    """The position of the first that is the greatest; of the first NaN, where there is one."""

    words = "max"
    _extreme = staticmethod(max)

    @staticmethod
    def _imp_(*values: Any) -> Any:
        return np.argmax(np.stack(np.broadcast_arrays(*values)), axis=0)


class Pick(sp.Function):
    """Of several formulas the one at a position: `Pick(position, *formulas)`."""

    @classmethod
    def eval(cls, place: Any, *values: Any) -> Any:
        if len(set(values)) == 1:
            return values[0]
        if place.is_Integer and 0 <= place < len(values):
            return values[int(place)]
        return None

    @staticmethod
    def _imp_(place: Any, *values: Any) -> Any:
        at, *each = np.broadcast_arrays(place, *values)
        return np.take_along_axis(np.stack(each), at[None], 0)[0]

    def _eval_derivative(self, s: Any) -> Any:
        return Pick(self.args[0], *(sp.diff(value, s) for value in self.args[1:]))

    def _eval_is_integer(self) -> bool | None:
        return _all(value.is_integer for value in self.args[1:])

    def _eval_is_extended_real(self) -> bool | None:
        return _all(value.is_extended_real for value in self.args[1:])

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        place, *values = self.args
        inside = ", ".join(map(printer._print, values))
        power = "" if exp is None else f"^{{{exp}}}"
        if isinstance(place, Place) and place.args == tuple(values):
            return rf"\{place.words}{power}\left({inside}\right)"
        text = rf"\left({inside}\right)_{{{printer._print(place)}}}"
        return text if exp is None else rf"\left({text}\right){power}"


class Held(sp.Function):
    """A formula whose derivatives are 0, as of `jax.lax.stop_gradient`."""

    @classmethod
    def eval(cls, value: Any) -> Any:
        return value if value.is_number else None

    @staticmethod
    def _imp_(value: Any) -> Any:
        return value

    def _eval_derivative(self, s: Any) -> Any:
        return sp.S.Zero

    def _eval_is_integer(self) -> bool | None:
        return self.args[0].is_integer

    def _eval_is_extended_real(self) -> bool | None:
        return self.args[0].is_extended_real

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\left({printer._print(self.args[0])}\right){power}"


class Finite(sp.Function):
    """1 of what is a finite number, else 0: SymPy compares no undefined quotient with infinity."""

    is_integer = True
    is_nonnegative = True

    @classmethod
    def eval(cls, value: Any) -> Any:
        return sp.Integer(bool(value.is_finite)) if value.is_number else None

    @staticmethod
    def _imp_(value: Any) -> Any:
        return np.isfinite(value).astype(int)

    def _eval_derivative(self, s: Any) -> Any:
        return sp.S.Zero


def _all(known: Iterable[bool | None]) -> bool | None:
    return True if all(known) else None


class If(sp.Function):
    """The second where the first is true, else the third: a `Piecewise` whose condition chooses, too.

    SymPy would resolve the choices within conditions case by case, of which there soon are thousands.
    """

    @classmethod
    def eval(cls, where: Any, yes: Any, no: Any) -> Any:
        if where in (sp.true, sp.false):
            return yes if where == sp.true else no
        return yes if yes == no else None

    @staticmethod
    def _imp_(where: Any, yes: Any, no: Any) -> Any:
        return np.where(where, yes, no)

    def _eval_derivative(self, s: Any) -> Any:
        where, yes, no = self.args
        return If(where, sp.diff(yes, s), sp.diff(no, s))

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        where, yes, no = map(printer._print, self.args)
        rows = rf"{yes} & \text{{for}}\: {where} \\ {no} & \text{{otherwise}}"
        text = rf"\begin{{cases}} {rows} \end{{cases}}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


def related(relation: Callable[..., Any], a: Any, b: Any) -> Any:
    """A relation, decided where it is one of numbers; of symbols, which may be any, SymPy need not try."""
    if (a.is_integer and b.is_integer) or not (a.free_symbols or b.free_symbols):
        return relation(a, b)
    return relation(a, b, evaluate=False)


def equal(a: Any, b: Any) -> Any:
    """Whether two formulas are equal; of a position and a number always in one order."""
    if a == b:
        return sp.true
    for place, number in ((a, b), (b, a)):
        if isinstance(place, Place) and getattr(number, "is_Integer", False):
            inside = 0 <= number < len(place.args)
            return sp.Eq(place, number, evaluate=False) if inside else sp.false
    return (
        related(sp.Eq, a, b) if isinstance(a, sp.Expr) and isinstance(b, sp.Expr) else sp.Eq(a, b)
    )


def total(*terms: Any) -> Any:
    """The sum; of terms that each count at one position only, what stands at that position."""
    found: dict[Any, dict[int, Any]] = {}
    rest = []
    for term in terms:
        if (one := _at_one_position(term)) is None:
            rest.append(term)
        else:
            place, number, value = one
            there = found.setdefault(place, {})
            there[number] = there.get(number, 0) + value
    picked: list[Any] = [
        Pick(place, *(there.get(i, sp.S.Zero) for i in range(len(place.args))))
        for place, there in found.items()
    ]
    return sp.Add(*rest, *picked)


def _at_one_position(term: Any) -> tuple[Any, int, Any] | None:
    """Position, number and value of a term that is the value where the position is the number, or 0."""
    if isinstance(term, If):
        where, value, other = term.args
    elif isinstance(term, sp.Piecewise) and len(term.args) == 2:
        (value, where), (other, _) = cast(Any, term.args)
    else:
        return None
    if other != 0 or not isinstance(where, sp.Eq):
        return None
    place, number = cast(Any, where.args)
    if not isinstance(place, Place) or not number.is_Integer:
        return None
    return place, int(number), value


def chosen(which: Any, *values: Any) -> Any:
    """Of two values the second where `which` is true; or of several the one at the number `which`."""
    if len(values) == 2 and not isinstance(which, sp.Expr):
        if not all(isinstance(one, sp.Expr) for one in values):
            return sp.ITE(which, values[1], values[0])
        if which.has(sp.Piecewise, If):
            return If(which, values[1], values[0])
        if values[0] == values[1]:
            return values[0]
        return sp.Piecewise((values[1], which), (values[0], True), evaluate=False)
    try:
        return taken(values, which)
    except TypeError:  # a number that is no position
        ordered = enumerate(values[:-1])
        return sp.Piecewise(*((v, sp.Eq(which, i)) for i, v in ordered), (values[-1], True))


def taken(values: Sequence[Any], position: Any) -> Any:
    """The formula at a position that is a number, or a formula of positions.

    Raises:
        TypeError: the position depends on symbols otherwise.
    """
    if position.is_Integer:
        return values[int(position)]
    place, each = _tabulated(position)
    found = [taken(values, one) for one in each]
    if all(isinstance(one, sp.Expr) for one in found):
        return Pick(place, *found)
    return sp.Or(*(sp.And(equal(place, sp.Integer(i)), one) for i, one in enumerate(found)))


def settled(formula: Any) -> Any:
    """A formula of whole or truth values: the one that it is wherever the positions in it are, or it."""
    try:
        _, each = _tabulated(formula)
    except TypeError:
        return formula
    found = {settled(one) for one in each}
    return found.pop() if len(found) == 1 else formula


def _tabulated(formula: Any) -> tuple[Any, list[Any]]:
    """The first position in a formula, and the formula at each of its values."""
    walk = sp.preorder_traversal(formula)
    place = next((node for node in walk if isinstance(node, Place)), None)
    if place is None:
        raise TypeError(f"{formula} is no number.")
    return place, [formula.xreplace({place: sp.Integer(i)}) for i in range(len(place.args))]
