"""Finite differences of a model: every perturbed run in one batch."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs
from .._model import Model
from ._derivatives import _declared_order, _labelled_outputs, _target
from ._judge import IMMATERIAL
from ._kinks import kinks
from ._labelled import Jacobian
from ._stencil import METHODS, Stencil
from ._target import Of, Target, Wrt
from ._trace_complex import complex_run

MIRRORED = {"forward": "backward", "backward": "forward"}
COMPLEX_STEP = 1e-20
"""Relative. Its square, and what that is multiplied with, are below the smallest numbers."""


def finite_differences(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = "params",
    method: str = "central",
    space: str = "auto",
    step: float | str | None = None,
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
        method: `"central"` (error of order h^2), `"forward"`, `"backward"` (h), `"five-point"` (h^4);
            `"richardson"`: central differences at a ladder of steps, extrapolated to step 0, of which
            each entry has the best; or `"complex"`: the imaginary part of a run with complex numbers,
            exact to rounding, for models that are analytic.
        space: `"log"` (a step is a share of the value), `"direct"` (an absolute step), `"relative"` (a
            share of the value, as far up as down), or `"auto"`: log, and direct for values that are zero.
        step: h. At the default 1e-3 a central difference of a smooth model is off by some 1e-6 to 1e-4 of
            the derivative: the error estimate says how much. `"auto"`: a ladder of steps about the one
            that balances truncation and rounding, of which each entry has the best. Of Richardson's
            ladder, the longest one (default 1/16).

    Returns:
        A `Jacobian` with `errors`, `kinks` and `floors` in the layout of `values`.

    Raises:
        ValueError: an unknown method or space, a step that is not positive, log space with zero values,
            a step too small to move a value in its dtype; the complex step of a model that is not
            analytic, naming the operation and its line.
    """
    if method not in (*METHODS, "complex"):
        known = ", ".join((*METHODS, "complex"))
        raise ValueError(f"Unknown method {method!r}. There are: {known}.")
    target, inputs = _target(
        model, of, wrt, "forward", params, scenario, shocks, initial, periods, key, noise, False
    )
    if target.plan.batch is not None:
        raise ValueError("Finite differences take one run, not a batch of parameters.")
    leaves = {label: np.asarray(leaf) for label, leaf in target.split(inputs).items()}
    sizes = {label: leaf.size for label, leaf in leaves.items()}
    names = [f"{k}[{i}]" if sizes[k] > 1 else k for k in leaves for i in range(sizes[k])]
    x = np.concatenate([leaf.reshape(-1).astype(np.float64) for leaf in leaves.values()])
    dtype = next(iter(leaves.values())).dtype
    if method == "complex":
        return _complex_step(model, target, inputs, leaves, x, step)
    stencil = Stencil(x, method, space, step, names=names, eps=float(jnp.finfo(dtype).eps))
    points = stencil.points()
    count = len(points)
    if method in MIRRORED:  # a kink is seen by looking to both sides
        mirrored = dataclasses.replace(stencil, method=MIRRORED[method])
        points = np.concatenate([points, mirrored.points()[1:]])
    # The points as the runs' dtype has them: the differences are divided by how far they really moved.
    points = points.astype(dtype).astype(np.float64)
    moves = (len(points) - 1) // len(x)
    still = [n for n, at in zip(names, points.T, strict=True) if len(set(at[at != at[0]])) < moves]
    if still:
        raise ValueError(f"The step {stencil.steps[0]:g} is too small to move {still} in {dtype}.")
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
        ladder = method == "richardson" or step == "auto"
        gaps[name] = _columns(kinks(points, runs, eps, ladder=ladder), leaves)
        floors[name] = _columns(_floor(runs, x, slope.shape), leaves)
    split = target.split(inputs)
    tables = [_declared_order(target, table) for table in (values, errors, gaps, floors)]
    return Jacobian(model, target.wrt, tables[0], stencil.described, split, *tables[1:])


def _floor(runs: np.ndarray, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The derivatives (n, *shape) by which doubling a parameter changes the output immaterially."""
    least = IMMATERIAL * np.max(np.abs(runs), initial=0.0) / np.where(x == 0, 1.0, np.abs(x))
    return np.broadcast_to(least.reshape(-1, *[1] * (len(shape) - 1)), shape)


def _complex_step(
    model: Model, target: Target, inputs: Inputs, leaves: dict[str, Any], x: np.ndarray, step: Any
) -> Jacobian:
    if step is not None and not (isinstance(step, float) and 0 < step <= 1e-12):
        raise ValueError(f"The complex step has no error to balance: at most 1e-12, not {step}.")
    h = COMPLEX_STEP if step is None else step
    dtype = next(iter(leaves.values())).dtype
    widths = (h * np.where(x == 0, 1.0, np.abs(x))).astype(dtype)
    # Twice, with steps that have no digits in common: how far they are apart is the rounding.
    moves = np.concatenate([np.diag(widths), np.diag(widths * dtype.type(0.7))])
    padded = np.concatenate([moves, np.zeros((pad_to(len(moves)) - len(moves), len(x)), dtype)])
    real, imaginary = _compile.call(_evaluate_complex, target, inputs, padded)
    values, errors, gaps, floors = {}, {}, {}, {}
    for name, array in imaginary.items():
        eps = float(jnp.finfo(array.dtype).eps)
        slopes = np.asarray(array, np.float64)[: len(moves)]
        slopes = slopes / moves.sum(axis=1).reshape(-1, *[1] * (slopes.ndim - 1))
        slope, again = slopes[: len(x)], slopes[len(x) :]
        # 32: as between the two modes of automatic differentiation.
        largest = np.max(
            np.abs(slope), axis=tuple(range(1, slope.ndim)), keepdims=True, initial=0.0
        )
        values[name] = _columns(slope, leaves)
        errors[name] = _columns(np.abs(slope - again) + 32 * eps * largest, leaves)
        gaps[name] = _columns(np.zeros_like(slope), leaves)
        floors[name] = _columns(_floor(np.asarray(real[name]), x, slope.shape), leaves)
    split = target.split(inputs)
    tables = [_declared_order(target, table) for table in (values, errors, gaps, floors)]
    return Jacobian(model, target.wrt, tables[0], f"complex step {h:g}", split, *tables[1:])


@functools.partial(jax.jit, static_argnums=0)
def _evaluate_complex(target: Target, inputs: Inputs, moves: Any) -> Any:
    """The outputs, and their imaginary parts at every row of `moves` (R, n): arrays (R, *shape)."""
    base = target.split(inputs)
    function = functools.partial(_labelled_outputs, target, inputs)
    program, shapes = jax.make_jaxpr(function, return_shape=True)(base)
    # JAX flattens a dict in the order of its sorted keys.
    labels, structure = sorted(base), jax.tree.structure(shapes)

    def one(move: Any) -> Any:
        parts, at = {}, 0
        for label, leaf in base.items():
            parts[label] = jax.lax.complex(leaf, move[at : at + leaf.size].reshape(leaf.shape))
            at += leaf.size
        results = complex_run(program, [parts[label] for label in labels])
        return structure.unflatten([jnp.imag(result) for result in results])

    return function(base), jax.vmap(one)(moves)


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
