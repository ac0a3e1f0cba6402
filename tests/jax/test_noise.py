"""Random inputs: declared, drawn from keys, handed in, and the same however runs are batched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    Axis,
    Model,
    Record,
    Scalar,
    Vector,
    diff,
    index,
    noise,
    param,
    run_keys,
    simulate,
)
from macrostat_jax._record import DISTRIBUTIONS
from macrostat_jax.causality import dependencies, equation_mismatches

AGENT = Axis("agent", size=37)


class Params(Record):
    size: Scalar = param(0.5, symbol="s")


class Scenario(Record):
    pass


def _record(name, make):
    return type(
        name,
        (Record,),
        {
            "__annotations__": dict.fromkeys(DISTRIBUTIONS, Vector),
            **{kind: make(kind) for kind in DISTRIBUTIONS},
        },
    )


Noise = _record("Noise", lambda kind: noise(kind, symbol=rf"\xi^{{{kind[0]}}}", shape=AGENT))
State = _record("State", lambda kind: index(f"x^{kind[0]}", rf"s \xi^{{{kind[0]}}}", shape=AGENT))


def start(params, scenario, noise):
    return State(**{kind: 0.0 * getattr(noise, kind) for kind in DISTRIBUTIONS})


def step(prior, params, scenario, noise):
    return State(**{kind: 0.5 * getattr(noise, kind) for kind in DISTRIBUTIONS})


# Multiplying by 0.5 is exact: the paths show the draws themselves.
DRAWS = Model("DRAWS", Params, Scenario, State, start, step, Noise=Noise, periods=6)


class Steps(Record):
    up: Any = noise("normal", symbol=r"\xi")


class Position(Record):
    x: Any = index("x", r"x_{-1} + s \xi")


WALK = Model(
    "WALK",
    Params,
    Scenario,
    Position,
    lambda params, scenario, noise: Position(x=noise.up),
    lambda prior, params, scenario, noise: Position(x=prior.x + params.size * noise.up),
    Noise=Steps,
    periods=8,
)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_draws_do_not_depend_on_the_batch(kind):
    keys = run_keys(3, 9)
    batch = np.asarray(getattr(simulate(DRAWS, key=keys), kind))
    for i in (0, 5):
        alone = getattr(simulate(DRAWS, key=keys[i]), kind)
        np.testing.assert_array_equal(alone, batch[:, i])
        explicit = getattr(DRAWS.noise(keys[i]), kind)[1:]  # its first row is the start's
        np.testing.assert_array_equal(0.5 * explicit, batch[:, i])
    chunk = getattr(simulate(DRAWS, key=run_keys(3, 4, first=5)), kind)
    np.testing.assert_array_equal(chunk, batch[:, 5:])
    longer = getattr(simulate(DRAWS, key=keys[0], periods=20), kind)
    np.testing.assert_array_equal(longer[:6], batch[:, 0])
    # All at once where a path of their size is kept, else period by period.
    recorded = getattr(simulate(DRAWS, key=keys[0], record=[kind]), kind)
    np.testing.assert_array_equal(recorded, batch[:, 0])


def test_many_runs_do_not_draw_ahead():
    """A single run draws the random inputs of all periods before it begins, which is faster; of many at
    once, each with its key, they would be the most that it needs memory for."""
    agents, runs, periods = 1000, 20, 50

    class Luck(Record):
        x: Vector = noise("normal", shape=Axis("agent", size=agents))

    class Wealth(Record):
        x: Vector = index("x", shape=Axis("agent", size=agents))
        mean: Any = index("m")

    model = Model(
        "LUCK",
        Params,
        Scenario,
        Wealth,
        lambda params, scenario: Wealth.filled(0.0),
        lambda prior, params, scenario, noise: Wealth(
            x=prior.x + params.size * noise.x, mean=jnp.mean(prior.x)
        ),
        Noise=Luck,
        periods=periods,
    )

    def last(key):
        return simulate(model, key=key).mean[-1]

    keys, draws = run_keys(0, runs), agents * periods * 8
    alone, many = jax.jit(last), jax.jit(jax.vmap(last))

    def memory(function, *inputs):
        found: Any = function.lower(*inputs).compile().memory_analysis()
        return found.temp_size_in_bytes

    assert memory(alone, keys[0]) >= draws
    assert memory(many, keys) < runs * draws / 4
    np.testing.assert_allclose(many(keys)[3], alone(keys[3]), rtol=1e-12)

    def sized(size):
        return simulate(model, model.params(size=size), key=keys[3]).mean[-1]

    shared = jax.jit(jax.vmap(sized))(np.array([0.25, 0.5]))
    np.testing.assert_allclose(shared, alone(keys[3]) * np.array([0.5, 1]), rtol=1e-12)


def test_draws_follow_their_distributions():
    path = simulate(DRAWS.resize(agent=400), key=jax.random.key(0), periods=50)
    moments = {  # mean and variance of the standard distributions
        "uniform": (1 / 2, 1 / 12),
        "normal": (0, 1),
        "logistic": (0, np.pi**2 / 3),
        "gumbel": (np.euler_gamma, np.pi**2 / 6),
        "exponential": (1, 1),
    }
    for kind, (mean, variance) in moments.items():
        draws = 2 * np.asarray(getattr(path, kind)).ravel()
        error = np.sqrt(variance / draws.size)
        assert abs(draws.mean() - mean) < 4 * error, kind
        spread = np.sqrt(np.mean((draws - mean) ** 4) - variance**2) / np.sqrt(draws.size)
        assert abs(np.mean((draws - mean) ** 2) - variance) < 4 * spread, kind
        assert np.isfinite(draws).all()
    uniform = np.asarray(path.uniform) * 2
    assert uniform.min() > 0 and uniform.max() < 1


def test_noise_handed_in_is_what_runs():
    key = jax.random.key(5)
    given = WALK.noise(key)
    assert given.up.shape == (9,)
    path = simulate(WALK, noise=given)
    expected = given.up[0] + 0.5 * np.cumsum(given.up[1:])
    np.testing.assert_allclose(path.x, expected, rtol=1e-12)
    np.testing.assert_allclose(simulate(WALK, key=key).x, path.x, rtol=1e-12)
    batch = Steps(up=np.stack([given.up, 2 * given.up]))
    np.testing.assert_allclose(simulate(WALK, noise=batch).x[:, 1], 2 * path.x, rtol=1e-12)
    shared = simulate(WALK, WALK.params(size=np.array([0.5, 1.0])), noise=given)  # common numbers
    np.testing.assert_allclose(shared.x[:, 0], path.x, rtol=1e-12)


def test_derivatives_by_noise():
    expected = np.tril(np.full((8, 8), 0.5))
    cases: list[dict[str, Any]] = [
        {"key": jax.random.key(2)},
        {"noise": WALK.noise(jax.random.key(2))},
    ]
    for inputs in cases:
        found = diff.jacobian(WALK, of="x", wrt="noise", **inputs)
        np.testing.assert_allclose(found["x", "noise.up"][:, 1:], expected, rtol=1e-12)
        np.testing.assert_allclose(found["x", "noise.up"][:, 0], 1.0, rtol=1e-12)
    check = diff.check(WALK, wrt=("params", "noise"), key=jax.random.key(2))
    assert check.passed, check


def test_equations_name_noise():
    assert dependencies(WALK) == {"x": {"prior.x", "params.size", "noise.up"}}
    assert equation_mismatches(WALK) == []


def test_reverse_mode_keeps_no_draws():
    """The temporary memory of a gradient does not hold the draws of all periods."""
    agents, periods = 10_000, 50

    class Many(Record):
        luck: Vector = noise("normal", shape=Axis("agent", size=agents))

    class Mean(Record):
        x: Any = index("x")

    model = Model(
        "MANY",
        Params,
        Scenario,
        Mean,
        lambda params, scenario: Mean(x=0.0),
        lambda prior, params, scenario, noise: Mean(
            x=0.5 * prior.x + jnp.mean(jnp.tanh(params.size * noise.luck))
        ),
        Noise=Many,
        periods=periods,
    )

    def last(size):
        return simulate(model, model.params(size=size), key=jax.random.key(0)).x[-1]

    compiled = jax.jit(jax.grad(last)).lower(0.5).compile()
    memory: Any = compiled.memory_analysis()
    memory = memory.temp_size_in_bytes
    assert memory < agents * periods * 8 / 3, memory


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, TypeError, r"WALK is random: pass key=jax.random.key\(seed\) or noise=model.noise"),
        ({"key": 3}, TypeError, "WALK: key must be a PRNG key, jax.random.key"),
        ({"key": np.zeros(2, np.uint32)}, TypeError, "key must be a PRNG key"),
        ({"noise": Steps(up=0.5)}, ValueError, r"noise 'up' is a path, of shape \('T',\)"),
        ({"noise": Steps(up=np.ones(5)), "periods": 5}, ValueError, "'noise.up': 4, 'periods': 5"),
        ({"noise": Position(x=np.ones(5))}, TypeError, "WALK expects .*Steps, not .*Position"),
    ],
)
def test_bad_random_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        simulate(WALK, **inputs)


def test_bad_declarations_of_noise():
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="give a key or the noise, not both"):
        simulate(WALK, key=key, noise=WALK.noise(key))
    with pytest.raises(ValueError, match="no distribution 'cauchy': use one of uniform"):
        noise("cauchy")
    with pytest.raises(TypeError, match="declares Noise, and its step takes no fourth argument"):
        Model("DEAF", Params, Scenario, Position, WALK.initial_state, quiet, Noise=Steps)
    with pytest.raises(TypeError, match=r"Noise.x is declared as index; allowed there: noise"):
        Model("WRONG", Params, Scenario, Position, WALK.initial_state, WALK.step, Noise=Position)

    class Short(Record):
        up: Vector = noise(lambda key, shape, dtype: jnp.zeros(2, dtype), shape=3)

    with pytest.raises(ValueError, match=r"the distribution of 'up' draws the shape \(2,\)"):
        Model("SHORT", Params, Scenario, Position, WALK.initial_state, WALK.step, Noise=Short)
    fixed = Model("FIXED", Params, Scenario, Position, lambda p, x: Position(x=0.0), quiet)
    with pytest.raises(TypeError, match="FIXED declares no random inputs: it takes no noise"):
        simulate(fixed, noise=Steps(up=np.ones(3)))
    with pytest.raises(TypeError, match="FIXED declares no random inputs"):
        fixed.noise(key)


def quiet(prior, params, scenario):
    return Position(x=params.size * prior.x)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0.5, 3), TypeError), ((True, 3), TypeError), ((1, 0), ValueError), ((1, "3"), TypeError)],
)
def test_bad_run_keys(arguments, error):
    with pytest.raises(error, match="must be"):
        run_keys(*arguments)
