"""Bands of paths, responses and steady states: against closed forms."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from macrostat_jax import Model, Record, Scalar, exogenous, index, models, param, simulate
from macrostat_jax.estimation import (
    Observed,
    Posterior,
    Problem,
    Response,
    Rest,
    bands,
    fit,
)

pytest.importorskip("optimistix")


class Params(Record):
    level: Scalar = param(0.1)
    slope: Scalar = param(1.0)
    other: Scalar = param(0.5, bounds=(0, 1))
    apart: Scalar = param(0.4, bounds=(0, 1))


class Scenario(Record):
    z: Scalar = exogenous(0.0)


class State(Record):
    y: Scalar = index("y")
    seen: Scalar = index("seen")
    hidden: Scalar = index("hidden")


def line(prior: State, p: Params, s: Scenario) -> State:
    return State(y=p.level + p.slope * s.z, seen=p.other + p.apart, hidden=p.other - p.apart)


LINE = Model("LINE", Params, Scenario, State, lambda p, s: State.filled(0.0), line, periods=30)
Z = np.linspace(0.0, 3.0, 30)
X = np.stack([np.ones(30), Z], axis=1)
Y = 0.7 + 1.3 * Z + 0.4 * np.random.default_rng(5).normal(size=30)
WIDTH = stats.norm.ppf(0.95)


@functools.cache
def fitted(sigma: float | None = 0.4, all_of_it: bool = False) -> Any:
    data, free = {"y": Y}, ["level", "slope"]
    if all_of_it:
        data, free = data | {"seen": np.full(30, 0.8)}, [*free, "other", "apart"]
    return fit(
        Problem(LINE, data, list(data), free, scenario=LINE.scenario(z=Z), sigma=sigma), "lm"
    )


def test_a_regression_line_has_its_textbook_band():
    """var(x'b) = x' (X'X)^-1 x sigma^2, the mean line by least squares."""
    found = bands(fitted(), "y")
    coefficients = np.linalg.lstsq(X, Y, rcond=None)[0]
    sd = 0.4 * np.sqrt(np.einsum("ij,jk,ik->i", X, np.linalg.inv(X.T @ X), X))
    np.testing.assert_allclose(found.at["y"], X @ coefficients, rtol=1e-7)
    np.testing.assert_allclose(found.sd["y"], sd, rtol=1e-9)
    np.testing.assert_allclose(found.high["y"] - found.low["y"], 2 * WIDTH * sd, rtol=1e-9)
    assert bands(fitted(), "y", level=0.5).high["y"][3] < found.high["y"][3]


def test_with_an_unknown_error_it_is_estimated():
    found = bands(fitted(None), "y")
    residuals = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    variance = residuals @ residuals / 28
    sd = np.sqrt(variance * np.einsum("ij,jk,ik->i", X, np.linalg.inv(X.T @ X), X))
    np.testing.assert_allclose(found.sd["y"], sd, rtol=1e-7)


def test_what_is_not_identified_has_an_infinite_band():
    """Of two parameters the data see the sum alone: it has a band, their difference none."""
    found = bands(fitted(0.4, True), ["seen", "hidden", "y"])
    assert found.names == ("seen", "hidden", "y")
    np.testing.assert_allclose(found.sd["seen"], 0.4 / np.sqrt(30), rtol=1e-6)
    assert np.isinf(found.sd["hidden"]).all()
    assert np.isfinite(found.sd["y"]).all()
    assert "The data say nothing about hidden" in found.sentence()
    found.plot().canvas.draw()


# A model with a steady state ------------------------------------------------------------------------


@functools.cache
def sim() -> Any:
    path, rng = simulate(models.GL06SIM, periods=60), np.random.default_rng(0)
    names = ["national_income", "household_money_stock"]
    data = {n: np.asarray(getattr(path, n)) + rng.normal(size=60) for n in names}
    free = ["tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings"]
    return fit(Problem(models.GL06SIM, data, names, free, sigma=1.0))


@functools.cache
def normal_posterior(count: int = 4000) -> Posterior:
    """Draws of the normal density that the fit's covariance stands for: no sampler, no nonlinearity."""
    one = sim()
    values = np.random.default_rng(1).multivariate_normal(one.estimates, one.covariance, (1, count))
    flat = np.zeros((1, count))
    u = one.problem.unconstrain(values.reshape(count, 3)).reshape(1, count, 3)
    return Posterior(one.problem, "normal", u, values, flat, flat > 1, flat, flat, flat < 1)


def test_the_steady_state_by_hand():
    """Y* = G / theta, H* = (1 - a1) / a2 (1 - theta) / theta G: their gradients give their errors."""
    one = sim()
    theta, a1, a2 = one.estimates
    income = np.array([-20 / theta**2, 0, 0])
    rest = (1 - theta) / theta * 20
    money = np.array([-20 / theta**2 * (1 - a1) / a2, -rest / a2, -(1 - a1) / a2**2 * rest])
    found = bands(one, Rest(("NationalIncome", "household_money_stock")))
    assert found.at["national_income"] == pytest.approx(20 / theta)
    for name, gradient in (("national_income", income), ("household_money_stock", money)):
        sd = np.sqrt(gradient @ one.covariance @ gradient)
        assert found.sd[name] == pytest.approx(sd, rel=1e-9)


def test_the_multiplier_by_hand():
    """In the period of the shock dY/dG = 1 / (1 - a1 (1 - theta)); before it nothing is shown."""
    one = sim()
    theta, a1, _ = one.estimates
    spent = 1 - a1 * (1 - theta)
    gradient = np.array([-a1, 1 - theta, 0]) / spent**2 * np.array([1, 1, 0])
    found = bands(one, Response("government_demand", "national_income", period=10, size=2.0))
    assert found.at["national_income"].shape == (50,)
    assert found.at["national_income"][0] == pytest.approx(2 / spent)
    sd = 2 * np.sqrt(gradient @ one.covariance @ gradient)
    assert found.sd["national_income"][0] == pytest.approx(sd, rel=1e-9)
    assert list(found.to_pandas().index[:2]) == [("national_income", "0"), ("national_income", "1")]


def last_share(path: Any) -> dict[str, Any]:
    return {"income": path.national_income[-1], "shares": path.tax_supply[-2:] / 20.0}


@pytest.mark.parametrize(
    "of", ["national_income", Rest("household_money_stock"), last_share,
           Response("government_demand", ("national_income", "household_money_stock"), 5)],
)  # fmt: skip
def test_both_kinds_of_bands_agree_where_the_posterior_is_normal(of):
    """Estimates are precise to 1 %, so the model is linear within their spread; up to sampling errors."""
    delta, drawn = bands(sim(), of), bands(normal_posterior(), of, draws=4000)
    assert delta.names == drawn.names and drawn.draws == 4000 and drawn.failed == 0
    for name, sd in delta.sd.items():
        error = sd / np.sqrt(4000) + 1e-12
        np.testing.assert_array_less(np.abs(drawn.at[name] - delta.at[name]), 6 * error + 0.02 * sd)
        np.testing.assert_allclose(
            drawn.sd[name], sd, rtol=4 / np.sqrt(2 * 4000) + 0.05, atol=1e-12
        )
        # A 5 % quantile of n normal draws has the standard error sqrt(.05 .95 / n) / density = 2.1 sd / n^.5.
        for side in ("low", "high"):
            gap = np.abs(getattr(drawn, side)[name] - getattr(delta, side)[name])
            np.testing.assert_array_less(gap, 4 * 2.1 * error + 0.1 * sd)


def test_draws_that_fail_are_counted_and_left_out():
    posterior = normal_posterior(100)
    values = posterior.values.copy()
    values[0, 7] = np.nan
    found = bands(dataclasses.replace(posterior, values=values), "national_income")
    assert (found.draws, found.failed) == (100, 1)
    assert np.isfinite(found.high["national_income"]).all()
    assert "1 of 100 draws lead to no finite result and are left out" in found.sentence()
    with pytest.raises(ValueError, match="0 of 100 draws lead to a finite result"):
        bands(dataclasses.replace(posterior, values=values * np.nan), "national_income")


def test_tables_and_pictures():
    found = bands(sim(), ["household_money_stock", "national_income"])
    table = found.to_pandas()
    assert table.shape == (120, 5) and table.index.names == ["name", "period"]
    assert table.loc[("national_income", "3"), "high"] == found.high["national_income"][3]
    data = found.to_xarray()
    assert data["national_income"].dims == ("statistic", "period")
    low = data["national_income"].sel(statistic="low", period="3")
    assert float(low) == found.low["national_income"][3]
    assert "90% bands by the delta method for the path of" in str(found)
    figures = [
        found.plot(),
        bands(sim(), last_share).plot(),
        bands(normal_posterior(), "wages").plot(),
    ]
    for figure in figures:
        figure.canvas.draw()


def test_data_are_drawn_in_the_unit_of_the_path():
    """Data in per cent beside a path of shares; of a ratio none, which is no unit of the variable."""

    def dots(how: Observed) -> Any:
        data = {"y": how.scale * Y}
        scenario = LINE.scenario(z=Z)
        one = fit(Problem(LINE, data, {"y": how}, ["level", "slope"], scenario=scenario))
        (axis,) = bands(one, "y").plot().axes
        return [line.get_ydata() for line in axis.lines if line.get_label() == "data"]

    (drawn,) = dots(Observed(scale=100.0))
    np.testing.assert_allclose(drawn, Y)
    assert not dots(Observed(over="seen"))


def test_vectors():
    """The elements of a vector are columns of their own."""
    model = models.LINEAR2D
    path = np.asarray(simulate(model, periods=8).state)
    data = {"state[0]": path[:, 0], "state[1]": path[:, 1]}
    one = fit(Problem(model, data, list(data), ["a11", "a12", "a21", "a22"], sigma=0.1))
    found = bands(one, "state")
    assert found.sd["state"].shape == (8, 2)
    # x(1) = A x(0) with x(0) = (1, 0): its errors are those of a11 and a21.
    errors = one.standard_errors
    np.testing.assert_allclose(found.sd["state"][0], [errors["a11"], errors["a21"]], rtol=1e-9)
    assert found.to_pandas().index[1] == ("state", "0", "1")
    found.plot().canvas.draw()


@pytest.mark.parametrize(
    ("of", "options", "error", "said"),
    [
        ("income", {}, KeyError, "income"),
        ((), {}, ValueError, "Name the variables"),
        ("wages", {"level": 90}, ValueError, "a share between 0 and 1, not 90"),
        (Response("demand", "wages"), {}, KeyError, "demand"),
        (Response("government_demand", "wages", 60), {}, ValueError, "0 to 59, not 60"),
        (Rest("wages", 60), {}, ValueError, "0 to 59, not 60"),
    ],
)
def test_bad_input(of, options, error, said):
    with pytest.raises(error, match=said):
        bands(sim(), of, **options)


def test_bad_sources():
    with pytest.raises(TypeError, match="takes a Fit or a Posterior, not Problem"):
        bands(sim().problem, "wages")
    with pytest.raises(ValueError, match="draws must be a whole number, at least 2"):
        bands(normal_posterior(), "wages", draws=1)


def test_float64_whatever_the_default():
    with jax.enable_x64(False):
        found = bands(sim(), "national_income")
    assert found.at["national_income"].dtype == np.float64
    assert jnp.asarray(found.at["national_income"]).shape == (60,)
