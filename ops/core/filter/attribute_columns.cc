#include "attribute_columns.h"

#include <algorithm>
#include <limits>

#include "../base/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bits.h"

namespace nann {
namespace {

constexpr char kAgain[] = "; the file is damaged or of another export: copy it or export again";

struct ValueTypeInfo {
  ValueType type;
  const char* name;
  DType stored;
};
constexpr ValueTypeInfo kValueTypes[] = {{ValueType::kInt64, "int64", DType::kInt64},
                                         {ValueType::kFloat32, "float32", DType::kFloat32},
                                         {ValueType::kBool, "bool", DType::kBool},
                                         {ValueType::kString, "string", DType::kInt32}};

const ValueTypeInfo& InfoOf(ValueType type) { return kValueTypes[static_cast<int>(type)]; }

absl::Status Damaged(const NpyArray& array, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(array.path, ": ", what, kAgain));
}

absl::Status CheckLength(const NpyArray& array, int64_t expected, const std::string& why) {
  if (array.num_elements() == expected) return absl::OkStatus();
  return Damaged(array,
                 absl::StrCat("expected ", expected, " values (", why, "), found ", array.num_elements()));
}

absl::Status CheckPresent(const AttributeArrays& attribute, bool present, bool expected, const char* part) {
  if (present == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("attribute ", attribute.name, ": expected ",
                                                 expected ? "an" : "no", " array ", part, " for the type ",
                                                 attribute.type.ToString(), "; export again"));
}

// Offsets from 0 to `end` that never decrease, of at least one entry.
absl::Status CheckOffsets(const NpyArray& array, int64_t end) {
  NANN_RETURN_IF_ERROR(CheckArray(array, DType::kInt64, 1));
  const absl::Span<const int64_t> offsets = array.Elements<int64_t>();
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != end) {
    return Damaged(array,
                   absl::StrCat("expected offsets from 0 to ", end, ", found ",
                                offsets.empty() ? std::string("none")
                                                : absl::StrCat(offsets.front(), " to ", offsets.back())));
  }
  for (size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] < offsets[i - 1]) {
      return Damaged(array, absl::StrCat("expected offsets that never decrease, found ", offsets[i],
                                         " after ", offsets[i - 1], " at index ", i));
    }
  }
  return absl::OkStatus();
}

// Sets `*bits` to the words of a bitmap over `count` values.
absl::Status OpenBitmap(const std::optional<NpyArray>& array, int64_t count, const uint64_t** bits) {
  if (!array.has_value()) return absl::OkStatus();
  NANN_RETURN_IF_ERROR(CheckArray(*array, DType::kUint64, 1));
  NANN_RETURN_IF_ERROR(CheckLength(*array, NumWords(count), absl::StrCat("one bit for each of ", count)));
  *bits = array->Elements<uint64_t>().data();
  return absl::OkStatus();
}

absl::Status OpenDictionary(const AttributeArrays& attribute, AttributeColumn* column) {
  const NpyArray& bytes = *attribute.dictionary;
  const NpyArray& offsets = *attribute.dictionary_offsets;
  NANN_RETURN_IF_ERROR(CheckArray(bytes, DType::kUint8, 1));
  NANN_RETURN_IF_ERROR(CheckOffsets(offsets, bytes.num_elements()));
  if (offsets.num_elements() > std::numeric_limits<int32_t>::max()) {
    return Damaged(offsets, absl::StrCat("expected at most 2^31 - 2 distinct strings, found ",
                                         offsets.num_elements() - 1));
  }
  column->dictionary = bytes.data;
  column->dictionary_offsets = offsets.Elements<int64_t>();
  // Comparisons are binary searches in the dictionary.
  for (int64_t i = 1; i < column->num_strings(); ++i) {
    if (column->String(i - 1) >= column->String(i)) {
      return Damaged(bytes, absl::StrCat("expected distinct strings in ascending order of their bytes, found "
                                         "another order at string ",
                                         i));
    }
  }
  return absl::OkStatus();
}

// OK when every code is a row of the dictionary, or -1 where `valid` says NULL.
absl::Status CheckCodes(const NpyArray& array, int64_t num_strings, const uint64_t* valid) {
  const absl::Span<const int32_t> codes = array.Elements<int32_t>();
  for (size_t i = 0; i < codes.size(); ++i) {
    const bool null = valid != nullptr && !TestBit(valid, i);
    if (codes[i] >= num_strings || codes[i] < (null ? -1 : 0)) {
      return Damaged(array, absl::StrCat("expected codes in [0, ", num_strings, "), or -1 for NULL, found ",
                                         codes[i], " at index ", i));
    }
  }
  return absl::OkStatus();
}

absl::Status OpenValues(const AttributeArrays& attribute, AttributeColumn* column) {
  const NpyArray& values = attribute.values;
  switch (attribute.type.value) {
    case ValueType::kInt64:
      column->int64s = values.Elements<int64_t>();
      return absl::OkStatus();
    case ValueType::kFloat32:
      column->floats = values.Elements<float>();
      return absl::OkStatus();
    case ValueType::kBool: {
      column->bools = values.Elements<uint8_t>();
      const auto bad =
          std::find_if(column->bools.begin(), column->bools.end(), [](uint8_t b) { return b > 1; });
      if (bad == column->bools.end()) return absl::OkStatus();
      return Damaged(values, absl::StrCat("expected bytes of 0 or 1, found ", static_cast<int>(*bad),
                                          " at index ", bad - column->bools.begin()));
    }
    case ValueType::kString:
      column->codes = values.Elements<int32_t>();
      NANN_RETURN_IF_ERROR(OpenDictionary(attribute, column));
      return CheckCodes(values, column->num_strings(),
                        attribute.type.is_list ? column->element_valid : column->valid);
  }
  return absl::OkStatus();
}

absl::StatusOr<AttributeColumn> Open(const AttributeArrays& attribute, int64_t num_rows) {
  const bool is_list = attribute.type.is_list;
  const bool is_string = attribute.type.value == ValueType::kString;
  NANN_RETURN_IF_ERROR(CheckPresent(attribute, attribute.offsets.has_value(), is_list, "of offsets"));
  NANN_RETURN_IF_ERROR(CheckPresent(attribute, attribute.dictionary.has_value(), is_string, "of strings"));
  NANN_RETURN_IF_ERROR(CheckPresent(attribute, attribute.dictionary_offsets.has_value(), is_string,
                                    "of the strings' offsets"));
  NANN_RETURN_IF_ERROR(CheckArray(attribute.values, InfoOf(attribute.type.value).stored, 1));
  AttributeColumn column;
  column.name = attribute.name;
  column.type = attribute.type;
  const int64_t elements = attribute.values.num_elements();
  if (is_list) {
    NANN_RETURN_IF_ERROR(CheckOffsets(*attribute.offsets, elements));
    NANN_RETURN_IF_ERROR(CheckLength(*attribute.offsets, num_rows + 1, absl::StrCat(num_rows, " items + 1")));
    column.offsets = attribute.offsets->Elements<int64_t>();
    NANN_RETURN_IF_ERROR(OpenBitmap(attribute.element_valid, elements, &column.element_valid));
  } else {
    NANN_RETURN_IF_ERROR(CheckLength(attribute.values, num_rows, "one per item"));
  }
  NANN_RETURN_IF_ERROR(OpenBitmap(attribute.valid, num_rows, &column.valid));
  NANN_RETURN_IF_ERROR(OpenValues(attribute, &column));
  return column;
}

}  // namespace

absl::StatusOr<AttributeType> AttributeType::Parse(absl::string_view name) {
  for (const ValueTypeInfo& info : kValueTypes) {
    if (name == info.name) return AttributeType{info.type, false};
    if (name == absl::StrCat("list<", info.name, ">")) return AttributeType{info.type, true};
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "expected a type of attributes, int64, float32, bool, string or list<...> of these, found \"", name,
      "\"; is the export of a newer version?"));
}

std::string AttributeType::ToString() const {
  const char* name = InfoOf(value).name;
  return is_list ? absl::StrCat("list<", name, ">") : std::string(name);
}

absl::StatusOr<AttributeColumns> AttributeColumns::Create(absl::Span<const AttributeArrays> attributes,
                                                          int64_t num_rows) {
  AttributeColumns columns;
  columns.num_rows_ = num_rows;
  for (const AttributeArrays& attribute : attributes) {
    if (attribute.name.empty() || columns.Find(attribute.name) != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("attributes: expected distinct names, whatever the case of their letters, found \"",
                       attribute.name, "\"", attribute.name.empty() ? "" : " twice", "; export again"));
    }
    NANN_ASSIGN_OR_RETURN(AttributeColumn column, Open(attribute, num_rows));
    columns.columns_.push_back(std::move(column));
  }
  return columns;
}

const AttributeColumn* AttributeColumns::Find(absl::string_view name) const {
  for (const AttributeColumn& column : columns_) {
    if (absl::EqualsIgnoreCase(column.name, name)) return &column;
  }
  return nullptr;
}

}  // namespace nann
