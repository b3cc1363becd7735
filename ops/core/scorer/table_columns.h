// Which columns of a table's rows lie together in a tile.
#ifndef NANN_OPS_CORE_SCORER_TABLE_COLUMNS_H_
#define NANN_OPS_CORE_SCORER_TABLE_COLUMNS_H_

#include <cstdint>
#include <vector>

#include "scorer_program.h"

namespace nann {

// Columns [begin, begin + count) of a table, `stride` floats from item to item.
struct TableColumns {
  int64_t begin = 0, count = 0, stride = 0;
};

// A tile has at most so many pieces of a table, so that gathering needs no memory of its own. Items have one
// or two matrices; a table of more stays whole.
inline constexpr int kMostTableColumns = 8;

// The columns of table `value` that a program reads. In one piece, or, where matrices of each item are part
// of a row, with each of them in a piece of its own: its rows follow one another from item to item, so that
// nothing has to be copied. Never empty, and in ascending order.
std::vector<TableColumns> ColumnsOfTable(const std::vector<Instruction>& instructions, int value);

}  // namespace nann

#endif  // NANN_OPS_CORE_SCORER_TABLE_COLUMNS_H_
