"""Jacobians of library models: the documentation page, shapes and dtypes, closed forms, losses."""

import contextlib
import copy
import csv
import functools
import inspect
import json
import math
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diff_cases import EPS32, EPS64, LIBRARY, default_dtype, last, squares

import macrostat.diff
from macrostat.diff import (
    JacobianAutograd,
    JacobianBase,
    JacobianNumerical,
    check_model_differentiability,
    compare_jacobian_dicts,
)
from macrostat.models import get_model
from macrostat_jax import count_compilations

REFERENCE = Path(__file__).parent.parent / "reference"
MODES = ("rev", "fwd")


@pytest.fixture
def float64():
    with default_dtype(torch.float64):
        yield


# The documentation page -----------------------------------------------------------------------

QUICK_START = """
import torch
from macrostat.models import get_model
from macrostat.diff import JacobianAutograd, JacobianNumerical
# Build a model
ModelClass = get_model("LINEAR2D")
model = ModelClass()
# Define a loss on the model outputs
target = torch.tensor([1.0, 0.0])
def loss_fn(output: dict[str, torch.Tensor]) -> torch.Tensor:
    y = output["State"][-1] # final 2D state
    return torch.nn.functional.mse_loss(y, target)
# Autograd-based gradients
jac_auto = JacobianAutograd(model)
grads_rev = jac_auto.compute(loss_fn=loss_fn, mode="rev")
# Numerical finite-difference gradients (default: log-space, eps=1e-3)
jac_num_log = JacobianNumerical(model)
try:
    grads_num_log = jac_num_log.compute(loss_fn=loss_fn, mode="central")
except ValueError as error:
    print(repr(error))
# Or in direct space, useful when any parameter equals zero
jac_num_direct = JacobianNumerical(
    model, epsilon=1e-5, parameter_space="direct"
)
grads_num_direct = jac_num_direct.compute(loss_fn=loss_fn, mode="central")

from macrostat.diff import check_model_differentiability
report = check_model_differentiability(
    model=model,
    loss_fn=loss_fn,
    scenario=0,
    rtol=1e-5,
    atol=1e-8,
    compare_forward_reverse=True,
    compare_numerical=True,
    numerical_mode="central",
    epsilon=1e-3,
    parameter_space="direct",
)
print(report.summary())

from macrostat.diff import (
    JacobianAutograd, JacobianNumerical, compare_jacobian_dicts,
)
jac_auto = JacobianAutograd(model).compute(loss_fn=loss_fn, mode="rev")
report = compare_jacobian_dicts(
    jac_auto, grads_num_direct, method_a="autograd", method_b="numerical"
)
print(report.summary())
import json
print(json.dumps([{k: v.item() for k, v in g.items()} for g in (grads_rev, grads_num_direct)]))
"""


def test_the_page_runs_as_a_plain_script(tmp_path: Path):
    script = tmp_path / "quick_start.py"
    script.write_text(QUICK_START)
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    message = "Cannot use log-space with zero parameters: ['x0_2']"
    assert lines[0] == repr(ValueError(message))
    assert lines[1] == "Passed: True"
    assert "Jacobian comparison: autograd vs numerical" in lines
    assert [path.name for path in tmp_path.iterdir()] == [script.name]  # no log file, nothing

    state, slopes = linear2d(5)
    gap = [state[0] - 1.0, state[1]]  # mean of the squares of two: the derivative is gap * slope
    reverse, numerical = json.loads(lines[-1])
    assert list(reverse) == list(numerical) == list(slopes)
    for name, (first, second) in slopes.items():
        exact = gap[0] * first + gap[1] * second
        # A few roundings to float32; the third derivatives of a polynomial of degree 10 times 1e-10.
        assert reverse[name] == pytest.approx(exact, rel=8 * EPS32, abs=8 * EPS32)
        assert numerical[name] == pytest.approx(exact, rel=8 * EPS32, abs=8 * EPS32)


def test_signatures():
    required = inspect.Parameter.empty
    expected = {
        JacobianBase: {"model": required, "scenario": 0},
        JacobianAutograd: {"model": required, "scenario": 0},
        JacobianNumerical: {
            "model": required,
            "scenario": 0,
            "epsilon": 1e-3,
            "parameter_space": "log",
        },
        JacobianAutograd.compute: {"loss_fn": required, "mode": "rev", "chunk_size": None},
        JacobianNumerical.compute: {
            "loss_fn": required,
            "mode": "central",
            "num_workers": None,
            "progress_bar": False,
            "param_names": None,
        },
        JacobianBase.to_tensor: {"jacobian_dict": None, "param_order": None},
        JacobianBase.to_pandas: {
            "jacobian_dict": None,
            "timesteps": None,
            "variable_names": None,
            "param_order": None,
        },
        check_model_differentiability: {
            "model": required,
            "loss_fn": required,
            "scenario": 0,
            "target": "parameters",
            "rtol": 1e-5,
            "atol": 1e-8,
            "compare_forward_reverse": True,
            "compare_numerical": True,
            "numerical_mode": "central",
            "epsilon": 1e-3,
            "parameter_space": "log",
            "raise_on_failure": None,
        },
        compare_jacobian_dicts: {
            "jac_a": required,
            "jac_b": required,
            "method_a": "A",
            "method_b": "B",
            "atol": 1e-8,
            "rtol": 1e-5,
        },
    }
    for function, defaults in expected.items():
        found = {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "self" and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        }
        assert found == defaults, function
        assert list(found) == list(defaults), function


def test_exports_and_the_base_class():
    names = (
        "DifferentiabilityReport",
        "JacobianAutograd",
        "JacobianBase",
        "JacobianComparisonReport",
        "JacobianNumerical",
        "ParameterComparison",
        "check_model_differentiability",
        "compare_jacobian_dicts",
    )
    assert all(hasattr(macrostat.diff, name) for name in names)
    for cls in (JacobianAutograd, JacobianNumerical):
        assert issubclass(cls, JacobianBase)
    with pytest.raises(NotImplementedError):
        JacobianBase(get_model("LINEAR2D")()).compute()


# Keys, shapes, dtypes -------------------------------------------------------------------------

SHAPES = {
    (): lambda o: o["State"][-1].sum(),
    (1,): lambda o: o["State"][-1, :1],
    (2,): lambda o: o["State"][-1],
    (6, 2): lambda o: o["State"],
    (1, 6, 2): lambda o: o["State"][None],
    (0,): lambda o: o["State"][:0, 0],
    (0, 3): lambda o: o["State"].new_zeros(0, 3) * o["State"].sum(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_keys_and_shapes(shape: tuple):
    model = get_model("LINEAR2D")()
    autograd, numerical = JacobianAutograd(model), JacobianNumerical(model, 0, 1e-4, "direct")
    found = [autograd.compute(SHAPES[shape], mode=mode) for mode in MODES]
    assert autograd.jacobian is found[-1]
    found.append(numerical.compute(SHAPES[shape]))
    assert numerical.jacobian is found[-1]
    for jacobian in found:
        assert isinstance(jacobian, dict)
        assert list(jacobian) == ["a11", "a12", "a21", "a22", "x0_1", "x0_2"]
        for value in jacobian.values():
            assert value.shape == shape
            assert value.dtype == torch.float32
            assert not value.requires_grad
            assert value.device.type == "cpu"


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("hyper", ["default", torch.float64, "float64"])
def test_dtypes(name: str, hyper: Any):
    space = "direct" if name == "LINEAR2D" else "log"
    with default_dtype(torch.float64) if hyper == "default" else contextlib.nullcontext():
        model = get_model(name)(hyperparameters={} if hyper == "default" else {"dtype": hyper})
        seen = set()

        def loss(output):
            seen.update(value.dtype for value in output.values())
            return squares(name)(output)

        found = [JacobianAutograd(model).compute(loss, mode=mode) for mode in MODES]
        found.append(JacobianNumerical(model, parameter_space=space).compute(loss))
        assert {value.dtype for jacobian in found for value in jacobian.values()} == {torch.float64}
        assert seen == {torch.float64}


@pytest.mark.parametrize("name", LIBRARY)
def test_losses_see_the_default_dtype_and_numerical_ones_float64(name: str):
    model = get_model(name)()
    seen = []

    def loss(output):
        seen.append({value.dtype for value in output.values()})
        shapes = {key: value.shape for key, value in model.simulate().items()}
        assert {key: value.shape for key, value in output.items()} == shapes
        return squares(name)(output)

    for mode in MODES:
        seen.clear()
        JacobianAutograd(model).compute(loss, mode=mode)
        assert seen and all(dtypes == {torch.float32} for dtypes in seen)
    seen.clear()
    JacobianNumerical(model, 0, 1e-4, "direct").compute(loss)
    assert seen and all(dtypes == {torch.float64} for dtypes in seen)


# Values ---------------------------------------------------------------------------------------


def linear2d(t: int) -> tuple[list[float], dict[str, list[float]]]:
    """LINEAR2D's state at time t and its exact derivatives, component by component."""
    with (REFERENCE / "LINEAR2D.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["t"]) == t]
    names = [key.removeprefix("d_") for key in rows[0] if key.startswith("d_")]
    return [float(r["x"]) for r in rows], {k: [float(r[f"d_{k}"]) for r in rows] for k in names}


def test_linear2d_in_closed_form(float64: None):
    model = get_model("LINEAR2D")()
    found = [JacobianAutograd(model).compute(lambda o: o["State"], mode=mode) for mode in MODES]
    numerical = JacobianNumerical(model, epsilon=1e-4, parameter_space="direct")
    differences = numerical.compute(lambda o: o["State"], error_estimates=True)
    assert numerical.errors is not None
    for t in range(6):
        _, slopes = linear2d(t)
        for name, exact in slopes.items():
            for jacobian in found:
                # Five steps of two products: some ten roundings of numbers up to 3.
                torch.testing.assert_close(
                    jacobian[name][t], torch.tensor(exact), rtol=0, atol=30 * EPS64
                )
            gap = (differences[name][t] - torch.tensor(exact)).abs()
            # The estimate is exact to leading order; the next is h^2 = 1e-8 of it.
            assert bool((gap <= 1.001 * numerical.errors[name][t] + 1e-15).all())
            # A polynomial of degree 5 in each a_ij: third derivatives of at most 60 times h^2 / 6.
            assert bool((gap <= 10 * 1e-8).all())


def sim(**hyper: Any) -> Any:
    """SIM, long enough for 0.85^n to vanish."""
    return get_model("GL06SIM")(hyperparameters={"timesteps": 400, **hyper})


@pytest.mark.parametrize("mode", MODES)
def test_the_long_run_multiplier_of_the_tax_rate(float64: None, mode: Any):
    found = JacobianAutograd(sim()).compute(last, mode=mode)
    assert found["TaxRate"].item() == pytest.approx(-500, rel=1e-12)
    # The propensities to consume matter for the way, not for where it ends.
    assert found["PropensityToConsumeIncome"].item() == pytest.approx(0, abs=1e-10)
    assert found["PropensityToConsumeSavings"].item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_sim_on_impact_in_closed_form(float64: None, mode: Any):
    found = JacobianAutograd(sim()).compute(lambda o: o["NationalIncome"][:3, 0], mode=mode)
    theta, alpha = 0.2, 0.6
    scale = 20 / (1 - alpha * (1 - theta)) ** 2
    # Rows 0 and 1 hold the initial state, zero whatever the parameters; row 2 is the first period.
    exact = {
        "TaxRate": -alpha * scale,
        "PropensityToConsumeIncome": (1 - theta) * scale,
        "PropensityToConsumeSavings": 0.0,
    }
    for name, value in exact.items():
        assert found[name][:2].tolist() == [0.0, 0.0]
        assert found[name][2].item() == pytest.approx(value, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("point", [0, 1])
def test_values_of_the_published_package(name: str, point: int):
    record = json.loads((REFERENCE / "published_jacobians.json").read_text())[name]
    recorded = record["points"][point]
    model = get_model(name)(parameters=recorded["parameters"])

    def chosen(output):
        return torch.cat([output[key] for key in record["variables"]], dim=1)[record["rows"]]

    for mode in MODES:
        found = JacobianAutograd(model).compute(chosen, mode=mode)
        assert found.keys() == recorded[mode].keys()
        for key, value in recorded[mode].items():
            theirs = torch.tensor(value)
            # Each of their periods rounds to float32, and a share of about 0.85 of what it leaves
            # behind is carried on: 1 / (1 - 0.85) = 7 roundings of the largest entry, in theirs alone.
            gap = (found[key] - theirs).abs().amax(0)
            assert bool((gap <= 16 * EPS32 * theirs.abs().amax(0)).all()), (mode, key)


@pytest.mark.parametrize("name", LIBRARY)
def test_forward_reverse_and_differences_agree(float64: None, name: str):
    model = get_model(name)()
    loss = squares(name)
    reverse, forward = (JacobianAutograd(model).compute(loss, mode=mode) for mode in MODES)
    space = "direct" if name == "LINEAR2D" else "log"
    numerical = JacobianNumerical(model, 0, 1e-4, space)
    differences = numerical.compute(loss, error_estimates=True)
    assert numerical.errors is not None
    assert reverse.keys() == forward.keys() == differences.keys()
    for key in reverse:
        torch.testing.assert_close(reverse[key], forward[key], rtol=1e-12, atol=1e-12)
        gap = (reverse[key] - differences[key]).abs()
        assert gap <= 1.01 * numerical.errors[key]
        assert numerical.errors[key] <= 1e-5 * reverse[key].abs()


@pytest.mark.parametrize("mode", MODES)
def test_chunks_change_nothing(float64: None, mode: Any):
    autograd = JacobianAutograd(get_model("GL06PC")())

    def loss(output):
        return output["NationalIncome"][:10, 0]

    whole = autograd.compute(loss, mode=mode)
    for chunk in (1, 4, 6, 10, 1000):
        found = autograd.compute(loss, mode, chunk)
        for key in whole:
            torch.testing.assert_close(found[key], whole[key], rtol=1e-13, atol=1e-13)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"chunk_size must be at least 1, not {wrong}"):
            autograd.compute(loss, mode, wrong)


def test_unknown_mode():
    with pytest.raises(ValueError, match=r"Unsupported mode 'x'. Use 'rev' or 'fwd'"):
        JacobianAutograd(get_model("GL06SIM")()).compute(last, mode="x")  # type: ignore[arg-type]


# Losses ---------------------------------------------------------------------------------------


TARGET = torch.linspace(80.0, 100.0, 101, dtype=torch.float32)


class Target(torch.nn.Module):
    """A loss with a state of its own, called as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("target", TARGET)
        self.loss = torch.nn.MSELoss()

    def forward(self, output: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.loss(output["NationalIncome"][:, 0], self.target)


def masked(output):
    path = output["NationalIncome"].clone()
    path[3] = math.nan
    return path[torch.isfinite(path)].sum()


def mutating(output):
    income = output.pop("NationalIncome")
    for key in list(output):
        del output[key]
    output["mine"] = income
    return output["mine"][-1].sum()


def writing(output):
    path = output["NationalIncome"]
    path[:50] = 0.0
    path.mul_(2.0)
    return path.sum()


def through_numpy(output):
    mean = float(output["NationalIncome"].detach().numpy().mean())
    return output["NationalIncome"].sum() + 0 * mean


def in_loop(output):
    total = output["NationalIncome"][0, 0]
    for value in output["NationalIncome"][1:, 0]:
        if value.item() > 50:
            total = total + value
    return total


LOSSES = {
    "lambda": (lambda o: o["NationalIncome"][-1, 0], lambda o: o["NationalIncome"][-1, 0]),
    "closure": (
        functools.partial(lambda o, w: w * o["NationalIncome"].sum(), w=2.0),
        lambda o: 2 * o["NationalIncome"].sum(),
    ),
    "module": (
        Target(),
        lambda o: (o["NationalIncome"][:, 0] - TARGET).square().mean(),
    ),
    "float32 target": (
        lambda o: torch.nn.functional.mse_loss(o["NationalIncome"], torch.full((101, 1), 90.0)),
        lambda o: (o["NationalIncome"] - 90).square().mean(),
    ),
    "mask": (masked, lambda o: o["NationalIncome"].sum() - o["NationalIncome"][3].sum()),
    "mutates the dict": (mutating, lambda o: o["NationalIncome"][-1].sum()),
    "writes into outputs": (writing, lambda o: 2 * o["NationalIncome"][50:].sum()),
    "view": (lambda o: o["NationalIncome"].view(-1)[2:4], lambda o: o["NationalIncome"][2:4, 0]),
    "whole output": (lambda o: o["NationalIncome"], lambda o: o["NationalIncome"] * 1),
    "numpy": (through_numpy, lambda o: o["NationalIncome"].sum()),
    "data-dependent loop": (
        in_loop,
        lambda o: (o["NationalIncome"] * (o["NationalIncome"].detach() > 50)).sum(),
    ),
    "torch.func inside": (
        lambda o: torch.func.vmap(lambda row: (row**2).sum())(o["NationalIncome"]).sum(),
        lambda o: (o["NationalIncome"] ** 2).sum(),
    ),
}


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", LOSSES)
def test_any_torch_loss_works(kind: str, default: torch.dtype):
    loss, plain = LOSSES[kind]
    with default_dtype(default):
        model = get_model("GL06SIM")()
        if kind == "module" and default == torch.float64:
            loss = copy.deepcopy(loss).double()  # type: ignore[union-attr]
        expected = JacobianAutograd(model).compute(plain)
        # Sums of a hundred terms, which cancel in some parameters: at the scale of the largest.
        scale = max(value.abs().max() for value in expected.values())
        rounding = 64 * torch.finfo(default).eps
        for mode in MODES:
            found = JacobianAutograd(model).compute(loss, mode=mode)
            for key, value in expected.items():
                assert found[key].shape == value.shape
                assert bool(((found[key] - value).abs() <= rounding * scale).all()), key
        # Log steps of 1e-3: some h^2 of the derivative, an order more for the sharper ones.
        found = JacobianNumerical(model).compute(loss)
        for key, value in expected.items():
            assert found[key].shape == value.shape
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-3)
        again = JacobianAutograd(model).compute(plain)
        assert all(torch.equal(again[key], expected[key]) for key in again)


def test_losses_of_one_variable_of_the_whole_dict_and_of_none():
    model = get_model("GL06PC")()
    autograd = JacobianAutograd(model)
    everything = autograd.compute(lambda o: sum(path.sum() for path in o.values()))  # type: ignore
    assert all(bool(value != 0) for value in everything.values())
    for mode in MODES:  # government demand is given from outside
        zero = autograd.compute(lambda o: o["ConsumptionGovernment"].sum(), mode=mode)
        assert all(bool(value == 0) for value in zero.values())


weight = torch.nn.Parameter(torch.tensor(2.0))
CONSTANTS = {
    "constant": lambda o: torch.tensor(1.0),
    "constants": lambda o: torch.ones(2, 3),
    "detached": lambda o: o["NationalIncome"].detach().sum(),
    "of a parameter of the user's": lambda o: weight * 3.0,
    "of values": lambda o: torch.tensor(o["NationalIncome"][-1].item()),
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constant_losses_are_zero_with_a_warning(kind: str):
    model = get_model("GL06SIM")()
    shape = (2, 3) if kind == "constants" else ()
    for mode in MODES:
        with pytest.warns(UserWarning, match="does not depend on the model's outputs") as caught:
            found = JacobianAutograd(model).compute(CONSTANTS[kind], mode=mode)
        assert [warning.filename for warning in caught] == [__file__]
        assert all(v.shape == shape and not bool(v.any()) for v in found.values())
    if kind not in ("detached", "of values"):
        with pytest.warns(UserWarning, match="the same in all 7 runs") as caught:
            found = JacobianNumerical(model).compute(CONSTANTS[kind])
        assert [warning.filename for warning in caught] == [__file__]
        assert all(v.shape == shape and not bool(v.any()) for v in found.values())


def test_differences_of_what_autograd_cannot_see():
    model = get_model("GL06SIM")()
    seen = JacobianAutograd(model).compute(lambda o: o["NationalIncome"].sum())
    found = JacobianNumerical(model).compute(
        lambda o: torch.tensor(float(o["NationalIncome"].numpy().sum()), dtype=torch.float64)
    )
    for key in seen:
        torch.testing.assert_close(found[key], seen[key], rtol=1e-4, atol=0)


WRONG = {
    "number": (lambda o: 1.0, "must return a torch.Tensor, not float"),
    "None": (lambda o: None, "must return a torch.Tensor, not NoneType"),
    "tuple": (lambda o: (o["NationalIncome"],), "must return a torch.Tensor, not tuple"),
    "integers": (lambda o: torch.tensor(1), "torch.int64: it has no derivative"),
    "booleans": (lambda o: o["NationalIncome"] > 1, "torch.bool: it has no derivative"),
    "complex": (lambda o: o["NationalIncome"] * 1j, r"torch.complex\d+: it has no derivative"),
    "no function": (3, "loss_fn must be a function of the output dict, not 3"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_loss_is_an_error(kind: str):
    loss: Any
    loss, message = WRONG[kind]
    model = get_model("GL06SIM")()
    for compute in (
        JacobianAutograd(model).compute,
        functools.partial(JacobianAutograd(model).compute, mode="fwd"),
        JacobianNumerical(model).compute,
        functools.partial(check_model_differentiability, model),
    ):
        with pytest.raises(TypeError, match=message) as caught:
            compute(loss)
        assert caught.value.__context__ is None


@pytest.mark.parametrize("error", [ValueError, RuntimeError, TypeError, ZeroDivisionError])
def test_a_loss_raises_its_own_error(error: type[Exception]):
    mine = error("mine")

    def loss(output):
        raise mine

    model = get_model("GL06SIM")()
    for compute in (
        JacobianAutograd(model).compute,
        functools.partial(JacobianAutograd(model).compute, mode="fwd"),
        JacobianNumerical(model).compute,
        functools.partial(check_model_differentiability, model),
    ):
        with pytest.raises(error) as caught:
            compute(loss)
        assert caught.value is mine


def test_an_unknown_variable_is_answered_by_the_list_of_them():
    for compute in (
        JacobianAutograd(get_model("GL06SIM")()).compute,
        JacobianNumerical(get_model("GL06SIM")()).compute,
    ):
        with pytest.raises(KeyError, match="Income") as caught:
            compute(lambda o: o["Income"])
        assert "NationalIncome" in caught.value.__notes__[0]


# Scenarios ------------------------------------------------------------------------------------


def multipliers(model: Any, scenario: Any) -> list[float]:
    found = [JacobianAutograd(model, scenario).compute(last, mode=mode) for mode in MODES]
    found.append(JacobianNumerical(model, scenario).compute(last))
    return [jacobian["TaxRate"].item() for jacobian in found]


@pytest.mark.parametrize("trigger", [0, 60])
def test_a_scenario_of_the_users_own(float64: None, trigger: int):
    model = sim(scenario_trigger=trigger)
    model.scenarios.add_scenario({"GovernmentDemand": 30.0}, name="stimulus")
    model.scenarios.add_scenario({"GovernmentDemand": torch.full((20,), 25.0)}, name="short")
    # Y* = G / theta; the difference in logs of 1 / theta is exact.
    for scenario in (1, "stimulus"):
        assert multipliers(model, scenario) == pytest.approx([-750.0] * 3, rel=1e-9)
    for scenario in (0, "Scenario.0", 2, "short"):
        assert multipliers(model, scenario) == pytest.approx([-500.0] * 3, rel=1e-9)


def test_a_scenario_matters_from_its_trigger_on(float64: None):
    model = sim(scenario_trigger=60)
    model.scenarios.add_scenario({"GovernmentDemand": 30.0}, name="stimulus")

    def path(output):
        return output["NationalIncome"][:, 0]

    compute = (
        lambda s: JacobianAutograd(model, s).compute(path)["TaxRate"],
        lambda s: JacobianAutograd(model, s).compute(path, mode="fwd")["TaxRate"],
        lambda s: JacobianNumerical(model, s).compute(path)["TaxRate"],
    )
    for jacobian in compute:
        base, shocked = jacobian(0), jacobian("stimulus")
        # Scenario row t lands on row t + 1.
        assert torch.equal(base[:61], shocked[:61])
        assert bool((shocked[61:] < base[61:]).all())


def test_parameter_shocks_in_a_scenario(float64: None):
    model = get_model("GL06SIMEX")(hyperparameters={"timesteps": 600, "scenario_trigger": 100})
    series = model.scenarios.timeseries[0]
    assert {"TaxRate_add", "TaxRate_multiply"} & series.keys()
    shock = {"TaxRate_add": 0.05} if "TaxRate_add" in series else {"TaxRate_multiply": 1.25}
    model.scenarios.add_scenario(shock, name="taxes")
    # Y* = G / theta' with theta' = theta + 0.05 or 1.25 theta.
    slope = -20 / 0.25**2 * (1.0 if "TaxRate_add" in shock else 1.25)
    assert multipliers(model, "taxes") == pytest.approx([slope] * 3, rel=1e-6)


def test_scenarios_change_after_the_jacobian_was_set_up(float64: None):
    model = sim()
    autograd = JacobianAutograd(model)
    model.parameters.values["TaxRate"]["value"] = 0.25
    assert autograd.compute(last)["TaxRate"].item() == pytest.approx(-320.0, rel=1e-9)
    model.scenarios.timeseries[0]["GovernmentDemand"][:] = 40.0
    assert autograd.compute(last)["TaxRate"].item() == pytest.approx(-640.0, rel=1e-9)


@pytest.mark.parametrize("cls", [JacobianAutograd, JacobianNumerical])
def test_unknown_scenarios_list_what_there_is(cls: Any):
    model = get_model("GL06SIM")()
    model.scenarios.add_scenario({"GovernmentDemand": 30.0}, name="stimulus")
    with pytest.raises(ValueError, match=r"Scenario x not found.*Scenario\.0.*stimulus"):
        cls(model, "x")
    with pytest.raises(KeyError, match=r"no scenario 7.*0, 1"):
        cls(model, 7)


def test_a_horizon_that_the_series_do_not_have_is_an_error():
    model = get_model("GL06SIM")()
    model.parameters.hyper["timesteps"] = 50
    for compute in (JacobianAutograd(model).compute, JacobianNumerical(model).compute):
        with pytest.raises(ValueError, match="has 100 periods, but timesteps is 50"):
            compute(last)


# What is left behind --------------------------------------------------------------------------


def photograph(model: Any) -> dict[str, Any]:
    """Everything that a run might touch, copied."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.tolist(), str(value.dtype), value.requires_grad
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return repr(value)

    found = {}
    for part in (model.parameters, model.scenarios, model.variables):
        for key, value in vars(part).items():
            if key not in ("parameters", "_resolver"):
                found[type(part).__name__, key] = plain(value)
    return found


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("name", LIBRARY)
def test_the_model_is_left_as_it_was(name: str, simulated: bool):
    model = get_model(name)()
    if simulated:
        model.simulate()
    before, instance = photograph(model), model.behavior_instance
    random = torch.random.get_rng_state()
    loss = squares(name)
    JacobianAutograd(model).compute(loss)
    JacobianAutograd(model).compute(loss, mode="fwd")
    JacobianNumerical(model, 0, 1e-4, "direct").compute(loss)
    check_model_differentiability(model, loss, parameter_space="direct")
    assert photograph(model) == before
    assert model.behavior_instance is instance
    assert torch.equal(torch.random.get_rng_state(), random)


def test_instances_are_independent():
    one, other = get_model("GL06SIM")(), get_model("GL06SIM")()
    before = JacobianAutograd(other).compute(last)
    one.parameters.values["TaxRate"]["value"] = 0.4
    one.scenarios.timeseries[0]["GovernmentDemand"][:] = 50.0
    assert JacobianAutograd(one).compute(last)["TaxRate"] != before["TaxRate"]
    assert all(torch.equal(v, before[k]) for k, v in JacobianAutograd(other).compute(last).items())
    assert JacobianAutograd(one).jacobian is None


def test_threads_do_not_meet():
    names = ("GL06SIM", "GL06SIMEX", "GL06PC", "GL06SIM")

    def work(name: str) -> list[dict[str, torch.Tensor]]:
        model = get_model(name)()
        return [
            JacobianAutograd(model).compute(last),
            JacobianAutograd(model).compute(last, mode="fwd"),
            JacobianNumerical(model).compute(last),
        ]

    alone = [work(name) for name in names]
    together: dict[int, Any] = {}
    failures: list[BaseException] = []

    def repeatedly(i: int) -> None:
        try:
            for _ in range(5):
                together[i] = work(names[i])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=repeatedly, args=(i,)) for i in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for i, expected in enumerate(alone):
        for a, b in zip(expected, together[i], strict=True):
            assert all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


# Compilations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GL06SIM", "GL06PC"])
def test_values_scenarios_and_instances_compile_nothing(name: str):
    def compute(model: Any, scenario: Any = 0) -> None:
        loss = squares(name)
        JacobianAutograd(model, scenario).compute(loss)
        JacobianAutograd(model, scenario).compute(loss, mode="fwd")
        JacobianNumerical(model, scenario).compute(loss)

    # A horizon that no other test has, so that there is something to compile.
    hyper = {"timesteps": 61 if name == "GL06PC" else 62}
    with count_compilations() as first:
        compute(get_model(name)(hyperparameters=hyper))
    assert first.count >= 3  # a pullback, the tangents, a batch
    with count_compilations() as later:
        model = get_model(name)(hyperparameters=hyper, parameters={"TaxRate": 0.3})
        model.scenarios.add_scenario({"GovernmentDemand": 30.0}, name="stimulus")
        compute(model)
        compute(model, "stimulus")
        model.parameters["PropensityToConsumeIncome"] = 0.5
        compute(model)
        # Fewer parameters, other differences: batches are padded to a few sizes.
        JacobianNumerical(model, 0, 1e-5, "direct").compute(
            lambda o: o["NationalIncome"], param_names=list(model.parameters.values)[1:]
        )
        JacobianAutograd(model).compute(lambda o: o["NationalIncome"][-1])
    assert later.count == 0


@pytest.mark.parametrize("name", ["GL06SIM", "GL06PC"])
def test_a_reverse_jacobian_shares_the_simulation(name: str):
    model = get_model(name)(hyperparameters={"timesteps": 63})
    model.simulate()
    with count_compilations() as more:
        JacobianAutograd(model).compute(squares(name))
    assert more.count == 1  # the pullback alone


def test_all_differences_are_one_batch(monkeypatch: pytest.MonkeyPatch):
    from macrostat._engine import Program

    rows = []
    batch = Program.batch
    monkeypatch.setattr(
        Program, "batch", lambda self, v, m: (rows.append(len(v)), batch(self, v, m))[1]
    )
    JacobianNumerical(get_model("GL06PC")()).compute(squares("GL06PC"))
    assert rows == [1 + 2 * 6]


def test_nothing_is_printed_or_warned(capfd: pytest.CaptureFixture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = get_model("GL06SIM")()
        JacobianAutograd(model).compute(last)
        JacobianNumerical(model).compute(last)
    assert capfd.readouterr() == ("", "")


def test_a_notebook_cell_can_pickle_and_copy_a_result():
    import pickle

    found = JacobianAutograd(get_model("GL06SIM")()).compute(last)
    for twin in (copy.deepcopy(found), copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert type(twin) is type(found)
        assert all(torch.equal(twin[key], found[key]) for key in found)
        report = compare_jacobian_dicts(twin, found)
        assert report.overall_max_abs_diff == 0
        assert not report.only_in_a


class _ByValue(torch.autograd.Function):
    """The square, with a rule that looks at each number: no batch goes through it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, slope):  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return torch.tensor([2 * a * b for a, b in zip(x.tolist(), slope.tolist(), strict=True)])


def test_a_series_is_pulled_back_in_one_batch_where_that_can_be(monkeypatch):
    auto = JacobianAutograd(get_model("GL06SIM")(hyperparameters={"timesteps": 6}))
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *given, **options: calls.append(1) or grad(*given, **options)
    )
    batched = auto.compute(lambda output: output["NationalIncome"][:, 0].square())
    assert len(calls) == 1
    single = auto.compute(lambda output: _ByValue.apply(output["NationalIncome"][:, 0]))  # pyright: ignore
    assert len(calls) == 1 + 1 + 7
    for name, value in batched.items():
        torch.testing.assert_close(single[name], value)
