// The attributes of an export: mapped files, the columns in them, and the filters over these.
#ifndef NANN_OPS_KERNELS_FILTER_MAPPED_ATTRIBUTES_H_
#define NANN_OPS_KERNELS_FILTER_MAPPED_ATTRIBUTES_H_

#include <memory>
#include <string>
#include <vector>

#include "../../core/filter/attribute_columns.h"
#include "../../core/filter/filter_cache.h"
#include "../index/mapped_file.h"
#include "absl/status/statusor.h"
#include "tensorflow/core/platform/env.h"

namespace nann {

// The arrays of an attribute in files, as ops take their paths: values, valid, offsets, element_valid,
// dictionary, dictionary_offsets (see AttributeArrays). nann.ops.AttributeFiles has the same order.
inline constexpr int kAttributeParts = 6;

// One attribute as the inputs of an op describe it.
struct AttributeFiles {
  std::string name;
  std::string type;                // As AttributeType::Parse takes it.
  std::vector<std::string> paths;  // kAttributeParts; empty where there is no such array.
};

// Owns the files; columns and filters are views of them. Thread-safe: the columns never change, and the cache
// guards itself. Filters must not outlive it.
class MappedAttributes {
 public:
  // Maps and checks every file. With `prefault` every page is read once. An error names the file, what was
  // expected, what was found, and the next step.
  static absl::StatusOr<std::unique_ptr<MappedAttributes>> Open(tensorflow::Env* env,
                                                                const std::vector<AttributeFiles>& attributes,
                                                                int64_t num_rows, bool prefault,
                                                                const FilterCacheOptions& options = {});

  const AttributeColumns& columns() const { return columns_; }
  FilterCache& filters() const { return *filters_; }

 private:
  MappedAttributes() = default;

  std::vector<MappedFile> files_;
  AttributeColumns columns_;
  std::unique_ptr<FilterCache> filters_;
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_FILTER_MAPPED_ATTRIBUTES_H_
