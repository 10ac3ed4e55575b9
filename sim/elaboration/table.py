"""What was measured, as tables: by module for a terminal, by folder for a page."""

from collections.abc import Iterable, Mapping, Sequence

from model.reports.markdown import markdown
from sim.elaboration.argued import ARGUED, reason
from sim.elaboration.measuring import Module

__all__ = ["TITLES", "lines_markdown", "lines_of", "total"]

TITLES = ("lines", "reached", "refusals", "branches", "missed", "argued", "open")
"""Of lines those that ran, and of the others those of refusals; of branches those that were not taken; and holes with and without
a reason."""


def total(name: str, modules: Sequence[Module]) -> Module:
    """Several modules as one."""
    numbers = ("lines", "reached", "refusals", "branches", "missed")
    return Module(
        name=name,
        **{number: sum(getattr(module, number) for module in modules) for number in numbers},
        holes=tuple(hole for module in modules for hole in module.holes),
    )


def lines_of(module: Module, argued: Mapping[str, str] = ARGUED) -> list[str]:
    """The cells of a module's line, after its name, as `TITLES`."""
    reasons = sum(reason(hole, argued) is not None for hole in module.holes)
    numbers = (module.lines, module.reached, module.refusals, module.branches, module.missed, reasons)
    return [*(f"{number:,}" for number in numbers), f"{len(module.holes) - reasons:,}"]


def lines_markdown(modules: Sequence[Module], elaborated: str, argued: Mapping[str, str] = ARGUED) -> str:
    """A line for each folder, one for all, what is not reached, with its reason, and what was ``elaborated``."""
    folders: dict[str, list[Module]] = {}
    for module in modules:
        folders.setdefault(module.name.rpartition("/")[0], []).append(module)
    rows = [[f"`{name}`", *lines_of(total(name, found), argued)] for name, found in folders.items()]
    rows.append(["all", *lines_of(total("all", modules), argued)])
    return "\n".join([markdown(["", *TITLES], rows), *_holes(modules, argued), f"{elaborated}.\n"])


def _holes(modules: Iterable[Module], argued: Mapping[str, str]) -> list[str]:
    """A line of a list for each function with something that is not reached, and each reason."""
    found: dict[tuple[str, str], int] = {}
    for module in modules:
        for hole in module.holes:
            why = reason(hole, argued) or f"open, line {hole.line}: `{hole.text}`"
            key = (f"`{hole.module}`, `{hole.function}`", why)
            found[key] = found.get(key, 0) + 1
    return [f"- {place} ({number}): {why}" for (place, why), number in found.items()] + [""]
