"""Model IOPC: its two systems of equations exactly, its accounts in goods, and the model it extends."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import simulate
from macrostat_jax.models import IOPC

REFERENCE = Path(__file__).parents[1] / "reference" / "PCEX2.csv"
REQUIREMENT = (("0.11", "0.12", "0.10"), ("0.21", "0.22", "0.20"), ("0.15", "0.18", "0.10"))


def solved(matrix, right):
    """The solution of a linear system in exact fractions, by Gauss-Jordan elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        rows[i] = pivot = [value / pivot[i] for value in pivot]
        for j, row in enumerate(rows):
            if j != i:
                rows[j] = [a - row[i] * b for a, b in zip(row, pivot, strict=True)]
    return [row[-1] for row in rows]


def test_first_period_in_exact_fractions():
    a = [[Fraction(value) for value in row] for row in REQUIREMENT]
    unit = [[Fraction(i == j) for j in range(3)] for i in range(3)]
    wage, markup = Fraction("0.4"), Fraction("0.875")
    costs = [wage / Fraction(value) for value in ("3.5", "5", "2.2")]
    # A good needs what stands in its column of the requirements.
    system = [[unit[i][j] - (1 + markup) * a[j][i] for j in range(3)] for i in range(3)]
    prices = solved(system, costs)
    demand = [20 * Fraction(share) for share in ("0.1", "0.3", "0.6")]
    outputs = solved([[unit[i][j] - a[i][j] for j in range(3)] for i in range(3)], demand)
    income = sum(p * d for p, d in zip(prices, demand, strict=True))

    first = simulate(IOPC)[0]
    np.testing.assert_allclose(first.prices, [float(p) for p in prices], rtol=1e-14)
    np.testing.assert_allclose(first.real_gross_output, [float(x) for x in outputs], rtol=1e-14)
    assert first.national_income == pytest.approx(float(income), rel=1e-14)
    assert first.taxes == pytest.approx(float(income) / 5, rel=1e-14)
    assert first.household_money_stock == pytest.approx(0.8 * float(income), rel=1e-14)
    assert first.real_consumption_household == 0


def test_at_unit_prices_and_without_inputs_it_is_model_pcex2():
    """The whole path, against an independent solver of that model."""
    params = IOPC.params(
        requirement=0.0,
        labour_productivity=0.4,
        propensity_to_consume_income_base=0.7,
        propensity_to_consume_income_interest=4.0,
    )
    path = simulate(IOPC, params)
    with open(REFERENCE, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[1:]
    columns = {
        "real_consumption_household": "C",
        "nominal_consumption_household": "C",
        "nominal_consumption_government": "G",
        "national_income": "Y",
        "taxes": "T",
        "household_money_stock": "Hh",
        "central_bank_money_stock": "Hs",
        "household_bill_stock": "Bh",
        "household_bill_demand": "Bd",
        "government_bill_stock": "Bs",
        "central_bank_bill_stock": "Bcb",
        "wealth": "V",
        "expected_wealth": "Ve",
        "interest_rate": "R",
        "disposable_income": "YD",
        "expected_disposable_income": "YDe",
    }
    for key, column in columns.items():
        expected = [float(row[column]) for row in rows]
        np.testing.assert_allclose(path[key], expected, rtol=0, atol=1e-9, err_msg=key)
    np.testing.assert_allclose(path.prices, 1.0, rtol=1e-14)
    np.testing.assert_allclose(path.real_gross_output, path.real_final_demand, rtol=1e-14)
    np.testing.assert_allclose(path.propensity_to_consume_income[1:], 0.6, rtol=1e-14)


def incomes(params, wage_rate, path):
    """Wages and profits, which both systems of equations must bring to national income."""
    wages = path.real_gross_output @ (wage_rate / params.labour_productivity)
    inputs = path.real_gross_output @ params.requirement.T
    return wages + params.markup * jnp.sum(path.prices * inputs, axis=1)


def test_national_income_is_wages_and_profits():
    params = IOPC.params(markup=0.6, labour_productivity=[3.0, 4.0, 2.5])
    path = simulate(IOPC, params, IOPC.scenario(wage_rate=0.7))
    np.testing.assert_allclose(incomes(params, 0.7, path), path.national_income, rtol=1e-13)


def test_with_other_industries():
    model = IOPC.resize(sector=("Farms", "Mines", "Shops", "Trains"))
    rng = np.random.default_rng(1)
    params = model.params(
        labour_productivity=[2.0, 3.0, 4.0, 5.0],
        household_budget_share=[0.4, 0.1, 0.3, 0.2],
        government_budget_share=0.25,
        requirement=rng.uniform(0, 0.2, (4, 4)),
    )
    path = simulate(model, params)
    assert path.prices.shape == (100, 4)
    np.testing.assert_allclose(incomes(params, 0.4, path), path.national_income, rtol=1e-13)


def test_twice_the_wage_is_twice_every_nominal_variable():
    one, two = simulate(IOPC), simulate(IOPC, scenario=IOPC.scenario(wage_rate=0.8))
    for key, field in IOPC.State.fields.items():
        factor = 2.0 if field.unit == "USD" else 1.0
        np.testing.assert_allclose(two[key], factor * one[key], rtol=1e-11, atol=1e-11, err_msg=key)


def test_rising_prices_take_from_wealth_in_the_period_they_rise():
    path = simulate(IOPC, scenario=IOPC.scenario(wage_rate=0.5, start=60))
    loss = path.consumer_price_inflation
    # Prices rise by a quarter with the wage; what is left of last period's wealth is 1 / 1.25 of it.
    before = float(path.wealth[59] / path.consumer_price_index[59])
    assert loss[60] == pytest.approx(before * (1 - 1 / 1.25), rel=1e-12)
    assert np.max(np.abs(np.delete(loss, 60))) < 1e-12
    assert path.real_consumption_household[60] < path.real_consumption_household[59]


def barely_productive() -> np.ndarray:
    """Requirements of which a markup of 0.99 is the most that prices can cover.

    They exist while (1 + markup) times the spectral radius of the requirements is less than 1.
    """
    requirement = np.asarray(IOPC.params().requirement)
    return requirement / (1.99 * np.max(np.abs(np.linalg.eigvals(requirement))))


def test_unproductive_industries_are_named():
    requirement = barely_productive()
    params = IOPC.params(markup=0.98, requirement=requirement)
    assert np.all(simulate(IOPC, params).prices > 0)
    with pytest.raises(RuntimeError, match=r"IOPC: .* equations of period 0 .* for prices"):
        simulate(IOPC, IOPC.params(markup=1.0, requirement=requirement))
    with pytest.raises(RuntimeError, match=r"IOPC: .* equations of period 7 .* for prices"):
        simulate(IOPC, params, shocks=IOPC.shocks(markup_add=0.02, start=7))
    with pytest.raises(RuntimeError, match=r"IOPC: .* equations of period 0 .* for prices"):
        simulate(IOPC, IOPC.params(requirement=np.eye(3), markup=0.0))  # singular


def test_unproductive_industries_in_a_batch_leave_the_others_alone():
    params = IOPC.params(markup=np.array([0.98, 1.0]), requirement=barely_productive())
    with pytest.warns(RuntimeWarning, match=r"IOPC: in 1 of 2 runs .*run 1: from period 0"):
        path = simulate(IOPC, params)
    assert np.all(np.isfinite(path.wealth[:, 0])) and np.all(np.isnan(path.wealth[:, 1]))


def test_derivatives_by_a_requirement_are_finite_from_the_start():
    def income(requirement):
        params = IOPC.params().replace(requirement=requirement)
        return simulate(IOPC, params, periods=30).national_income[-1]

    requirement = jnp.asarray(IOPC.params().requirement)
    reverse, forward = jax.grad(income)(requirement), jax.jacfwd(income)(requirement)
    np.testing.assert_allclose(reverse, forward, rtol=1e-11)
    assert np.all(np.asarray(reverse) > 0)  # what is harder to make costs more, in all prices
