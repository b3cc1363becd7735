// What Python calls, by ctypes. Strings end with 0. Every function may be called from any thread; the pointer
// that nann_front_start returns is valid until nann_front_delete.
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "serving/server/front/loaded_model.h"
#include "serving/server/front/model_table.h"
#include "serving/server/front/predictor.h"
#include "serving/server/front/request_counts.h"
#include "serving/server/front/server.h"

#define NANN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using nann::front::LoadedModel;

struct Front {
  Front(void (*on_unused)(int64_t), std::vector<double> limits)
      : models(on_unused), counts(std::move(limits)), predictor(&models, &counts) {}

  nann::front::ModelTable models;
  nann::front::RequestCounts counts;
  nann::front::Predictor predictor;
  std::unique_ptr<nann::front::Server> server;  // The first to go: it uses all others.
};

// A gRPC channel argument: a text, or a number where `text` is null.
struct Argument {
  const char* name;
  const char* text;
  int number;
};

// Texts are PEM; see Tls.
struct Keys {
  const char* key;
  const char* certificate;
  const char* client_roots;
  int verifies_clients;
};

struct Options {
  const char* address;
  const Keys* keys;            // Null: no TLS.
  const char* socket_address;  // Empty: none.
  const char* backend;
  int threads;
  int waiting;
  const nann::front::RunFunctions* runs;
  const Argument* arguments;
  int argument_count;
  const double* limits;  // Upper limits of the buckets of latencies, in microseconds.
  int limit_count;
  void (*on_unused)(int64_t model);
};

struct Route {
  const char* name;
  int choice;
  int64_t version;
  const char* label;
  int64_t model;
};

using OnCell = void (*)(const char* model, const char* signature, int code, const int64_t* counts,
                        double total, const int64_t* run_counts, double run_total);

nann::front::ServerOptions ServerOptions(const Options& from) {
  nann::front::ServerOptions to;
  to.addresses = {from.address};
  if (from.keys != nullptr) {
    const Keys& keys = *from.keys;
    to.tls = {keys.key, keys.certificate, keys.client_roots, keys.verifies_clients != 0};
  }
  if (*from.socket_address != 0) to.addresses.emplace_back(from.socket_address);
  to.backend = from.backend;
  to.threads = from.threads;
  to.waiting = from.waiting;
  to.runs = *from.runs;
  for (int i = 0; i < from.argument_count; ++i) {
    const Argument& argument = from.arguments[i];
    if (argument.text != nullptr) {
      to.text_arguments.emplace_back(argument.name, argument.text);
    } else {
      to.number_arguments.emplace_back(argument.name, argument.number);
    }
  }
  return to;
}

}  // namespace

// Begins to serve. Null if the address cannot be used.
NANN_EXPORT Front* nann_front_start(const Options* options, int* port) {
  auto front = std::make_unique<Front>(
      options->on_unused, std::vector<double>(options->limits, options->limits + options->limit_count));
  front->server = nann::front::Server::Start(ServerOptions(*options), &front->predictor);
  if (front->server == nullptr) return nullptr;
  *port = front->server->port();
  return front.release();
}

// Accepts no more calls, and waits up to `seconds` for those under way. Called once.
NANN_EXPORT void nann_front_stop(Front* front, double seconds) { front->server->Stop(seconds); }

// After nann_front_stop.
NANN_EXPORT void nann_front_delete(Front* front) { delete front; }

// Makes a model, which nann_front_add_model takes. The session stays open until the model was removed
// and no request uses it.
NANN_EXPORT LoadedModel* nann_front_new_model(const nann::front::TensorFlow* tensorflow, TF_Session* session,
                                              int64_t version, int fetches_all) {
  return new LoadedModel(*tensorflow, session, version, fetches_all != 0);
}

NANN_EXPORT void nann_front_add_endpoint(LoadedModel* model, const char* signature, const char* alias,
                                         TF_Operation* operation, int index, int is_output) {
  nann::front::Signature& to = model->AddSignature(signature);
  (is_output != 0 ? to.outputs : to.inputs).push_back({alias, {operation, index}});
}

NANN_EXPORT int64_t nann_front_add_model(Front* front, LoadedModel* model) {
  return front->models.Add(std::shared_ptr<const LoadedModel>(model));
}

NANN_EXPORT void nann_front_set_routes(Front* front, const Route* routes, int count) {
  std::map<nann::front::RouteKey, int64_t> table;
  for (const Route* route = routes; route != routes + count; ++route) {
    const auto choice = static_cast<nann::front::PredictRequest::Choice>(route->choice);
    table[nann::front::RouteKey(route->name, choice, route->version, route->label)] = route->model;
  }
  front->models.SetRoutes(std::move(table));
}

// Forgets a model without routes. Not 0 if no request uses it; otherwise on_unused tells when.
NANN_EXPORT int nann_front_remove_model(Front* front, int64_t model) {
  return front->models.Remove(model) ? 1 : 0;
}

// Calls `on_cell` for what was counted since the last time.
NANN_EXPORT void nann_front_take_counts(Front* front, OnCell on_cell) {
  for (const auto& [key, cell] : front->counts.Take()) {
    const auto& [model, signature, code] = key;
    const std::vector<int64_t>& runs = cell.run.counts;
    on_cell(model.c_str(), signature.c_str(), code, cell.request.counts.data(), cell.request.total,
            runs.empty() ? nullptr : runs.data(), cell.run.total);
  }
}
