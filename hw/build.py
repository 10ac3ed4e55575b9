"""`python -m hw.build`: from a network to a verified bitstream, step by step.

Each step is kept by the content that it depends on; a second run does only what changed. What looks like a result,
the bitstream and the report, is there only when every step succeeded.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import boards
import sim
from boards.bundled import BUNDLED, chosen_for
from boards.definitions import BOARDS, Board, board_named
from boards.top import BAUD, BoardTop, bit_cycles
from hw.flow.area import estimate_area, memories
from hw.flow.bitstream import check_bitstream
from hw.flow.synthesis import (
    MultiplierError,
    Placed,
    Synthesized,
    place_and_route,
    synthesize,
)
from hw.flow.tools import ToolError, find_tool, run_tool, tool_version
from hw.flow.verilog import machine_sources, machine_verilog, system_verilog, to_rtlil, to_verilog
from hw.link.flash import flash_image
from hw.link.system import TIMEOUTS_A_SECOND
from hw.parts.memory import BLOCK
from model.conversion.convert import convert_file
from model.encode import encode
from model.engine.engine import run_fast
from model.machine.folded_layout import Folded
from model.machine.named_plans import load_plan
from model.network import Network, Neurons
from model.support.cache import kept, source_hash
from model.support.cli import command
from model.support.errors import DoesNotFitError, Exit, MismatchError, TimingError, fail
from model.support.frames import real_frames
from sim.cosimulation import CACHE, VerifyResult, verify

__all__ = ["Options", "TimingError", "build"]

SIMULATED_FREQUENCY_HZ = 60_000_000
"""Clock that `--verilog-only` takes for the UART's divisor."""

_WEIGHTS = "-weights.bin"
"""Of the file with what goes into a board's flash behind the bitstream, behind its name."""


class VerificationError(MismatchError):
    """The RTL differs from the golden model."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to build.

    Parameters
    ----------
    net : network file, or ONNX file to convert; the bundled one that suits the board where None
    board : name of the board
    plan : name or file of the plan; where None the board's own, or for a network that is not bundled ``"default"``, unless the
        board has only room for a folded machine
    frames : frames of the co-simulation
    watch, states : whether the host can watch spikes, read membrane potentials; as the plan says where None
    frequency_mhz : clock that must be met; the board's own where None
    baud : bits a second of the host link
    seed, seeds : of placement, recorded: the first of them, and how many; the fastest result is taken
    dataset, data_dir : where frames come from
    out : folder for results
    verilog_only : stop behind the Verilog
    """

    net: Path | None = None
    board: str = "ulx3s-85f"
    plan: str | None = None
    watch: bool | None = None
    states: bool | None = None
    frames: int = 4
    frequency_mhz: float | None = None
    baud: int = BAUD
    seed: int = 1
    seeds: int = 1
    dataset: str | None = None
    data_dir: Path | None = None
    out: Path | None = None
    verilog_only: bool = False


class _Steps:
    """Runs steps, tells how they go, and keeps what they find by content."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        self.number += 1
        started = time.monotonic()
        label = f"{self.number}. {title}"
        if self.console.is_terminal:
            with self.console.status(label) as status:
                yield lambda text: status.update(f"{label}: {text[:100]}")
        else:
            print(f"{label} ...", file=sys.stderr, flush=True)
            yield lambda text: None
        self.console.print(f"{label}: done in {time.monotonic() - started:.1f} s", highlight=False)

    def kept(self, folder: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``make`` found for this ``key``, as its file has it, which is made where it is not there."""
        path = kept(folder / f"{key}.json", lambda part: part.write_text(json.dumps(make())))
        return json.loads(path.read_text())  # type: ignore[no-any-return]


def build(options: Options, console: Console) -> dict[str, Any]:
    """Build; gives the report.

    Raises
    ------
    TallyError : each of its kinds; on any of them, no bitstream and no report is left in the folder.
    """
    steps = _Steps(console)
    board = board_named(options.board)
    family, part = board.of_family, board.target
    wanted_mhz = options.frequency_mhz or board.frequency_mhz
    # A clock or a baud that cannot be is said before anything runs.
    divisor = bit_cycles(
        SIMULATED_FREQUENCY_HZ if options.verilog_only else board.clock(wanted_mhz * 1e6).output_hz, options.baud
    )
    net, plan_name = chosen_for(board, options.net, options.plan)
    with steps.step(f"network {net}") as tell:
        if net.name != BUNDLED.name and options.net is None:
            console.print(f"   {board.title} has no room for {BUNDLED.stem}: it gets {net.stem}", highlight=False)
        network = _load(net, options, tell)
        plan = load_plan(network, plan_name)
        for name, value in (("watch", options.watch), ("states", options.states)):
            if value is not None:
                plan = replace(plan, **{name: value})  # type: ignore[arg-type]
        out = options.out or Path("build") / network.name
        name = f"{network.name}-{board.name}"
        out.mkdir(parents=True, exist_ok=True)
        stale_files = (f"{name}{family.BITSTREAM}", f"{name}{_WEIGHTS}", f"{name}.v")
        for stale in (*stale_files, "report.json", "report.md", "machine.v", "system.v"):
            (out / stale).unlink(missing_ok=True)

    if options.verilog_only:
        with steps.step("Verilog"):
            (out / "machine.v").write_text(machine_verilog(network, plan, CACHE))
            system = system_verilog(
                network,
                plan,
                CACHE,
                divisor=divisor,
                clock_hz=SIMULATED_FREQUENCY_HZ,
                timeout_bits=options.baud // TIMEOUTS_A_SECOND,
            )
            (out / "system.v").write_text(system)
        return {
            "network": network.name,
            "network_hash": network.content_hash,
            "plan": plan.name,
            "verilog": [str(out / "machine.v"), str(out / "system.v")],
        }

    with steps.step("what it will take"):
        if plan.folded:
            folded = Folded.of(network, plan)
            console.print(
                f"   {folded.blocks + folded.link_blocks} block RAMs of an iCE40, {folded.single_words:,} words of SPRAM",
                highlight=False,
            )
            if short := board.short_of_folded(folded):
                raise DoesNotFitError(f"does not fit {board.title}: short of {' and '.join(short)}")
        elif family.HAS_AREA_MODEL:
            area = estimate_area(network, plan)
            console.print(
                f"   about {area.luts:,} LUTs of {board.luts:,} and {area.flip_flops:,} flip-flops; "
                f"{area.ram_blocks} block RAMs of {board.ram_blocks}",
                highlight=False,
            )
            # Blocks are exact: no need to wait for the tools to say so.
            if short := board.short_of(luts=0, ram_blocks=area.ram_blocks):
                raise DoesNotFitError(f"does not fit {board.title}: short of {' and '.join(short)}")
        else:
            # What memories hold is the same everywhere, and no device has more than its blocks to hold it in.
            bits = sum(memory.width * memory.depth for memory in memories(network, plan) if memory.kind == BLOCK)
            have = board.ram_blocks * family.RAM_BLOCK_BITS
            console.print(
                f"   memories of {bits / 1024:,.0f} kbit, blocks of {have / 1024:,.0f} kbit; "
                "LUTs are known after synthesis: the area model is of ECP5",
                highlight=False,
            )
            if bits > have:
                raise DoesNotFitError(
                    f"does not fit {board.title}: memories hold {bits / 1024:,.0f} kbit, its {board.ram_blocks} blocks "
                    f"{have / 1024:,.0f} kbit"
                )

    tools = {}
    with steps.step("tools (WebAssembly builds compile themselves once, which takes minutes)"):
        for tool in family.tools:
            find_tool(tool)
            tools[tool] = tool_version(tool)

    images, labels, data_name = real_frames(network, options.dataset, options.data_dir, options.frames)
    with steps.step(f"golden run on {options.frames} frames of {data_name}"):
        traces = [run_fast(network, encode(network, image)) for image in images]
        right = sum(trace.answer == label for trace, label in zip(traces, labels, strict=True))
        spikes = sum(len(la.spikes) for t in traces for la in t.layers.values() if isinstance(la.layer, Neurons))
        accumulations = sum(la.operations for t in traces for la in t.layers.values())

    with steps.step(f"Verilog of the machine, plan {plan.name}, {plan.lanes} lanes"):
        machine_text = machine_verilog(network, plan, CACHE)
    sources = f"{machine_sources()} {source_hash(Path(sim.__path__[0]))}"
    frames_hash = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    with steps.step(f"co-simulation on {options.frames} frames") as tell:
        key = _key("verify", network.content_hash, plan, sources, frames_hash)
        found = steps.kept(
            CACHE,
            key,
            lambda: asdict(
                verify(network, plan, images, out_dir=out / "verify", progress=lambda n: tell(f"{n} frames"))
            ),
        )
        verified = VerifyResult(**found)
        if verified.mismatches:
            raise VerificationError(f"{verified.mismatches} mismatches against the golden model; {verified.report}")
        if verified.cycle_mismatches:
            raise VerificationError(f"{verified.cycle_mismatches} cycles differ from the cycle model; {verified.report}")

    with steps.step(f"Verilog for {board.title}"):
        key = _key(
            "board",
            network.content_hash,
            plan,
            machine_sources(),
            board,
            wanted_mhz,
            options.baud,
            source_hash(Path(boards.__path__[0])),
        )
        top = BoardTop(board=board, network=network, plan=plan, frequency_hz=wanted_mhz * 1e6, baud=options.baud)
        kept_verilog = kept(CACHE / f"{key}.v", lambda part: part.write_text(to_verilog(top, "top")))
        kept_rtlil = kept(CACHE / f"{key}.il", lambda part: part.write_text(to_rtlil(top, "top")))
        rtlil_hash = hashlib.sha256(kept_rtlil.read_bytes()).hexdigest()

    passes = source_hash(Path(__file__).parent)
    netlist = CACHE / f"{_key('netlist', rtlil_hash, tools['yosys'], part.device, passes)}.json"
    with steps.step("synthesis") as tell:
        log = out / "synthesis.log"
        synthesized = Synthesized(
            **steps.kept(
                CACHE,
                f"{netlist.stem}-stat",
                lambda: asdict(
                    synthesize(
                        kept_rtlil, top="top", netlist=netlist, log=log, line=tell, family=family, part=part
                    )
                ),
            )
        )
        _check_fits(board, synthesized)

    clock_mhz = top.pll.output_hz / 1e6

    def place(seed: int, tell: Callable[[str], None]) -> tuple[Placed, Path]:
        key = _key("routed", netlist.stem, board, top.pll, seed, tools[family.PLACER], passes)
        routed = CACHE / f"{key}{family.ROUTED}"
        found = steps.kept(
            CACHE,
            f"{key}-report",
            lambda: asdict(
                place_and_route(
                    netlist,
                    family=family,
                    part=part,
                    constraints=board.constraints(),
                    frequency_mhz=clock_mhz,
                    seed=seed,
                    routed=routed,
                    log=routed.with_suffix(".log"),
                    cells=synthesized,
                    line=tell,
                )
            ),
        )
        return Placed(**found), routed

    tried: dict[int, tuple[Placed, Path]] = {}
    for seed in range(options.seed, options.seed + options.seeds):
        with steps.step(f"place and route, seed {seed}, {clock_mhz:g} MHz") as tell:
            tried[seed] = place(seed, tell)
            console.print(f"   {tried[seed][0].fmax_mhz} MHz", highlight=False)
    best = max(tried, key=lambda seed: tried[seed][0].fmax_mhz)
    placed, routed = tried[best]
    log = Path(shutil.copyfile(routed.with_suffix(".log"), out / "place-and-route.log"))
    if placed.dsp:
        raise MultiplierError(f"{placed.dsp} DSP blocks are in the routed design")
    if placed.fmax_mhz < clock_mhz:
        raise TimingError(
            f"timing is not met: {placed.fmax_mhz} MHz after routing, below {clock_mhz:g} MHz, with seed {best}; "
            f"see {log}; try a lower --freq, another --seed or more --seeds"
        )

    bitstream = out / f"{name}{family.BITSTREAM}"
    with steps.step("bitstream, and what it unpacks to"):
        packed = kept(
            routed.with_suffix(family.BITSTREAM),
            lambda written: _pack(board, routed, written, out),
        )
        shutil.copyfile(kept_verilog, out / f"{name}.v")
        (out / "machine.v").write_text(machine_text)
        shutil.copyfile(packed, bitstream)
        image = out / f"{name}{_WEIGHTS}" if board.reads_flash(network, plan) else None
        if image:
            image.write_bytes(flash_image(network, plan))

    frequency_hz = top.pll.output_hz
    report = {
        "network": network.name,
        "network_hash": network.content_hash,
        "origin": network.origin,
        "board": board.name,
        "family": family.NAME,
        "state_of_proof": "RTL equal to the golden model in every spike; placed and routed; "
        "bitstream unpacks to the routed design; not run on the board",
        "plan": plan.name,
        "lanes": plan.lanes,
        "tools": tools,
        "seed": best,
        "fmax_mhz_by_seed": {str(seed): placed.fmax_mhz for seed, (placed, _) in tried.items()},
        "fmax_mhz_median": round(median(placed.fmax_mhz for placed, _ in tried.values()), 2),
        "dataset": data_name,
        "frames_verified": verified.frames,
        "frames_right": int(right),
        "spikes_compared": verified.spikes_compared,
        "events_compared": verified.events_compared,
        "mismatches": verified.mismatches,
        "cycle_mismatches": verified.cycle_mismatches,
        "spikes_per_neuron": round(spikes / network.neurons / len(traces), 4),
        "accumulations_per_frame": round(accumulations / len(traces)),
        "cycles_per_frame_mean": verified.cycles_per_frame_mean,
        "latency_cycles_mean": verified.latency_cycles_mean,
        "fmax_mhz": placed.fmax_mhz,
        "clock_mhz": frequency_hz / 1e6,
        "frames_per_second": round(frequency_hz / verified.cycles_per_frame_mean),
        "microseconds_per_frame": round(verified.cycles_per_frame_mean / frequency_hz * 1e6, 2),
        "lut": placed.slices_lut,
        "ff": placed.slices_ff,
        "lut_ram": synthesized.lut_ram,
        "ram_blocks": placed.ram_blocks,
        "ram_output_registers": synthesized.output_registers,
        "dsp": placed.dsp,
        "utilization": placed.utilization,
        "critical_path": placed.critical_path,
        "bitstream": str(bitstream),
        "weights_image": str(image) if image else None,
        "layers": [
            {
                "layer": layer.name,
                "kind": layer.KIND,
                "shape": list(shape),
                "lanes": plan.core(layer.name).lanes if isinstance(layer, Neurons) else 0,
                "weights": int(layer.weights.size) if isinstance(layer, Neurons) else 0,
                "weight_bits": layer.weight_bits if isinstance(layer, Neurons) else None,
                "potential_bits": layer.potential_bits if isinstance(layer, Neurons) else None,
                "count_bits": layer.count_bits if isinstance(layer, Neurons) else None,
                "events_per_frame": round(float(np.mean([len(t.layers[layer.name].events) for t in traces])), 1),
                "spikes_per_frame": round(float(np.mean([len(t.layers[layer.name].spikes) for t in traces])), 1),
                "accumulations_per_frame": round(float(np.mean([t.layers[layer.name].operations for t in traces]))),
            }
            for layer, _, shape in network.walk()
        ],
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "report.md").write_text(_markdown(report))
    return report


def _load(net: Path, options: Options, tell: Callable[[str], None]) -> Network:
    if net.suffix == ".onnx":
        return convert_file(
            net, calibrate=options.dataset or "digits5k", data_dir=options.data_dir, progress=tell
        ).network
    return Network.load(net)


def _key(what: str, *parts: object) -> str:
    return f"{what}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def _check_fits(board: Board, found: Synthesized) -> None:
    """Say what is short before place and route takes its time."""
    luts = board.of_family.luts_needed(found)
    if short := board.short_of(luts=luts, flip_flops=found.ff, ram_blocks=found.ram_blocks):
        raise DoesNotFitError(f"does not fit {board.title}: short of {' and '.join(short)}")


def _pack(board: Board, routed: Path, bitstream: Path, out: Path) -> None:
    """Make a bitstream that unpacks to the routed design."""
    family, part = board.of_family, board.target
    constraints = routed.with_suffix(family.CONSTRAINTS)
    family.pack(part, routed=routed, bitstream=bitstream, constraints=constraints, log=out / "bitstream.log")
    check_bitstream(family, part, routed=routed, bitstream=bitstream, log=out / "unpacked.log")


def _by_seed(report: dict[str, Any]) -> str:
    """What each seed of placement gave, where there were several."""
    found = report["fmax_mhz_by_seed"]
    if len(found) == 1:
        return ""
    each = ", ".join(f"{fmax} with seed {seed}" for seed, fmax in found.items())
    return f"; median {report['fmax_mhz_median']} MHz: {each}"


def _markdown(report: dict[str, Any]) -> str:
    rows = [
        ("board", report["board"]),
        ("state of proof", report["state_of_proof"]),
        ("plan", f"{report['plan']}, {report['lanes']} lanes"),
        ("frames verified", f"{report['frames_verified']} of {report['dataset']}, {report['frames_right']} right"),
        ("spikes compared", f"{report['spikes_compared']:,}, {report['mismatches']} mismatches"),
        ("cycles a frame", f"{report['cycles_per_frame_mean']:,} (latency {report['latency_cycles_mean']:,})"),
        ("clock", f"{report['clock_mhz']:g} MHz (up to {report['fmax_mhz']} MHz after routing){_by_seed(report)}"),
        (
            "frames a second",
            f"{report['frames_per_second']:,} ({report['microseconds_per_frame']} microseconds a frame)",
        ),
        (
            "LUT / FF / block RAM / DSP",
            f"{report['lut']:,} / {report['ff']:,} / {report['ram_blocks']} / {report['dsp']}",
        ),
        ("spikes a neuron a frame", report["spikes_per_neuron"]),
        ("accumulations a frame", f"{report['accumulations_per_frame']:,}"),
        ("tools", "; ".join(report["tools"].values()) + f"; seed {report['seed']}"),
        ("bitstream", report["bitstream"]),
        *([("weights, for its flash", report["weights_image"])] if report["weights_image"] else []),
    ]
    lines = [f"# {report['network']}", "", report["origin"], "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    columns = (
        "layer",
        "kind",
        "shape",
        "lanes",
        "weights",
        "weight_bits",
        "potential_bits",
        "count_bits",
        "events_per_frame",
        "spikes_per_frame",
        "accumulations_per_frame",
    )
    lines += ["", "| " + " | ".join(c.replace("_", " ") for c in columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| "
        + " | ".join(
            "x".join(map(str, layer[c])) if c == "shape" else "" if layer[c] is None else str(layer[c]) for c in columns
        )
        + " |"
        for layer in report["layers"]
    ]
    lines += ["", "Slowest path after routing:", "", "```", *report["critical_path"], "```", ""]
    return "\n".join(lines)


@command(help="Build a verified bitstream: golden run, RTL, co-simulation, synthesis, place and route.")
@click.option(
    "--net",
    type=click.Path(path_type=Path),
    help="Network (.npz), or .onnx to convert first; the bundled one that suits the board by default.",
)
@click.option("--board", default="ulx3s-85f", show_default=True, help="Board; see --list-boards.")
@click.option(
    "--plan", help="minimal, default, fast, folded, or a .json file; the board's own for its bundled network, else default."
)
@click.option("--frames", default=4, show_default=True, type=click.IntRange(4), help="Frames of the co-simulation.")
@click.option(
    "--freq", type=click.FloatRange(1, 400), help="Clock in MHz that must be met; the board's own (--list-boards) by default."
)
@click.option("--watch/--no-watch", default=None, help="Whether the host can watch spikes; as the plan says.")
@click.option("--states/--no-states", default=None, help="Whether the host can read membrane potentials; as the plan says.")
@click.option("--baud", default=BAUD, show_default=True, type=click.IntRange(9600), help="Bits a second of the host link.")
@click.option("--seed", default=1, show_default=True, help="Seed of placement.")
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1), help="Place with so many seeds; the fastest is taken."
)
@click.option("--dataset", metavar="DATA", help="mnist, digits5k or an .npz file; mnist where it is found.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results; build/NAME by default.")
@click.option("--list-boards", is_flag=True, help="List the boards and stop.")
@click.option(
    "--verilog-only", is_flag=True, help="Write plain Verilog (machine.v, and system.v with the UART, without a flash) and stop."
)
@click.option("--program", is_flag=True, help="Load the bitstream into the device with openFPGALoader, until power is off.")
@click.option(
    "--program-flash", is_flag=True, help="Write the bitstream, and weights where they have to be loaded, into the board's flash."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(
    net: Path | None,
    board: str,
    plan: str | None,
    frames: int,
    freq: float | None,
    watch: bool | None,
    states: bool | None,
    baud: int,
    seed: int,
    seeds: int,
    dataset: str | None,
    data_dir: Path | None,
    out: Path | None,
    list_boards: bool,
    verilog_only: bool,
    program: bool,
    program_flash: bool,
    as_json: bool,
) -> None:
    """See the help text above."""
    if list_boards:
        _list_boards(as_json)
        return
    console = Console(stderr=True)
    options = Options(
        net=net,
        board=board,
        plan=plan,
        frames=frames,
        watch=watch,
        states=states,
        frequency_mhz=freq,
        baud=baud,
        seed=seed,
        seeds=seeds,
        dataset=dataset,
        data_dir=data_dir,
        out=out,
        verilog_only=verilog_only,
    )
    if program and program_flash:
        fail(Exit.BAD_INPUT, "--program and --program-flash must not both be given")
    if verilog_only and (program or program_flash):
        fail(Exit.BAD_INPUT, "--verilog-only makes no bitstream: --program and --program-flash must not be given")
    if program and not board_named(board).loads_sram:
        what = f"--program must be --program-flash for {board_named(board).title}"
        fail(Exit.BAD_INPUT, f"{what}: its programmer reaches the flash, not the device")
    if program or program_flash:
        find_tool("openfpgaloader")
    report = build(options, console)
    if program or program_flash:
        _program(board_named(board), report, flash=program_flash)
    if as_json:
        print(json.dumps(report, indent=2))
    elif verilog_only:
        print("\n".join(report["verilog"]))
    else:
        print(Path(report["bitstream"]).with_name("report.md").read_text().split("\nSlowest")[0])


def _program(board: Board, report: dict[str, Any], *, flash: bool) -> None:
    """What was built goes into the device, or the flash from which it starts."""
    parts = [(report["bitstream"], 0)]
    if flash and report["weights_image"]:
        # The device starts again behind each part.
        parts.append((report["weights_image"], board.flash_addr))
    for path, offset in parts:
        log = Path(path).with_suffix(".program.log")
        where = ["--write-flash", "--verify", "--offset", f"{offset:#x}"] if flash else []
        # Not all that fails shows in its exit code.
        output = run_tool("openfpgaloader", ["--board", board.programmer, *where, path], log=log)
        if "FAIL" in output:
            raise ToolError(f"openfpgaloader failed; see {log}", output)


def _list_boards(as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(board) for board in BOARDS.values()], indent=2))
        return
    table = Table()
    for column in ("name", "board", "family", "device", "LUT4", "memories", "MHz"):
        table.add_column(column)
    for board in BOARDS.values():
        row = (board.name, board.title, board.of_family.TITLE, board.part, f"{board.luts:,}", board.memories)
        table.add_row(*row, f"{board.frequency_mhz:g}")
    Console().print(table)


if __name__ == "__main__":
    main()
