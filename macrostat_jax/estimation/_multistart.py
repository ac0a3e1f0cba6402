"""Fits from many starts at once: one compiled program, a chunk of starts at a time.

The solvers are optimistix's and optax's; `jax.vmap` runs them for all starts of a chunk in lockstep. A chunk
takes as long as its slowest start, so least squares run in rounds of few steps: what has not stopped after
a round goes on in the next one, together with the unfinished starts of other chunks.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._progress import progress as _progress
from ..sample import Design, chunk_size, in_chunks
from ._libraries import usual_promotion
from ._searches import SQUARED, first_length, searched
from ._starts import MultiStart, draw_starts, judge

STEPS = {"lm": 200, "dogleg": 200, "bfgs": 400, "lbfgs": 400, "adam": 2000}
"""Method -> the most steps of a start, by default."""
ROUND = {"lm": 20, "dogleg": 20, "bfgs": 50, "lbfgs": 50}
"""Method -> the steps of a round. Adam's are one round: its rate falls over all of them."""
AT_ONCE = 256
"""Starts of a chunk on a CPU, by default: larger ones wait longer for their slowest, and leave its caches."""
BOLDER = 100.0
"""By so much a new round of least squares lowers the damping with which the last one ended: optimistix does
so only where the linear model is right to 1 %, so that some starts would crawl on."""


class _Search(NamedTuple):
    """What the program of a chunk is specialised to."""

    problem: Any
    method: str
    objective: str
    tolerance: float
    steps: int
    rate: float


class Ends(NamedTuple):
    """Of n starts: where they began and ended.

    Attributes:
        cost_before, cost: (n,). slope_before, slope: (n, d), how much each value moves with the solver's
            coordinates. u: (n, k). values: (n, d). steps: (n,). stopped: (n,), whether the solver says so.
        length: (n,), of the solver's next step.
    """

    cost_before: np.ndarray
    slope_before: np.ndarray
    cost: np.ndarray
    slope: np.ndarray
    u: np.ndarray
    values: np.ndarray
    steps: np.ndarray
    stopped: np.ndarray
    length: np.ndarray


def multi_start(
    problem: Any,
    starts: int | Design | Any = 1000,
    *,
    method: str = "lm",
    objective: str = "cost",
    design: str = "latin_hypercube",
    seed: int = 0,
    steps: int | None = None,
    tolerance: float = 1e-8,
    same: float = 1e-6,
    rate: float = 0.05,
    chunk: int | None = None,
    progress: bool = False,
) -> MultiStart:
    """Fits a problem from many starts, and says which of them found the best fit.

    A start is a success if the solver stopped and its cost is that of the best start: that the solver
    stopped says nothing by itself.

    Args:
        problem: a `Problem`.
        starts: how many; a `Design` over the problem's free parameters; or the solver's coordinates,
            (n, k). A number of them is spread over the priors, or evenly between the bounds.
        method: `"lm"` (Levenberg-Marquardt) or `"dogleg"`, for least squares; `"bfgs"`, `"lbfgs"` or
            `"adam"`, which know the objective alone.
        objective: `"cost"`, half the sum of squared residuals; or `"posterior"`, minus the log of the
            posterior density in the solver's coordinates, which least squares cannot take.
        design: how a number of starts is spread: sobol, halton, latin_hypercube or random.
        seed: of that.
        steps: the most steps of a start. Default: 200 for least squares, 400 for quasi-Newton methods,
            2,000 for adam.
        tolerance: the solver stops where a step changes coordinates and cost by less, relative or
            absolute. Adam stops as its rate has fallen to zero.
        same: two costs are the same if they differ by less than this share of them, or by less than a
            thousandth of this share of the median cost at the starts, which is what counts where data
            can be met exactly.
        rate: adam's learning rate, which falls to zero over its steps along a cosine.
        chunk: starts at once. Default: up to 256 on a CPU, within `sample.CHUNK_BYTES` of paths.
        progress: show a bar on standard error.

    Returns:
        A `MultiStart`: the cost, values and outcome of every start, and what they found. Computed in
        float64 whatever JAX's default is.

    Raises:
        ValueError: an unknown method or objective, or one with the other; starts of the wrong shape or
            not finite; no start with a finite cost. ImportError: adam without the extra `calibration`.
    """
    _check(method, objective, steps, tolerance=tolerance, same=same, rate=rate)
    most = STEPS[method] if steps is None else int(steps)
    rounds = math.ceil(most / ROUND.get(method, most))
    search = _Search(problem, method, objective, float(tolerance), most // rounds, float(rate))
    with jax.enable_x64(True):
        first = draw_starts(problem, starts, design, seed)
        size = chunk_size(len(first), _start_bytes(problem), chunk)
        if chunk is None and jax.default_backend() == "cpu":
            size = min(size, AT_ONCE)
        ends = _ends(search, first, size, rounds, progress)
    return judge(problem, method, objective, first, ends, same)


def _check(method: str, objective: str, steps: Any, **positive: float) -> None:
    if method not in STEPS:
        raise ValueError(f"Unknown method: {method!r}. Use one of {', '.join(STEPS)}.")
    if objective not in ("cost", "posterior"):
        raise ValueError(f"The objective is 'cost' or 'posterior', not {objective!r}.")
    if objective == "posterior" and method in SQUARED:
        raise ValueError(
            f"{method!r} is for sums of squares: with the objective 'posterior' use bfgs, lbfgs or adam."
        )
    if steps is not None and (
        isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1
    ):
        raise ValueError(f"steps must be a whole number, at least 1, not {steps!r}.")
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, not {value!r}.")


def _start_bytes(problem: Any) -> int:
    """What a start keeps of paths: that of its point, and of their derivatives with respect to k."""
    u = jnp.asarray(problem.start)
    path = jax.eval_shape(problem.path, u)
    numbers = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(path))
    return (len(u) + 1) * numbers


def _ends(search: _Search, first: np.ndarray, size: int, rounds: int, show: bool) -> Ends:
    count = len(first)
    with _progress(count, f"{count} starts by {search.method}", show=show) as advance:
        ends, todo = None, np.arange(count)
        for _ in range(rounds):
            u, length = (first, np.zeros(count)) if ends is None else (ends.u, ends.length)
            run = functools.partial(_run, search, u, length, todo)
            # In chunks of the first size: the program of the first round serves the others.
            for start, stop, found in in_chunks(run, len(todo), size):
                ends = _filled(ends, todo[start:stop], found, count)
            assert ends is not None
            going = todo[~ends.stopped[todo] & np.isfinite(ends.cost[todo])]
            advance(len(todo) - len(going))
            todo = going
            if not len(todo):
                break
        advance(len(todo))
    assert ends is not None
    return ends


def _run(
    search: _Search, u: np.ndarray, length: np.ndarray, todo: np.ndarray, rows: np.ndarray
) -> Ends:
    with usual_promotion():
        return _compile.call(_solve, search, u[todo[rows]], length[todo[rows]])


def _filled(ends: Ends | None, rows: np.ndarray, found: Ends, count: int) -> Ends:
    """`ends` with what a chunk found in its rows; where these began is known from the first round."""
    parts = [np.asarray(part)[: len(rows)] for part in found]
    if ends is None:
        ends = Ends(*(np.zeros((count, *part.shape[1:]), part.dtype) for part in parts))
    again = ends.steps[rows] > 0
    for name, whole, part in zip(Ends._fields, ends, parts, strict=True):
        if name.endswith("_before"):
            whole[rows[~again]] = part[~again]
        elif name == "steps":
            whole[rows] += part
        else:
            whole[rows] = part
    return ends


@functools.partial(jax.jit, static_argnums=0)
def _solve(search: _Search, starts: Any, lengths: Any) -> Ends:
    problem = search.problem
    posterior = search.objective == "posterior"
    cost = (lambda u: -problem.log_density(u)) if posterior else problem.cost
    slope = jax.jacfwd(problem.values)

    def one(u: Any, length: Any) -> Ends:
        begin = cost(u)
        # A round that follows another goes on, bolder.
        length = jnp.where(length > 0, BOLDER * length, first_length(search.method, begin))
        found = searched(
            search.method, search.steps, search.tolerance, problem.residuals, cost, u,
            {"rate": search.rate}, length,
        )  # fmt: skip
        end_cost = cost(found.u) if found.cost is None else found.cost
        return Ends(
            begin, jnp.linalg.norm(slope(u), axis=1), end_cost, jnp.linalg.norm(slope(found.u), axis=1),
            found.u, problem.values(found.u), found.steps, found.stopped,
            length if found.length is None else found.length,
        )  # fmt: skip

    return jax.vmap(one)(starts, lengths)
