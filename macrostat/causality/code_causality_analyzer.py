"""The causal graph of a model, from its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from macrostat_jax import causal_graph

from .causality_analyzer import CausalityAnalyzer, declaration, declared_edges

if TYPE_CHECKING:
    import pandas as pd


class CodeCausalityAnalyzer(CausalityAnalyzer):
    """The causal graph of a library model by its code, exactly.

    A period is traced, and every variable is followed back to the inputs, and the variables of the same
    period, that it is computed from. Of variables that are one and the same value, the others depend
    on the one declared first. Code computes one thing after the other, so there are no cycles; what
    the equations determine together, `DocstringCausalityAnalyzer` shows.

    Raises:
        TypeError: in `analyze`, for a model whose behavior is code of your own.
    """

    def build_adjacency_matrix(self) -> pd.DataFrame:
        """The matrix; every variable is one of its nodes, whether or not it has an edge."""
        behavior = self._behavior()
        definition = declaration(behavior)
        if definition is None:
            raise TypeError(
                f"{behavior.__name__} has a period of its own in torch, which is not traced. Use "
                f"DocstringCausalityAnalyzer, or declare the model in macrostat_jax and make its "
                f"torch class with macrostat.models.from_definition."
            )
        variables = [("state", field.name) for field in definition.State.fields.values()]
        return causal_graph.from_edges(declared_edges(definition, "code"), variables)
