"""Finite differences: steps and divisors, bad input, losses that refuse float64, error estimates."""

import builtins
import importlib.util
import math
import multiprocessing
import multiprocessing.process
import os
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from core_cases import Toy
from diff_cases import (
    EPS32,
    EPS64,
    LIBRARY,
    default_dtype,
    final,
    last,
    own_model,
    squares,
)

from macrostat.core import LinearConstraint
from macrostat.diff import JacobianAutograd, JacobianNumerical, check_model_differentiability
from macrostat.models import get_model

DIFFERENCES = ("central", "forward", "backward")


@pytest.fixture
def float64():
    with default_dtype(torch.float64):
        yield


def loss_at(model: Any, name: str, value: float, loss: Any) -> torch.Tensor:
    before = model.parameters.values[name]["value"]
    model.parameters.values[name]["value"] = value
    try:
        return loss(model.simulate())
    finally:
        model.parameters.values[name]["value"] = before


# Steps and divisors ---------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["log", "direct"])
@pytest.mark.parametrize("mode", DIFFERENCES)
@pytest.mark.parametrize("name", ["GL06PC", "own"])
def test_against_a_computation_by_hand(float64: None, name: str, mode: Any, space: Any):
    h = 0.01
    if name == "own":
        model, loss = own_model(), lambda o: o["Y"][1:, 0]
    else:
        model, loss = get_model(name)(), lambda o: o["NationalIncome"][2:6, 0]
    found = JacobianNumerical(model, 0, h, space).compute(loss, mode=mode)
    assert list(found) == list(model.parameters.values)
    for key, info in model.parameters.values.items():
        p = info["value"]
        up, down = (p * math.exp(h), p * math.exp(-h)) if space == "log" else (p + h, p - h)
        high, base, low = (loss_at(model, key, value, loss) for value in (up, p, down))
        if space == "log":
            exact = {
                "central": (high - low) / (p * (math.exp(h) - math.exp(-h))),
                "forward": (high - base) / (p * (math.exp(h) - 1)),
                "backward": (base - low) / (p * (1 - math.exp(-h))),
            }
        else:
            exact = {
                "central": (high - low) / (2 * h),
                "forward": (high - base) / h,
                "backward": (base - low) / h,
            }
        # Losses of about 50 and two roundings of a few units each, over the step.
        step = h * p if space == "log" else h
        rounding = 16 * EPS64 * 50 / abs(step)
        torch.testing.assert_close(found[key], exact[mode], rtol=1e-13, atol=rounding)


def test_divisors_in_closed_form(float64: None):
    """Y* = G / theta in SIM: a log difference of 1 / theta is -1 / theta^2 times 1, e^-h or e^h."""
    model = get_model("GL06SIM")(hyperparameters={"timesteps": 400})
    for h in (1e-3, 0.1):
        for mode, factor in (
            ("central", 1.0),
            ("forward", math.exp(-h)),
            ("backward", math.exp(h)),
        ):
            found = JacobianNumerical(model, epsilon=h).compute(last, mode=mode)  # type: ignore
            # Rounding: 100 * eps, a few times, over a step of 0.2 h.
            rounding = 16 * EPS64 * 100 / (0.2 * h)
            assert found["TaxRate"].item() == pytest.approx(-500 * factor, rel=0, abs=rounding)


def test_negative_parameters_keep_their_sign(float64: None):
    h, model = 0.05, own_model(values={"a": -0.5, "b": 0.3, "c": -2.0})
    with pytest.warns(
        UserWarning, match=r"negative parameters in log-space mode: \['a', 'c'\]"
    ) as w:
        found = JacobianNumerical(model, epsilon=h).compute(final)
    assert [warning.filename for warning in w] == [__file__]
    for key in ("a", "b", "c"):
        p = model.parameters.values[key]["value"]
        high, low = (
            loss_at(model, key, math.copysign(math.exp(math.log(abs(p)) + s), p), final)
            for s in (h, -h)
        )
        exact = (high - low) / (p * (math.exp(h) - math.exp(-h)))
        assert found[key].item() == pytest.approx(exact.item(), rel=1e-12)
    direct = JacobianNumerical(model, 0, 1e-4, "direct").compute(final)  # no warning
    reverse = JacobianAutograd(model).compute(final)
    for key in direct:
        assert direct[key].item() == pytest.approx(reverse[key].item(), rel=1e-6)


@pytest.mark.parametrize("mode", DIFFERENCES)
def test_log_space_refuses_zeros(mode: Any):
    model = get_model("LINEAR2D")()
    model.parameters["a12"] = 0.0
    numerical = JacobianNumerical(model)
    with pytest.raises(ValueError) as caught:
        numerical.compute(lambda o: o["State"], mode=mode)
    assert str(caught.value) == "Cannot use log-space with zero parameters: ['a12', 'x0_2']"
    with pytest.raises(ValueError, match=r"^Cannot use log-space with zero parameters: \['a12'\]$"):
        numerical.compute(lambda o: o["State"], param_names=["a11", "a12"])
    found = numerical.compute(lambda o: o["State"], mode=mode, param_names=["x0_1", "a11"])
    assert list(found) == ["x0_1", "a11"]


@pytest.mark.parametrize("bound", ["lower bound", "upper bound"])
def test_a_parameter_at_its_bound_is_differentiated(float64: None, bound: str):
    model = get_model("GL06SIM")()
    name = "PropensityToConsumeSavings"
    model.parameters[name] = model.parameters.values[name][bound]
    values = dict(model.parameters.get_values())
    reverse = JacobianAutograd(model).compute(squares("GL06SIM"))
    for mode in DIFFERENCES:
        found = JacobianNumerical(model, 0, 1e-6, "direct").compute(squares("GL06SIM"), mode=mode)
        assert found[name].item() == pytest.approx(reverse[name].item(), rel=1e-4)
    assert model.parameters.get_values() == values
    own = own_model(values={"a": 0.5, "b": 0.3, "c": 2.0})
    own.parameters.set_bound("c", (2.0, 2.0))
    reverse = JacobianAutograd(own).compute(final)
    found = JacobianNumerical(own).compute(final)
    assert found["c"].item() == pytest.approx(reverse["c"].item(), rel=1e-9)


# Names ----------------------------------------------------------------------------------------


def test_param_names():
    model = get_model("GL06PC")()
    numerical = JacobianNumerical(model)
    whole = numerical.compute(squares("GL06PC"))
    names = ["WealthShareBills_Income", "TaxRate", "TaxRate"]
    found = numerical.compute(squares("GL06PC"), param_names=names)
    assert list(found) == names[:2]
    assert all(torch.equal(found[name], whole[name]) for name in found)
    assert numerical.compute(squares("GL06PC"), param_names=()) == {}
    with pytest.raises(KeyError, match=r"Unknown parameters \['Zeta'\].*There are: .*TaxRate"):
        numerical.compute(last, param_names=["TaxRate", "Zeta"])
    with pytest.raises(KeyError, match=r"There are: .*Other\.q"):
        JacobianNumerical(Toy()).compute(final, param_names=["D"])  # a data parameter


def adding_up() -> Any:
    """Y = 10 (a + 2 b + 4 c) with a + b + c = 1."""

    def step(behavior, params, scenario):
        return (params["a"] + 2 * params["b"] + 4 * params["c"]) * scenario["G"]

    constraint = LinearConstraint(("a", "b", "c"), 1.0)
    values = {"a": 0.5, "b": 0.3, "c": 0.2}
    return own_model(step, values, (constraint,), initial=lambda b: torch.ones(1))


def test_a_derived_parameter_by_name():
    model = adding_up()
    reverse = JacobianAutograd(model).compute(final)
    assert [reverse[name].item() for name in "abc"] == pytest.approx([-30.0, -20.0, 0.0], rel=1e-6)
    numerical = JacobianNumerical(model)
    found = numerical.compute(final)
    assert list(found) == ["a", "b"]
    assert [found[name].item() for name in "ab"] == pytest.approx([-30.0, -20.0], rel=1e-6)
    with pytest.warns(UserWarning, match=r"\['c'\] are derived by constraints") as caught:
        found = numerical.compute(final, param_names=["c", "a"])
    assert [warning.filename for warning in caught] == [__file__]
    assert [found[name].item() for name in "ca"] == pytest.approx([40.0, -30.0], rel=1e-6)


@pytest.mark.parametrize("kind", ["own", "library"])
def test_a_derived_parameter_whose_stored_value_is_out_of_date(kind: str):
    """Writing into `values` leaves the derived one behind until a run; differences start from the run."""
    if kind == "own":
        model, free, derived, loss = adding_up(), "a", "c", final
        exact = 40.0
    else:
        model = constrained_sim()
        free, derived, loss = "PropensityToConsumeIncome", "PropensityToConsumeSavings", last
        exact = None
    model.parameters.values[free]["value"] = 0.4
    with pytest.warns(UserWarning, match="derived by constraints"):
        stale = JacobianNumerical(model).compute(loss, param_names=[derived])[derived]
    model.parameters.enforce_constraints()
    with pytest.warns(UserWarning, match="derived by constraints"):
        fresh = JacobianNumerical(model).compute(loss, param_names=[derived])[derived]
    assert stale.item() == pytest.approx(fresh.item(), rel=1e-6)
    assert exact is None or stale.item() == pytest.approx(exact, rel=1e-6)


def constrained_sim() -> Any:
    """SIM whose households consume all of income or savings: the two propensities sum to one."""
    cls = get_model("GL06SIM")
    base: Any = type(cls().parameters)

    class Constrained(base):
        def get_constraints(self):
            names = ("PropensityToConsumeIncome", "PropensityToConsumeSavings")
            return (LinearConstraint(names, 1.0),)

    return cls(parameters=Constrained())


def test_constraints_of_a_users_own_on_a_library_model(float64: None):
    free, derived = "PropensityToConsumeIncome", "PropensityToConsumeSavings"

    def early(output):
        return output["NationalIncome"][4, 0]

    plain = get_model("GL06SIM")()
    unconstrained = JacobianAutograd(plain).compute(early)
    model = constrained_sim()
    for mode in ("rev", "fwd"):
        found = JacobianAutograd(model).compute(early, mode=mode)  # type: ignore[arg-type]
        assert found[derived].item() == 0
        expected = unconstrained[free] - unconstrained[derived]
        assert found[free].item() == pytest.approx(expected.item(), rel=1e-12)
    numerical = JacobianNumerical(model, epsilon=1e-4).compute(early)
    assert set(numerical) == {"TaxRate", free}
    assert numerical[free].item() == pytest.approx(found[free].item(), rel=1e-6)
    report = check_model_differentiability(model, early)
    assert report.passed
    assert report.details["numerical"]["only_in_a"] == {derived: "derived by a constraint"}
    with pytest.warns(UserWarning, match="derived by constraints"):
        by_name = JacobianNumerical(model, epsilon=1e-4).compute(early, param_names=[derived, free])
    assert by_name[derived].item() == pytest.approx(unconstrained[derived].item(), rel=1e-6)
    assert by_name[free].item() == pytest.approx(found[free].item(), rel=1e-6)


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0, 0.0, -1e-3, math.nan, math.inf, -math.inf, "1e-3", None])
def test_an_epsilon_that_is_no_step(epsilon: Any):
    with pytest.raises(ValueError, match="epsilon must be finite and greater than 0, not"):
        JacobianNumerical(get_model("GL06SIM")(), epsilon=epsilon)
    if isinstance(epsilon, float):
        with pytest.raises(ValueError, match="epsilon must be finite and greater than 0, not"):
            check_model_differentiability(get_model("GL06SIM")(), last, epsilon=epsilon)


@pytest.mark.parametrize("epsilon", [1, np.float32(1e-3), np.float64(1e-3)])
def test_an_epsilon_may_be_any_real_number(epsilon: Any):
    assert JacobianNumerical(get_model("GL06SIM")(), epsilon=epsilon).epsilon == float(epsilon)


@pytest.mark.parametrize("space", ["log", "direct"])
@pytest.mark.parametrize("mode", DIFFERENCES)
def test_an_epsilon_too_small_to_move_a_parameter(space: Any, mode: Any):
    for model in (get_model("GL06SIM")(), own_model()):
        for epsilon in (1e-17, 1e-300):
            numerical = JacobianNumerical(model, 0, epsilon, space)
            with pytest.raises(ValueError, match=r"epsilon 1e-\d+ is too small to move \["):
                numerical.compute(final, mode=mode)


def test_unknown_spaces_and_modes():
    model = get_model("GL06SIM")()
    with pytest.raises(ValueError, match=r"'x'. Use 'direct' or 'log'"):
        JacobianNumerical(model, parameter_space="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'x'. Use 'central', 'forward', or 'backward'"):
        JacobianNumerical(model).compute(last, mode="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite(value: float):
    for model in (get_model("GL06SIM")(), own_model()):
        name = next(iter(model.parameters.values))
        model.parameters.values[name]["value"] = value
        with pytest.raises(ValueError, match=f"Parameters must be finite: \\['{name}'\\]"):
            JacobianNumerical(model).compute(final)


def test_a_loss_that_changes_its_shape_has_no_derivative():
    model = get_model("GL06SIM")()
    base = model.simulate()["NationalIncome"][-1].item()

    def loss(output):
        income = output["NationalIncome"][-40:, 0]
        return income[income > base]

    with pytest.raises(ValueError, match=r"The loss has the shape \(\d+,\) at the parameters and"):
        JacobianNumerical(model).compute(loss)


# Processes, progress --------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [None, 0, 1, 8])
def test_no_process_is_started(monkeypatch: pytest.MonkeyPatch, workers: int | None):
    def refuse(*args, **kwargs):
        raise AssertionError("a process was started")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    monkeypatch.setattr(multiprocessing, "Pool", refuse)
    monkeypatch.setattr(multiprocessing, "get_context", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for model, loss in ((get_model("GL06SIM")(), squares("GL06SIM")), (own_model(), final)):
        found = JacobianNumerical(model).compute(loss, num_workers=workers)
        expected = JacobianAutograd(model).compute(loss)
        for key in expected:
            assert found[key].item() == pytest.approx(expected[key].item(), rel=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("tqdm") is None, reason="tqdm is not installed")
def test_the_progress_bar_counts_the_runs(capsys: pytest.CaptureFixture):
    JacobianNumerical(get_model("GL06SIM")()).compute(last, progress_bar=True)
    assert "7/7" in capsys.readouterr().err
    JacobianNumerical(get_model("GL06SIM")()).compute(last, progress_bar=False)
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_counts_with_any_tqdm(monkeypatch: pytest.MonkeyPatch):
    bars: list[Any] = []

    class Bar:
        def __init__(self, total, desc):
            self.total, self.count = total, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, n=1):
            self.count += n

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    for model, loss in ((get_model("GL06SIM")(), last), (own_model(), final)):
        JacobianNumerical(model).compute(loss, progress_bar=True)
        assert bars[-1].count == bars[-1].total == 7
    assert len(bars) == 2


def test_the_progress_bar_without_tqdm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tqdm":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    found = JacobianNumerical(get_model("GL06SIM")()).compute(last, progress_bar=True)
    assert len(found) == 3
    assert "pip install tqdm" in capsys.readouterr().err


# Round-off ------------------------------------------------------------------------------------


def only_float32(output: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a float32 weight matrix does: a product of two dtypes is refused."""
    weights = torch.linspace(0.5, 1.5, 101, dtype=torch.float32)
    return weights @ output["NationalIncome"][:, 0] / 101


def asserting(output: dict[str, torch.Tensor]) -> torch.Tensor:
    assert output["NationalIncome"].dtype == torch.float32, "float32 only"
    return only_float32(output)


@pytest.mark.parametrize("loss", [only_float32, asserting])
def test_a_loss_that_refuses_float64(loss: Any):
    model = get_model("GL06SIM")()
    reverse = JacobianAutograd(model).compute(loss)
    numerical = JacobianNumerical(model)
    with pytest.warns(UserWarning, match=r"refuses float64 outputs \(.*in torch.float32") as caught:
        found = numerical.compute(loss, error_estimates=True)
    assert [warning.filename for warning in caught] == [__file__]
    assert numerical.errors is not None
    wide = JacobianNumerical(model)
    wide.compute(
        lambda o: torch.linspace(0.5, 1.5, 101).double() @ o["NationalIncome"][:, 0] / 101,
        error_estimates=True,
    )
    assert wide.errors is not None
    for key in reverse:
        assert (found[key] - reverse[key]).abs() <= numerical.errors[key]
        # Two roundings of a loss of about 90 to float32, over a step of 2e-3 of the value.
        rounding = EPS32 * 90 / (2e-3 * model.parameters.values[key]["value"])
        assert rounding <= numerical.errors[key] <= 30 * rounding
        assert numerical.errors[key] > 2 * wide.errors[key]


def test_a_refusal_in_a_float64_model_is_the_users_error():
    model = get_model("GL06SIM")(hyperparameters={"dtype": torch.float64})
    with pytest.raises(RuntimeError, match="dtype"):
        JacobianNumerical(model).compute(only_float32)
    with pytest.raises(RuntimeError, match="dtype"):
        check_model_differentiability(model, only_float32)


def test_round_off_where_a_float32_loss_cancels():
    """Near its minimum a float32 loss is a difference of neighbours: its own size says nothing."""
    model = get_model("GL06SIM")()

    def loss(output):
        return (output["NationalIncome"][-1, 0].float() - 100.001).square()

    numerical = JacobianNumerical(model)
    found = numerical.compute(loss, error_estimates=True)
    exact = JacobianAutograd(model).compute(loss)
    assert numerical.errors is not None
    for key in exact:
        assert (found[key] - exact[key]).abs() <= numerical.errors[key] + 1e-6 * exact[key].abs()


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("mode", DIFFERENCES)
@pytest.mark.parametrize("space", ["log", "direct"])
def test_error_estimates_bound_the_error(float64: None, name: str, mode: Any, space: Any):
    model = get_model(name)()
    names = [key for key, info in model.parameters.values.items() if info["value"] > 0]
    numerical = JacobianNumerical(model, 0, 1e-3, space)
    found = numerical.compute(squares(name), mode, param_names=names, error_estimates=True)
    reverse = JacobianAutograd(model).compute(squares(name))
    assert numerical.errors is not None
    assert numerical.errors.keys() == found.keys()
    for key in names:
        # The estimate is exact to leading order in the step; the next order adds a share of it.
        assert (found[key] - reverse[key]).abs() <= 1.3 * numerical.errors[key]
        assert numerical.errors[key].shape == found[key].shape
    numerical.compute(squares(name), param_names=names)
    assert numerical.errors is None


def test_losses_in_half_precision():
    model = get_model("GL06SIM")()
    exact = JacobianAutograd(model).compute(last)
    for dtype in (torch.float16, torch.bfloat16):
        numerical = JacobianNumerical(model, epsilon=0.1)
        found = numerical.compute(lambda o, d=dtype: last(o).to(d), error_estimates=True)
        assert numerical.errors is not None
        for key in exact:
            assert found[key].dtype == torch.float32
            assert (found[key] - exact[key]).abs() <= numerical.errors[key] < 1e4
