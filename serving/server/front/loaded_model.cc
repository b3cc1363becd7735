#include "serving/server/front/loaded_model.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "serving/server/front/wire.h"

namespace nann::front {
namespace {

// As TensorFlow Serving: a status travels in HTTP headers, whose size gRPC limits.
constexpr size_t kMaxMessage = 1024;

// Tensors that are deleted with this object. Some may be null.
class Tensors {
 public:
  explicit Tensors(const TensorFlow& tensorflow, size_t size = 0) : tensorflow_(tensorflow), tensors_(size) {}
  Tensors(const Tensors&) = delete;
  ~Tensors() {
    for (TF_Tensor* tensor : tensors_) {
      if (tensor != nullptr) tensorflow_.delete_tensor(tensor);
    }
  }

  void Add(TF_Tensor* tensor) { tensors_.push_back(tensor); }
  TF_Tensor** data() { return tensors_.data(); }
  int size() const { return static_cast<int>(tensors_.size()); }

 private:
  const TensorFlow& tensorflow_;
  std::vector<TF_Tensor*> tensors_;
};

using Status = std::unique_ptr<TF_Status, void (*)(TF_Status*)>;
using Buffer = std::unique_ptr<TF_Buffer, void (*)(TF_Buffer*)>;

Status NewStatus(const TensorFlow& tensorflow) { return {tensorflow.new_status(), tensorflow.delete_status}; }

Buffer NewBuffer(const TensorFlow& tensorflow, const std::string& bytes) {
  return {tensorflow.new_buffer_from_string(bytes.data(), bytes.size()), tensorflow.delete_buffer};
}

// RunOptions with `timeout_in_ms`.
std::string RunOptions(int64_t timeout_ms) {
  constexpr uint32_t kTimeoutInMs = 2;
  std::string options;
  AppendVarintField(kTimeoutInMs, static_cast<uint64_t>(timeout_ms), &options);
  return options;
}

// Cuts a text to the bytes that a status may have, between two characters.
std::string Truncated(std::string text) {
  if (text.size() <= kMaxMessage) return text;
  size_t size = kMaxMessage;
  while (size > 0 && (static_cast<uint8_t>(text[size]) & 0xC0) == 0x80) --size;
  text.resize(size);
  return text + "...TRUNCATED";
}

size_t IndexOf(const std::vector<const Endpoint*>& endpoints, const Endpoint* endpoint) {
  return std::find(endpoints.begin(), endpoints.end(), endpoint) - endpoints.begin();
}

const Endpoint* Find(const std::vector<Endpoint>& endpoints, std::string_view alias) {
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.alias == alias) return &endpoint;
  }
  return nullptr;
}

std::vector<const Endpoint*> AllOutputs(const Signature& signature) {
  std::vector<const Endpoint*> outputs;
  for (const Endpoint& output : signature.outputs) outputs.push_back(&output);
  return outputs;
}

// The outputs that a request asks for; empty if it names one that is not there, or one twice.
std::vector<const Endpoint*> AskedOutputs(const Signature& signature,
                                          const std::vector<std::string_view>& filter) {
  if (filter.empty()) return AllOutputs(signature);
  if (filter.size() > signature.outputs.size()) return {};
  std::vector<const Endpoint*> asked;
  for (const std::string_view alias : filter) {
    const Endpoint* output = Find(signature.outputs, alias);
    if (output == nullptr || IndexOf(asked, output) < asked.size()) return {};
    asked.push_back(output);
  }
  return asked;
}

// A new tensor with a copy of the values; null if TensorFlow refuses them.
TF_Tensor* NewTensor(const TensorFlow& tensorflow, const TensorValues& values) {
  const auto rank = static_cast<int>(values.dims.size());
  if (values.type != kString) {
    const std::string_view bytes = values.Bytes();
    TF_Tensor* tensor = tensorflow.allocate_tensor(values.type, values.dims.data(), rank, bytes.size());
    if (tensor == nullptr || bytes.empty()) return tensor;
    void* data = tensorflow.tensor_data(tensor);
    if (data == nullptr) {  // TensorFlow's allocator has no memory, and does not throw.
      tensorflow.delete_tensor(tensor);
      throw std::bad_alloc();
    }
    std::memcpy(data, bytes.data(), bytes.size());
    return tensor;
  }
  // TensorFlow itself makes the strings, and so frees them with the tensor.
  std::string proto;
  AppendTensor(kString, values.dims, {}, values.strings, &proto);
  const Buffer buffer = NewBuffer(tensorflow, proto);
  const Status status = NewStatus(tensorflow);
  // Of a type without objects: where TensorFlow reads nothing into it, it is freed as it is.
  TF_Tensor* tensor = tensorflow.allocate_tensor(kFloat, nullptr, 0, sizeof(float));
  tensorflow.tensor_from_proto(buffer.get(), tensor, status.get());
  if (tensorflow.get_code(status.get()) == 0) return tensor;
  tensorflow.delete_tensor(tensor);
  return nullptr;
}

// Appends a result as a `TensorProto`; false if its type cannot be written.
bool AppendResult(const TensorFlow& tensorflow, const TF_Tensor* tensor, std::string* out) {
  const int type = tensorflow.tensor_type(tensor);
  if (!CanAppendTensor(type)) return false;
  std::vector<int64_t> dims;
  int64_t count = 1;
  for (int axis = 0; axis < tensorflow.num_dims(tensor); ++axis) {
    dims.push_back(tensorflow.dim(tensor, axis));
    count *= dims.back();
  }
  const auto* data = static_cast<const char*>(tensorflow.tensor_data(tensor));
  std::vector<std::string_view> strings;
  if (type == kString) {
    const auto* elements = reinterpret_cast<const TF_TString*>(data);
    for (int64_t i = 0; i < count; ++i) {
      strings.emplace_back(tensorflow.string_get_data_pointer(elements + i),
                           tensorflow.string_get_size(elements + i));
    }
  }
  // Strings have no fixed size: 0 of ElementSize.
  AppendTensor(type, dims, {data, static_cast<size_t>(count) * ElementSize(type)}, strings, out);
  return true;
}

}  // namespace

Signature& LoadedModel::AddSignature(const std::string& name) {
  Signature& signature = signatures_[name];
  signature.name = name;
  return signature;
}

const Signature* LoadedModel::FindSignature(std::string_view name) const {
  const auto found = signatures_.find(name);
  return found == signatures_.end() ? nullptr : &found->second;
}

std::optional<Answer> LoadedModel::Run(const PredictRequest& request, const Signature& signature,
                                       int64_t timeout_ms, Cancellation* cancellation) const {
  if (request.inputs.size() != signature.inputs.size()) return std::nullopt;
  const std::vector<const Endpoint*> asked = AskedOutputs(signature, request.output_filter);
  if (asked.empty()) return std::nullopt;
  const std::vector<const Endpoint*> fetches = fetches_all_ ? AllOutputs(signature) : asked;

  std::vector<TF_Output> inputs, outputs;
  std::vector<const void*> buffers;
  Tensors feeds(tensorflow_), results(tensorflow_, fetches.size());
  for (const auto& [alias, values] : request.inputs) {
    const Endpoint* input = Find(signature.inputs, alias);
    TF_Tensor* tensor = input == nullptr ? nullptr : NewTensor(tensorflow_, values);
    if (tensor == nullptr) return std::nullopt;
    inputs.push_back(input->tensor);
    feeds.Add(tensor);
    // An empty tensor has no buffer, and strings have one each.
    if (!values.Bytes().empty()) buffers.push_back(tensorflow_.tensor_data(tensor));
  }
  for (const Endpoint* output : fetches) outputs.push_back(output->tensor);

  const Buffer options(timeout_ms == 0 ? Buffer(nullptr, tensorflow_.delete_buffer)
                                       : NewBuffer(tensorflow_, RunOptions(timeout_ms)));
  const Status status = NewStatus(tensorflow_);
  {
    const Cancellation::Run run(cancellation, buffers);
    tensorflow_.session_run(session_, options.get(), inputs.data(), feeds.data(), feeds.size(),
                            outputs.data(), results.data(), results.size(), nullptr, 0, nullptr,
                            status.get());
  }
  if (const int code = tensorflow_.get_code(status.get()); code != 0) {
    return Answer{code, Truncated(tensorflow_.message(status.get()))};
  }
  Answer answer;
  for (const Endpoint* output : asked) {
    std::string tensor;
    if (!AppendResult(tensorflow_, results.data()[IndexOf(fetches, output)], &tensor)) return std::nullopt;
    AppendOutput(output->alias, tensor, &answer.content);
  }
  AppendModelSpec(request.model, version_, signature.name, &answer.content);
  return answer;
}

}  // namespace nann::front
