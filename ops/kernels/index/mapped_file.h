// Whole files in memory, mapped where the file system can.
#ifndef NANN_OPS_KERNELS_INDEX_MAPPED_FILE_H_
#define NANN_OPS_KERNELS_INDEX_MAPPED_FILE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

// Bytes aligned to 64, as vector instructions and TensorFlow like them.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t size);
  char* data() { return data_.get(); }

 private:
  struct Free {
    void operator()(char* data) const;
  };
  std::unique_ptr<char, Free> data_;
};

// A read-only file: mapped through TensorFlow's file system, or read into memory where its scheme cannot map.
// Movable; the bytes stay where they are.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(tensorflow::Env* env, const std::string& path);

  // A copy of `bytes` whose first byte is aligned to 64.
  static MappedFile AlignedCopy(absl::string_view bytes);

  absl::string_view bytes() const { return bytes_; }

  // Reads every page once.
  void Prefault() const;

 private:
  std::unique_ptr<tensorflow::ReadOnlyMemoryRegion> region_;
  std::unique_ptr<AlignedBuffer> buffer_;
  absl::string_view bytes_;
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_MAPPED_FILE_H_
