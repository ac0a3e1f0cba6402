"""Models PCEX and PCEX2: what expectations and an interest rate that moves spending change."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from macrostat_jax import models, simulate
from macrostat_jax.models import gl06pcex2

PC, PCEX, PCEX2 = models.GL06PC, models.GL06PCEX, models.GL06PCEX2
RISE = {"interest_rate": 0.035, "start": 50, "periods": 400}


def raised(model, **series):
    return simulate(model, scenario=model.scenario(**RISE, **series))


def test_money_absorbs_what_was_not_expected():
    path = simulate(PCEX)
    surprise = path.disposable_income - path.expected_disposable_income
    assert np.max(surprise) > 10
    planned_money = path.expected_wealth - path.household_bill_demand
    found = path.household_money_stock - planned_money
    np.testing.assert_allclose(found, surprise, rtol=0, atol=1e-11)


def test_expectations_change_the_way_and_not_the_end():
    with_them, without = raised(PCEX), raised(PC)
    assert np.max(np.abs(with_them.national_income - without.national_income)) > 1
    for path in (with_them, without):
        # The book's steady states before and after the rise: 20 + YD, YD = 86.486 and 90.090.
        assert path.national_income[-1] == pytest.approx(110.090090, abs=5e-7)
        assert path.wealth[-1] == pytest.approx(90.090090, abs=5e-7)


def test_a_rise_of_the_interest_rate_depresses_spending_one_period_later():
    with_it, without = raised(PCEX2), raised(PCEX)
    for key in PCEX.State.fields:
        np.testing.assert_allclose(
            getattr(with_it, key)[:51], getattr(without, key)[:51], rtol=1e-13, atol=1e-13
        )
    # alpha_1 falls from 0.6 by 4 x 0.01, of the income expected in that period.
    less = float(-0.04 * with_it.expected_disposable_income[51])
    found = with_it.consumption_household[51] - without.consumption_household[51]
    assert found == pytest.approx(less, rel=1e-12)
    income = with_it.national_income
    assert income[51] < income[49] < income[-1]
    # alpha_1 = 0.56, so V = 1.1 YD and B_h = 0.81 V - 0.01 YD = 0.881 YD; with a balanced budget
    # YD = 0.8 (20 + YD + 0.035 x 0.881 YD).
    disposable_income = 16 / (0.2 - 0.8 * 0.035 * 0.881)
    assert income[-1] == pytest.approx(20 + disposable_income, rel=1e-12)
    assert with_it.wealth[-1] == pytest.approx(1.1 * disposable_income, rel=1e-12)


def test_a_shock_to_the_propensity_that_the_interest_rate_moves():
    scenario = PCEX2.scenario(propensity_to_consume_income_add=0.05)
    by_series = simulate(PCEX2, scenario=scenario)
    by_base = simulate(PCEX2, PCEX2.params(propensity_to_consume_income_base=0.75))
    for key in PCEX2.State.fields:
        np.testing.assert_allclose(
            getattr(by_series, key), getattr(by_base, key), rtol=1e-13, atol=1e-13
        )
    state = gl06pcex2.steady_state(PCEX2.params(), scenario[0])
    assert state.wealth / state.disposable_income == pytest.approx(0.35 / 0.4, rel=1e-14)


@pytest.mark.parametrize("model", [PCEX, PCEX2], ids=lambda model: model.name)
def test_the_first_period_has_derivatives(model):
    """Nothing is expected then, of no wealth: bills per unit of wealth would be 0 / 0."""

    def bills(params):
        return simulate(model, params, periods=2).household_bill_stock

    for derivative in (jax.jacrev, jax.jacfwd):
        found = derivative(bills)(model.params())
        # B_h = 0 and then (lambda_0 + lambda_1 r) V^e - lambda_2 YD^e with V^e = YD^e = 16.
        np.testing.assert_allclose(found.wealth_share_bills_constant, [0.0, 16.0])
        np.testing.assert_allclose(found.wealth_share_bills_income, [0.0, -16.0])
