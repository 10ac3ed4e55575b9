"""Where the demo and the virtual board listen, and what they say of it."""

import click
import pytest
from click.testing import CliRunner

from boards.demo import main as demo
from boards.listening import listen_option, tell_reach, url_host
from boards.virtual import main as virtual
from model.support.cli import command


@command(help="A command.")
@listen_option
def main(listen):
    tell_reach(listen)
    click.echo(url_host(listen))


@pytest.mark.parametrize(
    ("arguments", "host", "warned"),
    [
        ([], "127.0.0.1", None),
        (["--listen", "127.0.0.7"], "127.0.0.7", None),
        (["--listen", "::1"], "[::1]", None),
        (["--listen", "0.0.0.0"], "127.0.0.1", "0.0.0.0: whoever reaches this machine over any network"),
        (["--listen", "::"], "[::1]", "::: whoever reaches this machine over any network"),
        (["--listen", "192.0.2.7"], "192.0.2.7", "192.0.2.7: whoever reaches 192.0.2.7"),
    ],
)
def test_who_can_reach_it(arguments, host, warned):
    found = CliRunner().invoke(main, arguments)
    assert (found.exit_code, found.stdout) == (0, f"{host}\n")
    assert found.stderr == ("" if warned is None else f"warning: --listen {warned} can use this board: it asks for no password\n")


@pytest.mark.parametrize("each", [demo, virtual])
@pytest.mark.parametrize("value", ["localhost", "", "0", "evil.example", "127.0.0.1:80", "\x1b[2J"])
def test_what_is_no_address(each, value):
    found = CliRunner().invoke(each, ["--listen", value])
    message = f"error: --listen must be an address of this machine such as 127.0.0.1, ::1 or 0.0.0.0, not {value!r}\n"
    assert (found.exit_code, found.stderr) == (2, message)
