"""One process of the agent-based model: a simulation, its gradient, and the parts it is made of.

Usage: _agents_worker.py million|batch JSON-OPTIONS
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
from _timing import answer, lap_together

from macrostat_jax import models, run_keys, simulate

OBSERVED = ("unemployment", "inflation", "wage_share", "income_gini", "wealth_gini", "vacancies")


def observed(model: Any, params: Any, key: Any, periods: int, **options: Any) -> Any:
    """The aggregates that a calibration would look at."""
    path = simulate(model, params, key=key, periods=periods, record=OBSERVED, **options)
    return jnp.stack([getattr(path, name) for name in OBSERVED])


def waited(function: Any, *args: Any) -> Any:
    compiled = jax.jit(function).lower(*args).compile()
    return lambda: jax.block_until_ready(compiled(*args))


def over_periods(body: Any, start: Any, periods: int) -> Any:
    """A part by itself, in a scan as the model is: `body(carry, period) -> carry`."""

    def run(start: Any) -> Any:
        return jax.lax.scan(lambda carry, t: (body(carry, t), None), start, jnp.arange(periods))[0]

    return waited(run, start)


def million(households: int, firms: int, periods: int, budget: float) -> dict[str, float]:
    model = models.TwoMarketsABM.resize(household=households, firm=firms)
    params = jax.tree.map(jnp.asarray, model.params())
    key = jax.random.key(0)
    dtype = jnp.zeros(()).dtype

    def mean(params: Any) -> Any:
        return jnp.mean(observed(model, params, key, periods))

    where = jax.random.randint(key, (households,), 0, firms, jnp.int32)
    by_household, by_firm = jnp.ones(households), jnp.ones(firms)

    def draw(carry: Any, t: Any) -> Any:
        drawn = model.draw(jax.random.fold_in(key, t), dtype)
        return jax.tree.map(jnp.maximum, carry, drawn)

    def gather(carry: Any, t: Any) -> Any:
        """Which firm changes with the period, so that no result is kept from one to the next."""
        place, values, total = carry
        found = values.at[place].get(mode="promise_in_bounds")
        return place, values + t, jnp.maximum(total, found)

    def segment_sum(carry: Any, t: Any) -> Any:
        place, values, total = carry
        sums = jax.ops.segment_sum(values + t, place, firms, mode="promise_in_bounds")
        return place, values, jnp.maximum(total, sums)

    def traffic(carry: Any, t: Any) -> Any:
        """Once over every variable of the households: read, and written."""
        return jax.tree.map(lambda x: x + t.astype(x.dtype), carry)

    fields = model.State.fields.values()
    vectors = [field.key for field in fields if field.shape == (households,)]
    whole = ("employer", "shop")
    state = {k: where if k in whole else by_household for k in vectors}
    noise = model.draw(key, dtype)
    calls = {
        "simulate": waited(lambda params: observed(model, params, key, periods), params),
        "gradient": waited(jax.grad(mean), params),
        "draws": over_periods(draw, noise, periods),
        "gather": over_periods(gather, (where, by_firm, by_household), periods),
        "segment sum": over_periods(segment_sum, (where, by_household, by_firm), periods),
        "traffic": over_periods(traffic, state, periods),
    }
    return lap_together(calls, budget, turns=3)


def batch(households: int, firms: int, periods: int, runs: int, budget: float) -> dict[str, float]:
    """Seconds per run: of a batch, and one by one; by `simulate` and in the user's own `jax.jit`."""
    model = models.TwoMarketsABM.resize(household=households, firm=firms)
    params = jax.tree.map(jnp.asarray, model.params())
    keys = run_keys(0, runs)

    def call(keys: Any) -> Any:
        return lambda: jax.block_until_ready(
            simulate(model, params, key=keys, periods=periods, record=OBSERVED)
        )

    found = lap_together(
        {
            "batch": call(keys),
            "alone": call(keys[0]),
            "batch, jitted": waited(lambda keys: observed(model, params, keys, periods), keys),
            "alone, jitted": waited(lambda key: observed(model, params, key, periods), keys[0]),
        },
        budget,
    )
    return {name: t / runs if "batch" in name else t for name, t in found.items()}


if __name__ == "__main__":
    task, given = sys.argv[1], json.loads(sys.argv[2])
    answer({"million": million, "batch": batch}[task](**given))
