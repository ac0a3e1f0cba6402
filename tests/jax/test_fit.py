"""Fits: closed forms, parameters recovered from synthetic data, every method, and what a fit says of itself."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    Vector,
    estimation,
    exogenous,
    index,
    models,
    param,
    run_keys,
    simulate,
)

SIM, PC = models.GL06SIM, models.GL06PC
DATA = Path(__file__).parents[1] / "data"


# A linear model, whose estimates are known in closed form ----------------------------------------


class Params(Record):
    intercept: Scalar = param(0.0, bounds=(-50, 50))
    slope: Scalar = param(0.0)


class Scenario(Record):
    x: Scalar = exogenous(0.0)


class State(Record):
    y: Scalar = index("y")


def initial_state(params, scenario):
    return State.filled(0.0)


def step(prior, params, scenario):
    return State(y=params.intercept + params.slope * scenario.x)


LINE = Model("LINE", Params, Scenario, State, initial_state, step)
RNG = np.random.default_rng(231123)
X = RNG.normal(size=20)
Y = 0.5 - 0.5 * X + 2 * RNG.normal(size=20)
DESIGN = np.stack([np.ones(20), X], axis=1)
FREE = ["intercept", "slope"]


def line(**more):
    return estimation.Problem(
        LINE, {"y": Y}, free=FREE, scenario=LINE.scenario(periods=20, x=X), **more
    )


def test_a_regression_is_the_closed_form():
    found = estimation.fit(line())
    closed, (squares,), *_ = np.linalg.lstsq(DESIGN, Y, rcond=None)
    covariance = squares / 18 * np.linalg.inv(DESIGN.T @ DESIGN)
    assert found.success
    # Within a hundredth of a standard error by the stopping rule, and much nearer as it is linear.
    np.testing.assert_allclose(found.estimates, closed, atol=1e-6 * np.sqrt(covariance[1, 1]))
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6)
    (one,) = found.series
    assert one.r2 == pytest.approx(1 - squares / ((Y - Y.mean()) ** 2).sum(), rel=1e-9)
    assert found.sigmas["y"] == pytest.approx(np.sqrt(squares / 20), rel=1e-9)
    normal = stats.norm.logpdf(Y - DESIGN @ closed, 0, found.sigmas["y"]).sum()
    assert found.log_likelihood == pytest.approx(normal, rel=1e-9)
    assert found.aic == pytest.approx(6 - 2 * normal) and found.bic == pytest.approx(
        3 * np.log(20) - 2 * normal
    )


PRIOR = {name: estimation.Normal(0, 3) for name in FREE}


@pytest.mark.parametrize("method", ["lm", "bfgs", "trust-exact"])
def test_a_regression_with_normal_priors_is_the_closed_posterior(method):
    """sigma = 2, both coefficients normal(0, 3): the posterior is normal, its mode the mean."""
    found = estimation.fit(line(sigma=2.0, priors=PRIOR), method)
    precision = DESIGN.T @ DESIGN / 4 + np.eye(2) / 9
    covariance = np.linalg.inv(precision)
    mean = covariance @ (DESIGN.T @ Y) / 4
    assert found.success and found.priors
    np.testing.assert_allclose(found.estimates, mean, atol=1e-3 * np.sqrt(covariance[0, 0]))
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6)
    without = estimation.fit(line(sigma=2.0, priors=PRIOR), priors=False)
    closed = np.linalg.lstsq(DESIGN, Y, rcond=None)[0]
    np.testing.assert_allclose(without.estimates, closed, atol=1e-5)
    np.testing.assert_allclose(without.covariance, 4 * np.linalg.inv(DESIGN.T @ DESIGN), rtol=1e-6)


@pytest.mark.parametrize("priors", [False, True])
def test_the_profile_of_a_regression_is_its_normal_interval(priors):
    problem = line(sigma=2.0, priors=PRIOR if priors else {})
    found = estimation.fit(problem)
    profile = found.profile("slope", points=41)
    half = stats.norm.ppf(0.975) * found.standard_errors["slope"]
    expected = found.values["slope"] + np.array([-half, half])
    # The drop is a parabola, between whose points the ends are straight lines of its root.
    np.testing.assert_allclose(profile.interval, expected, atol=1e-4 * float(half))
    z = (profile.values - profile.estimate) / found.standard_errors["slope"]
    np.testing.assert_allclose(profile.drop, z**2, atol=1e-4)
    assert len(profile.plot().axes) == 1 and "95% interval" in str(profile)


@pytest.mark.parametrize("method", ["lm", "bfgs"])
def test_a_prior_that_is_not_normal(method):
    """Beta prior, one parameter: against the maximum over a fine grid."""
    data = {"national_income": np.asarray(simulate(SIM, periods=8).national_income)}
    problem = estimation.Problem(
        SIM, data, free={"tax_rate": None}, priors={"tax_rate": estimation.Beta(8, 12)}, sigma=20.0
    )
    found = estimation.fit(problem, method)
    grid = np.linspace(0.2, 0.45, 2501)
    u = problem.unconstrain(grid[:, None])
    height = jax.vmap(problem.log_likelihood)(u) + stats.beta.logpdf(grid, 8, 12)
    assert found.success
    assert found.values["tax_rate"] == pytest.approx(grid[np.argmax(height)], abs=1e-4)


# Every method -------------------------------------------------------------------------------------


def sim_problem(noise=1.0, **changes):
    rng = np.random.default_rng(0)
    path = simulate(SIM, SIM.params(propensity_to_consume_income=0.7), periods=60)
    data = {
        "national_income": np.asarray(path.national_income) + noise * rng.normal(size=60),
        "household_money_stock": np.asarray(path.household_money_stock)
        + 3 * noise * rng.normal(size=60),
    }
    given: dict[str, Any] = {
        "free": ("propensity_to_consume_income", "propensity_to_consume_savings", "tax_rate")
    }
    return estimation.Problem(SIM, data, **(given | changes))


@pytest.fixture(scope="module")
def reference():
    with jax.enable_x64(True):
        return estimation.fit(sim_problem(sigma={"national_income": 1.0, "household_money_stock": 3.0}),
                              "least_squares")  # fmt: skip


NEEDS = {"adam": "optax", "cma": "cma"}


@pytest.mark.parametrize(
    "method", ["lm", "dogleg", "bounded", "bfgs", "lbfgs", "adam", "newton", "trust-exact", "cma"]
)
def test_all_methods_find_the_same(method, reference):
    if method in NEEDS:
        pytest.importorskip(NEEDS[method])
    found = estimation.fit(reference.problem, method)
    assert found.success and reference.success
    errors = reference.uncertainty.standard_errors
    # Success means within 0.01 standard errors of the optimum, each of the two.
    assert (np.abs(found.estimates - reference.estimates) < 0.02 * errors).all()
    assert found.cost == pytest.approx(reference.cost, rel=1e-4)


def test_adam_takes_a_schedule(reference):
    optax = pytest.importorskip("optax")
    rate = optax.exponential_decay(0.1, 100, 0.5)
    found = estimation.fit(reference.problem, "adam", rate=rate, steps=1500)
    assert found.cost == pytest.approx(reference.cost, rel=1e-3)


def test_many_starts_and_the_best_of_them(reference):
    found = estimation.fit(reference.problem, starts=16)
    assert found.success and found.starts is not None and len(found.starts) == 16
    np.testing.assert_allclose(found.estimates, reference.estimates, rtol=1e-3)
    assert "16 starts" in str(found)


def test_the_demonstration_of_model_sim_takes_at_most_15_steps():
    """Two wrong propensities, found again from consumption and income."""
    path = simulate(SIM, periods=40)
    data = {k: np.asarray(path[k])[5:] for k in ("ConsumptionDemand", "DisposableIncome")}
    problem = estimation.Problem(
        SIM,
        pd.DataFrame(data, index=pd.RangeIndex(5, 40, name="period")),
        free=("propensity_to_consume_income", "propensity_to_consume_savings"),
        start={"propensity_to_consume_income": 0.7, "propensity_to_consume_savings": 0.3},
    )
    found = estimation.fit(problem)
    assert found.success and found.steps <= 15 and "met exactly" in found.outcome
    np.testing.assert_allclose(found.estimates, [0.6, 0.4], rtol=1e-7)


def test_unknown_errors_of_two_series_are_those_of_the_largest_likelihood():
    found = estimation.fit(sim_problem(), "bounded")
    assert found.success
    # The gradient of the likelihood with the sigmas concentrated out, in standard errors.
    slope = jax.grad(found.problem.log_likelihood)(found.u)
    scale = np.abs(np.asarray(jax.jacfwd(found.problem.values)(found.u)))
    errors = found.uncertainty.standard_errors / np.diag(scale)
    assert (np.abs(slope) * errors < 1e-2).all()
    assert found.sigmas["national_income"] == pytest.approx(1.0, rel=0.3)  # 60 data: 9 %
    assert found.sigmas["household_money_stock"] == pytest.approx(3.0, rel=0.3)


# Recovery from synthetic data --------------------------------------------------------------------

CASES: dict[str, tuple[str, ...]] = {
    "LINEAR2D": ("a11", "a12", "a21", "a22", "x0_1"),
    "NK3E": (),
    "GL06SIM": (),
    "GL06SIMEX": (),
    "GL06PC": (),
    # Without what its data bear so weakly that the estimate may be at its bound.
    "GL06PCEX": (
        "tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings",
        "wealth_share_bills_constant", "wealth_share_bills_interest_rate",
    ),
    "GL06PCEX2": (),
    "GL06LP": (),
    "GL06LP2": (
        "tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings",
        "wealth_share_bills_constant", "wealth_share_bonds_constant", "wealth_share_bills_income",
    ),
    "GL06LP3": (
        "tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings",
        "wealth_share_bills_constant", "wealth_share_bonds_constant", "fiscal_adjustment_speed",
    ),
    "GL06INSOUT": (
        "propensity_to_consume_income", "propensity_to_consume_wealth", "sales_expectation_weight",
        "inventory_adjustment_speed", "income_expectation_weight", "markup_rate", "tax_rate",
        "wealth_share_m2_constant", "wealth_share_bills_constant",
    ),
    "IOPC": (),
    "ECO3IOPC": (),
    "PichlerEtAl2022DIO": ("inventory_adjustment_speed", "consumption_persistence", "benefit_rate"),
}  # fmt: skip
"""Model -> what is free: all scalars that lie within their bounds, or these."""
UNIDENTIFIED = {
    "GL06LP": {"expectation_weight_bond_price"},
    "ECO3IOPC": {"transient_climate_response_cum_co2", "non_co2_anthropocentric_forcing"},
}
"""What the data of a case say nothing about. In LP expected bond prices are what they are whatever the
weight while the price is constant; in ECO3IOPC damages, which temperature alone drives, are 0."""
SMOOTH = {"GL06LP2": 100.0, "GL06LP3": 100.0, "GL06INSOUT": 1000.0}
"""Models that jump, in the smooth form for derivatives."""
SLOW = ("GL06LP", "IOPC", "GL06LP2", "GL06LP3", "GL06INSOUT", "ECO3IOPC", "PichlerEtAl2022DIO")


def scenario_of(model, periods, rng):
    """Exogenous series that move, so that more is identified than at rest."""
    if model.name == "PichlerEtAl2022DIO":
        series = {
            "supply_shock": np.array([0.4, 0.15, 0.12]),
            "fear_of_infection": 0.05,
            "other_final_demand": np.array([4.0, 4.5, 215.0]),
        }
        return model.scenario(periods=periods, **series)
    series = {}
    for key, field in model.Scenario.fields.items():
        usual = np.broadcast_to(np.asarray(field.default, float), field.shape)
        moves = rng.normal(size=(periods, *field.shape))
        if model.name == "NK3E":
            series[key] = 0.2 * moves
        elif (usual != 0).all():
            series[key] = usual * np.exp(0.02 * np.cumsum(moves, axis=0))
    return model.scenario(periods=periods, **series) if model.Scenario.fields else None


def synthetic(name, periods=60, noise=0.01):
    """A problem with data from other parameters than its start, and these."""
    model, rng = models.get(name), np.random.default_rng(0)
    if name in SMOOTH:
        model = model.configure(sharpness=SMOOTH[name])
    free = CASES[name] or tuple(
        key
        for key, field in model.Params.fields.items()
        if not field.shape and field.bounds[0] < field.default < field.bounds[1] and field.default
    )
    scenario = scenario_of(model, periods, rng)
    truth = {k: model.Params.fields[k].default * (1 + 0.03 * rng.uniform(-1, 1)) for k in free}
    path = simulate(model, model.params(**truth), scenario, periods=periods)
    data, sigma = {}, {}
    for key in model.State.fields:
        values = np.asarray(getattr(path, key)).reshape(periods, -1)
        for at, column in enumerate(values.T):
            element = np.unravel_index(at, model.State.fields[key].shape)
            label = f"{key}[{','.join(map(str, element))}]" if element else key
            if np.isfinite(column).all() and np.ptp(column) > 1e-6 * np.abs(column).max():
                sigma[label] = noise * column.std()
                data[label] = column + sigma[label] * rng.normal(size=periods)
    problem = estimation.Problem(model, data, free=free, scenario=scenario, sigma=sigma)
    return problem, truth


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES]
)
def test_parameters_are_recovered_within_three_standard_errors(name):
    problem, truth = synthetic(name, periods=40 if name == "GL06INSOUT" else 60)
    found = estimation.fit(problem, "bounded")
    errors = found.identifiability.standard_errors
    known = np.isfinite(errors)
    assert found.success, found.outcome
    assert {n for n, k in zip(problem.names, known, strict=True) if not k} == UNIDENTIFIED.get(
        name, set()
    )
    z = (found.estimates - [truth[n] for n in problem.names]) / errors
    assert (np.abs(z[known]) < 3).all(), dict(zip(problem.names, z, strict=True))
    # The errors are as large as they are said to be: chi-squared with the degrees of freedom.
    freedom = problem.residual_count - known.sum()
    assert abs(2 * found.cost - freedom) < 4 * np.sqrt(2 * freedom)


def test_every_deterministic_model_is_a_case():
    deterministic = {n for n in models.names() if not models.get(n).random}
    assert set(CASES) == deterministic


def test_a_random_model_is_fitted_along_its_draws():
    """Common random numbers: what the key draws is the same for all parameters."""
    model, key = models.RandomWalk, run_keys(0, 1)[0]
    names = [k for k in model.State.fields if k in model.real][:1]
    path = simulate(model, key=key, periods=10)
    data = {name: np.asarray(getattr(path, name)) for name in names}
    with pytest.raises(TypeError, match="pass key="):
        estimation.Problem(model, data, free=["theta"])
    if names:
        problem = estimation.Problem(model, data, free=["theta"], key=key)
        np.testing.assert_allclose(problem.residuals(problem.start), 0, atol=1e-12)


# What the data do not say ------------------------------------------------------------------------


def test_the_share_of_bills_that_income_takes_is_not_identified_at_rest():
    """At rest B_h = (lambda_0 + lambda_1 r) V - lambda_2 YD, of a V and a YD that never move: the three
    cannot be told apart. The published package's fit is 68 % off here, and does not say so.
    """
    assert PC.steady_state is not None
    rest = PC.steady_state(PC.params(), PC.scenario(periods=1)[0])
    path = simulate(PC, initial=rest, periods=40)
    observe = ["national_income", "household_bill_stock", "wealth"]
    data = {name: np.asarray(getattr(path, name)) for name in observe}
    names = [
        "wealth_share_bills_constant",
        "wealth_share_bills_interest_rate",
        "wealth_share_bills_income",
    ]
    start = {"wealth_share_bills_constant": 0.7, "wealth_share_bills_income": 0.05}
    problem = estimation.Problem(
        PC, data, free=["propensity_to_consume_income", *names], start=start, initial=rest
    )
    found = estimation.fit(problem)
    known = found.identifiability
    assert found.success and "do not identify" in found.outcome and "Not identified" in str(found)
    assert len(known.unidentified) == 2
    # Null directions leave B_h as it is: d lambda_0 V + d lambda_1 r V = d lambda_2 YD.
    effect = np.array([rest.wealth, 0.025 * rest.wealth, -rest.disposable_income])
    for direction in known.unidentified:
        assert set(direction) <= set(names)
        moved = effect @ [direction.get(name, 0.0) for name in names]
        assert abs(moved) < 1e-6 * float(rest.wealth)
    assert np.isfinite(found.standard_errors["propensity_to_consume_income"])
    assert all(np.isinf(found.standard_errors[name]) for name in names)


def test_the_profile_of_what_is_not_identified_is_flat():
    data = {"national_income": np.asarray(simulate(PC, periods=20).national_income)}
    rng = np.random.default_rng(1)
    noisy = {k: v + 0.1 * rng.normal(size=20) for k, v in data.items()}
    names = ("wealth_share_bills_constant", "wealth_share_bills_interest_rate")
    # What one takes the other can give, within these bounds.
    free = {names[0]: (0.55, 0.7), names[1]: None}
    found = estimation.fit(estimation.Problem(PC, noisy, free=free), "bounded")
    profile = found.profile(names[0], points=7)
    assert profile.flat and "do not identify it" in str(profile)


# Bounds and sums ---------------------------------------------------------------------------------


def bounded_problem(low, high, start, **more):
    return sim_problem(free={"tax_rate": (low, high)}, start={"tax_rate": start}, sigma=1.0, **more)


@pytest.mark.parametrize("method", ["lm", "bounded"])
def test_a_bound_that_binds_is_said(method):
    """The data want a tax rate of 0.2."""
    found = estimation.fit(bounded_problem(0.25, 0.9, 0.5), method)
    assert found.success and found.at_bound == ("tax_rate",)
    assert "At a bound: tax_rate; the data would go further" in found.outcome
    assert found.values["tax_rate"] == pytest.approx(0.25, abs=1e-5)
    assert np.isnan(found.standard_errors["tax_rate"])


class Shares(Record):
    share: Vector = param((0.2, 0.3, 0.5), bounds=(0, 1), shape=3)


class Spent(Record):
    spent: Vector = index("s", shape=3)


def spend(prior, params, scenario):
    return Spent(spent=params.share**2 + 0.1 * prior.spent)


SPENDING = Model("SPENDING", Shares, type("None_", (Record,), {}), Spent,
                 lambda params, scenario: Spent.filled(0.0), spend)  # fmt: skip


def test_a_derived_share_has_an_error_of_its_own():
    """Shares (a, b, 1 - a - b): the error of the last follows from the covariance of the others."""
    shares = [f"share[{i}]" for i in range(3)]
    path = np.asarray(simulate(SPENDING, periods=15).spent)
    data = {f"spent[{i}]": path[:, i] + 0.02 * RNG.normal(size=15) for i in range(3)}
    tied = estimation.Problem(SPENDING, data, free=shares[:2], tied=[shares], sigma=0.02)
    found = estimation.fit(tied)
    values, errors, ones = found.values, found.standard_errors, np.ones(2)
    assert found.success and sum(values[s] for s in shares) == pytest.approx(1, abs=1e-12)
    assert errors[shares[2]] == pytest.approx(np.sqrt(ones @ found.covariance @ ones), rel=1e-9)
    assert "by adding up" in str(found)
    np.testing.assert_allclose(found.params.share, [values[s] for s in shares])
    # The second of its group: its profile against the interval of a nearly linear problem.
    profile = found.profile(shares[1], points=9)
    half = 1.96 * errors[shares[1]]
    expected = np.array([values[shares[1]] - half, values[shares[1]] + half])
    np.testing.assert_allclose(profile.interval, expected, atol=0.05 * half)


# How it ends, and what it shows -------------------------------------------------------------------


def test_a_fit_is_where_another_begins(reference):
    found = estimation.fit(reference.problem, start=reference)
    far = estimation.fit(reference.problem, start={"tax_rate": 0.5})
    assert found.success and far.success and found.steps < far.steps
    np.testing.assert_allclose(found.estimates, reference.estimates, rtol=1e-6)


def test_the_seed_is_cma_s_too(reference):
    pytest.importorskip("cma")
    runs = [estimation.fit(reference.problem, "cma", seed=s, steps=3).estimates for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).all()


def test_cma_may_stop_for_a_reason_without_a_number(reference):
    pytest.importorskip("cma")
    found = estimation.fit(reference.problem, "cma", termination_callback=lambda search: True)
    assert not found.success and "Not at an optimum" in found.outcome


def test_a_search_that_was_cut_short_is_no_success(reference):
    found = estimation.fit(reference.problem, "lm", start={"tax_rate": 0.6}, steps=2)
    assert not found.success and "Not at an optimum after 2 steps" in found.outcome


def test_a_report_a_table_a_picture_and_json(reference):
    text = str(reference)
    for part in ("GL06SIM", "Converged", "tax_rate", "std. error", "95 % interval", "R2", "AIC"):
        assert part in text
    table = reference.table()
    assert list(table.index) == list(reference.names)
    assert table.loc["tax_rate", "standard_error"] == reference.standard_errors["tax_rate"]
    long = reference.to_pandas()
    assert len(long) == 120
    expected = np.asarray(reference.path.national_income)
    np.testing.assert_allclose(long.loc["national_income", "model"], expected, rtol=1e-9)
    loaded = json.loads(reference.to_json())
    assert loaded["success"] and loaded["values"] == pytest.approx(reference.values)
    assert (
        loaded["intervals_95"]["tax_rate"] == table.loc["tax_rate", ["low_95", "high_95"]].tolist()
    )
    figure = reference.plot()
    assert len(figure.axes) == 2 and all(len(axis.lines) == 2 for axis in figure.axes)
    np.testing.assert_allclose(
        simulate(SIM, reference.params, periods=60).national_income, expected
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: estimation.fit(p, "simplex"), ValueError, "There are:\n  lm: Levenberg"),
        (lambda p: estimation.fit(p.model), TypeError, "Expected an estimation.Problem, not Model"),
        (lambda p: estimation.fit(p, steps=0), ValueError, "steps"),
        (lambda p: estimation.fit(p, tolerance=-1), ValueError, "tolerance"),
        (lambda p: estimation.fit(p, start={"tax_rate": 2.0}), ValueError, "not strictly within"),
        (
            lambda p: estimation.fit(p, start=[0.5, 0.5]),
            ValueError,
            r"the shape \(..., 3\), not \(2,\)",
        ),
        (
            lambda p: estimation.fit(p, start=np.full((4, 3), 0.5)),
            ValueError,
            r"several are starts=",
        ),
        (lambda p: estimation.fit(p, rate=0.1), TypeError, r"takes no option \['rate'\]"),
        (
            lambda p: estimation.fit(p).profile("tax_rate", width=-1.0),
            ValueError,
            "above 0, not -1",
        ),
        (lambda p: estimation.fit(p).profile("wages"), KeyError, "Free are: propensity"),
        (lambda p: estimation.fit(p).plot(series=["x"]), KeyError, "Observed are: national_income"),
    ],
)
def test_bad_calls_say_what_is_wrong(call, error, message, reference):
    with pytest.raises(error, match=message):
        call(reference.problem)


# Real data ---------------------------------------------------------------------------------------


def us_problem():
    """US quarterly data, 1959 to 2009: what is not consumed is autonomous demand, as the model has it."""
    data = estimation.read_data(DATA / "us_macro_quarterly.csv")
    data["autonomous"], data["rate"] = data.realgdp - data.realcons, data.tbilrate / 400
    observe = {
        "consumption_household": estimation.Observed("realcons", transform="log"),
        "disposable_income": estimation.Observed("realdpi", transform="log"),
    }
    return estimation.Problem(
        PC, data, observe,
        {"tax_rate": None, "propensity_to_consume_savings": None, "initial.wealth": (0, 5e4)},
        fixed={"propensity_to_consume_income": 0.2},
        scenario={"government_demand": "autonomous", "interest_rate": "rate"},
        initial={"wealth": 2000.0},
    )  # fmt: skip


def test_us_consumption_and_income_by_model_pc():
    problem = us_problem()
    found = estimation.fit(problem)
    assert found.success and problem.calendar.span == "1959Q1 to 2009Q3"
    assert all(one.r2 > 0.95 for one in found.series)
    # In the data taxes net of transfers, and all saving, are about a third of income.
    assert 0.25 < found.values["tax_rate"] < 0.4
    assert all(one.autocorrelation > 0.9 for one in found.series) and "too small" in str(found)


def test_a_problem_that_ran_in_float64_runs_in_float32_after():
    """jax hands a program that it traced in float64, within another, NumPy scalars of the wrong width."""
    problem = us_problem()
    found = estimation.multi_start(problem, 4)
    with jax.enable_x64(False):
        narrow = problem.cost(problem.start)
    assert narrow.dtype == np.float32 and np.isfinite(found.costs).all()
    assert float(narrow) == pytest.approx(float(problem.cost(problem.start)), rel=1e-4)
