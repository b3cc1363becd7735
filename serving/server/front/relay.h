// Passes a call on to the Python server: messages, metadata, deadline, cancellation and status.
#ifndef NANN_SERVING_SERVER_FRONT_RELAY_H_
#define NANN_SERVING_SERVER_FRONT_RELAY_H_

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <mutex>
#include <string>

namespace nann::front {

// The side of the client, whose operations end with OnRead and OnWritten of the relay.
class RelayClient {
 public:
  virtual void ReadFromClient(grpc::ByteBuffer* message) = 0;
  virtual void WriteToClient(const grpc::ByteBuffer& message) = 0;
  // Ends the call with the status and trailing metadata of the Python server. The relay is no longer used.
  virtual void Finish(const grpc::Status& status, const grpc::ClientContext& backend) = 0;

 protected:
  ~RelayClient() = default;
};

// One message of each direction is under way at a time, so that a slow reader slows its writer down.
//
// Threads: gRPC calls the reactions on threads of its own; Start, OnRead, OnWritten and Cancel may be called
// on others.
class Relay final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // What the client has sent when the relay starts.
  enum class Sent { kNothingYet, kMessage, kEnd };

  explicit Relay(RelayClient* client) : client_(client) {}

  // The metadata and deadline of the call; set before Start.
  grpc::ClientContext* context() { return &context_; }
  // The message of Sent::kMessage; set before Start.
  grpc::ByteBuffer* message() { return &to_backend_; }

  void Start(grpc::GenericStub* stub, const std::string& method, Sent sent);
  // The client sent a message, or with false no more.
  void OnRead(bool ok);
  // A message reached the client, or with false it never will.
  void OnWritten(bool ok);
  void Cancel() { context_.TryCancel(); }

 private:
  // grpc::ClientBidiReactor:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override { client_->Finish(status, context_); }

  // Ends the direction to the Python server, after its last message. Called by many, it acts once.
  void EndWrites(bool send_end);

  RelayClient* client_;
  grpc::ClientContext context_;
  grpc::ByteBuffer to_backend_;
  grpc::ByteBuffer from_backend_;
  std::mutex mutex_;
  bool writes_ended_ = false;  // Guarded by mutex_.
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_RELAY_H_
