// Runs that the program which called the session can end.
#include "ops/core/base/cancellable_runs.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace nann {
namespace {

TEST(CancellableRuns, ABufferLeadsToItsRunWhileItRuns) {
  CancellableRuns runs;
  const int a = 0, b = 0, other = 0;
  EXPECT_TRUE(runs.IsEmpty());
  auto run = runs.Begin({&a, &b});
  EXPECT_FALSE(runs.IsEmpty());
  const CancellableRuns::Flag flag = runs.Find(&b);
  EXPECT_EQ(runs.Find(&a), flag);
  EXPECT_EQ(runs.Find(&other), nullptr);
  EXPECT_FALSE(flag->load());
  run->is_cancelled->store(true);
  EXPECT_TRUE(flag->load());
  runs.End(std::move(run));
  EXPECT_TRUE(runs.IsEmpty());
  EXPECT_EQ(runs.Find(&a), nullptr);
  EXPECT_TRUE(flag->load());  // An op may still look.
}

TEST(CancellableRuns, OnlyTheRunThatIsCancelledEnds) {
  CancellableRuns runs;
  const int a = 0, b = 0;
  auto one = runs.Begin({&a}), two = runs.Begin({&b});
  one->is_cancelled->store(true);
  EXPECT_TRUE(runs.Find(&a)->load());
  EXPECT_FALSE(runs.Find(&b)->load());
  runs.End(std::move(one));
  EXPECT_NE(runs.Find(&b), nullptr);
  runs.End(std::move(two));
}

TEST(CancellableRuns, ThreadsFindTheirOwnRuns) {
  constexpr int kThreads = 4, kRuns = 500;
  CancellableRuns runs;
  std::vector<int> buffers(kThreads);
  std::vector<std::thread> threads;
  for (const int& buffer : buffers) {
    threads.emplace_back([&runs, &buffer] {
      for (int i = 0; i < kRuns; ++i) {
        auto run = runs.Begin({&buffer});
        std::thread caller([flag = run->is_cancelled] { flag->store(true); });
        const CancellableRuns::Flag found = runs.Find(&buffer);
        EXPECT_EQ(found, run->is_cancelled);
        caller.join();
        EXPECT_TRUE(found->load());
        runs.End(std::move(run));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(runs.IsEmpty());
}

}  // namespace
}  // namespace nann
