#include <algorithm>
#include <iterator>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../../core/base/async_loop.h"
#include "../index/index_resource.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
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
      : ctx_(ctx), cancellation_(ctx), index_(std::move(index)), items_name_(items), done_(std::move(done)) {}

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
    ScoreTiles(ctx_, cancellation_, scorer_, user_, known_, absl::MakeSpan(known_scores_),
               [self = shared_from_this(), next = std::move(next)](const absl::Status& status) {
                 self->status_ = status;
                 if (status.ok()) self->EndRow();
                 next();
               });
  }

  // Sets positions_ to those of the row, and known_ to those that are not -1.
  absl::Status TakeKnownPositions() {
    if (items_->dtype() == tensorflow::DT_INT64) {
      LookUp(RowOfItems<int64_t>());
    } else {
      const absl::Status status = CheckAndTake(RowOfItems<int32_t>());
      if (!status.ok()) return status;
    }
    known_.clear();
    std::copy_if(positions_.begin(), positions_.end(), std::back_inserter(known_),
                 [](int32_t position) { return position >= 0; });
    return absl::OkStatus();
  }

  // Taken once per row: a tensor checks its type and shape each time that it is asked for its elements.
  template <typename T>
  absl::Span<const T> RowOfItems() const {
    const int64_t n = items_->dim_size(1);
    return absl::MakeConstSpan(items_->flat<T>().data() + row_ * n, n);
  }

  void LookUp(absl::Span<const int64_t> ids) {
    const Graph& graph = index_->graph();
    positions_.resize(ids.size());
    std::transform(ids.begin(), ids.end(), positions_.begin(),
                   [&graph](int64_t id) { return graph.PositionOf(id); });
  }

  absl::Status CheckAndTake(absl::Span<const int32_t> positions) {
    const int32_t num_items = index_->graph().num_items();
    for (size_t i = 0; i < positions.size(); ++i) {
      if (positions[i] >= -1 && positions[i] < num_items) continue;
      return absl::InvalidArgumentError(absl::StrCat("positions[", row_, ", ", i,
                                                     "]: expected -1 (unknown) or 0 to ", num_items - 1,
                                                     ", found ", positions[i]));
    }
    positions_.assign(positions.begin(), positions.end());
    return absl::OkStatus();
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
  const StepCancellation cancellation_;
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
