"""`python -m sim.upsets`: flip single bits of a machine's registers and memories, and see what becomes of its answers."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table, progress_bar, tell
from model.support.errors import BadInputError
from model.support.files import check_writable_folder, write_all, write_file
from model.support.results import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from sim.seu.machine import Flip, OpenMachine
    from sim.seu.places import Place
    from sim.seu.study import Upsets

HELP = """Flip single bits of a machine while it runs, and see which answers change, and for how many frames.

The machine is its own RTL, simulated with real frames back to back. Bits are drawn from its memories (weights, initial words,
states and their tags, queues) and its registers, as many of each class, in the cycles of the frame in the middle of the run.
Each flip is a run of its own, compared with the one without: every event on every link, counts, answers, cycles and all state.

With --at, --place and --bit it is one flip, told in detail; --places lists what can be flipped.
"""

_PAUSE_SECONDS = 20
"""Between two lines of progress where there is no terminal."""


class _Teller:
    """Tells how far the work is."""

    def __init__(self, bar: Progress, label: str) -> None:
        self._bar, self._label = bar, label
        self._task = bar.add_task(label, total=None)
        self._told = 0.0

    def line(self, text: str) -> None:
        """What is being done."""
        self._bar.update(self._task, description=f"{self._label}: {text}")
        if self._bar.disable:
            print(f"{self._label}: {text}", file=sys.stderr, flush=True)

    def upsets(self, done: int, of: int) -> None:
        """How many of the flips are done."""
        self._bar.update(self._task, completed=done, total=of)
        if self._bar.disable and time.monotonic() - self._told > _PAUSE_SECONDS:
            self._told = time.monotonic()
            print(f"{self._label}: {done} of {of} upsets", file=sys.stderr, flush=True)


@command(help=HELP)
@click.argument("net", type=FilePath())
@click.option(
    "--plan", "plan_name", default="default", show_default=True, metavar="PLAN",
    help="minimal (one lane per core), default, fast (one event per cycle), folded (one core for all layers), or a .json file.",
)
@click.option("--weight-check", is_flag=True, help="With the check of weights in the background; what it reports is counted.")
@click.option("--frames", default=8, show_default=True, type=click.IntRange(2), help="Frames to simulate, back to back.")
@click.option("--each", default=20, show_default=True, type=click.IntRange(1), help="Flips of each class of bits.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of the flips.")
@click.option("--at", "cycle", type=click.IntRange(1), metavar="CYCLE", help="Flip one bit, in this cycle.")
@click.option("--place", "place_name", metavar="NAME", help="With --at: the register or memory.")
@click.option("--word", default=0, show_default=True, type=click.IntRange(0), help="With --at: the word of a memory.")
@click.option("--bit", type=click.IntRange(0), help="With --at: the bit of the word; 0 is the lowest.")
@click.option("--places", "lists", is_flag=True, help="List all registers and memories, with bits and words, and end.")
@click.option("--dataset", metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file; mnist where it is found.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--out", type=OutFolder(), help="Folder for upsets.json and upsets.svg; build/NAME by default.")
@click.option(
    "--docs", type=FilePath(),
    help="A page (.md) whose table is written anew, with the figure in its folder img, or a folder for the figure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    plan_name: str,
    weight_check: bool,
    frames: int,
    each: int,
    seed: int,
    cycle: int | None,
    place_name: str | None,
    word: int,
    bit: int | None,
    lists: bool,
    dataset: str | None,
    data_dir: Path | None,
    out: Path | None,
    docs: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    single = _single(cycle, place_name, word, bit)
    from model.encode import encode
    from model.machine.checks import check_plan
    from model.machine.named_plans import load_plan
    from model.network import Network
    from model.reports.markdown import page_to_fill
    from model.support.cache import alone
    from model.support.frames import real_frames
    from sim.cosimulation import CACHE
    from sim.seu.machine import OpenMachine, places_of
    from sim.simulators import check_simulator

    network = Network.load(net)
    plan = load_plan(network, plan_name)
    if weight_check:
        plan = replace(plan, name=f"{plan.name}-checked", weight_check=True)
        check_plan(network, plan)
    out = out or Path("build") / network.name
    folder = out / "upsets" / plan.name
    check_writable_folder("--out", folder)
    if docs is not None:
        if single:
            raise BadInputError("--docs must not be given with --at")
        if docs.suffix == ".md":
            page_to_fill(docs, [f"upsets {network.name} {plan.name}"])
        check_writable_folder("--docs", docs.parent / "img" if docs.suffix == ".md" else docs)
    check_simulator("verilator")
    if lists or place_name is not None:
        # What is wrong shows before anything is compiled.
        known = places_of(network, plan, CACHE)[1]
        if lists:
            _list(known, as_json=as_json)
            return
        _place(known, str(place_name), word, bit or 0)
    images, _, data_name = real_frames(network, dataset, data_dir, frames)
    console = make_console(stderr=True)
    # Two that run in one folder would read each other's files.
    with alone(folder / "run"), progress_bar(console) as bar:
        teller = _Teller(bar, f"{network.name}, plan {plan.name}")
        teller.line("compiling")
        machine = OpenMachine(network, plan, [encode(network, image) for image in images], cache=CACHE, folder=folder)
        teller.line("simulating without a flip")
        last = machine.undisturbed.answers[-1].cycle
        if cycle is not None:
            if cycle > last:
                raise BadInputError(f"--at must be within 1..{last}, the cycle of the last answer, not {cycle}")
            teller.line("simulating the flip")
            _one(machine, _flip(machine, str(place_name), word, bit or 0, cycle), as_json=as_json)
            return
        from sim.seu.study import study

        teller.line("simulating flips")
        found = study(
            machine, network=network.name, plan=plan.name, dataset=data_name, each=each, seed=seed, progress=teller.upsets
        )
    _write(found, out, docs)
    if plan.weight_check and not found.weight_passes:
        tell(warnings=["the check of weights completed no pass, so that nothing could be reported: more --frames"])
    if as_json:
        print(to_json(found), end="")
    else:
        _show(found)
        print(f"upsets, each with its place, bit and cycle: {out / 'upsets.json'}; plot: {out / 'upsets.svg'}")


def _single(cycle: int | None, place: str | None, word: int, bit: int | None) -> bool:
    """Whether one flip is asked for; what says which belongs together."""
    given = [cycle is not None, place is not None, bit is not None]
    if any(given) and not all(given):
        raise BadInputError("--at, --place and --bit must be given together")
    if word and not any(given):
        raise BadInputError("--word must be given with --at, --place and --bit")
    return all(given)


def _place(places: Sequence[Place], name: str, word: int, bit: int) -> Place:
    """The place of that name that has the word and the bit."""
    import difflib

    named = [place for place in places if place.name == name]
    if not named:
        near = difflib.get_close_matches(name, [place.name for place in places], n=3, cutoff=0.0)
        raise BadInputError(f"--place must be one of what --places lists, such as {', '.join(near)}, not {name!r}")
    if bit >= named[0].bits:
        raise BadInputError(f"--bit must be within 0..{named[0].bits - 1} for {name}, not {bit}")
    for place in named:
        if place.first <= word < place.first + place.count:
            return place
    first, end = min(place.first for place in named), max(place.first + place.count for place in named)
    raise BadInputError(f"--word must be within {first}..{end - 1} for {name}, not {word}")


def _flip(machine: OpenMachine, name: str, word: int, bit: int, cycle: int) -> Flip:
    from sim.seu.machine import Flip

    return Flip(place=_place(machine.places, name, word, bit), word=word, bit=bit, cycle=cycle)


def _one(machine: OpenMachine, flip: Flip, *, as_json: bool) -> None:
    """Print what one flip did."""
    from sim.seu.study import effect_of, told

    (run,) = machine.flip([flip])
    effect = effect_of(flip, machine.class_of(flip), run, machine.undisturbed)
    if as_json:
        print(to_json(effect), end="")
        return
    expected = machine.undisturbed.answers
    # A run that ends early goes on as the one without the flip.
    found = run.passed.answers + (expected[len(run.passed.answers) :] if run.end == "same" else ())
    for line in told(effect, expected, found):
        print(line)


def _list(places: Sequence[Place], *, as_json: bool) -> None:
    """Print all registers and memories."""
    if as_json:
        print(to_json([replace(place, of=place.of or "registers") for place in places]), end="")
        return
    for place in places:
        words = f", words {place.first} to {place.first + place.count - 1}" if place.memory else ""
        print(f"{place.name}: {place.of or 'registers'}, bits 0 to {place.bits - 1}{words}")


def _write(found: Upsets, out: Path, docs: Path | None) -> None:
    """The record and the figure; and both into the documentation, where that is asked for."""
    from model.reports.html import svg
    from model.reports.markdown import page_to_fill, with_table
    from sim.seu.page import figure, table_name, upsets_markdown

    drawn = svg(figure(found), facecolor="white")
    write_all(out, {"upsets.json": to_json(found), "upsets.svg": drawn})
    if docs is None:
        return
    is_page = docs.suffix == ".md"
    write_all(docs.parent / "img" if is_page else docs, {f"upsets-{found.network}-{found.plan}.svg": drawn})
    if is_page:
        # It may have been edited meanwhile.
        page = page_to_fill(docs, [table_name(found)])
        write_file(docs, with_table(page, table_name(found), upsets_markdown(found)))


def _show(found: Upsets) -> None:
    from sim.seu.page import lines, titles

    passes = f", {found.weight_passes:,} passes of the check of weights" if found.weight_passes else ""
    table = make_table(title=f"{found.network}, plan {found.plan}, {found.frames} frames of {found.dataset}{passes}")
    for number, title in enumerate(titles(found)):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for line in lines(found):
        table.add_row(*line)
    make_console(width_in_file=160).print(table)


if __name__ == "__main__":
    main()
