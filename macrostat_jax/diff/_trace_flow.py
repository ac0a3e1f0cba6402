"""What a traced program lets through: which inputs reach the outputs, and through which operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import _source
from ._source import Place
from ._trace import COMPARISONS, ROUNDINGS, SIGNS
from ._trace_complex import SOLVERS

CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "ordered_effects")


@dataclasses.dataclass(frozen=True)
class Mark:
    """An operation on the way from an input to the outputs."""

    operation: str
    place: Place | None
    call: str = ""

    @property
    def name(self) -> str:
        if self.call:
            return self.call
        sign = SIGNS.get(self.operation)
        return f"{self.operation} ({sign})" if sign else self.operation


Routes = dict[str, Mark | None]
"""Input -> None where it comes unmarked, else the first mark on its way."""
Marker = Callable[[Any], bool]


def blocks(equation: Any) -> bool:
    """Operations through which no derivative passes."""
    name = equation.primitive.name
    if name == "convert_element_type":
        to = equation.params["new_dtype"]
        return not (jnp.issubdtype(to, jnp.floating) or jnp.issubdtype(to, jnp.complexfloating))
    return name in (*COMPARISONS, *ROUNDINGS, *CALLBACKS, "stop_gradient")


def stops(equation: Any) -> bool:
    return equation.primitive.name == "stop_gradient"


def chooses(equation: Any) -> bool:
    """Minima and maxima of arrays. Their derivative asks which element equals the result, and a run that
    is computed anew for reverse mode need not give it to the last bit: seen on jax 0.10, in a loop."""
    return equation.primitive.name in ("reduce_min", "reduce_max")


def calls_host(equation: Any) -> bool:
    return equation.primitive.name in CALLBACKS


def narrows(equation: Any) -> bool:
    """Casts to a float of less precision."""
    if equation.primitive.name != "convert_element_type":
        return False
    to, given = equation.params["new_dtype"], equation.invars[0].aval.dtype
    floats = jnp.issubdtype(to, jnp.floating) and jnp.issubdtype(given, jnp.floating)
    return bool(floats and jnp.finfo(to).eps > jnp.finfo(given).eps)


def routes(program: Any, inputs: list[str], marker: Marker, *, clean_wins: bool) -> list[Routes]:
    """For every output of a program, the inputs that reach it.

    Args:
        program: the trace.
        inputs: the names of its arguments.
        marker: which operations mark what passes through them.
        clean_wins: an input that comes by an unmarked way as well counts as unmarked; else as marked.
    """
    return _Flow(marker, clean_wins).follow(program, [{name: None} for name in inputs], None, "")


class _Flow:
    def __init__(self, marker: Marker, clean_wins: bool) -> None:
        self.marker, self.clean_wins = marker, clean_wins

    def union(self, *many: Routes) -> Routes:
        found: Routes = {}
        for one in many:
            for name, mark in one.items():
                if name not in found or (mark is None) == self.clean_wins:
                    found[name] = mark if name not in found or mark is None else found[name] or mark
        return found

    def follow(
        self, program: Any, arguments: list[Routes], enclosing: Place | None, call: str
    ) -> list[Routes]:
        jaxpr, _ = _source.opened(program)
        known: dict[Any, Routes] = dict(zip(jaxpr.invars, arguments, strict=True))

        def of(atom: Any) -> Routes:
            return {} if _source.is_literal(atom) else known.get(atom, {})

        for equation in jaxpr.eqns:
            own = _source.place(equation)
            results = self.through(
                equation,
                [of(atom) for atom in equation.invars],
                own or enclosing,
                "" if own else call,
            )
            known |= dict(zip(equation.outvars, results, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    def through(
        self, equation: Any, arguments: list[Routes], here: Place | None, call: str
    ) -> list[Routes]:
        name, details = equation.primitive.name, equation.params
        inner = _source.called(equation)
        if inner is not None:
            return self.follow(inner, arguments, here, _source.program_name(inner).lstrip("_"))
        if name == "scan":
            return self.scan(equation, arguments, here, call)
        if name == "cond":
            index, *operands = arguments
            index = self.marked(index, Mark("cond", here))
            branches = [self.follow(b, operands, here, call) for b in details["branches"]]
            return [self.union(index, *out) for out in zip(*branches, strict=True)]
        if name == "while":
            return self.loop(equation, arguments, here, call)
        merged = self.union(*arguments)
        if self.marker(equation) and call not in SOLVERS:
            merged = self.marked(merged, Mark(name, here, call))
        elif name == "select_n":
            # What decides has come through a comparison, which has marked it where that matters.
            merged = self.union(*arguments)
        return [merged] * len(equation.outvars)

    def marked(self, one: Routes, mark: Mark) -> Routes:
        return {name: old or mark for name, old in one.items()}

    def scan(self, equation: Any, arguments: list[Routes], here: Any, call: str) -> list[Routes]:
        fixed, carry = _source.carried(equation)
        consts, kept, rows = (
            arguments[:fixed],
            arguments[fixed : fixed + carry],
            arguments[fixed + carry :],
        )
        while True:
            results = self.follow(equation.params["jaxpr"], [*consts, *kept, *rows], here, call)
            grown = [self.union(a, b) for a, b in zip(kept, results[:carry], strict=True)]
            if grown == kept:
                return [*kept, *results[carry:]]
            kept = grown

    def loop(self, equation: Any, arguments: list[Routes], here: Any, call: str) -> list[Routes]:
        details = equation.params
        first = details["cond_nconsts"]
        second = first + details["body_nconsts"]
        asked, used, kept = arguments[:first], arguments[first:second], arguments[second:]
        while True:
            (ends,) = self.follow(details["cond_jaxpr"], [*asked, *kept], here, call)
            ends = self.marked(ends, Mark("while", here))
            results = self.follow(details["body_jaxpr"], [*used, *kept], here, call)
            grown = [self.union(a, b, ends) for a, b in zip(kept, results, strict=True)]
            if grown == kept:
                return kept
            kept = grown


def operations(program: Any) -> list[tuple[str, Mark]]:
    """Every operation of a program, those inside of calls and loops too: how it reads, and where it is.

    Names of variables apart, two traces of one pure function read the same.
    """
    found: list[tuple[str, Mark]] = []

    def walk(program: Any, enclosing: Place | None, call: str) -> None:
        jaxpr, consts = _source.opened(program)
        values = dict(zip(jaxpr.constvars, consts, strict=True))
        for equation in jaxpr.eqns:
            own = _source.place(equation)
            here, function = own or enclosing, "" if own else call
            inside = [v for v in equation.params.values() for v in _programs(v)]
            fixed = [
                str(atom.val) if _source.is_literal(atom) else _shown(values.get(atom))
                for atom in equation.invars
            ]
            details = [f"{k}={v}" for k, v in equation.params.items() if not _unreadable(v)]
            text = f"{equation.primitive.name} {fixed} {details}"
            found.append((text, Mark(equation.primitive.name, here, function)))
            for inner in inside:
                walk(inner, here, _source.program_name(inner).lstrip("_"))

    walk(program, None, "")
    return found


def _programs(value: Any) -> list[Any]:
    values = value if isinstance(value, tuple | list) else (value,)
    return [v for v in values if hasattr(getattr(v, "jaxpr", v), "eqns")]


def _unreadable(value: Any) -> bool:
    """Programs are walked; functions and the like print their addresses."""
    return bool(_programs(value)) or callable(value) or " at 0x" in str(value)


def _shown(constant: Any) -> str:
    """A constant of the trace that is known: its bytes."""
    if constant is None or not isinstance(constant, np.ndarray | np.generic | float | int):
        return ""
    return str(np.asarray(constant).tobytes())
