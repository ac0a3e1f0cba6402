"""Fits: the parameters at which a model's path is nearest to the data, and how well these tell them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _compile
from ._bijections import interval
from ._identifiability import Identifiability
from ._objectives import Task
from ._outcome import EXACT, judge
from ._problem import Problem
from ._programs import _moved, density, deviations, placed, reweighted
from ._solvers import STEPS, Ended, check, solve
from ._statistics import SeriesFit, series_fits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ._profile import Profile
    from ._starts import MultiStart

ROUNDS = 25
"""The most rounds in which unknown measurement errors are estimated from the residuals."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """What a fit found: `print` it, draw it with `plot`, tabulate it with `to_pandas`.

    Attributes:
        problem, method: what was asked. priors: whether the priors counted.
        u: the solver's coordinates, (k,).
        estimates: the free parameters, (k,), in the order of problem.names.
        success: whether this is an optimum. outcome: as a sentence.
        cost: half the sum of squared residuals; without those of priors.
        log_likelihood: at the estimates.
        residuals: (m,), in units of the errors' standard deviations.
        jacobian: of the residuals by the parameters in their own units, (m, k).
        identifiability: what the data alone say about the parameters: singular values, directions that
            they do not identify, covariance, standard errors. Errors are taken for independent and normal.
        uncertainty: the same with the priors, if they count: what `covariance` and `standard_errors` are of.
        sigmas: series -> the standard deviation of its errors, given or estimated.
        series: of each observed series, how well it is met.
        at_bound: parameters at a bound.
        steps, evaluations: what it took, all rounds together.
        starts: what many starts found, if there were many.
    """

    problem: Problem
    method: str
    priors: bool
    u: np.ndarray
    estimates: np.ndarray
    success: bool
    outcome: str
    cost: float
    log_likelihood: float
    residuals: np.ndarray
    jacobian: np.ndarray
    identifiability: Identifiability
    uncertainty: Identifiability
    sigmas: dict[str, float]
    series: tuple[SeriesFit, ...]
    at_bound: tuple[str, ...]
    steps: int
    evaluations: int
    starts: MultiStart | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The free parameters."""
        return self.problem.names

    @property
    def values(self) -> dict[str, float]:
        """Parameter -> estimate, those included that adding up derives from the free ones."""
        found = dict(zip(self.names, self.estimates.tolist(), strict=True))
        for name, weights, total in self._derived:
            found[name] = float(total + weights @ self.estimates)
        return found

    @property
    def standard_errors(self) -> dict[str, float]:
        """Parameter -> standard error: infinite where the data say nothing, NaN at a bound."""
        found = dict(zip(self.names, self.uncertainty.standard_errors.tolist(), strict=True))
        for name, weights, _ in self._derived:
            found[name] = self.uncertainty.error_of(weights)
        return found

    @property
    def covariance(self) -> np.ndarray:
        """Of the estimates, (k, k); see `Identifiability.covariance`."""
        return self.uncertainty.covariance

    @functools.cached_property
    def params(self) -> Any:
        """The model's parameters at the estimates, as NumPy float64: for `simulate`."""
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, _compile.call(_params_at, self.problem, self.estimates))

    @functools.cached_property
    def path(self) -> Any:
        """The run at the estimates: a `State` with NumPy leaves (T, *shape)."""
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, self.problem.path(self.u))

    def quantile(self, share: float) -> float:
        """Of an estimate's distribution around the truth, in standard errors.

        Student's t where the variance of the errors is estimated, with its degrees of freedom; else normal.
        """
        from scipy import stats

        return float(stats.t.ppf(share, self.uncertainty.freedom))

    @property
    def aic(self) -> float:
        """Akaike's information criterion; unknown measurement errors count as parameters."""
        return 2 * self._parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's information criterion."""
        return float(np.log(len(self.residuals))) * self._parameters - 2 * self.log_likelihood

    @property
    def _parameters(self) -> int:
        return len(self.names) + sum(one.sigma is None for one in self.problem.series)

    @property
    def _derived(self) -> list[tuple[str, np.ndarray, float]]:
        """Of each derived parameter: its weights on the free ones, and what it is where they are 0."""
        problem = self.problem
        with jax.enable_x64(True):
            totals = [float(total) for total in problem._totals(problem.inputs)]
        found = []
        for name, group, total in zip(
            problem.derived, problem.bijection.groups, totals, strict=True
        ):
            weights = np.zeros(len(self.names))
            weights[list(group.members)] = -1.0
            found.append((name, weights, total))
        return found

    def profile(self, name: str, *, points: int = 21, width: float = 4.0) -> Profile:
        """The profile likelihood of a parameter: the best fit for each of several values of it.

        Args:
            name: one of `names`. points: how many values, evenly spaced.
            width: to how many standard errors from the estimate, or to the bounds; more where so few data
                are left to estimate the errors from that the interval is wider.
        """
        from ._profile import profile

        return profile(self, name, points=points, width=width)

    def to_pandas(self) -> pd.DataFrame:
        """A row per observation, (series, date): data, model and error, as they are compared."""
        import pandas as pd

        index = pd.MultiIndex.from_tuples(
            [(one.label, date) for one in self.series for date in one.dates],
            names=["series", "date"],
        )
        columns = {
            "data": [one.data for one in self.series],
            "model": [one.model for one in self.series],
        }
        table = pd.DataFrame({k: np.concatenate(v) for k, v in columns.items()}, index=index)
        return table.assign(error=table["model"] - table["data"])

    def table(self) -> pd.DataFrame:
        """A row per parameter: estimate, standard error, 95 % interval, bounds.

        The interval is that of the delta method in coordinates without bounds, which it cannot leave: the
        logarithm of the distance from one bound, or of the ratio of those from two.
        """
        import pandas as pd

        low, high = (dict(zip(self.names, b.tolist(), strict=True)) for b in self.problem.bounds)
        for name, group in zip(self.problem.derived, self.problem.bijection.groups, strict=True):
            low[name], high[name] = group.low, group.high
        errors, rows, width = self.standard_errors, [], self.quantile(0.975)
        for name, value in self.values.items():
            ends = interval(value, width * errors[name], low[name], high[name])
            rows.append((value, errors[name], *ends, low[name], high[name]))
        columns = ["estimate", "standard_error", "low_95", "high_95", "lower_bound", "upper_bound"]
        return pd.DataFrame(rows, columns=columns, index=pd.Index(self.values, name="parameter"))

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: NaN and infinity become None."""
        known, table = self.identifiability, self.table()
        found = {
            "model": self.problem.model.name,
            "method": self.method,
            "priors": self.priors,
            "success": self.success,
            "outcome": self.outcome,
            "values": self.values,
            "standard_errors": self.standard_errors,
            "intervals_95": dict(
                zip(table.index, table[["low_95", "high_95"]].values.tolist(), strict=True)
            ),
            "names": list(self.names),
            "covariance": self.covariance.tolist(),
            "at_bound": list(self.at_bound),
            "unidentified": list(known.unidentified),
            "singular_values": known.singular_values.tolist(),
            "cost": self.cost,
            "log_likelihood": self.log_likelihood,
            "aic": self.aic,
            "bic": self.bic,
            "observations": len(self.residuals),
            "sigmas": self.sigmas,
            "series": {one.label: one.to_dict() for one in self.series},
            "steps": self.steps,
            "evaluations": self.evaluations,
        }
        if self.starts is not None:
            found["starts"] = self.starts.counts
        return _plain(found)

    def to_json(self) -> str:
        import json

        return json.dumps(self.to_dict(), indent=2)

    def plot(self, **options: Any) -> Figure:
        """Data and fitted path, a panel per series; `plot.fit` with its options."""
        from ..plot import _fit

        return _fit.fit(self, **options)

    def __str__(self) -> str:
        from ._report import fit_report

        return fit_report(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def fit(
    problem: Problem,
    method: str = "lm",
    *,
    start: Any = None,
    starts: Any = 1,
    priors: bool | None = None,
    steps: int | None = None,
    tolerance: float = 1e-10,
    seed: int = 0,
    **options: Any,
) -> Fit:
    """The parameters at which a model's path is nearest to the data.

    Minimises the sum of squared residuals, which is the most likely value for independent normal errors;
    with priors, the mode of the posterior density of the parameters. Where measurement errors are not
    known and there are several series (or priors), their standard deviations are estimated from the
    residuals, and the fit repeated until these agree: the maximum of the likelihood over both.

    Computes in float64 whatever JAX's default is.

    Args:
        problem: a `Problem`.
        method: `"lm"`, `"dogleg"` (optimistix); `"bounded"` (`levenberg_marquardt`, which reaches bounds);
            `"least_squares"` (scipy); `"bfgs"`, `"lbfgs"` (optimistix), `"adam"` (optax);
            `"newton"`, `"trust-exact"` (scipy, with exact Hessians); `"cma"` (without derivatives).
        start: where to begin: another fit, or what `problem.unconstrain` takes. Default: the problem's
            start.
        starts: how many starts, or what else `multi_start` takes: all in one batch, of which the one with
            the greatest likelihood (with priors, posterior density) is taken further by `method`. The
            first part is by "lm" where `method` cannot be batched.
        priors: whether the problem's priors count. Default: where there are any.
        steps: the most steps of a search. Default: by method.
        tolerance: what a search takes for no further progress, relative.
        seed: of the starts, and of what cma draws.
        options: of the search itself: `rate` for adam, a number or an optax schedule; `memory` for lbfgs;
            cma's own; scipy's own.

    Returns:
        A `Fit`. A search that fails is one too: see `success` and `outcome`.

    Raises:
        ValueError: an unknown method; one that cannot take the priors; a start outside the bounds.
        ImportError: a method whose library is missing, with the extra that brings it.
    """
    check(problem, method, priors is not False)
    with_priors = bool(problem.priors) if priors is None else bool(priors)
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be a whole number, at least 1, not {steps!r}.")
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be a positive number, not {tolerance!r}.")
    with jax.enable_x64(True):
        u, many = _begin(problem, start), None
        if not (isinstance(starts, int) and starts == 1):
            many = _from_many(problem, method, starts, seed)
            u = _best(many, with_priors)
        task = Task(problem, with_priors, method, steps or STEPS[method], float(tolerance))
        options = {"seed": seed, **options} if method == "cma" else options
        ended, scales, spent = _rounds(task, u, options)
        found = judge(task, ended, scales, spent[0])
        labels = [one.label for one in problem.series]
        sigmas = dict(zip(labels, _deviations(problem, ended.u).tolist(), strict=True))
        likelihood = float(problem.log_likelihood(ended.u))
        series = series_fits(problem, ended.u)
    return Fit(
        problem, method, with_priors, ended.u, found.values, found.success, found.sentence, found.cost,
        likelihood, found.residuals, found.jacobian, found.identifiability, found.uncertainty, sigmas,
        series, found.at_bound, *spent, many,
    )  # fmt: skip


def _begin(problem: Problem, start: Any) -> np.ndarray:
    if start is None:
        return problem.start
    if isinstance(start, Fit):
        start = dict(zip(start.names, start.estimates.tolist(), strict=True))
    u = problem.unconstrain(start)
    if u.ndim != 1:
        raise ValueError(f"start is one point, not {u.shape[:-1]} of them: several are starts=.")
    return u


def _from_many(problem: Problem, method: str, starts: Any, seed: int) -> MultiStart:
    from ._multistart import STEPS as BATCHED
    from ._multistart import multi_start

    return multi_start(problem, starts, method=method if method in BATCHED else "lm", seed=seed)


def _best(many: MultiStart, priors: bool) -> np.ndarray:
    """The end of a start from which the fit goes on.

    The starts minimised squares with the spread of the data for errors, and know no priors: what counts is
    the fit's own measure.
    """
    problem = many.problem
    if not (priors and problem.priors) and not reweighted(problem, priors):
        return many.best_u
    found = np.asarray(_compile.call(_heights, (problem, priors), many.u, problem.inputs))
    good = np.isfinite(many.costs) & np.isfinite(found)
    return many.u[np.argmax(np.where(good, found, -np.inf))] if good.any() else many.best_u


@functools.partial(jax.jit, static_argnums=0)
def _heights(key: tuple[Problem, bool], u: Any, inputs: Any) -> Any:
    def one(u: Any) -> Any:
        moved, values, _ = _moved(key[0], u, inputs)
        return density(*key, moved, values)

    return jax.lax.map(one, u, batch_size=min(len(u), 256))


def _rounds(
    task: Task, u: np.ndarray, options: dict[str, Any]
) -> tuple[Ended, np.ndarray, tuple[int, int]]:
    """Searches until the errors' standard deviations agree with the residuals, where they are unknown."""
    problem = task.problem
    scales, inputs = problem.scales, problem.inputs
    again = reweighted(problem, task.priors)
    steps = evaluations = 0
    for _ in range(ROUNDS if again else 1):
        ended = solve(task, u, inputs, scales, options)
        steps, evaluations = steps + ended.steps, evaluations + ended.evaluations
        if not again or not np.isfinite(ended.u).all():
            break
        found = _deviations(problem, ended.u)
        if not (found > EXACT * problem.scales).all():
            break  # a series that is met exactly has no error to weight it by
        change = np.abs(found / scales - 1).max()
        scales, u = found, ended.u
        if change < 1e-5:
            break
    return ended, scales, (steps, evaluations)


@functools.partial(jax.jit, static_argnums=0)
def _params_at(problem: Problem, values: Any) -> Any:
    return problem.model.constrain(placed(problem, problem.inputs, values).params)


@functools.partial(jax.jit, static_argnums=0)
def _deviations_at(problem: Problem, u: Any, inputs: Any, scales: Any) -> Any:
    return deviations(problem, _moved(problem, u, inputs)[0], scales)


def _deviations(problem: Problem, u: np.ndarray) -> np.ndarray:
    """The standard deviation of the errors of each series: given, or the root of their mean square."""
    return np.asarray(_compile.call(_deviations_at, problem, u, problem.inputs, problem.scales))
