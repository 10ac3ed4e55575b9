"""`python -m sim.prove`: properties of parts of the RTL, proved for all inputs, and a planted fault in each that is found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.reports.markdown import markdown, page_to_fill, with_table
from model.support.cli import FilePath, OutFolder, command, make_console, make_table, progress_bar
from model.support.errors import BadInputError, MismatchError
from model.support.files import write_file
from sim.formal.solvers import SOLVERS

if TYPE_CHECKING:
    from sim.formal.properties import Check, Checked, Property

__all__ = ["main"]


@command()
@click.option("--only", help="Parts to prove, with commas between their names; all by default.")
@click.option("--solver", type=click.Choice(list(SOLVERS)), help="By default the first one of these that is installed.")
@click.option("--jobs", type=click.IntRange(1), help="Proofs side by side; one per core by default.")
@click.option("--out", type=OutFolder(), default=Path("build/formal"), show_default=True, help="Folder for what is written.")
@click.option("--docs", type=FilePath(), help="A page whose table is written anew, where all parts are proved.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on standard output.")
def main(only: str | None, solver: str | None, jobs: int | None, out: Path, docs: Path | None, as_json: bool) -> None:
    """Prove properties of parts of the RTL.

    Of each case of a property it searches the first cycle for a failure, proves the rest by induction, and reaches what must be
    possible. Then it plants a fault in the part's source and searches for the failure that this must cause. Exit code 5 where a
    property fails, or a fault is not found; what led there is left as a VCD file.
    """
    from sim.formal.prover import find_solver

    wanted, solver = _chosen(only), find_solver(solver)
    if docs and only:
        raise BadInputError("--docs must not be given with --only: its table is of all parts")
    page = page_to_fill(docs, ["formal"]) if docs else ""
    results = _run(wanted, solver, out, jobs or os.cpu_count())
    rows = [_Row.of(one, results[one.part]) for one in wanted]
    if docs:
        write_file(docs, with_table(page, "formal", _table(wanted, rows)))
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _show(rows, solver)
    failed = [row.name for row in rows if not (row.proved and row.fault_found)]
    if failed:
        raise MismatchError(f"not proved: {'; '.join(failed)}")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What became of a property: fields of the JSON."""

    part: str
    name: str
    cases: int
    assertions: int
    proved: bool
    fault_found: bool
    processor_seconds: float

    @classmethod
    def of(cls, one: Property, found: list[Checked]) -> _Row:
        proofs = [result for result in found if not result.of_fault]
        return cls(
            part=f"{one.module.__name__}.{one.part}",
            name=one.name,
            cases=len(proofs),
            assertions=sum(result.asserts for result in proofs),
            proved=not any(result.failed for result in proofs),
            fault_found=not any(result.failed for result in found if result.of_fault),
            processor_seconds=round(sum(result.seconds for result in found), 1),
        )


def _run(wanted: list[Property], solver: str, out: Path, jobs: int | None) -> dict[str, list[Checked]]:
    """All checks, side by side, told as they end; gives their results by part."""
    from model.support.steps import side_by_side
    from sim.formal.properties import checks
    from sim.formal.prover import stopped_provers

    console = make_console(stderr=True)
    todo = [check for one in wanted for check in checks(one, out / one.part)]
    results: dict[str, list[Checked]] = {one.part: [] for one in wanted}

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    with progress_bar(console) as bar:
        task = bar.add_task("", total=len(todo))

        def run(check: Check) -> None:
            one = check.wanted
            result, found = check.run(solver), results[one.part]
            found.append(result)
            bar.update(task, advance=1, description=one.part)
            if result.failed:
                say(f"FAILED {one.part}: {one.name}: {result.failed}")
            if len(found) == len(one.cases) + len(one.faults):
                row = _Row.of(one, found)
                what = "proved" if row.proved and row.fault_found else "FAILED"
                say(f"{one.part}: {what}, {row.cases} cases, {row.processor_seconds} s of processor time: {one.name}")

        works: list[Callable[[], None]] = [partial(run, check) for check in todo]
        side_by_side(*works, stop=stopped_provers, at_once=jobs)
    return results


def _chosen(only: str | None) -> list[Property]:
    from sim.formal.catalogue import PROPERTIES

    parts = {one.part: one for one in PROPERTIES}
    wanted = [name.strip() for name in only.split(",")] if only else list(parts)
    for name in wanted:
        if name not in parts:
            raise BadInputError(f"--only must be of {', '.join(parts)}, not {name!r}")
    return [parts[name] for name in wanted]


def _table(wanted: list[Property], rows: list[_Row]) -> str:
    titles = ("property", "part", "for", "method", "cases", "assertions", "result", "planted fault", "processor seconds")
    lines = [
        (
            one.name,
            f"`{row.part}`",
            one.bound,
            "induction" if one.steps == 1 else f"induction, {one.steps} cycles",
            f"{row.cases}",
            f"{row.assertions:,}",
            "proved" if row.proved else "fails",
            f"{'found' if row.fault_found else 'missed'}: {'; '.join(fault.says for fault in one.faults)}",
            f"{row.processor_seconds}",
        )
        for one, row in zip(wanted, rows, strict=True)
    ]
    return markdown(titles, lines)


def _show(rows: list[_Row], solver: str) -> None:
    table = make_table(title=f"Properties, by {solver}")
    table.add_column("part")
    for title in ("cases", "assertions", "processor seconds"):
        table.add_column(title, justify="right")
    table.add_column("result")
    for row in rows:
        proofs = "proved" if row.proved else "FAILED"
        result = f"{proofs}, fault {'found' if row.fault_found else 'MISSED'}"
        table.add_row(row.part.rpartition(".")[2], f"{row.cases}", f"{row.assertions:,}", f"{row.processor_seconds}", result)
    make_console().print(table)


if __name__ == "__main__":
    main()
