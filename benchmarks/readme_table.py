"""The README's speed tables and the guide's tables of backends, made from the committed results.

python benchmarks/readme_table.py            # writes them into the pages
python benchmarks/readme_table.py --check    # exit status 1 if a page says otherwise
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _backends_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NO_FLAG = ", no XLA flag"

WARM = {
    "simulate": "simulate",
    "`JacobianAutograd`, reverse": "Jacobian, reverse",
    "`JacobianAutograd`, forward": "Jacobian, forward",
    "`JacobianNumerical`, central": "Jacobian, central differences",
}
COLD = {
    "whole script in a fresh process, nothing cached": "whole command, empty cache",
    "whole script in a fresh process, programs on disk": "whole command, filled cache",
}
NATIVE = (
    ("gradient of a loss of all variables, each side on one core", "gradient of a loss", 0),
    ("the same on two cores", "gradient of a loss", 1),
    (
        "Jacobian of the income path, each side on one core",
        "Jacobian of income, theirs in the faster mode",
        0,
    ),
    ("the same on two cores", "Jacobian of income, theirs in the faster mode", 1),
)
"""Title -> figure, and which section of the results: on one core, on all."""


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rows(results: dict[str, Any], section: int = 0) -> dict[str, dict[str, Any]]:
    return {row["figure"]: row for row in results["sections"][section]["rows"]}


def text() -> str:
    """Everything between the two marks."""
    warm, cold, native = (read(name) for name in ("torch_api", "torch_api_cold", "jax_native"))
    machine = alike(warm, cold, native)
    peer, ours = warm["versions"][:2]
    label = f"[jax {ours['jax']}]"
    many = sorted({found["peer"]["processes"] for found in compared(warm, cold, native)})
    lines = [
        f"GL06PC, 100 periods, against the published package {peer['macrostat']} in an environment of its own, "
        "the two sides in turn, on",
        f"{machine['cores']} CPU cores ({machine['cpu']}, jax {ours['jax']}, torch "
        f"{ours['torch'].partition('+')[0]}); medians over {many[0]} to {many[-1]} processes.",
        "",
        "| Through the torch API, warm | published | here | ratio |",
        "|---|---|---|---|",
    ]
    for titles, results in ((WARM, warm), (COLD, cold)):
        for title, figure in titles.items():
            found = rows(results)[f"{figure} {label}"]
            lines.append(f"| {title} | {' | '.join(pair(found))} |")
    names = [f"jax {one['jax']}" for one in native["versions"] if "jax" in one]
    heads = " | ".join(".".join(name.split(".")[:3]) for name in names)
    lines += ["", f"| In the user's own `jax.jit` | published | {heads} |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for title, figure, section in NATIVE:
        each = [rows(native, section)[f"{figure} [{name}]"] for name in names]
        cells = [seconds(each[0]["peer"]["median"]), *map(faster, each)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    api, own = slowdowns(rows(warm)), [*slowdowns(rows(native)), *slowdowns(rows(native, 1))]
    commands = [
        f"`{results['command'].partition(' --peer')[0]}`" for results in (warm, cold, native)
    ]
    lines += [
        "",
        f"Measured by {commands[0]},",
        f"{commands[1]} and {commands[2]}.",
        "jax 0.10 is measured with the XLA flag of [docs/installation.md](docs/installation.md); without",
        f"it, what is warm takes up to {max(api):.1f} times as long through the torch API, and {min(own):.1f} "
        f"to {max(own):.1f} times in `jax.jit`.",
    ]
    return "\n".join(lines)


def alike(*results: dict[str, Any]) -> dict[str, Any]:
    """The machine, which must be one: figures of several do not stand in one table."""
    machines = [{key: one["machine"][key] for key in ("system", "cpu", "cores")} for one in results]
    if any(machine != machines[0] for machine in machines):
        raise SystemExit(f"The results are of different machines: {machines}.")
    first = results[0]["versions"][:2]
    for one in results[1:]:
        if one["versions"][:2] != first:
            raise SystemExit(
                f"The results are of different versions: {first}, {one['versions'][:2]}."
            )
    return machines[0]


def compared(*results: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for one in results for row in rows(one).values() if "peer" in row]


def slowdowns(found: dict[str, dict[str, Any]]) -> list[float]:
    """How many times longer without XLA's flag, row by row."""
    pairs = [
        (row, found[name.replace(NO_FLAG, "")]) for name, row in found.items() if NO_FLAG in name
    ]
    return [
        slow["ours"]["median"] / fast["ours"]["median"]
        for slow, fast in pairs
        if "ours" in slow and not slow["figure"].startswith("whole command")
    ]


def pair(row: dict[str, Any]) -> tuple[str, str, str]:
    """Theirs, ours, and how many times faster: the ratio of the medians as they were measured."""
    theirs, ours = row["peer"]["median"], row["ours"]["median"]
    return seconds(theirs), seconds(ours), figure(theirs / ours)


def faster(row: dict[str, Any]) -> str:
    theirs, ours = row["peer"]["median"], row["ours"]["median"]
    return f"{seconds(ours)} ({figure(theirs / ours)} times faster)"


def figure(value: float) -> str:
    """Three significant digits, without an exponent: `1.23`, `84`, `2,420`."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if value >= 20 else f"{value:.3g}"


def seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.3g} s"
    if value >= 1e-4:
        return f"{value * 1e3:.3g} ms"
    return f"{value * 1e6:.3g} µs"


def backends() -> str:
    """The guide's tables, from all results of `macrostat bench`."""
    return _backends_table.text(sorted(RESULTS.glob("bench_*.json")), seconds)


PAGES: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("README.md", "speed", text),
    ("docs/comparing-backends.md", "backends", backends),
)
"""Page, name of its marks, and what stands between them."""


def replaced(page: str, inside: str, name: str = "speed") -> str:
    """The page with what stands between the marks replaced.

    Raises:
        ValueError: a page without the two marks, in order and once each.
    """
    begin = f"<!-- {name}: made from benchmarks/results by benchmarks/readme_table.py -->"
    end = f"<!-- end of {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"The page must have the two lines {begin} and {end}, once each.")
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{inside}\n{end}{rest.partition(end)[2]}"


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="The tables of speed, from the results.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say whether they are up to date"
    )
    arguments = parser.parse_args(argv)
    status = 0
    for name, marks, inside in PAGES:
        page = (root / name).read_text(encoding="utf-8")
        new = replaced(page, inside(), marks)
        if new == page:
            continue
        if not arguments.check:
            (root / name).write_text(new, encoding="utf-8")
            continue
        status = 1
        print(
            f"{name} is not what benchmarks/results say: run python benchmarks/readme_table.py",
            file=sys.stderr,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
