"""Where the demo and the virtual board listen: on this machine alone, unless told otherwise, and then who can reach them."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import click

from model.support.cli import tell
from model.support.errors import BadInputError

__all__ = ["LOOPBACK", "listen_option", "tell_reach", "url_host"]

LOOPBACK = "127.0.0.1"
"""The address at which only this machine reaches what listens. It is said as a number: which address ``localhost`` is, and who
listens at the other one, other users of the machine may decide."""


class _Address(click.ParamType):
    """The type of options that take an address of this machine, as a number."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            raise BadInputError(
                f"--listen must be an address of this machine such as {LOOPBACK}, ::1 or 0.0.0.0, not {value!r}"
            ) from None


listen_option = click.option(
    "--listen", default=LOOPBACK, show_default=True, type=_Address(), help="Address to listen at; 0.0.0.0 for every network."
)
"""The option that says where to listen."""


def tell_reach(address: str) -> None:
    """Warn in one line of who can reach what listens at an address; of the loopback address there is nothing to say."""
    found = ip_address(address)
    if not found.is_loopback:
        where = "this machine over any network" if found.is_unspecified else str(found)
        tell(warnings=[f"--listen {found}: whoever reaches {where} can use this board: it asks for no password"])


def url_host(address: str | IPv4Address | IPv6Address) -> str:
    """How an address stands in a URL; loopback in place of every address."""
    found = ip_address(address)
    if found.is_unspecified:
        found = ip_address(LOOPBACK if found.version == 4 else "::1")
    return f"[{found}]" if found.version == 6 else str(found)
