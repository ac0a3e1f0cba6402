"""Pytrees as parameters: a network in place of a behavioural equation, trained through the simulation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Model, Packed, Vector, diff, estimation, sample, simulate
from macrostat_jax.models import GL06SIMEX, gl06simex

eqx = pytest.importorskip("equinox")

SCALE = 100.0
"""Incomes and money are of this size: a network works on numbers around 1."""


def network(seed: int = 0):
    return eqx.nn.MLP(2, "scalar", 8, 1, activation=jnp.tanh, key=jax.random.key(seed))


@functools.cache
def learned() -> tuple[Packed, Model]:
    """Model SIMEX whose households decide on their consumption by a network."""
    spending = Packed(network())

    class Params(gl06simex.Params):
        consumption: Vector = spending.param(symbol="w")

    def step(prior, params, scenario):
        decide = spending.unpack(params.consumption)
        seen = jnp.stack([prior.disposable_income, prior.household_money_stock])
        return gl06simex.period(prior, params, scenario, SCALE * decide(seen / SCALE))

    model = Model(
        "LEARNED", Params, gl06simex.Scenario, gl06simex.State, gl06simex.initial_state, step
    )
    return spending, model


def economies(seed: int, runs: int, periods: int):
    """Scenarios and starts of several economies: of one alone, H = YD in every period, and the two
    propensities to consume could not be told apart."""
    rng = np.random.default_rng(seed)
    demand = np.repeat(rng.uniform(5, 35, (runs, periods // 4)), 4, axis=1)
    scenario = GL06SIMEX.scenario(periods=periods).replace(government_demand=demand)
    income, money = rng.uniform(0, 120, (2, runs))
    start = gl06simex.State.filled(0.0)
    return scenario, start.replace(disposable_income=income, household_money_stock=money)


def test_a_network_recovers_the_consumption_function():
    spending, model = learned()
    scenario, initial = economies(0, runs=32, periods=12)
    truth = simulate(GL06SIMEX, None, scenario, initial=initial)

    @jax.jit
    def residuals(weights):
        path = simulate(model, model.params(consumption=weights), scenario, initial=initial)
        return ((path.national_income - truth.national_income) / SCALE).reshape(-1)

    start = spending.pack(network())
    slopes = jax.jit(jax.jacfwd(residuals))
    found = estimation.levenberg_marquardt(residuals, slopes, start, max_nfev=100)
    trained = spending.unpack(found.x)
    before, after = (float(jnp.sqrt(jnp.mean(residuals(w) ** 2))) for w in (start, found.x))
    assert after < 1e-3 * before and after < 5e-4

    # Over all that households met: what they spend, and the two propensities to consume.
    seen = jnp.stack(
        [truth.disposable_income.reshape(-1), truth.household_money_stock.reshape(-1)], axis=1
    )

    def spend(x):
        return SCALE * trained(x / SCALE)

    spent = jax.vmap(spend)(seen)
    known = seen @ jnp.array([0.6, 0.4])
    assert float(jnp.abs(spent - known).max()) < 0.005 * float(known.max())
    slopes = jax.vmap(jax.grad(spend))(seen)
    np.testing.assert_allclose(slopes.mean(axis=0), [0.6, 0.4], atol=0.01)

    # An economy that it has not seen.
    scenario, initial = economies(1, runs=4, periods=40)
    params = model.params(consumption=trained)
    path = simulate(model, params, scenario, initial=initial).national_income
    expected = simulate(GL06SIMEX, None, scenario, initial=initial).national_income
    np.testing.assert_allclose(path, expected, rtol=0.01)


def test_gradients_by_the_pytree_are_those_by_the_vector():
    spending, model = learned()
    weights, rest = eqx.partition(network(3), eqx.is_inexact_array)

    def loss(consumption):
        path = simulate(model, model.params(consumption=consumption), periods=10)
        return jnp.sum(path.national_income**2)

    @jax.jit
    def by_tree(weights):
        return jax.grad(lambda weights: loss(eqx.combine(weights, rest)))(weights)

    vector = spending.pack(network(3))
    by_vector = jax.grad(loss)(vector)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(by_tree(weights))])
    np.testing.assert_allclose(flat, by_vector, rtol=1e-12)
    direction = np.random.default_rng(0).normal(size=spending.size)
    step = 1e-6
    slope = (loss(vector + step * direction) - loss(vector - step * direction)) / (2 * step)
    # Central differences: rounding of 1e-16 * loss / step, and step^2 of curvature.
    assert float(by_vector @ direction) == pytest.approx(float(slope), rel=1e-6)


def test_the_library_knows_the_weights_as_parameters():
    spending, model = learned()
    assert len(spending.labels) == spending.size == 2 * 8 + 8 + 8 + 1
    params = model.params()
    np.testing.assert_array_equal(params.consumption, spending.pack(network()))
    J = diff.jacobian(model, "national_income", wrt="consumption", periods=5)
    assert J["consumption"].shape == (5, 33)
    assert "consumption[layers[0].weight[1,0]]" in J.columns()
    assert diff.check(model, "national_income", periods=5).passed
    path = simulate(model, params)
    gap = np.asarray(path.household_money_stock - path.government_money_stock)
    assert np.abs(gap).max() < 1e-10  # the accounts hold whatever households decide


def test_ensembles_are_batches_and_sweeps():
    spending, model = learned()
    networks = [network(seed) for seed in range(3)]
    vectors = jnp.stack([spending.pack(one) for one in networks])
    batch = simulate(model, model.params(consumption=vectors), periods=6).national_income
    for i, one in enumerate(networks):
        alone = simulate(model, model.params(consumption=one), periods=6).national_income
        np.testing.assert_allclose(batch[:, i], alone, rtol=1e-13)

    @eqx.filter_vmap
    def ensemble(one):
        return simulate(model, model.params(consumption=one), periods=6).national_income

    stacked = eqx.filter_vmap(network_of)(jax.random.split(jax.random.key(5), 3))
    assert ensemble(stacked).shape == (3, 6)
    packed = spending.pack(stacked)
    assert packed.shape == (3, 33)
    np.testing.assert_allclose(
        simulate(model, model.params(consumption=packed), periods=6).national_income.T,
        ensemble(stacked),
        rtol=1e-13,
    )
    found = sample.sweep(model, model.params(consumption=vectors), periods=6)
    np.testing.assert_allclose(found.values.national_income, batch, rtol=1e-13)
    design = sample.sobol(model, 4, {"consumption[2]": (-1.0, 1.0)})
    assert sample.sweep(model, design, periods=3).values.national_income.shape == (3, 4)


def network_of(key):
    return eqx.nn.MLP(2, "scalar", 8, 1, activation=jnp.tanh, key=key)


def test_packing_and_unpacking_are_inverse():
    tree = {
        "count": np.array([3, 4]),
        "name": "rule",
        "w": np.arange(6.0).reshape(2, 3),
        "b": jnp.float32(7.0),
    }
    packed = Packed(tree)
    assert packed.size == 7 and packed.labels[:2] == ("['b']", "['w'][0,0]")
    vector = packed.pack(tree)
    again = packed.unpack(vector * 2.0)
    np.testing.assert_array_equal(again["w"], 2 * tree["w"])
    assert again["name"] == "rule" and again["count"] is tree["count"]
    many = packed.unpack(jnp.ones((5, 7)))
    assert many["w"].shape == (5, 2, 3) and many["b"].shape == (5,)
    assert packed.pack(vector) is vector
    pair = [jnp.asarray(1.0), jnp.asarray(2.0)]  # as many numbers as weights, traced
    slopes = jax.grad(lambda tree: Packed(pair).pack(tree) @ jnp.asarray([3.0, 4.0]))(pair)
    assert slopes == [3.0, 4.0]
    assert packed.unpack(vector.astype(jnp.float32))["w"].dtype == jnp.float32


def test_what_cannot_be_packed():
    with pytest.raises(ValueError, match="dict: there is no array of real numbers"):
        Packed({"a": 1.0, "n": np.array([1, 2])})
    with pytest.raises(TypeError, match="not complex"):
        Packed({"a": np.ones(2) * 1j})
    packed = Packed({"a": np.ones(2), "b": np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"another structure.*\n.*declared.*\n.*given"):
        packed.pack({"a": np.ones(2)})
    with pytest.raises(ValueError, match=r"\['b'\] has the shape \(3,\), declared is \(2, 2\)"):
        packed.pack({"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(ValueError, match=r"There are 6 weights, not \(5,\)"):
        packed.unpack(np.ones(5))
    spending, model = learned()
    with pytest.raises(ValueError, match="another structure"):
        model.params(consumption=eqx.nn.MLP(2, "scalar", 4, 2, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="must be finite"):
        model.params(consumption=np.full(spending.size, np.nan))
