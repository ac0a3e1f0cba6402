"""One process: fits of a model from many starts at once, the first call and later ones.

Usage: _multistart_worker.py MODEL STARTS METHOD BUDGET
"""

from __future__ import annotations

import sys
import time

import jax
import numpy as np
from _timing import answer, clock, lap

from macrostat_jax import estimation, models, simulate

PERIODS = 60
FREE = {
    "GL06SIM": ("tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings"),
    "GL06PC": ("tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings"),
}
OBSERVED = ("national_income", "household_money_stock")
NEAR = 1e-4
"""A start is at the truth if all its values are this near."""


def main() -> None:
    name, count, method, budget = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    model, free = models.get(name), FREE[name]
    with jax.enable_x64(True):
        path = simulate(model, periods=PERIODS)
        data = {one: np.asarray(getattr(path, one)) for one in OBSERVED}
        truth = np.array([float(np.asarray(getattr(model.params(), one))) for one in free])
        problem = estimation.Problem(
            model, data, list(OBSERVED), {one: (0.0, 1.0) for one in free}, sigma=1.0,
            start=dict.fromkeys(free, 0.5),
        )  # fmt: skip

    def run(seed: int = 0) -> estimation.MultiStart:
        return estimation.multi_start(problem, count, method=method, seed=seed)

    begin = time.perf_counter()
    found = run()
    first = time.perf_counter() - begin
    warm = lap(lambda: run(1), budget)
    near = np.abs(found.values - truth).max(axis=1) < NEAR
    answer(
        {
            "first": first,
            "warm": warm,
            "least": min(clock(run) for _ in range(5)),
            "success": float(found.success.mean()),
            "truth": float(near.mean()),
            "stopped": float(found.stopped.mean()),
            # What is called a success, and is none; and the other way round.
            "wrong": float((found.success & ~near).mean()),
            "missed": float((near & ~found.success).mean()),
            "steps": int(found.steps.max()),
        }
    )


if __name__ == "__main__":
    main()
