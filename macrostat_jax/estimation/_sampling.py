"""Posteriors by Markov chains: the samplers are blackjax's.

All chains run at once in one compiled program, in the coordinates in which the normal approximation at the
mode is a standard one (`_laplace`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._laplace import laplace, whitened
from ._libraries import library, usual_promotion
from ._posterior import Posterior

METHODS = ("nuts", "hmc", "mala", "random_walk")
LEAPFROGS = 3
"""Steps of a trajectory of `hmc`: as far as draws are least alike, in the coordinates of the mode."""
DISPERSION = 2.0
"""Chains start this many times further from the mode than the posterior is wide, so that R-hat can tell."""
PATHS_AT_ONCE = 64


class Sampler(NamedTuple):
    """What a chain does, as a program is specialised to it; the options of `sample_posterior`."""

    method: str
    draws: int
    warmup: int
    thin: int
    dense: bool = False
    acceptance: float = 0.8


class Drawn(NamedTuple):
    """What a program returns: with the axes (chains, draws)."""

    u: Any
    values: Any
    log_density: Any
    divergent: Any
    acceptance: Any
    steps: Any
    finite: Any


def sample_posterior(
    problem: Any,
    *,
    method: str = "nuts",
    chains: int = 4,
    draws: int = 1000,
    warmup: int = 500,
    thin: int = 1,
    seed: int = 0,
    start: Any = None,
    dense: bool = False,
    acceptance: float = 0.8,
) -> Posterior:
    """Draws from the posterior of a problem's free parameters.

    Args:
        problem: a `Problem`: its density is that of the priors times the likelihood.
        method: `"nuts"` (the no-U-turn sampler), `"hmc"`, `"mala"` (Langevin steps) or `"random_walk"`.
        chains: how many, all at once.
        draws: of each, after the warm-up.
        warmup: steps in which the no-U-turn sampler finds step size and scales, for every method; they are
            not kept.
        thin: keep every so-manieth draw.
        seed: the same seed draws the same.
        start: where the search for the mode begins: a fit, a `MultiStart`, or coordinates (k,). Default: the
            problem's start, and points around it. Chains start around the mode, twice as far apart
            as the posterior is wide.
        dense: adapt a full matrix instead of the scales alone: for posteriors whose shape is not that at
            the mode.
        acceptance: which share of proposals the step size of nuts and hmc aims at.

    Returns:
        A `Posterior`: the draws in the parameters' own units, with what there is to say against them.

    Computes in float64 whatever JAX's default is.

    Raises:
        ValueError: an unknown method, a number out of its range, or a density that is nowhere finite.
        ImportError: without the extra `calibration`.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method: {method!r}. Use one of {', '.join(METHODS)}.")
    check_counts(chains=chains, draws=draws, warmup=warmup, thin=thin)
    if not 0 < acceptance < 1:
        raise ValueError(f"acceptance is a share between 0 and 1, not {acceptance!r}.")
    library("blackjax", "sample_posterior")
    sampler = Sampler(method, int(draws), int(warmup), int(thin), dense, float(acceptance))
    with jax.enable_x64(True), usual_promotion():
        around = laplace(problem, start, seed)
        first, second = jax.random.split(jax.random.key(seed))
        begin = DISPERSION * jax.random.normal(first, (chains, len(around.mode)))
        drawn, size = _compile.call(
            _sample, (problem, sampler), jax.random.split(second, chains), begin, *around[:2]
        )
    drawn = Drawn(*(np.asarray(one) for one in drawn))
    return Posterior(problem, method, *drawn, step_size=np.asarray(size), warmup=warmup)


def check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number, at least 1, not {value!r}.")


@functools.partial(jax.jit, static_argnums=0)
def _sample(plan: tuple[Any, Sampler], keys: Any, begin: Any, mode: Any, factor: Any) -> Any:
    problem, sampler = plan
    density = whitened(problem.log_density, mode, factor)
    (z, *facts), size = jax.vmap(lambda key, z: chain(sampler, density, key, z))(keys, begin)
    return _drawn(problem, mode + z @ factor.T, *facts), size


def chain(sampler: Sampler, density: Any, key: Any, begin: Any) -> tuple[Any, Any]:
    """One chain as traced code.

    Returns:
        Its draws (draws, k), their log densities, whether they diverged, their acceptance and their steps,
        each (draws,); and the step size.
    """
    import blackjax

    more: Any = {"num_integration_steps": LEAPFROGS} if sampler.method == "hmc" else {}
    tuned: Any = blackjax.window_adaptation(
        blackjax.hmc if sampler.method == "hmc" else blackjax.nuts,
        density,
        is_mass_matrix_diagonal=not sampler.dense,
        target_acceptance_rate=sampler.acceptance,
        adaptation_info_fn=lambda *_: None,
        **more,
    )
    first, second = jax.random.split(key)
    (state, found), _ = tuned.run(first, _nearest(density, begin), sampler.warmup)
    kernel: Any
    if sampler.method in ("nuts", "hmc"):
        kernel, root = getattr(blackjax, sampler.method)(density, **found), None
        size = found["step_size"]
    else:
        root = _matrix_root(found["inverse_mass_matrix"])
        kernel, size = _simple(sampler.method, lambda w: density(root @ w), len(begin))
        state = kernel.init(jnp.linalg.solve(root, state.position))

    def kept(state: Any, key: Any) -> Any:
        keys = jax.random.split(key, sampler.thin)
        state, infos = jax.lax.scan(lambda s, k: kernel.step(k, s), state, keys)
        place = state.position if root is None else root @ state.position
        return state, (place, state.logdensity, *_facts(infos))

    _, out = jax.lax.scan(kept, state, jax.random.split(second, sampler.draws))
    return out, size


def _nearest(density: Any, z: Any) -> Any:
    """z, or a point nearer to the mode where z has no density."""
    shares = jnp.asarray([1.0, 0.5, 0.25, 0.1, 0.0], z.dtype)
    points = shares[:, None] * z
    return points[jnp.argmax(jnp.isfinite(jax.vmap(density)(points)))]


def _matrix_root(inverse_mass: Any) -> Any:
    if inverse_mass.ndim == 1:
        return jnp.diag(jnp.sqrt(inverse_mass))
    return jnp.linalg.cholesky(inverse_mass)


def _simple(method: str, density: Any, count: int) -> tuple[Any, Any]:
    """Samplers of one step a draw, at the step sizes that are best for a standard normal density: Roberts
    and Rosenthal (2001), Statistical Science 16, 351-367."""
    import blackjax.mcmc.random_walk

    if method == "mala":
        size = 1.65**2 / (2 * count ** (1 / 3))
        return blackjax.mala(density, size), jnp.asarray(size)
    size = 2.38 / count**0.5
    step = blackjax.mcmc.random_walk.normal_random_walk(density, size * jnp.ones(count))
    return step, jnp.asarray(size)


def _facts(infos: Any) -> tuple[Any, Any, Any]:
    """Of the steps between two draws: did one diverge, the share of acceptance, how many gradients."""
    rate = jnp.mean(infos.acceptance_rate)
    divergent = getattr(infos, "is_divergent", jnp.zeros((1,), bool)).any()
    steps = getattr(infos, "num_integration_steps", jnp.ones_like(infos.acceptance_rate, int)).sum()
    return divergent, rate, steps


def _drawn(
    problem: Any, u: Any, log_density: Any, divergent: Any, acceptance: Any, steps: Any
) -> Drawn:
    values, finite = described(problem, u.reshape(-1, u.shape[-1]))
    shape = u.shape[:-1]
    return Drawn(
        u,
        values.reshape(*shape, -1),
        log_density,
        divergent,
        acceptance,
        steps,
        finite.reshape(shape),
    )


def described(problem: Any, u: Any) -> tuple[Any, Any]:
    """Of draws (n, k): the values of the parameters (n, d), and whether the whole path is finite (n,)."""

    def one(u: Any) -> Any:
        leaves = jax.tree.leaves(problem.path(u))
        finite = [jnp.isfinite(x).all() for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
        return problem.values(u), jnp.stack(finite).all()

    # Not all at once: the paths of thousands of draws would fill the memory.
    return jax.lax.map(one, u, batch_size=min(PATHS_AT_ONCE, len(u)))
