"""`python -m sim.suite`: the RTL of the networks of `python -m model.suite`, spike for spike and cycle for cycle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.benchmark.entries import ENTRIES
from model.reports.markdown import markdown, page_to_fill, write_rows
from model.support.choices import DIGITS
from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table
from model.support.errors import BadInputError, MismatchError
from model.support.files import checked_json, opened, write_all
from model.support.results import plain

if TYPE_CHECKING:
    from sim.cosimulation import VerifyResult

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the co-simulation of a network found: nothing that differs.

    Parameters
    ----------
    name, file, plan : str
        The network of the suite, its file, which says whether it is fine-tuned, and the plan of its machine.
    lanes, frames : int
        Lanes of the machine, and frames that it answered.
    spikes, tokens : int
        Spikes compared with the golden model, and tokens whose cycle was compared with the cycle model.
    cycles_per_frame : float
        Mean.
    """

    name: str
    file: str
    plan: str
    lanes: int
    frames: int
    spikes: int
    tokens: int
    cycles_per_frame: float


@command()
@click.option("--folder", type=OutFolder(), default=Path("build/suite"), show_default=True, help="Where model.suite left them.")
@click.option("--networks", help="Which of them, with commas between their names; all by default.")
@click.option("--frames", default=2, show_default=True, type=click.IntRange(1), help="Frames to simulate, back to back.")
@click.option("--plan", "plan_name", default="minimal", show_default=True, metavar="PLAN", help="As of sim.verify.")
@click.option("--dataset", type=click.Choice(DIGITS), default="mnist", show_default=True, help="Data to take frames of.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the MNIST files in.")
@click.option("--docs", type=FilePath(), help="A page whose table is written anew; of networks left out, rows stay.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    folder: Path,
    networks: str | None,
    frames: int,
    plan_name: str,
    dataset: str,
    data_dir: Path | None,
    docs: Path | None,
    as_json: bool,
) -> None:
    """Compare the RTL of the suite's networks with the golden model and the cycle model, on real digits.

    One after the other; minutes each, most of which compile the simulation. What was found is kept and found once.
    """
    from model.support.steps import Steps

    page = page_to_fill(docs, ["rtl"]) if docs else ""
    found = []
    with Steps(make_console(stderr=True)) as steps:
        for name, file in files_of(folder, networks):
            with steps.step(file) as tell:
                found.append(checked(name, file, folder, frames, plan_name, dataset, data_dir, tell))
    table = rtl_table(found)
    text = json.dumps([asdict(one) for one in found], indent=2) + "\n"
    write_all(folder, {"rtl.json": text, "rtl.md": table})
    if docs:
        # Rows of networks that are left out stay; those of the folder may be others than the suite's.
        order = dict.fromkeys([*(entry.name for entry in ENTRIES), *(one.name for one in found)])
        write_rows(docs, page, {"rtl": table}, list(order), name_of)
    if as_json:
        print(text, end="")
        return
    shown = make_table(title=f"RTL, plan {plan_name}, {frames} frames: nothing differs")
    shown.add_column("network")
    for title in ("lanes", "spikes compared", "tokens whose cycle was compared", "cycles per frame"):
        shown.add_column(title, justify="right")
    for one in found:
        shown.add_row(one.file, f"{one.lanes}", f"{one.spikes:,}", f"{one.tokens:,}", f"{one.cycles_per_frame:,.1f}")
    make_console().print(shown)


def files_of(folder: Path, names: str | None) -> list[tuple[str, str]]:
    """Of each network that ``suite.json`` lists, its name and its file; twice where it is fine-tuned too.

    Raises
    ------
    BadInputError
        There is no such list, or it lacks one of ``names``.
    """
    path = folder / "suite.json"
    try:
        with opened(path) as file:
            listed = {
                item["name"]: [spiking["file"] for spiking in (item["converted"], item["tuned"]) if spiking]
                for item in checked_json(file.read())["networks"]
            }
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read, python -m model.suite makes it: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path}: must be what python -m model.suite writes: {error}") from None
    wanted = [name.strip() for name in names.split(",")] if names else list(listed)
    for name in wanted:
        if name not in listed:
            raise BadInputError(f"--networks must be of {', '.join(listed)}, not {name!r}")
    return [(name, file) for name in wanted for file in listed[name]]


def checked(
    name: str,
    file: str,
    folder: Path,
    frames: int,
    plan_name: str,
    dataset: str,
    data_dir: Path | None,
    tell: Callable[[str], None],
) -> Verified:
    """Simulate a network, unless that was done before.

    Raises
    ------
    MismatchError
        Something differs.
    """
    from model.benchmark.ungrouped import ungrouped
    from model.machine.named_plans import is_folded, load_plan
    from model.network import Network
    from model.support.cache import kept, source_hash
    from model.support.frames import real_frames
    from sim.cosimulation import verify

    network = Network.load(folder / file)
    if is_folded(plan_name):
        network = ungrouped(network)
    plan = load_plan(network, plan_name)
    images, _, _ = real_frames(network, dataset, data_dir, frames)
    sources = source_hash(*(ROOT / package for package in ("model", "hw", "sim")))
    given = hashlib.sha256(images.tobytes()).hexdigest()
    key = (file, network.content_hash, json.dumps(plain(plan), sort_keys=True), sources, given)
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]

    def make(part: Path) -> None:
        result: VerifyResult = verify(network, plan, images, out_dir=folder / "verify" / Path(file).stem, line=tell)
        if result.mismatches or result.cycle_mismatches:
            raise MismatchError(f"{file}: the RTL differs from the golden model or the cycle model: {result.report}")
        verified = Verified(
            name=name,
            file=file,
            plan=plan.name,
            lanes=plan.lanes,
            frames=result.frames,
            spikes=result.spikes_compared,
            tokens=result.cycles_compared,
            cycles_per_frame=result.cycles_per_frame_mean,
        )
        part.write_text(json.dumps(asdict(verified)) + "\n")

    return Verified(**json.loads(kept(folder / "steps" / f"{name}-rtl-{digest}.json", make).read_text()))


def name_of(cell: str) -> str:
    """The network that a row of the table is of."""
    return cell.strip("`").removesuffix(".npz").removesuffix("-tuned")


def rtl_table(found: list[Verified]) -> str:
    """The table of the page."""
    titles = ("network", "lanes", "frames", "spikes equal", "tokens in their cycle", "cycles per frame")
    lines = [
        (f"`{one.file}`", f"{one.lanes:,}", f"{one.frames}", f"{one.spikes:,}", f"{one.tokens:,}", f"{one.cycles_per_frame:,.1f}")
        for one in found
    ]
    return markdown(titles, lines)


if __name__ == "__main__":
    main()
