"""Records what the published package computes and declares, for the tests to compare with.

Run in an environment with macrostat 0.6.0:

    python tests/reference/record_published.py

It rewrites `published/<model>.json`: names, defaults, bounds, units and notations of the
declarations, and every value of three runs: the defaults, other parameters, and a scenario that
changes half-way.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from macrostat.models import get_model  # type: ignore[import-not-found]

FOLDER = Path(__file__).resolve().parent / "published"

# Off the defaults, so that what a wage of 1 or a parameter of 0 hides shows.
GL06 = {"TaxRate": 0.25, "PropensityToConsumeIncome": 0.7, "PropensityToConsumeSavings": 0.3}
OTHER = {
    "LINEAR2D": {"a11": 0.5, "a12": -0.3, "a21": 0.7, "a22": 0.6, "x0_1": -2.0, "x0_2": 3.0},
    "GL06SIM": GL06,
    "GL06SIMEX": GL06,
    "GL06PC": GL06
    | {
        "WealthShareBills_Constant": 0.5,
        "WealthShareBills_InterestRate": 4.0,
        "WealthShareBills_Income": 0.05,
    },
}
# Series and the value that each takes half-way through the run.
CHANGES = {
    "LINEAR2D": {},
    "GL06SIM": {"GovernmentDemand": 25.0, "WageRate": 2.0},
    "GL06SIMEX": {"GovernmentDemand": 25.0, "WageRate": 2.0, "TaxRate_add": 0.05},
    "GL06PC": {"InterestRate": 0.035, "PropensityToConsumeIncome_add": -0.05, "WageRate": 2.0},
}


def run(name: str, parameters: dict, changes: dict) -> dict:
    model = get_model(name)()
    for key, value in parameters.items():
        model.parameters.values[key]["value"] = value
    scenario = 0
    half = model.parameters.hyper["timesteps"] // 2
    if changes:
        series = {k: v.clone() for k, v in model.scenarios.timeseries[0].items()}
        for key, value in changes.items():
            series[key][half:] = value
        model.scenarios.add_scenario(series, name="changes")
        scenario = 1
    with torch.no_grad():
        path = model.simulate(scenario=scenario)
    return {
        "parameters": parameters,
        "changes": changes,
        "from_row": half,
        "path": {key: _numbers(value) for key, value in path.items()},
    }


def _numbers(value: torch.Tensor) -> list:
    # Nine significant digits carry a float32 exactly.
    return np.vectorize(lambda x: float(f"{x:.9g}"))(value.squeeze(-1).numpy()).tolist()


def facts(name: str) -> dict:
    model = get_model(name)()
    hyper = model.parameters.hyper
    return {
        "version": importlib.metadata.version("macrostat"),
        "timesteps": hyper["timesteps"],
        "timesteps_initialization": hyper["timesteps_initialization"],
        "sectors": hyper["sectors"],
        "parameters": {
            key: [info["value"], info["lower bound"], info["upper bound"], info["unit"]]
            for key, info in model.parameters.values.items()
        },
        "notation": {key: info["notation"] for key, info in model.parameters.values.items()},
        "series": {key: _numbers(value)[0] for key, value in model.scenarios.timeseries[0].items()},
        "variables": {key: info["sfc"] for key, info in model.variables.info.items()},
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())  # the published package leaves a log file where it runs
    FOLDER.mkdir(exist_ok=True)
    for name in OTHER:
        record = facts(name)
        record["runs"] = [
            run(name, {}, {}),
            run(name, OTHER[name], {}),
            run(name, OTHER[name], CHANGES[name]),
        ]
        text = json.dumps(record, indent=0).replace(",\n", ",").replace("[\n", "[")
        (FOLDER / f"{name}.json").write_text(text.replace("\n]", "]") + "\n")


if __name__ == "__main__":
    main()
