r"""Model PichlerEtAl2022DIO: pandemic shocks in a network of industries, day by day.

Pichler, Pangallo, del Rio-Chanona, Lafond and Farmer (2022), *Forecasting the propagation of pandemic
shocks with a dynamic input-output model*, Journal of Economic Dynamics and Control 144, 104527;
equation numbers are theirs. Industries make goods from labour and from what they have in store of each
other's goods. Lockdowns keep workers at home, fear keeps households from the shops, and exports fall.
Output is what labour, inventories and demand allow, whichever is least; what is scarce is rationed.
Which inputs stop production when they run out is the choice of a production function:

- `leontief`: every input that is used at all;
- `strongly_critical`: inputs that analysts call critical (1 in A^{ess}) or important (1/2);
- `half_critical`: critical ones stop it, important ones halve it;
- `weakly_critical`: critical ones only;
- `linear`: none; inputs replace each other.

The default economy of three industries is an illustration. `resize(industry=(...))` makes room for the
data of another one, and `undisturbed(params)` gives the scenario in which it stays as it is.

Two parameters of the paper's calibration enter no equation of a day: the propensity to consume m, which
is the ratio of consumption to labour income in the data and computed from them, and the share of
forgone consumption that is saved, which is part of how scenarios of fear are made.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import smooth
from .._model import Model
from .._record import Axis, Matrix, Record, Scalar, Vector, exogenous, index, param

IO, H = "IOSectors", "Household"
INDUSTRY = Axis("industry", ("A", "B", "C"))
PRODUCTION_FUNCTIONS = (
    "leontief",
    "strongly_critical",
    "half_critical",
    "weakly_critical",
    "linear",
)
MONEY = (-1e12, 1e12)


class Params(Record):
    inventory_adjustment_speed: Scalar = param(5.0, symbol=r"\tau", bounds=(1, 30), unit="days")
    hiring_rate: Scalar = param(1 / 30, symbol=r"\gamma_H", bounds=(0, 1), unit="per day")
    firing_rate: Scalar = param(2 / 30, symbol=r"\gamma_F", bounds=(0, 1), unit="per day")
    consumption_persistence: Scalar = param(
        1 - (1 - 0.6) / 90, symbol=r"\rho", bounds=(0, 1), unit="."
    )
    propensity_to_consume: Scalar = param(0.82, symbol="m", bounds=(0, 1), unit=".")
    benefit_rate: Scalar = param(0.8, symbol="b", bounds=(0, 1), unit=".")
    savings_redirection: Scalar = param(0.5, symbol=r"\Delta s", bounds=(0, 1), unit=".")
    # Matrices. Row: what is needed. Column: by whom.
    technical_coefficients: Matrix = param(
        ((0.10, 0.15, 0.05), (0.05, 0.20, 0.25), (0.05, 0.10, 0.15)),
        symbol="A",
        bounds=(0, 1),
        unit=".",
        shape=(INDUSTRY, INDUSTRY),
    )
    critical_input_matrix: Matrix = param(
        ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)),
        symbol="A^{ess}",
        bounds=(0, 1),
        unit=".",
        shape=(INDUSTRY, INDUSTRY),
    )
    intermediate_consumption_matrix: Matrix = param(
        ((10.0, 45.0, 30.0), (5.0, 60.0, 150.0), (5.0, 30.0, 90.0)),
        symbol="Z",
        bounds=MONEY,
        unit="USD mn",
        shape=(INDUSTRY, INDUSTRY),
    )
    initial_gross_output: Vector = param(
        (100.0, 300.0, 600.0), symbol="x_0", bounds=MONEY, unit="USD mn", shape=INDUSTRY
    )
    initial_labour_compensation: Vector = param(
        (60.0, 120.0, 250.0), symbol="l_0", bounds=MONEY, unit="USD mn", shape=INDUSTRY
    )
    initial_household_consumption: Vector = param(
        (10.0, 80.0, 250.0), symbol="c_0", bounds=MONEY, unit="USD mn", shape=INDUSTRY
    )
    initial_profits: Vector = param(
        (15.0, 30.0, 50.0), symbol=r"\pi_0", bounds=MONEY, unit="USD mn", shape=INDUSTRY
    )
    initial_other_final_demand: Vector = param(
        (5.0, 5.0, 225.0), symbol="f_0", bounds=MONEY, unit="USD mn", shape=INDUSTRY
    )
    inventory_target_days: Vector = param(
        (30.0, 14.0, 7.0), symbol="n", bounds=(0, 365), unit="days", shape=INDUSTRY
    )
    other_cost_coefficients: Vector = param(
        (0.05, 0.05, 0.05), symbol="e_i/x_i", bounds=(-10, 10), unit=".", shape=INDUSTRY
    )
    household_other_cost_coefficient: Vector = param(
        0.05, symbol="c^{other}", bounds=(0, 1), unit=".", shape=Axis("household", size=1)
    )


class Scenario(Record):
    supply_shock: Vector = exogenous(
        0.0, symbol=r"\epsilon^S_{i,t}", unit="share of workers", shape=INDUSTRY
    )
    demand_preferences: Vector = exogenous(
        (10 / 340, 80 / 340, 250 / 340),
        symbol=r"\theta_{i,t}",
        unit="share of consumption",
        shape=INDUSTRY,
    )
    fear_of_infection: Scalar = exogenous(
        0.0, symbol=r"\tilde{\epsilon}^D_t", unit="share of consumption"
    )
    permanent_income_expectation: Scalar = exogenous(
        1.0, symbol=r"\xi_t", unit="share of initial income"
    )
    other_final_demand: Vector = exogenous(
        (5.0, 5.0, 225.0), symbol="f^d_{i,t}", unit="USD mn", shape=INDUSTRY
    )


class State(Record):
    gross_output: Vector = index(
        "x_{i,t}",
        r"\min\{x^{cap}_{i,t}, x^{inp}_{i,t}, d_{i,t}\}",
        ref="13",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    aggregate_demand: Vector = index(
        "d_{i,t}",
        r"\sum_j O_{ji,t} + c^d_{i,t} + f^d_{i,t}",
        ref="3",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    consumption_demand: Vector = index(
        "c^d_{i,t}",
        r"(1 - \tilde{\epsilon}^D_t) \theta_{i,t} \tilde{c}^d_t",
        ref="5",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    realized_consumption: Vector = index(
        "c_{i,t}",
        r"c^d_{i,t} \frac{x_{i,t}}{d_{i,t}}",
        ref="16",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    labour_compensation: Vector = index(
        "l_{i,t}",
        r"\min\left\{(1 - \epsilon^S_{i,t}) l_0, l_{i,t-1} + (\gamma_H \text{ or } \gamma_F)"
        r" \frac{l_0}{x_0} (\min\{x^{inp}_{i,t-1}, d_{i,t-1}\} - x^{cap}_{i,t-1})\right\}",
        ref="19-20",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    profits: Vector = index(
        r"\pi_{i,t}",
        r"x_{i,t} - \sum_j Z_{ji,t} - l_{i,t} - e_i/x_i x_{i,t}",
        ref="2",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    productive_capacity: Vector = index(
        "x^{cap}_{i,t}",
        r"\frac{l_{i,t}}{l_0} x_0",
        ref="7",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
    )
    input_capacity: Vector = index(
        "x^{inp}_{i,t}",
        r"\min\left\{\min_j \frac{S_{ji,t-1}}{A} \text{ where } A^{ess} = 1,"
        r" \min_j \frac{1}{2} \left(\frac{S_{ji,t-1}}{A} + x_0\right)"
        r" \text{ where } A^{ess} = \frac{1}{2}\right\}",
        ref="8-12",
        sector=IO,
        unit="USD mn",
        shape=INDUSTRY,
        unlimited=True,
    )
    inventories: Matrix = index(
        "S_{ji,t}",
        r"\max\{S_{ji,t-1} + Z_{ji,t} - A x_{i,t}, 0\}",
        ref="18",
        sector=IO,
        unit="USD mn",
        shape=(INDUSTRY, INDUSTRY),
    )
    intermediate_consumption: Matrix = index(
        "Z_{ji,t}",
        r"O_{ji,t} \frac{x_{j,t}}{d_{j,t}}",
        ref="15",
        sector=IO,
        unit="USD mn",
        shape=(INDUSTRY, INDUSTRY),
    )
    intermediate_orders: Matrix = index(
        "O_{ji,t}",
        r"\max\left\{A d_{i,t-1} + \frac{1}{\tau} (n Z - S_{ji,t-1}), 0\right\}",
        ref="4",
        sector=IO,
        unit="USD mn",
        shape=(INDUSTRY, INDUSTRY),
    )
    total_consumption_demand: Scalar = index(
        r"\tilde{c}^d_t",
        r"\exp\left(\rho \log \tilde{c}^d_{t-1} + \frac{1 - \rho}{2} \left("
        r"\log \frac{\sum_i c_0}{\sum_i l_0} (b \sum_i l_0 + (1 - b) \sum_i l_{i,t})"
        r" + \log \frac{\sum_i c_0}{\sum_i l_0} \xi_t \sum_i l_0\right)\right)",
        ref="6",
        sector=H,
        unit="USD mn",
    )
    savings: Scalar = index(
        "s_t",
        r"\sum_i \pi_{i,t} + \sum_i l_{i,t} - \frac{1}{1 - c^{other}} \sum_i c_{i,t}",
        sector=H,
        unit="USD mn",
    )


def undisturbed(params: Params) -> dict[str, Any]:
    """The series of the scenario in which the economy of `params` stays as it is.

    `model.scenario(**undisturbed(params))`: households spend as in the data, other final demand is
    that of the data, and nobody stays at home.
    """
    consumption = params.initial_household_consumption
    total = jnp.sum(consumption)
    return {
        "demand_preferences": smooth.safe_divide(consumption, total, 1 / consumption.shape[0]),
        "other_final_demand": params.initial_other_final_demand,
    }


def initial_state(params: Params, scenario: Scenario) -> State:
    """The economy of the data. Input capacity is output, and savings are 0, until the first day."""
    output = params.initial_gross_output
    consumption = params.initial_household_consumption
    sales = params.intermediate_consumption_matrix
    return State(
        gross_output=output,
        aggregate_demand=output,
        consumption_demand=consumption,
        realized_consumption=consumption,
        labour_compensation=params.initial_labour_compensation,
        profits=params.initial_profits,
        productive_capacity=output,
        input_capacity=output,
        inventories=params.inventory_target_days[None, :] * sales,
        intermediate_consumption=sales,
        intermediate_orders=sales,
        total_consumption_demand=jnp.sum(consumption),
        savings=jnp.zeros_like(output[0]),
    )


def step(
    prior: State,
    params: Params,
    scenario: Scenario,
    *,
    production_function: str = "half_critical",
    hiring_firing: bool = True,
    firm_priority: bool = False,
    sharpness: float | None = None,
) -> State:
    """One day: labour, demand, production, deliveries, inventories, incomes.

    Options:
        production_function: which inputs stop production; see above.
        hiring_firing: whether industries adapt their labour to demand, or employ all who may work.
        firm_priority: whether industries are served before households and other final demand.
        sharpness: None for the exact minima and maxima of the paper. A number rounds them off, so
            that derivatives do not jump where another limit begins to bind: of n limits, the
            least is then up to log(n) / sharpness too low, in units of the industry's initial
            output (labour, of its initial labour; orders and inventories, up to
            log(2) / sharpness too high in units of their initial values). Before the shocks, when
            every industry is at several limits at once, output settles 2.7 / sharpness of its
            initial value too low. In a lockdown of the default economy it is 0.4 % of that off at
            most with a sharpness of 1000, and 0.03 % with 10,000; with 100 or less, industries run
            out of inputs on other days.
    """
    initial_output, initial_labour = params.initial_gross_output, params.initial_labour_compensation

    # Industries adapt their labour to what inputs and demand would have let them make yesterday.
    available_labour = initial_labour * (1 - scenario.supply_shock)
    if hiring_firing:
        wanted_output = _least(
            [prior.input_capacity, prior.aggregate_demand], initial_output, sharpness
        )
        labour_gap = smooth.safe_divide(initial_labour, initial_output) * (
            wanted_output - prior.productive_capacity
        )
        hired = params.hiring_rate * _positive(labour_gap, initial_labour, sharpness)
        fired = params.firing_rate * _positive(-labour_gap, initial_labour, sharpness)
        labour = _least(
            [available_labour, prior.labour_compensation + hired - fired], initial_labour, sharpness
        )
    else:
        labour = available_labour
    productive_capacity = smooth.safe_divide(labour, initial_labour) * initial_output

    # Households spend what they are used to, and adapt it to what they earn now and for good.
    total_initial_labour = jnp.sum(initial_labour)
    spent_share = smooth.safe_divide(
        jnp.sum(params.initial_household_consumption), total_initial_labour
    )
    income = params.benefit_rate * total_initial_labour + (1 - params.benefit_rate) * jnp.sum(
        labour
    )
    permanent_income = scenario.permanent_income_expectation * total_initial_labour
    persistence = params.consumption_persistence
    total_consumption_demand = jnp.exp(
        persistence * _log(prior.total_consumption_demand)
        + (1 - persistence)
        / 2
        * (_log(spent_share * income) + _log(spent_share * permanent_income))
    )
    # Fear takes its share of the day's spending and is not remembered. Were it in what the next day
    # takes over, a lasting share of 10 % would compound to 0.9 ** (1 / (1 - rho)), which is nothing.
    consumption_demand = (
        (1 - scenario.fear_of_infection) * scenario.demand_preferences * total_consumption_demand
    )

    target_inventories = (
        params.inventory_target_days[None, :] * params.intermediate_consumption_matrix
    )
    orders = _positive(
        params.technical_coefficients * prior.aggregate_demand[None, :]
        + (target_inventories - prior.inventories) / params.inventory_adjustment_speed,
        params.intermediate_consumption_matrix,
        sharpness,
    )
    orders_received = jnp.sum(orders, axis=1)
    demand = orders_received + consumption_demand + scenario.other_final_demand

    input_capacity = _input_capacity(prior.inventories, params, production_function, sharpness)
    output = _least([productive_capacity, input_capacity, demand], initial_output, sharpness)

    if firm_priority:
        sold_to_firms = _least([orders_received, output], initial_output, sharpness)
        served_firms = smooth.safe_divide(sold_to_firms, orders_received)
        served = smooth.safe_divide(output - sold_to_firms, demand - orders_received)
    else:
        served = served_firms = smooth.safe_divide(output, demand)
    deliveries = orders * served_firms[:, None]
    realized_consumption = consumption_demand * served

    # An input that stops nobody may run out: then industries go on without it.
    inventories = _positive(
        prior.inventories + deliveries - params.technical_coefficients * output[None, :],
        target_inventories,
        sharpness,
    )
    profits = (
        output - jnp.sum(deliveries, axis=0) - labour - params.other_cost_coefficients * output
    )
    expenditure = jnp.sum(realized_consumption) / (1 - params.household_other_cost_coefficient[0])
    return State(
        gross_output=output,
        aggregate_demand=demand,
        consumption_demand=consumption_demand,
        realized_consumption=realized_consumption,
        labour_compensation=labour,
        profits=profits,
        productive_capacity=productive_capacity,
        input_capacity=input_capacity,
        inventories=inventories,
        intermediate_consumption=deliveries,
        intermediate_orders=orders,
        total_consumption_demand=total_consumption_demand,
        savings=jnp.sum(profits) + jnp.sum(labour) - expenditure,
    )


def _input_capacity(
    inventories: Matrix, params: Params, production_function: str, sharpness: float | None
) -> Vector:
    """The output that inventories allow; infinite where no input is needed to go on."""
    coefficients = params.technical_coefficients
    if production_function == "linear":
        return smooth.safe_divide(jnp.sum(inventories, 0), jnp.sum(coefficients, 0), jnp.inf)
    used = coefficients > 0
    critical = used & (params.critical_input_matrix > 0.5)
    important = used & (params.critical_input_matrix == 0.5)
    allowed = inventories / jnp.where(used, coefficients, 1)
    initial_output = params.initial_gross_output
    if production_function == "leontief":
        needed = used
    elif production_function == "strongly_critical":
        needed = critical | important
    elif production_function == "half_critical":
        needed = critical | important
        allowed = jnp.where(important, (allowed + initial_output[None, :]) / 2, allowed)
    elif production_function == "weakly_critical":
        needed = critical
    else:
        raise ValueError(
            f"production_function must be one of {', '.join(PRODUCTION_FUNCTIONS)}, not "
            f"{production_function!r}."
        )
    return _least(jnp.where(needed, allowed, jnp.inf), initial_output, sharpness)


def _least(limits: Any, unit: Vector, sharpness: float | None) -> Vector:
    """The least of the limits, along the first axis; an infinite one is none.

    Rounded off for the industries that have a `unit` to measure it in, and a limit.
    """
    limits = jnp.stack(limits) if isinstance(limits, list) else limits
    # Not jnp.min: its derivative looks for the limit that equals the result, which one that was
    # computed anew for reverse mode need not do to the last bit.
    numbers = jnp.arange(limits.shape[0])[:, None]
    chosen = numbers == jnp.argmin(limits, axis=0)[None, :]
    exact = jnp.sum(jnp.where(chosen, limits, 0), axis=0)
    if sharpness is None:
        return exact
    binds = jnp.isfinite(limits)
    rounded = (unit > 0) & jnp.any(binds, axis=0)
    # Every branch is finite, with finite derivatives, where it is not taken.
    unit = jnp.where(unit > 0, unit, 1)
    relative = jnp.where(binds, limits, 0) / unit[None, :]
    relative = jnp.where(binds, relative, jnp.where(rounded, jnp.inf, 0)[None, :])
    return jnp.where(rounded, unit * smooth.minimum_of(relative, sharpness, axis=0), exact)


def _positive(value: Any, unit: Any, sharpness: float | None) -> Any:
    """The value, or 0 where it is negative; rounded off where there is a unit to measure it in."""
    exact = jnp.where(value > 0, value, 0)
    if sharpness is None:
        return exact
    rounded = unit > 0
    unit = jnp.where(rounded, unit, 1)
    return jnp.where(rounded, unit * smooth.maximum(value / unit, 0, sharpness), exact)


def _log(value: Scalar) -> Scalar:
    """The logarithm, of 1e-10 at least: without any income it stays finite."""
    return jnp.log(jnp.maximum(value, 1e-10))


PichlerEtAl2022DIO = Model(
    "PichlerEtAl2022DIO", Params, Scenario, State, initial_state, step, periods=182
)
