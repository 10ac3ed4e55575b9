"""`python -m boards.virtual`: a board in simulation, its UART on a TCP port."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boards.listening import listen_option, tell_reach
from model.support.cli import FilePath, command, doing, make_console
from model.support.errors import Exit, fail

if TYPE_CHECKING:
    from boards.definitions import Board
    from model.machine.plan import Plan
    from model.network import Network

__all__ = ["main"]

@command(
    help="Run a board in simulation, its UART on a TCP port. Stop it with Ctrl-C. NET is the network (.npz); the "
    "bundled one for the board by default."
)
@click.option("--board", default="ulx3s-85f", show_default=True, metavar="BOARD", help="Board to simulate.")
@click.argument("net", required=False, type=FilePath())
@click.option("--plan", "plan_name", help="minimal, default, fast, folded, or a .json file; the board's by default.")
@click.option("--states/--no-states", default=None, help="Whether the host can read membrane potentials; as the plan says.")
@click.option(
    "--weight-check/--no-weight-check",
    default=None,
    help="Whether it checks its weights while it runs (pipelines only); as the plan says.",
)
@click.option("--flash/--no-flash", help="Whether its flash holds the weights, as hw.build --program-flash writes them.")
@click.option("--port", default=4567, show_default=True, type=click.IntRange(0, 65535), help="TCP port; 0 for a free one.")
@listen_option
@click.option("--json", "as_json", is_flag=True, help="Say where it is as a line of JSON.")
def main(
    board: str,
    net: Path | None,
    plan_name: str | None,
    states: bool | None,
    weight_check: bool | None,
    flash: bool,
    port: int,
    listen: str,
    as_json: bool,
) -> None:
    """See the help text above."""
    from boards.bundled import chosen_for
    from boards.definitions import board_named
    from boards.virtual_board import VirtualBoard
    from model.machine.checks import check_plan
    from model.machine.named_plans import load_plan
    from model.network import Network

    console = make_console(stderr=True)
    device = board_named(board)
    net, plan_name = chosen_for(device, net, plan_name)
    network = Network.load(net)
    plan = load_plan(network, plan_name)
    if states is not None:
        plan = replace(plan, states=states)
    if weight_check is not None:
        plan = replace(plan, weight_check=weight_check)
        check_plan(network, plan)
    if short := _short(device, network, plan):
        fail(Exit.DOES_NOT_FIT, f"does not fit {device.title}: short of {' and '.join(short)}")
    if flash and not device.reads_flash(network, plan):
        fail(Exit.BAD_INPUT, f"--flash must not be given: no weights of plan {plan.name} on {device.title} are in a flash")
    with doing(console, "virtual board") as say:
        machine = VirtualBoard.of(device, network, plan, flash=flash, port=port, address=listen, tell=say)
    tell_reach(listen)
    with machine, contextlib.suppress(KeyboardInterrupt):
        if as_json:
            said = {"board": device.name, "network": network.name, "plan": plan.name, "url": machine.url, "port": machine.port}
            print(json.dumps(said), flush=True)
        else:
            print(f"{device.title}: {network.name}, plan {plan.name}, at {machine.url}", flush=True)
        sys.exit(machine.wait())


def _short(device: Board, network: Network, plan: Plan) -> list[str]:
    """What the board has too little of, as far as that is known before synthesis."""
    from hw.flow.area import estimate_area
    from model.machine.folded_layout import Folded

    if plan.folded:
        return device.short_of_folded(Folded.of(network, plan))
    if not device.of_family.HAS_AREA_MODEL:
        return []
    area = estimate_area(network, plan)
    return device.short_of(luts=area.luts, ram_blocks=area.ram_blocks)


if __name__ == "__main__":
    main()
