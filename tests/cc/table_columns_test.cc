#include "ops/core/scorer/table_columns.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "ops/core/scorer/scorer_program.h"
#include "tests/cc/program_builder.h"

namespace nann {
namespace {

using Piece = std::tuple<int64_t, int64_t, int64_t>;  // begin, count, stride.

// Of table 0 of a program.
template <typename Build>
std::vector<Piece> PiecesOf(Build build) {
  ProgramBuilder b;
  build(&b);
  const absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(b.Bytes());
  EXPECT_TRUE(program.ok()) << program.status();
  std::vector<Piece> pieces;
  for (const TableColumns& each : ColumnsOfTable(program->instructions(), 0)) {
    pieces.emplace_back(each.begin, each.count, each.stride);
  }
  return pieces;
}

// The score: the sum of all numbers of a value.
void SumOf(ProgramBuilder* b, uint32_t value, bool is_matrix) {
  uint32_t sum = b->Reduce(ReduceOp::kSum, value);
  if (is_matrix) b->ReduceRows(ReduceOp::kSum, sum);
}

// Rows of `columns` numbers, one after the other, from a column on.
uint32_t Matrix(ProgramBuilder* b, uint32_t first, uint32_t rows, uint32_t columns) {
  return b->Rearrange(0, {rows, columns, 0, first, rows, 0, columns, columns, 0, 1});
}

TEST(TableColumnsTest, NumbersAreInOnePiece) {
  EXPECT_EQ(PiecesOf([](auto* b) { SumOf(b, b->Slice(b->Table(0, 20), 3, 5), false); }),
            (std::vector<Piece>{{0, 20, 32}}));
}

TEST(TableColumnsTest, AMatrixIsAPieceAndSoIsWhatIsReadBesideIt) {
  EXPECT_EQ(PiecesOf([](auto* b) {
              const uint32_t table = b->Table(0, 40);
              const uint32_t before = b->Slice(table, 1, 4), also = b->Slice(table, 3, 4);
              const uint32_t matrix = Matrix(b, 10, 3, 8);
              const uint32_t behind = b->Slice(table, 36, 4);
              const uint32_t numbers =
                  b->Binary(BinaryOp::kAdd, before, b->Binary(BinaryOp::kAdd, also, behind));
              b->Binary(BinaryOp::kAdd, b->Reduce(ReduceOp::kSum, numbers),
                        b->ReduceRows(ReduceOp::kSum, b->Reduce(ReduceOp::kSum, matrix)));
            }),
            (std::vector<Piece>{{1, 6, 16}, {10, 24, 24}, {36, 4, 16}}));
}

TEST(TableColumnsTest, AMatrixThatIsReadTwiceIsOnePiece) {
  EXPECT_EQ(PiecesOf([](auto* b) {
              b->Table(0, 20);
              const uint32_t one = Matrix(b, 2, 3, 4), other = Matrix(b, 2, 6, 2);
              b->Binary(BinaryOp::kAdd, b->ReduceRows(ReduceOp::kSum, b->Reduce(ReduceOp::kSum, one)),
                        b->ReduceRows(ReduceOp::kSum, b->Reduce(ReduceOp::kSum, other)));
            }),
            (std::vector<Piece>{{2, 12, 12}}));
}

TEST(TableColumnsTest, OverlappingMatricesStayWhole) {
  EXPECT_EQ(PiecesOf([](auto* b) {
              b->Table(0, 20);
              const uint32_t one = Matrix(b, 2, 3, 4), other = Matrix(b, 6, 3, 4);
              SumOf(b, b->Binary(BinaryOp::kAdd, one, other), true);
            }),
            (std::vector<Piece>{{0, 20, 32}}));
}

TEST(TableColumnsTest, NumbersAcrossTheEdgeOfAMatrixKeepTheTableWhole) {
  EXPECT_EQ(PiecesOf([](auto* b) {
              const uint32_t table = b->Table(0, 20);
              const uint32_t matrix = Matrix(b, 4, 3, 4), across = b->Slice(table, 1, 4);
              SumOf(b, b->Binary(BinaryOp::kAdd, matrix, across), true);
            }),
            (std::vector<Piece>{{0, 20, 32}}));
}

TEST(TableColumnsTest, ATransposedMatrixKeepsTheTableWhole) {
  EXPECT_EQ(PiecesOf([](auto* b) {
              b->Table(0, 20);
              SumOf(b, b->Rearrange(0, {4, 3, 0, 2, 4, 0, 1, 3, 0, 4}), true);
            }),
            (std::vector<Piece>{{0, 20, 32}}));
}

}  // namespace
}  // namespace nann
