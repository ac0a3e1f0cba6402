"""The API reference of the guide has every public module, class and function of the three packages."""

import importlib
import importlib.util
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path

import bridge
import macrostat
import macrostat_jax
from macrostat_jax import models

PAGES = Path(__file__).parents[1] / "docs" / "reference"
spec = importlib.util.spec_from_file_location("conf", PAGES.parent / "conf.py")
assert spec is not None and spec.loader is not None
conf = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conf)
COMMANDS = {"macrostat_jax.cli", "bridge.bench_worker"}
"""Modules that are run, not imported."""


def documented() -> set[str]:
    """The modules that have a page."""
    texts = [page.read_text() for page in PAGES.glob("*.md")]
    return {name for text in texts for name in re.findall(r"automodule:: (\S+)", text)}


def public_modules() -> Iterator[str]:
    """The packages, and the modules right in one of the three. What lies deeper is public where the
    `__init__` of its package hands it on."""
    for package in (macrostat_jax, macrostat, bridge):
        yield package.__name__
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            one = importlib.import_module(found.name) if "._" not in found.name else None
            if one is not None and found.name not in COMMANDS and own(one):
                yield found.name


def own(module: types.ModuleType) -> dict[str, object]:
    """The public classes and functions of a module; of a package, those that it hands on."""
    package = module.__name__.partition(".")[0]
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, type | types.FunctionType)
        and value.__module__.startswith(package if hasattr(module, "__path__") else module.__name__)
    }


def test_every_public_module_has_a_page():
    assert {name for name in public_modules() if name != "macrostat"} == documented()


def test_every_page_is_in_the_index_and_documents_what_it_is_named_after():
    index = (PAGES / "index.md").read_text()
    for page in PAGES.glob("*.md"):
        if page.name == "index.md":
            continue
        assert f"]({page.name})" in index, page.name
        if page.stem != "command":
            assert page.stem in re.findall(r"automodule:: (\S+)", page.read_text())


def test_every_public_name_says_what_it_is():
    bare = [
        f"{name}.{one}"
        for name in sorted(documented())
        for one, value in own(importlib.import_module(name)).items()
        if not (value.__doc__ or "").strip() or (value.__doc__ or "").startswith(f"{one}(")
    ]
    assert bare == []


def test_the_models_have_pages():
    listed = (PAGES.parent / "models" / "index.md").read_text()
    assert [name for name in models.names() if f"]({name}.md)" not in listed] == []


def rendered(docstring: str, what: str = "function") -> str:
    """A docstring as the guide hands it to Sphinx."""
    lines = docstring.splitlines()
    conf.plain(None, what, "", None, None, lines)
    conf.attributes(None, what, "", None, None, lines)
    return "\n".join(lines)


def test_docstrings_are_read_as_they_stand():
    assert rendered("Of (T, *s), |x| and `*a`: **kink**.") == (
        r"Of (T, \*s), \|x\| and `*a`: **kink**."
    )
    code = "Runs it.\n\n    a = f(*b)\n\n    c = 1\n\nThen *s.\n"
    assert rendered(code) == "Runs it.\n\n::\n\n    a = f(*b)\n\n    c = 1\n\nThen \\*s."
    section = "Runs it.\n\nArgs:\n    a: one.\n\n        More of it."
    assert rendered(section) == section
    assert rendered(code.replace("it.", "it::")) == rendered(code).replace("it.\n\n::", "it::")
    lines = ["The names: all."]  # of an attribute nothing is a type
    conf.plain(None, "attribute", "a", None, None, lines)
    assert lines == []
    assert rendered("The names: all.", "attribute") == "The names: all."


def test_errors_that_are_those_of_another_function_are_a_sentence():
    assert rendered("Does.\n\nRaises:\n    As f.\n").rstrip() == "Does.\n\nErrors: As f."
    assert rendered("Does.\n\nRaises:\n    As f. KeyError: no name.\n        More.") == (
        "Does.\n\nErrors: As f.\n\nRaises:\n    KeyError: no name.\n        More."
    )
    text = "Does.\n\nRaises:\n    KeyError: As g: no name. As f otherwise."
    assert rendered(text) == text


def test_attributes_that_share_a_line_are_documented_one_by_one():
    text = "A result.\n\nAttributes:\n    a, b: of both\n        of them.\n    c: one: alone.\n"
    assert rendered(text) == (
        "A result.\n\nAttributes:\n    a: of both\n        of them.\n    b: of both\n        of them.\n"
        "    c: one: alone."
    )
