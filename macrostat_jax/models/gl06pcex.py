r"""Model PCEX: portfolio choice with expected income.

Godley and Lavoie (2007), *Monetary Economics*, chapter 4: model PC with the expectations of
equations 4.5E, 4.7E and 4.13 to 4.16. Households plan their spending, their wealth and their bills
on the income they expect, which is what they earned last period. They get the bills that they ask
for; money absorbs their mistakes. Parameters, scenarios and accounts are those of model PC.
"""

from __future__ import annotations

from .._model import Model
from .._record import Scalar, flow, index, stock
from . import gl06pc
from .gl06pc import Params, Scenario

H, F = "Household", "Production"


class State(gl06pc.State):
    consumption_household: Scalar = flow(
        "C", r"\alpha_1 YD^e + \alpha_2 V_{-1}", ref="4.5E", pays=H, gets=F, unit="USD"
    )
    household_bill_stock: Scalar = stock(
        "B_h", "B_d", ref="4.15", asset=H, instrument="Bills", unit="USD"
    )
    expected_disposable_income: Scalar = index("YD^e", "YD_{-1}", ref="4.16", sector=H, unit="USD")
    expected_wealth: Scalar = index("V^e", "V_{-1} + YD^e - C", ref="4.14", sector=H, unit="USD")
    household_bill_demand: Scalar = index(
        "B_d", r"(\lambda_0 + \lambda_1 r) V^e - \lambda_2 YD^e", ref="4.7E", sector=H, unit="USD"
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """Before the first government expenditure there is neither wealth nor income."""
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period: what households plan, then what they earn, then who holds what."""
    interest_households = prior.interest_rate * prior.household_bill_stock
    interest_central_bank = prior.interest_rate * prior.central_bank_bill_stock
    interest_government = prior.interest_rate * prior.government_bill_stock
    interest_rate = scenario.interest_rate

    expected_disposable_income = prior.disposable_income
    consumption = (
        params.propensity_to_consume_income * expected_disposable_income
        + params.propensity_to_consume_savings * prior.wealth
    )
    expected_wealth = prior.wealth + expected_disposable_income - consumption
    # The book's bill demand per unit of wealth (4.7E), times wealth: it also holds for no wealth.
    household_bills = (
        params.wealth_share_bills_constant + params.wealth_share_bills_interest_rate * interest_rate
    ) * expected_wealth - params.wealth_share_bills_income * expected_disposable_income

    government_spending = scenario.government_demand
    national_income = consumption + government_spending
    taxes = params.tax_rate * (national_income + interest_households)
    disposable_income = national_income - taxes + interest_households

    wealth = prior.wealth + disposable_income - consumption
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
        expected_disposable_income=expected_disposable_income,
        expected_wealth=expected_wealth,
        household_bill_demand=household_bills,
    )


def steady_state(params: Params, scenario: Scenario) -> State:
    """Expectations are met: the steady state of model PC."""
    state = gl06pc.steady_state(params, scenario)
    return State(
        **vars(state),
        expected_disposable_income=state.disposable_income,
        expected_wealth=state.wealth,
        household_bill_demand=state.household_bill_stock,
    )


GL06PCEX = Model(
    "GL06PCEX",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    shocks=(
        "propensity_to_consume_income_add",
        "tax_rate_add",
        "propensity_to_consume_savings_add",
        "wealth_share_bills_constant_add",
        "wealth_share_bills_interest_rate_add",
        "wealth_share_bills_income_add",
    ),
)
