#include "ops/core/walk/proxy_walk.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "arrays.h"
#include "ops/core/walk/beam_search.h"

namespace nann {
namespace {

constexpr int32_t kItems = 2000;
constexpr int64_t kColumns = 16;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Score = std::function<float(int32_t)>;

// Items on a ring, each linked to the three before and after it. Item p has the id 10 p and the features sin
// and cos of its angle, so that a score which is a wave over the ring is linear in them.
class ProxyWalkTest : public testing::Test {
 protected:
  ProxyWalkTest() {
    std::vector<int64_t> ids(kItems);
    std::vector<std::vector<int32_t>> lists(kItems);
    std::vector<float> rows(kItems * kColumns, 0.0f);
    for (int32_t p = 0; p < kItems; ++p) {
      ids[p] = 10 * p;
      for (int32_t step : {-3, -2, -1, 1, 2, 3}) lists[p].push_back((p + step + kItems) % kItems);
      rows[p * kColumns + 1] = std::sin(Angle(p));
      rows[p * kColumns + 2] = std::cos(Angle(p));
    }
    bytes_ = MakeIndex(ids, {0}, {lists, lists});
    auto loaded = LoadGraph(bytes_, {3, 1});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    loaded_ = std::make_unique<LoadedGraph>(*std::move(loaded));
    auto features = Own("features.npy", NpyBytes(rows, {kItems, kColumns}));
    EXPECT_TRUE(features.ok());
    features_ = *std::move(features);
    table_ = *Table::Create(features_.array, TableType::kFloat32);
    for (int64_t anchor = 0; anchor < kItems; anchor += 50) samples_.push_back(anchor);
    for (int64_t group = 1; group <= 4; ++group) {
      for (int64_t p = 0; p < 500; p += 100) samples_.push_back(group * kItems + (group - 1) * 500 + p + 7);
    }
  }

  static float Angle(int32_t p) { return 2.0f * static_cast<float>(M_PI) * p / kItems; }

  ProxyOptions Options() const { return {&table_, samples_, 0.01, 4, 1.0, 16}; }

  // Runs the walk to its end; every position may be asked for once only.
  void Run(ProxyWalk* walk, const Score& score, const ProxyOptions& options, int64_t width = 60) {
    std::set<int32_t> asked;
    walk->Start(&loaded_->graph, options, width, 10);
    while (!walk->done()) {
      ASSERT_FALSE(walk->frontier().empty());
      std::vector<float> scores;
      for (int32_t position : walk->frontier()) {
        ASSERT_TRUE(asked.insert(position).second) << position;
        scores.push_back(score(position));
      }
      walk->Advance(scores);
    }
    if (!walk->gave_up()) {
      EXPECT_EQ(walk->scored().size(), asked.size());
    }
  }

  static std::set<int32_t> Positions(const ProxyWalk& walk) {
    std::set<int32_t> positions;
    for (const Candidate& candidate : walk.scored()) positions.insert(candidate.position);
    return positions;
  }

  IndexBytes bytes_;
  std::unique_ptr<LoadedGraph> loaded_;
  OwnedArray features_;
  Table table_;
  std::vector<int64_t> samples_;
};

TEST_F(ProxyWalkTest, FindsTheTopOfAWaveWithoutScoringTheRest) {
  ProxyWalk walk(kItems);
  const auto score = [](int32_t p) { return 5.0f + 3.0f * std::cos(Angle(p - 1234)); };
  Run(&walk, score, Options());
  const std::set<int32_t> found = Positions(walk);
  for (int32_t p = 1234 - 100; p <= 1234 + 100; ++p) EXPECT_TRUE(found.count(p)) << p;
  EXPECT_LT(found.size(), 500);
}

TEST_F(ProxyWalkTest, TrueScoresLeadToWhatTheGuessDoesNotKnow) {
  ProxyWalk walk(kItems);
  // A second, higher hill, which the features do not show; one of its items is an anchor.
  const auto score = [](int32_t p) {
    return std::cos(Angle(p)) + (p > 1010 && p < 1060 ? 20.0f - std::abs(p - 1035) * 0.1f : 0.0f);
  };
  Run(&walk, score, Options());
  const std::set<int32_t> found = Positions(walk);
  for (int32_t p = 1011; p < 1060; ++p) EXPECT_TRUE(found.count(p)) << p;
}

TEST_F(ProxyWalkTest, GivesUpWhereAnchorsSayNothing) {
  ProxyWalk walk(kItems);
  Run(&walk, [](int32_t) { return 2.0f; }, Options());
  EXPECT_TRUE(walk.gave_up());
  Run(&walk, [](int32_t p) { return p == 50 ? kNan : static_cast<float>(p); }, Options());
  EXPECT_TRUE(walk.gave_up());
  Run(&walk, [](int32_t p) { return static_cast<float>(p); }, Options());
  EXPECT_FALSE(walk.gave_up());
}

TEST_F(ProxyWalkTest, NanBesidesTheAnchorsOnlyDropsItems) {
  ProxyWalk walk(kItems);
  Run(&walk, [](int32_t p) { return p % 50 != 0 && p % 3 == 0 ? kNan : std::cos(Angle(p)); }, Options());
  EXPECT_FALSE(walk.gave_up());
  EXPECT_GT(walk.scored().size(), 100);
}

TEST_F(ProxyWalkTest, OneObjectServesManySearches) {
  ProxyWalk walk(kItems), fresh(kItems);
  const auto wave = [](int32_t p) { return std::sin(Angle(3 * p)); };
  Run(&walk, [](int32_t p) { return static_cast<float>(p % 17); }, Options(), 200);
  Run(&walk, wave, Options());
  Run(&fresh, wave, Options());
  EXPECT_EQ(Positions(walk), Positions(fresh));
}

TEST_F(ProxyWalkTest, ASearchFallsBackToTheAdaptiveWalk) {
  const std::vector<int32_t> topn = {1, 5, 5, 5, 5, 10};
  const ProxyOptions options = Options();
  const auto search_all = [&](const ProxyOptions* proxy) {
    BeamSearch search(&loaded_->graph);
    search.Start(topn, {/*expand=*/4, /*score_all=*/false, proxy});
    while (!search.done()) search.Advance(std::vector<float>(search.frontier().size(), 1.0f));
    std::vector<int64_t> ids(10);
    std::vector<float> scores(10);
    search.TopK(absl::MakeSpan(ids), absl::MakeSpan(scores));
    return std::make_pair(ids, search.items_scored());
  };
  const auto [ids, items_scored] = search_all(&options);
  const auto [expected, without] = search_all(nullptr);
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(items_scored, without + 40);  // The anchors.
}

TEST_F(ProxyWalkTest, OptionsAreChecked) {
  ProxyOptions options = Options();
  EXPECT_TRUE(CheckProxyOptions(options, kItems).ok());
  const std::vector<int64_t> no_anchor = {kItems};
  options.samples = no_anchor;
  EXPECT_NE(CheckProxyOptions(options, kItems).message().find("0 to 1999, first, found 2000"),
            std::string::npos);
  options.samples = {};
  EXPECT_NE(CheckProxyOptions(options, kItems).message().find("found no sample"), std::string::npos);
}

TEST_F(ProxyWalkTest, GroupNumbersMayBeAsLargeAsTheyLike) {
  samples_.push_back(std::numeric_limits<int64_t>::max() - 5);
  ProxyWalk walk(kItems);
  Run(&walk, [](int32_t p) { return std::cos(Angle(p)); }, Options());
  EXPECT_FALSE(walk.gave_up());
}

}  // namespace
}  // namespace nann
