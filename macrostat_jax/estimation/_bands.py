"""How uncertain what a model says is, given how uncertain its parameters are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._steady import steady_state
from .._trajectory import trajectory
from ._identifiability import RESOLUTION
from ._programs import placed
from ._room import sizes as _sizes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

RUNS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Response:
    """For `bands`: how variables respond to a shock, to first order.

    Attributes:
        series: the exogenous series that is shocked. variables: of the response.
        period: when, counted from 0. size: of the shock, in the unit of the series.
    """

    series: str
    variables: str | tuple[str, ...]
    period: int = 0
    size: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", _names(self.variables))


@dataclasses.dataclass(frozen=True)
class Rest:
    """For `bands`: the steady state that variables come to under one period of the scenario.

    Attributes:
        variables: which ones. period: of the scenario that stays; default: the last.
    """

    variables: str | tuple[str, ...]
    period: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", _names(self.variables))


@dataclasses.dataclass(frozen=True, eq=False)
class Bands:
    """What a model says, with its uncertainty: `print` it, draw it with `plot`, `to_pandas`.

    Attributes:
        problem: whose. what: "path", "response", "steady state" or "function".
        source: "fit", of which the delta method makes bands, or "posterior".
        level: the share that a band holds, in every period for itself.
        at: name -> the value at the estimates; of a posterior: the mean.
        median, low, high, sd: name -> of the same shape, (T, *shape) for paths.
        draws: of a posterior: how many were followed. failed: of them, those without a finite result. They
            are no part of the statistics.
    """

    problem: Any
    what: str
    source: str
    level: float
    at: dict[str, np.ndarray]
    median: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    sd: dict[str, np.ndarray]
    start: int = 0
    draws: int = 0
    failed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.at)

    @property
    def over_time(self) -> bool:
        """Whether the first axis is that of the periods."""
        return self.what in ("path", "response")

    def sentence(self) -> str:
        """What these bands are, in words."""
        how = (
            "by the delta method" if self.source == "fit" else f"of {self.draws:,} posterior draws"
        )
        what = "" if self.what == "function" else f"the {self.what} of "
        text = f"{self.problem.model.name}: {self.level:.0%} bands {how} for {what}{', '.join(self.names)}."
        if self.failed:
            text += f" {self.failed:,} of {self.draws:,} draws lead to no finite result and are left out."
        if loose := [n for n, sd in self.sd.items() if np.isinf(sd).any()]:
            text += (
                f" The data say nothing about {', '.join(loose)} where the band is infinite: it hangs on "
                "parameters that are not identified."
            )
        if any(np.isnan(sd).any() for sd in self.sd.values()):
            text += " How wide they are is unknown: there are as many parameters as data."
        return text

    def to_pandas(self) -> pd.DataFrame:
        """A row per number: (name, period) for paths, with estimate, median, low, high and sd."""
        import pandas as pd

        columns: dict[str, list[float]] = {}
        index = []
        for name, value in self.at.items():
            index += [(name, *place) for place in self._places(value)]
        for label, part in self._parts().items():
            columns[label] = [x for value in part.values() for x in np.ravel(value).tolist()]
        width = max(len(one) for one in index)
        rows = [one + ("",) * (width - len(one)) for one in index]
        names = ["name", "period" if self.over_time else "element", "element"][:width]
        return pd.DataFrame(columns, pd.MultiIndex.from_tuples(rows, names=names))

    def _parts(self) -> dict[str, dict[str, np.ndarray]]:
        return {
            "estimate": self.at,
            "median": self.median,
            "low": self.low,
            "high": self.high,
            "sd": self.sd,
        }

    def periods(self) -> list[str]:
        """The labels of the first axis, where that is time."""
        count = len(next(iter(self.at.values())))
        if self.what == "response":
            return [str(i) for i in range(count)]
        return self.problem.calendar.labels()[:count]

    def _places(self, value: np.ndarray) -> list[tuple[Any, ...]]:
        times = self.periods() if self.over_time else []
        found = []
        for place in np.ndindex(*np.shape(value)):
            inner = place[1:] if self.over_time else place
            label = (",".join(map(str, inner)),) if inner else ()
            found.append(((times[place[0]],) if self.over_time else ()) + label)
        return found

    def to_xarray(self) -> xr.Dataset:
        """A variable per name, over the statistic and its own axes."""
        import xarray as xr

        parts = self._parts()
        variables = {}
        for name, value in self.at.items():
            axes = ["period", *(f"{name}_{i}" for i in range(1, np.ndim(value)))] if self.over_time else [
                f"{name}_{i}" for i in range(np.ndim(value))
            ]  # fmt: skip
            variables[name] = (
                ["statistic", *axes],
                np.stack([part[name] for part in parts.values()]),
            )
        coords: dict[str, Any] = {"statistic": list(parts)}
        if self.over_time:
            coords["period"] = self.periods()
        return xr.Dataset(variables, coords, {"level": self.level, "source": self.source})

    def __str__(self) -> str:
        table = self.to_pandas()
        with_end = table if len(table) <= 24 else table.groupby(level="name", sort=False).tail(1)
        note = "" if len(table) <= 24 else "\n(the last of each; to_pandas() has all)"
        return f"{self.sentence()}\n\n{with_end.to_string(float_format='{:.5g}'.format)}{note}"

    def plot(self) -> Figure:
        """A panel per name: the band, the estimate and, where they are observed, the data."""
        from ..plot import _bands

        return _bands.bands(self)


def bands(
    source: Any,
    of: str | Sequence[str] | Response | Rest | Callable[[Any], Any],
    *,
    level: float = 0.9,
    draws: int = 1000,
) -> Bands:
    """How uncertain an output of a model is, given what is known of its parameters.

    Args:
        source: a `Fit`: the delta method makes the bands of its covariance, to first order; or a
            `Posterior`: the bands are quantiles over its draws.
        of: variables, whose paths are meant; a `Response` or `Rest`; or a function of the path of one run, a
            `State` of shapes (T, *shape), to numbers, an array or a dict of them. It is compiled, once per
            function object.
        level: the share that a band holds.
        draws: of a posterior, at most so many are followed, evenly spread.

    Returns:
        `Bands`. They hold what the parameters leave open; errors of measurement come on top.

    Raises:
        KeyError: an unknown variable or series. ValueError: a level that is no share; a fit that is not at
            a finite point. TypeError: neither a fit nor a posterior.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level is a share between 0 and 1, not {level!r}.")
    problem = getattr(source, "problem", None)
    if problem is None or not (hasattr(source, "uncertainty") or hasattr(source, "flat_u")):
        raise TypeError(f"bands takes a Fit or a Posterior, not {type(source).__name__}.")
    plan = _Output(problem, *_checked(problem, of))
    with jax.enable_x64(True):
        if hasattr(source, "uncertainty"):
            return _delta(plan, source, level)
        return _quantiles(plan, source, level, draws)


class _Output(NamedTuple):
    """What is asked of a run, as a program is specialised to it."""

    problem: Any
    what: str
    of: Any


def _names(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _checked(problem: Any, of: Any) -> tuple[str, Any]:
    model, horizon = problem.model, problem.calendar.periods

    def variables(given: Any) -> tuple[str, ...]:
        found = tuple(model.State.key_of(name) for name in _names(given))
        if not found:
            raise ValueError("Name the variables whose bands are wanted.")
        return found

    if isinstance(of, Response):
        if not 0 <= of.period < horizon:
            raise ValueError(f"period must lie in 0 to {horizon - 1}, not {of.period}.")
        key = model.Scenario.key_of(of.series)
        return "response", Response(key, variables(of.variables), of.period, float(of.size))
    if isinstance(of, Rest):
        if not -horizon <= of.period < horizon:
            raise ValueError(f"period must lie in 0 to {horizon - 1}, not {of.period}.")
        return "steady state", Rest(variables(of.variables), of.period)
    if callable(of):
        return "function", of
    return "path", variables(of)


def _output(plan: _Output, inputs: Any) -> dict[str, Any]:
    """Name -> array, of inputs in their own units; traced."""
    problem, of = plan.problem, plan.of
    if plan.what == "function":
        found = of(trajectory(problem._plan, inputs))
        if isinstance(found, dict):
            return {str(name): jnp.asarray(value) for name, value in found.items()}
        return {getattr(of, "__name__", "function").strip("<>"): jnp.asarray(found)}
    if plan.what == "steady state":
        row = jax.tree.map(lambda x: jnp.asarray(x)[of.period], inputs.scenario)
        found = steady_state(problem.model, inputs.params, row)
        return {name: getattr(found, name) for name in of.variables}
    if plan.what == "path":
        path = trajectory(problem._plan, inputs)
        return {name: getattr(path, name) for name in of}
    return _response(plan, inputs)


def _response(plan: _Output, inputs: Any) -> dict[str, Any]:
    of = plan.of
    lean = plan.problem._plan._replace(recorded=tuple(sorted(of.variables)))
    level = jnp.asarray(getattr(inputs.scenario, of.series))
    impulse = jnp.zeros_like(level).at[of.period].set(of.size)

    def run(series: Any) -> dict[str, Any]:
        scenario = inputs.scenario.replace(**{of.series: series})
        path = trajectory(lean, inputs._replace(scenario=scenario))
        return {name: getattr(path, name)[of.period :] for name in of.variables}

    return jax.jvp(run, (level,), (impulse,))[1]


# The delta method ---------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def _linear(plan: _Output, values: Any, inputs: Any) -> Any:
    """The output at the parameters' values (k,), and its derivatives by them."""

    def at(x: Any) -> Any:
        found = _output(plan, placed(plan.problem, inputs, x))
        return found, found

    slope, found = jax.jacfwd(at, has_aux=True)(values)
    return found, slope


def _delta(plan: _Output, fit: Any, level: float) -> Bands:
    problem = plan.problem
    values = np.asarray(fit.estimates)
    found, slopes = _compile.call(_linear, plan, values, problem.inputs)
    at = {name: np.asarray(found[name]) for name in _order(plan, found)}
    width, sizes = fit.quantile((1 + level) / 2), _sizes(problem, values)
    sd = {name: _spread(fit.uncertainty, np.asarray(slopes[name]), sizes) for name in at}
    if not all(np.isfinite(value).all() for value in at.values()):
        raise ValueError(f"{problem.model.name}: the output is not finite at the fit's estimates.")
    low = {name: at[name] - width * sd[name] for name in at}
    high = {name: at[name] + width * sd[name] for name in at}
    return Bands(problem, plan.what, "fit", level, at, at, low, high, sd, _start(plan))


def _spread(known: Any, slope: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Standard deviations (*out,) for derivatives (*out, k): infinite along what is not identified.

    NaN where there are as many parameters as data, whose errors are then unknown. `sizes` (k,): a large
    change of each parameter.
    """
    rows = slope.reshape(-1, slope.shape[-1])
    held = np.array([name in known.at_bound for name in known.names])
    covariance = np.where(held[:, None] | held, 0.0, known.covariance)
    sd = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", rows, covariance, rows), 0.0))
    most = np.abs(rows * sizes).max(axis=1, initial=0.0)
    for one in known.unidentified:
        direction = np.array([one.get(name, 0.0) for name in known.names])
        # As far as one parameter of the direction can go. What cancels up to rounding does not move the output.
        moving = direction != 0
        direction *= (sizes[moving] / np.abs(direction[moving])).min()
        sd[np.abs(rows @ direction) > RESOLUTION * most] = np.inf
    return sd.reshape(slope.shape[:-1])


def _order(plan: _Output, found: dict[str, Any]) -> tuple[str, ...]:
    """The names as they were asked for: JAX sorts those of a dict."""
    if plan.what == "path":
        return plan.of
    return tuple(found) if plan.what == "function" else plan.of.variables


def _start(plan: _Output) -> int:
    return plan.of.period if plan.what == "response" else 0


# Quantiles over draws -----------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def _followed(plan: _Output, values: Any, inputs: Any) -> Any:
    def one(x: Any) -> Any:
        return _output(plan, placed(plan.problem, inputs, x))

    return jax.lax.map(one, values, batch_size=min(RUNS_AT_ONCE, len(values)))


def _quantiles(plan: _Output, posterior: Any, level: float, draws: int) -> Bands:
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 2:
        raise ValueError(f"draws must be a whole number, at least 2, not {draws!r}.")
    flat = posterior.flat
    rows = np.unique(np.linspace(0, len(flat) - 1, min(draws, len(flat))).astype(int))
    found = _compile.call(_followed, plan, flat[rows], plan.problem.inputs)
    runs = {name: np.asarray(found[name]) for name in _order(plan, found)}
    good = np.ones(len(rows), bool)
    for value in runs.values():
        good &= np.isfinite(value.reshape(len(rows), -1)).all(axis=1)
    if good.sum() < 2:
        raise ValueError(
            f"{plan.problem.model.name}: {good.sum()} of {len(rows)} draws lead to a finite result."
        )
    shares = [(1 - level) / 2, 0.5, (1 + level) / 2]
    low, median, high = (
        {name: np.quantile(value[good], share, axis=0) for name, value in runs.items()}
        for share in shares
    )
    mean = {name: value[good].mean(axis=0) for name, value in runs.items()}
    sd = {name: value[good].std(axis=0, ddof=1) for name, value in runs.items()}
    return Bands(
        plan.problem, plan.what, "posterior", level, mean, median, low, high, sd, _start(plan),
        len(rows), int((~good).sum()),
    )  # fmt: skip
