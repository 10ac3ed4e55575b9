// A netlist with many mutants in its bench, compared with what the netlist without one lets pass, cycle by cycle.
//
//   program record LIMIT FRAMES END [+PLUSARG...]            no mutant; END is a file for cycles and counters at the end
//   program compare RECORD END FRAMES MUTANTS [+PLUSARG...]  a line a mutant: number, check, record, tokens before, cycle
//
// MUTANTS are numbers, with commas between.
//
// END's second line has the numbers of those tokens of the first record that say how much time has passed: they are compared as long as
// all came when it came without a mutant.
//
// Each mutant is simulated in a process of its own: one that crashes or never settles ends no other. Before this text stand that of
// ../bench.cpp and kLatency, the bits of a record that say how long a frame took.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr long kPatience = 500;  // cycles that a mutant may take longer, twice as long and so many

struct Token {
  long cycle;
  std::vector<uint32_t> words;
};

struct Expected {
  std::vector<std::vector<Token>> tokens{kRecords};
  long steps = 0;  // clock cycles, reset and loading included
  long pause = 0;  // the longest in which no token passes
  std::vector<uint32_t> counters;
  std::set<size_t> untold;
};

struct Verdict {
  std::string check = "none";
  int record = -1;
  long tokens = 0, cycle = 0;
};

// Whether a token differs but for the time that a frame took, and whether it differs at all.
std::pair<bool, bool> differs(const Bench& bench, int record, const Token& token) {
  bool differs = false, in_latency = false;
  for (int n = 0; n + 1 < kWords[record]; ++n) {
    const uint32_t wrong = bench.word(record, n) ^ token.words[n];
    uint32_t latency = 0;
    for (int bit = 0; bit < 32 && record == kLatency[0]; ++bit)
      if (32 * n + bit >= kLatency[1] && 32 * n + bit < kLatency[2]) latency |= 1u << bit;
    differs |= (wrong & ~latency) != 0;
    in_latency |= wrong != 0;
  }
  return {differs, in_latency};
}

Verdict compare(Bench& bench, const Expected& expected, long frames) {
  std::vector<size_t> at(kRecords, 0);
  Verdict late;
  long tokens = 0, last = 0, after = 0;
  const long limit = 2 * expected.steps + kPatience, pause = 2 * expected.pause + kPatience;
  while (after < kAfter) {
    bench.settle();
    const long cycle = bench.cycle();
    for (int record = 0; record < kRecords; ++record) {
      if (!bench.has(record)) continue;
      const auto& all = expected.tokens[record];
      if (at[record] >= all.size()) return {"token", record, tokens, cycle};
      const Token& token = all[at[record]++];
      auto [wrong, slow] = differs(bench, record, token);
      if (late.record < 0 && token.cycle != cycle) late = {"cycle", record, tokens, cycle};
      // Once anything came at another time, what tells of time may too.
      wrong &= record != 0 || late.record < 0 || !expected.untold.count(at[0] - 1);
      if (wrong) return {"token", record, tokens, cycle};
      if (late.record < 0 && slow) late = {"latency", record, tokens, cycle};
      last = bench.steps();
      ++tokens;
    }
    after = bench.answered() >= frames ? after + 1 : 0;
    if (!after && (bench.steps() > limit || bench.steps() - last > pause + kResetCycles))
      return {"hang", late.record, tokens, late.record < 0 ? cycle : late.cycle};
    bench.tick();
  }
  for (int record = 0; record < kRecords; ++record)
    if (at[record] < expected.tokens[record].size()) return {"token", record, tokens, bench.cycle()};
  if (bench.counters() != expected.counters) return {"counter", -1, tokens, bench.cycle()};
  return late;
}

Expected read(const char* record, const char* end) {
  Expected found;
  std::ifstream lines(record), counters(end);
  int number;
  long cycle;
  std::string hex;
  std::vector<long> cycles{0};
  while (lines >> number >> cycle >> hex) {
    std::vector<uint32_t> words(kWords[number] - 1, 0);
    for (size_t n = 0; n < hex.size(); ++n) {
      const size_t digit = hex.size() - 1 - n;
      words[n / 8] |= static_cast<uint32_t>(std::stoul(hex.substr(digit, 1), nullptr, 16)) << (n % 8 * 4);
    }
    found.tokens[number].push_back({cycle, words});
    cycles.push_back(cycle);
  }
  for (size_t n = 1; n < cycles.size(); ++n) found.pause = std::max(found.pause, cycles[n] - cycles[n - 1]);
  long ran = 0;
  counters >> found.steps >> ran;
  // Before the first token weights may be loaded.
  found.pause += found.steps - ran;
  std::string line;
  std::getline(counters, line);
  std::istringstream words(line);
  for (uint32_t word; words >> word;) found.counters.push_back(word);
  for (size_t number; counters >> number;) found.untold.insert(number);
  return found;
}

int record(int argc, char** argv) {
  const long limit = std::atol(argv[2]), frames = std::atol(argv[3]);
  Bench bench(argc, argv);
  bench.top().mutant = 0;
  long after = 0;
  for (; after < kAfter && bench.steps() < limit; bench.tick()) {
    bench.settle();
    after = bench.answered() >= frames ? after + 1 : 0;
  }
  bench.settle();
  std::ofstream end(argv[4]);
  end << bench.steps() << " " << bench.cycle();
  for (const uint32_t word : bench.counters()) end << " " << word;
  end << "\n";
  bench.end();
  return after < kAfter;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 4 && !std::strcmp(argv[1], "record")) return record(argc, argv);
  if (argc < 6 || std::strcmp(argv[1], "compare")) return 2;
  const Expected expected = read(argv[2], argv[3]);
  const long frames = std::atol(argv[4]);
  std::istringstream mutants(argv[5]);
  for (std::string number; std::getline(mutants, number, ',');) {
    const long mutant = std::stol(number);
    const pid_t child = fork();
    if (child < 0) return 3;
    if (child == 0) {
      std::freopen("/dev/null", "w", stderr);
      Bench bench(argc, argv);
      bench.top().mutant = static_cast<unsigned>(mutant);
      const Verdict found = compare(bench, expected, frames);
      std::printf("%ld %s %d %ld %ld\n", mutant, found.check.c_str(), found.record, found.tokens, found.cycle);
      std::fflush(stdout);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status) std::printf("%ld crash -1 0 0\n", mutant);
    std::fflush(stdout);
  }
  return 0;
}
