"""Do posteriors hold the truth as often as they claim? Simulation-based calibration.

Parameters are drawn from their priors, data from the model at them, and a posterior from each of these data
sets: the rank of the truth among its draws is then uniform, if sampler, likelihood and priors are right.
Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv 1804.06788.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from ._laplace import root, whitened
from ._libraries import library, usual_promotion
from ._sampling import Sampler, chain, check_counts
from ._starts import prior_draws

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False)
class Coverage:
    """Ranks of true parameters among posterior draws: `print` it, draw it with `plot`.

    Attributes:
        problem: whose priors and errors. draws: of each posterior.
        truths: the parameters that were drawn, (n, d).
        ranks: how many of the draws are below the truth, 0 to `draws`, (n, d).
        divergent: how many trajectories diverged in each, (n,).
        failed: further truths that were drawn, whose paths are not finite, so that there are no data of
            theirs, (f, d).
    """

    problem: Any
    draws: int
    truths: np.ndarray
    ranks: np.ndarray
    divergent: np.ndarray
    failed: Sequence[Any] | np.ndarray = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.problem.names)

    @property
    def bins(self) -> int:
        """Of the test: at least ten ranks are expected in each."""
        return min(max(len(self.ranks) // 10, 2), 20, self.draws + 1)

    @property
    def shares(self) -> np.ndarray:
        """Of the possible ranks, in each bin, (bins,)."""
        return np.bincount(self._bin(np.arange(self.draws + 1))) / (self.draws + 1)

    @property
    def counts(self) -> np.ndarray:
        """Of ranks in each bin, (bins, d)."""
        found = self._bin(self.ranks).T
        return np.stack([np.bincount(column, minlength=self.bins) for column in found], axis=1)

    def _bin(self, ranks: np.ndarray) -> np.ndarray:
        return ranks * self.bins // (self.draws + 1)

    @property
    def p_values(self) -> np.ndarray:
        """Of uniform ranks, by a chi-squared test for each parameter, (d,)."""
        from scipy.stats import chisquare

        expected = len(self.ranks) * self.shares[:, None]
        return np.asarray(chisquare(self.counts, expected + 0 * self.counts, axis=0).pvalue)

    def held(self, level: float) -> np.ndarray:
        """The share of the posteriors whose central interval of this level holds the truth, (d,)."""
        edge = (1 - level) / 2 * (self.draws + 1)
        return ((self.ranks >= edge) & (self.ranks <= self.draws - edge)).mean(axis=0)

    def sentence(self) -> str:
        worst = int(np.argmin(self.p_values))
        # As many tests as parameters.
        fine = self.p_values[worst] * len(self.names) > 0.01
        text = (
            f"{self.problem.model.name}: in {len(self.ranks):,} posteriors the ranks of the truth are "
            f"{'uniform' if fine else 'not uniform'} (the least p-value is {self.p_values[worst]:.2g}, for "
            f"{self.names[worst]})."
        )
        if count := int((self.divergent > 0).sum()):
            text += f" In {count:,} of them trajectories diverged."
        if count := len(self.failed):
            text += f" {count:,} more truths lead to no finite path, and to no data."
        return text

    def __str__(self) -> str:
        import pandas as pd

        columns = {f"{level:.0%} interval": self.held(level) for level in (0.5, 0.9)}
        table = pd.DataFrame(columns | {"p-value": self.p_values}, index=list(self.names))
        shown = table.to_string(float_format="{:.3f}".format)
        return f"{self.sentence()}\n\nShare of intervals that hold the truth:\n{shown}"

    def plot(self) -> Figure:
        """A histogram of ranks for each parameter, with what chance makes of uniform ones."""
        from ..plot import _coverage

        return _coverage.coverage(self)


def simulation_based_calibration(
    problem: Any,
    *,
    replicates: int = 256,
    draws: int = 99,
    thin: int = 4,
    warmup: int = 200,
    method: str = "nuts",
    seed: int = 0,
) -> Coverage:
    """Whether posteriors from data like these hold the truth as often as they claim.

    Of the problem's data only the dates count: the values are drawn anew for each replicate. All
    posteriors are sampled at once, in one compiled program.

    Args:
        problem: a `Problem` with a known `sigma`. Parameters without a prior are uniform in their bounds.
        replicates: how many data sets and posteriors.
        draws: of each posterior; `thin`: the steps from one to the next. The ranks of a chain are uniform
            only if its draws are as good as independent.
        warmup, method: as in `sample_posterior`.
        seed: the same seed draws the same.

    Raises:
        ValueError: an unknown sigma, moments, parameters that add up, bounds that are infinite without a
            prior, a number out of its range, priors of which no draw leads to a finite path.
        ImportError: without the extra `calibration`.
    """
    check_counts(replicates=replicates, draws=draws, thin=thin, warmup=warmup)
    if unknown := [one.label for one in problem.series if one.sigma is None]:
        raise ValueError(
            f"Data can only be drawn with known errors of measurement: give sigma for {', '.join(unknown)}."
        )
    if problem.moments:
        raise ValueError("Moments have no distribution to draw data from: observe series.")
    library("blackjax", "simulation_based_calibration")
    sampler = Sampler(method, int(draws), int(warmup), int(thin))
    with jax.enable_x64(True), usual_promotion():
        truths = prior_draws(problem, int(replicates), seed)
        keys = jax.random.split(jax.random.key(seed), replicates)
        found = _compile.call(_ranks, (problem, sampler), truths, keys)
        values = np.asarray(jax.vmap(problem.values)(truths))
    ranks, divergent, good = (np.asarray(one) for one in found)
    if not good.any():
        raise ValueError(
            f"{problem.model.name}: none of {replicates} draws from the priors leads to a finite path."
        )
    return Coverage(problem, int(draws), values[good], ranks[good], divergent[good], values[~good])


@functools.partial(jax.jit, static_argnums=0)
def _ranks(plan: tuple[Any, Sampler], truths: Any, keys: Any) -> tuple[Any, Any, Any]:
    problem, sampler = plan

    def one(truth: Any, key: Any) -> tuple[Any, Any, Any]:
        first, second, third = jax.random.split(key, 3)
        at_truth = problem.residuals(truth)
        error = jax.random.normal(first, at_truth.shape, at_truth.dtype)

        # Residuals are model less data in units of sigma: with the data that the truth and this error
        # would have made, they are these.
        def log_density(u: Any) -> Any:
            found = problem.residuals(u) - at_truth + error
            return problem.log_prior(u) - jnp.sum(found**2) / 2

        jacobian = jax.jacfwd(problem.residuals)(truth)
        curvature = jacobian.T @ jacobian - jax.hessian(problem.log_prior)(truth)
        factor = root(curvature, jnp)
        density = whitened(log_density, truth, factor)
        begin = jax.random.normal(second, truth.shape, truth.dtype)
        (z, _, divergent, *_), _ = chain(sampler, density, third, begin)
        values = jax.vmap(problem.values)(truth + z @ factor.T)
        ranks = (values < problem.values(truth)).sum(axis=0)
        return ranks, divergent.sum(), jnp.isfinite(at_truth).all()

    return jax.vmap(one)(truths, keys)
