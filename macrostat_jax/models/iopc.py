r"""Model IOPC: portfolio choice in an economy of three industries.

Veronese Passarella (2025), *Model 3IO-PC*, in the lecture notes that go with the R code at
https://github.com/marcoverpas/keynote_speech_Florence, section 2.2 (equations 13 to 19, 1.A and 5.A), on
model PC of Godley and Lavoie (2007), *Monetary Economics*, chapter 4, with the expectations of their
section 4.4 and a propensity to consume that falls with the interest rate (4.31): model PCEX2.

Industries buy from each other what they need to produce; prices cover the cost of that, with a
markup, and of labour. Households and the government buy baskets of goods. What they spend becomes
the income of households, who save it as money and bills.
"""

from __future__ import annotations

import jax.numpy as jnp

from .._model import Model
from .._record import (
    NET_WORTH,
    Axis,
    Matrix,
    Record,
    Scalar,
    Vector,
    exogenous,
    flow,
    index,
    param,
    stock,
)

H, F, G, CB = "Household", "IOSectors", "Government", "CentralBank"
RESERVES = (CB, "Capital")
SECTORS = Axis("sector", ("S1", "S2", "S3"))


class Params(Record):
    tax_rate: Scalar = param(0.2, symbol=r"\theta", bounds=(0, 1), unit="% per period")
    propensity_to_consume_income_base: Scalar = param(
        0.8, symbol=r"\alpha_{10}", bounds=(0, 1), unit="."
    )
    propensity_to_consume_income_interest: Scalar = param(
        8.0, symbol=r"\alpha_{11}", bounds=(0, 10), unit="."
    )
    propensity_to_consume_savings: Scalar = param(0.4, symbol=r"\alpha_2", bounds=(0, 1), unit=".")
    wealth_share_bills_constant: Scalar = param(
        0.635, symbol=r"\lambda_0", bounds=(0, 1), unit=".", name="WealthShareBills_Constant"
    )
    wealth_share_bills_interest_rate: Scalar = param(
        5.0, symbol=r"\lambda_1", bounds=(0, 10), unit=".", name="WealthShareBills_InterestRate"
    )
    wealth_share_bills_income: Scalar = param(
        0.01, symbol=r"\lambda_2", bounds=(0, 1), unit=".", name="WealthShareBills_Income"
    )
    markup: Scalar = param(0.875, symbol=r"\mu", bounds=(0, 1), unit=".")
    labour_productivity: Vector = param(
        (3.5, 5.0, 2.2), symbol="pr_i", bounds=(0, 10), unit=".", shape=SECTORS
    )
    household_budget_share: Vector = param(
        (0.15, 0.35, 0.5), symbol=r"\bar{\beta}_{C,i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    government_budget_share: Vector = param(
        (0.1, 0.3, 0.6), symbol=r"\bar{\beta}_{G,i}", bounds=(0, 1), unit=".", shape=SECTORS
    )
    # Row: what is needed. Column: for a unit of whose output.
    requirement: Matrix = param(
        ((0.11, 0.12, 0.10), (0.21, 0.22, 0.20), (0.15, 0.18, 0.10)),
        symbol="a_{i,j}",
        bounds=(0, 1),
        unit=".",
        shape=(SECTORS, SECTORS),
    )


class Scenario(Record):
    government_demand: Scalar = exogenous(20.0, symbol=r"\bar{g}", unit="RU")
    wage_rate: Scalar = exogenous(0.4, symbol="w", unit="USD")
    interest_rate: Scalar = exogenous(0.025, symbol=r"\bar{r}", unit=".")


class State(Record):
    real_consumption_household: Scalar = index(
        "c",
        r"\alpha_1 \left(\frac{YD^e}{p_c} - \pi\right) + \alpha_2 \frac{V_{-1}}{p_c}",
        ref="5.A",
        sector=H,
        unit="RU",
    )
    nominal_consumption_household: Scalar = flow(
        r"p_c \cdot c", "p_c c", pays=H, gets=F, unit="USD"
    )
    real_consumption_government: Scalar = index("g", r"\bar{g}", sector=G, unit="RU")
    nominal_consumption_government: Scalar = flow(
        r"p_g \cdot g", "p_g g", pays=G, gets=F, unit="USD"
    )
    real_gross_output: Vector = index(
        "x_i",
        r"d_i + \sum_j a_{i,j} x_j",
        ref="16",
        sector="Production",
        unit="RU_i",
        shape=SECTORS,
    )
    real_final_demand: Vector = index(
        "d_i",
        r"\bar{\beta}_{C,i} c + \bar{\beta}_{G,i} g",
        ref="13-15",
        sector="Production",
        unit="RU_i",
        shape=SECTORS,
    )
    prices: Vector = index(
        "P_i",
        r"\frac{w}{pr_i} + (1 + \mu) \sum_j P_j a_{j,i}",
        ref="17",
        sector="Production",
        unit="USD",
        shape=SECTORS,
    )
    consumer_price_index: Scalar = index(
        "p_c", r"\sum_i \bar{\beta}_{C,i} P_i", ref="18", sector=H, unit="USD"
    )
    # What rising prices took from last period's wealth, in goods.
    consumer_price_inflation: Scalar = index(
        r"\pi",
        r"\frac{p_c - p_{c,-1}}{p_{c,-1}} \frac{V_{-1}}{p_c}",
        ref="5.A",
        sector=H,
        unit="%pp",
    )
    government_price_index: Scalar = index(
        "p_g", r"\sum_i \bar{\beta}_{G,i} P_i", ref="19", sector=G, unit="USD"
    )
    national_income: Scalar = flow("Y", r"\sum_i P_i d_i", ref="1.A", pays=F, gets=H, unit="USD")
    interest_earned_on_bills_household: Scalar = flow(
        r"r_{-1}\cdot B_{h,-1}", "r_{-1} B_{h,-1}", pays=G, gets=H, unit="USD"
    )
    central_bank_profits: Scalar = flow(
        r"r_{-1}\cdot B_{CB,-1}", "r_{-1} B_{CB,-1}", pays=CB, gets=G, received_from=G, unit="USD"
    )
    taxes: Scalar = flow(
        "T", r"\theta (Y + r_{-1} B_{h,-1})", ref="4.3", pays=H, gets=G, unit="USD"
    )
    household_money_stock: Scalar = stock(
        "H_h", "V - B_h", ref="4.6", asset=H, instrument="Money", unit="USD"
    )
    central_bank_money_stock: Scalar = stock(
        "H_s",
        "H_{s,-1} + B_{CB} - B_{CB,-1}",
        ref="4.9",
        liability=RESERVES,
        instrument="Money",
        unit="USD",
    )
    household_bill_stock: Scalar = stock(
        "B_h", "B_d", ref="4.15", asset=H, instrument="Bills", unit="USD"
    )
    government_bill_stock: Scalar = stock(
        "B_s",
        "B_{s,-1} + p_g g + r_{-1} B_{s,-1} - T - r_{-1} B_{CB,-1}",
        ref="4.8",
        liability=G,
        instrument="Bills",
        unit="USD",
    )
    central_bank_bill_stock: Scalar = stock(
        "B_{CB}", "B_s - B_h", ref="4.10", asset=RESERVES, instrument="Bills", unit="USD"
    )
    wealth: Scalar = stock(
        "V",
        "V_{-1} + YD - p_c c",
        ref="4.4",
        liability=H,
        asset=G,
        instrument=NET_WORTH,
        unit="USD",
    )
    interest_rate: Scalar = index("r", r"\bar{r}", ref="4.11", unit=".")
    disposable_income: Scalar = index(
        "YD", "Y - T + r_{-1} B_{h,-1}", ref="4.2", sector=H, unit="USD"
    )
    expected_disposable_income: Scalar = index("YD^e", "YD_{-1}", ref="4.16", sector=H, unit="USD")
    propensity_to_consume_income: Scalar = index(
        r"\alpha_1", r"\alpha_{10} - \alpha_{11} r_{-1}", ref="4.31", sector=H, unit="."
    )
    expected_wealth: Scalar = index(
        "V^e", "V_{-1} + YD^e - p_c c", ref="4.14", sector=H, unit="USD"
    )
    household_bill_demand: Scalar = index(
        "B_d",
        r"(\lambda_0 + \lambda_1 r) V^e - \lambda_2 YD^e",
        ref="4.7E",
        sector=H,
        unit="USD",
    )


def prices_of_reproduction(params: Params, wage_rate: Scalar) -> Vector:
    """The prices that cover wages, and inputs with their markup (17); NaN where there are none.

    There are none where goods need more than themselves to be made, at the marked-up prices: what
    solves the equations is then negative somewhere (Hawkins and Simon 1949). As the markup is not
    negative, gross outputs (16) exist wherever prices do.
    """
    marked_up_inputs = (1 + params.markup) * params.requirement.T
    prices = jnp.linalg.solve(
        jnp.eye(len(marked_up_inputs), dtype=marked_up_inputs.dtype) - marked_up_inputs,
        wage_rate / params.labour_productivity,
    )
    return jnp.where(jnp.all(prices > 0), prices, jnp.nan)


def gross_outputs(params: Params, final_demand: Vector) -> Vector:
    """What is produced for final demand and for each other's production (16)."""
    inputs = params.requirement
    return jnp.linalg.solve(jnp.eye(len(inputs), dtype=inputs.dtype) - inputs, final_demand)


def initial_state(params: Params, scenario: Scenario) -> State:
    """Before the first government expenditure there is neither wealth nor income."""
    # The source starts the loss to inflation at 1 as well; nothing depends on it.
    return State.filled(0.0).replace(
        prices=1.0,
        consumer_price_index=1.0,
        government_price_index=1.0,
        consumer_price_inflation=1.0,
    )


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period: prices, then spending and production, then incomes, wealth and how it is held."""
    prices = prices_of_reproduction(params, scenario.wage_rate)
    consumer_price = params.household_budget_share @ prices
    government_price = params.government_budget_share @ prices
    real_wealth_before = prior.wealth / consumer_price
    inflation = consumer_price / prior.consumer_price_index - 1
    lost_to_inflation = inflation * real_wealth_before

    # Households plan on the income they had; what prices took from their wealth counts against it.
    expected_income = prior.disposable_income
    propensity_to_consume = (
        params.propensity_to_consume_income_base
        - params.propensity_to_consume_income_interest * prior.interest_rate
    )
    real_consumption = (
        propensity_to_consume * (expected_income / consumer_price - lost_to_inflation)
        + params.propensity_to_consume_savings * real_wealth_before
    )
    real_government_spending = scenario.government_demand
    consumption = consumer_price * real_consumption
    government_spending = government_price * real_government_spending
    final_demand = (
        params.household_budget_share * real_consumption
        + params.government_budget_share * real_government_spending
    )

    interest_households = prior.interest_rate * prior.household_bill_stock
    interest_central_bank = prior.interest_rate * prior.central_bank_bill_stock
    interest_government = prior.interest_rate * prior.government_bill_stock
    national_income = prices @ final_demand
    taxes = params.tax_rate * (national_income + interest_households)
    disposable_income = national_income - taxes + interest_households

    wealth = prior.wealth + disposable_income - consumption
    expected_wealth = prior.wealth + expected_income - consumption
    interest_rate = scenario.interest_rate
    # The demand for bills per unit of expected wealth (4.7E), times it: that also holds for none.
    household_bills = (
        params.wealth_share_bills_constant + params.wealth_share_bills_interest_rate * interest_rate
    ) * expected_wealth - params.wealth_share_bills_income * expected_income
    government_bills = (
        prior.government_bill_stock
        + government_spending
        + interest_government
        - taxes
        - interest_central_bank
    )
    central_bank_bills = government_bills - household_bills
    return State(
        real_consumption_household=real_consumption,
        nominal_consumption_household=consumption,
        real_consumption_government=real_government_spending,
        nominal_consumption_government=government_spending,
        real_gross_output=gross_outputs(params, final_demand),
        real_final_demand=final_demand,
        prices=prices,
        consumer_price_index=consumer_price,
        consumer_price_inflation=lost_to_inflation,
        government_price_index=government_price,
        national_income=national_income,
        interest_earned_on_bills_household=interest_households,
        central_bank_profits=interest_central_bank,
        taxes=taxes,
        household_money_stock=wealth - household_bills,
        central_bank_money_stock=prior.central_bank_money_stock
        + central_bank_bills
        - prior.central_bank_bill_stock,
        household_bill_stock=household_bills,
        government_bill_stock=government_bills,
        central_bank_bill_stock=central_bank_bills,
        wealth=wealth,
        interest_rate=interest_rate,
        disposable_income=disposable_income,
        expected_disposable_income=expected_income,
        propensity_to_consume_income=propensity_to_consume,
        expected_wealth=expected_wealth,
        household_bill_demand=household_bills,
    )


def steady_state(params: Params, scenario: Scenario) -> State:
    """That of model PC, with government demand at its price: industries pass all they get on.

    The budget is balanced, interest included; households spend their disposable income YD. Of wealth
    V = v YD with v = (1 - alpha_1) / alpha_2 they hold the bills b YD, which pay them r b YD. Income
    before taxes is then p_g g + YD + r b YD, of which 1 - theta is disposable.
    """
    prices = prices_of_reproduction(params, scenario.wage_rate)
    consumer_price = params.household_budget_share @ prices
    government_price = params.government_budget_share @ prices
    real_government_spending = scenario.government_demand
    government_spending = government_price * real_government_spending

    interest_rate = scenario.interest_rate
    propensity_to_consume = (
        params.propensity_to_consume_income_base
        - params.propensity_to_consume_income_interest * interest_rate
    )
    wealth_ratio = (1 - propensity_to_consume) / params.propensity_to_consume_savings
    bills_ratio = (
        params.wealth_share_bills_constant + params.wealth_share_bills_interest_rate * interest_rate
    ) * wealth_ratio - params.wealth_share_bills_income
    disposable_income = (
        (1 - params.tax_rate)
        * government_spending
        / (params.tax_rate - (1 - params.tax_rate) * interest_rate * bills_ratio)
    )
    real_consumption = disposable_income / consumer_price
    final_demand = (
        params.household_budget_share * real_consumption
        + params.government_budget_share * real_government_spending
    )
    national_income = disposable_income + government_spending
    wealth = wealth_ratio * disposable_income
    household_bills = bills_ratio * disposable_income
    interest_households = interest_rate * household_bills
    money = wealth - household_bills
    return State(
        real_consumption_household=real_consumption,
        nominal_consumption_household=disposable_income,
        real_consumption_government=real_government_spending,
        nominal_consumption_government=government_spending,
        real_gross_output=gross_outputs(params, final_demand),
        real_final_demand=final_demand,
        prices=prices,
        consumer_price_index=consumer_price,
        consumer_price_inflation=jnp.zeros_like(consumer_price),
        government_price_index=government_price,
        national_income=national_income,
        interest_earned_on_bills_household=interest_households,
        # The central bank holds the bills that back the money.
        central_bank_profits=interest_rate * money,
        taxes=params.tax_rate * (national_income + interest_households),
        household_money_stock=money,
        central_bank_money_stock=money,
        household_bill_stock=household_bills,
        government_bill_stock=wealth,
        central_bank_bill_stock=money,
        wealth=wealth,
        interest_rate=interest_rate,
        disposable_income=disposable_income,
        expected_disposable_income=disposable_income,
        propensity_to_consume_income=propensity_to_consume,
        expected_wealth=wealth,
        household_bill_demand=household_bills,
    )


IOPC = Model(
    "IOPC",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    shocks=tuple(f"{key}_add" for key in Params.fields),
    solved=("prices",),
)
