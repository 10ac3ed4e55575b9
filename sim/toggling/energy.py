"""Energy of toggles: what one costs, where that was measured on the very device.

The source is a table of currents of an iCE40UP5K, the iCEBreaker's device, on its core supply alone: tinyVision.ai, "iCE40 Power
Testing", https://github.com/tinyvision-ai-inc/ice40_power (2020), with the circuits beside it. Differences of its rows say what
flip-flops at a clock cost, what a clock costs that drives few, and what a circuit costs of which our own count says how often
its nets toggle (`measured.v`). A memory's access is not in it: it is priced as in `model.machine.energy`, at 45 nm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from model.machine.energy import memory_pj

__all__ = ["AT_REST_UW", "COEFFICIENTS", "Coefficients", "Energy", "energy"]

_VOLTS, _MHZ = 1.219, 12.0
"""Of the core supply, and of the clock, in the measurement."""


def _pj(microamperes: float) -> float:
    """Picojoules a cycle."""
    return microamperes * _VOLTS / _MHZ


_BLANK, _STANDS, _COUNT_28, _COUNT_56, _COUNT_224, _COUNT_24, _PRODUCT = 85.6, 92.1, 613.5, 616.65, 641.3, 645.0, 996.0
"""Microamperes: without a circuit; with a counter whose clock stands still; with counters of so many bits, the first three on
a clock from outside, that of 24 bits on the oscillator; and with that one and, beside it, two of 8 bits and their product.

The table has "28*2" and "28*8 bit counter" for those of 56 and 224 bits; its circuit has one counter of a width that is set.
"""

_CELLS_56, _CELLS_224 = 60, 228
"""Logic cells that counters take. Of the longer one only bits that never toggle are more."""

PRODUCT_TOGGLES, PRODUCT_REACHED = 17_966 / 256, 58_180 / 256
"""Toggles a cycle of the circuit with the product, without glitches, and how many sinks they reach."""

COUNT_TOGGLES = 20_476 / 4096
"""Toggles a cycle of the counter of 28 bits."""

AT_REST_UW = _BLANK * _VOLTS
"""Microwatts that the device takes configured, without a clock."""


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """What a family's cells take, in picojoules.

    Parameters
    ----------
    toggle : float
        A toggle of a net, of any kind, whatever it reaches; glitches that follow from it included.
    reached : float
        The same for each sink that it reaches: the other reading of the same measurement.
    flip_flop : float
        A flip-flop at each edge of the clock that it takes, whether it changes or not.
    clock : float
        The clock's source and tree, a cycle.
    accesses : Mapping[str, float]
        An access to a memory, by kind.
    """

    toggle: float
    reached: float
    flip_flop: float
    clock: float
    accesses: Mapping[str, float]


def _ice40() -> Coefficients:
    flip_flop = _pj(_COUNT_224 - _COUNT_56) / (_CELLS_224 - _CELLS_56)
    product = _pj(_PRODUCT - _COUNT_24) - 16 * flip_flop
    toggle = product / PRODUCT_TOGGLES
    words = {"block RAM": memory_pj(16, 4 << 10), "large RAM": memory_pj(16, 256 << 10)}
    return Coefficients(
        toggle=toggle,
        reached=product / PRODUCT_REACHED,
        flip_flop=flip_flop,
        clock=_pj(_COUNT_28 - _STANDS) - 28 * flip_flop - COUNT_TOGGLES * toggle,
        accesses={f"{name}, {what}": pj for name, pj in words.items() for what in ("reads", "writes")},
    )


COEFFICIENTS = {"ice40": _ice40()}
"""Of each family for which there is a source. There is none for ECP5."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of a number of cycles, in nanojoules.

    Parameters
    ----------
    nets, nets_by_sinks : float
        Of the toggles: priced by toggle, and by sink that they reach.
    accesses : float
        Of memories.
    flip_flops, clock : float
        Flip-flops' clock inputs, and the clock's source and tree: the same in each cycle, whatever the machine does.
    total : float
        All of it, nets priced by toggle.
    """

    nets: float
    nets_by_sinks: float
    accesses: float
    flip_flops: float
    clock: float
    total: float


def energy(
    family: str, *, toggles: float, reached: float, accesses: Mapping[str, float], flip_flops: int, cycles: float
) -> Energy | None:
    """Energy of what was counted, where there are coefficients for the family.

    Parameters
    ----------
    family : str
        Its name.
    toggles, reached : float
        Of all nets, and the sinks that they reach.
    accesses : Mapping[str, float]
        By kind.
    flip_flops : int
        Of the machine.
    cycles : float
        Of the clock.
    """
    if family not in COEFFICIENTS:
        return None
    pj = COEFFICIENTS[family]
    nets, of_accesses = toggles * pj.toggle, sum(count * pj.accesses[kind] for kind, count in accesses.items())
    of_flip_flops, clock = cycles * flip_flops * pj.flip_flop, cycles * pj.clock
    return Energy(
        nets=nets / 1e3,
        nets_by_sinks=reached * pj.reached / 1e3,
        accesses=of_accesses / 1e3,
        flip_flops=of_flip_flops / 1e3,
        clock=clock / 1e3,
        total=(nets + of_accesses + of_flip_flops + clock) / 1e3,
    )
