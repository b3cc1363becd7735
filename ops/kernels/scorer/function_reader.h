// Reading the nodes of a frozen function.
#ifndef NANN_OPS_KERNELS_SCORER_FUNCTION_READER_H_
#define NANN_OPS_KERNELS_SCORER_FUNCTION_READER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../../core/scorer/tile_kernels.h"
#include "absl/status/statusor.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/tensor.h"

namespace nann {

// A reference to a value: an argument's name or "node:output:number".
struct ValueReference {
  std::string node;
  int number = 0;

  // As a key: equal for equal values.
  std::string ToString() const;
};

ValueReference ParseReference(const std::string& text);

// What a TensorFlow operation is called here; null when it is none of these.
const BinaryOp* FindBinaryOp(const std::string& op);
const UnaryOp* FindUnaryOp(const std::string& op);
const ReduceOp* FindReduceOp(const std::string& op);

// Whether an operation's output is its first input.
bool PassesThrough(const std::string& op);

bool AttrBool(const tensorflow::NodeDef& node, const char* name);
int64_t AttrInt(const tensorflow::NodeDef& node, const char* name);
float AttrFloat(const tensorflow::NodeDef& node, const char* name, float otherwise);

// The tensor of a node Const. InvalidArgument when it is damaged.
absl::StatusOr<tensorflow::Tensor> ValueOf(const tensorflow::NodeDef& constant);

// Finds nodes by name. `function` must outlive it.
class FunctionReader {
 public:
  explicit FunctionReader(const tensorflow::FunctionDef& function);

  // Null when there is no such node.
  const tensorflow::NodeDef* Find(const std::string& name) const;

  // The name of data input `input` of a node. InvalidArgument when it has no such input.
  static absl::StatusOr<std::string> Input(const tensorflow::NodeDef& node, int input);

  // The integers of a constant that is input `input`. InvalidArgument when it is none.
  absl::StatusOr<std::vector<int64_t>> IntsOf(const tensorflow::NodeDef& node, int input) const;

 private:
  absl::StatusOr<tensorflow::Tensor> ConstantOf(const std::string& text) const;

  std::map<std::string, const tensorflow::NodeDef*> nodes_;
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_FUNCTION_READER_H_
