#include "serving/server/front/relay.h"

namespace nann::front {

// gRPC calls OnDone once no operation runs and no hold is left. There is a hold for each direction, since
// their operations begin on other threads than those of the reactions. The call starts last: from then on it
// may end, and the relay with it, on another thread.
void Relay::Start(grpc::GenericStub* stub, const std::string& method, Sent sent) {
  stub->PrepareBidiStreamingCall(&context_, method, grpc::StubOptions(), this);
  AddMultipleHolds(2);
  StartRead(&from_backend_);
  if (sent == Sent::kMessage) {
    StartWrite(&to_backend_);
  } else if (sent == Sent::kEnd) {
    EndWrites(/*send_end=*/true);
  } else {
    client_->ReadFromClient(&to_backend_);
  }
  StartCall();
}

void Relay::OnRead(bool ok) {
  if (!ok) {
    EndWrites(/*send_end=*/true);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (writes_ended_) return;
    AddHold();  // The other one may go as soon as the lock is free.
  }
  // Not under the lock: gRPC may call the reaction to a failed write at once, in this thread.
  StartWrite(&to_backend_);
  RemoveHold();
}

void Relay::OnWriteDone(bool ok) {
  if (ok) {
    client_->ReadFromClient(&to_backend_);
  } else {
    EndWrites(/*send_end=*/false);
  }
}

void Relay::OnReadDone(bool ok) {
  if (ok) {
    client_->WriteToClient(from_backend_);
    return;
  }
  // The Python server has ended the call; it reads no more.
  EndWrites(/*send_end=*/false);
  RemoveHold();
}

void Relay::OnWritten(bool ok) {
  if (ok) {
    StartRead(&from_backend_);
    return;
  }
  Cancel();
  RemoveHold();
}

void Relay::EndWrites(bool send_end) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (writes_ended_) return;
    writes_ended_ = true;
  }
  if (send_end) StartWritesDone();
  RemoveHold();
}

}  // namespace nann::front
