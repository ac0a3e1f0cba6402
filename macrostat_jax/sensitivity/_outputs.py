"""What comes out of the runs: labelled numbers, all of them as the columns of one matrix."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .. import sample
from .._model import Model
from ..sample import Design

Of = str | Sequence[str] | Callable[[Any], Any] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of n runs.

    Attributes:
        shapes: label -> the shape of that output in one run.
        matrix: (n, m), all numbers of a run in a row, in the order of the labels; float64.
        rounding: of each column, relative to its size, (m,): that of the numbers as they were computed.
    """

    shapes: dict[str, tuple[int, ...]]
    matrix: np.ndarray
    rounding: np.ndarray

    @property
    def columns(self) -> list[str]:
        """`income` for a scalar, `income[3]` for an element."""
        return [name for label, shape in self.shapes.items() for name in elements(label, shape)]

    @property
    def owner(self) -> np.ndarray:
        """For each column, the number of its label: (m,)."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        return np.repeat(np.arange(len(sizes)), sizes)

    def split(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """`(..., m)` -> label -> `(..., *shape)`."""
        found, start = {}, 0
        for label, shape in self.shapes.items():
            size = math.prod(shape)
            found[label] = array[..., start : start + size].reshape((*array.shape[:-1], *shape))
            start += size
        return found


def elements(label: str, shape: tuple[int, ...]) -> list[str]:
    if not shape:
        return [label]
    return [f"{label}[{','.join(map(str, at))}]" for at in np.ndindex(*shape)]


def of_runs(values: Any, n: int, axis: int = 0) -> Outputs:
    """The outputs that a sweep kept, or a function returned: arrays, or a pytree of them, with n runs on
    `axis`.

    Raises:
        ValueError: an array without that many runs. TypeError: one that holds no real numbers.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    columns, rounding = [], []
    for label, leaf in _leaves(values):
        array = np.asarray(leaf)
        if array.ndim <= axis or array.shape[axis] != n:
            raise ValueError(
                f"The output {label!r} has the shape {array.shape}: its axis {axis} must be that of "
                f"the {n} runs."
            )
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(
            array
        ):
            raise TypeError(f"The output {label!r} must be real numbers, not {array.dtype}.")
        kind = array.dtype if np.issubdtype(array.dtype, np.floating) else np.dtype(np.float64)
        array = np.moveaxis(array, axis, 0).astype(np.float64)
        shapes[label] = array.shape[1:]
        columns.append(array.reshape(n, -1))
        rounding.append(np.full(columns[-1].shape[1], float(np.finfo(kind).eps)))
    if not columns or not sum(column.shape[1] for column in columns):
        raise ValueError("There is no output.")
    return Outputs(shapes, np.concatenate(columns, axis=1), np.concatenate(rounding))


def _leaves(values: Any) -> list[tuple[str, Any]]:
    """Label and leaf; a dict in the order in which it was written, which JAX would sort."""
    if type(values) is dict:
        parts = [(str(key), _leaves(value)) for key, value in values.items()]
        return [
            (f"{key}.{label}" if label != "value" else key, leaf)
            for key, found in parts
            for label, leaf in found
        ]
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or "value", leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(values)
    ]


def evaluate(
    what: Model | Callable[[np.ndarray], Any], design: Design, of: Of, options: dict[str, Any]
) -> Outputs:
    """Runs the model, or the function, at the points of the design."""
    if not isinstance(what, Model):
        if of is not None or options:
            given = ", ".join((["of"] if of is not None else []) + list(options))
            raise TypeError(f"{given}: of models. A function returns its outputs itself.")
        return of_runs(what(design.points.copy()), len(design))
    params = design.params(what, options.pop("params", None))
    found = sample.sweep(what, params, keep=keeper(what, of), **options)
    values = found.values if callable(of) else {key: found.values[key] for key in keys(what, of)}
    return of_runs(values, len(design), found.axis)


def keeper(model: Model, of: Of) -> Callable[[Any], Any]:
    """The function of a path that keeps what `of` names: the same object for the same names.

    Raises:
        KeyError: an unknown variable.
    """
    return of if callable(of) else _keeping(keys(model, of))


def keys(model: Model, of: str | Sequence[str] | None) -> tuple[str, ...]:
    """The variables that names mean; None is all that are real numbers."""
    names = (of,) if isinstance(of, str) else model.real if of is None else of
    return tuple(dict.fromkeys(model.State.key_of(name) for name in names))


@functools.lru_cache(maxsize=256)
def _keeping(keys: tuple[str, ...]) -> Callable[[Any], dict[str, Any]]:
    def keep(path: Any) -> dict[str, Any]:
        return {key: getattr(path, key) for key in keys}

    return keep


def finite_groups(
    outputs: Outputs, groups: int, nonfinite: str, what: str
) -> tuple[np.ndarray, int]:
    """Which groups of runs are whole, (groups,), and how many runs are not finite.

    An index compares the runs of a group: one that is not finite makes all of them useless.

    Raises:
        ValueError: there are such runs and `nonfinite` is "raise", or too few groups are left.
    """
    if nonfinite not in ("raise", "drop"):
        raise ValueError(f'nonfinite is "raise" or "drop", not {nonfinite!r}.')
    good = np.isfinite(outputs.matrix)
    runs = np.asarray(good.all(axis=1))
    bad = int((~runs).sum())
    whole = np.asarray(runs.reshape(groups, -1).all(axis=1))
    if bad and (nonfinite == "raise" or whole.sum() < 2):
        where = "; ".join(_failures(outputs, ~good))
        advice = 'nonfinite="drop" leaves out their' if nonfinite == "raise" else "That spoils all"
        raise ValueError(
            f"{bad} of {len(runs)} runs are not finite ({where}). {advice} {what}, "
            f"{groups - int(whole.sum())} of {groups}; narrower bounds, or other outputs, avoid them."
        )
    return whole, bad


def _failures(outputs: Outputs, bad: np.ndarray, most: int = 3) -> list[str]:
    """`income in 32, from income[741] on`: where runs are not finite, the outputs with most of them first."""
    names, owner = outputs.columns, outputs.owner
    found = []
    for number, label in enumerate(outputs.shapes):
        columns = np.flatnonzero(owner == number)
        runs = int(bad[:, columns].any(axis=1).sum())
        if runs:
            first = names[columns[bad[:, columns].any(axis=0).argmax()]]
            found.append(
                (runs, f"{label} in {runs}" + (f", first {first}" if first != label else ""))
            )
    found.sort(key=lambda one: -one[0])
    return [text for _, text in found[:most]]


def labels_of(shapes: dict[str, Any], name: str | None) -> str:
    """The label that a user means: by default the first.

    Raises:
        KeyError: with the list of what there is.
    """
    if name is None:
        return next(iter(shapes))
    if name not in shapes:
        raise KeyError(f"{name!r} is not an output: {', '.join(shapes)}.")
    return name
