"""`python -m boards.lines`: which lines and branches of the hardware's description no machine reaches when it is elaborated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.support.cli import FilePath, command, make_console, make_table, progress_bar
from model.support.errors import Exit, fail

if TYPE_CHECKING:
    from sim.elaboration.measuring import Module

__all__ = ["main"]

ROOT = Path(__file__).parents[1]

NOT_ELABORATED = ("hw/build.py", "hw/area_study.py", "hw/link/protocol.py")
"""Besides the flow: commands, and what the host's side shares."""

HELP = """Elaborate many machines, simulate none, and say which lines and branches of hw/ that reaches: the others may be dead.

Elaborated are machines that are drawn from the seed as campaigns draw theirs (pipelines and folded machines of all firings,
graphs and merges), each with an encoder and a link, those of bundled networks, and tops of boards of each family. Functions
are measured, as what is outside of them runs at an import; without the flow to bitstreams, and without properties that give
a parameter back. A refusal (a block that ends in raise) is no hole. Of each of the others there is a reason, or it is open:
then the exit code is 5.
"""


@command(help=HELP)
@click.option("--machines", default=150, show_default=True, type=click.IntRange(1, 100_000), help="Random machines to elaborate.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of the machines.")
@click.option("--docs", type=FilePath(), help="A page whose table is written anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(machines: int, seed: int, docs: Path | None, as_json: bool) -> None:
    """See the help text above."""
    from model.reports.markdown import page_to_fill, with_table
    from model.support.files import write_file
    from model.support.results import plain
    from sim.elaboration.argued import reason, unused
    from sim.elaboration.measuring import measured
    from sim.elaboration.table import lines_markdown

    if docs:
        page_to_fill(docs, ["lines"])
    begun = time.process_time()

    def work() -> None:
        with progress_bar(make_console(stderr=True)) as bar:
            works = [*_tops(), *_systems(seed, machines)]
            task = bar.add_task("elaborating", total=len(works))
            for each in works:
                each()
                bar.update(task, advance=1)

    found = measured(work, root=ROOT, folders=[ROOT / "hw", ROOT / "boards"], wanted=_elaborated)
    elaborated = f"{machines:,} random machines of seed {seed}, {time.process_time() - begun:.0f} s of processor time"
    holes = [hole for module in found for hole in module.holes]
    open_holes, stale = [hole for hole in holes if reason(hole) is None], unused(holes)
    if docs:
        # It may have been edited meanwhile.
        write_file(docs, with_table(page_to_fill(docs, ["lines"]), "lines", lines_markdown(found, elaborated)))
    if as_json:
        print(json.dumps({"modules": plain(found), "argued": {hole.place: reason(hole) for hole in holes}}, indent=2))
    else:
        _show(found)
        for hole in open_holes:
            print(f"open: {hole}")
        for place in stale:
            print(f"reached, and argued all the same: {place}")
        print(elaborated)
    if open_holes or stale:
        fail(
            Exit.MISMATCH,
            f"{len(open_holes)} lines and branches are neither reached nor argued, {len(stale)} reasons are for none",
        )


def _elaborated(module: str, function: str) -> bool:
    """Whether a function builds hardware."""
    if module.startswith("hw/flow/"):
        # Of the flow, what makes a clock of a board's.
        return module.startswith("hw/flow/families/") and function.endswith(".instance")
    return module == "boards/top.py" or (module.startswith("hw/") and module not in NOT_ELABORATED)


def _systems(seed: int, machines: int) -> Iterator[Callable[[], None]]:
    from sim.elaboration.machines import bundled_systems, random_systems

    yield from bundled_systems()
    yield from random_systems(seed, machines)


def _tops() -> Iterator[Callable[[], None]]:
    """What elaborates tops: of a board of each family, with its own network and clock, and with a small one at another clock."""
    from boards.bundled import BUNDLED, chosen_for
    from boards.definitions import BOARDS
    from boards.top import BoardTop
    from model.machine.named_plans import load_plan
    from model.network import Network
    from sim.elaboration.machines import elaborate

    small = BUNDLED.with_name("mnist-small.npz")
    for board in {board.family: board for board in reversed(BOARDS.values())}.values():
        for (net, plan), share in ((chosen_for(board, None, None), 1.0), ((small, "minimal"), 0.75)):

            def work(board=board, net=net, plan=plan, share=share) -> None:  # type: ignore[no-untyped-def]
                network = Network.load(net)
                hz = share * board.frequency_mhz * 1e6
                elaborate(BoardTop(board=board, network=network, plan=load_plan(network, plan), frequency_hz=hz))

            yield work


def _show(modules: list[Module]) -> None:
    from sim.elaboration.table import TITLES, lines_of, total

    table = make_table(title="Functions, when machines are elaborated")
    table.add_column("module", overflow="fold")
    for title in TITLES:
        table.add_column(title, justify="right")
    for module in [*modules, total("all", modules)]:
        table.add_row(module.name, *lines_of(module))
    make_console(width_in_file=120).print(table)


if __name__ == "__main__":
    main()
