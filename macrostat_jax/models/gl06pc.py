r"""Model PC: portfolio choice between money and bills.

Godley and Lavoie (2007), *Monetary Economics*, chapter 4. Households hold their wealth as money and
as government bills, more of it in bills the higher the interest rate and the lower their income,
which they need money to spend. The government pays interest on its bills. The central bank sets the
interest rate, holds the bills that households do not want, issues money against them and hands its
profits to the government.
"""

from __future__ import annotations

from .._model import Model
from .._record import NET_WORTH, Record, Scalar, exogenous, flow, index, param, stock

H, F, G, CB = "Household", "Production", "Government", "CentralBank"
RESERVES = (CB, "Capital")


class Params(Record):
    tax_rate: Scalar = param(0.2, symbol=r"\theta", bounds=(0, 1), unit="% per period")
    propensity_to_consume_income: Scalar = param(0.6, symbol=r"\alpha_1", bounds=(0, 1), unit=".")
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


class Scenario(Record):
    government_demand: Scalar = exogenous(20.0, symbol="G_d", unit="USD")
    wage_rate: Scalar = exogenous(1.0, symbol="W", unit="USD")
    interest_rate: Scalar = exogenous(0.025, symbol=r"\bar{r}", unit=".")


class State(Record):
    consumption_household: Scalar = flow(
        "C", r"\alpha_1 YD + \alpha_2 V_{-1}", ref="4.5", pays=H, gets=F, unit="USD"
    )
    consumption_government: Scalar = flow("G", "G_d", pays=G, gets=F, unit="USD")
    national_income: Scalar = flow("Y", "C + G", ref="4.1", pays=F, gets=H, unit="USD")
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
        "B_h",
        r"(\lambda_0 + \lambda_1 r) V - \lambda_2 YD",
        ref="4.7",
        asset=H,
        instrument="Bills",
        unit="USD",
    )
    government_bill_stock: Scalar = stock(
        "B_s",
        "B_{s,-1} + G + r_{-1} B_{s,-1} - T - r_{-1} B_{CB,-1}",
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
        "V_{-1} + YD - C",
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


def initial_state(params: Params, scenario: Scenario) -> State:
    """Before the first government expenditure there is neither wealth nor income."""
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period: incomes and spending, then wealth, then how it is held."""
    government_spending = scenario.government_demand
    interest_households = prior.interest_rate * prior.household_bill_stock
    interest_central_bank = prior.interest_rate * prior.central_bank_bill_stock
    interest_government = prior.interest_rate * prior.government_bill_stock

    # Equations 4.1, 4.2, 4.3 and 4.5 solved for YD: of each unit of disposable income alpha_1 is
    # spent, and 1 - theta of that is disposable income again.
    spending_out_of_wealth = params.propensity_to_consume_savings * prior.wealth
    income_before_consumption = government_spending + interest_households
    disposable_income = (
        (1 - params.tax_rate)
        * (income_before_consumption + spending_out_of_wealth)
        / (1 - params.propensity_to_consume_income * (1 - params.tax_rate))
    )
    consumption = params.propensity_to_consume_income * disposable_income + spending_out_of_wealth
    national_income = consumption + government_spending
    taxes = params.tax_rate * (national_income + interest_households)

    wealth = prior.wealth + disposable_income - consumption
    interest_rate = scenario.interest_rate
    # The book's bill demand per unit of wealth (4.7), times wealth: it also holds for no wealth.
    household_bills = (
        params.wealth_share_bills_constant + params.wealth_share_bills_interest_rate * interest_rate
    ) * wealth - params.wealth_share_bills_income * disposable_income
    government_bills = (
        prior.government_bill_stock
        + government_spending
        + interest_government
        - taxes
        - interest_central_bank
    )
    central_bank_bills = government_bills - household_bills
    return State(
        consumption_household=consumption,
        consumption_government=government_spending,
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
    )


def steady_state(params: Params, scenario: Scenario) -> State:
    """The budget is balanced, interest included; households spend their disposable income.

    Of wealth V = v YD with v = (1 - alpha_1) / alpha_2, households hold the bills b YD, which pay
    them r b YD. Income before taxes is then G + YD + r b YD, of which 1 - theta is disposable.
    """
    government_spending = scenario.government_demand
    interest_rate = scenario.interest_rate
    wealth_ratio = (1 - params.propensity_to_consume_income) / params.propensity_to_consume_savings
    bills_ratio = (
        params.wealth_share_bills_constant + params.wealth_share_bills_interest_rate * interest_rate
    ) * wealth_ratio - params.wealth_share_bills_income
    disposable_income = (
        (1 - params.tax_rate)
        * government_spending
        / (params.tax_rate - (1 - params.tax_rate) * interest_rate * bills_ratio)
    )
    national_income = disposable_income + government_spending
    wealth = wealth_ratio * disposable_income
    household_bills = bills_ratio * disposable_income
    interest_households = interest_rate * household_bills
    money = wealth - household_bills
    return State(
        consumption_household=disposable_income,
        consumption_government=government_spending,
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
    )


GL06PC = Model(
    "GL06PC",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    shocks=("propensity_to_consume_income_add",),
)
