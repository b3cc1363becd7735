#include "ops/core/scorer/taken_sides.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ops/core/scorer/native_executor.h"
#include "tests/cc/arrays.h"
#include "tests/cc/program_builder.h"

namespace nann {
namespace {

using Floats = std::vector<float>;

constexpr uint32_t kItems = 3, kWidth = 4;

// Three items with rows of four, and a user of numbers that selections go by.
class TakenSidesTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  TakenSidesTest() {
    for (uint32_t i = 0; i < kItems * kWidth; ++i) rows_.push_back(static_cast<float>(i));
    table_ = TableOver(rows_, kWidth);
  }

  // The scores of all items, and how many instructions each tile runs.
  std::pair<Floats, size_t> ScoresOf(const Floats& user) const {
    absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(b_.Bytes());
    EXPECT_TRUE(program.ok()) << program.status();
    NativeExecutor::Options options;
    options.tile_rows = kItems;
    options.kernels = GetParam();
    const NativeExecutor executor(std::make_shared<const ScorerProgram>(*std::move(program)), options);
    AlignedFloats values = executor.MakeUser(), scratch = executor.MakeScratch();
    PackedUser packed = executor.MakePacked();
    const float* tensors[] = {user.data()};
    const Table* tables[] = {&table_};
    executor.RunUser(tensors, &values);
    executor.Pack(values, &packed);
    executor.Gather(tables, {0, 1, 2}, &scratch);
    Floats scores(kItems);
    executor.Score(values, packed, kItems, &scratch, scores.data());
    return {scores, packed.steps.size()};
  }

  uint32_t Number(float value) { return b_.Constant(1, 1, {value}); }

  Floats rows_;
  Table table_;
  ProgramBuilder b_;
};

TEST_P(TakenSidesTest, OneSideIsComputed) {
  const uint32_t x = b_.Table(0, kWidth), flag = b_.Input(0, {});
  const uint32_t a = b_.Unary(UnaryOp::kNeg, b_.Binary(BinaryOp::kMul, x, x)), b = b_.Unary(UnaryOp::kNeg, x);
  b_.Reduce(ReduceOp::kSum, b_.Select(flag, a, b));
  EXPECT_EQ(ScoresOf({1}), (std::pair<Floats, size_t>{{-14, -126, -366}, 4}));
  EXPECT_EQ(ScoresOf({0}), (std::pair<Floats, size_t>{{-6, -22, -38}, 3}));
}

TEST_P(TakenSidesTest, RoundsBehindTheEndOfALoopAreNotComputed) {
  constexpr int kRounds = 6;
  const uint32_t length = b_.Input(0, {});
  uint32_t x = b_.Table(0, kWidth);
  for (int round = 0; round < kRounds; ++round) {
    const uint32_t goes_on = b_.Binary(BinaryOp::kGreater, length, Number(static_cast<float>(round)));
    x = b_.Select(goes_on, b_.Unary(UnaryOp::kNeg, b_.Binary(BinaryOp::kAdd, x, Number(1))), x);
  }
  b_.Reduce(ReduceOp::kSum, x);
  const Floats even = {6, 22, 38}, odd = {-10, -26, -42};
  for (int length_of_user = 0; length_of_user <= kRounds; ++length_of_user) {
    const auto [scores, steps] = ScoresOf({static_cast<float>(length_of_user)});
    EXPECT_EQ(scores, length_of_user % 2 == 0 ? even : odd) << length_of_user;
    EXPECT_EQ(steps, 1 + kRounds + 2 * length_of_user);
  }
}

TEST_P(TakenSidesTest, SidesAreRepeated) {
  const uint32_t x = b_.Table(0, kWidth), flag = b_.Input(0, {});
  b_.Reduce(ReduceOp::kSum, b_.Select(flag, b_.Reduce(ReduceOp::kMax, x), Number(2)));
  EXPECT_EQ(ScoresOf({1}).first, (Floats{3, 7, 11}));  // [1, 1] beside [1, 1].
  EXPECT_EQ(ScoresOf({0}).first, (Floats{2, 2, 2}));
}

TEST_P(TakenSidesTest, AConditionPerItemNeedsBothSides) {
  const uint32_t x = b_.Table(0, kWidth), flag = b_.Input(0, {});
  const uint32_t is_low = b_.Binary(BinaryOp::kGreater, flag, b_.Slice(x, 0, 1));
  b_.Reduce(ReduceOp::kSum, b_.Select(is_low, b_.Unary(UnaryOp::kNeg, x), x));
  EXPECT_EQ(ScoresOf({5}), (std::pair<Floats, size_t>{{-6, -22, 38}, 4}));
}

TEST_P(TakenSidesTest, WhatBothSidesReadIsComputed) {
  const uint32_t x = b_.Table(0, kWidth), flag = b_.Input(0, {});
  const uint32_t both = b_.Binary(BinaryOp::kMul, x, x);
  b_.Reduce(ReduceOp::kSum, b_.Select(flag, b_.Unary(UnaryOp::kNeg, both),
                                      b_.Concat({b_.Slice(both, 2, 2), b_.Slice(both, 0, 2)})));
  EXPECT_EQ(ScoresOf({1}).first, (Floats{-14, -126, -366}));
  EXPECT_EQ(ScoresOf({0}).first, (Floats{14, 126, 366}));
}

INSTANTIATE_TEST_SUITE_P(Versions, TakenSidesTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace nann
