"""What the docstrings of a behavior say, and which of its methods a period runs."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator

from ..core import Behavior

_UNDERLINED = re.compile(r"^(?P<title>[^\n]+)\n[ \t]*(?:-{3,}|={3,})[ \t]*$", re.MULTILINE)

DESCRIPTION = "Description"


def sections(function: Callable[..., object]) -> dict[str, str]:
    """Title -> text of the underlined sections of a docstring; what comes first is `Description`."""
    text = inspect.cleandoc(function.__doc__ or "")
    found = list(_UNDERLINED.finditer(text))
    starts = [*(match.start() for match in found), len(text)]
    result = {DESCRIPTION: text[: starts[0]].strip()}
    for match, end in zip(found, starts[1:], strict=True):
        result[match["title"].strip()] = text[match.end() : end].strip("\n").rstrip()
    return result


def methods(behavior: type[Behavior], start: str) -> Iterator[tuple[type, Callable[..., object]]]:
    """The method `start`, and the behavior's own methods that it calls, and so on, in their order.

    `self.name(...)` and `super().name(...)` are followed; what `Behavior` itself provides is not.

    Yields:
        The class that defines the method, and the method.

    Raises:
        ValueError: the source of a method cannot be read.
    """
    seen: set[Callable[..., object]] = set()

    def visit(name: str, classes: tuple[type, ...]) -> Iterator[tuple[type, Callable[..., object]]]:
        owner = next((cls for cls in classes if name in vars(cls)), None)
        function = owner and inspect.unwrap(vars(owner)[name])
        function = getattr(function, "__func__", function)  # static and class methods
        if owner is None or owner in Behavior.__mro__ or not inspect.isfunction(function):
            return
        if function in seen:
            return
        seen.add(function)
        yield owner, function
        above = behavior.__mro__[behavior.__mro__.index(owner) + 1 :]
        for by, called in _calls(behavior, function):
            yield from visit(called, above if by == "super" else behavior.__mro__)

    yield from visit(start, behavior.__mro__)


def _calls(behavior: type, function: Callable[..., object]) -> Iterator[tuple[str, str]]:
    """("self" or "super", method) of the calls in a function, in the order of its source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        raise ValueError(
            f"The source of {behavior.__name__}.{function.__name__} cannot be read, so what it calls "
            f"is not known: define the class in a file. ({error})"
        ) from error
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        match call.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                yield "self", name
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name):
                yield "super", name
