// Answers Predict requests.
#ifndef NANN_SERVING_SERVER_FRONT_PREDICTOR_H_
#define NANN_SERVING_SERVER_FRONT_PREDICTOR_H_

#include <chrono>
#include <optional>
#include <string_view>

#include "serving/server/front/model_table.h"
#include "serving/server/front/request_counts.h"

namespace nann::front {

using Deadline = std::chrono::system_clock::time_point;  // As gRPC tells it.

// Safe to use from many threads, as its parts are, which outlive it.
class Predictor {
 public:
  Predictor(ModelTable* models, RequestCounts* counts) : models_(models), counts_(counts) {}

  // Runs a serialized `PredictRequest` and counts it. None where Python has to answer: the request asks for a
  // model that is not loaded, does not fit its signature, or has something that the front does not read.
  std::optional<Answer> Predict(std::string_view message, Deadline deadline,
                                Cancellation* cancellation) const;

 private:
  ModelTable* models_;
  RequestCounts* counts_;
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_PREDICTOR_H_
