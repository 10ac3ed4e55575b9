"""Table of what a netlist toggles."""

from model.reports.markdown import markdown
from sim.toggling.energy import COEFFICIENTS
from sim.toggling.study import Toggles

__all__ = ["lines", "table_name", "titles", "toggles_markdown"]

_TITLES = ("what", "how many", "per frame", "sinks reached", "per cycle", "per idle cycle", "nJ per frame")


def table_name(network: str, plan: str, family: str) -> str:
    """What the table is called in a page."""
    return f"toggles {network} {plan} {family}"


def titles(found: Toggles) -> tuple[str, ...]:
    """The table's columns; there is one of energies where there are any."""
    return _TITLES if found.energy_nj else _TITLES[:-1]


def lines(found: Toggles) -> list[list[str]]:
    """The table's lines, as texts."""
    cycles, pj, spent = found.cycles_per_frame, COEFFICIENTS.get(found.family), found.energy_nj

    def line(what: str, count: str, per_frame: float, idle: float, reached: str, price_pj: float | None) -> list[str]:
        nj = [] if price_pj is None else [f"{per_frame * price_pj / 1e3:,.0f}"]
        return [what, count, f"{per_frame:,.0f}", reached, f"{per_frame / cycles:,.1f}", f"{idle:,.1f}", *nj]

    table = []
    for row in found.rows:
        reached = f"{row.reached_per_frame:,.0f}"
        price = pj.toggle if pj else None
        table.append(line(f"{row.kind}: toggles", f"{row.count:,}", row.per_frame, row.idle_per_cycle, reached, price))
    for row in found.accesses:
        price = pj.accesses[row.kind] if pj else None
        table.append(line(row.kind, f"{row.count:,}", row.per_frame, row.idle_per_cycle, "", price))
    edges, price = found.flip_flops * cycles, pj.flip_flop if pj else None
    table.append(line("flip-flops: clock edges", f"{found.flip_flops:,}", edges, found.flip_flops, "", price))
    table.append(line("clock: cycles", "", cycles, 1, "", pj.clock if pj else None))
    return [*table, *([["all", *[""] * 5, f"**{spent.total:,.0f}**"]] if spent else [])]


def toggles_markdown(found: Toggles) -> str:
    """The table for a page."""
    return markdown(titles(found), lines(found))
