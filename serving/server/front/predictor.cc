#include "serving/server/front/predictor.h"

#include <algorithm>

namespace nann::front {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::string_view kDefaultSignature = "serving_default";
// gRPC gives a request without a deadline one at the end of its clock.
constexpr std::chrono::hours kNoLimit(10 * 365 * 24);
// What the answer to a request that ran out of time takes to reach the caller.
constexpr int64_t kAnswerMilliseconds = 5;
constexpr int kDeadlineExceeded = 4;  // Of gRPC's codes.

// Milliseconds that a run may take: 0 for any number, negative if the deadline passed.
int64_t TimeoutMilliseconds(Deadline deadline) {
  const auto now = std::chrono::system_clock::now();
  if (deadline <= now) return -1;
  if (deadline - now > kNoLimit) return 0;
  const int64_t remaining = std::chrono::duration_cast<milliseconds>(deadline - now).count();
  // The run ends a little before the caller gives up, so that the caller gets the server's own words.
  return std::max<int64_t>(remaining - std::min(kAnswerMilliseconds, remaining / 10), 1);
}

double MicrosSince(steady_clock::time_point start) {
  return duration<double, std::micro>(steady_clock::now() - start).count();
}

}  // namespace

std::optional<Answer> Predictor::Predict(std::string_view message, Deadline deadline,
                                         Cancellation* cancellation) const {
  const auto started = steady_clock::now();
  PredictRequest request;
  if (!ReadPredictRequest(message, &request)) return std::nullopt;
  const ModelTable::Lease lease = models_->Find(request);
  if (lease.get() == nullptr) return std::nullopt;
  const Signature* signature =
      lease.get()->FindSignature(request.signature.empty() ? kDefaultSignature : request.signature);
  if (signature == nullptr) return std::nullopt;

  const int64_t timeout_ms = TimeoutMilliseconds(deadline);
  if (timeout_ms < 0) {
    counts_->Add(request.model, signature->name, kDeadlineExceeded, MicrosSince(started), -1);
    return Answer{kDeadlineExceeded, "Timed out waiting for notification"};
  }
  const auto run_started = steady_clock::now();
  std::optional<Answer> answer = lease.get()->Run(request, *signature, timeout_ms, cancellation);
  if (answer.has_value()) {
    counts_->Add(request.model, signature->name, answer->code, MicrosSince(started),
                 MicrosSince(run_started));
  }
  return answer;
}

}  // namespace nann::front
