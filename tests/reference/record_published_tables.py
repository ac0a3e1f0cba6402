"""Records what the published PichlerEtAl2022DIO makes of data tables, into `pichler/published.json`.

Run with the Python of an environment that has macrostat 0.6.0, not this project's. The tables in
`pichler/` are invented; their names and columns are those that the package asks for.
"""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from macrostat.models import get_model_classes

FOLDER = Path(__file__).parent / "pichler"
NAMES = ["A01", "C13-C15", "C20", "G45", "Q"]
SCENARIOS = [
    {},
    {"supply_scenario": "S1", "l_shape_believe": "0%"},
    {"supply_scenario": "S2", "other_fd_scenario": "weak"},
    {"supply_scenario": "S3", "delta_srate": 0.2},
    {"supply_scenario": "S5", "l_shape_believe": "100%", "rho_bar": 0.8},
    {"supply_scenario": "S6", "other_fd_scenario": "weak", "l_shape_believe": "100%"},
]


def write_tables() -> None:
    rng = np.random.default_rng(12)
    n = len(NAMES)

    def table(name: str, values, columns) -> None:
        frame = pd.DataFrame(np.round(values, 6), index=NAMES, columns=columns)
        frame.to_csv(FOLDER / f"{name}.csv")

    coefficients = np.round(rng.uniform(0.02, 0.12, (n, n)), 6)
    users = ("C1", "C2", "G", "I", "inventory", "Export", "RoW_C", "RoW_I")
    final = np.round(rng.uniform(1, 50, (n, len(users))), 6)
    output = np.linalg.solve(np.eye(n) - coefficients, final.sum(axis=1))
    table("GBR_A", coefficients, NAMES)
    table("GBR_Z", coefficients * output, NAMES)
    table("GBR_f", final, users)
    for name, values in {
        "x": output,
        "lab": 0.4 * output,
        "cap": 0.2 * output,
        "firm_taxes": 0.02 * output,
        "other_expenses": 0.03 * output,
        "Z_imports": 0.05 * output,
        "consumer_taxes": 0.1 * final[:, 0],
    }.items():
        table(f"GBR_{name}", values, [name])
    imports = pd.DataFrame({"C1": [21.5], "G": [3.0]}, index=["imports"])
    imports.to_csv(FOLDER / "GBR_f_imported.csv")
    table("A.essential2", rng.choice([0, 0.5, 1], (n, n)), NAMES)
    table("ratio_inv_go", rng.uniform(3, 40, (n, 1)), ["invratio"])
    shares = ("S1", "S2", "S3", "S4", "S5", "S6", "RLI", "UK essential", "D")
    table("shock_scenarios", rng.uniform(0, 0.8, (n, len(shares))), shares)


def main() -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())  # the published package leaves a log file where it runs
    torch.set_default_dtype(torch.float64)
    torch.float = torch.float64  # what it asks for by name
    FOLDER.mkdir(exist_ok=True)
    write_tables()
    classes: Any = get_model_classes("PichlerEtAl2022DIO")
    hyper = {
        "n_sectors": len(NAMES),
        "sector_names": NAMES,
        "sectors": [*NAMES, "Household"],
        "iosectors": NAMES,
    }
    inventories = FOLDER / "ratio_inv_go.csv"
    parameters = classes.Parameters.from_wiod_uk(FOLDER, FOLDER, inventories, hyperparameters=hyper)
    record = {
        "sector_names": NAMES,
        "data": {key: info["value"].tolist() for key, info in parameters.data.items()},
        "scenarios": [],
    }
    for arguments in SCENARIOS:
        scenarios = classes.Scenarios.from_shocks_csv(
            parameters, FOLDER / "shock_scenarios.csv", FOLDER / "GBR_f.csv", **arguments
        )
        series = {key: np.round(path.numpy(), 12) for key, path in scenarios.timeseries[1].items()}
        model = classes.Model(parameters=parameters, scenarios=scenarios)
        with torch.no_grad():
            output = model.simulate(scenario=1)["GrossOutput"]
        days = [0, 82, 83, 84, 100, 133, 134, 135, 163, 164, 165, 166, 167, 168, 181]
        record["scenarios"].append(
            {
                "arguments": arguments,
                "days": days,
                "series": {key: path[days].tolist() for key, path in series.items()},
                "output": output[::13].tolist(),
            }
        )
    (FOLDER / "published.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
