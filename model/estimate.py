"""Cycles, energy and area of a plan before any synthesis, and which plan to take: `python -m model.estimate`.

This command puts the parts together, so it knows of hardware and boards; nothing else in `model` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.support.cli import (
    FilePath,
    FolderPath,
    Number,
    OutFile,
    OutFolder,
    command,
    doing,
    make_console,
    make_table,
    progress_bar,
    tell,
)
from model.support.errors import BadInputError, DoesNotFitError
from model.support.files import check_apart, check_writable_folder, not_written, write_all
from model.support.results import to_json

if TYPE_CHECKING:
    from boards.definitions import Board
    from model.machine.estimate import Estimate
    from model.machine.plan import Plan
    from model.network import Network
    from model.reports.html import Table

_CLOCK_MHZ, _FOLDED_CLOCK_MHZ = 60.0, 24.0
"""Clocks where none is asked for: what an ECP5 meets, and what an iCE40 UP5K does."""


@command(help="Cycles, frames per second and the use of every core, before any synthesis; and which plan to take.")
@click.argument("net", type=FilePath())
@click.option(
    "--plan", "plan_name", metavar="PLAN",
    help="minimal, default, fast, folded, or a .json file; default if nothing else is asked for.",
)
@click.option(
    "--target-fps", type=Number(0, min_open=True),
    help="Plan for this many frames per second: the fewest lanes that reach it.",
)
@click.option("--max-lanes", type=click.IntRange(1), help="Plan for this many lanes: the fastest plan that has no more.")
@click.option(
    "--max-lut", type=click.IntRange(1), help="Plan for this many LUTs: the fastest plan that is estimated to take no more."
)
@click.option(
    "--board", metavar="BOARD",
    help="Whether it fits there; without --plan, the fastest plan that does (with queues in block RAM one of at most 60 % of the "
    "LUTs, or of --max-lut), or the board's own where it has no ECP5.",
)
@click.option(
    "--clock", "clock_mhz", type=Number(0, min_open=True), help="Clock in MHz; the board's, or 60, or 24 for a folded machine."
)
@click.option(
    "--weight-check", is_flag=True, help="With the check of weights while the machine runs, which no plan is chosen for."
)
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--frames", default=1000, show_default=True, type=click.IntRange(1), help="Frames to run, the first test frames.")
@click.option("--save-plan", type=OutFile(".json"), help="Write the plan to this .json file, for --plan elsewhere.")
@click.option("--out", type=OutFolder(), help="Folder for estimate.json and estimate.html; build/NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    plan_name: str | None,
    target_fps: float | None,
    max_lanes: int | None,
    max_lut: int | None,
    board: str | None,
    clock_mhz: float | None,
    weight_check: bool,
    dataset: str,
    data_dir: Path | None,
    frames: int,
    save_plan: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    from boards.definitions import board_named
    from boards.limits import limits, relief, room
    from hw.flow.area import estimate_area
    from hw.flow.block_use import blocks_by_core
    from model.machine.estimate import CALIBRATED, considered, estimate, memories_of, planned
    from model.machine.named_plans import load_plan
    from model.network import Network
    from model.reports.estimate_page import estimate_page
    from model.support.datasets import load
    from model.support.frames import suited

    console = make_console(stderr=True)
    if save_plan is not None:
        check_apart("--save-plan", save_plan, {"the network": net, "the dataset": Path(dataset)})
    network = Network.load(net)
    folder = out or Path("build") / network.name
    check_writable_folder("--out", folder)
    if save_plan is not None:
        check_apart("--save-plan", save_plan, {"the report": folder / "estimate.json"})
    wanted = any(option is not None for option in (target_fps, max_lanes, max_lut))
    if wanted and plan_name is not None:
        raise BadInputError("--plan must not be given with --target-fps, --max-lanes or --max-lut")
    device = board_named(board) if board is not None else None
    if device is not None and plan_name is None:
        plan_name = _own_plan(device)
        if plan_name is not None and wanted:
            raise BadInputError(
                f"--target-fps, --max-lanes and --max-lut must not be given with --board {board}: they plan a pipeline on an "
                f"ECP5, and this board takes plan {plan_name!r}"
            )
        wanted |= plan_name is None
    own = load_plan(network, plan_name) if plan_name is not None else None
    if device is not None and own is not None:
        device.of_family.check_memories(own)
    folded = own is not None and own.folded
    judged = device is None or folded or device.of_family.HAS_AREA_MODEL
    short_of = limits(network, max_lanes=max_lanes, max_luts=max_lut, board=board if judged else None, folded=folded)
    choice = None
    data = load(dataset, "test", data_dir)
    data = suited(network, data.first(frames))
    tell(data.notes)
    if device is not None and not judged:
        title = device.of_family.TITLE
        tell([f"{board}: whether a pipeline fits a {title} is known after synthesis: the area model is of an ECP5"])
    if device is not None:
        clock_mhz = clock_mhz or device.frequency_mhz
    if wanted:
        # Planned on frames that are not those it is measured on.
        calibration = suited(network, load(dataset, "train", data_dir).first(5 * CALIBRATED)).images
        with doing(console, "planning") as say:
            cycles = (clock_mhz or _CLOCK_MHZ) * 1e6 / target_fps if target_fps is not None else None
            relieve = relief(network, max_luts=max_lut, board=board)
            space = room(network, max_lanes=max_lanes, max_luts=max_lut, board=board)
            choice = planned(network, calibration, cycles=cycles, short_of=short_of, relieve=relieve, room=space, tell=say)
            plan = choice.plan
    else:
        plan = load_plan(network, plan_name or "default")
    if weight_check:
        plan = _with_weight_check(network, plan)
    clock_mhz = clock_mhz or (_FOLDED_CLOCK_MHZ if plan.folded else _CLOCK_MHZ)
    blocks_of = None if plan.folded else lambda plan: estimate_area(network, plan).ram_blocks
    with progress_bar(console) as bar:
        task = bar.add_task(f"{network.name}, plan {plan.name}", total=len(data))
        tick = partial(bar.advance, task)
        found, shown = estimate(network, plan, data, clock_mhz=clock_mhz, blocks_of=blocks_of, done=tick)
    if plan.folded:
        found = replace(found, memories=memories_of(network, plan))
    else:
        found = replace(found, area=estimate_area(network, plan), blocks=blocks_by_core(network, plan))
    if board is not None:
        found = replace(found, board=board, short_of=tuple(short_of(plan)) if judged else None)
    if choice is not None:
        found = replace(found, plans_considered=considered(choice, lambda plan: estimate_area(network, plan)))
    write_all(folder, {"estimate.json": to_json(found), "estimate.html": estimate_page(found, shown)})
    if save_plan is not None:
        _save(plan, save_plan)
    if as_json:
        print(to_json(found), end="")
    else:
        _print(found, folder)
    if found.short_of:
        raise DoesNotFitError(f"does not fit {board}: short of {' and '.join(found.short_of)}")


def _with_weight_check(network: Network, plan: Plan) -> Plan:
    """The plan with the check of weights."""
    from model.machine.checks import check_plan

    checked = replace(plan, weight_check=True)
    check_plan(network, checked)
    return checked


def _save(plan: Plan, path: Path) -> None:
    """Write the plan to a file."""
    try:
        plan.save(path)
    except OSError as error:
        not_written(path, error)


def _own_plan(board: Board) -> str | None:
    """The plan of a board for which no area model plans, or that has only room for a folded machine; None for others."""
    from model.machine.named_plans import FOLDED

    return None if board.of_family.HAS_AREA_MODEL and board.plan != FOLDED else board.plan


def _print(found: Estimate, folder: Path) -> None:
    from model.reports.estimate_page import blocks_table, considered_table, cores_table, nearest, summary
    from model.reports.html import Table

    if found.plans_considered is not None:
        shown = nearest(found.plans_considered)
        more = len(found.plans_considered) - len(shown)
        title = f"plans considered; {more:,} more are in estimate.html" if more else "plans considered"
        _print_table(title, considered_table(shown), words=())
    cores = cores_table(found)
    _print_table(f"{found.network}, plan {found.plan}", Table(cores.titles[:-2], [row[:-2] for row in cores.rows]))
    if found.blocks:
        _print_table("memory blocks", blocks_table(found.blocks))
    for name, text in summary(found):
        print(f"{name}: {text}")
    print(f"timeline: {folder / 'estimate.html'}")


def _print_table(title: str, table: Table, *, words: Sequence[int] = (0,)) -> None:
    """Print a table on standard output; columns of ``words`` begin at the left."""
    printed = make_table(title=title)
    for index, heading in enumerate(table.titles):
        printed.add_column(heading, justify="left" if index in words else "right")
    for row in table.rows:
        printed.add_row(*row)
    make_console().print(printed)


if __name__ == "__main__":
    main()
