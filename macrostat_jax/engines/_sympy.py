"""The SymPy engine: a model's step as formulas, to read, to differentiate exactly, and to solve."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from typing import Literal as Literal_

import jax
import numpy as np
from jax.extend.core import Literal

from .._model import Model
from .._record import Record
from .._tracing import abstract_inputs
from ._numpy import ELEMENTWISE, NumPy
from ._structure import UnsupportedOperation

if TYPE_CHECKING:
    import sympy


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    import sympy as sp

    elementwise: dict[str, tuple[int, Callable[..., Any]]] = {
        "max": (2, sp.Max),
        "min": (2, sp.Min),
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
        "tanh": (1, sp.tanh),
        "logistic": (1, lambda x: 1 / (1 + sp.exp(-x))),
        "erf": (1, sp.erf),
        "eq": (2, sp.Eq),
        "ne": (2, sp.Ne),
        "lt": (2, sp.Lt),
        "le": (2, sp.Le),
        "gt": (2, sp.Gt),
        "ge": (2, sp.Ge),
        "and": (2, sp.And),
        "or": (2, sp.Or),
        "not": (1, sp.Not),
        "is_finite": (1, lambda x: sp.true),
    }
    return {name: np.frompyfunc(f, n, 1) for name, (n, f) in elementwise.items()}


NUMBERS = {*ELEMENTWISE, "round", "argmin", "argmax"} - {
    "add",
    "add_any",
    "sub",
    "mul",
    "div",
    "neg",
}
"""Operations that the NumPy engine has and formulas have not, unless `_functions` says otherwise."""


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
        if name in ("reduce_and", "reduce_or", "reduce_max", "reduce_min"):
            return getattr(self, name)
        if name in NUMBERS:  # NumPy's of numbers: on formulas they fail, or compare them as objects
            return None
        return super()._method(name)

    def _apply(self, equation: Any, given: list[Any]) -> list[Any]:
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
        try:
            return value[np.asarray(positions, int)]
        except TypeError as error:
            raise self._undecided("place") from error

    def reduce_and(self, x: Any, *, axes: Any, **_: Any) -> Any:
        import sympy as sp

        return self._reduced(sp.And, x, axes)

    def reduce_or(self, x: Any, *, axes: Any, **_: Any) -> Any:
        import sympy as sp

        return self._reduced(sp.Or, x, axes)

    def reduce_max(self, x: Any, *, axes: Any, **_: Any) -> Any:
        import sympy as sp

        return self._reduced(sp.Max, x, axes)

    def reduce_min(self, x: Any, *, axes: Any, **_: Any) -> Any:
        import sympy as sp

        return self._reduced(sp.Min, x, axes)

    def _reduced(self, function: Callable[..., Any], x: Any, axes: Sequence[int]) -> np.ndarray:
        kept = [at for at in range(np.ndim(x)) if at not in axes]
        lead = np.transpose(x, [*kept, *axes]).reshape(*(np.shape(x)[at] for at in kept), -1)
        result = np.empty(lead.shape[:-1], object)
        for place in np.ndindex(result.shape):
            result[place] = function(*lead[place])
        return result

    def select_n(self, which: Any, *cases: Any, **_: Any) -> Any:
        import sympy as sp

        def chosen(condition: Any, *values: Any) -> Any:
            if len(values) == 2 and not isinstance(condition, sp.Expr):
                return sp.Piecewise((values[1], condition), (values[0], True))
            ordered = enumerate(values[:-1])
            return sp.Piecewise(*((v, sp.Eq(condition, i)) for i, v in ordered), (values[-1], True))

        return np.asarray(np.frompyfunc(chosen, 1 + len(cases), 1)(which, *cases), object)

    def linear_solve(self, a: Any, b: Any) -> Any:
        import sympy as sp

        found = sp.Matrix(a).LUsolve(sp.Matrix(b))
        return np.array(list(found), object)


@dataclasses.dataclass(frozen=True)
class Formulas:
    """A model's step in symbols. Made by `symbolic`.

    Attributes:
        model: the model.
        equations: the symbol of each variable (of each element, where it is a vector) -> its formula.
        symbols: `"tax_rate"`, `"scenario.government_demand"`, `"prior.household_money_stock"`,
            `"now.national_income"` -> array of symbols.
    """

    model: Model
    equations: dict[Any, Any]
    symbols: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> Any:
        """The formula of a variable; an array of formulas where it is a vector.

        Raises:
            KeyError: an unknown variable.
        """
        symbols = self.symbols[f"now.{self.model.State.key_of(name)}"]
        found = np.vectorize(lambda s: self.equations[s], otypes=[object])(symbols)
        return found[()]

    def jacobian(self, of: Iterable[str], wrt: Iterable[str]) -> sympy.Matrix:
        """Exact partial derivatives of the formulas: rows the elements of `of`, columns those of `wrt`.

        Args:
            of: names of variables. wrt: names as in `symbols`.
        """
        import sympy as sp

        rows = [formula for name in of for formula in np.ravel(self[name])]
        return sp.Matrix(rows).jacobian(sp.Matrix(self._flat(wrt)))

    def hessian(self, of: str, wrt: Iterable[str]) -> sympy.Matrix:
        """Exact second derivatives of the formula of one scalar variable."""
        import sympy as sp

        return sp.hessian(self[of], self._flat(wrt))

    def _flat(self, names: Iterable[str]) -> list[Any]:
        given = (names,) if isinstance(names, str) else tuple(names)
        for name in given:
            if name not in self.symbols:
                raise KeyError(f"There is no {name!r} here: {', '.join(self.symbols)}.")
        return [symbol for name in given for symbol in np.ravel(self.symbols[name])]

    def steady_state(self, values: Mapping[str, Any] | None = None) -> dict[Any, Any]:
        """The state that repeats itself, exactly: symbol -> formula in parameters and exogenous series.

        What the step reads of the period before is solved for, and the rest follows; what the equations
        leave open, such as a stock that nothing looks at, stays under its symbol. For models of a
        few such variables; SymPy can take long over more.

        Args:
            values: numbers in place of some parameters and series, by their names in `symbols`: the
                fewer symbols, the faster. Pass exact ones, `sympy.Rational(3, 5)`, for exact results.

        Raises:
            ValueError: SymPy finds no steady state, or several. KeyError: an unknown name.
        """
        import sympy as sp

        given: dict[Any, Any] = {}
        for name, value in (values or {}).items():
            places = self._flat([name])
            numbers = np.broadcast_to(np.asarray(value, object), self.symbols[name].shape)
            given |= dict(zip(places, np.ravel(numbers), strict=True))
        by_the_past = symbolic(self.model, "reduced").equations
        reduced = {symbol: formula.subs(given) for symbol, formula in by_the_past.items()}
        before, now = [], []
        for key in self.model.remembered:
            before += self._flat([f"prior.{key}"])
            now += self._flat([f"now.{key}"])
        system = [sp.together(reduced[n] - b) for n, b in zip(now, before, strict=True)]
        found = sp.solve(system, before, dict=True) if before else [{}]
        if len(found) != 1:
            raise ValueError(
                f"{self.model.name}: SymPy finds {len(found) or 'no'} steady states in closed form."
            )
        return {symbol: sp.simplify(value.subs(found[0])) for symbol, value in reduced.items()}

    def latex(self) -> str:
        """The equations, one a line, as a LaTeX `align` environment."""
        import sympy as sp

        lines = [rf"{sp.latex(s)} &= {sp.latex(f)} \\" for s, f in self.equations.items()]
        return "\n".join([r"\begin{align}", *lines, r"\end{align}"])

    def _repr_latex_(self) -> str:
        return self.latex()


def symbolic(model: Model, form: str = "structural") -> Formulas:
    """A model's step as formulas.

    Args:
        model: the model; without random inputs.
        form: `"structural"`: each variable by those before it, as it is computed; or `"reduced"`: by
            the last period's state, the parameters and the exogenous series alone.

    Raises:
        ValueError: an unknown form. UnsupportedOperation: a primitive that has no formula.
    """
    if form not in ("structural", "reduced"):
        raise ValueError(f"form must be 'structural' or 'reduced', not {form!r}.")
    if model.random:
        raise ValueError(f"{model.name} is random: its step is no formula of its inputs alone.")
    with jax.enable_x64(True):
        inputs = abstract_inputs(model)
        program = jax.make_jaxpr(model.step)(*inputs)
    groups: tuple[tuple[str, type[Record], Role], ...] = (
        ("prior.", model.State, "lagged"),
        ("", model.Params, "given"),
        ("scenario.", model.Scenario, "given"),
    )
    variables = {field.symbol for field in model.State.fields.values()}
    symbols = {
        prefix + key: _symbols(field, variables, role)
        for prefix, kind, role in groups
        for key, field in kind.fields.items()
    }
    given = list(symbols.values())
    now = {key: _symbols(field, variables) for key, field in model.State.fields.items()}
    named: dict[Any, Any] = {}
    inputs_of = set(program.jaxpr.invars)
    if form == "structural":
        kinds: Sequence[Any] = program.out_avals
        for key, var, kind in zip(now, program.jaxpr.outvars, kinds, strict=True):
            own = not isinstance(var, Literal) and var not in inputs_of
            if own and kind.shape == now[key].shape:  # a number may stand for a whole vector
                named.setdefault(var, now[key])
    engine = SymPy(named)
    outputs = engine.run(program, *given)
    equations = {}
    for key, var, value in zip(now, program.jaxpr.outvars, outputs, strict=True):
        own = not isinstance(var, Literal) and named.get(var) is now[key]
        formulas = engine.definitions[var] if own else value
        every = np.broadcast_to(np.asarray(formulas, object), now[key].shape)
        equations |= dict(zip(np.ravel(now[key]), np.ravel(every), strict=True))
    symbols |= {f"now.{key}": value for key, value in now.items()}
    return Formulas(model, equations, symbols)


Role = Literal_["now", "lagged", "given"]


def _symbols(field: Any, variables: set[str], role: Role = "now") -> np.ndarray:
    """An array of symbols, under the declared LaTeX: `H_h` a period ago is `H_{h,-1}`, and what is
    given from outside under the symbol of a variable has a bar."""
    import sympy as sp

    base = field.symbol or rf"\mathrm{{{field.key}}}".replace("_", r"\_")
    if role == "given" and field.symbol in variables:
        base = rf"\bar{{{base}}}"
    labels = np.empty(field.shape, object)
    for place in np.ndindex(field.shape):
        slots = [axis.slots[i] for axis, i in zip(field.axes, place, strict=True)]
        labels[place] = sp.Symbol(_with_indices(base, slots, role == "lagged"))
    return labels


def _with_indices(symbol: str, slots: Sequence[str], lagged: bool) -> str:
    more = [*slots, *(["-1"] if lagged else [])]
    if not more:
        return symbol
    head, bar, index = symbol.rpartition("_")
    if not bar or index.count("{") != index.count("}") or "^" in index:
        return f"{symbol}_{{{','.join(more)}}}"
    inner = index[1:-1] if index.startswith("{") and index.endswith("}") else index
    return f"{head}_{{{','.join([inner, *more])}}}"
