"""Steady states: solved for, against the closed forms, and what happens where there is none."""

from __future__ import annotations

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from model_cases import randomly

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    exogenous,
    index,
    models,
    param,
    simulate,
    steady_state,
)

SETTLING = [name for name in models.names() if not models.get(name).random]
RANDOM = sorted(set(models.names()) - set(SETTLING))
CLOSED = [name for name in SETTLING if models.get(name).steady_state is not None]


def without_closed_form(name):
    model = copy.copy(models.get(name))
    model.steady_state, model._variants = None, {}
    return model


def still_moves(model, params):
    """Does the model go on changing after 3,000 periods: grow, cycle, use up what does not renew?"""
    path = simulate(model, params, model.scenario(periods=3000))
    moves = [
        np.max(np.abs(leaf[-1] - leaf[-2]) / np.maximum(1, np.abs(leaf[-1])))
        for leaf in jax.tree.leaves(path)
    ]
    return not max(moves) < 1e-9


@pytest.mark.parametrize("name", SETTLING)
def test_a_step_leaves_it_as_it_is(name):
    model = models.get(name)
    row = model.scenario(periods=1)[0] if model.Scenario.fields else model.Scenario()
    for params in (model.params(), randomly(model, 11)):
        try:
            state = steady_state(model, params, row)
        except RuntimeError:
            assert still_moves(model, params), "it rests, and was not found"
            continue
        after = model.step(state, model.constrain(params), row)
        for key in model.State.fields:
            sizes = np.abs(np.asarray(getattr(state, key)))
            scale = max(1.0, float(np.max(sizes, where=np.isfinite(sizes), initial=0.0)))
            np.testing.assert_allclose(
                getattr(after, key), getattr(state, key), rtol=0, atol=1e-10 * scale, err_msg=key
            )


@pytest.mark.parametrize("name", RANDOM)
def test_random_models_have_none(name):
    with pytest.raises(ValueError, match=f"{name} is random: its state never settles"):
        steady_state(models.get(name))


@pytest.mark.parametrize("name", CLOSED)
def test_the_solved_state_is_that_of_the_closed_form(name):
    model, solved = models.get(name), without_closed_form(name)
    params = jax.tree.map(jnp.asarray, randomly(model, 7))

    flat, unravel = ravel_pytree(params)
    rng = np.random.default_rng(3)
    direction = jnp.asarray(rng.standard_normal(flat.size))

    def state(model, flat):
        return ravel_pytree(steady_state(model, unravel(flat)))[0]

    # 1e-11 is what the search leaves of a change; slow models magnify it by 1 / (1 - eigenvalue).
    def agree(found, expected):
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=1e-9 * (1 + np.max(np.abs(expected)))
        )

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(model, flat, direction, seed):
        """The state, and its slope forward and in reverse: one program for each model."""
        value, pull = jax.vjp(lambda x: state(model, x), flat)
        weights = jax.random.normal(jax.random.key(seed), value.shape)
        return *jax.jvp(lambda x: state(model, x), (flat,), (direction,)), pull(weights)[0]

    values = [derivatives(one, flat, direction, 3) for one in (model, solved)]
    for expected, found in zip(*values, strict=True):
        agree(found, expected)


def test_second_derivatives_are_those_of_the_solution():
    def income(model):
        return lambda params: steady_state(model, params).national_income

    params = jax.tree.map(jnp.asarray, models.GL06PC.params())
    expected = jax.jit(jax.hessian(income(models.GL06PC)))(params)
    found = jax.jit(jax.hessian(income(without_closed_form("GL06PC"))))(params)
    for value, reference in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-6)


def test_other_scenarios_and_batches():
    model = without_closed_form("GL06PC")
    high = model.scenario(interest_rate=0.035)[-1]
    assert steady_state(model, scenario=high).national_income == pytest.approx(110.090090, abs=1e-6)
    rates = jnp.array([0.2, 0.25, 0.3])
    batch = jax.vmap(lambda rate: steady_state(model, model.params(tax_rate=rate)))(rates)
    one = steady_state(model, model.params(tax_rate=0.25))
    np.testing.assert_allclose(batch.national_income[1], one.national_income, rtol=1e-12)


class Params(Record):
    growth: Scalar = param(0.5, symbol="g", unit=".")


class Scenario(Record):
    level: Scalar = exogenous(1.0, symbol="l", unit=".")


class State(Record):
    first: Scalar = index("x", "", unit=".")
    second: Scalar = index("y", "", unit=".")


def transfer(prior, params, scenario):
    """A part of the first goes to the second, and of the second to the first: the sum stays."""
    moved = params.growth * prior.first - 0.25 * prior.second
    return State(first=prior.first - moved, second=prior.second + moved)


def test_what_the_step_conserves_is_what_the_start_has():
    def start(params, scenario):
        return State(first=6.0 * scenario.level, second=jnp.zeros(()))

    model = Model("TRANSFER", Params, Scenario, State, start, transfer)
    # growth x = y / 4 and x + y = 6: x = 6 / (1 + 4 growth), y = 24 growth / (1 + 4 growth)
    state = steady_state(model)
    assert [float(state.first), float(state.second)] == pytest.approx([2.0, 4.0], rel=1e-12)

    def first(growth, level):
        return steady_state(
            model, model.params(growth=growth), model.scenario(level=level)[0]
        ).first

    slope, share = jax.grad(first, argnums=(0, 1))(0.5, 1.0)
    assert slope == pytest.approx(-24.0 / 9.0, rel=1e-12)
    assert share == pytest.approx(2.0, rel=1e-12)
    assert jax.jacfwd(first, argnums=1)(0.5, 1.0) == pytest.approx(2.0, rel=1e-12)


def test_it_need_not_be_stable():
    def growing(prior, params, scenario):
        return State(first=(1 + params.growth) * prior.first, second=prior.first)

    model = Model("GROWING", Params, Scenario, State, lambda p, x: State.filled(1e-9), growing)
    assert float(steady_state(model, periods=10).first) == pytest.approx(0, abs=1e-12)


def test_a_trend_has_none():
    def trend(prior, params, scenario):
        return State(first=prior.first + params.growth, second=prior.first)

    model = Model("TREND", Params, Scenario, State, lambda p, x: State.filled(0.0), trend)
    with pytest.raises(RuntimeError, match="TREND: no steady state was found"):
        steady_state(model)
    batch = jax.vmap(lambda g: steady_state(model, Params(growth=g)).first)(jnp.array([0.0, 0.5]))
    assert batch[0] == 0 and np.isnan(batch[1])


def test_single_precision(float32):
    state = steady_state(without_closed_form("GL06PC"))
    assert state.national_income.dtype == jnp.float32
    assert state.national_income == pytest.approx(106.486486, rel=1e-4)


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"take one period of a path, for instance scenario\[-1\]"):
        steady_state(models.GL06PC, scenario=models.GL06PC.scenario())
    with pytest.raises(TypeError, match="GL06PC expects Params"):
        steady_state(models.get("GL06PC"), models.GL06SIM.params())

    def noisy(prior, params, scenario, key):
        return prior

    model = Model("NOISY", Params, Scenario, State, lambda p, x: State.filled(0.0), noisy)
    with pytest.raises(ValueError, match="NOISY is random: its state never settles"):
        steady_state(model)
