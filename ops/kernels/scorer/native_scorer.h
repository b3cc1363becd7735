// A scorer program as the ops run it: over TensorFlow's tensors, with pooled memory.
#ifndef NANN_OPS_KERNELS_SCORER_NATIVE_SCORER_H_
#define NANN_OPS_KERNELS_SCORER_NATIVE_SCORER_H_

#include <memory>
#include <vector>

#include "../../core/base/object_pool.h"
#include "../../core/scorer/user_executors.h"
#include "absl/status/status.h"
#include "tensorflow/core/framework/tensor.h"

namespace nann {

// Thread-safe: executors are immutable, UserExecutors and the pools guard themselves.
class NativeScorer {
 public:
  using Memory = ObjectPool<AlignedFloats>::Loan;

  // Scores tiles of at most `tile_rows` rows.
  NativeScorer(std::shared_ptr<const ScorerProgram> program, int64_t tile_rows, bool bfloat16);

  // What scores the items of one user, and the memory that it reads.
  struct ForUser {
    const NativeExecutor* executor = nullptr;
    std::unique_ptr<AlignedFloats> shorter;  // Null where the values are those of RunUser.
    ObjectPool<PackedUser>::Loan packed;

    const AlignedFloats& ValuesOr(const Memory& user) const { return shorter != nullptr ? *shorter : *user; }
  };

  // Runs the user section. One user's items may be scored by a shorter one.
  const NativeExecutor& executor() const { return executors_.whole(); }
  Memory BorrowScratch() const { return scratch_.Borrow(); }

  // InvalidArgument when a table that the program reads is missing or of another width. One table beyond the
  // last, of `computed_width`, is what the scorer's function computes; 0 where it does not run.
  absl::Status CheckTables(const std::vector<const Table*>& tables, int64_t computed_width) const;

  // The width of the table `number` as the program reads it; 0 where it reads none.
  int64_t WidthOfTable(size_t number) const;

  // Runs the user section over `tensors`. InvalidArgument when one that the program reads is missing or of
  // another type or shape.
  absl::Status RunUser(const std::vector<tensorflow::Tensor>& tensors, Memory* user) const;

  // Chooses the executor and lays out the user's matrices. `user` may be of another scorer that was made from
  // the same program.
  ForUser Bind(const AlignedFloats& user) const;

 private:
  const UserExecutors executors_;
  mutable ObjectPool<AlignedFloats> users_, scratch_;
  mutable ObjectPool<PackedUser> packed_;
};

}  // namespace nann

#endif  // NANN_OPS_KERNELS_SCORER_NATIVE_SCORER_H_
