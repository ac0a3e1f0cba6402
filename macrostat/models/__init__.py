"""The models by name.

    from macrostat.models import get_model

    model = get_model("GL06SIM")()

A library model's classes are also in `macrostat.models.NAME` and its submodules: `from
macrostat.models.GL06SIM import GL06SIM`, `from macrostat.models.GL06SIM.behavior import
BehaviorGL06SIM`. They are made from the model's declaration in `macrostat_jax.models` when they are
first imported.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from . import _serve
from ._serve import ModelClasses as ModelClasses

if TYPE_CHECKING:
    from macrostat_jax import Model as Definition

    from ..core import Model

__all__ = [
    "ModelClasses",
    "from_definition",
    "get_available_models",
    "get_model",
    "get_model_classes",
]

_finder = _serve.install()


def get_available_models(model_directory: os.PathLike | str | None = None) -> list[str]:
    """The names of the library's models, or of the models in a directory.

    A model in a directory is a folder NAME with the files `__init__.py`, `behavior.py`,
    `parameters.py`, `scenarios.py`, `variables.py` and `name.py` (its name in lower case).
    """
    if model_directory is None:
        return list(_serve.registered())
    return sorted(
        folder.name
        for folder in Path(model_directory).iterdir()
        if folder.is_dir()
        and all(
            (folder / f"{part}.py").is_file()
            for part in ("__init__", *_serve.COMPONENTS, folder.name.lower())
        )
    )


def get_model(modelname: str, model_directory: os.PathLike | str | None = None) -> type[Model]:
    """The class of a model.

    Args:
        modelname: its name.
        model_directory: where to look for a model of your own, in place of the library. Its files
            are run, as by an import, under the name `macrostat.models.NAME`.

    Raises:
        ValueError: with the list of what there is.
    """
    return get_model_classes(modelname, model_directory).Model


def get_model_classes(
    modelname: str, model_directory: os.PathLike | str | None = None
) -> ModelClasses:
    """The five classes of a model: Behavior, Parameters, Scenarios, Variables, Model.

    Arguments and errors as for `get_model`.
    """
    available = get_available_models(model_directory)
    if modelname not in available:
        raise ValueError(
            f"Invalid or unavailable model: {modelname}\nAvailable models: {', '.join(available)}"
        )
    if model_directory is not None:
        if modelname in _serve.registered():
            raise ValueError(
                f"{modelname} is the name of a library model: give the one in {model_directory} "
                f"another name."
            )
        _finder.serve_directory(modelname, (Path(model_directory) / modelname).resolve())
        importlib.invalidate_caches()

    def component(module: str, name: str) -> type:
        return getattr(importlib.import_module(f"{__name__}.{modelname}.{module}"), name)

    return ModelClasses(
        *(component(part, f"{part.capitalize()}{modelname}") for part in _serve.COMPONENTS),
        Model=component(modelname.lower(), modelname),
    )


def from_definition(definition: Definition) -> type[Model]:
    """The torch class of a model of your own that is declared in `macrostat_jax`.

        MyModel = from_definition(MY_MODEL)
        model = MyModel()

    It has the whole API of the library's models. Its instances do not pickle: no module in
    which another process could find their class holds it.

    Args:
        definition: the `macrostat_jax.Model`.

    Raises:
        TypeError: something else.
    """
    from macrostat_jax import Model as Definition

    if not isinstance(definition, Definition):
        raise TypeError(f"from_definition takes a macrostat_jax.Model, not {definition!r}.")
    return _serve.derive(definition).Model


def __getattr__(name: str) -> ModuleType:
    if not name.startswith("_") and name in _serve.registered():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_serve.registered()])
