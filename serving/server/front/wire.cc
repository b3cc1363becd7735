#include "serving/server/front/wire.h"

namespace nann::front {
namespace {

// Takes `count` bytes off the front of `from`; false if there are fewer.
bool TakeBytes(std::string_view* from, uint64_t count, std::string_view* taken) {
  if (count > from->size()) return false;
  *taken = from->substr(0, count);
  from->remove_prefix(count);
  return true;
}

}  // namespace

bool TakeVarint(std::string_view* bytes, uint64_t* value) {
  constexpr size_t kMaxBytes = 10;  // Of 64 bits, seven in each byte.
  *value = 0;
  for (size_t i = 0; i < bytes->size() && i < kMaxBytes; ++i) {
    const auto byte = static_cast<uint8_t>((*bytes)[i]);
    *value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if (byte < 0x80) {
      bytes->remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

bool FieldReader::TakeField(Field* field) {
  uint64_t tag;
  if (!TakeVarint(&rest_, &tag)) return false;
  constexpr uint64_t kMaxTag = UINT32_MAX;  // As protobuf: 29 bits of number, 3 of type.
  field->number = static_cast<uint32_t>(tag >> 3);
  if (tag > kMaxTag || field->number == 0) return false;
  field->type = static_cast<WireType>(tag & 7);
  uint64_t length;
  switch (field->type) {
    case WireType::kVarint:
      return TakeVarint(&rest_, &field->varint);
    case WireType::kFixed64:
      return TakeBytes(&rest_, 8, &field->bytes);
    case WireType::kFixed32:
      return TakeBytes(&rest_, 4, &field->bytes);
    case WireType::kBytes:
      return TakeVarint(&rest_, &length) && TakeBytes(&rest_, length, &field->bytes);
  }
  return false;  // A group, which proto3 does not have.
}

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendVarintField(uint32_t number, uint64_t value, std::string* out) {
  AppendVarint(number << 3 | static_cast<uint32_t>(WireType::kVarint), out);
  AppendVarint(value, out);
}

void AppendBytesField(uint32_t number, std::string_view value, std::string* out) {
  AppendVarint(number << 3 | static_cast<uint32_t>(WireType::kBytes), out);
  AppendVarint(value.size(), out);
  out->append(value);
}

}  // namespace nann::front
