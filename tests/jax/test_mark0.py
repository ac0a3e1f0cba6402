"""Mark0COVID: against the published package, the authors' program, its accounts, and itself."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import accounts, diff, models, run_keys, simulate, stochastic
from macrostat_jax.stochastic import GumbelSoftmax

# As in reference/record_published_mark0.py.
FIRMS, PERIODS, ROWS, SEED = 50, 60, (1, 2, 30, 60), 11
OTHER = {
    "HiringFiringRate": 1.5,
    "GammaBaseline": 0.02,
    "WagePriceAdjustmentRatio": 0.8,
    "WageInflationFactor": 0.9,
    "InterestRateBaseline": 0.01,
    "CBInflationReaction": 0.5,
    "CBInflationTarget": 0.01,
    "DefaultThreshold": 1.0,
    "BankruptcyInterestEffect": 0.3,
    "FirmRevivalProbability": 0.2,
}
CRISES, UNSTABLE, COLLAPSE = models.Mark0COVID.scenarios
FAILURES = {"DefaultThreshold": 0.05, "DividendShare": 0.3, "FirmRevivalProbability": 0.3}
RUNS: dict[str, tuple[dict[str, float], str]] = {
    "default": ({}, ""),
    "other": (OTHER, ""),
    "failures": (FAILURES, ""),
    "crises": ({}, CRISES),
    "unstable": ({}, UNSTABLE),
    "collapse": ({}, COLLAPSE),
}
SMALL = models.Mark0COVID.resize(firm=FIRMS)
THEIRS = SMALL.configure(target_without_reaction=True)
"""The model with the published package's rule of the target."""
NOISE: Any = SMALL.Noise


@functools.cache
def recorded() -> Any:
    return np.load(Path(__file__).parents[1] / "reference" / "mark0.npz")


def given(run: str, periods: int = PERIODS) -> dict[str, Any]:
    """The arguments of a recorded run; the noise is that of the package's four buffers."""
    parameters, scenario = RUNS[run]
    drawn = np.random.default_rng(SEED).random((PERIODS, 4, FIRMS))[:periods]
    names = ("price", "wage", "revive", "revive_y")
    nothing = {"hiring_firing_rate_add": 0.0, "default_threshold_add": 0.0}
    return {
        "params": SMALL.params(**parameters),
        # Always there, so that one compiled program serves all runs.
        "shocks": SMALL.shocks(None, periods=periods, **SMALL.scenarios.get(scenario, nothing)),
        "noise": NOISE(**{name: drawn[:, at] for at, name in enumerate(names)}),
    }


@pytest.mark.parametrize("run", RUNS)
def test_paths_of_the_published_package(run):
    """Equal in every variable and period, unless rounding decides whether a firm earns: one whose wage
    rose to what its sales could pay, and that has neither debt nor interest, earns nothing."""
    path, reference = simulate(THEIRS, **given(run)), recorded()
    alive = np.asarray(path.firm_alive)
    scalars = [f for f in SMALL.State.fields.values() if not f.shape]
    flags = [f for f in SMALL.State.fields.values() if f"{run}/{f.name}" in reference]
    differ = np.zeros(PERIODS, bool)
    for field in scalars:
        theirs = reference[f"{run}/{field.name}"][1:]
        # Sums over 50 firms of numbers near 1, whose rounding is carried over 60 periods.
        differ |= np.abs(np.asarray(getattr(path, field.key)) - theirs) > 1e-9 * FIRMS
    last = int(np.argmax(differ)) if differ.any() else PERIODS
    if last < PERIODS:
        profits = np.abs(np.asarray(path.firm_profits))[: last + 1]
        assert np.any((profits < 1e-14) & (alive[: last + 1] > 0)), f"parted in period {last}"
        assert last > 2
    for field in flags:
        theirs, ours = reference[f"{run}/{field.name}"], np.asarray(getattr(path, field.key))
        if len(theirs) == PERIODS + 1:
            theirs, rows = theirs[1:], np.arange(PERIODS)
        else:
            rows = np.array(ROWS) - 1
        ours, there = ours[rows], alive[rows] if field.shape else np.ones(len(rows))
        if field.name == "FirmPrice":  # there the prices of failed firms go on with the inflation
            ours, theirs = ours * there, theirs * there
        until = rows < last
        np.testing.assert_allclose(
            ours[until], theirs[until], rtol=1e-9, atol=1e-9, err_msg=field.name
        )


def test_the_recorded_runs_have_failures_and_revivals():
    alive = recorded()["failures/FirmAlive"].astype(int)
    assert np.sum(np.diff(alive, axis=0) < 0) > 10 and np.sum(np.diff(alive, axis=0) > 0) > 10


LOSSES = ("AverageWage", "TotalProduction", "HouseholdSavings")


def last(path):
    return {loss: path[loss][-1] for loss in LOSSES}


@pytest.mark.parametrize("run", ["default", "other", "crises"])
def test_derivatives_of_the_published_package(run):
    """Its reverse mode, in which bankruptcies are as good as exact (sigmoids of 10,000 x)."""
    reference = recorded()
    for mode in ("forward", "reverse"):
        ours = diff.jacobian(THEIRS, last, mode=mode, **given(run, 15))
        for loss in LOSSES:
            theirs = reference[f"{run}/{loss} by parameter"]
            for name, value in zip(reference["parameters"], theirs, strict=True):
                found = ours[loss, name]
                assert found == pytest.approx(value, rel=1e-7, abs=1e-9), (loss, name)


def test_without_reaction_there_is_no_target():
    params = SMALL.params(cb_inflation_target=0.03)
    inputs = {key: value for key, value in given("default").items() if key != "params"}
    path = simulate(SMALL, params, **inputs)
    own = params.expected_inflation_ewma_weight * path.expected_inflation_ewma
    np.testing.assert_allclose(path.expected_inflation_used, own, rtol=1e-14)
    there = simulate(THEIRS, params, **inputs)
    own = params.expected_inflation_ewma_weight * there.expected_inflation_ewma
    np.testing.assert_allclose(there.expected_inflation_used - own, 0.5 * 0.03, rtol=1e-12)
    assert there.inflation.mean() > path.inflation.mean() + 0.005
    reacting = params.replace(cb_inflation_reaction=0.1)
    ours, theirs = (simulate(model, reacting, **inputs) for model in (SMALL, THEIRS))
    np.testing.assert_array_equal(ours.inflation, theirs.inflation)
    rate = params.interest_rate_baseline + 0.1 * (ours.expected_inflation_ewma - 0.03)
    np.testing.assert_allclose(ours.cb_rate, rate, rtol=1e-12)


# Measured with the authors' C++ program: means over t = 1000 to 3000 and 40 seeds, standard errors.
ORIGINAL = {
    "default": ({}, {"unemployment": (0.003562, 2e-6), "inflation": (0.019949, 5e-6)}, 0.99096),
    "crises": (
        {"hiring_firing_rate": 0.5, "default_threshold": 3.0},
        {"unemployment": (0.69043, 0.00019)},
        None,
    ),
}


def averages(parameters: dict[str, float], seeds: int, first: int, last: int) -> dict[str, Any]:
    model = models.Mark0COVID
    seen = ("unemployment", "inflation", "average_wage", "average_price")

    @jax.jit
    def means(key):
        path = simulate(model, model.params(**parameters), key=key, periods=last, record=seen)
        values = {key: getattr(path, key)[first:] for key in seen}
        values["real_wage"] = values["average_wage"] / values["average_price"]
        return {key: jnp.mean(value) for key, value in values.items()}

    found = [means(key) for key in run_keys(0, seeds)]
    return {key: np.array([one[key] for one in found]) for key in found[0]}


def compare_with_the_original(name: str, seeds: int, first: int, last: int) -> None:
    parameters, expected, real_wage = ORIGINAL[name]
    found = averages(parameters, seeds, first, last)
    errors = {key: values.std(ddof=1) / np.sqrt(seeds) for key, values in found.items()}
    for key, (mean, error) in expected.items():
        both = np.hypot(errors[key], error)
        assert abs(found[key].mean() - mean) < 4 * both, (key, found[key].mean(), mean, both)
        assert errors[key] < 0.01 * mean  # so that the comparison says something
    if real_wage is not None:  # given to five digits
        both = np.hypot(errors["real_wage"], 5e-6)
        assert abs(found["real_wage"].mean() - real_wage) < 4 * both


@pytest.mark.parametrize("name", ORIGINAL)
def test_averages_of_the_original_program(name):
    compare_with_the_original(name, seeds=5, first=1000, last=3000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORIGINAL)
def test_averages_of_the_original_program_in_full(name):
    compare_with_the_original(name, seeds=40, first=1000, last=3000)


SOFT = GumbelSoftmax(temperature=0.2, hard=False)


@functools.cache
def left_over(model):
    """Compiled: what the accounts leave over, and household savings; with their tangents."""

    def values(params, shocks, noise):
        path = simulate(model, params, shocks=shocks, noise=noise)
        found = accounts.residuals(model, path, relative=True)
        assert set(found) == {"Instrument Money"}
        total = path.household_savings + path.firm_assets_total - path.m0_stock
        return found["Instrument Money"], total, path.household_savings

    @jax.jit
    def along(params, direction, shocks, noise):
        return jax.jvp(lambda p: values(p, shocks, noise), (params,), (direction,))

    return along


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("relaxation", [stochastic.EXACT, SOFT], ids=["exact", "soft"])
def test_money_is_conserved(relaxation, run):
    inputs = given(run)
    params = jax.tree.map(jnp.asarray, inputs["params"])
    # A direction that moves every parameter.
    direction = jax.tree.map(lambda x: 0.01 * (1 + jnp.abs(x)), params)
    compiled = left_over(SMALL.configure(relaxation=relaxation))
    values, tangents = compiled(params, direction, inputs["shocks"], inputs["noise"])
    for found in values[:2]:
        assert np.abs(found).max() < 1e-13 * FIRMS
    # Tangents grow: they are compared with the largest of what they are the sum of.
    for found in tangents[:2]:
        assert np.abs(found).max() < 1e-12 * np.abs(tangents[2]).max()


def test_the_balance_sheet_names_who_holds_the_money():
    path = simulate(THEIRS, **given("crises"))
    sheet = accounts.balance_sheet(SMALL, path[-1])
    assert list(sheet.index) == ["Money", "Total"]
    cells = sheet.loc["Money"]
    assert cells["Household", "Current"] == pytest.approx(float(path.household_savings[-1]))
    assert cells["Firms", "Current"] == pytest.approx(float(path.firm_assets[-1].sum()))
    assert cells["Bank", "Current"] == pytest.approx(-float(path.m0_stock[-1]))
    assert cells["Total", ""] == pytest.approx(0, abs=1e-11)
    assert accounts.transaction_matrix(SMALL).empty


def test_the_event_at_which_a_path_is_not_smooth_is_named():
    inputs = given("failures")
    step = 0.2
    (event,) = stochastic.events(SMALL, wrt="default_threshold", step=step, **inputs)
    threshold = FAILURES["DefaultThreshold"]
    low, high = (
        simulate(
            SMALL, **{**inputs, "params": SMALL.params(**{**FAILURES, "DefaultThreshold": value})}
        )
        for value in (threshold * (1 - step), threshold * (1 + step))
    )
    failed = [np.asarray(path.firm_enter_bankruptcy) for path in (low, high)]
    period, firm = np.argwhere(failed[0] != failed[1])[0]
    # Its flag, and not the prices and wages of others, which the failure moves in the same period.
    assert (event.period, event.variable) == (period, "firm_enter_bankruptcy")
    assert event.index == (firm,)
    assert (event.below, event.above) == (1.0, 0.0)
    assert f"in period {period} firm_enter_bankruptcy of firm {firm} is 1 a step below" in str(
        event
    )


def test_relaxed_decisions():
    """How far they are from the exact ones, and that their derivatives are those of the path."""
    inputs, names = given("failures"), ("default_threshold", "firm_revival_probability")
    soft, straight = (
        SMALL.configure(relaxation=kind) for kind in (SOFT, GumbelSoftmax(1.0, hard=True))
    )
    path, same = (simulate(model, **inputs) for model in (SMALL, straight))
    # Equal decisions, of which the rounding differs: blending adds a zero.
    np.testing.assert_allclose(same.firm_assets, path.firm_assets, rtol=1e-9, atol=1e-11)
    params, first = inputs["params"], {"noise": inputs["noise"][:5], "params": inputs["params"]}
    found, estimated = (
        diff.jacobian(model, "unemployment", wrt=names, mode="forward", **first)
        for model in (soft, straight)
    )
    for name in names:
        value, step = getattr(params, name), 1e-5
        both = params.replace(**{name: value + step * np.array([1, -1])})
        up, down = simulate(soft, both, noise=first["noise"]).unemployment.T
        slope = (up - down) / (2 * step)
        # Sigmoids of 50 x: the next term of the difference is (50 step)^2 / 6 of it, 4e-8.
        np.testing.assert_allclose(found["unemployment", name], slope, rtol=1e-5, atol=1e-8)
        assert np.any(slope) and np.all(np.isfinite(estimated["unemployment", name]))
    assert np.any(estimated["unemployment", "default_threshold"])  # no place is free as yet
    # One period from the same state: what a firm owns beyond its threshold decides.
    noise, prior = inputs["noise"][5], path[4]
    beyond = prior.firm_assets + params.default_threshold * prior.firm_wage * prior.firm_production
    bound = np.exp(-np.abs(beyond) / (0.1 * 0.2)) + 1e-12
    states = [model.step(prior, params, SMALL.Scenario(), noise) for model in (SMALL, soft)]
    distance = np.abs(states[0].firm_stay_alive - states[1].firm_stay_alive)
    assert np.all(distance <= bound) and distance.max() > 1e-6


def test_an_economy_without_firms():
    """Nobody makes anything: averages stay what they were until new firms enter, and all is finite."""
    params = SMALL.params(default_threshold=0.0)
    start = SMALL.initial_state(params, SMALL.Scenario())
    debts = start.replace(firm_assets=-0.1 * np.ones(FIRMS), household_savings=FIRMS * 1.1)

    def run(params):
        return simulate(SMALL, params, initial=debts, key=jax.random.key(0), periods=8)

    path = run(params)
    assert not path.firm_stay_alive[0].any() and 0 < path.firm_alive[0].sum() < FIRMS
    assert path.average_price[0] == pytest.approx(1, rel=1e-12)
    before = start.average_wage / start.average_price
    assert path.average_wage[0] == pytest.approx(float(before), rel=1e-12)
    assert np.all(path.total_production > 0)
    total = path.household_savings + path.firm_assets_total
    np.testing.assert_allclose(total, path.m0_stock, rtol=1e-12)
    nobody = run(params.replace(firm_revival_probability=0.0))
    assert not np.any(nobody.total_production) and np.all(nobody.unemployment == 1)
    for transform in (jax.jacfwd, jax.jacrev):
        derivatives = jax.jit(transform(lambda p: run(p).unemployment))
        for probability in (0.1, 0.0):
            values = params.replace(firm_revival_probability=probability)
            leaves = jax.tree.leaves(derivatives(jax.tree.map(jnp.asarray, values)))
            assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_the_number_of_firms_is_a_size():
    with pytest.raises(KeyError, match="Mark0COVID has no option 'firm'"):
        models.Mark0COVID.configure(firm=10)
    with pytest.raises(ValueError, match="at least 1"):
        models.Mark0COVID.resize(firm=0)
    single = simulate(models.Mark0COVID.resize(firm=1), key=jax.random.key(0), periods=3)
    assert single.firm_price.shape == (3, 1) and np.isfinite(single.inflation).all()
