"""The JAX core in a user's own compiled functions, against the published package's torch API.

    python benchmarks/jax_native.py [--python PYTHON ...]

`jax.jit(jax.grad(lambda params: loss(simulate(GL06PC, params))))` and the forward Jacobian of the path
of national income, compared with the same two derivatives by the published package: all processes, the
package's too, first bound to one core each and then free to use every core. (XLA's CPU runtime hands
parts of a program to other threads, which for a model of some tens of microseconds can take longer than
computing them; on one core it cannot.) Then what a derivative costs in simulations of the same model: a
gradient in reverse mode, and the whole Jacobian in forward mode. Everything for every Python given (each
with its own jax) beside the one that runs this.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any

from _harness import (
    Interpreter,
    Report,
    Row,
    Spread,
    Variant,
    interleave,
    interpreter,
    options,
    peer_interpreter,
    run_worker,
    seconds,
    spread,
    variants,
    versus,
)

MODEL = "GL06PC"
REQUIRED = 2000
"""Times faster than the published package: the gradient, and the Jacobian of the income path."""
COSTS = {"LINEAR2D": 4, "GL06SIM": 4, "GL06SIMEX": 4, "GL06PC": 4, "SYNTHETIC82": 5}
"""Model -> simulations that a reverse gradient may cost."""


def run(one: Variant, task: str, *, one_core: bool = False, **given: Any) -> dict[str, Any]:
    """A process of `_jax_worker.py`."""
    worker = ("_jax_worker.py", task, json.dumps(given))
    return run_worker(one.python, one.environment(), *worker, one_core=one_core)


def native_rows(peer: Interpreter, ours: list[Variant], given: Any, *, one_core: bool) -> list[Row]:
    worker = ("_torch_worker.py", "native", MODEL, given.budget)
    jobs: dict[str, Any] = {
        "peer": partial(run_worker, peer, peer.environment(), *worker, one_core=one_core)
    }
    for one in ours:
        jobs[one.label] = partial(
            run, one, "native", one_core=one_core, model=MODEL, budget=given.budget
        )
    found = interleave(jobs, given.processes)
    rows = []
    for one in ours:
        figures = {
            "gradient of a loss": ("gradient", "gradient"),
            "Jacobian of income, theirs in the faster mode": ("jacobian", "jacobian"),
            "Jacobian of income, both in forward mode": ("jacobian_fwd", "jacobian"),
        }
        for title, keys in figures.items():
            name = f"{title} [{one.label}]"
            rows.append(versus(name, found["peer"], found[one.label], keys, REQUIRED))
        plain = {key: spread(found[one.label], key) for key in ("simulate", "nothing")}
        for title, key in (("a simulation", "simulate"), ("a jitted call of nothing", "nothing")):
            rows.append(Row(f"{title} [{one.label}]", {"ours": seconds(plain[key])}))
    return rows


def cost_rows(model: str, ours: list[Variant], given: Any) -> list[Row]:
    jobs = {
        one.label: partial(
            run, one, "costs", model=model, budget=given.budget, periods=given.periods
        )
        for one in ours
    }
    found = interleave(jobs, given.processes)
    rows = []
    for label, results in found.items():
        parameters = results[0]["parameters"]
        figures = {
            "gradient in simulations": ("gradient", "simulate", COSTS[model]),
            "gradient in evaluations of the loss": ("gradient", "loss", None),
            f"Jacobian of {parameters} parameters in simulations": (
                "jacobian",
                "matrix",
                parameters + 2,
            ),
        }
        for title, (key, base, limit) in figures.items():
            # Both halves of a ratio are from one process.
            ratio = Spread.of(result[key] / result[base] for result in results)
            cells = {
                "without": seconds(spread(results, base)),
                "derivative": seconds(spread(results, key)),
                "ratio": f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})",
            }
            required = None if limit is None else ("<=", limit)
            data = {"ratio": vars(ratio), base: vars(spread(results, base))}
            rows.append(Row(f"{title} [{label}]", cells, ratio.median, required, "", data))
    return rows


def main() -> int:
    parser = options(__doc__)
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="PYTHON",
        help="further Pythons, of other jax versions",
    )
    parser.add_argument("--periods", type=int, default=100, help="horizon of the cost ratios (100)")
    parser.add_argument("--skip", choices=("peer", "costs"), help="measure only the other half")
    given = parser.parse_args()
    pythons = [interpreter(path) for path in dict.fromkeys([sys.executable, *given.python])]
    ours = variants(pythons)
    if given.skip == "peer":
        report = Report("JAX-native derivatives", pythons)
    else:
        peer = peer_interpreter(given.peer)
        report = Report("JAX-native derivatives against the published package", [peer, *pythons])
        for one_core in (True, False) if hasattr(os, "sched_setaffinity") else (False,):
            where = "each on one core" if one_core else "on all cores"
            heading = (
                f"{MODEL}: median over {given.processes} processes (and their extremes), {where}"
            )
            report.section(heading, native_rows(peer, ours, given, one_core=one_core))
    for model in COSTS if given.skip != "costs" else ():
        heading = f"{model}, T = {given.periods}: what a derivative costs in simulations"
        report.section(heading, cost_rows(model, ours, given))
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
