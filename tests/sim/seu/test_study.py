"""What became of answers, links and state after a flip, and which bits are drawn."""

from collections import Counter
from dataclasses import replace

import pytest

from model.reports.html import svg
from model.support.results import to_json
from sim.seu.machine import Answer, Flip, Passed, Run
from sim.seu.page import figure, lines, titles, upsets_markdown
from sim.seu.places import CLASSES, STATES, Place
from sim.seu.study import ANSWER, COUNTS, HANG, LENGTHS, NONE, SPIKES, TIME, drawn, effect_of, study, told, window
from tests.sim.seu.small import machine

PLACE = Place(name="core.words", bits=8, words=4, memory=True, written=True, of=STATES, first=0, count=4)
ANSWERS = tuple(Answer(answer=n % 2, counts=(n, 3), cycle=100 * n + 100, latency=90) for n in range(4))
LINKS = (("a", "b", "c", "d"), ("e", "f", "g", "h"))


def after(*, answers=ANSWERS, links=LINKS, end="ran", healed=None):
    passed = Passed(answers=tuple(answers), links=links)
    return Run(end=end, cycle=500, healed_cycle=healed, before=0, after=1, passed=passed)


def effect(run, cycle=150):
    flip = Flip(place=PLACE, word=2, bit=7, cycle=cycle)
    return effect_of(flip, STATES, run, Passed(answers=ANSWERS, links=LINKS))


def with_answer(number, **changed):
    return [replace(answer, **changed) if n == number else answer for n, answer in enumerate(ANSWERS)]


OTHER = ("a", "x", "c", "d")


@pytest.mark.parametrize(
    ("run", "kind", "frames", "lasts", "to_the_end"),
    [
        (after(), NONE, ((), (), ()), 0, False),
        (after(answers=with_answer(2, cycle=301)), TIME, ((), (), ()), 0, False),
        (after(answers=with_answer(2, latency=91)), TIME, ((), (), ()), 0, False),
        (after(links=(OTHER, LINKS[1])), SPIKES, ((1,), (), ()), 1, False),
        (after(links=(OTHER, LINKS[1]), answers=with_answer(2, counts=(2, 4))), COUNTS, ((1,), (2,), ()), 2, False),
        (after(answers=with_answer(3, answer=0)), ANSWER, ((), (3,), (3,)), 3, True),
        (after(answers=ANSWERS[:2], links=(LINKS[0], LINKS[1][:3]), end="hang"), HANG, ((3,), (2, 3), (2, 3)), 3, True),
        # A run that is ended when all is the same goes on as the other.
        (after(answers=ANSWERS[:2], links=(OTHER[:2], LINKS[1][:2]), end="same", healed=256), SPIKES, ((1,), (), ()), 1, False),
        # One answer too many.
        (after(answers=[*ANSWERS, ANSWERS[0]]), ANSWER, ((), (4,), (4,)), 4, True),
    ],
)
def test_the_worst_effect_and_how_long_it_lasts(run, kind, frames, lasts, to_the_end):
    found = effect(run)
    assert (found.effect, found.frame) == (kind, 1)
    assert (found.spikes_changed, found.counts_changed, found.answers_changed) == frames
    assert (found.lasts_frames, found.to_the_end) == (lasts, to_the_end)
    assert found.healed_cycles == (106 if run.healed_cycle else None)


def test_an_answer_in_the_cycle_of_the_flip_can_change():
    assert [effect(after(), cycle).frame for cycle in (100, 101)] == [0, 1]


def test_one_flip_is_told_in_lines():
    run = after(links=(OTHER, LINKS[1]), answers=with_answer(2, answer=1, counts=(2, 4)), healed=400)
    assert told(effect(run), ANSWERS, run.passed.answers) == [
        "core.words (states), word 2, bit 7: from 0 to 1 in cycle 150, before the answer to frame 1",
        "effect: answer",
        "frames with other events on a link: 1",
        "frames until the last change: 2, then all is as it was",
        "frame 2: answer 0, counts [2, 3]; now 1, counts [2, 4]",
        "registers and memories: as without the flip within 250 cycles",
    ]
    hang = after(answers=ANSWERS[:3], end="hang")
    assert told(effect(hang), ANSWERS, ANSWERS[:3])[2:] == [
        "frames with other events on a link: none",
        "frames until the last change: 3, to the end of the run",
        "frame 3: answer 1, counts [3, 3]; now none",
        "registers and memories: not as without the flip before the run ended",
    ]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return machine(tmp_path_factory.mktemp("upsets"))


def test_what_is_drawn_lies_in_its_class_and_in_the_frame(opened):
    flips = drawn(opened, each=200, seed=1)
    frame, first, last = window(opened)
    cycles = [answer.cycle for answer in opened.undisturbed.answers]
    assert (frame, first, last) == (4, cycles[3] + 1, cycles[4])
    assert Counter(opened.class_of(flip) for flip in flips) == dict.fromkeys(CLASSES, 200)
    assert all(first <= flip.cycle <= last and flip.word < flip.place.words and flip.bit < flip.place.bits for flip in flips)
    # Each memory of the class is drawn from, about as often as it has bits.
    states = Counter(flip.place.name for flip in flips if opened.class_of(flip) == STATES)
    sizes = {place.name: place.size for place, _ in opened.bits_of(STATES)}
    assert set(states) == set(sizes) and max(states, key=states.get) == max(sizes, key=sizes.get)
    assert drawn(opened, each=200, seed=2) != flips == drawn(opened, each=200, seed=1)


def test_the_same_seed_gives_the_same_record_table_and_figure(opened):
    def of(seed):
        done = []
        options = {"network": "small", "plan": "minimal", "dataset": "noise", "each": 5}
        found = study(opened, **options, seed=seed, progress=lambda n, all_of: done.append((n, all_of)))
        assert done == [(n, 35) for n in range(1, 36)]
        return found

    found, again = of(1), of(1)
    assert to_json(found) == to_json(again) != to_json(of(2))
    assert svg(figure(found)) == svg(figure(again))
    assert [row.of for row in found.rows] == list(CLASSES)
    for row in found.rows:
        own = [each for each in found.upsets if each.of == row.of]
        assert row.upsets == len(own) == sum(row.effects.values()) == sum(row.lasts_frames.values()) == 5
        assert row.healed == sum(each.healed_cycles is not None for each in own)
        assert row.lasts_frames[LENGTHS[0]] == row.effects[NONE] + row.effects[TIME]
    table = lines(found)
    assert all(len(line) == len(titles(found)) for line in table)
    assert upsets_markdown(found).splitlines()[2].startswith(f"| weights | {found.rows[0].bits} | 5 | ")
