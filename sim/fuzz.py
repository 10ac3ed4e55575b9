"""`python -m sim.fuzz`: whatever comes in, wrong in every way: refused in one line, or accepted and right; as a campaign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import FilePath, Number, command, make_console, make_table
from model.support.errors import BadInputError
from sim.campaigns.command import FOLDER, campaign_options, check_where, end_campaign, run_to_store

if TYPE_CHECKING:
    from sim.fuzzing.table import Row

__all__ = ["main"]

# Dask, the models and the simulators take seconds to load: only what runs jobs loads them.

_TARGETS = ("network", "plan", "data", "onnx", "host", "device", "http")

HELP = """Read inputs that are wrong in every way, and check what comes of them.

TARGET is one or several of: network, plan, data and onnx, files; host, what a board sends to its host; device, what a host sends
to a board, its RTL in Verilator; http, requests to the demo.

An input is drawn from the seed and its number: a small right one in which fields, sizes, values or bytes are changed. It must be
refused in one line, or be accepted, and then what comes of it is checked. Whatever else happens is a failure: another
exception, a warning, a crash, too much time of the processor or memory, a wrong answer. Inputs that fail are kept beside the
store. What is found goes to the store, a file, at once: the same command resumes what was stopped. Exit code 5 where an input
failed.
"""


@command(help=HELP)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option("--inputs", default=1e4, show_default=True, type=Number(1), help="Inputs of each target, such as 1e6.")
@click.option("--job-inputs", default=10_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Inputs of a job.")
@click.option("--docs", type=FilePath(), help="A page whose table is written anew.")
@campaign_options
def main(targets: tuple[str, ...], inputs: float, job_inputs: int, docs: Path | None, seed: int, **options: Any) -> None:
    """See the help text above."""
    for name in targets:
        if name not in _TARGETS:
            raise BadInputError(f"TARGET must be one of {', '.join(_TARGETS)}, not {name!r}")
    check_where(options)
    from model.reports.markdown import page_to_fill, with_table
    from model.support.files import write_file
    from sim.campaigns.engine import Campaign
    from sim.campaigns.store import Store
    from sim.fuzzing.jobs import FUZZ
    from sim.fuzzing.table import fuzz_markdown, rows
    from sim.simulators import check_simulator

    page = page_to_fill(docs, ["fuzzing"]) if docs else ""
    if "device" in targets and options["scheduler"] is None:
        check_simulator("verilator")
    common: dict[str, int | float | str] = {"seed": seed, "inputs": job_inputs}
    with Store(options["store"] or FOLDER / "fuzz.sqlite", new=True) as store:
        tallies = []
        for name in dict.fromkeys(targets):
            campaign = Campaign(
                kind=FUZZ[name], common=common, goal=int(inputs), counted="inputs", most_failed=options["most_failed"]
            )
            tallies.append(run_to_store(campaign, store, options))
        found = rows(list(store.results()))
        _show(found, as_json=options["as_json"])
        if docs:
            write_file(docs, with_table(page, "fuzzing", fuzz_markdown(found)))
        for tally in tallies:
            end_campaign(tally, store)


def _show(found: list[Row], *, as_json: bool) -> None:
    from model.support.results import plain
    from sim.fuzzing.table import TITLES
    from sim.fuzzing.table import as_json as for_machines

    if as_json:
        print(json.dumps(plain(for_machines(found)), indent=2))
        return
    table = make_table(title="Inputs")
    for number, title in enumerate(TITLES):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for row in found:
        table.add_row(*row.line())
    make_console(width_in_file=160).print(table)


if __name__ == "__main__":
    main()
