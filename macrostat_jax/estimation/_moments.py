"""The method of simulated moments: random models fitted to what their paths are like on average.

McFadden (1989), Econometrica 57, 995-1026; Duffie and Singleton (1993), Econometrica 61, 929-952. With the
moments m of the data, g(theta) their average over R runs of the model and a matrix W, the estimate minimises
(g - m)' W (g - m). All parameters see the same random numbers, so that g moves with theta alone.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._simulate import run_keys
from .._trajectory import trajectory
from ._identifiability import Identifiability, identifiability
from ._levenberg_marquardt import LeastSquares, levenberg_marquardt
from ._programs import placed
from ._region import Region
from ._room import limits_on_sums, sizes
from ._sampling import check_counts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RUNS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class MomentFit:
    """Parameters at which simulated moments are nearest to those of the data: `print` it, `plot` it.

    Attributes:
        problem, runs: what was asked. weighting: "identity", "optimal" or "given".
        u: the coordinates without bounds, (k,). estimates: the parameters, (k,), in the order of `names`.
        covariance: of the estimates, (k, k), by the sandwich formula, the noise of the simulation included.
            NaN for parameters at a bound: the others' suppose that these stay there.
        moments, target: of the model and of the data, (j,). labels: of each.
        spread: the covariance of the data's moments, (j, j).
        jacobian: of the model's moments by the parameters, (j, k).
        identifiability: which directions of the parameters the moments do not see: they have infinite
            standard errors, and are no part of the covariance.
        statistic: of the J-test, (g - m)' S^-1 (g - m) / (1 + 1/R); freedom: j less the number of
            directions in which the estimates could move and that the moments see, k if all can. p_value:
            NaN where there is no freedom, or the weighting is not the optimal one.
        success, outcome: of the search; as a sentence.
    """

    problem: Any
    runs: int
    weighting: str
    u: np.ndarray
    estimates: np.ndarray
    covariance: np.ndarray
    moments: np.ndarray
    target: np.ndarray
    labels: tuple[str, ...]
    spread: np.ndarray
    jacobian: np.ndarray
    identifiability: Identifiability
    statistic: float
    freedom: int
    p_value: float
    success: bool
    outcome: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.problem.names)

    @property
    def values(self) -> dict[str, float]:
        return dict(zip(self.names, self.estimates.tolist(), strict=True))

    @property
    def at_bound(self) -> tuple[str, ...]:
        """The parameters at a bound: without standard errors."""
        return self.identifiability.at_bound

    @property
    def standard_errors(self) -> dict[str, float]:
        """Parameter -> standard error: infinite where the moments say nothing, NaN at a bound."""
        loose = np.isinf(self.identifiability.standard_errors)
        errors = np.where(loose, np.inf, np.sqrt(np.diag(self.covariance)))
        return dict(zip(self.names, errors.tolist(), strict=True))

    def to_pandas(self) -> pd.DataFrame:
        """A row per moment: data, model, the data's standard error, and the gap in units of it."""
        import pandas as pd

        error = np.sqrt(np.diag(self.spread))
        columns = {"data": self.target, "model": self.moments, "standard error": error}
        table = pd.DataFrame(columns, index=list(self.labels)).rename_axis("moment")
        return table.assign(gap=(self.moments - self.target) / error)

    def sentence(self) -> str:
        """The outcome, and the test of the model by the moments that are over."""
        text = f"{self.problem.model.name}: {self.outcome}"
        if self.at_bound:
            text += (
                f" At a bound, where there is no standard error: {', '.join(self.at_bound)}; those of the "
                "others suppose that it stays so."
            )
        if self.identifiability.unidentified:
            text += f" {self.identifiability}"
        if self.freedom == 0:
            return f"{text} As many moments as parameters: nothing is left to test the model by."
        if not np.isfinite(self.p_value):
            return f"{text} For a test of the model use weights='optimal'."
        verdict = "do not contradict" if self.p_value > 0.05 else "contradict"
        return (
            f"{text} The moments {verdict} the model: J = {self.statistic:.3g} with {self.freedom} degrees "
            f"of freedom, p = {self.p_value:.2g}."
        )

    def __str__(self) -> str:
        import pandas as pd

        columns = {"estimate": self.values, "std. error": self.standard_errors}
        shown: Any = {"float_format": "{:.5g}".format}
        parts = [
            self.sentence(),
            pd.DataFrame(columns, index=list(self.names)).to_string(**shown),
            self.to_pandas().rename_axis(None).to_string(**shown),
        ]
        return "\n\n".join(parts)

    def plot(self) -> Figure:
        """The gap of each moment in standard errors of the data."""
        from ..plot import _moments

        return _moments.moments(self)


def simulated_moments(
    problem: Any,
    *,
    runs: int = 200,
    weights: Any = "optimal",
    covariance: Any = None,
    target: Any = None,
    seed: int = 0,
    steps: int = 200,
) -> MomentFit:
    """Fits a random model to moments of data by the moments of its simulated paths.

    Args:
        problem: a `Problem` of a random model with `moments=Moments(function of the path, target)`, and
            without series: `Problem(model, moments=..., free=..., key=...)`. The function gives the moments
            of one run, of which the average over runs is taken.
        runs: R. The standard errors of the estimates are sqrt(1 + 1/R) of what they would be without the
            simulation's noise.
        weights: `"identity"`: the weights of the moments' declarations; `"optimal"`: the inverse of their
            covariance; or W itself, (j, j).
        covariance: S, of the data's moments, (j, j). Default: that of one run of the model at the estimates:
            right where the data are as long as a run. The optimal weights are then found in two rounds.
        target: the data's moments (j,), in place of those declared: fits to other data of the same kind
            compile nothing anew.
        seed: of the runs.
        steps: the most residuals a search computes.

    Raises:
        TypeError: the model is not random. ValueError: no moments, or series or priors beside them;
            matrices of the wrong shape or not positive definite; moments that do not move with a parameter.
    """
    check_counts(runs=runs, steps=steps)
    declared, labels, root = _checked(problem)
    target = declared if target is None else np.atleast_1d(np.asarray(target, float))
    if target.shape != declared.shape or not np.isfinite(target).all():
        raise ValueError(f"target takes {len(declared)} finite numbers, not {target}.")
    count = len(target)
    kind = weights if isinstance(weights, str) else "given"
    if kind not in ("identity", "optimal", "given"):
        raise ValueError(f"weights are 'identity', 'optimal' or a matrix, not {weights!r}.")
    if kind == "given":
        root = _factor("weights", weights, count)
    known = None if covariance is None else _symmetric("covariance", covariance, count)
    if runs <= count and known is None:
        raise ValueError(f"The covariance of {count} moments needs more than {runs} runs.")
    with jax.enable_x64(True):
        keys = run_keys(seed, int(runs))
        x, spread = np.asarray(problem.values(problem.start)), known
        for turn in range(2 if kind == "optimal" and known is None else 1):
            if kind == "optimal" and spread is not None:
                root = _factor("covariance", spread, count, inverse=True)
            found = _search(problem, x, keys, target, root, steps, first=turn == 0)
            x = found.x
            if known is None:
                spread = np.atleast_2d(np.cov(_each(problem, x, keys).T))
        assert spread is not None
        return _judged(problem, kind, found, keys, target, labels, root, spread)


def _checked(problem: Any) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """The target (j,), the moments' labels, and R with W = R'R of their declared weights."""
    model = problem.model
    if problem.inputs.key is None:
        raise TypeError(
            f"{model.name} runs without a key here: simulated moments are for random models. For others, fit "
            "takes moments too."
        )
    if not problem.moments or problem.series:
        raise ValueError("simulated_moments takes a Problem with moments, and without series.")
    if problem.priors:
        raise ValueError(
            f"simulated_moments knows no priors; the problem has some, of {', '.join(problem.priors)}."
        )
    from scipy.linalg import block_diag

    target = [np.atleast_1d(np.asarray(one.target, float)) for one in problem.moments]
    labels = tuple(name for _, name in problem.labels)
    if len(set(labels)) < len(labels):
        labels = tuple(f"{group} {name}" for group, name in problem.labels)
    return np.concatenate(target), labels, np.asarray(block_diag(*problem._roots))


def _symmetric(what: str, given: Any, count: int) -> np.ndarray:
    matrix = np.asarray(given, float)
    if matrix.shape != (count, count) or not np.allclose(matrix, matrix.T):
        raise ValueError(f"{what} is a symmetric matrix ({count}, {count}), not {matrix.shape}.")
    return matrix


def _factor(what: str, given: Any, count: int, inverse: bool = False) -> np.ndarray:
    """R with R'R the matrix, or its inverse."""
    matrix = _symmetric(what, given, count)
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"{what} is not positive definite: are some moments functions of others?"
        ) from None
    return np.linalg.inv(lower) if inverse else lower.T


def _search(
    problem: Any,
    start: np.ndarray,
    keys: Any,
    target: np.ndarray,
    root: np.ndarray,
    steps: int,
    first: bool,
) -> LeastSquares:
    def residuals(x: np.ndarray) -> np.ndarray:
        return root @ (np.asarray(_compile.call(_average, problem, x, keys)) - target)

    def jacobian(x: np.ndarray) -> np.ndarray:
        return root @ np.asarray(_compile.call(_slopes, problem, x, keys))

    if first:
        still = [
            n for n, one in zip(problem.names, jacobian(start).T, strict=True) if not one.any()
        ]
        if still:
            raise ValueError(
                f"{problem.model.name}: the moments do not move with {', '.join(still)} along a run. Where a "
                "parameter works through discrete choices, fit a relaxed model (stochastic.GumbelSoftmax)."
            )
    return levenberg_marquardt(
        residuals, jacobian, start, bounds=problem.bounds, constraint=limits_on_sums(problem),
        max_nfev=steps,
    )  # fmt: skip


def _of_run(problem: Any, inputs: Any, key: Any) -> Any:
    path = trajectory(problem._plan, inputs._replace(key=key))
    found = [jnp.atleast_1d(jnp.asarray(one.of(path))) for one in problem.moments]
    return jnp.concatenate(found)


def _mean(problem: Any, inputs: Any, keys: Any) -> Any:
    each = jax.lax.map(
        lambda key: _of_run(problem, inputs, key), keys, batch_size=min(RUNS_AT_ONCE, len(keys))
    )
    return each.mean(axis=0)


@functools.partial(jax.jit, static_argnums=0)
def _average(problem: Any, values: Any, keys: Any) -> Any:
    return _mean(problem, placed(problem, problem.inputs, values), keys)


@functools.partial(jax.jit, static_argnums=0)
def _slopes(problem: Any, values: Any, keys: Any) -> Any:
    return jax.jacfwd(lambda x: _mean(problem, placed(problem, problem.inputs, x), keys))(values)


@functools.partial(jax.jit, static_argnums=0)
def _runs(problem: Any, values: Any, keys: Any) -> Any:
    inputs = placed(problem, problem.inputs, values)
    return jax.lax.map(
        lambda key: _of_run(problem, inputs, key), keys, batch_size=min(RUNS_AT_ONCE, len(keys))
    )


def _each(problem: Any, values: np.ndarray, keys: Any) -> np.ndarray:
    found = np.asarray(_compile.call(_runs, problem, values, keys))
    failed = ~np.isfinite(found).all(axis=1)
    if failed.any():
        raise ValueError(
            f"{problem.model.name}: in {failed.sum()} of {len(found)} runs the moments are not finite."
        )
    return found


def _judged(
    problem: Any, kind: str, found: LeastSquares, keys: Any, target: np.ndarray, labels: tuple[str, ...],
    root: np.ndarray, spread: np.ndarray,
) -> MomentFit:  # fmt: skip
    from scipy.stats import chi2

    runs, noise = len(keys), 1 + 1 / len(keys)
    values = found.x
    moments = np.asarray(_compile.call(_average, problem, values, keys))
    slope = np.asarray(_compile.call(_slopes, problem, values, keys))
    region = Region(len(values), problem.bounds, limits_on_sums(problem))
    known = identifiability(
        root @ slope, root @ (moments - target), values, problem.names, scales=sizes(problem, values),
        at_bound=region.at_bound(values), reached_sums=region.reached_sums(values), variance=1.0,
    )  # fmt: skip
    # The estimates' linear response to the moments, by least squares: (G'WG)^-1 G'W.
    held = np.isin(problem.names, known.at_bound)
    free = ~(held[:, None] | held)
    response = np.where(free, known.covariance, 0.0) @ (root @ slope).T @ root
    covariance = np.where(free, noise * response @ spread @ response.T, np.nan)
    gap = _factor("covariance", spread, len(target), inverse=True) @ (moments - target)
    directions = len(known.singular_values) - len(known.unidentified)
    statistic, freedom = float(gap @ gap) / noise, len(target) - directions
    tested = kind == "optimal" and freedom > 0
    outcome = ("Converged: " if found.success else "Failed: ") + found.message.partition(": ")[2]
    return MomentFit(
        problem, runs, kind, problem.nearest(values), values, covariance, moments, target, labels, spread,
        slope, known, statistic, freedom, float(chi2.sf(statistic, freedom)) if tested else np.nan,
        found.success, outcome,
    )  # fmt: skip
