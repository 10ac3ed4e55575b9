"""`python -m sim.campaign`: the same function over many inputs, on this machine or on a cluster; resumes where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import FilePath, Number, OutFolder, group, make_console
from model.support.errors import BadInputError, Exit, fail
from sim.campaigns.command import FOLDER, campaign_options, check_where, end_campaign, print_stores, run_to_store
from sim.choices import SIMULATORS

if TYPE_CHECKING:
    from sim.campaigns.engine import Campaign
    from sim.campaigns.jobs import Job

__all__ = ["main"]

# Dask, the models and the simulators take seconds to load: only what runs jobs loads them.


@group(
    help="""Random verification over as many processes and machines as there are.

What is found goes to a store, a file, at once: the same command resumes a campaign that was stopped. Jobs that differ or fail are
kept beside the store with their seeds and files, the campaign goes on, and the exit code says so. One process per core of this
machine is started, or those of a Dask scheduler do the work (--scheduler).
"""
)
def main() -> None:
    """See the help text above."""


_job_spikes = click.option(
    "--job-spikes", default=20_000, show_default=True, type=click.IntRange(100, 10_000_000), help="Spikes of a job, about."
)


@main.command(help="RTL = golden model = cycle model, on random networks, plans, firing modes, frames and stalls.")
@click.option("--spikes", default=1e6, show_default=True, type=Number(1), help="Spikes to compare, such as 1e9.")
@_job_spikes
@click.option("--simulator", default="verilator", show_default=True, type=click.Choice(SIMULATORS))
@campaign_options
def verify(spikes: float, job_spikes: int, simulator: str, seed: int, **options: Any) -> None:
    """See the help text above."""
    check_where(options)
    from sim.campaigns.engine import Campaign
    from sim.campaigns.verification import VERIFY
    from sim.simulators import check_simulator

    if options["scheduler"] is None:
        check_simulator(simulator)
    common: dict[str, int | float | str] = {"seed": seed, "spikes": job_spikes, "simulator": simulator}
    _run(Campaign(kind=VERIFY, common=common, goal=int(spikes), counted="spikes", most_failed=options["most_failed"]), options)


@main.command(help="Golden model = engine, on random networks, those too that no machine is built of.")
@click.option("--spikes", default=1e5, show_default=True, type=Number(1), help="Spikes to compare, such as 1e7.")
@_job_spikes
@campaign_options
def engine(spikes: float, job_spikes: int, seed: int, **options: Any) -> None:
    """See the help text above."""
    check_where(options)
    from sim.campaigns.engine import Campaign
    from sim.campaigns.verification import ENGINE

    common = {"seed": seed, "spikes": job_spikes}
    _run(Campaign(kind=ENGINE, common=common, goal=int(spikes), counted="spikes", most_failed=options["most_failed"]), options)


def _run(campaign: Campaign, options: dict[str, Any]) -> None:
    """Run a campaign, print what its store has, and end with an exit code that says how it went."""
    from sim.campaigns.store import Store

    with Store(options["store"] or FOLDER / f"{campaign.kind.name}.sqlite", new=True) as store:
        tally = run_to_store(campaign, store, options)
        print_stores([store], as_json=options["as_json"])
        end_campaign(tally, store)


@main.command(help="One table of what stores have, each job counted once.")
@click.option("--store", "paths", type=FilePath(), multiple=True, required=True, help="A results store; may be given again.")
@click.option("--docs", type=FilePath(), help="A page whose table is written anew.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on standard output.")
def report(paths: tuple[Path, ...], docs: Path | None, as_json: bool) -> None:
    """See the help text above."""
    from contextlib import ExitStack

    from model.reports.markdown import page_to_fill, with_table
    from model.support.files import write_file
    from sim.campaigns.report import report_markdown
    from sim.campaigns.store import Store

    page = page_to_fill(docs, ["campaigns"]) if docs else ""
    with ExitStack() as stack:
        found = print_stores([stack.enter_context(Store(path)) for path in paths], as_json=as_json)
    if docs:
        write_file(docs, with_table(page, "campaigns", report_markdown(found)))


@main.command(help="How often each rare thing happened in each kind of layer and on each machine, and what never did.")
@click.option("--store", "paths", type=FilePath(), multiple=True, required=True, help="A results store; may be given again.")
@click.option("--docs", type=FilePath(), help="A page whose tables are written anew.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON on standard output.")
def coverage(paths: tuple[Path, ...], docs: Path | None, as_json: bool) -> None:
    """See the help text above."""
    from contextlib import ExitStack
    from functools import reduce

    from model.reports.markdown import markdown, page_to_fill, with_table
    from model.support.files import write_file
    from model.support.results import plain
    from sim.campaigns.crosses import cross_tables
    from sim.campaigns.report import added, cross_rich
    from sim.campaigns.store import Store, merged

    page = page_to_fill(docs, ["coverage"]) if docs else ""
    with ExitStack() as stack:
        results = merged([stack.enter_context(Store(path)) for path in paths])
    tables = cross_tables(reduce(added, (result.outcome.found for result in results), {}))
    holes = [f"{table.title}: {hole}" for table in tables for hole in table.holes]
    cells = sum(table.cells for table in tables)
    if as_json:
        print(json.dumps({"tables": plain(tables), "cells": cells, "holes": holes}, indent=2))
    else:
        console = make_console(width_in_file=200)
        for table in tables:
            console.print(cross_rich(table))
        print(f"{len(holes)} of {cells} never happened")
    if docs:
        parts = [markdown([table.title, *table.columns], table.lines()) for table in tables]
        write_file(docs, with_table(page, "coverage", "\n".join([*parts, f"{len(holes)} of {cells} never happened.\n"])))


@main.command(help="Do one job of a store again, here, and keep its files. KEY is the beginning of its key.")
@click.argument("key")
@click.option("--store", "path", type=FilePath(), required=True, help="The results store.")
@click.option("--out", type=OutFolder(), required=True, help="Folder for the job's files; must be empty or not be there.")
def rerun(key: str, path: Path, out: Path) -> None:
    """See the help text above."""
    from sim.campaigns.jobs import DONE, perform
    from sim.campaigns.store import Store
    from sim.campaigns.verification import ENGINE, VERIFY
    from sim.fuzzing.jobs import FUZZ
    from sim.mutation.jobs import MUTATE, PLANT

    with Store(path) as store:
        found = store.starting_with(key)
    if len(found) != 1:
        raise BadInputError(f"KEY must be the beginning of one key of {path}, not of {len(found)}: {key!r}")
    job: Job = found[0].job
    kinds = {kind.name: kind for kind in (VERIFY, ENGINE, MUTATE, PLANT, *FUZZ.values())}
    if job.kind not in kinds:
        raise BadInputError(f"{path}: kind must be one of {', '.join(kinds)}, not {job.kind!r}")
    if out.exists() and any(out.iterdir()):
        raise BadInputError(f"--out must be empty, not {str(out)!r}")
    out.mkdir(parents=True, exist_ok=True)
    if job.version != kinds[job.kind].version():
        click.echo(f"note: the store has this job of version {job.version[:16]}, which these sources are not", err=True)
    outcome = perform(kinds[job.kind], job, out)
    print(f"{job}: {outcome.outcome}")
    if outcome.outcome != DONE:
        fail(Exit.MISMATCH if outcome.outcome == "differs" else Exit.TOOL_FAILED, outcome.message.partition("\n")[0])


if __name__ == "__main__":
    main()
