// The functions of angles, in every version of the kernels, beside those of libm in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ops/core/scorer/tile_kernels.h"

namespace nann {
namespace {

using Floats = std::vector<float>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kMost = std::numeric_limits<float>::max();

struct Function {
  UnaryOp op;
  double (*expected)(double);
};

const Function kWaves[] = {{UnaryOp::kSin, [](double x) { return std::sin(x); }},
                           {UnaryOp::kCos, [](double x) { return std::cos(x); }},
                           {UnaryOp::kTan, [](double x) { return std::tan(x); }}};

const Function kDirections[] = {{UnaryOp::kAsin, [](double x) { return std::asin(x); }},
                                {UnaryOp::kAcos, [](double x) { return std::acos(x); }},
                                {UnaryOp::kAtan, [](double x) { return std::atan(x); }}};

// In distances between neighbouring floats there; those below the least normal number are as far apart as
// there.
double DistanceOf(float found, double expected) {
  if (std::isnan(expected)) return std::isnan(found) ? 0 : kInfinity;
  const double size = std::max(std::fabs(expected), double{std::numeric_limits<float>::min()});
  return std::fabs(found - expected) / std::ldexp(1.0, std::ilogb(size) - 23);
}

// Floats of every size up to `most`, of both signs.
Floats OfEverySize(float most, int count, unsigned seed) {
  std::mt19937 random(seed);
  uint32_t end;
  std::memcpy(&end, &most, sizeof(end));
  Floats values;
  for (int i = 0; i < count; ++i) {
    const uint32_t bits = random() % (end + 1) | (i % 2 == 0 ? 0 : 0x80000000);
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    values.push_back(value);
  }
  return values;
}

// Those next to the multiples of a quarter turn, where sines and cosines are zero and quarters change.
Floats NearQuarters() {
  Floats values;
  for (double turns = 1; turns < 1e30; turns = std::ceil(turns * 1.07)) {
    for (const double eighth : {0.25, 0.5, 1.0}) {
      const float value = static_cast<float>(turns * eighth * 3.14159265358979323846);
      for (const float each : {std::nextafter(value, 0.0f), value, std::nextafter(value, kInfinity)}) {
        values.insert(values.end(), {each, -each});
      }
    }
  }
  return values;
}

class TileAnglesTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  Floats Of(UnaryOp op, const Floats& x) const {
    const auto width = static_cast<int64_t>(x.size());
    Floats in = x, out(PaddedWidth(width));
    in.resize(out.size(), kNan);
    GetParam()->unary(op, {in.data(), width}, 1, width, out.data(), width);
    out.resize(x.size());
    return out;
  }

  Floats Directions(const Floats& y, const Floats& x) const {
    const auto width = static_cast<int64_t>(x.size());
    Floats above = y, beside = x, out(PaddedWidth(width));
    above.resize(out.size(), kNan);
    beside.resize(out.size(), kNan);
    GetParam()->binary(BinaryOp::kAtan2, {{above.data(), width}}, {{beside.data(), width}},
                       {1, 1, width, width}, out.data());
    out.resize(x.size());
    return out;
  }

  void ExpectNear(const Function& function, const Floats& x, double distance) const {
    const Floats found = Of(function.op, x);
    double largest = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double off = DistanceOf(found[i], function.expected(x[i]));
      largest = std::max(largest, off);
      ASSERT_LE(off, distance) << static_cast<int>(function.op) << " of " << x[i] << " is " << found[i];
    }
    RecordProperty("function_" + std::to_string(static_cast<int>(function.op)), std::to_string(largest));
  }
};

TEST_P(TileAnglesTest, WavesOfAnglesOfEverySize) {
  for (const Function& wave : kWaves) {
    const double distance = wave.op == UnaryOp::kTan ? 5 : 3;
    ExpectNear(wave, OfEverySize(100.0f, 200000, 1), distance);
    ExpectNear(wave, OfEverySize(kMost, 200000, 2), distance);
    ExpectNear(wave, NearQuarters(), distance);
  }
}

TEST_P(TileAnglesTest, WavesAreNeverBeyondOne) {
  for (const UnaryOp op : {UnaryOp::kSin, UnaryOp::kCos}) {
    for (const float value : Of(op, NearQuarters())) ASSERT_LE(std::fabs(value), 1.0f);
  }
}

TEST_P(TileAnglesTest, WavesAtTheEdges) {
  const Floats edges = {kNan, kInfinity, -kInfinity, 0.0f, -0.0f};
  for (const Function& wave : kWaves) {
    const Floats found = Of(wave.op, edges);
    for (int i : {0, 1, 2}) EXPECT_TRUE(std::isnan(found[i])) << i;
    const float of_zero = wave.op == UnaryOp::kCos ? 1.0f : 0.0f;
    for (int i : {3, 4}) EXPECT_EQ(found[i], of_zero);
    EXPECT_EQ(std::signbit(found[4]), wave.op != UnaryOp::kCos);
  }
}

// One large angle among others changes none of them: the score of an item is that of any tile.
TEST_P(TileAnglesTest, AnglesDoNotDependOnThoseBesideThem) {
  const Floats small = OfEverySize(50000.0f, 64, 3);
  Floats mixed = small;
  const Floats large = {1e5f, 1e30f, 1e6f, 2e9f, kInfinity};
  for (size_t i = 0; i < mixed.size(); i += 5) mixed[i] = large[i / 5 % large.size()];
  for (const Function& wave : kWaves) {
    const Floats alone = Of(wave.op, small), beside = Of(wave.op, mixed);
    for (size_t i = 0; i < small.size(); ++i) {
      EXPECT_TRUE(i % 5 != 0
                      ? alone[i] == beside[i]
                      : mixed[i] == kInfinity || beside[i] == Of(wave.op, Floats(kStrip, mixed[i]))[0]);
    }
  }
}

TEST_P(TileAnglesTest, DirectionsOfOneNumber) {
  for (const Function& function : kDirections) {
    ExpectNear(function, OfEverySize(1.0f, 200000, 4), 4);
    ExpectNear(function, OfEverySize(kMost, 200000, 5), 4);  // A NaN for the sine of none.
    ExpectNear(function, {1.0f, -1.0f, std::nextafter(1.0f, 0.0f), 0.5f, kNan, kInfinity, -kInfinity}, 4);
  }
}

TEST_P(TileAnglesTest, DirectionsOfPoints) {
  const Floats y = OfEverySize(kMost, 200000, 6), x = OfEverySize(kMost, 200000, 7);
  Floats near_y = Floats(y), near_x = Floats(y);  // Not far from the diagonals.
  std::mt19937 random(8);
  std::uniform_real_distribution<float> factor(-2.0f, 2.0f);
  for (float& each : near_x) each *= factor(random);
  for (const auto& [above, beside] : {std::pair{y, x}, std::pair{near_y, near_x}}) {
    const Floats found = Directions(above, beside);
    for (size_t i = 0; i < found.size(); ++i) {
      const double expected = std::atan2(double{above[i]}, double{beside[i]});
      ASSERT_LE(DistanceOf(found[i], expected), 4) << above[i] << " " << beside[i] << " is " << found[i];
    }
  }
}

TEST_P(TileAnglesTest, DirectionsAtTheEdges) {
  const Floats edges = {kNan,  kInfinity, -kInfinity, 0.0f,   -0.0f,  1.0f,
                        -1.0f, kMost,     -kMost,     1e-45f, -1e-45f};
  Floats y, x;
  for (const float above : edges) {
    for (const float beside : edges) {
      y.push_back(above);
      x.push_back(beside);
    }
  }
  const Floats found = Directions(y, x);
  for (size_t i = 0; i < found.size(); ++i) {
    const double expected = std::atan2(double{y[i]}, double{x[i]});
    EXPECT_LE(DistanceOf(found[i], expected), 2) << y[i] << " " << x[i] << " is " << found[i];
    EXPECT_TRUE(std::isnan(expected) || std::signbit(found[i]) == std::signbit(expected));
  }
}

TEST_P(TileAnglesTest, DirectionsOfColumnsAreThoseOfRows) {
  for (const int64_t rows : {1, 2, 16, 37}) {
    const Floats y = OfEverySize(4.0f, static_cast<int>(rows), 9),
                 x = OfEverySize(4.0f, static_cast<int>(rows), 10);
    Floats above(rows * kStrip, kNan), beside(rows * kStrip, kNan), out(rows * kStrip);
    for (int64_t row = 0; row < rows; ++row) above[row * kStrip] = y[row], beside[row * kStrip] = x[row];
    const Operand left{{above.data(), kStrip}, false}, right{{beside.data(), kStrip}, false};
    const Operand one{{beside.data(), 0}, true};
    const Floats of_rows = Directions(y, x), of_one = Directions(y, Floats(rows, x[0]));
    GetParam()->binary(BinaryOp::kAtan2, left, right, {1, rows, 1, kStrip}, out.data());
    for (int64_t row = 0; row < rows; ++row) EXPECT_EQ(out[row * kStrip], of_rows[row]);
    GetParam()->binary(BinaryOp::kAtan2, left, one, {1, rows, 1, kStrip}, out.data());
    for (int64_t row = 0; row < rows; ++row) EXPECT_EQ(out[row * kStrip], of_one[row]);
  }
}

INSTANTIATE_TEST_SUITE_P(AllVersions, TileAnglesTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace nann
