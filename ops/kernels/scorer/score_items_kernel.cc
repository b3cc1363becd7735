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
  ScoreRun(OpKernelContext* ctx, std::shared_ptr<const Index> index,
           tensorflow::AsyncOpKernel::DoneCallback done)
      : ctx_(ctx), index_(std::move(index)), done_(std::move(done)) {}

  absl::Status Prepare(const TileScorer& scorer) {
    absl::Status status = ctx_->input_list("user_state", &user_state_);
    if (!status.ok()) return status;
    const absl::StatusOr<int64_t> batch = BatchOf(user_state_);
    if (!batch.ok()) return batch.status();
    batch_ = *batch;
    status = ctx_->input("positions", &positions_);
    if (!status.ok()) return status;
    if (positions_->dims() != 2 || positions_->dim_size(0) != batch_) {
      return absl::InvalidArgumentError(absl::StrCat("positions: expected shape [batch = ", batch_,
                                                     ", n], found ", positions_->shape().DebugString()));
    }
    absl::StatusOr<TileScorer::Ready> ready = scorer.Prepare(ctx_, *index_);
    if (!ready.ok()) return ready.status();
    scorer_ = *std::move(ready);
    return ctx_->allocate_output("scores", positions_->shape(), &scores_);
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

  absl::Status TakeKnownPositions() {
    known_.clear();
    const auto positions = positions_->matrix<int32_t>();
    for (int64_t i = 0; i < positions_->dim_size(1); ++i) {
      const int32_t position = positions(row_, i);
      if (position < -1 || position >= index_->graph().num_items()) {
        return absl::InvalidArgumentError(
            absl::StrCat("positions[", row_, ", ", i, "]: expected -1 (unknown) or 0 to ",
                         index_->graph().num_items() - 1, ", found ", position));
      }
      if (position >= 0) known_.push_back(position);
    }
    return absl::OkStatus();
  }

  void EndRow() {
    const auto positions = positions_->matrix<int32_t>();
    auto scores = scores_->matrix<float>();
    size_t next_known = 0;
    for (int64_t i = 0; i < positions_->dim_size(1); ++i) {
      scores(row_, i) =
          positions(row_, i) < 0 ? -std::numeric_limits<float>::infinity() : known_scores_[next_known++];
    }
    ++row_;
  }

  OpKernelContext* const ctx_;
  const std::shared_ptr<const Index> index_;
  const tensorflow::AsyncOpKernel::DoneCallback done_;

  tensorflow::OpInputList user_state_;
  const Tensor* positions_ = nullptr;
  TileScorer::Ready scorer_;
  int64_t batch_ = 0;
  Tensor* scores_ = nullptr;

  int64_t row_ = 0;
  ScorerUser user_;
  std::vector<int32_t> known_;
  std::vector<float> known_scores_;
  absl::Status status_;
};

class ScoreItemsOp : public tensorflow::AsyncOpKernel {
 public:
  explicit ScoreItemsOp(tensorflow::OpKernelConstruction* ctx) : AsyncOpKernel(ctx), scorer_(ctx) {}

  void ComputeAsync(OpKernelContext* ctx, DoneCallback done) override {
    absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK_ASYNC(ctx, index.status(), done);
    auto run = std::make_shared<ScoreRun>(ctx, *std::move(index), done);
    OP_REQUIRES_OK_ASYNC(ctx, run->Prepare(scorer_), done);
    run->Start();
  }

 private:
  const TileScorer scorer_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>ScoreItems").Device(tensorflow::DEVICE_CPU), ScoreItemsOp);

}  // namespace
}  // namespace nann
