"""How a program travels to another process: once as bytes, and there it is one object."""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from .._model import Model
from .._record import Record, resized_class


class _Ours:
    """What pickle does not know by itself of what models are made of."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is MappingProxyType:
            return _read_only, (dict(thing),)
        if isinstance(thing, Model) and _is_registered(thing):
            return _registered, (thing.name,)
        if inspect.isclass(thing) and issubclass(thing, Record) and not _is_importable(thing):
            base, steps = thing._made_of()
            if steps:  # as its instances go
                return resized_class, (base, steps)
            own = {
                name: value
                for name, value in vars(thing).items()
                if not (name.startswith("__") or hasattr(Record, name) or name in thing.fields)
            }
            return _declared, (thing.__name__, thing.__module__, dict(thing.fields), own)
        inherited: Any = getattr(super(), "reducer_override", None)
        return NotImplemented if inherited is None else inherited(thing)


class _Plain(_Ours, pickle.Pickler):
    pass


def dumps(function: Callable[..., Any], *arguments: Any) -> bytes:
    """A call as bytes, for a process that runs the same versions.

    Functions and classes go by name, if the other process can import them; what a script or notebook
    defines goes by value where cloudpickle is installed.

    Raises:
        TypeError: something that cannot be sent; with what to do about it.
    """
    try:
        import cloudpickle

        class Cloud(_Ours, cloudpickle.Pickler):
            pass

        pickler = Cloud
    except ImportError:
        pickler = _Plain
    target = io.BytesIO()
    try:
        pickler(target).dump((function, arguments))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"This cannot be sent to another process ({error}). What a sweep keeps, and the model, must "
            "be functions of a module that the workers can import, or cloudpickle must be installed "
            "(pip install 'macrostat-jax[cluster]'), which sends functions of a script or notebook."
        ) from error
    return target.getvalue()


_loaded: dict[str, Any] = {}
KEPT = 8
"""How many programs a worker keeps at hand."""


def load(digest: str, content: bytes) -> Any:
    """What that call returns: one object for one digest, so that a process compiles it once."""
    found = _loaded.get(digest)
    if found is None:
        while len(_loaded) >= KEPT:
            _loaded.pop(next(iter(_loaded)), None)
        function, arguments = pickle.loads(content)
        found = _loaded.setdefault(digest, function(*arguments))
    return found


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_only(content: dict[Any, Any]) -> Any:
    return MappingProxyType(content)


def _is_registered(model: Model) -> bool:
    from .. import models

    return model.name in models.names() and models.get(model.name) is model


def _registered(name: str) -> Model:
    from .. import models

    return models.get(name)


def _is_importable(cls: type) -> bool:
    """Whether a process that is not this script finds the class under its name."""
    if cls.__module__ == "__main__" or cls.__module__ not in sys.modules:
        return False
    found: Any = sys.modules[cls.__module__]
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


def _declared(name: str, module: str, fields: dict[str, Any], own: dict[str, Any]) -> type[Record]:
    """A record declared anew, with methods of its own. JAX registers a record by its fields as it is
    declared, so that copying a bare class and its attributes would not do."""
    annotations = dict.fromkeys(fields, Any)
    about = {"__annotations__": annotations, "__module__": module}
    return type(name, (Record,), {**own, **about, **fields})
