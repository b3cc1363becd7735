#include "proxy_model.h"

#include <cmath>
#include <limits>

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
  observed_.resize(columns);
  coefficients_.assign(columns, 0.0f);
  intercept_ = 0;
}

void ProxyModel::Observe(const float* row, double z) {
  const int64_t n = columns_;
  const double target = z - static_cast<double>(row[0]);
  double* f = observed_.data();
  f[0] = 1.0;
  for (int64_t i = 1; i < n; ++i) f[i] = static_cast<double>(row[i]);
  for (int64_t i = 0; i < n; ++i) {
    const double value = f[i];
    double* sums = normal_.data() + i * n;
    for (int64_t j = i; j < n; ++j) sums[j] += value * f[j];
    right_[i] += value * target;
  }
}

// Cholesky's decomposition, row by row of the upper factor, and two substitutions.
void ProxyModel::Fit() {
  const int64_t n = columns_;
  factor_ = normal_;
  solution_ = right_;
  double* x = solution_.data();
  for (int64_t j = 0; j < n; ++j) {
    double* row = factor_.data() + j * n;
    const double root = std::sqrt(row[j]);
    row[j] = root;
    for (int64_t k = j + 1; k < n; ++k) row[k] /= root;
    for (int64_t i = j + 1; i < n; ++i) {
      double* below = factor_.data() + i * n;
      const double value = row[i];
      for (int64_t k = i; k < n; ++k) below[k] -= value * row[k];
    }
    x[j] /= root;
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
  const float* weights = coefficients_.data();
  for (int64_t item = 0; item < n; ++item) {
    const float* row = rows + item * columns_;
    float lanes[kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = row[lane] * weights[lane];
    for (int64_t column = kLanes; column < columns_; column += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] += row[column + lane] * weights[column + lane];
      }
    }
    for (int64_t half = kLanes / 2; half > 0; half /= 2) {
      for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    const float guess = lanes[0] + intercept_;
    guesses[item] = std::isnan(guess) ? -std::numeric_limits<float>::infinity() : guess;
  }
}

}  // namespace nann
