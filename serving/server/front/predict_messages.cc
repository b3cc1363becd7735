#include "serving/server/front/predict_messages.h"

#include <algorithm>

#include "serving/server/front/wire.h"

namespace nann::front {
namespace {

// The fields of PredictRequest, PredictResponse, ModelSpec, Int64Value and of entries of a map.
enum : uint32_t { kModelSpec = 1, kInputs = 2, kOutputFilter = 3 };
enum : uint32_t { kResponseOutputs = 1, kResponseModelSpec = 2 };
enum : uint32_t { kName = 1, kVersion = 2, kSignatureName = 3, kVersionLabel = 4 };
enum : uint32_t { kInt64Value = 1 };
enum : uint32_t { kKey = 1, kValue = 2 };

// More inputs and outputs than a signature has: no search among them takes long.
constexpr size_t kMaxNames = 64;

bool ReadInt64Value(std::string_view message, int64_t* value) {
  *value = 0;
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    if (field.number != kInt64Value || field.type != WireType::kVarint) return false;
    *value = static_cast<int64_t>(field.varint);
  }
  return reader.AtEnd();
}

bool ReadModelSpec(std::string_view message, PredictRequest* request) {
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    if (field.type != WireType::kBytes) return false;
    const bool is_choice = field.number == kVersion || field.number == kVersionLabel;
    if (is_choice && request->choice != PredictRequest::Choice::kNewest) return false;
    if (field.number == kName) {
      request->model = field.bytes;
    } else if (field.number == kSignatureName) {
      request->signature = field.bytes;
    } else if (field.number == kVersion) {
      request->choice = PredictRequest::Choice::kVersion;
      if (!ReadInt64Value(field.bytes, &request->version)) return false;
    } else if (field.number == kVersionLabel) {
      request->choice = PredictRequest::Choice::kLabel;
      request->label = field.bytes;
    } else {
      return false;
    }
  }
  return reader.AtEnd();
}

bool ReadInput(std::string_view message, PredictRequest* request) {
  std::string_view alias, value;
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    if (field.type != WireType::kBytes || (field.number != kKey && field.number != kValue)) return false;
    (field.number == kKey ? alias : value) = field.bytes;
  }
  const bool is_there = std::any_of(request->inputs.begin(), request->inputs.end(),
                                    [alias](const auto& input) { return input.first == alias; });
  if (!reader.AtEnd() || is_there || request->inputs.size() == kMaxNames) return false;
  request->inputs.emplace_back(alias, TensorValues());
  return ReadTensor(value, &request->inputs.back().second);
}

}  // namespace

bool ReadPredictRequest(std::string_view message, PredictRequest* request) {
  bool has_model_spec = false;
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    if (field.type != WireType::kBytes) return false;
    if (field.number == kModelSpec && !has_model_spec) {
      has_model_spec = true;
      if (!ReadModelSpec(field.bytes, request)) return false;
    } else if (field.number == kInputs) {
      if (!ReadInput(field.bytes, request)) return false;
    } else if (field.number == kOutputFilter && request->output_filter.size() < kMaxNames) {
      request->output_filter.push_back(field.bytes);
    } else {
      return false;
    }
  }
  return reader.AtEnd();
}

void AppendOutput(std::string_view alias, std::string_view tensor, std::string* response) {
  std::string entry;
  AppendBytesField(kKey, alias, &entry);
  AppendBytesField(kValue, tensor, &entry);
  AppendBytesField(kResponseOutputs, entry, response);
}

void AppendModelSpec(std::string_view model, int64_t version, std::string_view signature,
                     std::string* response) {
  std::string number, spec;
  if (version != 0) AppendVarintField(kInt64Value, static_cast<uint64_t>(version), &number);
  AppendBytesField(kName, model, &spec);
  AppendBytesField(kVersion, number, &spec);
  AppendBytesField(kSignatureName, signature, &spec);
  AppendBytesField(kResponseModelSpec, spec, response);
}

}  // namespace nann::front
