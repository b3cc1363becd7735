// The attributes of the search op that describe its proxy walk.
#ifndef NANN_OPS_KERNELS_WALK_PROXY_ATTRIBUTES_H_
#define NANN_OPS_KERNELS_WALK_PROXY_ATTRIBUTES_H_

#include <algorithm>
#include <string>

#include "../../core/base/status_macros.h"
#include "../../core/walk/beam_search.h"
#include "../index/index_resource.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace nann {

// The part of a kernel that knows the proxy walk: attributes `proxy_*`. Constant once made, so thread-safe.
struct ProxyAttributes {
  std::string features;  // Empty: no proxy walk.
  std::string samples;
  float noise = 0;
  float slack = 0;
  int64_t survey = 0;
  int64_t batch = 0;
  int64_t patience = 0;
  bool probes = false;

  absl::Status Read(tensorflow::OpKernelConstruction* ctx) {
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_features", &features));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_samples", &samples));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_noise", &noise));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_slack", &slack));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_survey", &survey));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_batch", &batch));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_patience", &patience));
    NANN_RETURN_IF_ERROR(ctx->GetAttr("proxy_probes", &probes));
    if (noise > 0 && slack >= 0 && std::max({survey, batch, patience}) <= kMaxBeam) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "expected proxy_noise above 0, proxy_slack of at least 0, and proxy_survey, proxy_batch and "
        "proxy_patience of at most ",
        kMaxBeam, ", found ", noise, ", ", slack, ", ", survey, ", ", batch, " and ", patience));
  }

  // The options over the tables of `index`.
  absl::StatusOr<ProxyOptions> Find(const Index& index) const {
    ProxyOptions options;
    NANN_ASSIGN_OR_RETURN(options.features, index.ItemTable(features));
    NANN_ASSIGN_OR_RETURN(const Table* table, index.Vocabulary(samples));
    options.samples = table->AsInt64();
    options.noise = noise;
    options.slack = slack;
    options.survey = survey;
    options.batch = batch;
    options.patience = patience;
    options.probes = probes;
    NANN_RETURN_IF_ERROR(CheckProxyOptions(options, index.graph().num_base_items()));
    return options;
  }
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_WALK_PROXY_ATTRIBUTES_H_
