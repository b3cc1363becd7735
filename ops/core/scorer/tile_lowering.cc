#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tile_distance.h"
#include "tile_program.h"

namespace nann {

// Turns a graph into instructions: sums of products with what is added and the activation after them become
// one instruction, slices become views, and buffers are used again once nothing reads them.
class TileLowering {
 public:
  TileLowering(const TileGraph& graph, const TileProgram::Options& options)
      : nodes_(graph.nodes()), output_(graph.output()) {
    program_.options_ = options;
    program_.native_bfloat16_ = options.bfloat16 && options.kernels->gemm_bfloat16 != nullptr;
    program_.table_buffers_.assign(graph.num_tables(), -1);
  }

  TileProgram Lower() {
    FusePrelu(&nodes_);
    CountUses();
    LowerDistance();
    views_.resize(nodes_.size());
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (uses_[i] > 0 && nodes_[i].shape.per_item && !IsFused(i)) views_[i] = LowerNode(static_cast<int>(i));
    }
    program_.output_ = views_[output_];
    PackConstants();
    PlaceBuffers();
    return std::move(program_);
  }

 private:
  void CountUses() {
    uses_.assign(nodes_.size(), 0);
    uses_[output_] = 1;
    for (int i = output_; i >= 0; --i) {
      if (uses_[i] == 0) continue;
      for (int input : nodes_[i].inputs) ++uses_[input];
    }
    FindFused();
  }

  // -------------------------------------------------------------------- sums of products

  struct Sum {
    std::vector<int> products;
    std::vector<int> addends;
    int summands = 1;  // Of the sum as far as it was taken apart.
  };

  // The summands of `node`, going down through additions that nothing else reads.
  void Collect(int at, bool is_root, Sum* sum) const {
    const TileNode& node = nodes_[at];
    const bool inner = is_root || uses_[at] == 1;
    if (inner && node.op == TileOp::kMatMul) {
      sum->products.push_back(at);
    } else if (inner && node.op == TileOp::kBinary && node.binary == BinaryOp::kAdd && SameWidths(node) &&
               sum->summands < kMaxSummands) {
      ++sum->summands;
      Collect(node.inputs[0], false, sum);
      Collect(node.inputs[1], false, sum);
    } else {
      sum->addends.push_back(at);
    }
  }

  // No summand is one value a row.
  bool SameWidths(const TileNode& node) const {
    for (int input : node.inputs) {
      if (nodes_[input].shape.per_item && nodes_[input].shape.width != node.shape.width) return false;
    }
    return true;
  }

  bool IsActivation(const TileNode& node) const {
    return node.op == TileOp::kPrelu || (node.op == TileOp::kUnary && node.unary == UnaryOp::kRelu);
  }

  // The sum that node `at` ends, products first; none when it ends none.
  std::optional<Sum> SumAt(int at) const {
    const TileNode& node = nodes_[at];
    const bool activated = IsActivation(node) && uses_[node.inputs[0]] == 1;
    if (!activated && node.op != TileOp::kMatMul && node.op != TileOp::kBinary) return std::nullopt;
    if (node.shape.width == 1) return std::nullopt;  // A product would compute a whole strip: see LowerDots.
    Sum sum;
    Collect(activated ? node.inputs[0] : at, true, &sum);
    if (sum.products.empty()) return std::nullopt;
    return sum;
  }

  // Marks the nodes that a later instruction computes on its way.
  void FindFused() {
    fused_.assign(nodes_.size(), false);
    for (int i = output_; i >= 0; --i) {
      if (uses_[i] == 0 || fused_[i]) continue;
      const std::optional<Sum> sum = SumAt(i);
      if (!sum.has_value()) continue;
      std::vector<int> pending = {i};
      while (!pending.empty()) {
        const int at = pending.back();
        pending.pop_back();
        if (at != i) fused_[at] = true;
        const auto is = [at](const std::vector<int>& list) {
          return std::find(list.begin(), list.end(), at) != list.end();
        };
        if (is(sum->products) || is(sum->addends)) {
          if (is(sum->addends)) fused_[at] = false;
          continue;
        }
        for (int input : nodes_[at].inputs) pending.push_back(input);
      }
    }
  }

  bool IsFused(size_t at) const { return fused_[at]; }

  TileOperand LowerSum(int at, const Sum& sum) {
    TileInstruction gemm;
    gemm.kind = TileInstruction::kGemm;
    gemm.width = nodes_[at].shape.width;
    for (int product : sum.products) {
      const TileNode& node = nodes_[product];
      gemm.rows.push_back(views_[node.inputs[0]]);
      gemm.depths.push_back(nodes_[node.inputs[0]].shape.width);
      gemm.packed.push_back(Matrix(node.inputs[1], node.transposed));
    }
    for (int addend : sum.addends) gemm.addends.push_back(Rows(addend, gemm.width));
    if (nodes_[at].op == TileOp::kPrelu) {
      gemm.activation = Activation::kPrelu;
      gemm.alpha = Alpha(at);
    } else if (IsActivation(nodes_[at])) {
      gemm.activation = Activation::kRelu;
    }
    return Emit(std::move(gemm), nodes_[at].shape.width);
  }

  // -------------------------------------------------------------------- other nodes

  TileOperand LowerNode(int at) {
    const TileNode& node = nodes_[at];
    if (const std::optional<Sum> sum = SumAt(at); sum.has_value()) return LowerSum(at, *sum);
    const int64_t width = node.shape.width;
    switch (node.op) {
      case TileOp::kTable:
        return TableRows(node);
      case TileOp::kReshape:
        return views_[node.inputs[0]];
      case TileOp::kSlice: {
        TileOperand view = views_[node.inputs[0]];
        view.offset += node.begin;
        return view;
      }
      case TileOp::kConcat:
        return LowerConcat(node);
      case TileOp::kMatMul:
        return LowerDots(node);
      default:
        break;
    }
    TileInstruction instruction;
    instruction.width = width;
    instruction.binary = node.binary;
    instruction.unary = node.unary;
    instruction.reduce = node.reduce;
    switch (node.op) {
      case TileOp::kBinary:
        instruction.kind = TileInstruction::kBinary;
        instruction.rows = {Rows(node.inputs[0], width), Rows(node.inputs[1], width)};
        break;
      case TileOp::kPrelu:
        instruction.kind = TileInstruction::kPrelu;
        instruction.rows = {views_[node.inputs[0]]};
        instruction.alpha = Alpha(at);
        break;
      case TileOp::kSoftmax:
        instruction.kind = TileInstruction::kSoftmax;
        instruction.rows = {views_[node.inputs[0]]};
        break;
      case TileOp::kReduce:
        instruction.kind = TileInstruction::kReduce;
        instruction.rows = {views_[node.inputs[0]]};
        instruction.width = nodes_[node.inputs[0]].shape.width;
        break;
      default:
        instruction.kind = TileInstruction::kUnary;
        instruction.rows = {views_[node.inputs[0]]};
        break;
    }
    return Emit(std::move(instruction), width);
  }

  // Rows times one column, which lies in memory as a vector does.
  TileOperand LowerDots(const TileNode& node) {
    TileInstruction products;
    products.kind = TileInstruction::kBinary;
    products.binary = BinaryOp::kMul;
    products.width = nodes_[node.inputs[0]].shape.width;
    TilePacking column;
    column.width = products.width;
    products.rows = {views_[node.inputs[0]], Packed(node.inputs[1], column, PaddedWidth(column.width))};
    TileInstruction sum;
    sum.kind = TileInstruction::kReduce;
    sum.width = products.width;
    sum.rows = {Emit(std::move(products), sum.width)};
    return Emit(std::move(sum), 1);
  }

  TileOperand LowerConcat(const TileNode& node) {
    const TileOperand out = NewBuffer(node.shape.width);
    int64_t column = 0;
    for (int input : node.inputs) {
      TileInstruction copy;
      copy.kind = TileInstruction::kCopy;
      copy.width = nodes_[input].shape.width;
      copy.rows = {views_[input]};
      copy.out = out;
      copy.out.offset = column;
      column += copy.width;
      program_.instructions_.push_back(std::move(copy));
    }
    return out;
  }

  TileOperand TableRows(const TileNode& node) {
    int& buffer = program_.table_buffers_[node.index];
    if (buffer < 0) buffer = NewBuffer(node.shape.width).buffer;
    TileOperand rows;
    rows.buffer = buffer;
    return rows;
  }

  // -------------------------------------------------------------------- operands

  // Operand of a row instruction `width` wide.
  TileOperand Rows(int at, int64_t width) {
    const TileNode& node = nodes_[at];
    if (!node.shape.per_item) return Vector(at, width);
    TileOperand operand = views_[at];
    operand.column = node.shape.width != width;
    return operand;
  }

  TileOperand Vector(int at, int64_t width) {
    TilePacking packing;
    packing.width = nodes_[at].shape.width;
    packing.repeat = packing.width == width ? 1 : width;
    return Packed(at, packing, PaddedWidth(width));
  }

  TileOperand Matrix(int at, bool transposed) {
    TilePacking packing;
    packing.kind = TilePacking::kMatrix;
    packing.height = nodes_[at].shape.height;
    packing.width = nodes_[at].shape.width;
    packing.transposed = transposed;
    const int64_t depth = transposed ? packing.width : packing.height;
    const int64_t width = transposed ? packing.height : packing.width;
    return Packed(at, packing, PackedSize(depth, width, program_.native_bfloat16_));
  }

  TileOperand Alpha(int at) {
    TilePacking packing;
    packing.width = static_cast<int64_t>(nodes_[at].values.size());
    return Packed(at, packing, PaddedWidth(packing.width));
  }

  // What is read twice is laid out once.
  TileOperand Packed(int at, TilePacking packing, int64_t floats) {
    const bool user = nodes_[at].op == TileOp::kUser;
    const auto key = std::make_tuple(at, packing.kind, packing.repeat, packing.transposed);
    const auto known = packed_.find(key);
    if (known != packed_.end()) return known->second;
    int64_t& end = user ? program_.user_floats_ : constant_floats_;
    packing.node = at;
    packing.user = nodes_[at].index;
    packing.offset = end;
    end += (floats + kStrip - 1) / kStrip * kStrip;
    (user ? program_.user_packings_ : constant_packings_).push_back(packing);
    TileOperand operand;
    operand.space = user ? TileOperand::kUser : TileOperand::kConstant;
    operand.offset = packing.offset;
    packed_[key] = operand;
    return operand;
  }

  void PackConstants() {
    auto constants = std::make_shared<AlignedFloats>(constant_floats_);
    for (const TilePacking& packing : constant_packings_) {
      program_.Pack(packing, nodes_[packing.node].values.data(), constants->data());
    }
    program_.constants_ = std::move(constants);
  }

  // -------------------------------------------------------------------- buffers

  TileOperand NewBuffer(int64_t width) {
    TileOperand operand;
    operand.buffer = static_cast<int>(program_.buffers_.size());
    program_.buffers_.push_back({PaddedWidth(width), 0});
    return operand;
  }

  TileOperand Emit(TileInstruction instruction, int64_t width) {
    instruction.out = NewBuffer(width);
    program_.instructions_.push_back(std::move(instruction));
    return program_.instructions_.back().out;
  }

  // Buffers in the order of their birth, each in the first gap that is free while it lives.
  void PlaceBuffers() {
    const int count = static_cast<int>(program_.buffers_.size());
    const int end = static_cast<int>(program_.instructions_.size());
    std::vector<int> first(count, end), last(count, -1);
    const auto touch = [&](const TileOperand& operand, int at) {
      if (operand.space != TileOperand::kTile) return;
      first[operand.buffer] = std::min(first[operand.buffer], at);
      last[operand.buffer] = std::max(last[operand.buffer], at);
    };
    for (int i = 0; i < end; ++i) {
      const TileInstruction& instruction = program_.instructions_[i];
      for (const TileOperand& operand : instruction.rows) touch(operand, i);
      for (const TileOperand& operand : instruction.addends) touch(operand, i);
      touch(instruction.out, i);
      NarrowSpace(instruction);
    }
    for (int buffer : program_.table_buffers_) {
      if (buffer >= 0) first[buffer] = -1;  // Filled before the first instruction.
    }
    last[program_.output_.buffer] = end;
    std::vector<int> placed;
    for (int i = 0; i < count; ++i) {
      Place(i, first, last, placed);
      placed.push_back(i);
    }
    program_.narrow_offset_ = (program_.scratch_floats_ + kStrip - 1) / kStrip * kStrip;
    program_.scratch_floats_ = program_.narrow_offset_ + narrow_floats_;
  }

  void Place(int buffer, const std::vector<int>& first, const std::vector<int>& last,
             const std::vector<int>& placed) {
    const int64_t rows = program_.options_.tile_rows;
    // A strip more, so that what a view reads beyond its width is its own.
    const auto size = [&](int b) { return rows * program_.buffers_[b].stride + kStrip; };
    std::vector<std::pair<int64_t, int64_t>> taken;
    for (int other : placed) {
      if (first[other] <= last[buffer] && first[buffer] <= last[other]) {
        taken.emplace_back(program_.buffers_[other].offset, program_.buffers_[other].offset + size(other));
      }
    }
    std::sort(taken.begin(), taken.end());
    int64_t offset = 0;
    for (const auto& [begin, finish] : taken) {
      if (offset + size(buffer) <= begin) break;
      offset = std::max(offset, finish);
    }
    program_.buffers_[buffer].offset = offset;
    program_.scratch_floats_ = std::max(program_.scratch_floats_, offset + size(buffer));
  }

  void NarrowSpace(const TileInstruction& instruction) {
    if (!program_.native_bfloat16_ || instruction.kind != TileInstruction::kGemm) return;
    int64_t floats = kStrip;
    for (int64_t depth : instruction.depths) floats += program_.options_.tile_rows * PaddedWidth(depth) / 2;
    narrow_floats_ = std::max(narrow_floats_, floats);
  }

  // A vector of the user that a table's rows are compared with lies in memory as a [width, 1] matrix does.
  void LowerDistance() {
    const std::optional<TileDistance> distance = MatchDistance(nodes_, output_);
    if (!distance.has_value()) return;
    TilePacking packing;
    packing.width = nodes_[distance->vector].shape.width * nodes_[distance->vector].shape.height;
    TileProgram::Direct direct;
    direct.table = nodes_[distance->table].index;
    direct.squared_distance = distance->squared;
    direct.negated = distance->negated;
    direct.query = Packed(distance->vector, packing, PaddedWidth(packing.width));
    program_.direct_ = direct;
  }

  std::vector<TileNode> nodes_;
  const int output_;
  TileProgram program_;
  std::vector<int> uses_;
  std::vector<bool> fused_;
  std::vector<TileOperand> views_;
  std::map<std::tuple<int, TilePacking::Kind, int64_t, bool>, TileOperand> packed_;
  std::vector<TilePacking> constant_packings_;
  int64_t constant_floats_ = 0;
  int64_t narrow_floats_ = 0;
};

absl::StatusOr<TileProgram> TileProgram::Compile(const TileGraph& graph, const Options& options) {
  if (graph.output() < 0) return absl::InvalidArgumentError("a scorer without an output");
  if (options.tile_rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("tile_rows: expected at least 1, found ", options.tile_rows));
  }
  return TileLowering(graph, options).Lower();
}

}  // namespace nann
