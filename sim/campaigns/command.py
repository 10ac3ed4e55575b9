"""What all commands that run campaigns share: their options, how they run one, what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import Number, OutFile, make_console
from model.support.errors import BadInputError, Exit, fail

if TYPE_CHECKING:
    from sim.campaigns.engine import Campaign, Tally
    from sim.campaigns.report import Section
    from sim.campaigns.store import Store

__all__ = ["FOLDER", "campaign_options", "check_where", "end_campaign", "print_stores", "run_to_store"]

# Dask, the models and the simulators take seconds to load: only what runs jobs loads them.

FOLDER = Path("build") / "campaign"


def campaign_options(command: Any) -> Any:
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


def check_where(options: dict[str, Any]) -> None:
    """Refuse an address that is none, and say where Dask is not installed, before anything loads."""
    from sim.campaigns.cluster import check_address, dask_distributed

    if options["scheduler"] is not None:
        if options["workers"] is not None:
            raise BadInputError("--workers must not be given with --scheduler, whose workers they are")
        check_address(options["scheduler"])
    dask_distributed()


def run_to_store(campaign: Campaign, store: Store, options: dict[str, Any]) -> Tally:
    """Run a campaign on this machine or on a scheduler's workers; what it finds goes into the store."""
    from sim.campaigns.cluster import cluster, local_workers
    from sim.campaigns.engine import run_campaign
    from sim.campaigns.progress import Progress

    console = make_console(stderr=True)
    unit = campaign.counted or "jobs"
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
        folder=store.path.with_suffix(".work"),
        patience_seconds=options["patience"],
    ) as client:
        return run_campaign(
            campaign, store, client, progress, retry=options["retry"], patience_seconds=options["patience"]
        )


def end_campaign(tally: Tally, store: Store) -> None:
    """Fail where jobs did."""
    if tally.failed:
        job, message = tally.failed[0]
        first = message.partition("\n")[0]
        what = "differ or failed" if tally.differs else "failed"
        fail(
            Exit.MISMATCH if tally.differs else Exit.TOOL_FAILED,
            f"{len(tally.failed)} of {tally.jobs} jobs {what}, kept in {store.failures}; the first, {job}: {first}",
        )


def print_stores(stores: list[Store], *, as_json: bool) -> list[Section]:
    """Print one table of what stores have, and give it."""
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
