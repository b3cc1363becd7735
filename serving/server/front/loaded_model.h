// A loaded version of a model, and its runs.
#ifndef NANN_SERVING_SERVER_FRONT_LOADED_MODEL_H_
#define NANN_SERVING_SERVER_FRONT_LOADED_MODEL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serving/server/front/cancellation.h"
#include "serving/server/front/predict_messages.h"
#include "serving/server/front/tensorflow.h"

namespace nann::front {

// The result of a call: code 0 and a serialized response, or a code of gRPC's and a text.
struct Answer {
  int code = 0;
  std::string content;
};

// An input or output of a signature.
struct Endpoint {
  std::string alias;
  TF_Output tensor;
};

struct Signature {
  std::string name;
  std::vector<Endpoint> inputs;
  std::vector<Endpoint> outputs;  // By alias.
};

// A session that Python loaded and closes, and the signatures of its model. Safe to run from many threads; it
// does not change after it was set up.
class LoadedModel {
 public:
  // `fetches_all`: a run fetches all outputs of a signature, also those that a request leaves out.
  LoadedModel(const TensorFlow& tensorflow, TF_Session* session, int64_t version, bool fetches_all)
      : tensorflow_(tensorflow), session_(session), version_(version), fetches_all_(fetches_all) {}

  // Returns the signature of this name, a new one the first time.
  Signature& AddSignature(const std::string& name);

  // Null if there is no such signature.
  const Signature* FindSignature(std::string_view name) const;

  // Runs a request with one of the model's signatures, up to `timeout_ms` if that is not 0, and until its
  // caller gives up. None if the request is not one that this signature answers: Python knows what to say of
  // it.
  std::optional<Answer> Run(const PredictRequest& request, const Signature& signature, int64_t timeout_ms,
                            Cancellation* cancellation) const;

 private:
  TensorFlow tensorflow_;
  TF_Session* session_;
  int64_t version_;
  bool fetches_all_;
  std::map<std::string, Signature, std::less<>> signatures_;
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_LOADED_MODEL_H_
