// The main function of a fuzz target: TARGET COUNT [SEED].
#ifndef NANN_TESTS_CC_FUZZ_MAIN_H_
#define NANN_TESTS_CC_FUZZ_MAIN_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace nann {

// Calls `run` with the command line's numbers; the same seed, 1 where none is given, draws the same inputs.
inline int FuzzMain(int argc, char** argv, const char* usage, int (*run)(int64_t count, uint32_t seed)) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s\n", usage);
    return 2;
  }
  return run(std::atoll(argv[1]), argc > 2 ? static_cast<uint32_t>(std::atoll(argv[2])) : 1);
}

}  // namespace nann

#endif  // NANN_TESTS_CC_FUZZ_MAIN_H_
