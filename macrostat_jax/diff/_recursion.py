"""From the derivatives of periods to that of a path: dx_t = A_t dx_{t-1} + B_t dz_t."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._inputs import Inputs
from .._model import Model
from .._tracing import abstract_inputs
from ._spaces import Space
from ._sparsity import Sparsity
from ._target import PATHS, Input, Target


@functools.lru_cache(maxsize=128)
def read_inputs(model: Model) -> tuple[Input, ...]:
    """What a step reads of the state before, of what can be differentiated."""
    prior = abstract_inputs(model)[0]
    return tuple(
        Input("initial", key)
        for key in model.remembered
        if jnp.issubdtype(getattr(prior, key).dtype, jnp.floating)
    )


def differentiable(variables: Any, pattern: Sparsity) -> tuple[str, ...]:
    """Those of the variables that can be differentiated."""
    labels = pattern.rows.labels
    return tuple(key for key in variables if key in labels)


def elements(space: Space, labels: Iterable[str]) -> np.ndarray:
    """Where the elements of some blocks lie in the flat vector, block by block in the order asked for."""
    starts, at = {}, 0
    for block in space.blocks:
        starts[block.label] = np.arange(at, at + block.size)
        at += block.size
    return np.concatenate([np.zeros(0, int), *(starts[label] for label in labels)])


def recursion_of(
    target: Target, inputs: Inputs, pattern: Sparsity, products: np.ndarray, start: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """dx_t = A_t dx_{t-1} + B_t dz_t; in period t only shocks up to t have had an effect."""
    horizon, at = target.plan.periods, target.split(inputs)
    chosen = Rows.of(pattern, differentiable(target.of, pattern))
    steps = pattern.expand(products)[:, chosen.order]
    transition = np.ascontiguousarray(steps[..., : chosen.reads])
    moving = [one.label for one in target.wrt if one.group in PATHS]
    still = [one.label for one in target.wrt if one.group not in PATHS]
    widths = {label: start[label].shape[1] for label in (*still, *moving)}
    lead, width = (sum(widths[label] for label in some) for some in (still, moving))
    # The draws of a random initial state are a row before those of the periods.
    count = max((at[label].shape[0] for label in moving), default=horizon)
    # Columns: what has no time axis; then period after period, what is particular to it.
    begins = dict(zip(still, np.cumsum([0, *(widths[k] for k in still)]), strict=False))
    begins |= dict(zip(moving, np.cumsum([0, *(widths[k] for k in moving)]), strict=False))
    moved = np.zeros((chosen.reads, lead + count * width), steps.dtype)
    for label, slope in start.items():
        row = lead + (count - at[label].shape[0]) * width if label in moving else 0
        moved[:, row + begins[label] :][:, : widths[label]] = slope
    always = [one.label for one in target.wrt if one.group == "params"]
    into = [begins[label] + np.arange(widths[label]) for label in always]
    into = np.concatenate([np.zeros(0, int), *into])
    constant = steps[..., elements(pattern.columns, always)]
    direct = steps[..., elements(pattern.columns, moving)]
    path = np.zeros((horizon, len(chosen.order), moved.shape[1]), steps.dtype)
    begin = lead + (1 + count - horizon) * width
    if width:
        # What a period's own shocks do in it: one block further to the right in each period.
        stride = (path.strides[0] + width * path.strides[2], *path.strides[1:])
        shape = (horizon, len(chosen.order), width)
        own = path[:, :, begin - width :]
        np.lib.stride_tricks.as_strided(own, shape, stride)[...] = direct
    path[0, :, :begin] += transition[0] @ moved[:, :begin]
    if len(into):
        path[0][:, into] += constant[0]
    read = path[:, chosen.first_read : chosen.first_read + chosen.reads]
    for t in range(1, horizon):
        # The shocks of earlier periods; those of this one stand to the right of them.
        now = path[t, :, : begin + (t - 1) * width]
        np.matmul(transition[t], read[t - 1, :, : now.shape[1]], out=now)
        if len(into):
            now[:, into] += constant[t]
    periods = path[:, :, lead:].reshape(horizon, -1, count, width) if width else path
    values: dict[str, dict[str, Any]] = {name: {} for name in chosen.names}
    for name, rows_of in chosen.places.items():
        shape = target.plan.model.State.fields[name].shape
        for label in (one.label for one in target.wrt):
            columns = slice(begins[label], begins[label] + widths[label])
            if label in moving:
                part = periods[:, rows_of, count - at[label].shape[0] :, columns]
            else:
                part = path[:, rows_of, columns]
            values[name][label] = part.reshape((horizon, *shape, *np.shape(at[label])))
    return values


class Rows(NamedTuple):
    """The rows of a step's derivative in an order in which those that the next period reads are a slice."""

    names: tuple[str, ...]
    order: np.ndarray
    places: dict[str, slice]
    first_read: int
    reads: int

    @classmethod
    @functools.lru_cache(maxsize=128)
    def of(cls, pattern: Sparsity, names: tuple[str, ...]) -> Rows:
        read = [one.key for one in read_inputs(pattern.model)]
        labels = [*(name for name in names if name not in read), *read]
        sizes = {block.label: block.size for block in pattern.rows.blocks}
        ends = np.cumsum([sizes[label] for label in labels]).tolist()
        places = {
            label: slice(end - sizes[label], end) for label, end in zip(labels, ends, strict=True)
        }
        reads = sum(sizes[label] for label in read)
        total = ends[-1] if ends else 0
        return cls(
            names,
            elements(pattern.rows, labels),
            {name: places[name] for name in names},
            total - reads,
            reads,
        )


def toeplitz(kernel: np.ndarray, rank: int) -> np.ndarray:
    """(T, *o, *i) as the view (T, *o, T, *i) whose entry (t, s) is that of t - s, and 0 before s."""
    horizon = len(kernel)
    padded = np.concatenate([np.zeros((horizon - 1, *kernel.shape[1:]), kernel.dtype), kernel])
    stride = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded[horizon - 1 :],
        (horizon, *kernel.shape[1 : rank + 1], horizon, *kernel.shape[rank + 1 :]),
        (stride[0], *stride[1 : rank + 1], -stride[0], *stride[rank + 1 :]),
        writeable=False,
    )
