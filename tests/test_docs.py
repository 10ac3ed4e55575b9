"""README and docs: their links lead somewhere, and the commands and options that they show exist."""

import importlib
import itertools
import pkgutil
import re
import shlex
from pathlib import Path

import click
import pytest

from boards.tally import COMMANDS
from hw.link.protocol import PROTOCOL_VERSION

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULES = {module for module, _ in COMMANDS.values()} | {"dask"}
SHOWN = re.compile(r"(?:python -m (?P<module>[\w.]+)|\btally (?P<name>[a-z-]+))(?P<rest>[^`#|&;)\n]*(?:\\\n[^`#|&;)\n]*)*)")


def heading_anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def command_of(words: list[str], module: str) -> tuple[click.Command, str]:
    """The command that is shown, a group's where ``words`` name one; and what it is called in messages."""
    if module == "dask":
        return importlib.import_module(f"distributed.cli.dask_{words[0]}").main, f"{module} {words[0]}"
    command = importlib.import_module(module).main
    name = module
    if isinstance(command, click.Group) and words and words[0] in command.commands:
        return command.commands[words[0]], f"{module} {words[0]}"
    return command, name


def wrong_words(module: str, rest: str) -> list[str]:
    """The options of a shown command that there are not, and values of choices that are none."""
    text = rest.replace("\\\n", " ")
    words = [word.strip("[],.:") for word in shlex.split(text, posix=False)]
    command, _ = command_of(words, module)
    known = {option: parameter for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    wrong = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in {*known, "--help"}]
    for option, value in itertools.pairwise(words):
        parameter = known.get(option)
        if parameter is not None and isinstance(parameter.type, click.Choice) and re.fullmatch(r"[a-z0-9]+", value):
            wrong += [f"{option} {value}"] if value not in parameter.type.choices else []
    return wrong


def shown(page: Path) -> list[tuple[str, str]]:
    """Module and words of each command that the page shows."""
    found = []
    for match in SHOWN.finditer(page.read_text()):
        module = match["module"] or COMMANDS.get(match["name"], (None,))[0]
        if match["module"] or module:
            found.append((module, match["rest"]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_somewhere(page):
    text = CODE.sub("", FENCED.sub("", page.read_text()))
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in heading_anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_exist(page):
    commands = shown(page)
    assert [module for module, _ in commands if module not in MODULES] == []
    assert [(module, word) for module, rest in commands for word in wrong_words(module, rest)] == []


def test_what_is_checked_is_there():
    """The pages show most commands, so that the patterns above find something."""
    found = {module for page in PAGES for module, _ in shown(page)}
    assert found >= {"model.check", "model.convert", "model.evaluate", "model.estimate", "sim.verify", "hw.build", "boards.host"}
    assert wrong_words("hw.build", " net.npz --net x --seeds 3") == ["--net"]
    assert wrong_words("sim.verify", " NET --level silicon") == ["--level silicon"]
    assert wrong_words("boards.host", " selftest net.npz --port x --freq 3") == ["--freq"]


def test_all_commands_are_listed():
    table = (ROOT / "docs" / "reference" / "commands.md").read_text()
    for name, (module, what) in COMMANDS.items():
        assert f"| `{name}` | `{module}` | {what} |" in table


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_are_named_are_there(page):
    """Paths that begin with one of the five folders; a name in capitals stands for any."""
    named = re.findall(r"(?<![\w/.])(?:model|hw|sim|boards|tests|docs)/[a-z0-9_./*-]*[a-z0-9_*](?![A-Z])", page.read_text())
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown_targets = re.findall(r"(?:`|^ {4,})make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert [target for target in shown_targets if target not in targets] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_names_in_code_quotes_are_there(page):
    """Dotted names in code quotes that begin with one of the packages."""
    named = re.findall(r"`((?:model|hw|sim|boards)(?:\.[A-Za-z_]\w*)+)`", page.read_text())
    assert [name for name in named if not _exists(name)] == []


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_link_is_documented_in_its_version():
    assert f"This is version {PROTOCOL_VERSION}:" in (ROOT / "docs" / "link.md").read_text()


def test_pages_load_nothing_from_elsewhere():
    for page in PAGES:
        assert re.findall(r"!\[[^\]]*\]\(https?:", page.read_text()) == []
    for picture in ROOT.glob("docs/img/*.svg"):
        assert re.findall(r"(?:href|src)=\"https?:|url\(https?:|@import", picture.read_text()) == []
