#include "ops/core/live/overlay.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "live_graph.h"
#include "ops/core/walk/beam_search.h"

namespace nann {
namespace {

using Positions = std::vector<int32_t>;

// Item 25, between 20 and 30, in place of nothing; then without item 30.
SegmentBuilder Insert() {
  SegmentBuilder segment(1, 0, 10);
  segment.Ids({25}).Column<float>("table/numbers", {25});
  segment.Links(0, {{2, {1, 10}}, {3, {10, 4}}, {10, {2, 3}}});
  return segment;
}

SegmentBuilder Delete(uint64_t number, uint64_t follows, const Positions& deleted, uint64_t before = 11) {
  SegmentBuilder segment(number, follows, before);
  segment.Column("deleted", deleted);
  return segment;
}

// The best `k` ids, of which those near to `wish` score best.
std::vector<int64_t> Search(const LiveGraph& live, const Graph& graph, float wish, int32_t k,
                            const WalkOptions& options = {}, int32_t beam = 100) {
  BeamSearch search(live.capacity());
  search.SetGraph(&graph);
  const std::vector<int32_t> level_topn = {beam, beam, beam, k};
  search.Start(level_topn, options);
  while (!search.done()) {
    std::vector<float> scores;
    for (int32_t position : search.frontier()) scores.push_back(-std::abs(live.number(position) - wish));
    search.Advance(scores);
  }
  std::vector<int64_t> ids(k);
  std::vector<float> scores(k);
  search.TopK(absl::MakeSpan(ids), absl::MakeSpan(scores));
  return ids;
}

TEST(OverlayTest, TheBaseIsTheFirstState) {
  LiveGraph live(10, 10);
  const Overlay::State state = live.overlay().state();
  EXPECT_EQ(state.segment, 0);
  EXPECT_EQ(state.graph.num_items(), 10);
  EXPECT_EQ(Neighbors(state.graph, 2), (Positions{1, 3}));
}

TEST(OverlayTest, ANewItemHasRowsLinksAndAPosition) {
  LiveGraph live(10, 10);
  ASSERT_TRUE(live.Apply(Insert()).ok());
  const Overlay::State state = live.overlay().state();
  EXPECT_EQ(state.segment, 1);
  EXPECT_EQ(state.graph.num_items(), 11);
  EXPECT_EQ(state.graph.num_base_items(), 10);
  EXPECT_EQ(state.graph.item_ids()[10], 25);
  EXPECT_EQ(state.graph.PositionOf(25), 10);
  EXPECT_EQ(state.graph.PositionOf(30), 3);
  EXPECT_EQ(state.graph.PositionOf(26), -1);
  EXPECT_EQ(Neighbors(state.graph, 2), (Positions{1, 10}));
  EXPECT_EQ(Neighbors(state.graph, 4), (Positions{3, 5}));
  EXPECT_EQ(Neighbors(state.graph, 10), (Positions{2, 3}));
  EXPECT_EQ(live.number(10), 25);
}

TEST(OverlayTest, ANewItemHasNoNeighborsOnALevelThatNoSegmentHasSet) {
  LiveGraph live(10, 10, /*levels=*/2);
  ASSERT_TRUE(live.Apply(Insert()).ok());
  const Overlay::State state = live.overlay().state();
  EXPECT_TRUE(state.graph.level(1).NeighborsOf(10).empty());
  EXPECT_EQ(state.graph.level(1).NeighborsOf(2).size(), 2);
}

TEST(OverlayTest, AStateDoesNotSeeLaterSegments) {
  LiveGraph live(10, 10);
  const Overlay::State base = live.overlay().state();
  ASSERT_TRUE(live.Apply(Insert()).ok());
  const Overlay::State first = live.overlay().state();
  SegmentBuilder change(2, 1, 11);
  change.Ids({25}).Column<float>("table/numbers", {99}).Column<int32_t>("deleted", {3, 10});
  change.Links(0, {{2, {11}}, {9, {8, 11}}, {11, {9, 0}}});
  ASSERT_TRUE(live.Apply(change).ok());
  const Overlay::State second = live.overlay().state();

  EXPECT_EQ(base.graph.PositionOf(25), -1);
  EXPECT_EQ(base.graph.PositionOf(30), 3);
  EXPECT_EQ(Neighbors(base.graph, 2), (Positions{1, 3}));
  EXPECT_EQ(first.graph.PositionOf(25), 10);
  EXPECT_EQ(first.graph.PositionOf(30), 3);
  EXPECT_FALSE(first.graph.IsDeleted(3));
  EXPECT_EQ(Neighbors(first.graph, 2), (Positions{1, 10}));
  EXPECT_EQ(Neighbors(first.graph, 9), (Positions{8, 0}));
  EXPECT_EQ(second.graph.PositionOf(25), 11);
  EXPECT_EQ(second.graph.PositionOf(30), -1);
  EXPECT_TRUE(second.graph.IsDeleted(3));
  EXPECT_EQ(Neighbors(second.graph, 2), (Positions{11}));
  EXPECT_EQ(Neighbors(second.graph, 3), (Positions{10, 4}));
}

TEST(OverlayTest, ADeletedItemMayComeBack) {
  LiveGraph live(10, 10);
  ASSERT_TRUE(live.Apply(Insert()).ok());
  ASSERT_TRUE(live.Apply(Delete(2, 1, {10})).ok());
  EXPECT_EQ(live.overlay().state().graph.PositionOf(25), -1);
  SegmentBuilder again(5, 2, 11);
  again.Ids({25, 26}).Column<float>("table/numbers", {25, 26}).Links(0, {{11, {2}}, {12, {2}}});
  ASSERT_TRUE(live.Apply(again).ok());
  EXPECT_EQ(live.overlay().state().graph.PositionOf(25), 11);
  EXPECT_EQ(live.overlay().state().graph.PositionOf(26), 12);
}

TEST(OverlayTest, SearchesGoThroughDeletedItemsAndDoNotReturnThem) {
  LiveGraph live(10, 10);
  ASSERT_TRUE(live.Apply(Insert()).ok());
  ASSERT_TRUE(live.Apply(Delete(2, 1, {1, 3, 9})).ok());
  const Overlay::State state = live.overlay().state();
  WalkOptions adaptive, all;
  adaptive.expand = 1;
  all.score_all = true;
  EXPECT_EQ(Search(live, state.graph, 25, 3, adaptive), (std::vector<int64_t>{25, 20, 40}));
  EXPECT_EQ(Search(live, state.graph, 25, 3, all), (std::vector<int64_t>{25, 20, 40}));
  // Two hops from item 0 go through the deleted 10 and 90 to 20 and 80.
  EXPECT_EQ(Search(live, state.graph, 25, 4), (std::vector<int64_t>{20, 0, 80, -1}));
}

TEST(OverlayTest, DeletedItemsTakeNoRoomFromLiveOnes) {
  LiveGraph live(10, 10);
  ASSERT_TRUE(live.Apply(Insert()).ok());
  ASSERT_TRUE(live.Apply(Delete(2, 1, {3, 10})).ok());
  const Overlay::State state = live.overlay().state();
  WalkOptions adaptive;
  adaptive.expand = 1;
  // Beams of two hold the two best live items beside the deleted 25 and 30, which lead to 40.
  EXPECT_EQ(Search(live, state.graph, 26, 2, adaptive, 2), (std::vector<int64_t>{20, 40}));
}

TEST(OverlayTest, WhatDoesNotFitIsRefusedAndChangesNothing) {
  LiveGraph live(10, 2);
  ASSERT_TRUE(live.Apply(Insert()).ok());
  const auto message = [&](const SegmentBuilder& segment) {
    const absl::Status status = live.Apply(segment);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(live.overlay().segment(), 1);
    return std::string(status.message());
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find("SEGMENT: ") == 0 && text.find(part) != std::string::npos;
  };
  EXPECT_PRED2(has, message(Delete(3, 2, {1})), "follows segment 1, found number 3, which follows 2");
  EXPECT_PRED2(has, message(Delete(1, 0, {1})), "follows segment 1, found number 1");
  EXPECT_PRED2(has, message(Delete(2, 1, {1}, 10)), "begins at position 11, found 10");
  SegmentBuilder twice(2, 1, 11);
  twice.Ids({25}).Column<float>("table/numbers", {1}).Links(0, {{11, {2}}});
  EXPECT_PRED2(has, message(twice), "former position of item 25, 10, among the deleted");
  SegmentBuilder none(2, 1, 11);
  none.Ids({-1}).Column<float>("table/numbers", {1}).Links(0, {{11, {2}}});
  EXPECT_PRED2(has, message(none), "found -1");
  SegmentBuilder many(2, 1, 11);
  many.Ids({1, 2}).Column<float>("table/numbers", {1, 2}).Links(0, {{11, {2}}, {12, {2}}});
  EXPECT_PRED2(has, message(many), "room for 2 new items behind 11, found 12 positions");
  ASSERT_TRUE(live.Apply(Delete(2, 1, {4})).ok());
  const absl::Status again = live.Apply(Delete(3, 2, {4}));
  EXPECT_PRED2(has, std::string(again.message()), "found 4, which is deleted");
}

TEST(OverlayTest, ReplacedListsAreUsedAgain) {
  LiveGraph live(10, 10);
  int64_t bytes = 0;
  for (uint64_t number = 1; number <= 50'000; ++number) {
    SegmentBuilder segment(number, number - 1, 10);
    segment.Links(0, {{static_cast<int32_t>(number % 10), {1, 2, 3}}});
    ASSERT_TRUE(live.Apply(segment).ok());
    if (number == 100) bytes = live.overlay().list_bytes();
  }
  EXPECT_EQ(live.overlay().list_bytes(), bytes);
}

// One thread applies segments while others search in the states that they began with. Each segment moves
// every item to its next version, whose number is the segment's: a state that shows two versions at once is
// torn.
TEST(OverlayTest, ReadersSeeWholeSegmentsWhileOneThreadWrites) {
  constexpr int32_t kItems = 8;
  constexpr uint64_t kSegments = 300;
  LiveGraph live(kItems, kItems * static_cast<int32_t>(kSegments));
  std::mutex mutex;
  Overlay::State current = live.overlay().state();
  std::atomic<bool> done{false};
  std::atomic<int> torn{0}, searches{0};

  const auto read = [&] {
    while (!done.load()) {
      Overlay::State state;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        state = current;
      }
      WalkOptions adaptive;
      adaptive.expand = 2;
      const std::vector<int64_t> ids = Search(live, state.graph, 1e6, kItems, adaptive);
      for (int64_t id : ids) {
        const int32_t position = id < 0 ? -1 : state.graph.PositionOf(id);
        const bool whole = position >= 0 &&
                           (state.segment == 0 || live.number(position) == static_cast<float>(state.segment));
        if (!whole) torn.fetch_add(1);
      }
      searches.fetch_add(1);
    }
  };
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) readers.emplace_back(read);

  for (uint64_t number = 1; number <= kSegments; ++number) {
    const int32_t before = kItems * static_cast<int32_t>(number);
    SegmentBuilder segment(number, number - 1, before);
    std::vector<int64_t> ids;
    Positions former;
    std::map<int32_t, Positions> lists;
    for (int32_t i = 0; i < kItems; ++i) {
      ids.push_back(10 * i);
      former.push_back(before - kItems + i);
      lists[i] = {before + i, (i + 1) % kItems};
      lists[before + i] = {before + (i + 1) % kItems};
    }
    segment.Ids(ids).Column("deleted", former).Links(0, lists);
    segment.Column("table/numbers", std::vector<float>(kItems, static_cast<float>(number)));
    ASSERT_TRUE(live.Apply(segment).ok());
    Overlay::State next = live.overlay().state();
    const std::lock_guard<std::mutex> lock(mutex);
    std::swap(current, next);
  }
  while (searches.load() < 10) std::this_thread::yield();
  done.store(true);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(torn.load(), 0);
}

}  // namespace
}  // namespace nann
