"""A running machine after a flip: exactly what the golden model says where it can say it, and hangs by cycles."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from model.network import Network
from model.support.errors import MismatchError
from sim.cosimulation import CACHE
from sim.seu.machine import Flip, OpenMachine
from sim.seu.places import CLASSES, STATES, TABLES, WEIGHTS
from sim.seu.study import NONE, drawn, effect_of
from tests.sim.seu.small import images, machine, network


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return machine(tmp_path_factory.mktemp("upsets"))


def golden(of):
    traces = [run(of, encode(of, image)) for image in images()]
    return [(trace.answer, tuple(trace.counts.tolist())) for trace in traces]


def found(passed):
    return [(answer.answer, answer.counts) for answer in passed.answers]


def place_of(opened, name):
    (place,) = [place for place in opened.places if place.name == name]
    return place


def weight_places(opened):
    """Of each layer with weights: its number, and its weights' memory; with one lane a word is a weight."""
    layers = [number for number, layer in enumerate(network().layers) if hasattr(layer, "weights")]
    places = [next(p for p in opened.places if p.name == f"core_{core}.projection.weights_0.slice_0") for core in ("p1", "f2")]
    return list(zip(layers, places, strict=True))


def with_flipped_weight(number, word, bit):
    """The network with one bit of one weight of a layer flipped; words lie by input and tap, then channel."""
    layers = list(network().layers)
    weights = layers[number].weights.copy()
    flat = weights.reshape(len(weights), -1)
    tap, channel = divmod(word, len(weights))
    stored = (int(flat[channel, tap]) & 0xFF) ^ 1 << bit
    flat[channel, tap] = stored - 256 if stored >= 128 else stored
    layers[number] = replace(layers[number], weights=weights)
    return replace(network(), layers=tuple(layers))


def test_undisturbed_it_is_the_golden_model(opened):
    assert found(opened.undisturbed) == golden(network()) == opened.expected
    assert all(len(link) == len(images()) for link in opened.undisturbed.links)


def test_a_machine_that_is_not_as_the_golden_model_is_no_reference(opened, monkeypatch, tmp_path):
    other = machine(tmp_path)
    monkeypatch.setattr(OpenMachine, "expected", property(lambda self: []))
    with pytest.raises(MismatchError, match=r"^the machine without a flip answers \[\(.*\)\], the golden model \[\]$"):
        _ = other.undisturbed


def test_a_flipped_weight_is_that_weight_in_the_golden_model(opened):
    """Every bit of some weights, from the first cycle on: the sign too."""
    cases = [(number, place, word, bit) for number, place in weight_places(opened) for word in (0, 5, 9) for bit in range(8)]
    assert all(place.of == WEIGHTS and place.bits == 8 for _, place, _, _ in cases)
    flips = [Flip(place=place, word=word, bit=bit, cycle=1) for _, place, word, bit in cases]
    changed = 0
    for (number, _, word, bit), after in zip(cases, opened.flip(flips), strict=True):
        wanted = golden(with_flipped_weight(number, word, bit))
        assert found(after.passed) == wanted, (number, word, bit)
        assert after.healed_cycle is None
        changed += wanted != opened.expected
    assert changed > 20


def test_a_weight_flipped_on_the_way_holds_from_then_on(opened):
    """Frames answered before are as without it, those that begin after it as with it."""
    (number, place), *_ = weight_places(opened)
    cycle = opened.undisturbed.answers[2].cycle + 1
    changed = []
    for word in range(8):
        (after,) = opened.flip([Flip(place=place, word=word, bit=7, cycle=cycle)])
        wanted, told = golden(with_flipped_weight(number, word, 7)), found(after.passed)
        assert told[:3] == opened.expected[:3]
        begun = [n for n, answer in enumerate(after.passed.answers) if answer.cycle - answer.latency >= cycle]
        assert begun == list(range(begun[0], len(images()))) and begun[0] <= 5
        assert told[begun[0] :] == wanted[begun[0] :]
        changed.append(told[begun[0] :] != opened.expected[begun[0] :])
    assert any(changed)


def test_states_that_no_frame_has_touched_do_not_matter(opened):
    """They are stale before the first event, whatever they hold, and are as they should be once they are written."""
    words = place_of(opened, "core_p1.projection.state_0.words")
    flips = [Flip(place=words, word=word, bit=bit, cycle=1) for word in range(4) for bit in range(words.bits)]
    effects = [effect_of(flip, STATES, after, opened.undisturbed) for flip, after in zip(flips, opened.flip(flips), strict=True)]
    assert {effect.effect for effect in effects} == {NONE}
    assert all(effect.healed_cycles is not None for effect in effects)
    # While a frame is under way they are potentials: a bit worth a threshold is a spike more or less.
    first, last = (opened.undisturbed.answers[n].cycle for n in (3, 4))
    flips = [Flip(place=words, word=word, bit=6, cycle=cycle) for cycle in range(first + 1, last, 9) for word in range(0, 32, 3)]
    told = [effect_of(flip, STATES, after, opened.undisturbed) for flip, after in zip(flips, opened.flip(flips), strict=True)]
    assert {effect.effect for effect in told} > {NONE}


def test_each_class_has_bits_that_change_and_matter(opened):
    """The stored bit is another one after the flip, read when all has settled; of each class some upset is seen."""
    flips = drawn(opened, each=60, seed=1)
    seen, healed = set(), set()
    for flip, after in zip(flips, opened.flip(flips), strict=True):
        of = opened.class_of(flip)
        effect = effect_of(flip, of, after, opened.undisturbed)
        assert after.after == 1 - after.before, flip
        seen |= {of} if effect.effect != NONE else set()
        healed |= {of} if effect.healed_cycles is not None else set()
    assert {opened.class_of(flip) for flip in flips} == set(CLASSES)
    assert seen >= set(CLASSES) - {STATES}
    assert healed == set(CLASSES) - {WEIGHTS, TABLES}


def test_a_hang_is_found_by_cycles(opened):
    """A queue that says it is full takes nothing more."""
    level = place_of(opened, "core_p1.projection.fifo.level")
    begin, end = (opened.undisturbed.answers[n].cycle for n in (3, 4))
    flips = [Flip(place=level, word=0, bit=4, cycle=cycle) for cycle in range(begin + 1, end, 7)]
    hangs = [after for after in opened.flip(flips) if after.end == "hang"]
    assert hangs and all(len(after.passed.answers) < len(images()) for after in hangs)
    assert all(after.cycle <= 2 * (opened.undisturbed.answers[-1].cycle + 2000) + 500 for after in hangs)
    (again,) = opened.flip([flips[0]])
    assert again == next(iter(opened.flip(flips)))


def test_an_event_that_becomes_the_end_of_a_frame_shifts_all_answers_after_it(opened):
    """From then on each answer is that of the frame before."""
    queue = place_of(opened, "core_f2.fifo.storage")
    first, last = (opened.undisturbed.answers[n].cycle for n in (3, 4))
    flips = [Flip(place=queue, word=word, bit=0, cycle=cycle) for cycle in range(first, last, 12) for word in range(0, 16, 3)]
    told = [found(after.passed) for after in opened.flip(flips)]
    assert any(answers[6:8] == opened.expected[5:7] and answers != opened.expected for answers in told)


@pytest.mark.full
def test_a_machine_that_loads_its_weights(tmp_path):
    """They lie in SPRAM, behind the states: bits there are flipped like others, and stay."""
    of = Network.load(Path("model/zoo/mnist-small.npz"))
    noise = np.where(np.random.default_rng(1).random((4, *of.input_shape)) < 0.2, 255, 0).astype(np.uint8)
    folded = OpenMachine(of, named_plan(of, "folded"), [encode(of, image) for image in noise], cache=CACHE, folder=tmp_path)
    assert found(folded.undisturbed) == folded.expected
    places = [place for place, _ in folded.bits_of(WEIGHTS)]
    assert {place.name for place in places} == {f"memories.spram.spram_{part}.mem" for part in range(4)}
    cycle = folded.undisturbed.answers[0].cycle
    flips = [Flip(place=place, word=place.first + word, bit=15, cycle=cycle) for place in places for word in range(0, 100, 10)]
    told = list(folded.flip(flips))
    assert any(found(after.passed) != folded.expected for after in told)
    assert all(after.after == 1 - after.before and after.healed_cycle is None for after in told)


def test_flips_have_to_be_in_order(opened):
    (_, place), *_ = weight_places(opened)
    flips = [Flip(place=place, word=0, bit=0, cycle=cycle) for cycle in (9, 5)]
    with pytest.raises(ValueError, match=r"^flips must be in ascending order of their cycles$"):
        next(iter(opened.flip(flips)))
