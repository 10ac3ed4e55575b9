// A bit of a sum or difference of Gowin's, as Yosys' mapping uses it and as its own model says, but without a process: that waits
// for an input to change, which never happens where all are constants, and one simulator fails on it.
module ALU(SUM, COUT, I0, I1, I3, CIN);
  parameter ALU_MODE = 0;
  input I0, I1, I3, CIN;
  output SUM, COUT;
  localparam ADD = 0, SUBTRACT = 1, EITHER = 2;

  wire adds = ALU_MODE == ADD || ALU_MODE == EITHER && I3;
  wire half = I0 ^ I1 ^ ~adds;
  assign SUM = half ^ CIN;
  assign COUT = half ? CIN : I0;

  initial
    if (ALU_MODE != ADD && ALU_MODE != SUBTRACT && ALU_MODE != EITHER) begin
      $display("Error: %m: ALU_MODE must be 0 to 2, not %0d", ALU_MODE);
      $finish;
    end
endmodule
