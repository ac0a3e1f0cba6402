"""Posteriors by the normal density that is nearest to them: the fits are blackjax's, the optimiser optax's."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._laplace import laplace, whitened
from ._libraries import library, usual_promotion
from ._posterior import Posterior
from ._sampling import check_counts, described

FAMILIES = ("fullrank", "meanfield", "laplace")


class _Fit(NamedTuple):
    """What the program of a fit is specialised to."""

    problem: Any
    family: str
    draws: int
    steps: int
    samples: int
    rate: float


def variational(
    problem: Any,
    *,
    family: str = "fullrank",
    draws: int = 4000,
    steps: int = 1000,
    samples: int = 16,
    rate: float = 0.02,
    seed: int = 0,
    start: Any = None,
) -> Posterior:
    """Draws from the normal density, in the solver's coordinates, that is nearest to the posterior.

    Nearest is what has the greatest evidence lower bound: a fit within minutes of what chains would need
    hours for, and no better than its family. `Posterior.complaints` says whether that will do.

    Args:
        problem: a `Problem`.
        family: `"fullrank"`, any normal density; `"meanfield"`, parameters that are independent of each
            other; `"laplace"`, that of the mode and its curvature, which is not fitted at all.
        draws: how many.
        steps: of adam, whose rate falls to zero along a cosine.
        samples: at which the lower bound is estimated in each step.
        rate: adam's first learning rate, in units of the posterior's width at the mode.
        seed: the same seed draws the same.
        start: where the search for the mode begins, as in `sample_posterior`.

    Returns:
        A `Posterior` of one chain of independent draws, with `elbo`, `pareto_k`, `effective_share` and
        `normal`. Computed in float64 whatever JAX's default is.

    Raises:
        ValueError: an unknown family, a number out of its range, or a density that is nowhere finite.
        ImportError: without the extra `calibration`.
    """
    if family not in FAMILIES:
        raise ValueError(f"Unknown family: {family!r}. Use one of {', '.join(FAMILIES)}.")
    check_counts(draws=draws, steps=steps, samples=samples)
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"rate must be a finite number above 0, not {rate!r}.")
    for name in ("blackjax", "optax"):
        library(name, "variational")
    plan = _Fit(problem, family, int(draws), int(steps), int(samples), float(rate))
    with jax.enable_x64(True), usual_promotion():
        around = laplace(problem, start, seed)
        factor = np.diag(around.scales) if family == "meanfield" else around.factor
        found = _compile.call(_fit, plan, jax.random.key(seed), around.mode, factor)
    u, values, log_density, finite, mean, root, bound, k, share = (np.asarray(x) for x in found)
    ones = np.ones((1, draws))
    return Posterior(
        problem, family, u[None], values[None], log_density[None], ones < 0, ones, ones.astype(int),
        finite[None], elbo=bound, pareto_k=float(k), effective_share=float(share), normal=(mean, root @ root.T),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def _fit(plan: _Fit, key: Any, mode: Any, factor: Any) -> Any:
    density = whitened(plan.problem.log_density, mode, factor)
    first, second = jax.random.split(key)
    mean, root, bound = _nearest(plan, density, first, jnp.zeros_like(mode))
    noise = jax.random.normal(second, (plan.draws, len(mode)), mode.dtype)
    z = mean + noise @ root.T
    u = mode + z @ factor.T
    values, finite = described(plan.problem, u)
    log_density = jax.lax.map(density, z, batch_size=min(64, plan.draws))
    own = -jnp.sum(noise**2, axis=1) / 2
    ratio = jnp.where(jnp.isfinite(log_density), log_density, jnp.finfo(u.dtype).min / 2) - own
    mean, root = mode + factor @ mean, factor @ root
    return u, values, log_density, finite, mean, root, bound, *_importance(ratio)


def _nearest(plan: _Fit, density: Any, key: Any, origin: Any) -> tuple[Any, Any, Any]:
    """The mean and a matrix root of the covariance of the fit, and the lower bound after each step."""
    import blackjax
    import optax

    count = len(origin)
    if plan.family == "laplace":
        return origin, jnp.eye(count, dtype=origin.dtype), jnp.zeros(0, origin.dtype)
    fall = optax.cosine_decay_schedule(plan.rate, plan.steps)
    whole = plan.family == "fullrank"
    kind = blackjax.fullrank_vi if whole else blackjax.meanfield_vi
    fit = kind(density, optax.adam(fall), plan.samples)
    state: Any = fit.init(origin)
    if not whole:  # it begins narrower than the curvature at the mode says
        state = state._replace(rho=jnp.zeros_like(state.rho))

    def one(state: Any, key: Any) -> Any:
        state, info = fit.step(key, state)
        return state, -info.elbo  # what it calls so is the loss

    state, bound = jax.lax.scan(one, state, jax.random.split(key, plan.steps))
    if not whole:
        return state.mu, jnp.diag(jnp.exp(state.rho)), bound
    lower = jnp.tril_indices(count, -1)
    root = jnp.diag(jnp.exp(state.chol_params[:count])).at[lower].set(state.chol_params[count:])
    return state.mu, root, bound


def _importance(log_ratio: Any) -> tuple[Any, Any]:
    """Of the ratios of posterior and fit at the draws: the tail index, and the effective share of draws.

    0 and 1 where they are all alike, which has no tail to fit.
    """
    import blackjax.diagnostics

    alike = jnp.ptp(log_ratio) < 1e-6
    index = jnp.where(alike, 0.0, blackjax.diagnostics.psis_weights(log_ratio)[1])
    weight = jnp.exp(log_ratio - log_ratio.max())
    return index, weight.sum() ** 2 / (weight**2).sum() / len(weight)
