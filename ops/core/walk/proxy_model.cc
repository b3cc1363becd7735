#include "proxy_model.h"

namespace nann {
namespace {

// The prior of the intercept: next to none, for any user may score all items higher than the sample did.
constexpr double kInterceptPrior = 1e-6;

}  // namespace

void ProxyModel::Reset(int64_t columns, double noise) {
  columns_ = columns;
  normal_.assign(columns * columns, 0.0);
  for (int64_t i = 0; i < columns; ++i) normal_[i * columns + i] = i == 0 ? kInterceptPrior : noise;
  right_.assign(columns, 0.0);
  coefficients_.assign(columns, 0.0f);
  intercept_ = 0;
}

void ProxyModel::Fit(const float* rows, absl::Span<const double> scores) {
  const int64_t n = columns_;
  observed_.resize(scores.size() * n);
  for (size_t s = 0; s < scores.size(); ++s) {
    const float* row = rows + s * n;
    double* f = observed_.data() + s * n;
    const double target = scores[s] - static_cast<double>(row[0]);
    f[0] = 1.0;
    for (int64_t i = 1; i < n; ++i) f[i] = static_cast<double>(row[i]);
    double* right = right_.data();
    for (int64_t i = 0; i < n; ++i) right[i] += f[i] * target;
  }
  kernels_.add_outer_products(observed_.data(), static_cast<int64_t>(scores.size()), n, normal_.data());
  Solve();
}

// Two substitutions with the factor of Cholesky's decomposition.
void ProxyModel::Solve() {
  const int64_t n = columns_;
  factor_ = normal_;
  solution_ = right_;
  kernels_.factorize(n, factor_.data());
  double* x = solution_.data();
  for (int64_t j = 0; j < n; ++j) {
    const double* row = factor_.data() + j * n;
    x[j] /= row[j];
    const double solved = x[j];
    for (int64_t k = j + 1; k < n; ++k) x[k] -= row[k] * solved;
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    const double* row = factor_.data() + i * n;
    double value = x[i];
    for (int64_t j = n - 1; j > i; --j) value -= row[j] * x[j];
    x[i] = value / row[i];
  }
  intercept_ = static_cast<float>(x[0]);
  coefficients_[0] = 1.0f;
  for (int64_t i = 1; i < n; ++i) coefficients_[i] = static_cast<float>(x[i]);
}

void ProxyModel::Guess(const float* rows, int64_t n, float* guesses) const {
  kernels_.guess(rows, n, columns_, coefficients_.data(), intercept_, guesses);
}

void ProxyModel::Guess(const Table& table, absl::Span<const int32_t> positions, std::vector<float>* guesses) {
  const int64_t n = static_cast<int64_t>(positions.size());
  guesses->resize(n);
  if (table.type() == TableType::kFloat16 && kernels_.guess_float16 != nullptr) {
    kernels_.guess_float16(table.AsFloat16(), positions.data(), n, columns_, coefficients_.data(), intercept_,
                           guesses->data());
    return;
  }
  rows_.resize(n * columns_);
  table.Gather(positions, rows_.data());
  Guess(rows_.data(), n, guesses->data());
}

}  // namespace nann
