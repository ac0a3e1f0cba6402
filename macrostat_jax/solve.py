"""Simultaneous equations within a period, solved with the derivatives of their solution.

A step whose equations depend on each other in a circle is solved for few variables (those at which
the circle is cut open; the rest follows from them) and differentiated by the implicit function
theorem: not through the iterations, of which the derivative then neither depends nor pays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


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
