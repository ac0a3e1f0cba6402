"""A Sobol sample of the parameter space, from points to CSV files, against the published package.

    python benchmarks/sampling.py [MODEL]

`SobolSampler(model, sample_power=8).sample()`: 256 simulations over all free parameters, written to disk.
Warm: a call after a first one in the same process; every call writes to a folder of its own. The first
call, compiling included, is shown beside it.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from typing import Any

from _harness import (
    Report,
    Row,
    interleave,
    interpreter,
    options,
    peer_interpreter,
    run_worker,
    variants,
    versus,
)

WORKER = "_torch_worker.py"
REQUIRED = 50
"""How many times faster than the published package, at least."""
AGREEMENT = 1e-4
"""The means of the files' columns may differ by this: the peer computes in float32."""


def run(python: Any, env: dict[str, str], model: str, budget: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        env = env | {"MACROSTAT_CACHE": cache}
        return run_worker(python, env, WORKER, "sample", model, budget)


def agreement(label: str, peer: dict[str, Any], ours: dict[str, Any]) -> Row:
    common = [name for name in peer["means"] if name in ours["means"]]
    gaps = [
        abs(ours["means"][name] - peer["means"][name]) / (1 + abs(peer["means"][name]))
        for name in common
    ]
    cells = {"ratio": f"{max(gaps):.1e}"}
    return Row(f"means of the columns differ by [{label}]", cells, max(gaps), ("<=", AGREEMENT))


def main() -> int:
    parser = options(__doc__, processes=3)
    parser.add_argument("model", nargs="?", default="GL06PC", metavar="MODEL")
    given = parser.parse_args()
    peer = peer_interpreter(given.peer)
    python = interpreter(sys.executable)
    report = Report("SobolSampler against the published package", [peer, python])
    ours = variants([python])
    jobs = {"peer": partial(run, peer, peer.environment(), given.model, given.budget)}
    for one in ours:
        jobs[one.label] = partial(run, one.python, one.environment(), given.model, given.budget)
    found = interleave(jobs, given.processes)
    rows = []
    for one in ours:
        mine, theirs = found[one.label], found["peer"]
        keys = ("sample", "sample")
        rows.append(versus(f"256 samples [{one.label}]", theirs, mine, keys, REQUIRED))
        keys = ("sample", "sample_first")
        rows.append(versus(f"first call, empty cache [{one.label}]", theirs, mine, keys))
        rows.append(agreement(one.label, theirs[0], mine[0]))
    heading = f"{given.model}: median over {given.processes} processes (and their extremes)"
    report.section(heading, rows)
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
