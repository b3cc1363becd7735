// A linear guess of one user's scores, fitted while the user is served: ridge regression over the items'
// features.
#ifndef NANN_OPS_CORE_WALK_PROXY_MODEL_H_
#define NANN_OPS_CORE_WALK_PROXY_MODEL_H_

#include <cstdint>
#include <vector>

#include "../index/table.h"
#include "absl/types/span.h"
#include "proxy_kernels.h"

namespace nann {

// Guesses a standardized score z from an item's row [columns]: column 0 is the guess for any user, and the
// fit corrects it by an intercept and a weight for each other column.
//
// Every sum has a fixed order, and products are rounded before they are added (-ffp-contract=off): the same
// observations give the same guesses, to the last bit, on every processor and in the NumPy oracle. Rows are
// float32 [n, columns], row by row. Keeps its memory between fits. Not thread-safe.
class ProxyModel {
 public:
  explicit ProxyModel(const ProxyKernels& kernels = *SupportedProxyKernels().back()) : kernels_(kernels) {}

  // Forgets all observations. `columns` is a multiple of kProxyLanes; `noise` is the variance of a score that
  // the features do not explain, above 0.
  void Reset(int64_t columns, double noise);

  // Adds observations, one row for each of `scores`, and fits the weights to all. O(columns^3).
  void Fit(const float* rows, absl::Span<const double> scores);

  // The guess for each of `n` rows; -infinity where it is not a number.
  void Guess(const float* rows, int64_t n, float* guesses) const;

  // The guess for each of these rows of a floating-point table, which is as wide as the model.
  void Guess(const Table& table, absl::Span<const int32_t> positions, std::vector<float>* guesses);

  int64_t columns() const { return columns_; }

 private:
  // Sets the weights to the solution of the normal equations.
  void Solve();

  const ProxyKernels& kernels_;
  int64_t columns_ = 0;
  std::vector<double> normal_;  // [columns, columns], the upper triangle: sum of f f' plus the prior.
  std::vector<double> right_;   // [columns]: sum of f (z - column 0).
  std::vector<double> factor_;  // Scratch of Fit: the factor of Cholesky's decomposition.
  std::vector<double> solution_;
  std::vector<double> observed_;     // f of each row: the row with 1 in place of column 0.
  std::vector<float> coefficients_;  // [columns]; that of column 0 is 1.
  float intercept_ = 0;
  std::vector<float> rows_;  // Scratch of Guess.
};

}  // namespace nann

#endif  // NANN_OPS_CORE_WALK_PROXY_MODEL_H_
