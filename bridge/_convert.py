"""Arrays one way and the other by DLPack: no copy where the layout permits, no change of dtype."""

import functools
from typing import Any

import jax
import numpy as np
import torch
from jax.core import Tracer

from macrostat_jax._compile import refuse_forks

# What both libraries have and DLPack carries between them. The names are the same on both sides.
_DTYPES = frozenset(
    ["bool", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_SUPPORTED = f"Supported: {', '.join(sorted(_DTYPES))}."
_PLAIN = getattr(torch.Tensor, "__torch_dispatch__", None)
_TORCH_DTYPES = frozenset(getattr(torch, name) for name in _DTYPES)


def to_jax(tensor: torch.Tensor) -> jax.Array:
    """Return `tensor` as a JAX array of the same shape, dtype and device.

    The array shares the tensor's memory where JAX can use it as it lies: contiguous, aligned as
    torch allocates, without a pending conjugation or negation. Otherwise it is a copy. float64
    stays float64, also while JAX is in float32 mode. JAX takes arrays to be immutable: while the
    array is in use, do not write into the tensor; pass `tensor.clone()` if you must.

    Raises `TypeError` for what is no strided tensor on CPU or GPU of a dtype that both libraries
    have, and for a tensor that requires gradients, since the array would leave torch's graph
    unnoticed; `RuntimeError` for a tensor on a GPU where JAX has none.
    """
    check_tensor(tensor, "tensor")
    try:
        tensor.data_ptr()
    except RuntimeError:
        raise TypeError(
            "to_jax: the tensor is torch.func's stand-in for a batched or differentiated one. "
            "Use torch_function to compute with it in JAX."
        ) from None
    if tensor.requires_grad:
        raise TypeError(
            "to_jax: the tensor requires gradients, which a JAX array would not record. "
            "Use tensor.detach(), or torch_function to differentiate through JAX."
        )
    with jax.enable_x64(True):
        return share_with_jax(tensor)


def to_torch(array: jax.Array) -> torch.Tensor:
    """Return `array` as a tensor of the same shape, dtype and device, sharing its memory.

    JAX takes arrays to be immutable: do not write into the tensor while the array is in use;
    `clone` it if you must.

    Raises `TypeError` for what is no concrete JAX array on one CPU or GPU of a dtype that both
    libraries have; `RuntimeError` for an array on a GPU where torch has none.
    """
    if not isinstance(array, jax.Array) or isinstance(array, Tracer):
        raise TypeError(
            f"to_torch: expected a concrete jax.Array, got {type(array).__name__}. "
            "Inside a traced JAX function there are no values to hand over."
        )
    check_array(array, "to_torch: the array")
    return share_with_torch(array)


def check_tensor(tensor: Any, where: str) -> None:
    """Raise unless `tensor`, found at `where`, is one that JAX can share."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{where}: expected a torch.Tensor, got {type(tensor).__name__}.")
    if getattr(type(tensor), "__torch_dispatch__", _PLAIN) is not _PLAIN:
        # Fake tensors and the like pretend to lie at an address.
        raise TypeError(f"{where}: a {type(tensor).__name__} has no memory that JAX could read.")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{where}: layout {tensor.layout} is not supported; use tensor.to_dense().")
    if tensor.dtype not in _TORCH_DTYPES:
        raise TypeError(f"{where}: dtype {tensor.dtype} is not supported. {_SUPPORTED}")
    jax_device(tensor.device, where)


def check_array(array: Any, where: str) -> None:
    """Raise unless torch can share the dtype of `array`, which `where` describes."""
    if str(array.dtype) not in _DTYPES:
        raise TypeError(f"{where} has dtype {array.dtype}, which torch cannot share. {_SUPPORTED}")


@functools.lru_cache(maxsize=64)
def jax_device(device: torch.device, where: str = "tensor") -> Any:
    """Return JAX's name for the torch device of the tensor found at `where`.

    Raises `TypeError` for a kind of device that the two libraries do not share, and `RuntimeError`
    where JAX lacks it.
    """
    if device.type == "cpu":
        return jax.local_devices(backend="cpu")[0]
    if device.type != "cuda":
        reason = (
            "a meta tensor has no values"
            if device.type == "meta"
            else "only CPU and GPU (cuda) are supported"
        )
        raise TypeError(f"{where}: a tensor on device {device} cannot be handed to JAX: {reason}.")
    try:
        devices = jax.local_devices(backend="gpu")
    except RuntimeError as error:
        raise RuntimeError(
            f"{where}: the tensor is on {device}, but JAX has no GPU here. Install JAX's GPU "
            f"package, `{_gpu_package()}`, and start anew (without JAX_PLATFORMS=cpu), or move the "
            f"tensors with tensor.cpu(). JAX says: {error}"
        ) from error
    index = torch.cuda.current_device() if device.index is None else device.index
    for candidate in devices:
        if candidate.local_hardware_id == index:
            return candidate
    raise RuntimeError(
        f"{where}: the tensor is on {device}, which is none of the devices JAX sees: {devices}."
    )


def _gpu_package() -> str:
    version = torch.version
    if getattr(version, "hip", None):
        extra = f"rocm{str(version.hip).split('.')[0]}-local"
    else:
        extra = f"cuda{(version.cuda or '13').split('.')[0]}"
    return f'pip install "jax[{extra}]"'


def share_with_jax(tensor: torch.Tensor) -> jax.Array:
    """Return a checked `tensor` as a JAX array. To be called with 64-bit types enabled.

    Always row-major: JAX would accept some other layouts, and compile anew for each.

    Raises `RuntimeError` in a process that was forked after JAX had been used.
    """
    refuse_forks()
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if tensor.is_cuda:
        # torch exports only from its current device.
        with torch.cuda.device(tensor.device):
            return jax.dlpack.from_dlpack(tensor)
    if torch.cuda.is_initialized() and tensor.is_pinned():
        # DLPack would offer pinned memory as the GPU's.
        tensor = tensor.clone()
    return jax.dlpack.from_dlpack(tensor)


def share_with_torch(array: jax.Array) -> torch.Tensor:
    """Return a checked `array` as a tensor.

    The capsule is asked for in DLPack's unversioned form, which cannot be marked read-only: torch
    tensors are writable.
    """
    device, *others = array.devices()
    if others or device.platform not in ("cpu", "gpu"):
        raise TypeError(
            f"An array on {array.sharding} cannot be a tensor: it must be on one CPU or GPU."
        )
    if device.platform == "cpu":
        return torch.from_dlpack(array.__dlpack__())
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"The array is on {device}, but torch has no GPU here. Install torch's GPU build, or "
            "let JAX compute on the CPU (JAX_PLATFORMS=cpu)."
        )
    index = device.local_hardware_id
    with torch.cuda.device(index):
        stream = torch.cuda.current_stream(index).cuda_stream
        # DLPack on CUDA writes 1 for the legacy default stream, which torch calls 0; on ROCm both
        # say 0.
        if stream == 0 and torch.version.hip is None:
            stream = 1
        capsule = array.__dlpack__(stream=stream)  # pyright: ignore[reportCallIssue]
        return torch.from_dlpack(capsule)


def is_differentiable(dtype: torch.dtype) -> bool:
    """Whether gradients flow through tensors of `dtype`."""
    return dtype.is_floating_point or dtype.is_complex


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a JAX function's result is an array (and no Python number)."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))
