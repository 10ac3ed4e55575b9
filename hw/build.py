"""`python -m hw.build`: from a network to a verified bitstream."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from boards.choices import BAUD
from model.importers.normalization import Normalization
from model.importers.options import file_options
from model.support.cli import FilePath, FolderPath, Number, OutFolder, command, make_console, make_table
from model.support.errors import Exit, fail


@command(
    help="Build a verified bitstream: golden run, RTL, co-simulation, synthesis, place and route. NET is a network (.npz), or an "
    ".onnx file to convert first; the bundled one that suits the board by default."
)
@click.argument("net", required=False, type=FilePath())
@click.option("--board", default="ulx3s-85f", show_default=True, help="Board; see --list-boards.")
@click.option(
    "--plan", help="minimal, default, fast, folded, or a .json file; the board's own for its bundled network, else default."
)
@click.option("--frames", default=4, show_default=True, type=click.IntRange(4), help="Frames of the co-simulation.")
@click.option(
    "--clock",
    "clock_mhz",
    type=Number(1, 400),
    help="Clock in MHz, or the nearest below it that the PLL makes, to be met; the board's own (--list-boards) by default.",
)
@click.option("--watch/--no-watch", default=None, help="Whether the host can watch spikes; as the plan says.")
@click.option("--states/--no-states", default=None, help="Whether the host can read membrane potentials; as the plan says.")
@click.option(
    "--weight-check/--no-weight-check",
    default=None,
    help="Whether it checks its weights while it runs (pipelines only); as the plan says.",
)
@click.option("--baud", default=BAUD, show_default=True, type=click.IntRange(9600), help="Bits per second of the host link.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(1, 2**30), help="Seed of placement.")
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1, 999), help="Place with this many seeds, and take the fastest."
)
@click.option("--dataset", metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file; mnist where it is found.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--out", type=OutFolder(), help="Folder for results; build/NAME by default.")
@click.option("--list-boards", is_flag=True, help="List the boards and stop.")
@click.option(
    "--verilog-only", is_flag=True, help="Write plain Verilog (machine.v, and system.v with the UART, without a flash) and stop."
)
@click.option(
    "--program",
    "to_device",
    is_flag=True,
    help="Load the bitstream into the device with openFPGALoader, until power is off.",
)
@click.option(
    "--program-flash",
    "to_flash",
    is_flag=True,
    help="Write the bitstream, and weights where they have to be loaded, into the board's flash.",
)
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(
    net: Path | None,
    board: str,
    plan: str | None,
    frames: int,
    clock_mhz: float | None,
    watch: bool | None,
    states: bool | None,
    weight_check: bool | None,
    baud: int,
    seed: int,
    seeds: int,
    dataset: str | None,
    data_dir: Path | None,
    out: Path | None,
    list_boards: bool,
    verilog_only: bool,
    to_device: bool,
    to_flash: bool,
    layout: str | None,
    output: str | None,
    normalization: Normalization,
    as_json: bool,
) -> None:
    """See the help text above."""
    from boards.bitstream import Options, build
    from boards.definitions import board_named
    from boards.programmer import program
    from hw.flow.tools import find_tool

    if list_boards:
        _list_boards(as_json)
        return
    console = make_console(stderr=True)
    options = Options(
        net=net,
        board=board,
        plan=plan,
        frames=frames,
        watch=watch,
        states=states,
        weight_check=weight_check,
        frequency_mhz=clock_mhz,
        baud=baud,
        seed=seed,
        seeds=seeds,
        dataset=dataset,
        data_dir=data_dir,
        out=out,
        verilog_only=verilog_only,
        layout=layout,
        output=output,
        normalization=normalization,
    )
    if to_device and to_flash:
        fail(Exit.BAD_INPUT, "--program and --program-flash must not both be given")
    if verilog_only and (to_device or to_flash):
        fail(Exit.BAD_INPUT, "--verilog-only makes no bitstream: --program and --program-flash must not be given")
    if to_device and not board_named(board).loads_sram:
        what = f"--program must be --program-flash for {board_named(board).title}"
        fail(Exit.BAD_INPUT, f"{what}: its programmer reaches the flash, not the device")
    if to_device or to_flash:
        find_tool("openfpgaloader")
    report = build(options, console)
    if to_device or to_flash:
        image = report["weights_image"]
        program(
            board_named(board),
            bitstream=Path(report["bitstream"]),
            weights_image=Path(image) if image else None,
            flash=to_flash,
        )
    if as_json:
        print(json.dumps(report, indent=2))
    elif verilog_only:
        print("\n".join(report["verilog"]))
    else:
        print(Path(report["bitstream"]).with_name("report.md").read_text().split("\nSlowest")[0])


def _list_boards(as_json: bool) -> None:
    from boards.definitions import BOARDS

    if as_json:
        print(json.dumps([asdict(board) for board in BOARDS.values()], indent=2))
        return
    table = make_table()
    for column in ("name", "board", "family", "device", "LUT4", "memories", "MHz"):
        table.add_column(column)
    for board in BOARDS.values():
        row = (board.name, board.title, board.of_family.TITLE, board.part, f"{board.luts:,}", board.memories)
        table.add_row(*row, f"{board.frequency_mhz:g}")
    make_console().print(table)


if __name__ == "__main__":
    main()
