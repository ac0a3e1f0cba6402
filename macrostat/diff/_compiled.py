"""Jacobians of torch losses through a library model's compiled program.

The loss is torch's business, the model JAX's: the chain rule is applied where they meet, at the packed
outputs. So a loss may do what plain torch code may (masks that depend on the data, numpy detours in
no-grad parts, closures), and the model's part is one compiled call whatever the loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

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
    beyond: tuple[str, ...] = ()
    """Scalar parameters that a class of the user's declares, and the model does not read."""

    @classmethod
    def of(cls, model: Any, scenario: int, definition: Any = None) -> Point:
        definition = definition or _engine.definition_for(model)
        parameters, scenarios = model.parameters, model.scenarios
        series = scenarios.vectorize_scenarios(scenarios.timeseries[scenario])
        setup = _engine.setup_for(definition, parameters.hyper, series)
        vector = _engine.pack_values(definition, parameters)
        matrix = _engine.pack_series(setup, series).detach()
        random = _engine.random_inputs(definition, parameters.hyper, getattr(model, "noise", None))
        device = torch.device(parameters.hyper.get("device", "cpu"))
        known = _engine.element_index(definition)
        return cls(
            _engine.program(setup),
            vector.to(device),
            matrix.to(device),
            tuple(tensor.detach().to(device) for tensor in random),
            tuple(name.replace(".", "_") for name in parameters.values if name not in known),
        )

    @property
    def definition(self) -> Any:
        return self.program.setup.definition

    def values(self) -> list[torch.Tensor]:
        """The paths of the variables, as the program has them."""
        return self.program.values(self.vector, self.matrix, *self.random)

    def unpack(self, paths: Sequence[torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """The output dict, into which a loss may write: what it writes is in `paths`, or in a copy."""
        return _engine.unpack(self.definition, paths, dtype)

    def by_tensor(self, columns: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """(*loss shape, P) as tensor name -> (*loss shape, *parameter shape)."""
        lead = columns.shape[:-1]
        found = {}
        # In the order of `Behavior.params`: torch sorts the names of a `ParameterDict`.
        places = _engine.slots(self.definition.Params).values()
        for place in sorted(places, key=lambda place: _engine.tensor_name(place.field)):
            block = columns[..., place.start : place.stop].to(dtype)
            found[_engine.tensor_name(place.field)] = block.reshape((*lead, *place.field.shape))
        # What a class of the user's declares beyond the model moves nothing.
        for name in self.beyond:
            found[name] = columns.new_zeros(lead, dtype=dtype)
        return found


def reverse(point: Point, loss_fn: LossFn, dtype: torch.dtype, chunk: int | None) -> torch.Tensor:
    """(*loss shape, P), float64: torch's reverse mode through the loss, JAX's through the model."""
    paths = [path.requires_grad_() for path in point.values()]
    with torch.enable_grad():
        loss = evaluate(loss_fn, point.unpack(_writable(paths), dtype))
    size, parameters = loss.numel(), point.vector.numel()
    flat, columns, constant = loss.reshape(-1), [], True
    step = max(size if chunk is None else chunk, 1)
    for start in range(0, size if loss.requires_grad else 0, step):
        part = flat[start : start + step]
        found = _weights(part, paths)
        touched = tuple(k for k, w in enumerate(found) if w is not None)
        if not touched:
            columns.append(point.vector.new_zeros(len(part), parameters))
            continue
        constant = False
        weights = [w for w in found if w is not None]
        columns.append(
            point.program.pullback(touched, point.vector, point.matrix, weights, *point.random)
        )
    if constant and size:
        warn_constant()
    shape = *loss.shape, parameters
    return torch.cat(columns).reshape(shape) if columns else point.vector.new_zeros(shape)


def _weights(part: torch.Tensor, paths: list[torch.Tensor]) -> list[torch.Tensor | None]:
    """The derivatives (R, size) of R elements of the loss by each path; None where none depends on it."""
    if len(part) > 1:
        # Not every loss can be batched; its own errors come again.
        with contextlib.suppress(Exception):
            basis = torch.eye(len(part), dtype=part.dtype, device=part.device)
            return list(_pulled(part, paths, basis, is_grads_batched=True))
    rows = [_pulled(element, paths) for element in part]
    return [_stacked([row[k] for row in rows], path) for k, path in enumerate(paths)]


def _pulled(part: torch.Tensor, paths: list[torch.Tensor], *given: Any, **options: Any) -> Any:
    return torch.autograd.grad(part, paths, *given, retain_graph=True, allow_unused=True, **options)


def _stacked(rows: list[torch.Tensor | None], path: torch.Tensor) -> torch.Tensor | None:
    if all(row is None for row in rows):
        return None
    return torch.stack([torch.zeros_like(path) if row is None else row for row in rows])


class _Alias(torch.autograd.Function):
    """The same memory with a history: a loss may write into it, which torch forbids in a leaf."""

    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor) -> torch.Tensor:
        return leaf.detach()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return slope


def _writable(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """The paths for one evaluation of a loss, without copying them."""
    return [_Alias.apply(leaf) for leaf in leaves]  # pyright: ignore[reportReturnType]


def forward(point: Point, loss_fn: LossFn, dtype: torch.dtype, chunk: int | None) -> torch.Tensor:
    """(*loss shape, P), float64: JAX's forward mode through the model, torch's through the loss."""
    parameters = point.vector.numel()
    basis = torch.eye(parameters, dtype=torch.float64, device=point.vector.device)
    touched = _touched(point, loss_fn, dtype)
    columns = []
    for start in range(0, parameters, chunk or parameters):
        directions = basis[start : start + (chunk or parameters)]
        paths, tangents = point.program.tangents(
            touched, point.vector, point.matrix, directions, *point.random
        )

        def loss(*moved: torch.Tensor, paths: list[torch.Tensor] = paths) -> torch.Tensor:
            places = dict(zip(touched, moved, strict=True))
            given = [places.get(k, path).clone() for k, path in enumerate(paths)]
            return evaluate(loss_fn, point.unpack(given, dtype))

        with forward_mode:
            columns.append(_along(loss, tuple(paths[k] for k in touched), tuple(tangents)).double())
    return torch.cat(columns).movedim(0, -1)


def _touched(point: Point, loss_fn: LossFn, dtype: torch.dtype) -> tuple[int, ...]:
    """The paths that the loss depends on: all of them where that cannot be told."""
    every = tuple(range(len(_engine.parts(point.definition.State))))
    if len(every) == 1:
        return every
    paths = [path.requires_grad_() for path in point.values()]
    try:
        with torch.enable_grad():
            loss = evaluate(loss_fn, point.unpack(_writable(paths), dtype)).sum()
            found = torch.autograd.grad(loss, paths, allow_unused=True)
    except Exception:  # the loss's own errors come again
        return every
    return tuple(k for k in every if found[k] is not None) or every


Tensors: TypeAlias = tuple[torch.Tensor, ...]


def _along(loss: Callable[..., torch.Tensor], paths: Tensors, tangents: Tensors) -> torch.Tensor:
    """The derivative of the loss along each tangent."""
    try:
        slopes = torch.func.vmap(lambda *tangent: jvp(loss, paths, tangent)[1])(*tangents)
    except Exception:
        # Not every loss can be batched: its masks may depend on the data, or it draws numbers.
        slopes = None
    if slopes is None or not bool((slopes != 0).any()):
        return _one_by_one(loss, paths, tangents)
    return slopes


def _one_by_one(
    loss: Callable[..., torch.Tensor], paths: Tensors, tangents: Tensors
) -> torch.Tensor:
    """As `_along`, one after the other; says so if the loss does not depend on the outputs at all."""
    slopes, constant = [], True
    for tangent in zip(*tangents, strict=True):
        with torch.no_grad(), forward_ad.dual_level():
            value = loss(*map(forward_ad.make_dual, paths, tangent))
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
        run = rows[:, r].to(dtype, copy=True)
        yield _engine.unpack_rows(point.definition, run, dtype)
