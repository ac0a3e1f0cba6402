"""The register of models. A model is imported when it is first asked for.

`models.GL06PC` is the model, `models.get("GL06PC")` the same by name, `models.names()` what there is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .eco3iopc import ECO3IOPC as ECO3IOPC
    from .gl06insout import GL06INSOUT as GL06INSOUT
    from .gl06lp import GL06LP as GL06LP
    from .gl06lp2 import GL06LP2 as GL06LP2
    from .gl06lp3 import GL06LP3 as GL06LP3
    from .gl06pc import GL06PC as GL06PC
    from .gl06pcex import GL06PCEX as GL06PCEX
    from .gl06pcex2 import GL06PCEX2 as GL06PCEX2
    from .gl06sim import GL06SIM as GL06SIM
    from .gl06simex import GL06SIMEX as GL06SIMEX
    from .iopc import IOPC as IOPC
    from .kirmansants import KirmansAnts as KirmansAnts
    from .linear2d import LINEAR2D as LINEAR2D
    from .mark0covid import Mark0COVID as Mark0COVID
    from .nk3e import NK3E as NK3E
    from .pichleretal2022dio import PichlerEtAl2022DIO as PichlerEtAl2022DIO
    from .randomwalk import RandomWalk as RandomWalk
    from .twomarketsabm import TwoMarketsABM as TwoMarketsABM

_REGISTER = {
    "LINEAR2D": "linear2d",
    "NK3E": "nk3e",
    "GL06SIM": "gl06sim",
    "GL06SIMEX": "gl06simex",
    "GL06PC": "gl06pc",
    "GL06PCEX": "gl06pcex",
    "GL06PCEX2": "gl06pcex2",
    "GL06LP": "gl06lp",
    "GL06LP2": "gl06lp2",
    "GL06LP3": "gl06lp3",
    "GL06INSOUT": "gl06insout",
    "IOPC": "iopc",
    "ECO3IOPC": "eco3iopc",
    "PichlerEtAl2022DIO": "pichleretal2022dio",
    "RandomWalk": "randomwalk",
    "KirmansAnts": "kirmansants",
    "TwoMarketsABM": "twomarketsabm",
    "Mark0COVID": "mark0covid",
}
"""Model -> the module of this package that declares it."""


def names() -> tuple[str, ...]:
    """The names of all registered models."""
    return tuple(_REGISTER)


def get(name: str) -> Any:
    """The model of that name.

    Raises:
        ValueError: with the list of what there is.
    """
    if name not in _REGISTER:
        raise ValueError(f"There is no model {name!r}. There are: {', '.join(_REGISTER)}.")
    return getattr(importlib.import_module(f".{_REGISTER[name]}", __name__), name)


def __getattr__(name: str) -> Any:
    if name in _REGISTER:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_REGISTER])
