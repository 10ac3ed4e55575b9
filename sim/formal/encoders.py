"""Encoders: of a frame each pixel above the threshold once, the brightest first, equal ones in raster order."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

import hw.link.encoder
import hw.link.scan_encoder
from hw.aer import Kind
from model.network import Shape
from sim.formal.bench import Bench
from sim.formal.networks import small_network
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]


def scan(bench: Bench, encoders: ModuleType, *, shape: tuple[int, int, int], threshold: int) -> None:
    """A `ScanEncoder` of one level, any frames one after the other, any stalls.

    Beside it the pixels of a frame are kept, and which of them have been sent. An event is right where just those have been sent
    that go before it, and an end where all have been that are above the threshold.
    """
    network = small_network(shape=shape, input_threshold=threshold)
    dut = encoders.ScanEncoder(network=network)
    inside = bench.add("dut", dut)
    bench.source(dut.pixels, "pixels")
    bench.sink(dut.events, "events")
    frame = _Frame(bench, dut, network.input_shape, threshold)
    _lemmas(bench, dut, inside, frame, threshold)


def sort(bench: Bench, encoders: ModuleType, *, shape: tuple[int, int, int], threshold: int, brightnesses: int = 256) -> None:
    """An `Encoder`, as `scan`; with fewer than 256 brightnesses one that is built for so many, of pixels that are less."""
    network = small_network(shape=shape, input_threshold=threshold)
    dut = encoders.Encoder(network=network)
    with patch.object(encoders, "LEVELS", brightnesses):
        inside = bench.add("dut", dut)
    bench.source(dut.pixels, "pixels")
    bench.sink(dut.events, "events")
    if brightnesses < 256:
        bench.assume(dut.pixels.payload < brightnesses)
    frame = _Frame(bench, dut, network.input_shape, threshold)
    _sorting_lemmas(bench, inside, frame, threshold, brightnesses)


class _Frame:
    """The frame in hand.

    Attributes
    ----------
    pixels : list[Signal]
        Those that have entered.
    entered : Signal
        How many these are.
    sent : Signal
        Which of them have left as events.
    """

    def __init__(self, bench: Bench, dut: Any, shape: Shape, threshold: int) -> None:
        m, event, size = bench.m, dut.events.payload, shape.size
        self.shape, self.size = shape, size
        self.pixels = [Signal(8, name=f"pixel_{number}") for number in range(size)]
        self.entered, self.sent = Signal(range(size + 1), name="entered"), Signal(size, name="sent")
        place, is_end = Signal(range(size), name="place"), event.kind == Kind.END
        m.d.comb += place.eq((event.y * shape.width + event.x) * shape.channels + event.c)
        within = (event.y < shape.height) & (event.x < shape.width) & (event.c < shape.channels)
        enters, leaves = dut.pixels.valid & dut.pixels.ready, dut.events.valid & dut.events.ready
        with m.If(enters):
            m.d.sync += [Array(self.pixels)[self.entered].eq(dut.pixels.payload), self.entered.eq(self.entered + 1)]
        with m.If(leaves):
            m.d.sync += self.sent.eq(self.sent | (1 << place))
            with m.If(is_end):
                m.d.sync += [self.entered.eq(0), self.sent.eq(0)]

        pixel, fires = Array(self.pixels)[place], self.above(Const(threshold, 8))
        earlier = Cat((each > pixel) | ((each == pixel) & (number < place)) for number, each in enumerate(self.pixels))
        bench.holds(~enters | ((self.entered < size) & ~dut.events.valid))
        bench.holds(~dut.events.valid | (self.entered == size))
        bench.holds(~dut.events.valid | is_end | (within & ~event.negative & (pixel > threshold) & (self.sent == earlier)))
        bench.holds(~dut.events.valid | ~is_end | (self.sent == fires))
        waited = bench.before(dut.events.valid & ~dut.events.ready, "events_wait")
        same = Value.cast(event) == bench.before(Value.cast(event), "event")
        bench.holds(~waited | (dut.events.valid & same))
        bench.reaches(leaves & is_end & fires.all() & (self.pixels[0] < self.pixels[1]))
        bench.reaches(leaves & is_end & fires.all() & (self.pixels[0] == self.pixels[1]))
        bench.reaches(leaves & is_end & ~fires.any())

    def above(self, level: Value) -> Value:
        """Which pixels are brighter than ``level``."""
        return Cat(pixel > level for pixel in self.pixels)

    def greatest(self, threshold: int, counts: Callable[[int], Value]) -> Value:
        """The greatest of some pixels, and of the threshold."""
        found: Value = Const(threshold, 8)
        for number, pixel in enumerate(self.pixels):
            found = Mux(counts(number) & (pixel > found), pixel, found)
        return found


def _lemmas(bench: Bench, dut: Any, inside: SimpleNamespace, frame: _Frame, threshold: int) -> None:
    """What the encoder knows in each state."""
    m, shape, size = bench.m, frame.shape, frame.size
    states = {name: inside.m._generated["fsm"].ongoing(name) for name in ("TAKE", "START", "SCAN", "NEXT", "END")}
    addr, level, held = inside.addr, inside.level, inside.held
    place, read = Signal(range(size + 1), name="place_at_hand"), inside.read.data
    m.d.comb += place.eq((inside.y * shape.width + inside.x) * shape.channels + inside.c)
    bench.lemma(Cat(states.values()).any())
    for number, pixel in enumerate(frame.pixels):
        word = inside.kept.read_port(domain="comb")
        m.d.comb += word.addr.eq(number)
        bench.lemma((number >= frame.entered) | (word.data == pixel))
    bench.lemma(states["TAKE"] | (frame.entered == size))
    bench.lemma(~states["TAKE"] | ((addr == frame.entered) & (frame.entered < size) & (frame.sent == 0)))
    bench.lemma(~states["TAKE"] | (level == frame.greatest(threshold, lambda number: number < frame.entered)))
    # The level in hand, and what has been sent of it and above it.
    bench.lemma(level >= threshold)
    at_level = Cat(pixel == level for pixel in frame.pixels)
    brightest = level == frame.greatest(threshold, lambda number: ~frame.sent[number])
    bench.lemma(~states["START"] | ((addr == 0) & (frame.sent == frame.above(level)) & brightest))
    passed = Cat(number < place for number in range(size))
    bench.lemma(~states["SCAN"] | ((level > threshold) & (frame.sent == (frame.above(level) | (at_level & passed)))))
    below = frame.greatest(threshold, lambda number: (number < place) & (frame.pixels[number] < level))
    bench.lemma(~states["SCAN"] | (inside.below == below))
    within = (inside.y < shape.height) & (inside.x < shape.width) & (inside.c < shape.channels)
    bench.lemma(~states["SCAN"] | (within & (place < size)))
    bench.lemma(~(states["SCAN"] & ~held) | ((place == 0) & (addr == 0) & ~inside.all_asked))
    follows = Mux(place == size - 1, 0, place + 1)
    at_hand = (read == Array(frame.pixels)[place]) & (addr == follows) & (inside.all_asked == (place == size - 1))
    bench.lemma(~(states["SCAN"] & held) | at_hand)
    darker = frame.greatest(threshold, lambda number: frame.pixels[number] < level)
    bench.lemma(~states["NEXT"] | ((addr == 0) & (inside.below == darker) & (frame.sent == (frame.above(level) | at_level))))
    bench.lemma(~states["NEXT"] | (level > threshold))
    bench.lemma(~(states["START"] | states["NEXT"]) | ~held)
    bench.lemma(~states["END"] | ((addr == 0) & (level == threshold) & (frame.sent == frame.above(level))))


def _sorting_lemmas(bench: Bench, inside: SimpleNamespace, frame: _Frame, threshold: int, brightnesses: int) -> None:
    """What the encoder that sorts knows in each state."""
    m, shape, size, d = bench.m, frame.shape, frame.size, inside.path
    takes = {name: inside.m._generated["fsm"].ongoing(name) for name in ("TAKE", "TOOK", "COUNT")}
    looks = {name: inside.m._generated["fsm"].ongoing(name) for name in ("LOOK", "LOOKED", "PLACE")}
    sorts = {name: inside.m._generated["fsm"].ongoing(name) for name in ("FETCH", "FETCHED", "FIND", "FOUND", "SORT")}
    sends = {name: inside.m._generated["fsm"].ongoing(name) for name in ("LOAD", "LOADED", "SEND")}
    clears = inside.m._generated["fsm"].ongoing("CLEAR")
    taking, looking, sorting, sending = (Cat(each.values()).any() for each in (takes, looks, sorts, sends))
    in_hand = takes["TOOK"] | takes["COUNT"]

    def signal(name: str, value: Any) -> Signal:
        made = Signal(len(Value.cast(value)), name=name)
        m.d.comb += made.eq(value)
        return made

    def number_of(those: Any) -> Value:
        return sum((each for each in those), Const(0))

    def word(memory: Any, addr: Any) -> Value:
        port = memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(addr)
        return port.data

    counted = signal("counted", (frame.entered - in_hand)[: len(frame.entered)])
    fires = [signal(f"fires_{n}", (pixel > threshold) & (n < counted)) for n, pixel in enumerate(frame.pixels)]
    kept_at = [signal(f"kept_at_{n}", number_of(fires[:n])) for n in range(size)]
    order_at = [
        signal(
            f"order_at_{n}",
            number_of(
                fire & ((other > pixel) | ((other == pixel) & (number < n)))
                for number, (other, fire) in enumerate(zip(frame.pixels, fires, strict=True))
            ),
        )
        for n, pixel in enumerate(frame.pixels)
    ]
    addresses = []
    for n in range(size):
        position, c = divmod(n, shape.channels)
        y, x = divmod(position, shape.width)
        addresses.append(Const(c | x << len(d.c) | y << (len(d.c) + len(d.x)), len(d.address)))

    bench.lemma(clears | taking | looking | sorting | sending)
    bench.lemma(Mux(clears, frame.entered == 0, Mux(taking, frame.entered <= size, frame.entered == size)))
    bench.lemma(~takes["TAKE"] | (frame.entered < size))
    bench.lemma(~in_hand | ((frame.entered > 0) & (d.pixel == Array(frame.pixels)[counted])))
    bench.lemma(sending | (frame.sent == 0))
    at_hand = Mux(counted == size, 0, counted)
    bench.lemma(d.address == Array(addresses)[at_hand])
    bench.lemma(d.count == number_of(fires))
    for n, (pixel, fire) in enumerate(zip(frame.pixels, fires, strict=True)):
        bench.lemma(~fire | (word(inside.kept, kept_at[n]) == Cat(pixel, addresses[n])))
        sorted_already = sending | (sorting & (kept_at[n] < d.index))
        bench.lemma(~(fire & sorted_already) | (word(inside.order, order_at[n]) == addresses[n]))
    # The place of each brightness: first how many there are, then how many are brighter, then those that have theirs as well.
    right = []
    for level in range(brightnesses):
        equal = [fire & (pixel == level) for pixel, fire in zip(frame.pixels, fires, strict=True)]
        many = number_of(equal)
        brighter = number_of(fire & (pixel > level) for pixel, fire in zip(frame.pixels, fires, strict=True))
        placed = number_of(each & (kept_at[n] < d.index) for n, each in enumerate(equal))
        held = word(inside.places, level)
        expected = Mux(taking | (looking & (level <= d.level)), many, brighter + Mux(sorting, placed, 0))
        right.append(Mux(clears, (level >= d.level) | (held == 0), sending | (held == expected)))
    bench.lemma(Cat(right).all())
    if brightnesses < 256:
        bench.lemma(~(clears | looking) | (d.level < brightnesses))
        bench.lemma(Cat((n >= frame.entered) | (pixel < brightnesses) for n, pixel in enumerate(frame.pixels)).all())
    above = number_of(fire & (pixel > d.level) for pixel, fire in zip(frame.pixels, fires, strict=True))
    bench.lemma(~looking | (d.total == above))
    bench.lemma(~(clears | looking) | (d.index == 0))
    bench.lemma(~sorting | Mux(sorts["FETCH"], d.index <= d.count, d.index < d.count))
    # What is read.
    bench.lemma(~takes["TOOK"] | (inside.place_read.data == word(inside.places, d.pixel)))
    bench.lemma(~takes["COUNT"] | (d.place_data == word(inside.places, d.pixel)))
    bench.lemma(~looks["LOOKED"] | (inside.place_read.data == word(inside.places, d.level)))
    bench.lemma(~looks["PLACE"] | (d.place_data == word(inside.places, d.level)))
    kept_word = word(inside.kept, d.index)
    bench.lemma(~(sorting & ~sorts["FETCH"]) | (inside.kept_read.data == kept_word))
    found = sorts["FIND"] | sorts["FOUND"] | sorts["SORT"]
    bench.lemma(~found | (d.kept_data == kept_word))
    bench.lemma(~sorts["FOUND"] | (inside.place_read.data == word(inside.places, kept_word[:8])))
    bench.lemma(~sorts["SORT"] | (d.place_data == word(inside.places, kept_word[:8])))
    order_word = word(inside.order, d.index)
    bench.lemma(~(sends["LOADED"] | sends["SEND"]) | (d.index == d.count) | (inside.order_read.data == order_word))
    bench.lemma(~sends["SEND"] | (d.index == d.count) | (inside.order_data == order_word))
    sent = Cat(fire & (place < d.index) for fire, place in zip(fires, order_at, strict=True))
    bench.lemma(~sending | ((d.index <= d.count) & (frame.sent == sent)))


PROPERTIES = (
    Property(
        name="Scanning encoder: of each frame each pixel above the threshold once, the brightest first, then its end",
        module=hw.link.scan_encoder,
        part="ScanEncoder",
        bound="frames of 2 to 4 pixels of 8 bits, one level",
        build=scan,
        cases=[
            {"shape": (1, 2, 1), "threshold": 51},
            {"shape": (1, 3, 1), "threshold": 0},
            {"shape": (2, 2, 1), "threshold": 51},
        ],
        reach=22,
        fault=Fault(
            says="the next brightness is that of the last darker pixel",
            right="(pixel < level) & (pixel > below)",
            wrong="(pixel < level) & (pixel > threshold)",
            steps=24,
            case=1,
        ),
    ),
    Property(
        name="Sorting encoder: of each frame each pixel above the threshold once, the brightest first, then its end",
        module=hw.link.encoder,
        part="Encoder",
        bound="frames of 2 and 3 pixels of 4 brightnesses, in an encoder that is built for so many",
        build=sort,
        cases=[
            {"shape": (1, 2, 1), "threshold": 1, "brightnesses": 4},
            {"shape": (1, 3, 1), "threshold": 0, "brightnesses": 4},
        ],
        reach=60,
        fault=Fault(
            says="pixels of one brightness get the same place",
            right="d.place_write.addr.eq(d.kept_data[:8]),\n                d.place_write.data.eq(d.place_data + 1),",
            wrong="d.place_write.addr.eq(d.kept_data[:8]),\n                d.place_write.data.eq(d.place_data),",
            steps=50,
        ),
    ),
)
