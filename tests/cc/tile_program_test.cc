#include "ops/core/scorer/tile_program.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/cc/arrays.h"

namespace nann {
namespace {

// Items 0..4 with rows (i, 2 i, 1, -i).
class TileProgramTest : public testing::Test {
 protected:
  static constexpr int64_t kItems = 5, kWidth = 4;

  TileProgramTest() {
    for (int64_t i = 0; i < kItems; ++i) {
      const float x = static_cast<float>(i);
      values_.insert(values_.end(), {x, 2 * x, 1.0f, -x});
    }
    NpyArray array;
    array.shape = {kItems, kWidth};
    array.dtype = DType::kFloat32;
    array.data = reinterpret_cast<const char*>(values_.data());
    table_ = *Table::Create(array, TableType::kFloat32);
    items_ = graph_.AddTable(0, kWidth);
  }

  int Constant(std::vector<int64_t> shape, std::vector<float> values) {
    return *graph_.AddConstant(shape, std::move(values));
  }

  std::vector<float> Scores(int output, std::vector<std::vector<float>> user, int64_t tile_rows = 2) {
    EXPECT_TRUE(graph_.SetOutput(output).ok());
    TileProgram::Options options;
    options.tile_rows = tile_rows;
    const absl::StatusOr<TileProgram> program = TileProgram::Compile(graph_, options);
    EXPECT_TRUE(program.ok()) << program.status();
    std::vector<const float*> floats;
    for (const std::vector<float>& tensor : user) floats.push_back(tensor.data());
    const AlignedFloats bound = program->Bind(floats);
    AlignedFloats scratch = program->MakeScratch();
    const Table* tables[] = {&table_};
    std::vector<int32_t> positions = {4, 0, 3, 1, 2};
    std::vector<float> scores(positions.size());
    for (size_t i = 0; i < positions.size(); i += tile_rows) {
      const size_t rows = std::min<size_t>(tile_rows, positions.size() - i);
      const absl::Span<const int32_t> tile = absl::MakeConstSpan(positions).subspan(i, rows);
      if (program->ScoresInPlace(tables)) {
        program->ScoreInPlace(bound, tables, tile, &scores[i]);
      } else {
        program->Gather(tables, tile, &scratch);
        program->Score(bound, rows, &scratch, &scores[i]);
      }
    }
    return scores;
  }

  std::vector<float> values_;
  Table table_;
  TileGraph graph_;
  int items_ = 0;
};

TEST_F(TileProgramTest, ProductsSumsAndActivationsAreOneInstruction) {
  const int user = *graph_.AddUser(0, {kWidth, 2});
  const int weights = Constant({2, kWidth}, {1, 0, 0, 0, 0, 0, 1, 0});
  const int sum = *graph_.Binary(BinaryOp::kAdd, *graph_.MatMul(items_, user, false),
                                 *graph_.MatMul(items_, weights, true));
  const int biased = *graph_.Binary(BinaryOp::kAdd, sum, Constant({2}, {-10, 0.5}));
  const int relu = *graph_.Unary(UnaryOp::kRelu, biased);
  const int score = *graph_.Reduce(ReduceOp::kSum, relu, false);
  // Row i: [i + 2 i + i - 10, 1 + 1 + 0.5] clipped at 0, summed.
  EXPECT_EQ(Scores(score, {{1, 0, 1, 0, 0, 1, 0, 0}}), (std::vector<float>{8.5, 2.5, 4.5, 2.5, 2.5}));
}

TEST_F(TileProgramTest, AValueThatIsReadTwiceIsNotFusedAway) {
  const int product = *graph_.MatMul(items_, Constant({kWidth, 2}, {1, 0, 0, 1, 0, 0, 0, 0}), false);
  const int relu = *graph_.Unary(UnaryOp::kRelu, *graph_.Binary(BinaryOp::kSub, product, Constant({}, {5})));
  const int both = *graph_.Binary(BinaryOp::kAdd, relu, product);
  // Row i: relu(i - 5) + i + relu(2 i - 5) + 2 i.
  EXPECT_EQ(Scores(*graph_.Reduce(ReduceOp::kSum, both, false), {}), (std::vector<float>{15, 0, 10, 3, 6}));
}

TEST_F(TileProgramTest, PreluInItsLongSpelling) {
  const int x = *graph_.Slice(items_, 2, 2);  // (1, -i)
  const int negative = *graph_.Unary(UnaryOp::kRelu, *graph_.Unary(UnaryOp::kNeg, x));
  const int scaled = *graph_.Binary(BinaryOp::kMul, Constant({2}, {-0.5, -0.25}), negative);
  const int prelu = *graph_.Binary(BinaryOp::kAdd, *graph_.Unary(UnaryOp::kRelu, x), scaled);
  EXPECT_EQ(Scores(*graph_.Reduce(ReduceOp::kSum, prelu, false), {}),
            (std::vector<float>{0, 1, 0.25, 0.75, 0.5}));
}

TEST_F(TileProgramTest, ConcatSliceColumnsAndUserVectors) {
  const int user = *graph_.AddUser(0, {1, 2});
  const int left = *graph_.Slice(items_, 0, 1), right = *graph_.Slice(items_, 1, 2);
  const int joined = *graph_.Concat({right, left});                 // (2 i, 1, i)
  const int scaled = *graph_.Binary(BinaryOp::kMul, joined, left);  // times i
  const int shifted =
      *graph_.Binary(BinaryOp::kAdd, *graph_.Slice(scaled, 1, 2), user);  // (i + u0, i i + u1)
  EXPECT_EQ(Scores(*graph_.Reduce(ReduceOp::kMax, shifted, true), {{3, -1}}),
            (std::vector<float>{15, 3, 8, 4, 5}));
}

TEST_F(TileProgramTest, InnerProductsAndDistancesAreReadInPlace) {
  const int user = *graph_.AddUser(0, {kWidth, 1});
  const int dot = *graph_.Reshape(*graph_.MatMul(items_, user, false), 1);
  EXPECT_EQ(Scores(dot, {{1, 1, 5, 1}}), (std::vector<float>{13, 5, 11, 7, 9}));
  TileProgram program = *TileProgram::Compile(graph_, {});
  ASSERT_TRUE(program.direct().has_value());
  EXPECT_FALSE(program.direct()->squared_distance);

  const int vector = *graph_.AddUser(0, {kWidth});
  const int difference = *graph_.Binary(BinaryOp::kSquaredDifference, items_, vector);
  const int distance = *graph_.Unary(UnaryOp::kNeg, *graph_.Reduce(ReduceOp::kSum, difference, false));
  EXPECT_EQ(Scores(distance, {{0, 0, 1, 0}}), (std::vector<float>{-96, 0, -54, -6, -24}));
  program = *TileProgram::Compile(graph_, {});
  ASSERT_TRUE(program.direct().has_value());
  EXPECT_TRUE(program.direct()->squared_distance && program.direct()->negated);
}

TEST_F(TileProgramTest, ALongSumIsTakenApartInPieces) {
  int sum = *graph_.MatMul(items_, Constant({kWidth, 1}, {1, 0, 0, 0}), false);
  for (int i = 0; i < 40; ++i) {
    sum = *graph_.Binary(BinaryOp::kAdd, sum,
                         *graph_.MatMul(items_, Constant({kWidth, 1}, {1, 0, 0, 0}), false));
  }
  EXPECT_EQ(Scores(sum, {}), (std::vector<float>{164, 0, 123, 41, 82}));
}

TEST_F(TileProgramTest, ScoresDoNotDependOnTheTile) {
  const int hidden = *graph_.MatMul(
      items_, Constant({kWidth, 3}, {.1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f, .9f, 1, 2, 3}), false);
  const int score =
      *graph_.Reduce(ReduceOp::kSum, *graph_.Softmax(*graph_.Binary(BinaryOp::kMul, hidden, hidden)), false);
  EXPECT_EQ(Scores(score, {}, 1), Scores(score, {}, 5));
}

TEST_F(TileProgramTest, WhatIsNotComputedIsSaidSo) {
  const int user = *graph_.AddUser(0, {3});
  EXPECT_EQ(graph_.MatMul(items_, user, false).status().message(), "a matrix product [tile, 4] x [3]");
  EXPECT_EQ(graph_.Binary(BinaryOp::kAdd, items_, user).status().message(),
            "an elementwise operation of [tile, 4] and [3]");
  EXPECT_EQ(graph_.Slice(items_, 3, 2).status().message(), "columns 3 to 5 of [tile, 4]");
  EXPECT_EQ(graph_.AddUser(1, {2, 2, 2}).status().message(), "a tensor of rank 3 for all items");
  EXPECT_EQ(graph_.SetOutput(items_).message(), "scores of shape [tile, 4], expected [tile]");
  EXPECT_EQ(TileProgram::Compile(graph_, {}).status().message(), "a scorer without an output");
}

}  // namespace
}  // namespace nann
