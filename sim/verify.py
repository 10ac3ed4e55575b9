"""`python -m sim.verify`: spike-for-spike co-simulation of a whole machine against the golden model, on real frames."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from hw.flow.choices import FAMILY_NAMES
from model.support.cli import FilePath, FolderPath, Number, OutFolder, command, make_console, progress_bar
from model.support.errors import Exit, fail
from model.support.files import check_writable_folder, write_file
from sim.choices import LEVELS, SIMULATORS
from sim.teller import Teller

HELP = """Compare the hardware with the golden model, spike for spike, and with the cycle model, cycle for cycle.

With --level netlist the hardware is what synthesis makes of it, for the family that --family names, made of models of its cells.
For small plans: the bundled network with 32 lanes in fc1 and one elsewhere takes ten minutes, until it is kept and a second run
only simulates.
"""


@command(help=HELP)
@click.argument("net", type=FilePath())
@click.option(
    "--frames", default=4, show_default=True, type=click.IntRange(1), help="Frames to simulate, back to back."
)
@click.option(
    "--plan",
    "plan_name",
    default="default",
    show_default=True,
    metavar="PLAN",
    help="minimal (one lane per core), default, fast (one event per cycle), folded (one core for all layers), or a .json file.",
)
@click.option("--simulator", default="verilator", show_default=True, type=click.Choice([*SIMULATORS, "both"]))
@click.option("--level", default="rtl", show_default=True, type=click.Choice(LEVELS), help="What is simulated.")
@click.option(
    "--family", default="ecp5", show_default=True, type=click.Choice(FAMILY_NAMES),
    help="Device family that a netlist is synthesized for.",
)
@click.option("--dataset", metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file; mnist where it is found.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--seed", default=1, show_default=True, help="Seed of idle source and stalled sinks.")
@click.option(
    "--idle",
    default=0.0,
    show_default=True,
    type=Number(0, 0.99),
    help="Chance of an idle cycle of the source.",
)
@click.option(
    "--stall",
    default=0.0,
    show_default=True,
    type=Number(0, 0.99),
    help="Chance of a stalled cycle of a sink.",
)
@click.option("--watch", is_flag=True, help="Watch every link through the host port, and compare that too.")
@click.option(
    "--out", type=OutFolder(), help="Folder for records, logs, waveforms; build/NAME/verify by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    frames: int,
    plan_name: str,
    simulator: str,
    level: str,
    family: str,
    dataset: str | None,
    data_dir: Path | None,
    seed: int,
    idle: float,
    stall: float,
    watch: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    from hw.flow.families.registry import family_named
    from model.machine.named_plans import load_plan
    from model.network import Network
    from model.support.frames import real_frames
    from sim.cosimulation import verify

    console = make_console(stderr=True)
    results = []
    network = Network.load(net)
    out = out or Path("build") / network.name / "verify"
    check_writable_folder("--out", out)
    plan = load_plan(network, plan_name)
    images, labels, data_name = real_frames(network, dataset, data_dir, frames)
    suffix = "" if level == "rtl" else f"-{level}"
    for name in SIMULATORS if simulator == "both" else (simulator,):
        folder = out / f"{plan.name}-{name}{suffix}"
        if not console.is_terminal:
            print(
                f"{name}: building and simulating {frames} frames of {data_name}, plan {plan.name}, level {level}",
                file=sys.stderr,
            )
        with progress_bar(console) as bar:
            label = f"{name}, plan {plan.name}" + ("" if level == "rtl" else f", {level}")
            teller = Teller(bar, bar.add_task(label, total=frames), label)
            result = verify(
                network,
                plan,
                images,
                level=level,
                family=family_named(family),
                simulator=name,
                out_dir=folder,
                seed=seed,
                idle=idle,
                stall=stall,
                watch=watch,
                progress=teller.frames,
                line=teller.line,
            )
        results.append(result)
        right = sum(int(a) == int(b) for a, b in zip(result.answers, labels, strict=False))
        write_file(folder / "verify.json", json.dumps(asdict(result), indent=2) + "\n")
        if not as_json:
            print(
                f"{label} ({plan.lanes} lanes): {result.frames} frames of {data_name} ({right} right), "
                f"{result.spikes_compared:,} spikes and {result.events_compared:,} events compared, "
                f"{result.mismatches} mismatches; {result.cycles_compared:,} cycles compared, "
                f"{result.cycle_mismatches} mismatches; {result.cycles_per_frame_mean:,.1f} cycles per frame\n"
                f"{label}: {result.coverage.summary()}"
            )
    if as_json:
        told = [asdict(result) for result in results]
        print(json.dumps(told[0] if len(told) == 1 else told, indent=2))
    for result in results:
        if result.mismatches or result.cycle_mismatches:
            print(result.report, file=sys.stderr)
            model = "golden model" if result.mismatches else "cycle model"
            fail(Exit.MISMATCH, f"{net}: the {result.simulator} simulation ({result.level}) differs from the {model}")


if __name__ == "__main__":
    main()
