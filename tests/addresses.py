"""What addresses the machine has on which tests run."""

import socket

__all__ = ["has_ipv6"]


def has_ipv6() -> bool:
    """Whether something can listen at ``::1``: kernels know IPv6 on machines that have no such address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
