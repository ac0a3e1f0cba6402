r"""Model SIMEX: government money with expected income.

Godley and Lavoie (2007), *Monetary Economics*, section 3.7. Households plan their spending on the
income they expect, which is what they earned last period; money absorbs their mistakes. Producers
supply what is demanded, the government spends a given amount, taxes income at the rate theta and
issues money for the difference.
"""

from __future__ import annotations

from .._model import Model
from .._record import Record, Scalar, exogenous, flow, index, param, stock

H, F, G = "Household", "Production", "Government"


class Params(Record):
    tax_rate: Scalar = param(0.2, symbol=r"\theta", bounds=(0, 1), unit="% per period")
    propensity_to_consume_income: Scalar = param(0.6, symbol=r"\alpha_1", bounds=(0, 1), unit=".")
    propensity_to_consume_savings: Scalar = param(0.4, symbol=r"\alpha_2", bounds=(0, 1), unit=".")


class Scenario(Record):
    government_demand: Scalar = exogenous(20.0, symbol="G_d", unit="USD")
    wage_rate: Scalar = exogenous(1.0, symbol="W", unit="USD")


class State(Record):
    consumption_demand: Scalar = index(
        "C_d", r"\alpha_1 YD^e + \alpha_2 H_{h,-1}", ref="3.7E", sector=H, unit="USD"
    )
    consumption_supply: Scalar = flow("C_s", "C_d", ref="3.1", pays=H, gets=F, unit="USD")
    government_demand: Scalar = index("G_d", "G_d", sector=G, unit="USD")
    government_supply: Scalar = flow("G_s", "G_d", ref="3.2", pays=G, gets=F, unit="USD")
    tax_demand: Scalar = index("T_d", r"\theta W N_s", ref="3.6", sector=G, unit="USD")
    tax_supply: Scalar = flow("T_s", "T_d", ref="3.3", pays=H, gets=G, unit="USD")
    labour_demand: Scalar = index("N_d", r"\frac{Y}{W}", ref="3.11", sector=F, unit="USD")
    labour_supply: Scalar = index("N_s", "N_d", ref="3.4", sector=H, unit="USD")
    labour_income: Scalar = flow(r"W\cdot N_s", r"W N_s", pays=F, gets=H, unit="USD")
    disposable_income: Scalar = index("YD", r"W N_s - T_s", ref="3.5", sector=H, unit="USD")
    expected_disposable_income: Scalar = index("YD^e", "YD_{-1}", ref="3.20", sector=H, unit="USD")
    wages: Scalar = index("W", "W", sector=H, unit="USD")
    government_money_stock: Scalar = stock(
        "H_s", "H_{s,-1} + G_d - T_d", ref="3.8", liability=G, instrument="Money", unit="USD"
    )
    household_money_demand: Scalar = index(
        "H_d", "H_{h,-1} + YD^e - C_d", ref="3.18", sector=H, unit="USD"
    )
    household_money_stock: Scalar = stock(
        "H_h", "H_{h,-1} + YD - C_d", ref="3.9", asset=H, instrument="Money", unit="USD"
    )
    national_income: Scalar = index("Y", "C_s + G_s", ref="3.10", unit="USD")


def initial_state(params: Params, scenario: Scenario) -> State:
    """Before the first government expenditure there is neither money nor income."""
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period, in the order in which the payments are decided."""
    return period(prior, params, scenario, consumption_demand(prior, params))


def consumption_demand(prior: State, params: Params) -> Scalar:
    """What households plan to spend, out of the income that they expect and of their money."""
    return (
        params.propensity_to_consume_income * prior.disposable_income
        + params.propensity_to_consume_savings * prior.household_money_stock
    )


def period(prior: State, params: Params, scenario: Scenario, consumption: Scalar) -> State:
    """What follows from that, for whatever households plan to spend."""
    expected_disposable_income = prior.disposable_income
    government_spending = scenario.government_demand
    national_income = consumption + government_spending
    labour = national_income / scenario.wage_rate
    labour_income = scenario.wage_rate * labour
    taxes = params.tax_rate * labour_income
    disposable_income = labour_income - taxes
    return State(
        consumption_demand=consumption,
        consumption_supply=consumption,
        government_demand=government_spending,
        government_supply=government_spending,
        tax_demand=taxes,
        tax_supply=taxes,
        labour_demand=labour,
        labour_supply=labour,
        labour_income=labour_income,
        disposable_income=disposable_income,
        expected_disposable_income=expected_disposable_income,
        wages=scenario.wage_rate,
        government_money_stock=prior.government_money_stock + government_spending - taxes,
        household_money_demand=prior.household_money_stock
        + expected_disposable_income
        - consumption,
        household_money_stock=prior.household_money_stock + disposable_income - consumption,
        national_income=national_income,
    )


def steady_state(params: Params, scenario: Scenario) -> State:
    """Taxes equal government spending, so income is G / theta; expectations are met."""
    government_spending = scenario.government_demand
    national_income = government_spending / params.tax_rate
    labour = national_income / scenario.wage_rate
    disposable_income = national_income - government_spending
    money = (
        (1 - params.propensity_to_consume_income)
        / params.propensity_to_consume_savings
        * disposable_income
    )
    return State(
        consumption_demand=disposable_income,
        consumption_supply=disposable_income,
        government_demand=government_spending,
        government_supply=government_spending,
        tax_demand=government_spending,
        tax_supply=government_spending,
        labour_demand=labour,
        labour_supply=labour,
        labour_income=national_income,
        disposable_income=disposable_income,
        expected_disposable_income=disposable_income,
        wages=scenario.wage_rate,
        government_money_stock=money,
        household_money_demand=money,
        household_money_stock=money,
        national_income=national_income,
    )


GL06SIMEX = Model(
    "GL06SIMEX",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    shocks=tuple(f"{name}_add" for name in Params.fields),
)
