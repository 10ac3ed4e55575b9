// Block RAMs of Gowin's GW1N and GW2A, which Yosys has no models of: those that its mapping makes, with modes, enables, resets
// and places of bits as it relies on them, read in bypass mode.
//
// Both ports must be on one clock, as all of the machine is. Then a bit that is read at one port while the other writes it
// is garbage, since the mapping promises nothing there: undefined where the simulator has undefined bits, and the
// inverse of the old bit where it has not, which is wrong in every bit for a design that takes the old word for granted.
// A bit that both ports write is garbage as well. What the models do not implement stops the simulation.

// Initial contents: word n of a port that is w bits wide is bits n * w and up of all of them, from INIT_RAM_00 on.
`define TALLY_BSRAM_INIT(width) parameter [width - 1:0] \
  INIT_RAM_00 = 0, INIT_RAM_01 = 0, INIT_RAM_02 = 0, INIT_RAM_03 = 0, INIT_RAM_04 = 0, INIT_RAM_05 = 0, INIT_RAM_06 = 0, \
  INIT_RAM_07 = 0, INIT_RAM_08 = 0, INIT_RAM_09 = 0, INIT_RAM_0A = 0, INIT_RAM_0B = 0, INIT_RAM_0C = 0, INIT_RAM_0D = 0, \
  INIT_RAM_0E = 0, INIT_RAM_0F = 0, INIT_RAM_10 = 0, INIT_RAM_11 = 0, INIT_RAM_12 = 0, INIT_RAM_13 = 0, INIT_RAM_14 = 0, \
  INIT_RAM_15 = 0, INIT_RAM_16 = 0, INIT_RAM_17 = 0, INIT_RAM_18 = 0, INIT_RAM_19 = 0, INIT_RAM_1A = 0, INIT_RAM_1B = 0, \
  INIT_RAM_1C = 0, INIT_RAM_1D = 0, INIT_RAM_1E = 0, INIT_RAM_1F = 0, INIT_RAM_20 = 0, INIT_RAM_21 = 0, INIT_RAM_22 = 0, \
  INIT_RAM_23 = 0, INIT_RAM_24 = 0, INIT_RAM_25 = 0, INIT_RAM_26 = 0, INIT_RAM_27 = 0, INIT_RAM_28 = 0, INIT_RAM_29 = 0, \
  INIT_RAM_2A = 0, INIT_RAM_2B = 0, INIT_RAM_2C = 0, INIT_RAM_2D = 0, INIT_RAM_2E = 0, INIT_RAM_2F = 0, INIT_RAM_30 = 0, \
  INIT_RAM_31 = 0, INIT_RAM_32 = 0, INIT_RAM_33 = 0, INIT_RAM_34 = 0, INIT_RAM_35 = 0, INIT_RAM_36 = 0, INIT_RAM_37 = 0, \
  INIT_RAM_38 = 0, INIT_RAM_39 = 0, INIT_RAM_3A = 0, INIT_RAM_3B = 0, INIT_RAM_3C = 0, INIT_RAM_3D = 0, INIT_RAM_3E = 0, \
  INIT_RAM_3F = 0;
`define TALLY_BSRAM_ALL { \
  INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, INIT_RAM_37, \
  INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, \
  INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, \
  INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, \
  INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, \
  INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, \
  INIT_RAM_09, INIT_RAM_08, INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, \
  INIT_RAM_00}

// A block of two ports, in words of four bytes: of eight bits, or of nine where ports are 9, 18 or 36 bits wide.
module TALLY_BSRAM(
  input CLK_A, ON_A, WRITE_A, RESET_A, input [13:0] ADDR_A, input [35:0] IN_A, output reg [35:0] OUT_A,
  input CLK_B, ON_B, WRITE_B, RESET_B, input [13:0] ADDR_B, input [35:0] IN_B, output reg [35:0] OUT_B
);
  parameter BYTE = 9, WIDTH_A = 36, WIDTH_B = 36, WIDEST = 36;
  parameter READ_MODE_A = 0, READ_MODE_B = 0, WRITE_MODE_A = 0, WRITE_MODE_B = 0, LAST_WRITE_MODE = 2;
  parameter RESET_MODE = "SYNC";
  parameter [64 * 288 - 1:0] INIT = 0;

  localparam NORMAL = 0, WRITE_THROUGH = 1;
  localparam ROW = 4 * BYTE;

  function fits(input integer width);
    fits = width <= WIDEST && (width == BYTE || width == 2 * BYTE || width == 4 * BYTE
      || BYTE == 8 && (width == 1 || width == 2 || width == 4));
  endfunction

  initial begin
    if (READ_MODE_A != 0 || READ_MODE_B != 0) begin
      $display("Error: %m: READ_MODE must be 0, as the model has no output register, not 1");
      $finish;
    end
    if (WRITE_MODE_A > LAST_WRITE_MODE || WRITE_MODE_B > LAST_WRITE_MODE) begin
      $display("Error: %m: WRITE_MODE must be 0 to %0d, not %0d and %0d", LAST_WRITE_MODE, WRITE_MODE_A, WRITE_MODE_B);
      $finish;
    end
    if (!fits(WIDTH_A) || !fits(WIDTH_B)) begin
      $display("Error: %m: BIT_WIDTH must be one that the block has, not %0d and %0d", WIDTH_A, WIDTH_B);
      $finish;
    end
    if (RESET_MODE != "SYNC" && RESET_MODE != "ASYNC") begin
      $display("Error: %m: RESET_MODE must be SYNC or ASYNC, not %0s", RESET_MODE);
      $finish;
    end
  end

  reg [35:0] memory [0:511];
  integer n;
  initial for (n = 0; n < 512; n = n + 1) memory[n] = INIT[n * ROW +: ROW];

`ifdef VERILATOR
  localparam [35:0] GARBAGE = 36'hfffffffff;
`else
  localparam [35:0] GARBAGE = 36'hxxxxxxxxx;
`endif
  localparam [35:0] ONES = 36'hfffffffff, BITS = ~(ONES << BYTE);

  // Where in its row the data of a port is.
  function [5:0] place(input [13:0] addr, input integer width);
    begin
      place = 0;
      if (width <= 2 * BYTE && addr[4]) place = 2 * BYTE;
      if (width <= BYTE && addr[3]) place = place + BYTE;
      if (width == 4) place = place + {addr[2], 2'b00};
      if (width == 2) place = place + {addr[2:1], 1'b0};
      if (width == 1) place = place + addr[2:0];
    end
  endfunction

  // The bits of a port, at the lower end.
  function [35:0] cut(input [35:0] data, input integer width);
    cut = width >= 36 ? data : data & ~(ONES << width);
  endfunction

  // The bits that a port writes: those of two and four bytes take enables of the bytes where the others have address bits.
  function [35:0] mask(input [13:0] addr, input integer width);
    begin
      mask = cut(ONES, width);
      if (width == 2 * BYTE) mask = (addr[0] ? BITS : 0) | (addr[1] ? BITS << BYTE : 0);
      if (width == 4 * BYTE)
        mask = (addr[0] ? BITS : 0) | (addr[1] ? BITS << BYTE : 0)
          | (addr[2] ? BITS << 2 * BYTE : 0) | (addr[3] ? BITS << 3 * BYTE : 0);
      mask = mask << place(addr, width);
    end
  endfunction

  wire a_writes = ON_A && WRITE_A, b_writes = ON_B && WRITE_B;
  wire [8:0] a_row = ADDR_A[13:5], b_row = ADDR_B[13:5];
  wire [5:0] a_place = place(ADDR_A, WIDTH_A), b_place = place(ADDR_B, WIDTH_B);
  wire [35:0] a_mask = a_writes ? mask(ADDR_A, WIDTH_A) : 36'h0, b_mask = b_writes ? mask(ADDR_B, WIDTH_B) : 36'h0;
  wire [35:0] a_data = IN_A << a_place, b_data = IN_B << b_place;
  wire [35:0] a_old = memory[a_row], b_old = memory[b_row];
  // What the other port writes in the row of this one.
  wire [35:0] a_hit = a_row == b_row ? b_mask : 36'h0, b_hit = a_row == b_row ? a_mask : 36'h0;
  wire [35:0] a_new = a_old & ~a_mask | a_data & a_mask, b_new = b_old & ~b_mask | b_data & b_mask;
  wire [35:0] both_new = (a_new & ~b_mask | b_data & b_mask) ^ (a_mask & b_mask & GARBAGE);

  // Where both write the same row, port B writes it for both.
  always @(posedge CLK_A) if (a_writes && !(b_writes && a_row == b_row)) memory[a_row] <= a_new;
  always @(posedge CLK_B) if (b_writes) memory[b_row] <= a_writes && a_row == b_row ? both_new : b_new;

  wire [35:0] a_seen = (WRITE_MODE_A == WRITE_THROUGH ? a_new : a_old) ^ (a_hit & GARBAGE);
  wire [35:0] b_seen = (WRITE_MODE_B == WRITE_THROUGH ? b_new : b_old) ^ (b_hit & GARBAGE);
  wire a_shows = ON_A && !(a_writes && WRITE_MODE_A == NORMAL), b_shows = ON_B && !(b_writes && WRITE_MODE_B == NORMAL);
  wire a_clear = RESET_MODE == "ASYNC" && RESET_A, b_clear = RESET_MODE == "ASYNC" && RESET_B;

  initial {OUT_A, OUT_B} = 0;
  always @(posedge CLK_A or posedge a_clear)
    if (a_clear || RESET_A) OUT_A <= 0;
    else if (a_shows) OUT_A <= cut(a_seen >> a_place, WIDTH_A);
  always @(posedge CLK_B or posedge b_clear)
    if (b_clear || RESET_B) OUT_B <= 0;
    else if (b_shows) OUT_B <= cut(b_seen >> b_place, WIDTH_B);

  // Said once in each block, so that a log tells whether it came to that.
  wire [35:0] a_bits = cut(ONES, WIDTH_A) << a_place, b_bits = cut(ONES, WIDTH_B) << b_place;
  reg told;
  initial told = 0;
  always @(posedge CLK_B)
    if (!told && (a_shows && (a_hit & a_bits) != 0 || b_shows && (b_hit & b_bits) != 0)) begin
      told <= 1;
      $display("%m: read while it is written");
    end
endmodule

// A single port.
module SP(DO, DI, BLKSEL, AD, WRE, CLK, CE, OCE, RESET);
  parameter READ_MODE = 0, WRITE_MODE = 0, BIT_WIDTH = 32, RESET_MODE = "SYNC";
  parameter [2:0] BLK_SEL = 0;
  `TALLY_BSRAM_INIT(256)
  output [31:0] DO;
  input [31:0] DI;
  input [13:0] AD;
  input [2:0] BLKSEL;
  input WRE, CLK, CE, OCE, RESET;
  wire [35:0] out;
  assign DO = out[31:0];
  TALLY_BSRAM #(
    .BYTE(8), .WIDTH_A(BIT_WIDTH), .WIDTH_B(BIT_WIDTH), .READ_MODE_A(READ_MODE), .WRITE_MODE_A(WRITE_MODE),
    .RESET_MODE(RESET_MODE), .INIT(`TALLY_BSRAM_ALL)
  ) block(
    .CLK_A(CLK), .ON_A(CE && BLKSEL == BLK_SEL), .WRITE_A(WRE), .RESET_A(RESET), .ADDR_A(AD), .IN_A({4'h0, DI}), .OUT_A(out),
    .CLK_B(CLK), .ON_B(1'b0), .WRITE_B(1'b0), .RESET_B(1'b0), .ADDR_B(14'h0), .IN_B(36'h0), .OUT_B()
  );
endmodule

// A single port.
module SPX9(DO, DI, BLKSEL, AD, WRE, CLK, CE, OCE, RESET);
  parameter READ_MODE = 0, WRITE_MODE = 0, BIT_WIDTH = 36, RESET_MODE = "SYNC";
  parameter [2:0] BLK_SEL = 0;
  `TALLY_BSRAM_INIT(288)
  output [35:0] DO;
  input [35:0] DI;
  input [13:0] AD;
  input [2:0] BLKSEL;
  input WRE, CLK, CE, OCE, RESET;
  wire [35:0] out;
  assign DO = out[35:0];
  TALLY_BSRAM #(
    .BYTE(9), .WIDTH_A(BIT_WIDTH), .WIDTH_B(BIT_WIDTH), .READ_MODE_A(READ_MODE), .WRITE_MODE_A(WRITE_MODE),
    .RESET_MODE(RESET_MODE), .INIT(`TALLY_BSRAM_ALL)
  ) block(
    .CLK_A(CLK), .ON_A(CE && BLKSEL == BLK_SEL), .WRITE_A(WRE), .RESET_A(RESET), .ADDR_A(AD), .IN_A(DI), .OUT_A(out),
    .CLK_B(CLK), .ON_B(1'b0), .WRITE_B(1'b0), .RESET_B(1'b0), .ADDR_B(14'h0), .IN_B(36'h0), .OUT_B()
  );
endmodule

// Written at port A, read at port B.
module SDPB(CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, ADA, ADB, DI, BLKSELA, BLKSELB, DO);
  parameter READ_MODE = 0, BIT_WIDTH_0 = 32, BIT_WIDTH_1 = 32, RESET_MODE = "SYNC";
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0;
  `TALLY_BSRAM_INIT(256)
  output [31:0] DO;
  input [31:0] DI;
  input [13:0] ADA, ADB;
  input [2:0] BLKSELA, BLKSELB;
  input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB;
  wire [35:0] out;
  assign DO = out[31:0];
  TALLY_BSRAM #(
    .BYTE(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .READ_MODE_B(READ_MODE), .RESET_MODE(RESET_MODE),
    .INIT(`TALLY_BSRAM_ALL)
  ) block(
    .CLK_A(CLKA), .ON_A(CEA && BLKSELA == BLK_SEL_0), .WRITE_A(1'b1), .RESET_A(RESETA), .ADDR_A(ADA), .IN_A({4'h0, DI}), .OUT_A(),
    .CLK_B(CLKB), .ON_B(CEB && BLKSELB == BLK_SEL_1), .WRITE_B(1'b0), .RESET_B(RESETB), .ADDR_B(ADB), .IN_B(36'h0), .OUT_B(out)
  );
endmodule

// Written at port A, read at port B.
module SDPX9B(CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, ADA, ADB, DI, BLKSELA, BLKSELB, DO);
  parameter READ_MODE = 0, BIT_WIDTH_0 = 36, BIT_WIDTH_1 = 36, RESET_MODE = "SYNC";
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0;
  `TALLY_BSRAM_INIT(288)
  output [35:0] DO;
  input [35:0] DI;
  input [13:0] ADA, ADB;
  input [2:0] BLKSELA, BLKSELB;
  input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB;
  wire [35:0] out;
  assign DO = out[35:0];
  TALLY_BSRAM #(
    .BYTE(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .READ_MODE_B(READ_MODE), .RESET_MODE(RESET_MODE),
    .INIT(`TALLY_BSRAM_ALL)
  ) block(
    .CLK_A(CLKA), .ON_A(CEA && BLKSELA == BLK_SEL_0), .WRITE_A(1'b1), .RESET_A(RESETA), .ADDR_A(ADA), .IN_A(DI), .OUT_A(),
    .CLK_B(CLKB), .ON_B(CEB && BLKSELB == BLK_SEL_1), .WRITE_B(1'b0), .RESET_B(RESETB), .ADDR_B(ADB), .IN_B(36'h0), .OUT_B(out)
  );
endmodule

// Two ports that write and read.
module DPB(
  CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB, ADA, ADB, DIA, DIB, BLKSELA, BLKSELB, DOA, DOB
);
  parameter READ_MODE0 = 0, READ_MODE1 = 0, WRITE_MODE0 = 0, WRITE_MODE1 = 0, BIT_WIDTH_0 = 16, BIT_WIDTH_1 = 16;
  parameter RESET_MODE = "SYNC";
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0;
  `TALLY_BSRAM_INIT(256)
  output [15:0] DOA, DOB;
  input [15:0] DIA, DIB;
  input [13:0] ADA, ADB;
  input [2:0] BLKSELA, BLKSELB;
  input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB;
  wire [35:0] a_out, b_out;
  assign DOA = a_out[15:0], DOB = b_out[15:0];
  TALLY_BSRAM #(
    .BYTE(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .WIDEST(16), .READ_MODE_A(READ_MODE0), .READ_MODE_B(READ_MODE1),
    .WRITE_MODE_A(WRITE_MODE0), .WRITE_MODE_B(WRITE_MODE1), .LAST_WRITE_MODE(1), .RESET_MODE(RESET_MODE),
    .INIT(`TALLY_BSRAM_ALL)
  ) block(
    .CLK_A(CLKA), .ON_A(CEA && BLKSELA == BLK_SEL_0), .WRITE_A(WREA), .RESET_A(RESETA), .ADDR_A(ADA), .IN_A({20'h0, DIA}),
    .OUT_A(a_out),
    .CLK_B(CLKB), .ON_B(CEB && BLKSELB == BLK_SEL_1), .WRITE_B(WREB), .RESET_B(RESETB), .ADDR_B(ADB), .IN_B({20'h0, DIB}),
    .OUT_B(b_out)
  );
endmodule

// Two ports that write and read.
module DPX9B(
  CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB, ADA, ADB, DIA, DIB, BLKSELA, BLKSELB, DOA, DOB
);
  parameter READ_MODE0 = 0, READ_MODE1 = 0, WRITE_MODE0 = 0, WRITE_MODE1 = 0, BIT_WIDTH_0 = 18, BIT_WIDTH_1 = 18;
  parameter RESET_MODE = "SYNC";
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0;
  `TALLY_BSRAM_INIT(288)
  output [17:0] DOA, DOB;
  input [17:0] DIA, DIB;
  input [13:0] ADA, ADB;
  input [2:0] BLKSELA, BLKSELB;
  input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB;
  wire [35:0] a_out, b_out;
  assign DOA = a_out[17:0], DOB = b_out[17:0];
  TALLY_BSRAM #(
    .BYTE(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .WIDEST(18), .READ_MODE_A(READ_MODE0), .READ_MODE_B(READ_MODE1),
    .WRITE_MODE_A(WRITE_MODE0), .WRITE_MODE_B(WRITE_MODE1), .LAST_WRITE_MODE(1), .RESET_MODE(RESET_MODE),
    .INIT(`TALLY_BSRAM_ALL)
  ) block(
    .CLK_A(CLKA), .ON_A(CEA && BLKSELA == BLK_SEL_0), .WRITE_A(WREA), .RESET_A(RESETA), .ADDR_A(ADA), .IN_A({18'h0, DIA}),
    .OUT_A(a_out),
    .CLK_B(CLKB), .ON_B(CEB && BLKSELB == BLK_SEL_1), .WRITE_B(WREB), .RESET_B(RESETB), .ADDR_B(ADB), .IN_B({18'h0, DIB}),
    .OUT_B(b_out)
  );
endmodule
