// Reads segment files: docs/live.md#segment-files.
#ifndef NANN_OPS_CORE_LIVE_SEGMENT_H_
#define NANN_OPS_CORE_LIVE_SEGMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "../filter/attribute_rows.h"
#include "../index/npy.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nann {

// What the segments of an export must fit.
struct SegmentSchema {
  struct ItemTable {
    std::string name;
    DType dtype = DType::kFloat32;
    int64_t width = 0;
  };

  struct Attribute {
    std::string name;
    AttributeType type;
  };

  std::string export_id;
  int32_t num_levels = 0;
  int32_t capacity = 0;  // Positions of base and overlay.
  std::vector<ItemTable> tables;
  std::vector<Attribute> attributes;
};

// A checked segment. A view: the bytes that it was parsed from must outlive it.
//
// Invariants: every position is below positions_before + ids.size(), which is at most the schema's capacity;
// positions of `deleted` and of a level ascend; row splits ascend from 0 to the number of values; every new
// position has a list on level 0. Whether it follows what was applied before, and whether its ids and
// deletions fit that, is not known here.
struct Segment {
  // Neighbour lists that the segment sets on one level.
  struct Lists {
    absl::Span<const int32_t> positions;   // [m]
    absl::Span<const int64_t> row_splits;  // [m + 1], or empty where m is 0.
    absl::Span<const int32_t> values;

    absl::Span<const int32_t> List(size_t i) const {
      return values.subspan(row_splits[i], row_splits[i + 1] - row_splits[i]);
    }
  };

  std::string path;              // For messages.
  uint32_t number = 0;           // At least 1.
  uint32_t follows = 0;          // Below number; 0: the base.
  int32_t positions_before = 0;  // Of the base and the segments before it.
  int64_t published_micros = 0;  // Since 1970.
  absl::Span<const int64_t> ids;
  absl::Span<const int32_t> deleted;
  std::vector<const char*> tables;  // Rows of the new items in the schema's tables, in its order.
  std::vector<Lists> levels;        // Level 0 first.
  // Of the new items, in the schema's order; nothing where there are no new items.
  std::vector<AttributePart> attributes;

  int32_t positions_after() const { return positions_before + static_cast<int32_t>(ids.size()); }

  // Parses a whole file, whose first byte is aligned to 64 bytes. Every number is checked before it is used;
  // nothing is allocated by a count of the file. An error begins with `path` and says what was expected and
  // what was found: InvalidArgument for a damaged or malformed file, FailedPrecondition for one of another
  // export, ResourceExhausted for one that the capacity has no room for.
  static absl::StatusOr<Segment> Parse(const std::string& path, absl::string_view bytes,
                                       const SegmentSchema& schema);
};

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_SEGMENT_H_
