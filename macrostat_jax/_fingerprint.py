"""Short texts that stand for arrays and for code: equal texts, equal results."""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...), range, slice)


def of_array(array: Any) -> str:
    """`float64(256, 3) 1f0c...`: dtype, shape and digest of the values."""
    array = np.ascontiguousarray(array)
    # The memory of an array of objects is their addresses.
    content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{array.dtype}{array.shape} {digest}"


def of_code(*functions: Callable[..., Any] | None) -> str:
    """A digest of what functions do: their code, and the functions, constants, collections and records that
    they use of the module that they stand in, or close over. Comments and line numbers do not count;
    classes and other modules are not followed.
    """
    digest = _Digest({_module(function) for function in functions})
    for function in functions:
        digest.feed(function)
    return digest.text


def of_class(cls: type, base: type) -> str:
    """A digest of all methods that `cls` adds to its ancestor `base`."""
    own = [one for one in cls.__mro__ if not issubclass(base, one)]
    members = [member for one in own for member in vars(one).values()]
    functions = [getattr(member, "__func__", member) for member in members]
    return of_code(*(f for f in functions if isinstance(f, types.FunctionType)))


class _Digest:
    """Takes in values, and what they are made of.

    Args:
        modules: those of the functions that are asked about. Libraries hold state that decides nothing,
            caches and loggers: of theirs, only functions, constants and arrays are taken.
    """

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._hash = hashlib.sha256()
        self._seen: dict[int, Any] = {}
        """The objects that were taken, which keeps the id of each its own."""

    @property
    def text(self) -> str:
        return self._hash.hexdigest()[:16]

    def feed(self, value: Any) -> None:
        if _is_plain(value):
            return self._take(repr(value))
        if (array := _array(value)) is not None:
            return self._take(of_array(array))
        if id(value) in self._seen:
            return self._take("again")
        self._seen[id(value)] = value
        function = _inner(value)
        if isinstance(function, types.FunctionType):
            self._feed_function(function)
        else:
            self._take(type(value).__qualname__)
            for part in self._parts(value):
                self.feed(part)

    def _take(self, text: str) -> None:
        self._hash.update(text.encode())

    def _feed_function(self, function: types.FunctionType) -> None:
        names = self._feed_code(function.__code__)
        self.feed(function.__defaults__)
        self.feed(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.feed(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                continue
        for name in names:
            if self._counts(function.__module__, used := function.__globals__.get(name)):
                self.feed(used)

    def _counts(self, module: str, used: Any) -> bool:
        """Whether what a function looks up in its module is taken."""
        if isinstance(inner := _inner(used), types.FunctionType):
            return inner.__module__ == module
        if isinstance(used, type | types.ModuleType):
            return False
        return module in self._modules or _is_plain(used) or hasattr(used, "__array__")

    def _feed_code(self, code: types.CodeType) -> list[str]:
        """Takes the code, nested functions included; returns the global names that it looks up."""
        names = [one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"]
        self._hash.update(code.co_code)
        self._take(repr((code.co_names, code.co_varnames)))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                names += self._feed_code(constant)
            else:
                self.feed(constant)
        return list(dict.fromkeys(names))

    def _parts(self, value: Any) -> Iterable[Any]:
        """What decides what an object does that is neither plain nor a function."""
        from ._model import Model

        if isinstance(value, type | types.ModuleType):
            return [value.__name__]
        if isinstance(value, functools.partial):
            return [value.args, value.keywords, value.func]
        if isinstance(value, types.MethodType):
            return [value.__func__, value.__self__]
        if isinstance(value, Model):  # not its variants, which are made as they are wanted
            return [value.name, value.initial_state, value.step, value.options]
        if isinstance(value, Mapping):
            return sorted(value.items(), key=lambda item: repr(item[0]))
        if isinstance(value, set | frozenset):  # which have no order of their own
            return sorted(map(repr, value))
        if isinstance(value, tuple | list):
            return value
        if dataclasses.is_dataclass(value):
            return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        if type(value).__module__ in self._modules:
            return sorted(getattr(value, "__dict__", {}).items())
        text = repr(value)
        return [] if hasattr(value, "__dict__") or " at 0x" in text else [text]


def _inner(value: Any) -> Any:
    """The function that a decorator has wrapped, as `jax.jit` does."""
    return inspect.unwrap(value) if callable(value) else value


def _module(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(_inner(function), "__module__", "")


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, type) or not hasattr(value, "__array__"):
        return None
    try:
        return np.asarray(value)
    except TypeError:  # a key of JAX's, which has numbers of its own
        import jax

        return np.asarray(jax.random.key_data(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)
