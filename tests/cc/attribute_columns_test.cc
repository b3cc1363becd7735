#include "ops/core/filter/attribute_columns.h"

#include <gtest/gtest.h>

#include "attributes.h"

namespace nann {
namespace {

std::string ErrorOf(const std::vector<AttributeBytes>& attributes, int64_t num_rows) {
  const auto loaded = LoadAttributes(attributes, num_rows);
  EXPECT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(loaded.status().message());
}

TEST(AttributeColumnsTest, FindsNamesInAnyCase) {
  const auto loaded = LoadAttributes({MakeAttribute<int64_t>("Price", {1, 2})}, 2);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_NE(loaded->columns.Find("pRICE"), nullptr);
  EXPECT_EQ(loaded->columns.Find("pRICE")->int64s[1], 2);
  EXPECT_EQ(loaded->columns.Find("prices"), nullptr);
}

TEST(AttributeColumnsTest, RefusesTheSameNameTwice) {
  const auto column = [](const char* name) { return MakeAttribute<int64_t>(name, {1}); };
  EXPECT_NE(ErrorOf({column("price"), column("PRICE")}, 1).find("found \"PRICE\" twice"), std::string::npos);
}

TEST(AttributeColumnsTest, TypesHaveNames) {
  for (const char* name : {"int64", "float32", "bool", "string", "list<int64>", "list<string>"}) {
    const auto type = AttributeType::Parse(name);
    ASSERT_TRUE(type.ok()) << name;
    EXPECT_EQ(type->ToString(), name);
  }
  EXPECT_FALSE(AttributeType::Parse("list<list<int64>>").ok());
}

TEST(AttributeColumnsTest, RefusesDamagedArrays) {
  const AttributeBytes ids = MakeListAttribute<int64_t>("ids", {Rows<int64_t>{1, 2}, Rows<int64_t>{3}});
  const AttributeBytes brand = MakeAttribute<std::string>("brand", {"a", "b"});
  const auto with = [](AttributeBytes bytes, const std::string& part, const std::string& file) {
    bytes.files[part] = file;
    return bytes;
  };
  EXPECT_NE(ErrorOf({MakeAttribute<int64_t>("a", {1, 2})}, 3).find("a.values.npy: expected 3 values"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(ids, "offsets", NpyBytes<int64_t>({0, 4, 3}))}, 2).find("never decrease"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(ids, "offsets", NpyBytes<int64_t>({0, 2, 4}))}, 2).find("offsets from 0 to 3"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(ids, "valid", NpyBytes<uint64_t>({1, 2}))}, 2).find("expected 1 values"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(brand, "values", NpyBytes<int32_t>({0, 2}))}, 2).find("codes in [0, 2)"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(brand, "values", NpyBytes<int32_t>({0, -1}))}, 2).find("found -1 at index 1"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(brand, "dictionary", NpyBytes<uint8_t>({'b', 'a'}))}, 2).find("ascending order"),
            std::string::npos);
  EXPECT_NE(ErrorOf({with(brand, "values", NpyBytes<int64_t>({0, 1}))}, 2).find("expected a int32 array"),
            std::string::npos);
  AttributeBytes flags = MakeAttribute<bool>("flags", {true, false});
  flags.files["values"].back() = 2;
  EXPECT_NE(ErrorOf({flags}, 2).find("bytes of 0 or 1, found 2 at index 1"), std::string::npos);
  AttributeBytes missing = brand;
  missing.files.erase("dictionary");
  EXPECT_NE(ErrorOf({missing}, 2).find("attribute brand: expected an array of strings"), std::string::npos);
}

}  // namespace
}  // namespace nann
