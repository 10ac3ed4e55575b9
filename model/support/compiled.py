"""Numba's ``njit``, whose kept functions follow an edit of any source that they may have been compiled from.

Numba itself looks at the file of the outermost function only: what it calls in other files, and their constants, could be old.
"""

from pathlib import Path

import platformdirs
from numba import config, njit

import model
from model.support.cache import source_hash

__all__ = ["compiled_folder", "njit"]

_WITHOUT_COMPILED = ("conversion", "importers", "reports", "training")
"""Rooms of the model that no compiled function comes from."""


def compiled_folder(package: Path, base: Path) -> Path:
    """Where functions that were compiled from the sources of ``package`` are kept, in a folder below ``base``."""
    return base / source_hash(package, without=_WITHOUT_COMPILED)[:16]


_base: str = config.CACHE_DIR  # type: ignore[attr-defined]
config.CACHE_DIR = str(  # type: ignore[attr-defined]
    compiled_folder(Path(model.__path__[0]), Path(_base or Path(platformdirs.user_cache_dir("tally")) / "compiled"))
)
