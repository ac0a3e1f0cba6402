"""Finite differences of a model: every perturbed run in one batch."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._model import Model
from .._simulate import Inputs
from ._derivatives import _labelled_outputs, _target
from ._judge import IMMATERIAL
from ._kinks import kinks
from ._labelled import Jacobian
from ._stencil import Stencil
from ._target import Of, Target, Wrt


def finite_differences(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = "params",
    method: str = "central",
    space: str = "auto",
    step: float = 1e-3,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> Jacobian:
    """The Jacobian by finite differences, with an error estimate for every entry.

    All runs are one batched simulation, in the dtype of the model's inputs; a random model uses the
    same `key` in all of them (common random numbers).

    Args:
        of, wrt, params, ...: as in `jacobian`.
        method: `"central"`, `"forward"` or `"backward"`.
        space: `"log"` (a step is a share of the value), `"direct"` (an absolute step), or `"auto"`: log,
            and direct for values that are zero.
        step: h. At the default 1e-3 a central difference of a smooth model is off by some 1e-6 to 1e-4 of
            the derivative: the error estimate says how much.

    Returns:
        A `Jacobian` with `errors`, `kinks` and `floors` in the layout of `values`.

    Raises:
        ValueError: an unknown method or space, a step that is not positive, log space with zero values,
            a step too small to move a value in its dtype.
    """
    target, inputs = _target(
        model, of, wrt, "forward", params, scenario, shocks, initial, periods, key, noise, False
    )
    if target.plan.batch is not None:
        raise ValueError("Finite differences take one run, not a batch of parameters.")
    leaves = {label: np.asarray(leaf) for label, leaf in target.split(inputs).items()}
    sizes = {label: leaf.size for label, leaf in leaves.items()}
    names = [f"{k}[{i}]" if sizes[k] > 1 else k for k in leaves for i in range(sizes[k])]
    x = np.concatenate([leaf.reshape(-1).astype(np.float64) for leaf in leaves.values()])
    stencil = Stencil(x, method, space, step, names=names)
    dtype = next(iter(leaves.values())).dtype
    points = stencil.points()
    count = len(points)
    if method != "central":  # a kink is seen by looking to both sides
        other = "backward" if method == "forward" else "forward"
        mirrored = Stencil(x, other, space, step, names=names)
        points = np.concatenate([points, mirrored.points()[1:]])
    # The points as the runs' dtype has them: the differences are divided by how far they really moved.
    points = points.astype(dtype).astype(np.float64)
    still = [n for n, at in zip(names, points.T, strict=True) if len(set(at[at != at[0]])) < 4]
    if still:
        raise ValueError(f"The step {step:g} is too small to move {still} in {dtype}.")
    padded = np.concatenate([points, np.tile(x, (pad_to(len(points)) - len(points), 1))])
    outputs = _compile.call(_evaluate, target, inputs, padded.astype(dtype))
    values: dict[str, dict[str, Any]] = {}
    errors: dict[str, dict[str, Any]] = {}
    gaps: dict[str, dict[str, Any]] = {}
    floors: dict[str, dict[str, Any]] = {}
    for name, array in outputs.items():
        eps = float(jnp.finfo(array.dtype).eps)
        runs = np.asarray(array, np.float64)[: len(points)]
        # A capacity that nothing limits is infinite in every run: no step moves it.
        runs = np.where(np.isinf(runs[0]) & np.all(runs == runs[0], axis=0), 0.0, runs)
        slope, error = stencil.combine(runs[:count], eps, points[:count])
        values[name], errors[name] = _columns(slope, leaves), _columns(error, leaves)
        gaps[name] = _columns(kinks(points, runs, eps), leaves)
        least = IMMATERIAL * np.max(np.abs(runs), initial=0.0) / np.where(x == 0, 1.0, np.abs(x))
        least = least.reshape(-1, *[1] * (slope.ndim - 1))
        floors[name] = _columns(np.broadcast_to(least, slope.shape), leaves)
    mode = f"{method} differences, {space} step {step:g}"
    return Jacobian(model, target.wrt, values, mode, target.split(inputs), errors, gaps, floors)


def pad_to(runs: int) -> int:
    """The batch size that `runs` is padded to, so that similar sizes share a compiled program."""
    return max(8, 1 << (runs - 1).bit_length())


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(target: Target, inputs: Inputs, points: Any) -> dict[str, Any]:
    """The outputs at every row of `points` (R, n): arrays (R, *shape)."""
    base = target.split(inputs)

    def one(point: Any) -> dict[str, Any]:
        x, at = {}, 0
        for label, leaf in base.items():
            x[label] = point[at : at + leaf.size].reshape(leaf.shape)
            at += leaf.size
        return _labelled_outputs(target, inputs, x)

    return jax.vmap(one)(points)


def _columns(slopes: np.ndarray, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(n, *output shape) as label -> (*output shape, *input shape)."""
    columns, at = {}, 0
    for label, leaf in leaves.items():
        block = np.moveaxis(slopes[at : at + leaf.size], 0, -1)
        columns[label] = block.reshape((*block.shape[:-1], *leaf.shape))
        at += leaf.size
    return columns
