#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../../core/base/async_loop.h"
#include "../index/index_resource.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tile_scorer.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// One run of the op, row after row. Steps never overlap (AsyncLoop).
class ScoreRun : public std::enable_shared_from_this<ScoreRun> {
 public:
  // The input `items` has positions, or, where it is int64, item ids.
  ScoreRun(OpKernelContext* ctx, std::shared_ptr<const Index> index, const char* items,
           tensorflow::AsyncOpKernel::DoneCallback done)
      : ctx_(ctx), index_(std::move(index)), items_name_(items), done_(std::move(done)) {}

  absl::Status Prepare(const TileScorer& scorer) {
    absl::Status status = ctx_->input_list("user_state", &user_state_);
    if (!status.ok()) return status;
    const absl::StatusOr<int64_t> batch = BatchOf(user_state_);
    if (!batch.ok()) return batch.status();
    batch_ = *batch;
    status = ctx_->input(items_name_, &items_);
    if (!status.ok()) return status;
    if (items_->dims() != 2 || items_->dim_size(0) != batch_) {
      return absl::InvalidArgumentError(absl::StrCat(items_name_, ": expected shape [batch = ", batch_,
                                                     ", n], found ", items_->shape().DebugString()));
    }
    absl::StatusOr<TileScorer::Ready> ready = scorer.Prepare(ctx_, *index_);
    if (!ready.ok()) return ready.status();
    scorer_ = *std::move(ready);
    return ctx_->allocate_output("scores", items_->shape(), &scores_);
  }

  void Start() {
    AsyncLoop::Run(
        [self = shared_from_this()](std::function<void()> next) { return self->Step(std::move(next)); });
  }

 private:
  bool Step(std::function<void()> next) {
    if (status_.ok() && row_ < batch_) status_ = TakeKnownPositions();
    if (!status_.ok() || row_ >= batch_) {
      ctx_->SetStatus(status_);
      done_();
      return false;
    }
    known_scores_.resize(known_.size());
    BindUser(ctx_, scorer_, UserOfRow(user_state_, row_), &user_,
             [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
               if (status.ok()) return self->ScoreRow(next);
               self->status_ = status;
               next();
             });
    return true;
  }

  void ScoreRow(std::function<void()> next) {
    ScoreTiles(ctx_, scorer_, user_, known_, absl::MakeSpan(known_scores_),
               [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
                 self->status_ = status;
                 if (status.ok()) self->EndRow();
                 next();
               });
  }

  // Sets positions_ to those of the row, and known_ to those that are not -1.
  absl::Status TakeKnownPositions() {
    positions_.clear();
    known_.clear();
    for (int64_t i = 0; i < items_->dim_size(1); ++i) {
      const absl::StatusOr<int32_t> position = PositionAt(i);
      if (!position.ok()) return position.status();
      positions_.push_back(*position);
      if (*position >= 0) known_.push_back(*position);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> PositionAt(int64_t i) const {
    const Graph& graph = index_->graph();
    if (items_->dtype() == tensorflow::DT_INT64) return graph.PositionOf(items_->matrix<int64_t>()(row_, i));
    const int32_t position = items_->matrix<int32_t>()(row_, i);
    if (position >= -1 && position < graph.num_items()) return position;
    return absl::InvalidArgumentError(absl::StrCat("positions[", row_, ", ", i,
                                                   "]: expected -1 (unknown) or 0 to ", graph.num_items() - 1,
                                                   ", found ", position));
  }

  void EndRow() {
    auto scores = scores_->matrix<float>();
    size_t next_known = 0;
    for (size_t i = 0; i < positions_.size(); ++i) {
      scores(row_, i) =
          positions_[i] < 0 ? -std::numeric_limits<float>::infinity() : known_scores_[next_known++];
    }
    ++row_;
  }

  OpKernelContext* const ctx_;
  const std::shared_ptr<const Index> index_;
  const char* const items_name_;
  const tensorflow::AsyncOpKernel::DoneCallback done_;

  tensorflow::OpInputList user_state_;
  const Tensor* items_ = nullptr;
  TileScorer::Ready scorer_;
  int64_t batch_ = 0;
  Tensor* scores_ = nullptr;

  int64_t row_ = 0;
  ScorerUser user_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> known_;
  std::vector<float> known_scores_;
  absl::Status status_;
};

// Scores positions.
class ScoreItemsOp : public tensorflow::AsyncOpKernel {
 public:
  explicit ScoreItemsOp(tensorflow::OpKernelConstruction* ctx) : ScoreItemsOp(ctx, "positions") {}

  void ComputeAsync(OpKernelContext* ctx, DoneCallback done) override {
    absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK_ASYNC(ctx, index.status(), done);
    OP_REQUIRES_OK_ASYNC(ctx, Describe(ctx, **index), done);
    auto run = std::make_shared<ScoreRun>(ctx, *std::move(index), items_, done);
    OP_REQUIRES_OK_ASYNC(ctx, run->Prepare(scorer_), done);
    run->Start();
  }

 protected:
  ScoreItemsOp(tensorflow::OpKernelConstruction* ctx, const char* items)
      : AsyncOpKernel(ctx), scorer_(ctx), items_(items) {}

 private:
  // Sets the outputs that say what is scored.
  virtual absl::Status Describe(OpKernelContext*, const Index&) const { return absl::OkStatus(); }

  const TileScorer scorer_;
  const char* const items_;
};

// Looks ids up and scores their items in one state of the index.
class ScoreIdsOp : public ScoreItemsOp {
 public:
  explicit ScoreIdsOp(tensorflow::OpKernelConstruction* ctx) : ScoreItemsOp(ctx, "item_ids") {}

 private:
  absl::Status Describe(OpKernelContext* ctx, const Index& index) const override {
    const Tensor* ids;
    absl::Status status = ctx->input("item_ids", &ids);
    if (!status.ok()) return status;
    Tensor* applied_segment = nullptr;
    const tensorflow::TensorShape rows({ids->dims() == 0 ? 0 : ids->dim_size(0)});
    status = ctx->allocate_output("applied_segment", rows, &applied_segment);
    if (status.ok()) applied_segment->flat<int64_t>().setConstant(index.applied_segment());
    return status;
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>ScoreItems").Device(tensorflow::DEVICE_CPU), ScoreItemsOp);
REGISTER_KERNEL_BUILDER(Name("Nann>ScoreIds").Device(tensorflow::DEVICE_CPU), ScoreIdsOp);

}  // namespace
}  // namespace nann
