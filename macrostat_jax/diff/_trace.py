"""Running a traced program and noting, operation by operation, what happens inside it.

The program of a whole run (initial state, all periods, the loss) is run as it was traced, and beside its
results gives one small number per operation of interest and period: which way a switch fell, whether a
value became undefined, whether a hand-written derivative is that of its function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _source
from ._source import Place

Hook = Callable[[Any, list[Any], list[Any]], Any]
"""`(equation, arguments, results) -> uint32 scalar`, or None where the operation is of no interest."""


@dataclasses.dataclass(frozen=True)
class Site:
    """An operation that is watched."""

    operation: str
    place: Place | None
    phase: str
    """`"start"` (parameters and initial state), `"period"`, or `"loss"`."""
    call: str = ""
    """The function of JAX within which it happens: `where`, `clip`."""

    @property
    def name(self) -> str:
        """What the user wrote, as far as it can be told: `where`, or `gt (>)`."""
        if self.call:
            return self.call
        return (
            f"{self.operation} ({SIGNS[self.operation]})"
            if self.operation in SIGNS
            else (self.operation)
        )


SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!=", "div": "/"}


class Watch:
    """Runs a program once with a hook; made anew for every trace.

    Args:
        hook: what to note.
        periods: the length of the loop over time: the first loop of this length.
        variables: the names of what that loop stacks, in order.
    """

    def __init__(self, hook: Hook, periods: int, variables: tuple[str, ...]) -> None:
        self.hook, self.periods, self.variables = hook, periods, variables
        self.sites: list[Site] = []
        self.notes: list[Any] = []
        self.owners: dict[int, str] = {}
        """Site -> the variable of the same period that is computed from it most directly."""
        self._looped = False

    def run(self, program: Any, arguments: list[Any]) -> list[Any]:
        """The results; `sites`, `notes` (scalars, or (T,) in a period) and `owners` are filled."""
        results, _ = self._run(program, arguments, [frozenset()] * len(arguments), None, "", 0)
        return results

    def _run(
        self,
        program: Any,
        arguments: list[Any],
        tags: list[frozenset[int]],
        enclosing: Place | None,
        call: str,
        depth: int,
    ) -> tuple[list[Any], list[frozenset[int]]]:
        jaxpr, consts = _source.opened(program)
        known = dict(zip(jaxpr.constvars, consts, strict=True))
        known |= dict(zip(jaxpr.invars, arguments, strict=True))
        tagged = dict(zip(jaxpr.invars, tags, strict=True))
        for equation in jaxpr.eqns:
            atoms = equation.invars
            values = [a.val if _source.is_literal(a) else known[a] for a in atoms]
            marks = [
                frozenset() if _source.is_literal(a) else tagged.get(a, frozenset()) for a in atoms
            ]
            own = _source.place(equation)
            here = own or enclosing
            function = "" if own else call
            inner = _source.called(equation)
            if inner is not None:
                found = self._rule(equation, values, here, function, depth)
                results, out = self._run(
                    inner, values, marks, here, _source.program_name(inner).lstrip("_"), depth
                )
                out = [one | found for one in out]
            elif equation.primitive.name == "scan":
                results, out = self._scan(equation, values, marks, here, function, depth)
            else:
                results = _source.bind(equation, *values)
                found = self._note(equation, values, results, here, function, depth)
                out = [frozenset().union(*marks, found)] * len(results)
            known |= dict(zip(equation.outvars, results, strict=True))
            tagged |= dict(zip(equation.outvars, out, strict=True))
        results = [a.val if _source.is_literal(a) else known[a] for a in jaxpr.outvars]
        out = [
            frozenset() if _source.is_literal(a) else tagged.get(a, frozenset())
            for a in jaxpr.outvars
        ]
        return results, out

    def _rule(self, equation: Any, values: Any, here: Any, call: str, depth: int) -> frozenset[int]:
        if equation.primitive.name not in _source.RULES:
            return frozenset()
        return self._note(equation, values, [], here, call, depth)

    def _note(
        self, equation: Any, values: Any, results: Any, here: Any, call: str, depth: int
    ) -> frozenset[int]:
        note = self.hook(equation, values, results)
        if note is None:
            return frozenset()
        phase = "period" if depth else "loss" if self._looped else "start"
        self.sites.append(Site(equation.primitive.name, here, phase, call))
        self.notes.append(note)
        return frozenset({len(self.sites) - 1})

    def _scan(
        self, equation: Any, values: Any, marks: Any, here: Any, call: str, depth: int
    ) -> tuple[list[Any], list[frozenset[int]]]:
        details, program = equation.params, equation.params["jaxpr"]
        fixed, carry = _source.carried(equation)
        over_time = depth == 0 and not self._looped and details["length"] == self.periods
        outer, self.notes = self.notes, []
        first = len(self.sites)
        found: list[Any] = []
        # Within a period everything that was computed before it has no tags: they say how directly.
        tags = [frozenset()] * len(marks) if over_time else list(marks)

        def body(carried: list[Any], row: list[Any]) -> tuple[list[Any], Any]:
            del self.sites[first:]
            self.notes = []
            arguments = [*values[:fixed], *carried, *row]
            results, out = self._run(program, arguments, tags, here, call, depth + 1)
            found[:] = out
            return results[:carry], (results[carry:], list(self.notes))

        last, (paths, notes) = jax.lax.scan(
            body,
            list(values[fixed : fixed + carry]),
            list(values[fixed + carry :]),
            length=details["length"],
            reverse=details["reverse"],
        )
        if over_time:
            self._looped = True
            self.notes = [*outer, *notes]
            self._own(first, found[carry:])
            found = [frozenset()] * len(found)
        else:
            self.notes = [*outer, *[_folded(note) for note in notes]]
            everything = frozenset().union(*found, *tags)
            found = [everything] * len(found)
        return [*last, *paths], found

    def _own(self, first: int, tags: list[frozenset[int]]) -> None:
        if len(tags) != len(self.variables):
            return
        by_size = sorted(zip(tags, self.variables, strict=True), key=lambda pair: len(pair[0]))
        for at in range(first, len(self.sites)):
            self.owners[at] = next((name for marks, name in by_size if at in marks), "")


def _folded(notes: Any) -> Any:
    """The notes of an inner loop as one number: which differs if any of them does, 0 if all are 0."""
    if notes.ndim == 0:
        return notes
    weights = _odd(notes.shape[0]).reshape(-1, *[1] * (notes.ndim - 1))
    return jnp.sum(notes * weights, axis=0, dtype=jnp.uint32)


def _odd(count: int) -> Any:
    """Odd multipliers without a pattern, uint32."""
    return jnp.asarray(
        (np.arange(count, dtype=np.uint64) * 2654435761 + 12345) % 2**32 | 1, jnp.uint32
    )


def _digest(pattern: Any) -> Any:
    """A pattern of small whole numbers as one uint32, 0 where all are 0."""
    flat = jnp.ravel(jnp.asarray(pattern)).astype(jnp.int32).astype(jnp.uint32)
    return jnp.sum(flat * _odd(flat.shape[0]), dtype=jnp.uint32)


COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")
ROUNDINGS = ("floor", "ceil", "round", "sign", "is_finite", "argmax", "argmin")


def switches(equation: Any, values: list[Any], results: list[Any]) -> Any:
    """Which way a switch falls, as a number: the hook for kinks and jumps."""
    name = equation.primitive.name
    if name in COMPARISONS:
        # What compares whole numbers (positions, counts) follows what made them.
        return _digest(results[0]) if _floats(values) else None
    if name in ("max", "min"):
        return _digest(jnp.sign(values[0] - values[1])) if _floats(values) else None
    if name == "clamp" and _floats(values):
        low, value, high = values
        return _digest((value >= high) * 1 + (value <= low) * 2)
    if name == "abs" and _floats(values):
        return _digest(jnp.sign(values[0]))
    if name == "select_n" and _floats(values[1:]):
        return _digest(values[0])
    if name in ROUNDINGS and _floats(values):
        return _digest(
            jnp.clip(jnp.nan_to_num(results[0]), -1e9, 1e9) if _floats(results) else results[0]
        )
    if name == "rem" and _floats(values):
        return _digest(jnp.clip(jnp.floor(values[0] / values[1]), -1e9, 1e9))
    if name in ("reduce_max", "reduce_min") and _floats(values):
        axes = tuple(equation.params["axes"])
        return _digest(values[0] == jnp.expand_dims(results[0], axes))
    if name == "sort" and _floats(values[:1]):
        return _digest(jnp.argsort(values[0], axis=equation.params["dimension"]))
    if name == "convert_element_type" and _floats(values) and not _floats(results):
        return _digest(results[0])
    if name == "cond":
        return _digest(values[0])
    return None


_SINGULAR = """
    div log log1p sqrt rsqrt cbrt pow integer_pow asin acos atanh acosh exp exp2 expm1 lgamma digamma
    erf_inv tan sinh cosh
"""
SINGULAR = frozenset(_SINGULAR.split())
"""Operations whose derivative may be infinite or undefined where their value is not."""
VALUE, DERIVATIVE = 1, 2


def hazards(equation: Any, values: list[Any], results: list[Any]) -> Any:
    """1 where a value, 2 where a derivative is not finite though all arguments are: the hook for NaN."""
    name = equation.primitive.name
    if name in _source.RULES or not _floats(results) or name in ("select_n", "broadcast_in_dim"):
        return None
    floats = [jnp.asarray(v) for v in values if _floats([v])]
    fine = jnp.asarray(True)
    for value in floats:
        fine &= jnp.all(jnp.isfinite(value))
    bad = jnp.asarray(False)
    for result in results:
        if _floats([result]):
            bad |= jnp.any(~jnp.isfinite(result))
    note = jnp.where(fine & bad, VALUE, 0).astype(jnp.uint32)
    if name in SINGULAR:
        steep = jnp.asarray(False)
        for at, value in enumerate(values):
            if _floats([value]):
                steep |= _steep(equation, values, at)
        note += jnp.where(fine & steep, DERIVATIVE, 0).astype(jnp.uint32)
    return note


def _steep(equation: Any, values: list[Any], at: int) -> Any:
    """Is the derivative of an elementwise operation by one of its arguments not finite somewhere?"""

    def function(value: Any) -> Any:
        return _source.bind(equation, *values[:at], value, *values[at + 1 :])[0]

    value = jnp.asarray(values[at])
    _, slope = jax.jvp(function, (value,), (jnp.ones_like(value),))
    return jnp.any(~jnp.isfinite(slope))


RULE_STEP, RULE_TOLERANCE = 1e-4, 2e-6


def rules(equation: Any, values: list[Any], results: list[Any]) -> Any:
    """1 where a hand-written derivative is not that of its function: the hook for wrong gradients.

    The rule's product with one random direction is compared with central differences at two steps.
    """
    if equation.primitive.name not in _source.RULES:
        return None
    moving = [at for at, value in enumerate(values) if _floats([value])]
    if not moving:
        return None
    rng = np.random.default_rng(len(moving))
    start = [jnp.asarray(values[at]) for at in moving]
    along = [
        jnp.asarray(rng.uniform(0.5, 1.5, v.shape) * rng.choice([-1, 1], v.shape), v.dtype)
        * jnp.where(v == 0, 1, jnp.abs(v)).astype(v.dtype)
        for v in start
    ]

    def function(*floats: Any) -> Any:
        filled = list(values)
        for at, value in zip(moving, floats, strict=True):
            filled[at] = value
        out = [r for r in _source.bind(equation, *filled) if _floats([r])]
        return sum(
            (jnp.sum(r * jnp.asarray(rng_weights(r.shape), r.dtype)) for r in out),
            start=jnp.zeros((), start[0].dtype),
        )

    value, pull = jax.vjp(function, *start)
    slopes = pull(jnp.ones_like(value))
    ours = sum(jnp.sum(s * d) for s, d in zip(slopes, along, strict=True))

    def difference(h: float) -> Any:
        up = function(*[v + h * d for v, d in zip(start, along, strict=True)])
        down = function(*[v - h * d for v, d in zip(start, along, strict=True)])
        return (up - down) / (2 * h)

    long, short = difference(RULE_STEP), difference(RULE_STEP / 2)
    theirs = (4 * short - long) / 3
    size = jnp.maximum(jnp.abs(ours), jnp.abs(theirs))
    allowed = RULE_TOLERANCE * size + 4 * jnp.abs(short - long) ** 2 / (size + 1e-300)
    allowed += 64 * jnp.finfo(value.dtype).eps * jnp.abs(value) / RULE_STEP
    # Steps that leave the function's domain say nothing.
    wrong = jnp.abs(ours - theirs) > allowed
    return (wrong & jnp.isfinite(theirs)).astype(jnp.uint32)


def rng_weights(shape: tuple[int, ...]) -> np.ndarray:
    """Fixed weights of results, no two alike."""
    return np.random.default_rng(1).uniform(0.5, 1.5, shape)


def _floats(values: list[Any]) -> bool:
    return any(
        not _source.is_key(value) and jnp.issubdtype(jnp.result_type(value), jnp.floating)
        for value in values
    )
