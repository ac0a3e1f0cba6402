"""Derivatives of steady states against those of long simulations that end there.

    python benchmarks/steady.py [MODEL ...]

The same table each time: every variable by every parameter and every exogenous level. A simulation of
1,000 periods is differentiated by the user's own `jax.jit(jax.jacfwd(...))` and `jacrev` of its last state,
the faster of the two counts. Ours: `jax.jit(jax.jacfwd(...))` of `steady_state`, for one economy (where
starting a program is most of the time) and for a batch of 32; and, for what they cost, the labelled tables
with error bounds, `diff.long_run` (also without a closed form, from the end of such a run) and
`diff.stability`. Both sides must agree.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from _harness import (
    Report,
    Row,
    interleave,
    interpreter,
    options,
    run_worker,
    seconds,
    spread,
    variants,
)

WORKER = "_steady_worker.py"
MODELS = ("GL06PC", "GL06LP")
REQUIRED = 20
"""How many times faster than differentiating the simulation, at least."""
AGREEMENT = 1e-9
"""How far the two tables may be apart, of the largest entry: what is left of the start after the run."""


def rows(model: str, ours: list[Any], given: Any) -> list[Row]:
    jobs = {
        one.label: partial(
            run_worker, one.python, one.environment(), WORKER, model, given.periods, given.budget
        )
        for one in ours
    }
    found = interleave(jobs, given.processes)
    table = []
    for one in ours:
        results, label = found[one.label], f"[{one.label}]"
        long = min((spread(results, key) for key in ("forward", "reverse")), key=lambda s: s.median)
        for figure, theirs, mine, required in (
            ("jacfwd of steady_state", long, "direct", (">=", float(REQUIRED))),
            (
                "a batch of 32",
                spread(results, "forward_batch"),
                "direct_batch",
                (">=", float(REQUIRED)),
            ),
            ("long_run: labels and error bounds", long, "table", None),
            ("long_run without a closed form", long, "solved", None),
            ("stability: eigenvalues and their slopes", long, "eigenvalues", None),
        ):
            quick = spread(results, mine)
            ratio = theirs.median / quick.median
            cells = {
                "simulation": seconds(theirs),
                "ours": seconds(quick),
                "ratio": f"{ratio:.1f}x",
            }
            table.append(Row(f"{figure} {label}", cells, ratio, required, "x"))
        gap = max(one["gap"] for one in results)
        cells = {"simulation": results[0]["of"], "ours": f"{gap:.1e}", "ratio": ""}
        table.append(Row(f"largest difference, relative {label}", cells, gap, ("<=", AGREEMENT)))
    return table


def main() -> int:
    parser = options(__doc__, peer=False)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--periods", type=int, default=1000, help="of the simulation (1000)")
    given = parser.parse_args()
    python = interpreter(sys.executable)
    report = Report("Derivatives of steady states against those of long simulations", [python])
    for model in given.models or MODELS:
        report.section(
            f"{model}: median over {given.processes} processes (and their extremes)",
            rows(model, variants([python]), given),
        )
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
