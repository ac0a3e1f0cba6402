"""Documentation of a model, made from the model."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from macrostat_jax import _document
from macrostat_jax._document import Block, Code, Equation, Heading, Picture, Text

from ..core import Behavior
from ._docstrings import DESCRIPTION, methods, sections

STYLES = ("latex", "rst", "markdown")
_PARTS = {"initialize": "Initialization Equations", "step": "Step Equations"}


def generate_docs(
    behavior_class: type[Behavior],
    output_file: os.PathLike | str | None = None,
    docstyle: str = "latex",
    title: str | None = None,
    subsec: bool = True,
    preamble: str | None = None,
) -> str:
    """The description of a model.

    Of a library model: its equations, parameters, scenarios, balance sheet and transaction matrix, from
    its declaration. Of a behavior of your own: the descriptions and the `Equations` sections in the
    docstrings of `initialize`, `step` and the methods they call, in the order of the calls; one that
    overrides part of a library model counts as your own.

    Args:
        behavior_class: a class of behaviors, such as `model.behavior`.
        output_file: where to write the description, too. With `docstyle="markdown"`, the pictures of
            a library model's scenarios are put beside it, in the folder `pictures`.
        docstyle: "latex", "rst" or "markdown" (MyST; mathematics in dollars).
        title: the title; by default that of the model, and none for a behavior of your own.
        subsec: each method, or variable of a library model, has a heading (in LaTeX and rst) of its own.
        preamble: LaTeX before `\\begin{document}`.

    Raises:
        ValueError: another `docstyle`; or the source of a behavior of your own cannot be read.
        TypeError: `behavior_class` is no class of behaviors.
    """
    if not (isinstance(behavior_class, type) and issubclass(behavior_class, Behavior)):
        raise TypeError(f"behavior_class must be a class of behaviors, not {behavior_class!r}.")
    style = docstyle.lower()
    if style not in STYLES:
        raise ValueError(f"Incorrect docstyle supplied. Accepted: [{', '.join(STYLES)}]")
    from ..causality.causality_analyzer import declaration

    definition = declaration(behavior_class)
    if definition is None:
        blocks = list(_of_docstrings(behavior_class, subsec))
        if title:
            blocks.insert(0, Heading(title, 1))
    else:
        from macrostat_jax import docs

        folder = None if output_file is None or style != "markdown" else Path(output_file).parent
        page = docs.blocks(definition, one_by_one=subsec and style != "markdown", public=True)
        blocks = [
            block
            for block in page
            if not isinstance(block, Code) and (folder or not isinstance(block, Picture))
        ]
        if title:
            blocks[0] = Heading(title, 1)
        if folder:
            docs.write_pictures(definition, folder)
    if style == "latex":
        text = _document.latex(blocks, preamble)
    else:
        text = _document.rst(blocks) if style == "rst" else _document.markdown(blocks)
    if output_file is not None:
        _document.write(Path(output_file), text)
    return text


def _of_docstrings(behavior: type[Behavior], subsec: bool) -> Iterator[Block]:
    for start, part in _PARTS.items():
        yield Heading(part)
        for _, method in methods(behavior, start):
            if subsec and method.__name__ != start:
                yield Heading(method.__name__.replace("_", " ").title(), 3)
            yield from _method(method)


def _method(method: Callable[..., object]) -> Iterator[Block]:
    found = sections(method)
    if found[DESCRIPTION]:
        yield Text(_as_markdown(found[DESCRIPTION]))
    tex = _equations(found.get("Equations", found.get("Equation", "")))
    if tex:
        yield Equation(tex, method.__name__)


_ROLE = re.compile(r":math:`([^`]+)`")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:align|aligned|equation|gather)\*?\}")


def _as_markdown(text: str) -> str:
    return _ROLE.sub(r"$\1$", text).replace("``", "`")


def _equations(text: str) -> str:
    """The mathematics of a section, without the directive and the environments around it."""
    lines = [
        line.strip()
        for line in _ENVIRONMENT.sub("", text.replace("$$", "")).splitlines()
        if not re.match(r"\s*:\w+:", line)
    ]
    kept = [re.sub(r"^\.\. math::\s*", "", line) for line in lines]
    return inspect.cleandoc("\n".join(line for line in kept if line))
