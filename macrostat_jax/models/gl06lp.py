r"""Model LP: long-term bonds, capital gains and liquidity preference.

Godley and Lavoie (2007), *Monetary Economics*, chapter 5. The government borrows by bills and by
perpetuities, which pay one unit of money a period for ever and are worth what the market gives for
them. Households divide the wealth that they expect among money, bills and bonds, according to the
rate of interest on bills, the return they expect of bonds, and the income that they expect; when
the price of bonds changes, what they hold gains or loses in value. The central bank sets the rate
on bills and, in this first version of the model, the treasury sets the price of bonds, and both
sell and buy whatever is wanted at it.
"""

from __future__ import annotations

import jax.numpy as jnp

from .._model import Model
from .._record import NET_WORTH, Record, Scalar, exogenous, flow, index, param, stock

H, F, G, CB = "Household", "Production", "Government", "CentralBank"
RESERVES = (CB, "Capital")


class Params(Record):
    tax_rate: Scalar = param(0.1938, symbol=r"\theta", bounds=(0, 1), unit="% per period")
    propensity_to_consume_income: Scalar = param(0.8, symbol=r"\alpha_1", bounds=(0, 1), unit=".")
    propensity_to_consume_savings: Scalar = param(0.2, symbol=r"\alpha_2", bounds=(0, 1), unit=".")
    expectation_weight_bond_price: Scalar = param(0.1, symbol=r"\chi", bounds=(0, 1), unit=".")
    wealth_share_bills_constant: Scalar = param(
        0.44196, symbol=r"\lambda_{20}", bounds=(0, 1), unit=".", name="WealthShareBills_Constant"
    )
    wealth_share_bills_bill_rate: Scalar = param(
        1.1, symbol=r"\lambda_{22}", bounds=(-10, 10), unit=".", name="WealthShareBills_BillRate"
    )
    wealth_share_bills_bond_return: Scalar = param(
        -1.0, symbol=r"\lambda_{23}", bounds=(-10, 10), unit=".", name="WealthShareBills_BondReturn"
    )
    wealth_share_bills_income: Scalar = param(
        -0.03, symbol=r"\lambda_{24}", bounds=(-1, 1), unit=".", name="WealthShareBills_Income"
    )
    wealth_share_bonds_constant: Scalar = param(
        0.3997, symbol=r"\lambda_{30}", bounds=(0, 1), unit=".", name="WealthShareBonds_Constant"
    )
    wealth_share_bonds_bill_rate: Scalar = param(
        -1.0, symbol=r"\lambda_{32}", bounds=(-10, 10), unit=".", name="WealthShareBonds_BillRate"
    )
    wealth_share_bonds_bond_return: Scalar = param(
        1.1, symbol=r"\lambda_{33}", bounds=(-10, 10), unit=".", name="WealthShareBonds_BondReturn"
    )
    wealth_share_bonds_income: Scalar = param(
        -0.03, symbol=r"\lambda_{34}", bounds=(-1, 1), unit=".", name="WealthShareBonds_Income"
    )


class Scenario(Record):
    government_demand: Scalar = exogenous(20.0, symbol="G_d", unit="USD")
    interest_rate_bills: Scalar = exogenous(0.03, symbol=r"\bar{r}_b", unit=".")
    bond_price: Scalar = exogenous(20.0, symbol=r"\bar{p}_{bl}", unit="USD")


class State(Record):
    consumption_household: Scalar = flow(
        "C", r"\alpha_1 YD_r^e + \alpha_2 V_{-1}", ref="5.6", pays=H, gets=F, unit="USD"
    )
    consumption_government: Scalar = flow("G", "G_d", pays=G, gets=F, unit="USD")
    national_income: Scalar = flow("Y", "C + G", ref="5.1", pays=F, gets=H, unit="USD")
    taxes: Scalar = flow(
        "T",
        r"\theta (Y + r_{b,-1} B_{h,-1} + BL_{h,-1})",
        ref="5.3",
        pays=H,
        gets=G,
        unit="USD",
    )
    interest_on_bills_household: Scalar = flow(
        r"r_{b,-1}\cdot B_{h,-1}", "r_{b,-1} B_{h,-1}", pays=G, gets=H, unit="USD"
    )
    bond_coupon_income_household: Scalar = flow(
        "BL_{h,-1}", "BL_{h,-1}", pays=G, gets=H, unit="USD"
    )
    central_bank_profits: Scalar = flow(
        r"r_{b,-1}\cdot B_{CB,-1}",
        "r_{b,-1} B_{CB,-1}",
        pays=CB,
        gets=G,
        received_from=G,
        unit="USD",
    )
    capital_gains: Scalar = index(
        "CG", "(p_{bl} - p_{bl,-1}) BL_{h,-1}", ref="5.5", sector=H, unit="USD"
    )
    expected_capital_gains: Scalar = index(
        "CG^e", r"\chi (p_{bl}^e - p_{bl}) BL_h", ref="5.21", sector=H, unit="USD"
    )
    wealth: Scalar = stock(
        "V",
        "V_{-1} + YD_r - C + CG",
        ref="5.4",
        liability=H,
        asset=G,
        instrument=NET_WORTH,
        unit="USD",
    )
    household_bill_stock: Scalar = stock(
        "B_h", "B_d", ref="5.12", asset=H, instrument="Bills", unit="USD"
    )
    government_bill_stock: Scalar = stock(
        "B_s",
        "B_{s,-1} + G + r_{b,-1} B_{s,-1} + BL_{s,-1} - T - r_{b,-1} B_{CB,-1}"
        " - p_{bl} (BL_s - BL_{s,-1})",
        ref="5.14",
        liability=G,
        instrument="Bills",
        unit="USD",
    )
    central_bank_bill_stock: Scalar = stock(
        "B_{CB}", "B_s - B_h", ref="5.16", asset=RESERVES, instrument="Bills", unit="USD"
    )
    household_bond_stock: Scalar = stock(
        "BL_h",
        "BL_d",
        ref="5.13",
        asset=H,
        instrument="Bonds",
        price="bond_price",
        unit="bonds",
    )
    government_bond_supply: Scalar = stock(
        "BL_s",
        "BL_h",
        ref="5.17",
        liability=G,
        instrument="Bonds",
        price="bond_price",
        unit="bonds",
    )
    household_cash_stock: Scalar = stock(
        "H_h", "V - B_h - p_{bl} BL_h", ref="5.8", asset=H, instrument="Money", unit="USD"
    )
    central_bank_money_stock: Scalar = stock(
        "H_s",
        "H_{s,-1} + B_{CB} - B_{CB,-1}",
        ref="5.15",
        liability=RESERVES,
        instrument="Money",
        unit="USD",
    )
    disposable_income: Scalar = index(
        "YD_r", "Y - T + r_{b,-1} B_{h,-1} + BL_{h,-1}", ref="5.2", sector=H, unit="USD"
    )
    expected_disposable_income: Scalar = index(
        "YD_r^e", "YD_{r,-1}", ref="5.22", sector=H, unit="USD"
    )
    expected_wealth: Scalar = index(
        "V^e", "V_{-1} + YD_r^e - C + CG", ref="5.7", sector=H, unit="USD"
    )
    household_bill_demand: Scalar = index(
        "B_d",
        r"(\lambda_{20} + \lambda_{22} r_b + \lambda_{23} ERr_{bl}) V^e + \lambda_{24} YD_r^e",
        ref="5.10",
        sector=H,
        unit="USD",
    )
    household_bond_demand: Scalar = index(
        "BL_d",
        r"\frac{(\lambda_{30} + \lambda_{32} r_b + \lambda_{33} ERr_{bl}) V^e"
        r" + \lambda_{34} YD_r^e}{p_{bl}}",
        ref="5.11",
        sector=H,
        unit="bonds",
    )
    household_cash_demand: Scalar = index(
        "H_d", "V^e - B_d - p_{bl} BL_d", ref="5.9", sector=H, unit="USD"
    )
    interest_rate_bills: Scalar = index("r_b", r"\bar{r}_b", ref="5.23", unit=".")
    bond_price: Scalar = index("p_{bl}", r"\bar{p}_{bl}", ref="5.24", unit="USD")
    bond_yield: Scalar = index("r_{bl}", r"\frac{1}{p_{bl}}", ref="5.19", unit=".")
    expected_bond_price: Scalar = index("p_{bl}^e", "p_{bl}", ref="5.20", sector=H, unit="USD")
    expected_return_on_bonds: Scalar = index(
        "ERr_{bl}",
        r"r_{bl} + \chi \frac{p_{bl}^e - p_{bl}}{p_{bl}}",
        ref="5.18",
        sector=H,
        unit=".",
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """Before the first government expenditure there is neither wealth nor income."""
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period in which the price of bonds is given, and households expect it to stay."""
    return period(
        prior,
        params,
        government_spending=scenario.government_demand,
        interest_rate=scenario.interest_rate_bills,
        bond_price=scenario.bond_price,
        expected_bond_price=scenario.bond_price,
    )


def period(
    prior: State,
    params: Params,
    *,
    government_spending: Scalar,
    interest_rate: Scalar,
    bond_price: Scalar,
    expected_bond_price: Scalar,
) -> State:
    """One period, once it is known what the government spends and what bills and bonds cost.

    What households plan comes first, then what they earn, then who holds what.
    """
    interest_households = prior.interest_rate_bills * prior.household_bill_stock
    interest_central_bank = prior.interest_rate_bills * prior.central_bank_bill_stock
    interest_government = prior.interest_rate_bills * prior.government_bill_stock
    coupons = prior.household_bond_stock
    capital_gains = (bond_price - prior.bond_price) * prior.household_bond_stock

    bond_yield = 1 / bond_price
    expected_appreciation = (expected_bond_price - bond_price) / bond_price
    expected_return = bond_yield + params.expectation_weight_bond_price * expected_appreciation

    expected_disposable_income = prior.disposable_income
    consumption = (
        params.propensity_to_consume_income * expected_disposable_income
        + params.propensity_to_consume_savings * prior.wealth
    )
    # Prices are known when the period begins, so what was gained on bonds is no expectation.
    expected_wealth = prior.wealth + expected_disposable_income - consumption + capital_gains
    bills, bond_value = portfolio(
        params, expected_wealth, expected_disposable_income, interest_rate, expected_return
    )
    bonds = bond_value / bond_price

    national_income = consumption + government_spending
    taxable_income = national_income + interest_households + coupons
    taxes = params.tax_rate * taxable_income
    disposable_income = taxable_income - taxes

    wealth = prior.wealth + disposable_income - consumption + capital_gains
    government_bills = (
        prior.government_bill_stock
        + government_spending
        + interest_government
        + prior.government_bond_supply
        - taxes
        - interest_central_bank
        - bond_price * (bonds - prior.government_bond_supply)
    )
    central_bank_bills = government_bills - bills
    return State(
        consumption_household=consumption,
        consumption_government=government_spending,
        national_income=national_income,
        taxes=taxes,
        interest_on_bills_household=interest_households,
        bond_coupon_income_household=coupons,
        central_bank_profits=interest_central_bank,
        capital_gains=capital_gains,
        expected_capital_gains=params.expectation_weight_bond_price
        * (expected_bond_price - bond_price)
        * bonds,
        wealth=wealth,
        household_bill_stock=bills,
        government_bill_stock=government_bills,
        central_bank_bill_stock=central_bank_bills,
        household_bond_stock=bonds,
        government_bond_supply=bonds,
        household_cash_stock=wealth - bills - bond_value,
        central_bank_money_stock=prior.central_bank_money_stock
        + central_bank_bills
        - prior.central_bank_bill_stock,
        disposable_income=disposable_income,
        expected_disposable_income=expected_disposable_income,
        expected_wealth=expected_wealth,
        household_bill_demand=bills,
        household_bond_demand=bonds,
        household_cash_demand=expected_wealth - bills - bond_value,
        interest_rate_bills=interest_rate,
        bond_price=bond_price,
        bond_yield=bond_yield,
        expected_bond_price=expected_bond_price,
        expected_return_on_bonds=expected_return,
    )


def portfolio(
    params: Params,
    wealth: Scalar,
    disposable_income: Scalar | float,
    interest_rate: Scalar,
    bond_return: Scalar,
) -> tuple[Scalar, Scalar]:
    """What households want to hold in bills and in bonds, both in money.

    The book's demands per unit of wealth (5.10, 5.11), times wealth: they also hold for no wealth.
    """
    bills = (
        params.wealth_share_bills_constant
        + params.wealth_share_bills_bill_rate * interest_rate
        + params.wealth_share_bills_bond_return * bond_return
    ) * wealth + params.wealth_share_bills_income * disposable_income
    bonds = (
        params.wealth_share_bonds_constant
        + params.wealth_share_bonds_bill_rate * interest_rate
        + params.wealth_share_bonds_bond_return * bond_return
    ) * wealth + params.wealth_share_bonds_income * disposable_income
    return bills, bonds


def steady_state(params: Params, scenario: Scenario) -> State:
    """The budget is balanced, interest and coupons included; households spend what they earn.

    Of wealth V = v YD_r with v = (1 - alpha_1) / alpha_2, households hold the bills b YD_r, which
    pay them r_b b YD_r, and bonds worth l YD_r, which pay them r_bl l YD_r. Income before taxes is
    then G + YD_r + (r_b b + r_bl l) YD_r, of which 1 - theta is disposable.
    """
    government_spending = scenario.government_demand
    interest_rate, bond_price = scenario.interest_rate_bills, scenario.bond_price
    bond_yield = 1 / bond_price
    wealth_ratio = (1 - params.propensity_to_consume_income) / params.propensity_to_consume_savings
    bills_ratio, bonds_ratio = portfolio(params, wealth_ratio, 1.0, interest_rate, bond_yield)
    disposable_income = (
        (1 - params.tax_rate)
        * government_spending
        / (
            params.tax_rate
            - (1 - params.tax_rate) * (interest_rate * bills_ratio + bond_yield * bonds_ratio)
        )
    )
    national_income = disposable_income + government_spending
    wealth = wealth_ratio * disposable_income
    bills, bond_value = bills_ratio * disposable_income, bonds_ratio * disposable_income
    bonds = bond_value / bond_price
    interest_households = interest_rate * bills
    money = wealth - bills - bond_value
    return State(
        consumption_household=disposable_income,
        consumption_government=government_spending,
        national_income=national_income,
        taxes=params.tax_rate * (national_income + interest_households + bonds),
        interest_on_bills_household=interest_households,
        bond_coupon_income_household=bonds,
        # The central bank holds the bills that back the money.
        central_bank_profits=interest_rate * money,
        capital_gains=jnp.zeros_like(wealth),
        expected_capital_gains=jnp.zeros_like(wealth),
        wealth=wealth,
        household_bill_stock=bills,
        government_bill_stock=bills + money,
        central_bank_bill_stock=money,
        household_bond_stock=bonds,
        government_bond_supply=bonds,
        household_cash_stock=money,
        central_bank_money_stock=money,
        disposable_income=disposable_income,
        expected_disposable_income=disposable_income,
        expected_wealth=wealth,
        household_bill_demand=bills,
        household_bond_demand=bonds,
        household_cash_demand=money,
        interest_rate_bills=interest_rate,
        bond_price=bond_price,
        bond_yield=bond_yield,
        expected_bond_price=bond_price,
        expected_return_on_bonds=bond_yield,
    )


GL06LP = Model(
    "GL06LP",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    scenarios={
        "Rise in interest rates": {"interest_rate_bills": 0.04, "bond_price": 15.0},
        "Drop in alpha1": {"propensity_to_consume_income_add": -0.1},
    },
    shocks=tuple(f"{name}_add" for name in Params.fields),
    trigger=50,
)
