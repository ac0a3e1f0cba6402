"""What was recorded of the published package, and where its models are known to be wrong."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from macrostat_jax import Model, models

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
# Variables that it computes from the change of a number so large that single precision rounds it by
# more than they may drift otherwise, and how far (absolutely): resources of 388,889 and 542,000 are
# resolved to 0.03 and 0.06, in each of a hundred periods. A test of the model has closed forms.
ROUNDED_THERE: dict[str, dict[str, float]] = {
    "ECO3IOPC": {
        "ConversionMatterToReserves": 0.03,
        "ConversionEnergyToReserves": 0.06,
        "MatterReserves": 3.0,
    },
}
# Accounting roles that do not close the accounts there: variable -> the roles that do.
OTHER_ROLES: dict[str, dict[str, dict[str, Any]]] = {
    # There consumption and government spending are paid twice (as sales too), firms pay the banks'
    # profits, inventories are there in goods and in money, and no one owes loans and advances.
    "GL06INSOUT": {
        "NominalSales": {"Index": "Firm"},
        "FirmProfits": {"Outflow": "Firm", "Inflow": "Household"},
        "BankProfits": {"Outflow": "Bank", "Inflow": "Household"},
        "TotalDividends": {"Index": "Household"},
        "RealInventories": {"Index": "Firm"},
        "LoanDemand": {"Liability": "Firm"},
        "AdvancesDemand": {"Liability": "Bank"},
    },
    # There one industry, S1, pays the incomes that all industries together are paid for.
    "IOPC": {"NationalIncome": {"Inflow": "Household", "Outflow": "IOSectors"}},
    "ECO3IOPC": {"NationalIncome": {"Inflow": "Household", "Outflow": "IOSectors"}},
}

WITHOUT_ROLES = ("Mark0COVID",)
"""Models of which no variable has an accounting role there."""


def _insout_with_one_lag(model: Model) -> Model:
    """INSOUT as it is published: the lags of the deposits hold their current values.

    Equation 10.82 relates the profits of two periods to the deposits of the two periods before; with
    those lags it takes the deposits of the last period twice. The loan rate, and with it nearly every
    variable, then moves in other periods.
    """

    def step(prior: Any, params: Any, scenario: Any) -> Any:
        prior = prior.replace(lagged_m1_supply=prior.m1_supply, lagged_m2_supply=prior.m2_supply)
        state = model.step(prior, params, scenario)
        return state.replace(lagged_m1_supply=state.m1_supply, lagged_m2_supply=state.m2_supply)

    return Model(
        model.name,
        model.Params,
        model.Scenario,
        model.State,
        model.initial_state,
        step,
        constraints=model.constraints,
        scenarios=model.scenarios,
        shocks=model.shock_series,
        trigger=model.trigger,
        periods=model.periods,
    )


# Models in which an error there reaches most variables: the variant with the same error, of which
# every path must be the published one. A test of the model shows the difference and why.
VARIANTS = {"GL06INSOUT": _insout_with_one_lag}


@functools.cache
def as_published(name: str) -> Model:
    """The model, or the variant of it that the package computes."""
    model = models.get(name)
    return VARIANTS[name](model) if name in VARIANTS else model


@functools.cache
def published(name: str) -> dict[str, Any]:
    return json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


def drift(name: str, number: int, variable: str) -> float:
    """How far single precision may have carried a variable of a recorded run, absolutely.

    2e-4, or in proportion what is larger than 100. Every period adds its rounding to the stocks, and
    one that is the difference of larger ones has theirs.
    """
    facts = published(name)
    paths = facts["runs"][number]["path"]
    sizes = np.abs(paths[variable])
    own = 2e-4 * max(1.0, np.max(sizes, where=np.isfinite(sizes), initial=0.0) / 100)
    stocks = [
        np.max(np.abs(paths[key]))
        for key, roles in facts["variables"].items()
        if roles and roles[0][0] in ("Asset", "Liability")
    ]
    is_stock = facts["variables"][variable][0][0] in ("Asset", "Liability")
    summed = facts["timesteps"] * np.finfo("float32").eps * max(stocks) if is_stock else 0.0
    rounded = ROUNDED_THERE.get(name, {}).get(variable, 0.0)
    return float(max(own, summed, rounded))


def runs() -> list[tuple[str, int]]:
    """(model, number of the run) of every recorded run."""
    return [(name, i) for name in RECORDED for i in range(len(published(name)["runs"]))]
