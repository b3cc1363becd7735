#include "attribute_sample.h"

#include <utility>

#include "bits.h"

namespace nann {
namespace {

// One row of each of kSampleRows equal parts. Where in its part is as good as random, so that a pattern in
// the order of the items does not meet a pattern in the sample.
std::vector<int64_t> SampledRows(int64_t num_rows) {
  std::vector<int64_t> rows;
  uint64_t state = 0;
  for (int64_t i = 0; i < kSampleRows; ++i) {
    const int64_t begin = i * num_rows / kSampleRows, end = (i + 1) * num_rows / kSampleRows;
    // SplitMix64 (Steele, Lea, Flood 2014).
    uint64_t mixed = state += 0x9e3779b97f4a7c15ull;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
    rows.push_back(begin + static_cast<int64_t>((mixed ^ mixed >> 31) % static_cast<uint64_t>(end - begin)));
  }
  return rows;
}

// The values `from[places[i]]`, kept in `buffers`; empty where there are none.
template <typename T>
absl::Span<const T> Gather(absl::Span<const T> from, const std::vector<int64_t>& places,
                           std::deque<std::vector<T>>* buffers) {
  if (from.empty()) return {};
  std::vector<T> values;
  values.reserve(places.size());
  for (int64_t place : places) values.push_back(from[place]);
  return buffers->emplace_back(std::move(values));
}

const uint64_t* GatherBits(const uint64_t* from, const std::vector<int64_t>& places,
                           std::deque<std::vector<uint64_t>>* buffers) {
  if (from == nullptr) return nullptr;
  std::vector<uint64_t> bits(NumWords(static_cast<int64_t>(places.size())));
  for (size_t i = 0; i < places.size(); ++i) {
    bits[i / kWordRows] |= static_cast<uint64_t>(TestBit(from, places[i])) << (i % kWordRows);
  }
  return buffers->emplace_back(std::move(bits)).data();
}

}  // namespace

AttributeSample::AttributeSample(const AttributeColumns& columns) {
  const std::vector<int64_t> rows = SampledRows(columns.num_rows());
  std::vector<AttributeColumn> copies;
  for (const AttributeColumn& column : columns.columns()) copies.push_back(Copy(column, rows));
  columns_ = AttributeColumns(std::move(copies), kSampleRows);
}

AttributeColumn AttributeSample::Copy(const AttributeColumn& column, const std::vector<int64_t>& rows) {
  AttributeColumn copy;
  copy.name = column.name;
  copy.type = column.type;
  copy.dictionary = column.dictionary;
  copy.dictionary_offsets = column.dictionary_offsets;
  copy.valid = GatherBits(column.valid, rows, &bits_);
  std::vector<int64_t> elements;
  if (column.type.is_list) {
    std::vector<int64_t> offsets = {0};
    for (int64_t row : rows) {
      for (int64_t e = column.offsets[row]; e < column.offsets[row + 1]; ++e) elements.push_back(e);
      offsets.push_back(static_cast<int64_t>(elements.size()));
    }
    copy.offsets = int64s_.emplace_back(std::move(offsets));
    copy.element_valid = GatherBits(column.element_valid, elements, &bits_);
  }
  const std::vector<int64_t>& places = column.type.is_list ? elements : rows;
  copy.int64s = Gather(column.int64s, places, &int64s_);
  copy.floats = Gather(column.floats, places, &floats_);
  copy.bools = Gather(column.bools, places, &bools_);
  copy.codes = Gather(column.codes, places, &codes_);
  return copy;
}

}  // namespace nann
