"""The dict that Jacobians return, with what is needed to compare it with another one."""

from __future__ import annotations

from typing import Any

import torch


class JacobianResult(dict[str, torch.Tensor]):
    """Parameter name -> derivative. An ordinary dict, which also knows of the model's parameters:

    Attributes:
        derived: names of parameters that a constraint derives from others.
        data: names of data parameters (tensors read from files).
        slots: declared scalar name -> (tensor name, index in the tensor): `S1.LabourProductivity` is
            element 0 of `LabourProductivity`.
    """

    def __init__(
        self,
        values: dict[str, torch.Tensor],
        derived: frozenset[str] = frozenset(),
        data: frozenset[str] = frozenset(),
        slots: dict[str, tuple[str, tuple[int, ...]]] | None = None,
    ) -> None:
        super().__init__(values)
        self.derived, self.data, self.slots = derived, data, slots or {}

    def by_scalar(self) -> dict[str, torch.Tensor]:
        """The same derivatives by declared scalar name, sector tensors taken apart."""
        if not any(tensor in self for tensor, _ in self.slots.values()):
            return dict(self)
        taken = {tensor for tensor, _ in self.slots.values()}
        scalars = {
            name: self[tensor][(..., *index)]
            for name, (tensor, index) in self.slots.items()
            if tensor in self
        }
        return {**scalars, **{name: value for name, value in self.items() if name not in taken}}

    def expected_absent(self, name: str) -> str | None:
        """Why the other kind of Jacobian lacks `name`, if that is as it should be."""
        if name in self.derived:
            return "derived by a constraint"
        if name in self.data:
            return "a data parameter"
        return None


def describe(model: Any) -> dict[str, Any]:
    """The parameters of a model as `JacobianResult` wants them."""
    parameters = model.parameters
    resolver = parameters.get_constraint_resolver()
    slots = {}
    for name in parameters.values:
        if name in resolver:
            place = resolver.locate(name)
            index = place.index
            index = () if index is None else index if isinstance(index, tuple) else (index,)
            slots[name] = (place.tensor_key, index)
    derived = frozenset(c.derived_param for c in parameters.get_constraints())
    return {"derived": derived, "data": frozenset(parameters.data), "slots": slots}
