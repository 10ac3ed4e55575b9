"""How mkdocstrings reads this project's docstrings: *Members* of a component, and sections that numpydoc does not know."""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^(?P<title>[A-Z][\w ]*)\n-{3,}$", re.MULTILINE)
_KNOWN = {
    *("Parameters", "Other Parameters", "Returns", "Yields", "Receives", "Raises", "Warns", "Attributes"),
    *("Examples", "Methods", "Classes", "Functions", "Modules"),
}


class Sections(griffe.Extension):
    """Members of hardware are shown like attributes; other sections keep their title, and are no headings of the page."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub(_rewritten, obj.docstring.value)


def _rewritten(section: re.Match[str]) -> str:
    title = section["title"]
    if title == "Members":
        return "Attributes\n----------"
    return section[0] if title in _KNOWN else f"**{title}**\n"
