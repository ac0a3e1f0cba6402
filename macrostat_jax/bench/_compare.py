"""Two files of results, row by row, with a verdict that the noise allows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .._store import differences
from ._figures import LEVEL, Interval, ratio_interval, verdict
from ._results import Results, Row, load


class Judgement(NamedTuple):
    """A row of both files.

    Attributes:
        before, after: the rows; None where one file has no such row.
        interval: of the ratio of times, after over before; None where one of them was not measured.
        verdict: `"faster"`, `"slower"`, `"no difference that the noise allows"`, or why there is none.
    """

    before: Row | None
    after: Row | None
    interval: Interval | None
    verdict: str


class Comparison:
    """The judgements of all rows of two files.

    Attributes:
        judgements: one for each row of either.
        differs: what differs in machine and versions, with `force`.
    """

    def __init__(self, judgements: list[Judgement], differs: list[str], level: float) -> None:
        self.judgements, self.differs, self.level = judgements, differs, level

    def __str__(self) -> str:
        from ._table import terminal
        from ._verdicts import comparison

        return comparison(self, terminal())

    def to_dict(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "differs": self.differs,
            "rows": [
                {
                    **_named(one.after or one.before),
                    "before": one.before.median if one.before and one.before.measured else None,
                    "after": one.after.median if one.after and one.after.measured else None,
                    "ratio": one.interval._asdict() if one.interval else None,
                    "verdict": one.verdict,
                }
                for one in self.judgements
            ],
        }


def compare(
    before: Results | str | Path,
    after: Results | str | Path,
    *,
    force: bool = False,
    level: float = LEVEL,
) -> Comparison:
    """Judges whether rows became faster or slower.

    Args:
        before, after: results, or the files that hold them.
        force: compare also where machine, device or versions differ; the comparison then says so.
        level: of the confidence intervals of the ratios (see `ratio_interval` in the source): between
            processes where each file has several, else within one, with 10 % allowed for what one
            process cannot tell.

    Returns:
        A judgement for each row of either file, those that only one of them has among them.

    Raises:
        ValueError: results of different machines or versions, with what differs; a file that is none
            of results; a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is between 0 and 1, not {level!r}.")
    old, new = (one if isinstance(one, Results) else load(one) for one in (before, after))
    differs = differences(_circumstances(old, new), _circumstances(new, old))
    if differs and not force:
        raise ValueError(
            "These results are of different circumstances, so that their times do not compare:\n  "
            + "\n  ".join(differs)
            + "\nforce=True (on the command line: --force) compares them all the same."
        )
    mine, theirs = ({row.key: row for row in side.rows} for side in (old, new))
    found = [
        _judged(mine.get(key), theirs.get(key), level) for key in dict.fromkeys([*mine, *theirs])
    ]
    return Comparison(found, differs, level)


def _circumstances(one: Results, other: Results) -> dict[str, Any]:
    """What must be the same; of backends, those that ran in both."""
    both = [n for n, about in one.backends.items() if _ran(about) and _ran(other.backends.get(n))]
    backends = {
        name: {key: one.backends[name].get(key) for key in ("versions", "device", "threads")}
        for name in both
    }
    machine = {key: value for key, value in one.machine.items() if key != "load"}
    return {"machine": machine, **backends}


def _ran(about: Mapping[str, Any] | None) -> bool:
    return about is not None and "reason" not in about


def _judged(before: Row | None, after: Row | None, level: float) -> Judgement:
    if before is None or after is None:
        return Judgement(
            before, after, None, f"only in the {'new' if before is None else 'old'} file"
        )
    if not (before.measured and after.measured):
        if not before.measured and not after.measured:
            return Judgement(before, after, None, "measured in neither")
        which, row = ("new", after) if before.measured else ("old", before)
        return Judgement(before, after, None, f"not in the {which} one: {row.reason}")
    interval = ratio_interval(before.seconds, after.seconds, level)
    return Judgement(before, after, interval, verdict(interval))


def _named(row: Row | None) -> dict[str, Any]:
    assert row is not None
    names = ("model", "scenario", "backend", "periods", "batch", "sizes")
    return {name: getattr(row, name) for name in names}
