"""Traced programs, and where in the user's code each operation stands.

All that this library uses of JAX's private modules is in this file. Where one of them has moved, places
are unknown (None) and the rest goes on; the tests ask that on the supported releases none has.
"""

from __future__ import annotations

import dataclasses
import functools
import linecache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

LIBRARY = Path(__file__).parents[1]
MODELS = LIBRARY / "models"


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of code."""

    file: str
    line: int
    column: int
    function: str = ""
    within: str = ""
    """The function of this library that was called there and holds the operation: `smooth.mask`."""

    @property
    def text(self) -> str:
        """The line itself, without its indentation; empty where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def place(equation: Any, enclosing: Place | None = None) -> Place | None:
    """The line of user code at which an equation of a trace was made.

    Args:
        equation: of a `Jaxpr`.
        enclosing: the place of the call that runs it, which it is given where it has none of its own:
            within functions that JAX has jitted itself, as `jnp.where`.
    """
    frames = [_place(frame) for frame in _frames(equation.source_info.traceback)]
    frames = [frame for frame in frames if frame is not None]
    if not frames:
        return enclosing
    for at, frame in enumerate(frames):
        if not _of_library(frame.file):
            inner = frames[at - 1] if at else None
            name = f"{Path(inner.file).stem}.{inner.function}" if inner else ""
            return dataclasses.replace(frame, within=name)
    return enclosing or frames[0]


def _of_library(file: str) -> bool:
    """Is this one of this library's own modules, models apart?"""
    path = Path(file)
    return path.is_relative_to(LIBRARY) and not path.is_relative_to(MODELS)


@functools.lru_cache(maxsize=4096)
def _frames(traceback: Any) -> tuple[Any, ...]:
    """The frames of user code, from the innermost outwards."""
    if traceback is None:
        return ()
    try:
        from jax._src import source_info_util

        return tuple(source_info_util.user_frames(traceback))
    except (ImportError, AttributeError, TypeError):
        return ()


def _place(frame: Any) -> Place | None:
    try:
        return Place(
            frame.file_name,
            int(frame.start_line),
            int(frame.start_column),
            str(frame.function_name).rpartition(".")[2],
        )
    except (AttributeError, TypeError):
        return None


def opened(program: Any) -> tuple[Any, list[Any]]:
    """A traced program as equations and the values of its constants, whichever class this release has."""
    if isinstance(program, ClosedJaxpr):
        return program.jaxpr, list(program.consts)
    inner = getattr(program, "jaxpr", program)
    return inner, list(getattr(program, "consts", ()))


def program_name(program: Any) -> str:
    """The name of the Python function that was traced; empty where this release does not say."""
    name = getattr(getattr(opened(program)[0], "debug_info", None), "func_name", None)
    return name if isinstance(name, str) else ""


def is_literal(atom: Any) -> bool:
    """Is this argument of an equation a number rather than a variable?"""
    return hasattr(atom, "val")


def carried(equation: Any) -> tuple[int, int]:
    """(how many constants, how many carried values) a `scan` has, before what it scans over.

    Releases write this differently; that only what is scanned over loses an axis on its way in or out
    they have in common.
    """
    body = opened(equation.params["jaxpr"])[0]

    def same_rank(outside: Any, inside: Any) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)

    carry = same_rank(equation.outvars, body.outvars)
    return same_rank(equation.invars, body.invars) - carry, carry


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
"""Operations that run one program on their arguments -> the parameter that holds it."""
RULES = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
"""Those whose derivatives somebody has written by hand."""


def called(equation: Any) -> Any:
    """The program that a call (jit, checkpoint, custom_jvp, ...) runs on just its arguments, or None."""
    key = CALLS.get(equation.primitive.name)
    program = None if key is None else equation.params.get(key)
    if program is None:
        return None
    inner = opened(program)[0]
    fits = len(inner.invars) == len(equation.invars) and len(inner.outvars) == len(equation.outvars)
    return program if fits else None


def solve_of(equation: Any) -> tuple[Any, Any] | None:
    """Of a linear solve: the program that solves, and the positions of its arguments; else None."""
    if equation.primitive.name != "custom_linear_solve":
        return None
    counts, programs = equation.params.get("const_lengths"), equation.params.get("jaxprs")
    if counts is None or programs is None or getattr(programs, "solve", None) is None:
        return None
    before = counts.matvec + counts.vecmat
    every = sum(n for n in counts)
    positions = [*range(before, before + counts.solve), *range(every, len(equation.invars))]
    return programs.solve, positions


def bind(equation: Any, *values: Any) -> list[Any]:
    """The results of an equation on other arguments, which may be traced."""
    primitive = equation.primitive
    parameters = primitive.get_bind_params(equation.params)
    functions, parameters = parameters if isinstance(parameters, tuple) else ([], parameters)
    result = primitive.bind(*functions, *values, **parameters)
    return list(result) if primitive.multiple_results else [result]


def is_key(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def with_params(equation: Any, **changes: Any) -> Any:
    """The operation of an equation as a function, with those of its parameters changed that it has."""
    primitive = equation.primitive
    kept = {key: value for key, value in changes.items() if equation.params.get(key) is not None}

    def function(*values: Any) -> list[Any]:
        result = primitive.bind(*values, **{**equation.params, **kept})
        return list(result) if primitive.multiple_results else [result]

    return function
