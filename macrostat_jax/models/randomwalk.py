r"""Model RandomWalk: a walk on the integers, one step up or down in every period.

The position rises by 1 with probability theta and falls by 1 otherwise, from 0 on. After n steps its
expectation is n (2 theta - 1) and its second moment n + n (n - 1) (2 theta - 1)^2, so that the
derivatives of both are known, 2 n and 4 n (n - 1) (2 theta - 1), while the derivative of any single
walk is zero: a step that has been drawn does not change with theta. It is the ruler that estimators of
the gradients of expectations are checked against.
"""

from __future__ import annotations

import jax.numpy as jnp

from .._model import Model
from .._record import Record, Scalar, index, noise, param
from ..stochastic import EXACT, Exact


class Params(Record):
    theta: Scalar = param(0.4, symbol=r"\theta", bounds=(0, 1), open=True, unit="probability")


class Scenario(Record):
    pass


class Noise(Record):
    up: Scalar = noise("uniform", symbol=r"\xi")


class State(Record):
    position: Scalar = index(
        "x",
        r"x_{-1} + \begin{cases} 1 & \text{if } \xi > 1 - \theta \\ -1 & \text{else} \end{cases}",
        sector="Walker",
        unit="steps",
    )


def initial_state(params: Params, scenario: Scenario) -> State:
    """The origin."""
    return State(position=jnp.zeros(()))


def step(
    prior: State, params: Params, scenario: Scenario, noise: Noise, *, relaxation: Exact = EXACT
) -> State:
    """One step: up with probability theta, else down."""
    up = relaxation.bernoulli(noise.up, params.theta)
    return State(position=prior.position + 2 * up - 1)


def log_density(prior: State, state: State, params: Params, scenario: Scenario) -> Scalar:
    """The log-probability of the step from `prior` to `state`."""
    up = (state.position - prior.position + 1) / 2
    return up * jnp.log(params.theta) + (1 - up) * jnp.log1p(-params.theta)


RandomWalk = Model(
    "RandomWalk",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    Noise=Noise,
    log_density=log_density,
    periods=50,
)
