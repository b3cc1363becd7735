#include "ops/core/walk/visited_set.h"

#include <gtest/gtest.h>

namespace nann {
namespace {

TEST(VisitedSetTest, InsertsOnce) {
  VisitedSet visited(200);
  EXPECT_TRUE(visited.Insert(0));
  EXPECT_TRUE(visited.Insert(199));
  EXPECT_FALSE(visited.Insert(0));
  EXPECT_EQ(visited.size(), 2);
}

TEST(VisitedSetTest, ClearForgetsEverything) {
  VisitedSet visited(130);
  for (int32_t position = 0; position < 130; ++position) visited.Insert(position);
  visited.Clear();
  for (int32_t position = 0; position < 130; ++position) EXPECT_TRUE(visited.Insert(position));
}

TEST(VisitedSetTest, InsertAllAppendsWhatWasNewInOrder) {
  VisitedSet visited(300);
  visited.Insert(7);
  std::vector<int32_t> fresh = {1};
  visited.InsertAll({299, 7, 64, 299, 0}, &fresh);
  EXPECT_EQ(fresh, (std::vector<int32_t>{1, 299, 64, 0}));
  EXPECT_EQ(visited.size(), 4);
  EXPECT_FALSE(visited.Insert(64));
  visited.Clear();
  EXPECT_TRUE(visited.Insert(299));
}

TEST(VisitedSetTest, ACopyIsIndependent) {
  VisitedSet visited(10);
  visited.Insert(1);
  VisitedSet copy = visited;
  EXPECT_TRUE(copy.Insert(2));
  EXPECT_TRUE(visited.Insert(2));
  EXPECT_FALSE(copy.Insert(1));
}

}  // namespace
}  // namespace nann
