// The array of a file with room behind it, at one address: rows of the base and new rows are one table.
#ifndef NANN_OPS_CORE_LIVE_EXTENDED_ARRAY_H_
#define NANN_OPS_CORE_LIVE_EXTENDED_ARRAY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace nann {

// Memory of its own: what is behind the file's bytes is zero and takes no page until it is written. Movable;
// the bytes stay where they are. One thread may write what others do not read yet.
class ExtendedArray {
 public:
  ExtendedArray() = default;
  ExtendedArray(ExtendedArray&& other) noexcept;
  ExtendedArray& operator=(ExtendedArray&& other) noexcept;
  ~ExtendedArray();

  // Maps the file at `path` from its beginning to its end, which is `file_bytes`, and has `room` bytes behind
  // it. Pages of the file are shared with all who map it; the last one, where room begins, is copied when it
  // is written. NotFound when the path is none of this machine's file systems.
  static absl::StatusOr<ExtendedArray> Map(const std::string& path, int64_t file_bytes, int64_t room);

  // A copy of `bytes` with room behind it.
  static absl::StatusOr<ExtendedArray> Copy(absl::string_view bytes, int64_t room);

  // Zeros alone. Aligned to a page.
  static absl::StatusOr<ExtendedArray> Zeros(int64_t bytes) { return Copy({}, bytes); }

  char* data() const { return data_; }

 private:
  static absl::StatusOr<ExtendedArray> Reserve(int64_t bytes);

  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_LIVE_EXTENDED_ARRAY_H_
