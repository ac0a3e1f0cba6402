"""Documents as a list of blocks, written as Markdown (MyST), reStructuredText or LaTeX.

Texts within blocks are Markdown: `$x$` is mathematics, `*x*` emphasis, and backticks mark code.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from ._store import replacing


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2
    """1 is the title."""


@dataclasses.dataclass(frozen=True)
class Text:
    """Paragraphs and lists."""

    text: str


@dataclasses.dataclass(frozen=True)
class Equation:
    """Lines of mathematics, aligned at `&` and ended with a double backslash, as in LaTeX's align."""

    tex: str
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Picture:
    path: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Code:
    """A block of Python."""

    source: str


Block: TypeAlias = Heading | Text | Equation | Table | Picture | Code


def markdown(blocks: Sequence[Block]) -> str:
    """A document as Markdown, with mathematics in dollars, as GitHub and MyST read it."""

    def write(block: Block) -> str:
        match block:
            case Heading(text, level):
                return f"{'#' * level} {text}"
            case Text(text):
                return text
            case Equation(tex):
                aligned = rf"\begin{{aligned}}{chr(10)}{tex}{chr(10)}\end{{aligned}}"
                return f"$$\n{aligned if _is_aligned(tex) else tex}\n$$"
            case Table(header, rows):
                lines = [header, ["---"] * len(header), *rows]
                return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in lines)
            case Picture(path, caption):
                return f"![{caption}]({path})"
            case Code(source):
                return f"```python\n{source}\n```"

    return _joined(blocks, write)


def _cell(text: str) -> str:
    """A bar would end the cell, in mathematics too, where it has another name; a lone dollar is one."""

    def math(tex: str) -> str:
        return f"${tex}$".replace("|", r"\vert ")

    return _inline(text, math, plain=lambda words: re.sub(r"([|$])", r"\\\1", words))


def rst(blocks: Sequence[Block]) -> str:
    """A document as reStructuredText."""

    def inline(text: str) -> str:
        return _inline(text, math=lambda tex: f":math:`{tex}`", code=lambda code: f"``{code}``")

    def write(block: Block) -> str:
        match block:
            case Heading(text, level):
                text = inline(text)
                line = "==-~"[level] * len(text)
                return f"{line}\n{text}\n{line}" if level == 1 else f"{text}\n{line}"
            case Text(text):
                return inline(text)
            case Equation(tex, label):
                options = f"\n   :label: {label}" if label else ""
                body = _indented(rf"\begin{{aligned}}{chr(10)}{tex}{chr(10)}\end{{aligned}}")
                return f".. math::{options}\n\n{body}"
            case Table(header, rows):
                lines = [".. list-table::", "   :header-rows: 1", ""]
                for row in (header, *rows):
                    for i, cell in enumerate(row):
                        lines.append(f"   {'* -' if i == 0 else '  -'} {inline(cell)}".rstrip())
                return "\n".join(lines)
            case Picture(path, caption):
                return f".. image:: {path}\n   :alt: {caption}"
            case Code(source):
                return f".. code-block:: python\n\n{_indented(source)}"

    return _joined(blocks, write)


def latex(blocks: Sequence[Block], preamble: str | None = None) -> str:
    """A document as a LaTeX file.

    Args:
        blocks: the document.
        preamble: lines before `\\begin{document}`.
    """

    def inline(text: str) -> str:
        return _inline(
            text,
            math=lambda tex: f"${tex}$",
            code=lambda code: rf"\texttt{{{_escaped(code)}}}",
            emphasis=lambda words: rf"\emph{{{_escaped(words)}}}",
            plain=_escaped,
        )

    def write(block: Block) -> str:
        match block:
            case Heading(text, 1):
                return rf"\title{{{inline(text)}}}{chr(10)}\maketitle"
            case Heading(text, level):
                return rf"\{'sub' * (level - 2)}section{{{inline(text)}}}"
            case Text(text):
                return inline(text)
            case Equation(tex, label):
                name = rf"\label{{eq:{label}}}" if label else ""
                return rf"\begin{{align}}{name}{chr(10)}{tex}{chr(10)}\end{{align}}"
            case Table(header, rows):
                lines = [" & ".join(map(inline, row)) + r" \\" for row in (header, *rows)]
                lines.insert(1, r"\hline")
                width = f"p{{{0.9 / len(header):.3f}\\linewidth}}" * len(header)
                return "\n".join([rf"\begin{{longtable}}{{{width}}}", *lines, r"\end{longtable}"])
            case Picture(path, caption):
                return rf"\includegraphics[width=\linewidth]{{{path}}}{chr(10)}{chr(10)}{inline(caption)}"
            case Code(source):
                return rf"\begin{{verbatim}}{chr(10)}{source}{chr(10)}\end{{verbatim}}"

    packages = "".join(
        rf"\usepackage{{{name}}}{chr(10)}"
        for name in ("amsmath", "amssymb", "longtable", "graphicx")
    )
    head = f"\\documentclass{{article}}\n{packages}{preamble or ''}"
    body = _joined(blocks, write)
    return f"{head.rstrip()}\n\\begin{{document}}\n{body}\\end{{document}}\n"


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def _inline(
    text: str,
    math: Callable[[str], str],
    code: Callable[[str], str] = lambda text: f"`{text}`",
    emphasis: Callable[[str], str] = lambda text: f"*{text}*",
    plain: Callable[[str], str] = lambda text: text,
) -> str:
    """A text with its parts rewritten."""
    result = ""
    for part in re.split(r"(\$[^$\n]+\$|`[^`]+`|\*[^*\s][^*]*\*)", text):
        match part[:1], len(part) > 1 and part[:1] == part[-1:]:
            case "$", True:
                result += math(part[1:-1])
            case "`", True:
                result += code(part[1:-1])
            case "*", True:
                result += emphasis(part[1:-1])
            case _:
                result += plain(part)
    return result


def _is_aligned(tex: str) -> bool:
    return "&" in tex or r"\\" in tex


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" if line else "" for line in text.splitlines())


def _joined(blocks: Sequence[Block], write: Callable[[Block], str]) -> str:
    return "\n\n".join(write(block) for block in blocks) + "\n"


def write(path: Path, text: str) -> Path:
    """Writes a text; an interrupted write leaves the old file."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return path
