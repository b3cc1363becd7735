// Damages a `PredictRequest`, byte by byte, and reads it: a request that is read has the values that its
// tensors claim, and all that it refers to lies in the message. Meant to run under AddressSanitizer and
// UndefinedBehaviorSanitizer.
//
//   predict_fuzz MUTATIONS [SEED]
#include <cstdio>
#include <random>

#include "../cc/fuzz_main.h"
#include "serving/server/front/predict_messages.h"
#include "serving/server/front/wire.h"

namespace nann::front {
namespace {

void AppendInput(std::string_view alias, std::string_view tensor, std::string* request) {
  std::string entry;
  AppendBytesField(1, alias, &entry);
  AppendBytesField(2, tensor, &entry);
  AppendBytesField(2, entry, request);
}

std::string Good() {
  std::string numbers, strings, spec, message;
  const int64_t ids[] = {1, -2, 300, 1 << 20};
  AppendTensor(kInt64, {2, 2}, {reinterpret_cast<const char*>(ids), sizeof(ids)}, {}, &numbers);
  AppendTensor(kString, {2}, {}, {"price <= 20", ""}, &strings);
  AppendBytesField(1, "nann", &spec);
  AppendBytesField(3, "retrieve", &spec);
  AppendBytesField(1, spec, &message);
  AppendInput("ids", numbers, &message);
  AppendInput("where", strings, &message);
  AppendBytesField(3, "top_k", &message);
  return message;
}

std::string Mutated(std::mt19937* random, std::string message) {
  const int damages = 1 + static_cast<int>((*random)() % 3);
  for (int i = 0; i < damages && !message.empty(); ++i) {
    const size_t at = (*random)() % message.size();
    switch ((*random)() % 4) {
      case 0:
        message[at] ^= static_cast<char>(1 << (*random)() % 8);
        break;
      case 1:
        message[at] = static_cast<char>((*random)());
        break;
      case 2:
        message.resize(at);
        break;
      case 3:
        message.insert(at, 1 + (*random)() % 12, static_cast<char>((*random)()));
        break;
    }
  }
  return message;
}

bool LiesIn(std::string_view part, const std::string& message) {
  return part.empty() ||
         (part.data() >= message.data() && part.data() + part.size() <= message.data() + message.size());
}

bool IsSound(const PredictRequest& request, const std::string& message) {
  for (const auto& [alias, tensor] : request.inputs) {
    size_t count = 1;
    for (const int64_t size : tensor.dims) count *= static_cast<size_t>(size);
    const bool has_all = tensor.type == kString ? tensor.strings.size() == count
                                                : tensor.Bytes().size() == count * ElementSize(tensor.type);
    if (!has_all || count > message.size() || !LiesIn(alias, message) || !LiesIn(tensor.content, message)) {
      return false;
    }
    for (const std::string_view value : tensor.strings) {
      if (!LiesIn(value, message)) return false;
    }
  }
  return LiesIn(request.model, message) && LiesIn(request.signature, message) &&
         LiesIn(request.label, message);
}

int Fuzz(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  const std::string good = Good();
  PredictRequest intact;
  if (!ReadPredictRequest(good, &intact) || intact.inputs.size() != 2) {
    std::fprintf(stderr, "the request that is damaged cannot be read\n");
    return 1;
  }
  int64_t read = 0;
  for (int64_t i = 0; i < count; ++i) {
    const std::string message = Mutated(&random, good);
    PredictRequest request;
    if (!ReadPredictRequest(message, &request)) continue;
    ++read;
    if (!IsSound(request, message)) {
      std::fprintf(stderr, "mutation %lld of seed %u: an unsound request was read\n",
                   static_cast<long long>(i), seed);
      return 1;
    }
  }
  std::printf("%lld mutations, %lld of them read\n", static_cast<long long>(count),
              static_cast<long long>(read));
  return 0;
}

}  // namespace
}  // namespace nann::front

int main(int argc, char** argv) {
  return nann::FuzzMain(argc, argv, "predict_fuzz MUTATIONS [SEED]", nann::front::Fuzz);
}
