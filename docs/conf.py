"""The guide as a site: `sphinx-build -W docs build/guide`. The pages are Markdown and read as such, too."""

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

project = "macrostat-jax"
version = release = importlib.metadata.version(project)
author = copyright = "the authors of macrostat-jax"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"macrostat-jax {version}"

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4

# Docstrings are Google's, their `names` are code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # torch's have links of torch's guide
# Two packages have a class Model each: a bare name in a signature may mean either.
suppress_warnings = ["ref.python"]
OURS = ("macrostat_jax", "macrostat", "bridge")


def own(app: Any, what: str, name: str, found: Any, skip: bool, options: Any) -> bool:
    """Of what a module imports, only what it hands on of this project's own."""
    module = getattr(found, "__module__", None)
    if what == "module" and (module is None or module.split(".")[0] not in OURS):
        return True
    if (getattr(found, "__doc__", None) or "").startswith("Alias for field number"):
        return True
    return skip


def plain(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read as they stand: `(T, *shape)` and |x| are no markup, and what is
    indented after an empty line is code."""
    result, code = [], False
    for line, before in zip(lines, ["", *lines], strict=False):
        indented = line.startswith("    ")
        if indented and not before and not code and not _in_section(result):
            result += [] if _last(result).endswith("::") else ["::", ""]
            code = True
        code = code and (indented or not line)
        result.append(line if code else _escaped(line))
    lines[:] = _one_by_one(_raises(result))
    if what in ("attribute", "property", "data"):
        KEPT[name], lines[:] = lines[:], []


KEPT: dict[str, list[str]] = {}
"""Docstrings of attributes, of which napoleon would take what stands before a colon for a type."""


def attributes(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = KEPT.pop(name, lines)


def _escaped(line: str) -> str:
    spans = re.split(r"(``?[^`]+``?|\*\*[\w-]+\*\*)", line)
    return "".join(
        span if i % 2 else re.sub(r"([*|])", r"\\\1", span) for i, span in enumerate(spans)
    )


def _in_section(lines: list[str]) -> bool:
    """Whether the last line that is not indented is the head of a section, or none."""
    sections = ("", "Args:", "Attributes:", "Returns:", "Raises:", "Yields:")
    return _last(lines) in sections


def _last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line and not line.startswith(" ")), "")


def _raises(lines: list[str]) -> list[str]:
    """`As gradient. ValueError: text` among the errors names one error, and a paragraph says the rest."""
    text = re.sub(
        r"^Raises:\n    (?=As )([^:]*?\.)(?:\s+(?=\w+(?:, \w+)*: )|$)",
        r"Errors: \1\n\nRaises:\n    ",
        "\n".join(lines),
        flags=re.MULTILINE,
    )
    return re.sub(r"Raises:\n    $", "", text, flags=re.MULTILINE).split("\n")


def _one_by_one(lines: list[str]) -> list[str]:
    """`a, b: text` among attributes as `a: text` and `b: text`, as napoleon does with arguments."""
    text = "\n".join(lines)
    head, section, rest = text.partition("Attributes:\n")

    def split(entry: re.Match[str]) -> str:
        return "".join(f"    {name}{entry['text']}" for name in entry["names"].split(", "))

    entry = r"^    (?P<names>\w+(?:, \w+)+)(?P<text>: .*\n(?:     +.*\n)*)"
    return (head + section + re.sub(entry, split, rest, flags=re.MULTILINE)).split("\n")


def page(app: Any, name: str, source: list[str]) -> None:
    """The README, which stands above the folder of the guide, is a page of it; and the pages below an
    index are those that it links, in its order."""
    if name == "readme":
        text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
        text = text.replace("](docs/", "](")
        # What is no page of the guide is shown by its name.
        source[0] = re.sub(
            r"\[([^]]+)\]\((?:macrostat\w*|bridge|benchmarks|tests)/[^)]*\)", r"\1", text
        )
    if name == "reference/command":
        source[0] += helps()
    source[0] = source[0].replace("](../README.md", "](readme.md")
    if name.endswith("index"):
        below = re.findall(r"\]\(([\w./-]+)\.md\)", source[0])
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", "", *dict.fromkeys(below), "```\n"])


def helps() -> str:
    """What every command of `macrostat` says of itself."""
    from macrostat_jax import cli

    os.environ["COLUMNS"] = "100"  # argparse's width
    parser = cli._parser()
    (commands,) = (one.choices for one in parser._actions if isinstance(one.choices, dict))
    parts = [f"\n```text\n{parser.format_help()}```\n"]
    for name, sub in commands.items():
        parts.append(f"\n## macrostat {name}\n\n```text\n{sub.format_help()}```\n")
    return "".join(parts)


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", own)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", attributes, priority=900)  # after it
    app.connect("source-read", page)
