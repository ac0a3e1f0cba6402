"""The searches of `estimation.fit` against each other: gradients, and CMA-ES as the baseline without them.

    python benchmarks/calibration_methods.py [--model GL06PC] [--starts 10] [--json FILE]

Data are a path of the model of 60 periods with measurement errors of 1 % of its variables' spread; every
scalar parameter within its bounds is free. All methods begin at the same starts, a Latin hypercube over the
bounds. The first fit compiles, with no cache on disk, and is not counted in the times after it. A start is
found if `fit` calls its end an optimum and its cost is the lowest that any method met, up to a thousandth of
the number of residuals. An evaluation is a run of the model, with or without derivatives.

Needs `pip install optax cma`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _harness import machine

from macrostat_jax import estimation, models, simulate
from macrostat_jax.estimation._solvers import METHODS
from macrostat_jax.sample import latin_hypercube

PERIODS, NOISE = 60, 0.01


def problem(name: str) -> estimation.Problem:
    """Data from other parameters than the model's own."""
    model, rng = models.get(name), np.random.default_rng(0)
    scenario = {
        key: np.asarray(field.default) * np.exp(0.02 * np.cumsum(rng.normal(size=PERIODS)))
        for key, field in model.Scenario.fields.items()
        if not field.shape
    }
    free = {
        key: field.default * (1 + 0.1 * rng.uniform(-1, 1))
        for key, field in model.Params.fields.items()
        if not field.shape and field.bounds[0] < field.default < field.bounds[1] and field.default
    }
    path = model.scenario(periods=PERIODS, **scenario)
    truth = simulate(model, model.params(**free), path, periods=PERIODS)
    data, sigma = {}, {}
    for key, field in model.State.fields.items():
        values = np.asarray(getattr(truth, key), float)
        if not field.shape and np.ptp(values) > 1e-6 * np.abs(values).max():
            sigma[key] = NOISE * values.std()
            data[key] = values + sigma[key] * rng.normal(size=PERIODS)
    return estimation.Problem(model, data, free=list(free), scenario=path, sigma=sigma)


def run(one: estimation.Problem, method: str, starts: np.ndarray) -> dict[str, Any]:
    """The first fit, and those from every start."""
    begin = time.perf_counter()
    estimation.fit(one, method, start=starts[0])
    first = time.perf_counter() - begin
    seconds, costs, evaluations, success = [], [], [], []
    for start in starts:
        begin = time.perf_counter()
        found = estimation.fit(one, method, start=start)
        seconds.append(time.perf_counter() - begin)
        costs.append(found.cost)
        evaluations.append(found.evaluations)
        success.append(found.success)
    return {
        "first": first,
        "seconds": seconds,
        "costs": costs,
        "evaluations": evaluations,
        "success": success,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="GL06PC")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        one = problem(given.model)
        low, high = one.bounds
        unit = latin_hypercube(
            one.model, given.starts, dict(zip(one.names, zip(low, high, strict=True), strict=True))
        )
        starts = unit.points[:, [unit.names.index(name) for name in one.names]]
        found = {method: run(one, method, starts) for method in given.methods}
    lowest = min(min(one["costs"]) for one in found.values())
    print(f"{given.model}: {one.residual_count} residuals, {', '.join(one.names)}\n")
    print("| Method | found | evaluations | seconds | first fit |\n|---|---|---|---|---|")
    for method, each in found.items():
        each["found"] = [
            bool(ok and cost <= lowest + 1e-3 * one.residual_count)
            for ok, cost in zip(each["success"], each["costs"], strict=True)
        ]
        print(
            f"| `{method}` | {sum(each['found'])} of {given.starts} "
            f"| {statistics.median(each['evaluations']):,.0f} "
            f"| {statistics.median(each['seconds']):.3f} | {each['first']:.1f} |"
        )
    if given.json:
        given.json.write_text(json.dumps({"machine": machine(), "methods": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
