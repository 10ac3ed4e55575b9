"""`python -m hw.area_study`: place designs of many networks and plans, and fit the area model to them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hw.flow.choices import AREA
from model.support.cli import OutFile, command, make_console, make_table, progress_bar
from model.support.files import write_file

if TYPE_CHECKING:
    from boards.area_fit import Design


@command(help="Place designs of many networks and plans, and fit the area model to them; writes hw/flow/area.json.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Designs at once.")
@click.option("--only", type=click.IntRange(1), help="Only this many designs, the first ones.")
@click.option("--keep", is_flag=True, help="Keep the figures that hw/flow/area.json has of a design: place the others only.")
@click.option("--out", default=AREA, show_default=True, type=OutFile(".json"), help="File to write.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written, as JSON on standard output.")
def main(jobs: int, only: int | None, keep: bool, out: Path, as_json: bool) -> None:
    """See the help text above."""
    from boards.area_fit import CACHE, DESIGNS, design_of, fitted, measure

    console = make_console(stderr=True)
    with ThreadPoolExecutor(jobs) as pool, progress_bar(console) as bar:
        CACHE.mkdir(parents=True, exist_ok=True)
        designs = DESIGNS[:only]
        held = {design_of(found): found for found in json.loads(AREA.read_text())["designs"]} if keep else {}
        task = bar.add_task("designs", total=len(designs))

        def placed(design: Design) -> dict[str, Any]:
            found = held.get(design) or measure(design)
            bar.advance(task)
            speed = f"{found['fmax_mhz']} MHz" if design.placed else "not placed"
            bar.console.print(f"{design.name}: {found['luts']:,} LUTs, {speed}", highlight=False)
            return found

        result = fitted(list(pool.map(placed, designs)))
    text = json.dumps(result, indent=1)
    write_file(out, text + "\n")
    if as_json:
        print(text)
        return
    table = make_table()
    for title in ("design", "lanes", "LUTs", "predicted", "FFs", "predicted", "LUT RAMs", "blocks", "predicted", "MHz"):
        table.add_column(title, justify="left" if title == "design" else "right")
    for found in result["designs"]:
        told = found["predicted"]
        numbers = (found["lanes"], found["luts"], told["luts"], found["flip_flops"], told["flip_flops"])
        rest = (f"{told['lut_rams']}/{found['lut_rams']}", f"{found['ram_blocks']}", f"{told['ram_blocks']}")
        table.add_row(design_of(found).name, *(f"{number:,}" for number in numbers), *rest, f"{found['fmax_mhz'] or ''}")
    make_console().print(table)
    print(f"median error: {result['median_error']}; memories exact: {result['memories_exact']}")


if __name__ == "__main__":
    main()
