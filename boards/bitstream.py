"""From a network to a verified bitstream, step by step.

Each step is kept by the content that it depends on; a second run does only what changed. What looks like a result, the bitstream
and the report, is there only when every step succeeded.

    network -+- golden run, Verilog of the machine, co-simulation -----------------+- bitstream, unpacked again - report
             +- RTL of the board - synthesis - place and route, a seed beside another -+

The two rows do not wait for each other.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import Timeout
from rich.console import Console

import boards
import hw
import sim
from boards.build_report import build_report, markdown
from boards.bundled import BUNDLED, chosen_for
from boards.definitions import Board, board_named
from boards.top import BAUD, BoardTop, bit_cycles
from hw.flow.area import estimate_area, memories
from hw.flow.bitstream import check_bitstream
from hw.flow.families.base import Clock
from hw.flow.routing import RoutingError
from hw.flow.synthesis import MultiplierError, Placed, Synthesized, place_and_route, synthesize
from hw.flow.tools import find_tool, stopped_tools, tool_version
from hw.flow.verilog import machine_sources, machine_verilog, system_verilog, to_rtlil, to_verilog
from hw.link.flash import flash_image
from hw.link.system import TIMEOUTS_A_SECOND
from hw.parts.memory import BLOCK
from model.conversion.convert import Conversion, convert_file
from model.conversion.quantize import Settings
from model.encode import encode
from model.engine.engine import run_fast
from model.golden import Trace
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.machine.checks import check_plan
from model.machine.folded_layout import Folded
from model.machine.named_plans import is_folded, load_plan
from model.machine.plan import Plan
from model.network import Network
from model.reports.conversion import conversion_json, conversion_lines
from model.support.cache import alone, kept, source_hash
from model.support.errors import DoesNotFitError, MismatchError, TimingError
from model.support.files import write_file
from model.support.frames import real_frames
from model.support.steps import Steps, side_by_side
from sim.cosimulation import CACHE, VerifyResult, verify

__all__ = ["Options", "VerificationError", "build"]

SIMULATED_FREQUENCY_HZ = 60_000_000
"""Clock that ``--verilog-only`` takes for the UART's divisor."""

WEIGHTS = "-weights.bin"
"""End of the name of the file with what goes into a board's flash after the bitstream."""

PLACED_AT_ONCE = 2
"""Seeds that are placed at the same time: each takes a processor core, and a large device more than a gigabyte."""


FIRST_RUN_MINUTES = 5.0
"""Processor time of a first build of a small design, co-simulation included, in minutes; of a second seed about a third."""

LUTS_PER_MINUTE = 1_850
"""How many more LUTs of an ECP5 take a minute more: 37,000 take about 25 minutes in all."""


class VerificationError(MismatchError):
    """The RTL differs from the golden model."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to build.

    Parameters
    ----------
    net : Path or None
        Network file, or ONNX file to convert; the bundled one that suits the board where None.
    board : str
        Name of the board.
    plan : str or None
        Name or file of the plan; where None the board's own, or for a network that is not bundled ``"default"``, unless the board
        has only room for a folded machine.
    watch, states, weight_check : bool or None
        Whether the host can watch spikes, read membrane potentials, and whether weights are checked; as the plan says where None.
    frames : int
        Frames of the co-simulation.
    frequency_mhz : float or None
        Clock that must be met, in MHz; the board's own where None.
    baud : int
        Bits per second of the host link.
    seed, seeds : int
        Seeds of placement: the first of them, and how many; the fastest result is taken.
    dataset : str or None
        Where frames come from.
    data_dir : Path or None
        First folder to look for them in.
    out : Path or None
        Folder for results.
    verilog_only : bool
        Stop after the Verilog.
    layout, output, normalization : str, str, Normalization
        What an ONNX file leaves open (`model.importers.options`).
    """

    net: Path | None = None
    board: str = "ulx3s-85f"
    plan: str | None = None
    watch: bool | None = None
    states: bool | None = None
    weight_check: bool | None = None
    frames: int = 4
    frequency_mhz: float | None = None
    baud: int = BAUD
    seed: int = 1
    seeds: int = 1
    dataset: str | None = None
    data_dir: Path | None = None
    out: Path | None = None
    verilog_only: bool = False
    layout: str | None = None
    normalization: Normalization = AS_THEY_ARE
    output: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is built, and where it goes."""

    options: Options
    board: Board
    network: Network
    conversion: Conversion | None
    plan: Plan
    out: Path
    steps: Steps

    @property
    def name(self) -> str:
        """The name of the result's files."""
        return f"{self.network.name}-{self.board.name}"

    @property
    def frequency_hz(self) -> float:
        """The clock that was asked for."""
        return (self.options.frequency_mhz or self.board.frequency_mhz) * 1e6

    @property
    def pll(self) -> Clock:
        """The clock that is made of it."""
        return self.board.clock(self.frequency_hz)

    def clear(self) -> None:
        """Remove results: what a run has not written, or not all of it, must not look like its own."""
        names = ["machine.v", "system.v"]
        if not self.options.verilog_only:
            names += [f"{self.name}{ending}" for ending in (self.board.of_family.BITSTREAM, WEIGHTS, ".v")]
            names += ["report.json", "report.md"]
        for name in names:
            (self.out / name).unlink(missing_ok=True)

    def tell_time(self, luts: int) -> None:
        """Say about how long a first run takes; ``luts`` are those of an ECP5, 0 for the other families' small designs."""
        minutes = FIRST_RUN_MINUTES + luts / LUTS_PER_MINUTE
        minutes += (self.options.seeds - 1) * minutes / 3
        self.steps.say(f"   about {minutes:.0f} minutes of processor time where nothing is kept from an earlier run")

    def tell_fit(self, short: list[str]) -> None:
        """Raise `DoesNotFitError` where anything is ``short``."""
        if short:
            raise DoesNotFitError(f"does not fit {self.board.title}: short of {' and '.join(short)}")


@dataclass(frozen=True, kw_only=True)
class _Proof:
    """What the golden model and the co-simulation found."""

    dataset: str
    traces: list[Trace]
    right: int
    verified: VerifyResult
    verilog: str


@dataclass(frozen=True, kw_only=True)
class _Design:
    """What synthesis and place and route found: of each seed, what it took, and the routed design."""

    verilog: Path
    synthesized: Synthesized
    placed: dict[int, tuple[Placed, Path]]
    not_routed: list[int]
    """Seeds with which it does not route."""

    @property
    def best(self) -> int:
        """The seed with the fastest result."""
        return max(self.placed, key=lambda seed: self.placed[seed][0].fmax_mhz)


def build(options: Options, console: Console) -> dict[str, Any]:
    """Build; gives the report.

    Raises
    ------
    TallyError
        Each of its kinds; on any of them, no bitstream and no report is left in the folder.
    """
    with Steps(console) as steps:
        job = _prepare(options, steps)
        with _folder_of_its_own(job):
            return _verilog_only(job) if options.verilog_only else _build(job)


@contextmanager
def _folder_of_its_own(job: _Job) -> Iterator[None]:
    """A context in which no other build writes to this one's folder, without results at its beginning and where it fails."""
    lock = alone(job.out / "report.json")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with job.steps.step(f"waiting for another build to end, which writes to {job.out}"):
            lock.acquire()
    try:
        job.clear()
        yield
    except BaseException:
        job.clear()
        raise
    finally:
        lock.release()


def _build(job: _Job) -> dict[str, Any]:
    """All steps down to the report."""
    options = job.options
    _check_size(job)
    tools = _find_tools(job)
    images, labels, dataset = real_frames(job.network, options.dataset, options.data_dir, options.frames)
    proof, design = side_by_side(
        lambda: _prove(job, images, labels, dataset), lambda: _design(job, tools), stop=stopped_tools
    )
    bitstream, image = _pack(job, proof, design)
    report = build_report(
        network=job.network,
        conversion=job.conversion,
        plan=job.plan,
        board=job.board,
        tools=tools,
        dataset=proof.dataset,
        traces=proof.traces,
        frames_right=proof.right,
        verified=proof.verified,
        synthesized=design.synthesized,
        placed={seed: placed for seed, (placed, _) in design.placed.items()},
        not_routed=design.not_routed,
        best=design.best,
        frequency_hz=job.pll.output_hz,
        bitstream=bitstream,
        weights_image=image,
    )
    write_file(job.out / "report.md", markdown(report))
    write_file(job.out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _prepare(options: Options, steps: Steps) -> _Job:
    """Read the network and the plan."""
    board = board_named(options.board)
    net, plan_name = chosen_for(board, options.net, options.plan)
    # A clock or a baud that cannot be is said before anything runs.
    bit_cycles(_link_hz(options, board), options.baud)
    with steps.step(f"network {net}") as tell:
        if net.name != BUNDLED.name and options.net is None:
            largest = Path(Board.plan).stem
            steps.say(f"   {board.title} has no room for {BUNDLED.stem} at plan {largest}: it gets {net.stem}")
        network, conversion = _load(net, options, tell, folded=is_folded(plan_name))
        plan = load_plan(network, plan_name)
        for name in ("watch", "states", "weight_check"):
            if (value := getattr(options, name)) is not None:
                plan = replace(plan, **{name: value})
        check_plan(network, plan)
    if conversion is not None:
        _tell_conversion(steps, conversion)
    job = _Job(
        options=options,
        board=board,
        network=network,
        conversion=conversion,
        plan=plan,
        out=options.out or Path("build") / network.name,
        steps=steps,
    )
    job.out.mkdir(parents=True, exist_ok=True)
    return job


def _link_hz(options: Options, board: Board) -> float:
    """The clock that the link's bits are counted in."""
    if options.verilog_only:
        return SIMULATED_FREQUENCY_HZ
    return board.clock((options.frequency_mhz or board.frequency_mhz) * 1e6).output_hz


def _load(
    net: Path, options: Options, tell: Callable[[str], None], *, folded: bool
) -> tuple[Network, Conversion | None]:
    """The network, and what its conversion found where it is one."""
    if net.suffix != ".onnx":
        return Network.load(net), None
    conversion = convert_file(
        net,
        calibrate=options.dataset or "digits5k",
        data_dir=options.data_dir,
        settings=Settings(for_hardware=True, ungroup=folded),
        layout=options.layout,
        output=options.output,
        normalization=options.normalization,
        progress=tell,
    )
    return conversion.network, conversion


def _tell_conversion(steps: Steps, conversion: Conversion) -> None:
    for note in conversion.notes:
        steps.say(f"note: {note}")
    for line in conversion_lines(conversion):
        steps.say(f"   {line}")
    for warning in conversion.warnings:
        steps.say(f"warning: {warning}")


def _verilog_only(job: _Job) -> dict[str, Any]:
    """Plain Verilog of the machine, and of the machine with its UART."""
    machine, system = job.out / "machine.v", job.out / "system.v"
    with job.steps.step("Verilog"):
        write_file(machine, machine_verilog(job.network, job.plan, CACHE))
        text = system_verilog(
            job.network,
            job.plan,
            CACHE,
            divisor=bit_cycles(SIMULATED_FREQUENCY_HZ, job.options.baud),
            clock_hz=SIMULATED_FREQUENCY_HZ,
            timeout_bits=job.options.baud // TIMEOUTS_A_SECOND,
        )
        write_file(system, text)
    return {
        "network": job.network.name,
        "network_hash": job.network.content_hash,
        "conversion": conversion_json(job.conversion) if job.conversion else None,
        "plan": job.plan.name,
        "verilog": [str(machine), str(system)],
    }


def _check_size(job: _Job) -> None:
    """Say what it will take, and `DoesNotFitError` where that is known to be too much, before anything runs."""
    board, family = job.board, job.board.of_family
    family.check_memories(job.plan)
    with job.steps.step("what it will take"):
        made, asked = (f"{frequency_hz / 1e6:g}" for frequency_hz in (job.pll.output_hz, job.frequency_hz))
        if made != asked:
            job.steps.say(f"   a clock of {made} MHz: of those that the PLL makes, the nearest that is not above {asked}")
        if job.plan.folded:
            folded = Folded.of(job.network, job.plan)
            blocks = folded.blocks + folded.link_blocks
            job.steps.say(f"   {blocks} block RAMs of an iCE40, {folded.single_words:,} words of SPRAM")
            job.tell_time(0)
            job.tell_fit(board.short_of_folded(folded))
        elif family.HAS_AREA_MODEL:
            area = estimate_area(job.network, job.plan)
            job.steps.say(
                f"   about {area.luts:,} LUTs of {board.luts:,} and {area.flip_flops:,} flip-flops; "
                f"{area.ram_blocks} block RAMs of {board.ram_blocks}"
            )
            job.tell_time(area.luts)
            # There are as many blocks or more: no need to wait for the tools to say so.
            job.tell_fit(board.short_of(luts=0, ram_blocks=area.ram_blocks))
        else:
            # What memories hold is the same everywhere, and no device has more than its blocks to hold it in.
            kbit = sum(memory.width * memory.depth for memory in memories(job.network, job.plan) if memory.kind == BLOCK) / 1024
            have = board.ram_blocks * family.RAM_BLOCK_BITS / 1024
            job.steps.say(
                f"   memories of {kbit:,.0f} kbit, blocks of {have:,.0f} kbit; "
                "LUTs are known after synthesis: the area model is of ECP5"
            )
            job.tell_time(0)
            if kbit > have:
                raise DoesNotFitError(
                    f"does not fit {board.title}: memories hold {kbit:,.0f} kbit, its {board.ram_blocks} blocks {have:,.0f} kbit"
                )


def _find_tools(job: _Job) -> dict[str, str]:
    """The versions of all tools that are needed."""
    tools = {}
    with job.steps.step("tools (WebAssembly builds compile themselves once, which takes minutes)") as tell:
        for tool in job.board.of_family.tools:
            tell(tool)
            find_tool(tool)
            tools[tool] = tool_version(tool)
    return tools


def _prove(job: _Job, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], dataset: str) -> _Proof:
    """Every spike and every cycle of the machine, on ``images``."""
    network, plan = job.network, job.plan
    with job.steps.step(f"golden run on {len(images)} frames of {dataset}"):
        traces = [run_fast(network, encode(network, image)) for image in images]
        right = sum(int(trace.answer == label) for trace, label in zip(traces, labels, strict=True))
    with job.steps.step(f"Verilog of the machine, plan {plan.name}, {plan.lanes} lanes"):
        verilog = machine_verilog(network, plan, CACHE)
    sources = f"{machine_sources()} {source_hash(Path(sim.__path__[0]))}"
    frames_hash = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    with job.steps.step(f"co-simulation on {len(images)} frames") as tell:

        def simulate() -> VerifyResult:
            return verify(
                network,
                plan,
                images,
                out_dir=job.out / "verify",
                progress=lambda count: tell(f"{count} frames"),
                line=tell,
            )

        key = _key("verify", network.content_hash, plan, sources, frames_hash)
        verified = VerifyResult.of(_kept_result(key, lambda: asdict(simulate())))
        if verified.mismatches:
            raise VerificationError(f"{verified.mismatches} mismatches against the golden model; {verified.report}")
        if verified.cycle_mismatches:
            raise VerificationError(f"{verified.cycle_mismatches} cycles differ from the cycle model; {verified.report}")
    return _Proof(dataset=dataset, traces=traces, right=right, verified=verified, verilog=verilog)


def _design(job: _Job, tools: dict[str, str]) -> _Design:
    """The board's design, synthesized, and placed with each seed."""
    board, family, part = job.board, job.board.of_family, job.board.target
    top = BoardTop(
        board=board, network=job.network, plan=job.plan, frequency_hz=job.frequency_hz, baud=job.options.baud
    )
    sources = (machine_sources(), source_hash(Path(boards.__path__[0])))
    key = _key("board", job.network.content_hash, job.plan, board, job.frequency_hz, job.options.baud, *sources)
    with job.steps.step(f"RTL for {board.title}"):
        rtlil = kept(CACHE / f"{key}.il", lambda written: written.write_text(to_rtlil(top, "top")))
    flow = source_hash(Path(hw.__path__[0]) / "flow")
    rtlil_hash = hashlib.sha256(rtlil.read_bytes()).hexdigest()
    netlist = CACHE / f"{_key('netlist', rtlil_hash, tools['yosys'], part.device, flow)}.json"
    log = job.out / "synthesis.log"
    with job.steps.step("synthesis") as tell:
        synthesized = Synthesized(
            **_kept_result(
                f"{netlist.stem}-stat",
                lambda: asdict(
                    synthesize(rtlil, top="top", netlist=netlist, log=log, line=tell, family=family, part=part)
                ),
                netlist,
            )
        )
        luts = family.luts_needed(synthesized)
        job.tell_fit(board.short_of(luts=luts, flip_flops=synthesized.ff, ram_blocks=synthesized.ram_blocks))

    def place(seed: int) -> tuple[Placed, Path] | RoutingError:
        routed = CACHE / f"{_key('routed', netlist.stem, board, job.pll, seed, tools[family.PLACER], flow)}{family.ROUTED}"
        clock_mhz = job.pll.output_hz / 1e6
        with job.steps.step(f"place and route, seed {seed}, {clock_mhz:g} MHz") as tell:

            def route() -> Placed:
                return place_and_route(
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

            beside = (routed, routed.with_suffix(family.CONSTRAINTS), routed.with_suffix(".log"))
            stuck = CACHE / f"{routed.stem}-not-routed.txt"
            try:
                # The same seed would get nowhere again.
                if stuck.exists():
                    raise RoutingError(stuck.read_text())
                placed = Placed(**_kept_result(f"{routed.stem}-report", lambda: asdict(route()), *beside))
            except RoutingError as error:
                write_file(stuck, str(error))
                job.steps.say(f"   seed {seed}: not routed, {error}")
                return error
            job.steps.say(f"   seed {seed}: {placed.fmax_mhz} MHz")
        return placed, routed

    seeds = range(job.options.seed, job.options.seed + job.options.seeds)
    found = side_by_side(
        *(lambda seed=seed: place(seed) for seed in seeds),  # type: ignore[misc]
        stop=stopped_tools,
        at_once=PLACED_AT_ONCE,
    )
    errors = {seed: one for seed, one in zip(seeds, found, strict=True) if isinstance(one, RoutingError)}
    if len(errors) == len(seeds):
        raise next(iter(errors.values()))
    with job.steps.step(f"Verilog for {board.title}"):
        verilog = kept(CACHE / f"{key}.v", lambda written: written.write_text(to_verilog(top, "top")))
    placed = {seed: one for seed, one in zip(seeds, found, strict=True) if seed not in errors}
    return _Design(verilog=verilog, synthesized=synthesized, placed=placed, not_routed=list(errors))


def _pack(job: _Job, proof: _Proof, design: _Design) -> tuple[Path, Path | None]:
    """The bitstream of the fastest design that keeps up with its clock, and what goes into the flash after it."""
    family, best = job.board.of_family, design.best
    placed, routed = design.placed[best]
    log = job.out / "place-and-route.log"
    write_file(log, routed.with_suffix(".log").read_bytes())
    if placed.dsp:
        raise MultiplierError(f"{placed.dsp} DSP blocks are in the routed design")
    if placed.fmax_mhz < job.pll.output_hz / 1e6:
        raise TimingError(
            f"timing is not met: {placed.fmax_mhz} MHz after routing, below {job.pll.output_hz / 1e6:g} MHz, with seed {best}; "
            f"see {log}; try a lower --clock, another --seed or more --seeds"
        )
    bitstream = job.out / f"{job.name}{family.BITSTREAM}"
    with job.steps.step("bitstream, and what it unpacks to"):
        packed = kept(routed.with_suffix(family.BITSTREAM), lambda written: _packed(job, routed, written))
        write_file(job.out / f"{job.name}.v", design.verilog.read_bytes())
        write_file(job.out / "machine.v", proof.verilog)
        image = job.out / f"{job.name}{WEIGHTS}" if job.board.reads_flash(job.network, job.plan) else None
        if image:
            write_file(image, flash_image(job.network, job.plan))
        write_file(bitstream, packed.read_bytes())
    return bitstream, image


def _packed(job: _Job, routed: Path, bitstream: Path) -> None:
    """Make a bitstream that unpacks to the routed design."""
    family, part = job.board.of_family, job.board.target
    constraints = routed.with_suffix(family.CONSTRAINTS)
    family.pack(part, routed=routed, bitstream=bitstream, constraints=constraints, log=job.out / "bitstream.log")
    check_bitstream(family, part, routed=routed, bitstream=bitstream, log=job.out / "unpacked.log")


def _kept_result(key: str, make: Callable[[], dict[str, Any]], *beside: Path) -> dict[str, Any]:
    """What ``make`` found for this ``key``, as its file has it, which is made where it or a file ``beside`` it is not there."""
    path = kept(CACHE / f"{key}.json", lambda part: part.write_text(json.dumps(make())), beside=beside)
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def _key(what: str, *parts: object) -> str:
    return f"{what}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
