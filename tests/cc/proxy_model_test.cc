#include "ops/core/walk/proxy_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "arrays.h"
#include "ops/core/walk/position_map.h"

namespace nann {
namespace {

constexpr int64_t kColumns = 32;

std::vector<float> RandomRows(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(n * kColumns);
  for (float& value : rows) value = normal(random);
  return rows;
}

// A whole number of at most 2048 as float16.
uint16_t HalfOf(int value) {
  const uint16_t sign = value < 0 ? 0x8000 : 0;
  int magnitude = std::abs(value), exponent = 0;
  if (magnitude == 0) return 0;
  while (magnitude >> (exponent + 1) != 0) ++exponent;
  return static_cast<uint16_t>(sign | (exponent + 15) << 10 | ((magnitude << (10 - exponent)) & 0x3ff));
}

// As numpy.save writes float16: NpyBytes has no type of C++ for it.
std::string HalfBytes(const std::vector<uint16_t>& values, const std::vector<int64_t>& shape) {
  std::string bytes = NpyBytes(values, shape);
  bytes.replace(bytes.find("<u2"), 3, "<f2");
  return bytes;
}

TEST(ProxyModelTest, FindsALinearScore) {
  const std::vector<float> rows = RandomRows(200, 1);
  ProxyModel model;
  model.Reset(kColumns, 1e-6);
  const auto score = [&rows](int64_t i) {
    const float* row = rows.data() + i * kColumns;
    return static_cast<double>(row[0]) + 0.5 - 2.0 * row[1] + 3.0 * row[31];
  };
  std::vector<double> scores;
  for (int64_t i = 0; i < 100; ++i) scores.push_back(score(i));
  model.Fit(rows.data(), scores);
  std::vector<float> guesses(200);
  model.Guess(rows.data(), 200, guesses.data());
  for (int64_t i = 0; i < 200; ++i) EXPECT_NEAR(guesses[i], score(i), 1e-4);
}

TEST(ProxyModelTest, WithoutObservationsItGuessesTheMeanOfAllUsers) {
  const std::vector<float> rows = RandomRows(5, 2);
  ProxyModel model;
  model.Reset(kColumns, 0.1);
  model.Fit(rows.data(), {});
  std::vector<float> guesses(5);
  model.Guess(rows.data(), 5, guesses.data());
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(guesses[i], rows[i * kColumns]);
}

TEST(ProxyModelTest, AGuessDependsOnItsRowOnly) {
  const std::vector<float> rows = RandomRows(64, 3);
  ProxyModel model;
  model.Reset(kColumns, 0.1);
  model.Fit(rows.data(), std::vector<double>(64, 2.0));
  std::vector<float> together(64);
  model.Guess(rows.data(), 64, together.data());
  for (int64_t i = 0; i < 64; ++i) {
    float alone;
    model.Guess(rows.data() + i * kColumns, 1, &alone);
    EXPECT_EQ(alone, together[i]);
  }
}

TEST(ProxyModelTest, WhatIsNoNumberIsGuessedLowest) {
  std::vector<float> rows = RandomRows(2, 4);
  rows[3] = std::numeric_limits<float>::quiet_NaN();
  ProxyModel model;
  model.Reset(kColumns, 0.1);
  model.Fit(rows.data() + kColumns, {1.0});
  float guess;
  model.Guess(rows.data(), 1, &guess);
  EXPECT_EQ(guess, -std::numeric_limits<float>::infinity());
}

TEST(ProxyModelTest, ResetForgets) {
  const std::vector<float> rows = RandomRows(8, 5);
  ProxyModel model, fresh;
  model.Reset(kColumns, 0.5);
  model.Fit(rows.data(), std::vector<double>(8, 9.0));
  for (ProxyModel* each : {&model, &fresh}) {
    each->Reset(kColumns, 0.1);
    each->Fit(rows.data(), {-1.0});
  }
  float guess, expected;
  model.Guess(rows.data() + kColumns, 1, &guess);
  fresh.Guess(rows.data() + kColumns, 1, &expected);
  EXPECT_EQ(guess, expected);
}

TEST(ProxyModelTest, EveryInstructionSetGivesTheSameBits) {
  for (int64_t columns : {16, 48, 64}) {
    std::mt19937 random(6);
    std::normal_distribution<float> normal;
    std::vector<float> rows(90 * columns);
    for (float& value : rows) value = normal(random);
    // Small integers are the same in float16.
    std::vector<uint16_t> halves;
    for (float& value : rows) {
      value = std::round(value);
      halves.push_back(HalfOf(static_cast<int>(value)));
    }
    auto features = Own("features.npy", HalfBytes(halves, {90, columns}));
    ASSERT_TRUE(features.ok()) << features.status();
    std::vector<int32_t> positions;
    for (int32_t i = 0; i < 40; ++i) positions.push_back(i * 7 % 90);
    std::vector<double> scores(50);
    for (double& score : scores) score = normal(random);
    std::vector<float> expected;
    for (const ProxyKernels* kernels : SupportedProxyKernels()) {
      ProxyModel model(*kernels);
      model.Reset(columns, 0.03);
      model.Fit(rows.data(), absl::MakeConstSpan(scores).first(17));
      model.Fit(rows.data() + 17 * columns, absl::MakeConstSpan(scores).subspan(17));
      std::vector<float> guesses(90);
      model.Guess(rows.data(), 90, guesses.data());
      if (expected.empty()) expected = guesses;
      EXPECT_EQ(guesses, expected) << kernels->name << " " << columns;
      std::vector<float> of_table;
      const Table table = *Table::Create(features->array, TableType::kFloat16);
      model.Guess(table, positions, &of_table);
      for (size_t i = 0; i < positions.size(); ++i) {
        EXPECT_EQ(of_table[i], expected[positions[i]]) << kernels->name << " " << columns;
      }
    }
  }
}

TEST(PositionMapTest, NumbersPositionsInTheOrderInWhichTheyAreMet) {
  PositionMap map;
  for (int round = 0; round < 2; ++round) {
    map.Clear();
    EXPECT_EQ(map.size(), 0);
    // More than the table begins with, in strides that a bad hash would pile up.
    for (int32_t i = 0; i < 20000; ++i) ASSERT_EQ(map.NumberOf(i * 4096 % 2147483), i);
    for (int32_t i = 0; i < 20000; ++i) ASSERT_EQ(map.NumberOf(i * 4096 % 2147483), i);
    EXPECT_EQ(map.size(), 20000);
  }
}

}  // namespace
}  // namespace nann
