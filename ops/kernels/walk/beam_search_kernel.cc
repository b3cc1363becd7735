#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../../core/base/async_loop.h"
#include "../../core/walk/beam_search.h"
#include "../index/index_resource.h"
#include "../metrics/metrics.h"
#include "../scorer/tile_scorer.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// `level_topn` as the kernel takes it: [n] for all rows or [batch, n].
class LevelTopn {
 public:
  static absl::StatusOr<LevelTopn> Create(const Tensor& tensor, const Graph& graph, int64_t batch,
                                          int64_t max_work) {
    const TensorShape& shape = tensor.shape();
    const bool per_row = shape.dims() == 2;
    if ((shape.dims() != 1 && !per_row) || (per_row && shape.dim_size(0) != batch)) {
      return absl::InvalidArgumentError(absl::StrCat("level_topn: expected shape [n] or [batch = ", batch,
                                                     ", n] with n = ", graph.level_topn_length(), ", found ",
                                                     shape.DebugString()));
    }
    LevelTopn topn;
    topn.length_ = shape.dim_size(shape.dims() - 1);
    topn.per_row_ = per_row;
    topn.values_ = absl::MakeConstSpan(tensor.flat<int32_t>().data(), tensor.NumElements());
    const absl::Status status = CheckLevelTopn(graph, topn.values_, topn.length_, batch, max_work);
    if (!status.ok()) return status;
    return topn;
  }

  absl::Span<const int32_t> OfRow(int64_t row) const {
    return values_.subspan(per_row_ ? row * length_ : 0, length_);
  }
  int64_t KOfRow(int64_t row) const { return OfRow(row).back(); }

  // The width of the output: the largest k.
  int64_t LargestK() const {
    int64_t k = 0;
    for (size_t i = length_ - 1; i < values_.size(); i += length_) k = std::max<int64_t>(k, values_[i]);
    return k;
  }

 private:
  absl::Span<const int32_t> values_;
  int64_t length_ = 0;
  bool per_row_ = false;
};

// One run of the op: its inputs and outputs, shared by the walkers that search for its rows. Thread-safe:
// rows are claimed by an atomic counter and write disjoint parts of the outputs; the first error is guarded
// by `mu_`.
class SearchRun {
 public:
  SearchRun(OpKernelContext* ctx, std::shared_ptr<const Index> index,
            tensorflow::AsyncOpKernel::DoneCallback done)
      : ctx_(ctx), index_(std::move(index)), done_(std::move(done)) {}

  absl::Status Prepare(const TileScorer& scorer, const WalkOptions& walk, int64_t max_work) {
    walk_ = walk;
    absl::Status status = ctx_->input_list("user_state", &user_state_);
    if (!status.ok()) return status;
    const absl::StatusOr<int64_t> batch = BatchOf(user_state_);
    if (!batch.ok()) return batch.status();
    batch_ = *batch;
    const Tensor* level_topn;
    status = ctx_->input("level_topn", &level_topn);
    if (!status.ok()) return status;
    absl::StatusOr<LevelTopn> topn = LevelTopn::Create(*level_topn, index_->graph(), batch_, max_work);
    if (!topn.ok()) return topn.status();
    level_topn_ = *topn;
    status = ctx_->input("exclude_ids", &exclude_ids_);
    if (!status.ok()) return status;
    if (exclude_ids_->dims() != 2 || exclude_ids_->dim_size(0) != batch_) {
      return absl::InvalidArgumentError(absl::StrCat("exclude_ids: expected shape [batch = ", batch_,
                                                     ", ids], found ", exclude_ids_->shape().DebugString()));
    }
    absl::StatusOr<TileScorer::Ready> ready = scorer.Prepare(ctx_, *index_);
    if (!ready.ok()) return ready.status();
    scorer_ = *std::move(ready);
    absl::StatusOr<TileScorer::Ready> rescorer = scorer.PrepareRescorer(*index_);
    if (!rescorer.ok()) return rescorer.status();
    rescorer_ = *std::move(rescorer);
    return AllocateOutputs();
  }

  OpKernelContext* ctx() const { return ctx_; }
  const Index& index() const { return *index_; }
  const TileScorer::Ready& scorer() const { return scorer_; }
  const TileScorer::Ready& rescorer() const { return rescorer_; }
  WalkOptions walk() const { return {walk_.expand, exclude_ids_->dim_size(1)}; }
  int64_t batch() const { return batch_; }
  absl::Span<const int32_t> level_topn(int64_t row) const { return level_topn_.OfRow(row); }
  std::vector<Tensor> UserTensors(int64_t row) const { return UserOfRow(user_state_, row); }

  // How many results are scored again: k, what may be excluded, and some that the first pass ranked too low.
  int64_t RescoreCount(int64_t row) const {
    const int64_t k = level_topn_.KOfRow(row) + exclude_ids_->dim_size(1);
    return k + k / 4 + 16;
  }

  // The next row that nobody searches for yet, -1 when there is none or the run has failed.
  int64_t ClaimRow() {
    if (failed_.load()) return -1;
    const int64_t row = next_row_.fetch_add(1);
    return row < batch_ ? row : -1;
  }

  void Fail(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    if (status_.ok()) status_ = status;
    failed_.store(true);
  }

  void WriteRow(int64_t row, BeamSearch* search) {
    const Graph& graph = index_->graph();
    const int64_t width = ids_->dim_size(1);
    const int64_t k = level_topn_.KOfRow(row);
    std::vector<int32_t> excluded;
    const auto exclude_ids = exclude_ids_->matrix<int64_t>();
    for (int64_t x = 0; x < exclude_ids_->dim_size(1); ++x) {
      const int32_t position = graph.PositionOf(exclude_ids(row, x));
      if (position >= 0) excluded.push_back(position);
    }
    int64_t* ids = ids_->flat<int64_t>().data() + row * width;
    float* scores = scores_->flat<float>().data() + row * width;
    int64_t found = 0;
    PartTimes().Spend(Part::kWalk, [&] {
      found = search->TopK(excluded, absl::MakeSpan(ids, k), absl::MakeSpan(scores, k));
    });
    // A row that asked for fewer than the widest is padded like one that found fewer.
    std::fill(ids + k, ids + width, -1);
    std::fill(scores + k, scores + width, -std::numeric_limits<float>::infinity());
    items_scored_->flat<int32_t>()(row) = static_cast<int32_t>(search->items_scored());
    CountSearch({search->items_scored(), search->hops(), search->nan_items(), found < k});
  }

  void ExpectWalkers(int64_t walkers) { walkers_left_.store(walkers); }

  void EndWalker() {
    if (walkers_left_.fetch_sub(1) != 1) return;
    {
      absl::MutexLock lock(&mu_);
      ctx_->SetStatus(status_);
    }
    done_();
  }

 private:
  absl::Status AllocateOutputs() {
    const int64_t k = level_topn_.LargestK();
    absl::Status status = ctx_->allocate_output("ids", TensorShape({batch_, k}), &ids_);
    if (status.ok()) status = ctx_->allocate_output("scores", TensorShape({batch_, k}), &scores_);
    if (status.ok()) status = ctx_->allocate_output("items_scored", TensorShape({batch_}), &items_scored_);
    return status;
  }

  OpKernelContext* const ctx_;
  const std::shared_ptr<const Index> index_;
  const tensorflow::AsyncOpKernel::DoneCallback done_;

  tensorflow::OpInputList user_state_;
  const Tensor* exclude_ids_ = nullptr;
  LevelTopn level_topn_;
  TileScorer::Ready scorer_;
  TileScorer::Ready rescorer_;
  WalkOptions walk_;
  int64_t batch_ = 0;
  Tensor* ids_ = nullptr;
  Tensor* scores_ = nullptr;
  Tensor* items_scored_ = nullptr;

  std::atomic<int64_t> next_row_{0};
  std::atomic<int64_t> walkers_left_{0};
  std::atomic<bool> failed_{false};
  absl::Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

// Searches for one row after the other. Not shared between threads except through the continuation of
// AsyncLoop, whose steps never overlap.
class Walker : public std::enable_shared_from_this<Walker> {
 public:
  explicit Walker(std::shared_ptr<SearchRun> run)
      : run_(std::move(run)), search_(run_->index().BorrowSearch()) {}

  void Start() {
    AsyncLoop::Run(
        [self = shared_from_this()](std::function<void()> next) { return self->Step(std::move(next)); });
  }

 private:
  // Begins a row or scores one hop. Returns false when no row is left or the run has failed.
  bool Step(std::function<void()> next) {
    if (row_ >= 0 && search_->done()) {
      if (run_->rescorer().native != nullptr && !rescored_) return RescoreRow(std::move(next));
      run_->WriteRow(row_, search_.get());
      row_ = -1;
    }
    if (row_ < 0) return BeginRow(std::move(next));
    const NativeScorer* native = run_->scorer().native;
    if (native != nullptr && native->executor().ScoresInPlace(run_->scorer().tables)) {
      WalkDirect();
      next();
      return true;
    }
    frontier_scores_.resize(search_->frontier().size());
    ScoreTiles(run_->ctx(), run_->scorer(), user_, search_->frontier(), absl::MakeSpan(frontier_scores_),
               [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
                 if (status.ok()) {
                   PartTimes().Spend(Part::kWalk, [&] { self->search_->Advance(self->frontier_scores_); });
                 } else {
                   self->GiveUp(status);
                 }
                 next();
               });
    return true;
  }

  bool RescoreRow(std::function<void()> next) {
    rescored_ = true;
    user_.packed = run_->rescorer().native->Pack(*user_.native);
    const absl::Span<const int32_t> positions = search_->KeepResults(run_->RescoreCount(row_));
    frontier_scores_.resize(positions.size());
    ScoreTiles(run_->ctx(), run_->rescorer(), user_, positions, absl::MakeSpan(frontier_scores_),
               [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
                 if (status.ok()) {
                   self->search_->Rescore(self->frontier_scores_);
                 } else {
                   self->GiveUp(status);
                 }
                 next();
               });
    return true;
  }

  // All hops at once: a distance costs less than handing a tile to another thread would.
  void WalkDirect() {
    tensorflow::CancellationManager* cancellation = run_->ctx()->cancellation_manager();
    const NativeExecutor& executor = run_->scorer().native->executor();
    PartTimes times;
    while (!search_->done()) {
      if (cancellation != nullptr && cancellation->IsCancelled()) {
        return GiveUp(absl::CancelledError("the request was cancelled or its deadline passed"));
      }
      frontier_scores_.resize(search_->frontier().size());
      times.Spend(Part::kScorer, [&] {
        executor.ScoreInPlace(*user_.native, run_->scorer().tables, search_->frontier(),
                              frontier_scores_.data());
      });
      times.Spend(Part::kWalk, [&] { search_->Advance(frontier_scores_); });
    }
  }

  bool BeginRow(std::function<void()> next) {
    row_ = run_->ClaimRow();
    rescored_ = false;
    if (row_ < 0) {
      search_.reset();
      run_->EndWalker();
      return false;
    }
    BindUser(run_->ctx(), run_->scorer(), run_->UserTensors(row_), &user_,
             [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
               if (status.ok()) {
                 self->search_->Start(self->run_->level_topn(self->row_), self->run_->walk());
               } else {
                 self->GiveUp(status);
               }
               next();
             });
    return true;
  }

  // The next step finds no row to search for.
  void GiveUp(const absl::Status& status) {
    run_->Fail(status);
    row_ = -1;
  }

  const std::shared_ptr<SearchRun> run_;
  ObjectPool<BeamSearch>::Loan search_;
  int64_t row_ = -1;
  ScorerUser user_;
  bool rescored_ = false;
  std::vector<float> frontier_scores_;
};

class BeamSearchOp : public tensorflow::AsyncOpKernel {
 public:
  explicit BeamSearchOp(tensorflow::OpKernelConstruction* ctx) : AsyncOpKernel(ctx), scorer_(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("max_work", &max_work_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("expand", &walk_.expand));
  }

  void ComputeAsync(OpKernelContext* ctx, DoneCallback done) override {
    absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK_ASYNC(ctx, index.status(), done);
    auto run = std::make_shared<SearchRun>(ctx, *std::move(index), done);
    OP_REQUIRES_OK_ASYNC(ctx, run->Prepare(scorer_, walk_, max_work_), done);
    const int64_t threads = ctx->device()->tensorflow_cpu_worker_threads()->num_threads;
    const int64_t walkers = std::clamp<int64_t>(run->batch(), 1, std::max<int64_t>(threads, 1));
    run->ExpectWalkers(walkers);
    for (int64_t walker = 1; walker < walkers; ++walker) {
      (*ctx->runner())([run] { std::make_shared<Walker>(run)->Start(); });
    }
    std::make_shared<Walker>(run)->Start();
  }

 private:
  const TileScorer scorer_;
  WalkOptions walk_;
  int64_t max_work_ = 0;
};

REGISTER_KERNEL_BUILDER(Name("Nann>BeamSearch").Device(tensorflow::DEVICE_CPU), BeamSearchOp);

}  // namespace
}  // namespace nann
