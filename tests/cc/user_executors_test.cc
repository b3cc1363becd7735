#include "ops/core/scorer/user_executors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/cc/arrays.h"
#include "tests/cc/program_builder.h"

namespace nann {
namespace {

using Floats = std::vector<float>;

constexpr uint32_t kEvents = 6, kWidth = 4, kItems = 5;

// A user of six events of four numbers, and items with rows of four. The scores of the executor that is
// chosen are those of the whole one, with every version of the kernels.
class UserExecutorsTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  UserExecutorsTest() {
    for (uint32_t i = 0; i < kItems * kWidth; ++i)
      rows_.push_back(0.25f * static_cast<float>(i * 7 % 11) - 1.0f);
    for (uint32_t i = 0; i < kEvents * kWidth; ++i)
      events_.push_back(0.5f * static_cast<float>(i * 5 % 9) - 1.75f);
    table_ = TableOver(rows_, kWidth);
  }

  void MaskRows(const std::vector<int>& masked) {
    for (int row : masked) std::fill_n(events_.begin() + row * kWidth, kWidth, 0.0f);
  }

  Floats ScoresOf(const NativeExecutor& executor, const AlignedFloats& user) const {
    PackedUser packed = executor.MakePacked();
    AlignedFloats scratch = executor.MakeScratch();
    executor.Pack(user, &packed);
    const Table* tables[] = {&table_};
    const std::vector<int32_t> positions = {4, 0, 3, 1, 2};
    Floats scores(positions.size());
    for (size_t i = 0; i < positions.size(); i += 2) {
      const int64_t rows = std::min<int64_t>(2, positions.size() - i);
      executor.Gather(tables, absl::MakeConstSpan(positions).subspan(i, rows), &scratch);
      executor.Score(user, packed, rows, &scratch, &scores[i]);
    }
    return scores;
  }

  // The positions left per axis, after the scores were compared; none where all are computed.
  std::vector<std::vector<int>> LeftOf() {
    absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(b_.Bytes());
    EXPECT_TRUE(program.ok()) << program.status();
    NativeExecutor::Options options;
    options.tile_rows = 2;
    options.kernels = GetParam();
    const UserExecutors executors(std::make_shared<const ScorerProgram>(*std::move(program)), options);
    AlignedFloats user = executors.whole().MakeUser();
    const float* tensors[] = {events_.data(), mask_.data()};
    executors.whole().RunUser(tensors, &user);
    const UserExecutors::Choice choice = executors.Choose(user);
    EXPECT_EQ(choice.executor == &executors.whole(), choice.live.empty());
    if (choice.live.empty()) return {};
    EXPECT_EQ(executors.Choose(user).executor, choice.executor);  // It is made once.
    AlignedFloats shorter = choice.executor->MakeUser();
    executors.TakeUser(choice, user, &shorter);
    const Floats expected = ScoresOf(executors.whole(), user), found = ScoresOf(*choice.executor, shorter);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(found[i], expected[i], 1e-5f * std::max(1.0f, std::abs(expected[i])));
    }
    return choice.live;
  }

  // Attention of the item over the events, whose logits come as [1, events]; then a score.
  void Attend(uint32_t events, uint32_t item, uint32_t logits) {
    const uint32_t attended = b_.Gemm(1, {b_.Softmax(logits), events});
    b_.Reduce(ReduceOp::kSum, b_.Binary(BinaryOp::kMul, attended, item));
  }
  uint32_t Logits(uint32_t events, uint32_t item) { return b_.Gemm(1, {item, events}, 1); }
  uint32_t Number(float value) { return b_.Constant(1, 1, {value}); }

  Floats rows_, events_, mask_ = {1, 1, 0, 1, 0, 1};
  Table table_;
  ProgramBuilder b_;
};

TEST_P(UserExecutorsTest, EventsThatASelectionMasksBeforeASoftmax) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  Attend(events, item, b_.Select(mask, Logits(events, item), Number(-1e9f)));
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{0, 1, 3, 5}}));
  mask_ = {1, 1, 1, 1, 1, 1};
  EXPECT_TRUE(LeftOf().empty());
  mask_ = {0, 0, 0, 0, 0, 0};  // A softmax of equal logits: all take part.
  EXPECT_TRUE(LeftOf().empty());
  mask_ = {0, 0, 1, 0, 1, 0};
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{2, 4}}));
}

TEST_P(UserExecutorsTest, EventsThatAnAddendMasksBeforeASoftmax) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  Attend(events, item, b_.Binary(BinaryOp::kAdd, Logits(events, item), mask));
  mask_ = {0, -1e9f, -std::numeric_limits<float>::infinity(), 0, 0, -1e9f};
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{0, 3, 4}}));
  mask_ = {0, -1e4f, -1e5f, 0, 0, -50};  // Logits may be as low.
  EXPECT_TRUE(LeftOf().empty());
}

TEST_P(UserExecutorsTest, EventsThatASelectionWithinAProductMasks) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  const uint32_t low = b_.Select(mask, Number(0), Number(-1e9f));
  Attend(events, item, b_.Gemm(1, {item, events, low}, 1));
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{0, 1, 3, 5}}));
  mask_ = {0, 0, 0, 0, 0, 0};
  EXPECT_TRUE(LeftOf().empty());
  // Behind a function they are not low.
  b_ = ProgramBuilder();
  const uint32_t rows = b_.Input(0, {kEvents, kWidth}), flags = b_.Input(1, {kEvents}),
                 row = b_.Table(0, kWidth);
  const uint32_t added = b_.Select(flags, Number(0), Number(-1e9f));
  Attend(rows, row, b_.Gemm(1, {row, rows, added}, 1, Activation::kRelu));
  mask_ = {1, 1, 0, 1, 0, 1};
  EXPECT_TRUE(LeftOf().empty());
}

TEST_P(UserExecutorsTest, EventsThatAreNeverTheLargest) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float none : {-infinity, -1e9f, infinity}) {
    b_ = ProgramBuilder();
    const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                   item = b_.Table(0, kWidth);
    b_.Reduce(ReduceOp::kMax, b_.Select(mask, Logits(events, item), Number(none)));
    mask_ = {1, 1, 0, 1, 0, 1};
    const std::vector<std::vector<int>> left = {{0, 1, 3, 5}};
    EXPECT_EQ(LeftOf(), none == -infinity ? left : std::vector<std::vector<int>>());
  }
}

TEST_P(UserExecutorsTest, RowsOfZerosAddNothing) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), item = b_.Table(0, kWidth);
  b_.Reduce(ReduceOp::kSum, b_.Gemm(1, {b_.Unary(UnaryOp::kSigmoid, Logits(events, item)), events}));
  MaskRows({0, 5});
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{1, 2, 3, 4}}));
}

TEST_P(UserExecutorsTest, OnlyFunctionsThatAreZeroAtZeroLeaveRowsOfZeros) {
  for (const UnaryOp op :
       {UnaryOp::kSin, UnaryOp::kAtan, UnaryOp::kAsin, UnaryOp::kTan, UnaryOp::kCos, UnaryOp::kAcos}) {
    b_ = ProgramBuilder();
    const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                   item = b_.Table(0, kWidth);
    const uint32_t bounded = b_.Unary(UnaryOp::kTanh, Logits(events, item));
    const uint32_t weights = b_.Unary(op, b_.Binary(BinaryOp::kMul, bounded, mask));
    b_.Reduce(ReduceOp::kSum, b_.Gemm(1, {weights, events}));
    const bool is_zero = op != UnaryOp::kCos && op != UnaryOp::kAcos;
    const std::vector<std::vector<int>> left = {{0, 1, 3, 5}};
    EXPECT_EQ(LeftOf(), is_zero ? left : std::vector<std::vector<int>>());
  }
}

TEST_P(UserExecutorsTest, WhatNoMaskTakesAwayIsComputed) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  Attend(events, item, b_.Select(mask, Logits(events, item), Number(-1e9f)));
  events_[2 * kWidth] = std::numeric_limits<float>::quiet_NaN();  // Of a masked event: 0 times it is a NaN.
  EXPECT_TRUE(LeftOf().empty());
  events_[2 * kWidth] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(LeftOf().empty());
}

TEST_P(UserExecutorsTest, AScoreThatReadsMaskedEventsIsComputedWhole) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  const uint32_t logits = b_.Select(mask, Logits(events, item), Number(-1e9f));
  const uint32_t weights = b_.Softmax(logits);
  b_.Binary(BinaryOp::kAdd, b_.Reduce(ReduceOp::kMean, weights),
            b_.Reduce(ReduceOp::kMax, Logits(events, item)));
  EXPECT_TRUE(LeftOf().empty());
}

TEST_P(UserExecutorsTest, ColumnsOfAConstantAreNoMask) {
  const uint32_t item = b_.Table(0, kWidth), numbers = b_.Constant(1, 4, {1, 2, 3, 4});
  const uint32_t joined = b_.Concat({item, b_.Slice(numbers, 1, 3)});
  b_.Reduce(ReduceOp::kSum, b_.Gemm(1, {joined, b_.Constant(7, 2, Floats(14, 0.5f))}));
  EXPECT_TRUE(LeftOf().empty());
}

TEST_P(UserExecutorsTest, AScoreOfTheUserAlone) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  Attend(events, item, b_.Select(mask, Logits(events, item), Number(-1e9f)));
  b_.Reduce(ReduceOp::kSum, mask);
  EXPECT_TRUE(LeftOf().empty());
}

// The pairs of DIN: a row for each event, cut out of one product, a network, and weights that a mask makes
// zero.
TEST_P(UserExecutorsTest, RowsOfPairs) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  const uint32_t pairs = b_.Binary(BinaryOp::kSquaredDifference, item, events);
  const uint32_t hidden =
      b_.Gemm(1, {pairs, b_.Constant(kWidth, 3, Floats(12, 0.5f)), b_.Constant(1, 3, {1, -1, 2})}, 0,
              Activation::kRelu);
  const uint32_t weight =
      b_.Reshape(b_.Similarity(SimilarityOp::kDot, hidden, b_.Constant(1, 3, {1, 2, -1})), 1, kEvents);
  const uint32_t pooled = b_.Gemm(1, {b_.Binary(BinaryOp::kMul, weight, mask), events});
  b_.Reduce(ReduceOp::kSum, b_.Binary(BinaryOp::kMul, pooled, item));
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{0, 1, 3, 5}}));
}

// Self-attention of two heads over the events and the item, whose rows a mask makes zero and a constant
// multiplies: queries and keys are two axes.
TEST_P(UserExecutorsTest, ASequenceThatTheItemBelongsTo) {
  const uint32_t events = b_.Input(0, {kEvents, kWidth}), mask = b_.Input(1, {kEvents}),
                 item = b_.Table(0, kWidth);
  const uint32_t doubled = b_.Binary(BinaryOp::kAdd, events, events);
  const uint32_t queries = b_.Stack({events, item}), keys = b_.Stack({doubled, item});
  const uint32_t there = b_.Concat({mask, Number(1)});
  const uint32_t logits = b_.Product(2, 8 + 16, queries, keys);
  const uint32_t weights = b_.Softmax(b_.Select(there, logits, Number(-1e9f)));
  const uint32_t attended = b_.Product(2, 1, weights, keys);
  const uint32_t rows = b_.Binary(BinaryOp::kMul, attended, b_.Reshape(there, kEvents + 1, 1));
  const uint32_t flat = b_.Rearrange(rows, {1, 28, 0, 0, 7, 1, 0, 4, 0, 1});
  Floats numbers;
  for (int i = 0; i < 28; ++i) numbers.push_back(static_cast<float>(i % 5) - 2.0f);
  const uint32_t summed = b_.Gemm(1, {flat, b_.Constant(28, 1, numbers)});
  b_.Binary(BinaryOp::kAdd, summed, b_.Reduce(ReduceOp::kSum, b_.Rearrange(rows, {1, 4, 6, 0, 4, 0, 1})));
  const std::vector<int> left = {0, 1, 3, 5, 6};
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{left, left}));
  mask_ = {0, 0, 0, 0, 0, 0};  // The item is left, and an event so that no matrix is empty.
  EXPECT_EQ(LeftOf(), (std::vector<std::vector<int>>{{0, 6}, {0, 6}}));
}

INSTANTIATE_TEST_SUITE_P(Versions, UserExecutorsTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace nann
