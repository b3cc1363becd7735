#include "table_columns.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "matrix_layouts.h"

namespace nann {
namespace {

// What an instruction reads of a table's rows.
struct Reading {
  int64_t begin = 0, end = 0;
  bool is_matrix = false;  // Several rows, one after the other.
};

// None of what is not read in one piece.
std::optional<Reading> ReadingOf(const Instruction& reader, const ValueShape& table) {
  const ValueShape& shape = reader.shape;
  if (!shape.per_item) return std::nullopt;
  if (reader.opcode == Opcode::kSlice) {
    const int64_t begin = reader.parameters[0];
    return Reading{begin, begin + shape.columns};
  }
  if (reader.opcode == Opcode::kReshape) return Reading{0, table.columns, shape.rows > 1};
  if (reader.opcode != Opcode::kRearrange) return std::nullopt;
  const auto rows = Rearrangement::Of(reader.parameters, table)->RowStep(table.columns);
  if (!rows.has_value() || (shape.rows > 1 && rows->second != shape.columns)) return std::nullopt;
  return Reading{rows->first, rows->first + shape.rows * shape.columns, shape.rows > 1};
}

bool IsWithin(const Reading& reading, int64_t begin, int64_t end) {
  return begin <= reading.begin && reading.end <= end;
}

// The matrices, each once, in ascending order; none where two overlap.
std::vector<TableColumns> MatricesOf(std::vector<Reading> readings) {
  const auto others =
      std::remove_if(readings.begin(), readings.end(), [](const auto& r) { return !r.is_matrix; });
  readings.erase(others, readings.end());
  std::sort(readings.begin(), readings.end(),
            [](const auto& a, const auto& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::vector<TableColumns> matrices;
  int64_t end = 0;
  for (const Reading& reading : readings) {
    const int64_t count = reading.end - reading.begin;
    if (reading.begin >= end) {
      matrices.push_back({reading.begin, count, count});
      end = reading.end;
    } else if (reading.begin != matrices.back().begin || count != matrices.back().count) {
      return {};
    }
  }
  return matrices;
}

}  // namespace

std::vector<TableColumns> ColumnsOfTable(const std::vector<Instruction>& instructions, int value) {
  const ValueShape& table = instructions[value].shape;
  const std::vector<TableColumns> whole = {{0, table.columns, PaddedWidth(table.columns)}};
  std::vector<Reading> readings;
  for (const Instruction& reader : instructions) {
    const auto& operands = reader.operands;
    if (std::find(operands.begin(), operands.end(), value) == operands.end()) continue;
    const std::optional<Reading> reading = ReadingOf(reader, table);
    if (!reading.has_value()) return whole;
    readings.push_back(*reading);
  }
  const std::vector<TableColumns> matrices = MatricesOf(readings);
  if (matrices.empty() || 2 * matrices.size() + 1 > kMostTableColumns) return whole;
  // What is read before each of them and behind the last is a piece too.
  std::vector<TableColumns> pieces;
  size_t placed = 0;
  int64_t begin = 0;
  for (size_t i = 0; i <= matrices.size(); ++i) {
    const int64_t end = i < matrices.size() ? matrices[i].begin : table.columns;
    int64_t first = end, last = begin;
    for (const Reading& reading : readings) {
      if (!IsWithin(reading, begin, end)) continue;
      first = std::min(first, reading.begin);
      last = std::max(last, reading.end);
      ++placed;
    }
    if (first < last) pieces.push_back({first, last - first, PaddedWidth(last - first)});
    if (i == matrices.size()) break;
    begin = end + matrices[i].count;
    placed += std::count_if(readings.begin(), readings.end(),
                            [&](const Reading& reading) { return IsWithin(reading, end, begin); });
    pieces.push_back(matrices[i]);
  }
  return placed == readings.size() ? pieces : whole;
}

}  // namespace nann
