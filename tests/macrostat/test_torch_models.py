"""The library's models in the torch API: where they are found, what they declare, what they compute."""

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from published_cases import (
    NEVER_SET,
    OTHER_ROLES,
    RECORDED,
    VARIANTS,
    WITHOUT_ROLES,
    WRONG_THERE,
    as_published,
    drift,
    published,
    runs,
)

import macrostat.models
from macrostat.core import Behavior, Model, Parameters, Scenarios, Variables
from macrostat.models import (
    _conventions,
    _serve,
    from_definition,
    get_available_models,
    get_model,
    get_model_classes,
)
from macrostat_jax import accounts, steady_state
from macrostat_jax import models as register

BASES = (Behavior, Parameters, Scenarios, Variables, Model)


# Where they are found -------------------------------------------------------------------------


def test_names():
    assert get_available_models() == list(register.names())
    for table in (_conventions.HYPERPARAMETERS, _conventions.COLUMNS):
        assert set(table) <= set(register.names())
    for name, columns in _conventions.COLUMNS.items():
        assert set(columns) <= {field.name for field in register.get(name).State.fields.values()}


@pytest.mark.parametrize("name", register.names())
def test_import_paths(name: str):
    classes = get_model_classes(name)
    package = importlib.import_module(f"macrostat.models.{name}")
    assert getattr(macrostat.models, name) is package
    assert get_model(name) is classes.Model is getattr(package, name)
    modules = ("behavior", "parameters", "scenarios", "variables", name.lower())
    for cls, base, module in zip(classes, BASES, modules, strict=True):
        assert issubclass(cls, base)
        assert cls.__module__ == f"macrostat.models.{name}.{module}"
        found = importlib.import_module(cls.__module__)
        assert getattr(found, cls.__name__) is cls is getattr(package, cls.__name__)
    names = [f"{part}{name}" for part in ("Behavior", "Parameters", "Scenarios", "Variables", "")]
    assert [cls.__name__ for cls in classes] == names
    assert package.__all__ == names


def test_import_statements():
    from macrostat.models.GL06SIM import GL06SIM  # type: ignore[import-not-found]
    from macrostat.models.GL06SIM.behavior import (  # type: ignore[import-not-found]
        BehaviorGL06SIM,
    )

    assert GL06SIM().behavior is BehaviorGL06SIM


def test_unknown_names():
    for call in (get_model, get_model_classes):
        with pytest.raises(ValueError, match=r"unavailable model: ZZ\nAvailable models: .*GL06SIM"):
            call("ZZ")
    for missing in ("macrostat.models.ZZ", "macrostat.models.GL06SIM.zz"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(missing)
    with pytest.raises(AttributeError):
        macrostat.models.ZZ  # noqa: B018


def test_the_finder_is_installed_once_and_answers_for_models_only():
    assert _serve.install() is _serve.install()
    assert sum(isinstance(finder, _serve.Finder) for finder in sys.meta_path) == 1
    finder = _serve.install()
    for other in ("json", "macrostat", "macrostat.core", "macrostat.models._library", "GL06SIM"):
        assert finder.find_spec(other) is None


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_importing_is_cheap():
    heavy = "import sys, macrostat, macrostat.models; print([m for m in {!r} if m in sys.modules])"
    assert run(heavy.format(["torch", "jax", "pandas", "macrostat_jax"])) == "[]"


def test_pickles_in_another_process(tmp_path: Path):
    model = get_model("GL06PC")(parameters={"TaxRate": 0.25})
    expected = model.simulate()["Wealth"][-1].item()
    (tmp_path / "m.pkl").write_bytes(pickle.dumps((model, get_model_classes("GL06PC"))))
    code = (
        "import pickle, sys; m, c = pickle.load(open(sys.argv[1], 'rb'));"
        "print(m.simulate()['Wealth'][-1].item(), isinstance(m, c.Model))"
    )
    assert run(code, str(tmp_path / "m.pkl")) == f"{expected} True"


# A user's own, in a directory -----------------------------------------------------------------

OWN = {
    "parameters": """
from macrostat.core import Parameters

class ParametersOWN(Parameters):
    def get_default_parameters(self):
        entry = {"lower bound": 0.0, "upper bound": 1.0, "unit": ".", "notation": "g"}
        return {"g": {"value": 0.5, **entry}}
""",
    "scenarios": "from macrostat.core import Scenarios as ScenariosOWN\n",
    "variables": """
from macrostat.core import Variables

class VariablesOWN(Variables):
    def get_default_variables(self):
        return {"x": {"sectors": ["A"]}}
""",
    "behavior": """
import torch
from macrostat.core import Behavior
from macrostat.models.OWN.parameters import ParametersOWN

class BehaviorOWN(Behavior):
    def initialize(self):
        self.state["x"] = torch.ones(1)

    def step(self, t, scenario, params):
        self.state["x"] = params["g"] * self.prior["x"]
""",
    "own": """
from macrostat.core import Model
from .behavior import BehaviorOWN
from .parameters import ParametersOWN
from .variables import VariablesOWN

class OWN(Model):
    parameters_class, variables_class = ParametersOWN, VariablesOWN

    def __init__(self, **kwargs):
        super().__init__(behavior=BehaviorOWN, **kwargs)
""",
    "__init__": "from .own import OWN\n",
}


def write_package(folder: Path, factor: float = 0.5) -> None:
    folder.mkdir(parents=True)
    for name, text in OWN.items():
        (folder / f"{name}.py").write_text(text.replace("0.5", str(factor)))


def test_a_model_in_a_directory(tmp_path: Path):
    write_package(tmp_path / "first" / "OWN")
    write_package(tmp_path / "second" / "OWN", 0.25)
    (tmp_path / "first" / "incomplete").mkdir()
    assert get_available_models(tmp_path / "first") == ["OWN"]
    first = get_model("OWN", tmp_path / "first")
    assert first.__module__ == "macrostat.models.OWN.own"
    assert first().simulate()["x"][12].item() == 0.25
    assert get_model("OWN", str(tmp_path / "first")) is first
    assert get_model_classes("OWN", tmp_path / "first").Behavior.__name__ == "BehaviorOWN"
    assert get_model("OWN", tmp_path / "second")().simulate()["x"][12].item() == 0.0625
    with pytest.raises(ValueError, match="unavailable model: GL06SIM\nAvailable models: OWN"):
        get_model("GL06SIM", tmp_path / "first")
    write_package(tmp_path / "third" / "GL06SIM")
    (tmp_path / "third" / "GL06SIM" / "own.py").rename(tmp_path / "third/GL06SIM/gl06sim.py")
    with pytest.raises(ValueError, match="GL06SIM is the name of a library model"):
        get_model("GL06SIM", tmp_path / "third")


# What they declare ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_declarations_are_the_published_ones(name: str):
    facts = published(name)
    model = get_model(name)()
    assert model.parameters.hyper["timesteps"] == facts["timesteps"]
    assert model.parameters.hyper["timesteps_initialization"] == facts["timesteps_initialization"]
    assert model.parameters.hyper["sectors"] == facts["sectors"]
    assert {
        key: [info["value"], info["lower bound"], info["upper bound"], info["unit"]]
        for key, info in model.parameters.values.items()
    } == facts["parameters"]
    assert {k: info["notation"] for k, info in model.parameters.values.items()} == facts["notation"]
    first = {key: path[0] for key, path in model.scenarios.timeseries[0].items()}
    # There too the order says nothing, but that of the series of one kind.
    kinds = (lambda key: key.endswith("_add"), lambda key: not key.endswith("_add"))
    for kind in kinds:
        assert list(filter(kind, first)) == list(filter(kind, facts["series"]))
    for key, value in first.items():
        expected = torch.tensor(facts["series"][key], dtype=value.dtype).reshape(value.shape)
        assert torch.allclose(value, expected, rtol=1e-6), key
    for key, value in facts["hyper"].items():
        assert model.parameters.hyper[key] == value, key
    for key, value in facts["data"].items():
        found = torch.as_tensor(model.parameters.data[key]["value"]).double()
        assert torch.allclose(found, torch.tensor(value, dtype=torch.float64), rtol=1e-6), key
    assert list(model.variables.info) == list(facts["variables"])

    def roles(sfc: list) -> set:
        return {
            (kind, sector if isinstance(sector, str) else tuple(sector)) for kind, sector in sfc
        }

    for key, sfc in facts["variables"].items():
        other = OTHER_ROLES.get(name, {}).get(key)
        expected = roles(list(other.items())) if other else roles(sfc)
        ours = roles(model.variables.info[key]["sfc"])
        assert ours == expected or (name in WITHOUT_ROLES and not sfc), key


@pytest.mark.parametrize("name", register.names())
def test_parts_construct_alone(name: str):
    classes = get_model_classes(name)
    for cls in classes[:4]:
        cls()
        if cls is not classes.Parameters:
            cls(parameters=None)
    assert classes.Behavior().variables.info == classes.Variables().info
    model: Any = classes.Model()
    assert model.definition is register.get(name)
    assert model.name == name


@pytest.mark.parametrize("name", register.names())
def test_instances_share_nothing(name: str):
    cls = get_model(name)
    first, second = cls(), cls()
    key = next(iter(first.parameters.values))
    before = second.parameters[key]
    first.parameters.values[key]["value"] = before + 0.01
    first.parameters.hyper["timesteps"] = 3
    first.scenarios.timeseries[0].clear()
    first.variables.info.clear()
    assert second.parameters[key] == before
    assert second.parameters["timesteps"] == register.get(name).periods
    assert second.variables.info and cls().variables.info
    assert set(second.scenarios.timeseries[0]) == set(cls().scenarios.timeseries[0])


def test_columns_of_tables():
    model = get_model("GL06PC")()
    model.simulate()
    table = model.variables.to_pandas()
    assert ("NationalIncome", "Macroeconomy") in table and ("Wealth", "Household") in table


# What they compute ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), runs())
def test_paths_are_the_published_ones(name: str, case: int):
    recorded = published(name)["runs"][case]
    hyper = {"hyperparameters": recorded["hyper"]} if recorded.get("hyper") else {}
    cls = from_definition(as_published(name)) if name in VARIANTS else get_model(name)
    model: Any = cls(parameters=recorded["parameters"], **hyper)
    for key, value in recorded.get("data", {}).items():
        model.parameters[key] = value
    scenario = recorded.get("scenario") or 0
    if recorded["changes"]:
        series = {key: path.clone() for key, path in model.scenarios.timeseries[0].items()}
        for key, value in recorded["changes"].items():
            series[key][recorded["from_row"] :] = torch.as_tensor(value)
        late = {key: path[model.scenarios.trigger :] for key, path in series.items()}
        model.scenarios.add_scenario(late, name="changes")
        scenario = "changes"
    path = model.simulate(scenario)
    for key, values in recorded["path"].items():
        if key in NEVER_SET.get(name, ()) or key in WRONG_THERE.get(name, ()):
            continue
        found = path[key][recorded.get("rows", slice(None))]
        expected = torch.tensor(values).reshape(found.shape)
        assert torch.allclose(found, expected, rtol=2e-5, atol=drift(name, case, key)), key


@pytest.mark.parametrize("name", register.names())
def test_shapes_and_dtypes(name: str):
    model = get_model(name)(hyperparameters={"timesteps": 4})
    path = model.simulate()
    assert list(path) == list(model.variables.info)
    for key, values in path.items():
        assert values.shape == (5, *model.variables.shape(key))
        assert values.dtype == model.parameters.hyper.get("dtype", torch.float32)
        assert not values.requires_grad
    assert model.variables.check_health()
    assert len(model.variables.to_pandas()) == 5
    wide = get_model(name)(hyperparameters={"timesteps": 4, "dtype": torch.float64}).simulate()
    assert all(values.dtype == torch.float64 for values in wide.values())


def eager(base: Any) -> type[Behavior]:
    class Eager(base):
        def step(self, t, scenario, params=None):
            super().step(t, scenario, params)

    return Eager


@pytest.mark.parametrize("name", register.names())
def test_an_override_runs_in_eager_torch_and_agrees(name: str):
    classes = get_model_classes(name)
    hyper = {"timesteps": 6, "dtype": torch.float64}
    compiled: Any = classes.Model(hyperparameters=hyper)
    own: Any = classes.Model(hyperparameters=hyper, behavior=eager(classes.Behavior))
    classes_run = [model.behavior.runs_compiled() for model in (compiled, own)]
    assert classes_run == [True, False]
    a, b = compiled.get_model_training_instance(), own.get_model_training_instance()
    paths = a(), b()
    for key, values in paths[0].items():
        assert torch.allclose(values, paths[1][key], atol=1e-10)
    for behavior, path in zip((a, b), paths, strict=True):
        total = torch.stack([values.sum() for values in path.values()]).sum()
        assert total.requires_grad == behavior.supports_differentiable
        if total.requires_grad:
            total.backward()
        assert all(torch.equal(behavior.state[k], path[k][-1]) for k in path)
    for key, leaf in a.params.items() if a.supports_differentiable else ():
        assert torch.allclose(leaf.grad, b.params[key].grad, rtol=1e-8)


def test_an_override_changes_the_model():
    base: Any = get_model_classes("GL06SIM").Behavior

    class Doubled(base):
        def initialize(self):
            super().initialize()
            self.state["HouseholdMoneyStock"] = torch.tensor([10.0])

    model = get_model("GL06SIM")(behavior=Doubled)
    assert model.simulate()["HouseholdMoneyStock"][0].item() == 10.0
    model.behavior = base
    assert model.simulate()["HouseholdMoneyStock"][0].item() == 0.0


def test_a_function_on_an_instance_is_used():
    behavior: Any = get_model("GL06SIM")().get_model_training_instance()

    def step(t, scenario, params):
        behavior.state["NationalIncome"] = scenario["GovernmentDemand"] * params["TaxRate"]

    behavior.step = step
    assert behavior()["NationalIncome"][-1].item() == pytest.approx(4.0)


def test_health_notices_what_is_wrong(caplog: pytest.LogCaptureFixture):
    model = get_model("GL06PC")()
    path = model.simulate()
    assert model.variables.check_health()
    model.variables.set_timeseries({**path, "GovernmentBillStock": path["GovernmentBillStock"] + 1})
    assert not model.variables.check_health()
    assert "Instrument Bills does not sum to zero" in caplog.text


@pytest.mark.parametrize("name", register.names())
def test_every_sector_pays_what_it_gets(name: str):
    """With interest that is no variable, and without the goods that nobody owes."""
    model = get_model(name)(hyperparameters={"timesteps": 12, "dtype": torch.float64})
    model.simulate()
    matrix = model.variables.transaction_matrix_actual(timestep=11)
    if not accounts.has_flows(register.get(name)):  # what changes the holdings is then not known
        return
    totals = matrix.loc["Total"].groupby(level=0).sum() if len(matrix) else np.zeros(1)
    assert np.allclose(totals, 0, atol=1e-9 * max(1.0, float(np.abs(matrix.to_numpy()).max())))


def test_interest_that_is_no_variable():
    model = get_model("GL06INSOUT")(hyperparameters={"timesteps": 12, "dtype": torch.float64})
    path = model.simulate()
    paid = model.variables.transaction_matrix_actual(timestep=9).loc["InterestOnBills"]
    expected = path["BillRate"][8] * path["BillsHousehold"][8]
    assert paid["Household", "Current"] == pytest.approx(expected.item(), rel=1e-14)
    assert paid["Total", ""] == pytest.approx(0, abs=1e-12)
    symbols = model.variables.transaction_matrix_theoretical("latex")
    assert symbols.loc["InterestOnBills"]["Bank", "Current"] == r"$+r_b(t-1)\cdot B_b(t-1)$"
    assert symbols.loc["InterestOnBonds"]["Government", "Current"] == r"$-1\cdot BL_s(t-1)$"


def test_accounts_close():
    model = get_model("GL06PC")()
    model.simulate()
    matrix = model.variables.transaction_matrix_actual(timestep=5)
    assert np.allclose(matrix["Total"], 0, atol=1e-4)
    assert np.allclose(matrix.loc["Total"].groupby(level=0).sum(), 0, atol=1e-4)
    assert np.allclose(model.variables.balance_sheet_actual()["Total"], 0, atol=1e-4)


@pytest.mark.parametrize("name", register.names())
def test_theoretical_steady_states(name: str):
    model = get_model(name)(hyperparameters={"timesteps": 5})
    if register.get(name).random:
        with pytest.raises(NotImplementedError, match=f"{name} is random: it has no steady state"):
            model.compute_theoretical_steady_state()
        return
    try:
        path = model.compute_theoretical_steady_state()
    except RuntimeError as error:
        assert "no steady state was found in any period" in str(error)
        with jax.enable_x64(True), pytest.raises(RuntimeError, match="no steady state was found"):
            steady_state(register.get(name))
        return
    for key, values in path.items():
        assert values.shape == (5, *model.variables.shape(key))
        assert torch.equal(values, model.variables.timeseries[key])

    base: Any = get_model_classes(name).Behavior

    class PerStep(base):
        def compute_theoretical_steady_state_per_step(self, t, scenario, params, **kwargs):
            super().compute_theoretical_steady_state_per_step(t, scenario, params)

    model.behavior = PerStep
    for key, values in model.compute_theoretical_steady_state().items():
        assert torch.allclose(values, path[key])


def test_a_period_without_a_solution_is_named():
    """Industries that need more of their goods than they make have no prices."""
    needs = {f"{a}.{b}.Requirement": 0.6 for a in ("S1", "S2", "S3") for b in ("S1", "S2", "S3")}
    model = get_model("IOPC")(parameters=needs, hyperparameters={"timesteps": 5})
    with pytest.warns(RuntimeWarning, match="IOPC: .* of period 1 have no solution .* for prices"):
        path = model.simulate()
    assert torch.isnan(path["Prices"][2:]).all() and not torch.isnan(path["Prices"][:2]).any()


def test_copies_after_functional_transforms():
    """They leave tensors that belong to a transform that is over."""
    model = get_model("GL06SIM")(hyperparameters={"timesteps": 4})
    behavior = model.get_model_training_instance()

    def income(rate: torch.Tensor) -> torch.Tensor:
        path = torch.func.functional_call(behavior, {"params.TaxRate": rate}, ())
        return path["NationalIncome"][-1, 0]

    rates = torch.tensor([0.2, 0.3])
    for transform in (torch.func.jacrev(income), torch.func.jacfwd(income)):
        slopes = torch.stack([transform(rate) for rate in rates])
        copy.deepcopy(model)
    assert torch.allclose(torch.vmap(torch.func.grad(income))(rates), slopes)
    assert torch.equal(copy.deepcopy(model).simulate()["Wages"], model.simulate()["Wages"])


def test_copies():
    model = get_model("GL06PC")()
    model.get_model_training_instance()()
    twin = copy.deepcopy(model)
    twin.parameters["TaxRate"] = 0.3
    assert model.parameters["TaxRate"] == 0.2
    assert torch.equal(
        pickle.loads(pickle.dumps(model)).simulate()["Wealth"], model.simulate()["Wealth"]
    )
