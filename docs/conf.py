"""The guide as a site: `sphinx-build -W docs build/guide`. The pages are Markdown and read as such, too."""

import importlib.metadata
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
    return skip


def plain(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read as they stand: `(T, *shape)` and |x| are no markup."""
    for i, line in enumerate(lines):
        spans = re.split(r"(``?[^`]+``?)", line)
        lines[i] = "".join(
            span if span.startswith("`") else re.sub(r"([*|])", r"\\\1", span) for span in spans
        )


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
    source[0] = source[0].replace("](../README.md", "](readme.md")
    if name.endswith("index"):
        below = re.findall(r"\]\(([\w./-]+)\.md\)", source[0])
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", "", *dict.fromkeys(below), "```\n"])


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", own)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    app.connect("source-read", page)
