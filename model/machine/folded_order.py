"""In which order a folded machine that fires immediate serves the inputs that take the same events.

The machine finishes what an event causes before it takes the next one of that link. So an event `f` of a link `F` is served to
the inputs that take it one after another, each time with all that follows from it; of a merge whose fork is `F`, what `f` causes
comes by the order in which the inputs of `F` are served. Two things have to be seen to:

- The inputs of `F` are served in an order by which all that leads to a merge's first input comes before what leads to its second.
- Where no order does that, or where something between `F` and the merge leads to several of its inputs, the events of all inputs
  but the first are *kept* as they come, each input's in a queue of its own, and *released*, one input after another, once `f` has
  been served to all that leads there. An input that takes `f` itself need keep nothing: it is served at that point.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from model.network import Network

__all__ = ["Action", "Join", "Service", "orders"]


class Action(Enum):
    """What becomes of an event of a link at one of its services."""

    TAKE = "take"
    """An input takes it."""
    KEEP = "keep"
    """An input keeps it."""
    RELEASE = "release"
    """An input takes all that it has kept; the event itself has no part in it."""


@dataclass(frozen=True)
class Service:
    """One of the services of a link's events.

    Parameters
    ----------
    action : Action
        What is done.
    number : int
        Number of the input that does it.
    """

    action: Action
    number: int


@dataclass(frozen=True)
class Join:
    """An input of a layer, as far as it matters here.

    Parameters
    ----------
    link : str
        Whose events it takes.
    layer, leaves : str
        The layer, and the link by which its events leave.
    place : int
        Which of the layer's inputs it is.
    """

    link: str
    layer: str
    leaves: str
    place: int


@dataclass
class _Fork:
    """What is found of a fork's link: its services, which of them has to come before which, and the inputs that keep."""

    services: list[Service]
    before: dict[Service, set[Service]] = field(default_factory=dict)
    keep: set[int] = field(default_factory=set)

    def sorted(self, more: Iterable[tuple[Service, Service]] = ()) -> list[Service] | None:
        """The services in order, those of inputs with lower numbers first where it does not matter; None where there is none."""
        after = {each: set(self.before.get(each, ())) for each in self.services}
        for first, second in more:
            after[second].add(first)
        found: list[Service] = []
        while len(found) < len(after):
            ready = [each for each in self.services if each not in found and after[each] <= set(found)]
            if not ready:
                return None
            found.append(min(ready, key=lambda each: each.number))
        return found


def orders(network: Network, inputs: Sequence[Join]) -> Mapping[str, tuple[Service, ...]]:
    """Of each link that is taken the services of its events, in order.

    Parameters
    ----------
    network : Network
        Gives the forks.
    inputs : sequence of Join
        Those of all layers, in order.
    """
    takers: dict[str, list[int]] = {}
    for number, each in enumerate(inputs):
        takers.setdefault(each.link, []).append(number)
    forks = {link: _Fork([Service(Action.TAKE, number) for number in numbers]) for link, numbers in takers.items()}
    for layer in dict.fromkeys(each.layer for each in inputs):
        mine = [number for number, each in enumerate(inputs) if each.layer == layer]
        if len(mine) > 1:
            name = network.fork(layer)
            _merge(forks[name], name, inputs, takers, mine)
    kept = {number for fork in forks.values() for number in fork.keep}
    found = {}
    for link, fork in forks.items():
        in_order = fork.sorted()
        assert in_order is not None
        # What an input keeps of this link, it does not take.
        mine_kept = kept & set(takers[link])
        found[link] = tuple(
            Service(Action.KEEP, each.number) if each.action is Action.TAKE and each.number in mine_kept else each
            for each in in_order
        )
    return found


def _merge(fork: _Fork, link: str, inputs: Sequence[Join], takers: Mapping[str, Sequence[int]], mine: Sequence[int]) -> None:
    """See to it that a merge's inputs take in order."""
    arrives = {each: _arrives(each.number, inputs, takers, set(mine), fork.keep) for each in fork.services}
    if all(len(found) <= 1 for found in arrives.values()):
        # Of each of the fork's services all that arrives does so at one input.
        at = {each: min(found) for each, found in arrives.items() if found}
        pairs = [(first, second) for first in at for second in at if inputs[at[first]].place < inputs[at[second]].place]
        if fork.sorted(pairs) is not None:
            for first, second in pairs:
                fork.before.setdefault(second, set()).add(first)
            return
    last = {each for each, found in arrives.items() if found}
    for number in mine[1:]:
        takes = inputs[number].link == link
        service = Service(Action.TAKE if takes else Action.RELEASE, number)
        last.discard(service)
    for number in mine[1:]:
        takes = inputs[number].link == link
        service = Service(Action.TAKE if takes else Action.RELEASE, number)
        if not takes:
            fork.services.append(service)
            fork.keep.add(number)
        fork.before.setdefault(service, set()).update(last)
        last = last | {service}


def _arrives(
    number: int, inputs: Sequence[Join], takers: Mapping[str, Sequence[int]], mine: set[int], keep: set[int]
) -> frozenset[int]:
    """At which of a merge's inputs something arrives of what an input takes, kept events left out."""
    found, seen, waiting = set(), set(), [number]
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        if at in mine:
            found.add(at)
            continue
        waiting += [after for after in takers.get(inputs[at].leaves, ()) if after not in keep]
    return frozenset(found)
