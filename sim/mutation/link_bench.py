"""Benches of what is around a machine: an encoder alone, and a whole system at its two wires."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import StrictUndefined, Template

from hw.aer import AddressEvent
from hw.folded.machine import FoldedMachine
from hw.interface import Trace
from hw.link.frame_encoder import FrameEncoder
from hw.link.protocol import (
    HEADER_BYTES,
    RESULT,
    SYNC,
    Command,
    Event,
    Status,
    crc8,
    event_bytes,
    longest_payload,
    mask_bytes,
    pack_event,
    packet,
    takes_bits,
)
from hw.link.system import System
from hw.machines import machine_of
from hw.pipeline.router import answered_ports
from model.encode import encode
from model.events import Events
from model.golden import run
from model.machine.plan import Plan
from model.machine.randomness import SEED_FACTOR
from model.machine.stages import ports
from model.network import INPUT, Network, Neurons
from sim.mutation.benches import MutationBench, Stimulus
from sim.mutation.faults import FAST_CLOCKS
from sim.mutation.netlists import WIDTH
from sim.mutation.surroundings import Source, Surroundings
from sim.scoreboard import Spike, decode

__all__ = ["encoder_bench", "system_bench"]

_TEMPLATES = Path(__file__).parents[1]

_DIVISOR, _CLOCK_HZ, _TIMEOUT_BITS = 5, 4e6, 501
"""Odd numbers: what a fault turns over in every cycle is as it was after an even number of them."""

_PAUSE, _FOLDED_PAUSE = 3200, 16_000
"""Cycles between two packets: more than any answer takes, and a packet may stand still; a folded machine has slow frames."""

_QUICK = 600
"""Cycles that are enough for an answer for which the machine is not asked."""

_UNHEARD = 1 << 31
"""Of a pause: what comes back does not matter."""

_TIMEOUT = _TIMEOUT_BITS * _DIVISOR
_EARLY, _LATE = _TIMEOUT - 10 * _DIVISOR - 10, _TIMEOUT - 10 * _DIVISOR + 10
"""Pauses within a packet, a byte's cycles less than what ends it: short enough, and too long."""

_ANSWERED = range(0x60, 0x80)
"""Numbers of the packets of frames at the input, of which the golden model knows the answers."""

_OF_FRAME: list[int] = [Command.EVENTS, Command.FRAME]
"""What answers a list with a frame."""

_SAME_SIGN, _SATURATED = 6, 300
"""Events of one sign before those of the other, and events that saturate a neuron more often than a byte counts."""

_ASKED = 8
"""States that are asked for of a layer, at most."""

_INJECTED = 12
"""Spikes of one neuron in a frame at an inner link, more than the output counts."""


def _render(name: str, **values: object) -> str:
    template = Template((_TEMPLATES / name).read_text(), undefined=StrictUndefined, keep_trailing_newline=True)
    return template.render(mutant_width=WIDTH, **values)


def encoder_bench(
    kind: type[FrameEncoder],
    network: Network,
    images: Sequence[npt.NDArray[np.uint8]],
    *,
    stalls: Sequence[tuple[float, float]],
) -> MutationBench:
    """An encoder alone: every event of it, against the model's; for each chance of an idle source and of a stalled sink."""
    layout = AddressEvent(network.input_shape)
    trace = Trace("events_input", INPUT, "events", layout)
    expected = [encode(network, image) for image in images]

    def wrong(record: Path, _: Path) -> list[str]:
        lines = [line.split() for line in record.read_text().splitlines()]
        found = [token.spike for token in decode(network, trace, [(int(cycle), int(text, 16)) for _, cycle, text in lines])]
        wanted: list[Spike | None] = []
        for events in expected:
            wanted += [*(Spike(int(event["address"]), int(event["sign"])) for event in events), None]
        return [] if found == wanted else ["the encoder's events are not the model's"]

    words = 1 + -(-layout.size // 32)
    bench = _render("pixels.v.j2", width=layout.size, words=words, kind=layout["kind"].offset, seed_factor=SEED_FACTOR)
    pixels = [int(pixel) for image in images for pixel in np.asarray(image).reshape(-1)]
    stimuli = [
        Stimulus(
            files={"tokens": "".join(f"{pixel:x}\n" for pixel in pixels)},
            arguments={"idle": str(int(idle * 65536)), "stall": str(int(stall * 65536))},
            frames=len(images),
            cycles=100_000,
            wrong=wrong,
        )
        for idle, stall in stalls
    ]
    return MutationBench(
        component=kind(network=network),
        top="encoder",
        sources={"tb.v": bench},
        around=Surroundings(
            seen=[(["events__valid", "events__ready"], "events__payload"), (["pixels__valid", "pixels__ready"], "")],
            source=Source(name="pixels", width=8),
        ),
        stimuli=stimuli,
        names=["events"],
        words=[words, 1],
    )


def system_bench(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events]
) -> MutationBench:
    """A system at its wires: every byte that it sends, and the answer that it shows then, for all commands and wrong packets.

    When a byte is sent is not compared, as no test of the link does. What answers tell of cycles is, as long as all bytes came
    when they come without a fault.
    """
    loaded = machine_of(network, plan)
    if isinstance(loaded, FoldedMachine) and loaded.folded.single_words:
        raise ValueError(f"plan {plan.name!r}: memory must be block RAM, whose weights need not be loaded")
    pause = _FOLDED_PAUSE if plan.folded else _PAUSE
    stimuli = (_by_turns, _by_wire, _in_flight, _of_states, _refused, _held_up)
    answer_width = max(1, (network.classes - 1).bit_length())
    return MutationBench(
        component=System(network=network, plan=plan, divisor=_DIVISOR, clock_hz=_CLOCK_HZ, timeout_bits=_TIMEOUT_BITS),
        top="system",
        sources={"tb.v": _render("wire.v.j2", divisor=_DIVISOR, silence=2 * pause, answer_width=answer_width)},
        around=Surroundings(seen=[([], "tx"), ([], "restart"), ([], "answer")], restart="restart"),
        stimuli=[of(network, plan, images, frames, pause) for of in stimuli],
        clocks=FAST_CLOCKS,
        names=["sent"],
        words=[2, 1],
        timed=False,
    )


def _by_turns(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events], pause: int
) -> Stimulus:
    """A host that waits for each answer."""
    turns = _turns(network, plan, images, frames)
    answers = [run(network, encode(network, image)) for image in images] + [run(network, each) for each in frames]

    def wrong(record: Path, _: Path) -> list[str]:
        told = _packets(_bytes(record))
        commands = [data[2] for _, data in told if data[2] != Status.WATCHED]
        wanted = [command for _, answer in turns for command in answer]
        if commands != wanted:
            return [f"the commands of its packets are {commands}, not {wanted}"]
        results = [data[HEADER_BYTES:-1] for _, data in told if data[2] == Command.FRAME and data[1] in _ANSWERED]
        found = [(RESULT.unpack_from(each)[0], np.frombuffer(each[RESULT.size :], "<i2").tolist()) for each in results]
        right = [(trace.answer, trace.counts.tolist()) for trace in answers]
        # Behind the reset the last frame comes again.
        return [] if found == [*right, right[-1]] else [f"its answers are {found}, not {right}"]

    return _script([(pause, [(_framed(byte), _DIVISOR) for byte in sent]) for sent, _ in turns], wrong, pause)


def _by_wire(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events], usual: int
) -> Stimulus:
    """A host that does not wait, and a wire with faults; frames in flight, and neurons that saturate."""
    size, longest = event_bytes(network), longest_payload(network)
    end = pack_event(network, Event(0, True, False, 0, 0, 0))
    spike = pack_event(network, Event(0, False, False, 1, 1, 0))
    status = packet(2, Command.STATUS)
    many = longest // size - 1
    turns: list[tuple[int, list[tuple[int, int]], list[int]]] = []

    def turn(sent: bytes, *answers: int, pause: int = usual) -> None:
        turns.append((pause, [(_framed(byte), _DIVISOR) for byte in sent], list(answers)))

    # What comes while a packet is carried out is lost, and what comes behind it: more bytes than their counter counts.
    turn(packet(1, Command.FRAME, images[0].tobytes()) + status * (1 + 256 // len(status)), Command.FRAME)
    turn(status, Command.STATUS)
    # A start bit that is none, a byte without a stop bit, alone and in a packet.
    turns.append((usual, [(0x3FE, 1)], []))
    turns.append((usual, [(0x0AA, _DIVISOR)], []))
    turn(status, Command.STATUS)
    turns.append((usual, [(_framed(byte), _DIVISOR) for byte in status[:2]] + [(_framed(status[2]) & 0x1FF, _DIVISOR)], []))
    turn(status[3:], Status.TIMEOUT, pause=0)
    turn(status, Command.STATUS)
    # A list that a frame of pixels must not continue.
    turn(packet(3, Command.EVENTS, spike * many), Command.EVENTS)
    turn(packet(4, Command.FRAME, images[1].tobytes()), Status.BUSY)
    turn(packet(5, Command.EVENTS, spike * many + end), Command.EVENTS, Command.FRAME)
    frames_at_once = min(many, 12)
    turn(packet(6, Command.EVENTS, (spike + end) * (frames_at_once // 2) + end * (frames_at_once % 2)),
         Command.EVENTS, *[Command.FRAME] * (frames_at_once - frames_at_once // 2))
    turn(packet(7, Command.SATURATIONS), Command.SATURATIONS)
    if plan.watch:
        turn(packet(8, Command.WATCH, b"\xff" * mask_bytes(network)), Command.WATCH)
        turn(packet(9, Command.EVENTS, spike * many + end), Command.EVENTS, Command.FRAME)
        turn(packet(10, Command.WATCH, bytes(mask_bytes(network))), Command.WATCH)
    # What comes between a reset's answer and the reset is lost with everything else.
    turn(packet(11, Command.RESET) + status, Command.RESET)
    turn(status, Command.STATUS)

    def wrong(record: Path, _: Path) -> list[str]:
        found = Counter(data[2] for _, data in _packets(_bytes(record)) if data[2] != Status.WATCHED)
        wanted = Counter(command for *_, answers in turns for command in answers)
        return [] if found == wanted else [f"the commands of its packets are {dict(found)}, not {dict(wanted)}"]

    return _script([(pause, sent) for pause, sent, _ in turns], wrong, usual)


def _in_flight(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events], usual: int
) -> Stimulus:
    """A host that does not wait for results: frames at all links one behind the other, with a number each, and copies of them."""
    rng = np.random.default_rng(len(network.layers))
    size, longest = event_bytes(network), longest_payload(network, short=plan.folded is not None)
    of_port = {port: network.shape_of(name) for name, port in ports(network).items() if name == INPUT or plan.inject}
    answers: Counter[int] = Counter()
    turns: list[tuple[int, list[tuple[int, int]]]] = []

    def turn(command: Command, payload: bytes, pause: int) -> None:
        sequence = int(rng.integers(256))
        turns.append((pause, [(_framed(byte), _DIVISOR) for byte in packet(sequence, command, payload)]))
        answers[command] += 1

    def some(port: int, most: int) -> bytes:
        """A frame."""
        found, count = b"", int(rng.integers(most))
        for _ in range(count):
            y, x, c = (int(rng.integers(side)) for side in of_port[port])
            found += pack_event(network, Event(port, False, bool(rng.integers(2)), y, x, c))
        answers[Command.FRAME] += port in answered_ports(network)
        return found + pack_event(network, Event(port, True, False, 0, 0, 0))

    for _ in range(12):
        watched = bool(plan.watch and rng.integers(2))
        if plan.watch:
            turn(Command.WATCH, rng.bytes(mask_bytes(network)) if watched else bytes(mask_bytes(network)), usual)
        for number in range(2 if plan.folded else 8):
            # Copies of one port's frames leave before frames come in at another one.
            come_in = [int(rng.choice(sorted(of_port))) for _ in range(1 if watched else rng.integers(1, 3))]
            payload = b"".join(some(port, longest // size // len(come_in)) for port in come_in)
            turn(Command.EVENTS, payload, usual if number == 0 or watched else _UNHEARD | 3000)
        # So many at once as there may be: empty ones, and short ones at one port.
        for port, most in ((0, 1), (int(rng.choice(sorted(of_port))), 4)):
            payload = b""
            while len(payload) // size + most <= longest // size:
                payload += some(port, most)
            turn(Command.EVENTS, payload, usual)
        turn(Command.STATUS, b"", usual)
        turn(Command.SATURATIONS, b"", usual)

    def wrong(record: Path, _: Path) -> list[str]:
        found = Counter(data[2] for _, data in _packets(_bytes(record)) if data[2] != Status.WATCHED)
        return [] if found == answers else [f"the commands of its packets are {dict(found)}, not {dict(answers)}"]

    return _script(turns, wrong, usual, gaps=True)


def _held_up(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events], usual: int
) -> Stimulus:
    """A host that watches one link at a time, whose copies hold up what fires; neurons that often saturate; and states."""
    size = event_bytes(network)
    most = longest_payload(network, short=plan.folded is not None) // size - 1
    end = pack_event(network, Event(0, True, False, 0, 0, 0))
    turns: list[tuple[int, list[tuple[int, int]]]] = []
    answers: Counter[int] = Counter()

    def turn(command: Command, payload: bytes, pause: int = usual) -> None:
        turns.append((pause, [(_framed(byte), _DIVISOR) for byte in packet(len(turns), command, payload)]))
        answers[command] += 1

    def events(negative: Sequence[bool]) -> bytes:
        return b"".join(pack_event(network, Event(0, False, each, 1, 1, 0)) for each in negative)

    # A folded machine takes its time for each event.
    fewer = most // 2 if plan.folded else most
    up_and_down = events([number // _SAME_SIGN % 2 > 0 for number in range(fewer)])
    if plan.watch:
        for port in ports(network).values():
            turn(Command.WATCH, (1 << port).to_bytes(mask_bytes(network), "little"))
            turn(Command.EVENTS, up_and_down + end)
        turn(Command.WATCH, bytes(mask_bytes(network)))
    for number in range(1 + _SATURATED // most):
        turn(Command.EVENTS, events([False] * most), usual if number == 0 else _UNHEARD | usual // 2)
    # States that many events have led to.
    for name, port in ports(network).items():
        shape = network.shape_of(name)
        known = plan.states and port > 0 and isinstance(network.layers[port - 1], Neurons)
        for address in range(0, shape.size, -(-shape.size // _ASKED)) if known else []:
            place = pack_event(network, Event(port, False, False, *shape.coordinates(address)))
            turn(Command.STATE, place, _UNHEARD | usual // 2)
    turn(Command.EVENTS, end)
    turn(Command.SATURATIONS, b"")
    answers[Command.FRAME] = 1 + len(ports(network)) * plan.watch

    def wrong(record: Path, _: Path) -> list[str]:
        packets = [data for _, data in _packets(_bytes(record))]
        found = Counter(data[2] for data in packets if data[2] != Status.WATCHED)
        counters = [data[HEADER_BYTES:-1] for data in packets if data[2] == Command.SATURATIONS]
        if found != answers:
            return [f"the commands of its packets are {dict(found)}, not {dict(answers)}"]
        return [] if any(counters[0][1::2]) else ["no counter of saturations comes to 256"]

    return _script(turns, wrong, usual, gaps=True)


def _of_states(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events], usual: int
) -> Stimulus:
    """A host that asks for the state of neurons everywhere, and nowhere, between frames; the first one after a reset is empty."""
    rng = np.random.default_rng(len(network.layers))
    end = pack_event(network, Event(0, True, False, 0, 0, 0))
    turns: list[tuple[bytes, list[int]]] = []
    shapes = {port: network.shape_of(name) for name, port in ports(network).items()}
    for each in images:
        turns += [
            (packet(0x40, Command.RESET), [Command.RESET]),
            (packet(0x41, Command.EVENTS, end), [Command.EVENTS, Command.FRAME]),
            (packet(0x42, Command.FRAME, each.tobytes()), [Command.FRAME]),
        ]
        for number, (port, shape) in enumerate(4 * list(shapes.items())):
            place = pack_event(network, Event(port, False, False, *(int(rng.integers(side)) for side in shape)))
            known = isinstance(network.layers[port - 1], Neurons) and port > 0
            answer = Command.STATE if known else Status.NO_PLACE
            turns.append((packet(0x80 + number, Command.STATE, place), [answer if plan.states else Status.BAD_COMMAND]))
    # While the machine is at a frame; or the link at its answer.
    empty, status = packet(0x52, Command.EVENTS, end), packet(0x53, Command.STATUS)
    paused = [(silence, empty, status, [*_OF_FRAME, Command.STATUS]) for silence in (30, 60, 90)]
    if plan.states:
        events = packet(0x50, Command.EVENTS, pack_event(network, Event(0, False, False, 1, 1, 0)) * 2 + end)
        place = packet(0x51, Command.STATE, pack_event(network, Event(1, False, False, 1, 1, 0)))
        paused += [(silence, events, place, [*_OF_FRAME, Command.STATE]) for silence in (600, 1200)]
    return _answered(turns, usual, paused=paused)


def _refused(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events], usual: int
) -> Stimulus:
    """A host that waits for each answer, and asks for what there is not: all commands, lengths and checksums next to a right one.

    A packet stands still for nearly too long, and for a little longer; errors come until their counters stay.
    """
    size, longest = event_bytes(network), longest_payload(network, short=plan.folded is not None)
    lengths = dict.fromkeys((Command.IDENTIFY, Command.SATURATIONS, Command.STATUS, Command.RESET), 0)
    lengths[Command.FRAME] = network.input_shape.size
    if plan.watch:
        lengths[Command.WATCH] = mask_bytes(network)
    if plan.states:
        lengths[Command.STATE] = size
    if takes_bits(network):
        lengths[Command.BITS] = network.input_shape.size // 8
    status = packet(0x35, Command.STATUS)
    told: tuple[bytes, list[int]] = (status, [Command.STATUS])
    turns: list[tuple[bytes, list[int]]] = []
    for command, right in lengths.items():
        wrongs = {0, *(right ^ 1 << bit for bit in range(10))} - {right}
        turns += [(packet(0x5A, command, bytes(wrong)), [Status.BAD_LENGTH]) for wrong in sorted(wrongs)]
    turns += [(packet(0x5A, Command.EVENTS, bytes(longest + more)), [Status.BAD_LENGTH]) for more in (1, size)]
    turns += [told]
    turns += [(packet(n, n), [Status.BAD_COMMAND]) for n in range(256) if n not in (*lengths, Command.EVENTS)]
    turns += [told]
    turns += [(packet(n, 0xFF), [Status.BAD_COMMAND]) for n in range(16)]
    turns += [told]
    turns += [(status[:-1] + bytes([status[-1] ^ wrong]), [Status.BAD_CRC]) for wrong in range(1, 256)]
    turns += [told]
    turns += [(status[:-1] + bytes([status[-1] ^ 1]), [Status.BAD_CRC])]
    turns += [told]
    paused: list[tuple[int, bytes, bytes, list[int]]] = []
    for at in 4 * list(range(1, len(status))):
        paused += [(_EARLY, status[:at], status[at:], [Command.STATUS]), (_LATE, status[:at], status[at:], [Status.TIMEOUT])]
    return _answered(turns, usual, wait=_QUICK, paused=[*paused, (_EARLY, status[:1], status[1:], [Command.STATUS])])


def _answered(
    turns: Sequence[tuple[bytes, list[int]]],
    usual: int,
    *,
    wait: int = 0,
    paused: Sequence[tuple[int, bytes, bytes, list[int]]] = (),
) -> Stimulus:
    """A host that waits for each answer, and at last bytes with pauses between them; ``wait`` where not as usual."""
    wanted = Counter[int]()
    for answers in [*(answers for _, answers in turns), *(answers for *_, answers in paused)]:
        wanted.update(answers)

    def wrong(record: Path, _: Path) -> list[str]:
        found = Counter(data[2] for _, data in _packets(_bytes(record)) if data[2] != Status.WATCHED)
        return [] if found == wanted else [f"the commands of its packets are {dict(found)}, not {dict(wanted)}"]

    script = [(wait or usual, [(_framed(byte), _DIVISOR) for byte in sent]) for sent, _ in turns]
    for silence, begin, rest, _ in paused:
        script += [(usual, [(_framed(byte), _DIVISOR) for byte in begin])]
        script += [(_UNHEARD | silence, [(_framed(byte), _DIVISOR) for byte in rest])]
    return _script(script, wrong, usual, gaps=True)


def _framed(byte: int) -> int:
    """A byte on the wire: a start bit, the lowest bit first, a stop bit."""
    return 0x200 | byte << 1


def _script(
    turns: Sequence[tuple[int, Sequence[tuple[int, int]]]],
    wrong: Callable[[Path, Path], list[str]],
    pause: int,
    *,
    gaps: bool = False,
) -> Stimulus:
    """Turns of a host: cycles of silence before each, and what goes over the wire, ten bits and the cycles that one takes.

    With ``gaps`` some cycles pass between bytes too.
    """
    chance = np.random.default_rng(len(turns))
    lines, cycles = [], 20_000
    for silence, sent in turns:
        cycles += (silence & _UNHEARD - 1) + pause + 10 * _DIVISOR * len(sent)
        for number, (bits, each) in enumerate(sent):
            before = silence if number == 0 else _UNHEARD | int(chance.integers(4)) if gaps else 0
            lines.append(f"{before} {bits:x} {each}\n")
    return Stimulus(
        files={"tokens": "".join(lines)},
        frames=1,
        cycles=cycles,
        wrong=wrong,
        untold=lambda record: _untold(_packets(_bytes(record))),
    )


def _turns(
    network: Network, plan: Plan, images: Sequence[npt.NDArray[np.uint8]], frames: Sequence[Events]
) -> list[tuple[bytes, list[int]]]:
    """What the host says, turn by turn, and the commands of the packets that come back."""
    size = event_bytes(network)

    def packed(events: Events) -> bytes:
        found = b""
        for event in events:
            y, x, c = network.input_shape.coordinates(event["address"])
            found += pack_event(network, Event(0, False, bool(event["sign"] < 0), y, x, c))
        return found + end(0)

    def end(port: int) -> bytes:
        return pack_event(network, Event(port, True, False, 0, 0, 0))

    def place(port: int, y: int, x: int, c: int) -> bytes:
        return pack_event(network, Event(port, False, False, y, x, c))

    of_frame = _OF_FRAME
    of_image: list[int] = [Command.FRAME]
    turns: list[tuple[bytes, list[int]]] = [
        (packet(1, Command.IDENTIFY), [Command.IDENTIFY]),
        *((packet(0x60 + n, Command.FRAME, image.tobytes()), of_image) for n, image in enumerate(images)),
        *((packet(0x70 + n, Command.EVENTS, packed(each)), of_frame) for n, each in enumerate(frames)),
        (packet(0xFF, Command.SATURATIONS), [Command.SATURATIONS]),
        (packet(8, Command.STATE, place(1, 1, 1, 0)), [Command.STATE] if plan.states else [Status.BAD_COMMAND]),
        (packet(9, Command.STATE, place(7, 0, 0, 0)), [Status.NO_PLACE] if plan.states else [Status.BAD_COMMAND]),
        (packet(10, 0x7F), [Status.BAD_COMMAND]),
        (packet(11, Command.IDENTIFY, b"x"), [Status.BAD_LENGTH]),
        (packet(12, Command.FRAME, b"ab"), [Status.BAD_LENGTH]),
        (packet(13, Command.EVENTS, bytes(size + 1)), [Status.BAD_LENGTH]),
        (packet(14, Command.STATUS)[:-1] + b"\x55", [Status.BAD_CRC]),
        (bytes([SYNC, 15, Command.EVENTS, 0xFF, 0xFF]), [Status.TIMEOUT]),
        (packet(16, Command.FRAME, bytes(network.input_shape.size))[:-5], [Status.TIMEOUT]),
        (bytes([SYNC, 17]), [Status.TIMEOUT]),
        (bytes([0, 0x5A, 0xFF]) + packet(18, Command.STATUS), [Command.STATUS]),
        (packet(19, Command.EVENTS, place(0, 7, 7, 0)), [Status.NO_PLACE]),
        (packet(20, Command.EVENTS, end(0)), of_frame),
        (packet(21, Command.RESET), [Command.RESET]),
        (packet(22, Command.STATUS), [Command.STATUS]),
        (packet(0x7F, Command.EVENTS, packed(frames[-1])), of_frame),
    ]
    if plan.inject:
        turns += [
            (packet(30 + port, Command.EVENTS, place(port, 0, 0, 1) * _INJECTED + end(port)), of_frame)
            for name, port in ports(network).items()
            if name != INPUT
        ]
    if plan.watch:
        mask = bytes([1, *[0] * (mask_bytes(network) - 1)])
        turns += [(packet(24, Command.WATCH, mask), [Command.WATCH]), (packet(25, Command.EVENTS, packed(frames[0])), of_frame)]
    return turns


def _bytes(record: Path) -> bytes:
    return bytes(int(line.split()[2], 16) & 0xFF for line in record.read_text().splitlines())


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    """The packets one after the other, each with the number of its first byte; one with a wrong checksum ends them."""
    found, at = [], 0
    while len(data) >= at + HEADER_BYTES:
        size = HEADER_BYTES + 1 + int.from_bytes(data[at + 3 : at + 5], "little")
        if data[at] != SYNC or crc8(data[at + 1 : at + size]):
            break
        found.append((at, data[at : at + size]))
        at += size
    return found


def _untold(packets: Sequence[tuple[int, bytes]]) -> list[int]:
    """Numbers of the bytes that say how many cycles have passed, and of the checksums that come of them."""
    found: list[int] = []
    for at, data in packets:
        last = at + len(data) - 1
        if data[2] == Command.FRAME:
            found += [*range(at + HEADER_BYTES + 2, at + HEADER_BYTES + 6), last]
        if data[2] == Command.STATUS:
            found += [*range(last - 4, last), last]
    return found
