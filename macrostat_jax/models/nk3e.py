r"""Model NK3E: the three equations of New Keynesian macroeconomics.

Carlin and Soskice (2014), *Macroeconomics: Institutions, Instability, and the Financial System*,
chapter 3; with the numbers of the Macro Simulation project, *A New Keynesian 3-Equation Model*
(macrosimulation.org). Output follows last period's real interest rate (the IS curve), inflation
follows output beyond its equilibrium (the Phillips curve), and the central bank sets the rate that
brings next period's output and inflation to the best point it can reach (the monetary rule).
"""

from __future__ import annotations

from .._model import Model
from .._record import Record, Scalar, exogenous, index, param


class Params(Record):
    real_rate_sensitivity: Scalar = param(0.3, symbol="a_1", bounds=(0, 10), unit=".", name="a1")
    phillips_slope: Scalar = param(0.7, symbol="a_2", bounds=(0, 10), unit=".", name="a2")
    inflation_aversion: Scalar = param(1.0, symbol="b", bounds=(0, 100), unit=".", name="b")
    autonomous_demand: Scalar = param(10.0, symbol="A", bounds=(-1000, 1000), unit=".", name="A")
    inflation_target: Scalar = param(
        2.0, symbol=r"\pi^T", bounds=(-100, 100), unit="% per period", name="pi_T"
    )
    equilibrium_output: Scalar = param(
        5.0, symbol="y_e", bounds=(-1000, 1000), unit=".", name="y_e"
    )


class Scenario(Record):
    inflation_shock: Scalar = exogenous(0.0, symbol=r"\varepsilon_\pi", unit="% per period")
    rate_shock: Scalar = exogenous(0.0, symbol=r"\varepsilon_r", unit="% per period")
    output_shock: Scalar = exogenous(0.0, symbol=r"\varepsilon_y", unit=".")


class State(Record):
    output: Scalar = index("y", r"A - a_1 r_{-1} + \varepsilon_y", ref="IS", unit=".", name="y")
    rate_response: Scalar = index(
        "a_3", r"\frac{1}{a_1 (\frac{1}{a_2 b} + a_2)}", ref="MR", unit=".", name="a3"
    )
    inflation: Scalar = index(
        r"\pi",
        r"\pi_{-1} + a_2 (y - y_e) + \varepsilon_\pi",
        ref="PC",
        unit="% per period",
        name="pi",
    )
    real_rate: Scalar = index(
        "r", r"r_s + a_3 (\pi - \pi^T) + \varepsilon_r", ref="MR", unit="% per period", name="r"
    )
    stabilising_rate: Scalar = index(
        "r_s", r"\frac{A - y_e}{a_1}", ref="IS", unit="% per period", name="r_s"
    )


def rate_response(params: Params) -> Scalar:
    """a_3: by how much the rate rises with inflation, as the central bank's aims imply.

    The bank minimises (y - y_e)^2 + b (pi - pi^T)^2 along next period's Phillips curve. Written so
    that it is 0, not 0/0, where inflation does not answer to output or the bank does not mind it.
    """
    slope, aversion = params.phillips_slope, params.inflation_aversion
    return slope * aversion / (params.real_rate_sensitivity * (1 + slope**2 * aversion))


def stabilising_rate(params: Params) -> Scalar:
    """r_s: the rate at which output is at its equilibrium."""
    return (params.autonomous_demand - params.equilibrium_output) / params.real_rate_sensitivity


def initial_state(params: Params, scenario: Scenario) -> State:
    """Output at its equilibrium, inflation on target: at rest, whatever shocks are to come."""
    return State(
        output=params.equilibrium_output,
        rate_response=rate_response(params),
        inflation=params.inflation_target,
        real_rate=stabilising_rate(params),
        stabilising_rate=stabilising_rate(params),
    )


def step(prior: State, params: Params, scenario: Scenario) -> State:
    """One period; a shock to one variable reaches those that are determined after it."""
    output = (
        params.autonomous_demand
        - params.real_rate_sensitivity * prior.real_rate
        + scenario.output_shock
    )
    output_gap = output - params.equilibrium_output
    inflation = prior.inflation + params.phillips_slope * output_gap + scenario.inflation_shock
    inflation_gap = inflation - params.inflation_target
    real_rate = (
        stabilising_rate(params) + rate_response(params) * inflation_gap + scenario.rate_shock
    )
    return State(
        output=output,
        rate_response=rate_response(params),
        inflation=inflation,
        real_rate=real_rate,
        stabilising_rate=stabilising_rate(params),
    )


def steady_state(params: Params, scenario: Scenario) -> State:
    """Inflation is constant: the output gap offsets what shocks add to inflation in every period.

    Without shocks output is at its equilibrium and inflation on target.
    """
    output = params.equilibrium_output - scenario.inflation_shock / params.phillips_slope
    real_rate = (
        params.autonomous_demand + scenario.output_shock - output
    ) / params.real_rate_sensitivity
    response, at_equilibrium = rate_response(params), stabilising_rate(params)
    return State(
        output=output,
        rate_response=response,
        inflation=params.inflation_target
        + (real_rate - at_equilibrium - scenario.rate_shock) / response,
        real_rate=real_rate,
        stabilising_rate=at_equilibrium,
    )


NK3E = Model(
    "NK3E",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    steady_state,
    shocks=("autonomous_demand_add", "inflation_target_add", "equilibrium_output_add"),
    scenarios={
        "Rise in A": {"autonomous_demand_add": 2.0},
        "Higher pi_T": {"inflation_target_add": 1.0},
        "Rise in y_e": {"equilibrium_output_add": 2.0},
        # In the second period: runs that record the initial state twice begin with it.
        "Inflation impulse": {"inflation_shock": (0.0, 1.0)},
    },
    periods=50,
)
