"""`python -m sim.mutate`: what a planted fault does to the checks; as a campaign, which resumes where it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import FilePath, command, make_console, make_table
from model.support.errors import BadInputError, Exit, fail
from sim.campaigns.command import FOLDER, campaign_options, check_where, end_campaign, run_to_store

if TYPE_CHECKING:
    from sim.campaigns.store import Store
    from sim.mutation.table import Score

__all__ = ["main"]

# Dask, the models and the simulators take seconds to load: only what runs jobs loads them.

HELP = """Plant faults in the hardware, and see which the checks find.

Yosys changes single bits of the machines' netlists, many mutants in one compiled netlist, and each is simulated and compared as
co-simulation does: every event of every link, in order, and its cycle, answers and counters of saturations. Of those that differ
in nothing a SAT solver proves that they never do, where it can. The rest survives, and is listed. Then come faults that were made
by hand in the sources.

What is found goes to a store, a file, at once: the same command resumes what was stopped. Exit code 5 where less than 95 % of a
part's mutants are killed.
"""


@command(help=HELP)
@click.option("--mutants", default=1000, show_default=True, type=click.IntRange(1), help="How many to simulate.")
@click.option("--job-mutants", default=60, show_default=True, type=click.IntRange(1, 2000), help="Mutants of a netlist.")
@click.option("--designs", help="What to mutate, with semicolons between the names; all by default.")
@click.option("--by-hand/--no-by-hand", default=True, show_default=True, help="Also plant the faults that were made by hand.")
@click.option("--docs", type=FilePath(), help="A page whose table is written anew.")
@campaign_options
def main(
    mutants: int, job_mutants: int, designs: str | None, by_hand: bool, docs: Path | None, seed: int, **options: Any
) -> None:
    """See the help text above."""
    check_where(options)
    from model.reports.markdown import page_to_fill, with_table
    from model.support.files import write_file
    from sim.campaigns.engine import Campaign
    from sim.campaigns.store import Store
    from sim.mutation.faults import FAULTS
    from sim.mutation.jobs import LISTED, MUTATE, PLANT
    from sim.mutation.table import score_markdown
    from sim.simulators import check_simulator

    names = _chosen(designs)
    page = page_to_fill(docs, ["mutation"]) if docs else ""
    if options["scheduler"] is None:
        check_simulator("verilator")
    most_failed = options["most_failed"]
    common: dict[str, int | float | str] = {"seed": seed, "mutants": job_mutants, "designs": "; ".join(names)}
    batches = len(names) * -(-LISTED // job_mutants)
    campaigns = [
        Campaign(kind=MUTATE, common=common, goal=mutants, counted="mutants", numbers=batches, most_failed=most_failed)
    ]
    if by_hand:
        campaigns.append(
            Campaign(kind=PLANT, common={"seed": 0}, goal=len(FAULTS), numbers=len(FAULTS), most_failed=most_failed)
        )
    with Store(options["store"] or FOLDER / "mutate.sqlite", new=True) as store:
        tallies = [run_to_store(campaign, store, options) for campaign in campaigns]
        found = _score(store)
        _show(found, as_json=options["as_json"])
        if docs:
            write_file(docs, with_table(page, "mutation", score_markdown(found)))
        for tally in tallies:
            end_campaign(tally, store)
    if found.below:
        fail(Exit.MISMATCH, f"less than 95 % of the mutants are killed of: {', '.join(found.below)}")


def _chosen(designs: str | None) -> list[str]:
    from sim.mutation.designs import DESIGNS

    names = [name.strip() for name in designs.split(";")] if designs else list(DESIGNS)
    for name in names:
        if name not in DESIGNS:
            raise BadInputError(f"--designs must be of {'; '.join(DESIGNS)}, not {name!r}")
    return names


def _score(store: Store) -> Score:
    """What these sources' jobs in the store found."""
    from sim.mutation.jobs import MUTATE, PLANT
    from sim.mutation.table import score

    kinds = (MUTATE, PLANT)
    return score(result.outcome.found for kind in kinds for result in store.results(kind.name, kind.version()))


def _show(found: Score, *, as_json: bool) -> None:
    from model.support.results import plain
    from sim.mutation.table import TITLES, lines

    if as_json:
        rows = [asdict(row) | {"survived": row.survived, "percent": round(row.percent, 2)} for row in found.rows]
        print(json.dumps(plain({"rows": rows, "survivors": found.survivors}), indent=2))
        return
    table = make_table(title="Mutants")
    for number, title in enumerate(TITLES):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for line in lines(found):
        table.add_row(*line)
    make_console(width_in_file=120).print(table)
    for survivor in found.survivors:
        print(f"survived: {survivor}")


if __name__ == "__main__":
    main()
