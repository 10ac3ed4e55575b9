"""`python -m sim.toggles`: what the nets of a machine's netlist toggle on real frames, and what energy that comes to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table, progress_bar
from model.support.errors import Exit, fail
from model.support.files import check_writable_folder, write_file
from model.support.results import to_json
from sim.choices import COUNTED_FAMILIES
from sim.teller import Teller

if TYPE_CHECKING:
    from sim.toggling.study import Toggles

HELP = """Count what a machine's netlist toggles on real frames, net by net, and say what energy that comes to.

The netlist is what synthesis makes of the machine for a family. It is simulated with frames back to back and compared with the
golden model and the cycle model as `sim.verify` does. Toggles are those between the settled values of one cycle and the next,
without glitches, by the kind of cell that drives the net; and accesses to memories and clock edges. An energy is given for
families for whose devices there is a measurement: iCE40.
"""


@command(help=HELP)
@click.argument("net", type=FilePath())
@click.option(
    "--plan", "plan_name", default="default", show_default=True, metavar="PLAN",
    help="minimal (one lane per core), default, fast (one event per cycle), folded (one core for all layers), or a .json file.",
)
@click.option(
    "--family", default="ice40", show_default=True, type=click.Choice(COUNTED_FAMILIES),
    help="Device family that the netlist is synthesized for.",
)
@click.option("--frames", default=4, show_default=True, type=click.IntRange(1), help="Frames to simulate, back to back.")
@click.option("--dataset", metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file; mnist where it is found.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option(
    "--out", type=OutFolder(), help="Folder for toggles.json, counts, records and logs; build/NAME/toggles by default."
)
@click.option("--docs", type=FilePath(), help="A page (.md) whose table is written anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    plan_name: str,
    family: str,
    frames: int,
    dataset: str | None,
    data_dir: Path | None,
    out: Path | None,
    docs: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    from hw.flow.families.registry import family_named
    from model.machine.named_plans import load_plan
    from model.network import Network
    from model.reports.markdown import page_to_fill, with_table
    from model.support.frames import real_frames
    from sim.simulators import check_simulator
    from sim.toggling.page import table_name, toggles_markdown
    from sim.toggling.study import toggles

    network = Network.load(net)
    plan = load_plan(network, plan_name)
    name = table_name(network.name, plan.name, family)
    out = out or Path("build") / network.name / "toggles"
    check_writable_folder("--out", out)
    if docs is not None:
        page_to_fill(docs, [name])
    check_simulator("verilator")
    images, labels, data_name = real_frames(network, dataset, data_dir, frames)
    folder = out / f"{plan.name}-{family}"
    console = make_console(stderr=True)
    label = f"plan {plan.name}, {family}"
    if not console.is_terminal:
        print(f"building and simulating {frames} frames of {data_name}, {label}", file=sys.stderr)
    with progress_bar(console) as bar:
        teller = Teller(bar, bar.add_task(label, total=frames), label)
        result, found = toggles(
            network, plan, images, dataset=data_name, family=family_named(family), out_dir=folder, progress=teller.frames,
            line=teller.line,
        )
    if found is None:
        print(result.report, file=sys.stderr)
        model = "golden model" if result.mismatches else "cycle model"
        fail(Exit.MISMATCH, f"{net}: the simulation of the netlist differs from the {model}")
    write_file(folder / "toggles.json", to_json(found))
    if docs is not None:
        # It may have been edited meanwhile.
        write_file(docs, with_table(page_to_fill(docs, [name]), name, toggles_markdown(found)))
    if as_json:
        print(to_json(found), end="")
    else:
        right = sum(int(a) == int(b) for a, b in zip(result.answers, labels, strict=False))
        _show(found, right)


def _show(found: Toggles, right: int) -> None:
    """The table, and what it does not say."""
    from sim.toggling.energy import AT_REST_UW
    from sim.toggling.page import lines, titles

    table = make_table(title=f"{found.network}, plan {found.plan}, {found.family}: {found.frames} frames of {found.dataset}")
    for number, title in enumerate(titles(found)):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for line in lines(found):
        table.add_row(*(text.strip("*") for text in line))
    make_console(width_in_file=160).print(table)
    print(
        f"{found.frames} frames ({right} right), {found.spikes_compared:,} spikes and {found.cycles_compared:,} cycles compared, "
        f"0 mismatches; {found.cycles_per_frame:,.1f} cycles per frame"
    )
    if found.energy_nj and found.idle_energy_nj:
        spent, idle = found.energy_nj, found.idle_energy_nj
        print(
            f"{spent.total:,.0f} nJ per frame, nets priced by toggle; by the sinks that toggles reach "
            f"{spent.total - spent.nets + spent.nets_by_sinks:,.0f} nJ. An idle cycle takes {1e3 * idle.total:,.0f} pJ, "
            f"the device at rest {AT_REST_UW:,.0f} uW."
        )
    else:
        print(f"no energy: for {found.family} there is no measurement of what a toggle takes")


if __name__ == "__main__":
    main()
