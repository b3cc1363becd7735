#include "ops/core/index/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "arrays.h"
#include "ops/core/index/float16.h"

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

TEST(TableTest, WidensBfloat16) {
  const absl::StatusOr<OwnedArray> array = Own("t.npy", NpyBytes<uint16_t>({0x3f80, 0xc000}, {2, 1}));
  ASSERT_TRUE(array.ok());
  const absl::StatusOr<Table> table = Table::Create(array->array, TableType::kBfloat16);
  ASSERT_TRUE(table.ok()) << table.status();
  std::vector<float> out(2);
  table->Gather<int64_t>({0, 1}, out.data());
  EXPECT_EQ(out, (std::vector<float>{1.0f, -2.0f}));
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
