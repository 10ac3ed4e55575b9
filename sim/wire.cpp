// The system's RTL with a UART at its wires, told what to do line by line: time is that of the simulation, and nothing else's.
//
//   send HEX             put bytes on the wire, one after the other without a gap
//   quiet N MOST AFTER   run until the wires have been idle for N cycles, for AFTER where something came, or for MOST cycles; says
//                        cycles since power-up, and what came

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <sstream>
#include <string>

#include "Vsystem.h"
#include "verilated.h"

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Vsystem top(&context);
  std::deque<uint8_t> queue;
  unsigned sent = 0, taken = 0;
  int left = 0, at = -1;
  bool restart = true;
  long cycles = 0;
  std::string line, word;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    words >> word;
    if (word == "send") {
      words >> word;
      for (size_t n = 0; n + 1 < word.size(); n += 2) queue.push_back(std::stoi(word.substr(n, 2), nullptr, 16));
      continue;
    }
    long quiet = 0, most = 0, after = 0, idle = 0;
    words >> quiet >> most >> after;
    std::string came;
    for (const long end = cycles + most; cycles < end && idle < (came.empty() ? quiet : after); ++cycles) {
      if (left == 0 && !queue.empty()) {
        sent = 1u << 9 | static_cast<unsigned>(queue.front()) << 1;
        queue.pop_front();
        left = 10 * DIVISOR;
      }
      top.rx = left == 0 || (sent >> (10 - (left + DIVISOR - 1) / DIVISOR) & 1);
      left -= left != 0;
      top.clk = 0;
      top.rst = restart;
      top.eval();
      restart = top.restart;
      idle = left || at >= 0 || !top.tx ? 0 : idle + 1;
      if (at < 0) {
        if (!top.tx) at = 0;
      } else if (++at % DIVISOR == DIVISOR / 2) {
        const int bit = at / DIVISOR;
        if (bit >= 1 && bit <= 8) taken = taken >> 1 | (top.tx ? 0x80 : 0);
        if (bit == 9) {
          char hex[3];
          std::snprintf(hex, sizeof hex, "%02x", taken & 0xFF);
          came += hex;
          at = -1;
        }
      }
      top.clk = 1;
      top.eval();
    }
    std::cout << cycles << " " << came << std::endl;
  }
  return 0;
}
