"""A clock edge of the pipeline: of every part of a core, and of what is around the cores.

Every part is a function, over the registers of `model.machine.pipeline_registers`. A core's parts come from its end to its
beginning, as whether a part is ready depends on those after it.

A part that holds nothing and is given nothing stays as it is. So does a core but for its walker, which goes on with a walk of
which nothing fires, or with a sweep: then only that is looked at (`_advance_core`). A test holds it equal to all parts' steps.
"""

import numpy as np

from model.machine.cycles import ACTIVITIES
from model.machine.limits import FRAMES_IN_FLIGHT, FRAMES_TO_LEAF, STARTS_UNSEEN, WATCHED_FIFO
from model.machine.registers import ANSWERED, COMPARED, EVENTS, STARTED, WATCHED, draw, write
from model.machine.schedule import END, FLUSH, FLUSHED, OUTSIDE, SILENT
from model.network import MOST_UNITS
from model.support.compiled import inlined, njit

__all__ = ["HANG", "run"]

# A pipeline (`pipe`, `pool_pipe`) is two bits a stage: 0 nothing, 1 a step that fires nothing, 2 one that does.

HANG = 2 * MOST_UNITS
"""Cycles without a transfer on any link after which it is said to hang: more than any event or sweep takes, in any layer."""

_DONE, _LOGGED, _HUNG = range(3)
"""Why a run ends: nothing is to be done, the log is full, it hangs."""

_FOREVER = 1 << 62
"""Cycles that no run has."""

_PLAIN = 0x5555555555555555
"""A pipeline in which each step fires nothing."""

_STARVED, _WORKING, _BLOCKED, _SWEEPING = range(len(ACTIVITIES))


@inlined
def _staged(first, second, comes, goes):  # type: ignore[no-untyped-def]
    """A register stage, of an output register and a second one for what comes while that one waits: both after a clock edge.

    ``comes``: something is given to it, which takes that its second register is free; ``goes``: what it holds is taken.
    """
    waits, arrives = first & (not goes), second | comes
    return waits | arrives, waits & arrives


@inlined
def _serialize(core, lists, gives):  # type: ignore[no-untyped-def]
    """Serializer: an event per cycle into the FIFO; ``gives``: one leaves the output buffer after it.

    Returns whether it takes a group, and whether one enters.
    """
    leaving = core.between != 0
    if core.has_pool:
        leaving = core.pool_output != 0 if core.pool_buffered else core.pooled > 0
    if not core.serializing | core.events | core.event_out | core.output | core.output_second | leaving:
        return True, False
    core.active = 1
    room = core.events != core.event_fifo
    pushes = core.serializing and room
    ready = not core.serializing or (core.serial_left <= 1 and room)
    leaves = leaving and ready
    if ready:
        core.serializing = leaves
        if leaves:
            core.serial_left = lists[core.tokens_from + core.at_leaving]
            core.at_leaving += 1
    elif room:
        core.serial_left -= 1
    out = core.event_out != 0 if core.event_queue else core.events > 0
    pops = out and not core.output_second
    core.output, core.output_second = _staged(core.output, core.output_second, pops, gives)
    moves = pops
    if core.event_queue:
        moves = core.events > 0 and (not out or pops)
        core.event_out = moves or (out and not pops)
    core.events += pushes - moves
    core.most_events = max(core.most_events, core.events)
    return ready, leaves


@inlined
def _pool(core, lists, serializer_ready, leaves):  # type: ignore[no-untyped-def]
    """Max-pool after a register stage; before it the group selector, or the events as they come.

    Returns whether it takes a group, whether there is one, and whether a step of a flush passes.
    """
    neurons = core.has_neurons
    group = (core.selected if neurons else core.buffer) != 0
    holds = core.between | core.between_second | core.pooled | core.pool_output | core.pool_output_second
    if not holds | core.pool_pipe | core.pool_returned | core.pool_outside | core.pool_sweep | group:
        return True, False, False
    core.active = 1
    able = core.pool_credits != 0 and core.pool_sweep == 0
    present = core.between != 0 if neurons else group
    # Before it takes the end of a frame, or a flush within one, a pool that fires deferred visits its windows; and one whose
    # windows overlap visits several before it takes a group.
    flushing = core.pool_visits and present and lists[core.groups_from + core.at_group] <= FLUSHED
    pool_ready = able and not flushing
    ready = core.between_second == 0 if neurons else pool_ready
    pools = able and present
    code, outside = 0, False
    core.pool_sweep -= core.pool_sweep > 0
    if pools:
        events = lists[core.groups_from + core.at_group]
        core.at_group += 1
        if flushing:
            events = FLUSHED - events
        outside = events == OUTSIDE
        code = 0 if outside else 1 if events == 0 else 2
        if events == END:
            core.pool_generation += 1
            if core.pool_generation > core.generations:
                core.pool_generation, core.pool_sweep = 1, core.pool_depth
    out = core.pool_pipe >> 2 * core.pool_cycles - 2
    core.pool_pipe = (core.pool_pipe << 2 | code) & ((1 << 2 * core.pool_cycles) - 1)
    gives = leaves
    if core.pool_buffered:
        gives = core.pooled > 0 and core.pool_output_second == 0
        core.pool_output, core.pool_output_second = _staged(core.pool_output, core.pool_output_second, gives, serializer_ready)
    core.pool_credits += core.pool_returned - pools
    core.pool_returned = gives + (out == 1) + core.pool_outside
    core.pool_outside = outside
    core.pooled += (out == 2) - gives
    core.most_pooled = max(core.most_pooled, core.pooled)
    if neurons:
        core.between, core.between_second = _staged(core.between, core.between_second, group and ready, pool_ready)
    return ready, group, flushing and able


@inlined
def _pass(core, serializer_ready):  # type: ignore[no-untyped-def]
    """Where there is no max-pool the register stage alone. Returns whether it takes a group, and whether there is one."""
    ready, group = core.between_second == 0, core.selected != 0
    if core.between | core.between_second | group:
        core.active = 1
        core.at_group += group and ready
        core.between, core.between_second = _staged(core.between, core.between_second, group and ready, serializer_ready)
    return ready, group


@inlined
def _select(core, lists, taker_ready):  # type: ignore[no-untyped-def]
    """Group selector: the groups of a step that fired, one after the other. Returns whether it takes a step from the FIFO."""
    if not core.groups | core.waiting | core.selecting | core.turning | core.selected:
        return False
    core.active = 1
    selected_ready = not core.selected or taker_ready
    turning_ready = not core.turning or selected_ready
    moves = core.selecting and turning_ready
    ready = not core.selecting or (moves and core.left <= 1)
    selects = (not core.waiting or ready) and core.groups > 0
    if selected_ready:
        core.selected = core.turning
    if turning_ready:
        core.turning = core.selecting
    if ready:
        core.selecting = core.waiting
        if core.waiting:
            core.left = lists[core.fired_groups_from + core.at_step]
            core.at_step += 1
    elif moves:
        core.left -= 1
    if not core.waiting or ready:
        core.waiting = selects
    return selects


@inlined
def _next_fire(core, lists):  # type: ignore[no-untyped-def]
    """Which step of the event that the walker holds is the next that fires; -1 where none does any more."""
    # An end of frame fires (as does a flush within one), so there always is one more that does.
    fires = lists[core.fired_token_from + core.at_fired] == core.at_token - 1
    return lists[core.fired_step_from + core.at_fired] if fires else -1


@inlined
def _begin(core, lists, steps):  # type: ignore[no-untyped-def]
    """The walker takes an event, of so many steps."""
    core.held_steps = steps
    core.last_step = core.flush if steps in (END, FLUSH) else steps - 1
    core.at_token += 1
    core.next_fire = _next_fire(core, lists)


@inlined
def _walk(core, lists, selects):  # type: ignore[no-untyped-def]
    """Walker: a step a cycle while there are credits. Returns whether it takes an event, and what it does."""
    held, sweeps, walks = core.held != 0, core.sweep != 0, core.last_step >= 0
    able = held & (not sweeps)
    issue = able & walks & (core.credits != 0)
    done = (issue & (core.step == core.last_step)) | (able & (not walks))
    doing = _SWEEPING if sweeps else _STARVED if not held else _WORKING if issue | done else _BLOCKED
    code = 0
    core.sweep -= sweeps
    if issue:
        fires = core.step == core.next_fire
        code = 2 if fires else 1
        core.step = 0 if done else core.step + 1
        if fires:
            core.at_fired += 1
            if not done:
                core.next_fire = _next_fire(core, lists)
        if done and core.held_steps == END:
            core.generation += 1
            if core.generation > core.generations:
                core.generation, core.sweep = 1, core.depth
    out = core.pipe >> 2 * core.step_cycles - 2
    core.pipe = (core.pipe << 2 | code) & ((1 << 2 * core.step_cycles) - 1)
    core.credits += core.returned - issue
    core.returned = selects + (out == 1)
    core.groups += (out == 2) - selects
    core.most_groups = max(core.most_groups, core.groups)
    return done | (not held), doing


@inlined
def _fill(port, took):  # type: ignore[no-untyped-def]
    """Input buffer: what the link brings comes in; ``took``: what it holds has been taken."""
    port.buffer, port.buffer_second = _staged(port.buffer, port.buffer_second, port.gets, took)
    port.gets = 0


@inlined
def _fill_further(port, took):  # type: ignore[no-untyped-def]
    """The same of a further input, which may have a queue between the link and its buffer."""
    if port.queue:
        enters, out = port.gets, port.queue_out != 0
        pops = out and not port.buffer_second
        moves = port.queued > 0 and (not out or pops)
        port.queue_out = moves or (out and not pops)
        port.queued += enters - moves
        port.gets = pops
    _fill(port, took)


@inlined
def _merge(core, further, lists, taken):  # type: ignore[no-untyped-def]
    """Merge in front of the walker: an event of the first input that has one; an end, or a flush, once all have brought it.

    Takes what ``taken`` says from the buffers, and fills these. Returns whether there is a token.
    """
    # Which input it is of: -1 for the end of all, -2 for none.
    chosen, all_end, steps = -2, core.buffer != 0, np.int64(0)
    if core.buffer:
        steps = lists[core.steps_from + core.at_input]
        if steps not in (END, FLUSH):
            chosen, all_end = 0, False
    for at in range(core.further_from, core.further_from + core.further):
        port = further[at]
        all_end = all_end and port.buffer != 0
        if port.buffer and chosen == -2:
            found = lists[port.steps_from + port.at_input]
            if found not in (END, FLUSH):
                chosen, steps, all_end = 1 + at - core.further_from, found, False
    if all_end:
        chosen = -1
    if taken and chosen != -2:
        _begin(core, lists, steps)
    took = taken and chosen in (-1, 0)
    core.at_input += took
    _fill(core, took)
    for at in range(core.further_from, core.further_from + core.further):
        port = further[at]
        took = taken and chosen in (-1, 1 + at - core.further_from)
        port.at_input += took
        _fill_further(port, took)
    return chosen != -2


@inlined
def _merge_in_order(core, further, lists, taken):  # type: ignore[no-untyped-def]
    """Merge in front of the walker where barriers keep the order: a token of the input whose turn it is, the end of all.

    Takes what ``taken`` says from the buffers, and fills these. Returns whether there is a token for the walker.
    """
    turn, all_end, present, found = core.turn, core.buffer != 0, core.buffer, np.int64(0)
    if core.buffer:
        found = lists[core.steps_from + core.at_input]
        all_end = found == END
    for at in range(core.further_from, core.further_from + core.further):
        port = further[at]
        at_end = port.buffer != 0 and lists[port.steps_from + port.at_input] == END
        all_end = all_end and at_end
        if turn == 1 + at - core.further_from:
            present = port.buffer
            if present:
                found = lists[port.steps_from + port.at_input]
    steps = found >> 1
    there = present != 0 and found != END
    held = all_end or (there and steps != SILENT)
    # What is not for the walker waits for nothing.
    leaves = there and (taken or steps == SILENT)
    if taken and held:
        _begin(core, lists, END if all_end else steps)
    took = (leaves and turn == 0) or (all_end and taken)
    core.at_input += took
    _fill(core, took)
    for at in range(core.further_from, core.further_from + core.further):
        port = further[at]
        took = (leaves and turn == 1 + at - core.further_from) or (all_end and taken)
        port.at_input += took
        _fill_further(port, took)
    if leaves and found & 1:
        core.turn = 0 if turn == core.further else turn + 1
    return held


@inlined
def _step_core(core, further, lists, gives):  # type: ignore[no-untyped-def]
    """One clock edge of a core; ``gives``: an event leaves its output buffer.

    Returns what the walker does, and whether a group passes after the group selector, and after the max-pool.
    """
    core.active = 0
    pool_sweeps = core.pool_sweep > 0
    serializer_ready, leaves = _serialize(core, lists, gives)
    flushes = False
    if core.has_pool:
        taker_ready, group, flushes = _pool(core, lists, serializer_ready, leaves)
    else:
        taker_ready, group = _pass(core, serializer_ready)
    passes = group and taker_ready
    if core.has_neurons:
        taken, doing = _walk(core, lists, _select(core, lists, taker_ready))
    else:
        taken = taker_ready
        doing = _SWEEPING if pool_sweeps else _WORKING if passes or flushes else _BLOCKED if group else _STARVED
    if core.further:
        held = _merge_in_order(core, further, lists, taken) if core.ordered else _merge(core, further, lists, taken)
        if taken:
            core.held = held
    else:
        held = core.buffer
        if core.has_neurons and taken:
            if held:
                _begin(core, lists, lists[core.steps_from + core.at_input])
                core.at_input += 1
            core.held = held
        _fill(core, taken)
    return doing, passes and core.has_neurons != 0, leaves and core.has_pool != 0


@inlined
def _inputs_stay(core, further):  # type: ignore[no-untyped-def]
    """Whether nothing moves in front of the walker before it takes an event, or one is given to the core."""
    waits = core.buffer
    for at in range(core.further_from, core.further_from + core.further):
        port = further[at]
        waits |= port.buffer
        if port.queue and ((port.queue_out and not port.buffer_second) or (port.queued and not port.queue_out)):
            return False
    # Where barriers keep the order, what is not for the walker goes on without it.
    return not (core.further and core.ordered and waits)


@inlined
def _stays(core, further):  # type: ignore[no-untyped-def]
    """How many cycles a core only goes on as it does, if nothing is given to it, and what its walker does in these."""
    stays, doing = 0, _STARVED
    if core.active | core.groups or not _inputs_stay(core, further):
        return stays, doing
    if core.held and not core.sweep:
        # Steps that fire nothing follow each other: as many leave the pipeline as enter it, and each returns its credit.
        if core.pipe == _PLAIN & ((1 << 2 * core.step_cycles) - 1) and core.returned == 1 and core.credits > 0:
            until = core.last_step if core.next_fire < 0 else min(core.last_step, core.next_fire)
            stays, doing = max(0, until - core.step), _WORKING
    elif not core.pipe | core.returned and (core.held or not core.buffer | core.further):
        stays, doing = (core.sweep, _SWEEPING) if core.sweep else (_FOREVER, _STARVED)
    return stays, doing


@inlined
def _is_given(core, further):  # type: ignore[no-untyped-def]
    """Whether a token comes to any input of a core."""
    gets = core.gets
    for at in range(core.further_from, core.further_from + core.further):
        gets |= further[at].gets
    return gets != 0


@inlined
def _advance_core(core, further, lists, gives):  # type: ignore[no-untyped-def]
    """As `_step_core`, without a look at its parts while it only goes on as before."""
    if core.stays and not _is_given(core, further):
        core.stays -= 1
        core.step += core.doing == _WORKING
        core.sweep -= core.doing == _SWEEPING
        return core.doing, False, False
    found = _step_core(core, further, lists, gives)
    if not core.plain:
        core.stays, core.doing = _stays(core, further)
    return found


@inlined
def _read_takes(machine):  # type: ignore[no-untyped-def]
    """Whether the readout takes a token."""
    return not machine.read_held or not machine.read_is_end or (not machine.comparing and not machine.result_valid)


@inlined
def _host_takes(machine):  # type: ignore[no-untyped-def]
    """Whether the source may offer a token: the one before has gone into the register stage at the door."""
    return not machine.host_valid or not machine.door_second


@inlined
def _give(machine, cores, further, link, reader):  # type: ignore[no-untyped-def]
    """Give a reader of a link its token, if it is ready. Returns whether it is."""
    readout = len(cores)
    if reader < readout:
        ready = cores[reader].buffer_second == 0
        cores[reader].gets |= ready
    elif reader == readout:
        ready = _read_takes(machine)
        machine.read_gets |= ready
    elif reader == readout + 1:
        ready = link.copy_second == 0
        link.copied = ready
    else:
        port = further[reader - readout - 2]
        ready = port.queued != port.queue if port.queue else port.buffer_second == 0
        port.gets |= ready
    return ready


@inlined
def _route(machine, cores, further, links, readers, taken, lists, input_frames):  # type: ignore[no-untyped-def]
    """The router: which links have a token, who takes it, and whether it passes, which is when the last one has taken it."""
    may_start = machine.in_frame or (machine.room and not (machine.inject and machine.nearly_full))
    machine.nearly_full = machine.fullest >= FRAMES_TO_LEAF - 1
    for number in range(len(links) - 1, -1, -1):
        link = links[number]
        link.valid = cores[number - 1].output if number else machine.flush_due or (machine.door and may_start)
        link.passes = link.copied = 0
        if not link.valid:
            continue
        everyone, unwanted = True, 0
        if number and cores[number - 1].barriers:
            unwanted = lists[cores[number - 1].unwanted_from + cores[number - 1].at_unwanted]
        for at in range(link.readers):
            if not taken[number, at]:
                taken[number, at] = unwanted >> at & 1 or _give(machine, cores, further, link, readers[number, at])
            everyone &= taken[number, at]
        link.passes = everyone
        if everyone:
            for at in range(link.readers):
                taken[number, at] = False
        if number:
            cores[number - 1].at_unwanted += cores[number - 1].barriers & link.passes
        # Which tokens are ends of frames: each link counts down its frame's events.
        if link.left < 0:
            if number == 0:
                link.left = input_frames[machine.inputs_read]
                machine.inputs_read += 1
            else:
                core = cores[number - 1]
                link.left = lists[core.frame_events_from + core.at_frame]
                core.at_frame += 1


@inlined
def _read_out(machine, log, spike_is_end):  # type: ignore[no-untyped-def]
    """Readout. Returns whether an answer is found, and whether the host takes one."""
    takes = _read_takes(machine)
    answers = machine.result_valid and machine.result_ready
    compares = machine.comparing and machine.compared == machine.outputs - 1
    ends = machine.read_held and takes and machine.read_is_end
    if machine.comparing:
        machine.compared += 1
    if ends:
        machine.comparing, machine.compared = 1, 0
    if takes:
        machine.read_held, machine.read_is_end = machine.read_gets, machine.read_gets and spike_is_end
    machine.read_gets = 0
    if compares:
        machine.comparing, machine.result_valid = 0, 1
        write(machine, log, COMPARED)
    if answers:
        machine.result_valid = 0
        machine.frames_left -= 1
        write(machine, log, ANSWERED)
    return compares, answers


@inlined
def _count_frames(machine, links, log, compares, record):  # type: ignore[no-untyped-def]
    """Frames under way. Returns whether a token passes on any link."""
    starting = links[0].valid and not machine.in_frame
    if links[0].valid:
        machine.in_frame = 1
    if starting:
        for number in range(len(links)):
            links[number].frames += links[number].leaf
        write(machine, log, STARTED)
    machine.room = machine.starts <= FRAMES_IN_FLIGHT - STARTS_UNSEEN
    machine.starts += machine.began - compares
    machine.began = starting
    moved, ended = False, starting
    for number in range(len(links)):
        link = links[number]
        if not link.passes:
            continue
        moved = True
        if record:
            write(machine, log, EVENTS + number)
        link.left -= 1
        if link.left < 0:
            ended = True
            link.frames -= link.leaf
            if number == 0:
                machine.in_frame = 0
    if ended:
        machine.fullest = 0
        for number in range(len(links)):
            machine.fullest = max(machine.fullest, links[number].frames)
    return moved


@inlined
def _copy(machine, links, log):  # type: ignore[no-untyped-def]
    """Copies for the host: of each link a register stage, the last link first."""
    leaves = machine.watches > 0 and machine.watched_ready
    if leaves:
        write(machine, log, WATCHED)
    has_room = machine.watches != WATCHED_FIFO
    machine.watches -= leaves
    for number in range(len(links) - 1, -1, -1):
        link = links[number]
        turn = link.copy and has_room
        if turn:
            has_room = False
            machine.watches += 1
        link.copy, link.copy_second = _staged(link.copy, link.copy_second, link.copied, turn)


@inlined
def _drive(machine, passes):  # type: ignore[no-untyped-def]
    """The host: a register stage at the door, and the source and sinks of `sim.recorder` outside it."""
    takes, offered = _host_takes(machine), machine.host_valid
    willing = draw(machine)
    if takes:
        machine.host_valid = 0
        if willing and machine.tokens_left:
            machine.host_valid = 1
            machine.tokens_left -= 1
    machine.door, machine.door_second = _staged(machine.door, machine.door_second, takes and offered, passes)


@inlined
def _enters(machine, link):  # type: ignore[no-untyped-def]
    """Flushes among the input's events. Returns whether a token leaves the register stage at the door."""
    if not link.passes:
        return False
    if machine.flush_due:
        machine.flush_due = 0
        return False
    # The link has counted the token already: below 0, it was the frame's end.
    if machine.flush_events:
        machine.flush_count = 0 if link.left < 0 else machine.flush_count + 1
        if machine.flush_count == machine.flush_events:
            machine.flush_count, machine.flush_due = 0, 1
    return True


@inlined
def _busy(machine, links):  # type: ignore[no-untyped-def]
    """Whether anything is on its way."""
    if machine.frames_left | machine.watches:
        return True
    busy = False
    for number in range(len(links)):
        link = links[number]
        busy = busy or link.copy != 0 or link.copy_second != 0 or link.frames != 0
    return busy


@njit(cache=True, nogil=True, _nrt=False)
def _run(hardware, lists, input_frames, final, record, log):  # type: ignore[no-untyped-def]
    """As `run`, as far as the log has room. Returns why it ends."""
    machine, cores, further, links = hardware.machine[0], hardware.cores, hardware.further, hardware.links
    most = 4 + len(links) + 2 * len(cores)
    while not final or _busy(machine, links):
        if not final and _host_takes(machine) and not machine.tokens_left:
            break
        if machine.logged + most > log.shape[1]:
            return _LOGGED
        _route(machine, cores, further, links, hardware.readers, hardware.taken, lists, input_frames)
        compares, answers = _read_out(machine, log, links[machine.output_link].left == 0)
        moved = _count_frames(machine, links, log, compares, record)
        if machine.watching:
            _copy(machine, links, log)
        for number in range(len(cores)):
            doing, selected, pooled = _advance_core(cores[number], further, lists, links[number + 1].passes)
            hardware.used[number, doing] += 1
            if machine.cycle < hardware.activity.shape[1]:
                hardware.activity[number, machine.cycle] = doing
            if record:
                groups = EVENTS + len(links) + 2 * number
                if selected:
                    write(machine, log, groups)
                if pooled:
                    write(machine, log, groups + 1)
        _drive(machine, _enters(machine, links[0]))
        machine.cycle += 1
        machine.quiet = 0 if moved or answers else machine.quiet + 1
        if machine.quiet > HANG:
            return _HUNG
    return _DONE


@njit(cache=True, nogil=True)
def run(hardware, lists, input_frames, final, record):  # type: ignore[no-untyped-def]
    """Cycle after cycle, until the source has no more tokens or, at the end, nothing is on its way.

    Returns the log, trace and cycle of each token, and whether the machine hangs.
    """
    log = np.empty((2, 4096), np.int64)
    machine = hardware.machine[0]
    machine.logged = 0
    end = _run(hardware, lists, input_frames, final, record, log)
    while end == _LOGGED:
        longer = np.empty((2, 2 * log.shape[1]), np.int64)
        longer[:, : log.shape[1]] = log
        log = longer
        end = _run(hardware, lists, input_frames, final, record, log)
    return log[:, : machine.logged], end == _HUNG
