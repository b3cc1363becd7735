#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "../../core/base/async_loop.h"
#include "../metrics/metrics.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "scorer_function.h"
#include "tensorflow/core/framework/device_base.h"
#include "tile_scorer.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// Tiles become as short as this towards the end of a hop: a multiple of the rows that the kernels take at
// once.
constexpr int64_t kLeastTileRows = 12;

// Lanes at work in this process, all searches together. A search always has one; it takes more only while
// there are threads to run them, so that many searches at once do not queue behind each other's tiles.
std::atomic<int64_t>& BusyLanes() {
  static std::atomic<int64_t> busy{0};
  return busy;
}

// The work of one ScoreTiles call, shared by its lanes. Thread-safe: tiles are claimed from an atomic
// position and write disjoint parts of `scores_`; the first error is guarded by `mu_`. `lanes_` is written
// before the other lanes start.
class TileRun : public std::enable_shared_from_this<TileRun> {
 public:
  TileRun(OpKernelContext* ctx, const StepCancellation& cancellation, const TileScorer::Ready& scorer,
          const ScorerUser& user, absl::Span<const int32_t> positions, absl::Span<float> scores,
          TileScorer::Done done)
      : ctx_(ctx),
        cancellation_(cancellation),
        scorer_(scorer),
        user_(user),
        positions_(positions),
        scores_(scores),
        done_(std::move(done)),
        tile_rows_(scorer.calls_function() ? scorer.tile_rows : scorer.native->executor().tile_rows()) {}

  void Start() {
    const int64_t tiles = (positions_.size() + tile_rows_ - 1) / tile_rows_;
    const int64_t threads = ctx_->device()->tensorflow_cpu_worker_threads()->num_threads;
    const int64_t idle = threads - BusyLanes().fetch_add(1) - 1;
    lanes_ = std::clamp<int64_t>(std::min(tiles, 1 + idle), 1, std::max<int64_t>(threads, 1));
    BusyLanes().fetch_add(lanes_ - 1);
    lanes_left_.store(lanes_);
    for (int64_t lane = 1; lane < lanes_; ++lane) {
      (*ctx_->runner())([self = shared_from_this()] { self->RunLane(); });
    }
    RunLane();
  }

 private:
  // The tensors that one lane uses again for each of its tiles.
  struct Lane {
    std::vector<Tensor> args;
    std::vector<Tensor> rets;
    NativeScorer::Memory scratch;  // Where a program goes on with what the function computes.
  };

  void RunLane() {
    if (!scorer_.calls_function()) return RunNativeLane();
    auto lane = std::make_shared<Lane>();
    if (scorer_.native != nullptr) lane->scratch = scorer_.native->BorrowScratch();
    lane->args = user_.tensors;
    for (const Table* table : scorer_.tables) {
      Tensor tile;
      const absl::Status allocated = ctx_->allocate_temp(
          tensorflow::DT_FLOAT, tensorflow::TensorShape({tile_rows_, table->width()}), &tile);
      if (!allocated.ok()) Fail(allocated);
      lane->args.push_back(std::move(tile));
    }
    AsyncLoop::Run([self = shared_from_this(), lane](std::function<void()> next) {
      if (self->StartTile(lane, std::move(next))) return true;
      self->EndLane();
      return false;
    });
  }

  // The native executor never waits for anything.
  void RunNativeLane() {
    {
      const NativeExecutor& executor = *user_.bound.executor;
      const AlignedFloats& values = user_.bound.ValuesOr(user_.native);
      const bool in_place = executor.ScoresInPlace(scorer_.tables);
      const NativeScorer::Memory scratch = scorer_.native->BorrowScratch();
      PartTimes times;
      int64_t begin, rows;
      while (ClaimTile(&begin, &rows)) {
        const absl::Span<const int32_t> tile = positions_.subspan(begin, rows);
        float* scores = scores_.data() + begin;
        if (in_place) {
          times.Spend(Part::kScorer,
                      [&] { executor.ScoreInPlace(*user_.native, scorer_.tables, tile, scores); });
          continue;
        }
        times.Spend(Part::kGather, [&] { executor.Gather(scorer_.tables, tile, scratch.get()); });
        times.Spend(Part::kScorer,
                    [&] { executor.Score(values, *user_.bound.packed, rows, scratch.get(), scores); });
      }
    }
    EndLane();
  }

  // Returns false when no tile is left or the run has failed.
  bool ClaimTile(int64_t* begin, int64_t* rows) {
    if (cancellation_.IsCancelled()) Fail(cancellation_.status());
    if (failed_.load()) return false;
    const int64_t size = static_cast<int64_t>(positions_.size());
    *begin = next_position_.load();
    do {
      if (*begin >= size) return false;
      *rows = RowsOfTile(size - *begin);
    } while (!next_position_.compare_exchange_weak(*begin, *begin + *rows));
    CountTile();
    return true;
  }

  // The last tiles of the native executor are short, so that all lanes end together (guided self-scheduling,
  // Polychronopoulos and Kuck 1987). A function of TensorFlow takes tiles of one size only.
  int64_t RowsOfTile(int64_t left) const {
    if (scorer_.calls_function() || lanes_ == 1) return std::min(tile_rows_, left);
    const int64_t share = left / (2 * lanes_) / kLeastTileRows * kLeastTileRows;
    return std::min({tile_rows_, std::max(share, kLeastTileRows), left});
  }

  bool StartTile(const std::shared_ptr<Lane>& lane, std::function<void()> next) {
    int64_t begin, rows;
    if (!ClaimTile(&begin, &rows)) return false;
    PartTimes().Spend(Part::kGather, [&] { Gather(positions_.subspan(begin, rows), lane.get()); });
    lane->rets.clear();
    const auto started = std::chrono::steady_clock::now();
    scorer_.runtime->Run(FunctionOptions(ctx_), scorer_.scorer, lane->args, &lane->rets,
                         [self = shared_from_this(), lane, begin, rows, started,
                          next = std::move(next)](const absl::Status& status) {
                           CountTime(Part::kScorer, std::chrono::steady_clock::now() - started);
                           self->EndTile(status, *lane, begin, rows);
                           next();
                         });
    return true;
  }

  void Gather(absl::Span<const int32_t> positions, Lane* lane) const {
    for (size_t t = 0; t < scorer_.tables.size(); ++t) {
      const int64_t width = scorer_.tables[t]->width();
      float* tile = lane->args[user_.tensors.size() + t].flat<float>().data();
      scorer_.tables[t]->Gather(positions, tile);
      const int64_t used = positions.size() * width;
      std::memset(tile + used, 0, (tile_rows_ * width - used) * sizeof(float));
    }
  }

  void EndTile(const absl::Status& status, const Lane& lane, int64_t begin, int64_t rows) {
    if (!status.ok()) return Fail(status);
    const int64_t width = scorer_.native == nullptr ? 1 : scorer_.computed_width;
    if (lane.rets.size() != 1 || lane.rets[0].dtype() != tensorflow::DT_FLOAT ||
        lane.rets[0].NumElements() != tile_rows_ * width) {
      return Fail(absl::InvalidArgumentError(
          absl::StrCat("scorer: expected one output float32[", tile_rows_,
                       scorer_.native == nullptr ? "" : absl::StrCat(", ", width), "], found ",
                       lane.rets.size(), " outputs, the first ",
                       lane.rets.empty() ? "absent"
                                         : absl::StrCat(tensorflow::DataTypeString(lane.rets[0].dtype()),
                                                        lane.rets[0].shape().DebugString()))));
    }
    const float* computed = lane.rets[0].flat<float>().data();
    if (scorer_.native == nullptr) {
      std::memcpy(scores_.data() + begin, computed, rows * sizeof(float));
    } else {
      GoOn({computed, width}, lane, begin, rows);
    }
  }

  // Scores a tile by the program, from what the function computed of it.
  void GoOn(RowsView computed, const Lane& lane, int64_t begin, int64_t rows) {
    const NativeExecutor& executor = *user_.bound.executor;
    PartTimes().Spend(Part::kScorer, [&] {
      for (int64_t done = 0; done < rows; done += executor.tile_rows()) {
        const int64_t count = std::min(executor.tile_rows(), rows - done);
        executor.Gather(scorer_.tables, positions_.subspan(begin + done, count), lane.scratch.get(),
                        {computed.data + done * computed.stride, computed.stride});
        executor.Score(user_.bound.ValuesOr(user_.native), *user_.bound.packed, count, lane.scratch.get(),
                       scores_.data() + begin + done);
      }
    });
  }

  void Fail(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    if (status_.ok()) status_ = status;
    failed_.store(true);
  }

  void EndLane() {
    BusyLanes().fetch_sub(1);
    if (lanes_left_.fetch_sub(1) != 1) return;
    absl::Status status;
    {
      absl::MutexLock lock(&mu_);
      status = status_;
    }
    done_(status);
  }

  OpKernelContext* const ctx_;
  const StepCancellation& cancellation_;
  const TileScorer::Ready& scorer_;
  const ScorerUser& user_;
  const absl::Span<const int32_t> positions_;
  const absl::Span<float> scores_;
  const TileScorer::Done done_;
  const int64_t tile_rows_;

  int64_t lanes_ = 1;
  std::atomic<int64_t> next_position_{0};
  std::atomic<int64_t> lanes_left_{0};
  std::atomic<bool> failed_{false};
  absl::Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

void ScoreTiles(OpKernelContext* ctx, const StepCancellation& cancellation, const TileScorer::Ready& scorer,
                const ScorerUser& user, absl::Span<const int32_t> positions, absl::Span<float> scores,
                TileScorer::Done done) {
  std::make_shared<TileRun>(ctx, cancellation, scorer, user, positions, scores, std::move(done))->Start();
}

}  // namespace nann
