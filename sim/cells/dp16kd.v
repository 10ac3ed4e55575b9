// Block RAM of the ECP5, which Yosys has no model of: modes, enables, resets and places of bits as Yosys' mapping to it relies
// on them, and the output registers that hw/flow/output_registers.py uses.
//
// Both ports must be on one clock, as all of the machine is. Then a bit that is read at one port while the other writes it
// is garbage, since the hardware promises nothing there: undefined where the simulator has undefined bits, and the
// inverse of the old bit where it has not, which is wrong in every bit for a design that takes the old word for granted.
// A bit that both ports write is garbage as well. The memory is words of 36 bits, four bytes of nine: ports of 36, 18 and 9
// bits use all of them, those of 4, 2 and 1 bits leave the ninth of each byte.
module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", CLKAMUX = "CLKA", CLKBMUX = "CLKB";
  parameter [39:0] CSDECODE_A = "0b000", CSDECODE_B = "0b000";
  parameter GSR = "ENABLED", INIT_DATA = "STATIC", WID = 0;
  parameter [319:0]
    INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0,
    INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0,
    INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0,
    INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0,
    INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0,
    INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0, INITVAL_29 = 0,
    INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0,
    INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0,
    INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0,
    INITVAL_3F = 0;

  wire [13:0] a_addr = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] b_addr = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [17:0] a_in = {
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire [17:0] b_in = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
  wire a_clk = CLKAMUX == "INV" ? ~CLKA : CLKA, b_clk = CLKBMUX == "INV" ? ~CLKB : CLKB;
  // The last three characters of the code are the levels that select the block.
  wire a_on = CEA && {CSA2, CSA1, CSA0} == {CSDECODE_A[16], CSDECODE_A[8], CSDECODE_A[0]};
  wire b_on = CEB && {CSB2, CSB1, CSB0} == {CSDECODE_B[16], CSDECODE_B[8], CSDECODE_B[0]};
  wire a_writes = a_on && WEA && !RSTA, b_writes = b_on && WEB && !RSTB;

  reg [35:0] memory [0:511];
  // Of each 20 bits of an initial value 18 are used.
  localparam [64*320-1:0] INIT = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36,
    INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C,
    INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22,
    INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
    INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E,
    INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
    INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
  integer n;
  initial for (n = 0; n < 512; n = n + 1) memory[n] = {INIT[n * 40 + 20 +: 18], INIT[n * 40 +: 18]};

`ifdef VERILATOR
  localparam [35:0] GARBAGE = 36'hfffffffff;
`else
  localparam [35:0] GARBAGE = 36'hxxxxxxxxx;
`endif

  // Where in the 36 bits the data of a port is.
  function [5:0] place(input [13:0] addr, input integer width);
    begin
      place = width < 36 && addr[4] ? 18 : 0;
      if (width < 18 && addr[3]) place = place + 9;
      if (width == 4) place = place + {addr[2], 2'b00};
      if (width == 2) place = place + {addr[2:1], 1'b0};
      if (width == 1) place = place + addr[2:0];
    end
  endfunction

  // The bits that a port writes: those of 18 and 36 bits take enables of the bytes where the others have address bits.
  function [35:0] mask(input [13:0] addr, input integer width);
    case (width)
      36: mask = {{9{addr[3]}}, {9{addr[2]}}, {9{addr[1]}}, {9{addr[0]}}};
      18: mask = {18'h00000, {9{addr[1]}}, {9{addr[0]}}} << place(addr, width);
      9: mask = 36'h1ff << place(addr, width);
      4: mask = 36'hf << place(addr, width);
      2: mask = 36'h3 << place(addr, width);
      default: mask = 36'h1 << place(addr, width);
    endcase
  endfunction

  wire [8:0] a_row = a_addr[13:5], b_row = b_addr[13:5];
  wire [35:0] a_mask = a_writes ? mask(a_addr, DATA_WIDTH_A) : 36'h0, b_mask = b_writes ? mask(b_addr, DATA_WIDTH_B) : 36'h0;
  wire [35:0] a_data = DATA_WIDTH_A == 36 ? {b_in, a_in} : {18'h00000, a_in} << place(a_addr, DATA_WIDTH_A);
  wire [35:0] b_data = {18'h00000, b_in} << place(b_addr, DATA_WIDTH_B);
  wire [35:0] a_old = memory[a_row], b_old = memory[b_row];
  // What the other port writes in the word of this one.
  wire [35:0] a_hit = a_row == b_row ? b_mask : 36'h0, b_hit = a_row == b_row ? a_mask : 36'h0;
  wire [35:0] a_new = a_old & ~a_mask | a_data & a_mask;
  wire [35:0] b_base = a_writes && a_row == b_row ? a_new : b_old;
  wire [35:0] b_new = (b_base & ~b_mask | b_data & b_mask) ^ (b_mask & b_hit & GARBAGE);

  // Where both write the same word, port B writes it for both.
  always @(posedge a_clk) if (a_writes && !(b_writes && a_row == b_row)) memory[a_row] <= a_new;
  always @(posedge b_clk) if (b_writes) memory[b_row] <= b_new;

  wire [35:0] a_seen = (WRITEMODE_A == "WRITETHROUGH" ? a_new : a_old) ^ (a_hit & GARBAGE);
  wire [35:0] b_seen = (WRITEMODE_B == "WRITETHROUGH" ? b_old & ~b_mask | b_data & b_mask : b_old) ^ (b_hit & GARBAGE);
  wire a_shows = a_on && !(a_writes && WRITEMODE_A == "NORMAL"), b_shows = b_on && !(b_writes && WRITEMODE_B == "NORMAL");

  // A word of 36 bits is read at port B, and its lower half comes at A: through A's register, on B's clock.
  localparam WIDE = DATA_WIDTH_B == 36;
  wire out_clk = WIDE ? b_clk : a_clk, out_rst = WIDE ? RSTB : RSTA;
  wire a_clear = RESETMODE == "ASYNC" && out_rst, b_clear = RESETMODE == "ASYNC" && RSTB;
  wire [35:0] a_placed = a_seen >> place(a_addr, DATA_WIDTH_A), b_placed = b_seen >> place(b_addr, DATA_WIDTH_B);
  reg [17:0] a_bare, a_register, b_bare, b_register;
  initial {a_bare, a_register, b_bare, b_register} = 0;

  // The bits of a port that is `width` wide.
  function [17:0] cut(input [17:0] data, input integer width);
    cut = width >= 18 ? data : data & ~(18'h3ffff << width);
  endfunction

  always @(posedge out_clk or posedge a_clear)
    if (a_clear || out_rst) begin
      a_bare <= 0;
      a_register <= 0;
    end else begin
      if (WIDE) begin
        if (b_shows) a_bare <= b_seen[17:0];
      end else if (a_shows) a_bare <= cut(a_placed[17:0], DATA_WIDTH_A);
      if (OCEA) a_register <= a_bare;
    end
  always @(posedge b_clk or posedge b_clear)
    if (b_clear || RSTB) begin
      b_bare <= 0;
      b_register <= 0;
    end else begin
      if (b_shows) b_bare <= WIDE ? b_seen[35:18] : cut(b_placed[17:0], DATA_WIDTH_B);
      if (OCEB) b_register <= b_bare;
    end

  // Said once in each block, so that a log tells whether it came to that.
  reg told;
  initial told = 0;
  always @(posedge b_clk)
    if (!told && (a_shows && a_hit != 0 || b_shows && b_hit != 0)) begin
      told <= 1;
      $display("%m: read while it is written");
    end

  assign {
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0}
    = REGMODE_A == "OUTREG" ? a_register : a_bare;
  assign {
    DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0}
    = REGMODE_B == "OUTREG" ? b_register : b_bare;
endmodule
