"""The registers of the pipeline, under the hardware's names: those of a core, of a link, and of what is around the cores."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.machine.limits import COUNTED_POOL_CYCLES, POOL_CYCLES, SHARED_STEP_CYCLES, STEP_CYCLES
from model.machine.plan import DISTRIBUTED_EVENTS, Plan
from model.machine.registers import HOST, record
from model.machine.schedule import flush_steps, state_words
from model.machine.stages import Stage, core_plan, counts_members, shares_flush
from model.network import MaxPool, Network, Neurons

__all__ = ["CORE", "FURTHER", "LINK", "LISTS", "MACHINE", "Hardware", "reset_core"]

LISTS = {
    "steps": "at_input",
    "fired_token": "at_fired",
    "fired_step": "at_fired",
    "fired_groups": "at_step",
    "groups": "at_group",
    "tokens": "at_leaving",
    "frame_events": "at_frame",
    "unwanted": "at_unwanted",
}
"""The lists of a schedule, each with how far it is read; that of steps is of the first input. After these the events per frame
that leave the core, flushes and barriers within it included; and of each token that leaves it, where there are barriers, a bit
for each reader that is not given it."""

CORE = record(
    # What it is.
    *("has_neurons", "has_pool", "event_fifo", "depth", "pool_depth", "generations", "flush", "pool_visits"),
    *("step_cycles", "pool_cycles", "pool_buffered"),
    # Its further inputs: how many, and which is the first of them; whether barriers keep their order, and whose turn it is.
    *("further", "further_from", "ordered", "turn"),
    # Whether barriers leave it.
    *("barriers",),
    # Whether its FIFO of events is in block RAM, and if so whether an event is at its output.
    *("event_queue", "event_out"),
    # Its registers.
    *("gets", "buffer", "buffer_second", "held", "held_steps", "last_step", "next_fire", "step"),
    *("credits", "returned", "pipe", "sweep", "generation"),
    *("groups", "waiting", "selecting", "left", "turning", "selected"),
    *("pool_credits", "pool_returned", "pool_outside", "pool_pipe", "pool_sweep", "pool_generation", "pooled"),
    *("pool_output", "pool_output_second"),
    *("between", "between_second", "serializing", "serial_left", "events", "output", "output_second"),
    # How far each part has come in the lists of its schedule; where each of them begins among all lists.
    *("at_token", "at_input", "at_fired", "at_step", "at_group", "at_leaving", "at_frame", "at_unwanted"),
    *(f"{name}_from" for name in LISTS),
    # Whether anything moves after the walker; how many cycles it only goes on as before, and what the walker does in these; or
    # whether each of its cycles is a step of all its parts.
    *("active", "stays", "doing", "plain"),
    # The most that each FIFO held.
    *("most_groups", "most_pooled", "most_events"),
)

FURTHER = record(
    # Of a further input of a core the queue in front of its buffer: how deep, how many it holds, whether one is at its output.
    *("queue", "queued", "queue_out"),
    # The registers of its buffer; how far it has come in its list of steps, and where that begins.
    *("gets", "buffer", "buffer_second", "at_input", "steps_from"),
)

LINK = record(
    # How many read it, and whether none of them is a core.
    *("readers", "leaf"),
    # Whether it has a token, whether that passes, whether a copy of it is made.
    *("valid", "passes", "copied"),
    # Tokens left before its frame's end, or -1 before it; frames on their way to it, where it is a leaf; copies for the host.
    *("left", "frames", "copy", "copy_second"),
)

MACHINE = record(
    *HOST,
    # What is around the cores.
    *("inject", "outputs", "output_link", "flush_events", "watching"),
    *("host_valid", "door", "door_second"),
    *("in_frame", "began", "starts", "room", "fullest", "nearly_full", "flush_count", "flush_due"),
    *("read_gets", "read_held", "read_is_end", "comparing", "compared", "result_valid", "watches"),
    # Tokens that the source has, frames to be answered, input frames begun, cycles without a transfer.
    *("tokens_left", "frames_left", "inputs_read", "quiet"),
)


class Hardware(NamedTuple):
    """The registers.

    Parameters
    ----------
    machine : array of MACHINE
        One.
    cores : array of CORE
        In the order of the network.
    further : array of FURTHER
        The inputs of cores after the first, core by core.
    links : array of LINK
        The input and, of each core, the link that leaves it.
    readers : Ints
        Of each link (row) its readers: cores, the readout (as many as there are cores), the copies for the host (one more), and
        after that further inputs.
    taken : array of bool
        Of each link (row) the readers that have taken its token.
    used : Ints
        Of each core (row) the cycles of each of `ACTIVITIES`.
    activity : array of int8
        As of `Cycles`.
    """

    machine: npt.NDArray[np.void]
    cores: npt.NDArray[np.void]
    further: npt.NDArray[np.void]
    links: npt.NDArray[np.void]
    readers: Ints
    taken: npt.NDArray[np.bool_]
    used: Ints
    activity: npt.NDArray[np.int8]


def reset_core(core: Any, network: Network, plan: Plan, stage: Stage) -> None:
    """Make a record of zeros a core after reset."""
    first, last, planned = stage.layers[0], stage.layers[-1], core_plan(network, plan, stage)
    core["has_neurons"], core["has_pool"] = isinstance(first, Neurons), isinstance(last, MaxPool)
    core["event_fifo"], core["event_queue"] = planned.event_fifo, planned.event_fifo > DISTRIBUTED_EVENTS
    core["generations"] = 2**planned.generation_bits - 1
    core["depth"] = state_words(first, network, planned)
    # A max-pool alone has no walker, which sweeps.
    core["sweep"] = core["depth"] * core["has_neurons"]
    core["pool_depth"] = core["pool_sweep"] = state_words(last, network, replace(planned, rows=1, columns=1))
    core["flush"] = flush_steps(network, first, planned)
    core["pool_visits"] = isinstance(last, MaxPool) and (network.deferred or last.overlapping)
    core["step_cycles"] = 1 + len(SHARED_STEP_CYCLES if shares_flush(network, first, planned) else STEP_CYCLES)
    core["pool_buffered"] = isinstance(last, MaxPool) and counts_members(network, stage)
    core["pool_cycles"] = len(COUNTED_POOL_CYCLES if core["pool_buffered"] else POOL_CYCLES)
    core["credits"], core["pool_credits"] = planned.group_fifo, planned.pool_depth
    core["generation"] = core["pool_generation"] = 1
