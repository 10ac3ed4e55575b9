"""All properties."""

from sim.formal import deferred, encoders, groups, links, neurons, packets, pools, queues, states, steps, sweeps

__all__ = ["PROPERTIES"]

PROPERTIES = (
    *queues.PROPERTIES,
    *neurons.PROPERTIES,
    *deferred.PROPERTIES,
    *links.PROPERTIES,
    *groups.PROPERTIES,
    *steps.PROPERTIES,
    *packets.PROPERTIES,
    *encoders.PROPERTIES,
    *states.PROPERTIES,
    *pools.PROPERTIES,
    *sweeps.PROPERTIES,
)
