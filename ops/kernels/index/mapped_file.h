// Read-only files in memory, mapped where the file system can map.
#ifndef NANN_OPS_KERNELS_INDEX_MAPPED_FILE_H_
#define NANN_OPS_KERNELS_INDEX_MAPPED_FILE_H_

#include <memory>
#include <string>
#include <vector>

#include "../../core/index/npy.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

// The alignment in bytes of data that is read in place: a cache line, and the widest vector register.
inline constexpr size_t kDataAlignment = 64;

// Memory aligned to kDataAlignment; its content is not set. data() is null where there is no memory.
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

// A whole file, mapped by TensorFlow's file system, or read into memory where the file system cannot map
// (object stores). Owns the bytes and releases them when destroyed. Movable: the bytes stay where they are.
// Thread-safe: nothing changes. A mapped file must not be truncated while it is used; the product's writers
// never change a file in place.
class MappedFile {
 public:
  // An error names the path and the next step.
  static absl::StatusOr<MappedFile> Open(tensorflow::Env* env, const std::string& path);

  // As Open, but the file is read into memory of its own: it may change or vanish at any time.
  static absl::StatusOr<MappedFile> Read(tensorflow::Env* env, const std::string& path);

  // A copy of `bytes` whose first byte is aligned to kDataAlignment.
  static MappedFile AlignedCopy(absl::string_view bytes);

  absl::string_view bytes() const { return bytes_; }

  // Reads every page once, so that later reads do not wait for the disk.
  void Prefault() const;

 private:
  std::unique_ptr<tensorflow::ReadOnlyMemoryRegion> region_;
  std::unique_ptr<AlignedBuffer> buffer_;
  absl::string_view bytes_;
};

// The array of an .npy file that is opened, checked, and kept in `files`, which the array must not outlive.
// Its data is aligned to kDataAlignment. With `prefault` every page is read once.
absl::StatusOr<NpyArray> MapArray(tensorflow::Env* env, const std::string& path, bool prefault,
                                  std::vector<MappedFile>* files);

}  // namespace nann

#endif  // NANN_OPS_KERNELS_INDEX_MAPPED_FILE_H_
