r"""Model Mark0COVID: firms that adjust by trial and error, go bankrupt and are replaced.

Gualdi, Tarzia, Zamponi and Bouchaud (2015), *Tipping points in macroeconomic agent-based models*,
Journal of Economic Dynamics and Control 50, 29-61; Bouchaud, Gualdi, Tarzia and Zamponi (2018),
*Optimal inflation target: insights from an agent-based model*, Economics 12 (2018-15), 1-26; Sharma,
Bouchaud, Gualdi, Tarzia and Zamponi (2021), *V-, U-, L- or W-shaped economic recovery after COVID-19:
insights from an agent based model*, PLOS ONE 16, e0247823.

N firms make one good from labour alone: a worker makes one unit of it in a period, and there are N
workers. A firm whose demand exceeds what it makes hires, and raises its wage if it earns; one that is
left with goods fires. Both move their prices towards the average. One household works for all firms,
saves, and buys more from those that are cheap. One bank takes deposits, lends to firms and passes on what
it loses with those that fail; a central bank sets the rate that it starts from.

Every period begins with all nominal values divided by the average price of the period before, so that
prices are near 1 and the stock of money $M^0$, which is N at first, shrinks by the inflation. In the
equations p, w and y are the prices, wages and production that firms decide upon in a period, before new
firms take the places of failed ones; with these come the values at its end. A firm owns $A_i$, which is
a deposit or, where it is negative, a debt: $S + \sum_i A_i = M^0$ always.

Where the central bank does not react to inflation ($\phi_\pi = 0$), nobody expects its target either:
$\pi^\star$ is then 0, as in the authors' program. At $\phi_\pi = 0$ the path is thus no continuous
function of $\phi_\pi$, and its derivative by it is that of the rate alone.

Paths jump where a firm fails or enters, where demand begins to exceed what it makes, where its price
passes the average, and where it begins to earn: there finite differences disagree with the derivatives
along a path, and `macrostat_jax.stochastic.events` names the firm and the period. Rounding may decide
such an event: a firm whose wage rose to what its sales can pay, and that neither pays nor gets interest,
earns exactly nothing.

Of the parameters, two enter no equation: the reaction to unemployment, and its target, belong to
another rule of the central bank.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import smooth
from .._model import Model
from .._record import Axis, Record, Scalar, Vector, index, noise, param, stock
from ..stochastic import EXACT, Exact

F, H, B, CB = "Firms", "Household", "Bank", "CentralBank"
FIRM = Axis("firm", size=1000)
MONEY = "Money"
SCALE = 0.1
"""The size of what decides about yes and no, for relaxations."""


class Params(Record):
    hiring_firing_rate: Scalar = param(2.0, symbol="R", bounds=(0, 10), unit=".")
    loan_rate_gamma_sensitivity: Scalar = param(
        50.0, symbol=r"\alpha_\Gamma", bounds=(0, 1000), unit="."
    )
    gamma_baseline: Scalar = param(0.0, symbol=r"\Gamma_0", bounds=(0, 10), unit=".")
    wage_price_adjustment_ratio: Scalar = param(
        1.0, symbol=r"\gamma_w / \gamma_p", bounds=(0, 10), unit="."
    )
    price_adjustment_size: Scalar = param(0.1, symbol=r"\gamma_p", bounds=(0, 1), unit=".")
    firing_propensity: Scalar = param(0.1, symbol=r"\eta_0", bounds=(0, 1), unit=".")
    wage_inflation_factor: Scalar = param(1.0, symbol="f_w", bounds=(0, 2), unit=".")
    interest_rate_baseline: Scalar = param(
        0.005, symbol=r"\rho^\star", bounds=(0, 1), unit="1 / period"
    )
    cb_inflation_reaction: Scalar = param(
        0.0, symbol=r"\phi_\pi", bounds=(0, 10), unit=".", name="CBInflationReaction"
    )
    cb_employment_reaction: Scalar = param(
        0.0, symbol=r"\phi_\varepsilon", bounds=(0, 10), unit=".", name="CBEmploymentReaction"
    )
    cb_inflation_target: Scalar = param(
        0.002, symbol=r"\pi^\star", bounds=(0, 1), unit="1 / period", name="CBInflationTarget"
    )
    cb_unemployment_target: Scalar = param(
        0.05,
        symbol=r"\hat\varepsilon^\star",
        bounds=(0, 1),
        unit=".",
        name="CBUnemploymentTarget",
    )
    default_threshold: Scalar = param(2.0, symbol=r"\Theta", bounds=(0, 100), unit=".")
    bankruptcy_interest_effect: Scalar = param(0.5, symbol="f", bounds=(0, 1), unit=".")
    consumption_real_rate_sensitivity: Scalar = param(
        4.0, symbol=r"\alpha_c", bounds=(0, 100), unit="."
    )
    consumption_propensity_baseline: Scalar = param(0.5, symbol="c_0", bounds=(0, 1), unit=".")
    dividend_share: Scalar = param(0.02, symbol=r"\delta", bounds=(0, 1), unit=".")
    household_intensity_of_choice: Scalar = param(2.0, symbol=r"\beta", bounds=(0, 100), unit=".")
    expected_inflation_ewma_weight: Scalar = param(
        0.5, symbol=r"\tau^R", bounds=(0, 1), unit=".", name="ExpectedInflationEWMAWeight"
    )
    expected_inflation_target_weight: Scalar = param(0.5, symbol=r"\tau^T", bounds=(0, 1), unit=".")
    firm_revival_probability: Scalar = param(0.1, symbol=r"\phi", bounds=(0, 1), unit="1 / period")
    ewma_memory: Scalar = param(0.2, symbol=r"\omega", bounds=(0, 1), unit=".", name="EWMAMemory")
    initial_production_scale: Scalar = param(0.5, symbol="y_0", bounds=(0, 1), unit=".")


class Scenario(Record):
    pass


class Noise(Record):
    price: Vector = noise("uniform", symbol=r"\xi^p_i", shape=FIRM)
    wage: Vector = noise("uniform", symbol=r"\xi^w_i", shape=FIRM)
    revive: Vector = noise("uniform", symbol=r"\xi^r_i", shape=FIRM)
    revive_y: Vector = noise("uniform", symbol=r"\xi^y_i", shape=FIRM)


# What firms decide upon in a period before new ones enter: p, w and y of the text above.
PRICE = r"\frac{P_{i,t-1}}{\bar P_{t-1}} (1 + \gamma_p \xi^p_i (d_{i,t} - s_{i,t})) (1 + \hat\pi_t)"
OUTPUT = (
    r"\sigma_{i,t} (Y_{i,t-1} + d_{i,t} \min\{\eta_0 R (1 + g_{i,t}) G_{i,t}, u^s_{i,t}\}"
    r" + s_{i,t} \eta_0 (1 - g_{i,t}) G_{i,t})"
)
WAGE = (
    r"\sigma_{i,t} (1 + f_w \hat\pi_t) \min\{\frac{W_{i,t-1}}{\bar P_{t-1}}"
    r" (1 + \gamma_p (\gamma_w / \gamma_p) \xi^w_i (d_{i,t} (1 + g_{i,t}) \varepsilon_{t-1}"
    r" - s_{i,t} (1 - g_{i,t}) u_{t-1})), \frac{1}{\text{y}} (\text{p} \min\{D_{i,t-1}, \text{y}\}"
    r" + \rho^l_{t-1} \min\{A_{i,t-1}, 0\} + \rho^d_{t-1} \max\{A_{i,t-1}, 0\})\}"
    r" \text{, moved only by the sign of } \Pi_{i,t-1}"
)


class State(Record):
    firm_price: Vector = index(
        "P_{i,t}",
        rf"\text{{p}} = {PRICE} \text{{; if new, in }} \alpha_{{i,t}} \text{{: }}"
        rf"\frac{{\sum_i \text{{p y}}}}{{\sum_i \text{{y}}}}, \text{{y}} = {OUTPUT}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_wage: Vector = index(
        "W_{i,t}",
        rf"\text{{w}} = {WAGE} \text{{; if new, in }} \alpha_{{i,t}} \text{{: }}"
        rf"\frac{{\sum_i \text{{w y}}}}{{\sum_i \text{{y}}}}, \text{{y}} = {OUTPUT},"
        rf" \text{{p}} = {PRICE}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_production: Vector = index(
        "Y_{i,t}",
        rf"\text{{y}} + (\alpha_{{i,t}} - \sigma_{{i,t}}) \xi^y_i"
        rf" \max\{{1 - \frac{{1}}{{\text{{N}}}} \sum_i \text{{y}}, 0\}}, \text{{y}} = {OUTPUT}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_demand: Vector = index(
        "D_{i,t}",
        r"\frac{B_t}{\text{p}} \frac{\sigma_{i,t} \exp(\beta (P^{\min}_t - \text{p}) \sum_i \text{y}"
        r" / \sum_i \text{p y})}{\sum_j \sigma_{j,t} \exp(\beta (P^{\min}_t - \text{p})"
        r" \sum_i \text{y} / \sum_i \text{p y})}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_assets: Vector = stock(
        "A_{i,t}",
        r"\text{a} + (\alpha_{i,t} - \sigma_{i,t}) W_{i,t} Y_{i,t} \text{ less its share, by }"
        r"\max\{\text{a}, 0\} \text{, of } E_t, \text{a} = \sigma_{i,t} \frac{A_{i,t-1}}{\bar P_{t-1}}"
        r" + \Pi_{i,t} \text{, less } \delta \text{ of it if it and } \Pi_{i,t} \text{ are positive}",
        asset=F,
        instrument=MONEY,
        unit=".",
        shape=FIRM,
    )
    firm_profits: Vector = index(
        r"\Pi_{i,t}",
        r"\text{p} \min\{\text{y}, D_{i,t}\} - \text{w y} + \sigma_{i,t} (\rho^l_t"
        r" \min\{\frac{A_{i,t-1}}{\bar P_{t-1}}, 0\} + \rho^d_t \max\{\frac{A_{i,t-1}}{\bar P_{t-1}},"
        r" 0\})",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_alive: Vector = index(
        r"\alpha_{i,t}",
        r"\sigma_{i,t} + (1 - \sigma_{i,t}) \mathbf{1}\{\xi^r_i < \phi\}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    average_price: Scalar = index(
        r"\bar P_t", r"\frac{\sum_i P_{i,t} Y_{i,t}}{\sum_i Y_{i,t}}", sector=F, unit="."
    )
    average_wage: Scalar = index(
        r"\bar W_t", r"\frac{\sum_i W_{i,t} Y_{i,t}}{\sum_i Y_{i,t}}", sector=F, unit="."
    )
    max_wage: Scalar = index(r"W^{\max}_t", r"\max_i W_{i,t}", sector=F, unit=".")
    total_production: Scalar = index("Y_t", r"\sum_i Y_{i,t}", sector=F, unit=".")
    total_payroll: Scalar = index("L_t", r"\sum_i L_{i,t}", sector=F, unit=".")
    total_demand: Scalar = index("D_t", r"\sum_i D_{i,t}", sector=H, unit=".")
    inflation: Scalar = index(r"\pi_t", r"\bar P_t - 1", unit="1 / period")
    expected_inflation_ewma: Scalar = index(
        r"\pi^{ema}_t",
        r"\omega \pi_{t-1} + (1 - \omega) \pi^{ema}_{t-1}",
        unit="1 / period",
        name="ExpectedInflationEWMA",
    )
    expected_inflation_used: Scalar = index(
        r"\hat\pi_t",
        r"\tau^T \pi^\star + \tau^R \pi^{ema}_t \text{; without the target if } \phi_\pi = 0",
        unit="1 / period",
    )
    deposit_rate_ewma: Scalar = index(
        r"\bar\rho^d_t",
        r"\omega \rho^d_{t-1} + (1 - \omega) \bar\rho^d_{t-1}",
        sector=B,
        unit="1 / period",
        name="DepositRateEWMA",
    )
    loan_rate_ewma: Scalar = index(
        r"\bar\rho^l_t",
        r"\omega \rho^l_{t-1} + (1 - \omega) \bar\rho^l_{t-1}",
        sector=B,
        unit="1 / period",
        name="LoanRateEWMA",
    )
    unemployment: Scalar = index("u_t", r"1 - \varepsilon_t", sector=H, unit=".")
    unemployment_ewma: Scalar = index(
        r"\bar u_t",
        r"\omega u_{t-1} + (1 - \omega) \bar u_{t-1}",
        sector=H,
        unit=".",
        name="UnemploymentEWMA",
    )
    household_savings: Scalar = stock(
        "S_t",
        r"(1 + \rho^d_t) \frac{S_{t-1}}{\bar P_{t-1}} - \sum_i (\text{p} \min\{\text{y}, D_{i,t}\}"
        r" - \text{w y}) + \delta \sum_i \max\{\text{a}, 0\} \mathbf{1}\{\Pi_{i,t} > 0\}",
        asset=H,
        instrument=MONEY,
        unit=".",
    )
    firm_savings_total: Scalar = index(
        r"\mathcal{E}^+_t", r"\sum_i \max\{A_{i,t}, 0\} + E_t", sector=F, unit="."
    )
    firm_debt_total: Scalar = index(
        r"\mathcal{E}^-_t", r"\sum_i \max\{-A_{i,t}, 0\}", sector=F, unit="."
    )
    firm_assets_total: Scalar = index("A_t", r"\sum_i A_{i,t}", sector=F, unit=".")
    defaulted_total: Scalar = index(
        "E_t",
        r"\sum_i (\alpha_{i,t} - \sigma_{i,t}) W_{i,t} Y_{i,t}",
        sector=F,
        unit=".",
    )
    bankruptcy_rate: Scalar = index(
        "b_t", r"1 - \frac{1}{\text{N}} \sum_i \alpha_{i,t}", sector=F, unit="."
    )
    cb_rate: Scalar = index(
        r"\rho^0_t",
        r"\rho^\star + \phi_\pi (\pi^{ema}_t - \pi^\star)",
        sector=CB,
        unit="1 / period",
        name="CBRate",
    )
    loan_rate: Scalar = index(
        r"\rho^l_t",
        r"\rho^0_{t-1} + (1 - f) \frac{-\sum_{\text{failing}} A_{i,t-1} / \bar P_{t-1}}"
        r"{\sum_{\text{staying}} \max\{-A_{i,t-1} / \bar P_{t-1}, 0\}}"
        r" \text{, staying: } A_{i,t-1} + \Theta W_{i,t-1} Y_{i,t-1} > 0",
        sector=B,
        unit="1 / period",
    )
    deposit_rate: Scalar = index(
        r"\rho^d_t",
        r"\frac{\rho^l_t \sum_{\text{staying}} \max\{-A_{i,t-1} / \bar P_{t-1}, 0\}"
        r" + \sum_{\text{failing}} A_{i,t-1} / \bar P_{t-1}}"
        r"{S_{t-1} / \bar P_{t-1} + \sum_{\text{staying}} \max\{A_{i,t-1} / \bar P_{t-1}, 0\}}",
        sector=B,
        unit="1 / period",
    )
    consumption_propensity: Scalar = index(
        "c_t",
        r"\min\{\max\{c_0 (1 + \alpha_c (\hat\pi_t - \bar\rho^d_t)), 0\}, 1\}",
        sector=H,
        unit=".",
    )
    consumption_budget: Scalar = index(
        "B_t",
        rf"c_t (\sum_i \text{{w y}} + (1 + \rho^d_t) \frac{{S_{{t-1}}}}{{\bar P_{{t-1}}}}),"
        rf" \text{{w}} = {WAGE}, \text{{y}} = {OUTPUT}, \text{{p}} = {PRICE}",
        sector=H,
        unit=".",
    )
    firm_gamma: Scalar = index(
        r"\Gamma_t",
        r"\max\{\alpha_\Gamma (\bar\rho^l_t - \hat\pi_t), \Gamma_0\}",
        sector=F,
        unit=".",
    )
    employment: Scalar = index(r"\varepsilon_t", r"Y_t / \text{N}", sector=H, unit=".")
    m0_stock: Scalar = stock(
        "M^0_t",
        r"M^0_{t-1} / \bar P_{t-1}",
        liability=B,
        instrument=MONEY,
        unit=".",
        name="M0Stock",
    )
    firm_stay_alive: Vector = index(
        r"\sigma_{i,t}",
        r"\alpha_{i,t-1} \mathbf{1}\{A_{i,t-1} + \Theta W_{i,t-1} Y_{i,t-1} > 0\}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_enter_bankruptcy: Vector = index(
        "x_{i,t}", r"\alpha_{i,t-1} - \sigma_{i,t}", sector=F, unit=".", shape=FIRM
    )
    firm_payroll: Vector = index(
        "L_{i,t}", r"\frac{W_{i,t-1}}{\bar P_{t-1}} Y_{i,t-1}", sector=F, unit=".", shape=FIRM
    )
    firm_excess_demand_quantity: Vector = index(
        "G_{i,t}", r"\sigma_{i,t} (D_{i,t-1} - Y_{i,t-1})", sector=F, unit=".", shape=FIRM
    )
    firm_excess_demand_mask: Vector = index(
        "d_{i,t}", r"\mathbf{1}\{G_{i,t} > 0\}", sector=F, unit=".", shape=FIRM
    )
    firm_excess_supply_mask: Vector = index(
        "s_{i,t}",
        r"\alpha_{i,t-1} \mathbf{1}\{D_{i,t-1} \leq Y_{i,t-1}\}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_ren_solvency: Vector = index(
        "g_{i,t}",
        r"\Gamma_t \frac{A_{i,t-1}}{W_{i,t-1} Y_{i,t-1}}",
        sector=F,
        unit=".",
        shape=FIRM,
    )
    firm_unemployed_labour_share: Vector = index(
        "u^s_{i,t}",
        r"u_{t-1} (1 - b_{t-1}) \text{N} \frac{\alpha_{i,t-1} \exp(\beta (W_{i,t-1} - W^{\max}_{t-1})"
        r" / \bar W_{t-1})}{\sum_j \alpha_{j,t-1} \exp(\beta (W_{j,t-1} - W^{\max}_{t-1})"
        r" / \bar W_{t-1})}",
        sector=H,
        unit=".",
        shape=FIRM,
    )
    lowest_price: Scalar = index(
        r"P^{\min}_t",
        rf"\min_i {PRICE} \text{{ of those with }} \sigma_{{i,t}}",
        sector=F,
        unit=".",
    )


def initial_state(params: Params, scenario: Scenario, *, firm: int = FIRM.size) -> State:
    """Firms that differ a little in price and production and a lot in what they own.

    `firm` is their number, which `resize(firm=...)` sets.
    """
    dtype = jnp.asarray(params.initial_production_scale).dtype
    rank = jnp.arange(firm, dtype=dtype) / firm  # 0 for the first firm, almost 1 for the last
    spread = 0.01 * (2 * rank - 1)
    price = 1 + spread
    production = params.initial_production_scale + spread
    demand = jnp.full(firm, params.initial_production_scale)
    total = jnp.sum(production)
    # Wages are 1: households own a period's wages. All they and the firms own is N.
    assets = 2 * production * rank
    scale = firm / (jnp.sum(assets) + total)
    assets = assets * scale
    rate = params.interest_rate_baseline
    zeros, ones = jnp.zeros_like(production), jnp.ones_like(production)
    return State.filled(0.0).replace(
        firm_price=price,
        firm_wage=ones,
        firm_production=production,
        firm_demand=demand,
        firm_assets=assets,
        firm_profits=price * jnp.minimum(demand, production) - production,
        firm_alive=ones,
        average_price=price @ production / total,
        average_wage=1.0,
        max_wage=1.0,
        total_production=total,
        total_payroll=total,
        total_demand=total,
        unemployment=1 - total / firm,
        employment=total / firm,
        household_savings=total * scale,
        firm_savings_total=jnp.sum(jnp.maximum(assets, 0)),
        firm_debt_total=jnp.sum(jnp.maximum(-assets, 0)),
        firm_assets_total=jnp.sum(assets),
        m0_stock=float(firm),
        cb_rate=rate,
        loan_rate=rate,
        loan_rate_ewma=rate,
        firm_stay_alive=ones,
        firm_enter_bankruptcy=zeros,
        firm_payroll=production,
        firm_excess_demand_quantity=zeros,
        firm_excess_demand_mask=zeros,
        firm_excess_supply_mask=zeros,
        firm_ren_solvency=zeros,
        firm_unemployed_labour_share=zeros,
        lowest_price=1.0,
    )


def step(
    prior: State,
    params: Params,
    scenario: Scenario,
    noise: Noise,
    *,
    relaxation: Exact = EXACT,
    target_without_reaction: bool = False,
) -> State:
    """One period: expectations, the firms' decisions, bankruptcies, interest, sales, new firms.

    Options:
        relaxation: how decisions are made that are yes or no (`macrostat_jax.stochastic`): whether a
            firm fails or enters, sells out, is cheap, earns. Exact ones have no derivative.
            `GumbelSoftmax(temperature, hard=False)` makes shares of them: where the decision is by the
            sign of x, 1 / (1 + exp(-x / (0.1 temperature))), at most exp(-|x| / (0.1 temperature)) from
            the exact one; x is what a firm owns beyond its threshold, demand less production, profits,
            or the price less the average price. A firm is then partly alive, and has its production,
            demand and assets in proportion; money is conserved as in the exact model.
        target_without_reaction: whether the inflation target is expected even where the central
            bank does not react to inflation, as in the published package.
    """
    firms = prior.firm_alive.shape[0]
    production, demand = prior.firm_production, prior.firm_demand
    # Whether a firm is alive has no derivative in the exact model: said here, it costs nothing.
    alive = prior.firm_alive if relaxation != EXACT else jax.lax.stop_gradient(prior.firm_alive)

    price, wage, assets = prior.firm_price, prior.firm_wage, prior.firm_assets

    # What is expected, from what was.
    def average(last: Scalar, before: Scalar) -> Scalar:
        return params.ewma_memory * last + (1 - params.ewma_memory) * before

    inflation_ewma = average(prior.inflation, prior.expected_inflation_ewma)
    deposit_rate_ewma = average(prior.deposit_rate, prior.deposit_rate_ewma)
    loan_rate_ewma = average(prior.loan_rate, prior.loan_rate_ewma)
    unemployment_ewma = average(prior.unemployment, prior.unemployment_ewma)
    target = params.cb_inflation_target
    if not target_without_reaction:
        target = jnp.where(params.cb_inflation_reaction > 0, target, 0)
    expected_inflation = (
        params.expected_inflation_target_weight * target
        + params.expected_inflation_ewma_weight * inflation_ewma
    )

    # Firms that owe more than a multiple of their wages fail. In the exact model shares are 0 or 1.
    payroll = wage * production
    solvent = _on(assets + params.default_threshold * payroll, relaxation)
    staying, failing = alive * solvent, alive * (1 - solvent)
    stays = staying > 0

    # Real interest makes firms in debt careful and those with deposits bold.
    gamma = jnp.maximum(
        params.loan_rate_gamma_sensitivity * (loan_rate_ewma - expected_inflation),
        params.gamma_baseline,
    )
    boldness = gamma * smooth.safe_divide(assets, payroll)

    # Production moves towards demand: by as many of the unemployed as the wage attracts, or by firing.
    gap = demand - production
    in_demand = _on(gap, relaxation)
    wanting, glutted = jnp.where(stays, in_demand, 0), jnp.where(alive > 0, 1 - in_demand, 0)
    choice = params.household_intensity_of_choice
    # The largest wage, and the lowest price below, keep the exponentials small and cancel.
    max_wage = jax.lax.stop_gradient(prior.max_wage)
    attraction = alive * jnp.exp(choice / prior.average_wage * (wage - max_wage))
    seekers = prior.unemployment * firms * (1 - prior.bankruptcy_rate)
    labour_share = attraction * smooth.safe_divide(seekers, jnp.sum(attraction))
    hiring = params.firing_propensity * params.hiring_firing_rate * (1 + boldness)
    firing = params.firing_propensity * (1 - boldness)
    made = production + jnp.where(
        gap > 0,
        jnp.minimum(jnp.clip(hiring, 0, 1) * gap, labour_share),
        jnp.clip(firing, 0, 1) * gap,
    )

    # Prices move towards the average: up where demand is not met, down where goods are left.
    below = prior.average_price - price
    direction = wanting * _on(below, relaxation) - glutted * _on(-below, relaxation)
    asked = price * (1 + params.price_adjustment_size * (noise.price * direction))

    # Wages rise where demand and profits call for it, as far as sales can pay for them, and fall
    # where goods are left and money is lost.
    raising = wanting * _on(prior.firm_profits, relaxation)
    cutting = jnp.where(stays, glutted * _on(-prior.firm_profits, relaxation), 0)
    size = params.price_adjustment_size * params.wage_price_adjustment_ratio
    receipts = asked * jnp.minimum(demand, made) + _interest(
        assets, prior.loan_rate, prior.deposit_rate
    )
    raised = wage * (1 + (1 + boldness) * (size * prior.employment * noise.wage))
    raised = jnp.maximum(jnp.minimum(raised, smooth.safe_divide(receipts, made)), 0)
    cut = jnp.maximum(wage * (1 - (1 - boldness) * (size * prior.unemployment * noise.wage)), 0)
    paid = _blend(raising, raised, _blend(cutting, cut, wage, relaxation), relaxation)

    # Both follow the inflation that is expected. From here on, money is measured in the average price
    # of the last period, so that prices are near 1. Who fails makes nothing and employs nobody.
    unit = 1 / prior.average_price
    wage_rise = 1 + expected_inflation * params.wage_inflation_factor
    asked = asked * jnp.where(stays, (1 + expected_inflation) * unit, unit)
    paid = paid * jnp.where(stays, wage_rise * unit, 0)
    made = solvent * made
    held = solvent * assets * unit
    defaults = jnp.sum((solvent - 1) * assets) * unit
    savings, money = prior.household_savings * unit, prior.m0_stock * unit

    revenue, wage_bill = asked * made, paid * made
    output, wages = jnp.sum(made), jnp.sum(wage_bill)
    # Where nobody makes anything, the averages stay what they were.
    price_level = smooth.safe_divide(jnp.sum(revenue), output, 1.0)
    wage_level = smooth.safe_divide(wages, output, prior.average_wage * unit)
    idle = jnp.maximum(1 - output / firms, 0)

    # Borrowers pay the central bank's rate and a share of what the bank loses with those who failed;
    # depositors get what is left.
    deposits, debts = jnp.sum(jnp.maximum(held, 0)), jnp.sum(jnp.maximum(-held, 0))
    loan_rate = prior.cb_rate + (1 - params.bankruptcy_interest_effect) * smooth.safe_divide(
        defaults, debts
    )
    deposit_rate = smooth.safe_divide(loan_rate * debts - defaults, savings + deposits)
    savings = (1 + deposit_rate) * savings

    # Households spend a share of wages and savings, the more on a firm the lower its price.
    real_rate = deposit_rate_ewma - expected_inflation
    propensity = jnp.clip(
        params.consumption_propensity_baseline
        * (1 - params.consumption_real_rate_sensitivity * real_rate),
        0,
        1,
    )
    budget = propensity * (wages + jnp.maximum(savings, 0))
    lowest = smooth.smallest(jnp.where(stays, asked, jnp.inf))
    lowest = jnp.where(jnp.isfinite(lowest), lowest, 1)  # of no firm at all
    preference = staying * jnp.exp(choice / price_level * (jax.lax.stop_gradient(lowest) - asked))
    spent = preference * smooth.safe_divide(budget, jnp.sum(preference))
    demand = spent / asked

    # Sales, wages and interest are paid; firms that earn pay dividends out of their deposits.
    earnings = jnp.minimum(revenue, spent) - wage_bill
    profits = earnings + _interest(held, loan_rate, deposit_rate)
    held = held + profits
    dividends = params.dividend_share * (jnp.maximum(held, 0) * _on(profits, relaxation))
    held = held - dividends
    savings = savings + jnp.sum(dividends - earnings)

    # New firms take some of the free places. All firms with deposits give them a period's wages.
    entering = (1 - staying) * relaxation.bernoulli(
        1 - noise.revive, params.firm_revival_probability
    )
    alive = staying + entering
    new = entering / jnp.where(alive > 0, alive, 1)
    sizes = entering * noise.revive_y
    production = made + idle * sizes
    held = held + wage_level * idle * sizes
    deposits, endowments = jnp.sum(jnp.maximum(held, 0)), wage_level * idle * jnp.sum(sizes)
    held = held - jnp.maximum(held, 0) * smooth.safe_divide(endowments, deposits)
    price = _blend(new, price_level, asked, relaxation)
    wage = _blend(new, wage_level, paid, relaxation)

    output = jnp.sum(production)
    price_level = smooth.safe_divide(price @ production, output, price_level)
    wage_level = smooth.safe_divide(wage @ production, output, wage_level)
    employment = output / firms
    return State(
        firm_price=price,
        firm_wage=wage,
        firm_production=production,
        firm_demand=demand,
        firm_assets=held,
        firm_profits=profits,
        firm_alive=alive,
        average_price=price_level,
        average_wage=wage_level,
        max_wage=smooth.largest(wage),
        total_production=output,
        total_payroll=jnp.sum(payroll) * unit,
        total_demand=jnp.sum(demand),
        inflation=price_level - 1,
        expected_inflation_ewma=inflation_ewma,
        expected_inflation_used=expected_inflation,
        deposit_rate_ewma=deposit_rate_ewma,
        loan_rate_ewma=loan_rate_ewma,
        unemployment=1 - employment,
        unemployment_ewma=unemployment_ewma,
        household_savings=savings,
        firm_savings_total=deposits,
        firm_debt_total=jnp.sum(jnp.maximum(-held, 0)),
        firm_assets_total=jnp.sum(held),
        defaulted_total=endowments,
        bankruptcy_rate=1 - jnp.sum(alive) / firms,
        cb_rate=params.interest_rate_baseline
        + params.cb_inflation_reaction * (inflation_ewma - target),
        loan_rate=loan_rate,
        deposit_rate=deposit_rate,
        consumption_propensity=propensity,
        consumption_budget=budget,
        firm_gamma=gamma,
        employment=employment,
        m0_stock=money,
        firm_stay_alive=staying,
        firm_enter_bankruptcy=failing,
        firm_payroll=payroll * unit,
        firm_excess_demand_quantity=staying * gap,
        firm_excess_demand_mask=wanting,
        firm_excess_supply_mask=glutted,
        firm_ren_solvency=boldness,
        firm_unemployed_labour_share=labour_share,
        lowest_price=lowest,
    )


def _on(x: Any, relaxation: Exact) -> Any:
    """1 where x is positive, else 0, or a share between them."""
    if relaxation == EXACT:
        return (x > 0).astype(x.dtype)
    return relaxation.indicator(x, SCALE)


def _blend(share: Any, a: Any, b: Any, relaxation: Exact) -> Any:
    """`a` where the share is 1, `b` where it is 0, and both in proportion between."""
    return jnp.where(share > 0, a, b) if relaxation == EXACT else share * a + (1 - share) * b


def _interest(assets: Vector, loan_rate: Scalar, deposit_rate: Scalar) -> Vector:
    return assets * jnp.where(assets > 0, deposit_rate, loan_rate)


Mark0COVID = Model(
    "Mark0COVID",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    Noise=Noise,
    shocks=("hiring_firing_rate_add", "default_threshold_add"),
    scenarios={
        "Endogenous crises (R=0.5, Theta=3)": {
            "hiring_firing_rate_add": -1.5,
            "default_threshold_add": 1.0,
        },
        "Unstable (R=1.5, Theta=4)": {
            "hiring_firing_rate_add": -0.5,
            "default_threshold_add": 2.0,
        },
        "Full collapse (R=0.5, Theta=6)": {
            "hiring_firing_rate_add": -1.5,
            "default_threshold_add": 4.0,
        },
    },
)
