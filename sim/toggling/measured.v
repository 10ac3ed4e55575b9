// Circuits of which the current was measured (see energy.py), as it describes them: what toggles in them is counted.

// 8-bit counters in steps of 3 and 5, and their product.
module product(input clk, input run, input mark, output most, output [15:0] result);
  reg [7:0] a = 0, b = 0;
  assign result = a * b;
  assign most = (&a) | (&b);
  always @(posedge clk) begin
    a <= a + 3;
    b <= b + 5;
  end
endmodule

module count(input clk, input run, input mark, output most);
  reg [27:0] value = 0;
  assign most = value[27];
  always @(posedge clk) value <= value + 1;
endmodule
