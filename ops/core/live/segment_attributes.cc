// The columns `attribute/` of a segment.
#include <algorithm>
#include <limits>
#include <utility>

#include "../base/status_macros.h"
#include "segment_columns.h"

namespace nann {
namespace {

// Reads one attribute.
class AttributeReader {
 public:
  AttributeReader(const SegmentSchema::Attribute& attribute, uint64_t num_rows, SegmentColumns* columns)
      : prefix_(absl::StrCat("attribute/", attribute.name, "/")), num_rows_(num_rows), columns_(*columns) {
    part_.column.name = attribute.name;
    part_.column.type = attribute.type;
  }

  absl::StatusOr<AttributePart> Read() {
    NANN_RETURN_IF_ERROR(ReadNulls());
    uint64_t num_values = num_rows_;
    if (part_.column.type.is_list) {
      NANN_RETURN_IF_ERROR(ReadVector("row_splits", "<i8", &part_.column.offsets));
      NANN_RETURN_IF_ERROR(CheckOffsets("row_splits", part_.column.offsets, num_rows_));
      num_values = part_.column.offsets.back();
    }
    NANN_RETURN_IF_ERROR(ReadValues(num_values));
    return std::move(part_);
  }

 private:
  template <typename T>
  absl::Status ReadVector(const char* name, const char* type, absl::Span<const T>* values) {
    return columns_.ReadVector(prefix_ + name, type, values);
  }

  absl::Status ReadNulls() {
    const SegmentColumns::Column* nulls = columns_.Find(prefix_ + "nulls");
    if (nulls == nullptr) return absl::OkStatus();
    NANN_RETURN_IF_ERROR(columns_.CheckShape(*nulls, "|u1", num_rows_, 1));
    part_.nulls = nulls->Elements<uint8_t>().data();
    return CheckBools("nulls", nulls->Elements<uint8_t>());
  }

  absl::Status ReadValues(uint64_t count) {
    AttributeColumn& column = part_.column;
    switch (column.type.value) {
      case ValueType::kInt64:
        NANN_RETURN_IF_ERROR(ReadVector("values", "<i8", &column.int64s));
        return CheckCount(column.int64s.size(), count);
      case ValueType::kFloat32:
        NANN_RETURN_IF_ERROR(ReadVector("values", "<f4", &column.floats));
        return CheckCount(column.floats.size(), count);
      case ValueType::kBool:
        NANN_RETURN_IF_ERROR(ReadVector("values", "|u1", &column.bools));
        NANN_RETURN_IF_ERROR(CheckBools("values", column.bools));
        return CheckCount(column.bools.size(), count);
      case ValueType::kString: {
        absl::Span<const char> text;
        NANN_RETURN_IF_ERROR(ReadVector("values", "|u1", &text));
        NANN_RETURN_IF_ERROR(ReadVector("string_splits", "<i8", &column.dictionary_offsets));
        NANN_RETURN_IF_ERROR(CheckOffsets("string_splits", column.dictionary_offsets, count));
        column.dictionary = text.data();
        return CheckCount(text.size(), column.dictionary_offsets.back());
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckCount(uint64_t found, uint64_t expected) const {
    if (found == expected) return absl::OkStatus();
    return columns_.Damaged(prefix_, "values: expected ", expected, " values, found ", found);
  }

  absl::Status CheckBools(const char* name, absl::Span<const uint8_t> bools) const {
    const auto bad = std::find_if(bools.begin(), bools.end(), [](uint8_t each) { return each > 1; });
    if (bad == bools.end()) return absl::OkStatus();
    return columns_.Damaged(prefix_, name, ": expected bytes of 0 or 1, found ", static_cast<int>(*bad));
  }

  // Codes are int32, so that many elements are the most.
  absl::Status CheckOffsets(const char* name, absl::Span<const int64_t> offsets, uint64_t count) const {
    if (offsets.size() == count + 1 && offsets.front() == 0 && count < std::numeric_limits<int32_t>::max() &&
        std::is_sorted(offsets.begin(), offsets.end())) {
      return absl::OkStatus();
    }
    return columns_.Damaged(prefix_, name, ": expected ", count + 1,
                            " ascending offsets from 0 on, fewer than 2^31, found others");
  }

  const std::string prefix_;
  const uint64_t num_rows_;
  SegmentColumns& columns_;
  AttributePart part_;
};

}  // namespace

absl::StatusOr<std::vector<AttributePart>> ReadAttributes(
    const std::vector<SegmentSchema::Attribute>& attributes, uint64_t num_rows, SegmentColumns* columns) {
  std::vector<AttributePart> parts;
  if (num_rows == 0) return parts;
  for (const SegmentSchema::Attribute& attribute : attributes) {
    NANN_ASSIGN_OR_RETURN(AttributePart part, AttributeReader(attribute, num_rows, columns).Read());
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace nann
