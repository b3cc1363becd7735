// The native executor: a scorer's graph turned into a short list of kernel calls over a tile of items.
#ifndef NANN_OPS_CORE_SCORER_TILE_PROGRAM_H_
#define NANN_OPS_CORE_SCORER_TILE_PROGRAM_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "../index/table.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tile_graph.h"
#include "tile_kernels.h"

namespace nann {

// Floats on cache-line bounds, not initialized, with room to read a strip beyond the end.
class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(int64_t size);

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float[], Free> data_;
};

// Summands and addends of one product.
inline constexpr int kMaxSummands = 12;

// Where an instruction finds rows, a vector or a packed matrix.
struct TileOperand {
  enum Space { kTile, kConstant, kUser };
  Space space = kTile;
  int buffer = 0;      // kTile: which row buffer; `offset` is a column in it.
  int64_t offset = 0;  // kConstant, kUser: floats from the start.
  bool column = false;
};

struct TileInstruction {
  enum Kind { kGemm, kBinary, kUnary, kPrelu, kSoftmax, kReduce, kCopy };
  Kind kind = kGemm;
  int64_t width = 0;                 // Of the result; of the operand in kReduce.
  std::vector<TileOperand> rows;     // kGemm: the left sides; else the operands.
  std::vector<TileOperand> packed;   // kGemm: the right sides.
  std::vector<int64_t> depths;       // kGemm.
  std::vector<TileOperand> addends;  // kGemm.
  Activation activation = Activation::kNone;
  TileOperand alpha;  // kPrelu, and kGemm with that activation.
  BinaryOp binary = BinaryOp::kAdd;
  UnaryOp unary = UnaryOp::kNeg;
  ReduceOp reduce = ReduceOp::kSum;
  TileOperand out;
};

// Something that is laid out for the kernels: a constant once, what depends on the user once a request.
struct TilePacking {
  enum Kind { kVector, kMatrix };
  Kind kind = kVector;
  int node = 0;  // A constant: its values. Of the user: `user` instead.
  int user = 0;
  int64_t height = 1;
  int64_t width = 1;   // As it comes.
  int64_t repeat = 1;  // kVector: a scalar becomes a vector of so many.
  bool transposed = false;
  int64_t offset = 0;  // Where it goes.
};

// Immutable once compiled, so thread-safe. An item's score depends on that item and the user only, not on the
// other items of its tile.
class TileProgram {
 public:
  struct Options {
    int64_t tile_rows = 128;
    // Products of bfloat16 (sums stay float32) where the processor has them; elsewhere float32 products with
    // matrices rounded to bfloat16.
    bool bfloat16 = false;
    const TileKernels* kernels = &BestTileKernels();
  };

  // InvalidArgument when the graph has no output, or one of its tables or users was never added.
  static absl::StatusOr<TileProgram> Compile(const TileGraph& graph, const Options& options);

  // One user's vectors and matrices, laid out. `user[i]` holds the floats of user tensor i.
  AlignedFloats Bind(absl::Span<const float* const> user) const;

  // Memory for one Score call at a time.
  AlignedFloats MakeScratch() const { return AlignedFloats(scratch_floats_); }

  // Reads a tile: rows `positions`, at most tile_rows() of them, of every table.
  void Gather(absl::Span<const Table* const> tables, absl::Span<const int32_t> positions,
              AlignedFloats* scratch) const;

  // Scores the first `rows` items of the tile that was gathered.
  void Score(const AlignedFloats& user, int64_t rows, AlignedFloats* scratch, float* scores) const;

  int64_t tile_rows() const { return options_.tile_rows; }
  int num_tables() const { return static_cast<int>(table_buffers_.size()); }

  // Inner product or squared distance of one table's row and the user's vector: read in place, no tile.
  struct Direct {
    int table = 0;
    bool squared_distance = false;
    bool negated = false;
    TileOperand query;
  };
  const std::optional<Direct>& direct() const { return direct_; }
  // Whether items can be scored where they lie, without a tile.
  bool ScoresInPlace(absl::Span<const Table* const> tables) const {
    return direct_.has_value() && tables[direct_->table]->type() == TableType::kFloat32;
  }

  // Scores any number of items, if ScoresInPlace.
  void ScoreInPlace(const AlignedFloats& user, absl::Span<const Table* const> tables,
                    absl::Span<const int32_t> positions, float* scores) const;

 private:
  friend class TileLowering;

  struct Buffer {
    int64_t stride = 0;
    int64_t offset = 0;  // In the scratch, in floats.
  };

  TileProgram() = default;
  void Run(const TileInstruction& instruction, int64_t rows, const float* user, float* scratch) const;
  void RunGemm(const TileInstruction& instruction, int64_t rows, const float* user, float* scratch) const;
  RowsView View(const TileOperand& operand, const float* user, const float* scratch) const;
  void Pack(const TilePacking& packing, const float* from, float* arena) const;

  Options options_;
  bool native_bfloat16_ = false;
  std::vector<TileInstruction> instructions_;
  std::vector<Buffer> buffers_;
  std::vector<int> table_buffers_;  // -1: the program does not read that table.
  std::vector<TilePacking> user_packings_;
  std::shared_ptr<const AlignedFloats> constants_;
  int64_t user_floats_ = 0;
  int64_t scratch_floats_ = 0;
  int64_t narrow_offset_ = 0;  // bfloat16 copies of left sides, behind the buffers.
  TileOperand output_;
  std::optional<Direct> direct_;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TILE_PROGRAM_H_
