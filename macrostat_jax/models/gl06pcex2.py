r"""Model PCEX2: portfolio choice, with spending that a higher interest rate discourages.

Godley and Lavoie (2007), *Monetary Economics*, chapter 4: model PCEX, in which the propensity to
consume out of income is the lower the higher last period's interest rate was (equation 4.31). A
rise of the rate first depresses income and then raises it, through the interest that households
earn.
"""

from __future__ import annotations

from .._model import Model
from .._record import Record, Scalar, exogenous, flow, param
from . import gl06pc, gl06pcex

H, F = "Household", "Production"


class Params(Record):
    tax_rate: Scalar = param(0.2, symbol=r"\theta", bounds=(0, 1), unit="% per period")
    propensity_to_consume_income_base: Scalar = param(
        0.7, symbol=r"\alpha_{10}", bounds=(0, 1), unit=".", ref="4.31"
    )
    propensity_to_consume_income_interest: Scalar = param(
        4.0, symbol=r"\iota", bounds=(0, 10), unit=".", ref="4.31"
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


class Scenario(gl06pc.Scenario):
    # A shock to what is no parameter here, but a propensity that the interest rate moves.
    propensity_to_consume_income_add: Scalar = exogenous(
        0.0, symbol=r"\epsilon_1", unit=".", name="PropensityToConsumeIncome_add"
    )


class State(gl06pcex.State):
    consumption_household: Scalar = flow(
        "C",
        r"(\alpha_{10} - \iota r_{-1} + \epsilon_1) YD^e + \alpha_2 V_{-1}",
        ref="4.5E, 4.31",
        pays=H,
        gets=F,
        unit="USD",
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """Before the first government expenditure there is neither wealth nor income."""
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period of model PCEX, at the propensity to consume that last period's rate leaves."""
    params_pcex = at_interest_rate(prior.interest_rate, params, scenario)
    return State(**vars(gl06pcex.step(prior, params_pcex, scenario)))


def steady_state(params: Params, scenario: Scenario) -> State:
    """The steady state of model PCEX at the propensity that belongs to the constant rate."""
    params_pcex = at_interest_rate(scenario.interest_rate, params, scenario)
    return State(**vars(gl06pcex.steady_state(params_pcex, scenario)))


def at_interest_rate(interest_rate: Scalar, params: Params, scenario: Scenario) -> gl06pcex.Params:
    """The parameters of model PCEX that households act on after a period of `interest_rate`."""
    return gl06pcex.Params(
        tax_rate=params.tax_rate,
        propensity_to_consume_income=params.propensity_to_consume_income_base
        - params.propensity_to_consume_income_interest * interest_rate
        + scenario.propensity_to_consume_income_add,
        propensity_to_consume_savings=params.propensity_to_consume_savings,
        wealth_share_bills_constant=params.wealth_share_bills_constant,
        wealth_share_bills_interest_rate=params.wealth_share_bills_interest_rate,
        wealth_share_bills_income=params.wealth_share_bills_income,
    )


GL06PCEX2 = Model(
    "GL06PCEX2",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    shocks=(
        "tax_rate_add",
        "propensity_to_consume_income_base_add",
        "propensity_to_consume_income_interest_add",
        "propensity_to_consume_savings_add",
        "wealth_share_bills_constant_add",
        "wealth_share_bills_interest_rate_add",
        "wealth_share_bills_income_add",
    ),
)
