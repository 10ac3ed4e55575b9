"""What campaigns found, merged from their stores: a section for each kind of job and version."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from model.reports.markdown import markdown
from sim.campaigns.crosses import BY_LAYER, BY_MACHINE, BY_PLAN, CrossTable
from sim.campaigns.jobs import DIFFERS, FAILED
from sim.campaigns.progress import duration
from sim.campaigns.store import Result

__all__ = ["Section", "added", "cross_rich", "ranges", "report_markdown", "report_table", "sections"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """What jobs of one kind and version found.

    Parameters
    ----------
    kind, version : str
        Of the jobs.
    jobs, differ, failed : int
        Jobs; those that found a difference, and those that could not be done.
    found : dict[str, Any]
        What they found, added up.
    seeds : dict[str, str]
        Of each other parameter and its value the numbers of the jobs, such as ``"0..99"``.
    processor_seconds : float
        Time of processors.
    """

    kind: str
    version: str
    jobs: int
    differ: int
    failed: int
    found: dict[str, Any]
    seeds: dict[str, str]
    processor_seconds: float


def added(one: Any, other: Any) -> Any:
    """Two findings as one: numbers are added, lists joined, each element once; dicts name by name."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        both = {**one, **other}
        return {name: added(one[name], other[name]) if name in one and name in other else both[name] for name in both}
    if isinstance(one, list) and isinstance(other, list):
        return sorted({*one, *other})
    return one + other


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in as few words as it takes: ``"0..4, 7"``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in found)


def sections(results: Sequence[Result]) -> list[Section]:
    """All that was found, by kind and version."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.job.kind, result.job.version), []).append(result)
    return [_section(kind, version, group) for (kind, version), group in sorted(groups.items())]


def _section(kind: str, version: str, results: Sequence[Result]) -> Section:
    found: dict[str, Any] = {}
    numbers: dict[str, list[int]] = {}
    for result in results:
        found = added(found, result.outcome.found)
        common = ", ".join(f"{name} {value}" for name, value in result.job.parameters.items() if name != "number")
        numbers.setdefault(common, []).append(int(result.job.parameters.get("number", 0)))
    outcomes = [result.outcome.outcome for result in results]
    return Section(
        kind=kind,
        version=version,
        jobs=len(results),
        differ=outcomes.count(DIFFERS),
        failed=outcomes.count(FAILED),
        found=found,
        seeds={common: ranges(each) for common, each in sorted(numbers.items())},
        processor_seconds=round(sum(result.outcome.seconds for result in results), 1),
    )


def report_table(found: Sequence[Section]) -> Table:
    """One table: a column for each section."""
    table = Table(title="What campaigns found")
    table.add_column("")
    for section in found:
        table.add_column(f"{section.kind}\n{section.version[:16]}", justify="right", overflow="fold")
    for row in _rows(found):
        table.add_row(*row)
    return table


def cross_rich(table: CrossTable) -> Table:
    """One table of functional coverage for a terminal."""
    found = Table(title=table.title)
    for name in ("", *table.columns):
        found.add_column(name, justify="right" if name else "left")
    for line in table.lines():
        found.add_row(*(cell.strip("*") for cell in line))
    return found


def report_markdown(found: Sequence[Section]) -> str:
    """The same for a page."""
    rows = [[cell.replace("\n", ", ") for cell in row] for row in _rows(found)]
    return markdown(["", *(f"`{section.kind}`, version {section.version[:16]}" for section in found)], rows)


def _rows(found: Sequence[Section]) -> list[list[str]]:
    """What the sections have, each line with its name."""
    columns = [_lines(section) for section in found]
    names: dict[str, None] = {}
    for column in columns:
        names |= dict.fromkeys(column)
    # What all sections have comes last.
    return [[name, *(column.get(name, "") for column in columns)] for name in sorted(names, key=lambda name: name in _LAST)]


_LAST = ("seeds", "processor time")


def _lines(section: Section) -> dict[str, str]:
    lines = {"jobs": f"{section.jobs:,}", "jobs that differ": f"{section.differ:,}", "jobs that failed": f"{section.failed:,}"}
    for name, value in section.found.items():
        if name in (BY_LAYER, BY_MACHINE, BY_PLAN):
            # They have tables of their own.
            continue
        if isinstance(value, Mapping):
            lines |= {f"{name}: {part}": f"{number:,}" for part, number in sorted(value.items())}
        else:
            lines[name] = "\n".join(value) if isinstance(value, list) else f"{value:,}"
    lines["seeds"] = "\n".join(f"{common}: {numbers}" for common, numbers in section.seeds.items())
    lines["processor time"] = duration(section.processor_seconds)
    return lines
