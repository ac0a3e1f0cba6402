"""The accounts: every row and column of every model sums to zero, and a lost cent shows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from model_cases import example, keyed, randomly

from macrostat_jax import (
    NET_WORTH,
    Axis,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    flow,
    index,
    models,
    param,
    simulate,
    stock,
)
from macrostat_jax.accounts import balance_sheet, residuals, transaction_matrix


def start(model, params):
    """The initial state, in the batch that `params` are."""
    row = model.scenario()[0]
    first, _ = model.start_key(keyed(model).get("key"))
    if first is None:
        return model.initial_state(model.constrain(params), row)
    drawn = first if model.Noise is None else model.draw(first, jax.numpy.float64)
    return model.initial_state(model.constrain(params), row, drawn)


@pytest.mark.parametrize("name", models.names())
def test_accounts_are_closed(name):
    model = example(name)
    params = model.params()
    found = residuals(
        model, simulate(model, params, **keyed(model)), start(model, params), relative=True
    )
    has_accounts = any(field.role != "index" for field in model.State.fields.values())
    assert bool(found) == has_accounts
    for label, value in found.items():
        assert value.shape == (model.periods,)
        assert np.max(np.abs(value)) < 1e-10, label


@pytest.mark.parametrize("name", models.names())
def test_accounts_are_closed_for_random_parameters(name):
    model = example(name)
    params = randomly(model, 3, size=16)
    path = simulate(model, params, **keyed(model))
    for label, value in residuals(model, path, relative=True).items():
        assert value.shape[1:] == (16,)
        assert np.max(np.abs(value)) < 1e-10, label


@pytest.mark.parametrize("name", models.names())
def test_accounts_are_closed_in_every_derivative(name):
    """A derivative of zero is zero: the accounts of the tangents of a path are closed as well."""
    model = example(name)
    params = jax.tree.map(jnp.asarray, randomly(model, 5))
    flat, unravel = ravel_pytree(params)

    def run(flat):
        params = unravel(flat)
        path = simulate(model, params, periods=30, **keyed(model))
        return path, residuals(model, path, start(model, params))

    @jax.jit
    def along_each(flat):
        values, push = jax.linearize(run, flat)
        return values[0], jax.vmap(push)(jnp.eye(flat.size))

    values, (path, found) = along_each(flat)
    scale = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(path))
    assert scale > 0 or not found
    prices = {field.price for field in model.State.fields.values() if field.price}
    if prices:  # what a quantity moves by is multiplied with its price
        scale *= max(1.0, *(np.max(np.abs(getattr(values, price))) for price in prices))
    for label, value in found.items():
        assert value.shape == (flat.size, 30)
        assert np.max(np.abs(value)) < 1e-10 * scale, label


def cell(matrix: Any, row: str, sector: str, account: str = "Current") -> Any:
    return matrix.at[row, (sector, account)]


def leaking(amount):
    """SIM, but households lose `amount` of money in every period."""
    sim = models.GL06SIM

    def step(prior, params, scenario):
        state = sim.step(prior, params, scenario)
        return state.replace(household_money_stock=state.household_money_stock - amount(params))

    return Model("LEAKING", sim.Params, sim.Scenario, sim.State, sim.initial_state, step)


def test_a_lost_millionth_is_caught():
    model = leaking(lambda params: 1e-6)
    found = residuals(model, simulate(model), start(model, model.params()))
    np.testing.assert_allclose(found["Sector Household"], 1e-6, rtol=1e-6)
    assert abs(found["Instrument Money"][-1]) > 1e-6
    assert np.max(np.abs(found["Sector Government"])) < 1e-12


def test_a_loss_that_only_the_derivative_shows_is_caught():
    model = leaking(lambda params: (params.tax_rate - 0.2) * 1e-6)

    def lost(tax_rate):
        params = model.params(tax_rate=tax_rate)
        return residuals(model, simulate(model, params))["Sector Household"]

    value, tangent = jax.jvp(lost, (0.2,), (1.0,))
    assert np.max(np.abs(value)) < 1e-12
    np.testing.assert_allclose(tangent, 1e-6, rtol=1e-6)


def test_a_nan_is_no_zero():
    model = leaking(lambda params: float("nan"))
    found = residuals(model, simulate(model), relative=True)
    assert not np.max(np.abs(found["Sector Household"])) < 1e-10


def test_without_the_initial_state_sectors_start_with_the_second_period():
    model = models.GL06PC
    path = simulate(model)
    whole = residuals(model, path, start(model, model.params()))
    without = residuals(model, path)
    assert list(whole) == list(without)
    np.testing.assert_array_equal(without["Sector Household"], whole["Sector Household"][1:])
    np.testing.assert_array_equal(without["Instrument Money"], whole["Instrument Money"])
    assert "Net worth Household" in whole and "Net worth Production" not in whole


def test_matrices_in_symbols():
    sheet = balance_sheet(models.GL06PC)
    assert cell(sheet, "Bills", "Household") == "+B_h"
    assert cell(sheet, "Bills", "CentralBank", "Capital") == "+B_{CB}"
    assert cell(sheet, "Bills", "Government") == "-B_s"
    assert cell(sheet, NET_WORTH, "Household") == "-V"
    assert [cell(sheet, row, "Total", "") for row in sheet.index] == ["0", "0", "0", ""]
    assert cell(sheet, "Total", "Household") == "0"

    matrix = transaction_matrix(models.GL06SIM)
    assert list(matrix.index[-2:]) == ["Change in Money", "Total"]
    assert cell(matrix, "ConsumptionSupply", "Household") == "-C_s"
    assert cell(matrix, "LabourEarnings", "Household") == r"+W\cdot N_s"
    assert cell(matrix, "Change in Money", "Household") == r"-\Delta H_h"
    assert cell(matrix, "Change in Money", "Government") == r"+\Delta H_s"

    matrix, row = transaction_matrix(models.GL06PC), "CentralBankProfits received"
    assert cell(matrix, row, "CentralBank") == r"+r_{-1}\cdot B_{CB,-1}"
    assert cell(matrix, row, "Government") == r"-r_{-1}\cdot B_{CB,-1}"


def test_matrices_in_numbers():
    model = models.GL06PC
    path = simulate(model)
    sheet = balance_sheet(model, path[-1])
    assert cell(sheet, "Money", "Household") == path.household_money_stock[-1]
    assert np.max(np.abs(sheet["Total"])) < 1e-9
    matrix = transaction_matrix(model, path[9], path[8])
    assert cell(matrix, "Taxes", "Household") == -path.taxes[9]
    change = path.household_bill_stock[9] - path.household_bill_stock[8]
    assert cell(matrix, "Change in Bills", "Household") == pytest.approx(-change)
    assert np.max(np.abs(matrix.loc["Total"])) < 1e-9
    assert np.max(np.abs(matrix["Total"])) < 1e-9


def test_matrices_say_what_they_need():
    model = models.GL06SIM
    path = simulate(model)
    with pytest.raises(TypeError, match=r"GL06SIM: the transaction matrix .* the one before"):
        transaction_matrix(model, path[3])
    with pytest.raises(ValueError, match=r"GL06SIM: .* one period of one run, .* path\[-1\]"):
        balance_sheet(model, path)


def test_a_model_without_accounts_has_empty_ones():
    model = models.LINEAR2D
    assert residuals(model, simulate(model)) == {}
    assert balance_sheet(model).empty and transaction_matrix(model).empty


class P(Record):
    wage: Scalar = param(2.0)


class X(Record):
    demand: Scalar = exogenous(1.0)


class S(Record):
    wages: Vector = flow("w", pays="Firms", gets="Workers", shape=Axis("worker", size=3))
    investment: Scalar = flow("I", pays=("Firms", "Capital"), gets=("Firms", "Current"))
    deposits: Vector = stock("m", asset="Workers", instrument="Loans", shape=Axis("worker", size=3))
    loans: Scalar = stock("L", liability="Firms", instrument="Loans")
    machines: Scalar = stock("K", asset=("Firms", "Capital"))


def test_agents_are_summed_and_machines_are_nobodys_debt():
    def step(prior, params, scenario):
        wages = params.wage * jnp.arange(1.0, 4.0)
        return S(
            wages=wages,
            investment=scenario.demand,
            deposits=prior.deposits + wages,
            loans=prior.loans + jnp.sum(wages),
            machines=prior.machines + scenario.demand,
        )

    model = Model("WORKERS", P, X, S, lambda params, scenario: S.filled(0.0), step, periods=4)
    for params in (model.params(), model.params(wage=jnp.array([1.0, 2.0]))):
        found = residuals(model, simulate(model, params), S.filled(0.0))
        assert set(found) == {"Instrument Loans", "Sector Firms", "Sector Workers"}
        for value in found.values():
            assert value.shape == (4, *jnp.shape(params.wage))
            assert np.max(np.abs(value)) == 0
    sheet = balance_sheet(model)
    assert cell(sheet, "Machines", "Total", "") == "+K"
    assert cell(balance_sheet(model, simulate(model)[1]), "Loans", "Workers") == 24.0
    assert "Change in Machines" not in transaction_matrix(model).index


# Quantities that have a price ------------------------------------------------------------------


class BondParams(Record):
    spent: Scalar = param(0.5, symbol="a", unit=".")


class BondScenario(Record):
    price: Scalar = exogenous(2.0, symbol="p", unit="USD")


class BondState(Record):
    bond_price: Scalar = index("p_b", "p", unit="USD")
    coupons: Scalar = flow("F", "B_{-1}", pays="Government", gets="Household", unit="USD")
    household_bonds: Scalar = stock(
        "B", "", asset="Household", instrument="Bonds", price="bond_price", unit="bonds"
    )
    government_bonds: Scalar = stock(
        "B_g", "B", liability="Government", instrument="Bonds", price="bond_price", unit="bonds"
    )
    household_money: Scalar = stock("M", "", asset="Household", instrument="Money", unit="USD")
    government_money: Scalar = stock(
        "M_g", "M", liability="Government", instrument="Money", unit="USD"
    )
    wealth: Scalar = stock("V", "M + p B", liability="Household", instrument=NET_WORTH, unit="USD")


def bond_state(price, coupons, bonds, money):
    return BondState(
        bond_price=price,
        coupons=coupons,
        household_bonds=bonds,
        government_bonds=bonds,
        household_money=money,
        government_money=money,
        wealth=money + price * bonds,
    )


def bond_step(prior, params, scenario):
    """Coupons of 1 per bond, and a share of the money, are spent on bonds."""
    coupons, spent = prior.household_bonds, params.spent * prior.household_money
    bonds = prior.household_bonds + (coupons + spent) / scenario.price
    return bond_state(scenario.price, coupons, bonds, prior.household_money - spent)


BONDS = Model(
    "BONDS",
    BondParams,
    BondScenario,
    BondState,
    lambda params, scenario: bond_state(scenario.price, 0.0, 1.0, 10.0),
    bond_step,
    periods=10,
)


def test_a_change_of_price_is_no_purchase():
    scenario = BONDS.scenario(price=3.0, start=4)
    path = simulate(BONDS, scenario=scenario)
    first = BONDS.initial_state(BONDS.params(), scenario[0])
    for initial in (first, None):
        found = residuals(BONDS, path, initial)
        assert {"Instrument Bonds", "Sector Household", "Net worth Household"} <= set(found)
        for label, value in found.items():
            assert np.max(np.abs(value)) < 1e-12, label
    # Without the price the accounts of a quantity do not close.
    unpriced = bond_step(first, BONDS.params(), scenario[0])
    assert abs(unpriced.household_bonds - 1.0 - unpriced.coupons) > 0.1


def test_priced_stocks_in_the_matrices():
    path = simulate(BONDS, scenario=BONDS.scenario(price=3.0, start=4))
    matrix = transaction_matrix(BONDS, path[4], path[3])
    bought = path.household_bonds[4] - path.household_bonds[3]
    assert cell(matrix, "Change in Bonds", "Household") == pytest.approx(-3.0 * bought)
    assert np.max(np.abs(matrix.loc["Total"])) < 1e-12
    sheet = balance_sheet(BONDS, path[4])
    assert cell(sheet, "Bonds", "Household") == pytest.approx(3.0 * path.household_bonds[4])
    assert cell(balance_sheet(BONDS), "Bonds", "Household") == "+p_b B"
    assert cell(transaction_matrix(BONDS), "Change in Bonds", "Government") == r"+p_b \Delta B_g"


def test_a_price_must_be_a_variable_of_the_same_shape():
    class State(Record):
        bonds: Scalar = stock("B", asset="Household", price="nothing")

    with pytest.raises(ValueError, match="the price 'nothing' of the stock 'bonds' is no variable"):
        Model("BAD", BondParams, BondScenario, State, lambda p, x: State.filled(0.0), bond_step)


# Interest that is no variable -------------------------------------------------------------------


class LoanState(Record):
    loan_rate: Scalar = index("r", unit=".")
    lent: Vector = stock(
        "L", asset="Banks", instrument="Loans", interest="loan_rate", shape=Axis("bank", size=2)
    )
    borrowed: Scalar = stock("D", liability="Firms", instrument="Loans", interest="loan_rate")
    bonds_held: Scalar = stock(
        "B", asset="Banks", instrument="Bonds", price="bond_price", interest=2.0
    )
    bonds_issued: Scalar = stock(
        "B_f", liability="Firms", instrument="Bonds", price="bond_price", interest=2.0
    )
    bond_price: Scalar = index("p_b", unit="USD")


def loan_step(prior, params, scenario):
    """Firms borrow to pay their interest, a half from either bank; the rate rises in every period."""
    paid = prior.loan_rate * prior.borrowed + 2 * prior.bonds_issued
    return prior.replace(
        loan_rate=prior.loan_rate + params.spent / 100,
        lent=prior.lent + paid / 2,
        borrowed=prior.borrowed + paid,
        bond_price=scenario.price,
    )


def loan_start(params, scenario):
    lent = jnp.array([30.0, 10.0])
    three = LoanState.filled(3.0)
    return three.replace(loan_rate=0.1, lent=lent, borrowed=40.0, bond_price=scenario.price)


LOANS = Model("LOANS", BondParams, BondScenario, LoanState, loan_start, loan_step, periods=6)


def test_interest_is_paid_on_the_stocks_of_the_period_before():
    path = simulate(LOANS, scenario=LOANS.scenario(price=3.0, start=4))
    first = LOANS.initial_state(LOANS.params(), LOANS.scenario()[0])
    for initial, rows in ((first, 6), (None, 5)):
        found = residuals(LOANS, path, initial)
        for sector in ("Sector Banks", "Sector Firms"):
            assert found[sector].shape == (rows,)
        for label, value in found.items():
            assert np.max(np.abs(value)) < 1e-12, label
    matrix = transaction_matrix(LOANS, path[4], path[3])
    paid = float(path.loan_rate[3] * path.borrowed[3])
    assert cell(matrix, "Interest on Loans", "Banks") == pytest.approx(paid)
    assert cell(matrix, "Interest on Loans", "Firms") == pytest.approx(-paid)
    assert cell(matrix, "Interest on Bonds", "Firms") == -6.0  # 2 a piece, whatever they cost
    assert np.max(np.abs(matrix["Total"])) < 1e-12
    assert np.max(np.abs(matrix.loc["Total"])) < 1e-12
    symbols = transaction_matrix(LOANS)
    assert cell(symbols, "Interest on Loans", "Firms") == "-(r D)_{-1}"
    assert cell(symbols, "Interest on Bonds", "Banks") == "+(2 B)_{-1}"
    assert cell(symbols, "Change in Bonds", "Banks") == r"-p_b \Delta B"


def test_interest_of_this_periods_rate_is_caught():
    def step(prior, params, scenario):
        right = loan_step(prior, params, scenario)
        more = (right.loan_rate - prior.loan_rate) * prior.borrowed
        return right.replace(lent=right.lent + more / 2, borrowed=right.borrowed + more)

    wrong = Model("WRONG", BondParams, BondScenario, LoanState, loan_start, step, periods=6)
    found = residuals(wrong, simulate(wrong))
    assert np.min(np.abs(found["Sector Firms"])) > 0.1


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (("nothing", "nothing"), "the rate of interest 'nothing' of the stock 'a' is no variable"),
        ((1.0, 2.0), "stock 'b' says of the interest on 'Loans' 2.0, another stock 1.0"),
        (("", 2.0), "stock 'b' says of the interest on 'Loans' 2.0, another stock ''"),
    ],
)
def test_interest_must_be_a_variable_and_agreed_on(rates, message):
    class State(Record):
        a: Scalar = stock("A", asset="Banks", instrument="Loans", interest=rates[0])
        b: Scalar = stock("B", liability="Firms", instrument="Loans", interest=rates[1])

    with pytest.raises(ValueError, match=message):
        Model("BAD", BondParams, BondScenario, State, lambda p, x: State.filled(0.0), bond_step)
