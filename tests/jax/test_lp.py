"""Models LP, LP2 and LP3: other solvers' paths, the book's equations, the two feedbacks."""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from macrostat_jax import models, simulate

REFERENCE = Path(__file__).parents[1] / "reference"
LP, LP2, LP3 = (models.get(f"GL06{name}") for name in ("LP", "LP2", "LP3"))
BOOK = {
    "consumption_household": "C",
    "consumption_government": "G",
    "national_income": "Y",
    "capital_gains": "CG",
    "wealth": "V",
    "household_bill_stock": "Bh",
    "government_bill_stock": "Bs",
    "central_bank_bill_stock": "Bcb",
    "household_bond_stock": "BLh",
    "government_bond_supply": "BLs",
    "household_cash_stock": "Hh",
    "central_bank_money_stock": "Hs",
    "disposable_income": "YDr",
    "household_bill_demand": "Bd",
    "household_bond_demand": "BLd",
    "household_cash_demand": "Hd",
    "expected_return_on_bonds": "ERrbl",
}
COLUMNS = {
    "GL06LP": BOOK
    | {
        "taxes": "T",
        "expected_capital_gains": "CGe",
        "expected_disposable_income": "YDre",
        "expected_wealth": "Ve",
        "interest_rate_bills": "Rb",
        "bond_price": "Pbl",
        "bond_yield": "Rbl",
        "expected_bond_price": "Pble",
    },
    "GL06LP2": BOOK
    | {
        "taxes": "TX",
        "expected_capital_gains": "CGE",
        "expected_disposable_income": "YDEr",
        "expected_wealth": "VE",
        "interest_rate_bills": "rb",
        "bond_price": "pbl",
        "bond_yield": "rbl",
        "expected_bond_price": "pebl",
        "target_proportion": "TP",
    },
}
COLUMNS["GL06LP3"] = COLUMNS["GL06LP2"] | {"public_sector_borrowing_requirement": "PSBR"}


def table(model):
    name = model.name.removeprefix("GL06")
    with open(REFERENCE / f"{name}.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = COLUMNS[model.name].items()
    return {key: np.array([float(row[column]) for row in rows]) for key, column in columns}


def scenario_run(model, name=None, **more):
    return simulate(model, scenario=model.scenario(name), shocks=model.shocks(name), **more)


def values(record):
    return {key: np.asarray(value) for key, value in vars(record).items()}


def is_near(path, reference):
    for key, expected in reference.items():
        # The references have 13 digits, and are solved to 1e-14 or better in every period.
        np.testing.assert_allclose(getattr(path, key), expected[1:], rtol=0, atol=1e-9, err_msg=key)
    interest = reference["interest_rate_bills"][:-1]
    for key, expected in {
        "interest_on_bills_household": interest * reference["household_bill_stock"][:-1],
        "central_bank_profits": interest * reference["central_bank_bill_stock"][:-1],
        "bond_coupon_income_household": reference["household_bond_stock"][:-1],
    }.items():
        np.testing.assert_allclose(getattr(path, key), expected, rtol=0, atol=1e-9, err_msg=key)


def test_lp_from_nothing_is_that_of_other_solvers():
    reference = table(LP)
    assert len(reference["wealth"]) == 101
    is_near(simulate(LP), reference)


def test_lp2_from_the_books_stocks_is_that_of_other_solvers():
    reference = table(LP2)
    start = LP2.State.filled(0.0).replace(**{key: v[0] for key, v in reference.items()})
    is_near(simulate(LP2, scenario=LP2.scenario(periods=99), initial=start), reference)


def test_lp3_with_a_fall_of_the_propensity_to_consume_is_that_of_other_solvers():
    reference = table(LP3)
    start = LP3.State.filled(0.0).replace(**{key: v[0] for key, v in reference.items()})
    shocks = LP3.shocks(propensity_to_consume_income_add=-0.1, start=3, periods=59)
    params = LP3.params(fiscal_adjustment_speed=1.0)
    path = simulate(LP3, params, LP3.scenario(periods=59), shocks=shocks, initial=start)
    is_near(path, reference)
    assert path.consumption_government[-1] < 13.5 < start.consumption_government


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model in (LP, LP2, LP3) for name in (None, *model.scenarios)],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_books_equations_hold_on_every_path(model, name):
    """As the book writes them, where the price of bonds changes too, of which no reference tells."""
    whole = values(scenario_run(model, name))
    now = {key: value[1:] for key, value in whole.items()}
    last = {key: value[:-1] for key, value in whole.items()}
    scenario = {key: v[1:] for key, v in values(model.scenario(name)).items()}
    shocks = {key: v[1:] for key, v in model.shocks(name).items()}
    p = values(model.params())
    alpha_1 = p["propensity_to_consume_income"] + shocks.get("propensity_to_consume_income_add", 0)
    Y, T, C, G = (
        now[k]
        for k in ("national_income", "taxes", "consumption_household", "consumption_government")
    )
    YD, YDe, V, Ve = (
        now[k]
        for k in ("disposable_income", "expected_disposable_income", "wealth", "expected_wealth")
    )
    Bh, Bs, Bcb = (now[f"{k}_bill_stock"] for k in ("household", "government", "central_bank"))
    BLh, BLs = now["household_bond_stock"], now["government_bond_supply"]
    rb, price, priced = now["interest_rate_bills"], now["bond_price"], now["expected_bond_price"]
    CG, chi = now["capital_gains"], p["expectation_weight_bond_price"]
    ER = now["expected_return_on_bonds"]
    paid = last["interest_rate_bills"] * last["household_bill_stock"]
    coupons = last["household_bond_stock"]
    # Wealth that households expect is positive from the third period on; demands are shares of it.
    some = Ve > 0
    share = {
        kind: p[f"wealth_share_{kind}_constant"]
        + p[f"wealth_share_{kind}_bill_rate"] * rb[some]
        + p[f"wealth_share_{kind}_bond_return"] * ER[some]
        + p[f"wealth_share_{kind}_income"] * YDe[some] / Ve[some]
        for kind in ("bills", "bonds")
    }
    sides = {
        "5.1": (Y, C + G),
        "5.2": (YD, Y - T + paid + coupons),
        "5.3": (T, p["tax_rate"] * (Y + paid + coupons)),
        "5.4": (V - last["wealth"], YD - C + CG),
        "5.5": (CG, (price - last["bond_price"]) * last["household_bond_stock"]),
        "5.6": (C, alpha_1 * YDe + p["propensity_to_consume_savings"] * last["wealth"]),
        "5.7": (Ve - last["wealth"], YDe - C + CG),
        "5.8": (now["household_cash_stock"], V - Bh - price * BLh),
        "5.9": (now["household_cash_demand"] + Bh + price * BLh, Ve),
        "5.10": (now["household_bill_demand"][some] / Ve[some], share["bills"]),
        "5.11": ((price * now["household_bond_demand"])[some] / Ve[some], share["bonds"]),
        "5.12": (Bh, now["household_bill_demand"]),
        "5.13": (BLh, now["household_bond_demand"]),
        "5.14": (
            Bs - last["government_bill_stock"],
            G
            + last["interest_rate_bills"] * last["government_bill_stock"]
            + last["government_bond_supply"]
            - T
            - last["interest_rate_bills"] * last["central_bank_bill_stock"]
            - (BLs - last["government_bond_supply"]) * price,
        ),
        "5.15": (
            now["central_bank_money_stock"] - last["central_bank_money_stock"],
            Bcb - last["central_bank_bill_stock"],
        ),
        "5.16": (Bcb, Bs - Bh),
        "5.17": (BLs, BLh),
        "5.18": (ER, now["bond_yield"] + chi * (priced - price) / price),
        "5.19": (now["bond_yield"] * price, np.ones_like(price)),
        "5.21": (now["expected_capital_gains"], chi * (priced - price) * BLh),
        "5.22": (YDe, last["disposable_income"]),
        "5.23": (rb, scenario["interest_rate_bills"]),
    }
    if model is LP:
        sides["5.20"] = (priced, price)
        sides["5.24"] = (price, scenario["bond_price"])
    else:
        share = now["target_proportion"]
        z1 = share > p["target_proportion_upper"]
        z2 = share < p["target_proportion_lower"]
        move = p["bond_price_adjustment_step"] * (1.0 * z1 - 1.0 * z2)
        error = last["expected_bond_price"] - price
        held = last["bond_price"] * last["household_bond_stock"]
        sides["5.20B"] = (
            priced,
            last["expected_bond_price"]
            - p["expectation_adjustment_speed"] * error
            + scenario["expected_bond_price_shock"],
        )
        sides["5.24A"] = (price, (1 + move) * last["bond_price"])
        sides["5.27"] = (share * (held + last["household_bill_stock"]), held)
    if model is LP3:
        borrowed = last["public_sector_borrowing_requirement"]
        z = np.abs(borrowed / last["national_income"]) > p["psbr_threshold"]
        cut = z * p["fiscal_adjustment_speed"] * borrowed
        interest = rb * (last["government_bill_stock"] - last["central_bank_bill_stock"])
        sides["G"] = (G, last["consumption_government"] - cut)
        sides["PSBR"] = (
            now["public_sector_borrowing_requirement"],
            G + interest + last["government_bond_supply"] - T,
        )
    else:
        sides["G"] = (G, scenario["government_demand"])
    for equation, (left, right) in sides.items():
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-11, err_msg=equation)
    assert np.max(np.abs(CG)) > 1 or "interest" not in (name or "")


def test_steady_state_of_lp():
    state = LP.steady_state(LP.params(), LP.scenario()[0])
    path = simulate(LP, periods=1000)
    for key, value in vars(state).items():
        np.testing.assert_allclose(getattr(path, key)[-1], value, rtol=1e-11, atol=1e-11)
    # v = 1, b = 0.42496 - 0.03 and l = 0.4247 - 0.03 of disposable income, which is 0.8062 of
    # 20 + YD + 0.03 b YD + 0.05 l YD.
    income = 0.8062 * 20 / (0.1938 - 0.8062 * (0.03 * 0.39496 + 0.05 * 0.3947))
    assert state.disposable_income == pytest.approx(income, rel=1e-14)


def test_households_lose_on_bonds_when_rates_rise_and_earn_more_afterwards():
    path = scenario_run(LP, "Rise in interest rates", periods=100)
    before, hit = 49, 50
    loss = 5 * path.household_bond_stock[before]
    assert path.capital_gains[hit] == pytest.approx(-float(loss), rel=1e-14)
    assert np.count_nonzero(np.asarray(path.capital_gains)) == 1
    found = path.wealth[hit] - path.wealth[before]
    assert found == pytest.approx(-float(loss), abs=0.02)  # besides what was still saved
    # The book: income falls first, and ends higher, as the government pays more interest.
    income = path.national_income
    assert income[hit + 1] < income[before] < income[-1]
    end = LP.steady_state(LP.params(), LP.scenario("Rise in interest rates")[-1])
    assert income[-1] == pytest.approx(float(end.national_income), abs=0.05)


def share_of_bonds(state):
    held = state.bond_price * state.household_bond_stock
    return held / (held + state.household_bill_stock)


def rest(model, price=20.0):
    """The steady state of LP, which is one of the others' while the share of bonds is in bounds."""
    state = LP.steady_state(LP.params(), LP.scenario(bond_price=price)[0])
    assert 0.495 < share_of_bonds(state) < 0.505
    others = {
        "target_proportion": share_of_bonds(state),
        "public_sector_borrowing_requirement": 0.0,
    }
    own = {key: value for key, value in others.items() if key in model.State.fields}
    return model.State(**vars(state), **own)


@pytest.mark.parametrize("price", [19.5, 20.0, 20.2])
def test_every_price_at_which_the_share_of_bonds_is_in_bounds_is_at_rest(price):
    for model in (LP2, LP3):
        state = rest(model, price)
        after = model.step(state, model.params(), model.scenario()[0])
        for key, value in vars(state).items():
            np.testing.assert_allclose(getattr(after, key), value, rtol=1e-12, atol=1e-12)


def test_from_nothing_the_price_falls_until_bonds_are_held():
    path = simulate(LP2)
    np.testing.assert_array_equal(path.target_proportion[:2], 0)
    np.testing.assert_allclose(path.bond_price, 20 * 0.98 ** np.minimum(np.arange(1, 101), 2))
    assert np.all((path.target_proportion[2:] > 0.495) & (path.target_proportion[2:] < 0.505))


def test_liquidity_preference_moves_the_long_rate():
    for name in LP2.scenarios:
        path = scenario_run(LP2, name)
        assert path.bond_yield[-1] > path.bond_yield[49] + 0.003
    # Bonds are wanted less when bills pay more: their price falls, by 2 % a period.
    price = scenario_run(LP2, "Rise in bill rate").bond_price
    np.testing.assert_allclose(price[50:53] / price[49], [1, 0.98, 0.98**2], rtol=1e-14)


def after_a_change_of_propensity(model, change, **values):
    """From the steady state: the path, and by how much income differs in the end."""
    start = rest(model)
    path = simulate(
        model,
        model.params(**values),
        model.scenario(periods=400),
        shocks=model.shocks(propensity_to_consume_income_add=change, periods=400),
        initial=start,
    )
    return path, path.national_income[-1] - start.national_income


def test_the_fall_of_income_is_for_ever_where_the_government_cuts_its_spending():
    # More is saved, so there is more wealth to spend in the end: less income only on the way.
    assert after_a_change_of_propensity(LP2, -0.1)[1] > 1
    assert after_a_change_of_propensity(LP3, -0.1, fiscal_adjustment_speed=1.0)[1] < -5


def test_a_large_surplus_is_spent():
    path, more_income = after_a_change_of_propensity(LP3, 0.1, fiscal_adjustment_speed=1.0)
    borrowed = np.asarray(path.public_sector_borrowing_requirement)[:-1]
    large = borrowed / np.asarray(path.national_income)[:-1] < -0.03
    assert np.any(large)
    spending = np.asarray(path.consumption_government)
    spent = spending[1:] - spending[:-1]
    np.testing.assert_allclose(spent, np.where(large, -borrowed, 0), rtol=1e-12, atol=1e-12)
    assert more_income > 5


def test_rounded_switches_are_as_near_as_they_say():
    def distance(model, sharpness, name=None):
        exact = scenario_run(model, name)
        smooth = scenario_run(model.configure(sharpness=sharpness), name)
        params = model.params()
        share = exact.target_proportion
        bounds = params.target_proportion_upper, params.target_proportion_lower
        nearest = np.min([np.abs(share - bound) for bound in bounds], axis=0)
        allowed = 2 * params.bond_price_adjustment_step * np.exp(-2 * sharpness * nearest)
        found = np.abs(smooth.bond_price / exact.bond_price - 1)
        spending = np.abs(smooth.consumption_government - exact.consumption_government)
        return found, np.cumsum(allowed), np.max(spending)

    for model in (LP2, LP3):
        ends = []
        for sharpness in (5e3, 2e4, 1e5):
            found, allowed, spending = distance(model, sharpness)
            assert np.all(found <= allowed + 1e-13)
            assert spending <= 10 * found.max() + 1e-13
            ends.append(found.max())
        assert ends[0] < 5e-4 and ends[1] < 6e-9 and ends[2] < 1e-13
        found, allowed, _ = distance(model, 1e5, "Rise in bill rate")
        assert np.all(found <= allowed + 1e-13)
        # Soft switches lead to the middle of the bounds.
        assert np.max(distance(model, 50.0)[0]) < 0.04
        path = simulate(model.configure(sharpness=50.0), periods=500)
        assert path.target_proportion[-1] == pytest.approx(0.5, abs=1e-5)


def test_rounded_switches_have_derivatives_with_respect_to_the_bounds():
    def price(params, model):
        return simulate(model, params, periods=400).bond_price[-1]

    def share(price):
        return share_of_bonds(
            LP.steady_state(LP.params(), LP.scenario()[0].replace(bond_price=price))
        )

    exact = jax.grad(price)(LP2.params(), LP2)
    assert exact.target_proportion_upper == 0 == exact.target_proportion_lower
    end, smooth = jax.value_and_grad(price)(LP2.params(), LP2.configure(sharpness=50.0))
    # At rest the share is in the middle of the bounds: moving both moves it along. Households hold
    # the larger share if bonds are the cheaper.
    moved = smooth.target_proportion_upper + smooth.target_proportion_lower
    assert share(end) == pytest.approx(0.5, abs=1e-6) and moved < -100
    assert moved == pytest.approx(float(1 / jax.grad(share)(end)), rel=1e-4)
