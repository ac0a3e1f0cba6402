"""Macroeconomic simulation and its derivatives in torch: models, their components, Jacobians.

    from macrostat.models import get_model

    model = get_model("GL06SIM")()
    results = model.simulate()

Subpackages are imported when they are first asked for: `macrostat.models`, `macrostat.core`,
`macrostat.diff`, `macrostat.estimation`, `macrostat.sample`, `macrostat.causality`, `macrostat.util`.
The models themselves are declared in `macrostat_jax`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType


def __getattr__(name: str) -> ModuleType | str:
    if name == "__version__":
        return importlib.metadata.version("macrostat-jax")
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
