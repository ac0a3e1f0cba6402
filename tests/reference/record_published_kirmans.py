"""Records what the published package computes of KirmansAnts, for the tests to compare with.

Run in an environment with macrostat 0.6.0:

    python tests/reference/record_published_kirmans.py

It rewrites `published/KirmansAnts.json`, the declarations, and `kirmans.json`: densities of short runs of
few sub-steps, from the package's own draws, in full precision. Of the runs that record it, `micro` is the
density after every sub-step, which the package keeps in single precision.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile

import torch
from macrostat.models.KirmansAnts import (  # type: ignore[import-not-found]
    KirmansAnts,
    ParametersKirmansAnts,
)
from record_published import FOLDER, facts

# Parameters are numbers that single precision has exactly: the package keeps them in it.
COARSE = {"dt": 0.01, "substeps": 100, "timesteps": 40}
RUNS = [
    {"dtype": "float64", "hyper": COARSE},
    {"dtype": "float32", "hyper": COARSE},
    {
        "dtype": "float64",
        "hyper": COARSE | {"timesteps": 6, "timesteps_initialization": 2, "record_inner": True},
        "parameters": {"rho": 1.25, "mu": 0.75},
    },
    {
        "dtype": "float64",
        "hyper": COARSE | {"seed": 7, "x0": 0.9},
        "parameters": {"rho": 1.25, "mu": 0.75},
    },
    {"dtype": "float64", "hyper": COARSE | {"seed": 1}, "scenario": 2},
    {
        "dtype": "float64",
        "hyper": {"dt": 0.002, "substeps": 500, "timesteps": 10, "seed": 2},
        "parameters": {"rho": 1.0, "mu": 1.0},
    },
]


def run(dtype: str, hyper: dict, parameters: dict | None = None, scenario: int = 0) -> dict:
    torch.set_default_dtype(getattr(torch, dtype))
    # Its constructor takes no hyperparameters.
    given = ParametersKirmansAnts()
    given.hyper.update(hyper)
    for name, value in (parameters or {}).items():
        given.values[name]["value"] = value
    given.verify_parameters()
    model = KirmansAnts(parameters=given)
    path = model.simulate(scenario=scenario)
    found = {"dtype": dtype, "hyper": hyper, "parameters": parameters or {}, "scenario": scenario}
    found["density"] = path["density"].squeeze(-1).tolist()
    if hyper.get("record_inner"):
        begin = hyper["timesteps_initialization"] * hyper["substeps"]
        found["micro"] = model.behavior_instance._micro_trajectory[begin:].tolist()
    return found


def main() -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())  # the published package leaves a log file where it runs
    record = facts("KirmansAnts") | {"runs": []}
    for path, content in (
        (FOLDER / "KirmansAnts.json", record),
        (FOLDER.parent / "kirmans.json", [run(**given) for given in RUNS]),
    ):
        text = json.dumps(content, indent=0).replace(",\n", ",").replace("[\n", "[")
        path.write_text(text.replace("\n]", "]") + "\n")


if __name__ == "__main__":
    main()
