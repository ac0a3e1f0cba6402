"""A calibration problem, stated once: data, what they measure, and which parameters are free."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .. import _compile
from .._inputs import Inputs, prepare
from .._model import Model
from ._arguments import (
    _base,
    _canonical,
    _check_fixed,
    _check_ties,
    _columns,
    _float64,
    _initial,
    _length,
    _named,
    _priors,
    _scenario,
    _start_values,
)
from ._free import bijection, free_numbers, ties
from ._matching import match
from ._observed import Moments
from ._priors import Prior
from ._programs import (
    _at,
    _cost,
    _log_density,
    _log_likelihood,
    _log_prior,
    _params,
    _path,
    _residuals,
    _values,
)


class Problem:
    """Data matched to a model's variables, and the parameters that are free to fit them::

        problem = estimation.Problem(
            models.GL06SIM,
            data,
            observe={"national_income": "Y"},
            free={"propensity_to_consume_income": (0.2, 0.9), "tax_rate": None},
        )
        print(estimation.fit(problem))

    Every method of estimation takes the free parameters as a vector u of k real numbers without bounds:
    the functions below are pure functions of u, which `jax.jit`, `jax.grad` and `jax.vmap` take.

    Args:
        model: the model. A random one needs `key`: its draws are then the same for all parameters.
        data: a pandas DataFrame or Series, an xarray Dataset, a mapping from names to Series or arrays, a
            path of a `.csv` or `.parquet` file (`read_data`); or None, with `moments` alone.
        observe: variable -> column, or an `Observed`; or the names of variables that the data call alike;
            default: all columns. A variable with a shape is observed in all elements, or in one:
            `"output[2]"`.
        free: parameter -> (low, high), or None for the model's bounds; or names alone. `"share[2]"` is an
            element, `"initial.wealth"` a variable before the first period.
        fixed: values of parameters that are not free. params: all of them, as a record.
        priors: free parameter -> `Normal(...)` and others. A parameter without one is equally likely
            everywhere within its bounds. A prior that ends within the bounds takes their place: beyond
            its end nothing is possible.
        tied: groups of parameters that add up, besides the model's own: `AddingUp(names, total)`, or names
            that sum to 1. The last is what the others leave.
        moments: `Moments`: further residuals.
        scenario: as in `simulate`; or series -> a column of the data (its name), or a number.
        initial: as in `simulate`; or variable -> number, the others as the model has them, at whatever
            parameters it runs.
        shocks, periods, key, noise: as in `simulate`. periods: default: up to the last of the data.
        start: free parameter -> where a search begins; default: the value in `params`.
        start_date: the first period of the run, `"1990Q1"`. freq: of the periods, `"Q"`. Default: the first
            date and the highest frequency of the data.
        dates: the column of the data that says when.
        sigma: the standard deviation of the measurement error: a number, or series -> number. None: not
            known; every series then has one of its own, which the likelihood concentrates out, and the
            residuals are in units of the standard deviation of the data.

    Attributes:
        model: the model. names: the free parameters, k of them. start: u at the start, (k,), float64.
        labels: (series, date) of each residual. residual_count: m.
        series: the matched data. calendar: the periods of the run.
        derived: the parameters that adding up makes of the free ones.

    Raises:
        KeyError: a name that is not in the model, or not in the data; with what there is.
        ValueError: dates or frequencies that do not fit; bounds that exclude the start or reach beyond the
            model's; a prior outside the bounds; residuals at the start that are not finite; more free
            parameters than data.
        TypeError: as `simulate`.
    """

    def __init__(
        self,
        model: Model,
        data: Any = None,
        observe: Any = None,
        free: Any = (),
        *,
        fixed: Mapping[str, Any] | None = None,
        params: Any = None,
        priors: Mapping[str, Prior] | None = None,
        tied: Sequence[Any] = (),
        moments: Moments | Sequence[Moments] = (),
        scenario: Any = None,
        initial: Any = None,
        shocks: dict[str, Any] | None = None,
        periods: int | None = None,
        key: Any = None,
        noise: Any = None,
        start: Mapping[str, float] | None = None,
        start_date: Any = None,
        freq: str | None = None,
        dates: str | None = None,
        sigma: Any = None,
    ) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"Expected a model, for instance models.GL06SIM, not {model!r}.")
        self.model = model
        self.moments = (moments,) if isinstance(moments, Moments) else tuple(moments)
        if data is None and not self.moments:
            raise ValueError("Nothing to fit: give data, or moments.")
        with jax.enable_x64(True):
            columns = _columns(model, scenario)
            known = _length(model, scenario, shocks, noise) if periods is None else periods
            self.series, self.calendar, table = match(
                model, data, observe, sigma,
                start=start_date, freq=freq, periods=known, dates=dates, more=columns,
            )  # fmt: skip
            scenario = _scenario(model, scenario, columns, table, self.calendar)
            named = isinstance(initial, Mapping)
            given = {model.State.key_of(k): v for k, v in initial.items()} if named else {}
            self._given = tuple(given)
            inputs, self._plan = prepare(
                model,
                _float64(_base(model, params, fixed or {})),
                scenario if isinstance(scenario, str) else _float64(scenario),
                _float64(shocks),
                None if named else _float64(initial),
                self.calendar.periods,
                key,
                False,
                _float64(noise),
            )
            if self._plan.batch is not None:
                raise ValueError("A problem is about one run: its inputs have no batch axis.")
            self._bounds = free_numbers(model, free)
            self._ties = ties(model, tied, self._bounds)
            _check_fixed(model, fixed or {}, self._bounds, self._ties)
            self._places = tuple(self._bounds)
            self.names = tuple(one.label for one in self._places)
            self.derived = tuple(tie.rest.label for tie in self._ties)
            self.priors, self._mass = _priors(model, priors or {}, self._bounds)
            self.inputs: Inputs = _initial(model, inputs, given) if given else inputs
            _check_ties(self._ties, self._bounds, self.inputs, self._given)
            self._values = _start_values(
                model, self.inputs, start or {}, self._bounds, self._ties, self.priors
            )
            self.bijection = bijection(model, self._bounds, self._ties, self._values)
            self.start = self._unconstrained(np.array([self._values[one] for one in self._places]))
            self._roots = tuple(one.root() for one in self.moments)
            self._check()

    # The functions of u ---------------------------------------------------------------------------

    def params(self, u: Any) -> Any:
        """The parameters at u (k,): all free ones within their bounds, sums as they must be."""
        return self._call(_params, u)

    def values(self, u: Any) -> Any:
        """The values of the free parameters, (k,), in the order of `names`."""
        return self._call(_values, u)

    def path(self, u: Any) -> Any:
        """The run at u: a `State` with leaves (T, *shape)."""
        return self._call(_path, u)

    def residuals(self, u: Any) -> Any:
        """Model less data, (m,), each in units of its standard deviation: see `labels`.

        That is sigma / sqrt(weight); where sigma is not known, the standard deviation of the series'
        data takes its place.
        """
        return self._call(_residuals, u, self.scales)

    def cost(self, u: Any) -> Any:
        """Half the sum of squared residuals."""
        return self._call(_cost, u, self.scales)

    def log_likelihood(self, u: Any) -> Any:
        """Of independent normal errors; an unknown sigma is concentrated out; -inf where the run fails.

        With sigma unknown, -n/2 (log(2 pi S / n) + 1) for a series of n errors with the sum of squares S:
        the maximum over sigma, and up to a constant the integral over it with the prior 1 / sigma.
        """
        return self._call(_log_likelihood, u)

    def log_prior(self, u: Any) -> Any:
        """Of u: the priors' log density, cut off at the bounds, plus log |det d values / d u|."""
        return self._call(_log_prior, u)

    def log_density(self, u: Any) -> Any:
        """`log_prior` plus `log_likelihood`: the posterior of u up to a constant."""
        return self._call(_log_density, u)

    def _call(self, program: Any, u: Any, *more: Any) -> Any:
        # In the dtype of the caller's JAX, by hand: a program that was traced in float64 before takes NumPy's
        # scalars of float64 as they are, and fails.
        return _compile.call(program, self, *_canonical((u, self.inputs, *more)))

    def unconstrain(self, values: Any) -> np.ndarray:
        """The u (k,) at which the free parameters have these values.

        Args:
            values: a `Params`; or name -> value, where what is not named is as at the start; or an array
                (..., k) in the order of `names`.

        Raises:
            KeyError: a name that is not free. ValueError: values at or outside their bounds.
        """
        if isinstance(values, self.model.Params):
            found = dict(self._values)
            found |= {p: float(_at(self.inputs._replace(params=values), p)) for p in self._places
                      if p.group == "params"}  # fmt: skip
            return self._unconstrained(np.array([found[one] for one in self._places]))
        if isinstance(values, Mapping):
            given = dict(self._values) | _named(self.model, values, "free", self._bounds)
            return self._unconstrained(np.array([given[one] for one in self._places]))
        array = np.asarray(values, float)
        if array.shape[-1:] != (len(self.names),):
            raise ValueError(
                f"The values of {', '.join(self.names)} have the shape (..., {len(self.names)}), not "
                f"{array.shape}."
            )
        return self._unconstrained(array)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The u (k,) of values that may be at their bounds: then of values just within."""
        low, high = self.bounds
        width = np.where(np.isfinite(high - low), high - low, self.bijection.scale)
        inside = np.clip(np.asarray(values, float), low + 1e-12 * width, high - 1e-12 * width)
        totals = [float(total) for total in self._totals(self.inputs)]
        for shrink in (0.0, 1e-12, 1e-9, 1e-6):
            within = inside + shrink * (self.centre - inside) if shrink else inside
            u = self.bijection.unconstrain(within, totals)
            if not np.isnan(u).any():
                return u
        raise ValueError(f"The values {values} are not within the bounds.")

    # What it is -----------------------------------------------------------------------------------

    @functools.cached_property
    def centre(self) -> np.ndarray:
        """The values at u = 0, (k,), which are far from all bounds."""
        with jax.enable_x64(True):
            u = jax.numpy.zeros(len(self.names))
            return np.asarray(self.bijection.constrain(u, self._totals(self.inputs)).values)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounds of the free parameters: low and high, each (k,)."""
        return self.bijection.low, self.bijection.high

    @property
    def scales(self) -> np.ndarray:
        """The standard deviation of each series' errors, (number of series,): sigma, or the data's spread."""
        return np.array([s.spread if s.sigma is None else s.sigma for s in self.series], float)

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        found = [(s.label, s.dates[row]) for s in self.series for row in s.rows]
        for one in self.moments:
            count = len(np.atleast_1d(np.asarray(one.target)))
            found += [(one.name, str(name)) for name in one.names or range(count)]
        return tuple(found)

    @property
    def residual_count(self) -> int:
        moments = sum(len(root) for root in self._roots)
        return sum(one.size for one in self.series) + moments

    def __repr__(self) -> str:
        lines = [
            f"Problem: {self.model.name}, {self.calendar.periods} periods ({self.calendar.span}), "
            f"{self.residual_count} residuals, {len(self.names)} free parameters"
        ]
        for one in self.series:
            kind = one.observed.transform
            kind = getattr(kind, "__name__", kind)
            what = "" if kind == "level" else f" ({kind})"
            lines.append(
                f"  observed {one.label}{what}: {one.size} of {len(one.dates)}, "
                f"{one.dates[one.rows[0]]} to {one.dates[one.rows[-1]]}"
            )
        lines += [f"  {m.name}: {len(r)}" for m, r in zip(self.moments, self._roots, strict=True)]
        for name, one, low, high in zip(self.names, self._places, *self.bounds, strict=True):
            prior = f", {self.priors[name]!r}" if name in self.priors else ""
            lines.append(f"  free {name} in ({low:g}, {high:g}), from {self._values[one]:g}{prior}")
        for tie in self._ties:
            lines.append(f"  {' + '.join(m.label for m in tie.members)} = {tie.total:g}")
        return "\n".join(lines)

    # Building it ----------------------------------------------------------------------------------

    def _totals(self, inputs: Inputs) -> list[Any]:
        """What is left of each group's total for those that move."""
        return [
            tie.total - sum(_at(inputs, one) for one in tie.members[:-1] if one not in self._bounds)
            for tie in self._ties
        ]

    def _unconstrained(self, values: np.ndarray) -> np.ndarray:
        u = self.bijection.unconstrain(
            values, [float(total) for total in self._totals(self.inputs)]
        )
        bad = np.isnan(u).reshape(-1, len(self.names)).any(axis=0)
        if bad.any():
            low, high = self.bounds
            said = [f"{self.names[i]} ({low[i]:g}, {high[i]:g})" for i in np.flatnonzero(bad)]
            rest = [
                f"; {' + '.join(m.label for m in tie.members)} = {tie.total:g} with the last within its bounds"
                for tie in self._ties
            ]
            raise ValueError(
                f"{self.model.name}: the values {np.asarray(values).tolist()} of {', '.join(self.names)} are "
                f"not strictly within {', '.join(said)}{''.join(rest)}."
            )
        return u

    def _check(self) -> None:
        count = self.residual_count
        if count + len(self.priors) < len(self.names):
            raise ValueError(
                f"{len(self.names)} free parameters ({', '.join(self.names)}) and only {count} data: fix "
                "some, or observe more."
            )
        found = np.asarray(self.residuals(self.start))
        if not np.isfinite(found).all():
            bad = np.flatnonzero(~np.isfinite(found))
            named = [f"{series} in {date}" for series, date in (self.labels[i] for i in bad[:3])]
            raise ValueError(
                f"{self.model.name}: at the start {len(bad)} of {count} residuals are not finite, the first "
                f"for {', '.join(named)}: start elsewhere, or observe something that is defined there."
            )
