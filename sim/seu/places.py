"""Where a machine keeps bits: its registers and memories, found in its Verilog, and made open to a flip from outside."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.simulators import SimulationError

__all__ = ["CLASSES", "MEMORIES", "MOVING", "QUEUES", "STATES", "STILL", "TABLES", "TAGS", "WEIGHTS", "Place"]
__all__ += ["opened", "opened_spram"]

WEIGHTS, TABLES, STATES, TAGS, QUEUES, MOVING, STILL = CLASSES = (
    "weights", "initial words", "states", "tags", "queues", "registers that change", "registers that stand",
)  # fmt: skip
"""Of bits. Tables are memories without weights that nothing writes; registers stand where no frame changes them."""

MEMORIES: Mapping[str, str] = {
    r"(segment_\d+_)?slice_\d+": WEIGHTS,
    "weights": WEIGHTS,
    "bias": TABLES,
    "tags": TAGS,
    "states": STATES,
    "storage": QUEUES,
    "events": QUEUES,
}
"""Classes of memories, by their whole name. What is called ``words`` is a bank of states where tags lie beside it, and else a
queue."""

_OPEN = "/*verilator public_flat_rw*/"

_NAME = r"(\\\S+ |[A-Za-z_][\w$]*)"
_MODULE = re.compile(r"^module (\\\S+|\w+).*?^endmodule", re.MULTILINE | re.DOTALL)
_CLOCKED = re.compile(r"always @\(posedge clk\)(?: begin\n.*?^  end\n|\n.*?;\n)", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(rf"^\s+{_NAME}(?:\[[^=\n]*\])? <= ", re.MULTILINE)
_DECLARED = re.compile(rf"^(  reg (?:\[(\d+):0\] )?){_NAME}( ?\[(\d+):0\])?((?: = [^;]*)?;)", re.MULTILINE)
_SPRAM = re.compile(r"^(\s*reg \[15:0\] mem \[0:16383\]|\s*output reg \[15:0\] DATAOUT)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A register or a memory.

    Parameters
    ----------
    name : str
        Path of instances below the machine, and its own name.
    bits, words : int
        Of a word, and words; a register is one word.
    memory, written : bool
        Whether it is a memory, and whether anything writes it.
    of : str
        One of `CLASSES`; empty for a register, whose bits are each of one or the other.
    first, count : int
        The words of it that are meant, where a memory holds things of several classes.
    """

    name: str
    bits: int
    words: int
    memory: bool
    written: bool
    of: str
    first: int
    count: int

    @property
    def size(self) -> int:
        """Bits of all its words that are meant."""
        return self.bits * self.count


def opened(verilog: str) -> tuple[str, list[Place]]:
    """A machine's Verilog with all registers and memories open to a program around it; and what these are.

    Parameters
    ----------
    verilog : str
        As `hw.flow.verilog.machine_verilog` writes it: a module an instance, called by its path.
    """
    places: list[Place] = []

    def of_module(module: re.Match[str]) -> str:
        text, path = module[0], module[1].removeprefix("\\")
        clocked = {name for block in _CLOCKED.finditer(text) for name in _TARGET.findall(block[0])}
        memories = {match[3].strip() for match in _DECLARED.finditer(text) if match[4]}

        def of_declaration(match: re.Match[str]) -> str:
            name, memory = match[3], match[4] is not None
            if name not in clocked and not memory:
                return match[0]
            plain = name.removeprefix("\\").strip()
            words = int(match[5]) + 1 if memory else 1
            full = ".".join([*path.split(".")[1:], plain])
            places.append(
                Place(
                    name=full,
                    bits=int(match[2] or 0) + 1,
                    words=words,
                    memory=memory,
                    written=name in clocked,
                    of=_class_of(full, plain, memories) if memory else "",
                    first=0,
                    count=words,
                )
            )
            return f"{match[1]}{name}{match[4] or ''} {_OPEN}{match[6]}"

        return _DECLARED.sub(of_declaration, text)

    text = _MODULE.sub(of_module, verilog)
    _check_names(places)
    return text, places


def _class_of(full: str, name: str, beside: set[str]) -> str:
    if name == "words":
        return STATES if "tags" in beside else QUEUES
    for pattern, of in MEMORIES.items():
        if re.fullmatch(pattern, name):
            return of
    raise SimulationError(f"memory {full} is of no known class")


def _check_names(places: Sequence[Place]) -> None:
    names = [place.name for place in places]
    if len(set(names)) != len(names):
        raise SimulationError("two registers of the machine have the same path and name")


def opened_spram(models: str, *, parts: int, states: int, weights: int) -> tuple[str, list[Place]]:
    """The same of the model of an iCE40's SPRAM, of which the folded machine has ``parts``, with states first, then weights."""
    text, count = _SPRAM.subn(rf"\1 {_OPEN}", models)
    if count != 2:
        raise SimulationError("the model of SB_SPRAM256KA has other registers than it had")
    places = []
    for part in range(parts):
        path = f"memories.spram.spram_{part}"
        for of, first, size in ((STATES, 0, states), (WEIGHTS, states, weights)):
            if size:
                places.append(
                    Place(name=f"{path}.mem", bits=16, words=16384, memory=True, written=True, of=of, first=first, count=size)
                )
        places.append(
            Place(name=f"{path}.DATAOUT", bits=16, words=1, memory=False, written=True, of="", first=0, count=1)
        )
    return text, places
