"""`python -m sim.scaling`: how cycles, area and the models' own speed grow; see `sim.scaling_study`."""

import json
from pathlib import Path
from typing import Any

import click

from model.support.cli import OutFolder, command, make_console, make_table, progress_bar
from model.support.files import write_file


@command(help="Measure how cycles, area and the models' own speed scale; writes scaling.json and scaling.svg.")
@click.option("--out", default="build/scaling", show_default=True, type=OutFolder(), help="Folder for results.")
@click.option("--docs", type=OutFolder(), help="Folder for a copy of the picture.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on standard output.")
def main(out: Path, docs: Path | None, as_json: bool) -> None:
    """See the help text above."""
    from sim.scaling_study import FRAMES, STUDIES, areas_of_designs, exponent, measured, plots, speeds_of_models

    found: dict[str, Any] = {"frames": FRAMES, "studies": {}}
    with progress_bar(make_console(stderr=True)) as bar:
        task = bar.add_task("scaling", total=len(STUDIES) + 2)
        for study in STUDIES:
            bar.update(task, description=study.name)
            rows = measured(study)
            found["studies"][study.name] = {
                "quantity": study.quantity,
                "law": study.law,
                "exponent": round(exponent(rows), 3),
                "expected_exponent": study.exponent,
                "points": rows,
            }
            bar.advance(task)
        found["areas"] = areas_of_designs()
        bar.advance(task)
        found["speeds"] = speeds_of_models()
        bar.advance(task)
    text = json.dumps(found, indent=2)
    write_file(out / "scaling.json", text + "\n")
    for folder in (out, docs):
        if folder:
            plots(found).savefig(folder / "scaling.svg", metadata={"Date": None})
    if as_json:
        print(text)
        return
    for study in STUDIES:
        of = found["studies"][study.name]
        table = make_table(title=f"{study.law} (exponent {of['exponent']:.2f})")
        for title in (study.quantity, "lanes", "cycles per frame", "busiest part", "latency"):
            table.add_column(title, justify="right")
        for row in of["points"]:
            keys = ("quantity", "lanes", "cycles_per_frame", "busiest_part_cycles", "latency_cycles")
            table.add_row(*(f"{row[key]:,.0f}" for key in keys))
        make_console().print(table)


if __name__ == "__main__":
    main()
