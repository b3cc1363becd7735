#include "extended_array.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

// Closes a file when it goes out of scope.
class File {
 public:
  explicit File(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const { return descriptor_; }

 private:
  const int descriptor_;
};

absl::Status NoMemory(const std::string& what, int64_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(what, ": cannot reserve ", bytes,
                                                   " bytes of address space (", std::strerror(errno),
                                                   "); is it limited (ulimit -v)?"));
}

}  // namespace

ExtendedArray::ExtendedArray(ExtendedArray&& other) noexcept { *this = std::move(other); }

ExtendedArray& ExtendedArray::operator=(ExtendedArray&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

ExtendedArray::~ExtendedArray() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

absl::StatusOr<ExtendedArray> ExtendedArray::Reserve(int64_t bytes) {
  ExtendedArray array;
  array.bytes_ = std::max<int64_t>(bytes, 1);
  // Room that is never used shall count as no memory, wherever the system counts what could be used.
  void* const at =
      mmap(nullptr, array.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return NoMemory("an overlay", bytes);
  array.data_ = static_cast<char*>(at);
  return array;
}

absl::StatusOr<ExtendedArray> ExtendedArray::Map(const std::string& path, int64_t file_bytes, int64_t room) {
  const File file(path);
  struct stat status;
  if (file.descriptor() < 0 || fstat(file.descriptor(), &status) != 0) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be opened: ", std::strerror(errno)));
  }
  if (status.st_size != file_bytes || file_bytes == 0) {
    return absl::NotFoundError(
        absl::StrCat(path, ": expected a file of ", file_bytes, " bytes, found ", status.st_size));
  }
  NANN_ASSIGN_OR_RETURN(ExtendedArray array, Reserve(file_bytes + room));
  // Beyond the file's end its last page is zeros, and a private page of this process once it is written.
  void* const mapped = mmap(array.data_, file_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file.descriptor(), 0);
  if (mapped == MAP_FAILED) return NoMemory(path, file_bytes);
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t whole_pages = file_bytes / page * page;
  if (whole_pages > 0 && mprotect(array.data_, whole_pages, PROT_READ) != 0) {
    return NoMemory(path, file_bytes);
  }
  return array;
}

absl::StatusOr<ExtendedArray> ExtendedArray::Copy(absl::string_view bytes, int64_t room) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  NANN_ASSIGN_OR_RETURN(ExtendedArray array, Reserve(size + room));
  if (size > 0) std::memcpy(array.data_, bytes.data(), size);
  return array;
}

}  // namespace nann
