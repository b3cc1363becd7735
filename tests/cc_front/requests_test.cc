// How the front of the server shares models, turns and counts between its threads.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ops/core/base/cancellable_runs.h"
#include "serving/server/front/cancellation.h"
#include "serving/server/front/model_table.h"
#include "serving/server/front/request_counts.h"
#include "serving/server/front/run_queue.h"

extern "C" {
void* nann_run_begin(const void* const* buffers, int count);
void nann_run_cancel(void* run);
void nann_run_end(void* run);
}

namespace nann::front {
namespace {

using Choice = PredictRequest::Choice;

std::shared_ptr<const LoadedModel> Model() {
  return std::make_shared<const LoadedModel>(TensorFlow{}, nullptr, 1, false);
}

PredictRequest AskFor(std::string_view name) {
  PredictRequest request;
  request.model = name;
  return request;
}

TEST(ModelTable, ARemovedModelIsUnusedAfterItsLastRequest) {
  std::vector<int64_t> unused;
  ModelTable table([&unused](int64_t id) { unused.push_back(id); });
  const int64_t id = table.Add(Model());
  table.SetRoutes({{RouteKey("nann", Choice::kNewest, 0, ""), id}});
  {
    const ModelTable::Lease first = table.Find(AskFor("nann"));
    {
      const ModelTable::Lease second = table.Find(AskFor("nann"));
      ASSERT_NE(second.get(), nullptr);
      table.SetRoutes({});
      EXPECT_FALSE(table.Remove(id));
    }
    EXPECT_EQ(table.Find(AskFor("nann")).get(), nullptr);
    EXPECT_TRUE(unused.empty());
  }
  EXPECT_EQ(unused, std::vector<int64_t>{id});
}

TEST(ModelTable, AModelWithoutRequestsIsUnusedAtOnce) {
  ModelTable table([](int64_t) { FAIL(); });
  EXPECT_TRUE(table.Remove(table.Add(Model())));
}

TEST(ModelTable, RoutesTellVersionsAndLabelsApart) {
  ModelTable table([](int64_t) {});
  const int64_t one = table.Add(Model()), two = table.Add(Model());
  table.SetRoutes({{RouteKey("nann", Choice::kVersion, 1, ""), one},
                   {RouteKey("nann", Choice::kLabel, 0, "stable"), one},
                   {RouteKey("nann", Choice::kNewest, 0, ""), two}});
  PredictRequest request = AskFor("nann");
  const LoadedModel* newest = table.Find(request).get();
  request.choice = Choice::kVersion;
  request.version = 1;
  const LoadedModel* first = table.Find(request).get();
  EXPECT_NE(first, newest);
  request.version = 3;
  EXPECT_EQ(table.Find(request).get(), nullptr);
  request = AskFor("nann");
  request.choice = Choice::kLabel;
  request.label = "stable";
  EXPECT_EQ(table.Find(request).get(), first);
  EXPECT_EQ(table.Find(AskFor("other")).get(), nullptr);
}

TEST(ModelTable, RequestsAndChangesOfManyThreadsLeaveNothingBehind) {
  constexpr int kModels = 200;
  std::atomic<int> unused{0};
  ModelTable table([&unused](int64_t) { ++unused; });
  std::atomic<bool> done{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      while (!done) table.Find(AskFor("nann"));
    });
  }
  int at_once = 0;
  int64_t current = table.Add(Model());
  for (int i = 0; i < kModels; ++i) {
    const int64_t next = table.Add(Model());
    table.SetRoutes({{RouteKey("nann", Choice::kNewest, 0, ""), next}});
    at_once += table.Remove(current) ? 1 : 0;
    current = next;
  }
  done = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(at_once + unused, kModels);
}

TEST(RunQueue, RequestsBeyondTheTurnsWaitInOrder) {
  RunQueue<int> queue(1, 2);
  EXPECT_EQ(queue.Enter(1), RunQueue<int>::Turn::kRun);
  EXPECT_EQ(queue.Enter(2), RunQueue<int>::Turn::kWait);
  EXPECT_EQ(queue.Enter(3), RunQueue<int>::Turn::kWait);
  EXPECT_EQ(queue.Enter(4), RunQueue<int>::Turn::kRefused);
  int next = 0;
  EXPECT_TRUE(queue.Next(&next));
  EXPECT_EQ(next, 2);
  EXPECT_TRUE(queue.Next(&next));
  EXPECT_EQ(next, 3);
  EXPECT_FALSE(queue.Next(&next));
  EXPECT_EQ(queue.Enter(5), RunQueue<int>::Turn::kRun);
}

constexpr RunFunctions kRunFunctions = {nann_run_begin, nann_run_cancel, nann_run_end};

TEST(Cancellation, EndsTheRunThatIsUnderWayAndThoseToCome) {
  const int first = 0, second = 0;
  const CancellableRuns& runs = CancellableRuns::OfProcess();
  Cancellation cancellation(kRunFunctions);
  {
    const Cancellation::Run run(&cancellation, {&first});
    const CancellableRuns::Flag flag = runs.Find(&first);
    ASSERT_NE(flag, nullptr);
    EXPECT_FALSE(flag->load());
    cancellation.Cancel();
    EXPECT_TRUE(flag->load());
  }
  EXPECT_TRUE(cancellation.IsCancelled());
  const Cancellation::Run run(&cancellation, {&second});
  EXPECT_EQ(runs.Find(&first), nullptr);
  EXPECT_TRUE(runs.Find(&second)->load());
}

// A caller gives up at any moment: before, in and after the run.
TEST(Cancellation, ComesFromAnyThreadAtAnyMoment) {
  for (int i = 0; i < 1000; ++i) {
    Cancellation cancellation(kRunFunctions);
    std::thread caller([&cancellation] { cancellation.Cancel(); });
    for (int run = 0; run < 3; ++run) {
      const Cancellation::Run under_way(&cancellation, {&run});
    }
    caller.join();
    EXPECT_TRUE(cancellation.IsCancelled());
  }
  EXPECT_TRUE(CancellableRuns::OfProcess().IsEmpty());
}

TEST(RequestCounts, AreTakenOnce) {
  RequestCounts counts({10, 20});
  counts.Add("nann", "retrieve", 0, 5, 4);
  counts.Add("nann", "retrieve", 0, 20, 30);
  counts.Add("nann", "retrieve", 4, 25, -1);
  const std::map<CellKey, RequestCell> cells = counts.Take();
  ASSERT_EQ(cells.size(), 2u);
  const RequestCell& answered = cells.at(CellKey("nann", "retrieve", 0));
  EXPECT_EQ(answered.request.counts, (std::vector<int64_t>{1, 1, 0}));
  EXPECT_EQ(answered.request.total, 25);
  EXPECT_EQ(answered.run.counts, (std::vector<int64_t>{1, 0, 1}));
  EXPECT_TRUE(cells.at(CellKey("nann", "retrieve", 4)).run.counts.empty());
  EXPECT_TRUE(counts.Take().empty());
}

}  // namespace
}  // namespace nann::front
