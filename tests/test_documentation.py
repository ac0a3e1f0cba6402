"""Every Python block of the README and of docs/ runs, and prints what the page says it prints.

The blocks of a page run in order, in one namespace, as a script of the reader's own would. A `text`
block right after a `python` block is what that block prints, `...` standing for anything; numbers
written with a decimal point may differ in the last digit shown. `python no-run` marks blocks that need
what a test machine may lack. The links between pages are followed too.
"""

import doctest
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")

RUNNER = """
import contextlib, io, json, sys, types, warnings
warnings.simplefilter("error")
# torch's own forward-mode code warns of itself in some releases.
warnings.filterwarnings("ignore", ".*torch.jit.script.*", DeprecationWarning)
blocks = json.load(sys.stdin)
page = sys.modules["__main__"] = types.ModuleType("__main__")
printed = []
for source, name in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        exec(compile(source, name, "exec"), vars(page))
    printed.append(text.getvalue())
print(json.dumps(printed))
"""


class Block(NamedTuple):
    source: str
    line: int
    printed: str | None
    """What the page shows as its output."""


def blocks(page: Path) -> list[Block]:
    """The Python blocks of a page that run."""
    text = page.read_text()
    found = list(FENCE.finditer(text))
    kinds = {"bash", "text", "python", "python no-run"}
    assert {fence["kind"] for fence in found} <= kinds, f"{page.name}: only {sorted(kinds)}"
    result = []
    for i, fence in enumerate(found):
        if fence["kind"] != "python":
            continue
        after = found[i + 1] if i + 1 < len(found) else None
        shown = None
        if after and after["kind"] == "text" and not text[fence.end() : after.start()].strip():
            shown = after["body"]
        result.append(Block(fence["body"], text.count("\n", 0, fence.start("body")), shown))
    return result


def run(page: Path, folder: Path) -> list[tuple[Block, str]]:
    """Runs a page in a process of its own; every block with what it printed."""
    found = blocks(page)
    # Leading lines make a traceback point at the line of the page.
    sources = [("\n" * block.line + block.source, str(page)) for block in found]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return list(zip(found, json.loads(done.stdout.splitlines()[-1]), strict=True))


def same(shown: str, printed: str) -> bool:
    """Equal texts, up to spacing, `...` and the last digit of a number with a decimal point."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if doctest.OutputChecker().check_output(shown, printed, options):
        return True
    numbers = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    if not all(math.isclose(float(a), float(b), abs_tol=last_digit(a)) for a, b in numbers):
        return False
    shown, printed = NUMBER.sub("0.0", shown), NUMBER.sub("0.0", printed)
    return doctest.OutputChecker().check_output(shown, printed, options)


def last_digit(number: str) -> float:
    digits, _, exponent = number.partition("e")
    return 1.01 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_and_prints_what_the_page_shows(page, tmp_path):
    for block, printed in run(page, tmp_path) if blocks(page) else ():
        if block.printed is not None:
            where = f"{page.name}, the block at line {block.line + 1}"
            assert same(block.printed, printed), f"{where} prints:\n{printed}"


def test_the_quick_start_passes_its_own_check(tmp_path):
    script = [sys.executable, str(ROOT / "docs" / "quickstart.py")]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert "Passed: True" in done.stdout, done.stderr[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        # readme.md is the place of the README, which the index links, in the guide.
        assert page.stem in ("index", "readme") or f"({page.name})" in index, page.name


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("0.52 a\n", "0.53  a\n", True),
        ("0.52\n", "0.55\n", False),
        ("1.2e-05\n", "1.3e-05\n", True),
        ("1.2e-05\n", "1.2e-04\n", False),
        ("a ... c\n", "a b c\n", True),
        ("5\n", "6\n", False),
        ("1.0 2.0\n", "1.0\n", False),
    ],
)
def test_what_counts_as_the_same_output(shown, printed, equal):
    assert same(shown, printed) is equal
