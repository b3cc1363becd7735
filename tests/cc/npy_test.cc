#include "ops/core/index/npy.h"

#include <gtest/gtest.h>

#include "arrays.h"

namespace nann {
namespace {

std::string ErrorOf(const std::string& bytes) {
  const absl::StatusOr<NpyArray> array = ParseNpy("some/file.npy", bytes);
  EXPECT_FALSE(array.ok());
  EXPECT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(array.status().message());
}

TEST(NpyTest, ReadsWhatNumpyWrites) {
  const std::string bytes = NpyBytes<int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  const absl::StatusOr<NpyArray> array = ParseNpy("a.npy", bytes);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->dtype, DType::kInt32);
  EXPECT_EQ(array->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(array->ShapeString(), "(2, 3)");
  EXPECT_EQ(array->Elements<int32_t>()[5], 6);
}

TEST(NpyTest, AnEmptyArrayIsAnArray) {
  const absl::StatusOr<NpyArray> array = ParseNpy("a.npy", NpyBytes<int64_t>({}));
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->num_elements(), 0);
  EXPECT_EQ(array->ShapeString(), "(0,)");
}

TEST(NpyTest, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::string bytes = NpyBytes<int64_t>({1, 2, 3});
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(ErrorOf(bytes.substr(0, size)).find("some/file.npy: "), std::string::npos) << size;
  }
}

TEST(NpyTest, SaysHowManyBytesAreMissing) {
  const std::string bytes = NpyBytes<int64_t>({1, 2, 3});
  EXPECT_NE(
      ErrorOf(bytes.substr(0, bytes.size() - 1)).find("expected 24 bytes of data for int64 (3,), found 23"),
      std::string::npos);
  EXPECT_NE(ErrorOf(bytes + "x").find("found 25"), std::string::npos);
}

TEST(NpyTest, RefusesWhatItCannotRead) {
  std::string bytes = NpyBytes<float>({1.0f});
  std::string fortran = bytes;
  fortran.replace(fortran.find("False"), 5, "True ");
  EXPECT_NE(ErrorOf(fortran).find("Fortran"), std::string::npos);
  std::string big_endian = bytes;
  big_endian.replace(big_endian.find("<f4"), 3, ">f4");
  EXPECT_NE(ErrorOf(big_endian).find(">f4"), std::string::npos);
  std::string negative = bytes;
  negative.replace(negative.find("(1,)"), 4, "(-1)");
  EXPECT_NE(ErrorOf(negative).find("bad shape"), std::string::npos);
  EXPECT_NE(ErrorOf("PK\x03\x04 an archive").find("\\x93NUMPY"), std::string::npos);
}

TEST(NpyTest, AHugeShapeDoesNotOverflow) {
  std::string bytes = NpyBytes<float>({1.0f});
  bytes.replace(bytes.find("(1,), }"), 7 + 40, "(4611686018427387904, 4611686018427387904), }  ");
  EXPECT_NE(ErrorOf(bytes).find("larger than any memory"), std::string::npos);
  // Also where there is no data: the width of an empty table is read too.
  std::string empty = NpyBytes<float>({});
  empty.replace(empty.find("(0,), }"), 7 + 40, "(0, 4611686018427387904), }                    ");
  EXPECT_NE(ErrorOf(empty).find("larger than any memory"), std::string::npos);
}

TEST(NpyTest, CheckArrayNamesExpectedAndFound) {
  const std::string bytes = NpyBytes<float>({1.0f});
  const absl::StatusOr<NpyArray> array = ParseNpy("a.npy", bytes);
  ASSERT_TRUE(array.ok());
  const absl::Status status = CheckArray(*array, DType::kInt32, 2);
  EXPECT_NE(status.message().find("a.npy: expected a int32 array of rank 2, found float32 (1,)"),
            absl::string_view::npos)
      << status;
}

}  // namespace
}  // namespace nann
