// Damages scorer programs, word by word and byte by byte, and runs those that are still accepted: every
// outcome but an error or scores is a defect. Meant to run under AddressSanitizer and
// UndefinedBehaviorSanitizer.
//
//   program_fuzz MUTATIONS [SEED]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>

#include "arrays.h"
#include "fuzz_main.h"
#include "ops/core/scorer/user_executors.h"
#include "program_builder.h"

namespace nann {
namespace {

constexpr int64_t kItems = 7, kTileRows = 3;
constexpr uint32_t kMostInputs = 16;  // A program that reads others is refused where the op runs it.

// As an export has it: the user's keys and mask, attention, and a network with PReLU.
ProgramBuilder Attention() {
  ProgramBuilder b;
  const uint32_t events = b.Input(0, {5, 6}), items = b.Table(0, 6), more = b.Table(1, 3);
  const std::vector<float> numbers(64, 0.25f);
  const uint32_t weights = b.Constant(6, 6, std::vector<float>(36, 0.5f));
  const uint32_t present =
      b.Reduce(ReduceOp::kMax, b.Binary(BinaryOp::kNotEqual, events, b.Constant(1, 1, {0})));
  const uint32_t mask = b.Reshape(b.Binary(BinaryOp::kSub, present, b.Constant(1, 1, {1})), 1, 5);
  const uint32_t keys =
      b.Gemm(1, {events, weights, b.Constant(1, 6, std::vector<float>(6, 1.0f))}, 0, Activation::kRelu);
  const uint32_t logits = b.Gemm(1, {items, keys, mask}, 1);
  const uint32_t attended = b.Gemm(1, {b.Softmax(logits), events});
  const uint32_t joined = b.Concat({attended, b.Slice(items, 1, 4), more});
  const uint32_t slope = b.Constant(1, 4, {0.1f, 0.2f, 0.3f, 0.4f});
  const uint32_t hidden = b.Gemm(2,
                                 {joined, b.Constant(13, 4, std::vector<float>(52, 0.1f)), more,
                                  b.Constant(4, 3, std::vector<float>(12, 0.3f)), slope, slope},
                                 2, Activation::kPrelu);
  b.Similarity(SimilarityOp::kNegativeDot, b.Prelu(hidden, slope), b.Constant(1, 4, {1, 2, 3, 4}));
  return b;
}

// Values of three axes, and every instruction that the other has not.
ProgramBuilder Pairs() {
  ProgramBuilder b;
  const uint32_t item = b.Table(0, 6), user = b.Input(0, {4, 6}), query = b.Input(1, {6});
  const uint32_t pairs = b.Binary(BinaryOp::kSquaredDifference, item, user);
  const uint32_t turned = b.Transpose(b.Unary(UnaryOp::kTanh, pairs));
  const uint32_t chosen = b.Select(b.Binary(BinaryOp::kGreater, item, query), item, query);
  const uint32_t sums = b.Reduce(ReduceOp::kMean, turned);
  const uint32_t wide = b.Concat({b.Reshape(sums, 1, 6), chosen, b.Slice(b.Reshape(turned, 1, 24), 3, 9)});
  const uint32_t angle = b.Binary(BinaryOp::kAtan2, chosen, b.Unary(UnaryOp::kCos, query));
  const uint32_t scored = b.Similarity(SimilarityOp::kSquaredDistance, b.Unary(UnaryOp::kSin, angle), query);
  b.Binary(BinaryOp::kDiv, b.Reduce(ReduceOp::kMin, wide), scored);
  return b;
}

// Self-attention of two heads over the user's rows and the item, and what goes over rows.
ProgramBuilder Sequence() {
  ProgramBuilder b;
  const uint32_t user = b.Input(0, {3, 4}), item = b.Table(0, 4);
  const uint32_t unit = b.Constant(4, 4, std::vector<float>(16, 0.5f));
  const uint32_t x = b.Gemm(1, {b.Stack({user, item}), unit, item});
  const uint32_t weights = b.Softmax(b.Product(2, 8 + 16, x, x));
  const uint32_t attended = b.Product(2, 1, weights, x);
  const uint32_t hidden =
      b.Gemm(1, {attended, unit, b.Rearrange(b.Stack({user, user}), {4, 4, 1, 0, 4, 1, 0, 4, 0, 1}), item});
  const uint32_t heads = b.Rearrange(hidden, {8, 2, 0, 0, 2, 0, 2, 4, 1, 0, 2, 0, 1});
  const uint32_t turned = b.Product(1, 2 + 4 + 16, heads, heads);
  const uint32_t wide = b.Stack({b.ReduceRows(ReduceOp::kMean, turned), turned});
  const uint32_t found = b.Reduce(ReduceOp::kMean, b.Gather(user, b.Unary(UnaryOp::kFloor, wide)));
  b.ReduceRows(ReduceOp::kSum, b.Stack({b.Reduce(ReduceOp::kMax, wide), found}));
  return b;
}

// The same of a sequence whose events are masked, with two axes of them.
ProgramBuilder MaskedSequence() {
  ProgramBuilder b;
  const uint32_t events = b.Input(0, {6, 4}), item = b.Table(0, 4), one = b.Constant(1, 1, {1});
  const uint32_t present =
      b.Reduce(ReduceOp::kMax, b.Binary(BinaryOp::kNotEqual, events, b.Constant(1, 1, {0})));
  const uint32_t there = b.Concat({b.Reshape(present, 1, 6), one});
  const uint32_t queries = b.Stack({events, item}), keys = b.Stack({b.Unary(UnaryOp::kTanh, events), item});
  const uint32_t logits = b.Product(2, 8 + 16, queries, keys);
  const uint32_t weights = b.Softmax(b.Select(there, logits, b.Constant(1, 1, {-1e9f})));
  const uint32_t attended = b.Product(2, 1, weights, keys);
  const uint32_t rows = b.Binary(BinaryOp::kMul, attended, b.Reshape(there, 7, 1));
  const uint32_t flat = b.Rearrange(rows, {1, 28, 0, 0, 7, 1, 0, 4, 0, 1});
  std::vector<float> numbers;
  for (int i = 0; i < 28; ++i) numbers.push_back(static_cast<float>(i % 5) - 2.0f);
  b.Gemm(1, {flat, b.Constant(28, 1, numbers)});
  return b;
}

ProgramBuilder InnerProduct() {
  ProgramBuilder b;
  const uint32_t items = b.Table(0, 9);
  b.Similarity(SimilarityOp::kDot, items, b.Unary(UnaryOp::kNeg, b.Input(0, {9})));
  return b;
}

void Mutate(std::mt19937* random, std::string* bytes) {
  const auto below = [&](size_t n) { return (*random)() % n; };
  switch (below(6)) {
    case 0:  // Flip a bit.
      if (!bytes->empty()) (*bytes)[below(bytes->size())] ^= static_cast<char>(1 << below(8));
      break;
    case 1:  // Cut off the end.
      bytes->resize(below(bytes->size() + 1));
      break;
    case 2:  // Put something in.
      bytes->insert(below(bytes->size() + 1), 1 + below(9), static_cast<char>((*random)()));
      break;
    default: {  // Another word: a small number, which may well be right, or any.
      if (bytes->size() < 8) return;
      const uint32_t word = below(8) == 0 ? static_cast<uint32_t>((*random)()) : below(28);
      std::memcpy(bytes->data() + below(bytes->size() / 4) * 4, &word, sizeof(word));
    }
  }
}

ProgramLimits SmallLimits() {
  ProgramLimits limits;
  limits.constant_floats = limits.user_floats = limits.item_floats = 1 << 16;
  limits.user_work = limits.item_work = 1 << 20;
  return limits;
}

// Inputs and tables as a program wants them, no float larger. None where the op would refuse to run it.
class World {
 public:
  // `masked`: numbers of each tensor that are zero.
  static std::unique_ptr<World> Of(const ScorerProgram& program, size_t masked) {
    auto world = std::make_unique<World>();
    world->tensors_.resize(kMostInputs);
    world->rows_.resize(kMostInputs);
    world->tables_.resize(kMostInputs);
    for (const Instruction& instruction : program.instructions()) {
      const ValueShape& shape = instruction.shape;
      if (instruction.opcode != Opcode::kInput && instruction.opcode != Opcode::kTable) continue;
      const uint32_t index = instruction.parameters[0];
      if (index >= kMostInputs) return nullptr;
      const bool is_table = instruction.opcode == Opcode::kTable;
      std::vector<float>& floats = (is_table ? world->rows_ : world->tensors_)[index];
      const size_t size = (is_table ? kItems : shape.rows) * shape.columns;
      if (!floats.empty() && floats.size() != size) return nullptr;
      for (size_t i = floats.size(); i < size; ++i) {
        floats.push_back(!is_table && i < masked ? 0.0f : static_cast<float>(i % 5) - 2.0f);
      }
      if (!is_table) continue;
      world->tables_[index] = TableOver(floats, shape.columns);
    }
    return world;
  }

  // Returns whether a user's own executor gives the scores of the whole one.
  bool Run(const UserExecutors& executors) const {
    std::vector<const float*> tensors;
    for (const std::vector<float>& tensor : tensors_) tensors.push_back(tensor.data());
    AlignedFloats user = executors.whole().MakeUser();
    executors.whole().RunUser(tensors, &user);
    const std::vector<float> whole = ScoresOf(executors.whole(), user);
    const UserExecutors::Choice choice = executors.Choose(user);
    if (choice.live.empty()) return true;
    AlignedFloats shorter = choice.executor->MakeUser();
    executors.TakeUser(choice, user, &shorter);
    return AreEqual(whole, ScoresOf(*choice.executor, shorter));
  }

 private:
  // Where sums of huge numbers, or what is none, leave something to compare.
  static bool AreEqual(const std::vector<float>& a, const std::vector<float>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
      const float size = std::max(1.0f, std::abs(a[i]));
      if (std::isfinite(a[i]) && size < 1e5f && !(std::abs(a[i] - b[i]) <= 0.02f * size)) return false;
    }
    return true;
  }

  std::vector<float> ScoresOf(const NativeExecutor& executor, const AlignedFloats& user) const {
    std::vector<const Table*> tables;
    for (const Table& table : tables_) tables.push_back(&table);
    PackedUser packed = executor.MakePacked();
    AlignedFloats scratch = executor.MakeScratch();
    executor.Pack(user, &packed);
    const std::vector<int32_t> positions = {6, 0, 3};
    std::vector<float> scores(positions.size());
    for (size_t rows = 1; rows <= positions.size(); ++rows) {
      const absl::Span<const int32_t> tile = absl::MakeConstSpan(positions).subspan(0, rows);
      executor.Gather(tables, tile, &scratch);
      executor.Score(user, packed, rows, &scratch, scores.data());
      if (executor.ScoresInPlace(tables)) executor.ScoreInPlace(user, tables, tile, scores.data());
    }
    return scores;
  }

  std::vector<std::vector<float>> tensors_, rows_;
  std::vector<Table> tables_;
};

// Returns how many executors ran it.
int RunEverywhere(const std::shared_ptr<const ScorerProgram>& program) {
  int runs = 0;
  for (size_t masked : {0, 12}) {
    const std::unique_ptr<World> world = World::Of(*program, masked);
    if (world == nullptr) return 0;
    for (const TileKernels* kernels : SupportedTileKernels()) {
      for (bool bfloat16 : {false, true}) {
        NativeExecutor::Options options;
        options.tile_rows = kTileRows;
        options.bfloat16 = bfloat16;
        options.kernels = kernels;
        if (!world->Run(UserExecutors(program, options))) {
          std::fprintf(stderr, "a user's own executor gives other scores\n");
          std::abort();
        }
        ++runs;
      }
    }
  }
  return runs;
}

int Run(int64_t mutations, uint32_t seed) {
  std::mt19937 random(seed);
  const std::string good[] = {Attention().Bytes(), Pairs().Bytes(), Sequence().Bytes(),
                              MaskedSequence().Bytes(), InnerProduct().Bytes()};
  for (const std::string& bytes : good) {
    absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(bytes, SmallLimits());
    if (!program.ok() || RunEverywhere(std::make_shared<const ScorerProgram>(*std::move(program))) == 0) {
      std::fprintf(stderr, "a good program is refused: %s\n", program.status().ToString().c_str());
      return 1;
    }
  }
  int64_t accepted = 0;
  for (int64_t i = 0; i < mutations; ++i) {
    std::string bytes = good[random() % std::size(good)];
    const int damages = 1 + static_cast<int>(random() % 3);
    for (int d = 0; d < damages; ++d) Mutate(&random, &bytes);
    absl::StatusOr<ScorerProgram> program = ScorerProgram::Parse(bytes, SmallLimits());
    if (!program.ok()) {
      if (program.status().message().substr(0, 16) == "scorer_program: ") continue;
      std::fprintf(stderr, "mutation %ld: the error names no input: %s\n", static_cast<long>(i),
                   program.status().ToString().c_str());
      return 1;
    }
    ++accepted;
    RunEverywhere(std::make_shared<const ScorerProgram>(*std::move(program)));
  }
  std::printf("%ld mutations, %ld of them still valid programs, the rest refused\n",
              static_cast<long>(mutations), static_cast<long>(accepted));
  return 0;
}

}  // namespace
}  // namespace nann

int main(int argc, char** argv) {
  return nann::FuzzMain(argc, argv, "program_fuzz MUTATIONS [SEED]", nann::Run);
}
