"""The registered models: against the book, other solvers, the published package, themselves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import example, keyed, randomly
from published_cases import (
    NEVER_SET,
    OTHER_ROLES,
    RECORDED,
    WITHOUT_ROLES,
    WRONG_THERE,
    as_published,
    drift,
    published,
    runs,
)

from macrostat_jax import models, simulate

REFERENCE = Path(__file__).parents[1] / "reference"


def table(name: str) -> dict[str, np.ndarray]:
    with open(REFERENCE / name, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


PC = {
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
}
EXPECTED = {
    "expected_disposable_income": "YDe",
    "expected_wealth": "Ve",
    "household_bill_demand": "Bd",
}


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
        ("GL06PC", "PC.csv", PC),
        ("GL06PCEX", "PCEX.csv", PC | EXPECTED),
        ("GL06PCEX2", "PCEX2.csv", PC | EXPECTED),
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


@pytest.mark.parametrize("name", ["PC", "PCEX", "PCEX2"])
def test_interest_in_pc_is_paid_on_last_periods_bills(name):
    reference, path = table(f"{name}.csv"), simulate(models.get(f"GL06{name}"))
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
    model = example(name)
    assert model.name == name
    assert model.title.startswith("Model ") and model.title.endswith(".")
    for record in (model.Params, model.Scenario, model.State):
        for field in record.fields.values():
            assert field.symbol and field.unit, f"{field.key} has no symbol or no unit"
    for field in model.State.fields.values():
        assert field.equation, f"{field.key} has no equation"
    params = jax.tree.map(jnp.asarray, model.params())

    def total(params):
        path = simulate(model, params, periods=7, **keyed(model))
        for field in model.State.fields.values():
            if field.unlimited:  # infinity is a value that only such a variable has
                leaf = getattr(path, field.key)
                finite = jnp.where(leaf == jnp.inf, 0, leaf)
                path = path.replace(**{field.key: finite})
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(path))

    value, gradient = jax.jit(jax.value_and_grad(total))(params)
    assert np.isfinite(value)
    for field in model.Params.fields:
        assert np.all(np.isfinite(getattr(gradient, field))), field


@pytest.mark.parametrize("name", models.names())
def test_float32_stays_float32_and_near(name, float32):
    model = example(name)
    single = simulate(model, periods=20, **keyed(model))
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype("float32")}
    if model.random:
        return  # the draws differ between the modes
    with jax.enable_x64(True):
        double = simulate(model, periods=20)
    for name in model.State.fields:
        np.testing.assert_allclose(
            getattr(single, name), getattr(double, name), rtol=1e-4, atol=1e-4, err_msg=name
        )


def scalar_names(field: Any) -> list[str]:
    """`S1.LabourProductivity` for each slot of a field over sectors, as the torch API names them."""
    names = [""]
    for axis in field.axes:
        names = [f"{name}{slot}." for name in names for slot in axis.slots]
    return [f"{name}{field.name}" for name in names]


@pytest.mark.parametrize("name", RECORDED)
def test_names_defaults_and_bounds_are_the_published_ones(name):
    model, facts = models.get(name), published(name)
    assert model.periods == facts["timesteps"]
    assert model.trigger == facts["hyper"]["scenario_trigger"]
    declared, symbols = {}, {}
    for field in model.Params.fields.values():
        if field.name in facts["data"]:
            np.testing.assert_allclose(
                np.broadcast_to(field.default, field.shape), facts["data"][field.name], rtol=1e-6
            )
            continue
        values = np.broadcast_to(field.default, field.shape).ravel()
        for label, value in zip(scalar_names(field), values, strict=True):
            declared[label] = [value, *field.bounds, field.unit]
            symbols[label] = field.symbol
    assert declared == facts["parameters"]
    assert list(declared) == list(facts["parameters"])
    for label, symbol in symbols.items():
        if "." not in label:  # a sector's symbol is that of the vector, without its number
            assert symbol == facts["notation"][label]
    series = {field.name: field.default for field in model.Scenario.fields.values()}
    labels = dict.fromkeys(model.shock_series)
    for changes in model.scenarios.values():
        labels |= dict.fromkeys(key for key in changes if key not in model.Scenario.fields)
    for label in labels:
        key, kind = model.split_shock(label)
        for element in scalar_names(model.Params.fields[key]):
            series[f"{element.replace('.', '_')}_{kind}"] = 0.0 if kind == "add" else 1.0
    assert sorted(series) == sorted(facts["series"])
    for label, value in series.items():
        np.testing.assert_allclose(value, facts["series"][label], rtol=1e-6, err_msg=label)
    assert [field.name for field in model.State.fields.values()] == list(facts["variables"])
    assert list(model.scenarios) == facts["scenarios"]
    constraints = [[list(c.names), c.total] for c in model.constraints]
    public = {key: field.name for key, field in model.Params.fields.items()}
    assert [[[public[n] for n in names], total] for names, total in constraints] == (
        facts["constraints"]
    )


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
        theirs = OTHER_ROLES.get(name, {}).get(field.name) or dict(facts["variables"][field.name])
        assert ours == theirs or (name in WITHOUT_ROLES and not theirs), field.name


def core_values(record: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Values by the torch API's names as arrays by field: `S1.X` fills the first slot of `x`."""
    found: dict[str, Any] = {}
    for key, field in record.fields.items():
        slots = [values.get(label) for label in scalar_names(field)]
        if not field.axes and slots[0] is not None:
            found[key] = slots[0]
        elif any(slot is not None for slot in slots):
            array = np.array(np.broadcast_to(field.default, field.shape), float).ravel()
            for i, slot in enumerate(slots):
                array[i] = array[i] if slot is None else slot
            found[key] = array.reshape(field.shape)
        elif field.name in values:
            found[key] = np.asarray(values[field.name])
    return found


def core_shocks(model: Any, changes: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, field in model.Params.fields.items():
        for i, label in enumerate(scalar_names(field)):
            name = f"{label.replace('.', '_')}_add"
            if name in changes:
                array = found.setdefault(f"{key}_add", np.zeros(field.shape))
                array.reshape(-1)[i] = changes[name]
    return found


@pytest.mark.parametrize(("name", "number"), runs())
def test_paths_of_the_published_package(name, number):
    facts = published(name)
    run, first = facts["runs"][number], facts["timesteps_initialization"]
    model = as_published(name).configure(**run.get("hyper", {}))
    given = {**run["parameters"], **run.get("data", {})}
    params = model.params(**core_values(model.Params, given))
    known = {label for f in model.Params.fields.values() for label in (f.name, *scalar_names(f))}
    series = {field.name for field in model.Scenario.fields.values()}
    shocked = {f"{label.replace('.', '_')}_add" for label in known}
    # A name that ours does not know would be left out without a word.
    assert given.keys() <= known and run["changes"].keys() <= series | shocked
    changed = {"start": run["from_row"]}
    exogenous = core_values(model.Scenario, run["changes"])
    scenario = model.scenario(run.get("scenario"), **changed, **exogenous)[first:]
    shocks = model.shocks(run.get("scenario"), **changed, **core_shocks(model, run["changes"]))
    path = simulate(
        model,
        params,
        scenario,
        shocks={key: value[first:] for key, value in shocks.items()},
        periods=facts["timesteps"] - first,
    )
    initial = model.initial_state(params, model.scenario()[0])
    for key, field in model.State.fields.items():
        theirs = np.array(run["path"][field.name])
        start = getattr(initial, key)
        before = np.broadcast_to(start, (first + 1, *field.shape))
        ours = np.concatenate([before, getattr(path, key)])[run.get("rows", slice(None))]
        if field.name in NEVER_SET.get(name, {}):
            # There may still be nothing to pay in the first period.
            assert not np.any(theirs) and np.all(ours[first + 2 :] != 0)
            continue
        atol = drift(name, number, field.name)
        if field.name in WRONG_THERE.get(name, {}):
            # A test of its own shows the difference and why; here it must still be one.
            assert not np.allclose(ours, theirs, rtol=2e-5, atol=atol), field.name
            continue
        np.testing.assert_allclose(
            ours, theirs, rtol=2e-5, atol=atol, err_msg=f"{field.name}, run {number}"
        )


def test_the_register():
    assert models.get("GL06SIM") is models.GL06SIM
    assert "GL06SIM" in dir(models)
    with pytest.raises(ValueError, match=r"no model 'SIM'. There are: LINEAR2D, NK3E, GL06SIM"):
        models.get("SIM")
    with pytest.raises(AttributeError, match="no attribute 'SIM'"):
        _ = models.SIM
