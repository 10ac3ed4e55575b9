"""A property: what it is proved of, for which parameters, how, and the fault that the same proof must find."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from sim.formal.bench import Bench
from sim.formal.faults import edited
from sim.formal.prover import Outcome, cover, induct, search, translate

__all__ = ["Check", "Checked", "Fault", "Property", "checks"]

Build = Callable[..., None]
"""States a property on a bench, of what a module has, for the parameters of a case."""

_STATING = Lock()
"""Held while a property is stated: names of the part's module may stand for others meanwhile, and proofs run side by side."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A small change of the source, by which the property fails.

    Parameters
    ----------
    says : str
        What is wrong, in a few words.
    right, wrong : str
        What stands in the source, and what takes its place.
    steps : int
        Cycles within which it shows.
    case : int
        Which of the property's cases it is planted in.
    """

    says: str
    right: str
    wrong: str
    steps: int
    case: int = 0

    def planted(self, module: ModuleType) -> ModuleType:
        """The module with the fault.

        Raises
        ------
        ValueError
            Its source has no such place, or several.
        """
        text = Path(str(module.__file__)).read_text()
        if (count := text.count(self.right)) != 1:
            raise ValueError(f"{module.__name__} must have {self.right!r} once, not {count} times")
        return edited(module, text.replace(self.right, self.wrong))


@dataclass(frozen=True, kw_only=True)
class Property:
    """A property of a part.

    Parameters
    ----------
    name : str
        What is proved, in a few words.
    module : ModuleType
        The source that has the part.
    part : str
        Name of the part in it.
    bound : str
        For which parameters.
    build : Callable
        ``build(bench, module, **case)``.
    cases : Sequence[Mapping[str, Any]]
        The parameters. The first case is one of the fastest.
    reach : int
        Cycles within which all that must be possible happens.
    fault : Fault
        A change that is found.
    steps : int
        Cycles in which all holds from which the next one follows; as many are searched from the start.
    more_faults : Sequence[Fault]
        Further changes that are found.
    """

    name: str
    module: ModuleType
    part: str
    bound: str
    build: Build
    cases: Sequence[Mapping[str, Any]]
    reach: int
    fault: Fault
    steps: int = 1
    more_faults: Sequence[Fault] = ()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All changes that must be found."""
        return (self.fault, *self.more_faults)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What became of a check.

    Parameters
    ----------
    failed : str
        What fails, and where; empty where all is proved, or the fault is found.
    of_fault : bool
        Whether it is a planted fault that was searched for.
    asserts : int
        Assertions.
    seconds : float
        Processor time.
    """

    failed: str
    of_fault: bool
    asserts: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """One case of a property, or a planted fault.

    Parameters
    ----------
    wanted : Property
        The property.
    case : int or None
        Number of the case; None for a fault.
    folder : Path
        For what is written, among it the trace of what fails.
    fault : Fault or None
        The fault that is planted.
    """

    wanted: Property
    case: int | None
    folder: Path
    fault: Fault | None = None

    def run(self, solver: str) -> Checked:
        """Prove it, or find the fault, by one of `sim.formal.solvers.SOLVERS`."""
        if self.fault is not None:
            return self._find(self.fault, solver)
        return self._prove(solver, self.wanted.cases[self.case or 0])

    def _stated(self, module: ModuleType, case: Mapping[str, Any], *, lemmas: bool) -> Bench:
        bench = Bench(lemmas=lemmas)
        with _STATING:
            self.wanted.build(bench, module, **case)
        return bench

    def _prove(self, solver: str, case: Mapping[str, Any]) -> Checked:
        bench = self._stated(self.wanted.module, case, lemmas=True)
        seconds, failed = translate(bench, self.folder), ""
        for run, steps in ((search, self.wanted.steps), (induct, self.wanted.steps), (cover, self.wanted.reach)):
            answer = run(self.folder, solver, steps=steps)
            seconds += answer.seconds
            if answer.outcome is Outcome.FAILS:
                told = ", ".join(f"{name} {value}" for name, value in case.items())
                failed = f"{told}: {run.__name__}: {answer.failed}; see {self.folder}"
                break
        return Checked(failed=failed, of_fault=False, asserts=bench.asserts, seconds=seconds)

    def _find(self, fault: Fault, solver: str) -> Checked:
        bench = self._stated(fault.planted(self.wanted.module), self.wanted.cases[fault.case], lemmas=False)
        seconds = translate(bench, self.folder)
        answer = search(self.folder, solver, steps=fault.steps)
        failed = "" if answer.outcome is Outcome.FAILS else f"the planted fault is not found; see {self.folder}"
        return Checked(failed=failed, of_fault=True, asserts=bench.asserts, seconds=seconds + answer.seconds)


def checks(wanted: Property, folder: Path) -> list[Check]:
    """All checks of a property: its cases, and its planted faults."""
    cases = [Check(wanted=wanted, case=number, folder=folder / f"case-{number + 1}") for number in range(len(wanted.cases))]
    names = ["fault", *(f"fault-{number}" for number in range(2, len(wanted.faults) + 1))]
    planted = [
        Check(wanted=wanted, case=None, folder=folder / name, fault=fault)
        for name, fault in zip(names, wanted.faults, strict=True)
    ]
    return [*cases, *planted]
