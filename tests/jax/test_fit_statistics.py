"""What a fit says of its uncertainty, against closed forms: intervals, profiles, priors, few data."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from macrostat_jax import Model, Record, Scalar, estimation, exogenous, index, param
from macrostat_jax.estimation._bijections import interval


class Params(Record):
    level: Scalar = param(0.5)
    slope: Scalar = param(1.0)
    bend: Scalar = param(0.5, bounds=(-2, 2))


class Scenario(Record):
    x: Scalar = exogenous(0.0)


class State(Record):
    y: Scalar = index("y")
    z: Scalar = index("z")
    w: Scalar = index("w")


def step(prior: State, p: Params, s: Scenario) -> State:
    return State(
        y=p.level + p.slope * s.x,
        z=p.slope - p.level * s.x,
        w=p.bend**2 + 0.05 * p.bend * s.x,
    )


LINE = Model("LINE", Params, Scenario, State, lambda p, s: State.filled(0.0), step)
RNG = np.random.default_rng(7)
X = RNG.normal(size=9)
Y = 0.5 - 0.5 * X + 0.8 * RNG.normal(size=9)
Z = -0.5 - 0.5 * X + 0.1 * RNG.normal(size=9)
DESIGN = np.stack([np.ones(9), X], axis=1)


def line(data: dict[str, Any], free: Any = ("level", "slope"), **more: Any) -> estimation.Problem:
    count = len(next(iter(data.values())))
    scenario = LINE.scenario(periods=count, x=X[:count])
    return estimation.Problem(LINE, data, free=free, scenario=scenario, **more)


def closed_form() -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors of the regression of Y."""
    found, (squares,), *_ = np.linalg.lstsq(DESIGN, Y, rcond=None)
    return found, np.sqrt(squares / 7 * np.diag(np.linalg.inv(DESIGN.T @ DESIGN)))


# Intervals ----------------------------------------------------------------------------------------


def test_intervals_of_a_regression_are_student_s():
    """Nine observations leave 7 degrees of freedom: 2.36 standard errors, not 1.96."""
    found = estimation.fit(line({"y": Y}))
    estimates, errors = closed_form()
    table = found.table()
    half = stats.t.ppf(0.975, 7) * errors
    np.testing.assert_allclose(table["low_95"], estimates - half, rtol=1e-5)
    np.testing.assert_allclose(table["high_95"], estimates + half, rtol=1e-5)
    known = estimation.fit(line({"y": Y}, sigma=0.8)).table()
    wide = known["high_95"] - known["low_95"]
    np.testing.assert_allclose(wide, 2 * stats.norm.ppf(0.975) * known["standard_error"], rtol=1e-9)
    band = estimation.bands(found, "y")
    np.testing.assert_allclose(
        band.high["y"] - band.low["y"], 2 * stats.t.ppf(0.95, 7) * band.sd["y"], rtol=1e-9
    )


@pytest.mark.parametrize("half", [1e-3, 0.1, 3.0, 1e4, np.inf])
def test_an_interval_does_not_leave_its_bounds(half):
    low, high = interval(0.3, half, -1.0, 2.0)
    centre = special.logit((0.3 + 1) / 3)
    reach = half * 3 / (1.3 * 1.7)  # the derivative of the logit
    expected = -1 + 3 * special.expit(centre + np.array([-reach, reach]))
    np.testing.assert_allclose([low, high], expected, rtol=1e-12)
    assert -1 <= low < 0.3 < high <= 2
    below, above = interval(0.3, half, 0.0, np.inf), interval(-0.3, half, -np.inf, 0.0)
    assert 0 <= below[0] < 0.3 < below[1] and np.log(0.3 / max(below[0], 1e-300)) >= 0
    np.testing.assert_allclose(above, [-below[1], -below[0]])
    np.testing.assert_allclose(interval(0.3, half, -np.inf, np.inf), [0.3 - half, 0.3 + half])
    if half < 0.01:  # to first order, all are the same
        np.testing.assert_allclose([low, high, *below], [0.299, 0.301, 0.299, 0.301], atol=1e-5)


def test_at_a_bound_there_is_no_interval():
    assert np.isnan(interval(2.0, 0.1, -1.0, 2.0)).all()


def test_the_interval_of_a_badly_known_parameter_stays_within_bounds():
    found = estimation.fit(line({"y": Y}, {"level": (-0.1, 3.0), "slope": None}, sigma=3.0))
    row = found.table().loc["level"]
    assert row["estimate"] - 1.96 * row["standard_error"] < -0.1 < row["low_95"]


# Profiles -----------------------------------------------------------------------------------------


def test_the_profile_with_an_unknown_error_is_student_s_interval():
    """n log(1 + t^2 / f) is the drop of twice the likelihood of a regression, exactly."""
    found = estimation.fit(line({"y": Y}))
    profile = found.profile("slope", points=41)
    estimates, errors = closed_form()
    half = float(stats.t.ppf(0.975, 7) * errors[1])
    np.testing.assert_allclose(
        profile.interval, estimates[1] + np.array([-half, half]), atol=3e-3 * half
    )
    z = (profile.values - estimates[1]) / errors[1]
    np.testing.assert_allclose(profile.drop, 9 * np.log1p(z**2 / 7), atol=1e-4)
    # The level that is drawn is that at which the interval ends.
    (axis,) = profile.plot().axes
    (level,) = [line for line in axis.lines if line.get_label() == "95% level"]
    assert np.asarray(level.get_ydata())[0] == pytest.approx(
        9 * np.log1p((half / errors[1]) ** 2 / 7)
    )


def test_the_profile_estimates_the_errors_of_each_series_anew():
    """Two series that see the same parameters, with errors of unknown size: against scipy's maximum."""
    found = estimation.fit(line({"y": Y, "z": Z}))
    profile = found.profile("slope", points=9, width=6.0)

    def minus(level: float, slope: float) -> float:
        first, second = Y - level - slope * X, Z - slope + level * X
        return float(9 / 2 * (np.log(first @ first) + np.log(second @ second)))

    top = optimize.minimize(lambda p: minus(*p), found.estimates, tol=1e-12).fun
    for value, drop in zip(profile.values, profile.drop, strict=True):
        best: Any = optimize.minimize_scalar(lambda level, at=value: minus(level, at), (-1, 2))
        assert drop == pytest.approx(2 * (best.fun - top), rel=1e-3, abs=1e-4)


def test_a_profile_that_meets_a_better_fit_says_so():
    """The square of the bend fits at 0.9 nearly as well as at -0.9, where the fit did not look."""
    data = {"w": 0.9**2 - 0.05 * 0.9 * X}
    found = estimation.fit(line(data, {"bend": None}, sigma=0.02, start={"bend": 0.8}))
    assert found.success and found.values["bend"] > 0
    profile = found.profile("bend", points=81, width=1e4)
    assert "There is a better fit near -0.89999" in str(profile)


# Priors -------------------------------------------------------------------------------------------

LIMITED = {
    "inside": (estimation.Uniform(0.2, 0.9), None),
    "below": (estimation.Uniform(0.9, 1.4), 0.9),
    "beyond one end": (estimation.Beta(1.0, 1.0, 0.9, 5.0), 0.9),
}


@pytest.mark.parametrize("method", ["lm", "bounded"])
@pytest.mark.parametrize("name", LIMITED)
def test_nothing_is_found_where_a_prior_has_no_density(name, method):
    """The data want a level of about 0.5: outside of the prior there is none, whatever they say."""
    prior, end = LIMITED[name]
    start = 0.5 * (prior.low + min(prior.high, 2.0))
    problem = line(
        {"y": Y}, ["level", "slope"], priors={"level": prior}, sigma=0.8, start={"level": start}
    )
    found = estimation.fit(problem, method)
    assert prior.low <= found.values["level"] <= prior.high
    if method == "bounded" and end is not None:  # which other searches only come near to
        assert found.success
        assert found.at_bound == ("level",) and found.values["level"] == pytest.approx(
            end, abs=1e-4
        )
    assert problem.bounds[0][0] == prior.low and problem.bounds[1][0] == prior.high


def test_a_start_outside_of_a_prior_is_said():
    with pytest.raises(
        ValueError, match=r"starts at 0.5, outside the bounds \(1, 2\) of its prior Unif"
    ):
        line({"y": Y}, priors={"level": estimation.Uniform(1, 2)})


@pytest.mark.parametrize(
    "prior",
    [
        estimation.Gamma(3.0, 0.5),
        estimation.LogNormal(0.0, 0.4),
        estimation.InverseGamma(3.0, 4.0),
        estimation.HalfNormal(0.5),
        estimation.Exponential(0.5),
        estimation.Beta(4.0, 2.0, 0.0, 3.0),
    ],
    ids=str,
)
def test_least_squares_take_any_prior_with_a_mode(prior):
    """The mode of the posterior of one parameter, by scipy."""
    problem = line({"y": Y}, ["level"], priors={"level": prior}, sigma=0.8)

    def minus(level: float) -> float:
        errors = (level + X - Y) / 0.8
        return float(errors @ errors) / 2 - float(prior._frozen().logpdf(level))

    best: Any = optimize.minimize_scalar(
        minus, bounds=(1e-6, 2.9), method="bounded", options={"xatol": 1e-9}
    )
    for method in ("lm", "bounded"):
        found = estimation.fit(problem, method)
        assert found.success, found.outcome
        error = found.standard_errors["level"]
        assert abs(found.values["level"] - best.x) < 0.01 * error
        # The curvature of the log posterior density, by differences.
        bend = (minus(best.x + 1e-4) - 2 * minus(best.x) + minus(best.x - 1e-4)) / 1e-8
        assert error == pytest.approx(1 / np.sqrt(bend), rel=2e-2)


def test_a_prior_without_a_maximum_needs_another_search():
    problem = line({"y": Y}, ["level"], priors={"level": estimation.Gamma(0.5, 1.0)}, sigma=2.0)
    with pytest.raises(
        ValueError, match="the priors of level are not, as their densities have no max"
    ):
        estimation.fit(problem)


# What a report says -------------------------------------------------------------------------------


def test_estimates_that_move_together_are_named():
    """Of y = level + slope x with x in a narrow band far from 0 the data tell one number."""
    far, y = 30 + 0.2 * X, 1.0 + 0.5 * RNG.normal(size=9)
    scenario = LINE.scenario(periods=9, x=far)
    problem = estimation.Problem(LINE, {"y": y}, free=["level", "slope"], scenario=scenario)
    found = estimation.fit(problem)
    design = np.stack([np.ones(9), far], axis=1)
    covariance = np.linalg.inv(design.T @ design)
    share = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert (
        f"hardly tell apart, by the correlation of the estimates: level and slope ({share:+.3f})."
        in (str(found))
    )
    assert "tell apart" not in str(estimation.fit(line({"y": Y})))


@pytest.mark.parametrize("missing", [(), (3, 7)])
def test_the_autocorrelation_of_errors_is_that_of_their_pairs(missing):
    """Of neighbouring dates, by their own lengths: never beyond 1, however many are missing."""
    y = np.array([5.0, 5, 5, 4, 1, 1, 1, 2, 3])
    y[list(missing)] = np.nan
    problem = line({"y": y}, ["level"], fixed={"slope": 0.0}, sigma=1.0)
    (one,) = estimation.fit(problem).series
    error = one.model - one.data
    rows = np.array([int(date) for date in one.dates])
    pairs = np.flatnonzero(np.diff(rows) == 1)
    first, second = error[pairs], error[pairs + 1]
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert one.autocorrelation == pytest.approx(expected) and abs(expected) <= 1 + 1e-12


# Many starts --------------------------------------------------------------------------------------


def test_many_starts_are_judged_with_the_priors():
    """Of two optima the data prefer the negative one a little, and the prior the positive one a lot."""
    data = {"w": 0.9**2 - 0.05 * 0.1 * X}  # of -0.1 the small second part, of both the first
    free, prior = {"bend": None}, {"bend": estimation.Normal(0.9, 0.2)}
    starts = np.array([[-1.0], [1.0]])
    bare = estimation.fit(line(data, free, sigma=0.05), starts=starts)
    assert bare.success and bare.values["bend"] < 0
    found = estimation.fit(line(data, free, sigma=0.05, priors=prior), starts=starts)
    assert found.success and found.values["bend"] == pytest.approx(0.9, abs=0.05)
    assert found.starts is not None and found.starts.best_values["bend"] < 0


def test_the_report_says_from_how_many_starts():
    problem = line({"y": Y})
    assert "fit by lm from one start, 9 observations" in str(estimation.fit(problem))
    assert "fit by lm from 4 starts, 9 observations" in str(estimation.fit(problem, starts=4))


# As many parameters as data -------------------------------------------------------------------------


def test_without_degrees_of_freedom_errors_are_unknown_not_zero():
    found = estimation.fit(line({"y": Y[:2]}))
    assert found.success and np.isnan(found.covariance).all()
    assert "nothing is left to estimate the errors from" in str(found)
    band = estimation.bands(found, "y")
    assert np.isnan(band.sd["y"]).all() and "there are as many parameters as data" in str(band)


def test_without_degrees_of_freedom_a_search_cut_short_is_no_success():
    problem = line({"w": np.array([0.3])}, ["bend"], start={"bend": 1.9})
    found = estimation.fit(problem, steps=1)
    assert not found.success and "Not at an optimum" in found.outcome


# What is not identified, in other units ---------------------------------------------------------------


def test_what_is_not_identified_does_not_hang_on_units():
    """Data see `seen` alone: `apart` is free to move the output, whatever the unit of `tiny`."""

    class Numbers(Record):
        tiny: Scalar = param(1e-9, bounds=(0, 1e-8))
        apart: Scalar = param(1.0)

    class Two(Record):
        seen: Scalar = index("seen")
        both: Scalar = index("both")

    def both(prior: Two, p: Numbers, s: Any) -> Two:
        return Two(seen=1e9 * p.tiny, both=1e9 * p.tiny + p.apart)

    empty = type("None_", (Record,), {})
    model = Model("UNITS", Numbers, empty, Two, lambda p, s: Two.filled(0.0), both)
    data = {"seen": 1.0 + 0.1 * RNG.normal(size=12)}
    found = estimation.fit(estimation.Problem(model, data, free=["tiny", "apart"], sigma=0.1))
    band = estimation.bands(found, ["seen", "both"])
    assert np.isfinite(band.sd["seen"]).all() and np.isinf(band.sd["both"]).all()
    assert jnp.isinf(found.standard_errors["apart"])
