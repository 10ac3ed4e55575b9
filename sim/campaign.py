"""`python -m sim.campaign`: the same function over many inputs, on this machine or on a cluster; resumes where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import FilePath, Number, OutFile, OutFolder, group, make_console
from model.support.errors import BadInputError, Exit, fail
from sim.choices import SIMULATORS

if TYPE_CHECKING:
    from sim.campaigns.engine import Campaign, Tally
    from sim.campaigns.jobs import Job
    from sim.campaigns.report import Section
    from sim.campaigns.store import Store

__all__ = ["main"]

# Dask, the models and the simulators take seconds to load: only what runs jobs loads them.

FOLDER = Path("build") / "campaign"


@group(
    help="""Random verification over as many processes and machines as there are.

What is found goes to a store, a file, at once: the same command resumes a campaign that was stopped. Jobs that differ or fail are
kept beside the store with their seeds and files, the campaign goes on, and the exit code says so. One process per core of this
machine is started, or those of a Dask scheduler do the work (--scheduler).
"""
)
def main() -> None:
    """See the help text above."""


def _options(command: Any) -> Any:
    """The options of all campaigns."""
    options: list[Callable[[Any], Any]] = [
        click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of all that is drawn."),
        click.option("--workers", type=click.IntRange(1), help="Processes to start; by default one per core."),
        click.option("--scheduler", metavar="URL", help="Address of a Dask scheduler whose workers do it, such as tcp://host:8786."),
        click.option(
            "--patience", default=30.0, show_default=True, type=Number(0.1),
            help="Seconds to wait for a scheduler that does not answer.",
        ),
        click.option("--store", type=OutFile(".sqlite"), help="Results store; build/campaign/KIND.sqlite by default."),
        click.option("--retry", is_flag=True, help="Do jobs of the store that differ or failed again."),
        click.option(
            "--most-failed", default=100, show_default=True, type=click.IntRange(1),
            help="Jobs that differ or fail after which no more are begun.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print what the store has as JSON on standard output."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


_job_spikes = click.option(
    "--job-spikes", default=20_000, show_default=True, type=click.IntRange(100, 10_000_000), help="Spikes of a job, about."
)


@main.command(help="RTL = golden model = cycle model, on random networks, plans, firing modes, frames and stalls.")
@click.option("--spikes", default=1e6, show_default=True, type=Number(1), help="Spikes to compare, such as 1e9.")
@_job_spikes
@click.option("--simulator", default="verilator", show_default=True, type=click.Choice(SIMULATORS))
@_options
def verify(spikes: float, job_spikes: int, simulator: str, seed: int, **options: Any) -> None:
    """See the help text above."""
    _check_where(options)
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
@_options
def engine(spikes: float, job_spikes: int, seed: int, **options: Any) -> None:
    """See the help text above."""
    _check_where(options)
    from sim.campaigns.engine import Campaign
    from sim.campaigns.verification import ENGINE

    common = {"seed": seed, "spikes": job_spikes}
    _run(Campaign(kind=ENGINE, common=common, goal=int(spikes), counted="spikes", most_failed=options["most_failed"]), options)


def _check_where(options: dict[str, Any]) -> None:
    """Refuse an address that is none, and say where Dask is not installed, before anything loads."""
    from sim.campaigns.cluster import check_address, dask_distributed

    if options["scheduler"] is not None:
        if options["workers"] is not None:
            raise BadInputError("--workers must not be given with --scheduler, whose workers they are")
        check_address(options["scheduler"])
    dask_distributed()


def _run(campaign: Campaign, options: dict[str, Any]) -> None:
    """Run a campaign, print what its store has, and end with an exit code that says how it went."""
    from sim.campaigns.cluster import cluster, local_workers
    from sim.campaigns.engine import run_campaign
    from sim.campaigns.progress import Progress
    from sim.campaigns.store import Store

    console = make_console(stderr=True)
    path = options["store"] or FOLDER / f"{campaign.kind.name}.sqlite"
    unit = campaign.counted or "jobs"
    with Store(path, new=True) as store:
        workers = 0
        if options["scheduler"] is None:
            workers, note = local_workers(campaign.kind, options["workers"])
            if note:
                console.print(f"note: {note}", highlight=False, soft_wrap=True)
        progress = Progress(console, name=campaign.kind.name, goal=campaign.goal, unit=unit)
        with cluster(
            campaign.kind,
            workers=workers,
            scheduler=options["scheduler"],
            folder=path.with_suffix(".work"),
            patience_seconds=options["patience"],
        ) as client:
            tally = run_campaign(campaign, store, client, progress, retry=options["retry"])
        _print([store], as_json=options["as_json"])
        _end(tally, store)


def _end(tally: Tally, store: Store) -> None:
    """Fail where jobs did."""
    if tally.failed:
        job, message = tally.failed[0]
        first = message.partition("\n")[0]
        what = "differ or failed" if tally.differs else "failed"
        fail(
            Exit.MISMATCH if tally.differs else Exit.TOOL_FAILED,
            f"{len(tally.failed)} of {tally.jobs} jobs {what}, kept in {store.failures}; the first, {job}: {first}",
        )


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
        found = _print([stack.enter_context(Store(path)) for path in paths], as_json=as_json)
    if docs:
        write_file(docs, with_table(page, "campaigns", report_markdown(found)))


def _print(stores: list[Store], *, as_json: bool) -> list[Section]:
    from model.support.results import plain
    from sim.campaigns.report import report_table, sections
    from sim.campaigns.store import merged

    found = sections(merged(stores))
    if as_json:
        print(json.dumps(plain(found), indent=2))
    elif found:
        make_console(width_in_file=120).print(report_table(found))
    else:
        print("no jobs")
    return found


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

    with Store(path) as store:
        found = store.starting_with(key)
    if len(found) != 1:
        raise BadInputError(f"KEY must be the beginning of one key of {path}, not of {len(found)}: {key!r}")
    job: Job = found[0].job
    kinds = {kind.name: kind for kind in (VERIFY, ENGINE)}
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
