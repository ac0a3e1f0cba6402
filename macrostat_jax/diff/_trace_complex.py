"""The complex step: derivatives from one run with complex numbers, to the last digits.

For an analytic f, f(x + i h) = f(x) + i h f'(x) + O(h^2), and nothing is subtracted: h may be as small
as 1e-20. The traced program is run anew on complex numbers. Operations that are not analytic (maxima,
comparisons, absolute values, ...) would pass silently with a wrong result: where a perturbed value
reaches one, it is refused, by name and line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from . import _source
from ._source import Place

_ANALYTIC = """
    add sub mul div neg add_any integer_pow pow exp exp2 log log1p expm1 sqrt rsqrt sin cos tan sinh
    cosh tanh asin acos atan asinh acosh atanh logistic square reduce_sum cumsum cumprod cumlogsumexp
    reduce_prod dot_general broadcast_in_dim reshape squeeze transpose expand_dims slice dynamic_slice
    dynamic_update_slice concatenate stack unstack pad rev gather scatter scatter-add scatter-mul
    select_n copy copy_p name convert_element_type triangular_solve lu split tile
    optimization_barrier
"""
ANALYTIC = frozenset(_ANALYTIC.split())
"""Operations that extend to complex arguments, in the arguments that may be perturbed."""
CHOOSING = {"select_n": 1, "dynamic_slice": 1, "dynamic_update_slice": 2, "gather": 1}
"""How many leading values these have besides what chooses among them (`select_n`: before them)."""
SOLVERS = {"solve", "_solve", "inv"}
"""Functions of JAX that factorise a matrix apart from its derivatives, which they supply themselves."""


class NotAnalytic(ValueError):
    """The program is no analytic function of its inputs."""


def complex_run(
    program: Any, arguments: list[Any], place: Place | None = None, call: str = ""
) -> list[Any]:
    """The results of a traced program, some of whose arguments are complex.

    Raises:
        NotAnalytic: a complex value reaches an operation that is not analytic.
    """
    jaxpr, consts = _source.opened(program)
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        values = [atom.val if _source.is_literal(atom) else known[atom] for atom in equation.invars]
        here = _source.place(equation, place)
        if any(jnp.iscomplexobj(value) for value in values):
            results = _complex(equation, values, here, call)
        else:
            results = _source.bind(equation, *values)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [atom.val if _source.is_literal(atom) else known[atom] for atom in jaxpr.outvars]


def _complex(equation: Any, values: list[Any], here: Place | None, call: str) -> list[Any]:
    name, details = equation.primitive.name, equation.params
    inner = _source.called(equation)
    if inner is not None:
        return complex_run(inner, values, here, _source.program_name(inner))
    if (solve := _source.solve_of(equation)) is not None:
        program, positions = solve
        return complex_run(program, [values[at] for at in positions], here, "solve")
    call = "" if _source.place(equation) else call
    if name == "stop_gradient":
        if call in SOLVERS:
            return values
        raise NotAnalytic(
            _refusal("stop_gradient", "has a value that moves, and no slope", here, call)
        )
    if name == "cond":
        if jnp.iscomplexobj(values[0]):
            raise NotAnalytic(_refusal(name, "chooses by a perturbed value", here, call))
        return _conditional(details["branches"], values[0], values[1:], here, call)
    if name == "scan":
        return _scan(equation, values, here, call)
    if name not in ANALYTIC:
        raise NotAnalytic(_refusal(name, "is not analytic", here, call))
    chooses = values[:1] if name == "select_n" else values[CHOOSING.get(name, len(values)) :]
    if any(jnp.iscomplexobj(value) for value in chooses):
        raise NotAnalytic(_refusal(name, "chooses by a perturbed value", here, call))
    if name == "convert_element_type":
        kind = details["new_dtype"]
        if not jnp.issubdtype(kind, jnp.floating):
            raise NotAnalytic(_refusal(name, f"makes {kind} of a real number", here, call))
        return [jnp.asarray(values[0], jnp.complex64 if kind == jnp.float32 else jnp.complex128)]
    kind = jnp.result_type(*[value for value in values if jnp.iscomplexobj(value)])
    values = [
        jnp.asarray(value, kind) if jnp.issubdtype(jnp.result_type(value), jnp.floating) else value
        for value in values
    ]
    function = _source.with_params(equation, preferred_element_type=kind)
    return function(*values)


def _conditional(
    branches: Any, index: Any, values: list[Any], here: Place | None, call: str
) -> list[Any]:
    def branch(program: Any) -> Callable[..., tuple[Any, ...]]:
        return lambda *arguments: tuple(complex_run(program, list(arguments), here, call))

    functions = [branch(program) for program in branches]
    shapes = [jax.eval_shape(function, *values) for function in functions]
    kinds = [jnp.result_type(*(s.dtype for s in out)) for out in zip(*shapes, strict=True)]

    def widened(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *a: tuple(
            jnp.asarray(x, kind) for x, kind in zip(function(*a), kinds, strict=True)
        )

    return list(jax.lax.switch(index, [widened(function) for function in functions], *values))


def _scan(equation: Any, values: list[Any], here: Place | None, call: str) -> list[Any]:
    program = equation.params["jaxpr"]
    fixed, carry = _source.carried(equation)
    consts, start, rows = values[:fixed], values[fixed : fixed + carry], values[fixed + carry :]
    kind = jnp.result_type(*[value for value in values if jnp.iscomplexobj(value)])

    def body(carried: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
        results = complex_run(program, [*consts, *carried, *row], here, call)
        return results[:carry], results[carry:]

    while True:  # what is carried becomes complex once something complex reaches it
        after, _ = jax.eval_shape(body, start, jax.tree.map(lambda x: x[0], rows))
        grown = [
            jnp.asarray(x, kind) if jnp.iscomplexobj(y) and not jnp.iscomplexobj(x) else x
            for x, y in zip(start, after, strict=True)
        ]
        if all(a is b for a, b in zip(grown, start, strict=True)):
            break
        start = grown

    def widened(carried: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
        after, out = body(carried, row)
        kept = [
            jnp.asarray(x, c.dtype) if jnp.iscomplexobj(c) else x
            for x, c in zip(after, carried, strict=True)
        ]
        return kept, out

    details = equation.params
    last, paths = jax.lax.scan(
        widened, start, rows, length=details["length"], reverse=details["reverse"]
    )
    return [*last, *paths]


def _refusal(name: str, why: str, here: Place | None, call: str) -> str:
    where = f" at {here}" + (f" ({here.text})" if here.text else "") if here else ""
    which = f"{name} (in {call})" if call not in ("", "<lambda>", name) else name
    return (
        f"The complex step needs an analytic program, and the operation {which}{where} {why}. Use another "
        "method, for instance method='richardson'."
    )
