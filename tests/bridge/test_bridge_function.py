"""Structures, static values, compiling once, and errors that say where."""

import collections
import dataclasses
import gc
import math
import subprocess
import sys
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from bridge import torch_function

Pair = collections.namedtuple("Pair", "first second")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    level: jax.Array
    growth: jax.Array


def test_structures_pass_through():
    def f(tree, *, scale):
        assert isinstance(tree["pair"], Pair) and tree["nothing"] is None
        return [tree["pair"].first * scale, (tree["list"][0], None), Pair(tree["pair"].second, {})]

    tree = {"pair": Pair(torch.ones(2), torch.zeros(3)), "list": [torch.arange(2)], "nothing": None}
    out = torch_function(f)(tree, scale=torch.tensor([2.0, 3.0]))
    assert isinstance(out, list) and out[0].tolist() == [2, 3]
    assert out[1][0].tolist() == [0, 1] and out[1][1] is None
    assert isinstance(out[2], Pair) and out[2].first.tolist() == [0, 0, 0] and out[2].second == {}


def test_registered_dataclass_in_and_out():
    f = torch_function(lambda s: State(level=s.level * s.growth, growth=s.growth))
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    out = f(State(x, torch.tensor([10.0, 20.0])))  # pyright: ignore[reportArgumentType]
    assert isinstance(out, State) and out.level.tolist() == [20, 60]
    out.level.sum().backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert x.grad is not None and x.grad.tolist() == [10, 20]


def test_structure_may_depend_on_shape():
    f = torch_function(lambda x: {str(i): x[i] for i in range(x.shape[0])})
    for n in (2, 3, 2):
        assert list(f(torch.arange(n))) == [str(i) for i in range(n)]


def test_empty_arguments_and_results():
    assert torch_function(lambda: {"a": jnp.ones(2, jnp.float32)})()["a"].tolist() == [1, 1]
    assert torch_function(lambda x: ())(torch.ones(2)) == ()
    assert torch_function(lambda x: None)(torch.ones(2, requires_grad=True)) is None
    x = torch.ones(0, 3, dtype=torch.float64, requires_grad=True)
    y = torch_function(lambda x: x * x)(x)
    assert y.shape == (0, 3)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 3)


def test_non_contiguous_inputs_and_gradients():
    f = torch_function(lambda x: jnp.cumsum(x, axis=1))
    base = torch.arange(12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    x = base.T
    assert f(x).equal(torch.cumsum(x, 1))
    f(x)[:, ::2].sum().backward()
    (expected,) = torch.autograd.grad(torch.cumsum(x, 1)[:, ::2].sum(), base)
    assert base.grad is not None and base.grad.equal(expected)


def test_static_leaves_reach_the_function_as_they_are():
    seen = []

    def f(x, options):
        seen.append((options["power"], options["mode"]))
        return x ** options["power"] if options["mode"] == "power" else x

    g = torch_function(f)
    x = torch.tensor([2.0, 3.0])
    assert g(x, {"power": 2, "mode": "power"}).tolist() == [4, 9]
    assert g(x, {"power": 3, "mode": "power"}).tolist() == [8, 27]
    assert g(x, {"power": 3, "mode": "none"}).tolist() == [2, 3]
    g(x + 1, {"power": 2, "mode": "power"})
    assert seen == [(2, "power"), (3, "power"), (3, "none")]


def test_equal_static_values_of_different_meaning_are_told_apart():
    f = torch_function(lambda x, s: x * math.copysign(1.0, s) + (1 if isinstance(s, float) else 0))
    x = torch.ones(1)
    assert [f(x, s).item() for s in (0, 0.0, -0.0, False, 1, True)] == [1, 2, 0, 1, 1, 1]
    traces = []
    g = torch_function(lambda x, s: (traces.append(type(s)), x)[1])
    for s in (1, 1.0, True, float("nan"), float("nan")):
        g(x, s)
    assert traces == [int, float, bool, float]


def test_new_values_compile_nothing():
    traces = []

    def f(x, w):
        traces.append((x.shape, x.dtype))
        return jnp.sin(x * w)

    g = torch_function(f)

    def everything(seed):
        generator = torch.Generator().manual_seed(seed)
        x, w = (torch.rand(3, generator=generator, dtype=torch.float64) for _ in range(2))
        batch = torch.rand(4, 3, generator=generator, dtype=torch.float64)
        g(x.requires_grad_(), w).sum().backward()
        x = x.detach()
        hessian(g, (0, 1))(x, w)
        jacrev(jacfwd(g, 1), 0)(x, w)
        vmap(grad(lambda x, w: g(x, w).sum()), (0, None))(batch, w)

    everything(0)
    # Once in all: the transforms start from the program traced first.
    assert len(traces) == 1
    events = []

    def listener(event, duration_secs, **_):
        if "trace" in event or "compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for seed in (1, 2):
            everything(seed)
        assert not events and len(traces) == 1
        g(torch.ones(5), torch.ones(5))
        assert events and len(traces) == 2
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_compiled_code_goes_with_the_function():
    class Model:
        def __call__(self, x):
            return jnp.sum(x * x)

    model = Model()
    alive = weakref.ref(model)
    f = torch_function(model, name="model")
    x = torch.ones(2, requires_grad=True)
    f(x).backward()
    hessian(f)(x.detach())
    del f, model
    gc.collect()
    assert alive() is None


def test_name_and_documentation_are_kept():
    def consumption(x):
        """What households spend."""
        return x

    assert torch_function(consumption).__name__ == "consumption"
    assert torch_function(consumption).__doc__ == "What households spend."
    assert torch_function(consumption, name="C_d").__name__ == "C_d"


def add(a, b=None):
    return a["x"] + a["x"]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (({"x": np.ones(2)},), TypeError, r"add: args\[0\]\['x'\] is a ndarray.*torch tensors"),
        (({"x": jnp.ones(2)},), TypeError, r"add: args\[0\]\['x'\] is a .*Array.*torch tensors"),
        (({"x": torch.ones(2)}, {1, 2}), TypeError, r"add: args\[1\] is a set"),
        (
            ({"x": torch.ones(2), "y": torch.ones(2, 2).to_sparse()},),
            TypeError,
            r"add: args\[0\]\['y'\]: layout",
        ),
        (({"x": torch.ones(2)}, torch.ones(2, device="meta")), TypeError, r"add: args\[1\].*meta"),
        (
            ({"x": torch.ones(2).to(torch.float8_e5m2)},),
            TypeError,
            r"args\[0\]\['x'\]: dtype torch.float8_e5m2",
        ),
    ],
)
def test_bad_arguments_are_named(args, error, message):
    with pytest.raises(error, match=message):
        torch_function(add)(*args)


def test_mixed_devices_are_named(monkeypatch):
    monkeypatch.setattr("bridge._convert.jax_device", lambda device, where: None)
    with pytest.raises(
        ValueError, match=r"one device.*args\[0\]\['x'\] on cpu; add: kwargs\['b'\] on meta"
    ):
        torch_function(add)({"x": torch.ones(2)}, b=torch.ones(2, device="meta"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: {"a": x, "b": "text"},
            r"named: the result\['b'\] is no array but str \('text'\)",
        ),
        (lambda x: (x, 1.0), r"named: the result\[1\] is no array but float.*jnp.asarray"),
        (lambda x: jax.random.key(0), "named: the result has dtype key<.*torch cannot share"),
    ],
)
def test_results_that_are_no_arrays_are_named(function, message):
    with pytest.raises(TypeError, match=message):
        torch_function(function, name="named")(torch.ones(2))


def test_errors_of_the_function_pass_unchanged():
    class EconomicError(Exception):
        pass

    error = EconomicError("no equilibrium")

    def f(x):
        raise error

    for call in (torch_function(f), grad(torch_function(f)), vmap(torch_function(f))):
        with pytest.raises(EconomicError) as caught:
            call(torch.ones(2))
        assert caught.value is error
    with pytest.raises(TypeError, match="incompatible shapes"):
        torch_function(lambda a, b: a + b)(torch.ones(2), torch.ones(3))


@pytest.mark.filterwarnings("ignore")
def test_recorded_graphs():
    f = torch_function(lambda x: jnp.sin(x) * x)
    x = torch.rand(3)
    with pytest.raises(RuntimeError, match=r"linearize, use torch\.func\.jvp"):
        torch.func.linearize(f, x)
    eager: Any = torch.compiler.disable(f)
    compiled = torch.compile(lambda x: eager(x * 2) * 2, backend="eager")
    torch.testing.assert_close(compiled(x), torch.sin(2 * x) * 4 * x)


def test_importing_changes_no_setting():
    code = """
import jax, torch
before = dict(jax.config.values), torch.get_default_dtype(), torch.is_grad_enabled()
import bridge
assert before == (dict(jax.config.values), torch.get_default_dtype(), torch.is_grad_enabled())
assert not jax._src.xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
