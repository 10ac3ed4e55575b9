// The bench of a machine (bench.v.j2) as Verilator compiles it, a cycle at a time, and what passes in each.
//
// Before this text stands kWords: of each record how many words of `seen` it has, and of the counters at last.

#include <cstdint>
#include <memory>
#include <vector>

#include "Vtb.h"
#include "verilated.h"

namespace {

constexpr int kRecords = static_cast<int>(sizeof kWords / sizeof kWords[0]) - 1;
constexpr long kResetCycles = 4;
constexpr long kAfter = 1000;  // cycles after the last answer, for tokens too many

class Bench {
 public:
  Bench(int argc, char** argv) : context_(new VerilatedContext) {
    context_->commandArgs(argc, argv);
    top_.reset(new Vtb(context_.get()));
    top_->clk = 0;
    top_->rst = 1;
  }

  // To where all signals have their values of this cycle.
  void settle() {
    top_->clk = 0;
    top_->rst = steps_ < kResetCycles;
    top_->eval();
  }

  void tick() {
    top_->clk = 1;
    top_->eval();
    ++steps_;
  }

  bool has(int record) const { return top_->seen[start(record)] & 1; }

  uint32_t word(int record, int n) const {
    // The flag is the lowest of 32 bits, the token begins behind them.
    return top_->seen[start(record) + 1 + n];
  }

  std::vector<uint32_t> counters() const {
    std::vector<uint32_t> found;
    for (int n = 0; n < kWords[kRecords]; ++n) found.push_back(top_->seen[start(kRecords) + n]);
    return found;
  }

  long steps() const { return steps_; }
  long cycle() const { return top_->cycle; }
  long answered() const { return top_->answered; }

  void end() { top_->final(); }

  Vtb& top() { return *top_; }
  VerilatedContext& context() { return *context_; }

 private:
  static int start(int record) {
    int at = 0;
    for (int n = 0; n < record; ++n) at += kWords[n];
    return at;
  }

  std::unique_ptr<VerilatedContext> context_;
  std::unique_ptr<Vtb> top_;
  long steps_ = 0;
};

}  // namespace
