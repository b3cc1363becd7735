#include "ops/core/base/object_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace nann {
namespace {

struct Counted {
  explicit Counted(std::atomic<int>* alive) : alive(alive) { ++*alive; }
  ~Counted() { --*alive; }
  std::atomic<int>* alive;
  int uses = 0;
};

TEST(ObjectPoolTest, KeepsAtMostTheBound) {
  std::atomic<int> alive{0};
  ObjectPool<Counted> pool(2, [&alive] { return std::make_unique<Counted>(&alive); });
  {
    std::vector<ObjectPool<Counted>::Loan> loans;
    for (int i = 0; i < 5; ++i) loans.push_back(pool.Borrow());
    EXPECT_EQ(alive, 5);
  }
  EXPECT_EQ(alive, 2);
}

TEST(ObjectPoolTest, ReusesWhatCameBack) {
  std::atomic<int> alive{0};
  ObjectPool<Counted> pool(1, [&alive] { return std::make_unique<Counted>(&alive); });
  pool.Borrow()->uses = 7;
  EXPECT_EQ(pool.Borrow()->uses, 7);
}

TEST(ObjectPoolTest, ALoanOutlivesThePool) {
  std::atomic<int> alive{0};
  {
    ObjectPool<Counted>::Loan loan;
    {
      ObjectPool<Counted> pool(1, [&alive] { return std::make_unique<Counted>(&alive); });
      loan = pool.Borrow();
    }
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST(ObjectPoolTest, ThreadsNeverShareALoan) {
  std::atomic<int> alive{0};
  std::atomic<int> overlaps{0};
  ObjectPool<Counted> pool(4, [&alive] { return std::make_unique<Counted>(&alive); });
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&pool, &overlaps] {
      for (int i = 0; i < 1000; ++i) {
        ObjectPool<Counted>::Loan loan = pool.Borrow();
        const int before = ++loan->uses;
        if (loan->uses != before) ++overlaps;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(overlaps, 0);
  EXPECT_LE(alive, 4);
}

}  // namespace
}  // namespace nann
