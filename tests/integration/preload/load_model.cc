// A server in small: loads a SavedModel by TensorFlow's C++ loader and answers one request.
//
//   load_model MODEL_DIR SIGNATURE INPUT=FILE...
//
// FILE holds a TensorProto. Prints a line for each output: its name and its values.
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/platform/env.h"

namespace {

using NamedTensors = std::vector<std::pair<std::string, tensorflow::Tensor>>;

absl::Status ReadInput(const std::string& argument, const tensorflow::SignatureDef& signature,
                       NamedTensors* inputs) {
  const size_t equals = argument.rfind('=');
  tensorflow::TensorProto proto;
  const absl::Status read =
      tensorflow::ReadBinaryProto(tensorflow::Env::Default(), argument.substr(equals + 1), &proto);
  if (!read.ok()) return read;
  tensorflow::Tensor tensor;
  if (!tensor.FromProto(proto)) return absl::InvalidArgumentError(argument + ": no tensor");
  inputs->emplace_back(signature.inputs().at(argument.substr(0, equals)).name(), tensor);
  return absl::OkStatus();
}

absl::Status Answer(int argc, char** argv) {
  tensorflow::SavedModelBundle bundle;
  const absl::Status loaded = tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle);
  if (!loaded.ok()) return loaded;
  const tensorflow::SignatureDef& signature = bundle.GetSignatures().at(argv[2]);
  NamedTensors inputs;
  for (int i = 3; i < argc; ++i) {
    const absl::Status read = ReadInput(argv[i], signature, &inputs);
    if (!read.ok()) return read;
  }
  // By name: a protobuf map has another order in every process.
  std::map<std::string, std::string> tensor_of;
  for (const auto& [name, info] : signature.outputs()) tensor_of[name] = info.name();
  std::vector<std::string> names, tensors;
  for (const auto& [name, tensor] : tensor_of) {
    names.push_back(name);
    tensors.push_back(tensor);
  }
  std::vector<tensorflow::Tensor> outputs;
  const absl::Status answered = bundle.GetSession()->Run(inputs, tensors, {}, &outputs);
  if (!answered.ok()) return answered;
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::printf("%s", names[i].c_str());
    for (int64_t j = 0; j < outputs[i].NumElements(); ++j) {
      if (outputs[i].dtype() == tensorflow::DT_INT64) {
        std::printf(" %lld", static_cast<long long>(outputs[i].flat<int64_t>()(j)));
      } else if (outputs[i].dtype() == tensorflow::DT_INT32) {
        std::printf(" %d", outputs[i].flat<int32_t>()(j));
      } else {
        std::printf(" %.9g", outputs[i].flat<float>()(j));
      }
    }
    std::printf("\n");
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status answered = Answer(argc, argv);
  if (!answered.ok()) std::fprintf(stderr, "%s\n", answered.ToString().c_str());
  return answered.ok() ? 0 : 1;
}
