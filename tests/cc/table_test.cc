#include "ops/core/index/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "arrays.h"
#include "ops/core/index/float16.h"
#include "ops/core/index/int8_rows.h"

namespace nann {
namespace {

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

TEST(Float16Test, KnownValues) {
  const uint16_t halves[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0xfc00};
  const float expected[] = {0.0f, -0.0f, 1.0f, -2.0f, 65504.0f, 5.9604644775390625e-08f, INFINITY, -INFINITY};
  for (int i = 0; i < 8; ++i) {
    float value;
    Float16ToFloat32(&halves[i], 1, &value);
    EXPECT_EQ(BitsOf(value), BitsOf(expected[i])) << i;
  }
}

// Eight values at a time go through the processor's own conversion where it has one, single ones never do.
TEST(Float16Test, TheTwoImplementationsAgreeOnEveryValue) {
  std::vector<uint16_t> halves(65536);
  for (int i = 0; i < 65536; ++i) halves[i] = static_cast<uint16_t>(i);
  std::vector<float> together(65536);
  Float16ToFloat32(halves.data(), 65536, together.data());
  for (int i = 0; i < 65536; ++i) {
    float alone;
    Float16ToFloat32(&halves[i], 1, &alone);
    ASSERT_EQ(BitsOf(alone), BitsOf(together[i])) << i;
  }
}

TEST(TableTest, GathersFloat32Rows) {
  const std::string bytes = NpyBytes<float>({1, 2, 3, 4, 5, 6}, {3, 2});
  const absl::StatusOr<OwnedArray> array = Own("t.npy", bytes);
  ASSERT_TRUE(array.ok());
  const absl::StatusOr<Table> table = Table::Create(array->array, TableType::kFloat32);
  ASSERT_TRUE(table.ok()) << table.status();
  std::vector<float> out(4);
  table->Gather<int32_t>({2, 0}, out.data());
  EXPECT_EQ(out, (std::vector<float>{5, 6, 1, 2}));
}

TEST(TableTest, GathersColumnsApart) {
  const absl::StatusOr<OwnedArray> array = Own("t.npy", NpyBytes<float>({1, 2, 3, 4, 5, 6}, {2, 3}));
  ASSERT_TRUE(array.ok());
  const absl::StatusOr<Table> table = Table::Create(array->array, TableType::kFloat32);
  ASSERT_TRUE(table.ok()) << table.status();
  std::vector<float> pairs(5, -7.0f), first(2);
  const Table::Columns columns[] = {{1, 2, pairs.data(), 3}, {0, 1, first.data(), 1}};
  table->Gather<int32_t>({1, 0}, columns);
  EXPECT_EQ(pairs, (std::vector<float>{5, 6, -7, 2, 3}));
  EXPECT_EQ(first, (std::vector<float>{4, 1}));
}

TEST(TableTest, WidensBfloat16) {
  const absl::StatusOr<OwnedArray> array = Own("t.npy", NpyBytes<uint16_t>({0x3f80, 0xc000}, {2, 1}));
  ASSERT_TRUE(array.ok());
  const absl::StatusOr<Table> table = Table::Create(array->array, TableType::kBfloat16);
  ASSERT_TRUE(table.ok()) << table.status();
  std::vector<float> out(2);
  table->Gather<int64_t>({0, 1}, out.data());
  EXPECT_EQ(out, (std::vector<float>{1.0f, -2.0f}));
}

// A row of int8 with these scales, one a block.
std::vector<uint8_t> Int8Row(const std::vector<float>& scales, const std::vector<int8_t>& numbers) {
  std::vector<uint8_t> row(scales.size() * sizeof(float) + numbers.size());
  std::memcpy(row.data(), scales.data(), scales.size() * sizeof(float));
  std::memcpy(row.data() + scales.size() * sizeof(float), numbers.data(), numbers.size());
  return row;
}

// Whatever the processor has, each number is one product of two floats.
TEST(Int8RowsTest, EveryWidthAndNumberIsOneProduct) {
  for (int64_t width = 1; width <= 300; width += width < 140 ? 1 : 23) {
    std::vector<float> scales, expected(width), found(width + 1, -7.0f);
    std::vector<int8_t> numbers(width);
    for (int64_t i = 0; i < width; ++i) {
      if (i % kInt8Block == 0) scales.push_back(0.1f / static_cast<float>(1 + i));
      numbers[i] = static_cast<int8_t>(i * 37 + width);
      expected[i] = static_cast<float>(numbers[i]) * scales.back();
    }
    std::vector<uint8_t> row = Int8Row(scales, numbers);
    EXPECT_EQ(row.size(), Int8RowBytes(width));
    EXPECT_EQ(Int8RowWidth(row.size()), width);
    row.insert(row.begin(), 0);  // Rows lie at any address.
    Int8RowToFloat32(reinterpret_cast<const char*>(row.data()) + 1, width, found.data());
    EXPECT_EQ(found.back(), -7.0f) << width;
    found.pop_back();
    EXPECT_EQ(found, expected) << width;
  }
}

TEST(TableTest, WidensInt8) {
  std::vector<uint8_t> bytes = Int8Row({0.5f}, {2, -3});
  const std::vector<uint8_t> second = Int8Row({2.0f}, {127, -128});
  bytes.insert(bytes.end(), second.begin(), second.end());
  const absl::StatusOr<OwnedArray> array = Own("t.npy", NpyBytes<uint8_t>(bytes, {2, 6}));
  ASSERT_TRUE(array.ok());
  const absl::StatusOr<Table> table = Table::Create(array->array, TableType::kInt8);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->width(), 2);
  EXPECT_EQ(table->row_bytes(), 6);
  std::vector<float> out(7, -7.0f);
  const Table::Columns rows[] = {{0, 2, out.data(), 4}};
  table->Gather<int32_t>({1, 0}, rows);
  EXPECT_EQ(out, (std::vector<float>{254, -256, -7, -7, 1, -1.5, -7}));
  const Table::Columns second_column[] = {{1, 1, out.data(), 2}};
  table->Gather<int32_t>({1, 0}, second_column);
  EXPECT_EQ(out, (std::vector<float>{-256, -256, -1.5, -7, 1, -1.5, -7}));
}

TEST(TableTest, RefusesBytesThatAreNoInt8Rows) {
  // 4 bytes of scale for each 64 numbers, and for the rest.
  for (const int64_t bytes : {1, 4, 69, 72, 137, 140}) {
    const absl::StatusOr<OwnedArray> array =
        Own("t.npy", NpyBytes<uint8_t>(std::vector<uint8_t>(bytes), {1, bytes}));
    ASSERT_TRUE(array.ok());
    const absl::Status status = Table::Create(array->array, TableType::kInt8).status();
    EXPECT_NE(
        status.message().find("t.npy: expected rows of int8 numbers and a scale for each 64 of them, found"),
        absl::string_view::npos)
        << bytes << status;
  }
}

TEST(TableTest, RefusesAVocabularyThatIsNotAscending) {
  for (const std::vector<int64_t>& ids : {std::vector<int64_t>{3, 7, 5}, std::vector<int64_t>{3, 7, 7}}) {
    const absl::StatusOr<OwnedArray> array = Own("words.npy", NpyBytes<int64_t>(ids));
    ASSERT_TRUE(array.ok());
    const absl::Status status = Table::Create(array->array, TableType::kInt64).status();
    EXPECT_NE(status.message().find("words.npy: expected ids in ascending order, each once, found"),
              absl::string_view::npos)
        << status;
    EXPECT_NE(status.message().find("after 7 at index 2"), absl::string_view::npos) << status;
  }
}

TEST(TableTest, RefusesAnotherTypeOrRank) {
  const absl::StatusOr<OwnedArray> array = Own("t.npy", NpyBytes<int64_t>({1, 2}));
  ASSERT_TRUE(array.ok());
  EXPECT_TRUE(Table::Create(array->array, TableType::kInt64).ok());
  const absl::Status status = Table::Create(array->array, TableType::kFloat32).status();
  EXPECT_NE(status.message().find("t.npy: expected a float32 array of rank 2, found int64 (2,)"),
            absl::string_view::npos)
      << status;
}

}  // namespace
}  // namespace nann
