"""The Verilog around a machine under test: feeds tokens from a file, records all that passes into another.

Doing this in Verilog keeps Python out of the cycles: cocotb starts the clock, watches progress and notices hangs.
"""

from amaranth.lib import data

from hw.folded.machine import FoldedMachine
from hw.machines import AnyMachine
from hw.parts.single_port import PART_BITS, PARTS
from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS

__all__ = ["RESULT", "WATCHED", "records", "wrapper"]

RESULT = "result"
WATCHED = "watched"
"""Names of the two records that are not traces."""


def records(machine: AnyMachine) -> list[str]:
    """Names of what is recorded, by number."""
    return [*(trace.name for trace in machine.traces), RESULT, *([WATCHED] if machine.plan.watch else [])]


def _loads(machine: AnyMachine) -> bool:
    return isinstance(machine, FoldedMachine) and machine.folded.single_weight_words > 0


def _width(layout: data.Layout) -> int:
    return int(layout.size)


def wrapper(machine: AnyMachine) -> str:
    """Verilog of module ``tb``, which instantiates module ``machine``.

    Weights that have to be loaded are, from the file ``weights``, and then checked; cycles count from there.

    Plus-arguments: ``tokens``, ``record`` and ``weights`` (files), ``idle`` and ``stall`` (chance of 65,536 a cycle),
    ``source_seed``, ``watch`` (mask of ports, in hexadecimal), ``waves`` (a file; Verilator has its own way).
    """
    host = _width(machine.host.payload.shape())
    result = _width(machine.result.payload.shape())
    saturations = _width(machine.saturations.shape())
    watch = machine.plan.watch
    ports = [".clk(clk)", ".rst(rst)"]
    ports += [f".{s}__{p}({s}_{p})" for s in ("host", "result", *(["watched"] if watch else []))
              for p in ("valid", "ready", "payload")]
    ports += [".saturations(saturations)", *([".watch(watch)"] if watch else [])]
    writes = [
        f"      if (dut.trace_{trace.name}_strobe)\n"
        f'        $fwrite(record_file, "{number} %0d %h\\n", cycle, dut.trace_{trace.name}_payload);'
        for number, trace in enumerate(machine.traces)
    ]
    number = len(writes)
    streams = [("result", number), *([("watched", number + 1)] if watch else [])]
    writes += [
        f"      if ({name}_valid && {name}_ready)\n"
        f'        $fwrite(record_file, "{at} %0d %h\\n", cycle, {name}_payload);'
        for name, at in streams
    ]
    if _loads(machine):
        driven = {name: f"weight_{name}" for name in ("en", "addr", "part", "data", "check", "idle")}
        driven |= {"loaded": "loaded", "found": ""}
        ports += [f".weights__{port}({net})" for port, net in driven.items()]
    if machine.plan.states:
        # Nobody asks.
        place = _width(machine.states.place.shape())
        ports += [".states__ask(1'b0)", f".states__place({place}'d0)"]
        ports += [f".states__{name}()" for name in ("found", "known", "state")]
    watched_width = _width(machine.watched.payload.shape()) if watch else 1
    newline = "\n"
    return f"""\
`timescale 1ns/1ps
module tb(input clk /*verilator public_flat_rw*/, input rst /*verilator public_flat_rw*/,
          output reg [31:0] answered /*verilator public_flat_rd*/, output reg [31:0] moved /*verilator public_flat_rd*/,
          output [{saturations - 1}:0] saturations /*verilator public_flat_rd*/);
  wire host_ready, result_valid, watched_valid;
  reg host_valid, result_ready, watched_ready;
  reg [{host - 1}:0] host_payload, token;
  wire [{result - 1}:0] result_payload;
  wire [{watched_width - 1}:0] watched_payload;
  reg [63:0] watch_mask;
  wire [{max(1, len(machine.watch) if watch else 1) - 1}:0] watch = watch_mask;
  machine dut({", ".join(ports)});

  wire weight_idle;
  wire loaded{"" if _loads(machine) else " = 1"};
  reg weight_en, weight_check, checked;
  reg [{SINGLE_WORDS.bit_length() - 2}:0] weight_addr, weight_next;
  reg [{SINGLE_BITS - 1}:0] weight_word;
  reg [{PART_BITS - 1}:0] weight_data;
  reg [{(PARTS - 1).bit_length() - 1}:0] weight_part;
  integer weight_left;
  integer token_file, record_file, weight_file, got;
  reg [31:0] cycle, idle, stall, random, seed;
  reg [8*1024-1:0] token_path, record_path, weight_path, wave_path;
  initial begin
    idle = 0; stall = 0; watch_mask = 0; seed = 1;
    got = $value$plusargs("tokens=%s", token_path);
    got = $value$plusargs("record=%s", record_path);
    got = $value$plusargs("idle=%d", idle);
    got = $value$plusargs("stall=%d", stall);
    got = $value$plusargs("source_seed=%d", seed);
    got = $value$plusargs("watch=%h", watch_mask);
    token_file = $fopen(token_path, "r");
    record_file = $fopen(record_path, "w");
    weight_file = 0;
    if ($value$plusargs("weights=%s", weight_path)) weight_file = $fopen(weight_path, "r");
    weight_en = 0; weight_check = 0; checked = 0; weight_addr = 0; weight_data = 0; weight_part = 0; weight_left = 0;
    weight_next = {machine.folded.single_state_words if isinstance(machine, FoldedMachine) else 0};
    random = seed * 32'd2654435769 + 32'd1;
    cycle = 0; answered = 0; moved = 0;
    host_valid = 0; host_payload = 0; result_ready = 0; watched_ready = 0;
`ifndef VERILATOR
    if ($value$plusargs("waves=%s", wave_path)) begin
      $dumpfile(wave_path);
      $dumpvars(0, tb);
    end
`endif
  end

  function [31:0] shifted(input [31:0] value);
    reg [31:0] v;
    begin
      v = value;
      v = v ^ (v << 13); v = v ^ (v >> 17); v = v ^ (v << 5);
      shifted = v;
    end
  endfunction

  reg [31:0] r1, r2, r3;
  // A part of a word a cycle, and the signature behind the last.
  always @(posedge clk)
    if (!rst && !loaded) begin
      weight_en <= 0;
      weight_check <= 0;
      if (weight_idle && !checked && !weight_check) begin
        if (weight_left == 0) begin
          got = $fscanf(weight_file, "%h", weight_word);
          if (got == 1) begin
            weight_left = {PARTS};
            weight_next = weight_next + 1;
          end
        end
        if (weight_left != 0) begin
          weight_en <= 1;
          weight_addr <= weight_next - 1;
          weight_part <= {PARTS} - weight_left;
          weight_data <= weight_word >> ({PART_BITS} * ({PARTS} - weight_left));
          weight_left = weight_left - 1;
        end else begin
          weight_check <= 1;
          checked <= 1;
        end
      end
    end

  always @(posedge clk)
    if (!rst && loaded) begin
      cycle <= cycle + 1;
      r1 = shifted(random); r2 = shifted(r1); r3 = shifted(r2);
      random <= r3;
      result_ready <= r1[15:0] >= stall;
      watched_ready <= r2[15:0] >= stall;
      if (!host_valid || host_ready) begin
        host_valid <= 0;
        if (r3[15:0] >= idle) begin
          got = $fscanf(token_file, "%h", token);
          if (got == 1) begin
            host_valid <= 1;
            host_payload <= token;
          end
        end
      end
      if ((host_valid && host_ready) || (result_valid && result_ready)) moved <= moved + 1;
      if (result_valid && result_ready) answered <= answered + 1;
{newline.join(writes)}
    end
endmodule
"""
