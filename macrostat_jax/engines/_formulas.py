"""A model's step as formulas: to read, to differentiate exactly, and to solve."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from typing import Literal as Literal_

import jax
import numpy as np
from jax.extend.core import Literal

from .._model import Model
from .._record import Record
from .._tracing import abstract_inputs
from ._sympy import SymPy

if TYPE_CHECKING:
    import sympy


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
        columns = self._flat(wrt)
        return sp.Matrix([_slopes(formula, columns) for formula in rows])

    def hessian(self, of: str, wrt: Iterable[str]) -> sympy.Matrix:
        """Exact second derivatives of the formula of one scalar variable."""
        import sympy as sp

        columns = self._flat(wrt)
        return sp.Matrix([_slopes(slope, columns) for slope in _slopes(self[of], columns)])

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
        try:
            found = sp.solve(system, before, dict=True) if before else [{}]
        except NotImplementedError:  # equations that SymPy has no method for
            found = []
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


def _slopes(formula: Any, symbols: Iterable[Any]) -> list[Any]:
    """The derivatives of a formula by symbols; where it has a jump or a kink, as JAX has them."""
    import sympy as sp

    inside = formula.free_symbols
    return [_slope(formula, one) if one in inside else sp.S.Zero for one in symbols]


def _slope(formula: Any, symbol: Any) -> Any:
    import sympy as sp

    found = sp.diff(formula, symbol)
    if found.has(
        sp.Derivative
    ):  # of a modulus or a sign, which have none where numbers are complex
        real = {one: sp.Dummy(one.name, extended_real=True) for one in formula.free_symbols}
        back = {dummy: one for one, dummy in real.items()}
        found = sp.diff(formula.xreplace(real), real[symbol]).xreplace(back)
    return found.replace(sp.DiracDelta, lambda *_: sp.S.Zero)


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
