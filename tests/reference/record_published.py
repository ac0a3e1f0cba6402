"""Records what the published package computes and declares, for the tests to compare with.

Run in an environment with macrostat 0.6.0:

    python tests/reference/record_published.py

It rewrites `published/<model>.json`: names, defaults, bounds, units and notations of the
declarations, and the paths of several runs: the defaults, other parameters, a scenario that changes
half-way, and every scenario that the package ships. `python tests/reference/record_published.py NAME`
records one model. Of large models only some rows are kept, those listed as `rows`.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import sys
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
"""Model -> other parameters; for a model that is not listed they are made by `_others`."""
# Series and the value that each takes half-way through the run.
CHANGES = {
    "LINEAR2D": {},
    "GL06SIM": {"GovernmentDemand": 25.0, "WageRate": 2.0},
    "GL06SIMEX": {"GovernmentDemand": 25.0, "WageRate": 2.0, "TaxRate_add": 0.05},
    "GL06PC": {"InterestRate": 0.035, "PropensityToConsumeIncome_add": -0.05, "WageRate": 2.0},
    "GL06PCEX": {"InterestRate": 0.035, "TaxRate_add": 0.02, "WageRate": 2.0},
    "GL06PCEX2": {"InterestRate": 0.035, "TaxRate_add": 0.02, "WageRate": 2.0},
    "GL06LP": {"GovernmentDemand": 25.0, "BondPrice": 18.0, "TaxRate_add": 0.02},
    "GL06LP2": {"BondPriceShock": -0.5, "TaxRate_add": 0.02},
    "GL06LP3": {"BondPriceShock": -0.5, "GovernmentSpendingShock": 1.0},
    "GL06INSOUT": {"TaxRate_add": 0.01, "RealGovernmentSpending": 27.0},
    "NK3E": {"OutputShock": 1.0, "RateShock": 0.5, "a2_add": 0.1},
    "IOPC": {"GovernmentDemand": 25.0, "InterestRate": 0.035, "WageRate": 0.5},
    "ECO3IOPC": {
        "GovernmentDemand": 25.0,
        "InterestRate": 0.035,
        "WageRate": 0.5,
        # Both are 0 otherwise, by default and off it.
        "PropensityToConsumeIncomeTemperature_add": 0.02,
        "CO2IntensityNonRenewableEnergyGrowth_add": 0.01,
    },
    "PichlerEtAl2022DIO": {
        "SupplyShock": [0.5, 0.1, 0.0],
        "FearOfInfection": 0.05,
        "OtherFinalDemand": [4.0, 4.5, 215.0],
        "PermanentIncomeExpectation": 0.95,
    },
}
HYPER = {
    "PichlerEtAl2022DIO": [
        *(
            {"production_function": kind}
            for kind in (
                "leontief",
                "strongly_critical",
                "half_critical",
                "weakly_critical",
                "linear",
            )
        ),
        {"hiring_firing": False},
        {"firm_priority": True},
        {"production_function": "leontief", "hiring_firing": False, "firm_priority": True},
    ],
}
"""Model -> hyperparameters, with each of which the changed scenario is run as well."""
DATA = {
    "PichlerEtAl2022DIO": {
        "CriticalInputMatrix": [[0.0, 1.0, 0.5], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]],
    },
}
"""Model -> data parameters of those runs."""
DOUBLE = ("PichlerEtAl2022DIO",)
"""Models that run in double precision: in single, rounding decides which of their limits bind."""
MOST = 5_000
"""Numbers per run; of a longer one, the first rows are kept and some of the others."""


def _others(model) -> dict:
    """Every free parameter a little off its default: by up to 5 %, within its bounds."""
    tied = {
        name for constraint in model.parameters.get_constraints() for name in constraint.param_names
    }
    found = {}
    for i, (key, info) in enumerate(model.parameters.values.items()):
        if key not in tied:
            value = info["value"] * (1 + 0.05 * math.sin(i + 1))
            found[key] = float(f"{min(max(value, info['lower bound']), info['upper bound']):.6g}")
    return found


def run(
    name: str, parameters: dict, changes: dict, shipped: int = 0, hyper: dict | None = None
) -> dict:
    data = DATA.get(name, {}) if hyper else {}
    model = get_model(name)(hyperparameters=hyper) if hyper else get_model(name)()
    values = model.parameters.values
    defaults = {key: values[key]["value"] for key in parameters}
    for key, value in parameters.items():
        values[key]["value"] = value
    for key, value in data.items():
        model.parameters.data[key]["value"] = torch.tensor(value)
    scenario = shipped
    half = model.parameters.hyper["timesteps"] // 2
    if changes:
        default = model.scenarios.timeseries[0]
        changes = {k: v for k, v in changes.items() if k in default}
        series = {k: v.clone() for k, v in default.items()}
        for key, value in changes.items():
            series[key][half:] = torch.as_tensor(value, dtype=series[key].dtype)
        add_vectors = getattr(model.scenarios, "add_vector_scenario", None)
        if add_vectors is not None:
            # Its add_scenario writes vectors into their first column, one element per period.
            add_vectors(series, name="changes")
        else:
            # It takes series as beginning at the trigger.
            trigger = model.parameters.hyper["scenario_trigger"]
            late = {key: path[trigger:] for key, path in series.items()}
            model.scenarios.add_scenario(late, name="changes")
        scenario = len(model.scenarios.timeseries) - 1
    with torch.no_grad():
        path = model.simulate(scenario=scenario)
    # All instances of a published model share their default parameters.
    for key, value in defaults.items():
        values[key]["value"] = value
    count = sum(value[0].numel() for value in path.values())
    length = len(next(iter(path.values())))
    rows = list(range(length))
    if count * length > MOST:
        rows = sorted({*range(8), *range(half - 1, half + 6), *range(0, length, 10), length - 1})
    return {
        "parameters": parameters,
        "hyper": hyper or {},
        "data": data,
        "scenario": _name(model.scenarios.info[scenario]["Name"]) if shipped else None,
        "changes": changes,
        "from_row": half,
        "rows": rows,
        "path": {key: _numbers(value[rows]) for key, value in path.items()},
    }


def _name(name: str) -> str:
    """`Scenario.1: Rise in interest rates` as it was given."""
    return name.partition(": ")[2] or name


def _numbers(value: torch.Tensor) -> list:
    # Nine significant digits carry a float32 exactly.
    flat = value.squeeze(-1).numpy()
    return np.vectorize(lambda x: float(f"{x:.9g}"), otypes=[float])(flat).tolist()


def facts(name: str) -> dict:
    model = get_model(name)()
    hyper = model.parameters.hyper
    return {
        "version": importlib.metadata.version("macrostat"),
        "timesteps": hyper["timesteps"],
        "timesteps_initialization": hyper["timesteps_initialization"],
        "sectors": hyper["sectors"],
        "hyper": {
            key: value
            for key, value in hyper.items()
            if isinstance(value, str | int | float | bool | list)
        },
        "data": {
            key: _data(info["value"]) for key, info in getattr(model.parameters, "data", {}).items()
        },
        "scenarios": [_name(info["Name"]) for info in list(model.scenarios.info.values())[1:]],
        "constraints": [[c.param_names, c.target] for c in model.parameters.get_constraints()],
        "parameters": {
            key: [info["value"], info["lower bound"], info["upper bound"], info["unit"]]
            for key, info in model.parameters.values.items()
        },
        "notation": {key: info["notation"] for key, info in model.parameters.values.items()},
        "series": {key: _numbers(value)[0] for key, value in model.scenarios.timeseries[0].items()},
        "variables": {key: info.get("sfc", []) for key, info in model.variables.info.items()},
    }


def _data(value) -> list:
    return torch.as_tensor(value).double().tolist()


def main() -> None:
    logging.disable(logging.CRITICAL)
    os.chdir(tempfile.mkdtemp())  # the published package leaves a log file where it runs
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CHANGES:
        torch.set_default_dtype(torch.float64 if name in DOUBLE else torch.float32)
        torch.float = torch.get_default_dtype()  # what it asks for by name
        record = facts(name)
        other = OTHER.get(name) or _others(get_model(name)())
        record["runs"] = [
            run(name, {}, {}),
            run(name, other, {}),
            run(name, other, CHANGES[name]),
        ]
        for number in range(1, len(record["scenarios"]) + 1):
            record["runs"].append(run(name, {}, {}, shipped=number))
        for hyper in HYPER.get(name, ()):
            record["runs"].append(run(name, {}, CHANGES[name], hyper=hyper))
        text = json.dumps(record, indent=0).replace(",\n", ",").replace("[\n", "[")
        (FOLDER / f"{name}.json").write_text(text.replace("\n]", "]") + "\n")


if __name__ == "__main__":
    main()
