"""The console script ``tally``: every command of the packages under one name, each loaded only when it is asked for."""

import importlib

import click

from model.support.cli import Group
from model.support.errors import Exit

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "check": ("model.check", "Say of each node of an ONNX file what becomes of it."),
    "convert": ("model.convert", "Convert an ONNX file to a spiking network of integers."),
    "evaluate": ("model.evaluate", "Accuracy, spikes and operations of a network on real frames."),
    "estimate": ("model.estimate", "Cycles, memories, LUTs and energy, before any synthesis."),
    "verify": ("sim.verify", "Co-simulate a machine against the golden model, spike for spike."),
    "campaign": ("sim.campaign", "Random verification over many processes and machines; resumes."),
    "prove": ("sim.prove", "Prove properties of parts of the RTL, and find faults planted in them."),
    "mutate": ("sim.mutate", "Plant faults in the hardware, and see which the checks find."),
    "fuzz": ("sim.fuzz", "Inputs that are wrong in every way: refused in a line, or right."),
    "upsets": ("sim.upsets", "Flip bits of a running machine, and see which answers change."),
    "toggles": ("sim.toggles", "What the nets of a netlist toggle on real frames, and its energy."),
    "lines": ("boards.lines", "Lines and branches of the hardware's description that nothing reaches."),
    "build": ("hw.build", "Build a verified bitstream for a board."),
    "host": ("boards.host", "Talk to a board."),
    "virtual": ("boards.virtual", "A board's RTL in simulation, on a TCP port."),
    "demo": ("boards.demo", "Draw a digit, or drop an image, and watch the board's spikes."),
    "table": ("boards.table", "One table of what builds found."),
    "records": ("boards.records", "Records: what builds, evaluations and estimates say together."),
    "train": ("model.train", "Train the network of the paper, or fine-tune it for few events."),
    "finetune": ("model.finetune", "Fine-tune a trained network for few events."),
    "images": ("model.images", "A data set of a folder of images."),
    "train-small": ("model.small", "Train the network for small boards."),
    "train-two-layer": ("model.two_layer", "Train the two-layer network of the comparison."),
    "train-paper": ("model.paper_networks", "Train a network of the paper's Table I."),
    "tradeoff": ("model.tradeoff", "Accuracy against events and weight bits."),
    "paper": ("model.paper", "The paper's table and figures."),
    "robustness": ("model.robustness", "What order, lost events and flipped bits cost."),
    "suite": ("model.suite", "Eleven networks as people train them, beside a peer's rate code."),
    "suite-rtl": ("sim.suite", "The RTL of the suite's networks, spike for spike."),
    "scaling": ("sim.scaling", "How cycles, LUTs and the models' speed grow."),
    "area-study": ("hw.area_study", "Place many designs and fit the area model to them."),
}
"""Of each command the module that has it, and what it is for."""

_EXITS = ", ".join(f"{int(code)} {code.name.lower().replace('_', ' ')}" for code in Exit if code)


class _Lazy(Group):
    """A group that knows its commands' names, and imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name][0]).main
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in COMMANDS.items()])


@click.command(
    cls=_Lazy,
    help="From a trained network to a spiking one, and to a verified bitstream.",
    epilog=f"Exit codes: {_EXITS}.",
)
@click.version_option(package_name="tally-snn", prog_name="tally")
def main() -> None:
    """See the help text above."""


if __name__ == "__main__":
    main()
