// The messages that the front of the server reads and writes.
#include <gtest/gtest.h>

#include <cstring>

#include "serving/server/front/predict_messages.h"
#include "serving/server/front/wire.h"

namespace nann::front {
namespace {

std::string Varint(uint64_t value) {
  std::string out;
  AppendVarint(value, &out);
  return out;
}

std::string BytesField(uint32_t number, std::string_view value) {
  std::string out;
  AppendBytesField(number, value, &out);
  return out;
}

std::string VarintField(uint32_t number, uint64_t value) {
  std::string out;
  AppendVarintField(number, value, &out);
  return out;
}

template <typename T>
std::string_view AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A `TensorProto` with its values as raw bytes.
std::string ContentTensor(int type, const std::vector<int64_t>& dims, std::string_view content) {
  std::string shape;
  for (const int64_t size : dims) shape += BytesField(2, VarintField(1, static_cast<uint64_t>(size)));
  return VarintField(1, static_cast<uint64_t>(type)) + BytesField(2, shape) + BytesField(4, content);
}

TEST(Wire, VarintsOfAnySizeAreRead) {
  for (const uint64_t value : {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 35, UINT64_MAX}) {
    const std::string bytes = Varint(value) + "rest";
    std::string_view from = bytes;
    uint64_t read;
    ASSERT_TRUE(TakeVarint(&from, &read));
    EXPECT_EQ(read, value);
    EXPECT_EQ(from, "rest");
  }
}

TEST(Wire, VarintsWithoutEndAreRefused) {
  for (const std::string& bytes : {std::string(), std::string("\x80"), std::string(11, '\xff')}) {
    std::string_view from = bytes;
    uint64_t read;
    EXPECT_FALSE(TakeVarint(&from, &read));
  }
}

TEST(Wire, FieldsThatAreMalformedEndTheMessage) {
  const std::string too_long = Varint(1 << 3 | 2) + Varint(9) + "short";
  const std::string no_number = Varint(0 << 3 | 0) + Varint(1);
  const std::string group = Varint(1 << 3 | 3);
  const std::string short_fixed = Varint(1 << 3 | 5) + "abc";
  for (const std::string& message : {too_long, no_number, group, short_fixed}) {
    FieldReader reader(message);
    Field field;
    EXPECT_FALSE(reader.Next(&field));
    EXPECT_FALSE(reader.AtEnd());
  }
}

TEST(TensorProto, ValuesComeAsBytesOrListed) {
  const std::vector<int64_t> values = {-1, 0, 7, int64_t{1} << 40, INT64_MIN, INT64_MAX};
  const std::string content = ContentTensor(kInt64, {2, 3}, AsBytes(values));
  std::string listed;
  AppendTensor(kInt64, {2, 3}, AsBytes(values), {}, &listed);
  for (const std::string& message : {content, listed}) {
    TensorValues tensor;
    ASSERT_TRUE(ReadTensor(message, &tensor));
    EXPECT_EQ(tensor.type, kInt64);
    EXPECT_EQ(tensor.dims, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(tensor.Bytes(), AsBytes(values));
  }
}

template <typename T>
void ExpectRoundTrip(int type, const std::vector<T>& values) {
  std::string message;
  AppendTensor(type, {static_cast<int64_t>(values.size())}, AsBytes(values), {}, &message);
  TensorValues tensor;
  ASSERT_TRUE(ReadTensor(message, &tensor)) << type;
  EXPECT_EQ(tensor.Bytes(), AsBytes(values)) << type;
}

TEST(TensorProto, EveryTypeIsListed) {
  ExpectRoundTrip<float>(kFloat, {0, -1.5f, 3e38f});
  ExpectRoundTrip<double>(kDouble, {0, -1.5, 1e300});
  ExpectRoundTrip<int32_t>(kInt32, {INT32_MIN, -1, INT32_MAX});
  ExpectRoundTrip<uint32_t>(kUint32, {0, UINT32_MAX});
  ExpectRoundTrip<uint64_t>(kUint64, {0, UINT64_MAX});
  ExpectRoundTrip<int16_t>(kInt16, {INT16_MIN, -1, INT16_MAX});
  ExpectRoundTrip<uint16_t>(kUint16, {0, UINT16_MAX});
  ExpectRoundTrip<int8_t>(kInt8, {INT8_MIN, -1, INT8_MAX});
  ExpectRoundTrip<uint8_t>(kUint8, {0, UINT8_MAX});
  ExpectRoundTrip<uint8_t>(kBool, {0, 1, 1});
  ExpectRoundTrip<uint16_t>(kHalf, {0, 0x3c00, 0xfc00});
  ExpectRoundTrip<uint16_t>(kBfloat16, {0, 0x3f80, 0xff80});
}

TEST(TensorProto, StringsAreListed) {
  std::string message;
  AppendTensor(kString, {2}, {}, {"a", std::string_view("\0b", 2)}, &message);
  TensorValues tensor;
  ASSERT_TRUE(ReadTensor(message, &tensor));
  EXPECT_EQ(tensor.strings, (std::vector<std::string_view>{"a", std::string_view("\0b", 2)}));
}

TEST(TensorProto, ScalarsAndEmptyTensorsAreRead) {
  TensorValues scalar, empty;
  ASSERT_TRUE(ReadTensor(ContentTensor(kInt32, {}, AsBytes(std::vector<int32_t>{5})), &scalar));
  EXPECT_TRUE(scalar.dims.empty());
  ASSERT_TRUE(ReadTensor(ContentTensor(kFloat, {1, 0}, ""), &empty));
  EXPECT_TRUE(empty.Bytes().empty());
}

TEST(TensorProto, WhatTensorFlowCompletesOrRefusesIsLeftToIt) {
  const std::vector<float> values = {1, 2};
  const std::string two = ContentTensor(kFloat, {2}, AsBytes(values));
  for (const std::string& message : {
           ContentTensor(kFloat, {3}, AsBytes(values)),       // Too few bytes.
           ContentTensor(kFloat, {int64_t{1} << 62, 4}, ""),  // A product that overflows.
           ContentTensor(kFloat, {-1}, ""),                   // No size.
           ContentTensor(kFloat, {0, int64_t{1} << 62}, ""),  // Empty, and too large for TensorFlow.
           ContentTensor(kFloat, std::vector<int64_t>(40, 1), "abcd"),  // Too many dimensions.
           ContentTensor(8, {2}, AsBytes(values)),                      // complex64
           ContentTensor(kString, {1}, std::string_view("\1a", 2)),     // Strings as raw bytes.
           ContentTensor(kBool, {1}, "\2"),                             // Not a boolean.
           two + VarintField(3, 1),                                     // A version number.
           two + BytesField(5, AsBytes(values)),                        // Values twice.
           two + BytesField(2, ""),                                     // A shape twice.
           two + "\xff",
       }) {
    TensorValues tensor;
    EXPECT_FALSE(ReadTensor(message, &tensor));
  }
}

std::string Spec(std::string_view extra = "") {
  return BytesField(1, BytesField(1, "nann") + BytesField(3, "retrieve") + std::string(extra));
}

std::string Input(std::string_view alias) {
  const std::vector<int32_t> values = {1, 2};
  return BytesField(2, BytesField(1, alias) + BytesField(2, ContentTensor(kInt32, {2}, AsBytes(values))));
}

TEST(PredictRequest, IsRead) {
  const std::string message = Spec() + Input("a") + Input("b") + BytesField(3, "top_k");
  PredictRequest request;
  ASSERT_TRUE(ReadPredictRequest(message, &request));
  EXPECT_EQ(request.model, "nann");
  EXPECT_EQ(request.signature, "retrieve");
  EXPECT_EQ(request.choice, PredictRequest::Choice::kNewest);
  ASSERT_EQ(request.inputs.size(), 2u);
  EXPECT_EQ(request.inputs[1].first, "b");
  EXPECT_EQ(request.output_filter, (std::vector<std::string_view>{"top_k"}));
}

TEST(PredictRequest, ChoosesVersionOrLabel) {
  const std::string version = BytesField(2, VarintField(1, 7)), label = BytesField(4, "stable");
  const std::string with_version = Spec(version), with_label = Spec(label);
  PredictRequest by_version, by_label, by_both;
  ASSERT_TRUE(ReadPredictRequest(with_version, &by_version));
  EXPECT_EQ(by_version.choice, PredictRequest::Choice::kVersion);
  EXPECT_EQ(by_version.version, 7);
  ASSERT_TRUE(ReadPredictRequest(with_label, &by_label));
  EXPECT_EQ(by_label.label, "stable");
  EXPECT_FALSE(ReadPredictRequest(Spec(version + label), &by_both));
}

TEST(PredictRequest, WhatIsUnusualIsLeftToPython) {
  std::string many;
  std::string many_outputs;
  for (int i = 0; i < 65; ++i) {
    many += Input(std::to_string(i));
    many_outputs += BytesField(3, "top_k");
  }
  for (const std::string& message : {
           Spec() + Spec(),
           Spec() + Input("a") + Input("a"),
           Spec() + VarintField(9, 1),
           Spec() + BytesField(9, "a field of the future"),
           Spec(BytesField(9, "")),
           Spec() + many,
           Spec() + many_outputs,
           Spec() + "\x0a\x7f",
       }) {
    PredictRequest request;
    EXPECT_FALSE(ReadPredictRequest(message, &request));
  }
}

}  // namespace
}  // namespace nann::front
