"""Jacobians of torch losses through a library model's compiled program.

The loss is torch's business, the model JAX's: the chain rule is applied where they meet, at the packed
outputs. So a loss may do what plain torch code may (masks that depend on the data, numpy detours in
no-grad parts, closures), and the model's part is one compiled call whatever the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from .. import _engine
from ._loss import LossFn, evaluate, warn_constant


class Point(NamedTuple):
    """Where a library model is differentiated: its program, parameters (P,) and scenario series."""

    program: Any
    vector: torch.Tensor
    matrix: torch.Tensor

    @classmethod
    def of(cls, model: Any, scenario: int, definition: Any = None) -> Point:
        definition = definition or _engine.definition_for(model)
        parameters, scenarios = model.parameters, model.scenarios
        series = scenarios.vectorize_scenarios(scenarios.timeseries[scenario])
        setup = _engine.setup_for(definition, parameters.hyper, series)
        vector = _engine.pack_values(definition, parameters)
        matrix = _engine.pack_series(setup, series).detach()
        device = torch.device(parameters.hyper.get("device", "cpu"))
        return cls(_engine.program(setup), vector.to(device), matrix.to(device))

    @property
    def definition(self) -> Any:
        return self.program.setup.definition

    def unpack(self, rows: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        return _engine.unpack(self.definition, rows, dtype)

    def by_tensor(self, columns: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """(*loss shape, P) as tensor name -> (*loss shape, *parameter shape)."""
        lead = columns.shape[:-1]
        found = {}
        for place in _engine.slots(self.definition.Params).values():
            block = columns[..., place.start : place.stop].to(dtype)
            found[_engine.tensor_name(place.field)] = block.reshape((*lead, *place.field.shape))
        return found


def reverse(point: Point, loss_fn: LossFn, dtype: torch.dtype, chunk: int | None) -> torch.Tensor:
    """(*loss shape, P), float64: torch's reverse mode through the loss, JAX's through the model."""
    rows = point.program.values(point.vector, point.matrix).requires_grad_()
    with torch.enable_grad():
        loss = evaluate(loss_fn, point.unpack(rows, dtype))
    size, parameters = loss.numel(), point.vector.numel()
    if not loss.requires_grad:
        warn_constant()
        return rows.new_zeros(*loss.shape, parameters)
    flat, parts = loss.reshape(-1), []
    step = size if chunk is None else chunk
    for start in range(0, size, step):
        weights = [_weights(flat, i, rows, size) for i in range(start, min(start + step, size))]
        parts.append(point.program.pullback(point.vector, point.matrix, torch.stack(weights)))
    return torch.cat(parts).reshape(*loss.shape, parameters) if parts else rows.new_zeros(0)


def _weights(flat: torch.Tensor, i: int, rows: torch.Tensor, size: int) -> torch.Tensor:
    """The derivative of the loss's element i by the packed outputs, contiguous."""
    (found,) = torch.autograd.grad(flat[i], rows, retain_graph=i < size - 1, allow_unused=True)
    return torch.zeros_like(rows) if found is None else found.contiguous()


def forward(point: Point, loss_fn: LossFn, dtype: torch.dtype, chunk: int | None) -> torch.Tensor:
    """(*loss shape, P), float64: JAX's forward mode through the model, torch's through the loss."""
    parameters = point.vector.numel()
    basis = torch.eye(parameters, dtype=torch.float64, device=point.vector.device)
    columns, constant = [], True
    loss = None
    for start in range(0, parameters, chunk or parameters):
        directions = basis[start : start + (chunk or parameters)]
        rows, tangents = point.program.tangents(point.vector, point.matrix, directions)
        for tangent in tangents:
            with torch.no_grad(), forward_ad.dual_level():
                dual = forward_ad.make_dual(rows, tangent)
                loss = evaluate(loss_fn, point.unpack(dual, dtype))
                slope = forward_ad.unpack_dual(loss).tangent
            constant &= slope is None
            columns.append(torch.zeros_like(loss) if slope is None else slope)
    if constant:
        warn_constant()
    return torch.stack([column.double() for column in columns], dim=-1)


def losses(
    point: Point,
    loss_fn: LossFn,
    vectors: torch.Tensor,
    dtype: torch.dtype,
    tick: Callable[[], Any],
) -> torch.Tensor:
    """The loss at every row of `vectors` (R, P): (R, *loss shape), one batched simulation."""
    rows = point.program.batch(vectors, point.matrix)
    found = []
    with torch.no_grad():
        for r in range(len(vectors)):
            found.append(evaluate(loss_fn, point.unpack(rows[:, r], dtype)))
            tick()
    return torch.stack(found)
