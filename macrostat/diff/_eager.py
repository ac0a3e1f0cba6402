"""Running a user's own torch behavior: on copies of the model's components, in the dtype asked for."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, jacrev, jvp
from torch.overrides import TorchFunctionMode

from .. import _engine
from ._loss import LossFn, evaluate, forward_mode, warn_constant

_PREFIX = "params."


def _copied(model: Any, dtype: torch.dtype) -> Any:
    """The model with parameters, scenarios and variables of its own, for runs in `dtype`."""
    twin = copy.copy(model)
    twin.parameters, twin.scenarios, twin.variables = copy.deepcopy(
        (model.parameters, model.scenarios, model.variables)
    )
    for owner in (twin, twin.scenarios, twin.variables):
        if _engine.output_dtype(owner.parameters.hyper) != dtype:
            owner.parameters.hyper["dtype"] = dtype
    return twin


def _behavior(twin: Any, scenario: int, dtype: torch.dtype) -> Any:
    with _made_in(dtype):
        return twin.get_model_training_instance(scenario=scenario).to(dtype)


def jacobian(
    model: Any,
    scenario: int,
    loss_fn: LossFn,
    mode: str,
    chunk_size: int | None,
    dtype: torch.dtype,
) -> dict[str, torch.Tensor]:
    """Tensor name -> (*loss shape, *parameter shape), by torch.func, computed in `dtype`."""
    twin = _copied(model, dtype)
    behavior = _behavior(twin, scenario, dtype)
    constraints = twin.parameters.get_constraints()
    resolver = twin.parameters.get_constraint_resolver()
    params = {
        name.removeprefix(_PREFIX): tensor.detach()
        for name, tensor in behavior.named_parameters()
        if name.startswith(_PREFIX)
    }

    def loss(params: dict[str, torch.Tensor]) -> torch.Tensor:
        # Here already, and not only in each period: the initial state may use a derived parameter.
        params = dict(params)
        for constraint in constraints:
            constraint.apply(params, resolver)
        given = {f"{_PREFIX}{name}": tensor for name, tensor in params.items()}
        with _made_in(dtype):
            outputs = functional_call(behavior, given, ())
        return evaluate(loss_fn, outputs)

    transform = _reverse if mode == "rev" else _forward
    try:
        found = transform(loss, params, chunk_size)
    except Exception:
        found = None
    if found is None:
        # One at a time, without vmap, which not every step or loss can do; its own errors come again.
        found = transform(loss, params, 0)
    if not any(bool((gradient != 0).any()) for gradient in found.values()):
        leaves = {name: tensor.requires_grad_() for name, tensor in params.items()}
        if not loss(leaves).requires_grad:
            warn_constant()
    return {name: gradient.detach() for name, gradient in found.items()}


def _reverse(loss: Any, params: dict[str, torch.Tensor], chunk_size: int | None) -> Any:
    return jacrev(loss, chunk_size=1 if chunk_size == 0 else chunk_size)(params)


def _forward(loss: Any, params: dict[str, torch.Tensor], chunk_size: int | None) -> Any:
    sizes = [tensor.numel() for tensor in params.values()]
    like = next(iter(params.values()))
    basis = torch.eye(sum(sizes), dtype=like.dtype, device=like.device)

    def push(direction: torch.Tensor) -> torch.Tensor:
        parts = zip(params.items(), direction.split(sizes), strict=True)
        tangents = {name: part.reshape(tensor.shape) for (name, tensor), part in parts}
        return jvp(loss, (params,), (tangents,))[1]

    with forward_mode:
        if chunk_size == 0:
            columns = torch.stack([push(direction) for direction in basis])
        else:
            columns = torch.vmap(push, randomness="same", chunk_size=chunk_size)(basis)
    blocks = columns.movedim(0, -1).split(sizes, dim=-1)
    return {
        name: block.reshape((*block.shape[:-1], *tensor.shape))
        for (name, tensor), block in zip(params.items(), blocks, strict=True)
    }


def runs(
    model: Any,
    scenario: int,
    names: list[str],
    points: np.ndarray,
    loose: np.ndarray,
    dtype: torch.dtype,
) -> Iterator[dict[str, torch.Tensor]]:
    """The outputs with the parameters `names` at each row of `points`; constraints do not hold in the
    rows that are `loose`.
    """
    for row, free in zip(points, loose, strict=True):
        twin = _copied(model, dtype)
        for name, value in zip(names, row, strict=True):
            twin.parameters.values[name]["value"] = float(value)
        if free:
            twin.parameters.get_constraints = tuple
        behavior = _behavior(twin, scenario, dtype)
        with torch.no_grad(), _made_in(dtype):
            outputs = behavior()
        yield outputs


def _made_in(dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if dtype == torch.get_default_dtype() else _MadeIn(dtype)


class _MadeIn(TorchFunctionMode):
    """Within it, tensors that a step makes without naming a dtype are of `dtype`, in this thread alone
    (`torch.set_default_dtype` holds for all threads). Random draws are those of the default dtype.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") is not None:
            return func(*args, **kwargs)
        if func in _EMPTY:
            return func(*args, **{**kwargs, "dtype": self.dtype})
        if func in _DRAWN_ALIKE:
            args = (args[0].to(torch.get_default_dtype()), *args[1:])
        made = func(*args, **kwargs)
        if func in _DRAWN or func in _DRAWN_ALIKE:
            return made.to(self.dtype)
        if func in _OF_NUMBERS and made.dtype == torch.get_default_dtype():
            given = [*args, *kwargs.values()]
            if not any(isinstance(x, torch.Tensor | np.ndarray | np.generic) for x in given):
                return func(*args, **{**kwargs, "dtype": self.dtype})
        return made


_EMPTY = frozenset({torch.zeros, torch.ones, torch.empty, torch.eye, torch.linspace})
_OF_NUMBERS = frozenset({torch.tensor, torch.as_tensor, torch.full, torch.arange})
_DRAWN = frozenset({torch.rand, torch.randn, torch.normal})
_DRAWN_ALIKE = frozenset({torch.rand_like, torch.randn_like})
