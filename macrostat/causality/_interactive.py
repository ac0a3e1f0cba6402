"""The causal graph as a page in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from macrostat_jax import causal_graph

if TYPE_CHECKING:
    import pandas as pd


def elements(matrix: pd.DataFrame) -> list[dict[str, Any]]:
    """The graph as Cytoscape takes it: nodes, of the class of their kind, and edges."""
    nodes = [
        {"data": {"id": f"{kind}:{name}", "label": name}, "classes": kind}
        for kind, name in matrix.index
    ]
    edges = causal_graph.edge_list(matrix)
    pairs = zip(edges["source"], edges["target"], strict=True)
    return [*nodes, *({"data": {"source": a, "target": b}} for a, b in pairs)]


def stylesheet(node_styles: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """The styles of edges and of each kind of node; what is selected stands out."""
    node = {"label": "data(label)", "font-size": "10px", "border-width": 1, "shape": "ellipse"}
    edge = {"curve-style": "bezier", "target-arrow-shape": "triangle", "width": 1}
    kinds = [{"selector": f".{kind}", "style": dict(s)} for kind, s in node_styles.items()]
    return [
        {"selector": "node", "style": node},
        {"selector": "edge", "style": edge},
        *kinds,
        {"selector": ":selected", "style": {"line-color": "red", "border-width": 4}},
    ]


def app(matrix: pd.DataFrame, node_styles: Mapping[str, Mapping[str, str]], title: str) -> Any:
    """The page, as a Dash app.

    Raises:
        ImportError: dash or dash-cytoscape is not installed.
    """
    try:
        import dash  # pyright: ignore[reportMissingImports]
        import dash_cytoscape  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "The interactive graph needs dash and dash-cytoscape: pip install dash dash-cytoscape. "
            "plot_graph draws the graph without them."
        ) from error
    page = dash.Dash(title)
    graph = dash_cytoscape.Cytoscape(
        id="graph",
        elements=elements(matrix),
        stylesheet=stylesheet(node_styles),
        layout={"name": "breadthfirst", "directed": True},
        style={"width": "100%", "height": "90vh"},
    )
    page.layout = dash.html.Div([dash.html.H3(title), graph])
    return page
