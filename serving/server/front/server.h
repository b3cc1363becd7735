// The gRPC server: runs Predict calls, and passes every other call on to the Python server.
#ifndef NANN_SERVING_SERVER_FRONT_SERVER_H_
#define NANN_SERVING_SERVER_FRONT_SERVER_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "serving/server/front/cancellation.h"
#include "serving/server/front/predictor.h"
#include "serving/server/front/run_queue.h"

namespace nann::front {

// Texts are PEM.
struct Tls {
  std::string key, certificate;
  std::string client_roots;  // Certificates that sign the callers'; empty where callers need none.
  bool verifies_clients = false;
};

struct ServerOptions {
  std::vector<std::string> addresses;  // The port of the first one is told.
  std::optional<Tls> tls;              // Of the first address.
  std::string backend;                 // gRPC's name of the Python server.
  int threads = 1;                     // Requests that run at once.
  int waiting = 0;                     // Requests that may wait.
  RunFunctions runs = {};
  std::vector<std::pair<std::string, std::string>> text_arguments;  // gRPC channel arguments.
  std::vector<std::pair<std::string, int>> number_arguments;
};

class Call;

// Threads: Start begins options.threads + 1 threads, which serve until Stop ends them. Stop is called once,
// by any other thread.
class Server {
 public:
  // `predictor` outlives the server. Null if an address cannot be used.
  static std::unique_ptr<Server> Start(const ServerOptions& options, const Predictor* predictor);

  int port() const { return port_; }

  // Accepts no more calls, and waits for those under way; the ones that still are after `seconds` are
  // cancelled.
  void Stop(double seconds);

 private:
  friend class Call;

  Server(const ServerOptions& options, const Predictor* predictor);

  bool Listen(const ServerOptions& options);
  void Poll();
  // Calls, also the one that waits for a client, from their first moment to their last.
  void Began();
  void Ended();

  const Predictor* predictor_;
  const RunFunctions runs_;
  RunQueue<Call*> run_queue_;
  grpc::GenericStub backend_;
  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> events_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::thread> threads_;
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable all_ended_;
  int64_t calls_ = 0;  // Guarded by mutex_.
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_SERVER_H_
