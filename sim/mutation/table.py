"""How many mutants the checks kill, by part: from what a campaign's store has."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model.reports.markdown import markdown
from sim.campaigns.report import added
from sim.mutation.parts import FLOOR, PARTS

__all__ = ["TITLES", "Row", "Score", "lines", "score", "score_markdown"]

CHECKS = {"token": "events", "cycle": "cycles", "latency": "cycles", "counter": "counters", "hang": "hang", "crash": "hang"}
"""What a table calls the checks of `sim.mutation.program.Found`; a machine that never settles gives no answer either."""

_COLUMNS = ("events", "cycles", "counters", "hang")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of the mutants of a part.

    Parameters
    ----------
    part : str
        The part.
    mutants : int
        How many there were.
    killed : Mapping[str, int]
        Those killed, by which check.
    within : Mapping[int, int]
        Of those killed how many within how many cycles, in powers of ten.
    equivalent : int
        Those that are proved to change nothing.
    argued : int
        Those of which an argument says so, `sim.mutation.argued.ARGUED`.
    by_hand, by_hand_killed : int
        Faults made by hand, and those killed.
    """

    part: str
    mutants: int
    killed: Mapping[str, int]
    within: Mapping[int, int]
    equivalent: int
    argued: int = 0
    by_hand: int = 0
    by_hand_killed: int = 0

    @property
    def survived(self) -> int:
        """Those that neither were killed nor are equivalent."""
        return self.mutants - self.equivalent - self.argued - sum(self.killed.values())

    @property
    def percent(self) -> float:
        """Of those neither proved nor argued to be equivalent, how many were killed."""
        asked = self.mutants - self.equivalent - self.argued
        return 100 * sum(self.killed.values()) / asked if asked else 100.0

    def half_within(self) -> int:
        """Cycles, a power of ten, within which half of those killed were; 0 where none was."""
        found, half = 0, sum(self.within.values()) / 2
        for cycles, count in sorted(self.within.items()):
            found += count
            if found >= half:
                return cycles
        return 0


@dataclass(frozen=True, kw_only=True)
class Score:
    """What became of all mutants.

    Parameters
    ----------
    rows : list[Row]
        By part, those that have any.
    survivors : list[str]
        Each mutant, and each fault by hand, that survived: part, design, source, module, cell, port and kind.
    """

    rows: list[Row] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)

    @property
    def below(self) -> list[str]:
        """Parts of which fewer are killed than `FLOOR` asks for."""
        return [row.part for row in self.rows if row.percent < FLOOR and row.part != "machine"]


def score(results: Iterable[Mapping[str, Any]]) -> Score:
    """The score of what jobs found."""
    found: dict[str, Any] = {}
    for result in results:
        found = added(found, result)
    rows = []
    for part in PARTS:
        mutants, by_hand = found.get("of part", {}).get(part, 0), found.get("by hand, of part", {}).get(part, 0)
        if not mutants and not by_hand:
            continue
        killed: dict[str, int] = {}
        for check, count in _of(found.get("killed", {}), part).items():
            killed[CHECKS[check]] = killed.get(CHECKS[check], 0) + count
        within = _of(found.get("killed within cycles", {}), part)
        rows.append(
            Row(
                part=part,
                mutants=mutants,
                killed=killed,
                within={int(cycles.replace(",", "")): count for cycles, count in within.items()},
                equivalent=found.get("proved equivalent", {}).get(part, 0),
                argued=found.get("argued", {}).get(part, 0),
                by_hand=by_hand,
                by_hand_killed=sum(_of(found.get("by hand, killed", {}), part).values()),
            )
        )
    return Score(rows=rows, survivors=sorted({*found.get("survivors", []), *found.get("by hand, survivors", [])}))


def _of(found: Mapping[str, int], part: str) -> dict[str, int]:
    """Entries of a part, which stands before the comma."""
    return {name.partition(", ")[2]: count for name, count in found.items() if name.partition(", ")[0] == part}


TITLES = (
    "part", "mutants", *(f"killed by {check}" for check in _COLUMNS), "half within cycles", "proved equivalent", "argued",
    "survived", "killed", "by hand, killed",
)  # fmt: skip


def lines(found: Score) -> list[list[str]]:
    """The table's lines, as texts."""
    told = []
    for row in found.rows:
        by_check = [f"{row.killed.get(check, 0):,}" for check in _COLUMNS]
        counts = [f"{row.half_within():,}", f"{row.equivalent:,}", f"{row.argued:,}", f"{row.survived:,}", f"{row.percent:.1f} %"]
        told.append([row.part, f"{row.mutants:,}", *by_check, *counts, f"{row.by_hand_killed} of {row.by_hand}"])
    return told


def score_markdown(found: Score) -> str:
    """The table for a page."""
    return markdown(TITLES, lines(found))
