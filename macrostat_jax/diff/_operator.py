"""A linear map between labelled spaces, known by its products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._labelled import Jacobian
from ._spaces import Space

if TYPE_CHECKING:
    import lineax
    import pandas as pd
    import xarray as xr

Products = Callable[[Any], Any]
"""Of K directions at once: (K, n) -> (K, m)."""


class Operator:
    """A linear map from named arrays to named arrays. Made by `linear_operator` and its like.

    A product takes a mapping from labels to arrays (a number fills its array, what is not named is
    zero) and returns one; or it takes a flat vector in the order of the labels and returns one.

    Operators of matching spaces compose, `A @ B` (first B); they add, `A + B`, and scale, `2.0 * A`.
    `A.T` is the transposed one.

    Attributes:
        domain, codomain: the spaces of what it takes and gives: labels, shapes, dtype.
        at: input label -> the value at which a model was differentiated; None for other operators.
        symmetric, positive: whether it is known to be symmetric, and positive semidefinite.
    """

    def __init__(
        self,
        name: str,
        domain: Space,
        codomain: Space,
        columns: Products,
        rows: Products,
        lineax_form: Callable[[], Any],
        at: dict[str, Any] | None = None,
        symmetric: bool = False,
        positive: bool = False,
    ) -> None:
        self.name, self.domain, self.codomain, self.at = name, domain, codomain, at
        self.symmetric, self.positive = symmetric, positive
        self._columns, self._rows, self._lineax_form = columns, rows, lineax_form

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): elements of the outputs, elements of the inputs."""
        return self.codomain.size, self.domain.size

    def mv(self, vector: Any) -> Any:
        """The product with a direction of the inputs: how the outputs move. Forward mode.

        Raises:
            KeyError: an unknown label. ValueError: a wrong shape.
        """
        result = self._columns(self.domain.flat(vector)[None])[0]
        return self.codomain.unpack(result) if isinstance(vector, Mapping) else result

    def rmv(self, vector: Any) -> Any:
        """The product of the transposed operator with weights of the outputs. Reverse mode."""
        result = self._rows(self.codomain.flat(vector)[None])[0]
        return self.domain.unpack(result) if isinstance(vector, Mapping) else result

    def to_dense(self, *, mode: str = "auto", chunk: int | None = None) -> np.ndarray:
        """The matrix (m, n).

        Args:
            mode: `"forward"` (n products), `"reverse"` (m products), or `"auto"`: the fewer.
            chunk: how many products at a time, which bounds the memory beside the matrix itself; None
                is all of them.

        Raises:
            ValueError: an unknown mode, or a chunk below 1.
        """
        if mode not in ("auto", "forward", "reverse"):
            raise ValueError(f"Unknown mode {mode!r}. There are: auto, forward, reverse.")
        rows, columns = self.shape
        forward = mode == "forward" or (mode == "auto" and columns <= rows)
        products, count = (self._columns, columns) if forward else (self._rows, rows)
        dtype = (self.domain if forward else self.codomain).dtype
        # Transposed views, not copies: a matrix can be the largest thing here.
        dense = np.empty((count, rows if forward else columns), dtype)
        for start, width in chunks(count, chunk):
            directions = np.zeros((width, count), dtype)
            stop = min(start + width, count)
            directions[np.arange(stop - start), np.arange(start, stop)] = 1.0
            dense[start:stop] = np.asarray(products(directions))[: stop - start]
        return dense.T if forward else dense

    def to_jacobian(self, *, mode: str = "auto", chunk: int | None = None) -> Jacobian:
        """The matrix as a labelled `Jacobian`. Arguments as `to_dense`.

        Raises:
            TypeError: an operator that does not take a model's inputs, such as a transposed one.
        """
        model, inputs = self.domain.model, self.domain.inputs
        if model is None or inputs is None:
            raise TypeError(
                f"{self.name} takes {self.domain}, which are not the inputs of one model: use "
                "to_pandas() or to_dense()."
            )
        rows, columns = self.shape
        forward = mode == "forward" or (mode == "auto" and columns <= rows)
        dense = self.to_dense(mode=mode, chunk=chunk)
        values, at = {}, 0
        for block in self.codomain.blocks:
            part = self.domain.unpack(dense[at : at + block.size])
            values[block.label] = {
                label: array.reshape((*block.shape, *array.shape[1:]))
                for label, array in part.items()
            }
            at += block.size
        return Jacobian(model, inputs, values, "forward" if forward else "reverse", self.at or {})

    def to_pandas(self, **given: Any) -> pd.DataFrame:
        """The matrix as a table: a row per element of the outputs, a column per element of the inputs."""
        import pandas as pd

        dense = self.to_dense(**given)
        return pd.DataFrame(dense, index=self.codomain.slots(), columns=self.domain.slots())

    def to_xarray(self, **given: Any) -> xr.DataArray:
        """The matrix with the dimensions (output, input)."""
        import xarray as xr

        coords = {"output": self.codomain.slots(), "input": self.domain.slots()}
        return xr.DataArray(self.to_dense(**given), coords, ("output", "input"), name=self.name)

    def as_lineax(self) -> lineax.AbstractLinearOperator:
        """The same operator for `lineax`: its solvers, its compositions.

        It takes and gives flat vectors, and knows if it is symmetric or positive semidefinite.
        """
        import lineax

        form = self._lineax_form()
        if self.symmetric:
            form = lineax.TaggedLinearOperator(form, lineax.symmetric_tag)
        if self.positive:
            form = lineax.TaggedLinearOperator(form, lineax.positive_semidefinite_tag)
        return form

    @property
    def T(self) -> Operator:
        if self.symmetric:
            return self
        return Operator(
            f"{self.name}.T",
            self.codomain,
            self.domain,
            self._rows,
            self._columns,
            lambda: self._lineax_form().T,
        )

    def relabel(
        self, outputs: Mapping[str, str] | None = None, inputs: Mapping[str, str] | None = None
    ) -> Operator:
        """The same operator under other labels, {old: new}: for the outputs of one to be the inputs of
        another, as in `supply @ demand.relabel({"output": "scenario.orders"})`."""
        return Operator(
            self.name,
            self.domain.relabelled(inputs) if inputs else self.domain,
            self.codomain.relabelled(outputs) if outputs else self.codomain,
            self._columns,
            self._rows,
            self._lineax_form,
            self.at,
        )

    def __matmul__(self, other: Operator) -> Operator:
        if not isinstance(other, Operator):
            raise TypeError(
                f"@ composes operators; for a product with {type(other).__name__} use mv."
            )
        if not self.domain.same_as(other.codomain):
            raise ValueError(
                f"{self.name} takes ({self.domain}), {other.name} gives ({other.codomain}): they do "
                "not compose. See relabel."
            )
        return Operator(
            f"{self.name} @ {other.name}",
            other.domain,
            self.codomain,
            lambda v: self._columns(other._columns(v)),
            lambda w: other._rows(self._rows(w)),
            lambda: self._lineax_form() @ other._lineax_form(),
            other.at,
        )

    def __add__(self, other: Operator) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        if not (self.domain.same_as(other.domain) and self.codomain.same_as(other.codomain)):
            raise ValueError(
                f"{self.name} maps ({self.domain}) to ({self.codomain}), {other.name} ({other.domain}) "
                f"to ({other.codomain}): they do not add."
            )
        return Operator(
            f"({self.name} + {other.name})",
            self.domain,
            self.codomain,
            lambda v: self._columns(v) + other._columns(v),
            lambda w: self._rows(w) + other._rows(w),
            lambda: self._lineax_form() + other._lineax_form(),
            self.at,
            self.symmetric and other.symmetric,
            self.positive and other.positive,
        )

    def __rmul__(self, factor: float) -> Operator:
        if np.ndim(factor) != 0:
            raise ValueError(f"An operator is scaled by a number, not by {np.shape(factor)}.")
        return Operator(
            f"{factor} * {self.name}",
            self.domain,
            self.codomain,
            lambda v: factor * self._columns(v),
            lambda w: factor * self._rows(w),
            lambda: factor * self._lineax_form(),
            self.at,
            self.symmetric,
            self.positive and bool(np.asarray(factor >= 0)),
        )

    __mul__ = __rmul__

    def __repr__(self) -> str:
        rows, columns = self.shape
        return (
            f"Operator {self.name}, {rows:,} x {columns:,}\n  takes {self.domain}\n"
            f"  gives {self.codomain}"
        )


def chunks(count: int, chunk: int | None) -> list[tuple[int, int]]:
    """(start, width) of chunks of equal width, so that they share a compiled program."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"A chunk is at least one product, not {chunk}.")
    width = max(count if chunk is None else min(chunk, count), 1)
    return [(start, width) for start in range(0, count, width)]
