"""Model INSOUT: against an independent solver, the published package's lag, and its own switches."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_cases import as_published

from macrostat_jax import models, simulate

MODEL = models.GL06INSOUT
START = 20
"""The first row of the reference that does not depend on how its solver takes 0/0."""

COLUMNS = {
    "real_government_spending": "g",
    "bill_rate": "rb",
    "bond_yield": "rbl",
    "deposit_rate": "rm",
    "loan_rate": "rl",
    "advance_rate": "ra",
    "price_level": "p",
    "inflation_rate": "pi",
    "nominal_wage": "W",
    "target_real_wage": "omegaT",
    "unit_cost": "UC",
    "normal_historic_unit_cost": "NHUC",
    "expected_sales": "sE",
    "real_sales": "s",
    "real_output": "y",
    "target_inventory_sales_ratio": "sigmaT",
    "target_inventories": "invT",
    "expected_inventories": "invE",
    "real_inventories": "inv",
    "actual_inventory_sales_ratio": "sigmas",
    "nominal_inventories": "INV",
    "employment": "N",
    "wage_bill": "WB",
    "nominal_sales": "S",
    "nominal_output": "Y",
    "nominal_consumption": "C",
    "government_spending": "G",
    "real_consumption": "c",
    "taxes": "TX",
    "loan_demand": "Ld",
    "firm_profits": "FXf",
    "total_dividends": "FX",
    "regular_disposable_income": "YDr",
    "capital_gains": "CG",
    "haig_simons_disposable_income": "YDhs",
    "nominal_wealth": "V",
    "real_regular_disposable_income": "ydr",
    "real_wealth": "v",
    "expected_real_disposable_income": "ydrE",
    "nominal_expected_disposable_income": "YDrE",
    "expected_nominal_wealth": "VE",
    "cash_demand": "Hhd",
    "expected_non_cash_wealth": "VncE",
    "m1_demand_tentative": "M1hN",
    "m2_demand": "M2d",
    "bills_demand": "Bhd",
    "bonds_demand": "BLd",
    "non_cash_wealth": "Vnc",
    "switch_m1_positive": "z1",
    "switch_m2_absorber": "z2",
    "cash_household": "Hhh",
    "m1_household": "M1h",
    "m2_household": "M2h",
    "bills_household": "Bhh",
    "bonds_household": "BLh",
    "bond_price": "pbl",
    "expected_return_on_bonds": "ERrbl",
    "public_sector_borrowing_requirement": "PSBR",
    "bonds_supply": "BLs",
    "bills_supply": "Bs",
    "government_debt": "GD",
    "loans_supply": "Ls",
    "m1_supply": "M1s",
    "m2_supply": "M2s",
    "required_reserves": "Hbd",
    "cash_banks_supply": "Hbd",
    "bills_bank_tentative": "BbdN",
    "bank_liquidity_ratio_tentative": "BLRN",
    "switch_bank_below_floor": "z3",
    "advances_demand": "Ad",
    "bills_bank": "Bbd",
    "bank_liquidity_ratio": "BLR",
    "lagged_m1_supply": "lM1s",
    "lagged_m2_supply": "lM2s",
    "bank_profits": "FXb",
    "bank_profit_margin": "BPM",
    "advances_supply": "As",
    "bills_central_bank": "Bcb",
    "high_powered_money": "Hs",
    "bank_reserves_supply": "Hbs",
    "central_bank_profits": "FXcb",
}


def reference() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[1] / "reference" / "INSOUT.csv"
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    return {"real_wage": table["W"] / table["p"]} | {k: table[c] for k, c in COLUMNS.items()}


def row(number: int) -> Any:
    return MODEL.State(**{key: values[number] for key, values in reference().items()})


def lower_consumption(model: Any) -> Any:
    """From the steady state, households consume 0.8 instead of 0.95 of their income from row 4 on."""
    shocks = model.shocks(periods=60, start=3, propensity_to_consume_income_add=-0.15)
    return simulate(model, shocks=shocks, initial=row(-1), periods=60)


def test_path_of_an_independent_solver():
    table = reference()
    assert set(table) == set(MODEL.State.fields)
    path = simulate(MODEL, initial=row(START), periods=209 - START)
    for key, values in table.items():
        found = getattr(path, key)
        np.testing.assert_allclose(found, values[START + 1 :], rtol=1e-8, atol=1e-8, err_msg=key)
    for switch in ("switch_m1_positive", "switch_bank_below_floor"):
        assert {0.0, 1.0} == set(np.asarray(getattr(path, switch)))  # both sides are seen


def test_last_row_is_nearly_steady():
    state = row(-1)
    after = MODEL.step(state, MODEL.params(), MODEL.scenario()[0])
    for key in MODEL.State.fields:
        np.testing.assert_allclose(getattr(after, key), getattr(state, key), rtol=2e-4, atol=2e-3)


def test_profit_margin_is_over_the_deposits_of_two_periods():
    """Equation 10.82; the published package takes the deposits of the last period twice."""
    path, published = lower_consumption(MODEL), lower_consumption(as_published("GL06INSOUT"))
    np.testing.assert_allclose(path.bank_profit_margin[4:6], [0.004286, 0.004030], atol=5e-7)
    np.testing.assert_allclose(published.bank_profit_margin[4:6], [0.004149, 0.004689], atol=5e-7)
    # By hand: profits and deposits of two periods each.
    profits = path.bank_profits[1:] + path.bank_profits[:-1]
    deposits = path.m1_supply + path.m2_supply
    margin = profits[1:] / (deposits[1:-1] + deposits[:-2])
    np.testing.assert_allclose(path.bank_profit_margin[2:], margin, rtol=1e-13)
    np.testing.assert_array_equal(path.lagged_m1_supply[1:], path.m1_supply[:-1])
    np.testing.assert_array_equal(path.lagged_m2_supply[1:], path.m2_supply[:-1])
    # What it depends on: the loan rate moves in other periods, and production with it.
    moved = np.asarray(path.loan_rate) != np.asarray(published.loan_rate)
    assert moved.any()
    first = int(np.argmax(moved))
    np.testing.assert_allclose(path.real_output[:first], published.real_output[:first], rtol=1e-13)
    assert np.max(np.abs(path.real_output - published.real_output)) > 1e-3


def test_first_period_from_nothing():
    """Firms sell from stocks that they do not have; government spending is all income there is."""
    params = MODEL.params()
    state = simulate(MODEL, periods=1)[0]
    wage = 1 + 0.1 * (0 - 1)
    ratio = 0.3612 - 3 * 0.023
    price = 1.25 * 1.1 * ((1 - ratio) * wage + ratio)
    taxes = price * 25 * 0.25 / 1.25
    expected = {
        "real_output": 0.0,
        "unit_cost": wage,
        "price_level": price,
        "real_sales": 25.0,
        "real_inventories": -25.0,
        "taxes": taxes,
        "nominal_wealth": price * 25 - taxes - 25 * wage,
        "bank_profit_margin": 0.0035,
        "loan_rate": 0.023,
        "deposit_rate": 0.0002 + 0.9 * 0.023,
        "target_real_wage": np.exp(params.real_wage_target_constant),
    }
    for key, value in expected.items():
        np.testing.assert_allclose(getattr(state, key), value, rtol=1e-14, err_msg=key)


# Its switches ------------------------------------------------------------------------------------


def departures(sharpness: float | None) -> Any:
    """Every experiment from the steady state, one after the other."""
    model = MODEL.configure(sharpness=sharpness)
    return [
        simulate(
            model,
            scenario=model.scenario(name),
            shocks=model.shocks(name),
            initial=row(-1),
        )
        for name in MODEL.scenarios
    ]


def test_smooth_switches_are_as_near_as_they_say():
    state, params, scenario = row(-1), MODEL.params(), MODEL.scenario()[0]
    sharpness = 40.0
    smooth = MODEL.configure(sharpness=sharpness)
    for liquidity in np.linspace(0.0, 0.1, 41):
        prior = state.replace(bank_liquidity_ratio_tentative=liquidity)
        exact, near = (model.step(prior, params, scenario) for model in (MODEL, smooth))
        away = 100 * np.array([abs(liquidity - 0.02), abs(liquidity - 0.06)])
        bound = 0.0002 * np.sum(np.exp(-sharpness * away))
        if np.min(away) > 1e-9:
            assert abs(near.deposit_rate - exact.deposit_rate) <= bound + 1e-17
    for floor in np.linspace(0.0, 0.1, 41):
        params = MODEL.params(bank_liquidity_floor=floor)
        exact, near = (model.step(state, params, scenario) for model in (MODEL, smooth))
        away = 100 * abs(floor - exact.bank_liquidity_ratio_tentative)
        # One step of the deposit rate moves the liquidity by some 0.3 points.
        if away > 1:
            gap = abs(near.switch_bank_below_floor - exact.switch_bank_below_floor)
            assert gap <= np.exp(-sharpness * (away - 0.5))


def test_smooth_paths_approach_the_exact_one():
    exact = departures(None)
    for sharpness, bound in ((20.0, 2e-3), (100.0, 1e-3), (1e6, 1e-12)):
        for path, smooth in zip(exact, departures(sharpness), strict=True):
            gap = np.abs(smooth.real_output - path.real_output) / path.real_output
            assert np.max(gap) < bound


def test_smooth_switches_have_derivatives():
    def loan_rate(model: Any, floor: Any) -> Any:
        params = MODEL.params().replace(bank_profit_floor=floor)
        return simulate(model, params, initial=row(START), periods=20).loan_rate[-1]

    floor = jnp.asarray(0.003)
    assert jax.grad(lambda f: loan_rate(MODEL, f))(floor) == 0
    smooth = MODEL.configure(sharpness=50.0)
    slope = jax.grad(lambda f: loan_rate(smooth, f))(floor)
    low, high = (float(loan_rate(smooth, floor + h)) for h in (-1e-7, 1e-7))
    assert slope > 0.1
    assert float(slope) == pytest.approx((high - low) / 2e-7, rel=1e-5)
