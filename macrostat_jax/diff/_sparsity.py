"""Which elements of a step's derivative can be nonzero, and how few products find them all.

The tangent of the step is traced once, and what reaches each of its outputs is followed back, element
by element. Following the tangent and not the step means that rules written by hand, comparisons and
stopped gradients count as what they are for derivatives. Inputs that never meet in one output share a
product: they get one colour.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
import scipy.sparse
from jax.extend.core import Literal

from .._inputs import Plan
from .._model import Model
from .._tracing import abstract_inputs
from ..causality import _called, _open
from ._period import Row, period
from ._spaces import Block, Space
from ._target import Input, Wrt, field_of, resolve_wrt

if TYPE_CHECKING:
    import pandas as pd

Pattern: TypeAlias = Any
"""A sparse boolean matrix (elements of a value, elements of the input), or None: nothing reaches it."""


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Sparsity:
    """The nonzero elements of the derivative of a step, and their colours. Made by `step_sparsity`.

    Attributes:
        rows, columns: the spaces of the variables after a period, and of what they are derived by.
        pattern: boolean matrix (rows, columns).
        by: `"columns"` (forward products) or `"rows"` (reverse ones), whichever needs fewer colours.
        colours: colour of every column, or row; -1 where it is empty and needs no product.
    """

    model: Model
    rows: Space
    columns: Space
    pattern: Any
    by: str
    colours: np.ndarray

    @property
    def products(self) -> int:
        """How many Jacobian-vector products, or vector-Jacobian products, give the whole matrix."""
        return int(self.colours.max(initial=-1)) + 1

    def seeds(self, dtype: Any) -> np.ndarray:
        """The directions of the products, (products, columns) or (products, rows)."""
        seeds = np.zeros((self.products, len(self.colours)), dtype)
        at = np.flatnonzero(self.colours >= 0)
        seeds[self.colours[at], at] = 1.0
        return seeds

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every element that is not zero: row, column, and place in the flat products."""
        i, j = self.pattern.nonzero()
        if self.by == "columns":
            return i, j, self.colours[j] * self.pattern.shape[0] + i
        return i, j, self.colours[i] * self.pattern.shape[1] + j

    def expand(self, products: np.ndarray) -> np.ndarray:
        """The matrices (..., rows, columns) from their products (..., products, rows or columns)."""
        lead, (rows, columns) = products.shape[:-2], self.pattern.shape
        i, j, place = self._places
        dense = np.zeros((*lead, rows * columns), products.dtype)
        dense[..., i * columns + j] = products.reshape((*lead, -1))[..., place]
        return dense.reshape((*lead, rows, columns))

    def to_pandas(self) -> pd.DataFrame:
        """The pattern as a table of truth values."""
        import pandas as pd

        return pd.DataFrame(
            self.pattern.toarray(), index=self.rows.slots(), columns=self.columns.slots()
        )

    def __repr__(self) -> str:
        rows, columns = self.pattern.shape
        return (
            f"Sparsity of a step of {self.model.name}: {self.pattern.nnz:,} of {rows} x {columns} "
            f"elements, {self.products} products by {self.by}"
        )


def step_sparsity(model: Model, wrt: Wrt = "initial") -> Sparsity:
    """Which variables a step's derivative by which inputs can reach, at any point, and its colours.

    Exact for what is computed element by element, by sums and by products of matrices; what goes through
    loops and solvers counts as if every element reached every other.

    Args:
        wrt: `"initial"` (the state before the period), `"params"`, `"scenario"`, `"noise"`, single
            names, or several of these, as in `jacobian`.

    Raises:
        KeyError: an unknown name.
    """
    return sparsity_of(model, resolve_wrt(model, wrt))


def given_sparsity(model: Model, wrt: tuple[Input, ...], pattern: Any) -> Sparsity:
    """Coloured, a pattern that somebody else found, of the shape of ours."""
    rows, columns = spaces(model, wrt)
    pattern = scipy.sparse.csr_array(pattern, dtype=bool)
    if pattern.shape != (rows.size, columns.size):
        raise ValueError(
            f"{model.name}: the pattern has the shape {pattern.shape}, the step's derivative "
            f"{(rows.size, columns.size)}."
        )
    return _coloured(model, rows, columns, pattern)


@functools.lru_cache(maxsize=128)
def sparsity_of(model: Model, wrt: tuple[Input, ...]) -> Sparsity:
    rows, columns = spaces(model, wrt)
    prior, params, scenario, *more = abstract_inputs(model)
    noise, key = (more[0], None) if model.Noise is not None else (None, more[0] if more else None)
    records = {"params": params, "scenario": scenario, "initial": prior, "noise": noise}
    at = {one.label: getattr(records[one.group], one.key) for one in wrt}
    plan = Plan(model, 1)

    def tangent(leaves: list[Any], moved: list[Any], given: Any) -> list[Any]:
        prior, params, scenario, noise, key = given
        whole = {f"initial.{k}": getattr(prior, k) for k in model.State.fields}

        def state(leaves: list[Any]) -> list[Any]:
            values = whole | dict(zip(at, leaves, strict=True))
            after = period(plan, params, Row(scenario, {}, noise, key), values, leaves[0].dtype)
            return [getattr(after, label) for label in rows.labels]

        return jax.jvp(state, (leaves,), (moved,))[1]

    leaves = list(at.values())
    traced = jax.make_jaxpr(tangent)(leaves, leaves, (prior, params, scenario, noise, key))
    patterns: list[Pattern] = [None] * len(traced.jaxpr.invars)
    start = 0
    for i, block in enumerate(columns.blocks):
        ones = np.ones(block.size, bool), np.arange(block.size), np.arange(block.size + 1)
        identity = scipy.sparse.csr_array(ones, shape=(block.size, columns.size))
        identity.indices += start
        patterns[len(leaves) + i] = identity
        start += block.size
    known = dict(zip(traced.jaxpr.constvars, map(np.asarray, traced.consts), strict=True))
    found = _follow(traced.jaxpr, patterns, known)
    parts = [
        scipy.sparse.csr_array((block.size, columns.size), dtype=bool) if part is None else part
        for block, part in zip(rows.blocks, found, strict=True)
    ]
    pattern = scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
    return _coloured(model, rows, columns, pattern)


def spaces(model: Model, wrt: tuple[Input, ...]) -> tuple[Space, Space]:
    """The real variables after a period, and the inputs of one period."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    prior = abstract_inputs(model)[0]
    rows = [
        Block(key, field.axes)
        for key, field in model.State.fields.items()
        if np.issubdtype(getattr(prior, key).dtype, np.floating)
    ]
    columns = [Block(one.label, field_of(model, one).axes) for one in wrt]
    return Space(tuple(rows), dtype, model), Space(tuple(columns), dtype, model, wrt)


# --- colours -------------------------------------------------------------------------------------


def _coloured(model: Model, rows: Space, columns: Space, pattern: Any) -> Sparsity:
    """By columns or by rows, whichever takes fewer products; forward ones where it is the same."""
    lines = {"columns": pattern.T.tocsr(), "rows": pattern}
    # No fewer colours than the fullest line across has elements: that side is tried first.
    least = {"columns": _fullest(pattern), "rows": _fullest(lines["columns"])}
    by, other = sorted(lines, key=lambda side: (least[side], side))
    colours = _colours(lines[by])
    count = colours.max(initial=-1) + 1
    if least[other] < count or (least[other] == count and other == "columns"):
        try:
            second = _colours(lines[other], count if other == "columns" else count - 1)
            by, colours = other, second
        except _TooMany:
            pass
    return Sparsity(model, rows, columns, pattern, by, colours)


def _fullest(lines: Pattern) -> int:
    return int(np.diff(lines.indptr).max(initial=0))


class _TooMany(Exception):
    """More colours than are of use."""


def _colours(lines: Pattern, most: int | None = None) -> np.ndarray:
    """Greedy, the fullest line first: lines that have an element in common get different colours."""
    counts = np.diff(lines.indptr)
    colours = np.full(lines.shape[0], -1)
    taken: list[np.ndarray] = []
    for line in np.argsort(-counts, kind="stable"):
        elements = lines.indices[lines.indptr[line] : lines.indptr[line + 1]]
        if not len(elements):
            break
        colour = next((c for c, used in enumerate(taken) if not used[elements].any()), len(taken))
        if colour == len(taken):
            if colour == most:
                raise _TooMany
            taken.append(np.zeros(lines.shape[1], bool))
        taken[colour][elements] = True
        colours[line] = colour
    return colours


# --- following the tangent -----------------------------------------------------------------------

_ELEMENTWISE = {
    *("add", "add_any", "sub", "mul", "div", "neg", "select_n", "convert_element_type", "copy"),
    *("copy_p", "reduce_precision", "real", "imag", "conj", "optimization_barrier", "name"),
}
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min"}
_CUMULATIVE = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"}


def _follow(jaxpr: Any, inputs: list[Pattern], known: dict[Any, np.ndarray]) -> list[Pattern]:
    """The patterns of the outputs, given those of the inputs; `known` are values that are constants."""
    patterns: dict[Any, Pattern] = dict(zip(jaxpr.invars, inputs, strict=True))

    def pattern(atom: Any) -> Pattern:
        return None if isinstance(atom, Literal) else patterns.get(atom)

    def value(atom: Any) -> np.ndarray | None:
        return np.asarray(atom.val) if isinstance(atom, Literal) else known.get(atom)

    for equation in jaxpr.eqns:
        given = [pattern(atom) for atom in equation.invars]
        values = [value(atom) for atom in equation.invars]
        if all(one is None for one in given):
            _remember(equation, values, known)
            continue
        results = _through(equation, given, values)
        patterns.update(zip(equation.outvars, results, strict=True))
    return [pattern(atom) for atom in jaxpr.outvars]


def _remember(equation: Any, values: list[Any], known: dict[Any, np.ndarray]) -> None:
    """Indices are mostly computed from constants: worth knowing; real numbers are not."""
    whole = all(np.dtype(var.aval.dtype).kind in "biu" for var in equation.outvars)
    if not whole or any(v is None for v in values) or _called(equation) is not None:
        return
    try:
        found = equation.primitive.bind(*values, **equation.params)
    except Exception:  # whatever cannot be known is conservatively unknown
        return
    found = found if equation.primitive.multiple_results else [found]
    known.update(zip(equation.outvars, map(np.asarray, found), strict=True))


def _through(equation: Any, given: list[Pattern], values: list[Any]) -> list[Pattern]:
    name, details = equation.primitive.name, equation.params
    shapes = [atom.aval.shape for atom in equation.invars]
    out = [var.aval.shape for var in equation.outvars]
    inner = _called(equation)
    if inner is not None:
        known = {v: x for v, x in zip(inner.invars, values, strict=True) if x is not None}
        return _follow(inner, given, known)
    if name == "cond":
        branches = [_follow(_open(b), given[1:], {}) for b in details["branches"]]
        return [functools.reduce(_either, found) for found in zip(*branches, strict=True)]
    if name in _ELEMENTWISE:
        parts = [
            _taken(one, np.broadcast_to(_numbers(shape), out[0]))
            for one, shape in zip(given, shapes, strict=True)
            if one is not None
        ]
        return [functools.reduce(_either, parts)] * len(out)
    if name == "concatenate" or name == "stack":
        return [_joined(name, given, shapes, details)]
    if name in _REDUCTIONS and "axes" in details:
        return [_reduced(given[0], shapes[0], details["axes"])]
    if name in _CUMULATIVE:
        return [_accumulated(given[0], shapes[0], details["axis"], details["reverse"])]
    if name == "dot_general":
        return [_multiplied(given, shapes, details["dimension_numbers"])]
    moved = _moved(name, details, given, shapes, values, equation)
    if moved is not None:
        return [_taken(given[0], indices) for indices in moved]
    # Anything else: every element of every operand may reach every element of every result.
    whole = [np.asarray(one.sum(axis=0)).reshape(1, -1) > 0 for one in given if one is not None]
    union = scipy.sparse.csr_array(np.any(whole, axis=0))
    return [_taken(union, np.zeros(shape, int)) for shape in out]


def _numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def _without(shape: tuple[int, ...], axes: Any) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _either(a: Pattern, b: Pattern) -> Pattern:
    return b if a is None else a if b is None else a + b


def _taken(pattern: Pattern, indices: np.ndarray) -> Pattern:
    """The rows at `indices`, one after the other; a negative index is an empty row."""
    if pattern is None:
        return None
    indices = np.asarray(indices).reshape(-1)
    if (indices >= 0).all():
        return pattern[indices]
    empty = scipy.sparse.csr_array((1, pattern.shape[1]), dtype=bool)
    extended = scipy.sparse.csr_array(scipy.sparse.vstack([pattern, empty], format="csr"))
    return extended[np.where(indices < 0, pattern.shape[0], indices)]


def _reduced(pattern: Pattern, shape: tuple[int, ...], axes: Any) -> Pattern:
    """The union over some axes."""
    if pattern is None:
        return None
    rest = _without(shape, axes)
    target = np.expand_dims(_numbers(rest), tuple(axes))
    into = np.broadcast_to(target, shape).reshape(-1)
    ones = np.ones(len(into), bool), (into, np.arange(len(into)))
    gather = scipy.sparse.csr_array(ones, shape=(math.prod(rest), len(into)))
    return scipy.sparse.csr_array(gather @ pattern)


def _accumulated(pattern: Pattern, shape: tuple[int, ...], axis: int, reverse: bool) -> Pattern:
    """The union over what comes before along an axis, or after."""
    lines = np.moveaxis(_numbers(shape), axis, -1).reshape(-1, shape[axis])
    later, earlier = np.nonzero(np.tri(shape[axis], dtype=bool))
    into, source = (earlier, later) if reverse else (later, earlier)
    places = lines[:, into].reshape(-1), lines[:, source].reshape(-1)
    gather = scipy.sparse.csr_array(
        (np.ones(len(places[0]), bool), places), shape=(pattern.shape[0],) * 2
    )
    return scipy.sparse.csr_array(gather @ pattern)


def _joined(name: str, given: list[Pattern], shapes: list[Any], details: Any) -> Pattern:
    width = next(one.shape[1] for one in given if one is not None)
    parts, numbers, start = [], [], 0
    for one, shape in zip(given, shapes, strict=True):
        size = math.prod(shape)
        parts.append(scipy.sparse.csr_array((size, width), dtype=bool) if one is None else one)
        numbers.append(_numbers(shape) + start)
        start += size
    join = np.concatenate if name == "concatenate" else np.stack
    whole = scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr"))
    return _taken(whole, join(numbers, details["dimension" if name == "concatenate" else "axis"]))


def _multiplied(given: list[Pattern], shapes: list[Any], numbers: Any) -> Pattern:
    """Of a product of arrays: each factor summed over what is contracted, spread over the other's axes."""
    contracted, batch = numbers
    free = [
        [a for a in range(len(shapes[side])) if a not in contracted[side] and a not in batch[side]]
        for side in (0, 1)
    ]
    found: Pattern = None
    for side in (0, 1):
        if given[side] is None:
            continue
        kept = [a for a in range(len(shapes[side])) if a not in contracted[side]]
        index = _numbers(_without(shapes[side], contracted[side]))
        order = [kept.index(a) for a in (*batch[side], *free[side])]
        index = index.transpose(order)
        b, f, other = len(batch[0]), len(free[side]), len(free[1 - side])
        lead = [shapes[side][a] for a in batch[side]]
        own = [shapes[side][a] for a in free[side]]
        theirs = [shapes[1 - side][a] for a in free[1 - side]]
        places = (range(b + f, b + f + other), range(b, b + other))[side]
        index = np.expand_dims(index, tuple(places))
        whole = (*lead, *own, *theirs) if side == 0 else (*lead, *theirs, *own)
        reduced = _reduced(given[side], shapes[side], contracted[side])
        found = _either(found, _taken(reduced, np.broadcast_to(index, whole)))
    return found


def _moved(
    name: str, details: Any, given: list[Pattern], shapes: list[Any], values: list[Any], eqn: Any
) -> list[np.ndarray] | None:
    """Of an operation that only moves elements: where each result's elements come from."""
    if any(one is not None for one in given[1:]):
        return None
    index, out = _numbers(shapes[0]), [var.aval.shape for var in eqn.outvars]
    if name in ("reshape", "squeeze", "expand_dims"):
        return [index.reshape(out[0])]
    if name == "broadcast_in_dim":
        axes = details["broadcast_dimensions"]
        aligned = [shapes[0][axes.index(a)] if a in axes else 1 for a in range(len(out[0]))]
        return [np.broadcast_to(index.reshape(aligned), out[0])]
    if name == "transpose":
        return [index.transpose(details["permutation"])]
    if name == "rev":
        return [np.flip(index, details["dimensions"])]
    if name == "slice":
        strides = details["strides"] or (1,) * index.ndim
        window = zip(details["start_indices"], details["limit_indices"], strides, strict=True)
        return [index[tuple(slice(*one) for one in window)]]
    if name == "split":
        stops = np.cumsum(details["sizes"])[:-1]
        return list(np.split(index, stops, details["axis"]))
    if name == "unstack":
        return list(np.moveaxis(index, details["axis"], 0))
    if name in ("gather", "dynamic_slice", "pad") and all(v is not None for v in values[1:]):
        # These only move elements too: numbers in place of values show where to; -1 is a new one.
        changed = {"fill_value": -1} if "fill_value" in details else {}
        operands = [np.asarray(-1)] if name == "pad" else values[1:]
        return [np.asarray(eqn.primitive.bind(index, *operands, **(dict(details) | changed)))]
    return None
