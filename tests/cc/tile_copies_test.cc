// Copies, by every version of the kernels, against the same written out.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ops/core/scorer/tile_kernels.h"

namespace nann {
namespace {

using Floats = std::vector<float>;

constexpr float kUntouched = -1.0f;

// Numbers that differ, with the strip behind them that kernels may read.
Floats Numbers(int64_t count) {
  Floats numbers(count + kStrip);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  return numbers;
}

class TileCopiesTest : public testing::TestWithParam<const TileKernels*> {
 protected:
  const TileKernels& kernels() const { return *GetParam(); }
};

TEST_P(TileCopiesTest, RowsOfAnyWidthAndNothingBehindThem) {
  for (const int64_t width : {1, 3, 8, 15, 16, 17, 33}) {
    for (const int64_t from_stride : {int64_t{0}, width, width + 5}) {
      const int64_t rows = 4, stride = width + 2;
      const Floats from = Numbers(rows * (width + 5));
      Floats out(rows * stride, kUntouched);
      kernels().copy({from.data(), from_stride}, rows, width, false, out.data(), stride);
      for (int64_t i = 0; i < rows * stride; ++i) {
        const int64_t row = i / stride, column = i % stride;
        const float expected = column < width ? from[row * from_stride + column] : kUntouched;
        EXPECT_EQ(out[i], expected) << width << " wide, row " << row << ", column " << column;
      }
    }
  }
}

TEST_P(TileCopiesTest, OfWholeStripsNoMoreThanTheLastStripIsWritten) {
  for (const int64_t width : {1, 16, 20}) {
    const int64_t stride = PaddedWidth(width);
    const Floats from = Numbers(3 * stride);
    Floats out(4 * stride, kUntouched);
    kernels().copy({from.data(), stride}, 3, width, true, out.data(), stride);
    for (int64_t row = 0; row < 3; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        EXPECT_EQ(out[row * stride + column], from[row * stride + column]);
      }
    }
    EXPECT_EQ(out[3 * stride], kUntouched);
  }
}

struct Case {
  std::string name;
  std::vector<Step> rows, columns;
};

// Steps within an item of kItemFloats floats.
constexpr int64_t kItemFloats = 512;
const Case kCases[] = {
    {"every second row", {{5, 64}}, {{20, 1}}},
    {"turned", {{7, 1}}, {{5, 16}}},
    {"turned, wide", {{3, 1}}, {{21, 16}}},
    {"numbers apart", {{4, 100}}, {{9, 3}}},
    {"rows side by side", {{1, 0}}, {{5, 32}, {8, 1}}},
    {"heads side by side", {{6, 8}}, {{2, 100}, {8, 1}}},
    {"numbers of two axes", {{2, 200}}, {{3, 40}, {4, 2}, {2, 1}}},
    {"two axes of rows", {{2, 128}, {3, 16}}, {{10, 1}}},
    {"two axes of rows, turned", {{2, 128}, {3, 1}}, {{6, 16}}},
    {"a row for each index of another", {{3, 64}, {4, 0}}, {{16, 1}}},
    {"each number twice", {{3, 64}}, {{9, 1}, {2, 0}}},
    {"each number five times, twice", {{3, 64}}, {{2, 100}, {6, 1}, {5, 0}}},
    {"a matrix turned into a row", {{1, 0}}, {{7, 1}, {6, 16}}},
    {"one number", {{1, 0}}, {{1, 1}}},
};

// Where the numbers of some axes lie, in order.
std::vector<int64_t> Places(const std::vector<Step>& axes) {
  std::vector<int64_t> places = {0};
  for (const Step& axis : axes) {
    std::vector<int64_t> more;
    for (const int64_t place : places) {
      for (int64_t i = 0; i < axis.size; ++i) more.push_back(place + i * axis.floats);
    }
    places = more;
  }
  return places;
}

TEST_P(TileCopiesTest, AxesInAnyOrder) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const std::vector<int64_t> rows = Places(c.rows), columns = Places(c.columns);
    const int64_t items = 3, stride = PaddedWidth(static_cast<int64_t>(columns.size()));
    const int64_t out_item = (static_cast<int64_t>(rows.size()) + 1) * stride;
    const Floats from = Numbers(items * kItemFloats);
    Floats out(items * out_item + kStrip, kUntouched);
    SteppedCopy copy;
    copy.rows = c.rows.data();
    copy.row_axes = static_cast<int>(c.rows.size());
    copy.columns = c.columns.data();
    copy.column_axes = static_cast<int>(c.columns.size());
    copy.items = items;
    copy.from = from.data();
    copy.from_item = kItemFloats;
    copy.out = out.data();
    copy.out_item = out_item;
    copy.out_stride = stride;
    kernels().copy_steps(copy);
    for (int64_t item = 0; item < items; ++item) {
      for (size_t row = 0; row < rows.size(); ++row) {
        for (size_t column = 0; column < columns.size(); ++column) {
          EXPECT_EQ(out[item * out_item + static_cast<int64_t>(row) * stride + static_cast<int64_t>(column)],
                    from[item * kItemFloats + rows[row] + columns[column]])
              << "item " << item << ", row " << row << ", column " << column;
        }
      }
      if (columns.size() == 1 || c.columns.size() > 1) continue;
      EXPECT_EQ(out[(item + 1) * out_item - stride], kUntouched) << "behind item " << item;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, TileCopiesTest, testing::ValuesIn(SupportedTileKernels()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace nann
