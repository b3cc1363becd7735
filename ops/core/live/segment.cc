#include "segment.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "../base/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "crc32.h"
#include "segment_columns.h"

namespace nann {
namespace {

constexpr absl::string_view kSegmentMagic("NANNSEG\0", 8);
constexpr uint32_t kFormatVersion = 1;
// The checksum covers everything behind itself.
constexpr size_t kChecksumBegin = 16;

// The file begins with this, in the machine's own byte order: little-endian.
struct Header {
  char magic[8];
  uint32_t format_version;
  uint32_t checksum;
  uint64_t file_bytes;
  uint64_t number;
  uint64_t follows;
  uint64_t positions_before;
  uint64_t new_items;
  int64_t published_micros;
  char export_id[32];
  uint64_t columns;
  char zeros[24];
};
static_assert(sizeof(Header) == 128);

// Reads one file. Its parts are checked in the order of Parse; each step relies on those before it.
class Reader {
 public:
  Reader(const std::string& path, absl::string_view bytes, const SegmentSchema& schema)
      : path_(path), bytes_(bytes), schema_(schema), columns_(path, bytes) {}

  absl::StatusOr<Segment> Parse() {
    NANN_RETURN_IF_ERROR(ReadHeader());
    NANN_RETURN_IF_ERROR(CheckIdentity());
    NANN_RETURN_IF_ERROR(columns_.ReadDirectory(sizeof(Header), header_.columns));
    NANN_RETURN_IF_ERROR(ReadItems());
    NANN_RETURN_IF_ERROR(ReadTables());
    segment_.levels.resize(schema_.num_levels);
    for (int32_t level = 0; level < schema_.num_levels; ++level) NANN_RETURN_IF_ERROR(ReadLevel(level));
    NANN_RETURN_IF_ERROR(CheckLevelZero());
    NANN_ASSIGN_OR_RETURN(segment_.attributes,
                          ReadAttributes(schema_.attributes, segment_.ids.size(), &columns_));
    NANN_RETURN_IF_ERROR(CheckAllUsed());
    return std::move(segment_);
  }

 private:
  template <typename... Parts>
  absl::Status Damaged(const Parts&... parts) const {
    return columns_.Damaged(parts...);
  }

  absl::Status ReadHeader() {
    if (bytes_.size() < sizeof(Header)) {
      return Damaged("expected a header of ", sizeof(Header), " bytes, found a file of ", bytes_.size());
    }
    std::memcpy(&header_, bytes_.data(), sizeof(Header));
    if (absl::string_view(header_.magic, sizeof(header_.magic)) != kSegmentMagic) {
      return Damaged("expected a segment, which begins with NANNSEG, found another file");
    }
    if (header_.format_version != kFormatVersion) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, ": expected format version ", kFormatVersion, ", found ", header_.format_version,
          "; serve with the version of nann that wrote it, or a later one"));
    }
    if (header_.file_bytes != bytes_.size()) {
      return Damaged("expected ", header_.file_bytes, " bytes, found ", bytes_.size());
    }
    const uint32_t checksum = Crc32(bytes_.substr(kChecksumBegin));
    if (header_.checksum != checksum) {
      return Damaged("expected the checksum ", header_.checksum, ", found ", checksum);
    }
    return absl::OkStatus();
  }

  absl::Status CheckIdentity() {
    const absl::string_view export_id(header_.export_id, sizeof(header_.export_id));
    if (export_id != schema_.export_id) {
      return absl::FailedPreconditionError(absl::StrCat(path_, ": expected a segment of export ",
                                                        schema_.export_id, ", found one of ",
                                                        Printable(export_id), "; publish for this export"));
    }
    constexpr uint64_t kMostNumber = std::numeric_limits<uint32_t>::max();
    if (header_.number < 1 || header_.number > kMostNumber || header_.follows >= header_.number) {
      return Damaged("expected a number of 1 to ", kMostNumber, " and a smaller one that it follows, found ",
                     header_.number, " and ", header_.follows);
    }
    const uint64_t capacity = schema_.capacity;
    if (header_.positions_before > capacity || header_.new_items > capacity - header_.positions_before) {
      return absl::ResourceExhaustedError(absl::StrCat(
          path_, ": expected room for ", header_.new_items, " new items behind ", header_.positions_before,
          ", found ", capacity, " positions in base and overlay; the overlay is full: run nann compact"));
    }
    segment_.path = path_;
    segment_.number = static_cast<uint32_t>(header_.number);
    segment_.follows = static_cast<uint32_t>(header_.follows);
    segment_.positions_before = static_cast<int32_t>(header_.positions_before);
    segment_.published_micros = header_.published_micros;
    return absl::OkStatus();
  }

  absl::Status ReadItems() {
    NANN_RETURN_IF_ERROR(columns_.ReadVector("ids", "<i8", &segment_.ids));
    if (segment_.ids.size() != header_.new_items) {
      return Damaged("ids: expected ", header_.new_items, " values, found ", segment_.ids.size());
    }
    NANN_RETURN_IF_ERROR(columns_.ReadVector("deleted", "<i4", &segment_.deleted));
    return CheckPositions("deleted", segment_.deleted, segment_.positions_before);
  }

  // OK when `positions` ascend and are in [0, end).
  absl::Status CheckPositions(const std::string& name, absl::Span<const int32_t> positions,
                              int32_t end) const {
    const auto turn = std::adjacent_find(positions.begin(), positions.end(), std::greater_equal<int32_t>());
    if (turn != positions.end()) {
      return Damaged(name, ": expected ascending positions, found ", turn[1], " after ", turn[0]);
    }
    if (!positions.empty() && (positions.front() < 0 || positions.back() >= end)) {
      return Damaged(name, ": expected positions in [0, ", end, "), found ", positions.front(), " to ",
                     positions.back());
    }
    return absl::OkStatus();
  }

  absl::Status ReadTables() {
    for (const SegmentSchema::ItemTable& table : schema_.tables) {
      const std::string name = absl::StrCat("table/", table.name);
      const SegmentColumns::Column* column = columns_.Find(name);
      if (column == nullptr && !segment_.ids.empty()) {
        return Damaged(name, ": expected rows of the new items, found no such column");
      }
      if (column != nullptr) {
        NANN_RETURN_IF_ERROR(
            columns_.CheckShape(*column, DTypeInFile(table.dtype), segment_.ids.size(), table.width));
      }
      segment_.tables.push_back(column == nullptr ? nullptr : column->data);
    }
    return absl::OkStatus();
  }

  absl::Status ReadLevel(int32_t level) {
    const std::string name = absl::StrCat("links/", level, "/");
    Segment::Lists& lists = segment_.levels[level];
    NANN_RETURN_IF_ERROR(columns_.ReadVector(name + "positions", "<i4", &lists.positions));
    NANN_RETURN_IF_ERROR(columns_.ReadVector(name + "row_splits", "<i8", &lists.row_splits));
    NANN_RETURN_IF_ERROR(columns_.ReadVector(name + "values", "<i4", &lists.values));
    const int32_t end = segment_.positions_after();
    NANN_RETURN_IF_ERROR(CheckPositions(name + "positions", lists.positions, end));
    if (lists.positions.empty() && lists.row_splits.empty() && lists.values.empty()) return absl::OkStatus();
    const absl::Span<const int64_t> splits = lists.row_splits;
    const auto edges = static_cast<int64_t>(lists.values.size());
    if (edges > std::numeric_limits<int32_t>::max()) {
      return Damaged(name, "values: expected fewer than 2^31 values, found ", edges);
    }
    if (splits.size() != lists.positions.size() + 1 || splits.front() != 0 || splits.back() != edges ||
        !std::is_sorted(splits.begin(), splits.end())) {
      return Damaged(name, "row_splits: expected ", lists.positions.size() + 1,
                     " ascending offsets from 0 to ", edges, ", found others");
    }
    const auto bad = std::find_if(lists.values.begin(), lists.values.end(),
                                  [end](int32_t value) { return value < 0 || value >= end; });
    if (bad == lists.values.end()) return absl::OkStatus();
    return Damaged(name, "values: expected positions in [0, ", end, "), found ", *bad);
  }

  // The new positions are the last ones, so they end an ascending vector that has them all.
  absl::Status CheckLevelZero() const {
    const absl::Span<const int32_t> positions = segment_.levels[0].positions;
    const size_t count = segment_.ids.size();
    if (count == 0) return absl::OkStatus();
    if (positions.size() >= count && positions[positions.size() - count] == segment_.positions_before) {
      return absl::OkStatus();
    }
    return Damaged("links/0/positions: expected all ", count, " new positions from ",
                   segment_.positions_before, " on, found others");
  }

  // A column that nobody reads is of another export, or misspelt: its changes would be lost.
  absl::Status CheckAllUsed() const {
    for (const std::string& name : columns_.Unused()) {
      if (absl::StartsWith(name, "state/") || absl::StartsWith(name, "publisher/")) continue;
      return Damaged("expected columns of docs/live.md for this export, found another: ", Printable(name));
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  const absl::string_view bytes_;
  const SegmentSchema& schema_;
  Header header_{};
  SegmentColumns columns_;
  Segment segment_;
};

}  // namespace

absl::StatusOr<Segment> Segment::Parse(const std::string& path, absl::string_view bytes,
                                       const SegmentSchema& schema) {
  return Reader(path, bytes, schema).Parse();
}

}  // namespace nann
