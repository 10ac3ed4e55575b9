"""The page of the study of the paper, and what goes into docs/paper.md."""

from dataclasses import dataclass

import matplotlib as mpl

from model.reports.html import PLOTS, Picture, Table, page, picture, svg
from model.reports.paper.claims import claims_table
from model.reports.paper.figures import FIGURES
from model.reports.paper.tables import (
    DOCS_TABLES,
    beside_table,
    counting_table,
    docs_tables,
    further_table,
    hysteresis_table,
    layers_table,
    missed_table,
    remedies_table,
    steps_table,
    sweep_table,
    table_one,
)
from model.studies.paper.results import PaperStudy

__all__ = ["DOCS_TABLES", "docs_tables", "figure_files", "paper_page", "table_one"]


@dataclass(frozen=True)
class _Section:
    """A part of a page."""

    heading: str
    text: str
    tables: tuple[Table, ...] = ()
    picture: Picture | None = None


def paper_page(found: PaperStudy) -> str:
    """The page of a study, as HTML."""
    with mpl.rc_context(PLOTS):
        figures = [
            _Section(heading, caption, picture=picture(draw(found), text)) for heading, draw, text, caption in FIGURES.values()
        ]
    return page(
        "paper.html",
        title="The paper's Table I and Figures 2 to 4",
        found=found,
        table_one=table_one(found),
        remedies=remedies_table(found),
        claims=claims_table(found),
        counting=counting_table(found),
        sweep=sweep_table(found),
        hysteresis=hysteresis_table(found),
        further=further_table(found),
        beside=beside_table(found),
        figures=figures,
        reasons=[_Section(label, why.verdict, (layers_table(why), steps_table(why))) for label, why in found.why.items()],
        missed=missed_table(found),
    )


def figure_files(found: PaperStudy) -> dict[str, bytes]:
    """The figures as SVG files by name, the same bytes for the same study."""
    with mpl.rc_context(PLOTS):
        return {f"paper-{name}.svg": svg(draw(found), facecolor="white") for name, (_, draw, _, _) in FIGURES.items()}
