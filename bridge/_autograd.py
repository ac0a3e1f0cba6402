"""A compiled JAX function as an operation that torch differentiates and batches."""

import contextlib
import inspect
from typing import Any

import jax
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from bridge._compiled import Compiled
from bridge._convert import is_differentiable, jax_device, share_with_jax, share_with_torch


class ResultStructure:
    """Where `call` notes the tree of the result: autograd passes on tensors alone."""

    __slots__ = ("tree",)
    tree: Any


def call(
    function: Compiled, structure: ResultStructure | None, *tensors: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return the leaves of `function(*tensors)`: tensors that torch differentiates and batches."""
    return _Call.apply(function, structure, *tensors)  # pyright: ignore[reportReturnType]


class _Call(torch.autograd.Function):
    """The operation. Its derivatives and its batched form are calls themselves: all of it nests."""

    @staticmethod
    def forward(function: Compiled, structure: ResultStructure | None, *tensors: torch.Tensor):
        _refuse_to_be_traced()
        # 64-bit mode is per thread, and torch runs `backward` in threads of its own.
        with jax.enable_x64(True), _default_device(tensors):
            arrays = [share_with_jax(tensor) for tensor in tensors]
            leaves, tree = jax.tree_util.tree_flatten(function(*arrays))
            for leaf in leaves:
                if leaf.device.platform == "cpu":
                    # JAX may still be reading memory that the caller is free to overwrite once we
                    # return. (DLPack waits on CPU as well, but nothing says it must. On a GPU the
                    # streams see to it: torch's waits for the result, and `arrays` keeps the
                    # inputs until that is arranged.)
                    leaf.block_until_ready()
            if structure is not None:
                structure.tree = tree
            return tuple(share_with_torch(leaf) for leaf in leaves)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.function, _, *tensors = inputs
        # Saved by torch, so that it notices when one is overwritten before it is used again.
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.differentiable = tuple(
            i for i, out in enumerate(output) if is_differentiable(out.dtype)
        )
        ctx.count = len(output)
        # What nothing depends on is None then, and need not be computed: the paths of all agents, say.
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[out for out in output if not is_differentiable(out.dtype)])

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None):
        tensors = ctx.saved_tensors
        needed = tuple(i for i, needs in enumerate(ctx.needs_input_grad[2:]) if needs)
        given = [(i, cotangents[i]) for i in ctx.differentiable if cotangents[i] is not None]
        gradients: list[torch.Tensor | None] = [None] * len(tensors)
        if needed and given:
            vjp = ctx.function.vjp(needed, tuple(i for i, _ in given))
            found = call(vjp, None, *tensors, *(c for _, c in given))
            for i, gradient in zip(needed, found, strict=True):
                gradients[i] = gradient
        return None, None, *gradients

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor | None):
        tensors = ctx.saved_tensors
        given = [
            (i, t)
            for i, t in enumerate(tangents[2:])
            if t is not None and is_differentiable(tensors[i].dtype)
        ]
        results: list[torch.Tensor | None] = [None] * ctx.count
        if given and ctx.differentiable:
            jvp = ctx.function.jvp(tuple(i for i, _ in given), ctx.differentiable)
            found = call(jvp, None, *tensors, *(t for _, t in given))
            for i, tangent in zip(ctx.differentiable, found, strict=True):
                results[i] = tangent
        return tuple(results)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        function: Compiled,
        structure: Any,
        *tensors: torch.Tensor,
    ):
        outputs = call(function.vmap(tuple(in_dims[2:])), structure, *tensors)
        return outputs, (0,) * len(outputs)


def _default_device(tensors: tuple[torch.Tensor, ...]) -> contextlib.AbstractContextManager[Any]:
    """Say where to compute: with the tensors, or without any, where torch would."""
    if tensors:
        return contextlib.nullcontext()
    return jax.default_device(jax_device(torch.get_default_device()))


def _refuse_to_be_traced() -> None:
    """Raise where torch records a graph: it would keep this result as a constant, and be wrong."""
    for mode in _get_current_dispatch_mode_stack():
        if type(mode).__name__ == "ProxyTorchDispatchMode":
            raise RuntimeError(
                "A JAX function cannot be part of a graph that torch records (make_fx, "
                "torch.export, torch.func.linearize). Call it outside; for linearize, use "
                "torch.func.jvp."
            )


# torch asks for it at each call; kept here, it takes a sixth off the time of a small one.
setattr(_Call.forward, "__signature__", inspect.signature(_Call.forward))  # noqa: B010
