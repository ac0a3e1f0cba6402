"""Runs as few people start them: across devices, with other generators, forked, from whole numbers."""

from __future__ import annotations

from typing import Any

import forks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from macrostat_jax import Model, Record, Scalar, index, param, simulate
from macrostat_jax.models import GL06PC, NK3E, RandomWalk


@pytest.mark.parametrize("model", [GL06PC, NK3E, RandomWalk])
def test_runs_are_mapped_over_devices(model):
    """Within `shard_map`, what depends on a mapped parameter is of another type than what does not."""
    mesh = jax.make_mesh((1,), ("runs",), axis_types=(AxisType.Auto,))
    name = next(iter(model.Params.fields))
    rates = getattr(model.params(), name) * jnp.array([1.0, 0.99])
    key = jax.random.key(0) if model.random else None

    def loss(rate: Any) -> Any:
        path = simulate(model, model.params(**{name: rate}), key=key, periods=4)
        return sum(jnp.mean(getattr(path, key)) for key in model.real)

    both = jax.vmap(jax.value_and_grad(loss))
    mapped = jax.shard_map(
        both, mesh=mesh, in_specs=PartitionSpec("runs"), out_specs=PartitionSpec("runs")
    )
    for found, expected in zip(jax.jit(mapped)(rates), both(rates), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


class Count(Record):
    periods: Any = index("n", "n_{-1} + 1")
    open: Any = index("o", r"n > 1")
    size: Any = index("x", "a n")


class Rate(Record):
    a: Scalar = param(2.0, symbol="a")


class Nothing(Record):
    pass


def counter(first: Any, flag: Any) -> Model:
    def step(prior: Any, params: Any, scenario: Any) -> Any:
        periods = prior.periods + 1
        size = params.a * jnp.arange(10.0)[periods]
        return Count(periods=periods, open=(periods > 1) | prior.open, size=size)

    def start(params: Any, scenario: Any) -> Any:
        return Count(periods=first, open=flag, size=0.0)

    return Model("COUNT", Rate, Nothing, Count, start, step, periods=3)


@pytest.mark.parametrize("first", [np.int32(0), jnp.array(0, jnp.int32), np.array(0, np.int32)])
@pytest.mark.parametrize("flag", [False, np.bool_(False), jnp.array(False)])
def test_whole_numbers_and_flags_start_as_they_are_written(first, flag):
    model = counter(first, flag)
    path = simulate(model)
    np.testing.assert_array_equal(path.periods, [1, 2, 3])
    np.testing.assert_array_equal(path.open, [False, True, True])
    np.testing.assert_array_equal(path.size, [2, 4, 6])
    given = Count(periods=np.array(path.periods[-1]), open=np.array(path.open[-1]), size=6.0)
    later = simulate(model, initial=given)
    assert later.periods.dtype == jnp.int32 and later.open.dtype == bool
    np.testing.assert_array_equal(later.periods, [4, 5, 6])


def test_other_generators_draw_what_their_noise_says():
    """Of 'rbg', JAX draws other numbers for many keys at once than for each: a run does not."""
    key = jax.random.key(3, impl="rbg")
    drawn = RandomWalk.noise(key, periods=20)
    expected = simulate(RandomWalk, noise=drawn, periods=20).position
    np.testing.assert_array_equal(simulate(RandomWalk, key=key, periods=20).position, expected)
    stored = simulate(RandomWalk, key=key, periods=20, checkpoint=True).position
    np.testing.assert_array_equal(stored, expected)


def test_a_shock_has_one_name():
    shocks = {"tax_rate_add": 0.01, "TaxRate_add": 0.02}
    with pytest.raises(ValueError, match="'tax_rate_add' and 'TaxRate_add' are one shock"):
        simulate(GL06PC, shocks=shocks)


@pytest.mark.parametrize("checkpoint", [-1, 2.0, "yes"])
def test_levels_of_checkpoints_are_counted(checkpoint):
    with pytest.raises(ValueError, match="checkpoint is True, False or a number of levels"):
        simulate(GL06PC, checkpoint=checkpoint)


@forks.needed
def test_a_fork_says_so_instead_of_hanging():
    simulate(GL06PC, periods=3)
    said = forks.error_of(lambda: simulate(GL06PC, periods=3))
    assert "was forked from one that had used JAX" in said
