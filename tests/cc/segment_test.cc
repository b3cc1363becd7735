#include "ops/core/live/segment.h"

#include <gtest/gtest.h>

#include <functional>

#include "ops/core/live/crc32.h"
#include "segment_builder.h"

namespace nann {
namespace {

SegmentSchema Schema() {
  SegmentSchema schema;
  schema.export_id = kTestExport;
  schema.num_levels = 2;
  schema.capacity = 12;
  schema.tables = {{"embs", DType::kFloat32, 2}, {"narrow", DType::kUint16, 1}};
  return schema;
}

// Two new items behind ten, one deleted, and lists on both levels.
SegmentBuilder Good() {
  SegmentBuilder segment(7, 5, 10);
  segment.Ids({100, 200}).Column<int32_t>("deleted", {3});
  segment.Column<float>("table/embs", {1, 2, 3, 4}, 2).Column<uint16_t>("table/narrow", {8, 9});
  segment.Links(0, {{2, {10}}, {10, {2, 11}}, {11, {}}}).Links(1, {{10, {2}}});
  segment.Column<float>("state/price", {1, 2}).Column<int64_t>("publisher/offset", {17});
  return segment;
}

absl::StatusOr<Segment> Parse(const std::string& bytes) {
  return Segment::Parse("SEGMENT", AlignedBytes(bytes).view(), Schema());
}

TEST(SegmentTest, ReadsWhatWasWritten) {
  const AlignedBytes bytes(Good().Build());
  const absl::StatusOr<Segment> segment = Segment::Parse("SEGMENT", bytes.view(), Schema());
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ(segment->number, 7);
  EXPECT_EQ(segment->follows, 5);
  EXPECT_EQ(segment->positions_before, 10);
  EXPECT_EQ(segment->positions_after(), 12);
  EXPECT_EQ(std::vector<int64_t>(segment->ids.begin(), segment->ids.end()), (std::vector<int64_t>{100, 200}));
  EXPECT_EQ(segment->deleted[0], 3);
  EXPECT_EQ(reinterpret_cast<const float*>(segment->tables[0])[3], 4);
  EXPECT_EQ(reinterpret_cast<const uint16_t*>(segment->tables[1])[1], 9);
  ASSERT_EQ(segment->levels[0].positions.size(), 3);
  EXPECT_EQ(segment->levels[0].List(1)[1], 11);
  EXPECT_TRUE(segment->levels[0].List(2).empty());
  EXPECT_EQ(segment->levels[1].positions[0], 10);
}

TEST(SegmentTest, ASegmentMayHaveNoColumns) {
  const absl::StatusOr<Segment> segment = Parse(SegmentBuilder(1, 0, 10).Build());
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ(segment->positions_after(), 10);
}

struct Fault {
  const char* name;
  std::function<std::string()> file;
  const char* message;
};

std::string With(size_t at, char value) {
  std::string file = Good().Build();
  file[at] = value;
  return SegmentBuilder::Sealed(file);
}

// The good segment but for its lists on level 0 and its deletions.
std::string WithLists(const std::map<int32_t, std::vector<int32_t>>& lists,
                      const std::vector<int32_t>& deleted = {}) {
  SegmentBuilder segment(7, 5, 10);
  segment.Ids({100, 200}).Column("deleted", deleted);
  segment.Column<float>("table/embs", {1, 2, 3, 4}, 2).Column<uint16_t>("table/narrow", {8, 9});
  return segment.Links(0, lists).Build();
}

const Fault kFaults[] = {
    {"Empty", [] { return std::string(); }, "expected a header of 128 bytes, found a file of 0"},
    {"Magic", [] { return With(0, 'X'); }, "expected a segment, which begins with NANNSEG"},
    {"Version", [] { return With(8, 2); }, "expected format version 1, found 2"},
    {"Cut", [] { return Good().Build().substr(0, 300); }, "bytes, found 300"},
    {"Checksum",
     [] {
       std::string file = Good().Build();
       file[300] ^= 1;
       return file;
     },
     "expected the checksum"},
    {"Export", [] { return Good().ExportId(std::string(32, 'f')).Build(); },
     "expected a segment of export 0123456789abcdef0123456789abcdef, found one of ffff"},
    {"Number", [] { return With(24, 5); }, "expected a number of 1 to 4294967295 and a smaller one"},
    {"Room", [] { return With(40, 11); }, "expected room for 2 new items behind 11, found 12 positions"},
    {"Columns", [] { return With(98, 1); }, "columns, found 65548"},
    {"Entry", [] { return With(128 + 96, 'x'); }, "in entry 0 of the directory"},
    {"Offset", [] { return With(128 + 120, 1); }, "column 0: expected it at a multiple of 64"},
    {"Rows", [] { return With(128 + 110, 1); }, "column 0: expected it at a multiple of 64 and inside"},
    {"Twice", [] { return Good().Column<float>("state/price", {1}).Build(); }, "found state/price twice"},
    {"Unknown", [] { return Good().Column<float>("tables/embs", {1}).Build(); },
     "found another: tables/embs"},
    {"Ids", [] { return With(48, 1); }, "ids: expected 1 values, found 2"},
    {"Deleted", [] { return WithLists({{10, {}}, {11, {}}}, {10}); },
     "deleted: expected positions in [0, 10), found 10 to 10"},
    {"DeletedTwice", [] { return WithLists({{10, {}}, {11, {}}}, {3, 3}); },
     "deleted: expected ascending positions, found 3 after 3"},
    {"Neighbour", [] { return WithLists({{10, {12}}, {11, {}}}); },
     "links/0/values: expected positions in [0, 12), found 12"},
    {"Position", [] { return WithLists({{-1, {}}, {10, {}}, {11, {}}}); },
     "links/0/positions: expected positions in [0, 12), found -1 to 11"},
    {"NoLists", [] { return WithLists({{11, {}}}); },
     "links/0/positions: expected all 2 new positions from 10"},
    {"NoTable", [] { return SegmentBuilder(7, 5, 10).Ids({1}).Links(0, {{10, {}}}).Build(); },
     "table/embs: expected rows of the new items"},
    {"Width",
     [] {
       SegmentBuilder segment(7, 5, 10);
       return segment.Ids({1}).Column<float>("table/embs", {1, 2, 3}, 3).Build();
     },
     "table/embs: expected 1 x 2 of <f4, found 1 x 3 of <f4"},
    {"Splits",
     [] {
       SegmentBuilder segment(7, 5, 10);
       segment.Column<int32_t>("links/1/positions", {1, 2}).Column<int64_t>("links/1/row_splits", {0, 2, 1});
       return segment.Column<int32_t>("links/1/values", {1}).Build();
     },
     "links/1/row_splits: expected 3 ascending offsets from 0 to 1"},
};

class SegmentFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(SegmentFaultTest, IsRefusedWithItsReason) {
  const absl::StatusOr<Segment> segment = Parse(GetParam().file());
  ASSERT_FALSE(segment.ok());
  const std::string message(segment.status().message());
  EXPECT_EQ(message.find("SEGMENT: "), 0) << message;
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Faults, SegmentFaultTest, testing::ValuesIn(kFaults),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Crc32Test, IsThatOfZlib) {
  EXPECT_EQ(Crc32(""), 0u);
  EXPECT_EQ(Crc32("123456789"), 0xCBF43926u);  // The check value of the algorithm's definition.
  EXPECT_EQ(Crc32("The quick brown fox jumps over the lazy dog"), 0x414FA339u);
}

}  // namespace
}  // namespace nann
