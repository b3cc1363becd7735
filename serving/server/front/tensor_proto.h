// `TensorProto` to and from plain values.
#ifndef NANN_SERVING_SERVER_FRONT_TENSOR_PROTO_H_
#define NANN_SERVING_SERVER_FRONT_TENSOR_PROTO_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nann::front {

// TensorFlow's numbers of the element types that the front knows.
enum DataType : int {
  kFloat = 1,
  kDouble = 2,
  kInt32 = 3,
  kUint8 = 4,
  kInt16 = 5,
  kInt8 = 6,
  kString = 7,
  kInt64 = 9,
  kBool = 10,
  kBfloat16 = 14,
  kUint16 = 17,
  kHalf = 19,
  kUint32 = 22,
  kUint64 = 23,
};

// Bytes of an element; 0 for strings and for types that the front does not know.
size_t ElementSize(int type);

// A tensor of a request. `content` and `strings` are views into the message.
struct TensorValues {
  int type = 0;
  std::vector<int64_t> dims;
  std::vector<std::string_view> strings;  // The elements of kString.
  std::string_view content;               // The elements of other types, as the message has them,
  std::string listed;                     // or as it listed them one by one.

  // The elements of all types but kString, as in memory.
  std::string_view Bytes() const { return content.empty() ? std::string_view(listed) : content; }
};

// Reads a tensor whose message brings every element. False for all other messages: malformed ones, types that
// the front does not know, and those that TensorFlow completes, such as one value for many. So a tensor needs
// no more than eight times the memory of its message.
bool ReadTensor(std::string_view message, TensorValues* tensor);

// Whether AppendTensor can write tensors of this type.
bool CanAppendTensor(int type);

// Appends a `TensorProto` that lists the elements one by one, as the answers of TensorFlow Serving do.
// CanAppendTensor(type) holds; `strings` are the elements of kString, `bytes` those of all other types.
void AppendTensor(int type, const std::vector<int64_t>& dims, std::string_view bytes,
                  const std::vector<std::string_view>& strings, std::string* out);

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_TENSOR_PROTO_H_
