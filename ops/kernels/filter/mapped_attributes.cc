#include "mapped_attributes.h"

#include <optional>
#include <utility>

#include "../../core/base/status_macros.h"
#include "absl/strings/str_cat.h"

namespace nann {

absl::StatusOr<std::unique_ptr<MappedAttributes>> MappedAttributes::Open(
    tensorflow::Env* env, const std::vector<AttributeFiles>& attributes, int64_t num_rows, bool prefault,
    const FilterCacheOptions& options) {
  std::unique_ptr<MappedAttributes> mapped(new MappedAttributes());
  std::vector<AttributeArrays> all;
  for (const AttributeFiles& attribute : attributes) {
    if (attribute.paths.size() != kAttributeParts || attribute.paths[0].empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("attribute ", attribute.name, ": expected ", kAttributeParts,
                       " paths, the first one of its values; pass those of nann.ops.AttributeFiles"));
    }
    AttributeArrays arrays;
    arrays.name = attribute.name;
    NANN_ASSIGN_OR_RETURN(arrays.type, AttributeType::Parse(attribute.type));
    NANN_ASSIGN_OR_RETURN(arrays.values, MapArray(env, attribute.paths[0], prefault, &mapped->files_));
    std::optional<NpyArray>* const others[] = {&arrays.valid, &arrays.offsets, &arrays.element_valid,
                                               &arrays.dictionary, &arrays.dictionary_offsets};
    for (int part = 1; part < kAttributeParts; ++part) {
      const std::string& path = attribute.paths[part];
      if (path.empty()) continue;
      NANN_ASSIGN_OR_RETURN(*others[part - 1], MapArray(env, path, prefault, &mapped->files_));
    }
    all.push_back(std::move(arrays));
  }
  NANN_ASSIGN_OR_RETURN(mapped->columns_, AttributeColumns::Create(all, num_rows));
  mapped->filters_ = std::make_unique<FilterCache>(&mapped->columns_, options);
  return mapped;
}

}  // namespace nann
