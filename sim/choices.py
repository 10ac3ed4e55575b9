"""What options choose from: commands show it in their help before they load anything else."""

__all__ = ["LEVELS", "SIMULATORS"]

LEVELS = ("rtl", "netlist")
"""What can be simulated: the Verilog of a machine, or what synthesis for a family makes of it."""

SIMULATORS = ("verilator", "icarus")
