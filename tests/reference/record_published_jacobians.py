"""Records Jacobians that the published package computes, for the tests to compare with.

Run in an environment with macrostat 0.6.0:

    python tests/reference/record_published_jacobians.py

It rewrites `published_jacobians.json`: per model, with the default and with other parameters, the
derivatives of a few variables at a few times with respect to every parameter, by forward and by
reverse mode, in float32.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import logging
import os
import tempfile
from pathlib import Path

import torch

from macrostat.diff import JacobianAutograd
from macrostat.models import get_model

FILE = Path(__file__).resolve().parent / "published_jacobians.json"

GL06 = {"TaxRate": 0.25, "PropensityToConsumeIncome": 0.7, "PropensityToConsumeSavings": 0.3}
BILLS = {
    "WealthShareBills_Constant": 0.5,
    "WealthShareBills_InterestRate": 4.0,
    "WealthShareBills_Income": 0.05,
}
OTHER = {
    "LINEAR2D": {"a11": 0.5, "a12": -0.3, "a21": 0.7, "a22": 0.6, "x0_1": -2.0, "x0_2": 3.0},
    "GL06SIM": GL06,
    "GL06SIMEX": GL06,
    "GL06PC": GL06 | BILLS,
}
VARIABLES = {
    "LINEAR2D": ["State"],
    "GL06SIM": ["NationalIncome", "HouseholdMoneyStock"],
    "GL06SIMEX": ["NationalIncome", "HouseholdMoneyStock"],
    "GL06PC": ["NationalIncome", "HouseholdMoneyStock"],
}
ROWS = {name: [0, 1, 2, 3, 10, 50, 100] for name in OTHER} | {"LINEAR2D": [0, 1, 2, 3, 4, 5]}


def chosen(output: dict[str, torch.Tensor], variables: list[str], rows: list[int]) -> torch.Tensor:
    """(rows, columns of the variables)."""
    return torch.cat([output[name] for name in variables], dim=1)[rows]


def derivatives(name: str, parameters: dict[str, float], mode: str) -> dict[str, list]:
    model = get_model(name)()
    for key, value in parameters.items():
        model.parameters.values[key]["value"] = value
    loss = functools.partial(chosen, variables=VARIABLES[name], rows=ROWS[name])
    found = JacobianAutograd(model).compute(loss, mode="fwd" if mode == "fwd" else "rev")
    # Nine significant digits carry a float32 exactly.
    return {
        key: [[float(f"{x:.9g}") for x in row] for row in value.tolist()]
        for key, value in found.items()
    }


def main() -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())  # the published package leaves a log file where it runs
    record: dict = {"version": importlib.metadata.version("macrostat")}
    for name, other in OTHER.items():
        record[name] = {"variables": VARIABLES[name], "rows": ROWS[name], "points": []}
        for parameters in ({}, other):
            record[name]["points"].append(
                {
                    "parameters": parameters,
                    "fwd": derivatives(name, parameters, "fwd"),
                    "rev": derivatives(name, parameters, "rev"),
                }
            )
    text = json.dumps(record, indent=0).replace(",\n", ",").replace("[\n", "[").replace("\n]", "]")
    FILE.write_text(text + "\n")


if __name__ == "__main__":
    main()
