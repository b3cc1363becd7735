// The native executor of a scorer, and shorter ones for users whose events are masked in part.
#ifndef NANN_OPS_CORE_SCORER_USER_EXECUTORS_H_
#define NANN_OPS_CORE_SCORER_USER_EXECUTORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "masked_axis.h"
#include "native_executor.h"

namespace nann {

// Positions that a user masks are left out of what is computed for items (masked_axis.h). An executor is made
// once for each number of positions, when a user first has so many. Thread-safe: `made_` is guarded by
// `mutex_`, what it holds is immutable and lives as long as this.
class UserExecutors {
 public:
  UserExecutors(std::shared_ptr<const ScorerProgram> program, const NativeExecutor::Options& options);

  // Runs the user section, and scores any user's items.
  const NativeExecutor& whole() const { return whole_; }

  // What scores the items of one user.
  struct Choice {
    const NativeExecutor* executor = nullptr;
    std::vector<std::vector<int>> live;  // Per axis: the positions that are computed. None for `whole`.
  };
  // `user` is of `whole`, after its RunUser.
  Choice Choose(const AlignedFloats& user) const;

  // What an executor that leaves positions out reads of the user, in memory of its MakeUser.
  void TakeUser(const Choice& choice, const AlignedFloats& user, AlignedFloats* shorter) const;

 private:
  using Positions = std::vector<int>;

  Positions LivePositions(const MaskedAxis& axis, const AlignedFloats& user) const;
  bool AreMasked(const MaskedAxis& axis, const AlignedFloats& user, const Positions& live) const;
  bool HasUnmasked(const MaskedAxis& axis, const Mask& mask, const AlignedFloats& user,
                   const std::vector<bool>& is_live) const;
  bool IsFiniteWithout(const MaskedAxis& axis, const AlignedFloats& user,
                       const std::vector<bool>& is_live) const;
  const NativeExecutor* ExecutorFor(const std::vector<Positions>& live) const;
  std::shared_ptr<const ScorerProgram> ShortProgram(const std::vector<Positions>& live) const;
  RowsView ValueOf(int value, const AlignedFloats& user) const;
  const ValueShape& ShapeOf(int value) const { return whole_.program().instructions()[value].shape; }

  const NativeExecutor whole_;
  const std::vector<MaskedAxis> axes_;
  std::vector<int> read_;  // Values of the user, and constants with positions, that items are computed from.
  std::vector<std::vector<int64_t>> cuts_;  // Per axis: where spans begin and end, and positions kept.
  mutable std::mutex mutex_;
  mutable std::map<std::vector<int>, std::unique_ptr<const NativeExecutor>> made_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_USER_EXECUTORS_H_
