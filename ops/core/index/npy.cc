#include "npy.h"

#include <cstring>
#include <limits>

#include "../base/status_macros.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace nann {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicSize = 6;

struct TypeInfo {
  DType dtype;
  const char* descr;
  const char* name;
  int64_t size;
};
constexpr TypeInfo kTypes[] = {
    {DType::kFloat32, "<f4", "float32", 4}, {DType::kFloat16, "<f2", "float16", 2},
    {DType::kUint16, "<u2", "uint16", 2},   {DType::kInt32, "<i4", "int32", 4},
    {DType::kInt64, "<i8", "int64", 8},     {DType::kUint64, "<u8", "uint64", 8},
    {DType::kUint8, "|u1", "uint8", 1},     {DType::kBool, "|b1", "bool", 1},
};

const TypeInfo& InfoOf(DType dtype) {
  for (const TypeInfo& info : kTypes) {
    if (info.dtype == dtype) return info;
  }
  return kTypes[0];
}

absl::Status Malformed(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": not a valid .npy file: ", what, "; write the file again with numpy.save"));
}

uint32_t LittleEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// The text after `'key':` up to the end of that value; empty when the key is missing.
absl::string_view ValueOf(absl::string_view header, absl::string_view key) {
  const size_t at = header.find(absl::StrCat("'", key, "':"));
  if (at == absl::string_view::npos) return "";
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(header.substr(at + key.size() + 3));
  if (absl::StartsWith(rest, "(")) {
    const size_t close = rest.find(')');
    return close == absl::string_view::npos ? "" : rest.substr(1, close - 1);
  }
  return absl::StripTrailingAsciiWhitespace(rest.substr(0, rest.find_first_of(",}")));
}

absl::Status ParseShape(const std::string& path, absl::string_view text, int64_t itemsize,
                        std::vector<int64_t>* shape) {
  int64_t elements = 1;  // Of all dimensions but zeros, so that no product of some of them overflows either.
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (part.empty()) continue;
    int64_t dim;
    if (!absl::SimpleAtoi(part, &dim) || dim < 0) {
      return Malformed(path, absl::StrCat("bad shape (", text, ")"));
    }
    if (dim > 0 && elements > std::numeric_limits<int64_t>::max() / itemsize / dim) {
      return Malformed(path, absl::StrCat("shape (", text, ") is larger than any memory"));
    }
    if (dim > 0) elements *= dim;
    shape->push_back(dim);
  }
  return absl::OkStatus();
}

absl::Status ParseHeader(absl::string_view header, NpyArray* array) {
  const absl::string_view descr = ValueOf(header, "descr");
  const TypeInfo* type = nullptr;
  for (const TypeInfo& info : kTypes) {
    if (descr == absl::StrCat("'", info.descr, "'")) type = &info;
  }
  if (type == nullptr) {
    return Malformed(array->path, absl::StrCat("expected a little-endian float32, float16, uint16, int32, "
                                               "int64 or uint64 array, or one of uint8 or bool, found dtype ",
                                               descr.empty() ? absl::string_view("(none)") : descr));
  }
  array->dtype = type->dtype;
  if (ValueOf(header, "fortran_order") != "False") {
    return Malformed(array->path, "expected C order, found Fortran order");
  }
  if (header.find("'shape': (") == absl::string_view::npos) return Malformed(array->path, "no shape");
  return ParseShape(array->path, ValueOf(header, "shape"), type->size, &array->shape);
}

}  // namespace

const char* DTypeInFile(DType dtype) { return InfoOf(dtype).descr; }
const char* DTypeName(DType dtype) { return InfoOf(dtype).name; }
int64_t DTypeSize(DType dtype) { return InfoOf(dtype).size; }

int64_t NpyArray::num_elements() const {
  int64_t elements = 1;
  for (int64_t dim : shape) elements *= dim;
  return elements;
}

std::string NpyArray::ShapeString() const {
  return absl::StrCat("(", absl::StrJoin(shape, ", "), shape.size() == 1 ? ",)" : ")");
}

absl::StatusOr<NpyArray> ParseNpy(const std::string& path, absl::string_view bytes) {
  if (bytes.size() < kMagicSize + 2 || std::memcmp(bytes.data(), kMagic, kMagicSize) != 0) {
    return Malformed(path, absl::StrCat("the first bytes are not \\x93NUMPY (", bytes.size(), " bytes)"));
  }
  const int version = static_cast<unsigned char>(bytes[kMagicSize]);
  if (version < 1 || version > 3) return Malformed(path, absl::StrCat("unknown version ", version));
  const size_t length_size = version == 1 ? 2 : 4;
  const size_t header_at = kMagicSize + 2 + length_size;
  if (bytes.size() < header_at) return Malformed(path, "the header is cut off");
  const size_t header_size = LittleEndian(bytes.substr(kMagicSize + 2, length_size));
  if (bytes.size() - header_at < header_size) return Malformed(path, "the header is cut off");

  NpyArray array;
  array.path = path;
  NANN_RETURN_IF_ERROR(ParseHeader(bytes.substr(header_at, header_size), &array));
  array.data = bytes.data() + header_at + header_size;
  const int64_t data_bytes = static_cast<int64_t>(bytes.size() - header_at - header_size);
  if (data_bytes != array.num_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected ", array.num_bytes(), " bytes of data for ", DTypeName(array.dtype),
                     " ", array.ShapeString(), ", found ", data_bytes,
                     "; the file is truncated or damaged: copy or write it again"));
  }
  return array;
}

absl::Status CheckArray(const NpyArray& array, DType dtype, int rank) {
  if (array.dtype == dtype && static_cast<int>(array.shape.size()) == rank) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      array.path, ": expected a ", DTypeName(dtype), " array of rank ", rank, ", found ",
      DTypeName(array.dtype), " ", array.ShapeString(), "; was the file written by `nann index`?"));
}

}  // namespace nann
