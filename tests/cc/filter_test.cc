// The language of filters: what its conditions are for which rows, and its errors.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attributes.h"
#include "ops/core/filter/filter_cache.h"
#include "ops/core/filter/filter_compiler.h"
#include "ops/core/filter/filter_parser.h"

namespace nann {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Row 2 is NULL in all attributes.
LoadedAttributes SixRows() {
  using Strings = Rows<std::string>;
  const auto loaded = LoadAttributes(
      {MakeAttribute<int64_t>("category", {1, 2, std::nullopt, 9007199254740993, -1, 0}),
       MakeAttribute<float>("price", {0.1f, kNan, std::nullopt, 19.99f, -kInfinity, -0.0f}),
       MakeAttribute<bool>("sale", {true, false, std::nullopt, true, true, false}),
       MakeAttribute<std::string>("brand", {"a", "ab", std::nullopt, "B", "", "zz"}),
       MakeListAttribute<int64_t>("ids", {Rows<int64_t>{1, 2}, Rows<int64_t>{1, std::nullopt}, std::nullopt,
                                          Rows<int64_t>{}, Rows<int64_t>{5}, Rows<int64_t>{0}}),
       MakeListAttribute<float>("sizes", {Rows<float>{0.1f, kNan}, Rows<float>{}, std::nullopt,
                                          Rows<float>{std::nullopt}, Rows<float>{1.5f}, Rows<float>{-0.0f}}),
       MakeListAttribute<std::string>("tags", {Strings{"x"}, Strings{"y", std::nullopt}, std::nullopt,
                                               Strings{}, Strings{""}, Strings{"zz"}})},
      6);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return std::move(const_cast<absl::StatusOr<LoadedAttributes>&>(loaded)).value();
}

class FilterTest : public testing::Test {
 protected:
  std::vector<int32_t> Passing(const std::string& text) {
    const auto filter = cache_.Get(text);
    EXPECT_TRUE(filter.ok()) << text << ": " << filter.status();
    if (!filter.ok()) return {-1};
    return PassingRows(**filter);
  }

  std::string ErrorOf(const std::string& text) {
    const auto filter = cache_.Get(text);
    EXPECT_FALSE(filter.ok()) << text;
    EXPECT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(filter.status().message());
  }

  void ExpectError(const std::string& text, const std::string& part) {
    EXPECT_NE(ErrorOf(text).find(part), std::string::npos) << text << ": " << ErrorOf(text);
  }

  LoadedAttributes attributes_ = SixRows();
  FilterCache cache_{&attributes_.columns};
};

using Ints = std::vector<int32_t>;

// The expected rows are those of DuckDB 2.0.1 for the same table.
TEST_F(FilterTest, ComparesNumbers) {
  EXPECT_EQ(Passing("category = 1"), (Ints{0}));
  EXPECT_EQ(Passing("category != 1"), (Ints{1, 3, 4, 5}));
  EXPECT_EQ(Passing("category <> 1"), (Ints{1, 3, 4, 5}));
  EXPECT_EQ(Passing("0 < category"), (Ints{0, 1, 3}));
  EXPECT_EQ(Passing("category < 1.5"), (Ints{0, 4, 5}));
  EXPECT_EQ(Passing("category = 9007199254740992.0"), (Ints{}));
  EXPECT_EQ(Passing("category = 9007199254740993e0"), (Ints{3}));
  EXPECT_EQ(Passing("category = 9007199254740993.5"), (Ints{}));
  EXPECT_EQ(Passing("category > 9223372036854775808"), (Ints{}));
  EXPECT_EQ(Passing("category > -9223372036854775809"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("category < 99999999999999999999999999999999999999999999"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("category = - 1"), (Ints{4}));
  EXPECT_EQ(Passing("category == +1"), (Ints{0}));
}

TEST_F(FilterTest, ComparesFloatsAsTheLiteralsTypeSays) {
  EXPECT_EQ(Passing("price = 0.1"), (Ints{0}));
  EXPECT_EQ(Passing("price = 1e-1"), (Ints{}));
  EXPECT_EQ(Passing("price = 0.10000000149011612"), (Ints{0}));
  EXPECT_EQ(Passing("price = 19.99"), (Ints{3}));
  EXPECT_EQ(Passing("price IN (0.1, 5)"), (Ints{0}));
  EXPECT_EQ(Passing("price IN (0.1, 5e0)"), (Ints{}));
  EXPECT_EQ(Passing("price BETWEEN 0 AND 1e1"), (Ints{0, 5}));
  EXPECT_EQ(Passing("price = 0"), (Ints{5}));
  EXPECT_EQ(Passing("price < 0"), (Ints{4}));
  EXPECT_EQ(Passing("price >= -0.0"), (Ints{0, 1, 3, 5}));
  EXPECT_EQ(Passing("price > 1e38"), (Ints{1}));
  EXPECT_EQ(Passing("price > 1e300"), (Ints{1}));
  EXPECT_EQ(Passing("price < -1e300"), (Ints{4}));
}

TEST_F(FilterTest, NumbersMayHaveMoreDigitsThanADecimal) {
  const std::string zeros(45, '0');
  for (const std::string sign : {"", "-"}) {
    EXPECT_EQ(Passing(sign + zeros + "1 = category"), sign.empty() ? (Ints{0}) : (Ints{4}));
    EXPECT_EQ(Passing("price < " + sign + zeros + "19"), sign.empty() ? (Ints{0, 4, 5}) : (Ints{4}));
  }
  const auto large = LoadAttributes({MakeAttribute<float>("x", {1e37f, 1e38f, 3e38f, kInfinity, -3e38f})}, 5);
  ASSERT_TRUE(large.ok()) << large.status();
  FilterCache cache(&large->columns);
  const auto passing = [&](const std::string& text) { return PassingRows(**cache.Get(text)); };
  EXPECT_EQ(passing("x = 1" + std::string(38, '0')), (Ints{1}));
  EXPECT_EQ(passing("x < 1" + std::string(38, '0')), (Ints{0, 4}));
  EXPECT_EQ(passing("x = 3" + std::string(38, '0')), (Ints{2}));
  EXPECT_EQ(passing("x >= 3" + std::string(38, '0')), (Ints{2, 3}));
  EXPECT_EQ(passing("x < 1" + zeros), (Ints{0, 1, 2, 4}));
  EXPECT_EQ(passing("x > -1" + zeros), (Ints{0, 1, 2, 3, 4}));
}

TEST_F(FilterTest, NanIsEqualToItselfAndTheGreatest) {
  EXPECT_EQ(Passing("price > 5"), (Ints{1, 3}));
  EXPECT_EQ(Passing("NOT price <= 5"), (Ints{1, 3}));
  EXPECT_EQ(Passing("price != 1"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("price = price"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("price < price"), (Ints{}));
  EXPECT_EQ(Passing("price NOT BETWEEN 0 AND 1"), (Ints{1, 3, 4}));
}

TEST_F(FilterTest, ComparesAttributes) {
  EXPECT_EQ(Passing("category = price"), (Ints{5}));
  EXPECT_EQ(Passing("category < price"), (Ints{1}));
  EXPECT_EQ(Passing("price < category"), (Ints{0, 3, 4}));
  EXPECT_EQ(Passing("category IN (1, price)"), (Ints{0, 5}));
  EXPECT_EQ(Passing("3 IN (category, 1)"), (Ints{}));
  EXPECT_EQ(Passing("1 BETWEEN category AND 5"), (Ints{0, 4, 5}));
}

TEST_F(FilterTest, NullIsNeitherTrueNorFalse) {
  EXPECT_EQ(Passing("category = NULL"), (Ints{}));
  EXPECT_EQ(Passing("NOT category = NULL"), (Ints{}));
  EXPECT_EQ(Passing("category IS NULL"), (Ints{2}));
  EXPECT_EQ(Passing("NOT category IS NULL"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("category IS NOT NULL"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("(category = 1) IS NULL"), (Ints{2}));
  EXPECT_EQ(Passing("category = 1 IS NULL"), (Ints{2}));
  EXPECT_EQ(Passing("NULL IS NULL"), (Ints{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Passing("category NOT IN (1, NULL)"), (Ints{}));
  EXPECT_EQ(Passing("category IN (1, NULL)"), (Ints{0}));
  EXPECT_EQ(Passing("1 IN (1, NULL)"), (Ints{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Passing("category NOT IN ()"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("NOT category BETWEEN 3 AND NULL"), (Ints{0, 1, 4, 5}));
  EXPECT_EQ(Passing("category = NULL OR sale"), (Ints{0, 3, 4}));
  EXPECT_EQ(Passing("NULL"), (Ints{}));
  EXPECT_EQ(Passing("TRUE"), (Ints{0, 1, 2, 3, 4, 5}));
}

TEST_F(FilterTest, ComparesBools) {
  EXPECT_EQ(Passing("sale"), (Ints{0, 3, 4}));
  EXPECT_EQ(Passing("NOT sale"), (Ints{1, 5}));
  EXPECT_EQ(Passing("sale < TRUE"), (Ints{1, 5}));
  EXPECT_EQ(Passing("sale >= FALSE"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("sale IN (TRUE)"), (Ints{0, 3, 4}));
}

TEST_F(FilterTest, ComparesStringsByTheirBytes) {
  EXPECT_EQ(Passing("brand = 'a'"), (Ints{0}));
  EXPECT_EQ(Passing("brand < 'a'"), (Ints{3, 4}));
  EXPECT_EQ(Passing("brand >= 'ab'"), (Ints{1, 5}));
  EXPECT_EQ(Passing("brand > 'aa'"), (Ints{1, 5}));
  EXPECT_EQ(Passing("brand BETWEEN 'a' AND 'b'"), (Ints{0, 1}));
  EXPECT_EQ(Passing("brand IN ('zz', 'B', 'none')"), (Ints{3, 5}));
  EXPECT_EQ(Passing("brand IN ('1', 'a', 'ab', 'B', '', 'zz', 'none')"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("brand LIKE 'a%'"), (Ints{0, 1}));
  EXPECT_EQ(Passing("brand NOT LIKE 'a%'"), (Ints{3, 4, 5}));
  EXPECT_EQ(Passing("brand LIKE 'a'"), (Ints{0}));
  EXPECT_EQ(Passing("brand LIKE '%'"), (Ints{0, 1, 3, 4, 5}));
  EXPECT_EQ(Passing("brand = ''"), (Ints{4}));
  EXPECT_EQ(Passing("brand = 'it''s'"), (Ints{}));
}

TEST_F(FilterTest, AnyElementOfAList) {
  EXPECT_EQ(Passing("1 = ANY(ids)"), (Ints{0, 1}));
  EXPECT_EQ(Passing("NOT 1 = ANY(ids)"), (Ints{2, 3, 4, 5}));
  EXPECT_EQ(Passing("NOT 7 = ANY(ids)"), (Ints{0, 2, 3, 4, 5}));
  EXPECT_EQ(Passing("(7 = ANY(ids)) IS NULL"), (Ints{1}));
  EXPECT_EQ(Passing("category = ANY(ids)"), (Ints{0, 5}));
  EXPECT_EQ(Passing("NOT category = ANY(ids)"), (Ints{2, 3, 4}));
  EXPECT_EQ(Passing("(NULL = ANY(ids)) IS NULL"), (Ints{0, 1, 4, 5}));
  EXPECT_EQ(Passing("0.1 = ANY(sizes)"), (Ints{0}));
  EXPECT_EQ(Passing("1e-1 = ANY(sizes)"), (Ints{}));
  EXPECT_EQ(Passing("0 = ANY(sizes)"), (Ints{5}));
  EXPECT_EQ(Passing("'x' = ANY (tags)"), (Ints{0}));
  EXPECT_EQ(Passing("NOT 'x' = ANY(tags)"), (Ints{2, 3, 4, 5}));
  EXPECT_EQ(Passing("brand = ANY(tags)"), (Ints{4, 5}));
  EXPECT_EQ(Passing("ids IS NULL"), (Ints{2}));
}

TEST_F(FilterTest, OperatorsBindAsInSql) {
  EXPECT_EQ(Passing("category = 1 OR category = 2 AND sale"), (Ints{0}));
  EXPECT_EQ(Passing("(category = 1 OR category = 2) AND NOT sale"), (Ints{1}));
  EXPECT_EQ(Passing("NOT category = 1 AND sale"), (Ints{3, 4}));
  EXPECT_EQ(Passing("not not SALE"), (Ints{0, 3, 4}));
  EXPECT_EQ(Passing("(category) IN ((1), (2))"), (Ints{0, 1}));
  EXPECT_EQ(Passing("\"Category\"=1 and\n\tcategory between 0 and 5 and sale"), (Ints{0}));
  EXPECT_EQ(Passing(" "), (Ints{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Passing("1 = 1.0 AND 0.30 = 0.3 AND 2 > 1.5 AND -2 < -1.5 AND 'a' < 'b'"),
            (Ints{0, 1, 2, 3, 4, 5}));
}

TEST_F(FilterTest, ErrorsNameTheColumn) {
  ExpectError("categry = 1", "filter, column 1: expected one of the attributes of the export (category, ");
  ExpectError("sale AND categry = 1", "column 10: ");
  ExpectError("categry = 1", "found \"categry\"; did you mean category?");
  ExpectError("nothing = 1", "found \"nothing\"");
  ExpectError("brand = 'é' AND price = 'x'",
              "column 25: expected a number to compare with price (float32), "
              "found the string 'x'");
  ExpectError("brand = 3", "column 9: expected a string in single quotes to compare with brand (string)");
  ExpectError("sale = 1", "expected TRUE or FALSE to compare with sale (bool), found the number 1");
  ExpectError("category", "column 1: expected a condition such as price <= 20, found category (int64) alone");
  ExpectError("ids = 1",
              "column 1: expected a single value, found ids (list<int64>); write value = ANY(ids)");
  ExpectError("1 = ANY(category)", "column 9: expected an attribute that is a list in ANY");
  ExpectError("1 <> ANY(ids)", "column 6: expected = before ANY, found <>");
  ExpectError("'a' = ANY(ids)",
              "column 11: expected a string in single quotes to compare with the string 'a'");
  ExpectError("brand LIKE '%a'", "column 12: expected a pattern with % at its end only");
  ExpectError("brand LIKE 'a_%'", "expected a pattern with % at its end only and without _");
  ExpectError("category LIKE 'a%'", "column 1: expected a string before LIKE");
  ExpectError("brand LIKE brand", "column 12: expected a pattern such as 'abc%'");
  ExpectError("category =", "column 11: expected an attribute, a literal or (, found the end");
  ExpectError("category = 1 sale", "column 14: expected AND, OR or the end, found sale");
  ExpectError("category = 1 = 2", "column 14: expected AND, OR or the end, found =");
  ExpectError("category IS 1", "column 13: expected NULL, found 1");
  ExpectError("category IN 1", "column 13: expected (, found 1");
  ExpectError("category IN (1, )", "column 17: expected an attribute, a literal or (, found )");
  ExpectError("category NOT 1", "column 14: expected IN, BETWEEN or LIKE after NOT");
  ExpectError("brand = 'a", "column 9: expected a closing ', found the end");
  ExpectError("in = 1",
              "column 1: expected an attribute, a literal or (, found in; put an attribute of this");
  ExpectError("category = 1; drop", "column 13: expected an attribute, a literal or an operator, found ;");
  ExpectError("category = 1 -- x", "column 14: expected no comment");
  ExpectError("category = 1e", "column 12: expected digits after the e");
  ExpectError("category = 3x", "column 12: expected a number");
  ExpectError("category = 1e999", "column 12: expected a number within the range of float64");
  ExpectError("sale = (category = 1)", "column 9: expected an attribute or a literal to compare");
  ExpectError("brand = '\xff'", "expected UTF-8");
}

TEST_F(FilterTest, TextsAreBounded) {
  std::string deep(kMaxFilterDepth + 1, '(');
  ExpectError(deep + "sale" + std::string(deep.size(), ')'), "expected at most 64 nested parentheses");
  deep.pop_back();
  EXPECT_EQ(Passing(deep + "sale" + std::string(deep.size(), ')')), (Ints{0, 3, 4}));
  std::string nots;
  for (int i = 0; i < 5000; ++i) nots += "NOT ";
  EXPECT_EQ(Passing(nots + "sale"), (Ints{0, 3, 4}));
  std::string values = "category IN (0";
  for (int i = 0; i < 10'000; ++i) absl::StrAppend(&values, ",", i);
  EXPECT_EQ(Passing(values + ")"), (Ints{0, 1, 5}));
  for (int i = 0; i < kMaxFilterNodes; ++i) values += ",1";
  ExpectError(values + ")", "expected at most ");
  ExpectError(std::string(kMaxFilterBytes, ' ') + "x", "expected at most 65536 bytes");
}

TEST_F(FilterTest, LongChainsDoNotNest) {
  std::string chain = "category = -5";
  while (chain.size() < kMaxFilterBytes - 100) chain += " OR category = 1";
  EXPECT_EQ(Passing(chain), (Ints{0}));
}

TEST_F(FilterTest, FloatsAreComparedAlikeWhereDenormalsCountAsZero) {
  const float denormal = std::numeric_limits<float>::denorm_min();
  const auto tiny =
      LoadAttributes({MakeAttribute<float>("x", {0.0f, -0.0f, denormal, -denormal, 1.0f, kNan, -kNan})}, 7);
  ASSERT_TRUE(tiny.ok()) << tiny.status();
  FilterCache cache(&tiny->columns);
  const auto passing = [&](const char* text) { return PassingRows(**cache.Get(text)); };
  EXPECT_EQ(passing("x = 0"), (Ints{0, 1}));
  EXPECT_EQ(passing("x < 0"), (Ints{3}));
  EXPECT_EQ(passing("x > 0"), (Ints{2, 4, 5, 6}));
  EXPECT_EQ(passing("x >= 0"), (Ints{0, 1, 2, 4, 5, 6}));
  EXPECT_EQ(passing("x IN (0, 1, 2, 3, 4, 5)"), (Ints{0, 1, 4}));
}

}  // namespace
}  // namespace nann
