"""A console that no text commands. It loads rich, which takes a while: commands load it when they show something."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

__all__ = ["PlainConsole"]


class PlainConsole(Console):
    """A console that no text commands: what is not printable, escape codes too, is a space."""

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        return super().render_str("".join(c if c.isprintable() or c in "\n\t" else " " for c in text), **options)
