"""One process of derivatives of steady states. No torch in here.

Usage: _steady_worker.py MODEL PERIODS BUDGET
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _timing import answer, lap_together
from jax.flatten_util import ravel_pytree

from macrostat_jax import models, simulate, steady_state
from macrostat_jax.diff import long_run, stability

BATCH = 32


def measure(name: str, periods: int, budget: float) -> dict[str, Any]:
    """The whole table, all variables by all parameters and exogenous levels, taken in several ways."""
    model = models.get(name)
    solved = copy.copy(model)
    solved.steady_state, solved._variants = None, {}
    inputs = jax.tree.map(jnp.asarray, (model.params(), model.scenario(periods=1)[0]))
    flat, unravel = ravel_pytree(inputs)

    def end_of_a_run(flat: Any) -> Any:
        params, row = unravel(flat)
        paths = jax.tree.map(lambda level: jnp.broadcast_to(level, (periods, *level.shape)), row)
        return ravel_pytree(simulate(model, params, paths)[-1])[0]

    def at_rest(flat: Any) -> Any:
        return ravel_pytree(steady_state(model, *unravel(flat)))[0]

    spread = jnp.linspace(0.98, 1.02, BATCH)[:, None] * flat
    forward = jax.jit(jax.jacfwd(end_of_a_run))
    reverse = jax.jit(jax.jacrev(end_of_a_run))
    direct = jax.jit(jax.jacfwd(at_rest))
    forward_batch = jax.jit(jax.vmap(jax.jacfwd(end_of_a_run)))
    direct_batch = jax.jit(jax.vmap(jax.jacfwd(at_rest)))
    calls = {
        "forward": lambda: jax.block_until_ready(forward(flat)),
        "reverse": lambda: jax.block_until_ready(reverse(flat)),
        "direct": lambda: jax.block_until_ready(direct(flat)),
        "forward_batch": lambda: jax.block_until_ready(forward_batch(spread)),
        "direct_batch": lambda: jax.block_until_ready(direct_batch(spread)),
        "table": lambda: long_run(model),
        "solved": lambda: long_run(solved),
        "eigenvalues": lambda: stability(model),
    }
    figures: dict[str, Any] = lap_together(calls, budget)
    # The table sorts its columns as declared, the flat vector as JAX flattens records: the same order.
    run, table = np.asarray(forward(flat)), long_run(model).matrix
    figures["gap"] = float(np.max(np.abs(table - run)) / np.max(np.abs(run)))
    figures["of"] = f"{table.shape[0]} x {table.shape[1]}"
    return figures


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    answer(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
