// Reads NumPy's .npy format (numpy.lib.format, versions 1 to 3) from memory that the caller owns.
#ifndef NANN_OPS_CORE_INDEX_NPY_H_
#define NANN_OPS_CORE_INDEX_NPY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nann {

enum class DType { kFloat32, kFloat16, kUint16, kInt32, kInt64, kUint64, kUint8, kBool };

// NumPy's names of the type, for messages and in files ("float32", "<f4"), and its size in bytes.
const char* DTypeName(DType dtype);
const char* DTypeInFile(DType dtype);
int64_t DTypeSize(DType dtype);

// A checked view of an array: `data` points at exactly product(shape) elements in C order. The caller of
// ParseNpy owns the memory, which must outlive the view.
struct NpyArray {
  std::string path;  // The file, for messages.
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const char* data = nullptr;

  int64_t num_elements() const;
  int64_t num_bytes() const { return num_elements() * DTypeSize(dtype); }
  std::string ShapeString() const;  // As Python prints it: "(3, 64)".

  // The elements as T. The caller has checked `dtype` and alignment.
  template <typename T>
  absl::Span<const T> Elements() const {
    return absl::Span<const T>(reinterpret_cast<const T*>(data), num_elements());
  }
};

// Parses a whole .npy file. InvalidArgument names `path`, what was expected and what was found: when the
// header is malformed, the order is Fortran's, the type is big-endian or not one of DType, or the length of
// the file is not exactly that of header and data.
absl::StatusOr<NpyArray> ParseNpy(const std::string& path, absl::string_view bytes);

// OK when the array has this type and this number of dimensions.
absl::Status CheckArray(const NpyArray& array, DType dtype, int rank);

}  // namespace nann

#endif  // NANN_OPS_CORE_INDEX_NPY_H_
