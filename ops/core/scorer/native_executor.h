// Runs scorer programs with the kernels of this processor.
#ifndef NANN_OPS_CORE_SCORER_NATIVE_EXECUTOR_H_
#define NANN_OPS_CORE_SCORER_NATIVE_EXECUTOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "../index/table.h"
#include "absl/types/span.h"
#include "aligned_floats.h"
#include "scorer_program.h"
#include "table_columns.h"
#include "tile_kernels.h"

namespace nann {

// What tiles need of one user beside its values: the matrices that they are multiplied with, as kernels read
// them, and the instructions to run.
struct PackedUser {
  AlignedFloats matrices;
  std::vector<int> steps;
};

// A program made ready to run: every value has a place in memory, constant matrices are packed for the
// kernels. Immutable, so thread-safe. A score depends on its item and the user only, not on the other items
// of its tile.
//
// Once per request:  RunUser, then Pack.
// For every tile:    Gather, then Score. Any number of threads may score tiles of one user, each with a
// scratch
//                    of its own.
class NativeExecutor {
 public:
  struct Options {
    int64_t tile_rows = 128;  // At least 1.
    // Products over tiles of bfloat16 (sums stay float32) where the processor has them; elsewhere float32
    // products with matrices rounded to bfloat16. The user section is always float32.
    bool bfloat16 = false;
    const TileKernels* kernels = &BestTileKernels();
  };

  NativeExecutor(std::shared_ptr<const ScorerProgram> program, const Options& options);

  // With the options and the constants of `whole`, whose program has the same constants at the same numbers.
  NativeExecutor(std::shared_ptr<const ScorerProgram> program, const NativeExecutor& whole);

  const ScorerProgram& program() const { return *program_; }
  int64_t tile_rows() const { return options_.tile_rows; }

  // Memory of one user, of what tiles need of it, and of one tile.
  AlignedFloats MakeUser() const { return AlignedFloats(user_floats_); }
  PackedUser MakePacked() const { return {AlignedFloats(packed_floats_), {}}; }
  AlignedFloats MakeScratch() const { return AlignedFloats(scratch_floats_); }

  // Runs the user section. `tensors[i]` holds the floats of input tensor i, row by row. What it computes does
  // not depend on the options: executors of one program share it.
  void RunUser(absl::Span<const float* const> tensors, AlignedFloats* user) const;

  // A value of the user that items are computed from; of constants, those that lie there in rows.
  RowsView UserValue(int value, const AlignedFloats& user) const {
    Memory memory;
    memory.constants = constants_->data();
    memory.user = user.data();
    return View(value, memory);
  }
  // Where such a value of an input lies, and the floats from row to row.
  float* UserRows(int value, AlignedFloats* user) const { return user->data() + places_[value].offset; }
  int64_t UserStride(int value) const { return places_[value].stride; }

  // Whether scratch memory of the other is enough for this one.
  bool FitsInto(const NativeExecutor& other) const { return scratch_floats_ <= other.scratch_floats_; }

  // Lays out the user's matrices, and leaves out what this user's scores do not need (taken_sides.h).
  void Pack(const AlignedFloats& user, PackedUser* packed) const;

  // Reads a tile: rows `positions`, at most tile_rows() of them, of every table. `computed` are rows that
  // stand for those of a table beyond the last; none where the program reads no such table.
  void Gather(absl::Span<const Table* const> tables, absl::Span<const int32_t> positions,
              AlignedFloats* scratch, RowsView computed = {}) const;

  // Scores the first `rows` items of the tile that was gathered.
  void Score(const AlignedFloats& user, const PackedUser& packed, int64_t rows, AlignedFloats* scratch,
             float* scores) const;

  // Whether the score is an inner product or a distance of a table's row and a vector of the user.
  bool is_similarity() const { return similarity_.has_value(); }
  // Whether items can be scored where they lie, without a tile.
  bool ScoresInPlace(absl::Span<const Table* const> tables) const {
    return is_similarity() && similarity_->table < static_cast<int>(tables.size()) &&
           tables[similarity_->table]->type() == TableType::kFloat32;
  }
  // Scores any number of items, if ScoresInPlace.
  void ScoreInPlace(const AlignedFloats& user, absl::Span<const Table* const> tables,
                    absl::Span<const int32_t> positions, float* scores) const;

 private:
  friend class ExecutorLayout;

  // Where a value, or a packed matrix, is.
  struct Place {
    enum Space { kConstant, kUser, kPacked, kTile };
    Space space = kConstant;
    int64_t offset = 0;
    int64_t stride = 0;  // From row to row; of a packed matrix unused.
  };

  struct Similarity {
    int table = 0;
    int query = 0;
    SimilarityOp op = SimilarityOp::kDot;
  };

  // A table, what is read of its rows, and where that lies in a tile's scratch memory.
  struct TableInTile {
    int value = 0;
    std::vector<TableColumns> columns;
    std::vector<int64_t> offsets;
  };

  // A matrix of the user that Pack lays out.
  struct Packing {
    int value = 0;
    bool transposed = false;
    Place place;
  };

  // The arenas of one run; `out` is the one that is written: the user's, or a tile's scratch.
  struct Memory {
    const float* constants = nullptr;
    const float* user = nullptr;
    const float* packed = nullptr;
    float* out = nullptr;
    int64_t items = 1;
  };

  const Instruction& At(int value) const { return program_->instructions()[value]; }
  const float* In(const Place& place, const Memory& memory) const;
  RowsView View(int value, const Memory& memory) const;
  float* Out(int value, const Memory& memory) const { return memory.out + places_[value].offset; }
  // Rows of a value, over all items of the tile.
  static int64_t Rows(const ValueShape& shape, const Memory& memory) {
    return shape.rows * (shape.per_item ? memory.items : 1);
  }
  Extent Beside(int value, absl::Span<const int> operands, const Memory& memory, Operand* beside) const;
  void Run(int value, const Memory& memory) const;
  void RunSelect(int value, const Memory& memory) const;
  void RunOnRows(int value, const Memory& memory) const;  // The instructions whose first operand is a matrix.
  void RunGemm(int value, const Memory& memory) const;
  Addend AddendOf(int value, const ValueShape& shape, const Memory& memory) const;
  void RunProduct(int value, const Memory& memory) const;
  void RunRearrange(int value, const Memory& memory) const;
  void RunGather(int value, const Memory& memory) const;
  void RunStack(int value, const Memory& memory) const;
  void RunConcat(int value, const Memory& memory) const;
  void PackMatrix(RowsView from, const ValueShape& shape, bool transposed, bool bfloat16, float* to) const;

  std::shared_ptr<const ScorerProgram> program_;
  Options options_;
  bool native_bfloat16_ = false;
  std::vector<Place> places_;  // Per value.
  std::vector<std::vector<Place>>
      packed_;                // Per value: of a kGemm, its right sides; of a kProduct, its strip.
  std::vector<int> part_of_;  // Per value: the concatenation in whose place it is written, or -1.
  std::vector<int> user_section_, tile_section_, inputs_;  // Values.
  bool takes_sides_ = false;                               // Whether what tiles run depends on the user.
  std::vector<TableInTile> tables_;
  std::vector<Packing> packings_;
  std::shared_ptr<const AlignedFloats> constants_;
  // By the number of the constant, whether it is transposed, and whether tiles are multiplied with it.
  std::map<std::tuple<int, bool, bool>, Place> packed_constants_;
  int64_t user_floats_ = 0, packed_floats_ = 0, scratch_floats_ = 0;
  int64_t narrow_offset_ = 0;  // bfloat16 copies of left sides, behind the tile's values.
  std::optional<Similarity> similarity_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_NATIVE_EXECUTOR_H_
