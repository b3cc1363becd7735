#include "ops/core/filter/filter_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "attributes.h"
#include "ops/core/filter/filter_parser.h"
#include "ops/core/filter/match_kernels.h"

namespace nann {
namespace {

constexpr int64_t kRows = 100'037;  // More than a sample, and no whole word.

LoadedAttributes ManyRows() {
  std::mt19937 random(3);
  Rows<int64_t> category;
  Rows<float> price;
  Lists<std::string> tags;
  const std::string words[] = {"new", "sale", "red"};
  for (int64_t i = 0; i < kRows; ++i) {
    category.push_back(random() % 20 == 0 ? std::nullopt : std::optional<int64_t>(random() % 100));
    price.push_back(static_cast<float>(random() % 1000) / 10.0f);
    Rows<std::string> row;
    for (size_t n = random() % 4; n > 0; --n) row.push_back(words[random() % 3]);
    tags.push_back(row);
  }
  absl::StatusOr<LoadedAttributes> loaded = LoadAttributes(
      {MakeAttribute("category", category), MakeAttribute("price", price), MakeListAttribute("tags", tags)},
      kRows);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return *std::move(loaded);
}

class FilterCacheTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { attributes_ = new LoadedAttributes(ManyRows()); }
  static void TearDownTestSuite() { delete attributes_; }
  static LoadedAttributes* attributes_;
};
LoadedAttributes* FilterCacheTest::attributes_ = nullptr;

const char* const kTexts[] = {"category = 7",
                              "category IN (3, 7) AND price <= 80",
                              "category IN (1, 2, 3, 4, 5, 6, 7) OR category IS NULL",
                              "'sale' = ANY(tags) AND NOT 'red' = ANY(tags)",
                              "NOT (price > 10 AND category < 50)",
                              "price BETWEEN 0.5 AND 99",
                              "tags IS NOT NULL"};

TEST_F(FilterCacheTest, SampledFiltersTestTheSameRowsAsBitmaps) {
  FilterCacheOptions never;
  never.many_passing = kRows + 1;
  FilterCacheOptions always;
  always.many_passing = 1;
  always.least_share = 0;
  FilterCache bitmaps(&attributes_->columns, never), sampled(&attributes_->columns, always);
  for (const char* text : kTexts) {
    const auto with = bitmaps.Get(text), without = sampled.Get(text);
    ASSERT_TRUE(with.ok() && without.ok()) << text;
    EXPECT_EQ((*with)->bitmap().size(), (kRows + 63) / 64) << text;
    EXPECT_TRUE((*without)->bitmap().empty()) << text;
    EXPECT_EQ((*without)->passing(), -1) << text;
    const std::vector<int32_t> rows = PassingRows(**with);
    EXPECT_EQ(rows, PassingRows(**without)) << text;
    EXPECT_EQ((*with)->passing(), static_cast<int64_t>(rows.size())) << text;
    // Five standard deviations of the sample's share.
    EXPECT_NEAR((*without)->share(), (*with)->share(), 0.04) << text;
  }
}

TEST_F(FilterCacheTest, FewPassingRowsAreCounted) {
  FilterCache cache(&attributes_->columns);
  const auto few = cache.Get("category = 7"), many = cache.Get("price < 90"), all = cache.Get("");
  ASSERT_TRUE(few.ok() && many.ok() && all.ok());
  EXPECT_FALSE((*few)->bitmap().empty());
  EXPECT_TRUE((*many)->bitmap().empty());
  EXPECT_EQ((*all)->passing(), kRows);
  EXPECT_TRUE((*all)->Passes(kRows - 1));
}

TEST_F(FilterCacheTest, RowsAreCountedWhereASearchWouldLookAtAllOfThem) {
  FilterCacheOptions options;
  options.many_passing = 5'000;
  FilterCache cache(&attributes_->columns, options);
  const auto tenth = cache.Get("price < 10"), fifth = cache.Get("price < 20");
  ASSERT_TRUE(tenth.ok() && fifth.ok());
  EXPECT_FALSE((*tenth)->bitmap().empty());
  EXPECT_TRUE((*fifth)->bitmap().empty());
}

TEST_F(FilterCacheTest, RowsOfAWordAreThoseThatPass) {
  FilterCacheOptions always;
  always.many_passing = 1;
  FilterCache bitmaps(&attributes_->columns), sampled(&attributes_->columns, always);
  for (const char* text : {"", "price < 60"}) {
    const auto filter = sampled.Get(text);
    ASSERT_TRUE(filter.ok());
    ASSERT_TRUE((*filter)->bitmap().empty());
    for (int64_t row = 0; row < (kRows + 63) / 64 * 64; ++row) {
      const bool passes = row < kRows && (*filter)->Passes(static_cast<int32_t>(row));
      ASSERT_EQ((*filter)->PassesOf(row / 64) >> (row % 64) & 1, passes) << text << row;
    }
  }
}

// 64 KB of comparisons of two columns: seconds for a million rows, if nothing stopped it.
std::string ManyComparisons() {
  std::string text = "price < category";
  while (text.size() < kMaxFilterBytes - 100) text += " OR price < category";
  return text;
}

TEST_F(FilterCacheTest, AFilterThatCostsTooMuchIsRefused) {
  FilterCacheOptions options;
  options.most_cost = 1e6;
  FilterCache cache(&attributes_->columns, options);
  const auto filter = cache.Get(ManyComparisons());
  EXPECT_EQ(filter.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(filter.status().message(),
                                "filter, column 1: expected conditions that cost at most 639"))
      << filter.status();
  EXPECT_TRUE(cache.Get("price < category").ok());
}

TEST_F(FilterCacheTest, AFilterThatCostsMuchPerRowHasABitmap) {
  FilterCache cache(&attributes_->columns);
  std::string text = "price < 90";
  EXPECT_TRUE((*cache.Get(text))->bitmap().empty());
  for (int i = 0; i < 100; ++i) text += " OR price < 90";
  EXPECT_FALSE((*cache.Get(text))->bitmap().empty());
}

TEST_F(FilterCacheTest, StopsWhereTheRequestIsCancelled) {
  FilterCache cache(&attributes_->columns);
  int looks = 0;
  const auto filter = cache.Get(ManyComparisons(), nullptr, [&looks] { return ++looks == 3; });
  EXPECT_EQ(filter.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(looks, 3);
  EXPECT_EQ(cache.bytes(), 0);
}

TEST_F(FilterCacheTest, KeepsTheLatestUpToItsBound) {
  FilterCacheOptions options;
  options.max_bytes = 3 * (kRows / 8 + 2000);
  options.many_passing = kRows + 1;
  FilterCache cache(&attributes_->columns, options);
  bool cached;
  for (const char* text : {"category = 1", "category = 2", "category = 3"}) {
    ASSERT_TRUE(cache.Get(text, &cached).ok());
    EXPECT_FALSE(cached);
  }
  ASSERT_TRUE(cache.Get("category = 1", &cached).ok());
  EXPECT_TRUE(cached);
  ASSERT_TRUE(cache.Get("category = 4", &cached).ok());
  EXPECT_LE(cache.bytes(), options.max_bytes);
  ASSERT_TRUE(cache.Get("category = 1", &cached).ok());
  EXPECT_TRUE(cached);
  ASSERT_TRUE(cache.Get("category = 2", &cached).ok());
  EXPECT_FALSE(cached);
}

TEST_F(FilterCacheTest, AFilterBeyondTheBoundIsNotKept) {
  FilterCacheOptions options;
  options.max_bytes = 100;
  FilterCache cache(&attributes_->columns, options);
  bool cached;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(cache.Get("category = 1", &cached).ok());
    EXPECT_FALSE(cached);
  }
  EXPECT_EQ(cache.bytes(), 0);
}

TEST_F(FilterCacheTest, ManyThreadsAndFiltersStayWithinTheBound) {
  constexpr int kThreads = 32, kFilters = 100;
  FilterCacheOptions options;
  options.max_bytes = 20 * (kRows / 8 + 2000);  // Room for a fifth of them.
  FilterCache cache(&attributes_->columns, options);
  std::vector<std::string> texts;
  std::vector<int64_t> passing;
  for (int i = 0; i < kFilters; ++i) {
    texts.push_back(absl::StrCat("category = ", i));
    FilterCache alone(&attributes_->columns);
    passing.push_back((*alone.Get(texts.back()))->passing());
  }
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int n = 0; n < kFilters; ++n) {
        const int i = (n * 7 + t * 13) % kFilters;
        const auto filter = cache.Get(texts[i]);
        if (!filter.ok() || (*filter)->passing() != passing[i]) ++wrong;
        if (cache.bytes() > options.max_bytes) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

template <typename T>
void ExpectSameMatches(uint64_t (*MatchKernels::*function)(const T*, const Interval<T>&),
                       const std::vector<T>& values, const Interval<T>& interval) {
  for (const MatchKernels* kernels : SupportedMatchKernels()) {
    const uint64_t word = (kernels->*function)(values.data(), interval);
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(word >> i & 1, Matches(values[i], interval)) << kernels->name << " value " << i;
    }
  }
}

TEST(MatchKernelsTest, AllInstructionSetsAgree) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<int64_t> int64s(64);
    std::vector<int32_t> int32s(64);
    std::vector<float> floats(64);
    std::vector<uint8_t> bools(64);
    for (int i = 0; i < 64; ++i) {
      int64s[i] = round % 2 == 0 ? static_cast<int64_t>(random() % 9) - 4 : static_cast<int64_t>(random());
      int32s[i] = round % 2 == 0 ? static_cast<int32_t>(random() % 9) - 4 : static_cast<int32_t>(random());
      const uint32_t bits = static_cast<uint32_t>(random());  // Also NaN, infinities and denormals.
      std::memcpy(&floats[i], &bits, sizeof(bits));
      if (i % 8 == 0) floats[i] = -0.0f;
      bools[i] = random() % 2;
    }
    const auto order = [&] { return OrderOfFloat(floats[random() % 64]); };
    ExpectSameMatches<int64_t>(&MatchKernels::int64s, int64s, {int64s[1], int64s[2]});
    ExpectSameMatches<int32_t>(&MatchKernels::int32s, int32s, {int32s[1], int32s[2]});
    ExpectSameMatches<float>(&MatchKernels::floats, floats, {order(), order(), round % 3 == 0});
    const uint8_t lo = random() % 2, hi = random() % 2;
    ExpectSameMatches<uint8_t>(&MatchKernels::bytes, bools, {lo, hi});
  }
}

}  // namespace
}  // namespace nann
