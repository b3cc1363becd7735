#include <string>
#include <vector>

#include "../../core/scorer/tile_program.h"
#include "absl/strings/str_cat.h"
#include "scorer_compiler.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {
namespace {

class CheckNativeScorerOp : public tensorflow::OpKernel {
 public:
  explicit CheckNativeScorerOp(tensorflow::OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::string native_scorer;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("native_scorer", &native_scorer));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("user_shapes", &user_shapes_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("table_widths", &table_widths_));
    OP_REQUIRES(
        ctx, scorer_.ParseFromString(native_scorer),
        absl::InvalidArgumentError(absl::StrCat("native_scorer: expected a serialized FunctionDef, found ",
                                                native_scorer.size(), " bytes that are none")));
  }

  void Compute(tensorflow::OpKernelContext* ctx) override {
    tensorflow::Tensor* problem = nullptr;
    tensorflow::Tensor* in_place = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, tensorflow::TensorShape({}), &problem));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, tensorflow::TensorShape({}), &in_place));
    const absl::StatusOr<TileProgram> program = Compile();
    if (!program.ok()) problem->scalar<tensorflow::tstring>()() = std::string(program.status().message());
    in_place->scalar<bool>()() = program.ok() && program->direct().has_value();
  }

 private:
  absl::StatusOr<TileProgram> Compile() const {
    const absl::StatusOr<TileGraph> graph = CompileScorer(scorer_, user_shapes_, table_widths_);
    if (!graph.ok()) return graph.status();
    return TileProgram::Compile(*graph, {});
  }

  tensorflow::FunctionDef scorer_;
  std::vector<tensorflow::TensorShape> user_shapes_;
  std::vector<int64_t> table_widths_;
};

REGISTER_KERNEL_BUILDER(Name("Nann>CheckNativeScorer").Device(tensorflow::DEVICE_CPU), CheckNativeScorerOp);

}  // namespace
}  // namespace nann
