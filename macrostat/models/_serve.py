"""The modules `macrostat.models.NAME`, made when they are first imported.

For a registered model: the package `macrostat.models.NAME` and its submodules `behavior`,
`parameters`, `scenarios`, `variables` and `name` (the model itself), none of which is a file. For a
model in a directory of the user's: its own package of files, under the same kind of name.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._conventions import EXTENSIONS

if TYPE_CHECKING:
    from macrostat_jax import Model as Definition

    from ..core import Behavior, Model, Parameters, Scenarios, Variables

PACKAGE = "macrostat.models"
COMPONENTS = ("behavior", "parameters", "scenarios", "variables")


class ModelClasses(NamedTuple):
    """The classes of a model."""

    Behavior: type[Behavior]
    Parameters: type[Parameters]
    Scenarios: type[Scenarios]
    Variables: type[Variables]
    Model: type[Model]


def registered() -> tuple[str, ...]:
    """The names of the library's models."""
    from macrostat_jax import models

    return models.names()


class Finder(importlib.abc.MetaPathFinder):
    """Answers for `macrostat.models.NAME` and below, where NAME is a model; for nothing else."""

    def __init__(self) -> None:
        self.directories: dict[str, Path] = {}
        """Model -> the directory of its package, for models of the user's own."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{PACKAGE}."):
            return None
        name, _, part = fullname.removeprefix(f"{PACKAGE}.").partition(".")
        if name in self.directories:
            return None if part else _file_spec(fullname, self.directories[name])
        if name.startswith("_") or name not in registered():
            return None
        if part and part not in (*COMPONENTS, name.lower()):
            return None
        return importlib.machinery.ModuleSpec(
            fullname, Loader(name), origin=f"the model {name}", is_package=not part
        )

    def serve_directory(self, name: str, directory: Path) -> None:
        """Makes `macrostat.models.NAME` the package in `directory`."""
        if self.directories.get(name) == directory:
            return
        for module in [m for m in sys.modules if f"{m}.".startswith(f"{PACKAGE}.{name}.")]:
            del sys.modules[module]
        self.directories[name] = directory


def _file_spec(fullname: str, directory: Path) -> importlib.machinery.ModuleSpec | None:
    return importlib.util.spec_from_file_location(
        fullname, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )


class Loader(importlib.abc.Loader):
    """Fills a module of a registered model."""

    def __init__(self, name: str) -> None:
        self.name = name

    def exec_module(self, module: types.ModuleType) -> None:
        classes = make_classes(self.name)
        if module.__name__ == f"{PACKAGE}.{self.name}":
            for component in (*COMPONENTS, self.name.lower()):
                importlib.import_module(f"{module.__name__}.{component}")
            served = list(classes)
        else:
            served = [c for c in classes if c.__module__ == module.__name__]
        module.__doc__ = classes.Model.__doc__
        for cls in served:
            setattr(module, cls.__name__, cls)
        module.__dict__["__all__"] = [cls.__name__ for cls in served]


@functools.cache
def make_classes(name: str) -> ModelClasses:
    """The classes of a registered model, made once."""
    from macrostat_jax import models

    return derive(models.get(name))


def derive(definition: Definition) -> ModelClasses:
    """The torch classes of any declaration."""
    from . import _declared as declared
    from . import _library as library

    name = definition.name
    own = (
        importlib.import_module(f".{EXTENSIONS[name]}", __package__) if name in EXTENSIONS else None
    )

    def make(base: type, kind: str, **members: object) -> type:
        module = kind.lower() or name.lower()
        return type(
            f"{kind}{name}",
            (base,),
            {
                "__module__": f"{PACKAGE}.{name}.{module}",
                "__doc__": f"{kind} of: {definition.title}" if kind else definition.description,
                "definition": definition,
                "version": name,
                **members,
            },
        )

    parameters = make(getattr(own, "Parameters", declared.LibraryParameters), "Parameters")
    scenarios = make(
        getattr(own, "Scenarios", declared.LibraryScenarios),
        "Scenarios",
        parameters_class=parameters,
    )
    variables = make(declared.LibraryVariables, "Variables", parameters_class=parameters)
    parts = {
        "parameters_class": parameters,
        "scenarios_class": scenarios,
        "variables_class": variables,
    }
    behavior = make(getattr(own, "Behavior", library.LibraryBehavior), "Behavior", **parts)
    model = make(library.LibraryModel, "", **parts, behavior_class=behavior)
    return ModelClasses(behavior, parameters, scenarios, variables, model)


def install() -> Finder:
    """The finder on `sys.meta_path`, put there once."""
    for finder in sys.meta_path:
        if isinstance(finder, Finder):
            return finder
    finder = Finder()
    sys.meta_path.append(finder)
    return finder
