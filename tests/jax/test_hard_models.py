"""Shapes that papers come in: many scalars, linear systems, agents, equilibria inside a period."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    AddingUp,
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    index,
    param,
    simulate,
)
from macrostat_jax.causality import dependencies


class Nothing(Record):
    pass


def central(function, at, step=1e-5):
    return (function(at + step) - function(at - step)) / (2 * step)


# 82 scalar variables, 47 parameters, 5 constraints


def made(name: str, fields: dict) -> Any:
    return type(name, (Record,), {"__annotations__": dict.fromkeys(fields, Scalar), **fields})


N, K = 82, 47
GROUPS = tuple(AddingUp(tuple(f"p{5 * g + i}" for i in range(5)), total=0.5) for g in range(5))
ManyParams = made("ManyParams", {f"p{i}": param(0.1, bounds=(-1, 1)) for i in range(K)})
ManyState = made("ManyState", {f"x{i}": index(f"x_{{{i}}}") for i in range(N)})


def many_step(prior, params, scenario):
    values = {}
    for i in range(N):
        weight = getattr(params, f"p{i % K}")
        past = getattr(prior, f"x{(7 * i + 3) % N}")
        values[f"x{i}"] = weight * jnp.tanh(past) + 0.5 * getattr(prior, f"x{i}") + 0.1
    return ManyState(**values)


MANY = Model(
    "MANY",
    ManyParams,
    Nothing,
    ManyState,
    lambda params, scenario: ManyState.filled(0.0),
    many_step,
    constraints=GROUPS,
    periods=20,
)


def test_many_scalars_under_constraints():
    assert (len(MANY.Params.fields), len(MANY.State.fields)) == (K, N)
    params = MANY.params(p0=0.3, p5=0.2)
    assert params.p4 == pytest.approx(-0.1) and params.p9 == pytest.approx(0.0)
    path = simulate(MANY, params)
    state = ManyState.filled(0.0)
    for _ in range(20):
        state = many_step(state, params, None)
    for key in MANY.State.fields:
        np.testing.assert_allclose(getattr(path, key)[-1], getattr(state, key), rtol=1e-12)

    def loss(params):
        return sum(jax.tree.leaves(simulate(MANY, params)[-1]))

    params = jax.tree.map(jnp.asarray, params)
    gradient = jax.jit(jax.grad(loss))(params)
    assert gradient.p4 == 0 and gradient.p24 == 0 and gradient.p46 != 0

    def moved(value):
        return loss(params.replace(p0=value))

    assert gradient.p0 == pytest.approx(float(central(moved, 0.3)), rel=1e-7)


# Three sectors that buy from each other: a 3 x 3 system in every period

SECTORS = Axis("sector", ("Agriculture", "Industry", "Services"))


class TradeParams(Record):
    inputs: Matrix = param(
        ((0.1, 0.2, 0.0), (0.3, 0.1, 0.2), (0.1, 0.1, 0.3)), shape=(SECTORS, SECTORS)
    )
    growth: Scalar = param(0.02)


class TradeScenario(Record):
    demand: Vector = exogenous((10.0, 20.0, 30.0), shape=SECTORS)


class TradeState(Record):
    output: Vector = index("q", shape=SECTORS)
    scale: Scalar = index("s")


def trade_step(prior, params, scenario):
    scale = prior.scale * (1 + params.growth)
    net = jnp.eye(3, dtype=prior.output.dtype) - params.inputs
    return TradeState(output=jnp.linalg.solve(net, scale * scenario.demand), scale=scale)


TRADE = Model(
    "TRADE",
    TradeParams,
    TradeScenario,
    TradeState,
    lambda params, scenario: TradeState(output=jnp.zeros(3), scale=jnp.ones(())),
    trade_step,
    periods=6,
)


def test_an_input_output_system_in_the_step():
    inputs = np.array(TradeParams.fields["inputs"].default)
    leontief = np.linalg.inv(np.eye(3) - inputs)
    path = simulate(TRADE)
    np.testing.assert_allclose(path.output[0], leontief @ [10.2, 20.4, 30.6], rtol=1e-13)
    jacobian = jax.jacrev(lambda a: simulate(TRADE, TRADE.params(inputs=a)).output[-1])(
        jnp.asarray(inputs)
    )
    # d(L f) / dA_ij = L[:, i] (L f)_j
    expected = np.einsum("ki,j->kij", leontief, path.output[-1])
    np.testing.assert_allclose(jacobian, expected, rtol=1e-12)
    batch = simulate(TRADE, TRADE.params(growth=np.array([0.0, 0.02])))
    assert batch.output.shape == (6, 2, 3)
    np.testing.assert_allclose(batch.output[:, 1], path.output, rtol=1e-12)


# A thousand agents who search for a job

AGENTS = Axis("agent", size=1000)


class JobParams(Record):
    found: Scalar = param(0.3, bounds=(0, 1))
    lost: Scalar = param(0.1, bounds=(0, 1))
    wage: Scalar = param(1.0, bounds=(0, 10))


class JobState(Record):
    employed: Vector = index("e", shape=AGENTS)
    savings: Vector = index("m", shape=AGENTS)
    rate: Scalar = index("u")


def job_step(prior, params, scenario, key):
    luck = jax.random.uniform(key, (AGENTS.size,), prior.savings.dtype)
    employed = jnp.where(prior.employed, luck >= params.lost, luck < params.found)
    income = jnp.where(employed, params.wage, 0.0)
    return JobState(
        employed=employed,
        savings=0.9 * prior.savings + income,
        rate=1 - jnp.mean(employed.astype(prior.rate.dtype)),
    )


def job_start(params, scenario):
    nothing = jnp.zeros(AGENTS.size)
    return JobState(employed=jnp.zeros(AGENTS.size, bool), savings=nothing, rate=jnp.ones(()))


JOBS = Model("JOBS", JobParams, Nothing, JobState, job_start, job_step, periods=60)


def test_a_thousand_agents():
    key = jax.random.key(7)
    path = simulate(JOBS, key=key)
    assert path.employed.shape == (60, 1000) and path.employed.dtype == bool
    # In the long run lost / (found + lost) are without a job; five standard errors of 1000 agents.
    assert float(np.mean(path.rate[20:])) == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(
        path.rate, 1 - np.mean(np.asarray(path.employed), axis=1), rtol=1e-12
    )
    keys = jax.random.split(key, 3)
    batch = simulate(JOBS, JOBS.params(found=np.array([0.3, 0.3, 0.9])), key=keys)
    np.testing.assert_array_equal(batch.employed[:, 1], simulate(JOBS, key=keys[1]).employed)
    slope = jax.grad(
        lambda wage: jnp.mean(simulate(JOBS, JOBS.params(wage=wage), key=key).savings[-1])
    )(1.0)
    assert slope == pytest.approx(float(np.mean(path.savings[-1])), rel=1e-12)  # linear in the wage


# A price that clears the market of the period: a fixed point, found by iteration


class MarketParams(Record):
    elasticity: Scalar = param(0.5, bounds=(0.1, 2))
    memory: Scalar = param(0.6, bounds=(0, 1))


class MarketState(Record):
    price: Scalar = index("p")
    rounds: Scalar = index("n")


def clearing(wanted, elasticity):
    """The price p with p = wanted exp(-elasticity p), and its derivatives by the implicit theorem."""

    def gap(price):
        return price - wanted * jnp.exp(-elasticity * price)

    def solve(gap, guess):
        def unfinished(carry):
            price, rounds = carry
            return (jnp.abs(gap(price)) > 1e-14) & (rounds < 200)

        def newton(carry):
            price, rounds = carry
            value, slope = jax.jvp(gap, (price,), (jnp.ones_like(price),))
            return price - value / slope, rounds + 1

        # Counted in floats: custom_root has no tangent for integers.
        return jax.lax.while_loop(unfinished, newton, (guess, jnp.zeros_like(guess)))

    def tangent(linear, value):
        return value / linear(jnp.ones_like(value))

    return jax.lax.custom_root(gap, jnp.ones_like(wanted), solve, tangent, has_aux=True)


def market_step(prior, params, scenario):
    price, rounds = clearing(1 + params.memory * prior.price, params.elasticity)
    return MarketState(price=price, rounds=rounds)


MARKET = Model(
    "MARKET",
    MarketParams,
    Nothing,
    MarketState,
    lambda params, scenario: MarketState(price=jnp.zeros(()), rounds=jnp.zeros(())),
    market_step,
    periods=8,
)


def test_an_equilibrium_inside_the_step():
    path = simulate(MARKET)
    before = np.concatenate([[0.0], path.price[:-1]])
    np.testing.assert_allclose(
        path.price, (1 + 0.6 * before) * np.exp(-0.5 * path.price), rtol=1e-13
    )
    assert np.all((path.rounds > 1) & (path.rounds < 20))

    def last(elasticity):
        return simulate(MARKET, MARKET.params(elasticity=elasticity)).price[-1]

    reverse, forward = jax.grad(last)(0.5), jax.jacfwd(last)(0.5)
    assert reverse == pytest.approx(float(forward), rel=1e-12)
    assert reverse == pytest.approx(float(central(last, 0.5)), rel=1e-8)
    batch = simulate(MARKET, MARKET.params(elasticity=np.array([0.4, 0.5])))
    np.testing.assert_allclose(batch.price[:, 1], path.price, rtol=1e-13)


@pytest.mark.parametrize("model", [MANY, TRADE, JOBS, MARKET], ids=lambda model: model.name)
def test_their_causes_are_found(model):
    found = dependencies(model)
    expected = {
        "MANY": {"x0": {"prior.x0", "prior.x3", "params.p0"}},
        "TRADE": {"scale": {"prior.scale", "params.growth"}},
        "JOBS": {"employed": {"prior.employed", "params.lost", "params.found", "key"}},
        "MARKET": {"price": {"prior.price", "params.memory", "params.elasticity"}},
    }
    for variable, sources in expected[model.name].items():
        assert found[variable] == sources
