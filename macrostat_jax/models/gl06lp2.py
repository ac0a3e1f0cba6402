r"""Model LP2: a price of bonds that follows what households hold.

Godley and Lavoie (2007), *Monetary Economics*, chapter 5: model LP with equations 5.20B and 5.24A to
5.27. The treasury lets the price of bonds drift up, by a small step each period, while bonds are
more than a target share of the bills and bonds of households, and down while they are less.
Households correct what they expect of the price by a part of their last error, and liquidity
preference so moves the long rate of interest. Between its two bounds any share is left alone: where
the price comes to rest depends on where it came from.
"""

from __future__ import annotations

import jax.numpy as jnp

from .. import smooth
from .._model import Model
from .._record import Record, Scalar, exogenous, index, param
from . import gl06lp

H, G = "Household", "Government"


class Params(gl06lp.Params):
    expectation_adjustment_speed: Scalar = param(0.5, symbol=r"\beta_e", bounds=(0, 1), unit=".")
    bond_price_adjustment_step: Scalar = param(0.02, symbol=r"\beta", bounds=(0, 0.1), unit=".")
    target_proportion_upper: Scalar = param(0.505, symbol=r"\text{top}", bounds=(0, 1), unit=".")
    target_proportion_lower: Scalar = param(0.495, symbol=r"\text{bot}", bounds=(0, 1), unit=".")


class Scenario(Record):
    government_demand: Scalar = exogenous(20.0, symbol="G_d", unit="USD")
    interest_rate_bills: Scalar = exogenous(0.03, symbol=r"\bar{r}_b", unit=".")
    bond_price_initial: Scalar = exogenous(20.0, symbol=r"p_{bl,0}", unit="USD")
    expected_bond_price_shock: Scalar = exogenous(0.0, symbol=r"\text{add}", unit="USD")
    bond_price_shock: Scalar = exogenous(0.0, symbol=r"\text{add}_1", unit="USD")


class State(gl06lp.State):
    bond_price: Scalar = index(
        "p_{bl}",
        r"(1 + \beta [TP > \text{top}] - \beta [TP < \text{bot}]) p_{bl,-1} + \text{add}_1",
        ref="5.24A-5.26",
        unit="USD",
    )
    expected_bond_price: Scalar = index(
        "p_{bl}^e",
        r"p_{bl,-1}^e - \beta_e (p_{bl,-1}^e - p_{bl}) + \text{add}",
        ref="5.20B",
        sector=H,
        unit="USD",
    )
    target_proportion: Scalar = index(
        "TP",
        r"\frac{p_{bl,-1} BL_{h,-1}}{p_{bl,-1} BL_{h,-1} + B_{h,-1}}",
        ref="5.27",
        sector=G,
        unit=".",
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """Nobody has wealth or income yet, but bonds have a price, which is expected to stay."""
    price = scenario.bond_price_initial
    return State.filled(0.0).replace(bond_price=price, expected_bond_price=price)


def step(
    prior: State, params: Params, scenario: Scenario, *, sharpness: float | None = None
) -> State:
    """One period in which the government spends what the scenario says.

    Args:
        prior, params, scenario: last period, parameters, this period's exogenous values.
        sharpness: None lets the price step when the share of bonds passes a bound, exactly; the
            derivatives with respect to the bounds are then zero. A number rounds the switches off
            (`smooth.mask`): with the share d from the nearer bound, a period adds at most
            2 beta exp(-2 sharpness d) to the relative distance of the price from the exact path,
            as long as the share is on the same sides of the bounds on both. The bounds are a
            hundredth apart, so what is sharp is large: over 100 periods from the defaults the price
            is within 6e-9 at 20,000 and within 5e-4 at 5,000, while at 50 it drifts, by up to 4 %,
            until bonds are half of what is held.
    """
    return period(
        prior,
        params,
        scenario,
        government_spending=scenario.government_demand,
        sharpness=sharpness,
    )


def period(
    prior: State,
    params: Params,
    scenario: Scenario,
    *,
    government_spending: Scalar,
    sharpness: float | None,
) -> State:
    """One period of model LP, at the price that last period's portfolios have led to."""
    bond_value = prior.bond_price * prior.household_bond_stock
    # Before households hold anything, none of it are bonds: the price falls.
    proportion = smooth.safe_divide(bond_value, bond_value + prior.household_bill_stock)
    too_many = switch(proportion - params.target_proportion_upper, sharpness)
    too_few = switch(params.target_proportion_lower - proportion, sharpness)
    drift = params.bond_price_adjustment_step * (too_many - too_few)
    bond_price = (1 + drift) * prior.bond_price + scenario.bond_price_shock
    expected_bond_price = (
        prior.expected_bond_price
        - params.expectation_adjustment_speed * (prior.expected_bond_price - bond_price)
        + scenario.expected_bond_price_shock
    )
    state = gl06lp.period(
        prior,
        params,
        government_spending=government_spending,
        interest_rate=scenario.interest_rate_bills,
        bond_price=bond_price,
        expected_bond_price=expected_bond_price,
    )
    return State(**vars(state), target_proportion=proportion)


def switch(excess: Scalar, sharpness: float | None) -> Scalar:
    """1 where `excess` is positive and 0 elsewhere, exactly or rounded off."""
    if sharpness is None:
        return jnp.where(excess > 0, 1.0, 0.0)
    return smooth.mask(excess, sharpness)


GL06LP2 = Model(
    "GL06LP2",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    scenarios={
        "Rise in bill rate": {"interest_rate_bills": 0.04},
        "Expected bond price fall": {"expected_bond_price_shock": -1.0},
    },
    shocks=tuple(f"{name}_add" for name in Params.fields),
    trigger=50,
)
