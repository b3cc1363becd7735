#include "ops/core/walk/beam_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "arrays.h"

namespace nann {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Answer {
  std::vector<int64_t> ids;
  std::vector<float> scores;
  int64_t found = 0;
  int64_t items_scored = 0;
  int64_t nan_items = 0;

  explicit Answer(size_t k) : ids(k), scores(k) {}
};

Answer Search(BeamSearch* search, const std::function<float(int32_t)>& score,
              const std::vector<int32_t>& level_topn, const std::vector<int32_t>& excluded = {},
              int64_t expand = 0) {
  search->Start(level_topn,
                {expand, /*score_all=*/false, /*proxy=*/nullptr, /*proxy_only_filters=*/false, excluded});
  while (!search->done()) {
    EXPECT_FALSE(search->frontier().empty());
    std::vector<float> scores;
    for (int32_t position : search->frontier()) scores.push_back(score(position));
    search->Advance(scores);
  }
  Answer answer(level_topn.back());
  answer.found = search->TopK(absl::MakeSpan(answer.ids), absl::MakeSpan(answer.scores));
  answer.items_scored = search->items_scored();
  answer.nan_items = search->nan_items();
  return answer;
}

class ChainTest : public testing::Test {
 protected:
  // Position p has id 10 * (6 - p); level 0 is a chain 0-1-2-3-4 with 5 apart; level 1 links 0 and 2.
  ChainTest()
      : loaded_(LoadGraph(MakeIndex({60, 50, 40, 30, 20, 10}, {0},
                                    {{{1}, {0, 2}, {1, 3}, {2, 4}, {3}, {}}, {{2}, {}, {0}, {}, {}, {}}}),
                          {3, 1})),
        search_(&loaded_->graph) {}

  absl::StatusOr<LoadedGraph> loaded_;
  BeamSearch search_;
};

TEST_F(ChainTest, WalksToTheBest) {
  const Answer answer = Search(&search_, [](int32_t p) { return static_cast<float>(p); }, {1, 2, 2, 2, 2, 3});
  EXPECT_EQ(answer.ids, (std::vector<int64_t>{20, 30, 40}));
  EXPECT_EQ(answer.scores, (std::vector<float>{4, 3, 2}));
  EXPECT_EQ(answer.found, 3);
}

TEST_F(ChainTest, TiesGoToTheSmallerItemId) {
  const Answer answer = Search(&search_, [](int32_t) { return 7.0f; }, {1, 2, 2, 2, 2, 4});
  EXPECT_EQ(answer.ids, (std::vector<int64_t>{20, 30, 40, 50}));
}

TEST_F(ChainTest, ANanScoreDropsTheItem) {
  const auto score = [](int32_t p) { return p == 1 ? kNan : static_cast<float>(p); };
  const Answer answer = Search(&search_, score, {1, 2, 2, 2, 2, 6});
  EXPECT_EQ(answer.ids, (std::vector<int64_t>{20, 30, 40, 60, -1, -1}));
  EXPECT_EQ(answer.scores[5], -kInfinity);
  EXPECT_EQ(answer.found, 4);
  EXPECT_GE(answer.nan_items, 1);
}

TEST_F(ChainTest, AllNanGivesAnEmptyAnswer) {
  const Answer answer = Search(&search_, [](int32_t) { return kNan; }, {1, 2, 2, 2, 2, 2});
  EXPECT_EQ(answer.ids, (std::vector<int64_t>{-1, -1}));
  EXPECT_EQ(answer.found, 0);
  EXPECT_EQ(answer.items_scored, 1);
}

TEST_F(ChainTest, AnUnreachableItemIsNotFound) {
  const Answer answer = Search(&search_, [](int32_t p) { return static_cast<float>(p); }, {6, 6, 6, 6, 6, 6});
  EXPECT_EQ(answer.found, 5);
  EXPECT_EQ(answer.ids.back(), -1);
}

TEST_F(ChainTest, ExcludedItemsAreWalkedButNotReturned) {
  const auto score = [](int32_t p) { return static_cast<float>(p); };
  const Answer all = Search(&search_, score, {1, 2, 2, 2, 2, 3});
  const Answer rest = Search(&search_, score, {1, 2, 2, 2, 2, 3}, {4, 5});
  EXPECT_EQ(rest.ids, (std::vector<int64_t>{30, 40, 50}));
  EXPECT_EQ(rest.items_scored, all.items_scored);
}

TEST_F(ChainTest, AnAdaptiveWalkScoresNoItemTwice) {
  std::vector<int> times(6, 0);
  const auto score = [&times](int32_t p) {
    ++times[p];
    return static_cast<float>(p);
  };
  const Answer answer = Search(&search_, score, {1, 1, 6, 6, 6, 6}, {}, 2);
  EXPECT_EQ(answer.ids, (std::vector<int64_t>{20, 30, 40, 50, 60, -1}));
  EXPECT_EQ(times, (std::vector<int>{1, 1, 1, 1, 1, 0}));
  EXPECT_EQ(answer.items_scored, 5);
}

TEST_F(ChainTest, OneObjectServesManySearches) {
  const auto score = [](int32_t p) { return -static_cast<float>(p); };
  const Answer first = Search(&search_, score, {1, 2, 2, 2, 2, 3});
  Search(&search_, [](int32_t) { return kNan; }, {6, 6, 6, 6, 6, 6}, {1});
  const Answer again = Search(&search_, score, {1, 2, 2, 2, 2, 3});
  EXPECT_EQ(first.ids, again.ids);
  EXPECT_EQ(first.items_scored, again.items_scored);
}

TEST_F(ChainTest, InfiniteScoresAreScores) {
  const auto score = [](int32_t p) { return p == 3 ? -kInfinity : static_cast<float>(p); };
  const Answer answer = Search(&search_, score, {1, 2, 2, 2, 2, 6});
  EXPECT_EQ(answer.ids[3], 60);
  EXPECT_EQ(answer.ids[4], 30);
  EXPECT_EQ(answer.found, 5);
}

TEST_F(ChainTest, CheckLevelTopnNamesIndexValueAndBound) {
  const Graph& graph = loaded_->graph;
  const auto error = [&graph](const std::vector<int32_t>& topn, int64_t batch = 1,
                              int64_t max_work = 1 << 22) {
    return std::string(
        CheckLevelTopn(graph, topn, static_cast<int64_t>(topn.size()), batch, max_work).message());
  };
  EXPECT_EQ(error({1, 2, 2, 2, 2, 3}), "");
  EXPECT_NE(error({1, 2, 3}).find("expected 6 values a row"), std::string::npos);
  EXPECT_NE(error({1, 0, 2, 2, 2, 3}).find("level_topn[1]: expected 1 to 65536, found 0"), std::string::npos);
  EXPECT_NE(error({1, 2, -5, 2, 2, 3}).find("level_topn[2]: expected 1 to 65536, found -5"),
            std::string::npos);
  EXPECT_NE(error({1, 2, 2, 2, 2, 65537}).find("level_topn[5]"), std::string::npos);
  const std::string work = error({1, 2, 90, 2, 2, 3}, 10, 500);
  EXPECT_NE(work.find("at most 500"), std::string::npos) << work;
  EXPECT_NE(work.find("found 1000 for a batch of 10"), std::string::npos) << work;
  EXPECT_NE(work.find("level_topn[2] = 90"), std::string::npos) << work;
  // One row with a large k widens the answer of every row: 2 x (1 + 4 x 1) + 2 x 300.
  const std::vector<int32_t> rows = {1, 1, 1, 1, 1, 300, 1, 1, 1, 1, 1, 1};
  EXPECT_TRUE(CheckLevelTopn(graph, rows, 6, 2, 610).ok());
  const std::string padded(CheckLevelTopn(graph, rows, 6, 2, 609).message());
  EXPECT_NE(padded.find("at most 609 (the export's max_work), found 610"), std::string::npos) << padded;
}

TEST_F(ChainTest, CheckRowsRefusesRowsAndNotTheirNeighbours) {
  const Graph& graph = loaded_->graph;
  std::vector<int32_t> status;
  const auto check = [&](const std::vector<std::vector<int32_t>>& rows, int64_t max_work = 1 << 22) {
    std::vector<int32_t> flat;
    for (const std::vector<int32_t>& row : rows) flat.insert(flat.end(), row.begin(), row.end());
    status.assign(rows.size(), kRowOk);
    return CheckRows(graph, flat, static_cast<int64_t>(rows[0].size()), static_cast<int64_t>(rows.size()),
                     max_work, absl::MakeSpan(status));
  };
  const std::vector<int32_t> good = {1, 2, 2, 2, 2, 3};
  EXPECT_TRUE(check({good, good}).ok());
  EXPECT_EQ(status, (std::vector<int32_t>{0, 0}));
  EXPECT_TRUE(check({good, {1, 0, 2, 2, 2, 3}, {1, 2, 2, 2, 2, 65537}, good}).ok());
  EXPECT_EQ(status, (std::vector<int32_t>{0, 3, 3, 0}));
  // No row is left: the error of the first.
  EXPECT_NE(check({{1, 0, 2, 2, 2, 3}, {1, 2, -1, 2, 2, 3}}).message().find("level_topn[1]"),
            std::string::npos);
  EXPECT_FALSE(check({{1, 0, 2, 2, 2, 3}}).ok());
  // A row that fits alone, and takes more than half of an even share of the batch's work.
  EXPECT_TRUE(check({good, {1, 90, 2, 2, 2, 3}}, 110).ok());
  EXPECT_EQ(status, (std::vector<int32_t>{0, 8}));
  EXPECT_TRUE(check({good, {1, 2, 2, 2, 2, 90}}, 110).ok()) << "a large k widens the answer of every row";
  EXPECT_EQ(status, (std::vector<int32_t>{0, 8}));
  // A row that does not fit alone.
  EXPECT_TRUE(check({good, {1, 900, 2, 2, 2, 3}}, 110).ok());
  EXPECT_EQ(status, (std::vector<int32_t>{0, 3}));
  EXPECT_NE(check({{1, 50, 2, 2, 2, 3}, {1, 50, 2, 2, 2, 3}}, 110).message().find("found 120"),
            std::string::npos);
}

TEST_F(ChainTest, CheckRowsTellsPaddingFromBeams) {
  const Graph& graph = loaded_->graph;
  std::vector<int32_t> status = {kRowOk, kRowOk};
  // A joining server has padded the first row to the width of the second.
  const std::vector<int32_t> joined = {1, 2, 2, 2, 2, 3, 1, 1, 2, 2, 2, 2, 2, 3};
  EXPECT_TRUE(CheckRows(graph, joined, 7, 2, 1000, absl::MakeSpan(status)).ok());
  EXPECT_EQ(status, (std::vector<int32_t>{0, 3}));
  // Two callers with the same wrong number of beams.
  const std::vector<int32_t> wrong = {1, 2, 2, 2, 2, 3, 1, 1, 2, 2, 2, 2, 3, 1};
  status = {kRowOk, kRowOk};
  const std::string error(CheckRows(graph, wrong, 7, 2, 1000, absl::MakeSpan(status)).message());
  EXPECT_NE(error.find("expected 6 values a row"), std::string::npos) << error;
  const std::vector<int32_t> few = {1, 2, 2, 3, 1, 2, 2, 3};
  EXPECT_FALSE(CheckRows(graph, few, 4, 2, 1000, absl::MakeSpan(status)).ok());
}

}  // namespace
}  // namespace nann
