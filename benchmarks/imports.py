"""What importing costs, and building a model, beside torch, jax and the published package.

    python benchmarks/imports.py

Every import is timed in a fresh process, from its first statement on; medians over processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from typing import Any

from _harness import (
    Interpreter,
    Report,
    Row,
    interleave,
    interpreter,
    options,
    peer_interpreter,
    seconds,
    spread,
    versus,
)

IMPORTS = {
    "macrostat": "import macrostat",
    "torch and jax": "import torch, jax",
    "macrostat.models and macrostat.diff": "import torch, macrostat.models, macrostat.diff",
}
BARE, SHARE = 0.1, 1.25
MODELS = ("GL06PC", "GL06INSOUT", "IOPC")
_BUILD = """
import statistics, sys
from macrostat.models import get_model
make = get_model(sys.argv[1])
make()
times = []
for _ in range(30):
    start = clock()
    make()
    times.append(clock() - start)
found = {"seconds": statistics.median(times)}
"""


def timed(python: Interpreter, code: str, *arguments: str) -> dict[str, Any]:
    lines = [
        "import json, logging, time",
        "clock, start = time.perf_counter, time.perf_counter()",
        code,
        'found = globals().get("found") or {"seconds": clock() - start}',
        "print(json.dumps(found))",
    ]
    with tempfile.TemporaryDirectory() as folder:  # of neither package
        done = subprocess.run(
            [python.path, "-c", "\n".join(lines), *arguments],
            env=python.environment(),
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    given = options(__doc__).parse_args()
    peer, python = peer_interpreter(given.peer), interpreter(sys.executable)
    report = Report("Importing, and building a model", [peer, python])
    jobs: dict[str, Any] = {name: partial(timed, python, code) for name, code in IMPORTS.items()}
    found = interleave(jobs, given.processes, warm_up=True)
    rows, times = [], {name: spread(results, "seconds") for name, results in found.items()}
    for name, one in times.items():
        rows.append(Row(f"import {name}", {"ours": seconds(one)}))
    bare = times["macrostat"].median
    rows.append(Row("macrostat alone", {"ours": seconds(bare)}, bare, ("<=", BARE), "s"))
    share = times["macrostat.models and macrostat.diff"].median / times["torch and jax"].median
    rows.append(Row("beside torch and jax", {"ratio": f"{share:.2f}"}, share, ("<=", SHARE)))
    report.section(f"Imports: median over {given.processes} processes", rows)
    rows = []
    for model in MODELS:
        jobs = {
            "peer": partial(timed, peer, _BUILD, model),
            "ours": partial(timed, python, _BUILD, model),
        }
        found = interleave(jobs, given.processes)
        rows.append(versus(model, found["peer"], found["ours"], ("seconds", "seconds"), 1.0))
    report.section("Building a model, warm", rows)
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
