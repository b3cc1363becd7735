#include "segment_columns.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "../base/status_macros.h"

namespace nann {
namespace {

constexpr size_t kAlignment = 64;
// Far more than any export has tables; it bounds the directory.
constexpr uint64_t kMostColumns = 4096;

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

}  // namespace

absl::string_view Printable(absl::string_view text) {
  const auto printable = [](char c) { return c > ' ' && c <= '~'; };
  return text.substr(0, std::find_if_not(text.begin(), text.end(), printable) - text.begin());
}

struct SegmentColumns::Entry {
  char name[96];
  char type[8];
  uint64_t rows;
  uint64_t width;
  uint64_t offset;
};

absl::Status SegmentColumns::ReadDirectory(size_t begin, uint64_t count) {
  static_assert(sizeof(Entry) == 128);
  const uint64_t room = (bytes_.size() - begin) / sizeof(Entry);
  if (count > std::min(room, kMostColumns)) {
    return Damaged("expected at most ", std::min(room, kMostColumns), " columns, found ", count);
  }
  for (uint64_t i = 0; i < count; ++i) {
    Entry entry;
    std::memcpy(&entry, bytes_.data() + begin + i * sizeof(entry), sizeof(entry));
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

absl::StatusOr<SegmentColumns::Column> SegmentColumns::ReadEntry(uint64_t i, const Entry& entry) const {
  Column column;
  column.name = std::string(Padded(entry.name, sizeof(entry.name)));
  column.type = std::string(Padded(entry.type, sizeof(entry.type)));
  column.rows = entry.rows;
  column.width = entry.width;
  const uint64_t size = SizeOfType(column.type);
  if (column.name.empty() || Printable(column.type) != column.type || size == 0) {
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

const SegmentColumns::Column* SegmentColumns::Find(absl::string_view name) {
  const auto at = std::lower_bound(columns_.begin(), columns_.end(), name,
                                   [](const Column& column, absl::string_view n) { return column.name < n; });
  if (at == columns_.end() || at->name != name) return nullptr;
  used_[at - columns_.begin()] = true;
  return &*at;
}

std::vector<std::string> SegmentColumns::Unused() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (!used_[i]) names.push_back(columns_[i].name);
  }
  return names;
}

absl::Status SegmentColumns::CheckShape(const Column& column, absl::string_view type, uint64_t rows,
                                        uint64_t width) const {
  if (column.type == type && column.rows == rows && column.width == width) return absl::OkStatus();
  return Damaged(column.name, ": expected ", rows, " x ", width, " of ", type, ", found ", column.rows, " x ",
                 column.width, " of ", column.type);
}

}  // namespace nann
