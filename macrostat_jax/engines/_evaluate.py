"""Runs a program that JAX has traced with the operations of another array library.

JAX turns a Python function into a list of primitive operations, a jaxpr. `Engine.run` goes through that
list and looks every primitive up by its name; an engine says what a value is (an array of NumPy, of
torch, a dual number, an array of symbols) and has one method per primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ..causality import _open, _same_rank
from ._structure import Structure, UnsupportedOperation

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
"""Primitives that only call another program -> where it stands."""


class _Missing:
    """What an engine could not compute: an error where anything comes of it, and only there.

    The factors of a matrix that JAX prepares for its own solver are such values: an engine solves with
    the matrix itself.
    """

    def __init__(self, message: str) -> None:
        self.message = message


class _Fixed:
    """A constant, not yet as a value of the engine; or what follows from constants alone by an operation
    that the engine lacks, such as random numbers of a fixed key: JAX's."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Engine(Structure):
    """One array library, as what the primitives of JAX mean in it.

    Subclasses define `name`, the structural operations that `Structure` names and one method per
    arithmetic primitive, called as `method(*values, **params)` under the primitive's name (a trailing
    underscore where that is a word of Python: `and_`). Values of whole numbers and truth values are
    arrays of the library like all others.
    """

    # The interpreter ------------------------------------------------------------------------------

    def run(self, program: ClosedJaxpr, *arguments: Any) -> list[Any]:
        """The outputs of a program, for values of this engine.

        Raises:
            UnsupportedOperation: naming the first primitive that the engine lacks.
        """
        return self._present(self._opened(program, arguments))

    def _opened(self, program: Any, arguments: Sequence[Any]) -> list[Any]:
        return self._run(program.jaxpr, [_Fixed(c) for c in program.consts], arguments)

    def _run(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            if isinstance(atom, Literal):  # whose number may be Python's, of no kind
                return self.asarray(np.asarray(atom.val, getattr(atom.aval, "dtype", None)))
            return values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self._apply(equation, given)
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _present(self, values: Sequence[Any]) -> list[Any]:
        for value in values:
            if isinstance(value, _Missing):
                raise UnsupportedOperation(value.message)
        return [self._settled(value) for value in values]

    def _settled(self, value: Any) -> Any:
        if not isinstance(value, _Fixed):
            return value
        dtype = getattr(value.value, "dtype", np.dtype(float))
        if jnp.issubdtype(dtype, jax.dtypes.prng_key):
            raise UnsupportedOperation(
                f"The {self.name} engine has no random keys, which the program draws from in a loop."
            )
        return self.asarray(np.asarray(value.value))

    def _apply(self, equation: Any, given: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        method = self._method(name)
        if self._is_fixed(equation, given, method is None):
            return self._by_jax(equation, given)
        if name in CALLS:
            return self._called(params[CALLS[name]], given)
        if name == "scan":
            return self._scan(equation, self._present(given))
        missing = [value for value in given if isinstance(value, _Missing)]
        if method is None and not missing:
            shapes = ", ".join(str(atom.aval) for atom in equation.invars[:6])
            missing = [_Missing(f"The {self.name} engine has no operation {name!r} ({shapes}).")]
        if method is None or (missing and name != "custom_linear_solve"):
            return missing[:1] * len(equation.outvars)
        if name == "gather":
            params = {**params, "fill_value": _fill_value(params, equation.outvars[0].aval.dtype)}
        result = method(*map(self._settled, given), **params)
        return list(result) if equation.primitive.multiple_results else [result]

    def _is_fixed(self, equation: Any, given: list[Any], lacking: bool) -> bool:
        """Whether JAX is to compute it: it follows from constants, one of which the engine has not used
        yet, or the engine lacks the operation."""
        fixed = [isinstance(value, _Fixed) for value in given]
        known = all(
            f or isinstance(a, Literal) for f, a in zip(fixed, equation.invars, strict=True)
        )
        name = equation.primitive.name
        if (
            name in CALLS or name == "scan"
        ):  # a whole draw at once: in pieces it would round otherwise
            return known and any(fixed) and name in ("jit", "pjit")
        return known and (lacking or any(fixed))

    def _by_jax(self, equation: Any, given: list[Any]) -> list[Any]:
        """What follows from constants, as people who are drawn once and for all."""
        values = [
            value.value if isinstance(value, _Fixed) else np.asarray(atom.val, atom.aval.dtype)
            for atom, value in zip(equation.invars, given, strict=True)
        ]
        with jax.enable_x64(True):
            found = equation.primitive.bind(*values, **equation.params)
        return [_Fixed(x) for x in (found if equation.primitive.multiple_results else [found])]

    def _method(self, name: str) -> Callable[..., Any] | None:
        name = name.replace("-", "_")
        found = getattr(self, name, None)
        return found if callable(found) else getattr(self, f"{name}_", None)

    def _called(self, program: Any, given: Sequence[Any]) -> list[Any]:
        if hasattr(program, "consts"):
            return self._opened(program, given)
        return self._run(program, (), given)

    # Control flow ---------------------------------------------------------------------------------

    def _scan(self, equation: Any, given: list[Any]) -> list[Any]:
        params = equation.params
        program, length = params["jaxpr"], params["length"]
        # How many arguments are carried is written differently in every version of jax; that only what
        # is scanned over loses an axis on its way into or out of the body is not.
        body = _open(program)
        carries = _same_rank(equation.outvars, body.outvars)
        first = _same_rank(equation.invars, body.invars) - carries
        consts, carry = given[:first], given[first : first + carries]
        paths = given[first + carries :]
        rows: list[list[Any]] = []
        for t in reversed(range(length)) if params["reverse"] else range(length):
            row = [self.row(path, t) for path in paths]
            out = self._present(self._called(program, [*consts, *carry, *row]))
            carry = out[:carries]
            rows.append(out[carries:])
        if params["reverse"]:
            rows.reverse()
        return [*carry, *self._stacked(rows, equation.outvars[carries:])]

    def _stacked(self, rows: list[Any], outvars: Sequence[Any]) -> list[Any]:
        """What a loop leaves in each turn, as paths: (turns, ...) each."""
        if not rows:
            return [self.asarray(np.zeros(v.aval.shape, v.aval.dtype)) for v in outvars]
        return [self.stack(*column) for column in zip(*rows, strict=True)]

    def while_(
        self,
        *given: Any,
        cond_jaxpr: Any,
        cond_nconsts: int,
        body_jaxpr: Any,
        body_nconsts: int,
        **_: Any,
    ) -> Any:
        first, second = cond_nconsts, cond_nconsts + body_nconsts
        asked, consts, carry = given[:first], given[first:second], list(given[second:])
        while True:
            (goes_on,) = self.run(cond_jaxpr, *asked, *carry)
            if not bool(np.any(self.numpy(goes_on))):
                return carry
            turned = self.run(body_jaxpr, *consts, *carry)
            # In a batch, some loops have ended while others go on.
            several = len(self.shape(goes_on)) > 0
            pairs = zip(carry, turned, strict=True)
            carry = [self._chosen(goes_on, *pair) for pair in pairs] if several else turned

    def _chosen(self, which: Any, no: Any, yes: Any) -> Any:
        """Of two values, row by row of a batch, the one that `which` says."""
        wide = (*self.shape(which), *[1] * (len(self.shape(yes)) - len(self.shape(which))))
        return self._do("select_n", self._like(self.reshape_to(which, wide), yes), no, yes)

    def cond(self, which: Any, *given: Any, branches: Sequence[Any], **_: Any) -> Any:
        at = min(max(int(self.numpy(which)), 0), len(branches) - 1)
        return self.run(branches[at], *given)

    def custom_linear_solve(self, *given: Any, const_lengths: Any, jaxprs: Any, **_: Any) -> Any:
        """Solves with the matrix itself, made of what the operator does to the unit vectors."""
        consts = given[: const_lengths.matvec]
        b = given[sum(const_lengths) :]
        if len(b) != 1 or len(self.shape(b[0])) != 1:
            shapes = [self.shape(x) for x in b]
            raise UnsupportedOperation(
                f"The {self.name} engine solves for one vector at a time, not for {shapes}."
            )
        size = self.shape(b[0])[0]
        unit = np.eye(size, dtype=jaxprs.matvec.out_avals[0].dtype)
        columns = [self.run(jaxprs.matvec, *consts, self.asarray(e))[0] for e in unit]
        matrix = self.join([self.reshape_to(c, (size, 1)) for c in columns], 1)
        return [self.linear_solve(matrix, b[0])]


def _fill_value(params: Any, dtype: Any) -> np.ndarray:
    """What stands where a gather reaches outside: as JAX has it, the least number where there is no NaN."""
    given = params.get("fill_value")
    if given is None:
        kinds = {
            "f": lambda: np.nan,
            "i": lambda: np.iinfo(dtype).min,
            "u": lambda: np.iinfo(dtype).max,
        }
        given = kinds.get(dtype.kind, lambda: True)()
    return np.asarray(given, dtype)
