"""Random models against the published package: one run, and a batch of seeds.

    python benchmarks/random_models.py [--periods 1000 --substeps 10000 --runs 64 --firms 1000]

KirmansAnts, and Mark0COVID with its gradient. The same script of the documented torch API on both sides,
from the same seed: the paths must be the same. Then the JAX core, which draws by itself: of KirmansAnts,
one run, and what a run costs in a batch of seeds; of Mark0COVID, a run and a gradient in the user's own
`jax.jit`; all against the published package. Each side draws its random numbers within the time.
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


FIRMS, MARK0_PERIODS = 1000, 100
SIMULATE, GRADIENT = 20, 50
"""The same of Mark0COVID at its defaults: a run, and a gradient in reverse mode, of the JAX core."""


def agreement(
    label: str, peer: dict[str, Any], ours: dict[str, Any], name: str, within: float
) -> Row:
    """The same draws, the same path. The peer keeps densities in float32, so that they drift."""
    worst = max(abs(a - b) for a, b in zip(peer[name], ours[name], strict=True))
    return Row(
        f"first 5 of {name} differ by [{label}]", {"ratio": f"{worst:.1e}"}, worst, ("<=", within)
    )


def mark0(report: Report, given: Any, peer: Any, one: Any) -> None:
    arguments = json.dumps({"periods": MARK0_PERIODS, "firms": given.firms, "budget": given.budget})
    found = interleave(
        {
            "peer": partial(run_worker, peer, peer.environment(), WORKER, "mark0", arguments),
            "ours": partial(run_worker, one.python, one.environment(), WORKER, "mark0", arguments),
            "core": partial(
                run_worker, one.python, one.environment(), WORKER, "mark0_core", arguments
            ),
        },
        given.processes,
    )
    check_packages({name: found[name] for name in ("peer", "ours")})
    stated = given.firms == FIRMS
    theirs, ours, core = found["peer"], found["ours"], found["core"]
    report.section(
        f"Mark0COVID, {given.firms:,} firms, {MARK0_PERIODS} periods [{one.label}]",
        [
            versus(
                "simulate, JAX",
                theirs,
                core,
                ("simulate", "simulate"),
                SIMULATE if stated else None,
            ),
            versus(
                "gradient, reverse, JAX",
                theirs,
                core,
                ("gradient", "gradient"),
                GRADIENT if stated else None,
            ),
            versus(
                "gradient, forward, JAX, to theirs in reverse",
                theirs,
                core,
                ("gradient", "forward"),
            ),
            versus("simulate, torch API", theirs, ours, ("simulate", "simulate")),
            versus("gradient, reverse, torch API", theirs, ours, ("gradient", "gradient")),
            versus(
                "gradient, forward, torch API, to theirs in reverse",
                theirs,
                ours,
                ("gradient", "forward"),
            ),
            # Until a firm's fate is decided by rounding; of 50 firms the tests compare all periods.
            agreement(one.label, theirs[0], ours[0], "unemployment", 1e-6),
        ],
    )


def main() -> int:
    parser = options(__doc__, processes=3)
    parser.add_argument("--periods", type=int, default=STATED[0])
    parser.add_argument("--substeps", type=int, default=STATED[1])
    parser.add_argument("--runs", type=int, default=STATED[2], help="seeds of the batch (64)")
    parser.add_argument("--firms", type=int, default=FIRMS, help="of Mark0COVID (1,000)")
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
                agreement(one.label, theirs[0], found["ours"][0], "density", 1e-3),
            ],
        )
        mark0(report, given, peer, one)
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
