// Attributes in memory, for tests.
#ifndef NANN_TESTS_CC_ATTRIBUTES_H_
#define NANN_TESTS_CC_ATTRIBUTES_H_

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "ops/core/filter/attribute_columns.h"
#include "ops/core/filter/row_filter.h"

namespace nann {

// The files of one attribute: what tests damage.
struct AttributeBytes {
  std::string name;
  AttributeType type;
  std::map<std::string, std::string> files;  // By part: "values", "valid", ...
};

template <typename T>
using Rows = std::vector<std::optional<T>>;
template <typename T>
using Lists = std::vector<std::optional<Rows<T>>>;

template <typename T>
std::string BitmapBytes(const Rows<T>& rows) {
  std::vector<uint64_t> words((rows.size() + 63) / 64);
  for (size_t i = 0; i < rows.size(); ++i) words[i / 64] |= uint64_t{rows[i].has_value()} << i % 64;
  return NpyBytes(words, {static_cast<int64_t>(words.size())});
}

template <typename T>
std::string VectorBytes(const std::vector<T>& values) {
  return NpyBytes(values, {static_cast<int64_t>(values.size())});
}

// The values of rows or elements, with 0 for NULL, under the names of their parts.
inline void AddValues(const Rows<int64_t>& rows, AttributeBytes* bytes) {
  std::vector<int64_t> values;
  for (const auto& row : rows) values.push_back(row.value_or(0));
  bytes->type.value = ValueType::kInt64;
  bytes->files["values"] = VectorBytes(values);
}
inline void AddValues(const Rows<float>& rows, AttributeBytes* bytes) {
  std::vector<float> values;
  for (const auto& row : rows) values.push_back(row.value_or(0.0f));
  bytes->type.value = ValueType::kFloat32;
  bytes->files["values"] = VectorBytes(values);
}
inline void AddValues(const Rows<bool>& rows, AttributeBytes* bytes) {
  std::vector<uint8_t> values;
  for (const auto& row : rows) values.push_back(row.value_or(false));
  bytes->type.value = ValueType::kBool;
  std::string file = VectorBytes(values);
  file.replace(file.find("|u1"), 3, "|b1");
  bytes->files["values"] = file;
}
inline void AddValues(const Rows<std::string>& rows, AttributeBytes* bytes) {
  std::map<std::string, int32_t> dictionary;
  for (const auto& row : rows) {
    if (row.has_value()) dictionary[*row];
  }
  std::vector<uint8_t> text;
  std::vector<int64_t> offsets = {0};
  for (auto& [word, code] : dictionary) {
    code = static_cast<int32_t>(offsets.size()) - 1;
    text.insert(text.end(), word.begin(), word.end());
    offsets.push_back(static_cast<int64_t>(text.size()));
  }
  std::vector<int32_t> codes;
  for (const auto& row : rows) codes.push_back(row.has_value() ? dictionary[*row] : -1);
  bytes->type.value = ValueType::kString;
  bytes->files["values"] = VectorBytes(codes);
  bytes->files["dictionary"] = VectorBytes(text);
  bytes->files["dictionary_offsets"] = VectorBytes(offsets);
}

template <typename T>
AttributeBytes MakeAttribute(const std::string& name, const Rows<T>& rows) {
  AttributeBytes bytes;
  bytes.name = name;
  AddValues(rows, &bytes);
  const bool all = std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.has_value(); });
  if (!all) bytes.files["valid"] = BitmapBytes(rows);
  return bytes;
}

template <typename T>
AttributeBytes MakeListAttribute(const std::string& name, const Lists<T>& lists) {
  AttributeBytes bytes;
  bytes.name = name;
  bytes.type.is_list = true;
  Rows<T> elements;
  std::vector<int64_t> offsets = {0};
  for (const auto& list : lists) {
    if (list.has_value()) elements.insert(elements.end(), list->begin(), list->end());
    offsets.push_back(static_cast<int64_t>(elements.size()));
  }
  AddValues(elements, &bytes);
  bytes.files["offsets"] = VectorBytes(offsets);
  bytes.files["valid"] = BitmapBytes(lists);
  bytes.files["element_valid"] = BitmapBytes(elements);
  return bytes;
}

// Columns and all the memory behind them.
struct LoadedAttributes {
  std::deque<OwnedArray> owned;
  AttributeColumns columns;
};

inline absl::StatusOr<LoadedAttributes> LoadAttributes(const std::vector<AttributeBytes>& attributes,
                                                       int64_t num_rows) {
  LoadedAttributes loaded;
  std::vector<AttributeArrays> all;
  for (const AttributeBytes& bytes : attributes) {
    AttributeArrays arrays;
    arrays.name = bytes.name;
    arrays.type = bytes.type;
    for (const auto& [part, file] : bytes.files) {
      absl::StatusOr<OwnedArray> owned = Own(absl::StrCat(bytes.name, ".", part, ".npy"), file);
      if (!owned.ok()) return owned.status();
      loaded.owned.push_back(*std::move(owned));
      const NpyArray& array = loaded.owned.back().array;
      if (part == "values") arrays.values = array;
      if (part == "valid") arrays.valid = array;
      if (part == "offsets") arrays.offsets = array;
      if (part == "element_valid") arrays.element_valid = array;
      if (part == "dictionary") arrays.dictionary = array;
      if (part == "dictionary_offsets") arrays.dictionary_offsets = array;
    }
    all.push_back(std::move(arrays));
  }
  absl::StatusOr<AttributeColumns> columns = AttributeColumns::Create(all, num_rows);
  if (!columns.ok()) return columns.status();
  loaded.columns = *std::move(columns);
  return loaded;
}

// The rows that pass, by the bitmap where there is one and by single tests.
inline std::vector<int32_t> PassingRows(const RowFilter& filter) {
  std::vector<int32_t> rows;
  for (int32_t row = 0; row < filter.num_rows(); ++row) {
    if (filter.Passes(row)) rows.push_back(row);
  }
  return rows;
}

}  // namespace nann

#endif  // NANN_TESTS_CC_ATTRIBUTES_H_
