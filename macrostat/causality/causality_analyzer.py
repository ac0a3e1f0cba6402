"""What can be seen in a causal graph, wherever it comes from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from macrostat_jax import causal_graph

from ..core import Behavior, Model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from macrostat_jax import Model as Definition

NODE_STYLES: dict[str, dict[str, str]] = {
    "state": {"background-color": "lightblue", "border-color": "blue"},
    "parameters": {"background-color": "lightgreen", "border-color": "green"},
    "hyper": {"background-color": "lavender", "border-color": "purple"},
    "scenario": {"background-color": "lightyellow", "border-color": "yellow"},
    "prior": {"background-color": "lightpink", "border-color": "red"},
    "history": {"background-color": "lightgray", "border-color": "black"},
}


class CausalityAnalyzer:
    """The causal graph of a model, as a matrix, a list of edges, cycles and pictures.

    A subclass says in `build_adjacency_matrix` where the graph comes from. A node is a pair (kind,
    name): kinds are state, prior (the period before), parameters, scenario, hyper and history.

    Attributes:
        adjacency_matrix: what `analyze` found; None before. The other methods call `analyze` if need be.

    Args:
        model_class: a class of models, such as `get_model("GL06SIM")`.

    Raises:
        TypeError: something else.
    """

    def __init__(self, model_class: type[Model]) -> None:
        if not (isinstance(model_class, type) and issubclass(model_class, Model)):
            raise TypeError(
                f"model_class must be a class of models, such as get_model('GL06SIM') without a call "
                f"behind it, not {model_class!r}."
            )
        self.model_class = model_class
        self.adjacency_matrix: pd.DataFrame | None = None

    def analyze(self) -> pd.DataFrame:
        """Finds the graph anew.

        Returns:
            A square frame that has 1.0 where the node of the row, (source_type, source_name),
            determines the node of the column, (target_type, target_name).
        """
        self.adjacency_matrix = self.build_adjacency_matrix()
        return self.adjacency_matrix

    def build_adjacency_matrix(self) -> pd.DataFrame:
        """The matrix that `analyze` keeps."""
        raise NotImplementedError("Subclasses must implement this method")

    @property
    def _matrix(self) -> pd.DataFrame:
        return self.analyze() if self.adjacency_matrix is None else self.adjacency_matrix

    def edge_list(self) -> pd.DataFrame:
        """The edges: source_type, source_name, target_type, target_name, weight, source, target.

        The last two are the nodes as text, `"prior:Wealth"`.
        """
        return causal_graph.edge_list(self._matrix)

    def check_for_cycles(self) -> list[list[str]]:
        """What determines itself within a period.

        Returns:
            Every elementary cycle, as nodes like `"state:Wealth"`, the shortest first; none is [].

        Raises:
            ImportError: networkx is not installed.
        """
        return causal_graph.cycles(self._matrix)

    def plot_heatmap(self) -> tuple[Figure, Axes]:
        """The matrix as a picture, causes first (by trophic levels)."""
        import matplotlib.pyplot as plt

        matrix = self._matrix
        size = 3.0 + 0.16 * len(matrix)
        figure, axes = plt.subplots(figsize=(size, size), layout="constrained")
        causal_graph.heatmap(matrix, axes)
        axes.set_title(self.model_class.__name__)
        return figure, axes

    def plot_graph(self) -> Figure:
        """The graph as boxes and arrows, causes on the left; `figure.savefig("graph.svg")`."""
        return causal_graph.picture(self._matrix)

    def plot_with_cytoscape(
        self, port: int = 8050, node_styles: Mapping[str, Mapping[str, str]] = NODE_STYLES
    ) -> None:
        """Serves the graph as a page in which nodes can be moved and looked at, until interrupted.

        Args:
            port: the page is http://127.0.0.1:port.
            node_styles: kind of node -> Cytoscape's style of it.

        Raises:
            ImportError: dash or dash-cytoscape is not installed.
        """
        from . import _interactive

        app = _interactive.app(self._matrix, node_styles, self.model_class.__name__)
        app.run(port=port)

    def _behavior(self) -> type[Behavior]:
        return self.model_class().behavior


def library_behavior() -> Any:
    """The base of library behaviors; None where nothing has imported it, so that none is there."""
    library = sys.modules.get("macrostat.models._library")
    return library and library.LibraryBehavior


def declaration(behavior: type[Behavior]) -> Definition | None:
    """What a library model is made from; None where the behavior's periods are its own code."""
    known, mine = library_behavior(), cast(Any, behavior)
    if known is None or not issubclass(behavior, known) or not mine.runs_compiled():
        return None
    return mine.definition


def declared_edges(definition: Definition, by: Any) -> list[causal_graph.Edge]:
    """The edges of a library model, by the names of the torch API."""
    matrix = causal_graph.adjacency(definition, by)
    records: dict[str, Any] = {
        "params": definition.Params,
        "scenario": definition.Scenario,
        "prior": definition.State,
        "state": definition.State,
    }

    def named(kind: str, key: str) -> causal_graph.Node:
        name = records[kind].fields[key].name if kind in records else key
        return ("parameters" if kind == "params" else kind, name)

    edges = causal_graph.edge_list(matrix)
    sources = zip(edges["source_type"], edges["source_name"], strict=True)
    targets = zip(edges["target_type"], edges["target_name"], strict=True)
    return [(named(*a), named(*b)) for a, b in zip(sources, targets, strict=True)]
