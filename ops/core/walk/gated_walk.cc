#include "gated_walk.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nann {
namespace {

// Candidates that are expanded at once: their neighbours fill a batch, and better candidates that these lead
// to are not waited for too long.
constexpr int64_t kExpand = 32;

// The share of the mean error around an item that its guess takes over: near items err in the same direction.
constexpr double kErrorShare = 0.7;

// The errors of the guesses are larger among the best items than among those that the fit has seen, so the
// variance is taken larger at first, and then follows the errors that are met; each counts for a hundredth.
constexpr double kFirstVariance = 1.5;
constexpr double kVarianceDecay = 0.99;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

}  // namespace

void GatedWalk::Start(const Graph* graph, const Options& options, ProxyModel* model, const Table* features,
                      const ScoreScale& scale, absl::Span<const Candidate> scored,
                      const ItemSelector* selector) {
  graph_ = graph;
  options_ = options;
  model_ = model;
  features_ = features;
  scale_ = scale;
  selector_ = selector;
  numbers_.Clear();
  items_.clear();
  candidates_.clear();
  for (const Candidate& candidate : scored) {
    numbers_.NumberOf(candidate.position);
    items_.push_back({candidate.position, 0, 0, 0});
    if (!std::isnan(candidate.score)) candidates_.push_back(candidate);
  }
  if (selector_ != nullptr) selector_->Keep(&candidates_);
  refined_.assign(items_.size(), kUnknown);
  GuessFrom(0);
  SetFirstVariance(scored);
  // Twice as many as count, so that results are expanded and not only found.
  pool_.Reset(std::max(2 * options.keep, options.width), graph_->item_ids());
  pool_.BeginLevel(options.width);
  pool_.Merge(&candidates_);
  FindFrontier();
}

void GatedWalk::GuessFrom(size_t first) {
  positions_.clear();
  for (size_t i = first; i < items_.size(); ++i) positions_.push_back(items_[i].position);
  model_->Guess(*features_, positions_, &guesses_);
  for (size_t i = first; i < items_.size(); ++i) items_[i].guess = guesses_[i - first];
}

void GatedWalk::SetFirstVariance(absl::Span<const Candidate> scored) {
  double sum = 0;
  int64_t count = 0;
  for (size_t i = 0; i < scored.size(); ++i) {
    if (!std::isfinite(scored[i].score)) continue;
    const double error = scale_.Standardize(scored[i].score) - static_cast<double>(items_[i].guess);
    sum += error * error;
    ++count;
  }
  variance_ = kFirstVariance * (sum / static_cast<double>(count));
}

void GatedWalk::ReachNeighborsOf(const Candidate& expanded) {
  const Item& from = items_[numbers_.NumberOf(expanded.position)];
  const double error = scale_.Standardize(expanded.score) - static_cast<double>(from.guess);
  const absl::Span<const int32_t> neighbors = graph_->level(0).NeighborsOf(expanded.position);
  if (selector_ == nullptr) return Reach(neighbors, error);
  selected_.clear();
  for (int32_t position : neighbors) {
    if (selector_->Selects(position)) {
      selected_.push_back(position);
      continue;
    }
    for (int32_t beyond : graph_->level(0).NeighborsOf(position)) {
      if (selector_->Selects(beyond)) selected_.push_back(beyond);
    }
  }
  Reach(selected_, error);
}

void GatedWalk::Reach(absl::Span<const int32_t> positions, double error) {
  for (int32_t position : positions) {
    const int32_t number = numbers_.NumberOf(position);
    if (number == static_cast<int32_t>(items_.size())) {
      items_.push_back({position, 0, 0, 0});
      refined_.push_back(-kInfinity);
    } else if (std::isnan(refined_[number])) {
      continue;  // Scored.
    }
    items_[number].residuals += error;
    ++items_[number].neighbors;
    touched_.push_back(number);
  }
}

void GatedWalk::Refine() {
  for (int32_t number : touched_) {
    const Item& item = items_[number];
    const double refined =
        static_cast<double>(item.guess) + kErrorShare * item.residuals / static_cast<double>(item.neighbors);
    refined_[number] = std::isnan(refined) ? -kInfinity : refined;
  }
}

double GatedWalk::Cut() const {
  if (pool_.size() < options_.keep) return -kInfinity;
  return scale_.Standardize(pool_[options_.keep - 1].score) - options_.slack * std::sqrt(variance_);
}

void GatedWalk::FindFrontier() {
  const absl::Span<const int64_t> ids = graph_->item_ids();
  const auto better = [&](int32_t a, int32_t b) {
    if (refined_[a] != refined_[b]) return refined_[a] > refined_[b];
    return ids[items_[a].position] < ids[items_[b].position];
  };
  chosen_.clear();
  frontier_.clear();
  bool expanded = true;
  while (expanded && chosen_.empty()) {
    expanded = pool_.TakeUnexpanded(kExpand, &candidates_);
    const size_t first = items_.size();
    touched_.clear();
    for (const Candidate& candidate : candidates_) ReachNeighborsOf(candidate);
    GuessFrom(first);
    Refine();
    const double cut = Cut();
    for (size_t i = 0; i < refined_.size(); ++i) {
      if (refined_[i] >= cut) chosen_.push_back(static_cast<int32_t>(i));
    }
  }
  if (options_.batch < static_cast<int64_t>(chosen_.size())) {
    std::nth_element(chosen_.begin(), chosen_.begin() + options_.batch, chosen_.end(), better);
    chosen_.resize(options_.batch);
  }
  std::sort(chosen_.begin(), chosen_.end(), better);
  for (int32_t number : chosen_) frontier_.push_back(items_[number].position);
}

void GatedWalk::Advance(absl::Span<const float> scores) {
  candidates_.clear();
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isnan(scores[i])) candidates_.push_back({frontier_[i], scores[i]});
    if (std::isfinite(scores[i])) {
      const double error = scale_.Standardize(scores[i]) - refined_[chosen_[i]];
      variance_ = kVarianceDecay * variance_ + (1 - kVarianceDecay) * (error * error);
    }
    refined_[chosen_[i]] = kUnknown;
  }
  pool_.Merge(&candidates_);
  FindFrontier();
}

}  // namespace nann
