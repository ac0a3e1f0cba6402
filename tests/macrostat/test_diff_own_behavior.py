"""Jacobians of a user's own torch behavior: the same results as for library models."""

import copy
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from core_cases import Toy, ToyBehavior
from diff_cases import (
    EPS32,
    EPS64,
    default_dtype,
    faulty,
    final,
    geometric,
    last,
    own_model,
    squares,
)
from test_diff_jacobians import photograph

from macrostat import _engine
from macrostat.core import LinearConstraint
from macrostat.diff import (
    JacobianAutograd,
    JacobianNumerical,
    check_model_differentiability,
    compare_jacobian_dicts,
)
from macrostat.models import get_model, get_model_classes

MODES: tuple[Any, ...] = ("rev", "fwd")
A, B, C, G, N = 0.5, 0.3, 2.0, 10.0, 4


def exact(n: int, g: float = G, a: float = A) -> dict[str, float]:
    """Y_n = a^n c + b g (1 - a^n) / (1 - a), differentiated."""
    growth = (1 - a**n) / (1 - a)
    by_a = n * a ** (n - 1) * C + B * g * (growth - n * a ** (n - 1)) / (1 - a)
    return {"a": by_a, "b": g * growth, "c": a**n}


# Values, shapes, dtypes -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_closed_form(mode: Any):
    model = own_model()
    for dtype, rounding in ((torch.float32, 16 * EPS32), (torch.float64, 16 * EPS64)):
        with default_dtype(dtype):
            model = own_model()
            found = JacobianAutograd(model).compute(lambda o: o["Y"][:, 0], mode=mode)
            for n in range(N + 1):
                for key, value in exact(n).items():
                    assert found[key].dtype == dtype
                    assert found[key].shape == (N + 1,)
                    assert found[key][n].item() == pytest.approx(value, rel=rounding, abs=rounding)


def test_differences_in_closed_form():
    """The path is linear in b and c, so that direct differences are exact but for rounding."""
    model = own_model()
    seen = set()

    def loss(output):
        seen.update(value.dtype for value in output.values())
        return final(output)

    found = JacobianNumerical(model, 0, 1e-3, "direct").compute(loss)
    assert seen == {torch.float64}
    for key in ("b", "c"):
        assert found[key].item() == pytest.approx(exact(N)[key], rel=EPS32)
    assert found["a"].item() == pytest.approx(exact(N)["a"], rel=1e-5)
    assert {value.dtype for value in found.values()} == {torch.float32}


@pytest.mark.parametrize(
    "shape, loss",
    [
        ((), final),
        ((5,), lambda o: o["Y"][:, 0]),
        ((5, 1), lambda o: o["Y"]),
        ((1, 5, 1), lambda o: o["Y"][None]),
        ((0,), lambda o: o["Y"][:0, 0]),
    ],
)
def test_shapes(shape: tuple, loss: Any):
    found = [JacobianAutograd(own_model()).compute(loss, mode=mode) for mode in MODES]
    found.append(JacobianNumerical(own_model()).compute(loss))
    for jacobian in found:
        assert set(jacobian) == {"a", "b", "c"}
        for value in jacobian.values():
            assert value.shape == shape and value.dtype == torch.float32
            assert not value.requires_grad


def test_chunks_change_nothing():
    with default_dtype(torch.float64):
        for mode in MODES:
            autograd = JacobianAutograd(Toy())
            whole = autograd.compute(lambda o: o["Y"], mode=mode)
            for chunk in (1, 2, 7, 1000):
                found = autograd.compute(lambda o: o["Y"], mode=mode, chunk_size=chunk)
                for key in whole:
                    torch.testing.assert_close(found[key], whole[key], rtol=1e-13, atol=1e-13)


def test_scenarios():
    model = own_model()
    model.scenarios.add_scenario({"G": 20.0}, name="more")
    model.scenarios.add_scenario({"a_add": 0.25}, name="shock")
    with default_dtype(torch.float64):
        for scenario, expected in (
            (0, exact(N)),
            ("more", exact(N, g=20.0)),
            ("shock", exact(N, a=A + 0.25)),
        ):
            for jacobian in (
                JacobianAutograd(model, scenario).compute(final),
                JacobianAutograd(model, scenario).compute(final, mode="fwd"),
                JacobianNumerical(model, scenario, 1e-4).compute(final),
            ):
                for key, value in expected.items():
                    assert jacobian[key].item() == pytest.approx(value, rel=1e-6)


def test_hyper_dtype():
    model = Toy(hyperparameters={"dtype": torch.float64})
    for mode in MODES:
        found = JacobianAutograd(model).compute(final, mode=mode)
        assert {value.dtype for value in found.values()} == {torch.float64}
    assert next(iter(JacobianNumerical(model).compute(final).values())).dtype == torch.float64


# Constraints, sectors -------------------------------------------------------------------------


def initially_derived(behavior: Any) -> torch.Tensor:
    return behavior.params["c"].reshape(1) * 5


@pytest.mark.parametrize("where", ["step", "initialize"])
def test_a_derived_parameter_has_no_gradient_and_the_others_carry_it(where: str):
    constraint = LinearConstraint(("a", "b", "c"), 1.0)
    values = {"a": 0.5, "b": 0.3, "c": 0.2}

    def step(behavior, params, scenario):
        kept = behavior.prior["Y"] if where == "initialize" else 5 * params["c"].reshape(1)
        return kept + 2 * params["b"]

    model = own_model(step, values, (constraint,), timesteps=1, initial=initially_derived)
    expected = {"a": -5.0, "b": -3.0, "c": 0.0}  # Y = 5 (1 - a - b) + 2 b
    for mode in MODES:
        found = JacobianAutograd(model).compute(final, mode=mode)
        assert {key: found[key].item() for key in found} == pytest.approx(expected, rel=1e-6)
    found = JacobianNumerical(model).compute(final)
    assert {key: found[key].item() for key in found} == pytest.approx(
        {"a": -5.0, "b": -3.0}, rel=1e-6
    )
    report = check_model_differentiability(model, final)
    assert report.passed, report.summary()
    assert "only_in_a c (expected: derived by a constraint)" in report.summary()


def test_sector_vectors_slot_by_slot():
    model = Toy()

    def loss(output):
        return output["W"][-1] * torch.tensor([1.0, 10.0])

    reverse, forward = (JacobianAutograd(model).compute(loss, mode=mode) for mode in MODES)
    numerical = JacobianNumerical(model).compute(loss)
    income = model.simulate()["Y"][-1].item()
    # W_i = w_i Y + the sum of D; slots follow the sorted sectors.
    for jacobian in (reverse, forward):
        assert jacobian["w"].shape == (2, 2)
        torch.testing.assert_close(jacobian["w"], torch.diag(torch.tensor([1.0, 10.0]) * income))
        assert jacobian["D"].shape == (2, 2, 3)
        torch.testing.assert_close(
            jacobian["D"], torch.tensor([1.0, 10.0])[:, None, None].expand(2, 2, 3)
        )
    for i, name in enumerate(("S1.w", "S2.w")):
        torch.testing.assert_close(numerical[name], reverse["w"][:, i], rtol=1e-5, atol=1e-5)
    report = check_model_differentiability(model, loss)
    assert report.passed, report.summary()
    assert {"S1.w", "S2.w", "S1.S2.m", "Other.q"} <= set(report.details["numerical"]["parameters"])


def test_a_wrong_slot_is_named():
    class Wrong(ToyBehavior):
        def step(self, t, scenario, params):
            super().step(t, scenario, params)
            w = params["w"]
            w = torch.stack([w[0], faulty(w[1], back=-1.0, push=-1.0)])
            self.state["W"] = w * self.state["Y"]

    report = check_model_differentiability(
        Toy(behavior=Wrong), lambda o: o["W"][-1].sum(), parameter_space="direct"
    )
    verdicts = {k: v["verdict"] for k, v in report.details["numerical"]["parameters"].items()}
    assert verdicts.pop("S2.w") == "disagrees"
    assert set(verdicts.values()) == {"agrees"}
    assert "S2.w disagrees" in report.summary()


# What a step may do ---------------------------------------------------------------------------


class AsPeopleWrite(ToyBehavior):
    """Writes into slots, branches on values, draws from torch's and NumPy's seeded generators."""

    def step(self, t, scenario, params):
        super().step(t, scenario, params)
        slots = torch.zeros(2)
        slots[0] = params["w"][0] * self.state["Y"][0]
        slots[1] = params["w"][1] if self.state["Y"].item() > 0 else 0.0
        noise = torch.rand(2) + torch.randn_like(slots) + float(self.numpy_rng.normal())
        self.state["W"] = slots * (1 + 0.01 * noise)
        self.state["M"][0, 1] = params["m"][0, 1] * torch.tensor(0.1)


def test_a_step_may_write_branch_and_draw():
    model = Toy(behavior=AsPeopleWrite)

    def loss(output):
        return (output["W"] ** 2).sum() + output["M"].sum()

    reverse, forward = (JacobianAutograd(model).compute(loss, mode=mode) for mode in MODES)
    for key in reverse:
        torch.testing.assert_close(reverse[key], forward[key], rtol=1e-4, atol=1e-5)
    # The differences are of the same draws, though they are taken in float64.
    numerical = JacobianNumerical(model).compute(loss)
    report = compare_jacobian_dicts(reverse, numerical)
    assert report.overall_max_rel_diff < 1e-4
    assert check_model_differentiability(model, loss).passed


class OldStyle(torch.autograd.Function):
    """A function with reverse and forward mode, and no rule for batches."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor):
        return gradient * 3 * ctx.saved_tensors[0] ** 2

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor):
        return tangent * 3 * ctx.saved_tensors[0] ** 2


def test_a_function_that_cannot_be_batched():
    def step(behavior, params, scenario):
        found: Any = OldStyle.apply(params["a"])
        return found + params["b"] * behavior.prior["Y"]

    model = own_model(step)
    for loss in (final, lambda o: o["Y"][:, 0]):
        reverse, forward = (JacobianAutograd(model).compute(loss, mode=mode) for mode in MODES)
        for key in reverse:
            torch.testing.assert_close(reverse[key], forward[key])
        assert check_model_differentiability(model, loss).passed


def test_a_step_that_refuses_float64():
    weights = torch.tensor([[0.5]], dtype=torch.float32)

    def step(behavior, params, scenario):
        return (weights @ behavior.prior["Y"]) * params["a"] + params["b"]

    model = own_model(step)
    reverse = JacobianAutograd(model).compute(final)
    numerical = JacobianNumerical(model, epsilon=1e-2)
    with pytest.warns(UserWarning, match=r"refuses float64 outputs .*evaluated in torch\.float32"):
        found = numerical.compute(final, error_estimates=True)
    assert numerical.errors is not None
    for key in reverse:
        assert (found[key] - reverse[key]).abs() <= numerical.errors[key]
    with pytest.warns(UserWarning, match="refuses float64"):
        report = check_model_differentiability(model, final, epsilon=1e-2)
    assert report.nan_or_inf is False
    assert "disagrees" not in report.summary()


def test_an_error_in_a_step_is_the_users_error():
    mine = RuntimeError("mine")

    def step(behavior, params, scenario):
        raise mine

    model = own_model(step)
    for compute in (
        JacobianAutograd(model).compute,
        lambda loss: JacobianAutograd(model).compute(loss, mode="fwd"),
        JacobianNumerical(model).compute,
        lambda loss: check_model_differentiability(model, loss),
    ):
        with pytest.raises(RuntimeError) as caught:
            compute(final)
        assert caught.value is mine


CONSTANTS = {
    "constant": lambda o: torch.tensor(1.0),
    "detached": lambda o: o["Y"].detach().sum(),
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constant_losses_are_zero_with_a_warning(kind: str):
    for mode in MODES:
        with pytest.warns(UserWarning, match="does not depend on the model's outputs") as caught:
            found = JacobianAutograd(own_model()).compute(CONSTANTS[kind], mode=mode)
        assert [warning.filename for warning in caught] == [__file__]
        assert all(value.shape == () and value == 0 for value in found.values())


def test_a_loss_that_happens_to_be_flat_is_no_constant():
    found = JacobianAutograd(own_model()).compute(lambda o: 0.0 * o["Y"].sum())  # no warning
    assert all(value == 0 for value in found.values())


@pytest.mark.parametrize("loss", [lambda o: 1.0, lambda o: torch.tensor(1), lambda o: None])
def test_what_is_no_loss_is_an_error(loss: Any):
    for compute in (
        JacobianAutograd(own_model()).compute,
        lambda loss: JacobianAutograd(own_model()).compute(loss, mode="fwd"),
        JacobianNumerical(own_model()).compute,
    ):
        with pytest.raises(TypeError, match="loss_fn must return"):
            compute(loss)


# Behaviors built on the library's -------------------------------------------------------------


def library_pair(name: str = "GL06PC") -> tuple[Any, Any]:
    """A library model, and the same with a behavior that runs in eager torch."""
    cls = get_model(name)
    behavior: Any = get_model_classes(name).Behavior

    class Mine(behavior):
        def step(self, t, scenario, params=None, **kwargs):
            super().step(t, scenario, params, **kwargs)

    short = {"timesteps": 12}
    return cls(hyperparameters=short), cls(hyperparameters=short, behavior=Mine)


def assert_same_jacobians(library: Any, mine: Any, loss: Any) -> None:
    assert _engine.is_compiled(library) and not _engine.is_compiled(mine)
    with default_dtype(torch.float64):
        for mode in MODES:
            ours = JacobianAutograd(library).compute(loss, mode=mode)
            theirs = JacobianAutograd(mine).compute(loss, mode=mode)
            assert ours.keys() == theirs.keys()
            for key in ours:
                torch.testing.assert_close(ours[key], theirs[key], rtol=1e-6, atol=1e-8)
        ours = JacobianNumerical(library).compute(loss)
        theirs = JacobianNumerical(mine).compute(loss)
        assert list(ours) == list(theirs)
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-6, atol=1e-6)


def test_a_subclass_that_calls_the_librarys_step():
    library, mine = library_pair()
    assert_same_jacobians(library, mine, squares("GL06PC"))
    report = check_model_differentiability(mine, squares("GL06PC"))
    assert report.passed, report.summary()


def sim_step(self: Any, t: int, scenario: Any, params: Any = None, **kwargs: Any) -> None:
    """SIM in torch: income is what is spent, and consumption depends on it."""
    wealth, spent = self.prior["HouseholdMoneyStock"], scenario["GovernmentDemand"]
    theta = params["TaxRate"]
    first, second = params["PropensityToConsumeIncome"], params["PropensityToConsumeSavings"]
    income = (spent + second * wealth) / (1 - first * (1 - theta))
    self.state["NationalIncome"] = income
    self.state["HouseholdMoneyStock"] = wealth + spent - theta * income


def zeros(self: Any) -> None:
    for name in self.state:
        self.state[name] = torch.zeros(1)


@pytest.mark.parametrize("how", ["subclass", "assigned", "instance"])
def test_functions_of_a_users_own_in_place_of_the_librarys(how: str):
    cls = get_model("GL06SIM")
    base: Any = get_model_classes("GL06SIM").Behavior
    short = {"timesteps": 12}
    if how == "instance":

        class Mine(cls):
            def get_model_training_instance(self, *args: Any, **kwargs: Any) -> Any:
                behavior = super().get_model_training_instance(*args, **kwargs)
                behavior.step = sim_step.__get__(behavior)
                return behavior

        mine: Any = Mine(hyperparameters=short)
    else:
        behavior = type("Mine", (base,), {"step": sim_step} if how == "subclass" else {})
        if how == "assigned":
            behavior.step, behavior.initialize = sim_step, zeros
        mine = cls(hyperparameters=short, behavior=behavior)
    assert_same_jacobians(cls(hyperparameters=short), mine, squares("GL06SIM"))


@pytest.mark.parametrize("how", ["init", "forward", "parameters", "scenarios"])
def test_whatever_a_user_replaces_is_differentiated(how: str):
    """Income doubles, by a change in one place or another: the derivative is of the model as it runs."""
    cls, classes = get_model("GL06SIM"), get_model_classes("GL06SIM")
    bases: Any = classes
    given: dict[str, Any] = {}
    if how == "init":

        class Behavior(bases.Behavior):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.scenarios["GovernmentDemand"].data.mul_(2)

        given["behavior"] = Behavior
    elif how == "forward":

        class Forward(bases.Behavior):
            def forward(self) -> dict[str, torch.Tensor]:
                return {name: 2 * path for name, path in super().forward().items()}

        given["behavior"] = Forward
    elif how == "parameters":

        class Parameters(bases.Parameters):
            def vectorize_parameters(self) -> dict[str, torch.Tensor]:
                found = super().vectorize_parameters()
                return {**found, "TaxRate": found["TaxRate"] / 2}

        given["parameters"] = Parameters(hyperparameters={"timesteps": 400})
    else:

        class Scenarios(bases.Scenarios):
            def vectorize_scenarios(self, timeseries: Any) -> Any:
                return {name: 2 * path for name, path in timeseries.items()}

        parameters = bases.Parameters(hyperparameters={"timesteps": 400})
        given |= {"parameters": parameters, "scenarios": Scenarios(parameters=parameters)}
    given.setdefault("hyperparameters", {"timesteps": 400})
    with default_dtype(torch.float64):
        model = cls(**given)
        assert model.simulate()["NationalIncome"][-1].item() == pytest.approx(200.0, rel=1e-9)
        # Y* = 2 G / theta, or G / theta with theta halved when the tensors are made.
        slope = -20 / 0.1**2 if how == "parameters" else -40 / 0.2**2
        for mode in MODES:
            found = JacobianAutograd(model).compute(last, mode=mode)
            assert found["TaxRate"].item() == pytest.approx(slope, rel=1e-9)
        found = JacobianNumerical(model).compute(last, param_names=["TaxRate"])
        # Differences are by the declared parameter: half of a change of the tensor.
        slope = slope / 2 if how == "parameters" else slope
        assert found["TaxRate"].item() == pytest.approx(slope, rel=1e-7)


# What is left behind --------------------------------------------------------------------------


@pytest.mark.parametrize("simulated", [False, True])
def test_the_model_is_left_as_it_was(simulated: bool):
    for model, loss in ((Toy(), final), (library_pair("GL06SIM")[1], squares("GL06SIM"))):
        if simulated:
            model.simulate()
        before, instance = photograph(model), model.behavior_instance
        generator = torch.random.get_rng_state()
        JacobianAutograd(model).compute(loss)
        JacobianAutograd(model).compute(loss, mode="fwd")
        JacobianNumerical(model).compute(loss)
        check_model_differentiability(model, loss)
        assert photograph(model) == before
        assert model.behavior_instance is instance
        assert torch.equal(torch.random.get_rng_state(), generator)
        assert torch.get_default_dtype() == torch.float32
        copy.deepcopy(model)


def test_a_failing_step_leaves_the_default_dtype():
    def step(behavior, params, scenario):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        JacobianNumerical(own_model(step)).compute(final)
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).dtype == torch.float32


def test_float64_is_of_one_thread_alone():
    """While the differences of one model run in float64, others see the default dtype."""
    entered, done = threading.Event(), threading.Event()
    seen: dict[str, Any] = {}

    def step(behavior, params, scenario):
        seen["inside"] = torch.zeros(1).dtype
        entered.set()
        done.wait(10)
        return geometric(behavior, params, scenario)

    thread = threading.Thread(target=lambda: JacobianNumerical(own_model(step)).compute(final))
    thread.start()
    assert entered.wait(30)
    try:
        seen["outside"] = torch.zeros(1).dtype, torch.get_default_dtype()
        seen["library"] = get_model("GL06SIM")().simulate()["NationalIncome"].dtype
    finally:
        done.set()
        thread.join()
    assert seen == {
        "inside": torch.float64,
        "outside": (torch.float32, torch.float32),
        "library": torch.float32,
    }


def test_own_models_in_threads():
    expected = JacobianAutograd(own_model()).compute(final, mode="fwd")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                found = JacobianAutograd(own_model()).compute(final, mode="fwd")
                assert all(torch.equal(found[key], expected[key]) for key in expected)
                JacobianNumerical(own_model()).compute(final)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_constants_of_a_step_keep_their_dtype():
    """What names its dtype, or is made of integers or arrays, is as it would be."""
    seen = {}

    def step(behavior, params, scenario):
        seen.update(
            number=torch.tensor(0.5).dtype,
            numbers=torch.tensor([1, 2.5]).dtype,
            integer=torch.tensor(3).dtype,
            integers=torch.arange(3).dtype,
            steps=torch.arange(0.0, 1.0, 0.5).dtype,
            complex=torch.tensor(1j).dtype,
            named=torch.zeros(2, dtype=torch.float16).dtype,
            full=torch.full((2,), 0.5).dtype,
            filled=torch.full((2,), 7).dtype,
            array=torch.as_tensor(np.ones(2, dtype=np.float32)).dtype,
            drawn=torch.randn(2).dtype,
        )
        return geometric(behavior, params, scenario)

    JacobianNumerical(own_model(step)).compute(final)
    assert seen == {
        "number": torch.float64,
        "numbers": torch.float64,
        "integer": torch.int64,
        "integers": torch.int64,
        "steps": torch.float64,
        "complex": torch.complex64,
        "named": torch.float16,
        "full": torch.float64,
        "filled": torch.int64,
        "array": torch.float32,
        "drawn": torch.float64,
    }


def test_a_random_step_of_pythons_is_not_repeatable():
    def step(behavior, params, scenario):
        return geometric(behavior, params, scenario) * (1 + 0.01 * random.random())

    report = check_model_differentiability(own_model(step), final)
    assert not report.passed
    assert report.details["determinism"] == {"ok": False}
    assert "Not deterministic" in report.summary()
