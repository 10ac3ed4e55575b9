"""Numba's ``njit``, whose kept functions are those of the sources as they are, and whole; where none can be kept, it works too.

Numba itself looks at the file of the outermost function only: what it calls in other files, and their constants, could be old.
It does not see that a kept function is damaged; of two processes that compile a function for different types, one may get what
the other compiled; and where nothing can be kept, it does not work at all.
"""

import contextlib
import hashlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core.caching import FunctionCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

import model
from model.support.cache import source_hash
from model.support.files import read_sealed, write_sealed

__all__ = ["compiled_folder", "inlined", "njit"]

_WITHOUT_COMPILED = ("conversion", "importers", "reports", "training")
"""Rooms of the model that no compiled function comes from."""


def compiled_folder(package: Path, base: Path) -> Path:
    """Where functions that were compiled from the sources of ``package`` are kept, in a folder below ``base``."""
    return base / source_hash(package, without=_WITHOUT_COMPILED)[:16]


_base: str = numba.config.CACHE_DIR  # type: ignore[attr-defined]
_FOLDER = compiled_folder(Path(model.__path__[0]), Path(_base or Path(platformdirs.user_cache_dir("tally")) / "compiled"))


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As Numba's; with ``cache``, what is compiled is kept where that can be."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        # Without its compiler, Numba gives the function itself.
        if cache and dispatcher is not function:
            dispatcher._cache = _Kept(function, _FOLDER)
        return dispatcher

    return compiled


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that allocates nothing into those that call it, as the small parts of a loop are.

    References to the arrays that it is given are not counted: in a part of a few instructions that would be most of the time.
    """
    return njit(cache=True, nogil=True, forceinline=True, _nrt=False)(function)


class _Kept(FunctionCache):  # type: ignore[misc]
    """What a function is compiled to, each for some types of arguments, in a file of its own, by content.

    Parameters
    ----------
    function : callable
        The function.
    folder : Path
        Where the files are.
    """

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._py_func = function
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._cache_path = str(folder)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for these types; None where there is none that is whole."""
        target_context.refresh()
        try:
            content = read_sealed(self._path(sig, target_context.codegen()))
        except (OSError, ValueError):
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(content)) if self._enabled else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function; one that cannot be kept costs only the time to compile it again."""
        if self._enabled and not data.lifted and not data.library.has_dynamic_globals:
            with contextlib.suppress(OSError):
                write_sealed(self._path(sig, data.codegen), dumps(data._reduce()))

    def flush(self) -> None:
        """Nothing: what is kept stays true."""

    def _path(self, sig: Any, codegen: Any) -> Path:
        made_of = (self._name, self._index_key(sig, codegen), numba.__version__, sys.version)
        return Path(self._cache_path) / f"{self._name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.nbc"
