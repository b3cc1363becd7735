// The visited set as a value: a Variant that is copied only when two owners would write to it.
#include <memory>
#include <utility>

#include "../../core/walk/visited_set.h"
#include "../index/index_resource.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/variant.h"
#include "tensorflow/core/framework/variant_tensor_data.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

struct VisitedSetVariant {
  std::shared_ptr<VisitedSet> visited;
  int32_t num_items = 0;

  std::string TypeName() const { return "nann::VisitedSet"; }
  void Encode(tensorflow::VariantTensorData*) const {}
  bool Decode(const tensorflow::VariantTensorData&) { return false; }  // It never leaves the process.
  std::string DebugString() const { return absl::StrCat("nann::VisitedSet(", num_items, " items)"); }
};

class VisitedSetCreateOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const absl::StatusOr<std::shared_ptr<const Index>> index = IndexOfInput(ctx, 0);
    OP_REQUIRES_OK(ctx, index.status());
    const int32_t num_items = (*index)->graph().num_items();
    Tensor* out = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({}), &out));
    out->scalar<tensorflow::Variant>()() =
        VisitedSetVariant{std::make_shared<VisitedSet>(num_items), num_items};
  }
};

class FilterVisitedOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const VisitedSetVariant* given = ctx->input(0).scalar<tensorflow::Variant>()().get<VisitedSetVariant>();
    OP_REQUIRES(ctx, given != nullptr && given->visited != nullptr,
                absl::InvalidArgumentError("visited: expected the output of Nann>VisitedSetCreate or "
                                           "Nann>FilterVisited, found another Variant"));
    const auto positions = ctx->input(1).flat<int32_t>();
    for (int64_t i = 0; i < positions.size(); ++i) {
      OP_REQUIRES(ctx, positions(i) >= 0 && positions(i) < given->num_items,
                  absl::InvalidArgumentError(absl::StrCat("positions[", i, "]: expected 0 to ",
                                                          given->num_items - 1, ", found ", positions(i))));
    }
    std::vector<int32_t> fresh;
    const VisitedSetVariant visited = TakeOrCopy(ctx);
    for (int64_t i = 0; i < positions.size(); ++i) {
      if (visited.visited->Insert(positions(i))) fresh.push_back(positions(i));
    }
    Tensor* out = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, TensorShape({static_cast<int64_t>(fresh.size())}), &out));
    std::copy(fresh.begin(), fresh.end(), out->flat<int32_t>().data());
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, TensorShape({}), &out));
    out->scalar<tensorflow::Variant>()() = visited;
  }

 private:
  // The input's set itself when nobody else holds it, else a copy: earlier values never change.
  static VisitedSetVariant TakeOrCopy(OpKernelContext* ctx) {
    const VisitedSetVariant& given = *ctx->input(0).scalar<tensorflow::Variant>()().get<VisitedSetVariant>();
    tensorflow::AllocatorAttributes attributes;
    const std::unique_ptr<Tensor> owned =
        ctx->forward_input(0, tensorflow::OpKernelContext::Params::kNoReservation, tensorflow::DT_VARIANT,
                           TensorShape({}), tensorflow::HOST_MEMORY, attributes);
    if (owned != nullptr && given.visited.use_count() == 1) return given;
    return {std::make_shared<VisitedSet>(*given.visited), given.num_items};
  }
};

REGISTER_KERNEL_BUILDER(Name("Nann>VisitedSetCreate").Device(tensorflow::DEVICE_CPU), VisitedSetCreateOp);
REGISTER_KERNEL_BUILDER(Name("Nann>FilterVisited").Device(tensorflow::DEVICE_CPU), FilterVisitedOp);

}  // namespace
}  // namespace nann
