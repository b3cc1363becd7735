#include "segment.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "../base/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "crc32.h"

namespace nann {
namespace {

constexpr absl::string_view kSegmentMagic("NANNSEG\0", 8);
constexpr uint32_t kFormatVersion = 1;
// The checksum covers everything behind itself.
constexpr size_t kChecksumBegin = 16;
constexpr size_t kAlignment = 64;
// Far more than any export has tables; it bounds the directory.
constexpr uint64_t kMostColumns = 4096;

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

struct DirectoryEntry {
  char name[96];
  char type[8];
  uint64_t rows;
  uint64_t width;
  uint64_t offset;
};
static_assert(sizeof(DirectoryEntry) == 128);

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

// NumPy's name of a type in files, and its size; 0 for an unknown one.
uint64_t SizeOfType(absl::string_view type) {
  constexpr absl::string_view kTypes[] = {"|u1", "|i1", "|b1", "<u2", "<i2", "<f2",
                                          "<u4", "<i4", "<f4", "<u8", "<i8", "<f8"};
  const bool known = std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
  return known ? type[2] - '0' : 0;
}

// The characters before the first zero byte; nothing where there is none.
absl::string_view Padded(const char* field, size_t size) {
  const void* end = std::memchr(field, 0, size);
  return absl::string_view(field, end == nullptr ? 0 : static_cast<const char*>(end) - field);
}

// Reads one file. Its parts are checked in the order of Parse; each step relies on those before it.
class Reader {
 public:
  Reader(const std::string& path, absl::string_view bytes, const SegmentSchema& schema)
      : path_(path), bytes_(bytes), schema_(schema) {}

  absl::StatusOr<Segment> Parse() {
    NANN_RETURN_IF_ERROR(ReadHeader());
    NANN_RETURN_IF_ERROR(CheckIdentity());
    NANN_RETURN_IF_ERROR(ReadDirectory());
    NANN_RETURN_IF_ERROR(ReadItems());
    NANN_RETURN_IF_ERROR(ReadTables());
    segment_.levels.resize(schema_.num_levels);
    for (int32_t level = 0; level < schema_.num_levels; ++level) NANN_RETURN_IF_ERROR(ReadLevel(level));
    NANN_RETURN_IF_ERROR(CheckLevelZero());
    NANN_RETURN_IF_ERROR(CheckAllUsed());
    return std::move(segment_);
  }

 private:
  template <typename... Parts>
  absl::Status Damaged(const Parts&... parts) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", parts..., "; the file is damaged: copy or publish the segment again"));
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
      return absl::FailedPreconditionError(absl::StrCat(
          path_, ": expected a segment of export ", schema_.export_id, ", found one of ",
          absl::string_view(export_id.data(), Printable(export_id)), "; publish for this export"));
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

  // How much of a text is printable ASCII.
  static size_t Printable(absl::string_view text) {
    const auto printable = [](char c) { return c > ' ' && c <= '~'; };
    return std::find_if_not(text.begin(), text.end(), printable) - text.begin();
  }

  absl::Status ReadDirectory() {
    const uint64_t room = (bytes_.size() - sizeof(Header)) / sizeof(DirectoryEntry);
    if (header_.columns > std::min(room, kMostColumns)) {
      return Damaged("expected at most ", std::min(room, kMostColumns), " columns, found ", header_.columns);
    }
    for (uint64_t i = 0; i < header_.columns; ++i) {
      DirectoryEntry entry;
      std::memcpy(&entry, bytes_.data() + sizeof(Header) + i * sizeof(entry), sizeof(entry));
      NANN_ASSIGN_OR_RETURN(Column column, ReadEntry(i, entry));
      columns_.push_back(std::move(column));
    }
    std::sort(columns_.begin(), columns_.end(),
              [](const Column& a, const Column& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(columns_.begin(), columns_.end(),
                                          [](const Column& a, const Column& b) { return a.name == b.name; });
    if (twice != columns_.end()) return Damaged("expected each column once, found ", twice->name, " twice");
    used_.assign(columns_.size(), false);
    return absl::OkStatus();
  }

  absl::StatusOr<Column> ReadEntry(uint64_t i, const DirectoryEntry& entry) const {
    Column column;
    column.name = std::string(Padded(entry.name, sizeof(entry.name)));
    column.type = std::string(Padded(entry.type, sizeof(entry.type)));
    column.rows = entry.rows;
    column.width = entry.width;
    const uint64_t size = SizeOfType(column.type);
    if (column.name.empty() || Printable(column.type) != column.type.size() || size == 0) {
      return Damaged("expected a name and a type of NumPy in entry ", i, " of the directory, found others");
    }
    const uint64_t most = bytes_.size() / size;
    const bool counts_fit = column.width == 0 || column.rows <= most / column.width;
    const uint64_t length = counts_fit ? column.rows * column.width * size : 0;
    if (!counts_fit || entry.offset % kAlignment != 0 || entry.offset > bytes_.size() ||
        length > bytes_.size() - entry.offset) {
      return Damaged("column ", i, ": expected it at a multiple of ", kAlignment, " and inside of ",
                     bytes_.size(), " bytes, found ", column.rows, " x ", column.width, " of ", column.type,
                     " at ", entry.offset);
    }
    column.data = bytes_.data() + entry.offset;
    return column;
  }

  // The column of a name, null where there is none.
  const Column* Find(absl::string_view name) {
    const auto at =
        std::lower_bound(columns_.begin(), columns_.end(), name,
                         [](const Column& column, absl::string_view n) { return column.name < n; });
    if (at == columns_.end() || at->name != name) return nullptr;
    used_[at - columns_.begin()] = true;
    return &*at;
  }

  absl::Status CheckShape(const Column& column, absl::string_view type, uint64_t rows, uint64_t width) const {
    if (column.type == type && column.rows == rows && column.width == width) return absl::OkStatus();
    return Damaged(column.name, ": expected ", rows, " x ", width, " of ", type, ", found ", column.rows,
                   " x ", column.width, " of ", column.type);
  }

  // Sets `values` to a vector; it stays empty where the column is absent and none is needed.
  template <typename T>
  absl::Status ReadVector(const std::string& name, const char* type, absl::Span<const T>* values) {
    const Column* column = Find(name);
    if (column == nullptr) return absl::OkStatus();
    NANN_RETURN_IF_ERROR(CheckShape(*column, type, column->rows, 1));
    *values = column->Elements<T>();
    return absl::OkStatus();
  }

  absl::Status ReadItems() {
    NANN_RETURN_IF_ERROR(ReadVector("ids", "<i8", &segment_.ids));
    if (segment_.ids.size() != header_.new_items) {
      return Damaged("ids: expected ", header_.new_items, " values, found ", segment_.ids.size());
    }
    NANN_RETURN_IF_ERROR(ReadVector("deleted", "<i4", &segment_.deleted));
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
      const Column* column = Find(name);
      if (column == nullptr && !segment_.ids.empty()) {
        return Damaged(name, ": expected rows of the new items, found no such column");
      }
      if (column != nullptr) {
        NANN_RETURN_IF_ERROR(CheckShape(*column, DTypeInFile(table.dtype), segment_.ids.size(), table.width));
      }
      segment_.tables.push_back(column == nullptr ? nullptr : column->data);
    }
    return absl::OkStatus();
  }

  absl::Status ReadLevel(int32_t level) {
    const std::string name = absl::StrCat("links/", level, "/");
    Segment::Lists& lists = segment_.levels[level];
    NANN_RETURN_IF_ERROR(ReadVector(name + "positions", "<i4", &lists.positions));
    NANN_RETURN_IF_ERROR(ReadVector(name + "row_splits", "<i8", &lists.row_splits));
    NANN_RETURN_IF_ERROR(ReadVector(name + "values", "<i4", &lists.values));
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
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& name = columns_[i].name;
      const bool skipped = absl::StartsWith(name, "state/") || absl::StartsWith(name, "attribute/") ||
                           absl::StartsWith(name, "publisher/");
      if (!used_[i] && !skipped) {
        return Damaged("expected columns of docs/live.md for this export, found another: ",
                       absl::string_view(name.data(), Printable(name)));
      }
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  const absl::string_view bytes_;
  const SegmentSchema& schema_;
  Header header_{};
  std::vector<Column> columns_;  // By name.
  std::vector<bool> used_;       // Of columns_.
  Segment segment_;
};

}  // namespace

absl::StatusOr<Segment> Segment::Parse(const std::string& path, absl::string_view bytes,
                                       const SegmentSchema& schema) {
  return Reader(path, bytes, schema).Parse();
}

}  // namespace nann
