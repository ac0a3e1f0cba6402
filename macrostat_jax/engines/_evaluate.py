"""Runs a program that JAX has traced with the operations of another array library.

JAX turns a Python function into a list of primitive operations, a jaxpr. `Engine.run` goes through that
list and looks every primitive up by its name; an engine says what a value is (an array of NumPy, of
torch, a dual number, an array of symbols) and has one method per primitive. What concerns shapes alone
is written here once, in terms of the few methods that an engine must have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ..causality import _open, _same_rank

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


class UnsupportedOperation(NotImplementedError):
    """A primitive that an engine does not have; the message names both."""


class _Missing:
    """What an engine could not compute: an error where anything comes of it, and only there.

    The factors of a matrix that JAX prepares for its own solver are such values: an engine solves with
    the matrix itself.
    """

    def __init__(self, message: str) -> None:
        self.message = message


class Engine:
    """One array library, as what the primitives of JAX mean in it.

    Subclasses define `name`, the structural operations below and one method per arithmetic primitive,
    called as `method(*values, **params)` under the primitive's name (a trailing underscore where that
    is a word of Python: `and_`). Values of whole numbers and truth values are arrays of the library like
    all others.
    """

    name: str

    # What an engine must have ---------------------------------------------------------------------

    def asarray(self, value: Any) -> Any:
        """A constant, given as a NumPy array, as a value."""
        raise NotImplementedError

    def numpy(self, value: Any) -> np.ndarray:
        """The numbers of a value."""
        raise NotImplementedError

    def shape(self, value: Any) -> tuple[int, ...]:
        return tuple(value.shape)

    def astype(self, value: Any, dtype: np.dtype) -> Any:
        raise NotImplementedError

    def reshape_to(self, value: Any, shape: Sequence[int]) -> Any:
        raise NotImplementedError

    def permute(self, value: Any, axes: Sequence[int]) -> Any:
        raise NotImplementedError

    def broadcast_to(self, value: Any, shape: Sequence[int]) -> Any:
        raise NotImplementedError

    def join(self, values: Sequence[Any], axis: int) -> Any:
        """Concatenation."""
        raise NotImplementedError

    def take(self, value: Any, positions: Any) -> Any:
        """Elements of a vector at `positions`, a value of whole numbers of any shape."""
        raise NotImplementedError

    def added_at(self, value: Any, positions: Any, updates: Any) -> Any:
        """A vector with `updates` added at `positions`, both of one shape, which may repeat."""
        raise NotImplementedError

    def matmul(self, a: Any, b: Any) -> Any:
        """Products of (..., n, k) and (..., k, m)."""
        raise NotImplementedError

    def linear_solve(self, a: Any, b: Any) -> Any:
        """x of a x = b, for (n, n) and (n,)."""
        raise NotImplementedError

    # The interpreter ------------------------------------------------------------------------------

    def run(self, program: ClosedJaxpr, *arguments: Any) -> list[Any]:
        """The outputs of a program, for values of this engine.

        Raises:
            UnsupportedOperation: naming the first primitive that the engine lacks.
        """
        return self._present(self._opened(program, arguments))

    def _opened(self, program: Any, arguments: Sequence[Any]) -> list[Any]:
        consts = [self.asarray(np.asarray(c)) for c in program.consts]
        return self._run(program.jaxpr, consts, arguments)

    def _run(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Any:
            return self.asarray(np.asarray(atom.val)) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            given = [read(atom) for atom in equation.invars]
            results = self._apply(equation, given)
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _present(self, values: Sequence[Any]) -> list[Any]:
        for value in values:
            if isinstance(value, _Missing):
                raise UnsupportedOperation(value.message)
        return list(values)

    def _apply(self, equation: Any, given: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            return self._called(params[CALLS[name]], given)
        if name == "scan":
            return self._scan(equation, self._present(given))
        method = self._method(name)
        missing = [value for value in given if isinstance(value, _Missing)]
        if method is None:
            shapes = ", ".join(str(atom.aval) for atom in equation.invars[:6])
            missing = [_Missing(f"The {self.name} engine has no operation {name!r} ({shapes}).")]
        if missing and name != "custom_linear_solve":
            return missing[:1] * len(equation.outvars)
        assert method is not None
        result = method(*given, **params)
        return list(result) if equation.primitive.multiple_results else [result]

    def _method(self, name: str) -> Callable[..., Any] | None:
        name = name.replace("-", "_")
        return getattr(self, name, None) or getattr(self, f"{name}_", None)

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
        stacked = [
            self.join([self.reshape_to(x, (1, *self.shape(x))) for x in column], 0)
            for column in zip(*rows, strict=True)
        ]
        return [*carry, *stacked]

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
        while bool(self.numpy(self.run(cond_jaxpr, *asked, *carry)[0])):
            carry = self.run(body_jaxpr, *consts, *carry)
        return carry

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

    # Shapes ---------------------------------------------------------------------------------------

    def row(self, value: Any, at: int) -> Any:
        return value[at]

    def reshape(self, x: Any, *, new_sizes: Any, **_: Any) -> Any:
        return self.reshape_to(x, new_sizes)

    def squeeze(self, x: Any, *, dimensions: Any, **_: Any) -> Any:
        kept = [n for at, n in enumerate(self.shape(x)) if at not in dimensions]
        return self.reshape_to(x, kept)

    def expand_dims(self, x: Any, *, dimensions: Any, **_: Any) -> Any:
        shape = list(self.shape(x))
        for at in sorted(dimensions):
            shape.insert(at, 1)
        return self.reshape_to(x, shape)

    def broadcast_in_dim(
        self, x: Any, *_: Any, shape: Any, broadcast_dimensions: Any, **__: Any
    ) -> Any:
        lead = [1] * len(shape)
        for size, at in zip(self.shape(x), broadcast_dimensions, strict=True):
            lead[at] = size
        return self.broadcast_to(self.reshape_to(x, lead), shape)

    def transpose(self, x: Any, *, permutation: Any, **_: Any) -> Any:
        return self.permute(x, permutation)

    def concatenate(self, *values: Any, dimension: int, **_: Any) -> Any:
        return self.join(values, dimension)

    def stack(self, *values: Any, axis: int = 0, **_: Any) -> Any:
        def widened(x: Any) -> Any:
            shape = list(self.shape(x))
            shape.insert(axis, 1)
            return self.reshape_to(x, shape)

        return self.join([widened(x) for x in values], axis)

    def tile(self, x: Any, *, reps: Any, **_: Any) -> Any:
        shape = self.shape(x)
        lead = [n for size in shape for n in (1, size)]
        wide = [n for many, size in zip(reps, shape, strict=True) for n in (many, size)]
        repeated = self.broadcast_to(self.reshape_to(x, lead), wide)
        return self.reshape_to(repeated, [k * n for k, n in zip(reps, shape, strict=True)])

    def split(self, x: Any, *, sizes: Any, axis: int, **_: Any) -> Any:
        ends = np.cumsum(sizes)
        shape = self.shape(x)
        found = []
        for begin, end in zip(ends - np.asarray(sizes), ends, strict=True):
            starts, limits = [0] * len(shape), list(shape)
            starts[axis], limits[axis] = int(begin), int(end)
            found.append(self.slice(x, start_indices=starts, limit_indices=limits))
        return found

    def slice(
        self, x: Any, *, start_indices: Any, limit_indices: Any, strides: Any = None, **_: Any
    ) -> Any:
        strides = strides or [1] * len(start_indices)
        ranges = [
            np.arange(*one) for one in zip(start_indices, limit_indices, strides, strict=True)
        ]
        return self._at(x, ranges)

    def rev(self, x: Any, *, dimensions: Any, **_: Any) -> Any:
        ranges = [np.arange(n) for n in self.shape(x)]
        return self._at(x, [r[::-1] if at in dimensions else r for at, r in enumerate(ranges)])

    def _at(self, x: Any, ranges: Sequence[np.ndarray]) -> Any:
        """The elements at the crossings of fixed rows, columns, ..."""
        if not ranges:
            return x
        positions = np.ravel_multi_index(np.ix_(*ranges), self.shape(x))
        return self.take(self.reshape_to(x, (-1,)), self.asarray(positions))

    def dynamic_slice(self, x: Any, *starts: Any, slice_sizes: Any, **_: Any) -> Any:
        shape = self.shape(x)
        begin = [
            min(max(int(self.numpy(s)), 0), n - k)
            for s, n, k in zip(starts, shape, slice_sizes, strict=True)
        ]
        return self._at(x, [np.arange(b, b + k) for b, k in zip(begin, slice_sizes, strict=True)])

    def iota(self, *_: Any, dtype: Any, shape: Any, dimension: int, **__: Any) -> Any:
        lead = [1] * len(shape)
        lead[dimension] = shape[dimension]
        counted = np.arange(shape[dimension], dtype=dtype).reshape(lead)
        return self.asarray(np.ascontiguousarray(np.broadcast_to(counted, shape)))

    def pad(self, x: Any, fill: Any, *, padding_config: Any, **_: Any) -> Any:
        for axis, (low, high, interior) in enumerate(padding_config):
            if interior or low < 0 or high < 0:
                raise UnsupportedOperation(f"The {self.name} engine pads at the ends only.")
            for at, width in ((0, low), (1, high)):
                if width:
                    shape = list(self.shape(x))
                    shape[axis] = width
                    block = self.broadcast_to(self.reshape_to(fill, [1] * len(shape)), shape)
                    x = self.join([block, x] if at == 0 else [x, block], axis)
        return x

    def gather(
        self, x: Any, starts: Any, *, dimension_numbers: Any, slice_sizes: Any, **params: Any
    ) -> Any:
        numbers = dimension_numbers
        self._without_batching(numbers.operand_batching_dims, "gather")
        window = [at for at in range(len(slice_sizes)) if at not in numbers.collapsed_slice_dims]
        positions, batch = self._positions(
            self.shape(x), starts, numbers.start_index_map, slice_sizes, window
        )
        # Batch axes come first here; JAX says where those of the windows go.
        rank = len(batch) + len(window)
        order, lead, rest = [], iter(range(len(batch))), iter(range(len(batch), rank))
        for at in range(rank):
            order.append(next(rest) if at in numbers.offset_dims else next(lead))
        return self.take(self.reshape_to(x, (-1,)), self.asarray(np.transpose(positions, order)))

    def scatter_add(
        self, x: Any, starts: Any, updates: Any, *, dimension_numbers: Any, **_: Any
    ) -> Any:
        numbers = dimension_numbers
        self._without_batching(numbers.operand_batching_dims, "scatter-add")
        shape, given = self.shape(x), self.shape(updates)
        window = [at for at in range(len(shape)) if at not in numbers.inserted_window_dims]
        sizes = [1] * len(shape)
        for at, axis in zip(window, numbers.update_window_dims, strict=True):
            sizes[at] = given[axis]
        positions = self._positions(
            shape, starts, numbers.scatter_dims_to_operand_dims, sizes, window, clip=False
        )[0]
        lead = [at for at in range(len(given)) if at not in numbers.update_window_dims]
        ordered = self.permute(updates, [*lead, *numbers.update_window_dims])
        inside = (positions >= 0).ravel()  # an update that reaches outside is dropped
        flat = self.reshape_to(ordered, (-1,))
        if not inside.all():
            flat = self.take(flat, self.asarray(np.flatnonzero(inside)))
        kept = self.asarray(positions.ravel()[inside])
        return self.reshape_to(self.added_at(self.reshape_to(x, (-1,)), kept, flat), shape)

    def _without_batching(self, dims: Any, name: str) -> None:
        if dims:
            raise UnsupportedOperation(f"The {self.name} engine has no batched {name!r}.")

    def _positions(
        self,
        shape: tuple[int, ...],
        starts: Any,
        to_operand: Any,
        sizes: Any,
        window: list[int],
        clip: bool = True,
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Flat positions in an operand of `shape` of the windows at `starts`: (*batch, *window sizes).

        Starts beyond the operand are moved inside (`clip`), or their windows marked by -1.
        """
        index = self.numpy(starts).astype(np.int64)
        batch, rank = index.shape[:-1], len(window)
        outside = np.zeros((*batch, *[1] * rank), bool)
        positions: Any = 0
        strides = [math.prod(shape[at + 1 :]) for at in range(len(shape))]
        for at, stride in enumerate(strides):
            begin: Any = np.zeros(batch, np.int64)
            if at in to_operand:
                begin = index[..., list(to_operand).index(at)]
            last = shape[at] - sizes[at]
            if clip:
                begin = np.clip(begin, 0, last)
            begin = np.reshape(begin, (*batch, *[1] * rank))
            outside = outside | (begin < 0) | (begin > last)
            if at in window:
                lead = [1] * rank
                lead[window.index(at)] = sizes[at]
                begin = begin + np.arange(sizes[at]).reshape(lead)
            positions = positions + begin * stride
        full = (*batch, *[sizes[at] for at in window])
        return np.where(outside, -1, np.broadcast_to(positions, full)), batch

    def dot_general(self, a: Any, b: Any, *, dimension_numbers: Any, **_: Any) -> Any:
        (over_a, over_b), (batch_a, batch_b) = dimension_numbers
        free_a = [at for at in range(len(self.shape(a))) if at not in (*over_a, *batch_a)]
        free_b = [at for at in range(len(self.shape(b))) if at not in (*over_b, *batch_b)]

        def sizes(x: Any, axes: Sequence[int]) -> list[int]:
            return [self.shape(x)[at] for at in axes]

        batch, inner = sizes(a, batch_a), math.prod(sizes(a, over_a))
        left = self.reshape_to(
            self.permute(a, [*batch_a, *free_a, *over_a]),
            [*batch, math.prod(sizes(a, free_a)), inner],
        )
        right = self.reshape_to(
            self.permute(b, [*batch_b, *over_b, *free_b]),
            [*batch, inner, math.prod(sizes(b, free_b))],
        )
        shape = [*batch, *sizes(a, free_a), *sizes(b, free_b)]
        return self.reshape_to(self.matmul(left, right), shape)

    # Without arithmetic ---------------------------------------------------------------------------

    def convert_element_type(self, x: Any, *, new_dtype: Any, **_: Any) -> Any:
        return self.astype(x, np.dtype(new_dtype))

    def stop_gradient(self, x: Any, **_: Any) -> Any:
        return x

    def copy(self, x: Any, **_: Any) -> Any:
        return x

    def copy_p(self, x: Any, **_: Any) -> Any:
        return x

    def optimization_barrier(self, *values: Any, **_: Any) -> Any:
        return values
