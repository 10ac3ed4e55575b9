"""What a command shows before it does anything."""

import subprocess
import sys

__all__ = ["HEAVY", "shown_help"]

HEAVY = ("amaranth", "cocotb", "coverage", "distributed", "matplotlib", "numba", "numpy")
"""What takes long to load."""


def shown_help(module, *words):
    """The help of a command, and which of `HEAVY` it loads for that."""
    script = (
        f"import sys\nfrom {module} import main\n"
        f"try:\n    main({[*words, '--help']!r})\nfinally:\n"
        f"    print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.split()
