// A board without a board: the system's RTL, clocked, with its UART behind a TCP port. See boards/virtual_board.py.
//
// The wire has DIVISOR cycles a bit. One client at a time, the others wait; bytes from it wait until the wire is free, as in a
// USB bridge. What begins otherwise than a packet is none, such as a browser, which any web page can send here.
// Says its cycles since power-up for each line of standard input, and runs on at full speed while it is asked. Ends where that
// input does, so that it does not outlive the program that started it.

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "Vsystem.h"
#include "verilated.h"

namespace {

constexpr int kBurst = 512;           // cycles between two looks at the socket
constexpr int kQuiet = 2000 * kBurst;  // cycles without a byte, after which the clock slows down
constexpr size_t kQueued = 1 << 16;   // bytes that wait for the wire; more stay in the socket

// Puts bytes on the wire: a start bit, eight bits from the lowest, a stop bit.
class Sender {
 public:
  std::deque<uint8_t> queue;

  bool step() {
    if (left_ == 0 && !queue.empty()) {
      bits_ = 1u << 9 | static_cast<unsigned>(queue.front()) << 1;
      queue.pop_front();
      left_ = 10 * DIVISOR;
    }
    if (left_ == 0) return true;
    const bool bit = bits_ >> (10 - (left_ + DIVISOR - 1) / DIVISOR) & 1;
    --left_;
    return bit;
  }

  bool busy() const { return left_ != 0 || !queue.empty(); }

 private:
  unsigned bits_ = 0;
  int left_ = 0;
};

// Takes bytes off the wire, each bit in its middle.
class Receiver {
 public:
  std::string found;

  void step(bool line) {
    if (at_ < 0) {
      if (!line) at_ = 0;
      return;
    }
    ++at_;
    if (at_ % DIVISOR != DIVISOR / 2) return;
    const int bit = at_ / DIVISOR;
    if (bit == 0 && line) at_ = -1;
    if (bit >= 1 && bit <= 8) byte_ = static_cast<uint8_t>(byte_ >> 1 | (line ? 0x80 : 0));
    if (bit == 9) {
      if (line) found.push_back(static_cast<char>(byte_));
      at_ = -1;
    }
  }

  bool busy() const { return at_ >= 0 || !found.empty(); }

 private:
  int at_ = -1;
  uint8_t byte_ = 0;
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

#ifdef FLASH_ADDR
// A serial flash with what the file holds from FLASH_ADDR on, erased elsewhere. It is asleep at first, as behind the
// configuration of an iCE40; knows release from deep power-down and read, in SPI mode 0.
class Flash {
 public:
  explicit Flash(const char* path) {
    if (std::FILE* file = std::fopen(path, "rb")) {
      for (int byte; (byte = std::fgetc(file)) != EOF;) held_.push_back(static_cast<uint8_t>(byte));
      std::fclose(file);
    } else {
      fail(path);
    }
  }

  bool step(bool select_n, bool clock, bool copi) {
    if (select_n) {
      if (bits_ >= 8 && command_ == 0xAB) awake_ = true;
      bits_ = 0;
    } else if (clock && !clock_) {
      if (bits_ < 8) command_ = static_cast<uint8_t>(command_ << 1 | copi);
      if (bits_ >= 8 && bits_ < 32) addr_ = (addr_ << 1 | copi) & 0xFFFFFF;
      ++bits_;
    } else if (!clock && clock_ && awake_ && command_ == 0x03 && bits_ >= 32) {
      const long at = static_cast<long>(addr_) + (bits_ - 32) / 8 - FLASH_ADDR;
      const uint8_t byte = at >= 0 && at < static_cast<long>(held_.size()) ? held_[at] : 0xFF;
      out_ = byte >> (7 - bits_ % 8) & 1;
    }
    clock_ = clock;
    return out_;
  }

 private:
  std::vector<uint8_t> held_;
  bool awake_ = false;
  bool clock_ = false;
  bool out_ = true;
  long bits_ = 0;
  uint8_t command_ = 0;
  uint32_t addr_ = 0;
};
#endif

int listen_on(const char* host, const char* port) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  wanted.ai_socktype = SOCK_STREAM;
  if (const int wrong = getaddrinfo(host, port, &wanted, &found)) {
    std::fprintf(stderr, "%s: %s\n", host, gai_strerror(wrong));
    std::exit(1);
  }
  const int listening = socket(found->ai_family, SOCK_STREAM, 0);
  if (listening < 0) fail("socket");
  const int yes = 1;
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listening, found->ai_addr, found->ai_addrlen) < 0) fail("bind");
  freeaddrinfo(found);
  if (listen(listening, 1) < 0) fail("listen");
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size);
  char taken[NI_MAXSERV];
  getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, taken, sizeof taken, NI_NUMERICSERV);
  fcntl(listening, F_SETFL, O_NONBLOCK);
  std::printf("%s\n", taken);
  std::fflush(stdout);
  return listening;
}

}  // namespace

// Arguments: address, port, and a file with what the flash holds.
int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  if (argc < 4) return 2;
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Vsystem top(&context);
#ifdef FLASH_ADDR
  Flash flash(argv[3]);
#endif
  const int listening = listen_on(argv[1], argv[2]);
  int client = -1;
  bool begun = false;  // whether the client has sent anything
  Sender to_board;
  Receiver from_board;
  fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  long quiet = 0, cycles = 0;
  bool restart = true;
  for (;;) {
    for (int cycle = 0; cycle < kBurst; ++cycle) {
      top.clk = 0;
      top.rst = restart;
      top.rx = to_board.step();
      top.eval();
      restart = top.restart;
      from_board.step(top.tx);
#ifdef FLASH_ADDR
      top.flash_cipo = flash.step(top.flash_select_n, top.flash_clock, top.flash_copi);
      top.eval();
#endif
      top.clk = 1;
      top.eval();
    }
    cycles += kBurst;
    const bool busy = to_board.busy() || from_board.busy();
    quiet = busy ? 0 : quiet + kBurst;
    if (quiet > kQuiet) {
      pollfd waits[] = {{client >= 0 ? client : listening, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
      poll(waits, 2, 10);
    }
    char asked[64];
    const ssize_t lines = read(STDIN_FILENO, asked, sizeof asked);
    if (lines == 0) return 0;
    for (ssize_t line = 0; line < lines; ++line) std::printf("%ld\n", cycles);
    if (lines > 0) {
      std::fflush(stdout);
      quiet = 0;
    }
    // Who says nothing keeps nobody out.
    const int more = begun ? -1 : accept(listening, nullptr, nullptr);
    if (more >= 0) {
      if (client >= 0) close(client);
      client = more;
      const int yes = 1;
      setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      fcntl(client, F_SETFL, O_NONBLOCK);
      to_board.queue.clear();
      from_board.found.clear();
    }
    if (client < 0) {
      from_board.found.clear();
      continue;
    }
    char bytes[4096];
    const bool room = to_board.queue.size() < kQueued;
    const ssize_t got = room ? recv(client, bytes, sizeof bytes, 0) : 1;
    const bool none = room && got > 0 && !begun && static_cast<uint8_t>(bytes[0]) != SYNC;
    if (room && got > 0 && !none) {
      to_board.queue.insert(to_board.queue.end(), bytes, bytes + got);
      begun = true;
      quiet = 0;
    }
    const bool gone = none || got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
    if (!gone && !from_board.found.empty()) {
      // What a host does not take is lost, as on a wire.
      send(client, from_board.found.data(), from_board.found.size(), MSG_NOSIGNAL);
    }
    from_board.found.clear();
    if (gone) {
      close(client);
      client = -1;
      begun = false;
    }
  }
}
