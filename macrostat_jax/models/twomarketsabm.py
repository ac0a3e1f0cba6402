r"""Model TwoMarketsABM: households and firms that meet in a labour and a goods market.

A small closed economy of agents, of our own, made of ingredients that the literature has tried: firms
that know little and adapt prices, wages and plans to what they sold and whom they found (Delli Gatti,
Desiderio, Gaffeo, Cirillo and Gallegati 2011, *Macroeconomics from the Bottom-up*, Springer, chapter 3;
Lengnick 2013, *Agent-based macroeconomics: a baseline model*, Journal of Economic Behavior and
Organization 86, 102-120), output planned from expected sales and inventories (Metzler 1941, *The nature
and stability of inventory cycles*, Review of Economics and Statistics 23, 113-129; Dosi, Fagiolo and
Roventini 2010, *Schumpeter meeting Keynes*, Journal of Economic Dynamics and Control 34, 1748-1767),
spending out of income and wealth (Godley and Lavoie 2007, *Monetary Economics*, chapter 3), and choices
by logit (Brock and Hommes 1997, *A rational route to randomness*, Econometrica 65, 1059-1095). It is
written so that a path is smooth in the parameters but for the moves from firm to firm.

Who. A household has a skill, money, an employer and a shop. A firm has a technology, a price, a wage,
an inventory, money and an expectation of its sales. The government taxes incomes and pays transfers,
the same to everybody; what it pays beyond its revenue is new money. Money is the only claim there is:
the households' and the firms' sum to what the government has issued.

A period is a month, in this order:

1. Technology moves, of all firms (A) and of each (a_i). Firms set wages: up where they wanted more
   labour than a share 1 - u^n of their workforce, down where less, and with past inflation. They set
   prices: towards a markup over unit labour costs, above it where inventories are short. They plan
   output from what they expect to sell and have in store.
2. Every household passes by one other firm, and goes there to work with the probability
   $\lambda^e / (1 + \exp(-(v_k - v_j)))$, where $v$ is the intensity of choice times what the firm pays:
   its wage, times the share of the period for which its people had work, relative to the mean wage.
   In the long run the workforces are in proportion to exp(v).
3. A firm employs its workforce as far as it needs and can pay it: the share $\ell_i$ of the period, the
   same for each. (Who works when is a lottery, whose stakes the workforce shares: Hansen 1985,
   *Indivisible labor and the business cycle*, Journal of Monetary Economics 16, 309-327.) The rest is
   unemployment; the labour that no one is there to do are vacancies. It pays wages, then dividends, a
   share of the money left, to households in proportion to their money (Lengnick 2013).
4. Households pay taxes, receive transfers and set money aside for shopping. Each passes by one other
   firm and takes its custom there by the same rule, with v now the intensity of choice times what
   share of its customers' demand the firm served less its price, relative to the mean price. Firms
   serve demand from output and inventories; where these do not suffice, everyone gets the same share
   of what they came for, and keeps the rest of their money.

No household passes by a firm more often than another: in period t household h looks at the firm
h + k_t (modulo the number of firms), with one k_t for all households and each market, uniformly
distributed. One random number per household decides on both moves: with a small one a household
changes its employer, with a large one its shop. (Their numbers are floats, exact up to 16 million
firms in float32, so that all variables have derivatives, theirs being zero.)

The smooth part of the model has derivatives along a path, with kinks where a limit begins to bind:
`configure(sharpness=...)` rounds them off, at most log(3) / sharpness of a firm's workforce or demand.
The moves are discrete; `configure(relaxation=...)` says what derivatives they have, by default none.
A relaxed move splits the household's work or spending in its period between the two firms; where
the household is found next period is decided without relaxation.

Gini coefficients are taken over pairs of households whose numbers, which mean nothing, are half the
households apart: the mean difference of a pair relative to its mean sum, which needs no sorting. 50,000 pairs
are enough.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from .. import smooth
from .._model import Model
from .._record import Axis, Record, Scalar, Vector, flow, index, noise, param, stock
from ..stochastic import EXACT, Exact

H, F, G = "Household", "Firm", "Government"
HOUSEHOLD, FIRM = Axis("household", size=1000), Axis("firm", size=50)


class Params(Record):
    propensity_to_consume_income: Scalar = param(
        0.8, symbol=r"\alpha_1", bounds=(0, 1), unit="of disposable income"
    )
    propensity_to_consume_wealth: Scalar = param(
        0.05, symbol=r"\alpha_2", bounds=(0.001, 0.5), unit="of money, per month"
    )
    markup: Scalar = param(0.3, symbol=r"\mu", bounds=(0, 2), unit="of unit labour cost")
    price_adjustment: Scalar = param(0.2, symbol=r"\gamma_p", bounds=(0, 1), unit="per month")
    price_inventory_response: Scalar = param(0.05, symbol=r"\kappa", bounds=(0, 1), unit=".")
    wage_adjustment: Scalar = param(0.05, symbol=r"\gamma_w", bounds=(0, 1), unit="per month")
    wage_indexation: Scalar = param(0.5, symbol=r"\iota", bounds=(0, 1), unit="of inflation")
    normal_unemployment: Scalar = param(
        0.05, symbol="u^n", bounds=(0, 0.5), unit="of the workforce"
    )
    expectation_gain: Scalar = param(0.3, symbol=r"\chi", bounds=(0, 1), unit="per month")
    inventory_target: Scalar = param(
        0.5, symbol=r"\nu", bounds=(0.01, 5), unit="months of expected demand"
    )
    inventory_adjustment: Scalar = param(0.3, symbol=r"\psi", bounds=(0, 1), unit="per month")
    payout_rate: Scalar = param(0.2, symbol=r"\delta", bounds=(0.01, 1), unit="of money left")
    tax_rate: Scalar = param(0.2, symbol=r"\tau", bounds=(0, 1), unit="of income")
    money_growth: Scalar = param(0.002, symbol="g", bounds=(-0.05, 0.2), unit="per month")
    job_search: Scalar = param(0.1, symbol=r"\lambda^e", bounds=(0, 0.5), unit="per month")
    shop_search: Scalar = param(0.1, symbol=r"\lambda^s", bounds=(0, 0.5), unit="per month")
    job_choice_intensity: Scalar = param(10.0, symbol=r"\beta^e", bounds=(0, 50), unit=".")
    shop_choice_intensity: Scalar = param(5.0, symbol=r"\beta^s", bounds=(0, 50), unit=".")
    skill_dispersion: Scalar = param(0.5, symbol=r"\sigma_s", bounds=(0, 2), unit="of logarithms")
    technology_persistence: Scalar = param(0.9, symbol=r"\rho", bounds=(0, 0.99), unit=".")
    technology_shock: Scalar = param(0.01, symbol=r"\sigma_A", bounds=(0, 0.2), unit=".")
    firm_technology_shock: Scalar = param(0.02, symbol=r"\sigma_a", bounds=(0, 0.5), unit=".")


class Scenario(Record):
    """Nothing comes from outside; policies are parameters, and their shocks."""


class Noise(Record):
    chance: Vector = noise("uniform", symbol=r"\xi_h", shape=HOUSEHOLD)
    work_visit: Scalar = noise("uniform", symbol=r"\xi^e")
    shop_visit: Scalar = noise("uniform", symbol=r"\xi^s")
    technology_luck: Scalar = noise("normal", symbol=r"\epsilon")
    firm_technology_luck: Vector = noise("normal", symbol=r"\epsilon_i", shape=FIRM)


class State(Record):
    # Households
    skill: Vector = index("s_h", "s_{h,-1}", shape=HOUSEHOLD, sector=H, unit="labour")
    employer: Vector = index(
        "e_h",
        r"\text{the firm passed by, by } \xi^e \text{, where } \xi_h < \lambda^e"
        r" / \left(1 + \exp\left(\beta^e (w_i \ell_{i,-1} - w_j \ell_{j,-1}) /"
        r" \text{mean wage}\right)\right) \text{, else } e_{h,-1}",
        shape=HOUSEHOLD,
        sector=H,
        unit="number of the firm",
    )
    shop: Vector = index(
        "z_h",
        r"\text{the firm passed by, by } \xi^s \text{, where } 1 - \xi_h < \lambda^s"
        r" / \left(1 + \exp\left(\beta^s (\phi_{i,-1} - \phi_{j,-1} - (p_i - p_j) / P)\right)\right)"
        r" \text{, else } z_{h,-1}",
        shape=HOUSEHOLD,
        sector=H,
        unit="number of the firm",
    )
    disposable_income: Vector = index(
        "y_h",
        r"(1 - \tau) \left(s_{h,-1} \ell_i w_i \text{ at } e_h"
        r" + D \frac{m_{h,-1}}{\sum_h m_{h,-1}}\right) + \frac{B}{\text{households}}",
        shape=HOUSEHOLD,
        sector=H,
        unit="USD",
    )
    budget: Vector = index(
        "b_h",
        r"\alpha_1 y_h + \alpha_2 m_{h,-1}",
        shape=HOUSEHOLD,
        sector=H,
        unit="USD",
    )
    household_money: Vector = stock(
        "m_h",
        r"m_{h,-1} + y_h - \phi_i b_h \text{ at } z_h",
        asset=H,
        instrument="Money",
        shape=HOUSEHOLD,
        unit="USD",
    )
    # Firms
    firm_technology: Vector = index(
        "a_i", r"\rho a_{i,-1} + \sigma_a \epsilon_i", shape=FIRM, sector=F, unit="logarithm"
    )
    wage: Vector = index(
        "w_i",
        r"w_{i,-1} \exp\left(\iota \pi_{-1} + \gamma_w"
        r" \frac{L^d_{i,-1} - (1 - u^n) L^s_{i,-1}}{L^d_{i,-1} + L^s_{i,-1}}\right)",
        shape=FIRM,
        sector=F,
        unit="USD per unit of labour",
    )
    price: Vector = index(
        "p_i",
        r"p_{i,-1} \left(\frac{(1 + \mu) w_i}{p_{i,-1} \exp(A + a_i)}\right)^{\gamma_p}"
        r" \exp\left(\kappa \frac{\nu d^e_{i,-1} - V_{i,-1}}{\nu d^e_{i,-1} + V_{i,-1}}\right)",
        shape=FIRM,
        sector=F,
        unit="USD",
    )
    labour_demand: Vector = index(
        "L^d_i",
        r"\frac{\max\{0, d^e_{i,-1} + \psi (\nu d^e_{i,-1} - V_{i,-1})\}}{\exp(A + a_i)}",
        shape=FIRM,
        sector=F,
        unit="labour",
    )
    workforce: Vector = index(
        "L^s_i",
        r"\sum_h s_{h,-1} \text{ of those with } e_h \text{ this firm}",
        shape=FIRM,
        sector=F,
        unit="labour",
    )
    working_share: Vector = index(
        r"\ell_i",
        r"\min\left\{1, \frac{L^d_i}{L^s_i}, \frac{m_{i,-1}}{w_i L^s_i}\right\}",
        shape=FIRM,
        sector=F,
        unit="of the workforce's time",
    )
    firm_output: Vector = index(
        "q_i", r"\exp(A + a_i) \ell_i L^s_i", shape=FIRM, sector=F, unit="units"
    )
    demand: Vector = index(
        "d_i",
        r"\frac{1}{p_i} \sum_h b_h \text{ of those with } z_h \text{ this firm}",
        shape=FIRM,
        sector=F,
        unit="units",
    )
    served_share: Vector = index(
        r"\phi_i",
        r"\min\left\{1, \frac{V_{i,-1} + q_i}{d_i}\right\}",
        shape=FIRM,
        sector=F,
        unit="of demand",
    )
    expected_demand: Vector = index(
        "d^e_i",
        r"d^e_{i,-1} + \chi (d_i - d^e_{i,-1})",
        shape=FIRM,
        sector=F,
        unit="units",
    )
    inventory: Vector = stock(
        "V_i",
        r"V_{i,-1} + q_i - \phi_i d_i",
        asset=F,
        instrument="Inventories",
        price="price",
        shape=FIRM,
        unit="units",
    )
    firm_money: Vector = stock(
        "m_i",
        r"(1 - \delta) (m_{i,-1} - w_i \ell_i L^s_i) + \phi_i p_i d_i",
        asset=F,
        instrument="Money",
        shape=FIRM,
        unit="USD",
    )
    # The economy
    consumption: Scalar = flow("C", r"\sum_i \phi_i p_i d_i", pays=H, gets=F, unit="USD")
    wages: Scalar = flow("W", r"\sum_i w_i \ell_i L^s_i", pays=F, gets=H, unit="USD")
    dividends: Scalar = flow(
        "D", r"\delta \sum_i (m_{i,-1} - w_i \ell_i L^s_i)", pays=F, gets=H, unit="USD"
    )
    taxes: Scalar = flow("T", r"\tau (W + D)", pays=H, gets=G, unit="USD")
    transfers: Scalar = flow("B", "T + g M_{-1}", pays=G, gets=H, unit="USD")
    money_supply: Scalar = stock("M", "M_{-1} + B - T", liability=G, instrument="Money", unit="USD")
    technology: Scalar = index("A", r"\rho A_{-1} + \sigma_A \epsilon", unit="logarithm")
    output: Scalar = index("Q", r"\sum_i q_i", unit="units")
    price_level: Scalar = index("P", r"\text{mean of } p_i", unit="USD")
    inflation: Scalar = index(r"\pi", r"\frac{P}{P_{-1}} - 1", unit="per month")
    price_dispersion: Scalar = index(
        "v_p", r"\text{standard deviation of } p_i / P", unit="of the price level"
    )
    unemployment: Scalar = index(
        "u", r"1 - \frac{\sum_i \ell_i L^s_i}{\sum_i L^s_i}", unit="of labour"
    )
    vacancies: Scalar = index(
        "v", r"\frac{\sum_i \max\{0, L^d_i - L^s_i\}}{\sum_i L^s_i}", unit="of labour"
    )
    wage_share: Scalar = index(r"\omega", r"\frac{W}{\sum_i p_i q_i}", unit="of output")
    income_gini: Scalar = index(r"\mathcal{G}_y", r"\text{Gini coefficient of } y_h", unit=".")
    wealth_gini: Scalar = index(r"\mathcal{G}_m", r"\text{Gini coefficient of } m_h", unit=".")


def initial_state(
    params: Params,
    scenario: Scenario,
    *,
    household: int = HOUSEHOLD.size,
    firm: int = FIRM.size,
) -> State:
    """Firms of one size, a price level of 1 + markup, and as much money as they and households hold
    when nothing changes. Skills are drawn, once and for all: the same people live in all runs."""
    sigma = jnp.asarray(params.skill_dispersion)
    # Drawn in float32 whatever the run's dtype is: they are no other people in float64.
    talent = jax.random.normal(jax.random.key(0), (household,), jnp.float32).astype(sigma.dtype)
    skill = jnp.exp(sigma * talent - sigma**2 / 2)

    workforce = jnp.full(firm, household / firm, sigma.dtype)
    working_share = (1 - params.normal_unemployment) * jnp.ones_like(workforce)
    output = working_share * workforce
    wage = jnp.ones_like(workforce)
    price = (1 + params.markup) * wage
    wages, revenue = wage * output, price * output
    firm_money = wages + (revenue - wages) / params.payout_rate
    # Households save 1 - alpha_1 of their incomes and dissave alpha_2 of their money.
    thrift = (1 - params.propensity_to_consume_income) / params.propensity_to_consume_wealth
    household_money = skill * thrift * jnp.sum(revenue) / household
    number = jnp.arange(household)
    return State.filled(0.0).replace(
        wage=wage,
        price=price,
        labour_demand=output,
        workforce=workforce,
        working_share=working_share,
        firm_output=output,
        demand=output,
        served_share=jnp.ones_like(output),
        expected_demand=output,
        inventory=params.inventory_target * output,
        firm_money=firm_money,
        skill=skill,
        employer=(number % firm).astype(sigma.dtype),
        shop=((number + firm // 2) % firm).astype(sigma.dtype),
        household_money=household_money,
        money_supply=jnp.sum(household_money) + jnp.sum(firm_money),
        price_level=price[0],
    )


def step(
    prior: State,
    params: Params,
    scenario: Scenario,
    noise: Noise,
    *,
    relaxation: Exact = EXACT,
    sharpness: float | None = None,
) -> State:
    """One month: technology, wages and prices; work and incomes; shopping.

    Options:
        relaxation: how the moves from firm to firm enter derivatives, one of
            `macrostat_jax.stochastic`.
        sharpness: None for the exact minima. A number rounds them off, by at most log(3) / sharpness
            of a firm's workforce, demand or expected demand.
    """
    if sharpness is not None and not sharpness > 0:
        raise ValueError(f"sharpness must be positive, or None for exact minima, not {sharpness}.")
    households, firms = noise.chance.shape[0], noise.firm_technology_luck.shape[0]

    # Firms adapt technologies, wages, prices and plans.
    rho = params.technology_persistence
    technology = rho * prior.technology + params.technology_shock * noise.technology_luck
    firm_technology = (
        rho * prior.firm_technology + params.firm_technology_shock * noise.firm_technology_luck
    )
    productivity = jnp.exp(technology + firm_technology)
    normal_work = (1 - params.normal_unemployment) * prior.workforce
    tightness = smooth.safe_divide(
        prior.labour_demand - normal_work, prior.labour_demand + prior.workforce
    )
    wage = prior.wage * jnp.exp(
        params.wage_indexation * prior.inflation + params.wage_adjustment * tightness
    )
    target = params.inventory_target * prior.expected_demand
    shortage = smooth.safe_divide(target - prior.inventory, target + prior.inventory)
    normal_price = (1 + params.markup) * wage / productivity
    price = prior.price * jnp.exp(
        params.price_adjustment * jnp.log(normal_price / prior.price)
        + params.price_inventory_response * shortage
    )
    price_level = jnp.mean(price)
    restocking = params.inventory_adjustment * smooth.safe_divide(
        target - prior.inventory, prior.expected_demand
    )
    # The larger of 1 + restocking and 0.
    planned_output = prior.expected_demand * -_least(-1 - restocking, 0.0, sharpness)
    labour_demand = planned_output / productivity

    # Households look for better work, and firms employ those who are there.
    value = params.job_choice_intensity * prior.working_share * wage / jnp.mean(wage)
    employer, work = _moved(
        prior.employer,
        value,
        params.job_search,
        1 - noise.chance,
        noise.work_visit,
        params.job_choice_intensity,
        relaxation,
    )
    workforce = _by_firm(prior.skill, work, firms, params.job_choice_intensity)
    wanted = smooth.safe_divide(labour_demand, workforce, 1.0)
    payable = smooth.safe_divide(prior.firm_money, wage * workforce, 1.0)
    filled = _least(wanted, 1.0, sharpness)
    working_share = _least(filled, payable, sharpness)
    labour = working_share * workforce
    firm_output = productivity * labour

    # Incomes.
    firm_wages = wage * labour
    firm_dividends = params.payout_rate * (prior.firm_money - firm_wages)
    wages, dividends = jnp.sum(firm_wages), jnp.sum(firm_dividends)
    taxes = params.tax_rate * (wages + dividends)
    transfers = taxes + params.money_growth * prior.money_supply
    dividend_rate = dividends / jnp.sum(prior.household_money)
    income = prior.skill * _at_firm(working_share * wage, work, params.job_choice_intensity)
    income = income + dividend_rate * prior.household_money
    disposable_income = (1 - params.tax_rate) * income + transfers / households

    # Households look for a better shop, and firms serve who comes.
    value = params.shop_choice_intensity * (prior.served_share - price / price_level)
    shop, custom = _moved(
        prior.shop,
        value,
        params.shop_search,
        noise.chance,
        noise.shop_visit,
        params.shop_choice_intensity,
        relaxation,
    )
    budget = (
        params.propensity_to_consume_income * disposable_income
        + params.propensity_to_consume_wealth * prior.household_money
    )
    orders = _by_firm(budget, custom, firms, params.shop_choice_intensity)
    demand = orders / price
    supply = prior.inventory + firm_output
    served_share = _least(smooth.safe_divide(supply, demand, 1.0), 1.0, sharpness)
    # Where everything is sold, nothing is left: not the rounding of supply / demand times demand.
    sales = jnp.minimum(supply, served_share * demand)
    revenue = served_share * orders
    household_money = (
        prior.household_money
        + disposable_income
        - budget * _at_firm(served_share, custom, params.shop_choice_intensity)
    )
    all_labour = jnp.sum(workforce)
    return State(
        firm_technology=firm_technology,
        wage=wage,
        price=price,
        labour_demand=labour_demand,
        workforce=workforce,
        working_share=working_share,
        firm_output=firm_output,
        demand=demand,
        served_share=served_share,
        expected_demand=prior.expected_demand
        + params.expectation_gain * (demand - prior.expected_demand),
        inventory=supply - sales,
        firm_money=(prior.firm_money - firm_wages - firm_dividends) + revenue,
        skill=prior.skill,
        employer=employer,
        shop=shop,
        disposable_income=disposable_income,
        budget=budget,
        household_money=household_money,
        consumption=jnp.sum(revenue),
        wages=wages,
        dividends=dividends,
        taxes=taxes,
        transfers=transfers,
        money_supply=prior.money_supply + transfers - taxes,
        technology=technology,
        output=jnp.sum(firm_output),
        price_level=price_level,
        inflation=price_level / prior.price_level - 1,
        price_dispersion=jnp.std(price) / price_level,
        unemployment=1 - jnp.sum(labour) / all_labour,
        vacancies=jnp.sum(labour_demand - filled * workforce) / all_labour,
        wage_share=smooth.safe_divide(wages, jnp.sum(price * firm_output)),
        income_gini=_gini(disposable_income),
        wealth_gini=_gini(household_money),
    )


Places = list[tuple[Any, Any]]
"""Where households are: firm numbers (households,), and the share of each household that is there."""


def _moved(
    stays: Any,
    value: Any,
    search: Any,
    chance: Any,
    visit: Any,
    intensity: Any,
    relaxation: Exact,
) -> tuple[Any, Places]:
    """Who goes to the firm passed by, with the probability search / (1 + exp(value - value there)):
    the firms afterwards, and where households count in the period."""
    firms = len(value)
    step = jnp.minimum((visit * firms).astype(jnp.int32), firms - 1)
    numbers = jnp.arange(len(stays), dtype=jnp.int32) + step
    passed = jax.lax.rem(numbers, jnp.full_like(numbers, firms))
    # Exponentials of the firms' values, not of the many more households' differences; the largest,
    # which keeps them finite, drops out.
    weight = _settled(jnp.exp(value - jax.lax.stop_gradient(jnp.max(value))), intensity)
    # A gather though the firms passed by stand in a row: repeating the row costs XLA more.
    there, here = _at(weight, passed), _at(weight, stays)
    passed = passed.astype(stays.dtype)
    moves = relaxation.bernoulli(chance, search * smooth.safe_divide(there, there + here, 0.5))
    # Reverse mode keeps where everyone went, and draws and compares nothing anew.
    firm = checkpoint_name(_settled(jnp.where(moves > 0.5, passed, stays), intensity), "kept")
    return firm, [(firm, 1)] if relaxation == EXACT else [(stays, 1 - moves), (passed, moves)]


def _by_firm(values: Any, places: Places, firms: int, intensity: Any) -> Any:
    """Sums of the households' values by firm."""
    sums = sum(
        jax.ops.segment_sum(share * values, firm.astype(jnp.int32), firms, mode="promise_in_bounds")
        for firm, share in places
    )
    return _settled(sums, intensity)


def _at_firm(values: Any, places: Places, intensity: Any) -> Any:
    """The firms' values, for their households."""
    values = _settled(values, intensity)
    return sum(share * _at(values, firm) for firm, share in places)


def _at(values: Any, firm: Any) -> Any:
    return values.at[firm.astype(jnp.int32)].get(
        mode="promise_in_bounds", wrap_negative_indices=False
    )


def _settled(values: Any, intensity: Any) -> Any:
    """The `values`, computed once.

    XLA for CPU would compute a firm's value, or its cotangent, anew for each household that reads it,
    and a household's firm for each that asks for it, from as far back as it can: five times the time of
    a gradient. XLA of jax 0.10 and 0.11 drops a barrier before it comes to that, but does not do so
    across a branch.
    """
    if jax.__version_info__ >= (0, 12):
        return jax.lax.optimization_barrier(values)
    nothing = jnp.full_like(values, jnp.nan)  # for an intensity of choice that is none
    return jax.lax.cond(intensity >= 0, lambda: values, lambda: nothing)


def _least(a: Any, b: Any, sharpness: float | None) -> Any:
    b = jnp.asarray(b, a.dtype)
    return jnp.minimum(a, b) if sharpness is None else smooth.minimum(a, b, sharpness)


def _gini(values: Any) -> Any:
    """Half the mean absolute difference of pairs, relative to their mean."""
    apart = len(values) // 2 + 1
    pairs = min(len(values) - apart, 50_000)
    one, other = values[:pairs], values[apart : apart + pairs]
    return jnp.sum(jnp.abs(one - other)) / jnp.sum(one + other)


TwoMarketsABM = Model(
    "TwoMarketsABM",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    Noise=Noise,
    scenarios={
        "TaxRise": {"tax_rate_add": 0.1},
        "FasterMoney": {"money_growth_add": 0.005},
    },
    trigger=120,
    periods=240,
)
