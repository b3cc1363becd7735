// Builds scorer programs for tests.
#ifndef NANN_TESTS_CC_PROGRAM_BUILDER_H_
#define NANN_TESTS_CC_PROGRAM_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "ops/core/scorer/scorer_program.h"
#include "ops/core/scorer/tile_kernels.h"

namespace nann {

// Every method but Bytes adds an instruction and returns the number of its value.
class ProgramBuilder {
 public:
  using Values = std::vector<uint32_t>;

  uint32_t Input(uint32_t tensor, const Values& dims) {
    Values parameters = {tensor};
    parameters.insert(parameters.end(), dims.begin(), dims.end());
    return Add(Opcode::kInput, 0, {}, parameters);
  }
  uint32_t Table(uint32_t table, uint32_t width) { return Add(Opcode::kTable, 0, {}, {table, width}); }
  uint32_t Constant(uint32_t rows, uint32_t columns, const std::vector<float>& values) {
    constants_.insert(constants_.end(), values.begin(), values.end());
    return Add(Opcode::kConstant, 0, {}, {rows, columns});
  }
  // `operands`: pairs of left and right sides, addends, and slopes with kPrelu.
  uint32_t Gemm(uint32_t terms, const Values& operands, uint32_t transposed = 0,
                Activation activation = Activation::kNone) {
    return Add(Opcode::kGemm, static_cast<uint32_t>(activation), operands, {terms, transposed});
  }
  uint32_t Binary(BinaryOp op, uint32_t a, uint32_t b) { return Add(Opcode::kBinary, op, {a, b}); }
  uint32_t Select(uint32_t condition, uint32_t a, uint32_t b) {
    return Add(Opcode::kSelect, 0, {condition, a, b});
  }
  uint32_t Unary(UnaryOp op, uint32_t x) { return Add(Opcode::kUnary, op, {x}); }
  uint32_t Prelu(uint32_t x, uint32_t slope) { return Add(Opcode::kPrelu, 0, {x, slope}); }
  uint32_t Softmax(uint32_t x) { return Add(Opcode::kSoftmax, 0, {x}); }
  uint32_t Reduce(ReduceOp op, uint32_t x) { return Add(Opcode::kReduce, op, {x}); }
  uint32_t Similarity(SimilarityOp op, uint32_t x, uint32_t y) {
    return Add(Opcode::kSimilarity, op, {x, y});
  }
  uint32_t Transpose(uint32_t x) { return Add(Opcode::kTranspose, 0, {x}); }
  uint32_t Reshape(uint32_t x, uint32_t rows, uint32_t columns) {
    return Add(Opcode::kReshape, 0, {x}, {rows, columns});
  }
  uint32_t Slice(uint32_t x, uint32_t begin, uint32_t width) {
    return Add(Opcode::kSlice, 0, {x}, {begin, width});
  }
  uint32_t Concat(const Values& parts) { return Add(Opcode::kConcat, 0, parts); }

  // Over the rows, and one below the other.
  uint32_t ReduceRows(ReduceOp op, uint32_t x) { return Add(Opcode::kReduce, op, {x}, {1}); }
  uint32_t Stack(const Values& parts) { return Add(Opcode::kConcat, 0, parts, {1}); }
  uint32_t Product(uint32_t groups, uint32_t layout, uint32_t left, uint32_t right) {
    return Add(Opcode::kProduct, 0, {left, right}, {groups, layout});
  }
  uint32_t Rearrange(uint32_t x, const Values& parameters) {
    return Add(Opcode::kRearrange, 0, {x}, parameters);
  }
  uint32_t Gather(uint32_t table, uint32_t index) { return Add(Opcode::kGather, 0, {table, index}); }
  uint32_t Size() const { return values_; }

  template <typename Function>
  uint32_t Add(Opcode opcode, Function function, const Values& operands, const Values& parameters = {}) {
    for (uint32_t word : {static_cast<uint32_t>(opcode), static_cast<uint32_t>(function),
                          static_cast<uint32_t>(operands.size()), static_cast<uint32_t>(parameters.size())}) {
      words_.push_back(word);
    }
    words_.insert(words_.end(), operands.begin(), operands.end());
    words_.insert(words_.end(), parameters.begin(), parameters.end());
    return values_++;
  }

  std::string Bytes(uint32_t version = ScorerProgram::kVersion, uint32_t flags = 0) const {
    std::string bytes = "nannprog";
    for (uint32_t word :
         {version, flags, static_cast<uint32_t>(words_.size()), static_cast<uint32_t>(constants_.size())}) {
      Append(&word, 1, &bytes);
    }
    Append(words_.data(), words_.size(), &bytes);
    Append(constants_.data(), constants_.size(), &bytes);
    return bytes;
  }

 private:
  template <typename T>
  static void Append(const T* values, size_t count, std::string* bytes) {
    bytes->append(reinterpret_cast<const char*>(values), count * sizeof(T));
  }

  std::vector<uint32_t> words_;
  std::vector<float> constants_;
  uint32_t values_ = 0;
};

}  // namespace nann

#endif  // NANN_TESTS_CC_PROGRAM_BUILDER_H_
