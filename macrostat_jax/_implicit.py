"""Derivatives of what an equation defines, with a bound of the error that its solver leaves in them.

Where g(x, θ) = 0 defines x, its derivative solves g_x dx/dθ = -g_θ. At an x that misses the solution the
derivative is off too: the tolerance of the solver enters it. How far is found by Newton's method: x + d is
closer, and what the derivative changes between x and x + d, summed over the steps that would follow (each at
most q times the one before: a geometric series), is the error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Equation = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""x (n,) -> g (n,), g_x (n, n), g_θ (n, m)."""


def derivative(
    equation: Equation,
    x: np.ndarray,
    eps: float,
    given: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """dx/dθ (n, m) at an approximate solution x (n,), and bounds of its errors: infinite where Newton's
    method does not contract. `eps` is the unit round-off of the equation's values; `given`, the equation
    at x, where it is known.

    Raises:
        numpy.linalg.LinAlgError: g_x is singular.
    """
    sizes = np.maximum(1, np.abs(x))
    value, by_x, by_inputs = equation(x) if given is None else given
    slopes = np.linalg.solve(by_x, -by_inputs)
    move = np.linalg.solve(by_x, -value)
    closer, by_x_closer, by_inputs_closer = equation(x + move)
    further = np.linalg.solve(by_x_closer, -closer)
    first, second = (float(np.max(np.abs(d) / sizes, initial=0.0)) for d in (move, further))
    inverse = np.abs(np.linalg.inv(by_x))
    # Where Newton's steps are as small as rounding makes them, they shrink no further.
    noise = float(np.max(inverse @ (8 * eps * sizes) / sizes, initial=0.0))
    q = second / first if first > noise else 0.0
    change = np.abs(np.linalg.solve(by_x_closer, -by_inputs_closer) - slopes)
    errors = 2 * change / (1 - q) if q < 0.3 else np.full_like(change, np.inf)
    # Rounding of the Jacobians and of the solve.
    size = np.abs(by_x) @ np.abs(slopes) + np.abs(by_inputs)
    return slopes, errors + 4 * eps * inverse @ size
