#include "serving/server/front/call.h"

#include <map>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nann::front {
namespace {

constexpr std::string_view kPredictMethod = "/tensorflow.serving.PredictionService/Predict";

// Calls `add` with what belongs to a call. The rest belongs to a connection, and the other one has its own.
template <typename Add>
void CopyMetadata(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, Add add) {
  for (const auto& [key, value] : metadata) {
    const std::string name(key.data(), key.size());
    const bool is_of_connection =
        name == "user-agent" || name.rfind("grpc-", 0) == 0 || name.rfind(':', 0) == 0;
    if (!is_of_connection) add(name, std::string(value.data(), value.size()));
  }
}

// Appends the bytes of a buffer. Unlike gRPC's own function for it, it does not end the process without
// memory.
void AppendBytes(const grpc::ByteBuffer& buffer, std::string* out) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return;
  out->reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    out->append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
}

// A slice with a text, which is not copied.
grpc::Slice Holding(std::string text) {
  auto* held = new std::string(std::move(text));
  return grpc::Slice(
      held->data(), held->size(), [](void* user) { delete static_cast<std::string*>(user); }, held);
}

}  // namespace

void Call::Accept(Server* server) {
  auto* call = new Call(server);
  call->Ref();  // For arrived_,
  call->Ref();  // and for done_, which another thread may report first.
  server->service_.RequestCall(&call->context_, &call->stream_, server->events_.get(), server->events_.get(),
                               &call->arrived_);
}

Call::Call(Server* server) : server_(server), cancellation_(server->runs_) {
  server_->Began();
  context_.AsyncNotifyWhenDone(&done_);
}

void Call::Proceed(Event* event, bool ok) {
  Call* call = event->call;
  (call->*event->proceed)(ok);
  call->Unref();
}

void Call::Unref() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  Server* server = server_;
  delete this;
  server->Ended();
}

void Call::OnArrived(bool ok) {
  if (!ok) {  // The server stops. gRPC reports done_ only of calls that arrived.
    Unref();
    return;
  }
  Accept(server_);
  if (context_.method() != kPredictMethod) {
    PassOn(Relay::Sent::kNothingYet);
    return;
  }
  Ref();
  stream_.Read(&request_, &request_read_);
}

void Call::OnRequest(bool ok) {
  if (!ok) {
    PassOn(Relay::Sent::kEnd);
    return;
  }
  Call* call = this;
  call->Ref();  // For its turn.
  switch (server_->run_queue_.Enter(call)) {
    case RunQueue<Call*>::Turn::kRefused:
      Respond({static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED), "Server Threadpool Exhausted"});
      call->Unref();
      return;
    case RunQueue<Call*>::Turn::kWait:
      return;
    case RunQueue<Call*>::Turn::kRun:
      do {
        call->Predict();
        call->Unref();
      } while (server_->run_queue_.Next(&call));
  }
}

void Call::Predict() {
  if (cancellation_.IsCancelled()) {
    Respond({static_cast<int>(grpc::StatusCode::CANCELLED),
             "The caller cancelled the request before it was run"});
    return;
  }
  std::optional<Answer> answer;
  try {
    answer = PredictOnce();
  } catch (const std::bad_alloc&) {  // A large request must not end the server, and with it all others.
    answer = Answer{static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED),
                    "The server has too little memory for a request of " + std::to_string(request_.Length()) +
                        " bytes: send fewer rows at once"};
  }
  if (answer.has_value()) {
    Respond(std::move(*answer));
  } else {
    PassOn(Relay::Sent::kMessage);
  }
}

std::optional<Answer> Call::PredictOnce() {
  grpc::Slice slice;
  if (request_.TrySingleSlice(&slice).ok()) {
    const std::string_view bytes(reinterpret_cast<const char*>(slice.begin()), slice.size());
    return server_->predictor_->Predict(bytes, context_.deadline(), &cancellation_);
  }
  std::string bytes;
  AppendBytes(request_, &bytes);
  return server_->predictor_->Predict(bytes, context_.deadline(), &cancellation_);
}

void Call::Respond(Answer answer) {
  Ref();
  if (answer.code != 0) {
    stream_.Finish({static_cast<grpc::StatusCode>(answer.code), answer.content}, &finished_);
    return;
  }
  const grpc::Slice content = Holding(std::move(answer.content));
  stream_.WriteAndFinish(grpc::ByteBuffer(&content, 1), grpc::WriteOptions(), grpc::Status::OK, &finished_);
}

void Call::PassOn(Relay::Sent sent) {
  auto relay = std::make_unique<Relay>(this);
  grpc::ClientContext* to = relay->context();
  CopyMetadata(context_.client_metadata(),
               [to](const auto& key, const auto& value) { to->AddMetadata(key, value); });
  to->set_deadline(context_.deadline());
  if (sent == Relay::Sent::kMessage) relay->message()->Swap(&request_);
  Ref();  // For the relay; Finish ends it.
  Relay* started = relay.get();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    relay_ = std::move(relay);
    if (cancellation_.IsCancelled()) relay_->Cancel();
  }
  started->Start(&server_->backend_, context_.method(), sent);
}

void Call::OnRelayRead(bool ok) { relay_->OnRead(ok); }

void Call::OnRelayWritten(bool ok) { relay_->OnWritten(ok); }

void Call::OnDone(bool) {
  if (!context_.IsCancelled()) return;
  cancellation_.Cancel();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (relay_ != nullptr) relay_->Cancel();
}

void Call::ReadFromClient(grpc::ByteBuffer* message) {
  Ref();
  stream_.Read(message, &relay_read_);
}

void Call::WriteToClient(const grpc::ByteBuffer& message) {
  Ref();
  stream_.Write(message, &relay_written_);
}

void Call::Finish(const grpc::Status& status, const grpc::ClientContext& backend) {
  CopyMetadata(backend.GetServerTrailingMetadata(),
               [this](const auto& key, const auto& value) { context_.AddTrailingMetadata(key, value); });
  Ref();
  stream_.Finish(status, &finished_);
  Unref();
}

}  // namespace nann::front
