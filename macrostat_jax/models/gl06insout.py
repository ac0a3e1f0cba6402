r"""Model INSOUT: inside and outside money, with banks that set their interest rates.

Godley and Lavoie (2007), *Monetary Economics*, chapter 10. Firms produce for expected sales and for
stocks of finished goods, which they finance with bank loans, and add a mark-up to their costs, which
follow from the wages that workers achieve. Households spend by the real income they expect and hold
their wealth as cash, two kinds of deposits, bills and bonds; what they did not foresee ends in their
checking deposits (M1), or, once these are empty, in their time deposits (M2). Banks grant the loans
that are asked for. They keep a share of their deposits in bills: below the floor `bot` they borrow
from the central bank, and outside of the corridor from `bot` to `top` they change the rate they pay
on deposits; by their profit margin they change the rate they ask for loans. The government taxes
sales and issues the bonds that households want, and bills for the rest of its deficit; the central
bank takes the bills that no one else wants.

Nothing in a period is simultaneous: expectations look back, interest is paid on what was held
before, and the mistakes of all sectors are absorbed by stocks. The step solves the equations one by
one, in closed form.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import smooth
from .._constraints import AddingUp
from .._model import Model
from .._record import NET_WORTH, Record, Scalar, exogenous, flow, index, param, stock

H, F, G, CB, B = "Household", "Firm", "Government", "CentralBank", "Bank"


def _wealth_share(default: float, symbol: str, name: str) -> Any:
    return param(default, symbol=symbol, bounds=(-50, 50), unit=".", name=f"WealthShare{name}")


class Params(Record):
    propensity_to_consume_income: Scalar = param(0.95, symbol=r"\alpha_1", bounds=(0, 1), unit=".")
    propensity_to_consume_wealth: Scalar = param(0.05, symbol=r"\alpha_2", bounds=(0, 1), unit=".")
    autonomous_consumption: Scalar = param(0.0, symbol=r"\alpha_0", bounds=(-10, 10), unit=".")
    sales_expectation_weight: Scalar = param(0.5, symbol=r"\beta", bounds=(0, 1), unit=".")
    inventory_adjustment_speed: Scalar = param(0.5, symbol=r"\gamma", bounds=(0, 1), unit=".")
    income_expectation_weight: Scalar = param(0.5, symbol=r"\varepsilon", bounds=(0, 1), unit=".")
    cash_to_consumption_ratio: Scalar = param(0.1, symbol=r"\lambda_c", bounds=(0, 1), unit=".")
    markup_rate: Scalar = param(0.1, symbol=r"\phi", bounds=(0, 2), unit=".")
    tax_rate: Scalar = param(0.25, symbol=r"\tau", bounds=(0, 1), unit=".")
    labor_productivity: Scalar = param(1.0, symbol="pr", bounds=(0.01, 10), unit="output/worker")
    # Spending is the exogenous series of the same symbol; no equation has this constant.
    real_government_spending_param: Scalar = param(
        25.0, symbol="g", bounds=(0, 500), unit="real units", name="RealGovernmentSpending_param"
    )
    full_employment: Scalar = param(133.28, symbol="N_{fe}", bounds=(1, 10_000), unit="workers")
    inventory_sales_ratio_baseline: Scalar = param(
        0.3612, symbol=r"\sigma_0", bounds=(0, 2), unit="."
    )
    inventory_sales_ratio_interest_sens: Scalar = param(
        3.0, symbol=r"\sigma_1", bounds=(0, 20), unit="."
    )
    reserve_ratio_m1: Scalar = param(0.1, symbol="ro_1", bounds=(0, 1), unit=".")
    reserve_ratio_m2: Scalar = param(0.1, symbol="ro_2", bounds=(0, 1), unit=".")
    bank_liquidity_floor: Scalar = param(0.02, symbol="bot", bounds=(0, 1), unit=".")
    bank_liquidity_ceiling: Scalar = param(0.06, symbol="top", bounds=(0, 1), unit=".")
    bank_profit_floor: Scalar = param(0.003, symbol="bot_{pm}", bounds=(0, 0.1), unit=".")
    bank_profit_ceiling: Scalar = param(0.005, symbol="top_{pm}", bounds=(0, 0.1), unit=".")
    deposit_rate_bill_sensitivity: Scalar = param(0.9, symbol=r"\zeta_b", bounds=(0, 2), unit=".")
    deposit_rate_adj_speed: Scalar = param(0.0002, symbol=r"\zeta_m", bounds=(0, 0.01), unit=".")
    loan_rate_profit_adj_speed: Scalar = param(
        0.0002, symbol=r"\zeta_l", bounds=(0, 0.01), unit="."
    )
    real_wage_target_constant: Scalar = param(
        -0.32549, symbol=r"\Omega_0", bounds=(-5, 0), unit="."
    )
    real_wage_productivity_elasticity: Scalar = param(
        1.0, symbol=r"\Omega_1", bounds=(0, 3), unit="."
    )
    real_wage_employment_elasticity: Scalar = param(
        1.5, symbol=r"\Omega_2", bounds=(0, 5), unit="."
    )
    wage_adjustment_speed: Scalar = param(0.1, symbol=r"\Omega_3", bounds=(0, 1), unit=".")
    # The parameters of M1 follow from the others by adding up; M1 takes what the others leave.
    wealth_share_m1_constant: Scalar = _wealth_share(
        -0.17070999999999992, r"\lambda_{10}", "M1_Constant"
    )
    wealth_share_m1_deposit_rate: Scalar = _wealth_share(0.0, r"\lambda_{12}", "M1_DepositRate")
    wealth_share_m1_bill_rate: Scalar = _wealth_share(0.0, r"\lambda_{13}", "M1_BillRate")
    wealth_share_m1_bond_yield: Scalar = _wealth_share(0.0, r"\lambda_{14}", "M1_BondYield")
    wealth_share_m1_income: Scalar = _wealth_share(0.18, r"\lambda_{15}", "M1_Income")
    wealth_share_m2_constant: Scalar = _wealth_share(0.52245, r"\lambda_{20}", "M2_Constant")
    wealth_share_m2_deposit_rate: Scalar = _wealth_share(30.0, r"\lambda_{22}", "M2_DepositRate")
    wealth_share_m2_bill_rate: Scalar = _wealth_share(-15.0, r"\lambda_{23}", "M2_BillRate")
    wealth_share_m2_bond_yield: Scalar = _wealth_share(-15.0, r"\lambda_{24}", "M2_BondYield")
    wealth_share_m2_income: Scalar = _wealth_share(-0.06, r"\lambda_{25}", "M2_Income")
    wealth_share_bills_constant: Scalar = _wealth_share(0.47311, r"\lambda_{30}", "Bills_Constant")
    wealth_share_bills_deposit_rate: Scalar = _wealth_share(
        -15.0, r"\lambda_{32}", "Bills_DepositRate"
    )
    wealth_share_bills_bill_rate: Scalar = _wealth_share(30.0, r"\lambda_{33}", "Bills_BillRate")
    wealth_share_bills_bond_yield: Scalar = _wealth_share(-15.0, r"\lambda_{34}", "Bills_BondYield")
    wealth_share_bills_income: Scalar = _wealth_share(-0.06, r"\lambda_{35}", "Bills_Income")
    wealth_share_bonds_constant: Scalar = _wealth_share(0.17515, r"\lambda_{40}", "Bonds_Constant")
    wealth_share_bonds_deposit_rate: Scalar = _wealth_share(
        -15.0, r"\lambda_{42}", "Bonds_DepositRate"
    )
    wealth_share_bonds_bill_rate: Scalar = _wealth_share(-15.0, r"\lambda_{43}", "Bonds_BillRate")
    wealth_share_bonds_bond_yield: Scalar = _wealth_share(30.0, r"\lambda_{44}", "Bonds_BondYield")
    wealth_share_bonds_income: Scalar = _wealth_share(-0.06, r"\lambda_{45}", "Bonds_Income")


class Scenario(Record):
    real_government_spending: Scalar = exogenous(25.0, symbol=r"\bar{g}", unit="real units")
    bill_rate: Scalar = exogenous(0.023, symbol=r"\bar{r}_b", unit=".")
    bond_yield: Scalar = exogenous(0.027, symbol=r"\bar{r}_{bl}", unit=".")


class State(Record):
    real_government_spending: Scalar = index("g", r"\bar{g}", sector=G, unit="real units")
    bill_rate: Scalar = index("r_b", r"\bar{r}_b", unit=".")
    bond_yield: Scalar = index("r_{bl}", r"\bar{r}_{bl}", unit=".")
    deposit_rate: Scalar = index(
        "r_m",
        r"r_{m,-1} + \zeta_m \text{ if } BLR^T_{-1} < bot, - \zeta_m \text{ if } BLR^T_{-1} > top,"
        r" + \zeta_b (r_b - r_{b,-1})",
        sector=B,
        unit=".",
    )
    loan_rate: Scalar = index(
        "r_l",
        r"r_{l,-1} + \zeta_l \text{ if } BPM < bot_{pm}, - \zeta_l \text{ if } BPM > top_{pm},"
        r" + (r_b - r_{b,-1})",
        sector=B,
        unit=".",
    )
    advance_rate: Scalar = index("r_a", "r_b", sector=CB, unit=".")
    price_level: Scalar = index("p", r"(1 + \tau) (1 + \phi) NHUC", sector=F, unit=".")
    inflation_rate: Scalar = index(r"\pi", r"\frac{p - p_{-1}}{p_{-1}}", ref="10.19", unit=".")
    nominal_wage: Scalar = index(
        "W",
        r"W_{-1} \left(1 + \Omega_3 (\omega^T_{-1} - \frac{W_{-1}}{p_{-1}})\right)",
        sector=F,
        unit="USD/worker",
    )
    real_wage: Scalar = index(r"\omega", r"\frac{W}{p}", sector=F, unit="real units/worker")
    target_real_wage: Scalar = index(
        r"\omega^T",
        r"\exp\left(\Omega_0 + \Omega_1 \log pr + \Omega_2 \log \frac{N}{N_{fe}}\right)",
        sector=F,
        unit="real units/worker",
    )
    unit_cost: Scalar = index("UC", r"\frac{W}{pr}", ref="10.4", sector=F, unit="USD/unit")
    normal_historic_unit_cost: Scalar = index(
        "NHUC",
        r"(1 - \sigma^T) UC + \sigma^T (1 + r_{l,-1}) UC_{-1}",
        sector=F,
        unit="USD/unit",
    )
    expected_sales: Scalar = index(
        "s^e", r"\beta s_{-1} + (1 - \beta) s^e_{-1}", ref="10.5", sector=F, unit="real units"
    )
    real_sales: Scalar = index("s", "c + g", ref="10.12", sector=F, unit="real units")
    real_output: Scalar = index(
        "y", "s^e + inv^e - inv_{-1}", ref="10.1", sector=F, unit="real units"
    )
    target_inventory_sales_ratio: Scalar = index(
        r"\sigma^T", r"\sigma_0 - \sigma_1 r_l", ref="10.7", sector=F, unit="."
    )
    target_inventories: Scalar = index(
        "inv^T", r"\sigma^T s^e", ref="10.6", sector=F, unit="real units"
    )
    expected_inventories: Scalar = index(
        "inv^e", r"inv_{-1} + \gamma (inv^T - inv_{-1})", sector=F, unit="real units"
    )
    real_inventories: Scalar = index(
        "inv", "inv_{-1} + y - s", ref="10.14", sector=F, unit="real units"
    )
    actual_inventory_sales_ratio: Scalar = index(
        r"\sigma", r"\frac{inv_{-1}}{s}", ref="10.15", sector=F, unit="."
    )
    nominal_inventories: Scalar = stock(
        "INV", "inv UC", ref="10.16", asset=F, instrument="Inventories", unit="USD"
    )
    employment: Scalar = index("N", r"\frac{y}{pr}", ref="10.2", sector=F, unit="workers")
    wage_bill: Scalar = flow("WB", "N W", ref="10.3", pays=F, gets=H, unit="USD")
    nominal_sales: Scalar = index("S", "p s", ref="10.13", sector=F, unit="USD")
    nominal_output: Scalar = index("Y", "p s + UC (inv - inv_{-1})", unit="USD")
    nominal_consumption: Scalar = flow("C", "p c", ref="10.31", pays=H, gets=F, unit="USD")
    government_spending: Scalar = flow("G", "p g", pays=G, gets=F, unit="USD")
    real_consumption: Scalar = index(
        "c",
        r"\alpha_0 + \alpha_1 yd_r^e + \alpha_2 v_{-1}",
        ref="10.29",
        sector=H,
        unit="real units",
    )
    taxes: Scalar = flow("TX", r"\frac{\tau}{1 + \tau} S", pays=F, gets=G, unit="USD")
    loan_demand: Scalar = stock(
        "L^d",
        "INV",
        ref="10.17",
        liability=F,
        instrument="Loans",
        interest="loan_rate",
        unit="USD",
    )
    firm_profits: Scalar = flow(
        "FP",
        "S - TX - WB + INV - INV_{-1} - r_{l,-1} INV_{-1}",
        ref="10.18",
        pays=F,
        gets=H,
        unit="USD",
    )
    total_dividends: Scalar = index("FD", "FP + FBP", ref="10.23", sector=H, unit="USD")
    regular_disposable_income: Scalar = index(
        "YD_r",
        "FD + WB + r_{m,-1} M2_{h,-1} + r_{b,-1} B_{h,-1} + BL_{h,-1}",
        ref="10.20",
        sector=H,
        unit="USD",
    )
    capital_gains: Scalar = index(
        "CG", r"\Delta p_{bl} BL_{h,-1}", ref="10.21", sector=H, unit="USD"
    )
    haig_simons_disposable_income: Scalar = index(
        "YD_{hs}", "YD_r + CG", ref="10.22", sector=H, unit="USD"
    )
    nominal_wealth: Scalar = stock(
        "V",
        "V_{-1} + YD_{hs} - C",
        ref="10.24",
        liability=H,
        instrument=NET_WORTH,
        unit="USD",
    )
    real_regular_disposable_income: Scalar = index(
        "yd_r", r"\frac{YD_r}{p} - \pi \frac{V_{-1}}{p}", ref="10.26", sector=H, unit="real units"
    )
    real_wealth: Scalar = index("v", r"\frac{V}{p}", ref="10.28", sector=H, unit="real units")
    expected_real_disposable_income: Scalar = index(
        "yd_r^e",
        r"\varepsilon yd_{r,-1} + (1 - \varepsilon) yd_{r,-1}^e",
        ref="10.30",
        sector=H,
        unit="real units",
    )
    nominal_expected_disposable_income: Scalar = index(
        "YD^e", r"p yd_r^e + \pi \frac{V_{-1}}{p}", ref="10.32", sector=H, unit="USD"
    )
    expected_nominal_wealth: Scalar = index(
        "V^e", "V_{-1} + YD^e - C", ref="10.33", sector=H, unit="USD"
    )
    cash_demand: Scalar = index("Hh^d", r"\lambda_c C", ref="10.34", sector=H, unit="USD")
    expected_non_cash_wealth: Scalar = index(
        "V^e_{nc}", "V^e - Hh^d", ref="10.35", sector=H, unit="USD"
    )
    m1_demand_tentative: Scalar = index(
        "M1^{dt}", "V_{nc} - M2^d - B^d - p_{bl} BL^d", sector=H, unit="USD"
    )
    m2_demand: Scalar = index(
        "M2^d",
        r"(\lambda_{20} + \lambda_{22} r_m + \lambda_{23} r_b + \lambda_{24} ERr_{bl}) V^e_{nc}"
        r" + \lambda_{25} YD^e",
        sector=H,
        unit="USD",
    )
    bills_demand: Scalar = index(
        "B^d",
        r"(\lambda_{30} + \lambda_{32} r_m + \lambda_{33} r_b + \lambda_{34} ERr_{bl}) V^e_{nc}"
        r" + \lambda_{35} YD^e",
        sector=H,
        unit="USD",
    )
    bonds_demand: Scalar = index(
        "BL^d",
        r"\frac{1}{p_{bl}} \left((\lambda_{40} + \lambda_{42} r_m + \lambda_{43} r_b"
        r" + \lambda_{44} ERr_{bl}) V^e_{nc} + \lambda_{45} YD^e\right)",
        sector=H,
        unit="bonds",
    )
    non_cash_wealth: Scalar = index("V_{nc}", "V - Hh", ref="10.25", sector=H, unit="USD")
    switch_m1_positive: Scalar = index(
        "z_1", r"1 \text{ if } M1^{dt} > 0, \text{ else } 0", sector=H, unit="."
    )
    switch_m2_absorber: Scalar = index("z_2", "1 - z_1", sector=H, unit=".")
    cash_household: Scalar = stock("Hh", "Hh^d", asset=H, instrument="Cash", unit="USD")
    m1_household: Scalar = stock(
        "M1_h", "z_1 M1^{dt}", asset=H, instrument="Checking deposits", unit="USD"
    )
    m2_household: Scalar = stock(
        "M2_h",
        "z_1 M2^d + z_2 (V_{nc} - B_h - p_{bl} BL_h)",
        asset=H,
        instrument="Time deposits",
        interest="deposit_rate",
        unit="USD",
    )
    bills_household: Scalar = stock(
        "B_h", "B^d", asset=H, instrument="Bills", interest="bill_rate", unit="USD"
    )
    bonds_household: Scalar = stock(
        "BL_h",
        "BL^d",
        asset=H,
        instrument="Bonds",
        price="bond_price",
        interest=1.0,
        unit="bonds",
    )
    bond_price: Scalar = index("p_{bl}", r"\frac{1}{r_{bl}}", unit="USD/bond")
    expected_return_on_bonds: Scalar = index("ERr_{bl}", "r_{bl}", sector=H, unit=".")
    public_sector_borrowing_requirement: Scalar = index(
        "PSBR", "G + r_{b,-1} B_{s,-1} + BL_{s,-1} - TX - FCB", sector=G, unit="USD"
    )
    bonds_supply: Scalar = stock(
        "BL_s",
        "BL_h",
        liability=G,
        instrument="Bonds",
        price="bond_price",
        interest=1.0,
        unit="bonds",
    )
    bills_supply: Scalar = stock(
        "B_s",
        r"B_{s,-1} + PSBR - p_{bl} \Delta BL_s",
        liability=G,
        instrument="Bills",
        interest="bill_rate",
        unit="USD",
    )
    government_debt: Scalar = index("GD", "B_s + p_{bl} BL_s", sector=G, unit="USD")
    loans_supply: Scalar = stock(
        "L_s", "L^d", asset=B, instrument="Loans", interest="loan_rate", unit="USD"
    )
    m1_supply: Scalar = stock(
        "M1_s", "M1_h", liability=B, instrument="Checking deposits", unit="USD"
    )
    m2_supply: Scalar = stock(
        "M2_s",
        "M2_h",
        liability=B,
        instrument="Time deposits",
        interest="deposit_rate",
        unit="USD",
    )
    required_reserves: Scalar = index("RR", "ro_1 M1_s + ro_2 M2_s", sector=B, unit="USD")
    cash_banks_supply: Scalar = stock("Hb_s", "RR", asset=B, instrument="Cash", unit="USD")
    bills_bank_tentative: Scalar = index("B_b^T", "M1_s + M2_s - L_s - Hb_s", sector=B, unit="USD")
    bank_liquidity_ratio_tentative: Scalar = index(
        "BLR^T", r"\frac{B_b^T}{M1_s + M2_s}", sector=B, unit="."
    )
    switch_bank_below_floor: Scalar = index(
        "z_3", r"1 \text{ if } BLR^T < bot, \text{ else } 0", sector=B, unit="."
    )
    advances_demand: Scalar = stock(
        "A^d",
        "z_3 (bot (M1_s + M2_s) - B_b^T)",
        liability=B,
        instrument="Advances",
        interest="advance_rate",
        unit="USD",
    )
    bills_bank: Scalar = stock(
        "B_b", "B_b^T + A^d", asset=B, instrument="Bills", interest="bill_rate", unit="USD"
    )
    bank_liquidity_ratio: Scalar = index("BLR", r"\frac{B_b}{M1_s + M2_s}", sector=B, unit=".")
    lagged_m1_supply: Scalar = index("M1_{s,-1}", "M1_{s,-1}", sector=B, unit="USD")
    lagged_m2_supply: Scalar = index("M2_{s,-1}", "M2_{s,-1}", sector=B, unit="USD")
    bank_profits: Scalar = flow(
        "FBP",
        "r_{l,-1} L_{s,-1} + r_{b,-1} B_{b,-1} - r_{m,-1} M2_{s,-1} - r_{a,-1} A_{s,-1}",
        pays=B,
        gets=H,
        unit="USD",
    )
    bank_profit_margin: Scalar = index(
        "BPM",
        r"\frac{FBP + FBP_{-1}}{M1_{s,-1} + M1_{s,-2} + M2_{s,-1} + M2_{s,-2}},"
        r" BPM_{-1} \text{ without deposits}",
        ref="10.82",
        sector=B,
        unit=".",
    )
    advances_supply: Scalar = stock(
        "A_s", "A^d", asset=CB, instrument="Advances", interest="advance_rate", unit="USD"
    )
    bills_central_bank: Scalar = stock(
        "B_{cb}", "B_s - B_h - B_b", asset=CB, instrument="Bills", interest="bill_rate", unit="USD"
    )
    high_powered_money: Scalar = stock(
        "H_s", "B_{cb} + A_s", liability=CB, instrument="Cash", unit="USD"
    )
    bank_reserves_supply: Scalar = index("HPM_b", "H_s - Hh", sector=CB, unit="USD")
    central_bank_profits: Scalar = flow(
        "FCB", "r_{b,-1} B_{cb,-1} + r_{a,-1} A_{s,-1}", pays=CB, gets=G, unit="USD"
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """Prices and wages of 1 and a profit margin within its corridor; there is nothing else yet."""
    return State.filled(0.0).replace(
        price_level=1.0, nominal_wage=1.0, unit_cost=1.0, bank_profit_margin=0.0035
    )


def step(
    prior: State, params: Params, scenario: Scenario, *, sharpness: float | None = None
) -> State:
    """One period: interest rates, costs and prices, production and sales, incomes, portfolios, banks.

    Args:
        prior, params, scenario: as in every model.
        sharpness: None for the switches of the book, which jump from 0 to 1. A number makes each of
            them a logistic function, so that derivatives see it: at d percentage points from where
            it switches it is exp(-sharpness d) off at most. The banks' ratios are counted in
            percentage points of their deposits, M1 in those of households' wealth other than cash.
            Rates of interest add up what the switches say: from the steady state, the real output of
            the named scenarios is up to 0.2 % off with 20, and 0.1 % with 100.
    """
    # Banks change their rates by their liquidity and their profits, and pass on the central bank's.
    bill_rate_change = scenario.bill_rate - prior.bill_rate
    liquidity = prior.bank_liquidity_ratio_tentative
    deposit_rate = (
        prior.deposit_rate
        + params.deposit_rate_adj_speed
        * (
            _switch(params.bank_liquidity_floor - liquidity, sharpness)
            - _switch(liquidity - params.bank_liquidity_ceiling, sharpness)
        )
        + params.deposit_rate_bill_sensitivity * bill_rate_change
    )
    bank_profits = (
        prior.loan_rate * prior.loans_supply
        + prior.bill_rate * prior.bills_bank
        - prior.deposit_rate * prior.m2_supply
        - prior.advance_rate * prior.advances_supply
    )
    # Before there are deposits, banks keep the margin they start with.
    profit_margin = smooth.safe_divide(
        bank_profits + prior.bank_profits,
        prior.m1_supply + prior.lagged_m1_supply + prior.m2_supply + prior.lagged_m2_supply,
        otherwise=prior.bank_profit_margin,
    )
    loan_rate = (
        prior.loan_rate
        + params.loan_rate_profit_adj_speed
        * (
            _switch(params.bank_profit_floor - profit_margin, sharpness)
            - _switch(profit_margin - params.bank_profit_ceiling, sharpness)
        )
        + bill_rate_change
    )

    # Firms produce what they expect to sell and what their stocks lack.
    expected_sales = (
        params.sales_expectation_weight * prior.real_sales
        + (1 - params.sales_expectation_weight) * prior.expected_sales
    )
    target_ratio = (
        params.inventory_sales_ratio_baseline
        - params.inventory_sales_ratio_interest_sens * loan_rate
    )
    target_inventories = target_ratio * expected_sales
    expected_inventories = prior.real_inventories + params.inventory_adjustment_speed * (
        target_inventories - prior.real_inventories
    )
    real_output = expected_sales + expected_inventories - prior.real_inventories
    employment = real_output / params.labor_productivity

    # Workers aim at a real wage that rises with employment; prices follow costs. In the period
    # without employment from which the model starts they aim as if all were employed.
    employment_rate = jnp.where(employment > 0, employment / params.full_employment, 1)
    target_real_wage = jnp.exp(
        params.real_wage_target_constant
        + params.real_wage_productivity_elasticity * jnp.log(params.labor_productivity)
        + params.real_wage_employment_elasticity * jnp.log(employment_rate)
    )
    nominal_wage = prior.nominal_wage * (
        1
        + params.wage_adjustment_speed
        * (prior.target_real_wage - prior.nominal_wage / prior.price_level)
    )
    # The wage bill per unit of output, N W / y (10.4), is W / pr whatever the output.
    unit_cost = nominal_wage / params.labor_productivity
    historic_cost = (1 - target_ratio) * unit_cost + target_ratio * (
        1 + prior.loan_rate
    ) * prior.unit_cost
    price = (1 + params.tax_rate) * (1 + params.markup_rate) * historic_cost
    inflation = (price - prior.price_level) / prior.price_level

    # Households spend; firms sell what is asked for, out of their stocks, and finance those by loans.
    expected_real_income = (
        params.income_expectation_weight * prior.real_regular_disposable_income
        + (1 - params.income_expectation_weight) * prior.expected_real_disposable_income
    )
    real_consumption = (
        params.autonomous_consumption
        + params.propensity_to_consume_income * expected_real_income
        + params.propensity_to_consume_wealth * prior.real_wealth
    )
    consumption = price * real_consumption
    government_spending = price * scenario.real_government_spending
    real_sales = real_consumption + scenario.real_government_spending
    real_inventories = prior.real_inventories + real_output - real_sales
    inventories = real_inventories * unit_cost
    sales = price * real_sales
    taxes = sales * params.tax_rate / (1 + params.tax_rate)
    wage_bill = employment * nominal_wage
    firm_profits = (
        sales
        - taxes
        - wage_bill
        + inventories
        - prior.nominal_inventories
        - prior.loan_rate * prior.nominal_inventories
    )

    # What households earn, and what they expected to.
    bond_price = 1 / scenario.bond_yield
    income = (
        firm_profits
        + bank_profits
        + wage_bill
        + prior.deposit_rate * prior.m2_household
        + prior.bill_rate * prior.bills_household
        + prior.bonds_household
    )
    capital_gains = (bond_price - prior.bond_price) * prior.bonds_household
    wealth = prior.nominal_wealth + income + capital_gains - consumption
    cash = params.cash_to_consumption_ratio * consumption
    non_cash_wealth = wealth - cash
    inflation_loss = inflation * prior.nominal_wealth / price
    expected_income = price * expected_real_income + inflation_loss
    expected_wealth = prior.nominal_wealth + expected_income - consumption
    expected_non_cash_wealth = expected_wealth - cash

    # They divide up the wealth they expect; M1, or M2 where M1 is empty, takes what comes instead.
    def demand(constant: Any, deposits: Any, bills: Any, bonds: Any, income: Any) -> Any:
        share = (
            constant
            + deposits * deposit_rate
            + bills * scenario.bill_rate
            + bonds * scenario.bond_yield
        )
        return share * expected_non_cash_wealth + income * expected_income

    m2_demand = demand(
        params.wealth_share_m2_constant,
        params.wealth_share_m2_deposit_rate,
        params.wealth_share_m2_bill_rate,
        params.wealth_share_m2_bond_yield,
        params.wealth_share_m2_income,
    )
    bills = demand(
        params.wealth_share_bills_constant,
        params.wealth_share_bills_deposit_rate,
        params.wealth_share_bills_bill_rate,
        params.wealth_share_bills_bond_yield,
        params.wealth_share_bills_income,
    )
    bonds_value = demand(
        params.wealth_share_bonds_constant,
        params.wealth_share_bonds_deposit_rate,
        params.wealth_share_bonds_bill_rate,
        params.wealth_share_bonds_bond_yield,
        params.wealth_share_bonds_income,
    )
    bonds = bonds_value / bond_price
    all_deposits = non_cash_wealth - bills - bonds_value
    m1_tentative = all_deposits - m2_demand
    m1_positive = _switch(m1_tentative, sharpness, per=non_cash_wealth)
    m1 = m1_positive * m1_tentative
    m2 = m1_positive * m2_demand + (1 - m1_positive) * all_deposits

    # Banks: what deposits leave after loans and reserves is in bills, at the floor by advances.
    reserves = params.reserve_ratio_m1 * m1 + params.reserve_ratio_m2 * m2
    deposits = m1 + m2
    bank_bills_tentative = deposits - inventories - reserves
    liquidity_tentative = smooth.safe_divide(bank_bills_tentative, deposits)
    below_floor = _switch(params.bank_liquidity_floor - liquidity_tentative, sharpness)
    advances = below_floor * (params.bank_liquidity_floor * deposits - bank_bills_tentative)
    bank_bills = bank_bills_tentative + advances

    # The government's deficit is financed by bonds and bills, of which the central bank takes the rest.
    central_bank_profits = (
        prior.bill_rate * prior.bills_central_bank + prior.advance_rate * prior.advances_supply
    )
    deficit = (
        government_spending
        + prior.bill_rate * prior.bills_supply
        + prior.bonds_supply
        - taxes
        - central_bank_profits
    )
    government_bills = prior.bills_supply + deficit - bond_price * (bonds - prior.bonds_supply)
    central_bank_bills = government_bills - bills - bank_bills
    high_powered_money = central_bank_bills + advances
    return State(
        real_government_spending=scenario.real_government_spending,
        bill_rate=scenario.bill_rate,
        bond_yield=scenario.bond_yield,
        deposit_rate=deposit_rate,
        loan_rate=loan_rate,
        advance_rate=scenario.bill_rate,
        price_level=price,
        inflation_rate=inflation,
        nominal_wage=nominal_wage,
        real_wage=nominal_wage / price,
        target_real_wage=target_real_wage,
        unit_cost=unit_cost,
        normal_historic_unit_cost=historic_cost,
        expected_sales=expected_sales,
        real_sales=real_sales,
        real_output=real_output,
        target_inventory_sales_ratio=target_ratio,
        target_inventories=target_inventories,
        expected_inventories=expected_inventories,
        real_inventories=real_inventories,
        actual_inventory_sales_ratio=smooth.safe_divide(prior.real_inventories, real_sales),
        nominal_inventories=inventories,
        employment=employment,
        wage_bill=wage_bill,
        nominal_sales=sales,
        nominal_output=sales + unit_cost * (real_inventories - prior.real_inventories),
        nominal_consumption=consumption,
        government_spending=government_spending,
        real_consumption=real_consumption,
        taxes=taxes,
        loan_demand=inventories,
        firm_profits=firm_profits,
        total_dividends=firm_profits + bank_profits,
        regular_disposable_income=income,
        capital_gains=capital_gains,
        haig_simons_disposable_income=income + capital_gains,
        nominal_wealth=wealth,
        real_regular_disposable_income=income / price - inflation_loss,
        real_wealth=wealth / price,
        expected_real_disposable_income=expected_real_income,
        nominal_expected_disposable_income=expected_income,
        expected_nominal_wealth=expected_wealth,
        cash_demand=cash,
        expected_non_cash_wealth=expected_non_cash_wealth,
        m1_demand_tentative=m1_tentative,
        m2_demand=m2_demand,
        bills_demand=bills,
        bonds_demand=bonds,
        non_cash_wealth=non_cash_wealth,
        switch_m1_positive=m1_positive,
        switch_m2_absorber=1 - m1_positive,
        cash_household=cash,
        m1_household=m1,
        m2_household=m2,
        bills_household=bills,
        bonds_household=bonds,
        bond_price=bond_price,
        expected_return_on_bonds=scenario.bond_yield,
        public_sector_borrowing_requirement=deficit,
        bonds_supply=bonds,
        bills_supply=government_bills,
        government_debt=government_bills + bond_price * bonds,
        loans_supply=inventories,
        m1_supply=m1,
        m2_supply=m2,
        required_reserves=reserves,
        cash_banks_supply=reserves,
        bills_bank_tentative=bank_bills_tentative,
        bank_liquidity_ratio_tentative=liquidity_tentative,
        switch_bank_below_floor=below_floor,
        advances_demand=advances,
        bills_bank=bank_bills,
        bank_liquidity_ratio=smooth.safe_divide(bank_bills, deposits),
        lagged_m1_supply=prior.m1_supply,
        lagged_m2_supply=prior.m2_supply,
        bank_profits=bank_profits,
        bank_profit_margin=profit_margin,
        advances_supply=advances,
        bills_central_bank=central_bank_bills,
        high_powered_money=high_powered_money,
        bank_reserves_supply=high_powered_money - cash,
        central_bank_profits=central_bank_profits,
    )


def _switch(excess: Any, sharpness: float | None, per: Any = 1.0) -> Any:
    """1 where `excess` is positive, else 0; with a sharpness, a logistic function of its per cent."""
    if sharpness is None:
        return jnp.where(excess > 0, 1.0, 0.0)
    percent = 100 * smooth.safe_divide(excess, jnp.abs(per))
    return smooth.where(percent, 1.0, 0.0, sharpness)


def _adding_up(of: str, total: float) -> AddingUp:
    return AddingUp(
        tuple(f"wealth_share_{asset}_{of}" for asset in ("m2", "bills", "bonds", "m1")), total
    )


GL06INSOUT = Model(
    "GL06INSOUT",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    constraints=(
        _adding_up("constant", 1.0),
        _adding_up("deposit_rate", 0.0),
        _adding_up("bill_rate", 0.0),
        _adding_up("bond_yield", 0.0),
        _adding_up("income", 0.0),
    ),
    scenarios={
        "Higher target inventory ratio": {"inventory_sales_ratio_baseline_add": 0.0388},
        "Higher government spending": {"real_government_spending": 30.0},
        "Higher reserve requirements": {"reserve_ratio_m1_add": 0.1, "reserve_ratio_m2_add": 0.1},
        "Wider liquidity corridor": {
            "bank_liquidity_floor_add": 0.18,
            "bank_liquidity_ceiling_add": 0.18,
        },
        "Lower consumption propensity": {"propensity_to_consume_income_add": -0.15},
        "Higher real wage target": {"real_wage_target_constant_add": 0.12549},
        "Wage target + rate rise": {
            "bill_rate": 0.03,
            "bond_yield": 0.039,
            "real_wage_target_constant_add": 0.12549,
        },
    },
    shocks=tuple(f"{name}_add" for name in Params.fields),
    trigger=50,
)
