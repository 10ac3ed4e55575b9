"""What happens in each core of a pipeline with barriers, without when: as `model.machine.schedule` has it of one without."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.arrays import Bools, Ints
from model.engine.engine import Stream
from model.machine.barrier_tokens import BARE, Taken, Tokens, inputs_of, leaving, take
from model.machine.barriers import barred, own_level
from model.machine.plan import CorePlan, Plan
from model.machine.schedule import END, FLUSHED, OUTSIDE, SILENT, Schedule, blocks_of_channels, reached, schedule
from model.machine.stages import Stage, stages
from model.network import INPUT, MaxPool, Network, Neurons
from model.projection import Projection

__all__ = ["barred_schedule", "schedules", "tokens_of"]


def schedules(network: Network, plan: Plan, cores: tuple[Stage, ...], streams: dict[str, Stream]) -> list[Schedule]:
    """The schedule of each core, with barriers or without."""
    if not barred(network):
        return [schedule(network, plan, stage, streams) for stage in cores]
    tokens, found = {INPUT: inputs_of(streams[INPUT])}, []
    for stage in cores:
        found.append(barred_schedule(network, plan, stage, streams, tokens))
        leaves = found[-1].leaving
        assert leaves is not None
        tokens[stage.name] = leaves
    return found


def tokens_of(network: Network, plan: Plan, streams: dict[str, Stream]) -> dict[str, Tokens]:
    """Of each layer the tokens that it sends, with barriers where the cores of ``plan`` send them."""
    cores = stages(network)
    found: dict[str, Tokens] = {}
    for stage, of in zip(cores, schedules(network, plan, cores, streams), strict=True):
        assert of.fired is not None and of.leaving is not None
        found |= {stage.layers[0].name: of.fired, stage.name: of.leaving}
    return found


@dataclass(frozen=True)
class _Fired:
    """What fires in the lanes of a core, or comes to a max-pool alone.

    Parameters
    ----------
    spike : Ints
        The spikes in order, and `BARE` behind those of each token that closes something with a step that fires none.
    token : Ints
        Of each the token that is taken.
    group : Ints
        Of each a number that spikes of a token have alike where they are of one group.
    place : Ints
        Of each spike its position in its layer; 0 of the others.
    """

    spike: Ints
    token: Ints
    group: Ints
    place: Ints


def barred_schedule(
    network: Network, plan: Plan, stage: Stage, streams: Mapping[str, Stream], tokens: Mapping[str, Tokens]
) -> Schedule:
    """The schedule of one core.

    Parameters
    ----------
    network, plan, stage : Network, Plan, Stage
        Which core.
    streams : mapping of str to Stream
        Of `model.engine.engine.run_streams`.
    tokens : mapping of str to Tokens
        Of each link before it what passes there.
    """
    first, last = stage.layers[0], stage.layers[-1]
    taken = take(network, first, tokens)
    merged, frames = taken.merged, len(streams[INPUT].starts) - 1
    steps: tuple[Ints, ...] = ()
    fired_token = fired_step = fired_groups = np.zeros(0, np.int64)
    if isinstance(first, Neurons):
        core = plan.core(first.name)
        walks = [_Walks.of(network, each, core, streams[each.source]) for each in first.inputs]
        given = _given_steps(network, first, taken, walks)
        steps = tuple(_with_ends(values, each.frame, frames) for values, each in zip(given.listed, taken.inputs, strict=True))
        fired, step = _fired(network, first, core, taken, walks, given.walked, streams)
    else:
        place = streams[first.source].address // network.shape_of(first.source).channels
        every = np.arange(len(merged.spike))
        fired = _Fired(merged.spike, every, every, np.where(merged.spike == BARE, 0, np.append(place, 0)[merged.spike]))
        step = np.zeros_like(every)
    new_step = _changes(fired.token, step)
    new_group = new_step | _changes(fired.group)
    at = np.flatnonzero(new_group)
    token = fired.token[at]
    # What closes does behind the last group of its token.
    closes = np.where(np.append(token[1:] != token[:-1], True)[: len(token)], merged.closes[token], 0)
    spikes = leaving(_sums((fired.spike != BARE).astype(np.int64), at), closes, merged.frame[token])
    leaves, outside = (fired.spike != BARE).astype(np.int64), np.zeros(len(fired.spike), bool)
    if isinstance(last, MaxPool):
        leaves, outside = _pooled(network, last, streams, fired)
    sums, beyond, of_frame, last_visit = _sums(leaves, at), outside[at], merged.frame[token], np.ones(len(at), bool)
    if isinstance(last, MaxPool) and last.overlapping:
        # Here each spike is a group, and a visit to each of its windows; what closes does with the last one.
        visits, sums = _visits(network, last, streams, fired)
        last_visit = np.append(np.diff(visits) != 0, True)[: len(visits)]
        closes, of_frame, beyond = np.where(last_visit, closes[visits], 0), of_frame[visits], beyond[visits]
    groups = np.where(beyond & (closes == 0), OUTSIDE, np.maximum(sums, closes > 0))
    groups = np.where(last_visit, groups, FLUSHED - sums)
    if isinstance(first, Neurons):
        firsts = np.flatnonzero(new_step)
        frame_of = merged.frame[fired.token[firsts]]
        ends = np.cumsum(np.bincount(merged.frame, minlength=frames)) + np.arange(frames)
        fired_token = _with_ends(fired.token[firsts] + frame_of, frame_of, frames, ends)
        fired_step = _with_ends(step[firsts], frame_of, frames, 0)
        fired_groups = _with_ends(_sums(new_group.astype(np.int64), firsts), frame_of, frames, 1)
    return Schedule(
        steps=steps,
        fired_token=fired_token,
        fired_step=fired_step,
        fired_groups=fired_groups,
        groups=_with_ends(groups, of_frame, frames),
        walked=len(merged.spike) + frames,
        fired=spikes,
        leaving=leaving(sums, closes, of_frame),
    )


@dataclass(frozen=True)
class _Walks:
    """Of each event of an input, and last of a barrier alone: the first row, column and block of channels that it reaches, the
    steps to a row, the blocks at a position, and all of its steps but for what it closes."""

    row: Ints
    column: Ints
    block: Ints
    column_steps: Ints
    blocks: Ints
    steps: Ints

    @classmethod
    def of(cls, network: Network, taker: Projection, core: CorePlan, source: Stream) -> "_Walks":
        shape = network.shape_of(taker.source)
        (row, rows), (column, columns) = (reached(taker, shape, axis) for axis in (0, 1))
        block, blocks = blocks_of_channels(taker, shape, core)
        place, c = np.divmod(source.address, shape.channels)
        y, x = np.divmod(place, shape.width)
        down, across = -(-rows // core.rows), -(-columns // core.columns)
        found = (row[y], column[x], block[c], across[x], blocks[c], down[y] * across[x] * blocks[c])
        return cls(*(np.append(values, 0).astype(np.int64) for values in found))


@dataclass(frozen=True)
class _Given:
    """Of each input's tokens the steps as the cycle model has them listed; of each token that is walked its steps."""

    listed: list[Ints]
    walked: Ints


def _given_steps(network: Network, layer: Neurons, taken: Taken, walks: list[_Walks]) -> _Given:
    listed, walked, merges = [], [], len(taken.inputs) > 1
    for number, (each, goes_on, walk) in enumerate(zip(taken.inputs, taken.goes_on, walks, strict=True)):
        closes = each.closes
        if merges:
            is_last = number == len(taken.inputs) - 1
            closes = np.maximum(0, closes - own_level(network, layer)) if is_last else np.zeros_like(closes)
        # What closes behind an event that reaches nothing takes a step of its own.
        steps = np.maximum(walk.steps[each.spike], closes > 0)
        walked.append(steps)
        listed.append(2 * np.where(goes_on, steps, SILENT) + (each.closes > 0) if merges else steps)
    return _Given(listed, _of_merged(taken, walked))


def _of_merged(taken: Taken, by_input: list[Ints]) -> Ints:
    """Values of each input's tokens, of those that are taken and in their order."""
    firsts = np.cumsum([0, *(len(each.spike) for each in taken.inputs[:-1])])
    return np.concatenate(by_input)[firsts[taken.number] + taken.index]


def _fired(
    network: Network,
    layer: Neurons,
    core: CorePlan,
    taken: Taken,
    walks: list[_Walks],
    walked: Ints,
    streams: Mapping[str, Stream],
) -> tuple[_Fired, Ints]:
    """What fires in the lanes, and in which step of its token's walk."""
    merged, spikes, shape = taken.merged, streams[layer.name], network.shape_of(layer.name)
    row, column, first_block, column_steps, blocks = (
        _of_merged(taken, [getattr(walk, name)[each.spike] for walk, each in zip(walks, taken.inputs, strict=True)])
        for name in ("row", "column", "block", "column_steps", "blocks")
    )
    starts = np.sum([streams[source].starts for source in layer.sources], axis=0)
    token = np.flatnonzero(merged.spike != BARE)[starts[spikes.frame] + spikes.cause]
    place, c = np.divmod(spikes.address.astype(np.int64), shape.channels)
    y, x = np.divmod(place, shape.width)
    step = (y - row[token]) // core.rows * column_steps[token] + (x - column[token]) // core.columns
    step = step * blocks[token] + c // core.channels - first_block[token]
    block, c = np.divmod(c, core.channels)
    group = (place * -(-shape.channels // core.channels) + block) * core.chunks + c // core.group_channels
    # What closes does with the last step of a walk, alone where that fires nothing.
    fires = np.bincount(token[step == walked[token] - 1], minlength=len(merged.spike)) > 0
    alone = np.flatnonzero((merged.closes > 0) & ~fires)
    blank = np.full(len(alone), BARE)
    order = np.argsort(np.concatenate([token, alone]), kind="stable")
    return (
        _Fired(
            spike=np.concatenate([np.arange(len(token)), blank])[order],
            token=np.concatenate([token, alone])[order],
            group=np.concatenate([group, blank])[order],
            place=np.concatenate([place, np.zeros_like(alone)])[order],
        ),
        np.concatenate([step, walked[alone] - 1])[order],
    )


def _pooled(network: Network, pool: MaxPool, streams: Mapping[str, Stream], fired: _Fired) -> tuple[Ints, Bools]:
    """Of each spike that comes to a max-pool what leaves for it, and whether it is beyond all windows."""
    shape, source, pooled = network.shape_of(pool.source), streams[pool.source], streams[pool.name]
    counts = np.bincount(source.starts[pooled.frame] + pooled.cause, minlength=len(source.address))
    bare = fired.spike == BARE
    inside = [reached(pool, shape, axis)[1] > 0 for axis in (0, 1)]
    y, x = np.divmod(fired.place, shape.width)
    return np.where(bare, 0, np.append(counts, 0)[fired.spike]), ~bare & ~(inside[0][y] & inside[1][x])


def _visits(network: Network, pool: MaxPool, streams: Mapping[str, Stream], fired: _Fired) -> tuple[Ints, Ints]:
    """Of each visit of a spike to a window, or of a barrier, whose it is and how many spikes leave for it."""
    shape, source, pooled = network.shape_of(pool.source), streams[pool.source], streams[pool.name]
    (first_row, rows), (first_column, columns) = (reached(pool, shape, axis) for axis in (0, 1))
    y, x = np.divmod(fired.place, shape.width)
    visits = np.where(fired.spike == BARE, 1, np.maximum(1, rows[y] * columns[x]))
    of = np.flatnonzero(fired.spike != BARE)[source.starts[pooled.frame] + pooled.cause]
    pooled_shape = network.shape_of(pool.name)
    window_y, window_x = np.divmod(pooled.address // pooled_shape.channels, pooled_shape.width)
    visit = (window_y - first_row[y[of]]) * columns[x[of]] + window_x - first_column[x[of]]
    leaves = np.bincount((np.cumsum(visits) - visits)[of] + visit, minlength=int(visits.sum()))
    return np.repeat(np.arange(len(visits)), visits), leaves


def _changes(*of: Ints) -> Bools:
    """Whether any of these is another than in the place before; the first is."""
    found = np.ones(len(of[0]), bool)
    found[1:] = np.any([values[1:] != values[:-1] for values in of], axis=0)
    return found


def _sums(values: Ints, at: Ints) -> Ints:
    return np.add.reduceat(values, at) if len(at) else values[:0]


def _with_ends(values: Ints, frame: Ints, frames: int, end: Ints | int = END) -> Ints:
    """``values``, each of a frame, with one more after each frame."""
    return np.insert(values, np.cumsum(np.bincount(frame, minlength=frames)), end)
