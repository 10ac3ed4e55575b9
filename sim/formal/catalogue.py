"""All properties."""

from sim.formal import encoders, groups, links, neurons, packets, queues, states

__all__ = ["PROPERTIES"]

PROPERTIES = (
    *queues.PROPERTIES,
    *neurons.PROPERTIES,
    *links.PROPERTIES,
    *groups.PROPERTIES,
    *packets.PROPERTIES,
    *encoders.PROPERTIES,
    *states.PROPERTIES,
)
