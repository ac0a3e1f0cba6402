"""A small model of a user's own, with everything that the core knows: vectors, data, constraints."""

from __future__ import annotations

import torch

from macrostat.core import Behavior, LinearConstraint, Model, Parameters, Scenarios, Variables


def entry(value: float, low: float = 0.0, high: float = 1.0) -> dict:
    return {"value": value, "lower bound": low, "upper bound": high, "unit": ".", "notation": "p"}


class ToyParameters(Parameters):
    def get_default_parameters(self):
        return {
            "a": entry(0.5),
            "b": entry(0.3),
            "c": entry(0.2),
            "S2.w": entry(0.2),
            "S1.w": entry(0.1),
            "S1.S2.m": entry(0.7),
            "Other.q": entry(0.3),
        }

    def get_default_hyperparameters(self):
        return super().get_default_hyperparameters() | {
            "timesteps": 12,
            "timesteps_initialization": 2,
            "scenario_trigger": 5,
            "vector_sectors": ["S2", "S1"],
            "sectors": ["H", "F"],
        }

    def get_default_data_parameters(self):
        return {"D": {"value": torch.ones(2, 3), "lower_bound": 0.0, "upper_bound": 2.0}}

    def get_constraints(self):
        return (LinearConstraint(("a", "b", "c"), 1.0),)


class ToyScenarios(Scenarios):
    def get_default_scenario_values(self):
        return {
            "G": 20,
            "a_add": 0.0,
            "a_multiply": 1.0,
            "S2_w_add": 0.0,
            "S2_w_multiply": 1.0,
            "S1_S2_m_multiply": 1.0,
        }


class ToyVariables(Variables):
    def get_default_variables(self):
        return {
            "Y": {
                "notation": "Y",
                "unit": "$",
                "history": 3,
                "sectors": ["H"],
                "sfc": [("Inflow", "H"), ("Outflow", "F")],
            },
            "W": {"notation": "W", "unit": "$", "history": 0, "sectors": ["S1", "S2"]},
            "M": {"notation": "M", "unit": "$", "history": 0, "sectors": [2, 2]},
            "HMoney": {"notation": "M_h", "history": 0, "sectors": ["H"], "sfc": [("Asset", "H")]},
            "FMoney": {
                "notation": "M_f",
                "history": 0,
                "sectors": ["F"],
                "sfc": [("Liability", ("F", "Capital"))],
            },
        }


class ToyBehavior(Behavior):
    def initialize(self):
        self.state["Y"] = torch.ones(1)

    def step(self, t, scenario, params):
        income = (
            params["a"] * self.prior["Y"]
            + params["c"] * scenario["G"]
            + 0.1 * self.history["Y"][-1]
        )
        self.state["Y"] = income
        self.state["W"] = params["w"] * income + params["D"].sum()
        self.state["M"] = params["m"] * income
        self.state["HMoney"] = self.prior["HMoney"] + income
        self.state["FMoney"] = self.prior["FMoney"] + income

    def compute_theoretical_steady_state_per_step(self, t, scenario, params):
        self.state["Y"] = params["a"] * scenario["G"]


class Toy(Model):
    parameters_class = ToyParameters
    scenarios_class = ToyScenarios
    variables_class = ToyVariables

    def __init__(self, parameters=None, behavior: type[Behavior] = ToyBehavior, **kwargs):
        super().__init__(parameters=parameters, behavior=behavior, **kwargs)
