"""The shell commands of the README and of docs/ are ones there are, and print what stands below them.

Of a `bash` block, and of a command in a sentence, the options, models, extras and files have to be there;
with a `text` block behind it, its `macrostat` commands run, and print that.
"""

import contextlib
import io
import re
import shlex
import tomllib

import pytest
from pages import FENCE, PAGES, ROOT, Block, blocks, same

from macrostat_jax import cli, models


def commands(source: str) -> list[list[str]]:
    """The commands of a shell block, word by word."""
    lines = source.replace("\\\n", " ").splitlines()
    split = (shlex.split(part, comments=True) for line in lines for part in line.split("&&"))
    return [words for words in split if words]


def run_commands(block: Block) -> str:
    """What the `macrostat` commands of a block print."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        for words in commands(block.source):
            if words[0] == "macrostat":
                assert cli.main(words[1:]) == 0, words
    return text.getvalue()


def refused(words: list[str]) -> str | None:
    """What there is not of that which a command names."""
    if words[0] == "macrostat":
        try:
            with contextlib.redirect_stderr(io.StringIO()) as text:
                given = cli._parser().parse_args(words[1:])
        except SystemExit:
            return text.getvalue().splitlines()[-1]
        named = getattr(given, "models", None) or [getattr(given, "model", None) or "GL06SIM"]
        unknown = set(named) - set(models.names())
        return f"no model {', '.join(unknown)}" if unknown else None
    if words[0].rpartition("/")[2] == "pip":
        extras = re.findall(r"^\.\[(.*)\]$", words[-1])
        unknown = {one for extra in extras for one in extra.split(",")} - extras_there_are()
        return f"no extra {', '.join(unknown)}" if unknown else None
    if words[0] in ("bash", "python") and words[1:2] != ["-m"]:
        there = words[1] in OF_THE_READER or (ROOT / words[1]).exists()
        return None if there else f"no file {words[1]}"
    return None


OF_THE_READER = {"calibrate.py"}


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Commands run here."""
    monkeypatch.chdir(tmp_path)


def extras_there_are() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda page: page.stem
)
def test_every_command_is_one_there_is(page, in_folder):
    text = page.read_text()
    shown = [words for block in blocks(page, "bash") for words in commands(block.source)]
    # In a sentence, `macrostat bench` is a name, not a command to be typed.
    inline = [
        one.split() for one in re.findall(r"`((?:macrostat|python) [^`\n]+)`", FENCE.sub("", text))
    ]
    shown += [words for words in inline if len(words) > 2 and "[" not in "".join(words)]
    assert [found for words in shown if (found := refused(words))] == []
    for block in blocks(page, "bash"):
        if block.printed is not None:
            printed = run_commands(block)
            assert same(block.printed, printed), f"line {block.line + 1} prints:\n{printed}"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("macrostat simulate GL06PC --steps 60", None),
        ("macrostat simulate GL06PX --steps 60", "no model GL06PX"),
        ("macrostat bench GL06PC NK3", "no model NK3"),
        ("macrostat bench --compare a.json b.json", None),
        (
            "macrostat simulate GL06PC --step 60 --colour red",
            "unrecognized arguments: --colour red",
        ),
        ("pip install '.[torch]'", None),
        ("pip install '.[torch,touch]'", "no extra touch"),
        ("bash tests/run tests/jax", None),
        ("bash tests/walk", "no file tests/walk"),
    ],
)
def test_a_command_there_is_not_is_found(command, problem):
    found = refused(commands(command)[0])
    assert (found or "").endswith(problem or "") and bool(found) == bool(problem)


def test_the_readme_shows_the_report_of_the_first_command(in_folder):
    """Of what `docs/first-run` prints, up to rounding errors and the error bars made of them."""
    shown = FENCE.search((ROOT / "README.md").read_text().partition("and this report:")[2])
    assert shown is not None
    source = "macrostat check GL06SIMEX --plot macrostat-report"
    assert source in (ROOT / "docs" / "first-run").read_text()
    printed = run_commands(Block(source, 0, None))
    rounding = re.compile(r"[\d.]+e-\d\d")
    assert same(rounding.sub("~", shown["body"]), rounding.sub("~", printed)), printed


def test_the_installation_page_names_every_extra():
    rows = re.findall(
        r"^\| (`.*?) \|", (ROOT / "docs" / "installation.md").read_text(), re.MULTILINE
    )
    assert {extra for row in rows for extra in re.findall(r"`(\w+)`", row)} == extras_there_are()
