"""All properties."""

from sim.formal import (
    commands,
    deferred,
    encoders,
    flushes,
    groups,
    links,
    neurons,
    packets,
    pipelines,
    pools,
    queues,
    readouts,
    routers,
    senders,
    states,
    steps,
    sweeps,
    tags,
    walks,
)

__all__ = ["PROPERTIES"]

PROPERTIES = (
    *queues.PROPERTIES,
    *neurons.PROPERTIES,
    *deferred.PROPERTIES,
    *flushes.PROPERTIES,
    *links.PROPERTIES,
    *routers.PROPERTIES,
    *groups.PROPERTIES,
    *steps.PROPERTIES,
    *packets.PROPERTIES,
    *senders.PROPERTIES,
    *commands.PROPERTIES,
    *encoders.PROPERTIES,
    *states.PROPERTIES,
    *pools.PROPERTIES,
    *readouts.PROPERTIES,
    *tags.PROPERTIES,
    *pipelines.PROPERTIES,
    *sweeps.PROPERTIES,
    *walks.PROPERTIES,
)
