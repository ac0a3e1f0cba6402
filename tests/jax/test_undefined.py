"""A path that becomes NaN is explained: by period and equation."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import example, keyed

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    exogenous,
    index,
    models,
    param,
    simulate,
    undefined,
)

RUNS = 200


class Params(Record):
    share: Scalar = param(0.5, symbol="a", unit=".")


class Scenario(Record):
    price: Scalar = exogenous(2.0, symbol="p", unit="USD")


class State(Record):
    spending: Scalar = index("c", "a + c_{-1} / 2", unit="USD")
    quantity: Scalar = index("q", r"\frac{c - c}{p}", unit="units")
    average: Scalar = index("m", r"\frac{q + q_{-1}}{2}", unit="units")
    limit: Scalar = index("l", r"\infty", unit="units")


def step(prior, params, scenario):
    spending = params.share + prior.spending / 2
    quantity = (spending - spending) / scenario.price
    average = (quantity + prior.quantity) / 2
    return State(spending=spending, quantity=quantity, average=average, limit=jnp.asarray(jnp.inf))


DIVIDED = Model("DIVIDED", Params, Scenario, State, lambda p, x: State.filled(0.0), step, periods=6)


def test_the_first_equation_and_period_are_named():
    path = simulate(DIVIDED, scenario=DIVIDED.scenario(price=0.0, start=3))
    (origin,) = undefined(DIVIDED, path)
    assert (origin.run, origin.period, origin.variables) == (None, 3, ("quantity",))
    assert str(origin) == (
        r"DIVIDED, period 3: undefined or infinite by quantity = \frac{c - c}{p}"
    )
    assert undefined(DIVIDED, simulate(DIVIDED)) == []


def test_what_it_needs_is_said():
    sim = models.GL06SIM
    for path in (simulate(sim, periods=3)[-1], simulate(sim, record=["tax_supply"], periods=3)):
        with pytest.raises(
            ValueError, match=r"GL06SIM: where a NaN began is seen from the whole path"
        ):
            undefined(sim, path)
    with pytest.raises(TypeError, match=r"GL06SIM expects State, not .*Params"):
        undefined(sim, sim.params())


def test_each_run_of_a_batch():
    prices = np.full((3, 6), 2.0)
    prices[1, 4:] = 0.0
    path = simulate(DIVIDED, scenario=Scenario(price=jnp.asarray(prices)))
    (origin,) = undefined(DIVIDED, path)
    assert (origin.run, origin.period) == (1, 4)


def anywhere(model, seed):
    """Parameters anywhere within their bounds; where there are none to speak of, up to twice the default."""
    rng = np.random.default_rng(seed)
    values = {}
    for key, field in model.Params.fields.items():
        low, high = field.bounds
        default = np.broadcast_to(field.default, field.shape)
        if not (np.isfinite(low) and np.isfinite(high) and high - low < 1e6):
            low, high = np.minimum(0, 2 * default), np.maximum(0, 2 * default)
        values[key] = rng.uniform(low, high, (RUNS, *field.shape))
    # Not through `params`: drawn one by one, the parameters that add up may leave their bounds.
    return model.constrain(model.Params(**jax.tree.map(jnp.asarray, values)))


@pytest.mark.parametrize("name", models.names())
def test_everything_that_is_not_finite_within_the_bounds_is_explained(name):
    model = example(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of runs without a solution
        path = simulate(model, anywhere(model, 4), **keyed(model))
    origins = {origin.run: origin for origin in undefined(model, path)}
    leaves = {key: np.asarray(getattr(path, key)) for key in model.State.fields}
    for run in range(RUNS):
        values = {key: leaf[:, run].reshape(len(leaf), -1) for key, leaf in leaves.items()}
        assert (run in origins) == any(np.isnan(v).any() for v in values.values())
        if run in origins:
            origin = origins[run]
            assert origin.variables and all(origin.equations)
            for key in origin.variables:
                assert not np.all(np.isfinite(values[key][origin.period]))
            for value in values.values():  # until then everything was finite, or no limit
                before = value[: origin.period]
                assert np.all(np.isfinite(before) | np.isinf(before))
                assert not np.isnan(before).any()
