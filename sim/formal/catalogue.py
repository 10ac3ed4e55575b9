"""All properties."""

from sim.formal import encoders, groups, links, neurons, packets, pools, queues, states, sweeps

__all__ = ["PROPERTIES"]

PROPERTIES = (
    *queues.PROPERTIES,
    *neurons.PROPERTIES,
    *links.PROPERTIES,
    *groups.PROPERTIES,
    *packets.PROPERTIES,
    *encoders.PROPERTIES,
    *states.PROPERTIES,
    *pools.PROPERTIES,
    *sweeps.PROPERTIES,
)
