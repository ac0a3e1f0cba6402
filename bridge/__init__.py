"""torch and JAX: arrays one way and the other, JAX functions as torch functions.

    from bridge import torch_function

    def loss(parameters, target): ...      # jax.numpy on a pytree of arrays

    torch_loss = torch_function(loss)      # the same on a pytree of tensors
    torch_loss({"w": w, "b": b}, target).backward()
    torch.func.hessian(torch_loss)({"w": w, "b": b}, target)

`Torch` and `TorchModel` run models of the library by torch's own operations instead.

All of torch's automatic differentiation and `torch.vmap` work on the result, in any nesting. JAX
computes, on the device the tensors are on, and memory passes by DLPack without a copy.

Three things to know before using it:

- A call costs some 60 microseconds, a backward 130, and 20 for each further tensor in or out,
  whatever its size: pack small values into one tensor.
- The JAX function runs with 64-bit types enabled, so that float64 stays float64. A constant
  created in it without a dtype (`jnp.zeros(3)`) is float64 there; give it the inputs' dtype.
- `to_jax` and `to_torch` share memory: do not write into a tensor while a JAX array that shares
  it is in use. What `torch_function` takes and returns is safe to write into.
"""

from bridge._convert import to_jax as to_jax
from bridge._convert import to_torch as to_torch
from bridge._function import torch_function as torch_function
from bridge._torch_engine import Torch as Torch
from bridge._torch_model import TorchModel as TorchModel
