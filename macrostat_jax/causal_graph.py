"""The causal graph of a model: who determines whom, as a matrix, a list, cycles and pictures.

A node is a pair (kind, name): `("params", "tax_rate")`, `("prior", "wealth")`, `("state", "income")`.
The matrix has a 1 where the node of the row goes into the node of the column, and all pictures are
made from it, so that it may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._model import Model
from .causality import direct_dependencies

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Node = tuple[str, str]
Edge = tuple[Node, Node]

COLOURS = {
    "state": "lightblue",
    "parameters": "lightgreen",
    "params": "lightgreen",
    "scenario": "lightyellow",
    "prior": "lightpink",
    "hyper": "lavender",
    "key": "lavender",
    "noise": "lavender",
    "history": "lightgray",
}
"""Kind of node -> colour of its box in `picture`."""


def adjacency(model: Model, by: Literal["code", "equations"] = "code") -> pd.DataFrame:
    """The causal graph of a model.

    Args:
        model: the model.
        by: `"code"`, exactly, from the trace of its step; or `"equations"`, as they are declared:
            these may be circular (see `macrostat_jax.causality.direct_dependencies`).

    Returns:
        As `from_edges`, with every variable among the nodes. A random model's key is the node
        `("key", "key")`.
    """
    found = direct_dependencies(model, by)
    edges = [(_node(source), ("state", key)) for key in found for source in found[key]]
    return from_edges(edges, [("state", key) for key in found])


def _node(source: str) -> Node:
    kind, _, key = source.partition(".")
    return ("state" if kind == "now" else kind, key or kind)


def from_edges(edges: Iterable[Edge], nodes: Iterable[Node] = ()) -> pd.DataFrame:
    """The matrix of a graph: 1.0 where the row's node goes into the column's, else 0.0.

    Args:
        edges: pairs of source and target.
        nodes: further nodes.

    Returns:
        A square frame; rows and columns are the nodes in alphabetical order, in levels
        (source_type, source_name) and (target_type, target_name).
    """
    import pandas as pd

    pairs = list(edges)
    labels = sorted({node for pair in pairs for node in pair}.union(nodes))
    at = {node: i for i, node in enumerate(labels)}
    values = np.zeros((len(labels), len(labels)))
    for source, target in pairs:
        values[at[source], at[target]] = 1.0
    rows, columns = (
        pd.MultiIndex.from_arrays(
            [[node[0] for node in labels], [node[1] for node in labels]],
            names=[f"{side}_type", f"{side}_name"],
        )
        for side in ("source", "target")
    )
    return pd.DataFrame(values, rows, columns)


def edge_list(matrix: pd.DataFrame) -> pd.DataFrame:
    """The edges: source_type, source_name, target_type, target_name, weight, source, target.

    The last two are the nodes as text, `"prior:Wealth"`.
    """
    import pandas as pd

    values = matrix.to_numpy()
    table = [
        (*source, *target, values[i, j], ":".join(source), ":".join(target))
        for i, source in enumerate(matrix.index)
        for j, target in enumerate(matrix.columns)
        if values[i, j]
    ]
    columns = ["source_type", "source_name", "target_type", "target_name", "weight"]
    return pd.DataFrame(table, columns=[*columns, "source", "target"])


def to_networkx(matrix: pd.DataFrame) -> nx.DiGraph:
    """The graph as networkx has it; a node is the text `"prior:Wealth"`, its attribute kind `"prior"`.

    Raises:
        ImportError: networkx is not installed.
    """
    try:
        import networkx as nx
    except ImportError as error:
        raise ImportError("Causal graphs need networkx: pip install networkx.") from error
    graph = nx.DiGraph()
    graph.add_nodes_from((":".join(node), {"kind": node[0]}) for node in matrix.index)
    edges = edge_list(matrix)
    graph.add_edges_from(zip(edges["source"], edges["target"], strict=True))
    return graph


def cycles(matrix: pd.DataFrame) -> list[list[str]]:
    """What determines itself within a period: every elementary cycle, the shortest first.

    In large simultaneous systems there may be very many; `circular` finds the nodes concerned at once.

    Returns:
        Cycles as lists of nodes (`"state:Wealth"`), each starting with its first name in the alphabet.

    Raises:
        ImportError: networkx is not installed.
    """
    import itertools

    graph = to_networkx(matrix)
    import networkx as nx

    found = []
    for cycle in nx.simple_cycles(graph):
        first = cycle.index(min(cycle))
        found.append(list(itertools.chain(cycle[first:], cycle[:first])))
    return sorted(found, key=lambda cycle: (len(cycle), cycle))


def circular(matrix: pd.DataFrame) -> list[list[str]]:
    """The groups of nodes that determine each other within a period (strongly connected)."""
    from scipy.sparse.csgraph import connected_components

    values = matrix.to_numpy()
    _, groups = connected_components(values, directed=True, connection="strong")
    found: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    members = [group for group in found.values() if len(group) > 1 or values[group[0], group[0]]]
    return [[":".join(matrix.index[i]) for i in group] for group in members]


def trophic_levels(matrix: pd.DataFrame) -> np.ndarray:
    """How far down the chain of causes each node is: 0 for what nothing determines, then upward.

    On average, an edge climbs as near to one level as it can, in least squares: the definition for
    graphs with cycles of MacKay, Johnson and Sansom (2020), *How directed is a directed network?*
    """
    values = matrix.to_numpy()
    given, taken = values.sum(axis=1), values.sum(axis=0)
    laplacian = np.diag(given + taken) - values - values.T
    levels = np.linalg.lstsq(laplacian, taken - given, rcond=None)[0]
    from scipy.sparse.csgraph import connected_components

    _, parts = connected_components(values, directed=False)
    for part in range(parts.max(initial=-1) + 1):
        levels[parts == part] -= levels[parts == part].min()
    return levels


def heatmap(matrix: pd.DataFrame, axes: Axes) -> None:
    """Draws the matrix: sources that are used, targets that are determined, causes first."""
    values, levels = matrix.to_numpy(), trophic_levels(matrix)
    order = np.lexsort((np.arange(len(levels)), np.round(levels, 9)))
    rows = [i for i in order if values[i].any()]
    columns = [i for i in order if values[:, i].any()]
    axes.imshow(values[np.ix_(rows, columns)], cmap="Greys", vmin=0, vmax=1, aspect="auto")
    texts = ["\n".join(node) for node in matrix.index]
    axes.set_xticks(range(len(columns)), [texts[i] for i in columns], rotation=90, fontsize=7)
    flat = [": ".join(node) for node in matrix.index]
    axes.set_yticks(range(len(rows)), [flat[i] for i in rows], fontsize=7)
    axes.set_xlabel("Target Variables")
    axes.set_ylabel("Source Variables")


def picture(matrix: pd.DataFrame, colours: Mapping[str, str] = COLOURS) -> Figure:
    """The graph, causes on the left, as a figure that no window knows of.

    Args:
        matrix: from `adjacency` or `from_edges`.
        colours: kind of node -> colour.
    """
    from matplotlib.figure import Figure

    levels = trophic_levels(matrix)
    places = _places(levels)
    height = max(places[:, 1].max(initial=0) + 1, 4)
    figure = Figure(figsize=(3 + 2.6 * levels.max(initial=0), 0.5 * height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    for i, j in np.argwhere(matrix.to_numpy()):
        style: dict[str, Any] = {"arrowstyle": "-|>", "color": "0.6", "shrinkA": 14, "shrinkB": 14}
        style["connectionstyle"] = "arc3,rad=0.08"
        axes.annotate("", tuple(places[j]), tuple(places[i]), arrowprops=style)
    for (kind, name), place in zip(matrix.index, places, strict=True):
        box = {"boxstyle": "round", "facecolor": colours.get(kind, "white"), "edgecolor": "0.5"}
        axes.text(place[0], place[1], name, ha="center", va="center", fontsize=7, bbox=box)
    axes.set_xlim(-0.5, levels.max(initial=0) + 0.5)
    axes.set_ylim(-1, height)
    kinds = dict.fromkeys(kind for kind, _ in matrix.index)
    for kind in kinds:
        axes.scatter([], [], c=colours.get(kind, "white"), edgecolors="0.5", label=kind)
    if kinds:
        figure.legend(loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=8)
    return figure


def _places(levels: np.ndarray) -> np.ndarray:
    """Positions (level, height) at which nodes of about the same level are on top of each other."""
    places = np.zeros((len(levels), 2))
    places[:, 0] = levels
    columns = np.round(levels).astype(int)
    most = np.bincount(columns).max(initial=0) if len(levels) else 0
    for column in np.unique(columns):
        members = np.flatnonzero(columns == column)
        members = members[np.argsort(levels[members], kind="stable")]
        places[members, 1] = (np.arange(len(members)) + 0.5) * most / len(members)
    return places
