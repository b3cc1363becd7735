#include "ops/core/walk/top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <random>

namespace nann {
namespace {

std::vector<int32_t> Positions(const std::vector<Candidate>& candidates) {
  std::vector<int32_t> positions;
  for (const Candidate& candidate : candidates) positions.push_back(candidate.position);
  return positions;
}

TEST(TopKTest, HigherScoreThenSmallerId) {
  const std::vector<int64_t> ids = {9, 8, 7, 6};
  std::vector<Candidate> candidates = {{0, 1.0f}, {1, 2.0f}, {2, 1.0f}, {3, 1.0f}};
  KeepTopSorted(3, ids, &candidates);
  EXPECT_EQ(Positions(candidates), (std::vector<int32_t>{1, 3, 2}));
}

TEST(TopKTest, NegativeZeroTiesWithZero) {
  const std::vector<int64_t> ids = {2, 1};
  std::vector<Candidate> candidates = {{0, 0.0f}, {1, -0.0f}};
  KeepTopSorted(2, ids, &candidates);
  EXPECT_EQ(Positions(candidates), (std::vector<int32_t>{1, 0}));
}

// Whether KeepTop keeps what a sort would keep, of n candidates whose scores `score` makes of their
// positions.
void ExpectTop(int n, int k, const std::function<float(int)>& score) {
  std::vector<int64_t> ids(n);
  std::vector<Candidate> candidates;
  for (int i = 0; i < n; ++i) {
    ids[i] = n - i;
    candidates.push_back({i, score(i)});
  }
  std::vector<Candidate> sorted = candidates;
  std::sort(sorted.begin(), sorted.end(), Better{ids});
  sorted.resize(std::min(n, k));
  KeepTop(k, ids, &candidates);
  std::vector<int32_t> expected = Positions(sorted);
  std::vector<int32_t> actual = Positions(candidates);
  std::sort(expected.begin(), expected.end());
  std::sort(actual.begin(), actual.end());
  EXPECT_EQ(actual, expected) << n << " candidates, " << k << " to keep";
}

TEST(TopKTest, KeepTopKeepsWhatASortWouldKeep) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    ExpectTop(random() % 50, random() % 60, [&](int) { return static_cast<float>(random() % 5); });
  }
}

TEST(TopKTest, ManyCandidatesAreSampledFirst) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const int n = 900 + random() % 4000, k = 1 + random() % 400;
    ExpectTop(n, k, [&](int) { return std::uniform_real_distribution<float>()(random); });
    ExpectTop(n, k, [&](int) { return static_cast<float>(random() % 7); });
    ExpectTop(n, k, [&](int) { return 1.0f; });
    // What the sample sees is not what there is.
    ExpectTop(n, k, [&](int i) { return i % 16 == 0 ? static_cast<float>(n + i) : static_cast<float>(i); });
    ExpectTop(n, k, [&](int i) { return i % 16 == 0 ? -std::numeric_limits<float>::infinity() : 1.0f * i; });
  }
}

}  // namespace
}  // namespace nann
