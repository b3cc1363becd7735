// Which rows of some attributes a filter lets pass.
#include <chrono>
#include <string>
#include <vector>

#include "../../core/base/status_macros.h"
#include "../base/step_cancellation.h"
#include "absl/strings/str_cat.h"
#include "mapped_attributes.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;

class EvaluateFilterOp : public tensorflow::OpKernel {
 public:
  explicit EvaluateFilterOp(tensorflow::OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("attribute_names", &names_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("attribute_types", &types_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("many_passing", &many_passing_));
    OP_REQUIRES(
        ctx, names_.size() == types_.size(),
        absl::InvalidArgumentError(absl::StrCat("expected one type per attribute, found ", names_.size(),
                                                " names and ", types_.size(), " types")));
  }

  void Compute(OpKernelContext* ctx) override { OP_REQUIRES_OK(ctx, Run(ctx)); }

 private:
  absl::Status Run(OpKernelContext* ctx) const {
    NANN_ASSIGN_OR_RETURN(const std::vector<AttributeFiles> files, Files(ctx->input(0)));
    const Tensor& num_rows = ctx->input(1);
    const Tensor& text = ctx->input(2);
    if (num_rows.NumElements() != 1 || num_rows.flat<int64_t>()(0) < 0 || text.NumElements() != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected num_rows [] of at least 0 and filter [], found ", num_rows.DebugString(),
                       " and a filter of shape ", text.shape().DebugString()));
    }
    const int64_t rows = num_rows.flat<int64_t>()(0);
    FilterCacheOptions options;
    options.many_passing = many_passing_;
    NANN_ASSIGN_OR_RETURN(const auto attributes,
                          MappedAttributes::Open(ctx->env(), files, rows, /*prefault=*/false, options));
    const std::string filter = text.flat<tstring>()(0);
    const StepCancellation cancellation(ctx);
    const auto is_cancelled = [&cancellation] { return cancellation.IsCancelled(); };
    const auto start = std::chrono::steady_clock::now();
    NANN_ASSIGN_OR_RETURN(const auto found, attributes->filters().Get(filter, nullptr, is_cancelled));
    const auto first = std::chrono::steady_clock::now();
    NANN_RETURN_IF_ERROR(attributes->filters().Get(filter).status());
    const auto again = std::chrono::steady_clock::now();

    Tensor* passes = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(0, TensorShape({rows}), &passes));
    auto out = passes->flat<bool>();
    for (int64_t row = 0; row < rows; ++row) out(row) = found->Passes(static_cast<int32_t>(row));
    Tensor* passing = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(1, TensorShape({}), &passing));
    passing->scalar<int64_t>()() = found->passing();
    Tensor* seconds = nullptr;
    NANN_RETURN_IF_ERROR(ctx->allocate_output(2, TensorShape({2}), &seconds));
    seconds->flat<double>()(0) = std::chrono::duration<double>(first - start).count();
    seconds->flat<double>()(1) = std::chrono::duration<double>(again - first).count();
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<AttributeFiles>> Files(const Tensor& paths) const {
    const int64_t expected = static_cast<int64_t>(names_.size()) * kAttributeParts;
    if (paths.NumElements() != expected) {
      return absl::InvalidArgumentError(absl::StrCat("attribute_paths: expected [", names_.size(), ", ",
                                                     kAttributeParts, "], found shape ",
                                                     paths.shape().DebugString()));
    }
    std::vector<AttributeFiles> files;
    const tstring* path = paths.flat<tstring>().data();
    for (size_t i = 0; i < names_.size(); ++i, path += kAttributeParts) {
      files.push_back({names_[i], types_[i], std::vector<std::string>(path, path + kAttributeParts)});
    }
    return files;
  }

  std::vector<std::string> names_;
  std::vector<std::string> types_;
  int64_t many_passing_ = 0;
};

REGISTER_KERNEL_BUILDER(Name("Nann>EvaluateFilter").Device(tensorflow::DEVICE_CPU), EvaluateFilterOp);

}  // namespace
}  // namespace nann
