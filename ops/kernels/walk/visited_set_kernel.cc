// The visited set as a value of the graph: a Variant that is copied only when a second owner would see it
// change.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "../../core/base/status_macros.h"
#include "../../core/walk/visited_set.h"
#include "../index/index_op_kernel.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/variant.h"
#include "tensorflow/core/framework/variant_tensor_data.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// Copies share the set. It is written to only while its tensor and `visited` have one owner, so no two
// threads ever write to it, and none reads while another writes.
struct VisitedSetVariant {
  std::shared_ptr<VisitedSet> visited;
  int32_t num_items = 0;

  std::string TypeName() const { return "nann::VisitedSet"; }
  void Encode(tensorflow::VariantTensorData*) const {}
  bool Decode(const tensorflow::VariantTensorData&) { return false; }  // It never leaves the process.
  std::string DebugString() const { return absl::StrCat("nann::VisitedSet(", num_items, " items)"); }
};

absl::Status Emit(OpKernelContext* ctx, int output, VisitedSetVariant visited) {
  Tensor* out = nullptr;
  NANN_RETURN_IF_ERROR(ctx->allocate_output(output, TensorShape({}), &out));
  out->scalar<tensorflow::Variant>()() = std::move(visited);
  return absl::OkStatus();
}

class VisitedSetCreateOp : public IndexOpKernel {
 public:
  using IndexOpKernel::IndexOpKernel;

 private:
  absl::Status Run(OpKernelContext* ctx, const Index& index) const override {
    const int32_t num_items = index.graph().num_items();
    return Emit(ctx, 0, {std::make_shared<VisitedSet>(num_items), num_items});
  }
};

class FilterVisitedOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Filter(ctx)); }

 private:
  static absl::Status Filter(OpKernelContext* ctx) {
    NANN_ASSIGN_OR_RETURN(const VisitedSetVariant* input, InputSet(ctx));
    NANN_RETURN_IF_ERROR(CheckInputPositions(ctx->input(1), input->num_items));
    const auto positions = ctx->input(1).flat<int32_t>();
    VisitedSetVariant visited = TakeOrCopy(ctx, *input);
    std::vector<int32_t> fresh;
    visited.visited->InsertAll(absl::MakeConstSpan(positions.data(), positions.size()), &fresh);
    Tensor* out = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({static_cast<int64_t>(fresh.size())}), &out));
    std::copy(fresh.begin(), fresh.end(), out->flat<int32_t>().data());
    return Emit(ctx, 1, std::move(visited));
  }

  static absl::StatusOr<const VisitedSetVariant*> InputSet(OpKernelContext* ctx) {
    const Tensor& tensor = ctx->input(0);
    if (tensor.NumElements() == 1) {
      const auto* input = tensor.flat<tensorflow::Variant>()(0).get<VisitedSetVariant>();
      if (input != nullptr && input->visited != nullptr) return input;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("visited: expected the output of Nann>VisitedSetCreate or Nann>FilterVisited, found ",
                     tensor.DebugString()));
  }

  // The set of the input itself when nobody else holds it, else a copy: the value that another op holds never
  // changes.
  static VisitedSetVariant TakeOrCopy(OpKernelContext* ctx, const VisitedSetVariant& input) {
    const std::unique_ptr<Tensor> owned =
        ctx->forward_input(0, OpKernelContext::Params::kNoReservation, tensorflow::DT_VARIANT,
                           TensorShape({}), tensorflow::HOST_MEMORY, tensorflow::AllocatorAttributes());
    if (owned != nullptr && input.visited.use_count() == 1) return input;
    return {std::make_shared<VisitedSet>(*input.visited), input.num_items};
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>VisitedSetCreate").Device(tensorflow::DEVICE_CPU), VisitedSetCreateOp);
REGISTER_KERNEL_BUILDER(Name("Nann>FilterVisited").Device(tensorflow::DEVICE_CPU), FilterVisitedOp);

}  // namespace
}  // namespace nann
