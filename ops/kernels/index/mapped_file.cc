#include "mapped_file.h"

#include <cstring>
#include <new>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

constexpr std::align_val_t kBufferAlignment{kDataAlignment};
// The smallest page of x86-64 and arm64: with larger pages a page is read more than once, which costs little.
constexpr size_t kPage = 4096;

absl::Status AtPath(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": cannot be read: ", status.message(),
                                                  "; is the export complete and readable?"));
}

absl::StatusOr<std::unique_ptr<AlignedBuffer>> ReadWhole(tensorflow::Env* env, const std::string& path,
                                                         uint64_t* size) {
  NANN_RETURN_IF_ERROR(env->GetFileSize(path, size));
  std::unique_ptr<tensorflow::RandomAccessFile> file;
  NANN_RETURN_IF_ERROR(env->NewRandomAccessFile(path, &file));
  auto buffer = std::make_unique<AlignedBuffer>(*size);
  if (buffer->data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for its ", *size, " bytes"));
  }
  absl::string_view result;
  // This overload is the one that TensorFlow 2.20 and 2.21 share.
  NANN_RETURN_IF_ERROR(file->Read(0, *size, &result, buffer->data()));
  // A file system may answer from memory of its own.
  if (result.data() != buffer->data()) std::memmove(buffer->data(), result.data(), result.size());
  return buffer;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t size)
    : data_(static_cast<char*>(::operator new(size, kBufferAlignment, std::nothrow))) {}

void AlignedBuffer::Free::operator()(char* data) const { ::operator delete(data, kBufferAlignment); }

absl::StatusOr<MappedFile> MappedFile::Open(tensorflow::Env* env, const std::string& path) {
  MappedFile file;
  const absl::Status mapped = env->NewReadOnlyMemoryRegionFromFile(path, &file.region_);
  if (mapped.ok()) {
    file.bytes_ = absl::string_view(static_cast<const char*>(file.region_->data()), file.region_->length());
    return file;
  }
  if (mapped.code() != absl::StatusCode::kUnimplemented) return AtPath(path, mapped);
  return Read(env, path);
}

absl::StatusOr<MappedFile> MappedFile::Read(tensorflow::Env* env, const std::string& path) {
  MappedFile file;
  uint64_t size = 0;
  absl::StatusOr<std::unique_ptr<AlignedBuffer>> buffer = ReadWhole(env, path, &size);
  if (!buffer.ok()) return AtPath(path, buffer.status());
  file.buffer_ = *std::move(buffer);
  file.bytes_ = absl::string_view(file.buffer_->data(), size);
  return file;
}

MappedFile MappedFile::AlignedCopy(absl::string_view bytes) {
  MappedFile file;
  file.buffer_ = std::make_unique<AlignedBuffer>(bytes.size());
  std::memcpy(file.buffer_->data(), bytes.data(), bytes.size());
  file.bytes_ = absl::string_view(file.buffer_->data(), bytes.size());
  return file;
}

void MappedFile::Prefault() const {
  volatile char sink = 0;  // The compiler must not leave the reads out.
  for (size_t at = 0; at < bytes_.size(); at += kPage) sink = bytes_[at];
  (void)sink;
}

absl::StatusOr<NpyArray> MapArray(tensorflow::Env* env, const std::string& path, bool prefault,
                                  std::vector<MappedFile>* files) {
  NANN_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(env, path));
  if (prefault) file.Prefault();
  NANN_ASSIGN_OR_RETURN(NpyArray array, ParseNpy(path, file.bytes()));
  if (reinterpret_cast<uintptr_t>(array.data) % kDataAlignment != 0) {
    file = MappedFile::AlignedCopy(absl::string_view(array.data, array.num_bytes()));
    array.data = file.bytes().data();
  }
  files->push_back(std::move(file));
  return array;
}

}  // namespace nann
