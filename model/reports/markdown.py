"""Tables as Markdown, and their place in a page of the documentation."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from model.support.errors import BadInputError
from model.support.files import opened, write_file

__all__ = ["markdown", "page_to_fill", "with_table", "write_rows"]


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


def write_rows(path: Path, page: str, tables: Mapping[str, str], order: Sequence[str], key: Callable[[str], str]) -> None:
    """Write a page with the rows of tables in place of those of the same keys; rows of other keys stay as they are.

    Parameters
    ----------
    path, page : Path, str
        The page, and what stands in it.
    tables : Mapping of (str, str)
        Of each table its name in its marks, and its text, of some keys or of all.
    order : sequence of str
        The keys in the order of the rows. Rows of other keys are left out.
    key : Callable
        Gives the key of a row's first cell.

    Raises
    ------
    BadInputError
        There is no place, or the columns there are others, so that its rows cannot stay.
    """
    try:
        for name, text in tables.items():
            page = with_table(page, name, _merged(page, name, text, order, key))
    except ValueError as error:
        raise BadInputError(f"{path}: {error}") from None
    write_file(path, page)


def _merged(page: str, name: str, text: str, order: Sequence[str], key: Callable[[str], str]) -> str:
    place = re.search(f"<!-- table {re.escape(name)} -->(.*?)<!-- end -->", page, re.DOTALL)
    (head, new), (head_before, old) = (_parts(some, key) for some in (text, place[1] if place else ""))
    measured = {found for found, _ in new}
    stay = [(found, row) for found, row in old if found in order and found not in measured]
    if stay and head_before != head:
        raise ValueError(f"table {name} has other columns than it had: rows of {stay[0][0]} must be written anew as well")
    rows = sorted((*stay, *new), key=lambda row: order.index(row[0]))
    return "\n".join([*head, *(row for _, row in rows)]) + "\n"


def _parts(text: str, key: Callable[[str], str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The two lines that begin a table, and its rows with their keys."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return lines[:2], [(key(line.split("|")[1].strip()), line) for line in lines[2:]]
