"""Behavior: the loop over time, derivatives of a user's own model, shocks, smooth switches."""

import copy
import pickle
import types

import numpy as np
import pytest
import torch
from core_cases import Toy, ToyBehavior, ToyParameters
from torch.func import functional_call, hessian, jacfwd, jacrev

from macrostat.core import Behavior, Parameters, Scenarios, Variables

T, WARMUP = 12, 2


def test_rows():
    """Row 0 to `timesteps_initialization` is the initial state; scenario row t lands on row t + 1."""
    model = Toy()
    model.scenarios.add_scenario({"G": [100.0]}, name="pulse")
    paths = model.simulate(), model.simulate("pulse")
    assert paths[0]["Y"].shape == (T + 1, 1)
    assert paths[0]["W"].shape == (T + 1, 2) and paths[0]["M"].shape == (T + 1, 2, 2)
    assert torch.all(paths[0]["Y"][: WARMUP + 1] == 1.0)
    moved = torch.nonzero(paths[0]["Y"] != paths[1]["Y"])[:, 0]
    assert moved[0].item() == model.scenarios.trigger + 1


def test_the_path_is_the_recursion():
    a, c, history, path = 0.5, 0.2, [1.0] * 3, [1.0] * 3
    for _ in range(WARMUP, T):
        path.append(a * path[-1] + c * 20.0 + 0.1 * history[-1])
        history = [path[-1], *history[:2]]
    assert Toy().simulate()["Y"].squeeze().tolist() == pytest.approx(path, rel=1e-6)


def test_a_variable_that_is_never_set_is_zero():
    class Idle(Behavior):
        def initialize(self):
            pass

        def step(self, t, scenario, params=None):
            pass

    assert all(torch.all(path == 0) for path in Toy(behavior=Idle).simulate().values())


def test_each_period_starts_from_zeros():
    class Adding(Behavior):
        def initialize(self):
            self.state["Y"] += 5

        def step(self, t, scenario, params=None):
            self.state["Y"] += t

    path = Toy(behavior=Adding).simulate()["Y"].squeeze()
    assert path.tolist() == [5.0] * 3 + [float(t) for t in range(WARMUP, T)]


def test_not_implemented():
    with pytest.raises(NotImplementedError, match=r"Behavior.initialize\(\) to be implemented"):
        Behavior()()
    with pytest.raises(NotImplementedError, match=r"per_step\(\) to be implemented"):
        Behavior.compute_theoretical_steady_state_per_step(Toy().get_model_training_instance())


def test_too_short_a_horizon():
    with pytest.raises(ValueError, match="timesteps_initialization must be less than timesteps"):
        Toy(hyperparameters={"timesteps": 2}).simulate()


def test_constructor():
    parameters = ToyParameters()
    model = Toy(parameters=parameters)
    parts = (model.parameters, model.scenarios, model.variables)
    behavior = ToyBehavior(*parts, scenario="Scenario.0", debug=True)
    assert behavior.scenarioID == 0 and behavior.debug and not behavior.differentiable
    assert behavior.hyper is parameters.hyper
    assert isinstance(behavior.params, torch.nn.ParameterDict)
    assert isinstance(behavior.numpy_rng, np.random.Generator)
    assert {name.partition(".")[0] for name, _ in behavior.named_parameters()} == {
        "params",
        "scenarios",
    }

    class Discrete(ToyBehavior):
        supports_differentiable = False

    Discrete(*parts)
    with pytest.raises(RuntimeError, match="Discrete sets supports_differentiable=False"):
        Discrete(*parts, differentiable=True)


def outputs(behavior: Behavior, params: dict, name: str = "Y") -> torch.Tensor:
    named = {f"params.{key}": value for key, value in params.items()}
    return functional_call(behavior, named, ())[name]


def float64_toy() -> Toy:
    return Toy(hyperparameters={"dtype": "float64"})


def test_functional_derivatives_agree():
    behavior = float64_toy().get_model_training_instance()
    params = {key: value.detach() for key, value in behavior.params.items()}
    reverse = jacrev(lambda p: outputs(behavior, p))(params)
    forward = jacfwd(lambda p: outputs(behavior, p))(params)
    h = 1e-6
    for key in params:
        assert torch.allclose(reverse[key], forward[key], atol=1e-10)
        for index in np.ndindex(*params[key].shape):
            up, down = ({k: v.clone() for k, v in params.items()} for _ in range(2))
            up[key][index] += h
            down[key][index] -= h
            numerical = (outputs(behavior, up) - outputs(behavior, down)) / (2 * h)
            assert torch.allclose(reverse[key][(..., *index)], numerical, atol=1e-6)
    assert torch.all(reverse["c"] == 0)  # derived
    assert reverse["w"].shape == (T + 1, 1, 2)
    assert not any(leaf.grad is not None for leaf in behavior.params.values())


def test_second_derivatives():
    behavior = float64_toy().get_model_training_instance()
    params = {"a": behavior.params["a"].detach()}
    assert hessian(lambda p: outputs(behavior, p).sum())(params)["a"]["a"].item() != 0


def test_backward():
    behavior = Toy().get_model_training_instance()
    assert behavior.training
    behavior()["Y"].sum().backward()
    assert behavior.params["a"].grad is not None
    assert behavior.params["c"].grad is None
    behavior.zero_grad()
    assert behavior.params["a"].grad is None
    behavior.requires_grad_(False)
    assert not behavior()["Y"].requires_grad


def test_functions_may_replace_the_equations():
    behavior = Toy().get_model_training_instance()

    def step(self, t, scenario, params):
        self.state["Y"] = self.prior["Y"] * params["a"]

    behavior.initialize = lambda: behavior.state.update(Y=torch.tensor([8.0]))
    behavior.step = types.MethodType(step, behavior)
    assert behavior()["Y"][WARMUP:, 0].tolist() == [8.0 * 0.5**i for i in range(T + 1 - WARMUP)]


class Noisy(ToyBehavior):
    def step(self, t, scenario, params):
        self.state["Y"] = torch.rand(1) + float(self.numpy_rng.random())


def test_randomness_is_seeded_by_the_run_and_leaves_torch_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = Toy(behavior=Noisy).simulate()["Y"]
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(first, Toy(behavior=Noisy).simulate()["Y"])
    assert not torch.equal(first, Toy(behavior=Noisy, hyperparameters={"seed": 1}).simulate()["Y"])


def test_theoretical_steady_state():
    model = Toy()
    path = model.compute_theoretical_steady_state()
    assert path["Y"].shape == (T, 1)
    assert path["Y"].squeeze().tolist() == [1.0] * 3 + [10.0] * (T - 3)
    assert torch.equal(model.variables.timeseries["Y"], path["Y"])


def shocked(**series: torch.Tensor) -> dict[str, torch.Tensor]:
    return Toy().get_model_training_instance().apply_parameter_shocks(0, series)


def test_multiply_does_not_scale_add():
    params = shocked(a_add=torch.tensor([0.1]), a_multiply=torch.tensor([2.0]))
    assert params["a"].item() == pytest.approx(0.5 * 2.0 + 0.1)


def test_sector_shocks_move_their_sector_only():
    params = shocked(S2_w_multiply=torch.tensor([2.0]), S1_w_add=torch.tensor([0.3]))
    assert params["w"].tolist() == pytest.approx([0.1 + 0.3, 0.2 * 2.0])
    params = shocked(S1_S2_m_multiply=torch.tensor([3.0]), S2_S1_m_add=torch.tensor([0.5]))
    assert params["m"].flatten().tolist() == pytest.approx([0.0, 2.1, 0.5, 0.0])


def test_a_shock_to_a_whole_vector():
    params = shocked(w_multiply=torch.tensor([2.0]), S1_w_multiply=torch.tensor([3.0]))
    assert params["w"].tolist() == pytest.approx([0.6, 0.4])


def test_shocks_are_differentiable_in_the_series():
    term = torch.tensor([0.1], requires_grad=True)
    shocked(S2_w_add=term)["w"][1].backward()
    assert term.grad is not None and term.grad.item() == 1.0


def smooth() -> Behavior:
    constants = ("sigmoid_constant", "tanh_constant", "min_constant", "max_constant")
    parameters = Parameters(hyperparameters=dict.fromkeys(constants, 10.0))
    return Behavior(parameters, Scenarios(parameters), Variables(parameters=parameters))


def test_smooth_switches():
    b = smooth()
    assert b.diffwhere(torch.tensor(5.0), 1.0, 2.0).item() == pytest.approx(1.0)
    assert b.diffwhere(torch.tensor(-5.0), 1.0, 2.0).item() == pytest.approx(2.0)
    assert b.diffwhere(torch.tensor(0.0), 1.0, 2.0).item() == pytest.approx(1.5)
    assert b.tanhmask(torch.tensor([-5.0, 0.0, 5.0])).tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert b.diffmin(torch.tensor(1.0), torch.tensor(1.0)).item() == pytest.approx(
        1 - np.log(2) / 10
    )
    assert b.diffmin_v(torch.tensor([3.0, 5.0, 9.0])).item() == pytest.approx(3.0)
    assert b.diffmax_v(torch.tensor([[3.0, 5.0], [9.0, 1.0]])).item() == pytest.approx(9.0)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_smooth_minima_do_not_overflow(scale: float):
    b = smooth()
    x = torch.tensor([20.0 * scale, 30.0 * scale], requires_grad=True)
    assert b.diffmin(x[0], x[1]).item() == pytest.approx(20.0 * scale)
    assert b.diffmax(x[0], x[1]).item() == pytest.approx(30.0 * scale)
    assert b.diffmin_v(-x).item() == pytest.approx(-30.0 * scale)
    (gradient,) = torch.autograd.grad(b.diffmin(x[0], x[1]) + b.diffmax_v(x), x)
    assert gradient.tolist() == pytest.approx([1.0, 1.0])
    assert b.diffmin(20, 30).item() == pytest.approx(20.0)


def test_a_missing_constant_is_named():
    with pytest.raises(KeyError, match="Set the hyperparameter 'min_constant'"):
        Behavior().diffmin(1.0, 2.0)


def test_copies_go_without_the_graph():
    behavior = Toy().get_model_training_instance()
    behavior()
    for twin in (copy.deepcopy(behavior), pickle.loads(pickle.dumps(behavior))):
        assert not twin.state["Y"].requires_grad
        assert torch.equal(twin()["Y"], behavior()["Y"])


def test_one_period_by_hand():
    """`step` is public: a user may write the loop."""
    behavior = Toy().get_model_training_instance()
    path = behavior()["Y"]
    behavior.state, behavior.history = behavior.variables.initialize_tensors()
    behavior.initialize()
    behavior.prior = behavior.state
    for _ in range(3):
        behavior.history = behavior.variables.update_history(behavior.state)
    behavior.state = behavior.variables.new_state()
    row = {key: series[WARMUP] for key, series in behavior.scenarios.items()}
    behavior.step(WARMUP, row, behavior.apply_parameter_shocks(WARMUP, row))
    assert torch.equal(behavior.state["Y"], path[WARMUP + 1])
