"""Tables as Markdown, and their place in a page of the documentation."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from model.support.errors import BadInputError
from model.support.files import opened

__all__ = ["markdown", "page_to_fill", "with_table"]


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are aligned to the right."""
    found = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    return "\n".join([*found, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def page_to_fill(path: Path, names: Iterable[str]) -> str:
    """What stands in a page: to be asked for before the work whose tables it is to take.

    Parameters
    ----------
    path : Path
        The page.
    names : Iterable[str]
        The tables for which it must have a place.

    Raises
    ------
    BadInputError
        It cannot be read, or lacks a place.
    """
    try:
        with opened(path) as file:
            text = file.read().decode()
        for name in names:
            with_table(text, name, "")
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from None
    return text


def with_table(page: str, name: str, text: str) -> str:
    """The page with a table in the place that its marks ``<!-- table NAME -->`` and ``<!-- end -->`` say.

    Raises
    ------
    ValueError
        There is not one such place.
    """
    begin, end = f"<!-- table {name} -->", "<!-- end -->"
    found, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{text}\n{end}", page, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the page must have one {begin} with {end} after it, not {count}")
    return found
