"""Models run and differentiated by torch alone, against JAX."""

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engine_cases import CASES, answers, same
from jax import lax

from bridge import Torch, TorchModel
from bridge._torch_straight import Straight
from macrostat_jax import Model, diff, engines, models, simulate
from macrostat_jax.bench._cases import Case
from macrostat_jax.bench._subject import Subject

SIZES = {
    "KirmansAnts": {"substep": 20},
    "Mark0COVID": {"firm": 12},
    "TwoMarketsABM": {"household": 24, "firm": 6},
}


def sized(name: str) -> tuple[Any, dict[str, Any]]:
    model = getattr(models, name).resize(**SIZES.get(name, {}))
    return model, ({"key": jax.random.key(1)} if model.random else {})


def close(found: Any, right: Any, rtol: float) -> None:
    """Relative to the largest number there, or to 1."""
    right = np.asarray(right)
    scale = max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0)))
    np.testing.assert_allclose(found, right, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("name", models.names())
def test_torch_runs_and_differentiates_every_model(name: str):
    model, inputs = sized(name)
    wrt = list(model.Params.fields)[:3]
    of = list(model.State.fields)[:5]
    with jax.enable_x64(True):
        path = engines.simulate(model, engine=Torch(), periods=5, **inputs)
        expected = simulate(model, periods=5, **inputs)
        for key in model.State.fields:
            np.testing.assert_allclose(
                getattr(path, key), getattr(expected, key), rtol=1e-12, atol=1e-12
            )
        right = diff.jacobian(model, of, wrt=wrt, mode="forward", periods=3, **inputs)
        found = engines.jacobian(model, of, wrt=wrt, engine=Torch(), periods=3, **inputs)
    for output, blocks in right.values.items():
        for label, block in blocks.items():
            close(found[output, label], block, 1e-10)


def check_module(name: str, periods: int | None, pulled_back: bool) -> None:
    """A model as straight torch code: its path, pushed forward by torch.func, pulled back by autograd.

    Without `pulled_back` the pullback is held to the pushforward alone, w (J v) = (w J) v, which spares
    compiling JAX's.
    """
    with jax.enable_x64(True):
        chosen = models.get(name).periods if periods is None else periods
        subject = Subject(Case(name, "vjp", chosen, 1, tuple(SIZES.get(name, {}).items())))
        rest, weights, direction = subject.rest, subject.weights, subject.direction
        push = jax.jit(lambda x: jax.jvp(lambda x: subject.path(x, rest), (x,), (direction,)))
        path, slope = push(subject.x)
        along = subject.unravel(jnp.asarray(direction))
    inputs: dict[str, Any] = {"key": jax.random.key(0)} if rest.noise is not None else {}
    module = TorchModel(subject.model, periods=chosen, **inputs)
    given = dict(module.named_parameters())

    def outputs(values: Any) -> tuple[torch.Tensor, ...]:
        found = torch.func.functional_call(module, values, ())
        return tuple(found[key] for key in subject.keys)

    found = outputs(given)
    for value, right in zip(found, path, strict=True):
        close(value.detach(), right, 1e-12)
    at = {key: p.detach() for key, p in given.items()}
    tangent = {key: torch.tensor(np.asarray(getattr(along, key))) for key in at}
    for value, right in zip(torch.func.jvp(outputs, (at,), (tangent,))[1], slope, strict=True):
        close(value, right, 1e-10)
    moved = [(y, torch.tensor(w)) for y, w in zip(found, weights, strict=True) if y.requires_grad]
    if moved:
        values, given_weights = zip(*moved, strict=True)
        torch.autograd.backward(values, given_weights)
    gradient = {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in given.items()}
    ahead = sum(float((w * np.asarray(s)).sum()) for w, s in zip(weights, slope, strict=True))
    size = sum(float(np.abs(w * np.asarray(s)).sum()) for w, s in zip(weights, slope, strict=True))
    back = sum(float((gradient[key] * tangent[key]).sum()) for key in given)
    assert abs(back - ahead) <= 1e-10 * max(1.0, size)
    if pulled_back:
        with jax.enable_x64(True):
            pull = jax.jit(lambda x: jax.vjp(lambda x: subject.path(x, rest), x)[1](weights)[0])
            expected = subject.unravel(pull(subject.x))
        for key in given:
            close(gradient[key], getattr(expected, key), 1e-10)


@pytest.mark.parametrize("name", models.names())
def test_every_model_as_straight_torch_code(name: str):
    check_module(name, periods=3, pulled_back=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_model_as_straight_torch_code_over_its_horizon(name: str):
    check_module(name, periods=None, pulled_back=True)


@pytest.mark.parametrize("mode", ["jacrev", "jacfwd"])
def test_modes_of_torch_agree(mode: Any):
    arguments: dict[str, Any] = {"wrt": ("tax_rate", "scenario.government_demand"), "periods": 4}
    found = engines.jacobian(models.GL06SIM, engine=Torch(mode=mode), **arguments)
    with jax.enable_x64(True):
        right = diff.jacobian(models.GL06SIM, **arguments)
    np.testing.assert_allclose(found.matrix(), right.matrix(), rtol=1e-12, atol=1e-12)


UNARY = (
    "neg abs exp exp2 expm1 log log1p sqrt rsqrt square sin cos tan asin acos atan sinh cosh tanh"
)
UNARY += " logistic erf erfc erf_inv sign floor ceil round is_finite"
BINARY = "add sub mul div rem max min pow atan2 eq ne lt le gt ge"


@pytest.mark.parametrize("name", (UNARY + " " + BINARY).split())
def test_primitives(name: str):
    x = np.array([0.13, 0.4, 0.87])
    others = (x[::-1] + 0.1,) if name in BINARY.split() else ()
    with jax.enable_x64(True):
        program = jax.make_jaxpr(lambda x: getattr(lax, name)(x, *others))(x)
        right = getattr(lax, name)(x, *others)
    (found,) = Torch().run(program, torch.tensor(x))
    np.testing.assert_allclose(found.numpy(), right, rtol=1e-13)


def test_a_module_of_torch_alone():
    module = TorchModel(models.GL06SIM, periods=30)
    names = [name for name, _ in module.named_parameters()]
    assert names == list(models.GL06SIM.Params.fields)
    module()["national_income"][-1].backward()
    with jax.enable_x64(True):
        gradient = diff.gradient(models.GL06SIM, lambda p: p.national_income[-1], periods=30)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, gradient[name], rtol=1e-10)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (module()["national_income"][-1] - 95.0) ** 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_module_in_single_precision():
    module = TorchModel(models.GL06PC, periods=20, dtype=torch.float32)
    path = module()
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {value.dtype for value in path.values()} == {torch.float32}
    expected = simulate(models.GL06PC, periods=20)
    for key, value in path.items():  # some 20 periods of rounding in 24 bits
        np.testing.assert_allclose(value.detach(), getattr(expected, key), rtol=1e-4, atol=1e-3)
    path["national_income"][-1].backward()
    with pytest.raises(TypeError, match=r"torch.float64 or torch.float32"):
        TorchModel(models.GL06PC, dtype=torch.float16)


def test_a_module_in_a_batch_and_copied():
    module = TorchModel(models.GL06SIM, periods=5)
    rates = torch.tensor([0.15, 0.2, 0.25], dtype=torch.float64)

    def income(rate: torch.Tensor) -> torch.Tensor:
        given = {**dict(module.named_parameters()), "tax_rate": rate}
        return torch.func.functional_call(module, given, ())["national_income"]

    batch = torch.func.vmap(income)(rates)
    with jax.enable_x64(True):
        right = simulate(models.GL06SIM, models.GL06SIM.params(tax_rate=rates.numpy()), periods=5)
    close(batch.detach(), np.asarray(right.national_income).T, 1e-12)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        dict(twin.named_parameters())["tax_rate"].fill_(0.25)
    close(twin()["national_income"].detach(), batch[2].detach(), 1e-12)
    close(module()["national_income"].detach(), batch[1].detach(), 1e-12)


@pytest.mark.parametrize("engine", [None, Torch()], ids=["straight", "interpreted"])
def test_a_module_travels_by_its_definition(engine: Any, tmp_path: Path):
    model = models.KirmansAnts.resize(substep=4)
    whole = torch.nn.Sequential(TorchModel(model, engine=engine, periods=4, key=jax.random.key(3)))
    with torch.no_grad():
        next(whole.parameters()).fill_(0.3)
    path = whole[0]()
    torch.save(whole, tmp_path / "whole.pt")
    for twin in (
        pickle.loads(pickle.dumps(whole)),
        torch.load(tmp_path / "whole.pt", weights_only=False),
        copy.copy(whole[0]),
    ):
        module = twin[0] if isinstance(twin, torch.nn.Sequential) else twin
        found = module()
        assert all(torch.equal(found[key], path[key]) for key in path)
        next(iter(found.values()))[-1].sum().backward()
        assert next(module.parameters()).grad is not None


def test_a_module_of_changed_equations_travels():
    module = TorchModel(models.GL06LP2.configure(sharpness=50.0), periods=3)
    twin = pickle.loads(pickle.dumps(module))
    assert all(torch.equal(twin()[key], value) for key, value in module().items())


def test_a_module_of_what_no_process_could_import_says_so(monkeypatch: pytest.MonkeyPatch):
    def step(prior, params, scenario):
        return models.GL06SIM.step(prior, params, scenario)

    sim: Any = models.GL06SIM
    own = Model("OWN", sim.Params, sim.Scenario, sim.State, sim.initial_state, step)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(TypeError, match="functions of a module that the workers can import"):
        pickle.dumps(TorchModel(own, periods=2))


def test_a_module_computes_in_the_precision_of_its_parameters():
    module = TorchModel(models.GL06PC, periods=4)
    path = module()
    with pytest.raises(TypeError, match=r"torch.float64 or torch.float32, not torch.float16"):
        module.half()
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    twin = copy.deepcopy(module).float()
    right = TorchModel(models.GL06PC, periods=4, dtype=torch.float32)()
    assert all(torch.equal(value, right[key]) for key, value in twin().items())
    assert all(torch.equal(value, path[key]) for key, value in module().items())
    # Of the other devices, meta is there everywhere. It has no values.
    moved = torch.nn.Sequential(module).to("meta")[0]()
    assert {value.device.type for value in moved.values()} == {"meta"}


def test_straight_code_does_not_keep_the_numbers_it_was_made_with():
    def step(c: Any, row: Any) -> Any:
        at = jnp.argmax(row)
        turned = lax.dynamic_slice(jnp.concatenate([c, c]), (at,), (3,))
        chosen = lax.cond(row[0] > 0, lambda: turned, lambda: -turned)
        moved = chosen.at[(at + 1) % 3].add(row[1])
        return moved, moved[jnp.argmin(row)] * row

    def run(rows: Any) -> Any:
        return lax.scan(step, jnp.arange(3.0), rows)[1]

    rows = np.random.default_rng(0).normal(size=(9, 3))
    with jax.enable_x64(True):
        program = jax.make_jaxpr(run)(rows)
        right, slopes = run(rows), jax.jacfwd(run)(rows)
    engine = Straight()
    engine.prepare(program)
    assert engine.interpreted is None
    close(engine.run(program, torch.tensor(rows))[0], right, 1e-14)
    found = torch.func.jacfwd(lambda x: engine.run(program, x)[0])(torch.tensor(rows))
    close(found, slopes, 1e-13)


def test_what_is_held_fixed_has_no_derivative_in_straight_code():
    def run(rows: Any) -> Any:
        return lax.scan(lambda c, row: (c * lax.stop_gradient(row) + row, c), 0.5, rows)[1]

    rows = np.array([0.3, -1.2, 2.0, 0.7])
    with jax.enable_x64(True):
        program = jax.make_jaxpr(run)(rows)
        right = jax.jacfwd(run)(rows)
    engine = Straight()
    engine.prepare(program)
    assert engine.interpreted is None
    for transform in (torch.func.jacfwd, torch.func.jacrev):
        close(transform(lambda x: engine.run(program, x)[0])(torch.tensor(rows)), right, 1e-14)


def test_a_loop_that_its_values_end_is_interpreted():
    def step(c: Any, row: Any) -> Any:
        c = lax.while_loop(lambda y: y < row, lambda y: y * 2 + 1, c)
        return c - row, c

    with jax.enable_x64(True):
        rows = np.array([1.0, 5.0, 2.0])
        program = jax.make_jaxpr(lambda r: lax.scan(step, 0.0, r)[1])(rows)
        right = lax.scan(step, 0.0, rows)[1]
    engine = Straight()
    close(engine.run(program, torch.tensor(rows))[0], right, 1e-14)
    assert "ends when its values say so" in str(engine.interpreted)


def test_bad_modes():
    with pytest.raises(ValueError, match="mode must be 'autograd', 'jacrev' or 'jacfwd'"):
        Torch(mode="forward")  # pyright: ignore[reportArgumentType]


LACKS = {"cbrt", "max of nothing", "min of nothing", "all bits"}
"""Operations that torch has not, or not of nothing and of whole numbers."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in LACKS])
def test_operations_at_their_edges(name: str):
    case = CASES[name]
    with jax.enable_x64(True):
        program, right = answers(case)
        found = Torch().run(program, *(torch.from_numpy(x.copy()) for x in case.arrays))
    for one, expected in zip(found, right, strict=True):
        same(one.numpy(), expected, signs=False, rtol=1e-14)
