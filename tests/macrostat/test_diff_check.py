"""The differentiability check: right models pass, and every planted fault is caught and named."""

import math
import random
from dataclasses import fields
from typing import Any

import pytest
import torch
from core_cases import Toy
from diff_cases import (
    EPS32,
    LIBRARY,
    MAIN,
    default_dtype,
    faulty,
    final,
    geometric,
    last,
    own_model,
    squares,
)

from macrostat.diff import (
    DifferentiabilityReport,
    JacobianAutograd,
    JacobianNumerical,
    check_model_differentiability,
)
from macrostat.models import get_model


def verdicts(report: DifferentiabilityReport, part: str = "numerical") -> dict[str, str]:
    return {k: one["verdict"] for k, one in report.details[part]["parameters"].items()}


def ones(behavior: Any) -> torch.Tensor:
    return torch.ones(1)


# Right models pass ----------------------------------------------------------------------------


def space_of(name: str) -> Any:
    return "direct" if name == "LINEAR2D" else "log"


SENSIBLE = {
    "squares": squares,
    "the end": lambda name: lambda o: o[MAIN.get(name, "NationalIncome")][-1],
    "a path": lambda name: lambda o: o[MAIN.get(name, "NationalIncome")][2:20],
    "logs": lambda name: lambda o: o[MAIN.get(name, "NationalIncome")][3:].abs().log().sum(),
    "everything": lambda name: lambda o: sum((path**2).sum() for path in o.values()),
}


@pytest.mark.parametrize("kind", SENSIBLE)
@pytest.mark.parametrize("name", LIBRARY)
def test_library_models_pass(name: str, kind: str):
    model, loss = get_model(name)(), SENSIBLE[kind](name)
    report = check_model_differentiability(model, loss, parameter_space=space_of(name))
    assert report.passed, report.summary()
    assert report.nan_or_inf is False
    assert report.fwd_vs_rev_ok is True and report.autodiff_vs_numerical_ok is True
    # Each at its own scale, and what decays as 0.85^100 has few digits left.
    assert report.rel_err_fwd_rev is not None and report.rel_err_fwd_rev < 1e-6
    assert report.rel_err_autodiff_num is not None and report.rel_err_autodiff_num < 1e-2
    assert report.max_abs_diff_fwd_rev is not None and report.max_abs_diff_autodiff_num is not None
    assert set(verdicts(report)) == set(model.parameters.values)
    lines = report.summary().splitlines()
    assert lines[:2] == ["Passed: True", "NaN/Inf gradients: False"]
    assert len(lines) == 4  # and the two comparisons, without a line for any parameter


@pytest.mark.parametrize("mode", ["central", "forward", "backward"])
@pytest.mark.parametrize("space", ["log", "direct"])
def test_every_kind_of_difference_confirms_a_right_model(mode: Any, space: Any):
    for model, loss in ((get_model("GL06SIM")(), squares("GL06SIM")), (own_model(), final)):
        report = check_model_differentiability(
            model, loss, numerical_mode=mode, parameter_space=space, epsilon=1e-4
        )
        assert report.passed, report.summary()


def test_right_models_of_a_users_own_pass():
    for model in (own_model(), Toy()):
        report = check_model_differentiability(model, lambda o: o["Y"] ** 2)
        assert report.passed, report.summary()
        # The check computes in float64: what is off by 1e-9 is not float32's.
        assert report.rel_err_fwd_rev is not None and report.rel_err_fwd_rev < 1e-12


def test_long_runs_in_float32_pass():
    """In float32 the gradient of 300 periods of this model is off by more than rtol."""
    model = own_model(values={"a": 0.999, "b": 0.3, "c": 2.0}, timesteps=300)
    report = check_model_differentiability(model, lambda o: (o["Y"] ** 2).mean(), epsilon=1e-5)
    assert report.passed, report.summary()


def test_a_parameter_without_effect_passes_however_large_the_loss():
    def step(behavior, params, scenario):
        return params["a"] * behavior.prior["Y"] + 1e9

    report = check_model_differentiability(own_model(step, initial=ones), final)
    assert report.passed, report.summary()
    found = report.details["numerical"]["parameters"]["b"]
    assert found["max_abs_diff"] == 0 and found["largest"] == 0


def test_scenarios():
    model = get_model("GL06SIM")(hyperparameters={"timesteps": 400})
    model.scenarios.add_scenario({"GovernmentDemand": 30.0}, name="stimulus")
    for scenario, slope in ((0, -500.0), (1, -750.0), ("stimulus", -750.0)):
        report = check_model_differentiability(model, last, scenario=scenario)
        assert report.autodiff_vs_numerical_ok is not None
        found = report.details["numerical"]["parameters"]["TaxRate"]
        assert found["largest"] == pytest.approx(-slope, rel=1e-9)
    with pytest.raises(ValueError, match="Scenario x not found"):
        check_model_differentiability(model, last, scenario="x")


# The report -----------------------------------------------------------------------------------


def test_fields():
    assert [field.name for field in fields(DifferentiabilityReport)] == [
        "passed",
        "nan_or_inf",
        "fwd_vs_rev_ok",
        "autodiff_vs_numerical_ok",
        "max_abs_diff_fwd_rev",
        "max_abs_diff_autodiff_num",
        "rel_err_fwd_rev",
        "rel_err_autodiff_num",
        "details",
    ]


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("numerical", [True, False])
def test_what_is_not_compared_is_none(forward: bool, numerical: bool):
    report = check_model_differentiability(
        get_model("GL06SIM")(),
        last if not numerical else squares("GL06SIM"),
        compare_forward_reverse=forward,
        compare_numerical=numerical,
    )
    assert report.passed
    compared = (report.fwd_vs_rev_ok, report.max_abs_diff_fwd_rev, report.rel_err_fwd_rev)
    assert [value is not None for value in compared] == [forward] * 3
    compared = (
        report.autodiff_vs_numerical_ok,
        report.max_abs_diff_autodiff_num,
        report.rel_err_autodiff_num,
    )
    assert [value is not None for value in compared] == [numerical] * 3
    assert ("Forward vs reverse" in report.summary()) == forward
    assert ("Autograd vs numerical" in report.summary()) == numerical


def wrong_model() -> Any:
    def step(behavior, params, scenario):
        return geometric(behavior, {**params, "b": faulty(params["b"], back=-1.0)}, scenario)

    return own_model(step)


def test_raising():
    with pytest.raises(RuntimeError, match=r"(?s)check failed.*Autograd vs numerical: b disagrees"):
        check_model_differentiability(wrong_model(), final, raise_on_failure=True)
    for choice in (False, None):
        report = check_model_differentiability(wrong_model(), final, raise_on_failure=choice)
        assert not report.passed
    assert check_model_differentiability(own_model(), final, raise_on_failure=True).passed


def test_bad_arguments():
    model = get_model("LINEAR2D")()
    with pytest.raises(ValueError) as caught:
        check_model_differentiability(model, squares("LINEAR2D"))
    assert str(caught.value) == "Cannot use log-space with zero parameters: ['x0_2']"
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"target": "scenarios"}, NotImplementedError, "target='parameters'"),
        ({"numerical_mode": "x"}, ValueError, "central"),
        ({"parameter_space": "x"}, ValueError, "direct"),
        ({"epsilon": -1.0}, ValueError, "epsilon"),
    ]
    for given, error, message in wrong:
        with pytest.raises(error, match=message):
            check_model_differentiability(get_model("GL06SIM")(), last, **given)


# Planted faults -------------------------------------------------------------------------------


def test_a_wrong_sign_beside_a_gradient_of_a_million():
    """By a: 1e6. By b: 3, and -3 in reverse mode."""

    def step(behavior, params, scenario):
        return 1e6 * params["a"] + 3 * faulty(params["b"], back=-1.0) + 0 * params["c"]

    model = own_model(step, initial=ones)
    report = check_model_differentiability(model, final)
    assert not report.passed
    for part in ("numerical", "autograd_fwd"):
        assert verdicts(report, part) == {"a": "agrees", "b": "disagrees", "c": "agrees"}
    assert "Forward vs reverse: b disagrees: differs by 6.000e+00 of 3.000e+00" in report.summary()
    assert "Autograd vs numerical: b disagrees" in report.summary()
    assert " a " not in report.summary()
    # At its own scale: the difference is twice as large as the derivative.
    assert report.rel_err_fwd_rev == pytest.approx(2.0)
    assert report.rel_err_autodiff_num == pytest.approx(2.0, rel=1e-3)


def test_a_wrong_sign_in_one_element_of_many():
    def step(behavior, params, scenario):
        b = params["b"]
        return torch.stack([1e6 * b, 3 * faulty(b, back=-1.0, push=-1.0)])

    model = own_model(step, width=2, initial=lambda behavior: torch.ones(2))
    report = check_model_differentiability(model, lambda o: o["Y"][-1])
    assert report.fwd_vs_rev_ok  # both wrong alike
    assert verdicts(report)["b"] == "disagrees"


@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.parametrize("where", ["model", "loss"])
def test_nan_in_one_mode_alone(mode: str, where: str):
    factors = {"back": math.nan} if mode == "rev" else {"push": math.nan}

    def step(behavior, params, scenario):
        return geometric(behavior, {**params, "b": faulty(params["b"], **factors)}, scenario)

    if where == "model":
        model, loss = own_model(step), final
    else:
        model, loss = get_model("GL06SIM")(), lambda o: faulty(last(o), **factors)
    report = check_model_differentiability(model, loss)
    assert report.nan_or_inf is True
    assert not report.passed
    assert report.fwd_vs_rev_ok is False
    assert report.rel_err_fwd_rev is not None and math.isnan(report.rel_err_fwd_rev)
    named = {"rev": "reverse", "fwd": "forward"}[mode]
    given = f"{named} in torch.float32"
    assert set(report.details["non_finite"]) == {named, given}
    lines = report.summary().splitlines()
    assert "NaN/Inf gradients: True" in lines
    assert any(line.startswith(f"  {named}: ") and "b" in line for line in lines) or where == "loss"
    assert any("non-finite" in line for line in lines)
    # The other comparison is none of it.
    assert report.autodiff_vs_numerical_ok is (mode == "fwd" and where == "model") or (
        where == "loss"
    )


def test_infinities_count():
    def loss(output):
        return faulty(last(output), push=math.inf)

    report = check_model_differentiability(get_model("GL06SIM")(), loss)
    assert report.nan_or_inf and not report.passed


def test_nan_in_the_differences_alone():
    """Defined at the parameters and not beside them, as the square root of a distance is."""

    def step(behavior, params, scenario):
        base = params["b"].detach()
        safe = torch.where(params["b"] == 0.3, params["b"], math.nan)
        return params["a"] + torch.where(base == 0.3, safe, math.nan)

    with default_dtype(torch.float64):  # so that 0.3 is 0.3
        report = check_model_differentiability(own_model(step, initial=ones), final)
    assert report.nan_or_inf and not report.passed
    assert report.details["non_finite"] == {"numerical": ["b"]}
    assert verdicts(report)["b"] == "non-finite"
    assert report.fwd_vs_rev_ok is True


def test_nan_in_the_users_dtype_alone():
    """exp(100) is finite in float64 and not in float32, in which the user computes."""

    def step(behavior, params, scenario):
        big = torch.exp(100 * params["a"])
        return params["b"] + big / big

    model = own_model(step, {"a": 1.0, "b": 0.3}, initial=ones)
    assert JacobianAutograd(model).compute(final)["a"].isnan()
    report = check_model_differentiability(model, final)
    assert report.nan_or_inf and not report.passed
    assert set(report.details["non_finite"]) == {
        "reverse in torch.float32",
        "forward in torch.float32",
    }
    assert "reverse in torch.float32: a" in report.summary()


def test_nothing_is_compared_and_nan_is_reported_nevertheless():
    report = check_model_differentiability(
        get_model("GL06SIM")(),
        lambda o: faulty(last(o), back=math.nan),
        compare_forward_reverse=False,
        compare_numerical=False,
    )
    assert report.nan_or_inf and not report.passed


def test_a_missing_name():
    """A leaf that the behavior makes for itself: autograd knows it, finite differences do not."""
    model = own_model()

    class Extra(model.behavior):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.params["extra"] = torch.nn.Parameter(torch.tensor(1.0))

        def step(self, t, scenario, params):
            super().step(t, scenario, params)
            self.state["Y"] = self.state["Y"] * params["extra"]

    model.behavior = Extra
    report = check_model_differentiability(model, final)
    assert not report.passed
    assert report.autodiff_vs_numerical_ok is False and report.fwd_vs_rev_ok is True
    assert report.details["numerical"]["only_in_a"] == {"extra": None}
    assert "only_in_a extra (unexpected)" in report.summary()


def test_a_name_that_reverse_mode_lacks(monkeypatch: pytest.MonkeyPatch):
    compute = JacobianAutograd._compute

    def without(self, loss_fn, mode, *args):
        found = compute(self, loss_fn, mode, *args)
        if mode == "rev":
            del found["TaxRate"]
        return found

    monkeypatch.setattr(JacobianAutograd, "_compute", without)
    report = check_model_differentiability(get_model("GL06SIM")(), squares("GL06SIM"))
    assert not report.passed
    assert report.fwd_vs_rev_ok is False and report.autodiff_vs_numerical_ok is False
    assert report.details["numerical"]["only_in_b"] == {"TaxRate": None}
    assert "only_in_b TaxRate (unexpected)" in report.summary()


def test_a_derived_name_is_expected_only_where_it_may_be_missing(
    monkeypatch: pytest.MonkeyPatch,
):
    """Both modes of autograd have derived and data parameters: forward mode lacking one is a fault."""
    compute = JacobianAutograd._compute

    def without(self, loss_fn, mode, *args):
        found = compute(self, loss_fn, mode, *args)
        if mode == "fwd":
            del found["c"]
        return found

    monkeypatch.setattr(JacobianAutograd, "_compute", without)
    report = check_model_differentiability(Toy(), final)
    assert report.fwd_vs_rev_ok is False
    assert not report.passed


@pytest.mark.parametrize("where", ["model", "loss"])
def test_a_gradient_that_is_wrong_by_a_ten_thousandth(where: str):
    factors = {"back": 1.0001, "push": 1.0001}

    def step(behavior, params, scenario):
        return geometric(behavior, {**params, "b": faulty(params["b"], **factors)}, scenario)

    if where == "model":
        model, loss, wrong = own_model(step), final, {"b"}
    else:
        model, wrong = get_model("GL06SIM")(), {"TaxRate"}

        def loss(output):
            return faulty(output["NationalIncome"][2:4, 0].sum(), **factors)

    report = check_model_differentiability(model, loss)
    assert not report.passed
    assert report.fwd_vs_rev_ok  # wrong alike
    assert wrong <= {name for name, verdict in verdicts(report).items() if verdict != "agrees"}
    assert check_model_differentiability(model, loss, rtol=1e-3).passed


@pytest.mark.parametrize("noise", ["in the step", "in the loss", "added to the loss"])
def test_what_is_not_repeatable(noise: str):
    def step(behavior, params, scenario):
        return geometric(behavior, params, scenario) * (1 + 0.01 * random.random())

    losses = {
        "in the step": final,
        "in the loss": lambda o: final(o) * (1 + random.random()),
        # The gradient is the same in every run; the loss is not.
        "added to the loss": lambda o: final(o) + 1e-3 * random.random(),
    }
    own = own_model(step if noise == "in the step" else geometric)
    models = [own] if noise == "in the step" else [own, get_model("GL06SIM")()]
    for model in models:
        loss = losses[noise]
        if "NationalIncome" in model.variables.info:
            loss = (lambda given: lambda o: given({"Y": o["NationalIncome"]}))(loss)
        for kinds in (True, False):
            report = check_model_differentiability(
                model, loss, compare_numerical=kinds, compare_forward_reverse=kinds
            )
            assert not report.passed
            assert report.details["determinism"]["ok"] is False
            assert "Not deterministic" in report.summary()


def test_seeded_draws_are_repeatable():
    def step(behavior, params, scenario):
        return geometric(behavior, params, scenario) * (1 + 0.01 * torch.rand(1))

    report = check_model_differentiability(own_model(step), final)
    assert report.passed, report.summary()


# Kinks and jumps ------------------------------------------------------------------------------


def at_the_kink(kind: str, x: torch.Tensor) -> torch.Tensor:
    """Functions with a kink at 0, where torch gives them one derivative or another."""
    return {
        "abs": lambda: x.abs(),  # torch says 0, and so does a central difference
        "relu": lambda: torch.relu(x),
        "clamp": lambda: torch.clamp(x, min=0.0),  # the right derivative
        "maximum": lambda: torch.maximum(x, 2 * x),  # the mean of both, like a central difference
        "where": lambda: torch.where(x > 0, 3 * x, 2 * x),
        "beside a slope": lambda: 5 * x + 0.1 * x.abs(),
        "small": lambda: x + 1e-3 * x.abs(),
    }[kind]()


KINKS = ("abs", "relu", "clamp", "maximum", "where", "beside a slope", "small")


@pytest.mark.parametrize("kind", KINKS)
@pytest.mark.parametrize("mode", ["central", "forward", "backward"])
@pytest.mark.parametrize("space", ["log", "direct"])
def test_a_kink_at_the_parameter_never_passes(kind: str, mode: Any, space: Any):
    with default_dtype(torch.float64):  # so that the kink is at the parameter in both

        def step(behavior, params, scenario):
            return at_the_kink(kind, params["a"] - 0.5) + params["b"]

        report = check_model_differentiability(
            own_model(step, initial=ones), final, numerical_mode=mode, parameter_space=space
        )
        assert not report.passed, report.summary()
        assert verdicts(report)["b"] == "agrees"
        if verdicts(report)["a"] == "inconclusive":
            assert "a kink: left and right differ by" in report.summary()
        assert "a" in report.details["numerical"]["inconclusive"] or verdicts(report)["a"] == (
            "disagrees"
        )


@pytest.mark.parametrize("kind", KINKS[:5])
def test_a_kink_of_a_library_models_loss_never_passes(kind: str):
    model = get_model("GL06SIM")()
    with torch.no_grad():
        base = JacobianAutograd(model)._loss(last, torch.float64)

    def loss(output):
        return at_the_kink(kind, last(output).double() - base)

    report = check_model_differentiability(model, loss)
    assert not report.passed, report.summary()
    assert verdicts(report)["TaxRate"] != "agrees"


@pytest.mark.parametrize("mode", ["central", "forward", "backward"])
@pytest.mark.parametrize("offset", [0.0, 1e-7, 4e-4, -4e-4, 6e-4, -6e-4])
def test_a_jump_near_the_parameter_never_passes(mode: Any, offset: float):
    with default_dtype(torch.float64):

        def step(behavior, params, scenario):
            moved = params["a"] - (0.5 + offset)
            return params["a"] + (moved > 0).to(moved) + params["b"]

        report = check_model_differentiability(
            own_model(step, initial=ones), final, numerical_mode=mode, parameter_space="direct"
        )
        # Differences that look to one side do not see a jump on the other: 6e-4 beyond half a step.
        assert verdicts(report)["b"] == "agrees"
        seen = mode == "central" or abs(offset) < 5e-4 or (offset > 0) == (mode == "forward")
        if seen:
            assert not report.passed, report.summary()


@pytest.mark.parametrize("offset", [1e-7, 1e-4, 4e-4, -4e-4])
def test_a_kink_near_the_parameter_never_passes(offset: float):
    with default_dtype(torch.float64):

        def step(behavior, params, scenario):
            return torch.relu(params["a"] - (0.5 + offset)) + params["b"]

        report = check_model_differentiability(
            own_model(step, initial=ones), final, parameter_space="direct"
        )
        assert not report.passed, report.summary()


def test_a_kink_away_from_the_parameter_passes():
    for offset in (0.01, -0.01):

        def step(behavior, params, scenario, offset=offset):
            return torch.relu(params["a"] - (0.5 + offset)) + params["b"]

        report = check_model_differentiability(own_model(step, initial=ones), final)
        assert report.passed, report.summary()


def test_smooth_curvature_is_no_kink():
    """Strong curvature, up to a sharpness that the step still resolves."""
    for sharpness in (1.0, 10.0, 30.0):

        def step(behavior, params, scenario, k=sharpness):
            return torch.tanh(k * (params["a"] - 0.45)) + params["b"] ** 4

        report = check_model_differentiability(own_model(step, initial=ones), final)
        assert report.passed, (sharpness, report.summary())


# Inconclusive is never passed -----------------------------------------------------------------


def test_differences_that_decide_nothing_do_not_pass():
    """Sharper than the step: the estimate exceeds a hundredth, and nothing is confirmed."""

    def step(behavior, params, scenario):
        return torch.sin(3000 * params["a"]) + params["b"]

    report = check_model_differentiability(own_model(step, initial=ones), final)
    assert not report.passed
    assert verdicts(report) == {"a": "inconclusive", "b": "agrees", "c": "agrees"}
    assert report.details["numerical"]["inconclusive"] == ["a"]
    assert report.autodiff_vs_numerical_ok is False
    assert "a inconclusive" in report.summary()
    finer = check_model_differentiability(own_model(step, initial=ones), final, epsilon=1e-6)
    assert finer.passed, finer.summary()


def test_steps_drowned_in_rounding_do_not_pass():
    def loss(output):
        return output["NationalIncome"][-1, 0].float()

    report = check_model_differentiability(get_model("GL06SIM")(), loss, epsilon=1e-6)
    assert not report.passed
    assert verdicts(report)["TaxRate"] == "inconclusive"
    assert report.details["numerical"]["parameters"]["TaxRate"]["error_estimate"] > (
        EPS32 * 100 / (0.2 * 2e-6)
    )


def test_a_wrong_gradient_hides_behind_no_estimate():
    """Where the error estimate is large, a wrong gradient is inconclusive, and not passed either."""

    def step(behavior, params, scenario):
        return torch.sin(300 * faulty(params["a"], back=0.97, push=0.97)) + params["b"]

    report = check_model_differentiability(own_model(step, initial=ones), final)
    assert not report.passed
    assert verdicts(report)["a"] != "agrees"


# A loss that refuses float64 ------------------------------------------------------------------


def test_a_float32_loss_is_judged_at_its_precision():
    def loss(output):
        weights = torch.linspace(0.5, 1.5, 101, dtype=torch.float32)
        return weights @ output["NationalIncome"][:, 0]

    model = get_model("GL06SIM")()
    with pytest.warns(UserWarning, match="refuses float64"):
        report = check_model_differentiability(model, loss, epsilon=1e-2)
    assert report.passed, report.summary()
    errors = report.details["numerical"]["parameters"]
    assert all(one["error_estimate"] > 1e-5 * one["largest"] for one in errors.values())


def test_a_float32_target_in_a_loss_of_torchs():
    """mse_loss takes float64 outputs forward, and refuses them backward."""

    def loss(output):
        return torch.nn.functional.mse_loss(output["NationalIncome"], torch.full((101, 1), 90.0))

    for model in (get_model("GL06SIM")(), get_model("GL06SIMEX")()):
        report = check_model_differentiability(model, loss)
        assert report.passed, report.summary()
        assert JacobianNumerical(model).compute(loss)  # without a warning
