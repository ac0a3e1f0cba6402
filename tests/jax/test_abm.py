"""TwoMarketsABM: every agent by itself, money, derivatives, batches, and what the economy looks like."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import diff, run_keys, simulate
from macrostat_jax.accounts import residuals
from macrostat_jax.causality import equation_mismatches
from macrostat_jax.models import twomarketsabm
from macrostat_jax.models.twomarketsabm import TwoMarketsABM
from macrostat_jax.stochastic import EXACT, GumbelSoftmax, StraightThrough

SMALL = TwoMarketsABM.resize(household=47, firm=7)
KEY = jax.random.key(11)
PERIODS = 12
SMOOTH = [key for key in SMALL.Params.fields if "search" not in key and "intensity" not in key]
"""The parameters that act on more than the probabilities of moves."""


@functools.cache
def path(periods: int = PERIODS, model: Any = SMALL) -> Any:
    return simulate(model, key=KEY, periods=periods)


def agent_by_agent(prior: Any, p: Any, noise: Any) -> dict[str, Any]:
    """One month from the equations, in loops over agents."""
    firms, households = range(len(prior.wage)), range(len(prior.skill))
    n = len(prior.wage)
    A = p.technology_persistence * prior.technology + p.technology_shock * noise.technology_luck
    wage, price, productivity, labour_demand = [], [], [], []
    for i in firms:
        a = (
            p.technology_persistence * prior.firm_technology[i]
            + p.firm_technology_shock * noise.firm_technology_luck[i]
        )
        z = np.exp(A + a)
        wanted, there = prior.labour_demand[i], prior.workforce[i]
        pressure = (wanted - (1 - p.normal_unemployment) * there) / (wanted + there)
        w = prior.wage[i] * np.exp(
            p.wage_indexation * prior.inflation + p.wage_adjustment * pressure
        )
        expected, store = prior.expected_demand[i], prior.inventory[i]
        target = p.inventory_target * expected
        ratio = (1 + p.markup) * w / z / prior.price[i]
        response = p.price_inventory_response * (target - store) / (target + store)
        wage.append(w)
        productivity.append(z)
        price.append(prior.price[i] * ratio**p.price_adjustment * np.exp(response))
        labour_demand.append(max(0, expected + p.inventory_adjustment * (target - store)) / z)

    employer, shop = [], []
    seen_at_work = int(noise.work_visit * n)
    seen_shopping = int(noise.shop_visit * n)
    mean_wage, level = np.mean(wage), np.mean(price)
    for h in households:
        j, k = int(prior.employer[h]), (h + seen_at_work) % n
        worth = [
            p.job_choice_intensity * prior.working_share[i] * wage[i] / mean_wage for i in (j, k)
        ]
        moves = noise.chance[h] < p.job_search / (1 + np.exp(worth[0] - worth[1]))
        employer.append(k if moves else j)
        j, k = int(prior.shop[h]), (h + seen_shopping) % n
        worth = [
            p.shop_choice_intensity * (prior.served_share[i] - price[i] / level) for i in (j, k)
        ]
        moves = 1 - noise.chance[h] < p.shop_search / (1 + np.exp(worth[0] - worth[1]))
        shop.append(k if moves else j)

    workforce = [sum(prior.skill[h] for h in households if employer[h] == i) for i in firms]
    working = [
        min(1, labour_demand[i] / workforce[i], prior.firm_money[i] / (wage[i] * workforce[i]))
        if workforce[i]
        else 1
        for i in firms
    ]
    paid = [wage[i] * working[i] * workforce[i] for i in firms]
    dividends = [p.payout_rate * (prior.firm_money[i] - paid[i]) for i in firms]
    taxes = p.tax_rate * (sum(paid) + sum(dividends))
    transfers = taxes + p.money_growth * prior.money_supply
    income, budget = [], []
    for h in households:
        earned = prior.skill[h] * working[employer[h]] * wage[employer[h]]
        capital = sum(dividends) * prior.household_money[h] / sum(prior.household_money)
        net = (1 - p.tax_rate) * (earned + capital) + transfers / len(households)
        income.append(net)
        budget.append(
            p.propensity_to_consume_income * net
            + p.propensity_to_consume_wealth * prior.household_money[h]
        )
    output = [productivity[i] * working[i] * workforce[i] for i in firms]
    demand = [sum(budget[h] for h in households if shop[h] == i) / price[i] for i in firms]
    supply = [prior.inventory[i] + output[i] for i in firms]
    served = [min(1, supply[i] / demand[i]) if demand[i] else 1 for i in firms]
    return {
        "wage": wage,
        "price": price,
        "employer": employer,
        "shop": shop,
        "workforce": workforce,
        "working_share": working,
        "demand": demand,
        "disposable_income": income,
        "household_money": [
            prior.household_money[h] + income[h] - served[shop[h]] * budget[h] for h in households
        ],
        "firm_money": [
            prior.firm_money[i] - paid[i] - dividends[i] + served[i] * price[i] * demand[i]
            for i in firms
        ],
        "inventory": [supply[i] - served[i] * demand[i] for i in firms],
        "expected_demand": [
            (1 - p.expectation_gain) * prior.expected_demand[i] + p.expectation_gain * demand[i]
            for i in firms
        ],
        "output": sum(output),
        "inflation": level / prior.price_level - 1,
        "unemployment": 1
        - sum(w * s for w, s in zip(working, workforce, strict=True)) / sum(workforce),
        "vacancies": sum(max(0, labour_demand[i] - workforce[i]) for i in firms) / sum(workforce),
        "wage_share": sum(paid) / sum(price[i] * output[i] for i in firms),
        "price_dispersion": np.std(price) / level,
        "money_supply": prior.money_supply + transfers - taxes,
    }


def test_the_step_is_what_each_agent_does():
    params, found = SMALL.params(), jax.tree.map(np.asarray, path())
    draws = jax.tree.map(np.asarray, SMALL.noise(KEY, periods=PERIODS))
    moved = 0
    for t in range(1, PERIODS):
        expected = agent_by_agent(found[t - 1], params, draws[t])
        for name, value in expected.items():
            np.testing.assert_allclose(
                getattr(found, name)[t], value, rtol=1e-9, atol=1e-12, err_msg=f"{name} in {t}"
            )
        moved += np.sum(found.shop[t] != found.shop[t - 1])
    assert moved > PERIODS and np.any(found.served_share < 1) and np.any(found.working_share == 1)


def test_equations_name_what_the_step_uses():
    assert equation_mismatches(TwoMarketsABM) == []


@pytest.mark.parametrize("relaxation", [EXACT, GumbelSoftmax(0.5, hard=False)], ids=repr)
def test_money_is_conserved(relaxation):
    """By the numbers and by their tangents; also the identity that no account shows, sum by sum."""
    model = SMALL.configure(relaxation=relaxation)
    params = jax.tree.map(jnp.asarray, model.params())

    def left_over(params):
        path = simulate(model, params, key=KEY, periods=60)
        held = path.household_money.sum(1) + path.firm_money.sum(1)
        sums = residuals(model, path, relative=True)
        return {**sums, "held": held / path.money_supply - 1}, path

    direction = jax.tree.map(lambda value: 0.1 * value, params)
    (sums, found), (tangents, moved) = jax.jvp(left_over, (params,), (direction,))
    assert {"Instrument Money", "Sector Household", "Sector Firm", "Sector Government"} < set(sums)
    for name, values in sums.items():
        np.testing.assert_allclose(values, 0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(tangents[name], 0, atol=1e-9, err_msg=name)
    assert np.abs(moved.household_money).max() > 0.1
    growth = found.money_supply[1:] / found.money_supply[:-1] - 1
    np.testing.assert_allclose(growth, 0.002, rtol=1e-9)


def test_bounds_that_no_path_leaves():
    wild = SMALL.params(
        technology_shock=0.1, firm_technology_shock=0.3, payout_rate=1.0, inventory_target=0.05
    )
    found = simulate(SMALL, wild, key=KEY, periods=200)
    for name in ("household_money", "firm_money", "inventory", "labour_demand", "served_share"):
        assert np.min(getattr(found, name)) >= 0, name
    for name in ("working_share", "served_share", "unemployment"):
        assert np.max(getattr(found, name)) <= 1, name
    for name in ("employer", "shop"):
        numbers = getattr(found, name)
        assert np.all(numbers == np.round(numbers)) and np.all((numbers >= 0) & (numbers < 7))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found.workforce.sum(1), found.skill[0].sum(), rtol=1e-12)


def test_money_is_neutral():
    """Twice the money at twice the prices: the same economy."""
    start = path()[-1]
    nominal = ("wage", "price", "price_level", "firm_money", "household_money", "money_supply")
    doubled = start.replace(**{name: 2 * getattr(start, name) for name in nominal})
    draws = SMALL.noise(KEY, periods=PERIODS)
    one, two = (simulate(SMALL, initial=s, noise=draws) for s in (start, doubled))
    for name in ("output", "unemployment", "inflation", "wealth_gini", "employer", "shop"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(two.price_level, 2 * one.price_level, rtol=1e-12)


def moves_between(one: Any, two: Any) -> list[tuple[int, int, str]]:
    """The moves that two runs do not share: in which month, which household, what it changed."""
    moves = [
        (int(t), int(h), kind)
        for kind in ("employer", "shop")
        for t, h in np.argwhere(np.asarray(getattr(one, kind)) != np.asarray(getattr(two, kind)))
    ]
    return sorted(moves)


SCALARS = tuple(name for name, field in SMALL.State.fields.items() if not field.shape)


@functools.cache
def slopes() -> Any:
    """The derivatives along the path by every parameter."""
    return diff.jacobian(
        SMALL, of=(*SCALARS, "household_money"), wrt="params", key=KEY, periods=PERIODS
    )


@functools.cache
def ends() -> Any:
    """Runs with common random numbers on either side of the parameters, two for each, in one batch;
    the last two with parameters that are not near."""
    names = list(SMALL.Params.fields)
    values = {name: float(getattr(SMALL.params(), name)) for name in names}
    steps = {name: 1e-6 * max(abs(value), 1e-2) for name, value in values.items()}
    rows = {name: np.full(2 * len(names) + 2, value) for name, value in values.items()}
    for at, name in enumerate(names):
        rows[name][2 * at : 2 * at + 2] += np.array([-1, 1]) * steps[name]
    rows["shop_search"][-2:] = 0.1, 0.12
    return steps, simulate(SMALL, SMALL.params(**rows), key=KEY, periods=PERIODS)


def test_pathwise_derivatives_are_those_of_common_random_numbers():
    found, (steps, runs) = slopes(), ends()
    for at, (name, step) in enumerate(steps.items()):
        low, high = (jax.tree.map(lambda leaf, i=i: leaf[:, i], runs) for i in (2 * at, 2 * at + 1))
        assert moves_between(low, high) == [], name
        for variable in ("output", "household_money", "price_dispersion"):
            values = np.asarray(getattr(low, variable)), np.asarray(getattr(high, variable))
            slope = (values[1] - values[0]) / (2 * step)
            scale = np.abs(slope).max()
            # Values are rounded, and divided by a step; the step's own error is of its square.
            rounding = 1e-14 * np.abs(values[0]).max() / step
            np.testing.assert_allclose(
                found[variable, f"params.{name}"],
                slope,
                atol=1e-6 * scale + rounding,
                err_msg=f"{variable} by {name}",
            )
            assert (scale > 0) == (name in SMOOTH), (variable, name)


def test_where_a_path_jumps_it_is_a_move():
    low, high = (jax.tree.map(lambda leaf, i=i: leaf[:, i], ends()[1]) for i in (-2, -1))
    month, _household, kind = moves_between(low, high)[0]
    assert kind == "shop"
    np.testing.assert_array_equal(low.output[: month + 1], high.output[: month + 1])
    assert not np.array_equal(low.demand[month], high.demand[month])


def test_eight_parameters_can_be_told_apart():
    """Means and variances of a run respond to the parameters in at least eight directions."""
    found, rows = jax.tree.map(np.asarray, path()), []
    for name in ("unemployment", "vacancies", "inflation", "wage_share", "income_gini"):
        values = getattr(found, name)
        for weight in (np.ones(PERIODS), 2 * (values - values.mean())):
            moment = np.abs(weight @ values)
            rows.append(
                [
                    weight
                    @ np.asarray(slopes()[name, f"params.{key}"])
                    * float(getattr(SMALL.params(), key))
                    / moment
                    for key in SMOOTH
                ]
            )
    sizes = np.linalg.svd(np.array(rows), compute_uv=False)
    assert np.sum(sizes > 1e-2 * sizes[0]) >= 8, sizes


@pytest.mark.parametrize("relaxation", [StraightThrough(), GumbelSoftmax(0.3)], ids=repr)
def test_hard_relaxations_change_derivatives_only(relaxation):
    model = SMALL.configure(relaxation=relaxation)
    found = path(PERIODS, model)
    for name in SMALL.State.fields:
        np.testing.assert_allclose(
            getattr(found, name), getattr(path(), name), rtol=1e-10, atol=1e-12, err_msg=name
        )
    assert np.any(slope_by_search(model))


def slope_by_search(model: Any) -> Any:
    def output(search: Any) -> Any:
        params = model.params(shop_search=search)
        return simulate(model, params, key=KEY, periods=3, record=("output",)).output

    return jax.jacfwd(output)(0.1)


def test_rounded_corners_come_near_the_exact_ones():
    gaps = []
    for sharpness in (100.0, 5000.0):
        found = path(PERIODS, SMALL.configure(sharpness=sharpness))
        gaps.append(np.abs(found.unemployment - path().unemployment).max())
    assert gaps[0] > gaps[1] and gaps[1] < 5e-3
    with pytest.raises(ValueError, match="sharpness must be positive, or None for exact minima"):
        SMALL.configure(sharpness=0.0)


def test_in_the_long_run_customers_are_as_the_logit_of_their_shops_value():
    """Pairwise comparisons by logit have the stationary law exp(value) (detailed balance)."""
    value, months = jnp.array([0.0, 0.3, -0.5, 1.0]), 40_000

    @jax.jit
    def shares(key):
        def move(firm, key):
            chance, visit = (
                jax.random.uniform(k, s)
                for k, s in zip(jax.random.split(key), ((100,), ()), strict=True)
            )
            firm = twomarketsabm._moved(firm, value, 0.5, chance, visit, 1.0, EXACT)[0]
            return firm, jnp.bincount(firm.astype(int), length=4) / 100

        return jax.lax.scan(move, jnp.zeros(100), jax.random.split(key, months))[1]

    # Means over a hundred months each are as good as independent of each other: a household moves
    # every few months.
    means = np.asarray(shares(KEY))[100:].reshape(-1, 100, 4).mean(1)
    errors = means.std(0) / np.sqrt(len(means))
    expected = np.exp(value) / np.exp(value).sum()
    assert np.all(errors < 0.005)
    assert np.all(np.abs(means.mean(0) - expected) < 4 * errors), (means.mean(0), expected)


def test_runs_do_not_depend_on_the_batch():
    keys = run_keys(4, 5)
    batch = simulate(SMALL, key=keys, periods=PERIODS)
    alone = simulate(SMALL, key=keys[3], periods=PERIODS)
    np.testing.assert_array_equal(batch.employer[:, 3], alone.employer)
    np.testing.assert_allclose(batch.household_money[:, 3], alone.household_money, rtol=1e-12)
    other = simulate(SMALL, key=jax.random.key(0, impl="unsafe_rbg"), periods=PERIODS)
    assert np.isfinite(other.output).all()


def test_float32():
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), SMALL.params())
    found = simulate(SMALL, params, key=KEY, periods=60)
    assert found.household_money.dtype == np.float32 and found.shop.dtype == np.float32
    held = found.household_money.sum(1) + found.firm_money.sum(1)
    np.testing.assert_allclose(held, found.money_supply, rtol=60 * 1.2e-7)


@functools.cache
def economy() -> Any:
    """A thousand months of the economy as it comes, the first 200 left out."""
    record = [name for name, field in TwoMarketsABM.State.fields.items() if not field.shape]
    found = simulate(TwoMarketsABM, key=KEY, periods=1000, record=[*record, "demand", "workforce"])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[200:], found)


def test_the_economy_is_a_sensible_one():
    found = economy()
    assert found.unemployment.min() > 0.02 and found.unemployment.max() < 0.15
    assert 0.6 < found.wage_share.mean() < 0.8
    # Prices follow money, whose growth is the parameter; real money is stationary.
    growth = np.log(found.price_level[-1] / found.price_level[0]) / 799
    assert growth == pytest.approx(np.log(1.002), abs=2 * np.log(1.2) / 799)
    for name in ("demand", "workforce"):  # of 50 firms
        largest = getattr(found, name).max(1) / getattr(found, name).sum(1)
        assert largest.max() < 0.1, name
    halves = found.output[:400].mean() / found.output[400:].mean()
    assert halves == pytest.approx(1, abs=0.02)
    beveridge = np.corrcoef(found.unemployment, found.vacancies)[0, 1]
    assert beveridge < -0.3


def test_the_gini_coefficient_of_pairs():
    found = simulate(TwoMarketsABM, key=KEY, periods=3)
    money = np.sort(np.asarray(found.household_money)[-1])
    n = len(money)
    exact = np.sum((2 * np.arange(1, n + 1) - n - 1) * money) / (n * money.sum())
    gaps = np.abs(np.subtract.outer(money, money)).ravel() / (2 * money.mean())
    error = gaps.std() / np.sqrt(n / 2)
    assert float(found.wealth_gini[-1]) == pytest.approx(exact, abs=4 * error)
    assert 0.1 < economy().wealth_gini.mean() < 0.4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: TwoMarketsABM.params(tax_rate=1.5),
            ValueError,
            "'tax_rate' must lie in its bounds",
        ),
        (lambda: TwoMarketsABM.params(job_search=0.7), ValueError, r"bounds \[0, 0.5\]"),
        (lambda: TwoMarketsABM.resize(household=0), ValueError, "size of at least 1"),
        (lambda: TwoMarketsABM.resize(bank=3), KeyError, "no axis 'bank'"),
        (lambda: simulate(TwoMarketsABM), TypeError, "TwoMarketsABM is random: pass key"),
        (lambda: simulate(TwoMarketsABM, key=3), TypeError, "key must be a PRNG key"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
