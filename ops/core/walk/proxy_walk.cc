#include "proxy_walk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// Rules that count results count at least 200: with 50 in them, agreement of the best 50 fell from 0.999 to
// as little as 0.8 in the prototype.
constexpr int64_t kLeastKeep = 200;

// Candidates that the survey expands at once. A guess costs so little that some in vain do not matter.
constexpr int64_t kSurveyExpand = 64;

// Rounds end after this many times keep_ scored items, whatever they find: a guess that is so wrong does not
// become right.
constexpr int64_t kMostScored = 20;

// Selected candidates per result that rules count. Their neighbours are seldom selected, so that the gated
// walk finds less, and the rounds have to find more.
constexpr int64_t kCandidatesPerResult = 4;

// The patience of rounds before probes, at least: the gated walk finds the rest of all items, but not of
// selected ones, nor where the features miss much.
constexpr int64_t kPatienceOfProbing = 8;

// The widest survey for selected items, as a multiple of the one for all items. Where fewer than a sixteenth
// of what it meets is selected, a scan of all items costs no more.
constexpr int64_t kWidestSurvey = 16;

// Items that such a survey keeps at most, unless the beams ask for more: one megabyte.
constexpr int64_t kMostSurveyed = 65'536;

// Items that the survey guesses for, per item that it keeps.
constexpr int64_t kGuessesPerKept = 4;

// Selected candidates that rounds and probes choose from at least: the first fit ranks them roughly, and more
// of these find no more.
constexpr int64_t kKept = 4096;

// Rounds of probes. With three, 64 users of 100,000 items get 0.94 or more of the best for filters of every
// kind; with two, 0.83, and without, as little as 0.09 (docs/quality.md, "Filters").
constexpr int64_t kProbeRounds = 3;

// Selected items that a scan guesses for at once, and positions that it looks at for them.
constexpr int64_t kScanBatch = 8192, kScanStep = 4096;

// In place of the position of a candidate that was scored.
constexpr int32_t kTaken = -1;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

absl::Status CheckProxyOptions(const ProxyOptions& options, int32_t num_items) {
  const int64_t columns = options.features->width();
  if (columns < kProxyLanes || columns % kProxyLanes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("proxy_features: expected a table whose width is a multiple of ", kProxyLanes,
                     ", found ", columns, "; export again"));
  }
  if (options.samples.empty() || options.samples[0] < 0 || options.samples[0] >= num_items) {
    return absl::InvalidArgumentError(absl::StrCat(
        "proxy_samples: expected the position of an anchor, 0 to ", num_items - 1, ", first, found ",
        options.samples.empty() ? "no sample" : absl::StrCat(options.samples[0]), "; export again"));
  }
  return absl::OkStatus();
}

void ProxyWalk::Start(const Graph* graph, const ProxyOptions& options, int64_t width, int64_t results,
                      const ItemSelector* selector, bool filtering) {
  graph_ = graph;
  options_ = options;
  selector_ = selector;
  filtering_ = filtering;
  width_ = width;
  keep_ = std::max(results, kLeastKeep);
  gave_up_ = scanned_ = false;
  step_ = Step::kAnchors;
  model_.Reset(options.features->width(), options.noise);
  visited_.Clear();
  scored_.clear();
  selected_.clear();
  frontier_.clear();
  for (int64_t sample : options.samples) {
    if (sample >= graph_->num_base_items()) break;
    frontier_.push_back(static_cast<int32_t>(sample));
    visited_.Insert(static_cast<int32_t>(sample));
  }
}

void ProxyWalk::Advance(absl::Span<const float> scores) {
  const absl::Span<const int32_t> positions = frontier();
  for (size_t i = 0; i < scores.size(); ++i) scored_.push_back({positions[i], scores[i]});
  if (selector_ != nullptr) {
    candidates_.assign(scored_.end() - static_cast<int64_t>(scores.size()), scored_.end());
    selector_->Keep(&candidates_);
    selected_.insert(selected_.end(), candidates_.begin(), candidates_.end());
  }
  switch (step_) {
    case Step::kAnchors:
      if (!SetScale(scores)) {
        gave_up_ = true;
        step_ = Step::kDone;
        return;
      }
      Observe(scores);
      return ChooseClusterTops();
    case Step::kClusters:
      Observe(scores);
      return StartRounds();
    case Step::kRounds:
      fresh_ = std::count_if(scores.begin(), scores.end(), [this](float score) { return score > kth_; });
      Observe(scores);
      return RoundsHaveEnded() ? StartProbes() : ChooseRound();
    case Step::kProbes:
      Observe(scores);
      return ChooseProbes();
    case Step::kGated:
      gated_.Advance(scores);
      if (gated_.frontier().empty()) step_ = Step::kDone;
      return;
    case Step::kDone:
      return;
  }
}

bool ProxyWalk::SetScale(absl::Span<const float> scores) {
  const double count = static_cast<double>(scores.size());
  double sum = 0;
  for (float score : scores) {
    if (!std::isfinite(score)) return false;
    sum += static_cast<double>(score);
  }
  const double mean = sum / count;
  double squares = 0;
  for (float score : scores) {
    const double difference = static_cast<double>(score) - mean;
    squares += difference * difference;
  }
  scale_ = {mean, std::sqrt(squares / count)};
  return scale_.deviation > 0;
}

void ProxyWalk::Observe(absl::Span<const float> scores) {
  const int64_t columns = model_.columns();
  rows_.resize(frontier_.size() * columns);
  options_.features->Gather<int32_t>(frontier_, rows_.data());
  // Rows of scores that are not finite are left out.
  standardized_.clear();
  float* to = rows_.data();
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i])) continue;
    std::copy_n(rows_.data() + static_cast<int64_t>(i) * columns, columns, to);
    to += columns;
    standardized_.push_back(scale_.Standardize(scores[i]));
  }
  model_.Fit(rows_.data(), standardized_);
}

void ProxyWalk::Guess(absl::Span<const int32_t> positions) {
  model_.Guess(*options_.features, positions, &guesses_);
}

void ProxyWalk::MergeGuesses(absl::Span<const int32_t> positions) {
  Guess(positions);
  candidates_.clear();
  for (size_t i = 0; i < positions.size(); ++i) candidates_.push_back({positions[i], guesses_[i]});
  pool_.Merge(&candidates_);
}

void ProxyWalk::ChooseClusterTops() {
  const int64_t num_items = graph_->num_base_items();
  const Better better{graph_->item_ids()};
  absl::Span<const int64_t> samples = options_.samples.subspan(frontier_.size());
  frontier_.clear();
  while (!samples.empty()) {
    const int64_t begin = samples[0] / num_items * num_items;
    left_.clear();
    while (left_.size() < samples.size() && samples[left_.size()] - begin < num_items) {
      left_.push_back(static_cast<int32_t>(samples[left_.size()] - begin));
    }
    samples.remove_prefix(left_.size());
    Guess(left_);
    Candidate top = {-1, 0};
    for (size_t i = 0; i < left_.size(); ++i) {
      const Candidate candidate = {left_[i], guesses_[i]};
      if (visited_.Contains(candidate.position)) continue;
      if (top.position < 0 || better(candidate, top)) top = candidate;
    }
    if (top.position < 0) continue;
    visited_.Insert(top.position);
    frontier_.push_back(top.position);
  }
  step_ = Step::kClusters;
  if (frontier_.empty()) StartRounds();
}

void ProxyWalk::Survey() {
  const Level& level = graph_->level(0);
  std::vector<int32_t>& fresh = left_;
  fresh.clear();
  for (const Candidate& candidate : scored_) fresh.push_back(candidate.position);
  // Of a million items the walk from what was scored never meets some regions that a user likes.
  if (options_.probes) AppendSamples(&fresh);
  const int64_t width = CandidatesWanted();
  pool_.Reset(WidestSurvey(width), graph_->item_ids());
  pool_.BeginLevel(width);
  MergeGuesses(fresh);
  while (selector_ == nullptr ? pool_.TakeUnexpanded(kSurveyExpand, &candidates_)
                              : pool_.TakeUnexpanded(kSurveyExpand, width, *selector_, &candidates_)) {
    for (const Candidate& candidate : candidates_) level.FetchOffsets(candidate.position);
    for (const Candidate& candidate : candidates_) level.FetchNeighbors(candidate.position);
    fresh.clear();
    for (const Candidate& candidate : candidates_) {
      visited_.InsertAll(level.NeighborsOf(candidate.position), &fresh);
    }
    MergeGuesses(fresh);
  }
}

void ProxyWalk::AppendSamples(std::vector<int32_t>* positions) {
  for (int64_t sample : options_.samples) {
    const auto position = static_cast<int32_t>(sample % graph_->num_base_items());
    if (visited_.Insert(position)) positions->push_back(position);
  }
}

int64_t ProxyWalk::CandidatesWanted() const {
  const int64_t width = options_.survey * width_;
  return filtering_ ? std::max(width, kCandidatesPerResult * keep_) : width;
}

int64_t ProxyWalk::WidestSurvey(int64_t width) const {
  if (selector_ == nullptr) return width;
  const int64_t widest = std::max(width, std::min(kWidestSurvey * width, kMostSurveyed));
  if (selector_->count() == ItemSelector::kUnknown) return widest;
  return std::min(widest, width + graph_->num_items() - selector_->count());
}

int64_t ProxyWalk::CandidatesKept() const {
  return filtering_ ? std::max(kKept, CandidatesWanted()) : CandidatesWanted();
}

bool ProxyWalk::ScanCostsLess() const {
  const int64_t count = selector_->count();
  if (count == ItemSelector::kUnknown) return false;
  // Of what the survey meets, as large a share is selected as of all items.
  return count * count <= kGuessesPerKept * CandidatesWanted() * graph_->num_items();
}

void ProxyWalk::Scan() {
  scanned_ = true;
  pool_.Reset(std::max(kKept, CandidatesWanted()), graph_->item_ids());
  std::vector<int32_t>& selected = left_;
  selected.clear();
  for (int64_t begin = 0; begin < graph_->num_items(); begin += kScanStep) {
    const int64_t end = std::min<int64_t>(begin + kScanStep, graph_->num_items());
    selector_->Append(static_cast<int32_t>(begin), static_cast<int32_t>(end), &selected);
    if (static_cast<int64_t>(selected.size()) < kScanBatch && end < graph_->num_items()) continue;
    MergeGuesses(selected);
    selected.clear();
  }
  pool_.CopyTo(&candidates_);
}

void ProxyWalk::FindCandidates() {
  if (filtering_ && ScanCostsLess()) return Scan();
  Survey();
  pool_.CopyTo(&candidates_);
  if (selector_ == nullptr) return;
  selector_->Keep(&candidates_);
  if (static_cast<int64_t>(candidates_.size()) < CandidatesWanted()) return Scan();
  if (static_cast<int64_t>(candidates_.size()) > CandidatesKept()) candidates_.resize(CandidatesKept());
}

void ProxyWalk::StartRounds() {
  FindCandidates();
  visited_.Clear();
  for (const Candidate& candidate : scored_) visited_.Insert(candidate.position);
  left_.clear();
  for (const Candidate& candidate : candidates_) {
    if (!visited_.Contains(candidate.position)) left_.push_back(candidate.position);
  }
  left_rows_.resize(left_.size() * model_.columns());
  options_.features->Gather<int32_t>(left_, left_rows_.data());
  step_ = Step::kRounds;
  ChooseRound();
}

void ProxyWalk::GuessLeft() {
  guesses_.resize(left_.size());
  model_.Guess(left_rows_.data(), static_cast<int64_t>(left_.size()), guesses_.data());
  candidates_.clear();
  for (size_t i = 0; i < left_.size(); ++i) {
    if (left_[i] != kTaken) candidates_.push_back({left_[i], guesses_[i]});
  }
}

void ProxyWalk::ChooseRound() {
  GuessLeft();
  KeepTopSorted(options_.batch, graph_->item_ids(), &candidates_);
  frontier_.clear();
  if (candidates_.empty()) return StartGatedWalk();
  // All that are not worse than the last one chosen are chosen.
  const Better better{graph_->item_ids()};
  for (size_t i = 0; i < left_.size(); ++i) {
    if (left_[i] != kTaken && !better(candidates_.back(), {left_[i], guesses_[i]})) left_[i] = kTaken;
  }
  for (const Candidate& candidate : candidates_) frontier_.push_back(candidate.position);
  kth_ = KthScore();
}

bool ProxyWalk::RoundsHaveEnded() const {
  const int64_t scored = static_cast<int64_t>(scored_.size());
  if (scored >= kMostScored * keep_) return true;
  if (scored < keep_ + options_.batch) return false;
  const int64_t patience = probing() ? std::max(options_.patience, kPatienceOfProbing) : options_.patience;
  return patience * fresh_ < options_.batch;
}

void ProxyWalk::StartProbes() {
  if (!probing()) return StartGatedWalk();
  step_ = Step::kProbes;
  probe_rounds_ = kProbeRounds;
  visited_.Clear();
  for (const Candidate& candidate : scored_) MarkAround(candidate.position);
  ChooseProbes();
}

void ProxyWalk::ChooseProbes() {
  frontier_.clear();
  if (probe_rounds_-- == 0) return StartGatedWalk();
  GuessLeft();
  KeepTopSorted(static_cast<int64_t>(candidates_.size()), graph_->item_ids(), &candidates_);
  for (const Candidate& candidate : candidates_) {
    if (static_cast<int64_t>(frontier_.size()) == options_.batch) break;
    if (IsNearMarked(candidate.position)) continue;
    MarkAround(candidate.position);
    frontier_.push_back(candidate.position);
  }
  if (frontier_.empty()) StartGatedWalk();
}

void ProxyWalk::MarkAround(int32_t position) {
  visited_.Insert(position);
  for (int32_t neighbor : graph_->level(0).NeighborsOf(position)) visited_.Insert(neighbor);
}

bool ProxyWalk::IsNearMarked(int32_t position) const {
  if (visited_.Contains(position)) return true;
  const absl::Span<const int32_t> neighbors = graph_->level(0).NeighborsOf(position);
  return std::any_of(neighbors.begin(), neighbors.end(), [this](int32_t v) { return visited_.Contains(v); });
}

float ProxyWalk::KthScore() {
  best_.clear();
  for (const Candidate& candidate : selector_ == nullptr ? scored_ : selected_) {
    if (!std::isnan(candidate.score)) best_.push_back(candidate.score);
  }
  if (static_cast<int64_t>(best_.size()) < keep_) return -kInfinity;
  std::nth_element(best_.begin(), best_.begin() + (keep_ - 1), best_.end(), std::greater<float>());
  return best_[keep_ - 1];
}

void ProxyWalk::StartGatedWalk() {
  step_ = Step::kGated;
  gated_.Start(graph_, {width_, keep_, options_.slack, options_.batch}, &model_, options_.features, scale_,
               scored_, selector_);
  if (gated_.frontier().empty()) step_ = Step::kDone;
}

}  // namespace nann
