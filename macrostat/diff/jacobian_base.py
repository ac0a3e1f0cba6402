"""What the Jacobians have in common: the model and scenario, and the result as tensor or table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import pandas as pd


class JacobianBase:
    """A model and a scenario whose Jacobian is wanted.

    Args:
        model: a `macrostat` model instance.
        scenario: its id or name.

    Attributes:
        jacobian: the last result of `compute`, parameter name -> tensor (*loss shape, *parameter shape).

    Raises:
        ValueError: a name that no scenario of the model has; KeyError: a number that none has. Both list
            what there is. TypeError: a class in place of its instance.
    """

    def __init__(self, model: Any, scenario: int | str = 0) -> None:
        if isinstance(model, type):
            raise TypeError(f"model must be an instance, {model.__name__}(), not the class itself.")
        self.model = model
        self.scenario = scenario
        self.jacobian: dict[str, torch.Tensor] | None = None
        self._scenario_id()

    def compute(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        raise NotImplementedError("JacobianBase.compute() must be implemented by subclasses")

    def _scenario_id(self) -> int:
        return self.model.scenarios.find(self.scenario)

    def _given(
        self, jacobian_dict: Mapping[str, torch.Tensor] | None
    ) -> Mapping[str, torch.Tensor]:
        jacobian = self.jacobian if jacobian_dict is None else jacobian_dict
        if jacobian is None:
            raise ValueError("jacobian_dict must be provided or self.jacobian must be set")
        return jacobian

    def to_tensor(
        self,
        jacobian_dict: Mapping[str, torch.Tensor] | None = None,
        param_order: Sequence[str] | None = None,
    ) -> torch.Tensor:
        """The Jacobian as one matrix (loss elements, parameters).

        Args:
            jacobian_dict: a result of `compute`; default: the last one.
            param_order: the columns; default: the order of the dict.

        Raises:
            ValueError: there is no result yet, or the shapes differ (a sector vector beside scalars:
                convert those by themselves). KeyError: a parameter that is not in the dict.
        """
        jacobian = self._given(jacobian_dict)
        if not jacobian:
            return torch.tensor([])
        order, _ = _checked(jacobian, param_order)
        return torch.stack([jacobian[name].flatten() for name in order], dim=1)

    def to_pandas(
        self,
        jacobian_dict: Mapping[str, torch.Tensor] | None = None,
        timesteps: int | None = None,
        variable_names: Sequence[str] | None = None,
        param_order: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The Jacobian as a table: a column per parameter, a row per element of the loss.

        The rows of a scalar loss are `["loss"]`; of a 1-D loss its elements, time steps (`timesteps`) or
        variables (`variable_names`, which win over `timesteps`); of a 2-D loss (timestep, variable).

        Raises:
            ValueError: there is no result yet, a loss of more than two dimensions, or labels that do not
                match its shape. KeyError: a parameter that is not in the dict.
        """
        import pandas as pd

        jacobian = self._given(jacobian_dict)
        if not jacobian:
            return pd.DataFrame()
        order, shape = _checked(jacobian, param_order)
        index = _row_index(shape, timesteps, variable_names)
        columns = {name: jacobian[name].flatten().detach().cpu().numpy() for name in order}
        return pd.DataFrame(columns, index=index)


def _checked(
    jacobian: Mapping[str, torch.Tensor], param_order: Sequence[str] | None
) -> tuple[list[str], torch.Size]:
    order = list(jacobian if param_order is None else param_order)
    if not order:
        raise ValueError("param_order names no parameter.")
    for name in order:
        if name not in jacobian:
            raise KeyError(
                f"Parameter {name} not found in jacobian dict. There are: {', '.join(jacobian)}."
            )
    shape = jacobian[order[0]].shape
    for name in order:
        if jacobian[name].shape != shape:
            raise ValueError(
                f"Incompatible loss structure: parameter {name} has shape {jacobian[name].shape}, "
                f"expected {shape}"
            )
    return order, shape


def _row_index(shape: torch.Size, timesteps: int | None, names: Sequence[str] | None) -> Any:
    import pandas as pd

    if len(shape) == 0:
        return pd.Index(["loss"], name="element")
    if len(shape) == 1:
        if names is not None:
            index = pd.Index(list(names), name="variable")
        elif timesteps is not None:
            index = pd.RangeIndex(timesteps, name="timestep")
        else:
            return pd.RangeIndex(shape[0], name="element")
        labelled = (len(index),)
    elif len(shape) == 2:
        rows = shape[0] if timesteps is None else timesteps
        labels = [f"var_{i}" for i in range(shape[1])] if names is None else list(names)
        index = pd.MultiIndex.from_product([range(rows), labels], names=["timestep", "variable"])
        labelled = (rows, len(labels))
    else:
        raise ValueError(f"Unsupported loss shape: {tuple(shape)}; at most (timestep, variable).")
    if labelled != tuple(shape):
        raise ValueError(
            f"Incompatible loss structure: timesteps {timesteps} and variable names {names} do not "
            f"match shape {tuple(shape)}"
        )
    return index
