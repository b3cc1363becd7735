// Protobuf's wire format, field by field.
//
// The process holds TensorFlow's protobuf library, which is hidden behind TensorFlow's version, so the front
// reads and writes the few messages that it knows itself.
#ifndef NANN_SERVING_SERVER_FRONT_WIRE_H_
#define NANN_SERVING_SERVER_FRONT_WIRE_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace nann::front {

enum class WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// A field as it stands in a message. `bytes` is a view into the message.
struct Field {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t varint = 0;     // kVarint
  std::string_view bytes;  // kBytes: the content; kFixed32 and kFixed64: 4 or 8 bytes
};

// Reads the fields of a message one after another. It never reads beyond the message.
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  // False at the end of the message and where it is malformed.
  bool Next(Field* field) {
    if (rest_.empty() || is_malformed_) return false;
    is_malformed_ = !TakeField(field);
    return !is_malformed_;
  }
  // Whether the message was read to its end.
  bool AtEnd() const { return rest_.empty() && !is_malformed_; }

 private:
  bool TakeField(Field* field);

  std::string_view rest_;
  bool is_malformed_ = false;
};

// Takes a varint off the front of `bytes`; false if there is none.
bool TakeVarint(std::string_view* bytes, uint64_t* value);

void AppendVarint(uint64_t value, std::string* out);
void AppendVarintField(uint32_t number, uint64_t value, std::string* out);
void AppendBytesField(uint32_t number, std::string_view value, std::string* out);

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_WIRE_H_
