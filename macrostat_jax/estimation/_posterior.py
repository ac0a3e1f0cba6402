"""Draws from a posterior, in the parameters' own units, and what there is to say against them."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _compile
from ._libraries import library, usual_promotion
from ._priors import Prior, Uniform

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

LARGEST_RHAT = 1.01
"""Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16, 667-718."""
LEAST_DRAWS = 4
"""Of a chain: it is halved, and each half has a variance."""
LEAST_ESS = 100
"""Effective draws for each chain, of the same source."""
ALIKE = 1.63
"""Of Kolmogorov and Smirnov's test at 1 %: over the root of so many draws, how far they are from their
distribution."""
LEAST_SHARE = 0.9
"""Of the draws of a fit, effectively left by weighting them by the posterior. What is lost below is seen:
a mean that is off by a third of a standard deviation leaves 0.9."""


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of a problem's free parameters: `print` them, draw them with `plot`.

    Attributes:
        problem, method: what was sampled, and how.
        u: in the solver's coordinates, (chains, draws, k).
        values: the parameters, (chains, draws, d), in the order of `names`.
        log_density: in the coordinates u, up to a constant, (chains, draws).
        divergent: draws on the way to which a trajectory diverged, (chains, draws) of bool.
        acceptance: the share of acceptance of each step, (chains, draws).
        steps: gradients (for a random walk: densities) that each took, (chains, draws).
        finite: draws of which the whole path of the model is finite, (chains, draws) of bool. The others are
            kept like all.
        step_size: of each chain, (chains,).
        warmup: how many steps came before.
        elbo: of a variational fit: the evidence lower bound after each step, up to a constant.
        effective_share: of a variational fit: which share of the draws would effectively be left if they
            were weighted by the ratio of posterior and fit. Below 0.9 they are no substitute for it.
        pareto_k: the tail index of these ratios: above 0.7 weighting would not help either (Vehtari,
            Simpson, Gelman, Yao and Gabry 2024, Journal of Machine Learning Research 25(72)).
        normal: of a variational fit: its mean (k,) and covariance (k, k) in the solver's coordinates.
    """

    problem: Any
    method: str
    u: np.ndarray
    values: np.ndarray
    log_density: np.ndarray
    divergent: np.ndarray
    acceptance: np.ndarray
    steps: np.ndarray
    finite: np.ndarray
    step_size: np.ndarray | None = None
    warmup: int = 0
    elbo: np.ndarray | None = None
    pareto_k: float | None = None
    effective_share: float | None = None
    normal: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.problem.names)

    @property
    def chains(self) -> int:
        return self.values.shape[0]

    def __len__(self) -> int:
        """How many draws there are, of all chains."""
        return self.values.shape[0] * self.values.shape[1]

    @property
    def flat(self) -> np.ndarray:
        """The draws of all chains, one after the other, (n, d)."""
        return self.values.reshape(len(self), -1)

    @property
    def flat_u(self) -> np.ndarray:
        """The same in the solver's coordinates, (n, k)."""
        return self.u.reshape(len(self), -1)

    def __getitem__(self, name: str) -> np.ndarray:
        """The draws of one parameter, (chains, draws)."""
        if name not in self.names:
            raise KeyError(f"{name!r} is not one of {', '.join(self.names)}.")
        return self.values[..., self.names.index(name)]

    @property
    def mean(self) -> np.ndarray:
        """(d,)"""
        return self.flat.mean(axis=0)

    @property
    def sd(self) -> np.ndarray:
        """(d,)"""
        return self.flat.std(axis=0, ddof=1)

    @property
    def covariance(self) -> np.ndarray:
        """(d, d)"""
        return np.atleast_2d(np.cov(self.flat.T))

    def quantile(self, shares: float | Sequence[float]) -> np.ndarray:
        """(d,), or one row for each share."""
        return np.quantile(self.flat, shares, axis=0)

    @functools.cached_property
    def rhat(self) -> np.ndarray:
        """(d,): how much the chains disagree; 1 if not at all. By ranks, NaN for a single chain."""
        return self._diagnosed[0] if self.chains > 1 else np.full(len(self.names), np.nan)

    @functools.cached_property
    def ess(self) -> np.ndarray:
        """(d,): how many independent draws would tell the middle of the distribution as well."""
        return self._diagnosed[1]

    @functools.cached_property
    def ess_tail(self) -> np.ndarray:
        """(d,): the same for its 5 % and 95 % quantiles."""
        return self._diagnosed[2]

    @property
    def mean_error(self) -> np.ndarray:
        """The Monte-Carlo standard error of the mean, (d,)."""
        return self.sd / np.sqrt(self._diagnosed[3])

    @functools.cached_property
    def _diagnosed(self) -> tuple[np.ndarray, ...]:
        library("blackjax", "The diagnosis of draws")
        if self.values.shape[1] < LEAST_DRAWS:
            return (np.full(len(self.names), np.nan),) * 4
        with jax.enable_x64(True), usual_promotion():
            found = _compile.call(_diagnosis, None, self.values)
        # blackjax drops the axis of a single parameter.
        return tuple(np.asarray(one).reshape(-1) for one in found)

    @property
    def complaints(self) -> tuple[str, ...]:
        """What speaks against these draws, each as a sentence; none if nothing does."""
        found = []
        # R-hat and effective draws of what does not move are 0 / 0.
        still = (np.ptp(self.values, axis=1) == 0).any(axis=1) & (self.values.shape[1] > 1)
        if still.any():
            found.append(f"{still.sum()} of {self.chains} chains never moved.")
        worst = int(np.nanargmax(self.rhat)) if np.isfinite(self.rhat).any() else -1
        if worst >= 0 and not self.rhat[worst] <= LARGEST_RHAT:
            found.append(
                f"The chains disagree: R-hat is {self.rhat[worst]:.3f} for {self.names[worst]}. Draw more, "
                "or look for several modes."
            )
        ess = np.where(np.isfinite(self.ess), self.ess, 0.0)
        if self.elbo is None and (least := ess.min()) < LEAST_ESS * self.chains:
            found.append(
                f"{self.names[int(ess.argmin())]} has {least:.0f} effective draws: fewer than "
                f"{LEAST_ESS} for each chain."
            )
        if count := int(self.divergent.sum()):
            found.append(
                f"{count:,} of {len(self):,} trajectories diverged: raise acceptance, or narrow the priors."
            )
        share = self.effective_share
        if share is not None and not share >= LEAST_SHARE:
            found.append(
                "The fit is no substitute for the posterior: weighting the draws by it would leave "
                f"{share:.0%} of them (tail index {self.pareto_k:.2f})."
            )
        if count := int((~self.finite).sum()):
            found.append(f"{count:,} of {len(self):,} draws have a path that is not finite.")
        return tuple(found)

    def prior(self, name: str) -> tuple[Prior, tuple[float, float]] | None:
        """The prior of a parameter, and the bounds that cut it off.

        Where none was given it is uniform within the bounds. None where these are infinite, and for parameters
        that add up with others without a prior of their own.
        """
        problem, at = self.problem, self.names.index(name)
        low, high = (float(end[at]) for end in problem.bounds)
        given = problem.priors.get(name)
        if given is None and np.isfinite(high - low) and at in problem.bijection.alone:
            given = Uniform(low, high)
        return None if given is None else (given, (low, high))

    @property
    def uninformed(self) -> tuple[str, ...]:
        """Parameters whose draws are as good as draws from their priors: the data say next to nothing."""
        from scipy import stats

        alone = self.problem.bijection.alone
        ess = self.ess if self.elbo is None else np.full(len(self.names), float(len(self)))
        found = []
        for at, name in enumerate(self.names):
            known = self.prior(name) if at in alone and ess[at] >= LEAST_ESS else None
            if known is None:
                continue
            gap = stats.kstest(
                self[name].ravel(), functools.partial(known[0].share, bounds=known[1])
            )
            if gap.statistic < ALIKE / np.sqrt(ess[at]):
                found.append(name)
        return tuple(found)

    def sentence(self) -> str:
        """The outcome in words."""
        text = f"{self.problem.model.name}: {len(self):,} draws by {self.method}"
        if self.chains > 1:
            text += f" in {self.chains} chains"
        if self.elbo is None:
            text += f" after {self.warmup:,} steps of warm-up each"
        parts = [f"{text}.", *(self.complaints or ("Nothing speaks against them.",))]
        if names := ", ".join(self.uninformed):
            parts.append(
                f"The draws of {names} are as its prior has it: the data say next to nothing."
            )
        return " ".join(parts)

    def table(self) -> pd.DataFrame:
        """A row per parameter: mean, sd, quantiles, R-hat and effective draws."""
        import pandas as pd

        columns = {"mean": self.mean, "sd": self.sd}
        shares = (0.05, 0.5, 0.95)
        columns |= {f"{100 * s:g}%": q for s, q in zip(shares, self.quantile(shares), strict=True)}
        if self.elbo is None:
            columns |= {"R-hat": self.rhat, "ESS": self.ess, "ESS tail": self.ess_tail}
        return pd.DataFrame(columns, index=list(self.names)).rename_axis("parameter")

    def __str__(self) -> str:
        def shown(name: str) -> Any:
            if name == "R-hat":
                return "{:.3f}".format
            return "{:,.0f}".format if name.startswith("ESS") else "{:.5g}".format

        table = self.table()
        rows = table.rename_axis(None).to_string(formatters={n: shown(n) for n in table.columns})
        return f"{self.sentence()}\n\n{rows}"

    def to_pandas(self) -> pd.DataFrame:
        """A row per draw, indexed by chain and draw; a column per parameter."""
        import pandas as pd

        index = pd.MultiIndex.from_product(
            [range(self.chains), range(self.values.shape[1])], names=["chain", "draw"]
        )
        return pd.DataFrame(self.flat, index=index, columns=list(self.names))

    def to_xarray(self) -> xr.Dataset:
        """A variable per parameter, over chain and draw."""
        return self._dataset({name: self[name] for name in self.names})

    def _dataset(self, variables: dict[str, np.ndarray]) -> xr.Dataset:
        import xarray as xr

        dims = ("chain", "draw")
        coords = {d: np.arange(n) for d, n in zip(dims, self.values.shape[:2], strict=True)}
        about = {
            "inference_library": "blackjax",
            "model": self.problem.model.name,
            "method": self.method,
        }
        return xr.Dataset({k: (dims, v) for k, v in variables.items()}, coords, about)

    def to_arviz(self) -> Any:
        """What ArviZ reads: its `InferenceData`, or from its version 1 on xarray's `DataTree`.

        Raises:
            ImportError: without ArviZ.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # its version 0.23 announces version 1
            arviz = library("arviz", "to_arviz")
        groups = {
            "posterior": self.to_xarray(),
            "sample_stats": self._dataset(
                {
                    "lp": self.log_density,
                    "diverging": self.divergent,
                    "acceptance_rate": self.acceptance,
                    "n_steps": self.steps,
                }
            ),
        }
        if hasattr(arviz, "InferenceData"):
            return arviz.InferenceData(**groups)
        import xarray as xr

        return xr.DataTree.from_dict(groups)

    def plot(self, names: Sequence[str] | None = None) -> Figure:
        """Densities with their priors on the left, traces of the chains on the right."""
        from ..plot import _posterior

        return _posterior.posterior(self, names)

    def plot_pairs(self, names: Sequence[str] | None = None) -> Figure:
        """Every parameter against every other: what the data tell only jointly."""
        from ..plot import _posterior

        return _posterior.pairs(self, names)


@functools.partial(jax.jit, static_argnums=0)
def _diagnosis(_: None, values: Any) -> Any:
    """Compiled as one program: by itself each of these is some hundred small ones."""
    import blackjax

    half = values.shape[1] // 2
    halves = jax.numpy.concatenate([values[:, :half], values[:, -half:]])
    ranked = (f(values) for f in (blackjax.rhat, blackjax.ess_bulk, blackjax.ess_tail))
    return *ranked, blackjax.ess(halves)
