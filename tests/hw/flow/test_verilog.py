"""What is done to Amaranth's Verilog: parts of a net become one assignment, and nothing else changes."""

import re

from hw.flow.verilog import to_verilog, whole_assignments
from hw.pipeline.machine import Machine
from model.machine.named_plans import named_plan
from sim.generators.networks import random_network

TEXT = """\
module m(a, \\b$1 , y);
  input [3:0] a;
  output [3:0] y;
  wire [3:0] y;
  wire [5:0] \\t$2 ;
  wire [3:0] short;
  wire \\c[0] ;
  assign y[0] = a[1];
  assign \\t$2 [5:4] = \\b$1 ;
  assign \\c[0]  = a[3];
  assign short[2:0] = a[2:0];
  assign y[3:1] = { a[0], \\b$1  };
  assign \\t$2 [3:0] = 4'h9;
endmodule
"""


def test_parts_that_cover_a_net_become_one_assignment():
    expected = TEXT
    for part, becomes in {
        "  assign y[0] = a[1];\n": "  assign y = { { a[0], \\b$1  }, a[1] };\n",
        "  assign \\t$2 [5:4] = \\b$1 ;\n": "  assign \\t$2  = { \\b$1 , 4'h9 };\n",
        "  assign y[3:1] = { a[0], \\b$1  };\n": "",
        "  assign \\t$2 [3:0] = 4'h9;\n": "",
    }.items():
        assert part in expected
        expected = expected.replace(part, becomes)
    assert whole_assignments(TEXT) == expected


def test_each_module_has_its_own_nets():
    other = TEXT.replace("module m(", "module n(").replace("  assign y[0] = a[1];\n", "")
    assert "assign y[3:1] = " in whole_assignments(other + "\n" + TEXT)
    assert whole_assignments(other + "\n" + TEXT) == whole_assignments(other) + "\n" + whole_assignments(TEXT)


def test_a_machine_assigns_no_net_in_parts():
    text = to_verilog(Machine(network=random_network(1), plan=named_plan(random_network(1), "fast")), "machine")
    assert not re.findall(r"^  assign (?:\\\S+ |\w+)\[.*", text, re.MULTILINE)
    assert "assign update = {" in text
