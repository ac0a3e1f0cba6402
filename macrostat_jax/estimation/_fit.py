"""What a fit found: estimates, how well the data tell them, and how well the model meets the data."""

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
from ._problem import Problem
from ._programs import placed
from ._statistics import SeriesFit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ._profile import Profile
    from ._starts import MultiStart


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


@functools.partial(jax.jit, static_argnums=0)
def _params_at(problem: Problem, values: Any) -> Any:
    return problem.model.constrain(placed(problem, problem.inputs, values).params)
