#include "ops/core/scorer/native_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/cc/arrays.h"
#include "tests/cc/program_builder.h"

namespace nann {
namespace {

// Items 0..4 with rows (i, 2 i, 1, -i), and a user's matrix ((1, 2, 3), (4, 5, 6)), with every version of the
// kernels.
class NativeExecutorTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  static constexpr int64_t kItems = 5, kWidth = 4;

  NativeExecutorTest() {
    for (int64_t i = 0; i < kItems; ++i) {
      const float x = static_cast<float>(i);
      rows_.insert(rows_.end(), {x, 2 * x, 1.0f, -x});
    }
    table_ = TableOver(rows_, kWidth);
  }

  NativeExecutor Executor(int64_t tile_rows, bool bfloat16 = false) const {
    absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(b_.Bytes());
    EXPECT_TRUE(program.ok()) << program.status();
    NativeExecutor::Options options;
    options.tile_rows = tile_rows;
    options.bfloat16 = bfloat16;
    options.kernels = GetParam();
    return NativeExecutor(std::make_shared<const ScorerProgram>(*std::move(program)), options);
  }

  // Scores of items 4, 0, 3, 1, 2, tile after tile, twice over the same memory.
  std::vector<float> Scores(int64_t tile_rows = 2, bool bfloat16 = false) const {
    const NativeExecutor executor = Executor(tile_rows, bfloat16);
    PackedUser packed = executor.MakePacked();
    AlignedFloats user = executor.MakeUser(), scratch = executor.MakeScratch();
    const std::vector<float> first = ScoresOver(executor, &user, &packed, &scratch);
    EXPECT_EQ(first, ScoresOver(executor, &user, &packed, &scratch));
    return first;
  }

  std::vector<float> ScoresOver(const NativeExecutor& executor, AlignedFloats* user, PackedUser* packed,
                                AlignedFloats* scratch) const {
    const float* tensors[] = {user_.data()};
    executor.RunUser(tensors, user);
    executor.Pack(*user, packed);
    const Table* tables[] = {&table_};
    const std::vector<int32_t> positions = {4, 0, 3, 1, 2};
    std::vector<float> scores(positions.size());
    for (size_t i = 0; i < positions.size(); i += executor.tile_rows()) {
      const int64_t rows = std::min<int64_t>(executor.tile_rows(), positions.size() - i);
      const absl::Span<const int32_t> tile = absl::MakeConstSpan(positions).subspan(i, rows);
      executor.Gather(tables, tile, scratch);
      executor.Score(*user, *packed, rows, scratch, &scores[i]);
      if (!executor.ScoresInPlace(tables)) continue;
      std::vector<float> in_place(rows);
      executor.ScoreInPlace(*user, tables, tile, in_place.data());
      EXPECT_EQ(in_place, std::vector<float>(scores.begin() + i, scores.begin() + i + rows));
    }
    return scores;
  }

  // What the user section makes of the user's matrix: value `x` [rows, columns], row by row.
  std::vector<float> OfUser(uint32_t x, uint32_t rows, uint32_t columns) {
    const uint32_t flat = b_.Reshape(x, 1, rows * columns);
    std::vector<float> found;
    for (uint32_t i = 0; i < rows * columns; ++i) {
      b_.Slice(flat, i, 1);
      found.push_back(Scores()[0]);
    }
    return found;
  }

  std::vector<float> rows_;
  std::vector<float> user_ = {1, 2, 3, 4, 5, 6};
  Table table_;
  ProgramBuilder b_;
};

using Floats = std::vector<float>;

// -------------------------------------------------------------------- tiles

TEST_P(NativeExecutorTest, ProductsSumsAndActivationsAreOneInstruction) {
  const uint32_t items = b_.Table(0, kWidth);
  const uint32_t user = b_.Input(0, {kWidth, 2});
  user_ = {1, 0, 1, 0, 0, 1, 0, 0};
  const uint32_t weights = b_.Constant(2, kWidth, {1, 0, 0, 0, 0, 0, 1, 0});
  const uint32_t bias = b_.Constant(1, 2, {-10, 0.5});
  b_.Reduce(ReduceOp::kSum, b_.Gemm(2, {items, user, items, weights, bias}, 2, Activation::kRelu));
  // Row i: [i + 2 i + i - 10, 1 + 1 + 0.5] clipped at 0, summed.
  EXPECT_EQ(Scores(), (Floats{8.5, 2.5, 4.5, 2.5, 2.5}));
  EXPECT_EQ(Scores(2, true), (Floats{8.5, 2.5, 4.5, 2.5, 2.5}));  // All are numbers of bfloat16.
}

TEST_P(NativeExecutorTest, AValueThatIsReadTwiceStays) {
  const uint32_t items = b_.Table(0, kWidth);
  const uint32_t product = b_.Gemm(1, {items, b_.Constant(kWidth, 2, {1, 0, 0, 1, 0, 0, 0, 0})});
  const uint32_t relu = b_.Unary(UnaryOp::kRelu, b_.Binary(BinaryOp::kSub, product, b_.Constant(1, 1, {5})));
  b_.Reduce(ReduceOp::kSum, b_.Binary(BinaryOp::kAdd, relu, product));
  // Row i: relu(i - 5) + i + relu(2 i - 5) + 2 i.
  EXPECT_EQ(Scores(), (Floats{15, 0, 10, 3, 6}));
}

TEST_P(NativeExecutorTest, SlopesAloneAndAfterAProduct) {
  const uint32_t x = b_.Slice(b_.Table(0, kWidth), 2, 2);  // (1, -i)
  const uint32_t slope = b_.Constant(1, 2, {0.5, 0.25});
  const uint32_t unit = b_.Constant(2, 2, {1, 0, 0, 1});
  const uint32_t alone = b_.Prelu(x, slope), after = b_.Gemm(1, {x, unit, slope}, 0, Activation::kPrelu);
  b_.Reduce(ReduceOp::kSum, b_.Binary(BinaryOp::kAdd, alone, after));
  EXPECT_EQ(Scores(), (Floats{0, 2, 0.5, 1.5, 1}));
}

TEST_P(NativeExecutorTest, ConcatSliceColumnsAndUserVectors) {
  const uint32_t items = b_.Table(0, kWidth);
  const uint32_t user = b_.Input(0, {1, 2});
  user_ = {3, -1};
  const uint32_t left = b_.Slice(items, 0, 1), right = b_.Slice(items, 1, 2);
  const uint32_t joined = b_.Concat({right, left});                                    // (2 i, 1, i)
  const uint32_t scaled = b_.Binary(BinaryOp::kMul, joined, left);                     // times i
  b_.Reduce(ReduceOp::kMax, b_.Binary(BinaryOp::kAdd, b_.Slice(scaled, 1, 2), user));  // (i + u0, i i + u1)
  EXPECT_EQ(Scores(), (Floats{15, 3, 8, 4, 5}));
}

TEST_P(NativeExecutorTest, ItemsBesideTheUser) {
  const uint32_t user = b_.Input(0, {2});
  user_ = {100, 200};
  b_.Reduce(ReduceOp::kSum, b_.Concat({b_.Slice(b_.Table(0, kWidth), 1, 1), user}));
  EXPECT_EQ(Scores(), (Floats{308, 300, 306, 302, 304}));
}

TEST_P(NativeExecutorTest, PartsAreWrittenWhereTheyAreJoined) {
  const uint32_t items = b_.Table(0, kWidth);
  const uint32_t twice = b_.Binary(BinaryOp::kMul, items, b_.Constant(1, 1, {2}));
  const uint32_t largest = b_.Reduce(ReduceOp::kMax, items);
  // Below one another, a part that stands there twice among them, and one that is read elsewhere too.
  const uint32_t below = b_.Stack({items, twice, b_.Unary(UnaryOp::kNeg, items), items});
  // Side by side: a number, and a last part that ends with the row.
  const uint32_t beside =
      b_.Concat({b_.Reduce(ReduceOp::kSum, twice), largest, b_.Unary(UnaryOp::kNeg, twice)});
  const uint32_t rows = b_.ReduceRows(ReduceOp::kSum, below);  // 3 x (i, 2 i, 1, -i)
  const uint32_t factors = b_.Constant(1, 6, {1000, 100, 1, 2, 3, 4});
  const uint32_t sum = b_.Reduce(ReduceOp::kSum, b_.Binary(BinaryOp::kMul, beside, factors));
  b_.Binary(BinaryOp::kAdd, sum, b_.Reduce(ReduceOp::kSum, b_.Binary(BinaryOp::kAdd, rows, twice)));
  Floats expected;
  for (const float i : {4.0f, 0.0f, 3.0f, 1.0f, 2.0f}) {
    const float sum_of_row = 2 * i + 1, most = std::max(2 * i, 1.0f);
    expected.push_back(2000 * sum_of_row + 100 * most - 2 * (i + 4 * i + 3 - 4 * i) + 5 * sum_of_row);
  }
  for (int64_t tile_rows : {1, 2, 5}) EXPECT_EQ(Scores(tile_rows), expected);
}

TEST_P(NativeExecutorTest, NumbersAreCutIntoOtherRowsWhereTheyLie) {
  const std::vector<float> unit(4 * 16, 0.0f);
  std::vector<float> spread = unit;
  for (int64_t i = 0; i < kWidth; ++i) spread[i * 16 + 4 * i] = spread[i * 16 + 4 * i + 3] = 1.0f;
  // (i, 0, 0, i, 2 i, 0, 0, 2 i, 1, ...): sixteen numbers, so that nothing lies between the items.
  const uint32_t wide = b_.Gemm(1, {b_.Table(0, kWidth), b_.Constant(kWidth, 16, spread)});
  const uint32_t cut = b_.Unary(UnaryOp::kSquare, b_.Reshape(wide, 8, 2));
  const uint32_t odd = b_.Rearrange(wide, {4, 2, 0, 2, 4, 0, 4, 2, 0, 1});  // The later half of each four.
  const uint32_t sums = b_.Reduce(ReduceOp::kSum, cut);                     // [8, 1]
  const uint32_t row = b_.Reshape(b_.Unary(UnaryOp::kNeg, sums), 1, 8);
  const uint32_t picked = b_.Slice(row, 2, 2);  // Of the second four.
  b_.Binary(BinaryOp::kAdd, b_.Reduce(ReduceOp::kSum, picked),
            b_.Reduce(ReduceOp::kSum, b_.Reshape(odd, 1, 8)));
  Floats expected;
  for (const float i : {4.0f, 0.0f, 3.0f, 1.0f, 2.0f}) expected.push_back(-8 * i * i + 2 * i + 1);
  for (int64_t tile_rows : {1, 2, 5}) EXPECT_EQ(Scores(tile_rows), expected);
}

TEST_P(NativeExecutorTest, RowsThatWereComputedStandForATable) {
  b_.Reduce(ReduceOp::kSum, b_.Concat({b_.Table(0, kWidth), b_.Table(1, 3)}));
  const NativeExecutor executor = Executor(2);
  PackedUser packed = executor.MakePacked();
  AlignedFloats user = executor.MakeUser(), scratch = executor.MakeScratch();
  executor.Pack(user, &packed);
  const Table* tables[] = {&table_};
  const Floats computed = {10, 20, 30, 7, 100, 200, 300, 7};  // Rows of three, four apart.
  executor.Gather(tables, {2, 1}, &scratch, {computed.data(), 4});
  Floats scores(2);
  executor.Score(user, packed, 2, &scratch, scores.data());
  EXPECT_EQ(scores, (Floats{65, 603}));
}

TEST_P(NativeExecutorTest, ASimilarityToRowsThatWereComputedIsNoneOfATable) {
  b_.Similarity(SimilarityOp::kDot, b_.Table(1, 3), b_.Constant(1, 3, {1, 2, 3}));
  const Table* tables[] = {&table_};
  EXPECT_FALSE(Executor(2).ScoresInPlace(tables));
}

TEST_P(NativeExecutorTest, InnerProductsAndDistancesAreReadInPlace) {
  const uint32_t items = b_.Table(0, kWidth), user = b_.Input(0, {kWidth});
  user_ = {1, 1, 5, 1};
  b_.Similarity(SimilarityOp::kDot, items, user);
  EXPECT_TRUE(Executor(2).is_similarity());
  EXPECT_EQ(Scores(), (Floats{13, 5, 11, 7, 9}));
}

TEST_P(NativeExecutorTest, EverySimilarity) {
  user_ = {0, 0, 1, 0};
  const std::vector<std::pair<SimilarityOp, Floats>> expected = {
      {SimilarityOp::kDot, {1, 1, 1, 1, 1}},
      {SimilarityOp::kNegativeDot, {-1, -1, -1, -1, -1}},
      {SimilarityOp::kSquaredDistance, {96, 0, 54, 6, 24}},
      {SimilarityOp::kNegativeSquaredDistance, {-96, 0, -54, -6, -24}}};
  for (const auto& [op, scores] : expected) {
    b_ = ProgramBuilder();
    const uint32_t items = b_.Table(0, kWidth);
    b_.Similarity(op, items, b_.Input(0, {kWidth}));
    EXPECT_TRUE(Executor(2).is_similarity());
    EXPECT_EQ(Scores(), scores);
    b_.Unary(UnaryOp::kNeg, b_.Similarity(op, b_.Unary(UnaryOp::kNeg, b_.Unary(UnaryOp::kNeg, items)), 1));
    EXPECT_FALSE(Executor(2).is_similarity());
    Floats negated = Scores();
    for (float& score : negated) score = -score;
    EXPECT_EQ(negated, scores);
  }
}

TEST_P(NativeExecutorTest, AProductOfManyTerms) {
  const uint32_t items = b_.Table(0, kWidth), ones = b_.Constant(kWidth, 2, {1, 0, 0, 0, 0, 0, 0, 0});
  std::vector<uint32_t> terms;
  for (int i = 0; i < kMaxSummands; ++i) terms.insert(terms.end(), {items, ones});
  b_.Reduce(ReduceOp::kMax, b_.Gemm(kMaxSummands, terms));
  EXPECT_EQ(Scores(), (Floats{48, 0, 36, 12, 24}));
}

TEST_P(NativeExecutorTest, ScoresDoNotDependOnTheTile) {
  const uint32_t weights = b_.Constant(kWidth, 3, {.1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f, .9f, 1, 2, 3});
  const uint32_t hidden = b_.Gemm(1, {b_.Table(0, kWidth), weights});
  b_.Reduce(ReduceOp::kSum, b_.Softmax(b_.Binary(BinaryOp::kMul, hidden, hidden)));
  EXPECT_EQ(Scores(1), Scores(5));
}

// As complex numbers in polar form: the user turns each item, of which the real part is summed.
TEST_P(NativeExecutorTest, AnglesOfItemsTurn) {
  const uint32_t item = b_.Table(0, kWidth), user = b_.Input(0, {2, 1});
  user_ = {0.5f, 1000.0f};
  const uint32_t y = b_.Slice(item, 1, 2), x = b_.Slice(item, 2, 2);
  const uint32_t turned = b_.Binary(BinaryOp::kAdd, b_.Binary(BinaryOp::kAtan2, y, x), user);  // [tile, 2, 2]
  const uint32_t waves =
      b_.Binary(BinaryOp::kSub, b_.Unary(UnaryOp::kCos, turned), b_.Unary(UnaryOp::kSin, turned));
  b_.Reduce(ReduceOp::kSum, b_.ReduceRows(ReduceOp::kSum, waves));
  const Floats found = Scores(), items = {4, 0, 3, 1, 2};
  EXPECT_EQ(found, Scores(5));
  for (size_t n = 0; n < items.size(); ++n) {
    const double i = items[n];
    double sum = 0;
    for (const double angle : {std::atan2(2 * i, 1.0), std::atan2(1.0, -i)}) {
      for (const double by : {0.5, 1000.0}) sum += std::cos(angle + by) - std::sin(angle + by);
    }
    EXPECT_NEAR(found[n], sum, 1e-3);  // A float has 6e-5 of 1,000.
  }
}

TEST_P(NativeExecutorTest, AScoreOfTheUserAlone) {
  b_.Table(0, kWidth);
  b_.Reduce(ReduceOp::kSum, b_.Input(0, {3}));
  EXPECT_EQ(Scores(), (Floats{6, 6, 6, 6, 6}));
}

// Each item with each of the user's two rows: [tile, 2, 3].
TEST_P(NativeExecutorTest, ThreeAxes) {
  const uint32_t item = b_.Slice(b_.Table(0, kWidth), 0, 3), user = b_.Input(0, {2, 3});
  const uint32_t pairs = b_.Binary(BinaryOp::kMul, item, user);  // Rows (i u, 2 i v, w).
  const uint32_t summed = b_.Reduce(ReduceOp::kSum, pairs);      // 5 i + 3, 14 i + 6
  const uint32_t turned = b_.Transpose(summed);                  // [tile, 1, 2]
  const uint32_t above = b_.Binary(BinaryOp::kGreater, turned, b_.Constant(1, 2, {10, 20}));
  const uint32_t chosen = b_.Select(above, turned, b_.Constant(1, 1, {1}));
  const uint32_t joined = b_.Concat({b_.Transpose(chosen), summed, user});  // [tile, 2, 5]
  const uint32_t product = b_.Gemm(1, {joined, b_.Constant(5, 2, {1, 0, 0, 1, 0, 0, 0, 0, 0, 1})});
  b_.Reduce(ReduceOp::kSum, b_.Reshape(product, 1, 4));  // chosen + summed + w of both rows.
  EXPECT_EQ(Scores(), (Floats{179, 20, 141, 39, 103}));
}

// -------------------------------------------------------------------- the user section

TEST_P(NativeExecutorTest, ProductsWithConstantsAndWithWhatWasComputed) {
  const uint32_t x = b_.Input(0, {2, 3});
  const uint32_t doubled = b_.Gemm(1, {x, b_.Constant(3, 2, {2, 0, 0, 2, 1, 1})});
  EXPECT_EQ(OfUser(b_.Gemm(1, {doubled, x}), 2, 3), (Floats{33, 45, 57, 78, 108, 138}));
}

TEST_P(NativeExecutorTest, ATransposedRightSide) {
  const uint32_t x = b_.Input(0, {2, 3});
  EXPECT_EQ(OfUser(b_.Gemm(1, {x, x}, 1), 2, 2), (Floats{14, 32, 32, 77}));
}

TEST_P(NativeExecutorTest, OperandsAreRepeated) {
  const uint32_t x = b_.Input(0, {2, 3});
  const uint32_t rows = b_.Binary(BinaryOp::kAdd, x, b_.Constant(1, 3, {10, 20, 30}));
  const uint32_t columns = b_.Binary(BinaryOp::kMul, rows, b_.Constant(2, 1, {1, -1}));
  const uint32_t all = b_.Binary(BinaryOp::kSub, b_.Constant(1, 1, {100}), columns);
  EXPECT_EQ(OfUser(all, 2, 3), (Floats{89, 78, 67, 114, 125, 136}));
}

TEST_P(NativeExecutorTest, ARowAndAColumnMakeAMatrix) {
  const uint32_t column = b_.Constant(2, 1, {1, 2}), row = b_.Constant(1, 3, {10, 20, 30});
  EXPECT_EQ(OfUser(b_.Binary(BinaryOp::kMul, column, row), 2, 3), (Floats{10, 20, 30, 20, 40, 60}));
}

TEST_P(NativeExecutorTest, ReductionsTransposesAndReshapes) {
  const uint32_t x = b_.Input(0, {2, 3});
  const uint32_t sums = b_.Reduce(ReduceOp::kSum, b_.Transpose(x));  // 5, 7, 9, standing
  EXPECT_EQ(OfUser(b_.Binary(BinaryOp::kAdd, x, b_.Reshape(sums, 1, 3)), 2, 3),
            (Floats{6, 9, 12, 9, 12, 15}));
}

TEST_P(NativeExecutorTest, AReshapeReadsRowByRow) {
  EXPECT_EQ(OfUser(b_.Transpose(b_.Reshape(b_.Input(0, {2, 3}), 3, 2)), 2, 3), (Floats{1, 3, 5, 2, 4, 6}));
}

TEST_P(NativeExecutorTest, Comparisons) {
  const uint32_t x = b_.Input(0, {2, 3}), three = b_.Constant(1, 1, {3});
  const uint32_t at_least = b_.Binary(BinaryOp::kGreaterEqual, x, three);
  const uint32_t other = b_.Binary(BinaryOp::kNotEqual, x, three);
  EXPECT_EQ(OfUser(b_.Binary(BinaryOp::kMul, at_least, other), 2, 3), (Floats{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(OfUser(b_.Binary(BinaryOp::kEqual, x, three), 2, 3), (Floats{0, 0, 1, 0, 0, 0}));
}

TEST_P(NativeExecutorTest, ASelectionKeepsWhatIsNotChosenOut) {
  const uint32_t x = b_.Input(0, {2, 3});
  const uint32_t positive = b_.Binary(BinaryOp::kGreater, x, b_.Constant(1, 1, {4}));
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(OfUser(b_.Select(positive, x, b_.Constant(1, 3, {-infinity, 0, 7})), 2, 3),
            (Floats{-infinity, 0, 7, -infinity, 5, 6}));
}

TEST_P(NativeExecutorTest, FunctionsAndSoftmax) {
  const uint32_t x = b_.Input(0, {2, 3});
  const uint32_t even = b_.Softmax(b_.Binary(BinaryOp::kMul, x, b_.Constant(1, 1, {0})));
  const Floats found = OfUser(b_.Unary(UnaryOp::kNeg, b_.Reduce(ReduceOp::kMax, even)), 2, 1);
  EXPECT_NEAR(found[0], -1.0 / 3, 1e-6);
  EXPECT_NEAR(found[1], -1.0 / 3, 1e-6);
}

TEST_P(NativeExecutorTest, PackingAgainInAnotherPrecision) {
  const uint32_t items = b_.Table(0, kWidth), user = b_.Input(0, {kWidth, 2});
  b_.Reduce(ReduceOp::kSum, b_.Gemm(1, {items, b_.Unary(UnaryOp::kNeg, user)}));
  user_ = {1.001f, 0, 0, 1, 1, 1, 0, 1};
  const NativeExecutor rough = Executor(5, true), exact = Executor(5);
  PackedUser packed = exact.MakePacked();
  AlignedFloats user_memory = rough.MakeUser(), scratch = exact.MakeScratch();
  const float* tensors[] = {user_.data()};
  rough.RunUser(tensors, &user_memory);
  exact.Pack(user_memory, &packed);
  const Table* tables[] = {&table_};
  const std::vector<int32_t> positions = {4};
  float score = 0;
  exact.Gather(tables, positions, &scratch);
  exact.Score(user_memory, packed, 1, &scratch, &score);
  EXPECT_EQ(score, Scores(5)[0]);
  EXPECT_NE(score, Scores(5, true)[0]);
}

INSTANTIATE_TEST_SUITE_P(AllVersions, NativeExecutorTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& version) { return std::string(version.param->name); });

}  // namespace
}  // namespace nann
