"""What the torch API knows of a library model beyond its declaration.

Everything else about a model is derived from its `macrostat_jax.Model`; a model that needs nothing
here is not listed.
"""

from __future__ import annotations

from typing import Any

HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "LINEAR2D": {"timesteps_initialization": 0, "vector_sectors": []},
    "NK3E": {"use_tqdm": False},
    "GL06INSOUT": {
        "timesteps_initialization": 0,
        "sectors": ["Household", "Firm", "Government", "CentralBank", "Bank"],
    },
    "IOPC": {
        "sectors": ["Household", "S1", "S2", "S3", "Government", "CentralBank"],
        "iosectors": ["S1", "S2", "S3"],
    },
    "ECO3IOPC": {
        "sectors": ["Household", "S1", "S2", "S3", "Government", "CentralBank"],
        "iosectors": ["S1", "S2", "S3"],
    },
    "KirmansAnts": {
        "timesteps_initialization": 0,
        "dt": 1e-4,
        "substeps": 10_000,
        "record_inner": False,
    },
    "Mark0COVID": {
        "timesteps_initialization": 0,
        "N_firms": 1000,
        "seed": 0,
        "dtype": "float64",
        # For equations of your own in torch; the library's has no use for them.
        "seed_init": 0,
        "tanh_constant": 1e6,
        "sigmoid_constant": 1e4,
        "min_constant": 100.0,
        "max_constant": 100.0,
        "epsilon": 1e-12,
        "sectors": ["Firms", "Household", "Bank", "CentralBank"],
    },
}
"""Model -> hyperparameters that differ from the derived ones. By default a model records its initial
state twice (`timesteps_initialization` is 1) and lists its sectors in the order in which its
variables name them."""

_PC = {
    "NationalIncome": "Macroeconomy",
    "InterestEarnedOnBillsHousehold": "Household",
    "Wealth": "Household",
}
_LP = {
    "NationalIncome": "Macroeconomy",
    "InterestOnBillsHousehold": "Household",
    "BondCouponIncomeHousehold": "Household",
    "Wealth": "Household",
}
AXES: dict[str, dict[str, str]] = {
    "PichlerEtAl2022DIO": {"industry": "sector_names"},
    "KirmansAnts": {"substep": "substeps"},
    "Mark0COVID": {"firm": "N_firms"},
}
"""Model -> axis -> the hyperparameter that gives its labels, or its size."""

EXTENSIONS: dict[str, str] = {
    "PichlerEtAl2022DIO": "_pichler",
    "KirmansAnts": "_kirmans",
    "Mark0COVID": "_mark0",
}
"""Model -> the module beside this one in which it has what is its own of: classes `Parameters`,
`Scenarios` and `Behavior`, and `noise(hyper)`, its random inputs drawn with torch."""

NUMBERED = frozenset({"LINEAR2D", "Mark0COVID"})
"""Models whose columns in tables have numbers, and no labels."""

COLUMNS: dict[str, dict[str, str]] = {
    "GL06SIM": {
        "GovernmentSupply": "Household",
        "LabourDemand": "Household",
        "LabourEarnings": "Household",
    },
    "GL06SIMEX": {
        "GovernmentSupply": "Household",
        "LabourDemand": "Household",
        "LabourIncome": "Household",
    },
    "GL06PC": _PC,
    "GL06PCEX": _PC,
    "GL06PCEX2": _PC,
    "GL06LP": _LP,
    "GL06LP2": _LP,
    "GL06LP3": _LP,
    "GL06INSOUT": {"NominalOutput": "Firm"},
    "IOPC": _PC,
    "ECO3IOPC": _PC,
}
"""Model -> variable -> the label of its column in tables, which users' scripts select by. By default
it is the sector that pays a flow, holds or owes a stock, or has an index."""
