#include "ops/core/index/graph.h"

#include <gtest/gtest.h>

#include "arrays.h"

namespace nann {
namespace {

// 0 - 1 - 2 - 3 in a row on level 0; 0 and 2 are linked on level 1; 0 is the entry point.
IndexBytes Chain() {
  return MakeIndex({40, 30, 20, 10}, {0}, {{{1}, {0, 2}, {1, 3}, {2}}, {{2}, {}, {0}, {}}});
}

std::string ErrorOf(const IndexBytes& bytes, const std::vector<int32_t>& hops = {3, 1}) {
  const absl::StatusOr<LoadedGraph> loaded = LoadGraph(bytes, hops);
  EXPECT_FALSE(loaded.ok());
  return std::string(loaded.status().message());
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(GraphTest, ReadsAGoodIndex) {
  const absl::StatusOr<LoadedGraph> loaded = LoadGraph(Chain(), {3, 1});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Graph& graph = loaded->graph;
  EXPECT_EQ(graph.num_items(), 4);
  EXPECT_EQ(graph.num_levels(), 2);
  EXPECT_EQ(graph.level_topn_length(), 6);
  EXPECT_EQ(graph.level(0).NeighborsOf(1).size(), 2u);
  EXPECT_EQ(graph.level(1).NeighborsOf(1).size(), 0u);
  EXPECT_EQ(graph.PositionOf(20), 2);
  EXPECT_EQ(graph.PositionOf(25), -1);
  EXPECT_EQ(graph.PositionOf(99), -1);
}

TEST(GraphTest, RefusesNeighboursOutsideTheGraph) {
  IndexBytes bytes = Chain();
  bytes.values[0] = NpyBytes<int32_t>({1, 0, 2, 1, 4, 2});
  EXPECT_HAS(ErrorOf(bytes), "values_0.npy: expected every neighbour in [0, 4), found 4 at index 4");
  bytes.values[0] = NpyBytes<int32_t>({1, 0, -2, 1, 3, 2});
  EXPECT_HAS(ErrorOf(bytes), "found -2 at index 2");
}

TEST(GraphTest, RefusesOffsetsOutOfOrder) {
  IndexBytes bytes = Chain();
  bytes.row_splits[0] = NpyBytes<int64_t>({0, 3, 1, 5, 6});
  EXPECT_HAS(ErrorOf(bytes),
             "row_splits_0.npy: expected offsets that never decrease, found 1 after 3 at index 2");
  bytes.row_splits[0] = NpyBytes<int64_t>({0, 1, 3, 5, 7});
  EXPECT_HAS(ErrorOf(bytes), "expected offsets from 0 to 6");
  bytes.row_splits[0] = NpyBytes<int64_t>({1, 1, 3, 5, 6});
  EXPECT_HAS(ErrorOf(bytes), "found 1 to 6");
  bytes.row_splits[0] = NpyBytes<int64_t>({0, 1, 3, 6});
  EXPECT_HAS(ErrorOf(bytes), "expected 5 values (4 items + 1), found 4");
}

TEST(GraphTest, RefusesBadEntryPoints) {
  IndexBytes bytes = Chain();
  bytes.enter_points = NpyBytes<int32_t>({});
  EXPECT_HAS(ErrorOf(bytes), "enter_points.npy: expected at least one entry point");
  bytes.enter_points = NpyBytes<int32_t>({4});
  EXPECT_HAS(ErrorOf(bytes), "found 4 at index 0");
  bytes.enter_points = NpyBytes<int32_t>({1, 1});
  EXPECT_HAS(ErrorOf(bytes), "found 1 twice");
}

TEST(GraphTest, RefusesWrongTypesAndRanks) {
  IndexBytes bytes = Chain();
  bytes.values[1] = NpyBytes<int64_t>({2, 0});
  EXPECT_HAS(ErrorOf(bytes), "values_1.npy: expected a int32 array of rank 1, found int64 (2,)");
  bytes = Chain();
  bytes.row_splits[1] = NpyBytes<int32_t>({0, 1, 1, 2, 2});
  EXPECT_HAS(ErrorOf(bytes), "row_splits_1.npy: expected a int64 array");
  bytes = Chain();
  bytes.item_ids = NpyBytes<int64_t>({40, 30, 20, 10}, {2, 2});
  EXPECT_HAS(ErrorOf(bytes), "item_ids.npy: expected a int64 array of rank 1, found int64 (2, 2)");
}

TEST(GraphTest, RefusesIdsOfAnotherIndex) {
  IndexBytes bytes = Chain();
  bytes.item_ids = NpyBytes<int64_t>({40, 30, 20});
  EXPECT_HAS(ErrorOf(bytes), "item_id_order.npy: expected 3 values");
  bytes.item_ids = NpyBytes<int64_t>({40, 30, 20, 20});
  EXPECT_HAS(ErrorOf(bytes), "are the ids in item_ids.npy unique?");
  bytes.item_ids = NpyBytes<int64_t>({10, 20, 30, 40});
  EXPECT_HAS(ErrorOf(bytes), "item_id_order.npy: expected positions in increasing order of their item id");
}

TEST(GraphTest, RefusesHopsThatDoNotFit) {
  EXPECT_HAS(ErrorOf(Chain(), {3}), "2 levels and 1 numbers of hops");
  EXPECT_HAS(ErrorOf(Chain(), {3, 0}), "expected at least one hop a level, found 0 for level 1");
  EXPECT_HAS(ErrorOf(Chain(), {3, 1001}), "expected at most 1000 hops per level, found 1001 for level 1");
}

}  // namespace
}  // namespace nann
