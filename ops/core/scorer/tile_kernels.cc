#include "tile_kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "tile_kernels_versions.h"

namespace nann {
namespace {

// b[k, n], or 0 outside.
float At(const float* b, int64_t stride, bool transposed, int64_t depth, int64_t width, int64_t k,
         int64_t n) {
  if (k >= depth || n >= width) return 0.0f;
  return transposed ? b[n * stride + k] : b[k * stride + n];
}

#if defined(__x86_64__)
// Linux lets a process use the tiles of AMX after it has asked for them: their state is large. Asking again
// changes nothing.
bool MayUseTiles() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) return false;
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of the kernel's asm/prctl.h.
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA.
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

std::vector<const TileKernels*> Supported() {
  std::vector<const TileKernels*> kernels = {&GenericTileKernels()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels.push_back(&Avx2TileKernels());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    kernels.push_back(&Avx512TileKernels());
    if (__builtin_cpu_supports("avx512bf16")) {
      kernels.push_back(&Avx512Bfloat16TileKernels());
      if (MayUseTiles()) kernels.push_back(&AmxTileKernels());
    }
  }
#endif
  return kernels;
}

// Whether products of bfloat16 are faster than those of float32, or there are none. Zen 4 runs twice as many
// of them. Intel's processors run no more of their AVX-512 form, and the rounding comes on top: a request
// took 5.56 ms in place of float32's 4.07. Their matrix units do.
bool ProductsOfBfloat16Pay(const TileKernels* kernels) {
#if defined(__x86_64__)
  return kernels != &Avx512Bfloat16TileKernels() || !__builtin_cpu_is("intel");
#else
  return true;
#endif
}

}  // namespace

const std::vector<const TileKernels*>& SupportedTileKernels() {
  static const auto* const kernels = new std::vector<const TileKernels*>(Supported());
  return *kernels;
}

const TileKernels& BestTileKernels(const char* most) {
  for (const TileKernels* kernels : SupportedTileKernels()) {
    if (most != nullptr && std::strcmp(kernels->name, most) == 0) return *kernels;
  }
  const std::vector<const TileKernels*>& all = SupportedTileKernels();
  return **std::find_if(all.rbegin(), all.rend(), ProductsOfBfloat16Pay);
}

const TileKernels& BestTileKernels() {
  static const TileKernels& best = BestTileKernels(std::getenv("NANN_MAX_CPU_ISA"));
  return best;
}

void PackStrips(const float* b, int64_t stride, bool transposed, int64_t depth, int64_t width, float* out) {
  for (int64_t strip = 0; strip < width; strip += kStrip) {
    if (!transposed && strip + kStrip <= width) {
      for (int64_t k = 0; k < depth; ++k, out += kStrip) {
        std::memcpy(out, b + k * stride + strip, kStrip * sizeof(float));
      }
      continue;
    }
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t n = strip; n < strip + kStrip; ++n) {
        *out++ = At(b, stride, transposed, depth, width, k, n);
      }
    }
  }
}

void PackStripsBfloat16(const float* b, int64_t stride, bool transposed, int64_t depth, int64_t width,
                        uint16_t* out) {
  for (int64_t strip = 0; strip < width; strip += kStrip) {
    for (int64_t k = 0; k < PaddedDepth(depth); k += 2) {
      for (int64_t n = strip; n < strip + kStrip; ++n) {
        *out++ = RoundToBfloat16(At(b, stride, transposed, depth, width, k, n));
        *out++ = RoundToBfloat16(At(b, stride, transposed, depth, width, k + 1, n));
      }
    }
  }
}

}  // namespace nann
