import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bridge import to_jax, to_torch
from bridge._convert import jax_device

DTYPES = [
    "bool",
    "uint8",
    "uint16",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
def test_round_trip_shares_memory(dtype, shape):
    tensor = torch.ones(shape).to(getattr(torch, dtype))
    array = to_jax(tensor)
    assert array.dtype == dtype and array.shape == shape
    back = to_torch(array)
    assert back.dtype == tensor.dtype and back.equal(tensor)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr() == back.data_ptr()


def test_float64_survives_float32_mode():
    assert jnp.zeros(1).dtype == jnp.float32
    tensor = torch.tensor([1 + 1e-15], dtype=torch.float64)
    assert np.asarray(to_jax(tensor))[0] == tensor.item() != 1
    assert to_torch(to_jax(tensor)).item() == tensor.item()


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[:, ::2],
        lambda x: x[1:],
        lambda x: x.flatten()[1:],
        lambda x: x[:1].expand(4, -1),
        lambda x: x.permute(1, 0)[1:, 1:],
    ],
)
def test_any_layout(view):
    tensor = view(torch.arange(12.0).reshape(3, 4))
    array = to_jax(tensor)
    assert array.shape == tuple(tensor.shape)
    assert np.array_equal(np.asarray(array), tensor.numpy())
    assert to_torch(array).is_contiguous()


def test_conjugate_and_negative_views():
    z = torch.tensor([1 + 2j, 3 - 1j])
    assert z.conj().is_conj() and np.asarray(to_jax(z.conj())).tolist() == [1 - 2j, 3 + 1j]
    pending = torch._neg_view(torch.ones(2))  # pyright: ignore[reportPrivateImportUsage]
    assert pending.is_contiguous() and np.asarray(to_jax(pending)).tolist() == [-1, -1]
    negative = z.conj().imag
    assert negative.is_neg() and np.asarray(to_jax(negative)).tolist() == [-2, 1]


def test_memory_outlives_its_first_owner():
    array = to_jax(torch.arange(1000, dtype=torch.int32))
    tensor = to_torch(jnp.arange(1000, dtype=jnp.int32) + 1)
    for _ in range(5):
        torch.zeros(1000, dtype=torch.int32)
    assert int(array.sum()) == 499_500 and tensor.sum().item() == 500_500


def test_parameter_needs_detaching():
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(TypeError, match=r"requires gradients.*detach"):
        to_jax(parameter)
    assert to_jax(parameter.detach()).shape == (2,)


def test_tensors_without_memory():
    with pytest.raises(TypeError, match="stand-in"):
        torch.vmap(lambda x: to_jax(x) and x)(torch.ones(2))
    with FakeTensorMode(), pytest.raises(TypeError, match="FakeTensor has no memory"):
        to_jax(torch.ones(2))


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (3.0, "expected a torch.Tensor, got float"),
        (np.ones(2), "expected a torch.Tensor, got ndarray"),
        (torch.ones(2, 2).to_sparse(), "sparse_coo.*to_dense"),
        (torch.ones(2, device="meta"), "meta.*has no values"),
        (torch.ones(2).to(torch.float8_e5m2), "float8_e5m2 is not supported. Supported: .*float32"),
    ],
)
def test_what_is_no_dense_tensor(thing, message):
    with pytest.raises(TypeError, match=message):
        to_jax(thing)


def test_what_is_no_array():
    with pytest.raises(TypeError, match=r"expected a concrete jax\.Array, got ndarray"):
        to_torch(np.ones(2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="key<"):
        to_torch(jax.random.key(0))
    with pytest.raises(TypeError, match="concrete"):
        jax.jit(lambda x: to_torch(x) and x)(jnp.ones(2))


def test_gpu_tensor_without_a_gpu_for_jax(monkeypatch):
    def no_gpu(**_):
        raise RuntimeError("Unknown backend gpu")

    monkeypatch.setattr(jax, "local_devices", no_gpu)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    jax_device.cache_clear()
    with pytest.raises(
        RuntimeError, match=r'f: args\[0\].*cuda:0.*pip install "jax\[cuda13\]".*tensor.cpu'
    ):
        jax_device(torch.device("cuda:0"), "f: args[0]")
    monkeypatch.setattr(torch.version, "hip", "7.1")
    with pytest.raises(RuntimeError, match=r"jax\[rocm7-local\]"):
        jax_device(torch.device("cuda:0"), "f: args[0]")
    jax_device.cache_clear()
