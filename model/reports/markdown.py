"""Tables as Markdown, and their place in a page of the documentation."""

import re
from collections.abc import Sequence

__all__ = ["markdown", "with_table"]


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are aligned to the right."""
    found = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    return "\n".join([*found, *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


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
