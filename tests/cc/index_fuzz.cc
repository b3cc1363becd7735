// Damages the files of a small index and of a table of it, byte by byte, and loads them: every outcome but an
// error, or a search that stays inside the graph and rows that stay inside the table, is a defect. Meant to
// run under AddressSanitizer and UndefinedBehaviorSanitizer.
//
//   index_fuzz MUTATIONS [SEED]
#include <cstdio>
#include <random>

#include "arrays.h"
#include "fuzz_main.h"
#include "ops/core/index/table.h"
#include "ops/core/walk/beam_search.h"

namespace nann {
namespace {

constexpr int32_t kItems = 60;

IndexBytes RandomIndex(std::mt19937* random) {
  std::vector<int64_t> ids(kItems);
  for (int32_t i = 0; i < kItems; ++i) ids[i] = (static_cast<int64_t>(i) * 37) % 101;
  std::vector<std::vector<std::vector<int32_t>>> lists(2, std::vector<std::vector<int32_t>>(kItems));
  for (int level = 0; level < 2; ++level) {
    for (auto& row : lists[level]) {
      const int degree = static_cast<int>((*random)() % (level == 0 ? 8 : 3));
      for (int i = 0; i < degree; ++i) row.push_back(static_cast<int32_t>((*random)() % kItems));
    }
  }
  return MakeIndex(ids, {0, 7, 31}, lists);
}

void Mutate(std::mt19937* random, std::string* file) {
  switch ((*random)() % 4) {
    case 0:  // Flip a bit.
      if (!file->empty()) (*file)[(*random)() % file->size()] ^= static_cast<char>(1 << (*random)() % 8);
      break;
    case 1:  // Another byte.
      if (!file->empty()) (*file)[(*random)() % file->size()] = static_cast<char>((*random)());
      break;
    case 2:  // Cut off the end.
      file->resize((*random)() % (file->size() + 1));
      break;
    case 3:  // Put something in.
      file->insert((*random)() % (file->size() + 1), 1 + (*random)() % 9, static_cast<char>((*random)()));
      break;
  }
}

// A search over whatever was accepted; false when its answer is not one of the graph's.
bool SearchStaysInside(const Graph& graph) {
  BeamSearch search(&graph);
  const std::vector<int32_t> level_topn(graph.level_topn_length(), 5);
  search.Start(level_topn);
  while (!search.done()) {
    std::vector<float> scores;
    for (int32_t position : search.frontier()) {
      if (position < 0 || position >= graph.num_items()) return false;
      scores.push_back(static_cast<float>(position % 7));
    }
    search.Advance(scores);
  }
  std::vector<int64_t> ids(5);
  std::vector<float> scores(5);
  const int64_t found = search.TopK(absl::MakeSpan(ids), absl::MakeSpan(scores));
  for (int64_t i = 0; i < found; ++i) {
    if (graph.PositionOf(ids[i]) < 0) return false;
  }
  return true;
}

constexpr int64_t kRowBytes = 70 + 2 * sizeof(float);  // Of int8 numbers, in two blocks.

std::string RandomTable(std::mt19937* random) {
  std::vector<uint8_t> rows(kItems * kRowBytes);
  for (uint8_t& byte : rows) byte = static_cast<uint8_t>((*random)());
  return NpyBytes<uint8_t>(rows, {kItems, kRowBytes});
}

// Reads every row of a table that is accepted; an error where it is not.
absl::Status ReadTable(const std::string& bytes, int64_t items) {
  absl::StatusOr<OwnedArray> array = Own("item_table.npy", bytes);
  if (!array.ok()) return array.status();
  const absl::StatusOr<Table> table = Table::Create(array->array, TableType::kInt8);
  if (!table.ok()) return table.status();
  if (table->rows() != items) return absl::InvalidArgumentError("item_table.npy: of another index");
  std::vector<int32_t> positions(items);
  for (int64_t i = 0; i < items; ++i) positions[i] = static_cast<int32_t>(i);
  std::vector<float> rows(items * table->width());
  table->Gather<int32_t>(positions, rows.data());
  return absl::OkStatus();
}

int Run(int64_t mutations, uint32_t seed) {
  std::mt19937 random(seed);
  const IndexBytes good = RandomIndex(&random);
  const std::string good_table = RandomTable(&random);
  int64_t accepted = 0;
  for (int64_t i = 0; i < mutations; ++i) {
    IndexBytes bytes = good;
    std::string table = good_table;
    std::vector<std::string*> files = bytes.All();
    files.push_back(&table);
    const int damages = 1 + static_cast<int>(random() % 3);
    for (int d = 0; d < damages; ++d) Mutate(&random, files[random() % files.size()]);
    const absl::StatusOr<LoadedGraph> loaded = LoadGraph(bytes, {3, 1});
    const absl::Status status = loaded.ok() ? ReadTable(table, loaded->graph.num_items()) : loaded.status();
    if (!status.ok()) {
      if (status.message().find(".npy: ") != absl::string_view::npos) continue;
      std::fprintf(stderr, "mutation %ld: the error names no file: %s\n", static_cast<long>(i),
                   status.ToString().c_str());
      return 1;
    }
    ++accepted;
    if (!SearchStaysInside(loaded->graph)) {
      std::fprintf(stderr, "mutation %ld: the search left the graph\n", static_cast<long>(i));
      return 1;
    }
  }
  std::printf("%ld mutations, %ld of them still valid indexes, the rest refused\n",
              static_cast<long>(mutations), static_cast<long>(accepted));
  return 0;
}

}  // namespace
}  // namespace nann

int main(int argc, char** argv) {
  return nann::FuzzMain(argc, argv, "index_fuzz MUTATIONS [SEED]", nann::Run);
}
