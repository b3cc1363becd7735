#include "ops/core/base/async_loop.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>
#include <vector>

namespace nann {
namespace {

TEST(AsyncLoopTest, AMillionInlineStepsDoNotGrowTheStack) {
  int steps = 0;
  AsyncLoop::Run([&steps](std::function<void()> next) {
    if (++steps > 1000000) return false;
    next();
    return true;
  });
  EXPECT_EQ(steps, 1000001);
}

TEST(AsyncLoopTest, StepsFinishedByOtherThreadsNeverOverlap) {
  std::promise<void> over;
  std::vector<std::thread> threads;
  int steps = 0;  // Unguarded on purpose: a thread sanitizer sees an overlap.
  AsyncLoop::Run([&](std::function<void()> next) {
    if (++steps > 200) {
      over.set_value();
      return false;
    }
    threads.emplace_back(std::move(next));
    return true;
  });
  over.get_future().wait();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(steps, 201);
}

TEST(AsyncLoopTest, ALoopThatIsOverAtOnceRunsOnce) {
  int steps = 0;
  AsyncLoop::Run([&steps](std::function<void()>) {
    ++steps;
    return false;
  });
  EXPECT_EQ(steps, 1);
}

}  // namespace
}  // namespace nann
