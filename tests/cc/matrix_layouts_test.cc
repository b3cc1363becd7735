// Products of groups, rearrangements, and what goes over rows, against the same written out.
#include "ops/core/scorer/matrix_layouts.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "ops/core/scorer/native_executor.h"
#include "tests/cc/arrays.h"
#include "tests/cc/program_builder.h"

namespace nann {
namespace {

using Floats = std::vector<float>;

// Numbers that add up exactly.
Floats Numbers(int64_t count, int seed) {
  Floats numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<float>((i * 7 + seed * 5) % 11) - 5.0f;
  return numbers;
}

// Three items of a table, and what a program makes of them with every version of the kernels.
class MatrixLayoutsTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  static constexpr int64_t kItems = 3, kTileRows = 2;

  // The item's matrix, and the user's.
  uint32_t ItemMatrix(int64_t rows, int64_t columns) {
    table_ = Numbers(kItems * rows * columns, 1);
    width_ = rows * columns;
    return b_.Reshape(b_.Table(0, width_), rows, columns);
  }
  uint32_t UserMatrix(int64_t rows, int64_t columns) {
    user_ = Numbers(rows * columns, 2);
    return b_.Input(0, {static_cast<uint32_t>(rows), static_cast<uint32_t>(columns)});
  }
  float Item(int64_t item, int64_t at) const { return table_[item * width_ + at]; }

  // Expects the last value to be [tile, rows, columns] with these numbers, by a sum with other factors each.
  void ExpectValue(int64_t rows, int64_t columns,
                   const std::function<float(int64_t item, int64_t row, int64_t column)>& expected) {
    const uint32_t last = b_.Size() - 1;
    const Floats factors = Numbers(rows * columns, 3);
    const uint32_t weighted = b_.Binary(BinaryOp::kMul, last, b_.Constant(rows, columns, factors));
    b_.Reduce(ReduceOp::kSum, b_.Transpose(b_.Reduce(ReduceOp::kSum, weighted)));
    const Floats scores = Scores();
    for (int64_t item = 0; item < kItems; ++item) {
      float sum = 0;
      for (int64_t i = 0; i < rows * columns; ++i) {
        sum += expected(item, i / columns, i % columns) * factors[i];
      }
      EXPECT_EQ(scores[item], sum) << "item " << item;
    }
  }

  Floats Scores() const {
    absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(b_.Bytes());
    EXPECT_TRUE(program.ok()) << program.status();
    NativeExecutor::Options options;
    options.tile_rows = kTileRows;
    options.kernels = GetParam();
    const NativeExecutor executor(std::make_shared<const ScorerProgram>(*std::move(program)), options);
    const Table table = TableOver(table_, width_);
    const Table* tables[] = {&table};
    const float* tensors[] = {user_.data()};
    PackedUser packed = executor.MakePacked();
    AlignedFloats user = executor.MakeUser(), scratch = executor.MakeScratch();
    executor.RunUser(tensors, &user);
    executor.Pack(user, &packed);
    Floats scores(kItems);
    for (int32_t item = 0; item < kItems; item += kTileRows) {
      const std::vector<int32_t> positions = item == 0 ? std::vector<int32_t>{0, 1} : std::vector<int32_t>{2};
      executor.Gather(tables, positions, &scratch);
      executor.Score(user, packed, static_cast<int64_t>(positions.size()), &scratch, &scores[item]);
    }
    return scores;
  }

  Floats table_, user_ = {0};
  int64_t width_ = 0;
  ProgramBuilder b_;
};

struct Sizes {
  int64_t groups, rows, depth, columns;
};

// Element [i, j] of a group's matrix [down, across], as multiplied with.
int64_t Place(bool below, bool transposed, const Sizes& s, int64_t group, int64_t down, int64_t across,
              int64_t i, int64_t j) {
  if (transposed) std::swap(i, j);
  return below ? (group * down + i) * across + j : i * s.groups * across + group * across + j;
}

TEST_P(MatrixLayoutsTest, ProductsOfGroupsInEveryLayout) {
  for (const Sizes& s : {Sizes{1, 5, 3, 4}, Sizes{3, 7, 5, 18}, Sizes{2, 1, 1, 33}, Sizes{4, 2, 17, 1}}) {
    for (uint32_t bits = 0; bits < 32; ++bits) {
      SCOPED_TRACE(std::to_string(s.groups) + " groups, layout " + std::to_string(bits));
      const bool left_below = bits & 1, left_turned = bits & 2, right_below = bits & 4,
                 right_turned = bits & 8, out_below = bits & 16;
      const int64_t left_down = left_turned ? s.depth : s.rows, left_across = left_turned ? s.rows : s.depth;
      const int64_t right_down = right_turned ? s.columns : s.depth,
                    right_across = right_turned ? s.depth : s.columns;
      const auto number = [&](int64_t item, bool left_is_item, int64_t group, int64_t row, int64_t column) {
        float sum = 0;
        for (int64_t k = 0; k < s.depth; ++k) {
          const int64_t l = Place(left_below, left_turned, s, group, left_down, left_across, row, k);
          const int64_t r = Place(right_below, right_turned, s, group, right_down, right_across, k, column);
          sum += left_is_item ? Item(item, l) * user_[r] : user_[l] * Item(item, r);
        }
        return sum;
      };
      for (bool left_is_item : {true, false}) {
        b_ = ProgramBuilder();
        const int64_t left_rows = left_down * (left_below ? s.groups : 1),
                      left_columns = left_across * (left_below ? 1 : s.groups);
        const int64_t right_rows = right_down * (right_below ? s.groups : 1),
                      right_columns = right_across * (right_below ? 1 : s.groups);
        const uint32_t left =
            left_is_item ? ItemMatrix(left_rows, left_columns) : UserMatrix(left_rows, left_columns);
        const uint32_t right =
            left_is_item ? UserMatrix(right_rows, right_columns) : ItemMatrix(right_rows, right_columns);
        b_.Product(s.groups, bits, left, right);
        ExpectValue(out_below ? s.groups * s.rows : s.rows, out_below ? s.columns : s.groups * s.columns,
                    [&](int64_t item, int64_t row, int64_t column) {
                      return out_below
                                 ? number(item, left_is_item, row / s.rows, row % s.rows, column)
                                 : number(item, left_is_item, column / s.columns, row, column % s.columns);
                    });
      }
    }
  }
}

TEST_P(MatrixLayoutsTest, AProductOfTwoValuesOfTheItem) {
  const uint32_t x = ItemMatrix(3, 20);
  b_.Product(1, 8, x, x);
  ExpectValue(3, 3, [&](int64_t item, int64_t row, int64_t column) {
    float sum = 0;
    for (int64_t k = 0; k < 20; ++k) sum += Item(item, row * 20 + k) * Item(item, column * 20 + k);
    return sum;
  });
}

TEST_P(MatrixLayoutsTest, ARearrangementIsAnyOrderOfAxes) {
  const uint32_t x = ItemMatrix(4, 6);
  // Rows 1 to 3, seen as [3, 2, 3], to [2, 3, 3]; as a matrix [2, 9].
  b_.Rearrange(x, {2, 9, 1, 0, 2, 0, 3, 3, 1, 0, 3, 0, 1});
  ExpectValue(2, 9, [&](int64_t item, int64_t row, int64_t column) {
    return Item(item, (1 + column / 3) * 6 + row * 3 + column % 3);
  });
}

// Columns of a table: numbers, a matrix [2, 3], a number that nothing reads, and a matrix [3, 2] that is read
// twice. The two lie in pieces of their own.
TEST_P(MatrixLayoutsTest, MatricesOfAnItemBesideNumbers) {
  width_ = 17;
  table_ = Numbers(kItems * width_, 1);
  const uint32_t table = b_.Table(0, 17);
  const uint32_t numbers = b_.Slice(table, 1, 3);
  const uint32_t first = b_.Rearrange(table, {2, 3, 0, 4, 2, 0, 3, 3, 0, 1});
  const uint32_t second = b_.Rearrange(table, {3, 2, 0, 11, 3, 0, 2, 2, 0, 1});
  const uint32_t row = b_.Slice(table, 12, 3);
  const uint32_t sums = b_.Reduce(ReduceOp::kSum, second);  // [3, 1].
  b_.Stack({b_.Binary(BinaryOp::kMul, first, numbers), b_.Binary(BinaryOp::kAdd, row, b_.Transpose(sums))});
  ExpectValue(3, 3, [this](int64_t item, int64_t i, int64_t j) {
    if (i < 2) return Item(item, 4 + i * 3 + j) * Item(item, 1 + j);
    return Item(item, 12 + j) + Item(item, 11 + 2 * j) + Item(item, 12 + 2 * j);
  });
}

TEST_P(MatrixLayoutsTest, ARearrangementRepeats) {
  const uint32_t x = ItemMatrix(2, 3);
  b_.Rearrange(x, {4, 3, 0, 0, 2, 0, 0, 2, 1, 0, 3, 0, 1});
  ExpectValue(4, 3,
              [&](int64_t item, int64_t row, int64_t column) { return Item(item, row % 2 * 3 + column); });
}

TEST_P(MatrixLayoutsTest, ReductionsOverRows) {
  const uint32_t x = ItemMatrix(4, 18);
  const auto column_of = [&](int64_t item, int64_t column) {
    return Floats{Item(item, column), Item(item, 18 + column), Item(item, 36 + column),
                  Item(item, 54 + column)};
  };
  const ProgramBuilder begun = b_;
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMax, ReduceOp::kMin}) {
    b_ = begun;
    b_.ReduceRows(op, x);
    ExpectValue(1, 18, [&](int64_t item, int64_t, int64_t column) {
      const Floats four = column_of(item, column);
      const float sum = four[0] + four[1] + four[2] + four[3];
      switch (op) {
        case ReduceOp::kSum:
          return sum;
        case ReduceOp::kMean:
          return sum / 4;
        case ReduceOp::kMax:
          return *std::max_element(four.begin(), four.end());
        case ReduceOp::kMin:
          break;
      }
      return *std::min_element(four.begin(), four.end());
    });
  }
}

TEST_P(MatrixLayoutsTest, PartsBelowOneAnother) {
  const uint32_t x = ItemMatrix(2, 3), user = UserMatrix(3, 3);
  b_.Stack({user, x, user});
  ExpectValue(8, 3, [&](int64_t item, int64_t row, int64_t column) {
    if (row >= 3 && row < 5) return Item(item, (row - 3) * 3 + column);
    return user_[(row < 3 ? row : row - 5) * 3 + column];
  });
}

// The left and the right side of all pairs of three rows, as scorers multiply their fields.
TEST_P(MatrixLayoutsTest, RearrangedRowsBelowOneAnother) {
  for (const int64_t columns : {1, 6, 16, 20}) {
    b_ = ProgramBuilder();
    const uint32_t width = static_cast<uint32_t>(columns);
    const uint32_t x = ItemMatrix(3, columns);
    const uint32_t left = b_.Rearrange(x, {2, width, 0, 0, 2, 0, 0, width, 0, 1});   // Rows 0, 0.
    const uint32_t right = b_.Rearrange(x, {2, width, 1, 0, 2, 1, 0, width, 0, 1});  // Rows 1, 2.
    const uint32_t last = b_.Rearrange(x, {1, width, 2, 0, width, 0, 1});            // Row 2 where it lies.
    const uint32_t middle = b_.Rearrange(x, {1, width, 1, 0, width, 0, 1});
    b_.Stack({left, middle, right, last, x});
    const int64_t rows[] = {0, 0, 1, 1, 2, 2, 0, 1, 2};
    ExpectValue(9, columns, [&](int64_t item, int64_t row, int64_t column) {
      return Item(item, rows[row] * columns + column);
    });
  }
}

TEST_P(MatrixLayoutsTest, RearrangedRowsThatAreReadElsewhereTooOrAreMadeOfPieces) {
  const uint32_t x = ItemMatrix(3, 6);
  const uint32_t twice = b_.Rearrange(x, {2, 6, 0, 0, 2, 0, 0, 6, 0, 1});   // Rows 0, 0.
  const uint32_t pieces = b_.Rearrange(x, {1, 6, 0, 0, 3, 1, 0, 2, 0, 1});  // Two columns of each row.
  const uint32_t columns = b_.Rearrange(x, {2, 6, 0, 0, 2, 0, 0, 2, 0, 3, 3, 1, 0});  // Columns 0 and 3.
  const uint32_t stack = b_.Stack({twice, columns, pieces});
  b_.Stack({stack, twice});
  ExpectValue(7, 6, [&](int64_t item, int64_t row, int64_t column) {
    if (row == 4) return Item(item, column / 2 * 6 + column % 2);
    if (row == 2 || row == 3) return Item(item, column % 3 * 6 + column / 3 * 3);
    return Item(item, column);
  });
}

TEST_P(MatrixLayoutsTest, AddendsRepeatTheirRowsOrTheirItems) {
  const uint32_t x = ItemMatrix(7, 3), user = UserMatrix(7, 3);
  const uint32_t row = b_.Rearrange(x, {1, 3, 2, 0, 3, 0, 1});
  const uint32_t unit = b_.Constant(3, 3, {1, 0, 0, 0, 1, 0, 0, 0, 1});
  b_.Gemm(1, {x, unit, row, user, x});
  ExpectValue(7, 3, [&](int64_t item, int64_t r, int64_t column) {
    return 2 * Item(item, r * 3 + column) + Item(item, 6 + column) + user_[r * 3 + column];
  });
}

// Rows of the user's, at numbers of the item of which some are none of its rows.
TEST_P(MatrixLayoutsTest, RowsAtNumbersOfTheItem) {
  for (const int64_t columns : {1, 5, 16, 20}) {
    b_ = ProgramBuilder();
    const uint32_t index = ItemMatrix(2, 3), table = UserMatrix(4, columns);
    b_.Gather(table, index);
    const auto row_at = [&](float number, int64_t column) {
      const bool is_there = number >= 0 && number < 4;
      return is_there ? user_[static_cast<int64_t>(number) * columns + column] : 0.0f;
    };
    ExpectValue(6, columns,
                [&](int64_t item, int64_t row, int64_t column) { return row_at(Item(item, row), column); });
    b_.Gather(table, b_.Constant(1, 2, {3, 1}));
    ExpectValue(2, columns, [&](int64_t, int64_t row, int64_t column) {
      return user_[(row == 0 ? 3 : 1) * columns + column];
    });
  }
}

TEST_P(MatrixLayoutsTest, NumbersThatAreNoRows) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), huge = 1e30f;
  const uint32_t rows = b_.Constant(2, 1, {5, 7});
  const uint32_t index = b_.Constant(1, 6, {nan, -huge, -1, 2, huge, 1});
  const uint32_t found = b_.ReduceRows(ReduceOp::kSum, b_.Gather(rows, index));
  table_ = {0, 0, 0}, width_ = 1;
  b_.Binary(BinaryOp::kAdd, b_.Table(0, 1), found);
  EXPECT_EQ(Scores(), (Floats{7, 7, 7}));
}

INSTANTIATE_TEST_SUITE_P(AllVersions, MatrixLayoutsTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& version) { return std::string(version.param->name); });

// -------------------------------------------------------------------- what is refused

std::string ProblemOf(const std::function<void(ProgramBuilder*)>& add) {
  ProgramBuilder b;
  b.Reshape(b.Table(0, 12), 3, 4);
  add(&b);
  const std::string problem(ScorerProgram::Parse(b.Bytes()).status().message());
  const std::string before = "scorer_program: expected a program that can be run, found instruction 2 ";
  return problem.substr(0, before.size()) == before ? problem.substr(before.size()) : problem;
}

TEST(RefusedLayoutsTest, NameWhatDoesNotFit) {
  EXPECT_EQ(ProblemOf([](auto* b) { b->Product(1, 0, 1, 1); }),
            "product: [tile, 3, 4] x [tile, 3, 4] in 1 groups, layout 0.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Product(3, 8, 1, 1); }),
            "product: [tile, 3, 4] x [tile, 3, 4] in 3 groups, layout 8.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Product(0, 8, 1, 1); }), "product: 0 groups, layout 8.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Product(1, 32, 1, 1); }), "product: 1 groups, layout 32.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Rearrange(1, {1, 4, 3, 0, 4, 0, 1}); }),
            "rearrange: row 3, column 3 of [tile, 3, 4].");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Rearrange(1, {1, 4, 0, 1, 4, 0, 1}); }),
            "rearrange: row 0, column 4 of [tile, 3, 4].");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Rearrange(1, {2, 3, 0, 0, 3, 0, 1, 2, 0, 0}); }),
            "rearrange: axes of 1 rows and 6 columns for [tile, 2, 3].");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Rearrange(1, {1, 1, 0, 0, 0, 0, 1}); }), "rearrange: an axis of 0.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Rearrange(1, {1, 1, 0, 0, 1}); }), "rearrange: 5 parameters.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Add(Opcode::kReduce, 0, {1}, {2}); }),
            "reduce: axis 2, expected 1 or none.");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Gather(1, 0); }), "gather: rows of [tile, 3, 4].");
  EXPECT_EQ(ProblemOf([](auto* b) { b->Stack({0, 1}); }), "concat: [tile, 1, 12] above [tile, 3, 4].");
}

}  // namespace
}  // namespace nann
