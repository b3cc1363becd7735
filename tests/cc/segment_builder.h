// Segment files in memory, for tests.
#ifndef NANN_TESTS_CC_SEGMENT_BUILDER_H_
#define NANN_TESTS_CC_SEGMENT_BUILDER_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "arrays.h"
#include "ops/core/live/crc32.h"

namespace nann {

inline constexpr char kTestExport[] = "0123456789abcdef0123456789abcdef";

// Bytes at an address that is a multiple of 64, and nothing behind them.
class AlignedBytes {
 public:
  explicit AlignedBytes(absl::string_view bytes) : size_(bytes.size()) {
    void* data = nullptr;
    if (posix_memalign(&data, 64, size_ + 1) != 0) std::abort();
    data_.reset(static_cast<char*>(data));
    std::memcpy(data_.get(), bytes.data(), size_);
  }
  absl::string_view view() const { return absl::string_view(data_.get(), size_); }

 private:
  struct Free {
    void operator()(char* data) const { std::free(data); }
  };
  std::unique_ptr<char, Free> data_;
  size_t size_;
};

// Writes one segment, column by column.
class SegmentBuilder {
 public:
  SegmentBuilder(uint64_t number, uint64_t follows, uint64_t positions_before)
      : number_(number), follows_(follows), positions_before_(positions_before) {}

  template <typename T>
  SegmentBuilder& Column(const std::string& name, const std::vector<T>& values, uint64_t width = 1) {
    columns_.push_back(
        {name, kDescr<T>, width == 0 ? 0 : values.size() / width, width,
         std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))});
    return *this;
  }

  SegmentBuilder& Ids(const std::vector<int64_t>& ids) {
    new_items_ = ids.size();
    return Column("ids", ids);
  }

  // The neighbours of each of these positions on a level.
  SegmentBuilder& Links(int level, const std::map<int32_t, std::vector<int32_t>>& lists) {
    std::vector<int32_t> positions, values;
    std::vector<int64_t> splits = {0};
    for (const auto& [position, list] : lists) {
      positions.push_back(position);
      values.insert(values.end(), list.begin(), list.end());
      splits.push_back(static_cast<int64_t>(values.size()));
    }
    const std::string prefix = absl::StrCat("links/", level, "/");
    Column(prefix + "positions", positions);
    Column(prefix + "row_splits", splits);
    return Column(prefix + "values", values);
  }

  SegmentBuilder& ExportId(const std::string& id) {
    export_id_ = id;
    return *this;
  }

  std::string Build() const {
    std::string directory, data;
    const size_t begin = Aligned(128 + 128 * columns_.size());
    for (const Entry& column : columns_) {
      std::string entry(128, '\0');
      std::memcpy(&entry[0], column.name.data(), column.name.size());
      std::memcpy(&entry[96], column.type.data(), column.type.size());
      Put<uint64_t>(&entry, 104, column.rows);
      Put<uint64_t>(&entry, 112, column.width);
      Put<uint64_t>(&entry, 120, begin + data.size());
      directory += entry;
      data += column.bytes;
      data.resize(Aligned(data.size()));
    }
    std::string file(128, '\0');
    std::memcpy(&file[0], "NANNSEG", 7);
    Put<uint32_t>(&file, 8, 1);
    Put<uint64_t>(&file, 24, number_);
    Put<uint64_t>(&file, 32, follows_);
    Put<uint64_t>(&file, 40, positions_before_);
    Put<uint64_t>(&file, 48, new_items_);
    std::memcpy(&file[64], export_id_.data(), export_id_.size());
    Put<uint64_t>(&file, 96, columns_.size());
    file += directory;
    file.resize(begin);
    file += data;
    return Sealed(std::move(file));
  }

  // With the size and the checksum that the bytes have.
  static std::string Sealed(std::string file) {
    if (file.size() < 24) return file;
    Put<uint64_t>(&file, 16, file.size());
    Put<uint32_t>(&file, 12, Crc32(absl::string_view(file).substr(16)));
    return file;
  }

 private:
  struct Entry {
    std::string name, type;
    uint64_t rows, width;
    std::string bytes;
  };

  static size_t Aligned(size_t size) { return (size + 63) / 64 * 64; }

  template <typename T>
  static void Put(std::string* file, size_t at, T value) {
    std::memcpy(&(*file)[at], &value, sizeof(T));
  }

  const uint64_t number_, follows_, positions_before_;
  uint64_t new_items_ = 0;
  std::string export_id_ = kTestExport;
  std::vector<Entry> columns_;
};

}  // namespace nann

#endif  // NANN_TESTS_CC_SEGMENT_BUILDER_H_
