"""What flips of single bits do: drawn by class of bits, in the cycles of a frame, each compared with the run without it."""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from sim.seu.machine import Answer, Flip, OpenMachine, Passed, Run
from sim.seu.places import CLASSES

__all__ = ["ANSWER", "COUNTS", "EFFECTS", "HANG", "LENGTHS", "NONE", "SPIKES", "TIME", "ClassRow", "Effect", "Upsets"]
__all__ += ["drawn", "effect_of", "study", "told", "window"]

T = TypeVar("T")

NONE, TIME, SPIKES, COUNTS, ANSWER, HANG = EFFECTS = ("none", "time", "spikes", "counts", "answer", "hang")
"""The worst that a flip does: nothing that is seen, an answer at another time, other events on a link, other counts, another
answer, or no answer any more."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one flip did.

    Parameters
    ----------
    of, place, word, bit, cycle
        Its class of bits, and the flip.
    before : int
        The bit before it.
    effect : str
        One of `EFFECTS`.
    frame : int
        The first frame that was not answered yet.
    spikes_changed, counts_changed, answers_changed : tuple[int, ...]
        Frames with other events on a link, with other counts, and with another answer; of a hang also those without an answer.
    lasts_frames : int
        From the first frame that was not answered to the last one that changed; 0 where none did.
    to_the_end : bool
        Whether the last frame of the run still changed.
    healed_cycles : int | None
        Within so many cycles all registers and memories were as without the flip, and stayed so; None where they never were.
    weights_differ : tuple[str, ...]
        Cores of which the machine says by the end of the run that their weights are not the network's, where it checks them.
    """

    of: str
    place: str
    word: int
    bit: int
    cycle: int
    before: int
    effect: str
    frame: int
    spikes_changed: tuple[int, ...]
    counts_changed: tuple[int, ...]
    answers_changed: tuple[int, ...]
    lasts_frames: int
    to_the_end: bool
    healed_cycles: int | None
    weights_differ: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """What the flips of one class of bits did.

    Parameters
    ----------
    of : str
        One of `sim.seu.places.CLASSES`.
    bits : int
        That the machine has of it.
    upsets : int
        Flips.
    effects : dict[str, int]
        How many had each of `EFFECTS`.
    lasts_frames : dict[str, int]
        How many changed so many frames' events or counts: ``"0"``, ``"1"``, ``"2 or more"``, and ``"to the end"``.
    healed : int
        After how many all registers and memories were as without the flip before the run ended.
    reported : int
        After how many the machine's check of its weights said that they are not the network's.
    """

    of: str
    bits: int
    upsets: int
    effects: dict[str, int]
    lasts_frames: dict[str, int]
    healed: int
    reported: int


@dataclass(frozen=True, kw_only=True)
class Upsets:
    """A plan of flips, and what they did.

    Parameters
    ----------
    network, plan, dataset : str
        What was simulated, on which data.
    frames, frame : int
        Frames, back to back; and that in whose cycles the flips are: from the answer before it on to its own.
    first_cycle, last_cycle, cycles : int
        These cycles, and the one of the last answer.
    seed, each : int
        What the flips were drawn from, and how many of each class.
    answers : tuple[int, ...]
        Without a flip.
    weight_passes : int
        How often the machine has read and compared all its weights by the end of the run without a flip; 0 where it does not
        check them.
    rows : tuple[ClassRow, ...]
        By class.
    upsets : tuple[Effect, ...]
        By cycle.
    """

    network: str
    plan: str
    dataset: str
    frames: int
    frame: int
    first_cycle: int
    last_cycle: int
    cycles: int
    seed: int
    each: int
    answers: tuple[int, ...]
    weight_passes: int
    rows: tuple[ClassRow, ...]
    upsets: tuple[Effect, ...]


def window(machine: OpenMachine) -> tuple[int, int, int]:
    """The frame in the middle of the run, and its first and last cycle: after the answer before it, up to its own."""
    frame = machine.frames // 2
    answers = machine.undisturbed.answers
    return frame, answers[frame - 1].cycle + 1 if frame else 1, answers[frame].cycle


def drawn(machine: OpenMachine, *, each: int, seed: int) -> list[Flip]:
    """As many flips of each class of bits, by cycle: any bit of the class and any cycle of `window` is as likely.

    Parameters
    ----------
    machine : OpenMachine
        Where.
    each : int
        Of each class that the machine has.
    seed : int
        Of all that is drawn; what is drawn of a class does not depend on the others.
    """
    _, first, last = window(machine)
    flips = []
    for of in CLASSES:
        found = machine.bits_of(of)
        chance = random.Random(f"{of} {seed}")
        ends = list(accumulate(len(bits) * place.count for place, bits in found))
        for _ in range(each if found else 0):
            number = chance.randrange(ends[-1])
            at = bisect_left(ends, number + 1)
            place, bits = found[at]
            word, bit = divmod(number - (ends[at - 1] if at else 0), len(bits))
            cycle = chance.randint(first, last)
            flips.append(Flip(place=place, word=place.first + word, bit=bits[bit], cycle=cycle))
    return sorted(flips, key=lambda flip: flip.cycle)


def effect_of(flip: Flip, of: str, run: Run, undisturbed: Passed) -> Effect:
    """What a flip of a class of bits did."""
    frame = sum(answer.cycle < flip.cycle for answer in undisturbed.answers)
    whole = run.end != "same"
    expected, found = undisturbed.answers, run.passed.answers
    counts = _differing(expected, found, whole, lambda answer: (answer.answer, answer.counts))
    answers = _differing(expected, found, whole, lambda answer: answer.answer)
    times = _differing(expected, found, whole, lambda answer: (answer.cycle, answer.latency))
    spikes: set[int] = set()
    for wanted, events in zip(undisturbed.links, run.passed.links, strict=True):
        spikes.update(_differing(wanted, events, whole, lambda frame: frame))
    changed = {*counts, *spikes}
    effects = ((run.end == "hang", HANG), (answers, ANSWER), (counts, COUNTS), (spikes, SPIKES), (times, TIME))
    return Effect(
        of=of,
        place=flip.place.name,
        word=flip.word,
        bit=flip.bit,
        cycle=flip.cycle,
        before=run.before,
        effect=next((name for happened, name in effects if happened), NONE),
        frame=frame,
        spikes_changed=tuple(sorted(spikes)),
        counts_changed=tuple(counts),
        answers_changed=tuple(answers),
        lasts_frames=max(changed) - frame + 1 if changed else 0,
        to_the_end=bool(changed) and max(changed) >= len(expected) - 1,
        healed_cycles=None if run.healed_cycle is None else run.healed_cycle - flip.cycle,
        weights_differ=run.passed.weights_differ,
    )


def _differing(expected: Sequence[T], found: Sequence[T], whole: bool, of: Callable[[T], object]) -> list[int]:
    """Numbers of those that differ; where a run is not whole, what it left out is as it was expected."""
    most = max(len(expected), len(found)) if whole else len(found)
    both = min(len(expected), len(found))
    return [n for n in range(most) if n >= both or of(expected[n]) != of(found[n])]


def study(
    machine: OpenMachine,
    *,
    network: str,
    plan: str,
    dataset: str,
    each: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> Upsets:
    """Flips of each class of bits, and what they do.

    Parameters
    ----------
    machine : OpenMachine
        Where.
    network, plan, dataset : str
        What it is called.
    each, seed : int
        As of `drawn`.
    progress : Callable[[int, int], None]
        Called with flips done, and all.
    """
    flips = drawn(machine, each=each, seed=seed)
    undisturbed = machine.undisturbed
    effects = []
    for flip, run in zip(flips, machine.flip(flips), strict=True):
        effects.append(effect_of(flip, machine.class_of(flip), run, undisturbed))
        progress(len(effects), len(flips))
    frame, first, last = window(machine)
    return Upsets(
        network=network,
        plan=plan,
        dataset=dataset,
        frames=machine.frames,
        frame=frame,
        first_cycle=first,
        last_cycle=last,
        cycles=undisturbed.answers[-1].cycle,
        seed=seed,
        each=each,
        answers=tuple(answer.answer for answer in undisturbed.answers),
        weight_passes=undisturbed.weight_passes,
        rows=tuple(_row(machine, of, effects) for of in CLASSES if machine.bits_of(of)),
        upsets=tuple(effects),
    )


def _row(machine: OpenMachine, of: str, effects: Sequence[Effect]) -> ClassRow:
    own = [effect for effect in effects if effect.of == of]
    kinds = Counter(effect.effect for effect in own)
    lasts = Counter(_length(effect) for effect in own)
    return ClassRow(
        of=of,
        bits=sum(len(bits) * place.count for place, bits in machine.bits_of(of)),
        upsets=len(own),
        effects={name: kinds[name] for name in EFFECTS},
        lasts_frames={name: lasts[name] for name in LENGTHS},
        healed=sum(effect.healed_cycles is not None for effect in own),
        reported=sum(bool(effect.weights_differ) for effect in own),
    )


LENGTHS = ("0", "1", "2 or more", "to the end")
"""For how many frames events or counts are others."""


def _length(effect: Effect) -> str:
    if effect.to_the_end:
        return LENGTHS[3]
    return LENGTHS[min(effect.lasts_frames, 2)]


def told(effect: Effect, expected: Sequence[Answer], found: Sequence[Answer]) -> list[str]:
    """Lines that say what a flip did, for reading.

    Parameters
    ----------
    effect : Effect
        What it did.
    expected, found : Sequence[Answer]
        The answers without and with the flip.
    """
    lines = [
        f"{effect.place} ({effect.of}), word {effect.word}, bit {effect.bit}: from {effect.before} to {1 - effect.before} "
        f"in cycle {effect.cycle:,}, before the answer to frame {effect.frame}",
        f"effect: {effect.effect}",
    ]
    if effect.lasts_frames:
        until = "to the end of the run" if effect.to_the_end else "then all is as it was"
        lines.append(f"frames with other events on a link: {_listed(effect.spikes_changed)}")
        lines.append(f"frames until the last change: {effect.lasts_frames}, {until}")
    for frame in effect.counts_changed:
        sides = [side[frame] if frame < len(side) else None for side in (expected, found)]
        texts = [f"{side.answer}, counts {list(side.counts)}" if side else "none" for side in sides]
        lines.append(f"frame {frame}: answer {texts[0]}; now {texts[1]}")
    if effect.healed_cycles is None:
        lines.append("registers and memories: not as without the flip before the run ended")
    else:
        lines.append(f"registers and memories: as without the flip within {effect.healed_cycles:,} cycles")
    if effect.weights_differ:
        lines.append(f"reported by the check of the weights: {', '.join(effect.weights_differ)}")
    return lines


def _listed(frames: Sequence[int]) -> str:
    return ", ".join(map(str, frames)) or "none"
