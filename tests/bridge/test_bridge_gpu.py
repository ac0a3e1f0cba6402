"""The same on a GPU: nothing leaves it."""

import jax
import jax.numpy as jnp
import pytest
import torch
from bridge_cases import CASES
from torch.func import hessian, jacfwd, jacrev, vmap

from bridge import to_jax, to_torch, torch_function

pytestmark = pytest.mark.gpu


def test_round_trip_shares_memory():
    tensor = torch.arange(10, dtype=torch.float64, device="cuda")
    array = to_jax(tensor)
    assert next(iter(array.devices())).platform == "gpu" and array.dtype == "float64"
    assert array.unsafe_buffer_pointer() == tensor.data_ptr() == to_torch(array).data_ptr()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transforms(case):
    args = tuple(x.cuda() for x in case.arguments())
    for transform in (jacrev, jacfwd, hessian):
        result, expected = transform(case.wrapped)(*args), transform(case.twin)(*args)
        assert result.device == args[0].device
        torch.testing.assert_close(result, expected)
    inputs = tuple(x.clone().requires_grad_() for x in args)
    case.wrapped(*inputs).sum().backward()
    expected = torch.autograd.grad(case.twin(*inputs).sum(), inputs)
    torch.testing.assert_close(tuple(x.grad for x in inputs), expected)
    torch.testing.assert_close(
        vmap(case.wrapped, (None, 0))(args[0], torch.stack([args[1]] * 3))[0], case.twin(*args)
    )


def test_results_lie_where_the_inputs_lie():
    f = torch_function(lambda x: jnp.ones(2, jnp.float32))
    assert f(torch.ones(3, device="cuda")).is_cuda
    assert not f(torch.ones(3)).is_cuda
    assert f(torch.ones(3).pin_memory()).device.type == "cpu"


def test_mixed_devices_are_named():
    f = torch_function(lambda a, b: a + b, name="f")
    with pytest.raises(ValueError, match=r"f: args\[0\] on cpu; f: args\[1\] on cuda:0"):
        f(torch.ones(2), torch.ones(2, device="cuda"))


def test_streams_are_ordered():
    f = torch_function(lambda x: jax.lax.fori_loop(0, 50, lambda _, y: jnp.sin(y) + x, x))
    x = torch.ones(10_000_000, device="cuda")
    expected = f(x.clone())
    torch.cuda.synchronize()
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            for _ in range(3):
                x.fill_(1.0)
                result = f(x)
                x.fill_(100.0)
                assert result.equal(expected)
