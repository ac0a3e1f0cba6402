"""What was recorded of the published package, and where its models are known to be wrong."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from macrostat_jax import models

PUBLISHED = Path(__file__).parent / "reference" / "published"
RECORDED = [name for name in models.names() if (PUBLISHED / f"{name}.json").exists()]

# Variables that the published package declares and never sets: they stay 0 there.
NEVER_SET = {
    "GL06SIM": {
        "GovernmentDemand": "what the government demands is what it is supplied with (3.2)",
        "LabourEarnings": "the wage bill W N_s, of which 3.5 and 3.6 speak",
        "Wages": "the wage rate W, which is exogenous",
    },
    "GL06SIMEX": {"Wages": "the wage rate W, which is exogenous"},
    "IOPC": {
        "NominalConsumptionHousehold": "what households pay, p_c c",
        "NominalConsumptionGovernment": "what the government pays, p_g g",
    },
    "ECO3IOPC": {
        "NominalConsumptionHousehold": "what households pay, p_c c",
        "NominalConsumptionGovernment": "what the government pays, p_g g",
        "TotalEmissions": "the emissions (30)",
        "C02IntensityNonRenewableEnergy": "CO2IntensityNonRenewableEnergy, spelt with a zero",
    },
}
# Variables of which it computes something else than its source says, and why. A test of the model
# compares each with independent numbers.
WRONG_THERE: dict[str, dict[str, str]] = {
    "ECO3IOPC": {
        "SocioeconomicStock": "loses last period's discards instead of this period's (25)",
        "Waste": "follows from that stock (26)",
        "EnergyReserves": "lose all energy instead of what is not renewable (38)",
    },
}
# Accounting roles that do not close the accounts there: variable -> the roles that do.
OTHER_ROLES: dict[str, dict[str, dict[str, Any]]] = {
    # There one industry, S1, pays the incomes that all industries together are paid for.
    "IOPC": {"NationalIncome": {"Inflow": "Household", "Outflow": "IOSectors"}},
    "ECO3IOPC": {"NationalIncome": {"Inflow": "Household", "Outflow": "IOSectors"}},
}


@functools.cache
def published(name: str) -> dict[str, Any]:
    return json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


def runs() -> list[tuple[str, int]]:
    """(model, number of the run) of every recorded run."""
    return [(name, i) for name in RECORDED for i in range(len(published(name)["runs"]))]
