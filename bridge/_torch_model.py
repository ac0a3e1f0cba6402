"""A model as a module of torch alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from macrostat_jax import Model
from macrostat_jax.engines import traced

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

    Args:
        model: the model.
        engine: where it runs, such as `Torch("cuda")`, which interprets each period; default: straight
            code on the CPU.
        dtype: `torch.float64` or `torch.float32`, in which it computes.
        inputs: as in `macrostat_jax.simulate`; one run, no batch. Values of `params` are the
            parameters' starting values. A random model keeps the noise it is given, or draws here.

    Raises:
        TypeError: another dtype. UnsupportedOperation: a primitive that torch lacks, when called. As
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
        if dtype not in DTYPES:
            raise TypeError(f"dtype is torch.float64 or torch.float32, not {dtype!r}.")
        self.engine = Straight() if engine is None else engine
        self.keys = tuple(model.State.fields)
        self.program, start = traced(model, dtype=DTYPES[dtype], **inputs)
        for name, value in start.items():
            self.register_parameter(name, torch.nn.Parameter(self.engine.asarray(value)))
        if isinstance(self.engine, Straight):
            self.engine.prepare(self.program)

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchModel:
        """A twin with parameters of its own; program and engine, which no call changes, are shared."""
        memo |= {id(shared): shared for shared in (self.engine, self.program)}
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items()})
        return twin

    def forward(self) -> dict[str, torch.Tensor]:
        """Variable -> path (T, *shape), by the fields' own names."""
        path = self.engine.run(self.program, *self.parameters())
        return dict(zip(self.keys, path, strict=True))
