"""Random models in the torch API: the published draws, draws from the seed, and draws handed in."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import torch

from macrostat._random import random_inputs
from macrostat.diff import JacobianAutograd, JacobianNumerical, check_model_differentiability
from macrostat.models import from_definition, get_model, get_model_classes
from macrostat.sample import BaseSampler
from macrostat_jax import Axis, Model, Record, Scalar, Vector, index, noise, param, simulate
from macrostat_jax import models as register

RUNS = json.loads((Path(__file__).parents[1] / "reference" / "kirmans.json").read_text())
COARSE = {"timesteps": 6, "dt": 0.02, "substeps": 50, "dtype": torch.float64}
AGENT = Axis("agent", size=3)


class Params(Record):
    size: Scalar = param(0.5, symbol="s", bounds=(0, 2), unit=".")


class Scenario(Record):
    pass


class Noise(Record):
    luck: Vector = noise("normal", symbol=r"\xi", shape=AGENT)
    news: Scalar = noise("uniform", symbol=r"\nu")


class State(Record):
    wealth: Vector = index("w", r"w_{-1} + s \xi + \nu", unit=".", shape=AGENT)


def _started(params: Params, scenario: Scenario, noise: Noise) -> State:
    return State(wealth=params.size * noise.luck)


def _moved(prior: State, params: Params, scenario: Scenario, noise: Noise) -> State:
    return State(wealth=prior.wealth + params.size * noise.luck + noise.news)


def _kept(prior: State, params: Params, scenario: Scenario, key: Any) -> State:
    return State(wealth=prior.wealth + params.size * jax.random.normal(key, (3,)))


FORTUNE = Model("FORTUNE", Params, Scenario, State, _started, _moved, Noise=Noise, periods=7)
KEYED = Model("KEYED", Params, Scenario, State, lambda p, x: State.filled(0.0), _kept, periods=7)
"""Random without a record of its draws: its step takes a key."""


def kirmans(**hyper: Any) -> Any:
    return get_model("KirmansAnts")(hyperparameters=COARSE | hyper)


def mean(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(iter(output.values())).mean()


# The published draws --------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_a_seed_gives_the_published_path(number: int):
    run = RUNS[number]
    dtype = getattr(torch, run["dtype"])
    cls: Any = get_model("KirmansAnts")
    model = cls(parameters=run["parameters"], hyperparameters=run["hyper"] | {"dtype": dtype})
    path = model.simulate(run["scenario"])["density"]
    assert path.dtype == dtype
    # In double precision the published drift, a square root, has half of the digits near 0 and 1. In
    # single, every period rounds x by 6e-8 there, and so phi by up to 3.5e-4, x by half of that.
    atol = 1e-9 if dtype == torch.float64 else len(path) * 3.5e-4 / 2
    expected = torch.tensor(run["density"], dtype=torch.float64)
    assert torch.allclose(path.squeeze(-1).double(), expected, rtol=0, atol=atol)
    between = model.behavior_instance._micro_trajectory
    if "micro" not in run:
        assert between is None
        return
    begin = run["hyper"]["timesteps_initialization"] * run["hyper"]["substeps"]
    assert between.dtype == np.float32
    assert between.shape == (run["hyper"]["timesteps"] * run["hyper"]["substeps"],)
    assert np.isnan(between[:begin]).all()
    np.testing.assert_allclose(between[begin:], run["micro"], rtol=0, atol=1e-7)


def published_draws(name: str, hyper: dict[str, Any]) -> torch.Tensor:
    """As the published models ask torch's global generator for them, call by call."""
    rows = []
    torch.manual_seed(hyper["seed"])
    for _ in range(hyper["timesteps"]):
        if name == "KirmansAnts":
            rows.append(torch.randn(hyper["substeps"], dtype=torch.float64))
        else:
            each = [torch.rand(hyper["N_firms"], dtype=hyper["dtype"]) for _ in range(4)]
            rows.append(torch.cat(each).double())
    return torch.stack(rows)


@pytest.mark.parametrize("size", [5, 16, 50, 1000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["KirmansAnts", "Mark0COVID"])
def test_draws_are_those_of_the_global_generator(name: str, dtype: torch.dtype, size: int):
    """In the order in which the model asks for them, however few calls it takes to draw them. Torch's normal
    numbers depend on the size of a call. The global generator stays as it was.
    """
    hyper = {"timesteps": 4, "timesteps_initialization": 0, "seed": 3, "dtype": dtype}
    hyper |= {"N_firms": size} if name == "Mark0COVID" else {"substeps": size, "dt": 1 / size}
    before = torch.random.get_rng_state()
    model: Any = get_model(name)(hyperparameters=hyper)
    found = random_inputs(model.definition, model.parameters.hyper)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        assert torch.equal(found[0], published_draws(name, hyper))


def test_the_published_errors():
    for hyper, message in (
        ({"dt": 2.0}, r"dt must be in \(0, 1\); got 2.0"),
        ({"dt": 0.03}, "1/dt must be integer-valued; got 1/0.03"),
        ({"substeps": 10}, r"substeps must equal int\(1/dt\) = 50; got 10"),
        ({"substeps": -1}, "substeps must be a positive integer; got -1"),
        ({"substeps": 50.0}, "substeps must be a positive integer; got 50.0"),
        ({"x0": 1.0}, r"x0 must be strictly in \(0, 1\); got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            kirmans(**hyper)
    model = kirmans()
    model.parameters["dt"] = 0.5
    with pytest.raises(ValueError, match=r"substeps must equal int\(1/dt\) = 2; got 50"):
        model.simulate()


def test_what_is_not_differentiable_in_torch():
    model = kirmans()
    assert not model.behavior.supports_differentiable
    with pytest.raises(RuntimeError, match="sets supports_differentiable=False and cannot be"):
        model.get_model_training_instance(differentiable=True)
    behavior: Any = model.get_model_training_instance()
    assert not behavior()["density"].requires_grad
    behavior.differentiable = True
    with pytest.raises(RuntimeError, match=r"self\.differentiable was mutated to True after"):
        behavior()
    for call in (
        JacobianAutograd(model).compute,
        lambda f: check_model_differentiability(model, f),
    ):
        with pytest.raises(RuntimeError, match=r"False: it has no gradients .*JacobianNumerical"):
            call(mean)
    with pytest.raises(NotImplementedError, match="is random: it has no steady state"):
        model.compute_theoretical_steady_state()


# The seed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [register.RandomWalk, FORTUNE, KEYED], ids=lambda m: m.name)
def test_other_models_draw_what_the_core_draws(definition: Model):
    cls: Any = from_definition(definition)
    hyper = {"timesteps": 9, "timesteps_initialization": 2, "dtype": torch.float64}
    model = cls(hyperparameters=hyper | {"seed": 5})
    name = next(iter(model.variables.info))
    path = model.simulate()[name]
    with jax.enable_x64(True):
        core = simulate(definition, key=jax.random.key(5), periods=7)
        expected = torch.from_numpy(np.array(core.to_dict()[name]))
    assert torch.allclose(path[3:], expected.reshape(path[3:].shape), rtol=1e-14, atol=1e-14)
    assert torch.equal(path[:3], path[:1].expand(3, *path.shape[1:]))
    assert torch.equal(model.simulate()[name], path)
    model.parameters["seed"] = 6
    assert not torch.equal(model.simulate()[name], path)


@pytest.mark.parametrize("definition", [FORTUNE, KEYED], ids=lambda m: m.name)
def test_eager_periods_have_the_draws_of_the_run(definition: Model):
    cls: Any = from_definition(definition)
    base: Any = cls.behavior_class

    class Eager(base):
        def step(self, t: int, scenario: Any, params: Any = None, **kwargs: Any) -> None:
            super().step(t, scenario, params)

    hyper = {"timesteps": 9, "timesteps_initialization": 2, "dtype": torch.float64}
    models = cls(hyperparameters=hyper), cls(hyperparameters=hyper, behavior=Eager)
    for seed in (1, 2):
        for model in models:
            model.parameters["seed"] = seed
        paths = [model.simulate()["Wealth"] for model in models]
        assert torch.allclose(*paths, rtol=1e-14, atol=1e-14)
    slopes = [JacobianAutograd(model).compute(mean)["Size"] for model in models]
    assert torch.allclose(*slopes, rtol=1e-12)


@pytest.mark.parametrize("seed", [1.5, "7", True, -1, None])
def test_a_seed_that_is_none(seed: Any):
    with pytest.raises(ValueError, match="Hyperparameter 'seed' must be an integer >= 0, not"):
        kirmans(seed=seed)
    model = kirmans()
    model.parameters.hyper["seed"] = seed
    with pytest.raises(ValueError, match="Hyperparameter 'seed' must be an integer >= 0, not"):
        model.simulate()


def test_a_missing_seed():
    for model in (kirmans(), get_model("RandomWalk")(), get_model("GL06SIM")()):
        del model.parameters.hyper["seed"]
        with pytest.raises(KeyError, match="The hyperparameter 'seed' is missing"):
            model.simulate()


# Draws handed in ------------------------------------------------------------------------------


def fortune(**hyper: Any) -> Any:
    hyper = {"timesteps": 4, "timesteps_initialization": 1, "dtype": torch.float64} | hyper
    return from_definition(FORTUNE)(hyperparameters=hyper)


def draws(rows: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    options: Any = {"generator": generator, "dtype": torch.float64}
    return {"luck": torch.randn(rows, 3, **options), "News": torch.rand(rows, **options)}


def by_hand(given: dict[str, torch.Tensor], size: float = 0.5) -> torch.Tensor:
    moves = size * given["luck"] + given["News"].unsqueeze(-1)
    start = size * given["luck"][:1]
    path = torch.cat([start, moves[1:]]).cumsum(0)
    return torch.cat([start, path])  # recorded twice


def test_noise_handed_in():
    model, given = fortune(), draws()
    expected = by_hand(given)
    drawn_by_seed = model.simulate()["Wealth"]
    assert torch.allclose(model.simulate(noise=given)["Wealth"], expected, rtol=1e-14)
    assert torch.equal(model.simulate()["Wealth"], drawn_by_seed)  # it was for one run
    model.noise = {name: values.numpy() for name, values in given.items()}
    assert torch.allclose(model.simulate()["Wealth"], expected, rtol=1e-14)
    for twin in (copy.copy(model), copy.deepcopy(model)):
        assert torch.allclose(twin.simulate()["Wealth"], expected, rtol=1e-14)
    other = {name: 2 * values for name, values in given.items()}
    assert torch.allclose(model.simulate(noise=other)["Wealth"], by_hand(other), rtol=1e-14)
    ants = kirmans()
    source = torch.Generator().manual_seed(42)
    own = torch.stack([torch.randn(50, generator=source, dtype=torch.float64) for _ in range(6)])
    path = ants.simulate()["density"]
    assert torch.equal(ants.simulate(noise={"increment": own})["density"], path)
    ants.noise = {"increment": own}
    assert torch.equal(pickle.loads(pickle.dumps(ants)).simulate()["density"], path)


def test_gradients_by_noise():
    given: Any = {name: values.requires_grad_() for name, values in draws().items()}
    behavior = fortune().get_model_training_instance(noise=given)
    total = behavior()["Wealth"].sum()
    total.backward()
    # Rows of the results that a draw is in: the start is in all five, the last period's in one.
    rows = torch.tensor([5.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    assert torch.allclose(given["luck"].grad, 0.5 * rows.unsqueeze(-1).expand(4, 3))
    assert torch.allclose(given["News"].grad[1:], 3 * rows[1:]) and given["News"].grad[0] == 0
    slope = behavior.params["Size"].grad
    assert torch.allclose(slope, (rows.unsqueeze(-1) * given["luck"].detach()).sum())


def test_noise_that_does_not_fit():
    model, given = fortune(), draws()
    shape = r"noise 'luck' must have the shape \(4, 3\), one row for each of 3 periods .*, the first for"
    for wrong, error, message in (
        ({"luck": given["luck"]}, KeyError, "FORTUNE: the noise lacks news"),
        (given | {"rain": given["News"]}, KeyError, "'rain' is not in"),
        (given | {"luck": given["luck"][1:]}, ValueError, shape),
    ):
        with pytest.raises(error, match=message):
            model.simulate(noise=wrong)
    with pytest.raises(TypeError, match="GL06SIM is not random: it takes no noise"):
        get_model("GL06SIM")().simulate(noise=given)
    with pytest.raises(TypeError, match="KEYED draws from a seed alone: it takes no noise"):
        from_definition(KEYED)().simulate(noise=given)


# Common random numbers ------------------------------------------------------------------------


def test_derivatives_have_common_random_numbers():
    model, given = fortune(), draws()
    model.noise = given
    reverse, forward = (JacobianAutograd(model).compute(mean, mode=m) for m in ("rev", "fwd"))
    numerical = JacobianNumerical(model).compute(mean)
    slope = by_hand(given, 1.0).mean() - by_hand(given, 0.0).mean()
    for found in (reverse, forward, numerical):
        assert torch.allclose(found["Size"], slope, rtol=1e-6)
    report = check_model_differentiability(model, mean)
    assert report.passed
    assert "every run had those of model.noise" in report.summary()
    model.noise = None
    assert "every run had those of seed 42" in check_model_differentiability(model, mean).summary()
    assert "random" not in check_model_differentiability(get_model("NK3E")(), mean).summary()
    ants = kirmans(timesteps=2)
    step = 1e-3
    paths = []
    for factor in (np.exp(step), np.exp(-step)):
        twin = copy.deepcopy(ants)
        twin.parameters["rho"] = 0.5 * factor
        paths.append(mean(twin.simulate()))
    difference = (paths[0] - paths[1]) / (0.5 * (np.exp(step) - np.exp(-step)))
    found = JacobianNumerical(ants, epsilon=step).compute(mean, param_names=["rho"])["rho"]
    assert abs(difference) > 1e-3
    assert torch.allclose(found, difference, rtol=1e-9)


def test_samples_have_common_random_numbers(tmp_path: Path):
    model = kirmans(seed=3)
    points = pd.DataFrame({"rho": [0.5, 0.8, 0.5]}, index=["a", "b", "c"])
    sampler = BaseSampler(model, {"rho": (0.1, 2.0)}, save_to_disk=False, output_folder=tmp_path)
    table: Any = sampler.sample(points=points)
    runs = {name: table.xs(name, level="ID").to_numpy() for name in points.index}
    assert np.array_equal(runs["a"], runs["c"]) and not np.array_equal(runs["a"], runs["b"])
    for name, rho in points["rho"].items():
        model.parameters["rho"] = rho
        assert np.allclose(runs[name], model.simulate()["density"].numpy(), rtol=0, atol=1e-12)


def test_samples_of_other_noise_are_another_design(tmp_path: Path):
    model, given = fortune(), draws()
    for noise_given in (given, {name: 2 * values for name, values in given.items()}):
        model.noise = noise_given
        sampler = BaseSampler(model, {"Size": (0.1, 1.0)}, output_folder=tmp_path)
        if noise_given is given:
            sampler.sample(points=pd.DataFrame({"Size": [0.2, 0.4]}))
            continue
        with pytest.raises(ValueError, match="noise"):
            sampler.sample(points=pd.DataFrame({"Size": [0.2, 0.4]}))


def test_components_of_random_models():
    classes = get_model_classes("KirmansAnts")
    parameters: Any = classes.Parameters()
    defaults = {"dt": 1e-4, "substeps": 10_000, "x0": 0.5, "record_inner": False, "seed": 42}
    assert defaults.items() <= parameters.hyper.items()
    assert parameters.hyper["timesteps_initialization"] == 0
    names = [info["Name"] for info in classes.Scenarios().info.values()]
    assert [name.partition(": ")[2] or name for name in names[1:]] == list(
        register.KirmansAnts.scenarios
    )
