"""What came of inputs, by way in: the longest campaign of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from model.reports.markdown import markdown
from sim.campaigns.progress import duration
from sim.campaigns.report import Section, sections
from sim.campaigns.store import Result
from sim.fuzzing.judge import ACCEPTED, FAILED, REFUSED
from sim.fuzzing.targets import TARGETS

__all__ = ["TITLES", "Row", "as_json", "fuzz_markdown", "rows"]

TITLES = (
    *("way in", "inputs", "refused", "accepted and right", "failed", "refused by", "checked", "sources", "seeds"),
    "processor time",
)

_SHOWN = 4
"""Kinds that a cell names; the others are added up."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of a way in's inputs.

    Parameters
    ----------
    target : str
        The way in.
    section : Section
        What its jobs found.
    """

    target: str
    section: Section

    @property
    def inputs(self) -> int:
        """How many there were."""
        return int(self.section.found.get("inputs", 0))

    def count(self, outcome: str) -> int:
        """How many had an outcome."""
        return sum(self.section.found.get(outcome, {}).values())

    def line(self) -> list[str]:
        """Its cells, as `TITLES`."""
        found, inputs = self.section.found, max(1, self.inputs)
        failed = "; ".join(f"{number:,} {kind}" for kind, number in sorted(found.get(FAILED, {}).items()))
        return [
            self.target,
            f"{self.inputs:,}",
            f"{100 * self.count(REFUSED) / inputs:.1f} %",
            f"{100 * self.count(ACCEPTED) / inputs:.1f} %",
            failed or "0",
            _most(found.get(REFUSED, {})),
            _most(found.get(ACCEPTED, {})),
            self.section.version[:16],
            "; ".join(f"{common}: {numbers}" for common, numbers in self.section.seeds.items()),
            duration(self.section.processor_seconds),
        ]


def _most(kinds: Mapping[str, int]) -> str:
    """The kinds that are most, with their numbers."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{kind} {number:,}" for kind, number in ordered[:_SHOWN]]
    if rest := sum(number for _, number in ordered[_SHOWN:]):
        told.append(f"{len(ordered) - _SHOWN} others {rest:,}")
    return "; ".join(told)


def rows(results: Iterable[Result]) -> list[Row]:
    """Of each way in the version with the most inputs."""
    found: dict[str, Row] = {}
    for section in sections([result for result in results if result.job.kind.startswith("fuzz-")]):
        row = Row(target=section.kind.removeprefix("fuzz-"), section=section)
        if row.target not in found or row.inputs > found[row.target].inputs:
            found[row.target] = row
    return [found[name] for name in TARGETS if name in found]


def fuzz_markdown(found: Iterable[Row]) -> str:
    """The rows as a table of a page."""
    return markdown(TITLES, [row.line() for row in found])


def as_json(found: Iterable[Row]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [
        {"target": row.target, **row.section.found, "version": row.section.version, "seeds": row.section.seeds}
        | {"processor_seconds": row.section.processor_seconds}
        for row in found
    ]
