"""The guide's tables of backends, made from the committed results of `macrostat bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from macrostat_jax import bench
from macrostat_jax.bench import Results, Row

NONE = "No results of `macrostat bench` are committed yet."


def text(files: Sequence[Path], seconds: Callable[[float], str]) -> str:
    """A section for each file: what made it, a table for each model and size, and what has no figure.

    Args:
        files: of `macrostat bench --json`.
        seconds: how a time is written.

    Raises:
        SystemExit: results of a run that was stopped, or in which a backend disagrees.
    """
    sections = [_section(file, seconds) for file in files]
    return "\n\n".join(sections) or NONE


def _section(file: Path, seconds: Callable[[float], str]) -> str:
    results = bench.load(file)
    if results.settings.get("stopped"):
        raise SystemExit(f"{file.name} is part of a run that was stopped: run it to its end.")
    if wrong := [row for row in results.rows if row.agrees is False]:
        row = wrong[0]
        raise SystemExit(f"{file.name}: {row.backend} disagrees in {row.model} {row.scenario}.")
    machine, settings = results.machine, results.settings
    versions: dict[str, str] = {}
    for about in results.backends.values():
        for package, version in about.get("versions", {}).items():
            versions.setdefault(package, version.partition("+")[0])
    packages = [
        f"{name} {versions[name]}" for name in ("jax", "torch", "numpy") if name in versions
    ]
    many = settings["processes"]
    lines = [
        f"On {machine['cores']} CPU cores ({machine['cpu']}, {', '.join(packages)}), {settings['date']}; "
        f"medians over {many} process{'es' if many > 1 else ''}.",
    ]
    for _, rows in groupby(results.rows, key=_size):
        lines += ["", *_table(list(rows), results, seconds)]
    if settings["command"]:
        lines += ["", f"Measured by `{settings['command']}`."]
    return "\n".join(lines)


def _size(row: Row) -> tuple[object, ...]:
    return row.model, row.periods, tuple(sorted(row.sizes.items()))


def _table(rows: list[Row], results: Results, seconds: Callable[[float], str]) -> list[str]:
    first = next((row for row in rows if row.parameters is not None), rows[0])
    agents = "".join(f", {number:,} {axis}s" for axis, number in first.sizes.items())
    title = f"**{first.model}, {first.periods:,} periods{agents}**"
    if first.parameters is not None:
        title += f": {first.parameters} parameters, {first.outputs:,} numbers out"
    names = [n for n in results.backends if any(r.backend == n and r.measured for r in rows)]
    lines = [
        title,
        "",
        f"| One call | {' | '.join(names)} |",
        "|---" * (1 + len(names)) + "|",
    ]
    cells = {(_label(row), row.backend): row for row in rows}
    for label in dict.fromkeys(_label(row) for row in rows):
        found = [cells[label, name] for name in names]
        shown = [seconds(row.median) if row.measured else "–" for row in found]
        lines.append(f"| {label} | {' | '.join(shown)} |")
    lines += ["", *_agreement(rows)]
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.measured:
            reasons.setdefault((row.backend, str(row.reason)), []).append(_label(row))
    for (backend, reason), labels in reasons.items():
        where = f", {', '.join(labels)}" if backend in names else ""
        lines.append(f"- No figure: `{backend}`{where}: {reason}")
    notes = dict.fromkeys(f"- `{row.backend}`: {row.note}" for row in rows if row.note)
    return [*lines, *notes]


def _agreement(rows: list[Row]) -> list[str]:
    """The largest differences, of paths and of derivatives, by precision."""
    worst: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.measured and row.agreement is not None and row.dtype is not None:
            kind = "paths" if row.scenario in ("simulate", "sweep") else "derivatives"
            key = row.dtype, kind
            worst[key] = max(worst.get(key, 0.0), row.agreement)
    parts = [f"{kind} in {dtype} {size:.0e}" for (dtype, kind), size in sorted(worst.items())]
    return [f"- Largest difference from the reference: {', '.join(parts)}."] if parts else []


def _label(row: Row) -> str:
    return f"{row.scenario}, {row.batch:,} runs" if row.scenario == "sweep" else row.scenario
