"""The Verilog around a machine under test: feeds tokens from a file, records all that passes into another.

Doing this in Verilog keeps Python out of the cycles: cocotb starts the clock, watches progress and notices hangs.
"""

from collections.abc import Sequence
from pathlib import Path

from amaranth.lib import data
from jinja2 import StrictUndefined, Template

from hw.folded.machine import FoldedMachine
from hw.machines import AnyMachine
from hw.parts.single_port import PART_BITS, PARTS
from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS
from model.machine.randomness import SEED_FACTOR

__all__ = ["RESULT", "WATCHED", "bench_text", "records", "seen_words", "wrapper"]

BENCH = Path(__file__).parent / "bench.v.j2"
"""The Verilog, but for what depends on the machine."""

_STEPS = Path(__file__).parent / "bench.cpp"

RESULT = "result"
WATCHED = "watched"
"""Names of the two records that are not traces."""


def records(machine: AnyMachine) -> list[str]:
    """Names of what is recorded, by number."""
    return [*(trace.name for trace in machine.traces), RESULT, *([WATCHED] if machine.plan.watch else [])]


def _record_widths(machine: AnyMachine) -> list[int]:
    """Bits of what is recorded, by number."""
    streams = [machine.result, *([machine.watched] if machine.plan.watch else [])]
    return [*(_width(trace.layout) for trace in machine.traces), *(_width(each.payload.shape()) for each in streams)]


def seen_words(machine: AnyMachine) -> list[int]:
    """Words of 32 bits that ``seen`` has: of each record, of which the first is whether there is a token; and of the counters."""
    words = [1 + -(-width // 32) for width in _record_widths(machine)]
    return [*words, max(1, -(-_width(machine.saturations.shape()) // 32))]


def _loads(machine: AnyMachine) -> bool:
    return isinstance(machine, FoldedMachine) and machine.folded.single_weight_words > 0


def _width(layout: data.Layout) -> int:
    return int(layout.size)


def bench_text(words: Sequence[int]) -> str:
    """C++ of class ``Bench``, which simulates module ``tb`` cycle by cycle; ``words`` as of `seen_words`."""
    return f"constexpr int kWords[] = {{{', '.join(map(str, words))}}};\n{_STEPS.read_text()}"


def wrapper(machine: AnyMachine, *, mutant_width: int = 0, seen: bool = False) -> str:
    """Verilog of module ``tb``, which instantiates module ``machine``.

    Weights that have to be loaded are, from the file ``weights``, and then checked; cycles count from there.

    With a ``mutant_width`` the machine has an input ``mutant`` of so many bits, which becomes one of ``tb``. With it, or where
    ``seen`` is asked for, the output ``seen`` shows all that is recorded (`bench_text`).

    Plus-arguments: ``tokens``, ``record`` and ``weights`` (files), ``idle`` and ``stall`` (chance of 65,536 a cycle),
    ``source_seed``, ``watch`` (mask of ports, in hexadecimal), ``waves`` (a file; Verilator has its own way). With a
    ``mutant_width`` also ``earlier`` and ``earlier_cycles``: a file of tokens that come for so many cycles before a reset, behind
    which all begins.
    """
    watch = machine.plan.watch
    streams = [RESULT, *([WATCHED] if watch else [])]
    words = seen_words(machine)
    template = Template(BENCH.read_text(), undefined=StrictUndefined, keep_trailing_newline=True)
    return template.render(
        host_width=_width(machine.host.payload.shape()),
        result_width=_width(machine.result.payload.shape()),
        saturations_width=_width(machine.saturations.shape()),
        watched_width=_width(machine.watched.payload.shape()) if watch else 1,
        watch_width=max(1, len(machine.watch)) if watch else 1,
        ports=_mutated(_ports(machine, streams)) if mutant_width else _ports(machine, streams),
        mutant_width=mutant_width,
        recorded="!warming && !again && " if mutant_width else "",
        seen=seen or mutant_width > 0,
        words=words,
        seen_width=32 * sum(words),
        loads=_loads(machine),
        seed_factor=SEED_FACTOR,
        first_word=machine.folded.single_state_words if isinstance(machine, FoldedMachine) else 0,
        addr_width=SINGLE_WORDS.bit_length() - 1,
        word_width=SINGLE_BITS,
        parts=PARTS,
        part_width=PART_BITS,
        part_number_width=(PARTS - 1).bit_length(),
        traces=[trace.name for trace in machine.traces],
        streams=streams,
    )


def _mutated(ports: Sequence[str]) -> list[str]:
    """The connections of an instance with mutants, which may be reset once more."""
    return [*(".rst(rst || again)" if port == ".rst(rst)" else port for port in ports), ".mutant(mutant)"]


def _ports(machine: AnyMachine, streams: Sequence[str]) -> list[str]:
    """The connections of the machine's instance."""
    ports = [".clk(clk)", ".rst(rst)"]
    ports += [f".{s}__{p}({s}_{p})" for s in ("host", *streams) for p in ("valid", "ready", "payload")]
    ports += [".saturations(saturations)", *([".watch(watch)"] if machine.plan.watch else [])]
    if _loads(machine):
        driven = {name: f"weight_{name}" for name in ("en", "addr", "part", "data", "check", "idle")}
        driven |= {"loaded": "loaded", "found": ""}
        ports += [f".weights__{port}({net})" for port, net in driven.items()]
    if machine.plan.states:
        # Nobody asks.
        place = _width(machine.states.place.shape())
        ports += [".states__ask(1'b0)", f".states__place({place}'d0)"]
        ports += [f".states__{name}()" for name in ("found", "known", "state")]
    if machine.plan.weight_check:
        ports += [".weight_passes()", ".weights_differ()"]
    return ports
