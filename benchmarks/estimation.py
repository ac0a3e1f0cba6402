"""`LevenbergMarquardt` with a torch loss, side by side with the published package on the same machine.

    python benchmarks/estimation.py [MODEL ...]

Every free parameter starts 10 % below the value that made the data; the fit sees income and household
money over 58 periods. Both sides run the same script with the default options. Warm: a whole `optimize()`,
repeated from the same start; first: the first one in its process, compile included (from the cache on
disk, once that is filled).

The published package does not stop when steps are rejected, so it needs `max_nfev`: it gets 100 simulations,
as in its own demonstration, and ours the default of 1000. Its time up to its last accepted step is shown
too, as if it had known when to stop.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from _harness import (
    Interpreter,
    Report,
    Row,
    Variant,
    check_packages,
    interleave,
    interpreter,
    options,
    peer_interpreter,
    run_worker,
    variants,
    versus,
)

WORKER = "_estimation_worker.py"
MODELS = ("GL06SIM", "GL06PC")
PEER_LIMIT = 100
"""The peer's `max_nfev`."""
REQUIRED = 20
"""How many times faster than the published package, at least."""


def rows(model: str, peer: Interpreter, ours: list[Variant], given: Any) -> list[Row]:
    share = WORKER, model, given.budget
    jobs = {"peer": partial(run_worker, peer, peer.environment(), *share, PEER_LIMIT)}
    for one in ours:
        jobs[one.label] = partial(run_worker, one.python, one.environment(), *share)
    found = interleave(jobs, given.processes)
    check_packages(found)
    table = []
    for one in ours:
        pair = found["peer"], found[one.label]
        label = f"[{one.label}]"
        table += [
            versus(f"optimize, warm {label}", *pair, ("warm", "warm"), REQUIRED),
            versus(f"optimize, first {label}", *pair, ("first", "first")),
            versus(
                f"optimize, peer until its last accepted step {label}", *pair, ("useful", "warm")
            ),
        ]
        table += [_outcome(label, *pair), _error(label, *pair)]
    return table


def _outcome(label: str, peer: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Row:
    """Did it end with success, after how many trial steps?"""

    def said(results: list[dict[str, Any]]) -> str:
        one = results[0]
        return f"{'converged' if one['success'] else 'not converged'}, {one['nit']} steps"

    shown = {"peer": said(peer), "ours": said(ours)}
    worst = min(float(one["success"]) for one in ours)
    return Row(f"success {label}", shown, worst, ("==", 1))


def _error(label: str, peer: list[dict[str, Any]], ours: list[dict[str, Any]]) -> Row:
    """Fast and wrong would be no comparison: how far each fit is from the data, which are float32."""
    theirs, mine = (max(one["misfit"] for one in side) for side in (peer, ours))
    shown = {"peer": f"{theirs:.1e}", "ours": f"{mine:.1e}"}
    return Row(f"largest misfit, relative {label}", shown, mine, ("<=", 1e-5))


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    given = parser.parse_args()
    peer = peer_interpreter(given.peer)
    python = interpreter(sys.executable)
    report = Report("Levenberg-Marquardt against the published package", [peer, python])
    for model in given.models or MODELS:
        report.section(
            f"{model}: median over {given.processes} processes (and their extremes)",
            rows(model, peer, variants([python]), given),
        )
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
