"""Short texts that stand for arrays and for code: equal texts, equal results."""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import importlib.util
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...), range, slice)
_OURS = ("macrostat_jax", "macrostat", "bridge")
_MODELS = ("macrostat_jax.models", "macrostat_jax.smooth")
"""Of ours, what modellers edit; of the rest, as of libraries, the version has to say what it does."""


def of_array(array: Any) -> str:
    """`float64(256, 3) 1f0c...`: dtype, shape and digest of the values."""
    array = np.ascontiguousarray(array)
    # The memory of an array of objects is their addresses.
    content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{array.dtype}{array.shape} {digest}"


def of_code(*used: Callable[..., Any] | None) -> str:
    """A digest of what functions and classes do: their code, and whatever they use, or close over, of the
    modules that they stand in and of all others that no library holds: functions, classes with their
    methods, constants, collections, objects. Comments, docstrings and line numbers do not count.

    What is found only as the program runs is not followed: attributes by `getattr`, entries by name.
    """
    digest = _Digest({_module(one) for one in used})
    for one in used:
        digest.feed(one)
    return digest.text


def of_class(cls: type, base: type) -> str:
    """A digest of all that `cls` adds to its ancestor `base`."""
    return of_code(*(one for one in cls.__mro__ if not issubclass(base, one)))


class _Digest:
    """Takes in values, and what they are made of.

    Args:
        modules: those of the functions that are asked about. Libraries hold state that decides nothing,
            caches and loggers: of theirs, only functions, constants and arrays are taken.
    """

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}
        """Of the objects that were taken, by id, the number; and they themselves, so that no other one
        gets the id."""

    @property
    def text(self) -> str:
        return self._hash.hexdigest()[:16]

    def feed(self, value: Any) -> None:
        if _is_plain(value):
            return self._take(repr(value))
        if (array := _array(value)) is not None:
            return self._take(of_array(array))
        if id(value) in self._seen:
            return self._take(f"again {self._seen[id(value)][0]}")
        self._seen[id(value)] = len(self._seen), value
        if isinstance(value, types.FunctionType):
            self._feed_function(value)
        else:
            parts = list(self._parts(value))
            self._take(f"{type(value).__qualname__} {len(parts)}")
            for part in parts:
                self.feed(part)

    def _take(self, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        # With the length, so that 1 and 23 are not 12 and 3.
        self._hash.update(b"%d:" % len(content) + content)

    def _feed_function(self, function: types.FunctionType) -> None:
        self._feed_code(function.__code__)
        self.feed(function.__defaults__)
        self.feed(function.__kwdefaults__)
        closed: dict[str, Any] = {}
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                closed[name] = cell.cell_contents
            except ValueError:  # a name that is not bound yet
                continue
            self.feed(closed[name])
        for used in _looked_up(function.__code__, function.__globals__, closed):
            if self._counts(function.__module__, used):
                self.feed(used.value)

    def _feed_code(self, code: types.CodeType) -> None:
        """Takes the code, nested functions included."""
        self._take(code.co_code)
        self._take(repr((code.co_names, code.co_varnames)))
        for one in dis.get_instructions(code):
            if one.opcode in dis.hasconst:
                if isinstance(one.argval, types.CodeType):
                    self._feed_code(one.argval)
                else:
                    self.feed(one.argval)

    def _counts(self, module: str, used: _Used) -> bool:
        """Whether what a function of a module looks up is taken."""
        value, origin = used.value, used.module or module
        if isinstance(value, types.ModuleType):
            return False
        if isinstance(value, type):
            return self._followed(value.__module__)
        if isinstance(inner := _inner(value), types.FunctionType):
            beside = used.module is None and inner.__module__ == module
            return beside or self._followed(inner.__module__)
        if self._followed(origin):
            return True
        return used.module is None and (_is_plain(value) or hasattr(value, "__array__"))

    def _followed(self, module: str | None) -> bool:
        return module in self._modules or not _is_library(module)

    def _parts(self, value: Any) -> Iterable[Any]:
        """What decides what an object does that is neither plain nor a function."""
        from ._model import Model

        if isinstance(value, type):
            return self._members(value)
        if isinstance(value, types.ModuleType):
            return [value.__name__]
        if isinstance(value, functools.partial):
            return [value.args, value.keywords, value.func]
        if isinstance(value, types.MethodType):
            return [value.__func__, value.__self__]
        if isinstance(value, classmethod | staticmethod):
            return [value.__func__]
        if isinstance(value, property):
            return [value.fget, value.fset]
        if isinstance(value, functools.cached_property):
            return [value.func]
        if isinstance(value, Model):  # not its variants, which are made as they are wanted
            kinds = [value.Params, value.Scenario, value.State, value.Noise]
            return [value.name, value.initial_state, value.step, value.options, *kinds]
        kind = [type(value)] if self._followed(type(value).__module__) else []
        if isinstance(value, Mapping):
            return [*kind, *sorted(value.items(), key=lambda item: repr(item[0]))]
        if isinstance(value, set | frozenset):  # which have no order of their own
            return sorted(map(repr, value))
        if isinstance(value, tuple | list):
            return [*kind, *value]
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            return [*kind, *((field.name, getattr(value, field.name)) for field in fields)]
        if kind:
            return [*kind, *sorted(_state(value).items())]
        if (
            inner := _inner(value)
        ) is not value:  # as jax.jit makes it; with rules of differentiation
            return [inner, *(getattr(value, rule, None) for rule in ("jvp", "fwd", "bwd"))]
        text = repr(value)
        return [] if hasattr(value, "__dict__") or " at 0x" in text else [text]

    def _members(self, cls: type) -> Iterable[Any]:
        """The name of a class; of one that is followed, what its body and its bases define, too."""
        from ._record import Record

        if not self._followed(cls.__module__):
            return [cls.__name__]
        defines = (types.FunctionType, classmethod, staticmethod, property)
        own = [
            (name, member)
            for name, member in sorted(vars(cls).items())
            if isinstance(member, defines) or not (name.startswith("__") and name.endswith("__"))
        ]
        if issubclass(cls, Record):
            # Its fields are symbols and units: what they hold is an input.
            own = [(name, member) for name, member in own if not hasattr(Record, name)]
        return [cls.__name__, *cls.__bases__, *own]


class _Used(NamedTuple):
    """What code looks up by name: a global, or an attribute of a module."""

    value: Any
    module: str | None = None


def _looked_up(
    code: types.CodeType, names: Mapping[str, Any], closed: Mapping[str, Any]
) -> Iterator[_Used]:
    """What a code looks up outside of itself, nested functions included; of modules, what it takes of
    them (`helpers.rates.of(x)`), and what it imports itself."""
    found: Any = None
    before: deque[Any] = deque(maxlen=2)
    for one in dis.get_instructions(code):
        if one.opname == "EXTENDED_ARG":
            continue
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            found = names.get(one.argval)
            yield _Used(found)
        elif one.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
            found = closed.get(one.argval)
        elif one.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(found, types.ModuleType):
            module, found = found.__name__, _attribute(found, one.argval)
            yield _Used(found, module)
        elif one.opname == "IMPORT_NAME":
            found = _imported(one.argval, before[0].argval, names)
            if found is not None:  # under which name it is used, only the run would tell
                there = [name for name in code.co_names if name in vars(found)]
                yield from (_Used(vars(found)[name], found.__name__) for name in there)
        else:
            found = None
        if one.opcode in dis.hasconst and isinstance(one.argval, types.CodeType):
            yield from _looked_up(one.argval, names, closed)
        before.append(one)


def _attribute(module: types.ModuleType, name: str) -> Any:
    """What a module has under a name. Libraries are asked for nothing that they load only then."""
    if name in vars(module) or _is_library(module.__name__):
        return vars(module).get(name)
    return getattr(module, name, None)


def _imported(name: str, level: int, names: Mapping[str, Any]) -> types.ModuleType | None:
    """A module that a function imports, once it has done so."""
    package = names.get("__package__") or ""
    try:
        return sys.modules.get(importlib.util.resolve_name("." * level + name, package))
    except ImportError:  # beyond the top of its package
        return None


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib"))


def _is_library(module: str | None) -> bool:
    """Whether a module is installed, Python's or ours, so that a version says what it does."""
    top = (module or "").partition(".")[0]
    if top in _OURS:
        return not f"{module}.".startswith(tuple(f"{one}." for one in _MODELS))
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:  # a notebook, or a function made of text; or compiled into Python
        return top in sys.stdlib_module_names and top != "__main__"
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.resolve().is_relative_to(folder) for folder in _library_folders())


def _state(value: Any) -> dict[str, Any]:
    """The attributes of an object, without those that it computes when they are first asked for."""
    state: Any = object.__getstate__(value)
    parts = state if isinstance(state, tuple) else (state,)
    found = {name: one for part in parts for name, one in (part or {}).items()}
    late = functools.cached_property
    return {k: v for k, v in found.items() if not isinstance(getattr(type(value), k, None), late)}


def _inner(value: Any) -> Any:
    """The function that a library has wrapped in an object of its own, as `jax.jit` does."""
    while not isinstance(value, types.FunctionType) and callable(value):
        inner = getattr(value, "__wrapped__", value)
        if inner is value:
            break
        value = inner
    return value


def _module(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(_inner(function), "__module__", "")


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, type) or not hasattr(value, "__array__"):
        return None
    try:
        return np.asarray(value)
    except TypeError:
        import jax

        if not isinstance(value, jax.Array):  # a dataset of xarray
            return None
        return np.asarray(jax.random.key_data(value))


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)
