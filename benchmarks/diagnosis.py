"""How long a diagnosis takes: python -m benchmarks.diagnosis [MODEL ...] [--repeats N]

Cold is the first call in the process, with what JAX has on disk; warm the median of the calls after it.
Limits: GL06PC under 2 s warm, GL06INSOUT, of 82 variables, under 20 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

LIMITS = {"GL06PC": 2.0, "GL06INSOUT": 20.0}


def measure(name: str, repeats: int) -> dict[str, Any]:
    import jax

    from macrostat_jax import count_compilations, models
    from macrostat_jax.diff import diagnose

    model = models.get(name)
    key = jax.random.key(0) if model.random or model.random_start else None
    seconds, compiled = [], []
    report = None
    for _ in range(1 + repeats):
        start = time.perf_counter()
        with count_compilations() as compilations:
            report = diagnose(model, key=key)
        seconds.append(time.perf_counter() - start)
        compiled.append(compilations.count)
    assert report is not None
    return {
        "model": name,
        "variables": len(model.State.fields),
        "inputs": len(report.findings),
        "at fault": len(report.faults),
        "cold": seconds[0],
        "warm": statistics.median(seconds[1:]),
        "limit": LIMITS.get(name),
        "compilations": [compiled[0], max(compiled[1:])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["GL06SIM", "GL06PC", "GL06LP2", "GL06INSOUT"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [measure(name, arguments.repeats) for name in arguments.models]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"{'model':<20}{'variables':>10}{'inputs':>8}{'at fault':>10}{'cold s':>9}{'warm s':>9}{'limit':>7}"
    )
    for row in rows:
        limit = "" if row["limit"] is None else f"{row['limit']:g}"
        print(
            f"{row['model']:<20}{row['variables']:>10}{row['inputs']:>8}{row['at fault']:>10}"
            f"{row['cold']:>9.2f}{row['warm']:>9.3f}{limit:>7}   compiled {row['compilations']}"
        )


if __name__ == "__main__":
    main()
