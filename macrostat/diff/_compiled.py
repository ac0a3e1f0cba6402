"""Jacobians of torch losses through a library model's compiled program.

The loss is torch's business, the model JAX's: the chain rule is applied where they meet, at the packed
outputs. So a loss may do what plain torch code may (masks that depend on the data, numpy detours in
no-grad parts, closures), and the model's part is one compiled call whatever the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad
from torch.func import jvp

from .. import _engine
from ._loss import LossFn, evaluate, forward_mode, warn_constant


class Point(NamedTuple):
    """Where a library model is differentiated: its program, parameters (P,), scenario series, and the
    random inputs, if it has any: all runs at a point have the same (common random numbers).
    """

    program: Any
    vector: torch.Tensor
    matrix: torch.Tensor
    random: tuple[torch.Tensor, ...] = ()

    @classmethod
    def of(cls, model: Any, scenario: int, definition: Any = None) -> Point:
        definition = definition or _engine.definition_for(model)
        parameters, scenarios = model.parameters, model.scenarios
        series = scenarios.vectorize_scenarios(scenarios.timeseries[scenario])
        setup = _engine.setup_for(definition, parameters.hyper, series)
        vector = _engine.pack_values(definition, parameters)
        matrix = _engine.pack_series(setup, series).detach()
        random = _engine.random_inputs(definition, parameters.hyper, model.noise)
        device = torch.device(parameters.hyper.get("device", "cpu"))
        return cls(
            _engine.program(setup),
            vector.to(device),
            matrix.to(device),
            tuple(tensor.detach().to(device) for tensor in random),
        )

    @property
    def definition(self) -> Any:
        return self.program.setup.definition

    def unpack(self, rows: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """The output dict, in memory of its own: a loss may write into it."""
        return _engine.unpack(self.definition, rows.to(dtype, copy=True), dtype)

    def by_tensor(self, columns: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """(*loss shape, P) as tensor name -> (*loss shape, *parameter shape)."""
        lead = columns.shape[:-1]
        found = {}
        # In the order of `Behavior.params`: torch sorts the names of a `ParameterDict`.
        places = _engine.slots(self.definition.Params).values()
        for place in sorted(places, key=lambda place: _engine.tensor_name(place.field)):
            block = columns[..., place.start : place.stop].to(dtype)
            found[_engine.tensor_name(place.field)] = block.reshape((*lead, *place.field.shape))
        return found


def reverse(point: Point, loss_fn: LossFn, dtype: torch.dtype, chunk: int | None) -> torch.Tensor:
    """(*loss shape, P), float64: torch's reverse mode through the loss, JAX's through the model."""
    rows = point.program.values(point.vector, point.matrix, *point.random).requires_grad_()
    with torch.enable_grad():
        loss = evaluate(loss_fn, point.unpack(rows, dtype))
    size, parameters = loss.numel(), point.vector.numel()
    flat, parts, constant = loss.reshape(-1), [], True
    step = max(size if chunk is None else chunk, 1)
    for start in range(0, size if loss.requires_grad else 0, step):
        found = [_weights(flat, i, rows, size) for i in range(start, min(start + step, size))]
        constant &= all(weights is None for weights in found)
        weights = torch.stack([torch.zeros_like(rows) if w is None else w for w in found])
        parts.append(point.program.pullback(point.vector, point.matrix, weights, *point.random))
    if constant and size:
        warn_constant()
    shape = *loss.shape, parameters
    return torch.cat(parts).reshape(shape) if parts else rows.new_zeros(shape)


def _weights(flat: torch.Tensor, i: int, rows: torch.Tensor, size: int) -> torch.Tensor | None:
    """The derivative of the loss's element i by the packed outputs; None if it does not depend on them."""
    return torch.autograd.grad(flat[i], rows, retain_graph=i < size - 1, allow_unused=True)[0]


def forward(point: Point, loss_fn: LossFn, dtype: torch.dtype, chunk: int | None) -> torch.Tensor:
    """(*loss shape, P), float64: JAX's forward mode through the model, torch's through the loss."""
    parameters = point.vector.numel()
    basis = torch.eye(parameters, dtype=torch.float64, device=point.vector.device)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return evaluate(loss_fn, point.unpack(rows, dtype))

    parts = []
    for start in range(0, parameters, chunk or parameters):
        directions = basis[start : start + (chunk or parameters)]
        rows, tangents = point.program.tangents(
            point.vector, point.matrix, directions, *point.random
        )
        with forward_mode:
            parts.append(_along(loss, rows, tangents).double())
    return torch.cat(parts).movedim(0, -1)


def _along(
    loss: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, tangents: torch.Tensor
) -> torch.Tensor:
    """The derivative of the loss along each tangent."""
    try:
        slopes = torch.func.vmap(lambda tangent: jvp(loss, (rows,), (tangent,))[1])(tangents)
    except Exception:
        # Not every loss can be batched: its masks may depend on the data, or it draws numbers.
        slopes = None
    if slopes is None or not bool((slopes != 0).any()):
        return _one_by_one(loss, rows, tangents)
    return slopes


def _one_by_one(
    loss: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, tangents: torch.Tensor
) -> torch.Tensor:
    """As `_along`, one after the other; says so if the loss does not depend on the outputs at all."""
    slopes, constant = [], True
    for tangent in tangents:
        with torch.no_grad(), forward_ad.dual_level():
            value = loss(forward_ad.make_dual(rows, tangent))
            slope = forward_ad.unpack_dual(value).tangent
        constant &= slope is None
        slopes.append(torch.zeros_like(value) if slope is None else slope)
    if constant and slopes[0].numel():
        warn_constant()
    return torch.stack(slopes)


def runs(
    point: Point, vectors: torch.Tensor, dtype: torch.dtype
) -> Iterator[dict[str, torch.Tensor]]:
    """The outputs with the parameters of every row of `vectors` (R, P): one batched simulation."""
    rows = point.program.batch(vectors, point.matrix, *point.random)
    for r in range(len(vectors)):
        yield point.unpack(rows[:, r], dtype)
