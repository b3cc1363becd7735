#include "ops/core/scorer/tile_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace nann {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> Random(int64_t size, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(size + kStrip, kNan);  // What lies beyond must not matter.
  for (int64_t i = 0; i < size; ++i) values[i] = uniform(generator);
  return values;
}

float Bfloat16(float value) {
  const uint32_t bits = static_cast<uint32_t>(RoundToBfloat16(value)) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// Every version that this machine can run.
class TileKernelsTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  const TileKernels& kernels() const { return *GetParam(); }
};

struct Product {
  int64_t rows, depth, width;
};

// a x b + addend, in double.
std::vector<double> Expected(const Product& p, const std::vector<float>& a, const std::vector<float>& b,
                             const std::vector<float>& addend) {
  std::vector<double> sums(p.rows * p.width);
  for (int64_t m = 0; m < p.rows; ++m) {
    for (int64_t n = 0; n < p.width; ++n) {
      double sum = addend[n];
      for (int64_t k = 0; k < p.depth; ++k)
        sum += static_cast<double>(a[m * p.depth + k]) * b[k * p.width + n];
      sums[m * p.width + n] = sum;
    }
  }
  return sums;
}

const Product kProducts[] = {{1, 1, 1},     {2, 3, 5},  {7, 64, 50}, {9, 5, 40},
                             {13, 33, 128}, {6, 7, 16}, {5, 2, 81}};

TEST_P(TileKernelsTest, GemmWithAddendAndPrelu) {
  for (const Product& p : kProducts) {
    const std::vector<float> a = Random(p.rows * p.depth, 1), b = Random(p.depth * p.width, 2);
    const std::vector<float> addend = Random(PaddedWidth(p.width), 3),
                             alpha = Random(PaddedWidth(p.width), 4);
    std::vector<float> packed(PackedSize(p.depth, p.width, false));
    PackStrips(b.data(), p.width, false, p.depth, p.width, packed.data());
    const int64_t stride = PaddedWidth(p.width);
    std::vector<float> out(p.rows * stride);
    const GemmTerm term{a.data(), p.depth, packed.data(), p.depth};
    const Addend row{{addend.data(), 0}};
    Gemm gemm;
    gemm.rows = p.rows;
    gemm.width = p.width;
    gemm.terms = &term;
    gemm.num_terms = 1;
    gemm.addends = &row;
    gemm.num_addends = 1;
    gemm.activation = Activation::kPrelu;
    gemm.alpha = alpha.data();
    gemm.out = out.data();
    gemm.out_stride = stride;
    kernels().gemm(gemm);
    const std::vector<double> expected = Expected(p, a, b, addend);
    for (int64_t m = 0; m < p.rows; ++m) {
      for (int64_t n = 0; n < p.width; ++n) {
        const double sum = expected[m * p.width + n];
        EXPECT_NEAR(out[m * stride + n], sum < 0 ? sum * alpha[n] : sum, 1e-5) << p.width << " " << n;
      }
    }
  }
}

TEST_P(TileKernelsTest, Bfloat16GemmRoundsOperandsOnly) {
  if (kernels().gemm_bfloat16 == nullptr) GTEST_SKIP() << kernels().name << " has no bfloat16 products";
  for (const Product& p : kProducts) {
    std::vector<float> a = Random(p.rows * p.depth, 1), b = Random(p.depth * p.width, 2);
    std::vector<float> packed(PackedSize(p.depth, p.width, true));
    PackStripsBfloat16(b.data(), p.width, false, p.depth, p.width,
                       reinterpret_cast<uint16_t*>(packed.data()));
    const int64_t stride = PaddedWidth(p.width), narrow_stride = PaddedDepth(p.depth);
    std::vector<uint16_t> narrow((p.rows + kBfloat16Rows - 1) * narrow_stride);
    kernels().to_bfloat16({a.data(), p.depth}, p.rows, p.depth, narrow.data(), narrow_stride);
    std::vector<float> out(p.rows * stride);
    const GemmTerm term{narrow.data(), narrow_stride, packed.data(), p.depth};
    Gemm gemm;
    gemm.rows = p.rows;
    gemm.width = p.width;
    gemm.terms = &term;
    gemm.num_terms = 1;
    gemm.out = out.data();
    gemm.out_stride = stride;
    kernels().gemm_bfloat16(gemm);
    for (float& value : a) value = Bfloat16(value);
    for (float& value : b) value = Bfloat16(value);
    const std::vector<double> expected = Expected(p, a, b, std::vector<float>(p.width));
    for (int64_t m = 0; m < p.rows; ++m) {
      for (int64_t n = 0; n < p.width; ++n) {
        EXPECT_NEAR(out[m * stride + n], expected[m * p.width + n], 1e-5);
      }
    }
  }
}

TEST_P(TileKernelsTest, TransposedPackingIsThePackingOfTheTranspose) {
  const std::vector<float> b = Random(6 * 20, 5);
  std::vector<float> transposed(6 * 20);
  for (int64_t k = 0; k < 6; ++k) {
    for (int64_t n = 0; n < 20; ++n) transposed[n * 6 + k] = b[k * 20 + n];
  }
  std::vector<float> one(PackedSize(6, 20, false)), other(PackedSize(6, 20, false));
  PackStrips(b.data(), 20, false, 6, 20, one.data());
  PackStrips(transposed.data(), 6, true, 6, 20, other.data());
  EXPECT_EQ(one, other);
}

struct NamedUnary {
  UnaryOp op;
  double (*expected)(double);
};

const NamedUnary kUnaries[] = {
    {UnaryOp::kNeg, [](double x) { return -x; }},
    {UnaryOp::kRelu, [](double x) { return x < 0 ? 0.0 : x; }},
    {UnaryOp::kRelu6, [](double x) { return x < 0   ? 0.0
                                            : x > 6 ? 6.0
                                                    : x; }},
    {UnaryOp::kSquare, [](double x) { return x * x; }},
    {UnaryOp::kReciprocal, [](double x) { return 1 / x; }},
    {UnaryOp::kExp, [](double x) { return std::exp(x); }},
    {UnaryOp::kSigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }},
    {UnaryOp::kTanh, [](double x) { return std::tanh(x); }},
    {UnaryOp::kErf, [](double x) { return std::erf(x); }},
    {UnaryOp::kAbs, [](double x) { return std::fabs(x); }},
    {UnaryOp::kExpm1, [](double x) { return std::expm1(x); }},
    {UnaryOp::kSoftplus, [](double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); }},
    {UnaryOp::kElu, [](double x) { return x < 0 ? std::expm1(x) : x; }},
    {UnaryOp::kFloor, [](double x) { return std::floor(x); }},
    {UnaryOp::kSilu, [](double x) { return x / (1 + std::exp(-x)); }},
};

TEST_P(TileKernelsTest, UnaryFunctionsAreAccurate) {
  std::vector<float> x;
  for (float magnitude = 1e-6f; magnitude < 60.0f; magnitude *= 1.07f)
    x.insert(x.end(), {magnitude, -magnitude});
  const int64_t width = static_cast<int64_t>(x.size());
  x.resize(PaddedWidth(width), kNan);
  std::vector<float> out(x.size());
  for (const NamedUnary& unary : kUnaries) {
    kernels().unary(unary.op, {x.data(), width}, 1, width, out.data(), width);
    for (int64_t i = 0; i < width; ++i) {
      const double expected = unary.expected(x[i]);
      EXPECT_NEAR(out[i], expected, 2e-6 * std::fabs(expected) + 1e-37)
          << static_cast<int>(unary.op) << " of " << x[i];
    }
  }
  for (const auto& [op, of] : {std::pair{UnaryOp::kSqrt, 2.0}, std::pair{UnaryOp::kRsqrt, 0.5}}) {
    std::vector<float> four(kStrip, 4.0f);
    kernels().unary(op, {four.data(), 0}, 1, 3, out.data(), kStrip);
    EXPECT_NEAR(out[2], of, 1e-6);
  }
}

TEST_P(TileKernelsTest, GeluIsAsAccurateAsItsSum) {
  std::vector<float> x, out(kStrip);
  for (float value = -6.0f; value < 6.0f; value += 0.013f) {
    x.assign(kStrip, value);
    kernels().unary(UnaryOp::kTwiceGelu, {x.data(), 0}, 1, 1, out.data(), kStrip);
    const double expected = value * (1 + std::erf(value * std::sqrt(0.5)));
    EXPECT_NEAR(out[0], expected, 1e-6 * std::fmax(std::fabs(value), std::fabs(expected))) << value;
  }
  x.assign(kStrip, kNan);
  kernels().unary(UnaryOp::kTwiceGelu, {x.data(), 0}, 1, 1, out.data(), kStrip);
  EXPECT_TRUE(std::isnan(out[0]));
}

// Four rows go together: which of them a row is among must not change its last bits.
TEST_P(TileKernelsTest, RowsDoNotDependOnThoseBesideThem) {
  for (int64_t width : {3, 16, 20, 50}) {
    const int64_t rows = 7, stride = PaddedWidth(width);
    const std::vector<float> x = Random(rows * stride, 5, 4.0f), query = Random(stride, 6);
    std::vector<float> out(rows * stride), one(stride), sums(rows), sum(1);
    kernels().softmax({x.data(), stride}, rows, width, out.data(), stride);
    kernels().similarity(SimilarityOp::kDot, query.data(), {x.data(), stride}, rows, width, sums.data(), 1);
    for (int64_t row = 0; row < rows; ++row) {
      kernels().softmax({x.data() + row * stride, stride}, 1, width, one.data(), stride);
      kernels().similarity(SimilarityOp::kDot, query.data(), {x.data() + row * stride, stride}, 1, width,
                           sum.data(), 1);
      EXPECT_EQ(std::vector<float>(one.begin(), one.begin() + width),
                std::vector<float>(out.begin() + row * stride, out.begin() + row * stride + width));
      EXPECT_EQ(sum[0], sums[row]);
    }
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMax, ReduceOp::kMin}) {
      kernels().reduce(op, {x.data(), stride}, rows, width, sums.data(), 1);
      for (int64_t row = 0; row < rows; ++row) {
        kernels().reduce(op, {x.data() + row * stride, stride}, 1, width, sum.data(), 1);
        EXPECT_EQ(sum[0], sums[row]);
      }
    }
  }
}

TEST_P(TileKernelsTest, LogarithmsAreAccurate) {
  std::vector<float> x;
  for (float value = 1e-45f; value < 1e38f; value *= 1.9f) x.push_back(value);
  for (float value = 0.5f; value < 2.0f; value += 0.003f) x.push_back(value);
  const int64_t width = static_cast<int64_t>(x.size());
  x.resize(PaddedWidth(width), kNan);
  std::vector<float> out(x.size());
  kernels().unary(UnaryOp::kLog, {x.data(), width}, 1, width, out.data(), width);
  for (int64_t i = 0; i < width; ++i) {
    const double expected = std::log(static_cast<double>(x[i]));
    EXPECT_NEAR(out[i], expected, 1e-6 * std::fabs(expected) + 1e-12) << x[i];
  }
  for (int64_t i = 0; i < width; ++i) x[i] = i % 2 == 0 && x[i] < 1.0f ? -x[i] : x[i];
  kernels().unary(UnaryOp::kLog1p, {x.data(), width}, 1, width, out.data(), width);
  for (int64_t i = 0; i < width; ++i) {
    const double expected = std::log1p(static_cast<double>(x[i]));
    EXPECT_NEAR(out[i], expected, 1e-6 * std::fabs(expected) + 1e-37) << x[i];
  }
}

TEST_P(TileKernelsTest, UnaryFunctionsAtTheEdges) {
  std::vector<float> x(kStrip, 0.0f), out(kStrip);
  x[0] = kNan, x[1] = kInfinity, x[2] = -kInfinity, x[3] = -1e9f, x[4] = 0.0f, x[5] = 200.0f;
  const auto run = [&](UnaryOp op) { kernels().unary(op, {x.data(), 0}, 1, 6, out.data(), kStrip); };
  run(UnaryOp::kExp);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(std::vector<float>(out.begin() + 1, out.begin() + 6),
            (std::vector<float>{kInfinity, 0.0f, 0.0f, 1.0f, kInfinity}));
  run(UnaryOp::kSigmoid);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(std::vector<float>(out.begin() + 1, out.begin() + 6),
            (std::vector<float>{1.0f, 0.0f, 0.0f, 0.5f, 1.0f}));
  run(UnaryOp::kTanh);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], -1.0f);
  for (const UnaryOp op : {UnaryOp::kExpm1, UnaryOp::kElu}) {
    run(op);
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_EQ(std::vector<float>(out.begin() + 1, out.begin() + 5),
              (std::vector<float>{kInfinity, -1.0f, -1.0f, 0.0f}));
  }
  run(UnaryOp::kSoftplus);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(std::vector<float>(out.begin() + 1, out.begin() + 4),
            (std::vector<float>{kInfinity, 0.0f, 0.0f}));
  EXPECT_EQ(out[5], 200.0f);
  run(UnaryOp::kFloor);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(std::vector<float>(out.begin() + 1, out.begin() + 6),
            (std::vector<float>{kInfinity, -kInfinity, -1e9f, 0.0f, 200.0f}));
  for (const UnaryOp op : {UnaryOp::kLog, UnaryOp::kLog1p}) {
    x[5] = op == UnaryOp::kLog ? 0.0f : -1.0f;
    run(op);
    for (const int lane : {0, 2, 3}) EXPECT_TRUE(std::isnan(out[lane])) << lane;
    EXPECT_EQ(out[1], kInfinity);
    EXPECT_EQ(out[5], -kInfinity);
  }
  x[5] = 200.0f;
  run(UnaryOp::kRelu);
  EXPECT_TRUE(std::isnan(out[0]));  // A NaN must reach the score, which drops the item.
}

TEST_P(TileKernelsTest, BinaryOperandsMayBeRowsOneRowOrAColumn) {
  const int64_t rows = 3, width = 19, stride = PaddedWidth(width);
  const std::vector<float> a = Random(rows * stride, 1), b = Random(rows * stride, 2);
  std::vector<float> out(rows * stride);
  const Extent extent{1, rows, width, stride};
  kernels().binary(BinaryOp::kSub, {{a.data(), stride}}, {{b.data(), 0}}, extent, out.data());
  EXPECT_EQ(out[2 * stride + 18], a[2 * stride + 18] - b[18]);
  kernels().binary(BinaryOp::kDiv, {{a.data(), stride}, true}, {{b.data(), stride}}, extent, out.data());
  EXPECT_EQ(out[1 * stride + 18], a[1 * stride] / b[1 * stride + 18]);
  kernels().binary(BinaryOp::kMax, {{a.data(), stride}}, {{b.data(), stride}}, extent, out.data());
  EXPECT_EQ(out[17], std::fmax(a[17], b[17]));
  const std::vector<float> nan(kStrip, kNan);
  kernels().binary(BinaryOp::kMin, {{a.data(), stride}}, {{nan.data(), 0}}, {1, 1, 1, stride}, out.data());
  EXPECT_TRUE(std::isnan(out[0]));
}

TEST_P(TileKernelsTest, RowsOfAnItemBesideItsOneRow) {
  const int64_t items = 3, rows = 2, width = 19, stride = PaddedWidth(width);
  const std::vector<float> a = Random(items * rows * stride, 1), b = Random(items * stride, 2);
  std::vector<float> out(items * rows * stride), chosen(out.size());
  const Operand each{{a.data(), stride}, false, rows * stride}, one{{b.data(), 0}, false, stride};
  const Extent extent{items, rows, width, stride};
  kernels().binary(BinaryOp::kSub, each, one, extent, out.data());
  kernels().select({{b.data(), 0}, true, 0}, one, each, extent, chosen.data());
  for (int64_t row = 0; row < items * rows; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      const float of_item = b[row / rows * stride + column];
      EXPECT_EQ(out[row * stride + column], a[row * stride + column] - of_item) << row << " " << column;
      EXPECT_EQ(chosen[row * stride + column], of_item) << row << " " << column;
    }
  }
}

TEST_P(TileKernelsTest, SoftmaxAndReductionsLookAtTheWidthOnly) {
  for (int64_t width : {1, 5, 16, 50, 64}) {
    const int64_t stride = PaddedWidth(width) + kStrip;
    std::vector<float> x = Random(2 * stride, 7, 9.0f);
    for (int64_t i = width; i < stride; ++i) x[i] = kInfinity;
    std::vector<float> out(2 * stride + kStrip);
    kernels().softmax({x.data(), stride}, 1, width, out.data(), stride);
    double sum = 0, total = 0, largest = x[0];
    for (int64_t i = 0; i < width; ++i) sum += std::exp(x[i]);
    for (int64_t i = 0; i < width; ++i) EXPECT_NEAR(out[i], std::exp(x[i]) / sum, 1e-6);
    for (int64_t i = 0; i < width; ++i) total += x[i], largest = std::fmax(largest, x[i]);
    float reduced = 0;
    kernels().reduce(ReduceOp::kMean, {x.data(), stride}, 1, width, &reduced, 1);
    EXPECT_NEAR(reduced, total / width, 1e-5);
    kernels().reduce(ReduceOp::kMax, {x.data(), stride}, 1, width, &reduced, 1);
    EXPECT_EQ(reduced, static_cast<float>(largest));
  }
}

TEST_P(TileKernelsTest, DistancesReadTheRowsOfPositions) {
  for (int64_t width : {1, 3, 32, 64, 100}) {
    const std::vector<float> query = Random(width, 1), table = Random(40 * width, 2);
    std::vector<int32_t> positions;
    for (int32_t i = 0; i < 25; ++i) positions.push_back(i * 7 % 40);
    std::vector<float> dot(25), distance(25);
    kernels().table_similarity(SimilarityOp::kDot, query.data(), table.data(), width, positions.data(), 25,
                               dot.data());
    kernels().table_similarity(SimilarityOp::kSquaredDistance, query.data(), table.data(), width,
                               positions.data(), 25, distance.data());
    for (int i = 0; i < 25; ++i) {
      double product = 0, squares = 0;
      for (int64_t j = 0; j < width; ++j) {
        const double item = table[positions[i] * width + j];
        product += query[j] * item;
        squares += (query[j] - item) * (query[j] - item);
      }
      EXPECT_NEAR(dot[i], product, 1e-5);
      EXPECT_NEAR(distance[i], squares, 2e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllVersions, TileKernelsTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(BestTileKernelsTest, AreTheNamedOnesElseTheFastest) {
  for (const TileKernels* kernels : SupportedTileKernels()) {
    EXPECT_EQ(&BestTileKernels(kernels->name), kernels);
  }
  const TileKernels* fastest = SupportedTileKernels().back();
#if defined(__x86_64__)
  if (__builtin_cpu_is("intel") && fastest->name == std::string("avx512_bf16")) {
    fastest = *(SupportedTileKernels().rbegin() + 1);
  }
#endif
  EXPECT_EQ(&BestTileKernels(nullptr), fastest);
  EXPECT_EQ(&BestTileKernels("avx10"), fastest);
}

TEST(Bfloat16Test, RoundsToNearestEven) {
  EXPECT_EQ(Bfloat16(1.0f), 1.0f);
  EXPECT_EQ(Bfloat16(1.0f + 1.0f / 256), 1.0f);               // Halfway, down to even.
  EXPECT_EQ(Bfloat16(1.0f + 3.0f / 256), 1.0f + 4.0f / 256);  // Halfway, up to even.
  EXPECT_TRUE(std::isnan(Bfloat16(kNan)));
  EXPECT_EQ(Bfloat16(kInfinity), kInfinity);
}

}  // namespace
}  // namespace nann
