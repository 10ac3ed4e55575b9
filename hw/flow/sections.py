"""Text forms of configurations, Trellis' and IceStorm's: sections, each a line that starts with a dot and the lines behind it."""

from collections import defaultdict

__all__ = ["sections"]


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section by its first line, without the dot; of two that start alike, those of both."""
    found: dict[str, list[str]] = defaultdict(list)
    name = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("."):
            name = line[1:]
            found[name] += []
        elif line:
            found[name].append(line)
    return dict(found)
