"""Do derivatives computed in different ways agree? One judgement for the JAX and the torch side.

Two derivatives a and n of one parameter agree if, in every element,

    |a - n| <= atol + rtol max(|a|, |n|) + e + r + f,

where e is the finite difference's own error estimate and r = 32 eps max|a| over the parameter's elements
is what accumulated rounding may leave in an element much smaller than its neighbours. f is the least that
matters: a derivative by which the parameter's whole value would change the output by a billionth of its
size (`IMMATERIAL`). Where e exceeds 1e-2 of the parameter's largest derivative, and f, the finite
difference decides nothing: `inconclusive`, which is not a pass. A NaN or an infinity anywhere fails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

INCONCLUSIVE = 1e-2
IMMATERIAL = 1e-9
"""Runs of a hundred periods round off some 1e-12 of their variables, and of those from which these are
subtracted; a step of a thousandth makes 1e-9 of it in an elasticity that is zero."""
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
    kink: float = 0.0


def compare(
    name: str,
    a: np.ndarray,
    n: np.ndarray,
    e: np.ndarray | None,
    rtol: float,
    atol: float,
    eps: float,
    kink: np.ndarray | None = None,
    floor: np.ndarray | None = None,
) -> Comparison:
    """Judges one parameter: `a` and `n` of one shape, `e` the error estimate of `n` or None.

    `kink` is how far the derivatives to the left and to the right are apart. Where that exceeds the
    tolerance there is no derivative to agree on: `inconclusive`. `floor` is f.

    Raises:
        ValueError: shapes that differ.
    """
    a, n = np.asarray(a, float), np.asarray(n, float)
    if a.shape != n.shape:
        raise ValueError(f"The derivatives by {name!r} have the shapes {a.shape} and {n.shape}.")
    errors = np.zeros_like(n) if e is None else np.asarray(e, float)
    least = np.zeros_like(n) if floor is None else np.asarray(floor, float)
    if a.size == 0:
        return Comparison(name, "agrees", 0.0, 0.0, 0.0, 0.0)
    if not (np.isfinite(a).all() and np.isfinite(n).all()):
        return Comparison(name, "non-finite", np.nan, np.nan, float(np.max(errors)), np.nan)
    # Zero by both: the runs do not depend on the parameter, and rounding is no question.
    errors = np.where((a == 0) & (n == 0), 0.0, errors)
    difference, size = np.abs(a - n), np.maximum(np.abs(a), np.abs(n))
    largest, estimate = float(size.max()), float(np.max(errors))
    allowed = atol + rtol * size + errors + 32 * eps * largest + least
    verdict = "agrees" if np.all(difference <= allowed) else "disagrees"
    # A NaN estimate compares false: `not <=` makes it inconclusive rather than a pass.
    if e is not None and not np.all(errors <= np.maximum(max(INCONCLUSIVE * largest, atol), least)):
        verdict = "inconclusive"
    gap = 0.0
    if kink is not None:
        seen = ~(kink <= atol + rtol * largest + errors + least)
        gap = float(np.max(kink, where=seen, initial=0.0))
        verdict = "inconclusive" if verdict == "agrees" and seen.any() else verdict
    biggest = float(difference.max())
    relative = biggest / largest if largest > 0 else 0.0
    return Comparison(name, verdict, biggest, relative, estimate, largest, gap)


def compare_all(
    a: Mapping[str, np.ndarray],
    n: Mapping[str, np.ndarray],
    e: Mapping[str, np.ndarray] | None,
    rtol: float,
    atol: float,
    eps: float,
    kinks: Mapping[str, np.ndarray] | None = None,
    floors: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Comparison]:
    """Judges every parameter that both sides have; the caller accounts for the others."""
    shared = [name for name in a if name in n]

    def of(table: Mapping[str, np.ndarray] | None, name: str) -> np.ndarray | None:
        return None if table is None else table[name]

    return {
        name: compare(
            name,
            a[name],
            n[name],
            of(e, name),
            rtol,
            atol,
            eps,
            of(kinks, name),
            of(floors, name),
        )
        for name in shared
    }
