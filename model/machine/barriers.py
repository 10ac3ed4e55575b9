"""Barriers: how a pipeline that fires immediate keeps the order at a merge (`model.golden.merged`).

Behind each event of a fork stands a barrier. On the fork's own link it goes without saying. Beyond, a token says how many levels
of barriers *close* behind it: that of the innermost fork, of the next one out, and so on. Forks lie one within the other, so what
closes a level closes all within it. A token without a spike, a barrier alone, is sent only where the last step of a walk, in
which it would go with a spike, fires none. A stream carries the levels that a merge after it needs, and a core is given those of
them that it needs.
"""

from model.network import INPUT, Layer, Network

__all__ = ["barred", "carried", "closed", "entangled", "own_level", "taken_levels"]


def barred(network: Network) -> bool:
    """Whether there are barriers in a pipeline of ``network``."""
    return network.branched and not network.deferred


def carried(network: Network) -> dict[str, tuple[str, ...]]:
    """Of the input and of each layer, the forks whose barriers its link carries in band, the outermost first.

    Those between which and a merge of theirs it lies.
    """
    order = [INPUT, *(layer.name for layer in network.layers)]
    found: dict[str, set[str]] = {name: set() for name in order}
    for merge in network.layers if barred(network) else ():
        if len(merge.sources) > 1:
            fork, reached = network.fork(merge.name), list(merge.sources)
            while reached:
                name = reached.pop()
                if name != fork and fork not in found[name]:
                    found[name].add(fork)
                    reached += network.layer(name).sources
    return {name: tuple(sorted(forks, key=order.index)) for name, forks in found.items()}


def taken_levels(network: Network, layer: Layer) -> tuple[str, ...]:
    """The forks whose barriers ``layer`` needs, the outermost first: those that it passes on, and a merge its own."""
    passed = carried(network)[layer.name]
    own = network.fork(layer.name)
    return (*passed, own) if barred(network) and len(layer.sources) > 1 and own not in passed else passed


def own_level(network: Network, layer: Layer) -> int:
    """How many levels less than close at a merge close behind it: 1 where none after it needs the barriers of its fork."""
    return len(taken_levels(network, layer)) - len(carried(network)[layer.name])


def closed(network: Network, source: str, layer: Layer) -> tuple[int, ...]:
    """Of each number of levels that close on the link of ``source``, how many of those that ``layer`` needs close.

    The first entry is of a spike behind which none does: it closes the source's own level, which goes without saying.
    """
    inner = (*carried(network)[source], source)[::-1]
    wanted = taken_levels(network, layer)
    return tuple(sum(fork in wanted for fork in inner[: 1 + count]) for count in range(len(inner)))


def entangled(network: Network) -> tuple[str, str, str] | None:
    """A layer whose events merges take on two ways within one event of a fork before it; these two readers. None where none is.

    There a merge that waits for one way may hold up the other, on which the first one waits: without room for all that an event
    of the fork causes (`model.machine.turns`), such a machine can hang. Elsewhere it cannot, however short FIFOs are: of the
    layers that an event of a layer reaches no other way, one stream leads out, or none.
    """
    for layer in network.layers if barred(network) else ():
        within = {layer.name}
        for each in network.layers:
            if network.fork(each.name) in within:
                within.add(each.name)
        out = [each.name for each in network.layers if each.name not in within for source in each.sources if source in within]
        if len(out) > 1:
            return layer.name, out[0], out[1]
    return None
