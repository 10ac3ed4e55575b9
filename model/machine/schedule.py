"""What happens in each core, without when: the steps, spike groups and events that a machine's cycles are counted over.

The golden model says which neurons fire; the plan says how the fan-out of an event is cut into steps. Together they give,
for every core, the tokens that pass its parts, in order. `model.machine.pipeline_cycles` adds time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Ints
from model.engine.engine import Stream
from model.machine.barrier_tokens import Tokens
from model.machine.plan import CorePlan, Plan
from model.machine.stages import Stage, blocks_reached, core_plan, flush_columns, flush_steps
from model.network import Layer, MaxPool, Network, Neurons
from model.projection import Projection, Shape

__all__ = [
    "END",
    "FLUSH",
    "FLUSHED",
    "OUTSIDE",
    "SILENT",
    "Schedule",
    "blocks_of_channels",
    "mean_visits",
    "reached",
    "schedule",
    "state_words",
]

END = -1
"""Marks an end of frame, among steps and among groups."""

OUTSIDE = -2
"""Marks a group at a position that no window of the max-pool has."""

FLUSH = -3
"""Marks a flush within a frame, among steps and among groups."""

FLUSHED = -4
"""Marks a step of a max-pool's flush, or a group's visit to a window before its last one: less the spikes that leave for it."""

SILENT = -5
"""Marks a barrier alone that goes no further than a merge, among steps."""


@dataclass(frozen=True)
class Schedule:
    """The tokens of one core over some frames.

    Parameters
    ----------
    steps : tuple of Ints
        Of each input, and of each of its tokens, the steps of its walk; `END` for an end of frame, `FLUSH` for a flush within one
        (whose steps are `flush_steps`, and one). Where barriers order a merge, twice that, and one more where the token ends its
        input's turn; `SILENT` in place of steps where the token is not for the walker.
    fired_token, fired_step : Ints
        Of each step that fires (and of each `END` and `FLUSH`), its input token and its number in the walk. Of several inputs
        tokens count together, and an `END` or `FLUSH` of all of them once: before it stand the events of all.
    fired_groups : Ints
        Of each of these, the groups of spikes that it makes; 1 for `END` and `FLUSH`.
    groups : Ints
        Of each of those groups, in order, the tokens that leave the core for it; `END`, `FLUSH`, or `OUTSIDE`. Where a max-pool
        fires deferred, before each `END` and `FLUSH` the steps of its flush: `FLUSHED` less the spikes that leave for each. Where
        its windows overlap, the same before each group of its visits but the last.
    walked : int
        The tokens that the walker takes.
    fired, leaving : Tokens or None
        What fires in its first layer, and what leaves the core, where there are barriers.

    A max-pool alone has no steps: each event is a group.
    """

    steps: tuple[Ints, ...]
    fired_token: Ints
    fired_step: Ints
    fired_groups: Ints
    groups: Ints
    walked: int
    fired: Tokens | None = None
    leaving: Tokens | None = None

    @property
    def tokens(self) -> Ints:
        """Of each group that leaves the core, its events; 1 for an end of frame and for a flush within one."""
        events = np.where(self.groups <= FLUSHED, FLUSHED - self.groups, self.groups)
        leaving = events[(events > 0) | (events == END) | (events == FLUSH)]
        return np.where(leaving < 0, 1, leaving)


def state_words(layer: Layer, network: Network, core: CorePlan) -> int:
    """Words of the deepest bank of a core's state, which is what a sweep takes. A max-pool has one bank, and a word per group."""
    shape = network.shape_of(layer.name)
    if isinstance(layer, MaxPool):
        return shape.height * shape.width * len(core.firsts(shape.channels))
    blocks = -(-shape.channels // core.channels)
    return -(-shape.height // core.rows) * -(-shape.width // core.columns) * blocks


def schedule(network: Network, plan: Plan, stage: Stage, streams: dict[str, Stream]) -> Schedule:
    """The schedule of one core.

    Parameters
    ----------
    network, plan, stage : Network, Plan, Stage
        Which core.
    streams : dict of str to Stream
        Of `model.engine.engine.run_streams`.
    """
    first, last = stage.layers[0], stage.layers[-1]
    source = streams[stage.source]
    steps: tuple[Ints, ...] = ()
    if isinstance(first, Neurons):
        core = plan.core(first.name)
        rows, columns = (reached(first, network.shape_of(first.source), axis) for axis in (0, 1))
        _, width, channels = network.shape_of(first.source)
        in_y, in_x = np.divmod(source.address // channels, width)
        blocks = -(-network.shape_of(first.name).channels // core.channels)
        column_steps = -(-columns[1] // core.columns)
        steps = tuple(_steps(network, taker, core, streams[taker.source]) for taker in first.inputs)
        # Of several inputs each brings its ends, which are one.
        ends_of = np.sum([_ends(streams[name]) for name in first.sources], axis=0)
        spikes = streams[first.name]
        height_width = network.shape_of(first.name)
        place, c = np.divmod(spikes.address, height_width.channels)
        y, x = np.divmod(place, height_width.width)
        # Of each spike, how many ends (deferred: flushes, which all layers have alike) came before it.
        ends = np.repeat(np.arange(len(_ends(spikes))), np.diff(_ends(spikes), prepend=0))
        if network.deferred:
            # All of it at a flush, position after position.
            event = ends_of[ends]
            columns_of_step = flush_columns(core, blocks)
            step = y * -(-height_width.width // columns_of_step) + x // columns_of_step
            step = step * blocks + c // core.channels
        else:
            event = source.starts[ends] + spikes.cause
            step = (y - rows[0][in_y[event]]) // core.rows * column_steps[in_x[event]]
            step += (x - columns[0][in_x[event]]) // core.columns
            first_block, blocks_of = blocks_of_channels(first, network.shape_of(first.source), core)
            in_c = source.address[event] % channels
            step = step * blocks_of[in_c] + c // core.channels - first_block[in_c]
        token = _with_ends(event + ends, spikes, ends_of + np.arange(len(ends_of)))
        step = _with_ends(step, spikes, flush_steps(network, first, core))
        block, c = np.divmod(c, core.channels)
        group = (place * blocks + block) * core.chunks + c // core.group_channels
        group = _with_ends(group, spikes, END)
    else:
        spikes = source
        place = source.address // network.shape_of(stage.source).channels
        token = np.arange(len(source.address) + len(_ends(source)))
        step = np.zeros_like(token)
        group = _with_ends(place, source, END)
    leaves = np.ones(len(spikes.address), np.int64)
    if isinstance(last, MaxPool):
        pooled = streams[last.name]
        if network.deferred:
            leaves[:] = 0
        else:
            before = np.repeat(spikes.starts[:-1], np.diff(pooled.starts))
            leaves = np.bincount(before + pooled.cause, minlength=len(spikes.address))
        windows = [reached(last, network.shape_of(last.source), axis)[1] > 0 for axis in (0, 1)]
        y, x = np.divmod(place, network.shape_of(last.source).width)
        leaves[~(windows[0][y] & windows[1][x])] = OUTSIDE
    leaves = _with_ends(leaves, spikes, _marks(spikes))

    # A step's spikes follow each other, and within it those of a group.
    new_step = np.ones(len(token), bool)
    new_step[1:] = (token[1:] != token[:-1]) | (step[1:] != step[:-1])
    new_group = new_step.copy()
    new_group[1:] |= group[1:] != group[:-1]
    at = np.flatnonzero(new_group)
    groups = np.add.reduceat(leaves, at) if len(at) else leaves
    groups = np.where(leaves[at] < 0, leaves[at], groups)
    if isinstance(last, MaxPool) and last.overlapping:
        groups = _with_visits(network, last, streams, groups, _with_ends(place, spikes, END)[at])
    if network.deferred and isinstance(last, MaxPool):
        groups = _with_flushes(network, last, core_plan(network, plan, stage), streams[last.name], groups)
    firsts = np.flatnonzero(new_step)
    of_step = np.add.reduceat(new_group.astype(np.int64), firsts) if len(firsts) else firsts
    if not isinstance(first, Neurons):
        firsts = of_step = np.zeros(0, np.int64)
    # Of several inputs an end is one of all of them.
    walked = sum(int((more >= 0).sum()) for more in steps[1:]) + len(steps[0]) if steps else 0
    return Schedule(steps, token[firsts], step[firsts], of_step, groups, walked)


def _steps(network: Network, taker: Projection, core: CorePlan, source: Stream) -> Ints:
    """Of each token of an input the steps of its walk, `END` or `FLUSH`."""
    shape = network.shape_of(taker.source)
    rows, columns = (reached(taker, shape, axis)[1] for axis in (0, 1))
    place, c = np.divmod(source.address, shape.channels)
    y, x = np.divmod(place, shape.width)
    blocks = blocks_of_channels(taker, shape, core)[1][c]
    return _with_ends(-(-rows // core.rows)[y] * -(-columns // core.columns)[x] * blocks, source, _marks(source))


def blocks_of_channels(taker: Projection, shape: Shape, core: CorePlan) -> tuple[Ints, Ints]:
    """Of each channel of an input, the first block of channels that its events visit at a position, and how many."""
    found = blocks_reached(taker, shape, core)
    return np.array([blocks.start for blocks in found]), np.array([len(blocks) for blocks in found])


def mean_visits(pool: MaxPool, shape: Shape, events: npt.NDArray[Any]) -> float:
    """Windows that an event visits in the mean; of ``events`` there are so many of each unit of the pool's source."""
    rows, columns = (reached(pool, shape, axis)[1] for axis in (0, 1))
    visits = np.maximum(1, np.outer(rows, columns))[:, :, None]
    total = events.sum()
    return float((events * visits).sum() / total) if total else 1.0


def _with_visits(network: Network, pool: MaxPool, streams: dict[str, Stream], groups: Ints, places: Ints) -> Ints:
    """``groups``, of which each visits all windows that its position is in: before it those but the last."""
    shape, pooled_shape = network.shape_of(pool.source), network.shape_of(pool.name)
    (first_row, rows), (first_column, columns) = (reached(pool, shape, axis) for axis in (0, 1))
    y, x = np.divmod(np.maximum(places, 0), shape.width)
    visits = np.where(places < 0, 1, np.maximum(1, rows[y] * columns[x]))
    last = np.cumsum(visits) - 1
    leaving = np.zeros(visits.sum(), np.int64)
    if not network.deferred:
        # Spikes come one at a time, as groups of their own.
        source, pooled = streams[pool.source], streams[pool.name]
        of = np.flatnonzero(places >= 0)[np.repeat(source.starts[:-1], np.diff(pooled.starts)) + pooled.cause]
        window_y, window_x = np.divmod(pooled.address // pooled_shape.channels, pooled_shape.width)
        visit = (window_y - first_row[y[of]]) * columns[x[of]] + window_x - first_column[x[of]]
        leaving = np.bincount(last[of] - visits[of] + 1 + visit, minlength=len(leaving))
    found = FLUSHED - leaving
    found[last] = np.where(groups < 0, groups, leaving[last])
    return found


def _with_flushes(network: Network, pool: MaxPool, core: CorePlan, pooled: Stream, groups: Ints) -> Ints:
    """``groups`` with the steps of the pool's flush before each end of a frame, and each flush within one."""
    shape, flushes = network.shape_of(pool.name), len(_ends(pooled))
    firsts, steps = core.firsts(shape.channels), flush_steps(network, pool, core)
    place, c = np.divmod(pooled.address, shape.channels)
    step = place * len(firsts) + np.searchsorted(firsts, c, side="right") - 1
    flush = np.repeat(np.arange(flushes), np.diff(_ends(pooled), prepend=0))
    leaving = np.bincount(flush * steps + step, minlength=flushes * steps)
    return np.insert(groups, np.repeat(np.flatnonzero((groups == END) | (groups == FLUSH)), steps), FLUSHED - leaving)


def _ends(stream: Stream) -> Ints:
    """Of each frame's end, and of each flush within one, the events of the stream before it."""
    return stream.flushes.after if stream.flushes else stream.starts[1:]


def _marks(stream: Stream) -> Ints | int:
    """`END` or `FLUSH`, of each of `_ends`."""
    if not stream.flushes:
        return END
    marks = np.full(len(stream.flushes.after), FLUSH, np.int64)
    marks[stream.flushes.starts[1:] - 1] = END
    return marks


def _with_ends(values: npt.NDArray[Any], stream: Stream, end: Any) -> Ints:
    """``values``, one of each event of the stream, with one more at each of its `_ends`."""
    ends = _ends(stream)
    found = np.empty(len(values) + len(ends), np.int64)
    is_end = np.zeros(len(found), bool)
    is_end[ends + np.arange(len(ends))] = True
    found[~is_end], found[is_end] = values, end
    return found


def reached(taker: Layer | Projection, shape: Shape, axis: int) -> tuple[Ints, Ints]:
    """Of each coordinate of a source of ``shape``, the first output coordinate that it reaches, and how many."""
    found = taker.taps(shape, axis)
    return np.array([pairs[0][0] if pairs else 0 for pairs in found]), np.array([len(pairs) for pairs in found])
