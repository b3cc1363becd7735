// .npy files in memory, for tests.
#ifndef NANN_TESTS_CC_ARRAYS_H_
#define NANN_TESTS_CC_ARRAYS_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ops/core/index/graph.h"
#include "ops/core/index/npy.h"
#include "ops/core/index/table.h"

namespace nann {

template <typename T>
inline constexpr const char* kDescr = nullptr;
template <>
inline constexpr const char* kDescr<float> = "<f4";
template <>
inline constexpr const char* kDescr<uint16_t> = "<u2";
template <>
inline constexpr const char* kDescr<int32_t> = "<i4";
template <>
inline constexpr const char* kDescr<int64_t> = "<i8";
template <>
inline constexpr const char* kDescr<uint64_t> = "<u8";
template <>
inline constexpr const char* kDescr<uint8_t> = "|u1";

// The bytes that numpy.save would write.
template <typename T>
std::string NpyBytes(const std::vector<T>& values, std::vector<int64_t> shape = {}) {
  if (shape.empty()) shape = {static_cast<int64_t>(values.size())};
  std::string header = absl::StrCat("{'descr': '", kDescr<T>, "', 'fortran_order': False, 'shape': (",
                                    absl::StrJoin(shape, ", "), shape.size() == 1 ? "," : "", "), }");
  header.append(63 - (10 + header.size()) % 64, ' ').append("\n");
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes.push_back(static_cast<char>(header.size() & 0xff));
  bytes.push_back(static_cast<char>(header.size() >> 8));
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return bytes;
}

// A table over rows of floats, which must outlive it.
inline Table TableOver(const std::vector<float>& rows, int64_t width) {
  NpyArray array;
  array.shape = {static_cast<int64_t>(rows.size()) / width, width};
  array.dtype = DType::kFloat32;
  array.data = reinterpret_cast<const char*>(rows.data());
  return *Table::Create(array, TableType::kFloat32);
}

// A parsed array together with the exact memory that it points into, so that a sanitizer sees every step over
// its end.
struct OwnedArray {
  std::unique_ptr<char[]> data;
  NpyArray array;
};

inline absl::StatusOr<OwnedArray> Own(const std::string& path, const std::string& bytes) {
  absl::StatusOr<NpyArray> parsed = ParseNpy(path, bytes);
  if (!parsed.ok()) return parsed.status();
  OwnedArray owned{std::make_unique<char[]>(parsed->num_bytes()), *parsed};
  std::memcpy(owned.data.get(), parsed->data, parsed->num_bytes());
  owned.array.data = owned.data.get();
  return owned;
}

// The files of a small index: what tests damage.
struct IndexBytes {
  std::string item_ids;
  std::string id_order;
  std::string enter_points;
  std::vector<std::string> values;
  std::vector<std::string> row_splits;

  std::vector<std::string*> All() {
    std::vector<std::string*> all = {&item_ids, &id_order, &enter_points};
    for (std::string& file : values) all.push_back(&file);
    for (std::string& file : row_splits) all.push_back(&file);
    return all;
  }
};

// A graph and all the memory behind it.
struct LoadedGraph {
  std::vector<OwnedArray> owned;
  Graph graph;
};

inline absl::StatusOr<LoadedGraph> LoadGraph(const IndexBytes& bytes, const std::vector<int32_t>& hops) {
  LoadedGraph loaded;
  GraphArrays arrays;
  arrays.hops_per_level = hops;
  arrays.levels.resize(bytes.values.size());
  std::vector<std::tuple<std::string, const std::string*, NpyArray*>> parts = {
      {"item_ids.npy", &bytes.item_ids, &arrays.item_ids},
      {"item_id_order.npy", &bytes.id_order, &arrays.id_order},
      {"enter_points.npy", &bytes.enter_points, &arrays.enter_points}};
  for (size_t l = 0; l < bytes.values.size(); ++l) {
    parts.emplace_back(absl::StrCat("values_", l, ".npy"), &bytes.values[l], &arrays.levels[l].values);
    parts.emplace_back(absl::StrCat("row_splits_", l, ".npy"), &bytes.row_splits[l],
                       &arrays.levels[l].row_splits);
  }
  for (auto& [path, file, array] : parts) {
    absl::StatusOr<OwnedArray> owned = Own(path, *file);
    if (!owned.ok()) return owned.status();
    *array = owned->array;
    loaded.owned.push_back(*std::move(owned));
  }
  absl::StatusOr<Graph> graph = Graph::Create(arrays);
  if (!graph.ok()) return graph.status();
  loaded.graph = *std::move(graph);
  return loaded;
}

// `lists[l][p]`: the neighbours of position p on level l.
inline IndexBytes MakeIndex(const std::vector<int64_t>& item_ids, const std::vector<int32_t>& enter_points,
                            const std::vector<std::vector<std::vector<int32_t>>>& lists) {
  IndexBytes bytes;
  bytes.item_ids = NpyBytes(item_ids);
  bytes.id_order = NpyBytes(SortedById(item_ids));
  bytes.enter_points = NpyBytes(enter_points);
  for (const auto& level : lists) {
    std::vector<int32_t> values;
    std::vector<int64_t> splits = {0};
    for (const auto& row : level) {
      values.insert(values.end(), row.begin(), row.end());
      splits.push_back(static_cast<int64_t>(values.size()));
    }
    bytes.values.push_back(NpyBytes(values));
    bytes.row_splits.push_back(NpyBytes(splits));
  }
  return bytes;
}

}  // namespace nann

#endif  // NANN_TESTS_CC_ARRAYS_H_
