"""Levenberg-Marquardt from a thousand starts at once: seconds, and how many find the truth.

    python benchmarks/multistart.py [MODEL ...]

Data of 60 periods without errors, made with the model's default parameters; the starts are a Latin hypercube
over (0, 1) for each free parameter. First: the first call in a process with an empty cache on disk, compile
included; from disk: the same with the cache filled. Warm: a later call with other starts.

A start is at the truth if all its values are within 1e-4. The solver calls a start a success if it stopped;
we do if its cost is that of the best one too.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from typing import Any

from _harness import (
    Report,
    Row,
    Spread,
    Variant,
    interleave,
    interpreter,
    options,
    run_worker,
    seconds,
    spread,
    variants,
)

WORKER = "_multistart_worker.py"
MODELS = ("GL06SIM", "GL06PC")
REQUIRED = {"GL06SIM": (3.0, 0.4)}
"""Model -> the most seconds of a thousand starts: first call, and warm."""
AT_TRUTH = 0.93
"""The share of starts that must find the truth, at least: what a prototype reached."""


def run(one: Variant, *args: Any) -> dict[str, Any]:
    """Twice: with an empty cache on disk, and with what that left there."""
    with tempfile.TemporaryDirectory() as cache:
        environment = one.environment(MACROSTAT_CACHE=cache)
        empty = run_worker(one.python, environment, WORKER, *args)
        again = run_worker(one.python, environment, WORKER, *args)
    return empty | {"disk": again["first"]}


def rows(label: str, model: str, found: list[dict[str, Any]], starts: int) -> list[Row]:
    first, warm = REQUIRED.get(model, (None, None)) if starts == 1000 else (None, None)

    def time(figure: str, value: Spread, most: float | None) -> Row:
        required = ("<=", most) if most is not None else None
        return Row(f"{figure} [{label}]", {"seconds": seconds(value)}, value.median, required, " s")

    def share(figure: str, key: str, required: tuple[str, float] | None = None) -> Row:
        value = spread(found, key).median
        return Row(f"{figure} [{label}]", {"seconds": f"{value:.1%}"}, value, required)

    return [
        time("first call, empty cache", spread(found, "first"), first),
        time("first call, from disk", spread(found, "disk"), None),
        time("warm", spread(found, "warm"), warm),
        share("at the truth", "truth", (">=", AT_TRUTH)),
        share("called a success", "success"),
        share("called a success by the solver alone", "stopped"),
        share("called a success and not at the truth", "wrong", ("==", 0)),
    ]


def main() -> int:
    parser = options(__doc__, processes=3, peer=False)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--starts", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--method", default="lm", help="as in multi_start (lm)")
    given = parser.parse_args()
    python = interpreter(sys.executable)
    report = Report("Fits from many starts", [python])
    ours = variants([python])
    for model in given.models or MODELS:
        args = model, given.starts, given.method, given.budget
        jobs = {one.label: partial(run, one, *args) for one in ours}
        found = interleave(jobs, given.processes)
        table = [r for one in ours for r in rows(one.label, model, found[one.label], given.starts)]
        heading = f"{model}, {given.starts:,} starts: median over {given.processes} processes (and extremes)"
        report.section(heading, table)
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
