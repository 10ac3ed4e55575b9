"""The cycle model of the pipeline: when everything happens, cycle for cycle as the hardware does it.

What passes is given by `model.machine.schedule`; here are only the handshakes: register stages, FIFOs, credits, the router's
forks. `model.machine.pipeline_registers` has the hardware's registers, `model.machine.pipeline_parts` what becomes of them at a
clock edge. `sim.verify` holds the cycle of every token on every link equal to that of the RTL.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from model.arrays import Images, Ints
from model.engine.engine import Stream, run_streams
from model.events import Events
from model.machine.barrier_schedule import schedules
from model.machine.barrier_tokens import BARE, Tokens
from model.machine.barriers import barred, carried, closed
from model.machine.cycles import ACTIVITIES, CoreUse, CycleError, Cycles
from model.machine.pipeline_parts import HANG, run
from model.machine.pipeline_registers import CORE, FURTHER, LINK, LISTS, MACHINE, Hardware, reset_core
from model.machine.plan import Plan
from model.machine.registers import by_trace, logged, reset_host
from model.machine.schedule import Schedule
from model.machine.stages import Stage, core_plan, ports, stages
from model.network import INPUT, Network

__all__ = ["simulate_pipeline"]

_AHEAD = 3
"""Batches whose spikes are in memory."""


def simulate_pipeline(
    network: Network,
    plan: Plan,
    images: Images | Sequence[Events],
    *,
    idle: int,
    stall: int,
    seed: int,
    watch: int,
    record: bool,
    activity: int,
    batch: int,
    done: Callable[[int], None] | None,
    plain: bool = False,
) -> Cycles:
    """Run frames back to back through a pipeline.

    Arguments and result are those of `model.machine.simulate.simulate`; ``plain``: each part of each core is looked at in every
    cycle, which is slower and finds the same.
    """
    machine = _Machine.of(network, plan, idle=idle, stall=stall, seed=seed, watch=watch, activity=activity)
    machine.hardware.cores["plain"] = plain
    begins = range(0, len(images), batch)

    def spikes(begin: int) -> tuple[list[Schedule], Stream, list[Stream]]:
        streams = run_streams(network, images[begin : begin + batch])
        found = schedules(network, plan, machine.stages, streams)
        return found, streams[INPUT], [streams[stage.name] for stage in machine.stages]

    # What fires does not depend on when: the next batches' spikes are found while the cycles of this one pass.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = deque(pool.submit(spikes, begin) for begin in begins[:_AHEAD])
        for number, begin in enumerate(begins):
            machine.feed(*ahead.popleft().result())
            if number + _AHEAD < len(begins):
                ahead.append(pool.submit(spikes, begins[number + _AHEAD]))
            machine.run(final=begin == begins[-1], record=record)
            if done:
                done(min(batch, len(images) - begin))
    return machine.cycles(len(images))


@dataclass(kw_only=True)
class _Machine:
    """The machine's registers, and what is still to pass.

    Parameters
    ----------
    network, plan, stages : Network, Plan, tuple of Stage
        What it is of.
    hardware : Hardware
        The registers.
    lists : list of dict of str to Ints
        Of each core, the lists of its schedule.
    forgotten : list of dict of str to int
        How much of each list has been read and dropped.
    further_steps, further_forgotten : list of Ints, list of int
        The same of the steps of each further input.
    tokens_fed : list of int
        Input tokens of each core so far.
    input_frames : Ints
        Events of each frame that has not begun, flushes within it included.
    logs : list of list of Ints
        Of each batch when what passed, by trace.
    """

    network: Network
    plan: Plan
    stages: tuple[Stage, ...]
    hardware: Hardware
    lists: list[dict[str, Ints]]
    forgotten: list[dict[str, int]]
    further_steps: list[Ints]
    further_forgotten: list[int]
    tokens_fed: list[int]
    input_frames: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    logs: list[list[Ints]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network, plan: Plan, *, idle: int, stall: int, seed: int, watch: int, activity: int) -> "_Machine":
        """A machine after reset."""
        found = stages(network)
        names = [INPUT, *(stage.name for stage in found)]
        cores = np.zeros(len(found), CORE)
        ports_of: list[str] = []
        for stage, core in zip(found, cores, strict=True):
            reset_core(core, network, plan, stage)
            core["further_from"], core["further"] = len(ports_of), len(stage.layers[0].sources) - 1
            core["ordered"], core["barriers"] = barred(network), len(carried(network)[stage.name]) > 0
            ports_of += stage.layers[0].sources[1:]
        # One of each, so that there is something to compile for.
        further = np.zeros(max(1, len(ports_of)), FURTHER)
        for core, stage in zip(cores, found, strict=True):
            queued = further[core["further_from"] : core["further_from"] + core["further"]]
            queued["queue"] = core_plan(network, plan, stage).join_fifo
        readers = np.zeros((len(names), len(cores) + 2 + len(ports_of)), np.int64)
        links = np.zeros(len(names), LINK)
        links["left"] = -1
        for number, (link, name) in enumerate(zip(links, names, strict=True)):
            by_cores = [core for core, stage in enumerate(found) if stage.source == name]
            by_cores += [len(cores) + 2 + port for port, source in enumerate(ports_of) if source == name]
            by_all = list(by_cores)
            if name == network.output.name:
                by_all.append(len(cores))
            if plan.watch and watch >> ports(network)[name] & 1:
                by_all.append(len(cores) + 1)
            link["readers"], link["leaf"] = len(by_all), not by_cores
            readers[number, : len(by_all)] = by_all
        machine = np.zeros(1, MACHINE)
        reset_host(machine, idle=idle, stall=stall, seed=seed)
        machine["inject"], machine["outputs"], machine["room"] = plan.inject, network.outputs, 1
        machine["flush_events"], machine["watching"] = network.flush_events, plan.watch and watch != 0
        machine["output_link"] = names.index(network.output.name)
        return cls(
            network=network,
            plan=plan,
            stages=found,
            hardware=Hardware(
                machine=machine,
                cores=cores,
                further=further,
                links=links,
                readers=readers,
                taken=np.zeros(readers.shape, bool),
                used=np.zeros((len(cores), len(ACTIVITIES)), np.int64),
                activity=np.zeros((len(cores), activity), np.int8),
            ),
            lists=[{name: np.zeros(0, np.int64) for name in LISTS} for _ in found],
            forgotten=[dict.fromkeys(LISTS, 0) for _ in found],
            further_steps=[np.zeros(0, np.int64) for _ in ports_of],
            further_forgotten=[0] * len(ports_of),
            tokens_fed=[0] * len(found),
        )

    def feed(self, schedules: Sequence[Schedule], inputs: Stream, leaving: Sequence[Stream]) -> None:
        """More frames; what has been read of the ones before is forgotten."""
        for number, (found, core) in enumerate(zip(schedules, self.hardware.cores, strict=True)):
            more = {name: getattr(found, name) for name in LISTS if name not in ("frame_events", "unwanted", "steps")}
            more["steps"] = found.steps[0] if found.steps else np.zeros(0, np.int64)
            more["fired_token"] = more["fired_token"] + self.tokens_fed[number]
            more["frame_events"], more["unwanted"] = _frame_tokens(leaving[number]), np.zeros(0, np.int64)
            if found.leaving:
                more["frame_events"] = np.bincount(found.leaving.frame, minlength=len(leaving[number].starts) - 1)
            if found.leaving and core["barriers"]:
                more["unwanted"] = self._unwanted(number, found.leaving, more["frame_events"])
            self.tokens_fed[number] += found.walked
            for port, steps in enumerate(found.steps[1:], int(core["further_from"])):
                read = max(0, int(self.hardware.further[port]["at_input"]) - self.further_forgotten[port])
                self.further_steps[port] = np.concatenate([self.further_steps[port][read:], steps])
                self.further_forgotten[port] += read
            for name, at in LISTS.items():
                read = max(0, core[at] - self.forgotten[number][name])
                self.lists[number][name] = np.concatenate([self.lists[number][name][read:], more[name]])
                self.forgotten[number][name] += read
        events = np.diff(inputs.starts)
        self.input_frames = np.concatenate([self.input_frames, _frame_tokens(inputs)])
        self.hardware.machine["tokens_left"] += int(events.sum()) + len(events)
        self.hardware.machine["frames_left"] += len(events)

    def _unwanted(self, number: int, leaving: Tokens, frame_events: Ints) -> Ints:
        """Of each token that leaves a core a bit for each reader, in the order of `Hardware.readers`, that is not given it."""
        source, further = self.stages[number].name, [(stage, name) for stage in self.stages for name in stage.sources[1:]]
        readers = self.hardware.readers[1 + number, : int(self.hardware.links[1 + number]["readers"])]
        found = np.zeros(len(leaving.spike), np.int64)
        for bit, reader in enumerate(readers.tolist()):
            # The readout ends no region of a fork, and the host sees no barriers.
            layer = None
            if reader < len(self.stages):
                layer = self.stages[reader].layers[0]
            elif reader >= len(self.stages) + 2:
                layer = further[reader - len(self.stages) - 2][0].layers[0]
            closes = closed(self.network, source, layer) if layer else (0,) * (1 + len(carried(self.network)[source]))
            found |= ((leaving.spike == BARE) & (np.array(closes)[leaving.closes] == 0)).astype(np.int64) << bit
        return np.insert(found, np.cumsum(frame_events), 0)

    def run(self, *, final: bool, record: bool) -> None:
        """Until the source has no more tokens, or, if these are the last, until the last answer is taken."""
        begin, machine = 0, self.hardware.machine[0]
        for lists, forgotten, core in zip(self.lists, self.forgotten, self.hardware.cores, strict=True):
            for name, values in lists.items():
                core[f"{name}_from"] = begin - forgotten[name]
                begin += len(values)
        machine["inputs_read"] = 0
        for port, steps in enumerate(self.further_steps):
            self.hardware.further[port]["steps_from"] = begin - self.further_forgotten[port]
            begin += len(steps)
        every = np.concatenate([*(values for lists in self.lists for values in lists.values()), *self.further_steps])
        log, hangs = run(self.hardware, every, self.input_frames, final, record)
        if hangs:
            raise CycleError(f"plan {self.plan.name!r}: nothing has moved for {HANG} cycles, at cycle {machine['cycle']}")
        self.input_frames = self.input_frames[machine["inputs_read"] :]
        self.logs.append(by_trace(log, self.stages))

    def cycles(self, frames: int) -> Cycles:
        """What was found."""
        hardware = self.hardware
        return Cycles(
            frames=frames,
            **logged(self.logs, self.stages),
            cores=tuple(
                CoreUse(
                    name=stage.name,
                    **dict(zip(ACTIVITIES, map(int, used), strict=True)),
                    group_fifo=int(core["most_groups"]),
                    pool_fifo=int(core["most_pooled"]),
                    event_fifo=int(core["most_events"]),
                )
                for stage, used, core in zip(self.stages, hardware.used, hardware.cores, strict=True)
            ),
            activity=hardware.activity[:, : int(hardware.machine["cycle"][0])],
        )


def _frame_tokens(stream: Stream) -> Ints:
    """Of each frame, the tokens of the stream before its end."""
    events = np.diff(stream.starts)
    return events + np.diff(stream.flushes.starts) - 1 if stream.flushes else events
