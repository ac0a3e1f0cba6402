"""The pages of the guide: their blocks of code, and what counts as the output that they show."""

import doctest
import math
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


class Block(NamedTuple):
    source: str
    line: int
    printed: str | None
    """What the page shows as its output."""


def blocks(page: Path, kind: str = "python") -> list[Block]:
    """The blocks of a page that run."""
    text = page.read_text()
    found = list(FENCE.finditer(text))
    kinds = {"bash", "text", "python", "python no-run"}
    assert {fence["kind"] for fence in found} <= kinds, f"{page.name}: only {sorted(kinds)}"
    result = []
    for i, fence in enumerate(found):
        if fence["kind"] != kind:
            continue
        after = found[i + 1] if i + 1 < len(found) else None
        shown = None
        if after and after["kind"] == "text" and not text[fence.end() : after.start()].strip():
            shown = after["body"]
        result.append(Block(fence["body"], text.count("\n", 0, fence.start("body")), shown))
    return result


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
