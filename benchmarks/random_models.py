"""Random models against the published package: one run, and a batch of seeds.

    python benchmarks/random_models.py [--periods 1000 --substeps 10000 --runs 64]

KirmansAnts. The same script of the documented torch API on both sides, from the same seed: the paths must
be the same. Then the JAX core, which draws by itself: one run, and what a run costs in a batch of seeds,
both against a run of the published package. Each side draws its random numbers within the time.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from _harness import (
    Report,
    Row,
    check_packages,
    interleave,
    interpreter,
    options,
    peer_interpreter,
    run_worker,
    variants,
    versus,
)

WORKER = "_random_worker.py"
ALONE, BATCH = 8, 100
"""How many times faster than a run of the published package a run must be, alone and in a batch."""
STATED = (1000, 10_000, 64)
"""The size that these requirements are stated for."""


def agreement(label: str, peer: dict[str, Any], ours: dict[str, Any]) -> Row:
    """The same draws, the same path: the peer keeps it in float32, so that it drifts."""
    worst = max(abs(a - b) for a, b in zip(peer["density"], ours["density"], strict=True))
    return Row(
        f"first 5 densities differ by [{label}]", {"ratio": f"{worst:.1e}"}, worst, ("<=", 1e-3)
    )


def main() -> int:
    parser = options(__doc__, processes=3)
    parser.add_argument("--periods", type=int, default=STATED[0])
    parser.add_argument("--substeps", type=int, default=STATED[1])
    parser.add_argument("--runs", type=int, default=STATED[2], help="seeds of the batch (64)")
    given = parser.parse_args()
    peer, python = peer_interpreter(given.peer), interpreter(sys.executable)
    size = {"periods": given.periods, "substeps": given.substeps}
    stated = (given.periods, given.substeps, given.runs) == STATED
    report = Report("Random models against the published package", [peer, python])
    for one in variants([python]):
        env = one.environment()
        arguments = json.dumps({**size, "budget": given.budget})
        batch = json.dumps({**size, "budget": given.budget, "runs": given.runs})
        found = interleave(
            {
                "peer": partial(run_worker, peer, peer.environment(), WORKER, "api", arguments),
                "ours": partial(run_worker, one.python, env, WORKER, "api", arguments),
                "core": partial(run_worker, one.python, env, WORKER, "core", batch),
            },
            given.processes,
        )
        check_packages({name: found[name] for name in ("peer", "ours")})
        theirs, alone, many = (
            found["peer"],
            (ALONE if stated else None),
            (BATCH if stated else None),
        )
        report.section(
            f"KirmansAnts, {given.periods:,} periods of {given.substeps:,} sub-steps [{one.label}]",
            [
                versus(
                    "simulate, torch API", theirs, found["ours"], ("simulate", "simulate"), alone
                ),
                versus("simulate, JAX", theirs, found["core"], ("simulate", "alone"), alone),
                versus(
                    f"a run of {given.runs} seeds at once, JAX",
                    theirs,
                    found["core"],
                    ("simulate", "batch"),
                    many,
                ),
                agreement(one.label, theirs[0], found["ours"][0]),
            ],
        )
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
