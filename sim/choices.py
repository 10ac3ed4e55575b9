"""What options choose from: commands show it in their help before they load anything else."""

__all__ = ["COUNTED_FAMILIES", "LEVELS", "SIMULATORS"]

LEVELS = ("rtl", "netlist")
"""What can be simulated: the Verilog of a machine, or what synthesis for a family makes of it."""

SIMULATORS = ("verilator", "icarus")

COUNTED_FAMILIES = ("ecp5", "ice40")
"""Families whose cells' nets are counted by kind (`sim.toggling.kinds`)."""
