// The arithmetic of the proxy model, in one version per instruction set, all with the same results.
#ifndef NANN_OPS_CORE_WALK_PROXY_KERNELS_H_
#define NANN_OPS_CORE_WALK_PROXY_KERNELS_H_

#include <cstdint>
#include <vector>

namespace nann {

// `columns` is a multiple of kProxyLanes.
inline constexpr int64_t kProxyLanes = 16;

// The kernels of one instruction set. Every sum has a fixed order, and products are rounded before they are
// added: all versions give the same bits. Constant, so thread-safe.
struct ProxyKernels {
  const char* name;
  // matrix [columns, columns] += sum of f f' over `n` rows f [columns], in their order. Only the upper
  // triangle counts; what is below it is unspecified.
  void (*add_outer_products)(const double* rows, int64_t n, int64_t columns, double* matrix);
  // Replaces the upper triangle of a positive definite matrix by its factor U: matrix = U' U.
  void (*factorize)(int64_t columns, double* matrix);
  // guesses[i] = rows[i] . weights + intercept; -infinity where that is not a number.
  void (*guess)(const float* rows, int64_t n, int64_t columns, const float* weights, float intercept,
                float* guesses);
  // The same for the rows `positions` [n] of a table of float16 numbers. nullptr where the processor has no
  // instruction for these.
  void (*guess_float16)(const uint16_t* table, const int32_t* positions, int64_t n, int64_t columns,
                        const float* weights, float intercept, float* guesses);
};

// All that this processor can run, the fastest last.
const std::vector<const ProxyKernels*>& SupportedProxyKernels();

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_PROXY_KERNELS_H_
