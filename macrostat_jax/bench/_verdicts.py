"""Comparisons as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._figures import ALONE
from ._results import Row
from ._table import blocks, heading, seconds, size_of, wrapped

if TYPE_CHECKING:
    from ._compare import Comparison, Judgement

HEADER = ("scenario", "backend", "old", "new", "ratio", "interval", "verdict")


def comparison(found: Comparison, width: int | None = None) -> str:
    """The verdicts, size by size, and why there is none where there is none.

    Args:
        found: what to show.
        width: in characters; columns that have no room stand in another block below. None: no limit.
    """
    lines = ["New against old: the ratio of times, with its interval"]
    if found.differs:
        lines += ["", "Forced: these differ, and the times with them"]
        lines += [one for line in found.differs for one in wrapped(line, width, 4)]
    groups: dict[Any, list[Judgement]] = {}
    for one in found.judgements:
        groups.setdefault(size_of(_row(one)), []).append(one)
    for size, judgements in groups.items():
        judged = [one for one in judgements if one.interval is not None]
        lines += ["", *wrapped(heading(size, []), width, 2, first=0)]
        if judged:
            lines += blocks([HEADER, *map(_cells, judged)], width)
        for one in judgements:
            if one.interval is None:
                row = _row(one)
                lines += wrapped(f"- {row.backend}, {_name(row)}: {one.verdict}", width, 6)
    judged = [one for one in found.judgements if one.interval is not None]
    counts = {word: sum(one.verdict == word for one in judged) for word in ("faster", "slower")}
    text = (
        f"{counts['faster']} faster, {counts['slower']} slower, "
        f"{len(judged) - sum(counts.values())} without a difference that the noise allows, "
        f"{len(found.judgements) - len(judged)} not compared; intervals of {100 * found.level:g} %."
    )
    lines += ["", *wrapped(text, width, 0, first=0)]
    if any(min(map(len, _times(one))) < 2 for one in judged):
        text = (
            f"Rows of one process: {100 * (ALONE - 1):.0f} % to either side are allowed for what differs "
            "between processes. --processes 3 measures it."
        )
        lines += wrapped(text, width, 0, first=0)
    return "\n".join(lines)


def _row(one: Judgement) -> Row:
    row = one.after or one.before
    assert row is not None
    return row


def _times(one: Judgement) -> tuple[Any, Any]:
    assert one.before is not None and one.after is not None
    return one.before.seconds, one.after.seconds


def _name(row: Row) -> str:
    return f"{row.scenario} {row.batch:,}" if row.scenario == "sweep" else row.scenario


def _cells(one: Judgement) -> tuple[str, ...]:
    assert one.before is not None and one.after is not None and one.interval is not None
    row, there = one.after, one.interval
    return (
        _name(row),
        row.backend,
        seconds(one.before.median),
        seconds(row.median),
        f"{there.ratio:.3g}",
        f"{there.low:.3g} - {there.high:.3g}",
        one.verdict.partition(" that")[0],
    )
