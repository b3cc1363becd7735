#include "ops/core/scorer/matrix_program.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace nann {
namespace {

// Runs a program of one input and one output, twice over the same scratch.
std::vector<float> RunTwice(const MatrixProgram& program, const std::vector<float>& input) {
  AlignedFloats scratch = program.MakeScratch();
  const MatrixShape shape = program.output_shape(0);
  std::vector<float> first(shape.height * shape.width), second(first.size());
  for (std::vector<float>* output : {&first, &second}) {
    const float* in = input.data();
    float* out = output->data();
    program.Run({&in, 1}, &scratch, {&out, 1});
  }
  EXPECT_EQ(first, second);
  return first;
}

class MatrixProgramTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  MatrixProgram program_{GetParam()};
  const int x_ = program_.Input({2, 3});
  const std::vector<float> values_ = {1, 2, 3, 4, 5, 6};

  std::vector<float> Of(int output) {
    program_.Output(output);
    return RunTwice(program_, values_);
  }
  int Constant(MatrixShape shape, std::vector<float> values) {
    return program_.Constant(shape, values.data());
  }
};

TEST_P(MatrixProgramTest, ProductsWithConstantsAndWithWhatWasComputed) {
  const int doubled = *program_.MatMul(x_, Constant({3, 2}, {2, 0, 0, 2, 1, 1}), false);
  EXPECT_EQ(Of(*program_.MatMul(doubled, x_, false)), (std::vector<float>{33, 45, 57, 78, 108, 138}));
}

TEST_P(MatrixProgramTest, ATransposedRightSide) {
  EXPECT_EQ(Of(*program_.MatMul(x_, x_, true)), (std::vector<float>{14, 32, 32, 77}));
}

TEST_P(MatrixProgramTest, OperandsAreRepeated) {
  const int rows = *program_.Binary(BinaryOp::kAdd, x_, Constant({1, 3}, {10, 20, 30}));
  const int columns = *program_.Binary(BinaryOp::kMul, rows, Constant({2, 1}, {1, -1}));
  const int all = *program_.Binary(BinaryOp::kSub, Constant({1, 1}, {100}), columns);
  EXPECT_EQ(Of(all), (std::vector<float>{89, 78, 67, 114, 125, 136}));
}

TEST_P(MatrixProgramTest, ARowAndAColumnMakeAMatrix) {
  const int column = Constant({2, 1}, {1, 2}), row = Constant({1, 3}, {10, 20, 30});
  EXPECT_EQ(Of(*program_.Binary(BinaryOp::kMul, column, row)), (std::vector<float>{10, 20, 30, 20, 40, 60}));
}

TEST_P(MatrixProgramTest, ReductionsTransposesAndReshapes) {
  const int sums = program_.Reduce(ReduceOp::kSum, program_.Transpose(x_));  // 5, 7, 9, standing
  EXPECT_EQ(program_.shape(sums), (MatrixShape{3, 1}));
  const int lying = *program_.Reshape(sums, {1, 3});
  EXPECT_EQ(Of(*program_.Binary(BinaryOp::kAdd, *program_.Reshape(x_, {2, 3}), lying)),
            (std::vector<float>{6, 9, 12, 9, 12, 15}));
}

TEST_P(MatrixProgramTest, AReshapeReadsRowByRow) {
  const int wide = program_.Transpose(*program_.Reshape(x_, {3, 2}));
  EXPECT_EQ(Of(wide), (std::vector<float>{1, 3, 5, 2, 4, 6}));
}

TEST_P(MatrixProgramTest, Comparisons) {
  const int three = Constant({}, {3});
  const int at_least = *program_.Compare(Comparison::kGreaterEqual, x_, three);
  const int other = *program_.Compare(Comparison::kNotEqual, x_, three);
  EXPECT_EQ(Of(*program_.Binary(BinaryOp::kMul, at_least, other)), (std::vector<float>{0, 0, 0, 1, 1, 1}));
}

TEST_P(MatrixProgramTest, ASelectionKeepsWhatIsNotChosenOut) {
  const int positive = *program_.Compare(Comparison::kGreater, x_, Constant({}, {4}));
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Of(*program_.Select(positive, x_, Constant({1, 3}, {-infinity, 0, 7}))),
            (std::vector<float>{-infinity, 0, 7, -infinity, 5, 6}));
}

TEST_P(MatrixProgramTest, FunctionsAndSoftmax) {
  const int even = program_.Softmax(*program_.Binary(BinaryOp::kMul, x_, Constant({}, {0})));
  const int negative = program_.Unary(UnaryOp::kNeg, program_.Reduce(ReduceOp::kMax, even));
  const std::vector<float> found = Of(negative);
  EXPECT_NEAR(found[0], -1.0 / 3, 1e-6);
  EXPECT_NEAR(found[1], -1.0 / 3, 1e-6);
}

TEST_P(MatrixProgramTest, WhatDoesNotFitIsSaidSo) {
  EXPECT_FALSE(program_.MatMul(x_, x_, false).ok());
  EXPECT_FALSE(program_.Binary(BinaryOp::kAdd, x_, Constant({1, 2}, {1, 2})).ok());
  EXPECT_FALSE(program_.Compare(Comparison::kEqual, x_, Constant({3, 1}, {1, 2, 3})).ok());
  EXPECT_FALSE(program_.Select(x_, x_, Constant({1, 2}, {1, 2})).ok());
  EXPECT_FALSE(program_.Reshape(x_, {4, 2}).ok());
}

INSTANTIATE_TEST_SUITE_P(AllVersions, MatrixProgramTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& version) { return std::string(version.param->name); });

}  // namespace
}  // namespace nann
