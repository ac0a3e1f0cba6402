"""Short texts that stand for arrays and for code: equal texts, equal results."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def of_array(array: Any) -> str:
    """`float64(256, 3) 1f0c...`: dtype, shape and digest of the values."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    return f"{array.dtype}{array.shape} {digest}"


def of_code(*functions: Callable[..., Any] | None) -> str:
    """A digest of what functions do: their code, and the functions and constants that they use of the
    module that they stand in. Comments and line numbers do not count; other modules are not followed.
    """
    digest = hashlib.sha256()
    seen: set[int] = set()
    for function in functions:
        _feed(digest.update, function, seen)
    return digest.hexdigest()[:16]


def of_class(cls: type, base: type) -> str:
    """A digest of all methods that `cls` adds to its ancestor `base`."""
    own = [one for one in cls.__mro__ if not issubclass(base, one)]
    members = [member for one in own for member in vars(one).values()]
    functions = [getattr(member, "__func__", member) for member in members]
    return of_code(*(f for f in functions if isinstance(f, types.FunctionType)))


def _feed(take: Callable[[bytes], Any], value: Any, seen: set[int]) -> None:
    while isinstance(value, functools.partial):
        for given in (*value.args, *sorted(value.keywords.items())):
            _feed(take, given, seen)
        value = value.func
    function = inspect.unwrap(value) if callable(value) else value
    if not isinstance(function, types.FunctionType):
        take(_described(value).encode())
        return
    if id(function) in seen:
        return
    seen.add(id(function))
    names = _feed_code(take, function.__code__)
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        _feed(take, default, seen)
    for cell in function.__closure__ or ():
        try:
            _feed(take, cell.cell_contents, seen)
        except ValueError:  # a name that is not bound yet
            continue
    for name in names:
        used = function.__globals__.get(name)
        here = isinstance(used, types.FunctionType) and used.__module__ == function.__module__
        if here or _is_plain(used) or hasattr(used, "__array__"):
            _feed(take, used, seen)


def _feed_code(take: Callable[[bytes], Any], code: types.CodeType) -> list[str]:
    """Takes the code, nested functions included; returns the names that it looks up."""
    names = list(code.co_names)
    take(code.co_code)
    take(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _feed_code(take, constant)
        else:
            take(_described(constant).encode())
    return names


def _described(value: Any) -> str:
    if isinstance(value, frozenset):  # a set has no order of its own
        return repr(sorted(map(repr, value)))
    if hasattr(value, "__array__") and not isinstance(value, type):
        return of_array(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [
            f"{f.name}={_described(getattr(value, f.name))}" for f in dataclasses.fields(value)
        ]
        return f"{type(value).__qualname__}({', '.join(parts)})"
    if isinstance(value, tuple | list) and not _is_plain(value):
        return f"{type(value).__qualname__}({', '.join(map(_described, value))})"
    return repr(value) if _is_plain(value) else type(value).__qualname__


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)
