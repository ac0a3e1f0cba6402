"""A model as a module of torch alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from macrostat_jax import Model
from macrostat_jax.engines._run import prepared, program_of

from ._torch_engine import Torch
from ._torch_straight import Straight

DTYPES = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class TorchModel(torch.nn.Module):
    """A model as a module of torch alone: its parameters are the module's, a call simulates.

        module = TorchModel(models.GL06PC, periods=50)
        module()["national_income"][-1].backward()

    Traced once, a period as straight torch code, then run by torch's own operations, without JAX: to
    embed in a network, to send through torch.func (`functional_call`, `jacfwd`, `vmap`) or to
    optimise. For speed use `bridge.torch_function` or the torch API, which JAX compiles.

    It pickles by its definition, and is traced anew where it is loaded: the workers of a DataLoader, or
    `torch.load(..., weights_only=False)`, must be able to import the model's functions. `to`, `float` and
    `double` trace it anew, too, for the precision or device that its parameters have then.

    Args:
        model: the model.
        engine: where it runs, such as `Torch("cuda")`, which interprets each period; default: straight
            code on the CPU.
        dtype: `torch.float64` or `torch.float32`, in which it computes.
        inputs: as in `macrostat_jax.simulate`; one run, no batch. Values of `params` are the
            parameters' starting values. A random model keeps the noise it is given, or draws here.

    Raises:
        TypeError: another dtype, there or in `to`; when it is pickled, a model that another process could
            not import. UnsupportedOperation: a primitive that torch lacks, when called. As
            `macrostat_jax.simulate` otherwise.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: Torch | None = None,
        dtype: torch.dtype = torch.float64,
        **inputs: Any,
    ) -> None:
        super().__init__()
        _check(dtype)
        self.engine = Straight() if engine is None else engine
        self.dtype = dtype
        self.keys = tuple(model.State.fields)
        self._run = prepared(model, dtype=DTYPES[dtype], **inputs)
        for name, value in self._trace().items():
            self.register_parameter(name, torch.nn.Parameter(self.engine.asarray(value)))

    def _trace(self) -> dict[str, np.ndarray]:
        self.program, start = program_of(*self._run, DTYPES[self.dtype])
        if isinstance(self.engine, Straight):
            self.engine.prepare(self.program)
        return start

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> TorchModel:
        engine = self.engine
        at = fn(torch.empty(0, dtype=self.dtype, device=engine.device))
        _check(at.dtype)
        super()._apply(fn, recurse)
        if (at.dtype, at.device) != (self.dtype, engine.device):
            self.dtype, self.engine = at.dtype, copy.copy(engine)  # a twin may have it, too
            self.engine.device = at.device
            self._trace()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: what it was made from, in place of the program that was made."""
        from macrostat_jax.sample import _transport

        state = {key: value for key, value in self.__dict__.items() if key != "program"}
        return state | {"_run": _transport.dumps(tuple, self._run)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from macrostat_jax.sample import _transport

        content = state["_run"]
        super().__setstate__(state | {"_run": _transport.load(_transport.digest(content), content)})
        self._trace()

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchModel:
        """A twin with parameters of its own; program and engine, which no call changes, are shared."""
        memo |= {id(shared): shared for shared in (self.engine, self.program, self._run)}
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items()})
        return twin

    def forward(self) -> dict[str, torch.Tensor]:
        """Variable -> path (T, *shape), by the fields' own names."""
        path = self.engine.run(self.program, *self.parameters())
        return dict(zip(self.keys, path, strict=True))


def _check(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise TypeError(f"dtype is torch.float64 or torch.float32, not {dtype!r}.")
