"""What a device answers when it is asked who it is."""

from hw.link.protocol import IDENTITY, PLAN_HASH_BYTES, PLAN_NAME_BYTES, PROTOCOL_VERSION, Capability, event_bytes, takes_bits
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.network import Network

__all__ = ["identity"]


def identity(network: Network, plan: Plan, clock_hz: float, loads: Folded | None) -> bytes:
    """Payload of the answer to IDENTIFY."""
    can = {
        Capability.WATCH: plan.watch,
        Capability.STATES: plan.states,
        Capability.LOADS: loads,
        Capability.INJECT: plan.inject,
        Capability.BITS: takes_bits(network),
        Capability.WEIGHT_CHECK: plan.weight_check,
    }
    return IDENTITY.pack(
        PROTOCOL_VERSION,
        event_bytes(network),
        sum(capability for capability, is_so in can.items() if is_so),
        bytes.fromhex(network.content_hash)[:8],
        *network.input_shape,
        network.outputs,
        *((loads.single_state_words, loads.single_weight_words) if loads else (0, 0)),
        round(clock_hz),
        bytes.fromhex(plan.content_hash)[:PLAN_HASH_BYTES],
    ) + plan.name.encode()[:PLAN_NAME_BYTES]
