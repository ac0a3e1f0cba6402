"""Every transform of torch.func, on each case, against torch's transform of the same function."""

import jax.numpy as jnp
import pytest
import torch
from bridge_cases import CASES
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from bridge import torch_function

BOTH = (0, 1)


def _total(f):
    return lambda *args: f(*args).square().sum()


def _batches(args, count=3):
    return tuple(torch.stack([x * (1 + k / 10) for k in range(count)]) for x in args)


def _cotangent(f, args):
    return torch.cos(f(*args).detach() * 3)


def _hessian_of_backward(f, args):
    args = tuple(x.clone().requires_grad_() for x in args)
    first = torch.autograd.grad(_total(f)(*args), args, create_graph=True)
    return torch.autograd.grad([g.sin().sum() for g in first], args)


TRANSFORMS = {
    "value": lambda f, a: f(*a),
    "grad": lambda f, a: grad(_total(f), BOTH)(*a),
    "jacrev": lambda f, a: jacrev(f, BOTH)(*a),
    "jacrev in chunks": lambda f, a: jacrev(f, BOTH, chunk_size=2)(*a),
    "jacfwd": lambda f, a: jacfwd(f, BOTH)(*a),
    "jvp": lambda f, a: jvp(f, a, tuple(torch.cos(x) for x in a)),
    "jvp of one": lambda f, a: jvp(lambda x: f(x, a[1]), a[:1], (torch.cos(a[0]),)),
    "vjp": lambda f, a: vjp(f, *a)[1](_cotangent(f, a)),
    "hessian": lambda f, a: hessian(f, BOTH)(*a),
    "jacrev of jacrev": lambda f, a: jacrev(jacrev(f, BOTH), BOTH)(*a),
    "jacfwd of jacfwd": lambda f, a: jacfwd(jacfwd(f))(*a),
    "jacrev of jacfwd": lambda f, a: jacrev(jacfwd(f, 1), 0)(*a),
    "third derivative": lambda f, a: jacfwd(hessian(f, 1), 0)(*a),
    "vmap": lambda f, a: vmap(f)(*_batches(a)),
    "vmap of first": lambda f, a: vmap(f, in_dims=(0, None))(_batches(a)[0], a[1]),
    "vmap of second": lambda f, a: vmap(f, in_dims=(None, 0))(a[0], _batches(a)[1]),
    "vmap of last axis": lambda f, a: vmap(f, in_dims=(-1, None), out_dims=-1)(
        _batches(a)[0].movedim(0, -1), a[1]
    ),
    "vmap of vmap": lambda f, a: vmap(vmap(f, (0, None)), (None, 0))(*_batches(a)),
    "vmap of grad": lambda f, a: vmap(grad(_total(f), BOTH))(*_batches(a)),
    "vmap of jacfwd": lambda f, a: vmap(jacfwd(f, BOTH), (0, None))(_batches(a)[0], a[1]),
    "vmap of hessian": lambda f, a: vmap(hessian(f, 0), (None, 0))(a[0], _batches(a)[1]),
    "grad of vmap": lambda f, a: grad(_total(vmap(f)), BOTH)(*_batches(a)),
    "jacrev of vmap": lambda f, a: jacrev(vmap(f, (0, None)), BOTH)(_batches(a)[0], a[1]),
    "double backward": _hessian_of_backward,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_agrees_with_torch(case, transform):
    args = case.arguments()
    result = TRANSFORMS[transform](case.wrapped, args)
    expected = TRANSFORMS[transform](case.twin, args)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("transform", ["value", "grad", "jacfwd", "vmap of grad"])
def test_float32_stays_float32(case, transform):
    args = case.arguments(torch.float32)
    result = TRANSFORMS[transform](case.wrapped, args)
    expected = TRANSFORMS[transform](case.twin, args)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_closed_form_of_derivatives():
    f = torch_function(lambda x, w: jnp.sum(jnp.sin(x * w)))
    x, w = (
        torch.linspace(0.1, 1, 4, dtype=torch.float64),
        torch.tensor([2.0, 3, 5, 7], dtype=torch.float64),
    )
    torch.testing.assert_close(grad(f, 1)(x, w), x * torch.cos(x * w))
    torch.testing.assert_close(hessian(f, 1)(x, w), torch.diag(-x * x * torch.sin(x * w)))
    torch.testing.assert_close(
        jacfwd(grad(f, 1), 0)(x, w), torch.diag(torch.cos(x * w) - x * w * torch.sin(x * w))
    )


def test_jacobian_is_one_batched_vjp():
    calls = []
    f = torch_function(lambda x: (calls.append(x.shape), jnp.sin(x))[1])
    x = torch.rand(5, dtype=torch.float64)
    torch.testing.assert_close(jacrev(f)(x), torch.diag(torch.cos(x)))
    torch.testing.assert_close(jacfwd(f)(x), torch.diag(torch.cos(x)))
    # One trace of the function of one example: nothing was called per row.
    assert calls == [(5,)]


def test_constant_result_is_batched_and_has_zero_derivatives():
    f = torch_function(lambda x: jnp.ones(2, x.dtype))
    x = torch.rand(3, dtype=torch.float64)
    assert vmap(f)(x).equal(torch.ones(3, 2, dtype=torch.float64))
    assert jacrev(f)(x).equal(torch.zeros(2, 3, dtype=torch.float64))
    assert jacfwd(f)(x).equal(torch.zeros(2, 3, dtype=torch.float64))


def test_transforms_of_pytrees():
    def jax_model(p, x):
        return {"y": p["a"] * x, "z": (jnp.sum(p["b"] * p["a"]), x * x)}

    def torch_model(p, x):
        return {"y": p["a"] * x, "z": ((p["b"] * p["a"]).sum(), x * x)}

    f = torch_function(jax_model)
    p = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    x = torch.tensor([5.0, 6.0])
    for transform in (jacrev, jacfwd):
        torch.testing.assert_close(transform(f, BOTH)(p, x), transform(torch_model, BOTH)(p, x))
    mapped = vmap(f, in_dims=({"a": 0, "b": None}, None))({"a": torch.rand(4, 2), "b": p["b"]}, x)
    assert (
        mapped["y"].shape == (4, 2)
        and mapped["z"][0].shape == (4,)
        and mapped["z"][1].shape == (4, 2)
    )
