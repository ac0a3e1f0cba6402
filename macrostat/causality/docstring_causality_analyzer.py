"""The causal graph of a model, from what is written beside its equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from macrostat_jax import causal_graph

from ..util._docstrings import methods, sections
from .causality_analyzer import CausalityAnalyzer, declaration, declared_edges, library_behavior

if TYPE_CHECKING:
    import pandas as pd

DEPENDENCY, SETS = "Dependency", "Sets"


class DocstringCausalityAnalyzer(CausalityAnalyzer):
    """The causal graph of a model as it is documented.

    Of a behavior of your own, the docstrings of `step` and of the methods that it calls are read:

        Dependency
        ----------
        - state: DisposableIncome
        - prior: HouseholdMoneyStock
        - parameters: PropensityToConsumeIncome

        Sets
        ----
        - ConsumptionDemand

    Of a library model, the declared equations are read.

    Raises:
        ValueError: in `analyze`, where no method says what it sets, where one says what it depends on
            but not what it sets, or where the source of the class cannot be read.
    """

    def build_adjacency_matrix(self) -> pd.DataFrame:
        """The matrix; its nodes are those that the docstrings name."""
        behavior = self._behavior()
        definition = declaration(behavior)
        if definition is not None:
            variables = [("state", field.name) for field in definition.State.fields.values()]
            return causal_graph.from_edges(declared_edges(definition, "equations"), variables)
        edges: list[causal_graph.Edge] = []
        nodes: list[causal_graph.Node] = []
        for owner, method in methods(behavior, "step"):
            if owner is library_behavior():  # by super().step(...)
                edges += declared_edges(cast(Any, behavior).definition, "equations")
            sources, targets = _documented(behavior, method)
            edges += [(source, target) for source in sources for target in targets]
            nodes += targets
        if not nodes:
            raise ValueError(
                f"No docstring of {behavior.__name__}.step, or of a method that it calls, has the "
                f"sections {DEPENDENCY} and {SETS}."
            )
        return causal_graph.from_edges(edges, nodes)


def _documented(
    behavior: type, method: Callable[..., object]
) -> tuple[list[causal_graph.Node], list[causal_graph.Node]]:
    """What a docstring says that a method depends on, and what it sets."""
    found = sections(method)
    if DEPENDENCY in found and SETS not in found:
        raise ValueError(
            f"The docstring of {behavior.__name__}.{method.__name__} has the section {DEPENDENCY} but "
            f"not {SETS}."
        )
    return _items(found.get(DEPENDENCY, "")), _items(found.get(SETS, ""))


def _items(text: str) -> list[causal_graph.Node]:
    """`- kind: Name, Name` lines, which may go on in lines without a dash; without a kind: state."""
    found, kind = [], "state"
    for line in map(str.strip, text.splitlines()):
        given, colon, names = line.lstrip("-*").rpartition(":")
        if colon:
            kind = _KINDS.get(given.strip(), given.strip())
        elif line.startswith(("-", "*")):
            kind = "state"
        found += [(kind, name.strip()) for name in names.split(",") if name.strip()]
    return found


_KINDS = {"params": "parameters"}
"""Other names of kinds."""
