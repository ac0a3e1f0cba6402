"""What concerns shapes and positions alone, written once for all engines.

An engine says what a value is, in the few methods at the top; slices, gathers and products of JAX follow
from them here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

WHOLE = np.dtype(np.int64)
"""Of positions."""


class UnsupportedOperation(NotImplementedError):
    """A primitive that an engine does not have; the message names both."""


class Structure:
    """What an engine must have, and what follows from that without arithmetic of real numbers."""

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

    def _method(self, name: str) -> Callable[..., Any] | None:
        raise NotImplementedError

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
        axes = range(len(slice_sizes))
        if not axes:
            return x
        each = [self.reshape_to(self.astype(start, WHOLE), (1,)) for start in starts]
        positions, _ = self._positions(self.shape(x), self.join(each, 0), axes, slice_sizes, axes)
        return self.take(self.reshape_to(x, (-1,)), positions)

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
        self,
        x: Any,
        starts: Any,
        *,
        dimension_numbers: Any,
        slice_sizes: Any,
        mode: Any = None,
        fill_value: Any = None,
        **_: Any,
    ) -> Any:
        numbers = dimension_numbers
        left = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
        window = [at for at in range(len(slice_sizes)) if at not in left]
        together = zip(
            numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
        )
        positions, moved = self._positions(
            self.shape(x), starts, numbers.start_index_map, slice_sizes, window, tuple(together)
        )
        # Batch axes come first here; JAX says where those of the windows go.
        rank = len(self.shape(positions))
        first = rank - len(window)
        order, lead, rest = [], iter(range(first)), iter(range(first, rank))
        for at in range(rank):
            order.append(next(rest) if at in numbers.offset_dims else next(lead))
        found = self.take(self.reshape_to(x, (-1,)), self.permute(positions, order))
        if mode is not GatherScatterMode.FILL_OR_DROP:
            return found
        fill = self.asarray(fill_value)
        return self._do("select_n", self.permute(moved, order), found, self._like(fill, found))

    def scatter_add(
        self,
        x: Any,
        starts: Any,
        updates: Any,
        *,
        dimension_numbers: Any,
        mode: Any = None,
        **_: Any,
    ) -> Any:
        numbers = dimension_numbers
        shape, given = self.shape(x), self.shape(updates)
        left = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
        window = [at for at in range(len(shape)) if at not in left]
        sizes = [1] * len(shape)
        for at, axis in zip(window, numbers.update_window_dims, strict=True):
            sizes[at] = given[axis]
        together = zip(
            numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True
        )
        positions, moved = self._positions(
            shape, starts, numbers.scatter_dims_to_operand_dims, sizes, window, tuple(together)
        )
        size = math.prod(shape)
        flat = self.reshape_to(x, (-1,))
        if mode is not GatherScatterMode.CLIP:
            # An update that reaches outside is dropped: it goes to one more place, at the end.
            positions = self._do("select_n", moved, positions, self._like(self._whole(size), moved))
            flat = self.join([flat, self.take(flat, self._whole([0]))], 0)
        lead = [at for at in range(len(given)) if at not in numbers.update_window_dims]
        ordered = self.permute(updates, [*lead, *numbers.update_window_dims])
        added = self.added_at(
            flat, self.reshape_to(positions, (-1,)), self.reshape_to(ordered, (-1,))
        )
        return self.reshape_to(self.take(added, self._whole(np.arange(size))), shape)

    def _positions(
        self,
        shape: tuple[int, ...],
        starts: Any,
        to_operand: Sequence[int],
        sizes: Sequence[int],
        window: Sequence[int],
        together: Sequence[tuple[int, int]] = (),
    ) -> tuple[Any, Any]:
        """Flat positions in an operand of `shape` of the windows at `starts`, which are moved inside.

        Computed by the engine, since where a window starts may depend on values.

        Args:
            shape: the operand's. starts: (*batch, axes), at which the windows begin along `to_operand`.
            sizes: of the windows, along every axis. window: the axes that the windows keep.
            together: pairs of an axis of the operand and one of the batch that go along it together.

        Returns:
            Values of whole numbers and of truth, both (*batch, *window sizes): the positions, and
            whether the window had to be moved.
        """
        starts = self.astype(starts, WHOLE)
        batch = self.shape(starts)[:-1]
        strides = [math.prod(shape[at + 1 :]) for at in range(len(shape))]
        last = self._whole([shape[at] - sizes[at] for at in to_operand])
        inside = self._do("min", self._do("max", starts, self._whole(0)), last)
        moved = self._do("reduce_or", self._do("ne", inside, starts), axes=(len(batch),))
        weighted = self._do("mul", inside, self._whole([strides[at] for at in to_operand]))
        begin = self._do("reduce_sum", weighted, axes=(len(batch),))
        offsets = np.zeros([1] * len(window), np.int64)
        for place, at in enumerate(window):
            lead = [1] * len(window)
            lead[place] = sizes[at]
            offsets = offsets + strides[at] * np.arange(sizes[at]).reshape(lead)
        for at, axis in together:
            lead = [1] * (len(batch) + len(window))
            lead[axis] = batch[axis]
            offsets = offsets + strides[at] * np.arange(batch[axis]).reshape(lead)
        wide = (*batch, *[1] * len(window))
        positions = self._do("add", self.reshape_to(begin, wide), self._whole(offsets))
        return positions, self._like(self.reshape_to(moved, wide), positions)

    def _do(self, name: str, *values: Any, **params: Any) -> Any:
        method = self._method(name)
        assert method is not None
        return method(*values, **params)

    def _whole(self, numbers: Any) -> Any:
        return self.asarray(np.asarray(numbers, np.int64))

    def _like(self, value: Any, other: Any) -> Any:
        return self.broadcast_to(value, self.shape(other))

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

    def name_(self, x: Any, **_: Any) -> Any:
        return x

    def optimization_barrier(self, *values: Any, **_: Any) -> Any:
        return values
