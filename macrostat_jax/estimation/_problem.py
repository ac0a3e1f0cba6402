"""A calibration problem, stated once: data, what they measure, and which parameters are free."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._model import Model
from .._simulate import Inputs, Plan, prepare, trajectory
from ._data import lay_out
from ._free import Place, bijection, free_numbers, place, places, ties
from ._observed import Moments, match
from ._priors import Prior, check_within

LOG_2PI = math.log(2 * math.pi)


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
            everywhere within its bounds.
        tied: groups of parameters that add up, besides the model's own: `AddingUp(names, total)`, or names
            that sum to 1. The last is what the others leave.
        moments: `Moments`: further residuals.
        scenario: as in `simulate`; or series -> a column of the data (its name), or a number.
        initial: as in `simulate`; or variable -> number, the others as the model has them.
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
            self._state(
                model, data, observe, free, fixed, params, priors or {}, tied, scenario, initial, shocks,
                periods, key, noise, start or {}, start_date, freq, dates, sigma,
            )  # fmt: skip
            self._check()

    def _state(
        self, model: Model, data: Any, observe: Any, free: Any, fixed: Any, params: Any,
        priors: Mapping[str, Prior], tied: Sequence[Any], scenario: Any, initial: Any, shocks: Any,
        periods: int | None, key: Any, noise: Any, start: Mapping[str, float], start_date: Any,
        freq: str | None, dates: str | None, sigma: Any,
    ) -> None:  # fmt: skip
        columns = _columns(model, scenario)
        known = _length(model, scenario, shocks, noise) if periods is None else periods
        self.series, self.calendar, table = match(
            model, data, observe, sigma,
            start=start_date, freq=freq, periods=known, dates=dates, more=columns,
        )  # fmt: skip
        scenario = _scenario(model, scenario, columns, table, self.calendar)
        self._given_initial = dict(initial) if isinstance(initial, Mapping) else {}
        inputs, self._plan = prepare(
            model,
            _float64(_base(model, params, fixed or {})),
            scenario if isinstance(scenario, str) else _float64(scenario),
            _float64(shocks),
            None if self._given_initial else _float64(initial),
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
        self.inputs: Inputs = self._with_initial(inputs)
        self._values = self._start_values(start)
        self.bijection = bijection(model, self._bounds, self._ties, self._values)
        self.start = self._unconstrained(np.array([self._values[one] for one in self._places]))
        self.priors = self._checked(priors)
        self._roots = tuple(one.root() for one in self.moments)

    # The functions of u ---------------------------------------------------------------------------

    def params(self, u: Any) -> Any:
        """The parameters at u (k,): all free ones within their bounds, sums as they must be."""
        return _compile.call(_params, self, u, self.inputs)

    def values(self, u: Any) -> Any:
        """The values of the free parameters, (k,), in the order of `names`."""
        return _compile.call(_values, self, u, self.inputs)

    def path(self, u: Any) -> Any:
        """The run at u: a `State` with leaves (T, *shape)."""
        return _compile.call(_path, self, u, self.inputs)

    def residuals(self, u: Any) -> Any:
        """Model less data, (m,), each in units of its standard deviation: see `labels`.

        That is sigma / sqrt(weight); where sigma is not known, the standard deviation of the series'
        data takes its place.
        """
        return _compile.call(_residuals, self, u, self.inputs, self.scales)

    def cost(self, u: Any) -> Any:
        """Half the sum of squared residuals."""
        return _compile.call(_cost, self, u, self.inputs, self.scales)

    def log_likelihood(self, u: Any) -> Any:
        """Of independent normal errors; an unknown sigma is concentrated out; -inf where the run fails.

        With sigma unknown, -n/2 (log(2 pi S / n) + 1) for a series of n errors with the sum of squares S:
        the maximum over sigma, and up to a constant the integral over it with the prior 1 / sigma.
        """
        return _compile.call(_log_likelihood, self, u, self.inputs)

    def log_prior(self, u: Any) -> Any:
        """Of u: the priors' log density, cut off at the bounds, plus log |det d values / d u|."""
        return _compile.call(_log_prior, self, u, self.inputs)

    def log_density(self, u: Any) -> Any:
        """`log_prior` plus `log_likelihood`: the posterior of u up to a constant."""
        return _compile.call(_log_density, self, u, self.inputs)

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
            given = dict(self._values) | self._named(values, "free")
            return self._unconstrained(np.array([given[one] for one in self._places]))
        return self._unconstrained(np.asarray(values, float))

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The u (k,) of values that may be at their bounds: then of values just within."""
        low, high = self.bounds
        width = np.where(np.isfinite(high - low), high - low, self.bijection.scale)
        inside = np.clip(np.asarray(values, float), low + 1e-12 * width, high - 1e-12 * width)
        centre = np.array([self._values[one] for one in self._places])
        totals = [float(total) for total in self._totals(self.inputs)]
        for shrink in (0.0, 1e-12, 1e-9, 1e-6):
            u = self.bijection.unconstrain(inside + shrink * (centre - inside), totals)
            if not np.isnan(u).any():
                return u
        raise ValueError(f"The values {values} are not within the bounds.")

    def with_first(self, name: str) -> Problem:
        """The same problem, where `name` is the first of its group to be taken from the total: its u then
        depends on its own value alone."""
        at = self.names.index(name)
        if not any(at in group.members[1:] for group in self.bijection.groups):
            return self
        groups = tuple(
            dataclasses.replace(group, members=(at, *(i for i in group.members if i != at)))
            if at in group.members
            else group
            for group in self.bijection.groups
        )
        other = copy.copy(self)
        other.bijection = dataclasses.replace(self.bijection, groups=groups)
        other.start = other.nearest(np.array([self._values[one] for one in self._places]))
        return other

    def unconstrain_each(self, name: str, values: np.ndarray) -> np.ndarray:
        """The u (n,) of n values of one parameter that is alone, or the first of its group."""
        at = self.names.index(name)
        points = np.tile([self._values[one] for one in self._places], (len(values), 1))
        points[:, at] = values
        totals = [float(total) for total in self._totals(self.inputs)]
        return self.bijection.unconstrain(points, totals)[:, at]

    # What it is -----------------------------------------------------------------------------------

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

    def _with_initial(self, inputs: Inputs) -> Inputs:
        """Inputs with an explicit initial state where some of it is given by name."""
        if not self._given_initial:
            return inputs
        state = _first_state(self, inputs)
        for name, value in self._given_initial.items():
            key = self.model.State.key_of(name)
            state = state.replace(
                **{key: jnp.broadcast_to(jnp.asarray(value, float), getattr(state, key).shape)}
            )
        return inputs._replace(initial=jax.tree.map(np.asarray, state))

    def _named(self, values: Mapping[str, Any], what: str) -> dict[Place, float]:
        found = {}
        for name, value in values.items():
            one = place(self.model, name)
            if one not in self._bounds:
                raise KeyError(
                    f"{what} names {name!r}, which is not free. Free are: {', '.join(self.names)}."
                )
            found[one] = float(value)
        return found

    def _start_values(self, start: Mapping[str, float]) -> dict[Place, float]:
        """The value of every free, tied and derived number at the start."""
        inputs = self.inputs
        if inputs.initial is None and any(one.group == "initial" for one in self._bounds):
            inputs = inputs._replace(initial=_first_state(self, inputs))
        among = {member for tie in self._ties for member in tie.members}
        values = {one: float(_at(inputs, one)) for one in {*self._bounds, *among}}
        values |= self._named(start, "start")
        for one, (low, high) in self._bounds.items():
            if not low < values[one] < high:
                where = "at a bound" if values[one] in (low, high) else "outside the bounds"
                raise ValueError(
                    f"{self.model.name}: {one.label!r} starts at {values[one]:g}, {where} "
                    f"({low:g}, {high:g}): give it a start strictly within, start={{{one.label!r}: ...}}, "
                    "or other bounds."
                )
        return values

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

    def _checked(self, priors: Mapping[str, Prior]) -> dict[str, Prior]:
        found = {}
        self._mass: dict[str, float] = {}
        for name, prior in priors.items():
            for one in places(self.model, name):
                if one not in self._bounds:
                    raise KeyError(
                        f"priors names {one.label!r}, which is not free. Free are: {', '.join(self.names)}."
                    )
                low, high = self._bounds[one]
                self._mass[one.label] = check_within(one.label, prior, low, high)
                found[one.label] = prior
        return found

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


# The programs: the problem is static, its inputs are not ----------------------------------------------


def _moved(problem: Problem, u: Any, inputs: Inputs) -> tuple[Inputs, Any, Any]:
    """The inputs at u, the free values, and log |det d values / d u|; traced."""
    dtype = jnp.asarray(jax.tree.leaves(inputs.params)[0]).dtype
    found = problem.bijection.constrain(jnp.asarray(u, dtype), problem._totals(inputs))
    return placed(problem, inputs, found.values, found.rests), found.values, found.log_det


def placed(problem: Problem, inputs: Inputs, values: Any, rests: Any = None) -> Inputs:
    """The inputs with the free numbers at `values` (k,), in their own units; traced.

    `rests` are the derived numbers; default: what the values leave.
    """
    if rests is None:
        position = {one: i for i, one in enumerate(problem._places)}
        totals = problem._totals(inputs)
        rests = [
            total - sum(values[position[one]] for one in tie.members if one in position)
            for total, tie in zip(totals, problem._ties, strict=True)
        ]
    moved = {one: values[i] for i, one in enumerate(problem._places)}
    moved |= {tie.rest: rests[i] for i, tie in enumerate(problem._ties)}
    params = _replaced(inputs.params, {p: v for p, v in moved.items() if p.group == "params"})
    inputs = inputs._replace(params=params)
    first = {p: v for p, v in moved.items() if p.group == "initial"}
    if first:
        initial = _first_state(problem, inputs) if inputs.initial is None else inputs.initial
        inputs = inputs._replace(initial=_replaced(initial, first))
    return inputs


def _replaced(record: Any, moved: Mapping[Place, Any]) -> Any:
    changes: dict[str, Any] = {}
    for one, value in moved.items():
        if not one.element:
            changes[one.key] = value
            continue
        array = jnp.asarray(changes.get(one.key, getattr(record, one.key)))
        changes[one.key] = array.at[one.element].set(value)
    return record.replace(**changes) if changes else record


def _first_state(problem: Problem, inputs: Inputs) -> Any:
    """The state before the first period, as the model has it."""
    model = problem.model
    if model.random_start:
        raise TypeError(f"{model.name} draws its initial state: give it whole, initial=State(...).")
    from .._simulate import _canonical_state, float_dtype

    first = jax.tree.map(lambda leaf: leaf[0], inputs.scenario)
    state = model.initial_state(model.constrain(inputs.params), first)
    return _canonical_state(model, state, float_dtype(inputs))


def _at(inputs: Inputs, one: Place) -> Any:
    record = inputs.initial if one.group == "initial" else inputs.params
    value = getattr(record, one.key)
    return value[one.element] if one.element else value


@functools.partial(jax.jit, static_argnums=0)
def _params(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return problem.model.constrain(_moved(problem, u, inputs)[0].params)


@functools.partial(jax.jit, static_argnums=0)
def _values(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return _moved(problem, u, inputs)[1]


@functools.partial(jax.jit, static_argnums=0)
def _path(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return trajectory(problem._plan, _moved(problem, u, inputs)[0])


def errors(problem: Problem, inputs: Inputs) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Model less data of each series, times sqrt(weight), and the residuals of the moments; traced."""
    path = trajectory(_lean(problem), inputs)
    series = tuple(one.errors(path) for one in problem.series)
    moments = []
    for one, root in zip(problem.moments, problem._roots, strict=True):
        found = jnp.atleast_1d(jnp.asarray(one.of(path)))
        if found.shape != (len(root),):
            raise ValueError(f"{one.name!r} gives {found.shape}, its target is ({len(root)},).")
        target = np.atleast_1d(np.asarray(one.target)).astype(found.dtype)
        moments.append(root.astype(found.dtype) @ (found - target))
    return series, tuple(moments)


def _lean(problem: Problem) -> Plan:
    """Without the variables that nobody looks at, where functions of the path do not."""
    if problem.moments or any(one.observed.of is not None for one in problem.series):
        return problem._plan
    read = {place[0] for one in problem.series for place in one.reads if place is not None}
    return problem._plan._replace(recorded=tuple(sorted(read)))


def weighted(problem: Problem, inputs: Inputs, scales: Any) -> Any:
    """The residuals (m,), for a standard deviation of the errors of each series; traced."""
    series, moments = errors(problem, inputs)
    parts = [e / jnp.asarray(scales[i], e.dtype) for i, e in enumerate(series)]
    return jnp.concatenate([*parts, *moments])


@functools.partial(jax.jit, static_argnums=0)
def _residuals(problem: Problem, u: Any, inputs: Inputs, scales: Any) -> Any:
    return weighted(problem, _moved(problem, u, inputs)[0], scales)


@functools.partial(jax.jit, static_argnums=0)
def _cost(problem: Problem, u: Any, inputs: Inputs, scales: Any) -> Any:
    return (_residuals(problem, u, inputs, scales) ** 2).sum() / 2


@functools.partial(jax.jit, static_argnums=0)
def _log_likelihood(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return likelihood(problem, _moved(problem, u, inputs)[0])


def likelihood(problem: Problem, inputs: Inputs) -> Any:
    """The log-likelihood of inputs in their own units; traced."""
    series, moments = errors(problem, inputs)
    total = jnp.zeros((), (*series, *moments)[0].dtype)
    for one, found in zip(problem.series, series, strict=True):
        squares, n = (found**2).sum(), one.size
        if one.sigma is None:
            total = total - n / 2 * (jnp.log(squares / n) + LOG_2PI + 1)
        else:
            total = total - squares / (2 * one.sigma**2) - n * (math.log(one.sigma) + LOG_2PI / 2)
        total = total + n / 2 * math.log(one.observed.weight)
    for found in moments:
        total = total - (found**2).sum() / 2
    return jnp.where(jnp.isnan(total), -jnp.inf, total)


@functools.partial(jax.jit, static_argnums=0)
def _log_prior(problem: Problem, u: Any, inputs: Inputs) -> Any:
    _, values, log_det = _moved(problem, u, inputs)
    return prior_density(problem, values) + log_det


def prior_density(problem: Problem, values: Any) -> Any:
    """The log density of the priors at values (k,), in the parameters' own units; traced."""
    total = jnp.zeros((), values.dtype)
    for i, name in enumerate(problem.names):
        if name in problem.priors:
            total = total + problem.priors[name].logpdf(values[i]) - math.log(problem._mass[name])
    return total


@functools.partial(jax.jit, static_argnums=0)
def _log_density(problem: Problem, u: Any, inputs: Inputs) -> Any:
    return _log_prior(problem, u, inputs) + _log_likelihood(problem, u, inputs)


# What the arguments mean ------------------------------------------------------------------------------


def _float64(tree: Any) -> Any:
    """Floating arrays as float64 NumPy: calibration computes in float64 whatever the inputs' dtype."""

    def one(leaf: Any) -> Any:
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.asarray(leaf, np.float64)
        return leaf

    return jax.tree.map(one, tree)


def _base(model: Model, params: Any, fixed: Mapping[str, Any]) -> Any:
    """The parameters where nothing is moved."""
    if params is None:
        return model.params(**fixed)
    if not fixed:
        return params
    given = {name: getattr(params, name) for name in params.fields}
    derived = {constraint.derived for constraint in model.constraints}
    given |= {model.Params.key_of(name): value for name, value in fixed.items()}
    return model.params(**{k: v for k, v in given.items() if k not in derived})


def _check_fixed(
    model: Model, fixed: Mapping[str, Any], free: Mapping[Place, Any], tied: Sequence[Any]
) -> None:
    rests = {tie.rest for tie in tied}
    for name in fixed:
        key = model.Params.key_of(name)
        for one in places(model, key):
            if one in free or one in rests:
                whole = all(p in free for p in places(model, key))
                if whole or one in rests:
                    raise ValueError(
                        f"{name!r} is both fixed and free, or derived from what is free."
                    )


def _columns(model: Model, scenario: Any) -> dict[str, str]:
    """The series of a scenario that are columns of the data."""
    if not isinstance(scenario, Mapping):
        return {}
    named = {model.Scenario.key_of(name): value for name, value in scenario.items()}
    return {key: value for key, value in named.items() if isinstance(value, str)}


def _length(model: Model, scenario: Any, shocks: Any, noise: Any) -> int | None:
    """The horizon that given paths have."""
    if isinstance(scenario, Mapping):
        for name, value in scenario.items():
            shape = model.Scenario.fields[model.Scenario.key_of(name)].shape
            if not isinstance(value, str) and np.ndim(value) > len(shape):
                return np.shape(value)[0]
        return None
    fields = {} if scenario is None or isinstance(scenario, str) else model.Scenario.fields
    for key, field in fields.items():
        value = getattr(scenario, key)
        if np.ndim(value) > len(field.shape):
            return np.shape(value)[0]
    for label, value in (shocks or {}).items():
        field = model.Params.fields[model.split_shock(label)[0]]
        if np.ndim(value) > len(field.shape):
            return np.shape(value)[0]
    return None


def _scenario(
    model: Model, scenario: Any, columns: Mapping[str, str], table: Mapping[str, Any], calendar: Any
) -> Any:
    """Exogenous paths, those that are columns of the data laid out over the run."""
    if not isinstance(scenario, Mapping):
        return scenario
    given = {model.Scenario.key_of(name): value for name, value in scenario.items()}
    for key, column in columns.items():
        if column not in table:
            raise KeyError(
                f"The data have no column {column!r} for the series {key!r}. Columns: {', '.join(table)}."
            )
        values, _, dates = lay_out(column, table[column][0], table[column][1], calendar)
        missing = [date for date, value in zip(dates, values, strict=True) if np.isnan(value)]
        if len(values) != calendar.periods:
            raise ValueError(
                f"The column {column!r} must be of the run's frequency, {calendar.freq}."
            )
        if missing:
            raise ValueError(
                f"The series {key!r} needs a value in every period of the run, {calendar.span}; the column "
                f"{column!r} has none in {len(missing)} of them, the first {missing[0]}."
            )
        given[key] = values
    return model.scenario(periods=calendar.periods, **given)
