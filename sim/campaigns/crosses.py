"""Functional coverage: how often each rare thing happened in each kind of layer, on each machine, under each pattern of stalls.

What cannot happen is no hole. A max-pool has no residual and no border classes; counts of its members are its sources', which
are held there; and fired immediately it changes a maximum by one at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.golden import LayerTrace, Trace
from model.machine.named_plans import FOLDED, NAMED_PLANS
from model.machine.plan import Plan
from model.network import Convolution, Layer, Linear, MaxPool, Network, Transposed
from sim.coverage import Coverage, LayerCoverage

__all__ = ["BY_LAYER", "BY_MACHINE", "BY_PLAN", "FIRINGS", "KINDS", "PATTERNS", "PLANS", "SEVERAL", "CrossTable",
           "by_layer", "by_machine", "by_plan", "cross_tables", "kind_of", "pattern"]  # fmt: skip

BY_LAYER, BY_MACHINE, BY_PLAN = "by layer", "by machine", "by plan"
"""Names of what a job finds."""

FIRINGS = ("immediate", "deferred")

_POOLS = ("max-pool", "max-pool, overlapping")

SEVERAL = "of several inputs"

KINDS = (
    "convolution",
    "convolution in groups",
    "transposed convolution",
    "transposed convolution in groups",
    "linear",
    *_POOLS,
    SEVERAL,
)
"""What a layer may be; one of several inputs is counted there too."""

_MACHINES = ("pipeline", FOLDED)

PATTERNS = ("always ready", "idle source", "stalled sinks", "idle source, stalled sinks")
"""How source and sinks behave."""

PLANS = (*NAMED_PLANS, "random", FOLDED, "random folded")
"""Plans by name, those that are drawn together."""

_EMPTY_FLUSHES, _HELD, _COUNTS, _SEVERAL_SPIKES, _CLASSES, _BLOCKED = (
    "flushes with nothing to send",
    "saturated residuals",
    "counts at their end",
    "visits that fired several spikes of a neuron",
    "frames of layers with several border classes",
    "stalled cycles",
)

_OF_LAYERS = (
    "spikes",
    "negative spikes",
    "visits in which several neurons fired",
    _SEVERAL_SPIKES,
    "frames that bring a layer no event",
    "frames that bring a layer events, and no spike of it",
    "spikes saved by the state at rest",
    _EMPTY_FLUSHES,
    _HELD,
    _COUNTS,
    _CLASSES,
)

_OF_MACHINES = (
    "frames",
    "frames without an event",
    "input spikes of a higher level",
    "frames with links watched",
    "wraps of generation tags",
    _BLOCKED,
)

_NEVER: dict[str, dict[str, tuple[str, ...]]] = {
    "immediate": {_EMPTY_FLUSHES: KINDS, _SEVERAL_SPIKES: _POOLS, **dict.fromkeys((_HELD, _COUNTS, _CLASSES), _POOLS)},
    "deferred": dict.fromkeys((_HELD, _COUNTS, _CLASSES), _POOLS),
}
"""By firing, of what happens to layers: the kinds to which it cannot."""


def kind_of(layer: Layer) -> str:
    """What a layer is: one of `KINDS`."""
    if isinstance(layer, MaxPool):
        return _POOLS[layer.overlapping]
    if isinstance(layer, Linear):
        return "linear"
    assert isinstance(layer, Convolution | Transposed)
    name = "transposed convolution" if isinstance(layer, Transposed) else "convolution"
    return f"{name} in groups" if layer.groups > 1 else name


def pattern(idle: float, stall: float) -> str:
    """How source and sinks behave: one of `PATTERNS`."""
    return PATTERNS[(idle > 0) + 2 * (stall > 0)]


def by_layer(network: Network, traces: Sequence[Trace], found: Coverage) -> dict[str, Any]:
    """How often what happened, by firing and kind of layer.

    Parameters
    ----------
    network : Network
        What was simulated.
    traces : sequence of Trace
        Of its frames.
    found : Coverage
        What else is known of them.
    """
    kinds: dict[str, dict[str, int]] = {}
    for layer, covered in zip(network.layers, found.layers, strict=True):
        numbers = _of_layer([trace.layers[layer.name] for trace in traces], covered)
        for kind in [kind_of(layer), *([SEVERAL] if len(layer.sources) > 1 else [])]:
            before = kinds.setdefault(kind, dict.fromkeys(_OF_LAYERS, 0))
            kinds[kind] = {name: before[name] + number for name, number in numbers.items()}
    return {network.firing: kinds}


def _of_layer(traces: Sequence[LayerTrace], covered: LayerCoverage) -> dict[str, int]:
    numbers = (
        sum(len(trace.spikes) for trace in traces),
        sum(int((trace.spikes["sign"] < 0).sum()) for trace in traces),
        sum(_together(trace) for trace in traces),
        covered.burst_updates,
        sum(not len(trace.events) for trace in traces),
        sum(bool(len(trace.events)) and not len(trace.spikes) for trace in traces),
        covered.rest_spikes_saved,
        covered.empty_flushes,
        covered.residual_saturations,
        covered.count_saturations,
        len(traces) if covered.border_classes > 1 and covered.border_classes_used == covered.border_classes else 0,
    )
    return dict(zip(_OF_LAYERS, numbers, strict=True))


def _together(trace: LayerTrace) -> int:
    """Events, or flushes, of which several neurons fired."""
    causes = np.unique(np.stack([trace.spikes["cause"].astype(np.int64), trace.spikes["address"].astype(np.int64)]), axis=1)[0]
    return int((np.unique(causes, return_counts=True)[1] > 1).sum())


def by_machine(
    plan: Plan, firing: str, behaviour: str, traces: Sequence[Trace], found: Coverage, *, watched: bool
) -> dict[str, Any]:
    """How often what happened, by machine, and pattern of stalls.

    Parameters
    ----------
    plan, firing : Plan, str
        The machine.
    behaviour : str
        One of `PATTERNS`.
    traces : sequence of Trace
        Of its frames.
    found : Coverage
        What else is known of them.
    watched : bool
        Whether links were watched.
    """
    numbers = (
        len(traces),
        sum(not len(trace.events) for trace in traces),
        found.input_spikes_of_higher_levels,
        len(traces) * watched,
        sum(core.generation_wraps for core in found.cores),
        sum(core.stalled_cycles for core in found.cores),
    )
    return {f"{plan.architecture}, {firing}": {behaviour: dict(zip(_OF_MACHINES, numbers, strict=True))}}


def by_plan(plan: Plan, layers: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """How often what happened, by plan: what `by_layer` and `by_machine` gave, added up."""
    drawn = {"pipeline": "random", FOLDED: "random folded"}
    name = plan.name if plan.name in PLANS else drawn[plan.architecture]
    numbers = dict.fromkeys((*_OF_LAYERS, *_OF_MACHINES), 0)
    kinds = (numbers_of for kinds in layers.values() for kind, numbers_of in kinds.items() if kind != SEVERAL)
    behaviours = (numbers_of for behaviours in machine.values() for numbers_of in behaviours.values())
    for found in (*kinds, *behaviours):
        for each, number in found.items():
            numbers[each] += number
    return {name: numbers}


@dataclass(frozen=True, kw_only=True)
class CrossTable:
    """Rare things against where they may happen.

    Parameters
    ----------
    title : str
        Which.
    columns : tuple of str
        Where.
    rows : dict of str to tuple of int or None
        Of each rare thing how often it happened in each place; None where it cannot.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[int | None, ...]]

    @property
    def holes(self) -> tuple[str, ...]:
        """What did not happen, and could have."""
        return tuple(
            f"{name}: {column}" for name, row in self.rows.items() for column, number in zip(self.columns, row, strict=True)
            if number == 0
        )  # fmt: skip

    @property
    def cells(self) -> int:
        """How many things can happen somewhere."""
        return sum(number is not None for row in self.rows.values() for number in row)

    def lines(self) -> list[list[str]]:
        """A line for each rare thing; a hole is said in words."""
        return [[name, *(_said(number) for number in row)] for name, row in self.rows.items()]


def _said(number: int | None) -> str:
    return "" if number is None else f"{number:,}" if number else "**never**"


def cross_tables(found: Mapping[str, Any]) -> list[CrossTable]:
    """All tables of what jobs found, added up.

    Parameters
    ----------
    found : mapping
        With what `by_layer`, `by_machine` and `by_plan` gave.
    """
    layers, machines = found.get(BY_LAYER, {}), found.get(BY_MACHINE, {})
    tables = [
        _table(f"layers, {firing}", _OF_LAYERS, KINDS, layers.get(firing, {}), _NEVER[firing]) for firing in FIRINGS
    ]
    tables += [
        _table(name, _OF_MACHINES, PATTERNS, machines.get(name, {}), {_BLOCKED: PATTERNS} if name.startswith(FOLDED) else {})
        for name in (f"{machine}, {firing}" for machine in _MACHINES for firing in FIRINGS)
    ]
    folded = {_BLOCKED: tuple(plan for plan in PLANS if plan.endswith(FOLDED))}
    return [*tables, _table("plans", (*_OF_LAYERS, *_OF_MACHINES), PLANS, found.get(BY_PLAN, {}), folded)]


def _table(
    title: str,
    names: Iterable[str],
    columns: tuple[str, ...],
    found: Mapping[str, Mapping[str, int]],
    never: Mapping[str, Sequence[str]],
) -> CrossTable:
    rows = {
        name: tuple(None if column in never.get(name, ()) else found.get(column, {}).get(name, 0) for column in columns)
        for name in names
    }
    return CrossTable(title=title, columns=columns, rows={name: row for name, row in rows.items() if row != (None,) * len(row)})
