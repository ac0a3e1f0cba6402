r"""Model LP3: a government that spends less when it has to borrow much.

Godley and Lavoie (2007), *Monetary Economics*, chapter 5: model LP2 with equations 5.28 to 5.31.
While what the public sector has to borrow is more than a threshold share of national income, the
government cuts its spending by a part of it, and adds to it while the surplus is as large. Spending
stays where such a period has left it: the steady state depends on the way to it.
"""

from __future__ import annotations

import jax.numpy as jnp

from .. import smooth
from .._model import Model
from .._record import Scalar, exogenous, flow, index, param
from . import gl06lp2
from .gl06lp2 import switch

F, G = "Production", "Government"


class Params(gl06lp2.Params):
    fiscal_adjustment_speed: Scalar = param(0.01, symbol=r"\beta_g", bounds=(0, 1), unit=".")
    psbr_threshold: Scalar = param(
        0.03, symbol=r"\text{threshold}", bounds=(0, 1), unit=".", name="PSBRThreshold"
    )


class Scenario(gl06lp2.Scenario):
    government_spending_shock: Scalar = exogenous(0.0, symbol=r"\text{add}_2", unit="USD")


class State(gl06lp2.State):
    consumption_government: Scalar = flow(
        "G",
        r"\begin{cases} G_d & Y_{-1} = 0 \\"
        r" G_{-1} - \beta_g \left[|PSBR_{-1} / Y_{-1}| > \text{threshold}\right] PSBR_{-1}"
        r" + \text{add}_2 & Y_{-1} \neq 0 \end{cases}",
        ref="5.28-5.31",
        pays=G,
        gets=F,
        unit="USD",
    )
    public_sector_borrowing_requirement: Scalar = index(
        "PSBR",
        "G + r_b B_{s,-1} + BL_{s,-1} - T - r_b B_{CB,-1}",
        ref="5.28-5.31",
        sector=G,
        unit="USD",
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """Nobody has wealth or income yet, but bonds have a price, which is expected to stay."""
    price = scenario.bond_price_initial
    return State.filled(0.0).replace(bond_price=price, expected_bond_price=price)


def step(
    prior: State, params: Params, scenario: Scenario, *, sharpness: float | None = None
) -> State:
    """One period: the government decides on its spending, then model LP2 takes its course.

    Args:
        prior, params, scenario: last period, parameters, this period's exogenous values.
        sharpness: as in model LP2, of all switches. Where the borrowing is a share of national
            income that is d from the threshold, the switch is at most 2 exp(-2 sharpness d) from
            the exact one, and spending at most that share beta_g of the borrowing from the exact
            step.
    """
    borrowing = prior.public_sector_borrowing_requirement
    share = smooth.safe_divide(borrowing, prior.national_income)
    deficit = switch(share - params.psbr_threshold, sharpness)
    surplus = switch(-share - params.psbr_threshold, sharpness)
    adjusted = (
        prior.consumption_government
        - (deficit + surplus) * params.fiscal_adjustment_speed * borrowing
        + scenario.government_spending_shock
    )
    # Without income before it, there is no spending to adjust: the government makes a beginning.
    spending = jnp.where(prior.national_income == 0, scenario.government_demand, adjusted)
    state = gl06lp2.period(
        prior, params, scenario, government_spending=spending, sharpness=sharpness
    )
    # The book takes interest at the new rate here, though it is paid at the old one (5.14).
    interest = scenario.interest_rate_bills * (
        prior.government_bill_stock - prior.central_bank_bill_stock
    )
    return State(
        **vars(state),
        public_sector_borrowing_requirement=spending
        + interest
        + prior.government_bond_supply
        - state.taxes,
    )


GL06LP3 = Model(
    "GL06LP3",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    scenarios={
        "Drop in alpha1": {"propensity_to_consume_income_add": -0.1},
        "Rise in bill rate": {"interest_rate_bills": 0.04},
    },
    shocks=tuple(f"{name}_add" for name in Params.fields),
    trigger=50,
)
