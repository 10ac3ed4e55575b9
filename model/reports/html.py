"""What all pages share: templates that escape whatever they show, tables, and plots within the page, which loads nothing."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

__all__ = ["BLUE", "COLORS", "GREEN", "GREY", "ORANGE", "PLOTS", "PURPLE", "RED", "Picture", "Table"]
__all__ += ["lay_out", "page", "picture", "short_name", "svg"]

BLUE, ORANGE, GREEN, PURPLE, GREY, RED = COLORS = ("#2463a8", "#c8641b", "#2a8550", "#7a4fa3", "#68727d", "#b3273d")
"""Of what is drawn, told apart in black and white too by their markers."""

PLOTS: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "axes.axisbelow": True,
    "svg.hashsalt": "tally",
}
"""Of every plot, for `matplotlib.rc_context`."""

_NAME = 20
"""Characters of a name in a plot."""

_TEMPLATES = Environment(
    loader=PackageLoader("model.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Parameters
    ----------
    titles : tuple of str
        Of the columns; all empty for a table without a head.
    rows : sequence
        Of each row its cells, as they are read.
    words : tuple of int
        Indices of the columns that hold words, which start on the left and go over lines; the others hold numbers.
    """

    titles: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Parameters
    ----------
    source : str
        The picture itself, as the address of an image.
    text : str
        What it shows, for those who cannot see it.
    """

    source: str
    text: str


def page(template: str, *, title: str, **values: object) -> str:
    """A page, as HTML; text among the values is shown as it is, whatever stands in it.

    Parameters
    ----------
    template : str
        Name of the template, a file of ``model/reports/templates``.
    title : str
        Title and first heading.
    **values
        What the template shows.
    """
    return _TEMPLATES.get_template(template).render(title=title, **values)


def short_name(name: str) -> str:
    """A name that a plot has room for: of a long one both ends."""
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 1]}\u2026{name[-(_NAME // 2) :]}"


def lay_out(figure: Figure, **options: Any) -> None:
    """Give each part of a figure its room, with names at its axes that are no longer than there is."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            short = [short_name(label) for label in labels]
            if short != labels:
                axis.set_ticks(axis.get_ticklocs(), short)
                if axis is axes.xaxis:
                    axes.tick_params(axis="x", rotation=45)
    figure.tight_layout(**options)


def svg(figure: Figure, **options: Any) -> bytes:
    """A figure as an SVG file, the same bytes for the same figure."""
    file = io.BytesIO()
    with mpl.rc_context(PLOTS):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None}, **options)
    return file.getvalue()


def picture(figure: Figure, text: str) -> Picture:
    """A figure as a picture within a page, with ``text`` for those who cannot see it."""
    return Picture(f"data:image/svg+xml;base64,{base64.b64encode(svg(figure)).decode()}", text)
