#include "attribute_rows.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "bits.h"

namespace nann {
namespace {

template <typename T>
void Append(absl::Span<const T> values, std::vector<T>* to) {
  to->insert(to->end(), values.begin(), values.end());
}

int64_t NumValues(const AttributeRows::Source& source, const AttributePart& part) {
  return part.column.type.is_list ? part.column.offsets.back() : source.num_rows;
}

}  // namespace

bool AttributePart::IsNull(int64_t row) const {
  if (nulls != nullptr) return nulls[row] != 0;
  return column.valid != nullptr && !TestBit(column.valid, row);
}

AttributeRows::AttributeRows(absl::Span<const Source> sources) {
  int64_t num_rows = 0;
  for (const Source& source : sources) num_rows += source.num_rows;
  std::vector<AttributeColumn> columns;
  for (size_t attribute = 0; attribute < sources[0].parts.size(); ++attribute) {
    columns.push_back(Join(sources, attribute, num_rows, &memory_.emplace_back()));
  }
  columns_ = AttributeColumns(std::move(columns), num_rows);
}

AttributeColumn AttributeRows::Join(absl::Span<const Source> sources, size_t attribute, int64_t num_rows,
                                    Memory* memory) {
  const AttributeColumn& first = sources[0].parts[attribute].column;
  const bool is_list = first.type.is_list;
  memory->valid.assign(NumWords(num_rows), 0);
  int64_t begin = 0;
  for (const Source& source : sources) {
    const AttributePart& part = source.parts[attribute];
    for (int64_t row = 0; row < source.num_rows; ++row) {
      const uint64_t valid = part.IsNull(row) ? 0 : 1;
      memory->valid[(begin + row) / kWordRows] |= valid << ((begin + row) % kWordRows);
    }
    begin += source.num_rows;
    if (is_list) {
      if (memory->offsets.empty()) memory->offsets.push_back(0);
      const int64_t elements = memory->offsets.back();
      for (int64_t row = 1; row <= source.num_rows; ++row) {
        memory->offsets.push_back(elements + part.column.offsets[row]);
      }
    }
    Append(part.column.int64s, &memory->int64s);
    Append(part.column.floats, &memory->floats);
    Append(part.column.bools, &memory->bools);
  }
  if (first.type.value == ValueType::kString) JoinStrings(sources, attribute, memory);
  AttributeColumn column;
  column.name = first.name;
  column.type = first.type;
  column.int64s = memory->int64s;
  column.floats = memory->floats;
  column.bools = memory->bools;
  column.codes = memory->codes;
  column.valid = memory->valid.data();
  column.offsets = memory->offsets;
  column.dictionary = memory->dictionary.data();
  column.dictionary_offsets = memory->dictionary_offsets;
  return column;
}

void AttributeRows::JoinStrings(absl::Span<const Source> sources, size_t attribute, Memory* memory) {
  std::vector<absl::string_view> strings;
  for (const Source& source : sources) {
    const AttributeColumn& column = source.parts[attribute].column;
    for (int64_t i = 0; i < column.num_strings(); ++i) strings.push_back(column.String(i));
  }
  std::sort(strings.begin(), strings.end());
  strings.erase(std::unique(strings.begin(), strings.end()), strings.end());
  for (const Source& source : sources) {
    const AttributePart& part = source.parts[attribute];
    const AttributeColumn& column = part.column;
    std::vector<int32_t> code_of(column.num_strings());
    for (size_t i = 0; i < code_of.size(); ++i) {
      const auto at = std::lower_bound(strings.begin(), strings.end(), column.String(i));
      code_of[i] = static_cast<int32_t>(at - strings.begin());
    }
    for (int64_t i = 0; i < NumValues(source, part); ++i) {
      const bool null = !column.type.is_list && part.IsNull(i);
      memory->codes.push_back(null ? -1 : code_of[column.codes.empty() ? i : column.codes[i]]);
    }
  }
  memory->dictionary_offsets.push_back(0);
  for (absl::string_view string : strings) {
    memory->dictionary.append(string.data(), string.size());
    memory->dictionary_offsets.push_back(static_cast<int64_t>(memory->dictionary.size()));
  }
}

std::vector<AttributePart> AttributeRows::Parts() const {
  std::vector<AttributePart> parts;
  for (const AttributeColumn& column : columns_.columns()) parts.push_back({column});
  return parts;
}

}  // namespace nann
