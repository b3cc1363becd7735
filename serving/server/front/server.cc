#include "serving/server/front/server.h"

#include <algorithm>
#include <chrono>

#include "serving/server/front/call.h"

namespace nann::front {
namespace {

std::shared_ptr<grpc::Channel> BackendChannel(const std::string& target) {
  grpc::ChannelArguments arguments;
  // The client's connection has the limit of a message.
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // The client decides whether a failed call is sent again.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

std::shared_ptr<grpc::ServerCredentials> Credentials(const Tls& tls) {
  grpc::SslServerCredentialsOptions options(tls.verifies_clients
                                                ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                                : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.pem_root_certs = tls.client_roots;
  options.pem_key_cert_pairs.push_back({tls.key, tls.certificate});
  return grpc::SslServerCredentials(options);
}

}  // namespace

std::unique_ptr<Server> Server::Start(const ServerOptions& options, const Predictor* predictor) {
  std::unique_ptr<Server> server(new Server(options, predictor));
  if (!server->Listen(options)) return nullptr;
  Call::Accept(server.get());
  for (int i = 0; i < options.threads + 1; ++i) server->threads_.emplace_back([&s = *server] { s.Poll(); });
  return server;
}

Server::Server(const ServerOptions& options, const Predictor* predictor)
    : predictor_(predictor),
      runs_(options.runs),
      run_queue_(static_cast<size_t>(options.threads), static_cast<size_t>(options.waiting)),
      backend_(BackendChannel(options.backend)) {}

bool Server::Listen(const ServerOptions& options) {
  grpc::ServerBuilder builder;
  std::vector<int> ports(options.addresses.size());
  for (size_t i = 0; i < ports.size(); ++i) {
    const bool is_secure = i == 0 && options.tls.has_value();
    builder.AddListeningPort(options.addresses[i],
                             is_secure ? Credentials(*options.tls) : grpc::InsecureServerCredentials(),
                             &ports[i]);
  }
  builder.RegisterAsyncGenericService(&service_);
  for (const auto& [name, value] : options.text_arguments) builder.AddChannelArgument(name, value);
  for (const auto& [name, value] : options.number_arguments) builder.AddChannelArgument(name, value);
  events_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  const bool is_bound =
      server_ != nullptr && std::all_of(ports.begin(), ports.end(), [](int p) { return p > 0; });
  if (!is_bound) {
    if (server_ != nullptr) server_->Shutdown();
    events_->Shutdown();
    void* event;
    for (bool ok; events_->Next(&event, &ok);) {
    }
    return false;
  }
  port_ = ports.front();
  return true;
}

void Server::Poll() {
  void* event;
  for (bool ok; events_->Next(&event, &ok);) Call::Proceed(static_cast<Call::Event*>(event), ok);
}

void Server::Began() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++calls_;
}

void Server::Ended() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (--calls_ == 0) all_ended_.notify_all();
}

void Server::Stop(double seconds) {
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(
                        std::chrono::duration<double>(seconds)));
  {
    // A call may begin operations as long as it lives, and the queue of events takes none after its end.
    std::unique_lock<std::mutex> lock(mutex_);
    all_ended_.wait(lock, [this] { return calls_ == 0; });
  }
  events_->Shutdown();
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace nann::front
