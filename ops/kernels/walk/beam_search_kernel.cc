#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../core/base/async_loop.h"
#include "../../core/base/status_macros.h"
#include "../../core/walk/beam_search.h"
#include "../index/index_resource.h"
#include "../metrics/metrics.h"
#include "../scorer/tile_scorer.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "filter_input.h"
#include "level_topn.h"
#include "proxy_attributes.h"
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// One run of the op: its inputs and outputs, shared and owned by the walkers that search for its rows. The
// last walker that ends calls `done`; nothing touches `ctx` after that.
//
// Thread-safe: Prepare runs before the walkers start; rows are claimed by an atomic counter and written to
// disjoint parts of the outputs; the first error is guarded by `mu_`.
class SearchRun {
 public:
  SearchRun(OpKernelContext* ctx, std::shared_ptr<const Index> index,
            tensorflow::AsyncOpKernel::DoneCallback done)
      : ctx_(ctx), cancellation_(ctx), index_(std::move(index)), done_(std::move(done)) {}

  // Checks the inputs, makes the scorer ready and allocates the outputs.
  absl::Status Prepare(const TileScorer& scorer, const WalkOptions& walk, const ProxyAttributes& proxy,
                       int64_t max_work, bool keeps_valid_rows) {
    NANN_RETURN_IF_ERROR(ctx_->input_list("user_state", &user_state_));
    NANN_ASSIGN_OR_RETURN(batch_, BatchOf(user_state_));
    const Tensor* level_topn;
    NANN_RETURN_IF_ERROR(ctx_->input("level_topn", &level_topn));
    NANN_RETURN_IF_ERROR(ctx_->allocate_output("row_status", TensorShape({batch_}), &row_status_));
    NANN_ASSIGN_OR_RETURN(level_topn_, LevelTopn::Create(*level_topn, index_->graph(), max_work,
                                                         keeps_valid_rows, StatusOfRows()));
    NANN_RETURN_IF_ERROR(ctx_->input("exclude_ids", &exclude_ids_));
    if (exclude_ids_->dims() != 2 || exclude_ids_->dim_size(0) != batch_) {
      return absl::InvalidArgumentError(absl::StrCat("exclude_ids: expected shape [batch = ", batch_,
                                                     ", ids], found ", exclude_ids_->shape().DebugString()));
    }
    NANN_ASSIGN_OR_RETURN(filters_, FilterInput::Create(ctx_, cancellation_, *index_, batch_));
    keeps_valid_rows_ = keeps_valid_rows;
    walk_ = walk;
    if (!proxy.features.empty()) {
      NANN_ASSIGN_OR_RETURN(proxy_, proxy.Find(*index_));
      walk_.proxy = &proxy_;
    }
    NANN_ASSIGN_OR_RETURN(scorer_, scorer.Prepare(ctx_, *index_));
    NANN_ASSIGN_OR_RETURN(rescorer_, scorer.PrepareRescorer(*index_));
    NANN_RETURN_IF_ERROR(AllocateOutputs());
    PadRefusedRows();
    return absl::OkStatus();
  }

  OpKernelContext* ctx() const { return ctx_; }
  const StepCancellation& cancellation() const { return cancellation_; }
  const Index& index() const { return *index_; }
  const TileScorer::Ready& scorer() const { return scorer_; }
  const TileScorer::Ready& rescorer() const { return rescorer_; }
  const FilterInput& filters() const { return filters_; }
  // Without the filter of a row, and what it excludes.
  const WalkOptions& walk() const { return walk_; }
  int64_t batch() const { return batch_; }
  absl::Span<const int32_t> level_topn(int64_t row) const { return level_topn_.BeamsOfRow(row); }
  std::vector<Tensor> UserTensors(int64_t row) const { return UserOfRow(user_state_, row); }

  // How many results are scored again in float32: k and a margin.
  int64_t RescoreCount(int64_t row) const { return WithRescoreMargin(level_topn_.KOfRow(row)); }

  // The positions that a row excludes.
  std::vector<int32_t> ExcludedPositions(int64_t row) const {
    const int64_t width = exclude_ids_->dim_size(1);
    const int64_t* begin = exclude_ids_->flat<int64_t>().data() + row * width;
    // Near ids lie near each other in memory: 100,000 are found several times as fast in their order.
    std::vector<int64_t> ids(begin, begin + width);
    std::sort(ids.begin(), ids.end());
    std::vector<int32_t> positions;
    for (int64_t id : ids) {
      const int32_t position = index_->graph().PositionOf(id);
      if (position >= 0) positions.push_back(position);
    }
    return positions;
  }

  // The next valid row that no walker has claimed; -1 when there is none or the run has failed.
  int64_t ClaimRow() {
    while (!failed_.load()) {
      const int64_t row = next_row_.fetch_add(1);
      if (row >= batch_) return -1;
      if (StatusOfRows()[row] == kRowOk) return row;
    }
    return -1;
  }

  // Ends the run with `status`, unless an earlier error does.
  void Fail(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    if (status_.ok()) status_ = status;
    failed_.store(true);
  }

  // Pads a row whose filter is not valid, and fails the run if it is the only one or rows have no status.
  void RefuseRow(int64_t row, const absl::Status& refusal) {
    if (!keeps_valid_rows_) return Fail(refusal);
    StatusOfRows()[row] = kRowInvalid;
    PadRefusedRow(row);
    absl::MutexLock lock(&mu_);
    if (refusal_.ok()) refusal_ = refusal;
  }

  // Writes the outputs of a row whose search is done.
  void WriteRow(int64_t row, BeamSearch* search) {
    const int64_t width = ids_->dim_size(1);
    const int64_t k = level_topn_.KOfRow(row);
    int64_t* ids = ids_->flat<int64_t>().data() + row * width;
    float* scores = scores_->flat<float>().data() + row * width;
    int64_t results = 0;
    PartTimes().Spend(Part::kWalk,
                      [&] { results = search->TopK(absl::MakeSpan(ids, k), absl::MakeSpan(scores, k)); });
    // A row with a smaller k than the largest is padded like one that found fewer than k items.
    PadRow(row, k);
    items_scored_->flat<int32_t>()(row) = static_cast<int32_t>(search->items_scored());
    passing_->flat<int64_t>()(row) = search->passing();
    exact_->flat<bool>()(row) = search->exact();
    CountSearch(
        {search->items_scored(), search->hops(), search->nan_items(), results < k, search->filter_path()});
  }

  // Called once, before the walkers start.
  void ExpectWalkers(int64_t walkers) { walkers_left_.store(walkers); }

  // Called once by each walker, when it will not touch the run any more.
  void EndWalker() {
    if (walkers_left_.fetch_sub(1) != 1) return;
    {
      absl::MutexLock lock(&mu_);
      const absl::Span<const int32_t> statuses = StatusOfRows();
      const bool answered = std::count(statuses.begin(), statuses.end(), kRowOk) > 0;
      ctx_->SetStatus(status_.ok() && !answered ? refusal_ : status_);
    }
    index_.reset();  // An answered request holds no files, even when a thread still destroys its walker.
    done_();
  }

 private:
  absl::Status AllocateOutputs() {
    const TensorShape top_k({batch_, level_topn_.LargestK(StatusOfRows())});
    NANN_RETURN_IF_ERROR(ctx_->allocate_output("ids", top_k, &ids_));
    NANN_RETURN_IF_ERROR(ctx_->allocate_output("scores", top_k, &scores_));
    NANN_RETURN_IF_ERROR(ctx_->allocate_output("items_scored", TensorShape({batch_}), &items_scored_));
    Tensor* applied_segment = nullptr;
    NANN_RETURN_IF_ERROR(ctx_->allocate_output("applied_segment", TensorShape({batch_}), &applied_segment));
    applied_segment->flat<int64_t>().setConstant(index_->applied_segment());
    NANN_RETURN_IF_ERROR(ctx_->allocate_output("passing", TensorShape({batch_}), &passing_));
    return ctx_->allocate_output("exact", TensorShape({batch_}), &exact_);
  }

  absl::Span<int32_t> StatusOfRows() const {
    return absl::MakeSpan(row_status_->flat<int32_t>().data(), batch_);
  }

  // Pads the outputs of a row, from its result number `first` on.
  void PadRow(int64_t row, int64_t first) {
    const int64_t width = ids_->dim_size(1);
    int64_t* ids = ids_->flat<int64_t>().data() + row * width;
    float* scores = scores_->flat<float>().data() + row * width;
    std::fill(ids + first, ids + width, -1);
    std::fill(scores + first, scores + width, -std::numeric_limits<float>::infinity());
  }

  void PadRefusedRows() {
    for (int64_t row = 0; row < batch_; ++row) {
      if (StatusOfRows()[row] != kRowOk) PadRefusedRow(row);
    }
  }

  void PadRefusedRow(int64_t row) {
    PadRow(row, 0);
    items_scored_->flat<int32_t>()(row) = 0;
    passing_->flat<int64_t>()(row) = -1;
    exact_->flat<bool>()(row) = false;
  }

  OpKernelContext* const ctx_;
  const StepCancellation cancellation_;
  std::shared_ptr<const Index> index_;
  const tensorflow::AsyncOpKernel::DoneCallback done_;

  tensorflow::OpInputList user_state_;
  const Tensor* exclude_ids_ = nullptr;
  FilterInput filters_;
  LevelTopn level_topn_;
  TileScorer::Ready scorer_;
  TileScorer::Ready rescorer_;
  WalkOptions walk_;
  ProxyOptions proxy_;  // What walk_ points at, where there is a proxy walk.
  int64_t batch_ = 0;
  bool keeps_valid_rows_ = false;
  Tensor* ids_ = nullptr;
  Tensor* scores_ = nullptr;
  Tensor* items_scored_ = nullptr;
  Tensor* row_status_ = nullptr;  // A walker changes its own rows' only.
  Tensor* passing_ = nullptr;
  Tensor* exact_ = nullptr;

  std::atomic<int64_t> next_row_{0};
  std::atomic<int64_t> walkers_left_{0};
  std::atomic<bool> failed_{false};
  absl::Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);  // The first of a row whose filter is not valid.
};

// Searches for one row after the other, until none is left. Owned by the continuations of its AsyncLoop,
// whose steps never overlap: no two threads use a walker at once.
class Walker : public std::enable_shared_from_this<Walker> {
 public:
  explicit Walker(std::shared_ptr<SearchRun> run)
      : run_(std::move(run)), search_(run_->index().BorrowSearch()) {}

  void Start() {
    AsyncLoop::Run(
        [self = shared_from_this()](std::function<void()> next) { return self->Step(std::move(next)); });
  }

 private:
  // Begins a row, scores one hop, or scores the results again. Returns false when no row is left or the run
  // has failed.
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
    return Score(run_->scorer(), search_->frontier(), &BeamSearch::Advance, std::move(next));
  }

  bool RescoreRow(std::function<void()> next) {
    rescored_ = true;
    user_.bound = run_->rescorer().native->Bind(*user_.native);
    const absl::Span<const int32_t> positions = search_->KeepResults(run_->RescoreCount(row_));
    return Score(run_->rescorer(), positions, &BeamSearch::Rescore, std::move(next));
  }

  // Scores `positions`, hands the scores to the search, and ends the step.
  bool Score(const TileScorer::Ready& scorer, absl::Span<const int32_t> positions,
             void (BeamSearch::*use)(absl::Span<const float>), std::function<void()> next) {
    scores_.resize(positions.size());
    ScoreTiles(run_->ctx(), run_->cancellation(), scorer, user_, positions, absl::MakeSpan(scores_),
               [self = shared_from_this(), use, next = std::move(next)](const absl::Status& status) {
                 if (status.ok()) {
                   PartTimes().Spend(Part::kWalk, [&] { (self->search_.get()->*use)(self->scores_); });
                 } else {
                   self->GiveUp(status);
                 }
                 next();
               });
    return true;
  }

  // Walks all hops on this thread: a hop of distances costs less than to hand its tiles to other threads.
  void WalkDirect() {
    const NativeExecutor& executor = run_->scorer().native->executor();
    PartTimes times;
    while (!search_->done()) {
      if (run_->cancellation().IsCancelled()) return GiveUp(run_->cancellation().status());
      scores_.resize(search_->frontier().size());
      times.Spend(Part::kScorer, [&] {
        executor.ScoreInPlace(*user_.native, run_->scorer().tables, search_->frontier(), scores_.data());
      });
      times.Spend(Part::kWalk, [&] { search_->Advance(scores_); });
    }
  }

  bool BeginRow(std::function<void()> next) {
    row_ = run_->ClaimRow();
    rescored_ = false;
    if (row_ < 0) {
      search_.reset();  // Back to the pool before `done`, after which the next request may start.
      filter_.reset();  // It must not outlive the index.
      run_->EndWalker();
      return false;
    }
    BindUser(run_->ctx(), run_->scorer(), run_->UserTensors(row_), &user_,
             [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
               if (status.ok()) {
                 PartTimes().Spend(Part::kWalk, [&] { self->StartRow(); });
               } else {
                 self->GiveUp(status);
               }
               next();
             });
    return true;
  }

  void StartRow() {
    absl::StatusOr<std::shared_ptr<const RowFilter>> filter = run_->filters().OfRow(row_);
    if (absl::IsCancelled(filter.status())) return GiveUp(filter.status());
    if (!filter.ok()) {
      run_->RefuseRow(row_, filter.status());
      row_ = -1;
      return;
    }
    filter_ = *std::move(filter);
    excluded_ = run_->ExcludedPositions(row_);
    WalkOptions options = run_->walk();
    options.excluded = excluded_;
    options.filter = filter_.get();
    search_->Start(run_->level_topn(row_), options);
  }

  // Fails the run, so that the next step of every walker finds no row.
  void GiveUp(const absl::Status& status) {
    run_->Fail(status);
    row_ = -1;
  }

  const std::shared_ptr<SearchRun> run_;
  ObjectPool<BeamSearch>::Loan search_;
  int64_t row_ = -1;
  ScorerUser user_;
  bool rescored_ = false;
  std::shared_ptr<const RowFilter> filter_;  // Of the row; null lets every item pass.
  std::vector<int32_t> excluded_;            // Of the row.
  std::vector<float> scores_;
};

class BeamSearchOp : public tensorflow::AsyncOpKernel {
 public:
  explicit BeamSearchOp(tensorflow::OpKernelConstruction* ctx) : AsyncOpKernel(ctx), scorer_(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("max_work", &max_work_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("keep_valid_rows", &keeps_valid_rows_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("expand", &walk_.expand));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("score_all", &walk_.score_all));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("proxy_only_filters", &walk_.proxy_only_filters));
    OP_REQUIRES_OK(ctx, proxy_.Read(ctx));
  }

  void ComputeAsync(OpKernelContext* ctx, DoneCallback done) override {
    absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK_ASYNC(ctx, index.status(), done);
    auto run = std::make_shared<SearchRun>(ctx, *std::move(index), done);
    OP_REQUIRES_OK_ASYNC(ctx, run->Prepare(scorer_, walk_, proxy_, max_work_, keeps_valid_rows_), done);
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
  int64_t max_work_ = 0;
  bool keeps_valid_rows_ = false;
  WalkOptions walk_;
  ProxyAttributes proxy_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>BeamSearch").Device(tensorflow::DEVICE_CPU), BeamSearchOp);

}  // namespace
}  // namespace nann
