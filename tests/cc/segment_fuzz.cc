// Damages a segment, byte by byte, and applies it: every outcome but an error that names the file, or a graph
// whose walks stay inside it, is a defect. Meant to run under AddressSanitizer and
// UndefinedBehaviorSanitizer.
//
//   segment_fuzz MUTATIONS [SEED]
#include <cstdio>
#include <random>

#include "fuzz_main.h"
#include "live_graph.h"
#include "segment_builder.h"

namespace nann {
namespace {

constexpr int32_t kItems = 20, kRoom = 10;

std::string Good() {
  SegmentBuilder segment(1, 0, kItems);
  segment.Ids({7, 30, 8}).Column<int32_t>("deleted", {3, 5}).Column<float>("table/numbers", {1, 2, 3});
  segment.Links(0, {{2, {20, 1}}, {4, {}}, {20, {2, 21}}, {21, {20, 3, 22}}, {22, {}}});
  segment.Column<int64_t>("publisher/offset", {12});
  segment.Column<float>("attribute/price/values", {1, 2, 3})
      .Column<uint8_t>("attribute/price/nulls", {0, 1, 0});
  segment.Column<int64_t>("attribute/tags/row_splits", {0, 2, 2, 3});
  segment.Column<int64_t>("attribute/tags/string_splits", {0, 2, 3, 6});
  segment.Column<uint8_t>("attribute/tags/values", {'a', 'b', 'b', 'a', 'b', 'c'});
  return segment.Build();
}

// The checksum finds nearly all damage, so most of the damaged files get the checksum of what they are.
std::string Mutated(std::mt19937* random, std::string file) {
  const int damages = 1 + static_cast<int>((*random)() % 3);
  for (int i = 0; i < damages; ++i) {
    // Header and directory hold what other parts are read by: they are hit as often as all else.
    const size_t size = (*random)() % 2 == 0 ? std::min<size_t>(file.size(), 1920) : file.size();
    if (size == 0) break;
    const size_t at = (*random)() % size;
    switch ((*random)() % 5) {
      case 0:
        file[at] ^= static_cast<char>(1 << (*random)() % 8);
        break;
      case 1:
        file[at] = static_cast<char>((*random)());
        break;
      case 2:
        file[at] = static_cast<char>((*random)() % 2 == 0 ? 0 : 0xff);
        break;
      case 3:
        file.resize(at);
        break;
      case 4:
        file.insert(at, 1 + (*random)() % 64, static_cast<char>((*random)()));
        break;
    }
  }
  return (*random)() % 8 == 0 ? file : SegmentBuilder::Sealed(std::move(file));
}

bool StaysInside(const Graph& graph) {
  if (graph.num_items() < kItems || graph.num_items() > kItems + kRoom) return false;
  for (int32_t position = 0; position < graph.num_items(); ++position) {
    for (int32_t neighbor : graph.level(0).NeighborsOf(position)) {
      if (neighbor < 0 || neighbor >= graph.num_items()) return false;
    }
    const int64_t id = graph.item_ids()[position];
    if (graph.IsDeleted(position) != (graph.PositionOf(id) != position)) return false;
  }
  return true;
}

int Run(int64_t mutations, uint32_t seed) {
  std::mt19937 random(seed);
  const std::string good = Good();
  const std::vector<SegmentSchema::Attribute> attributes = {{"price", {ValueType::kFloat32}},
                                                            {"tags", {ValueType::kString, true}}};
  int64_t accepted = 0;
  for (int64_t i = 0; i < mutations; ++i) {
    LiveGraph live(kItems, kRoom, 1, attributes);
    const AlignedBytes bytes(Mutated(&random, good));
    const absl::Status applied = live.overlay().Apply("SEGMENT", bytes.view());
    if (applied.ok()) ++accepted;
    // Filters read the attributes of what was accepted.
    for (const auto& chunk : live.overlay().state().attributes) {
      for (const char* text : {"price < 2 OR price IS NULL", "'ab' = ANY(tags) OR 'c' = ANY(tags)"}) {
        if (!chunk->filters().Get(text).ok()) return 1;
      }
    }
    const bool named = applied.ok() || applied.message().find("SEGMENT: ") == 0;
    if (!named || !StaysInside(live.overlay().state().graph)) {
      std::fprintf(stderr, "mutation %ld: %s\n", static_cast<long>(i), applied.ToString().c_str());
      return 1;
    }
  }
  std::printf("%ld mutations, %ld of them still valid segments, the rest refused\n",
              static_cast<long>(mutations), static_cast<long>(accepted));
  return 0;
}

}  // namespace
}  // namespace nann

int main(int argc, char** argv) {
  return nann::FuzzMain(argc, argv, "segment_fuzz MUTATIONS [SEED]", nann::Run);
}
