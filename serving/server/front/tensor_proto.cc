#include "serving/server/front/tensor_proto.h"

#include <cstring>

#include "serving/server/front/wire.h"

namespace nann::front {
namespace {

// The fields of TensorProto and of the messages inside it.
enum : uint32_t {
  kDtypeField = 1,
  kShapeField = 2,
  kContentField = 4,
  kFloatField = 5,
  kDoubleField = 6,
  kIntField = 7,
  kStringField = 8,
  kInt64Field = 10,
  kBoolField = 11,
  kHalfField = 13,
  kUint32Field = 16,
  kUint64Field = 17,
};
enum : uint32_t { kDimField = 2, kSizeField = 1 };

// NumPy 1's limit, which the server's Python part has too.
constexpr size_t kMaxDimensions = 32;

// The field that lists elements of a type; 0 for a type that is not listed here.
uint32_t ListField(int type) {
  switch (type) {
    case kFloat:
      return kFloatField;
    case kDouble:
      return kDoubleField;
    case kInt32:
    case kUint8:
    case kInt16:
    case kInt8:
    case kUint16:
      return kIntField;
    case kString:
      return kStringField;
    case kInt64:
      return kInt64Field;
    case kBool:
      return kBoolField;
    case kBfloat16:
    case kHalf:
      return kHalfField;
    case kUint32:
      return kUint32Field;
    case kUint64:
      return kUint64Field;
    default:
      return 0;
  }
}

bool IsFixed(int type) { return type == kFloat || type == kDouble; }

bool ReadDim(std::string_view message, int64_t* size) {
  *size = 0;
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    if (field.number != kSizeField || field.type != WireType::kVarint) return false;
    *size = static_cast<int64_t>(field.varint);
  }
  return reader.AtEnd() && *size >= 0;
}

bool ReadShape(std::string_view message, std::vector<int64_t>* dims) {
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    int64_t size;
    if (field.number != kDimField || field.type != WireType::kBytes || !ReadDim(field.bytes, &size))
      return false;
    dims->push_back(size);
  }
  return reader.AtEnd() && dims->size() <= kMaxDimensions;
}

// Appends one element, given as the varint that lists it. Wider values wrap around, as in TensorFlow.
void AppendElement(uint64_t value, size_t size, std::string* out) {
  char bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));  // Little-endian, as every processor that we run on.
  out->append(bytes, size);
}

bool AppendListed(const Field& field, int type, std::string* out) {
  const size_t size = ElementSize(type);
  if (IsFixed(type)) {
    const bool is_single = field.type == WireType::kFixed32 || field.type == WireType::kFixed64;
    if (field.type == WireType::kVarint || field.bytes.size() % size != 0) return false;
    if (is_single && field.bytes.size() != size) return false;
    out->append(field.bytes);
    return true;
  }
  if (field.type == WireType::kVarint) {
    AppendElement(type == kBool ? field.varint != 0 : field.varint, size, out);
    return true;
  }
  if (field.type != WireType::kBytes) return false;
  std::string_view packed = field.bytes;
  uint64_t value;
  while (TakeVarint(&packed, &value)) AppendElement(type == kBool ? value != 0 : value, size, out);
  return packed.empty();
}

// The number of elements of a shape; -1 if it is more than `limit`, also without regard to empty dimensions.
int64_t ElementCount(const std::vector<int64_t>& dims, int64_t limit) {
  int64_t count = 1;
  bool is_empty = false;
  for (const int64_t size : dims) {
    is_empty = is_empty || size == 0;
    if (size > limit / count) return -1;
    if (size != 0) count *= size;
  }
  return is_empty ? 0 : count;
}

// Whether raw bytes of booleans are all 0 or 1, as TensorFlow's kernels expect.
bool AreBooleans(std::string_view bytes) {
  for (const char byte : bytes) {
    if (static_cast<uint8_t>(byte) > 1) return false;
  }
  return true;
}

}  // namespace

size_t ElementSize(int type) {
  switch (type) {
    case kDouble:
    case kInt64:
    case kUint64:
      return 8;
    case kFloat:
    case kInt32:
    case kUint32:
      return 4;
    case kInt16:
    case kUint16:
    case kHalf:
    case kBfloat16:
      return 2;
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    default:
      return 0;
  }
}

bool ReadTensor(std::string_view message, TensorValues* tensor) {
  // The type decides how the values are read, and fields come in any order.
  FieldReader types(message);
  for (Field field; types.Next(&field);) {
    if (field.number != kDtypeField) continue;
    if (field.type != WireType::kVarint || field.varint > kUint64) return false;
    tensor->type = static_cast<int>(field.varint);
  }
  const uint32_t list_field = ListField(tensor->type);
  if (!types.AtEnd() || list_field == 0) return false;
  bool has_shape = false;
  FieldReader reader(message);
  for (Field field; reader.Next(&field);) {
    if (field.number == kDtypeField) continue;
    if (field.number == kShapeField && field.type == WireType::kBytes && !has_shape) {
      has_shape = true;
      if (!ReadShape(field.bytes, &tensor->dims)) return false;
    } else if (field.number == kContentField && field.type == WireType::kBytes && tensor->content.empty()) {
      tensor->content = field.bytes;
    } else if (field.number == list_field && tensor->type == kString && field.type == WireType::kBytes) {
      tensor->strings.push_back(field.bytes);
    } else if (field.number == list_field && tensor->type != kString) {
      if (!AppendListed(field, tensor->type, &tensor->listed)) return false;
    } else {
      return false;
    }
  }
  const int64_t count = ElementCount(tensor->dims, static_cast<int64_t>(message.size()));
  if (!reader.AtEnd() || count < 0) return false;
  const auto elements = static_cast<size_t>(count);
  if (tensor->type == kString) return tensor->content.empty() && tensor->strings.size() == elements;
  const bool has_both = !tensor->content.empty() && !tensor->listed.empty();
  if (has_both || (tensor->type == kBool && !AreBooleans(tensor->content))) return false;
  return tensor->Bytes().size() == elements * ElementSize(tensor->type);
}

bool CanAppendTensor(int type) { return ListField(type) != 0; }

namespace {

// The element at `at`, as the varint that lists it: signed types are extended to 64 bits.
uint64_t Element(int type, const char* at) {
  switch (type) {
    case kInt32: {
      int32_t value;
      std::memcpy(&value, at, sizeof(value));
      return static_cast<uint64_t>(static_cast<int64_t>(value));
    }
    case kInt16: {
      int16_t value;
      std::memcpy(&value, at, sizeof(value));
      return static_cast<uint64_t>(static_cast<int64_t>(value));
    }
    case kInt8:
      return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(*at)));
    default: {
      uint64_t value = 0;
      std::memcpy(&value, at, ElementSize(type));
      return value;
    }
  }
}

std::string Shape(const std::vector<int64_t>& dims) {
  std::string shape;
  for (const int64_t size : dims) {
    std::string dim;
    if (size != 0) AppendVarintField(kSizeField, static_cast<uint64_t>(size), &dim);
    AppendBytesField(kDimField, dim, &shape);
  }
  return shape;
}

}  // namespace

void AppendTensor(int type, const std::vector<int64_t>& dims, std::string_view bytes,
                  const std::vector<std::string_view>& strings, std::string* out) {
  AppendVarintField(kDtypeField, static_cast<uint64_t>(type), out);
  AppendBytesField(kShapeField, Shape(dims), out);
  for (const std::string_view value : strings) AppendBytesField(kStringField, value, out);
  if (bytes.empty()) return;
  if (IsFixed(type)) {
    AppendBytesField(ListField(type), bytes, out);
    return;
  }
  std::string packed;
  const size_t size = ElementSize(type);
  for (size_t at = 0; at < bytes.size(); at += size) AppendVarint(Element(type, bytes.data() + at), &packed);
  AppendBytesField(ListField(type), packed, out);
}

}  // namespace nann::front
