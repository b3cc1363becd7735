#include "ops/core/live/overlay_attributes.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "attributes.h"
#include "live_graph.h"

namespace nann {
namespace {

constexpr int32_t kBase = 150, kRoom = 500;
const char* const kWords[] = {"", "acme", "bolt", "red", "sale", "zinc"};

// Rows of every kind of attribute. Strings beyond the first words come with time, as new brands do.
struct Items {
  Rows<int64_t> stock;
  Rows<float> price;
  Rows<bool> fresh;
  Rows<std::string> brand;
  Lists<std::string> tags;
  Lists<int64_t> sizes;

  void Add(std::mt19937* random) {
    const auto draw = [&](uint32_t n) { return (*random)() % n; };
    const auto known = [&] { return draw(5) > 0; };
    const auto word = [&]() -> std::string {
      return draw(4) == 0 ? absl::StrCat("word ", stock.size() / 20) : kWords[draw(6)];
    };
    stock.push_back(known() ? std::optional<int64_t>(draw(20)) : std::nullopt);
    price.push_back(known() ? std::optional<float>(static_cast<float>(draw(100))) : std::nullopt);
    fresh.push_back(known() ? std::optional<bool>(draw(2)) : std::nullopt);
    brand.push_back(known() ? std::optional<std::string>(word()) : std::nullopt);
    tags.push_back(std::nullopt);
    sizes.push_back(std::nullopt);
    if (!known()) return;
    tags.back().emplace();
    sizes.back().emplace();
    for (uint32_t n = draw(4); n > 0; --n) {
      tags.back()->push_back(word());
      sizes.back()->push_back(draw(9));
    }
  }

  std::vector<AttributeBytes> Files() const {
    return {MakeAttribute("stock", stock),   MakeAttribute("price", price),
            MakeAttribute("fresh", fresh),   MakeAttribute("brand", brand),
            MakeListAttribute("tags", tags), MakeListAttribute("sizes", sizes)};
  }
};

const std::vector<SegmentSchema::Attribute> kSchema = {
    {"stock", {ValueType::kInt64}},       {"price", {ValueType::kFloat32}},
    {"fresh", {ValueType::kBool}},        {"brand", {ValueType::kString}},
    {"tags", {ValueType::kString, true}}, {"sizes", {ValueType::kInt64, true}}};

const char* const kTexts[] = {"stock IN (3, 7, 11) OR stock IS NULL",
                              "price BETWEEN 20 AND 60 AND fresh",
                              "NOT fresh AND brand < 'red'",
                              "brand LIKE 'word%'",
                              "brand = 'word 9' OR brand = ''",
                              "brand IN ('acme', 'word 12', 'nobody')",
                              "'sale' = ANY(tags) OR 'word 11' = ANY(tags)",
                              "NOT 5 = ANY(sizes)",
                              "brand = ANY(tags)",
                              "stock < price",
                              "tags IS NULL"};

// The column of one attribute of the items from `begin` on.
template <typename T, typename Stored>
void AddColumn(const Rows<T>& rows, size_t begin, const std::string& name, SegmentBuilder* segment) {
  std::vector<Stored> values;
  std::vector<uint8_t> nulls;
  for (size_t i = begin; i < rows.size(); ++i) {
    values.push_back(static_cast<Stored>(rows[i].value_or(T())));
    nulls.push_back(!rows[i].has_value());
  }
  segment->Column("attribute/" + name + "/values", values).Column("attribute/" + name + "/nulls", nulls);
}

void AddStrings(const std::vector<std::string>& strings, const std::string& name, SegmentBuilder* segment) {
  std::vector<uint8_t> text;
  std::vector<int64_t> splits = {0};
  for (const std::string& each : strings) {
    text.insert(text.end(), each.begin(), each.end());
    splits.push_back(static_cast<int64_t>(text.size()));
  }
  segment->Column("attribute/" + name + "/values", text);
  segment->Column("attribute/" + name + "/string_splits", splits);
}

// The values of all lists from `begin` on, whose splits and nulls it adds.
template <typename T>
std::vector<T> AddLists(const Lists<T>& lists, size_t begin, const std::string& name,
                        SegmentBuilder* segment) {
  std::vector<T> values;
  std::vector<int64_t> splits = {0};
  std::vector<uint8_t> nulls;
  for (size_t i = begin; i < lists.size(); ++i) {
    for (const auto& value : lists[i].value_or(Rows<T>())) values.push_back(*value);
    splits.push_back(static_cast<int64_t>(values.size()));
    nulls.push_back(!lists[i].has_value());
  }
  segment->Column("attribute/" + name + "/row_splits", splits);
  segment->Column("attribute/" + name + "/nulls", nulls);
  return values;
}

void AddAttributes(const Items& items, size_t begin, SegmentBuilder* segment) {
  AddColumn<int64_t, int64_t>(items.stock, begin, "stock", segment);
  AddColumn<float, float>(items.price, begin, "price", segment);
  AddColumn<bool, uint8_t>(items.fresh, begin, "fresh", segment);
  std::vector<std::string> brands;
  std::vector<uint8_t> nulls;
  for (size_t i = begin; i < items.brand.size(); ++i) {
    brands.push_back(items.brand[i].value_or(""));
    nulls.push_back(!items.brand[i].has_value());
  }
  AddStrings(brands, "brand", segment);
  segment->Column("attribute/brand/nulls", nulls);
  AddStrings(AddLists(items.tags, begin, "tags", segment), "tags", segment);
  segment->Column("attribute/sizes/values", AddLists(items.sizes, begin, "sizes", segment));
}

// A segment of `count` new items behind those that there are; it deletes `deleted`.
SegmentBuilder NextSegment(uint32_t number, int count, const std::vector<int32_t>& deleted, Items* items,
                           std::mt19937* random) {
  const int32_t before = static_cast<int32_t>(items->stock.size());
  SegmentBuilder segment(number, number - 1, before);
  std::vector<int64_t> ids;
  std::vector<float> numbers(count);
  std::map<int32_t, std::vector<int32_t>> lists;
  for (int i = 0; i < count; ++i) {
    ids.push_back(1'000'000 + before + i);
    lists[before + i] = {};
    items->Add(random);
  }
  segment.Ids(ids).Column("deleted", deleted);
  if (count == 0) return segment;
  segment.Column("table/numbers", numbers).Links(0, lists);
  AddAttributes(*items, before, &segment);
  return segment;
}

std::vector<int32_t> Live(const std::vector<int32_t>& rows, const Graph& graph) {
  std::vector<int32_t> live;
  for (int32_t row : rows) {
    if (!graph.IsDeleted(row)) live.push_back(row);
  }
  return live;
}

// After each segment the filters of the state are those of all items in one file.
TEST(OverlayAttributesTest, FiltersAreThoseOfAllItems) {
  std::mt19937 random(1);
  Items items;
  for (int32_t i = 0; i < kBase; ++i) items.Add(&random);
  const absl::StatusOr<LoadedAttributes> base = LoadAttributes(items.Files(), kBase);
  ASSERT_TRUE(base.ok()) << base.status();
  FilterCache base_filters(&base->columns);
  LiveGraph live(kBase, kRoom, 1, kSchema);
  std::vector<int32_t> to_delete(kBase);
  for (int32_t i = 0; i < kBase; ++i) to_delete[i] = (i * 37) % kBase;
  for (uint32_t number = 1; number <= 24; ++number) {
    std::vector<int32_t> deleted(to_delete.end() - 3, to_delete.end());
    to_delete.resize(to_delete.size() - 3);
    if (number % 5 == 0) deleted = {kBase + static_cast<int32_t>(number)};
    std::sort(deleted.begin(), deleted.end());
    const int count = number % 7 == 0 ? 0 : 1 + static_cast<int>(random() % 30);
    ASSERT_TRUE(live.Apply(NextSegment(number, count, deleted, &items, &random)).ok());
    const Overlay::State state = live.overlay().state();
    const absl::StatusOr<LoadedAttributes> all = LoadAttributes(items.Files(), items.stock.size());
    ASSERT_TRUE(all.ok()) << all.status();
    const std::unique_ptr<FilterCache> filters =
        MakeStateFilters(&base_filters, state.attributes, state.graph);
    FilterCache expected(&all->columns);
    for (const char* text : kTexts) {
      const auto found = filters->Get(text), wanted = expected.Get(text);
      ASSERT_TRUE(found.ok() && wanted.ok()) << text;
      const std::vector<int32_t> rows = Live(PassingRows(**wanted), state.graph);
      EXPECT_EQ(Live(PassingRows(**found), state.graph), rows) << text << " after segment " << number;
      EXPECT_EQ((*found)->passing(), static_cast<int64_t>(rows.size())) << text;
    }
    int64_t before = std::numeric_limits<int64_t>::max();
    for (const auto& chunk : state.attributes) {
      EXPECT_LT(2 * chunk->num_rows(), before);
      before = chunk->num_rows();
    }
  }
}

TEST(OverlayAttributesTest, AnErrorIsThatOfTheBase) {
  std::mt19937 random(1);
  Items items;
  for (int32_t i = 0; i < kBase; ++i) items.Add(&random);
  const absl::StatusOr<LoadedAttributes> base = LoadAttributes(items.Files(), kBase);
  FilterCache base_filters(&base->columns);
  LiveGraph live(kBase, kRoom, 1, kSchema);
  ASSERT_TRUE(live.Apply(NextSegment(1, 9, {}, &items, &random)).ok());
  const Overlay::State state = live.overlay().state();
  const auto filter = MakeStateFilters(&base_filters, state.attributes, state.graph)->Get("prize < 3");
  EXPECT_EQ(filter.status().message(), base_filters.Get("prize < 3").status().message());
}

TEST(OverlayAttributesTest, ManyThatPassAreTestedOneByOne) {
  std::mt19937 random(2);
  constexpr int32_t kMany = 5000;  // More than a sample.
  Items items;
  for (int32_t i = 0; i < kMany; ++i) items.Add(&random);
  const absl::StatusOr<LoadedAttributes> base = LoadAttributes(items.Files(), kMany);
  ASSERT_TRUE(base.ok()) << base.status();
  FilterCacheOptions options;
  options.many_passing = 100;
  FilterCache base_filters(&base->columns, options);
  LiveGraph live(kMany, kRoom, 1, kSchema);
  ASSERT_TRUE(live.Apply(NextSegment(1, 100, {4, 7}, &items, &random)).ok());
  const Overlay::State state = live.overlay().state();
  const absl::StatusOr<LoadedAttributes> all = LoadAttributes(items.Files(), items.stock.size());
  FilterCache expected(&all->columns);
  for (const char* text : kTexts) {
    const auto found = MakeStateFilters(&base_filters, state.attributes, state.graph)->Get(text);
    const auto wanted = expected.Get(text);
    ASSERT_TRUE(found.ok() && wanted.ok()) << text;
    EXPECT_EQ(Live(PassingRows(**found), state.graph), Live(PassingRows(**wanted), state.graph)) << text;
    EXPECT_EQ((*found)->bitmap().empty(), (*base_filters.Get(text))->bitmap().empty()) << text;
  }
}

struct Fault {
  const char* name;
  std::function<void(SegmentBuilder*)> add;
  const char* message;
};

TEST(OverlayAttributesTest, ColumnsThatDoNotFitAreRefused) {
  const Fault kFaults[] = {
      {"no column", [](SegmentBuilder*) {}, "attribute/tags/row_splits: expected 2 ascending offsets"},
      {"too few values",
       [](SegmentBuilder* segment) {
         segment->Column<int64_t>("attribute/tags/row_splits", {0, 2})
             .Column<int64_t>("attribute/tags/string_splits", {0, 1})
             .Column<uint8_t>("attribute/tags/values", {'a'});
       },
       "attribute/tags/string_splits: expected 3 ascending offsets"},
      {"text that is cut",
       [](SegmentBuilder* segment) {
         segment->Column<int64_t>("attribute/tags/row_splits", {0, 1})
             .Column<int64_t>("attribute/tags/string_splits", {0, 4})
             .Column<uint8_t>("attribute/tags/values", {'a'});
       },
       "attribute/tags/values: expected 4 values, found 1"},
      {"a null that is none",
       [](SegmentBuilder* segment) { segment->Column<uint8_t>("attribute/tags/nulls", {2}); },
       "attribute/tags/nulls: expected bytes of 0 or 1, found 2"},
      {"an unknown attribute",
       [](SegmentBuilder* segment) {
         segment->Column<int64_t>("attribute/tags/row_splits", {0, 0})
             .Column<int64_t>("attribute/tags/string_splits", {0})
             .Column<uint8_t>("attribute/tags/values", {})
             .Column<float>("attribute/prize/values", {1});
       },
       "found another: attribute/prize/values"},
  };
  for (const Fault& fault : kFaults) {
    LiveGraph live(4, 4, 1, {{"tags", {ValueType::kString, true}}});
    SegmentBuilder segment(1, 0, 4);
    segment.Ids({7}).Column<float>("table/numbers", {1}).Links(0, {{4, {}}});
    fault.add(&segment);
    const absl::Status applied = live.Apply(segment);
    EXPECT_EQ(applied.code(), absl::StatusCode::kInvalidArgument) << fault.name;
    EXPECT_NE(applied.message().find(fault.message), std::string::npos)
        << fault.name << ": " << applied.message();
  }
}

}  // namespace
}  // namespace nann
