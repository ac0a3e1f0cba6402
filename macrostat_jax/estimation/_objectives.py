"""What a search minimises, with its derivatives: as traced code, and as programs."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._problem import Problem
from ._programs import _moved, placed, prior_density, weighted


class Task(NamedTuple):
    """What the programs of a fit are specialised to."""

    problem: Problem
    priors: bool
    method: str = ""
    steps: int = 0
    tolerance: float = 0.0


def rows(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    """The residuals, and those of the priors if they count: half their squares are minimised; traced."""
    moved, values, _ = _moved(task.problem, u, inputs)
    return _with_priors(task, weighted(task.problem, moved, scales), values)


def rows_of_values(task: Task, values: Any, inputs: Any, scales: Any) -> Any:
    """The same as a function of the parameters in their own units, (k,), at bounds too; traced."""
    return _with_priors(
        task, weighted(task.problem, placed(task.problem, inputs, values), scales), values
    )


def _with_priors(task: Task, residuals: Any, values: Any) -> Any:
    priors = task.problem.priors
    if not task.priors or not priors:
        return residuals
    at = {name: i for i, name in enumerate(task.problem.names)}
    more = [prior.residual(values[at[name]]) for name, prior in priors.items()]
    return jnp.concatenate([residuals, jnp.stack(more)])


def objective(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    """Half the sum of squared residuals, less the log density of the priors if they count; traced."""
    moved, values, _ = _moved(task.problem, u, inputs)
    cost = (weighted(task.problem, moved, scales) ** 2).sum() / 2
    return cost - prior_density(task.problem, values) if task.priors else cost


_program = functools.partial(jax.jit, static_argnums=0)
"""Of a function (task, u or values, inputs, scales)."""

row_program = _program(rows)
row_jacobian = _program(jax.jacfwd(rows, argnums=1))
value_rows = _program(rows_of_values)
value_jacobian = _program(jax.jacfwd(rows_of_values, argnums=1))
with_gradient = _program(jax.value_and_grad(objective, argnums=1))
hessian = _program(jax.hessian(objective, argnums=1))


@_program
def many(task: Task, u: Any, inputs: Any, scales: Any) -> Any:
    """The objective of each of n points, (n, k) -> (n,)."""
    return jax.vmap(lambda x: objective(task, x, inputs, scales))(u)
