"""The normal approximation of a posterior at its mode: where samplers begin, and in which coordinates.

In the coordinates z of u = mode + factor z a posterior that data dominate is close to a standard normal
one, however different the scales of the parameters, so that warming up takes few steps and a variational
fit begins near its end.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._multistart import multi_start

LEAST_CURVATURE = 1e-4
"""Directions in which minus the log density curves less, or not at all, are taken to be this wide: a prior
that is flat in a parameter curves by a half at least in the coordinates u."""
SEARCHES = 8
"""Searches for the mode, from points around the start, where it is not given."""


class Laplace(NamedTuple):
    """A normal approximation in the coordinates u.

    Attributes:
        mode: (k,). factor: (k, k), a matrix square root of the covariance.
        scales: (k,), of each coordinate where the others stay at the mode.
        log_density: of the posterior at the mode.
    """

    mode: np.ndarray
    factor: np.ndarray
    scales: np.ndarray
    log_density: float


def laplace(problem: Any, start: Any = None, seed: int = 0) -> Laplace:
    """The mode of the posterior of a `Problem`, with the curvature there.

    Args:
        start: a fit, a `MultiStart`, or coordinates (k,): the mode is searched from there. Default: from
            the problem's start and points around it.

    Raises:
        ValueError: coordinates of the wrong shape, or a log density that is nowhere finite.
    """
    begin = _begin(problem, start, seed)
    with jax.enable_x64(True):
        found = multi_start(problem, begin, method="bfgs", objective="posterior")
        hessian = np.asarray(_compile.call(_hessian, problem, found.best_u))
    if not np.isfinite(hessian).all():
        hessian = np.eye(len(hessian))
    scales = 1 / np.sqrt(np.maximum(np.diag(hessian), LEAST_CURVATURE))
    return Laplace(found.best_u, root(hessian, np), scales, -found.best_cost)


def _begin(problem: Any, start: Any, seed: int) -> np.ndarray:
    size = len(problem.start)
    if start is None:
        rng = np.random.default_rng(seed)
        around = rng.normal(scale=0.5, size=(SEARCHES - 1, size))
        return np.asarray(problem.start) + np.concatenate([np.zeros((1, size)), around])
    for name in ("best_u", "u"):
        if hasattr(start, name):
            start = getattr(start, name)
            break
    u = np.asarray(start, float)
    if u.shape != (size,) or not np.isfinite(u).all():
        raise ValueError(
            f"start is a fit, a MultiStart or {size} finite coordinates, not of the shape {u.shape}."
        )
    return u[None]


@functools.partial(jax.jit, static_argnums=0)
def _hessian(problem: Any, u: Any) -> Any:
    # Forward over forward: k is small, and no path of states has to be kept.
    return jax.jacfwd(jax.jacfwd(lambda x: -problem.log_density(x)))(u)


def root(hessian: Any, numpy: Any) -> Any:
    """A square root of the inverse, with the directions of little curvature limited.

    Args:
        numpy: the module that computes, NumPy or jax.numpy.
    """
    values, vectors = numpy.linalg.eigh((hessian + hessian.T) / 2)
    return vectors / numpy.sqrt(numpy.maximum(values, LEAST_CURVATURE))


def whitened(log_density: Any, mode: Any, factor: Any) -> Any:
    """z -> log density at u = mode + factor z, -inf where it is not finite. Traced code."""

    def density(z: Any) -> Any:
        found = log_density(mode + factor @ z)
        return jnp.where(jnp.isfinite(found), found, -jnp.inf)

    return density
