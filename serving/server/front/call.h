// One call of a client.
#ifndef NANN_SERVING_SERVER_FRONT_CALL_H_
#define NANN_SERVING_SERVER_FRONT_CALL_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "serving/server/front/cancellation.h"
#include "serving/server/front/relay.h"
#include "serving/server/front/server.h"

namespace nann::front {

// A state machine: gRPC reports the end of each of its operations as an Event, on any thread of the server.
// The call deletes itself with its last reference.
class Call final : public RelayClient {
 public:
  // Waits for a client's call.
  static void Accept(Server* server);

  // What a thread of the server does when an operation ended.
  struct Event {
    Call* call;
    void (Call::*proceed)(bool ok);
  };
  static void Proceed(Event* event, bool ok);

  // RelayClient:
  void ReadFromClient(grpc::ByteBuffer* message) override;
  void WriteToClient(const grpc::ByteBuffer& message) override;
  void Finish(const grpc::Status& status, const grpc::ClientContext& backend) override;

 private:
  explicit Call(Server* server);
  ~Call() = default;

  // One reference for each event to come, one for the turn to run, and one for the relay.
  void Ref() { references_.fetch_add(1, std::memory_order_relaxed); }
  void Unref();

  void OnArrived(bool ok);
  void OnRequest(bool ok);
  void OnRelayRead(bool ok);
  void OnRelayWritten(bool ok);
  void OnFinished(bool) {}
  void OnDone(bool ok);

  // Answers a Predict call, or passes it on. The caller has a turn to run it.
  void Predict();
  std::optional<Answer> PredictOnce();
  void Respond(Answer answer);
  // Passes the call on; with Sent::kMessage, request_ is the first message.
  void PassOn(Relay::Sent sent);

  Server* server_;
  std::atomic<int> references_{0};
  Cancellation cancellation_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  grpc::ByteBuffer request_;
  std::mutex mutex_;
  std::unique_ptr<Relay> relay_;  // Guarded by mutex_ while it is set; never changed after that.

  Event arrived_{this, &Call::OnArrived};
  Event request_read_{this, &Call::OnRequest};
  Event relay_read_{this, &Call::OnRelayRead};
  Event relay_written_{this, &Call::OnRelayWritten};
  Event finished_{this, &Call::OnFinished};
  Event done_{this, &Call::OnDone};
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_CALL_H_
