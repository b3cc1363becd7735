// `PredictRequest` and `PredictResponse` of TensorFlow Serving.
#ifndef NANN_SERVING_SERVER_FRONT_PREDICT_MESSAGES_H_
#define NANN_SERVING_SERVER_FRONT_PREDICT_MESSAGES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/server/front/tensor_proto.h"

namespace nann::front {

// A request. All views are into its message.
struct PredictRequest {
  // Which version of the model answers.
  enum class Choice { kNewest = 0, kVersion = 1, kLabel = 2 };

  std::string_view model;
  Choice choice = Choice::kNewest;
  int64_t version = 0;     // kVersion
  std::string_view label;  // kLabel
  std::string_view signature;
  std::vector<std::pair<std::string_view, TensorValues>> inputs;
  std::vector<std::string_view> output_filter;
};

// False where a message is malformed or has anything that the front leaves to Python: other fields, fields
// that come twice, tensors that ReadTensor does not take.
bool ReadPredictRequest(std::string_view message, PredictRequest* request);

// Appends one output of a response. `tensor` is a serialized `TensorProto`.
void AppendOutput(std::string_view alias, std::string_view tensor, std::string* response);

// Appends the `model_spec` of a response.
void AppendModelSpec(std::string_view model, int64_t version, std::string_view signature,
                     std::string* response);

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_PREDICT_MESSAGES_H_
