// A machine of which single bits are flipped, each in a process of its own, from the cycle of the flip on.
//
//   program undisturbed FRAMES PLACES EXPECTED LIMIT [+PLUSARG...]  no flip, at most LIMIT cycles; EXPECTED is written
//   program flip FRAMES PLACES EXPECTED FLIPS [+PLUSARG...]         a line for each line of FLIPS, in that order
//
// PLACES has a line a place: name, bits, words, whether anything writes it. FLIPS has a line a flip: place, word, bit, cycle, in
// ascending order of cycles; a flip is done before anything of its cycle settles. EXPECTED's first line has the cycles of the clock
// and the longest in which no token passes, the second what passed, then come a line a place of which bits of a register change,
// and at last states by cycle.
//
// Before this text stand that of ../bench.cpp and kEnds, of each record which bits say that a frame ends, and their value there;
// kInput, the record of the input's events; kResult, that of the answers.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include "verilated_syms.h"

namespace {

constexpr long kPatience = 500;    // cycles that a disturbed machine may take longer, twice as long and so many
constexpr long kCheckpoint = 256;  // cycles from one look at all state to the next
constexpr int kMostFiles = 64;     // files that are open at once

struct Place {
  std::string name;
  uint8_t* data;
  size_t bits, words, bytes;  // of a word, words, of a word as it is stored
  bool written;

  void flip(size_t word, size_t bit) { data[word * bytes + bit / 8] ^= 1u << bit % 8; }
  bool has(size_t word, size_t bit) const { return data[word * bytes + bit / 8] >> bit % 8 & 1; }
};

// As Verilog's text has names, without what marks an escaped one.
std::string plain(const std::string& name) {
  std::string found;
  for (const char c : name)
    if (c != '\\' && c != ' ') found += c;
  return found;
}

uint64_t mixed(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

std::vector<Place> places(Bench& bench, const char* path) {
  std::map<std::string, const VerilatedVar*> known;
  const std::string top = "TOP.tb.dut";
  for (const auto& [key, scope] : *bench.context().scopeNameMap()) {
    const std::string name = plain(scope->name());
    if (name.compare(0, top.size(), top) || !scope->varsp()) continue;
    const std::string below = name.size() > top.size() ? name.substr(top.size() + 1) + "." : "";
    for (const auto& [var, what] : *scope->varsp()) known[below + plain(var)] = &what;
  }
  std::vector<Place> found;
  std::ifstream lines(path);
  Place place;
  while (lines >> place.name >> place.bits >> place.words >> place.written) {
    const auto at = known.find(place.name);
    if (at == known.end() || at->second->entBits() != place.bits ||
        at->second->totalSize() != place.words * at->second->entSize()) {
      std::fprintf(stderr, "%s is not in the simulation as it is in the Verilog\n", place.name.c_str());
      std::exit(3);
    }
    place.data = static_cast<uint8_t*>(at->second->datap());
    place.bytes = at->second->entSize();
    found.push_back(place);
  }
  return found;
}

// What the check of the weights has found, where there is one: complete passes, and how many and which places say that a core's
// weights differ.
void print_check(std::ostream& out, const std::vector<Place>& all) {
  constexpr char kDiffers[] = ".weight_check.differs", kPasses[] = "pass_counter.passes";
  uint32_t passes = 0;
  std::vector<size_t> differ;
  for (size_t n = 0; n < all.size(); ++n) {
    const std::string& name = all[n].name;
    if (name == kPasses) std::memcpy(&passes, all[n].data, sizeof passes);
    const size_t size = sizeof kDiffers - 1;
    if (name.size() > size && !name.compare(name.size() - size, size, kDiffers) && all[n].has(0, 0)) differ.push_back(n);
  }
  out << passes << " " << differ.size() << " ";
  for (const size_t n : differ) out << n << " ";
}

// What passes on the links, frame by frame.
class Watch {
 public:
  struct Answer {
    long cycle;
    std::vector<uint32_t> words;
  };

  void look(const Bench& bench) {
    for (int record = 0; record < kRecords; ++record) {
      if (!bench.has(record)) continue;
      quiet_ = 0;
      if (record == kInput) ++fed_;
      if (record == kResult) {
        Answer answer{bench.cycle(), {}};
        for (int n = 0; n + 1 < kWords[record]; ++n) answer.words.push_back(bench.word(record, n));
        answers_.push_back(answer);
      }
      const auto [mask, value] = std::pair(kEnds[record][0], kEnds[record][1]);
      if (!mask) continue;
      for (int n = 0; n + 1 < kWords[record]; ++n) running_[record] = mixed(running_[record], bench.word(record, n));
      if ((bench.word(record, 0) & mask) == value) {
        frames_[record].push_back(running_[record]);
        running_[record] = 0;
      }
    }
    pause_ = std::max(pause_, quiet_);
    // Before the first cycle weights may be loaded.
    quiet_ = bench.cycle() ? quiet_ + 1 : 0;
  }

  // Of all that decides what comes; and of that and the frames that are under way on the links.
  std::pair<uint64_t, uint64_t> state(const std::vector<Place>& places) const {
    uint64_t hash = mixed(fed_, answers_.size());
    for (const Place& place : places) {
      if (!place.written) continue;
      const size_t bytes = place.words * place.bytes;
      size_t at = 0;
      for (; at + 8 <= bytes; at += 8) {
        uint64_t value;
        std::memcpy(&value, place.data + at, 8);
        hash = mixed(hash, value);
      }
      for (; at < bytes; ++at) hash = mixed(hash, place.data[at]);
    }
    uint64_t all = hash;
    for (int record = 0; record < kRecords; ++record) all = mixed(mixed(all, running_[record]), frames_[record].size());
    return {hash, all};
  }

  long quiet() const { return quiet_; }
  long pause() const { return pause_; }

  // Answers, and of each link the frames: numbers in words, all on one line.
  void print(std::ostream& out) const {
    out << answers_.size();
    for (const Answer& answer : answers_) {
      out << " " << answer.cycle << " ";
      for (auto word = answer.words.rbegin(); word != answer.words.rend(); ++word) {
        char text[9];
        std::snprintf(text, sizeof text, "%08x", *word);
        out << text;
      }
    }
    for (int record = 0; record < kRecords; ++record) {
      if (!kEnds[record][0]) continue;
      out << " " << frames_[record].size() << std::hex;
      for (const uint64_t frame : frames_[record]) out << " " << frame;
      out << std::dec;
    }
  }

 private:
  std::vector<Answer> answers_;
  std::vector<uint64_t> running_ = std::vector<uint64_t>(kRecords, 0);
  std::vector<std::vector<uint64_t>> frames_{kRecords};
  uint64_t fed_ = 0;
  long quiet_ = 0, pause_ = 0;
};

struct Expected {
  long steps = 0, pause = 0;
  std::map<long, std::pair<uint64_t, uint64_t>> states;  // by cycle
};

int undisturbed(int argc, char** argv) {
  const long frames = std::atol(argv[2]);
  Bench bench(argc, argv);
  std::vector<Place> all = places(bench, argv[3]);
  std::ofstream out(argv[4]);
  Watch watch;
  std::vector<std::vector<uint8_t>> first(all.size()), changed(all.size());
  std::ostringstream states;
  long after = 0;
  const long limit = std::atol(argv[5]);
  for (; after < kAfter; bench.tick()) {
    if (bench.steps() > limit) return 4;
    const long cycle = bench.cycle();
    if (cycle && cycle % kCheckpoint == 0) {
      const auto [state, whole] = watch.state(all);
      states << cycle << " " << state << " " << whole << "\n";
    }
    // Which bits of registers change, from the first cycle on in which a token may come.
    for (size_t n = 0; cycle && n < all.size(); ++n) {
      if (all[n].words > 1) continue;
      if (first[n].empty()) {
        first[n].assign(all[n].data, all[n].data + all[n].bytes);
        changed[n].assign(all[n].bytes, 0);
      }
      for (size_t byte = 0; byte < all[n].bytes; ++byte) changed[n][byte] |= all[n].data[byte] ^ first[n][byte];
    }
    bench.settle();
    watch.look(bench);
    after = bench.answered() >= frames ? after + 1 : 0;
  }
  out << bench.steps() << " " << watch.pause() << "\n";
  print_check(out, all);
  watch.print(out);
  out << "\n";
  for (size_t n = 0; n < all.size(); ++n) {
    out << "x";
    for (const uint8_t byte : changed[n]) {
      char text[3];
      std::snprintf(text, sizeof text, "%02x", byte);
      out << text;
    }
    out << "\n";
  }
  out << states.str();
  bench.end();
  return out ? 0 : 5;
}

Expected read(const char* path, size_t places) {
  Expected found;
  std::ifstream lines(path);
  std::string line;
  lines >> found.steps >> found.pause;
  for (size_t n = 0; n < places + 2; ++n) std::getline(lines, line);
  long cycle;
  uint64_t state, whole;
  while (lines >> cycle >> state >> whole) found.states[cycle] = {state, whole};
  return found;
}

// From the cycle of the flip on; a line of how it ends, since when all state is as it would be without (-1: never), and the bit,
// before the flip and when all has settled after it; then what passed.
void disturbed(Bench& bench, Watch& watch, std::vector<Place>& all, const Expected& expected, long frames, const long* flip) {
  Place& place = all[flip[0]];
  const bool before = place.has(flip[1], flip[2]);
  place.flip(flip[1], flip[2]);
  bench.settle();
  const bool after_flip = place.has(flip[1], flip[2]);
  const char* end = "ran";
  long healed = -1, after = bench.answered() >= frames ? 1 : 0;
  const long limit = 2 * expected.steps + kPatience, pause = 2 * expected.pause + kPatience;
  while (after < kAfter) {
    const long cycle = bench.cycle();
    // What nothing writes stays as it is.
    if (cycle % kCheckpoint == 0 && cycle > flip[3] && place.written) {
      const auto at = expected.states.find(cycle);
      if (at != expected.states.end()) {
        const auto [state, whole] = watch.state(all);
        if (state != at->second.first) healed = -1;
        else if (healed < 0) healed = cycle;
        if (healed >= 0 && whole == at->second.second) {
          end = "same";
          break;
        }
      }
    }
    bench.settle();
    watch.look(bench);
    after = bench.answered() >= frames ? after + 1 : 0;
    if (!after && (bench.steps() > limit || watch.quiet() > pause)) {
      end = "hang";
      break;
    }
    bench.tick();
  }
  std::ostringstream out;
  out << end << " " << bench.cycle() << " " << healed << " " << before << " " << after_flip << " ";
  print_check(out, all);
  watch.print(out);
  std::printf("%s\n", out.str().c_str());
  std::fflush(stdout);
}

int flip(int argc, char** argv) {
  const long frames = std::atol(argv[2]);
  Bench bench(argc, argv);
  std::vector<Place> all = places(bench, argv[3]);
  const Expected expected = read(argv[4], all.size());
  std::ifstream flips(argv[5]);
  Watch watch;
  long next[4];
  while (flips >> next[0] >> next[1] >> next[2] >> next[3]) {
    while (bench.cycle() < next[3]) {
      if (bench.steps() > 2 * expected.steps + kPatience) return 4;
      bench.settle();
      watch.look(bench);
      bench.tick();
    }
    // Processes share where they are in the files that both have open.
    off_t at[kMostFiles];
    for (int file = 3; file < kMostFiles; ++file) at[file] = lseek(file, 0, SEEK_CUR);
    std::fflush(stdout);
    const pid_t child = fork();
    if (child < 0) return 6;
    if (child == 0) {
      disturbed(bench, watch, all, expected, frames, next);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status) std::printf("crash\n");
    std::fflush(stdout);
    for (int file = 3; file < kMostFiles; ++file)
      if (at[file] >= 0) lseek(file, at[file], SEEK_SET);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 5 && !std::strcmp(argv[1], "undisturbed")) return undisturbed(argc, argv);
  if (argc > 5 && !std::strcmp(argv[1], "flip")) return flip(argc, argv);
  return 2;
}
