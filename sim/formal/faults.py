"""Planted faults: modules as their source would make them, were it another."""

from types import ModuleType

__all__ = ["edited"]


def edited(module: ModuleType, text: str) -> ModuleType:
    """A module of the name and place of ``module`` with ``text`` for its source; nothing that imports ``module`` sees it."""
    made = ModuleType(module.__name__)
    made.__file__, made.__package__ = module.__file__, module.__package__
    exec(compile(text, str(module.__file__), "exec"), made.__dict__)
    return made
