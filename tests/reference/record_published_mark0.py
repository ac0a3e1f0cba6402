"""Records what the published package computes of Mark0COVID, for the tests to compare with.

Run in an environment with macrostat 0.6.0:

    python tests/reference/record_published_mark0.py

It rewrites `published/Mark0COVID.json`, the declarations, and `mark0.npz`, paths and gradients of runs of
50 firms in double precision. Their noise is NumPy's (`noise` below), which any environment can draw
again; the run `torch` has the package's own, from its seed.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record_published import FOLDER, facts

from macrostat.models import get_model_classes  # type: ignore[import-not-found]

FIRMS, PERIODS, SEED = 50, 60, 11
ROWS = (1, 2, 30, 60)
"""The rows of which the values of all firms are kept; of flags, and of sums, all rows are."""
OTHER = {
    "HiringFiringRate": 1.5,
    "GammaBaseline": 0.02,
    "WagePriceAdjustmentRatio": 0.8,
    "WageInflationFactor": 0.9,
    "InterestRateBaseline": 0.01,
    "CBInflationReaction": 0.5,
    "CBInflationTarget": 0.01,
    "DefaultThreshold": 1.0,
    "BankruptcyInterestEffect": 0.3,
    "FirmRevivalProbability": 0.2,
}
FAILURES = {"DefaultThreshold": 0.05, "DividendShare": 0.3, "FirmRevivalProbability": 0.3}
RUNS = {
    "default": ({}, 0, "numpy"),
    "other": (OTHER, 0, "numpy"),
    "failures": (FAILURES, 0, "numpy"),
    "crises": ({}, 1, "numpy"),
    "unstable": ({}, 2, "numpy"),
    "collapse": ({}, 3, "numpy"),
    "torch": (OTHER, 0, "torch"),
}
"""Name -> parameters, number of the scenario, and whose noise."""
DIFFERENTIATED = ("default", "other", "crises")
SHARP = 1e12
"""Where many firms fail, some are so near the threshold that with the default of 10,000 they fail by
halves."""
GRADIENT_OF = ("AverageWage", "TotalProduction", "HouseholdSavings")
GRADIENT_PERIODS = 15


def noise(periods: int, firms: int) -> np.ndarray:
    """Four vectors per period: price, wage, revive, revive_y."""
    return np.random.default_rng(SEED).random((periods, 4, firms))


def run(name: str, periods: int, loss: str | None = None) -> dict[str, np.ndarray]:
    parameters, scenario, source = RUNS[name]
    hyper: dict[str, Any] = {"N_firms": FIRMS, "timesteps": periods, "seed": SEED}
    if name == "failures":
        hyper["sigmoid_constant"] = SHARP
    classes = get_model_classes("Mark0COVID")
    # Its models take no `hyperparameters` that change the number of periods.
    model = classes.Model(parameters=classes.Parameters(hyperparameters=hyper))
    for key, value in parameters.items():
        model.parameters.values[key]["value"] = value
    behavior: Any = model.behavior(
        model.parameters, model.scenarios, model.variables, scenario=scenario, differentiable=True
    )
    if source == "numpy":
        drawn = torch.from_numpy(noise(PERIODS, FIRMS)[:periods])

        def buffers() -> None:
            names = ("_noise_price", "_noise_wage", "_noise_revive", "_noise_revive_y")
            for at, key in enumerate(names):
                setattr(behavior, key, drawn[:, at])

        behavior.initialize_noise_buffers = buffers
    if loss is None:
        with torch.no_grad():
            return {key: value.numpy() for key, value in behavior.forward().items()}
    values = dict(behavior.params)
    for value in values.values():
        value.requires_grad_(True)
    last = behavior.forward()[loss][-1].sum()
    found = torch.autograd.grad(last, list(values.values()), allow_unused=True)
    return {
        key: np.zeros(()) if gradient is None else gradient.numpy()
        for key, gradient in zip(values, found, strict=True)
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())  # the published package leaves a log file where it runs
    torch.set_default_dtype(torch.float64)
    torch.float = torch.get_default_dtype()  # what it asks for by name
    record = {**facts("Mark0COVID"), "runs": []}
    text = json.dumps(record, indent=0).replace(",\n", ",").replace("[\n", "[")
    (FOLDER / "Mark0COVID.json").write_text(text.replace("\n]", "]") + "\n")
    found: dict[str, np.ndarray] = {}
    for name in RUNS:
        for key, path in run(name, PERIODS).items():
            flags = np.all((path == 0) | (path == 1))
            if flags:
                path = path.astype(np.int8)
            elif path.ndim > 1:
                path = path[list(ROWS)]
            found[f"{name}/{key}"] = path
    for name in DIFFERENTIATED:
        for loss in GRADIENT_OF:
            gradient = run(name, GRADIENT_PERIODS, loss)
            found[f"{name}/{loss} by parameter"] = np.array([float(v) for v in gradient.values()])
            found["parameters"] = np.array(list(gradient))
    np.savez_compressed(Path(__file__).resolve().parent / "mark0.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main()
