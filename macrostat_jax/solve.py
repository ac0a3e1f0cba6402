"""Simultaneous equations within a period, solved with the derivatives of their solution.

A step whose equations depend on each other in a circle is solved for few variables (those at which
the circle is cut open; the rest follows from them) and differentiated by the implicit function
theorem: not through the iterations, on which the derivative then neither depends nor pays for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ._implicit import derivative


def root(
    function: Callable[[Any, Any], Any],
    guess: Any,
    args: Any = None,
    *,
    rtol: float = 1e-12,
    atol: float = 1e-12,
    max_steps: int = 50,
) -> Any:
    """The y at which `function(y, args)` is zero, by Newton's method from `guess`.

    Args:
        function: `(y, args) -> residuals`, of the structure of `y`. What it depends on besides `y`
            must come in `args`, or be no traced value of an outer transformation by closure other than
            those that JAX closes over itself.
        guess: the first y: an array, or a pytree of arrays. The solution does not depend on it, nor do
            derivatives.
        args: what the equations depend on, a pytree; derivatives flow through it.
        rtol, atol: Newton's method has converged when a step is smaller than atol + rtol |y|. In float32
            both are raised to what that dtype resolves.
        max_steps: after so many steps it has failed.

    Returns:
        The solution; NaN in every place if there is none, or it was not found. A model names such
        variables in `solved`, and `simulate` then says in which period it failed.
    """
    # Imported here: only models with simultaneous equations pay for the import.
    import optimistix as optx

    resolution = 16 * max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(guess))
    solver = optx.Newton(rtol=max(rtol, resolution), atol=max(atol, resolution))
    found = optx.root_find(function, solver, guess, args, max_steps=max_steps, throw=False)
    solved = found.result == optx.RESULTS.successful
    return jax.tree.map(lambda y: jnp.where(solved, y, jnp.nan), found.value)


class Implicit(NamedTuple):
    """The derivatives of a solution, with bounds of their errors. Made by `sensitivity`.

    Attributes:
        derivatives: (n, m), of the elements of the solution by those of the arguments, both in the order
            of `jax.tree.leaves`.
        errors: (n, m), bounds of their errors: from what the solver left, and from rounding. Infinite
            where Newton's method does not contract.
        residual: the largest residual of the equations.
    """

    derivatives: np.ndarray
    errors: np.ndarray
    residual: float


def sensitivity(function: Callable[[Any, Any], Any], solution: Any, args: Any) -> Implicit:
    """How a solution of `function(y, args) = 0`, found by whatever means, moves with `args`.

    By the implicit function theorem, in dense matrices, with an error bound: that the solver stopped at
    some tolerance enters every derivative, and here it is known how far.

    Args:
        function, args: as in `root`; the args are floats or arrays of them.
        solution: y, as the solver left it.

    Returns:
        An `Implicit`.

    Raises:
        ValueError: other residuals than unknowns, or a singular system: the equations do not determine
            the solution.
    """
    x, unravel = ravel_pytree(jax.tree.map(jnp.asarray, solution))
    inputs, unravel_args = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, x.dtype), args))

    def flat(x: Any, inputs: Any) -> Any:
        return ravel_pytree(function(unravel(x), unravel_args(inputs)))[0]

    @jax.jit
    def parts(x: Any) -> Any:
        return flat(x, inputs), jax.jacfwd(flat)(x, inputs), jax.jacfwd(flat, 1)(x, inputs)

    def equation(x_now: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value, by_x, by_inputs = (np.asarray(p, float) for p in parts(jnp.asarray(x_now, x.dtype)))
        return value, by_x, by_inputs

    at = np.asarray(x, float)
    here = equation(at)
    if here[0].shape != at.shape:
        raise ValueError(f"{at.size} unknowns need as many equations, not {here[0].size}.")
    try:
        found = derivative(equation, at, float(jnp.finfo(x.dtype).eps), here)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"The equations do not determine the solution: their {at.size} by {at.size} Jacobian is "
            "singular there."
        ) from None
    return Implicit(*found, float(np.max(np.abs(here[0]))))
