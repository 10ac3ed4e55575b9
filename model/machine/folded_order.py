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
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush

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
        sorter: TopologicalSorter[Service] = TopologicalSorter({each: self.before.get(each, ()) for each in self.services})
        for first, second in more:
            sorter.add(second, first)
        try:
            sorter.prepare()
        except CycleError:
            return None
        found: list[Service] = []
        ready: list[tuple[int, Service]] = []
        while sorter.is_active():
            for each in sorter.get_ready():
                heappush(ready, (each.number, each))
            found.append(heappop(ready)[1])
            sorter.done(found[-1])
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
    found = _arrivals([each.number for each in fork.services], inputs, takers, mine, fork.keep)
    arrives = dict(zip(fork.services, found, strict=True))
    if all(len(each) <= 1 for each in found):
        # Of each of the fork's services all that arrives does so at one input.
        at = {each: min(there) for each, there in arrives.items() if there}
        pairs = [(first, second) for first in at for second in at if inputs[at[first]].place < inputs[at[second]].place]
        if fork.sorted(pairs) is not None:
            for first, second in pairs:
                fork.before.setdefault(second, set()).add(first)
            return
    turns = [Service(Action.TAKE if inputs[number].link == link else Action.RELEASE, number) for number in mine[1:]]
    earlier = {each for each, there in arrives.items() if there} - set(turns)
    for turn in turns:
        if turn.action is Action.RELEASE:
            fork.services.append(turn)
            fork.keep.add(turn.number)
        fork.before.setdefault(turn, set()).update(earlier)
        earlier.add(turn)


def _arrivals(
    numbers: Sequence[int], inputs: Sequence[Join], takers: Mapping[str, Sequence[int]], mine: Sequence[int], keep: set[int]
) -> list[frozenset[int]]:
    """Of each of those inputs, at which of a merge's inputs something arrives of what it takes, kept events left out."""
    # Of each link before the merge, from the last one back, where what passes there arrives.
    of_link: dict[str, frozenset[int]] = {}

    def arrives(number: int) -> frozenset[int]:
        return frozenset((number,)) if number in mine else of_link.get(inputs[number].leaves, frozenset())

    for link in dict.fromkeys(inputs[number].leaves for number in reversed(range(mine[0]))):
        of_link[link] = frozenset().union(*(arrives(number) for number in takers.get(link, ()) if number not in keep))
    return [arrives(number) for number in numbers]
