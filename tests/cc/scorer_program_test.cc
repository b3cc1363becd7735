#include "ops/core/scorer/scorer_program.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/cc/program_builder.h"

namespace nann {
namespace {

// What Parse says of a program; empty: it can be run.
std::string ProblemOf(const std::string& bytes, const ProgramLimits& limits = {}) {
  return std::string(ScorerProgram::Parse(bytes, limits).status().message());
}

void ExpectProblem(const std::string& bytes, const std::string& problem, const ProgramLimits& limits = {}) {
  EXPECT_EQ(ProblemOf(bytes, limits),
            "scorer_program: expected a program that can be run, found " + problem + ".");
}

class ScorerProgramTest : public testing::Test {
 protected:
  ProgramBuilder builder_;
  const uint32_t items_ = builder_.Table(0, 4);
  const uint32_t user_ = builder_.Input(0, {2, 3});

  void ExpectRefused(const std::string& problem) {
    builder_.Reduce(ReduceOp::kSum, items_);
    ExpectProblem(builder_.Bytes(), problem);
  }
};

TEST_F(ScorerProgramTest, ShapesAreInferred) {
  const uint32_t matrix = builder_.Constant(4, 3, std::vector<float>(12));
  const uint32_t product = builder_.Gemm(1, {items_, matrix});
  const uint32_t keys = builder_.Gemm(1, {product, user_}, 1);
  builder_.Reduce(ReduceOp::kMax, keys);
  const absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(builder_.Bytes());
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_FALSE(program->after_user_function());
  EXPECT_EQ(program->instructions()[product].shape, (ValueShape{true, 1, 3}));
  EXPECT_EQ(program->instructions()[keys].shape, (ValueShape{true, 1, 2}));
  EXPECT_EQ(program->instructions()[program->output()].shape, (ValueShape{true, 1, 1}));
  EXPECT_TRUE(ScorerProgram::Parse(builder_.Bytes(ScorerProgram::kVersion, 1))->after_user_function());
}

TEST_F(ScorerProgramTest, AnotherFileIsRefused) {
  builder_.Reduce(ReduceOp::kSum, items_);
  const std::string good = builder_.Bytes();
  EXPECT_EQ(ProblemOf(good), "");
  ExpectProblem("", "0 bytes that do not begin as a scorer program does");
  ExpectProblem("x" + good.substr(1), "96 bytes that do not begin as a scorer program does");
  EXPECT_EQ(ProblemOf(builder_.Bytes(1)), "");
  ExpectProblem(builder_.Bytes(5),
                "version 5, this library runs versions 1 to 4. Export with the version of nann that serves");
  ExpectProblem(builder_.Bytes(1, 6), "unknown flags 6");
  ExpectProblem(good.substr(0, good.size() - 1), std::to_string(good.size() - 1) + " bytes, expected " +
                                                     std::to_string(good.size()) + " as the header has it");
  ExpectProblem(ProgramBuilder().Bytes(), "no instructions");
}

TEST_F(ScorerProgramTest, AProductOfOtherDepths) {
  builder_.Gemm(1, {items_, user_});
  ExpectRefused("instruction 2 gemm: [tile, 1, 4] x [2, 3], a term of [tile, 1, 3]");
}

TEST_F(ScorerProgramTest, AProductWithTheItems) {
  builder_.Gemm(1, {user_, items_});
  ExpectRefused("instruction 2 gemm: [2, 3] x [tile, 1, 4], a term of [2, 4]");
}

TEST_F(ScorerProgramTest, MoreTermsThanOperands) {
  builder_.Gemm(2, {items_, user_});
  ExpectRefused("instruction 2 gemm: 2 operands of 2 terms");
}

TEST_F(ScorerProgramTest, AProductWithoutItsSlopes) {
  builder_.Gemm(1, {user_, user_}, 1, Activation::kPrelu);
  ExpectRefused("instruction 2 gemm: 2 operands of 1 terms");
}

TEST_F(ScorerProgramTest, OperandsThatDoNotFit) {
  builder_.Binary(BinaryOp::kAdd, items_, user_);
  ExpectRefused("instruction 2 binary: [tile, 1, 4] and [2, 3]");
}

TEST_F(ScorerProgramTest, ColumnsOutOfRange) {
  builder_.Slice(items_, 3, 4294967295u);
  ExpectRefused("instruction 2 slice: columns 3 to 4294967298 of [tile, 1, 4]");
}

TEST_F(ScorerProgramTest, AValueWithoutElements) {
  builder_.Slice(items_, 3, 0);
  ExpectRefused("instruction 2 slice: a value of shape [tile, 1, 0]");
}

TEST_F(ScorerProgramTest, AReshapeToAnotherSize) {
  builder_.Reshape(user_, 4, 2);
  ExpectRefused("instruction 2 reshape: [2, 3] to [4, 2]");
}

TEST_F(ScorerProgramTest, ARowThatIsAMatrix) {
  builder_.Prelu(user_, user_);
  ExpectRefused("instruction 2 prelu: a row of shape [2, 3], expected [1, 3]");
}

TEST_F(ScorerProgramTest, AValueThatComesLater) {
  builder_.Unary(UnaryOp::kNeg, 2);
  ExpectRefused("instruction 2 unary: no earlier value 2");
}

TEST_F(ScorerProgramTest, UnknownOperations) {
  builder_.Add(Opcode::kUnary, 26, {items_});
  ExpectRefused("instruction 2 unary: unknown function 26");
  ProgramBuilder other;
  other.Add(static_cast<Opcode>(18), 0, {});
  ExpectProblem(other.Bytes(), "instruction 0 : unknown opcode 18");
}

TEST_F(ScorerProgramTest, ConstantsThatAreNotThere) {
  builder_.Add(Opcode::kConstant, 0, {}, {3, 1000000});
  ExpectRefused("instruction 2 constant: [3, 1000000] is more than the floats that are left");
}

TEST_F(ScorerProgramTest, ConstantsThatNothingReads) {
  ProgramBuilder builder;
  builder.Constant(1, 1, {1, 2});
  ExpectProblem(builder.Bytes(), "2 floats of constants, expected 1 as the instructions have them");
}

TEST_F(ScorerProgramTest, ScoresOfAnotherShape) {
  ProgramBuilder builder;
  builder.Table(0, 4);
  ExpectProblem(builder.Bytes(), "scores of shape [tile, 1, 4], expected [tile, 1, 1]");
}

TEST_F(ScorerProgramTest, HugeSizes) {
  ProgramBuilder builder;
  builder.Input(0, {4294967295u, 4294967295u});
  ExpectProblem(builder.Bytes(), "instruction 0 input: a value of shape [4294967295, 4294967295]");
  ProgramBuilder wide;
  const uint32_t row = wide.Input(0, {1 << 20}), column = wide.Reshape(row, 1 << 20, 1);
  wide.Binary(BinaryOp::kMul, row, column);
  ExpectProblem(wide.Bytes(), "instruction 2 binary: more memory than a scorer may take");
  ProgramBuilder item;
  item.Table(0, 1 << 20);
  ExpectProblem(item.Bytes(), "instruction 0 table: more memory than a scorer may take");
}

TEST_F(ScorerProgramTest, MoreWorkThanAllowed) {
  ProgramLimits limits;
  limits.user_work = 100;
  const uint32_t square = builder_.Gemm(1, {user_, user_}, 1);
  builder_.Reduce(ReduceOp::kMax, builder_.Reshape(square, 1, 4));
  ExpectProblem(builder_.Bytes(), "instruction 2 gemm: more work than a scorer may do", limits);
}

}  // namespace
}  // namespace nann
