"""A model of 82 variables and 47 parameters that stands for the large models of the literature.

Its economics are arbitrary, its shape is not: as many variables, parameters and scenario series as a
model with all the assets of an advanced economy; half of the variables are stocks that accumulate;
every equation takes some of this period's variables, some of the last one's and two parameters.
"""

from __future__ import annotations

from typing import Any

from macrostat_jax import Model, Record, Scalar, exogenous, index, param

PARAMETERS, SERIES, STOCKS, FLOWS = 47, 6, 41, 41
CHAIN = 10
"""How many flows of a period depend on each other, one by one: incomes on spending on prices ..."""


def _record(name: str, **fields: Any) -> Any:
    return type(name, (Record,), {"__annotations__": dict.fromkeys(fields, Scalar), **fields})


def declare(periods: int = 100) -> Model:
    parameters = {f"p{i}": param(0.1 + 0.01 * i, bounds=(0, 1)) for i in range(PARAMETERS)}
    Params = _record("Params", **parameters)
    Scenario = _record("Scenario", **{f"g{i}": exogenous(1.0 + i) for i in range(SERIES)})
    flows = {f"flow{i}": index(f"f_{{{i}}}") for i in range(FLOWS)}
    stocks = {f"stock{i}": index(f"s_{{{i}}}") for i in range(STOCKS)}
    State = _record("State", **flows, **stocks)

    def initial_state(params: Any, scenario: Any) -> Any:
        return State.filled(0.5)

    def step(prior: Any, params: Any, scenario: Any) -> Any:
        p = [getattr(params, f"p{i}") for i in range(PARAMETERS)]
        g = [getattr(scenario, f"g{i}") for i in range(SERIES)]
        stock = [getattr(prior, f"stock{i}") for i in range(STOCKS)]
        flow = []
        for i in range(FLOWS):
            spending = p[i] * stock[i] + p[(i + 7) % PARAMETERS] * g[i % SERIES]
            expected = getattr(prior, f"flow{(i + 3) % FLOWS}")
            before = flow[i - 1] if i % CHAIN else expected
            flow.append(0.4 * spending + 0.2 * expected + 0.1 * before / (1 + before * before))
        held = [
            (1 - p[(i + 6) % PARAMETERS]) * 0.9 * stock[i]
            + 0.1 * flow[i]
            - 0.05 * flow[(i + 11) % FLOWS]
            for i in range(STOCKS)
        ]
        values = {f"flow{i}": value for i, value in enumerate(flow)}
        return State(**values, **{f"stock{i}": value for i, value in enumerate(held)})

    name = f"SYNTHETIC{FLOWS + STOCKS}"
    return Model(name, Params, Scenario, State, initial_state, step, periods=periods)
