// The directory of a segment's file, and its columns by name.
#ifndef NANN_OPS_CORE_LIVE_SEGMENT_COLUMNS_H_
#define NANN_OPS_CORE_LIVE_SEGMENT_COLUMNS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "segment.h"

namespace nann {

// The printable ASCII at the beginning of a text.
absl::string_view Printable(absl::string_view text);

// A view of the bytes of a file. Not thread-safe: it remembers what was looked for.
class SegmentColumns {
 public:
  // `path` is for messages, and must outlive it as `bytes` must.
  SegmentColumns(const std::string& path, absl::string_view bytes) : path_(path), bytes_(bytes) {}

  struct Column {
    std::string name;
    std::string type;
    uint64_t rows = 0;
    uint64_t width = 0;
    const char* data = nullptr;

    template <typename T>
    absl::Span<const T> Elements() const {
      return absl::Span<const T>(reinterpret_cast<const T*>(data), rows * width);
    }
  };

  // Reads the directory of `count` columns at the offset `begin`, which is inside of the file. Afterwards
  // every column lies inside of the file, and no name is there twice.
  absl::Status ReadDirectory(size_t begin, uint64_t count);

  // The column of a name, null where there is none.
  const Column* Find(absl::string_view name);

  // The names that were not looked for.
  std::vector<std::string> Unused() const;

  absl::Status CheckShape(const Column& column, absl::string_view type, uint64_t rows, uint64_t width) const;

  // Sets `values` to a vector; it stays as it is where the column is absent.
  template <typename T>
  absl::Status ReadVector(const std::string& name, const char* type, absl::Span<const T>* values) {
    const Column* column = Find(name);
    if (column == nullptr) return absl::OkStatus();
    const absl::Status shape = CheckShape(*column, type, column->rows, 1);
    if (shape.ok()) *values = column->Elements<T>();
    return shape;
  }

  template <typename... Parts>
  absl::Status Damaged(const Parts&... parts) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", parts..., "; the file is damaged: copy or publish the segment again"));
  }

 private:
  struct Entry;
  absl::StatusOr<Column> ReadEntry(uint64_t i, const Entry& entry) const;

  const std::string& path_;
  const absl::string_view bytes_;
  std::vector<Column> columns_;  // By name.
  std::vector<bool> used_;       // Of columns_.
};

// Reads and checks the columns `attribute/` of `num_rows` new items. Afterwards offsets ascend from 0 to the
// number of elements, strings are inside of the text, and bools and nulls are 0 or 1.
absl::StatusOr<std::vector<AttributePart>> ReadAttributes(
    const std::vector<SegmentSchema::Attribute>& attributes, uint64_t num_rows, SegmentColumns* columns);

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_SEGMENT_COLUMNS_H_
