// The choices themselves are compared with a NumPy version in tests/unit/test_live_links.py. Here sanitizers
// see insertions of every kind, and what must hold of any graph is checked.
#include "ops/core/live/link_builder.h"

#include <cstdint>
#include <random>
#include <vector>

#include "arrays.h"
#include "gtest/gtest.h"

namespace nann {
namespace {

constexpr int kDim = 3, kM = 2;

// A base of `size` items in a ring, on two levels, with vectors of small integers: many of them are copies.
struct Base {
  explicit Base(int32_t size) {
    std::vector<int64_t> ids(size);
    std::vector<std::vector<std::vector<int32_t>>> lists(2, std::vector<std::vector<int32_t>>(size));
    std::vector<float> vectors;
    std::mt19937 random(1);
    for (int32_t i = 0; i < size; ++i) {
      ids[i] = i;
      lists[0][i] = {(i + 1) % size, (i + size - 1) % size};
      if (i % 3 == 0) lists[1][i] = {(i + 3) % size / 3 * 3};
      for (int d = 0; d < kDim; ++d) vectors.push_back(static_cast<float>(random() % 4));
    }
    graph = *LoadGraph(MakeIndex(ids, {0, size / 2}, lists), {3, 1});
    rows = *Own("embs.npy", NpyBytes(vectors, {size, kDim}));
    table = *Table::Create(rows.array, TableType::kFloat32);
  }

  LoadedGraph graph;
  OwnedArray rows;
  Table table;
};

TEST(LinkBuilder, EveryListHoldsPositionsAndCountsThem) {
  const Base base(20);
  EditableGraph graph(base.graph.graph, base.table);
  LinkBuilder builder(&graph, {kM, 5, /*inner_product=*/false});
  EditableGraph follower(base.graph.graph, base.table);
  std::mt19937 random(2);
  for (int batch = 0; batch < 40; ++batch) {
    std::vector<float> vectors;
    for (int item = 0; item < 10; ++item) {
      const int32_t deleted = static_cast<int32_t>(random() % graph.size());
      graph.MarkDead(deleted);
      follower.MarkDead(std::min(deleted, follower.size() - 1));
      std::vector<float> vector;
      for (int d = 0; d < kDim; ++d) vector.push_back(static_cast<float>(random() % 4));
      builder.Insert(vector, static_cast<int32_t>(random() % 4));
      vectors.insert(vectors.end(), vector.begin(), vector.end());
    }
    ASSERT_TRUE(follower.Apply(vectors, graph.TakeChanges()).ok());
  }
  ASSERT_EQ(graph.size(), 420);
  std::vector<int32_t> counted(graph.size());
  for (int32_t position = 0; position < graph.size(); ++position) {
    for (int level = 0; level < 2; ++level) {
      EXPECT_EQ(graph.NeighborsOf(level, position), follower.NeighborsOf(level, position));
    }
    for (const int32_t neighbor : graph.NeighborsOf(0, position)) {
      ASSERT_LT(neighbor, graph.size());
      ++counted[neighbor];
    }
    EXPECT_LE(graph.NeighborsOf(0, position).size(), 4 * 2 * kM);
  }
  for (int32_t position = 0; position < graph.size(); ++position) {
    EXPECT_EQ(graph.in_degree(position), counted[position]);
  }
}

TEST(EditableGraph, ListsThatDoNotFitAreRefused) {
  const Base base(5);
  const std::vector<ListChanges> none(2, ListChanges{{}, {0}, {}});
  const auto refused = [&](const ListChanges& changes) {
    EditableGraph graph(base.graph.graph, base.table);
    return absl::IsInvalidArgument(graph.Apply({}, {changes, none[1]}));
  };
  EXPECT_FALSE(refused({{4}, {0, 1}, {0}}));
  EXPECT_TRUE(refused({{5}, {0, 1}, {0}}));
  EXPECT_TRUE(refused({{-1}, {0, 1}, {0}}));
  EXPECT_TRUE(refused({{4}, {0, 1}, {5}}));
  EXPECT_TRUE(refused({{4}, {0, 2}, {0}}));
  EXPECT_TRUE(refused({{4}, {1, 1}, {0}}));
  EXPECT_TRUE(refused({{3, 4}, {0, 2, 1}, {0}}));
  EXPECT_TRUE(refused({{}, {}, {}}));
  EditableGraph graph(base.graph.graph, base.table);
  EXPECT_TRUE(absl::IsInvalidArgument(graph.Apply(std::vector<float>(kDim + 1), none)));
  EXPECT_TRUE(absl::IsInvalidArgument(graph.Apply({}, {none[0]})));
}

}  // namespace
}  // namespace nann
