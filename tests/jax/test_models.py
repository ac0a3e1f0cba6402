"""The registered models: against the book, other solvers, the published package, themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import randomly

from macrostat_jax import models, simulate

REFERENCE = Path(__file__).parents[1] / "reference"
RECORDED = sorted(path.stem for path in (REFERENCE / "published").glob("*.json"))

# Public variables that the published package declares and never sets: they stay 0 there.
NEVER_SET = {
    "GL06SIM": {
        "GovernmentDemand": "what the government demands is what it is supplied with (3.2)",
        "LabourEarnings": "the wage bill W N_s, of which 3.5 and 3.6 speak",
        "Wages": "the wage rate W, which is exogenous",
    },
    "GL06SIMEX": {"Wages": "the wage rate W, which is exogenous"},
}


def table(name: str) -> dict[str, np.ndarray]:
    with open(REFERENCE / name, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def published(name: str) -> dict[str, Any]:
    return json.loads((REFERENCE / "published" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "file", "columns"),
    [
        (
            "GL06SIM",
            "SIM.csv",
            {
                "consumption_demand": "Cd",
                "consumption_supply": "Cs",
                "government_demand": "Gd",
                "government_supply": "Gs",
                "tax_demand": "Td",
                "tax_supply": "Ts",
                "labour_demand": "Nd",
                "labour_supply": "Ns",
                "labour_earnings": "Ns",  # the wage is 1
                "disposable_income": "YD",
                "wages": "W",
                "government_money_stock": "Hs",
                "household_money_stock": "Hh",
                "national_income": "Y",
            },
        ),
        (
            "GL06SIMEX",
            "SIMEX.csv",
            {
                "consumption_demand": "Cd",
                "consumption_supply": "Cs",
                "government_demand": "Gd",
                "government_supply": "Gs",
                "tax_demand": "Td",
                "tax_supply": "Ts",
                "labour_demand": "Nd",
                "labour_supply": "Ns",
                "labour_income": "Ns",
                "disposable_income": "YD",
                "expected_disposable_income": "YDe",
                "wages": "W",
                "government_money_stock": "Hs",
                "household_money_demand": "Hd",
                "household_money_stock": "Hh",
                "national_income": "Y",
            },
        ),
        (
            "GL06PC",
            "PC.csv",
            {
                "consumption_household": "C",
                "consumption_government": "G",
                "national_income": "Y",
                "taxes": "T",
                "household_money_stock": "Hh",
                "central_bank_money_stock": "Hs",
                "household_bill_stock": "Bh",
                "government_bill_stock": "Bs",
                "central_bank_bill_stock": "Bcb",
                "wealth": "V",
                "interest_rate": "R",
                "disposable_income": "YD",
            },
        ),
    ],
)
def test_path_of_independent_solvers(name, file, columns):
    reference = table(file)
    path = simulate(models.get(name))
    assert len(reference["period"]) == 101
    for key, column in columns.items():
        # The reference is rounded to 13 digits and solved to 1e-13, in sums of a hundred periods.
        np.testing.assert_allclose(
            getattr(path, key), reference[column][1:], rtol=0, atol=1e-9, err_msg=key
        )
    missing = set(models.get(name).State.fields) - set(columns)
    assert missing <= {"interest_earned_on_bills_household", "central_bank_profits"}


def test_interest_in_pc_is_paid_on_last_periods_bills():
    reference, path = table("PC.csv"), simulate(models.GL06PC)
    interest = reference["R"][:-1] * reference["Bh"][:-1]
    profits = reference["R"][:-1] * reference["Bcb"][:-1]
    np.testing.assert_allclose(path.interest_earned_on_bills_household, interest, atol=1e-9, rtol=0)
    np.testing.assert_allclose(path.central_bank_profits, profits, atol=1e-9, rtol=0)


def test_linear2d_is_exact_in_value_and_derivatives():
    model, reference = models.LINEAR2D, table("LINEAR2D.csv")
    params = jax.tree.map(jnp.asarray, model.params())

    def run(params):
        return simulate(model, params, periods=10).state

    path, jacobian = run(params), jax.jacfwd(run)(params)
    np.testing.assert_allclose(path.ravel(), reference["x"][2:], rtol=0, atol=1e-14)
    for key, field in model.Params.fields.items():
        found = getattr(jacobian, key).ravel()
        np.testing.assert_allclose(found, reference[f"d_{field.name}"][2:], rtol=0, atol=1e-13)
    start = model.initial_state(params, model.scenario()).state
    np.testing.assert_allclose(start, reference["x"][:2], rtol=0, atol=0)


def test_first_periods_by_hand():
    sim = simulate(models.GL06SIM).national_income[:3]
    np.testing.assert_allclose(sim, [38.461538, 47.928994, 55.939918], atol=5e-7)
    simex = simulate(models.GL06SIMEX).national_income[:3]
    np.testing.assert_allclose(simex, [20, 36, 48.8], rtol=1e-14)


def test_closed_forms_of_the_steady_states():
    def income(model, scenario=None, **values):
        row = (scenario or model.scenario())[0]
        return model.steady_state(model.params(**values), row).national_income

    sim, pc = models.GL06SIM, models.GL06PC
    assert income(sim) == pytest.approx(100, rel=1e-14)
    assert jax.grad(lambda t: income(sim, tax_rate=t))(0.2) == pytest.approx(-500, rel=1e-13)
    assert income(pc) == pytest.approx(106.486486, abs=5e-7)
    high = pc.scenario(interest_rate=0.035)
    assert income(pc, high) == pytest.approx(110.090090, abs=5e-7)
    # The simulation gets there, and so does its derivative.
    far = simulate(sim, periods=1000).national_income[-1]
    assert far == pytest.approx(100, rel=1e-13)
    slope = jax.grad(
        lambda t: simulate(sim, sim.params(tax_rate=t), periods=1000).national_income[-1]
    )(0.2)
    assert slope == pytest.approx(-500, rel=1e-11)


@pytest.mark.parametrize("name", models.names())
def test_steady_state_is_a_fixed_point_of_the_step(name):
    model = models.get(name)
    if model.steady_state is None:
        pytest.skip("no closed form")
    row = model.scenario()[0]
    changed = jax.tree.map(lambda value: value * 1.5, row)
    for params, scenario in ((model.params(), row), (randomly(model, 1), changed)):
        state = model.steady_state(params, scenario)
        after = model.step(state, params, scenario)
        for key in model.State.fields:
            np.testing.assert_allclose(
                getattr(after, key), getattr(state, key), rtol=1e-12, atol=1e-12, err_msg=key
            )


@pytest.mark.parametrize("name", models.names())
def test_registered_models_are_complete_and_differentiable(name):
    """What holds for every model without anyone writing it down for it."""
    model = models.get(name)
    assert model.name == name
    assert model.title.startswith("Model ") and model.title.endswith(".")
    for record in (model.Params, model.Scenario, model.State):
        for field in record.fields.values():
            assert field.symbol and field.unit, f"{field.key} has no symbol or no unit"
    for field in model.State.fields.values():
        assert field.equation, f"{field.key} has no equation"
    key: dict[str, Any] = {"key": jax.random.key(0)} if model.random else {}
    params = jax.tree.map(jnp.asarray, model.params())

    def total(params):
        path = simulate(model, params, periods=7, **key)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(path))

    value, gradient = jax.value_and_grad(total)(params)
    assert np.isfinite(value)
    for field in model.Params.fields:
        assert np.all(np.isfinite(getattr(gradient, field))), field


@pytest.mark.parametrize("name", models.names())
def test_float32_stays_float32_and_near(name, float32):
    model = models.get(name)
    key: dict[str, Any] = {"key": jax.random.key(0)} if model.random else {}
    single = simulate(model, periods=20, **key)
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype("float32")}
    if model.random:
        return  # the draws differ between the modes
    with jax.enable_x64(True):
        double = simulate(model, periods=20)
    for name in model.State.fields:
        np.testing.assert_allclose(
            getattr(single, name), getattr(double, name), rtol=1e-4, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("name", RECORDED)
def test_names_defaults_and_bounds_are_the_published_ones(name):
    model, facts = models.get(name), published(name)
    assert model.periods == facts["timesteps"]
    declared = {
        field.name: [field.default, *field.bounds, field.unit]
        for field in model.Params.fields.values()
    }
    assert declared == facts["parameters"]
    assert list(declared) == list(facts["parameters"])
    assert {f.name: f.symbol for f in model.Params.fields.values()} == facts["notation"]
    series = {field.name: field.default for field in model.Scenario.fields.values()}
    for label in model.shock_series:
        key, kind = model.split_shock(label)
        series[f"{model.Params.fields[key].name}_{kind}"] = 0.0
    assert list(series) == list(facts["series"])
    assert list(series.values()) == pytest.approx(list(facts["series"].values()), rel=1e-7)
    assert [field.name for field in model.State.fields.values()] == list(facts["variables"])


@pytest.mark.parametrize("name", RECORDED)
def test_accounting_roles_are_the_published_ones(name):
    model, facts = models.get(name), published(name)

    def account(value):
        return list(value) if isinstance(value, tuple) else value

    for field in model.State.fields.values():
        roles = {
            "Inflow": field.gets,
            "Outflow": field.pays,
            "Asset": field.asset,
            "Liability": field.liability,
            "Index": field.sector or None,
        }
        ours = {kind: account(value) for kind, value in roles.items() if value is not None}
        assert ours == dict(facts["variables"][field.name]), field.name


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("number", range(3))
def test_paths_of_the_published_package(name, number):
    model, facts = models.get(name), published(name)
    run, first = facts["runs"][number], facts["timesteps_initialization"]
    params = model.params(**run["parameters"])
    start = run["from_row"]
    exogenous = {k: v for k, v in run["changes"].items() if not k.endswith("_add")}
    shocks = {k: v for k, v in run["changes"].items() if k.endswith("_add")}
    scenario = model.scenario(start=start, **exogenous)[first:]
    shock_paths = {k: v[first:] for k, v in model.shocks(start=start, **shocks).items()}
    periods = facts["timesteps"] - first
    path = simulate(model, params, scenario, shocks=shock_paths, periods=periods)
    initial = model.initial_state(params, model.scenario()[0])
    for key, field in model.State.fields.items():
        theirs = np.array(run["path"][field.name])
        before = np.broadcast_to(getattr(initial, key), (first + 1, *field.shape))
        ours = np.concatenate([before, getattr(path, key)])
        if field.name in NEVER_SET.get(name, {}):
            assert not np.any(theirs) and np.all(ours[first + 1 :] != 0)
            continue
        # Their parameters and loops are float32; the drift is documented to be up to 1.2e-4.
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-4, err_msg=field.name)


def test_the_register():
    assert models.get("GL06SIM") is models.GL06SIM
    assert "GL06SIM" in dir(models)
    with pytest.raises(ValueError, match=r"no model 'SIM'. There are: LINEAR2D, GL06SIM"):
        models.get("SIM")
    with pytest.raises(AttributeError, match="no attribute 'SIM'"):
        _ = models.SIM
