"""Do derivatives computed in different ways agree? One judgement for the JAX and the torch side.

Two derivatives a and n of one parameter agree if, in every element,

    |a - n| <= atol + rtol max(|a|, |n|) + e + r,

where e is the finite difference's own error estimate and r = 32 eps max|a| over the parameter's elements
is what accumulated rounding may leave in an element much smaller than its neighbours. Where e exceeds
1e-2 of the parameter's largest derivative the finite difference decides nothing: `inconclusive`, which
is not a pass. A NaN or an infinity anywhere fails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

INCONCLUSIVE = 1e-2
VERDICTS = ("agrees", "disagrees", "inconclusive", "non-finite")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One parameter's derivative, twice."""

    name: str
    verdict: str
    max_abs_diff: float
    rel_err: float
    error_estimate: float
    largest: float


def compare(
    name: str,
    a: np.ndarray,
    n: np.ndarray,
    e: np.ndarray | None,
    rtol: float,
    atol: float,
    eps: float,
) -> Comparison:
    """Judges one parameter: `a` and `n` of one shape, `e` the error estimate of `n` or None.

    Raises:
        ValueError: shapes that differ.
    """
    a, n = np.asarray(a, float), np.asarray(n, float)
    if a.shape != n.shape:
        raise ValueError(f"The derivatives by {name!r} have the shapes {a.shape} and {n.shape}.")
    errors = np.zeros_like(n) if e is None else np.asarray(e, float)
    if a.size == 0:
        return Comparison(name, "agrees", 0.0, 0.0, 0.0, 0.0)
    if not (np.isfinite(a).all() and np.isfinite(n).all()):
        return Comparison(name, "non-finite", np.nan, np.nan, float(np.max(errors)), np.nan)
    difference, size = np.abs(a - n), np.maximum(np.abs(a), np.abs(n))
    largest, estimate = float(size.max()), float(np.max(errors))
    allowed = atol + rtol * size + errors + 32 * eps * largest
    verdict = "agrees" if np.all(difference <= allowed) else "disagrees"
    # A NaN estimate compares false: `not <=` makes it inconclusive rather than a pass.
    if e is not None and not estimate <= max(INCONCLUSIVE * largest, atol):
        verdict = "inconclusive"
    biggest = float(difference.max())
    relative = biggest / largest if largest > 0 else 0.0
    return Comparison(name, verdict, biggest, relative, estimate, largest)


def compare_all(
    a: Mapping[str, np.ndarray],
    n: Mapping[str, np.ndarray],
    e: Mapping[str, np.ndarray] | None,
    rtol: float,
    atol: float,
    eps: float,
) -> dict[str, Comparison]:
    """Judges every parameter that both sides have; the caller accounts for the others."""
    shared = [name for name in a if name in n]
    return {
        name: compare(name, a[name], n[name], None if e is None else e[name], rtol, atol, eps)
        for name in shared
    }
