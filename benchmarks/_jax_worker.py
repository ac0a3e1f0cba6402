"""One process of JAX-native use: the user's own `jax.jit` around `simulate`. No torch in here.

Usage: _jax_worker.py native|loss|costs|horizon|memory|batch JSON-OPTIONS
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from _synthetic import declare
from _timing import answer, lap_together
from jax.flatten_util import ravel_pytree

from macrostat_jax import Model, models, simulate

SYNTHETIC = "SYNTHETIC82"


def get(name: str) -> Model:
    return declare() if name == SYNTHETIC else models.get(name)


def squares(path: Any) -> jax.Array:
    """The loss that the torch side computes, of every variable in every period."""
    return sum((jnp.nan_to_num(v) ** 2).sum() for v in jax.tree.leaves(path)) / 1e3  # pyright: ignore


def arrays(record: Any) -> Any:
    return jax.tree.map(jnp.asarray, record)


def called(function: Any, *args: Any) -> Any:
    """A call whose result is waited for."""
    return lambda: jax.block_until_ready(function(*args))


def native(model: str, budget: float) -> dict[str, float]:
    """A gradient, and the Jacobian of the income path, of the user's own jitted functions."""
    definition = get(model)
    params = arrays(definition.params())

    @jax.jit
    def path(params: Any) -> Any:
        return simulate(definition, params)

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> Any:
        return squares(simulate(definition, params))

    @jax.jit
    @jax.jacfwd
    def jacobian(params: Any) -> Any:
        return simulate(definition, params).national_income

    calls = {
        "nothing": called(jax.jit(lambda params: params), params),
        "simulate": called(path, params),
        "gradient": called(gradient, params),
        "jacobian": called(jacobian, params),
    }
    return lap_together(calls, budget)


def loss(model: str, budget: float) -> dict[str, float]:
    """The derivatives of one loss of all variables, in both modes, of the user's own jitted functions."""
    definition = get(model)
    params = arrays(definition.params())

    def total(params: Any) -> Any:
        return squares(simulate(definition, params))

    calls = {
        "gradient": called(jax.jit(jax.grad(total)), params),
        "forward": called(jax.jit(jax.jacfwd(total)), params),
    }
    return lap_together(calls, budget, turns=3)


def costs(model: str, budget: float, periods: int) -> dict[str, float]:
    """What derivatives cost in simulations of the same model, from and to arrays of the same form.

    The whole Jacobian is one array (T, variables, parameters): as a record of records it would be one
    array per variable and parameter, and handing those over would take longer than computing them.
    """
    definition = get(model)
    params = arrays(definition.params())
    vector, unravel = ravel_pytree(params)

    def path(params: Any) -> Any:
        return simulate(definition, params, periods=periods)

    def loss(params: Any) -> jax.Array:
        return squares(path(params))

    def matrix(vector: Any) -> jax.Array:
        leaves = jax.tree.leaves(path(unravel(vector)))
        return jnp.concatenate([leaf.reshape(periods, -1) for leaf in leaves], axis=1)

    calls = {
        "simulate": called(jax.jit(path), params),
        "loss": called(jax.jit(loss), params),
        "gradient": called(jax.jit(jax.grad(loss)), params),
        "matrix": called(jax.jit(matrix), vector),
        "jacobian": called(jax.jit(jax.jacfwd(matrix)), vector),
    }
    figures = lap_together(calls, budget)
    figures["parameters"] = vector.size
    return figures


def _paths(definition: Model, periods: int) -> tuple[Any, Any]:
    """Parameters and scenario as arguments, so that no path is a constant of the program."""
    return arrays(definition.params()), arrays(definition.scenario(periods=periods))


def horizon(model: str, budget: float, periods: int) -> dict[str, float]:
    """A simulation and a gradient over a path of `periods` rows."""
    definition = get(model)
    params, scenario = _paths(definition, periods)

    @jax.jit
    @jax.grad
    def gradient(params: Any, scenario: Any) -> Any:
        return squares(simulate(definition, params, scenario))

    path = jax.jit(lambda params, scenario: simulate(definition, params, scenario))
    calls = {
        "simulate": called(path, params, scenario),
        "gradient": called(gradient, params, scenario),
    }
    return lap_together(calls, budget, turns=3)


def memory(model: str, budget: float, horizons: list[int]) -> dict[str, Any]:
    """Bytes that reverse mode holds beside its inputs and outputs, by XLA's account."""
    definition = get(model)

    def pullback(params: Any, scenario: Any, weights: Any, *, checkpoint: bool) -> Any:
        def path(params: Any) -> Any:
            return simulate(definition, params, scenario, checkpoint=checkpoint)

        outputs, pull = jax.vjp(path, params)
        return outputs, pull(weights)

    found: dict[str, Any] = {}
    for name, checkpoint in (("plain", False), ("checkpoint", True)):
        found[name] = []
        for periods in horizons:
            params, scenario = _paths(definition, periods)
            weights = jax.eval_shape(partial(simulate, definition), params, scenario)
            program = jax.jit(partial(pullback, checkpoint=checkpoint))
            compiled = program.lower(params, scenario, weights).compile()
            analysis: Any = compiled.memory_analysis()
            found[name].append(analysis.temp_size_in_bytes)
    return found


def batch(model: str, budget: float, size: int) -> dict[str, float]:
    """`size` simulations, and as many gradients, in one call; parameters differ from run to run."""
    definition = get(model)
    spread = 1 + 1e-3 * jnp.linspace(-1, 1, size)
    params = jax.tree.map(lambda value: value * spread, arrays(definition.params()))

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> Any:
        return squares(simulate(definition, params))

    calls = {
        "simulate": called(jax.jit(lambda params: simulate(definition, params)), params),
        "gradient": called(gradient, params),
    }
    return lap_together(calls, budget, turns=3)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    task, given = sys.argv[1], json.loads(sys.argv[2])
    tasks = {
        "native": native,
        "loss": loss,
        "costs": costs,
        "horizon": horizon,
        "memory": memory,
        "batch": batch,
    }
    answer({"platform": jax.default_backend(), **tasks[task](**given)})
