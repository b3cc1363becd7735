// Filters from random words, and damaged texts and files of attributes: every outcome but an error that names
// column or file, or the same rows by all ways of testing, is a defect. Meant to run under AddressSanitizer
// and UndefinedBehaviorSanitizer.
//
//   filter_fuzz TEXTS [SEED]
#include <cstdio>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "attributes.h"
#include "fuzz_main.h"
#include "ops/core/filter/bits.h"
#include "ops/core/filter/filter_cache.h"
#include "ops/core/filter/filter_compiler.h"
#include "ops/core/filter/filter_parser.h"

namespace nann {
namespace {

constexpr int64_t kRows = 150;

size_t Below(std::mt19937* random, size_t bound) { return (*random)() % bound; }

template <typename T, typename Draw>
Rows<T> DrawRows(std::mt19937* random, int64_t count, const Draw& draw) {
  Rows<T> rows;
  for (int64_t i = 0; i < count; ++i) {
    rows.push_back(Below(random, 5) == 0 ? std::nullopt : std::optional<T>(draw()));
  }
  return rows;
}

std::vector<AttributeBytes> DrawAttributes(std::mt19937* random) {
  const auto word = [random] {
    return std::string(Below(random, 3), static_cast<char>('a' + Below(random, 3)));
  };
  const auto integer = [random] { return static_cast<int64_t>(Below(random, 9)) - 4; };
  Lists<int64_t> ids;
  Lists<std::string> tags;
  for (int64_t i = 0; i < kRows; ++i) {
    ids.push_back(DrawRows<int64_t>(random, static_cast<int64_t>(Below(random, 4)), integer));
    tags.push_back(DrawRows<std::string>(random, static_cast<int64_t>(Below(random, 3)), word));
    if (i % 7 == 0) ids.back() = std::nullopt;
  }
  return {
      MakeAttribute("a", DrawRows<int64_t>(random, kRows, integer)),
      MakeAttribute("f", DrawRows<float>(random, kRows, [&] { return static_cast<float>(integer()) / 2; })),
      MakeAttribute("b", DrawRows<bool>(random, kRows, [random] { return Below(random, 2) == 0; })),
      MakeAttribute("s", DrawRows<std::string>(random, kRows, word)),
      MakeListAttribute("ids", ids),
      MakeListAttribute("tags", tags)};
}

// Words that follow each other at random, mostly in an order that means something.
std::string DrawText(std::mt19937* random, int depth) {
  static const char* const kOperands[] = {
      "a", "f", "b", "s", "1", "-2.5", "1e0", "'a'", "NULL", "TRUE", "99999999999999999999"};
  static const char* const kOperators[] = {"=", "<>", "<", "<=", ">", ">="};
  const auto operand = [random] { return kOperands[Below(random, std::size(kOperands))]; };
  switch (Below(random, depth > 0 ? 10 : 6)) {
    case 0:
      return absl::StrCat(operand(), " IN (", operand(), ", ", operand(), ")");
    case 1:
      return absl::StrCat(operand(), " BETWEEN ", operand(), " AND ", operand());
    case 2:
      return absl::StrCat(operand(), " = ANY(", Below(random, 2) == 0 ? "ids" : "tags", ")");
    case 3:
      return absl::StrCat("s LIKE 'a%'");
    case 4:
      return Below(random, 2) == 0 ? "b" : absl::StrCat(operand(), " IS NOT NULL");
    case 5:
      return absl::StrCat(operand(), " ", kOperators[Below(random, std::size(kOperators))], " ", operand());
    case 6:
      return absl::StrCat("NOT (", DrawText(random, depth - 1), ")");
    case 7:
      return absl::StrCat("(", DrawText(random, depth - 1), ") IS NULL");
    default:
      return absl::StrCat(DrawText(random, depth - 1), Below(random, 2) == 0 ? " AND " : " OR ",
                          DrawText(random, depth - 1));
  }
}

void Mutate(std::mt19937* random, std::string* bytes) {
  static const char* const kPieces[] = {"'", "\"", "(", ")", "NOT ", " AND ",
                                        ",", "--", "e", ".", "\xff", "%"};
  const size_t at = Below(random, bytes->size() + 1);
  switch (Below(random, 4)) {
    case 0:
      if (at < bytes->size()) (*bytes)[at] ^= static_cast<char>(1 << Below(random, 8));
      break;
    case 1:
      bytes->resize(at);
      break;
    case 2:
      bytes->insert(at, kPieces[Below(random, std::size(kPieces))]);
      break;
    case 3:
      bytes->insert(at, 1 + Below(random, 9), static_cast<char>((*random)()));
      break;
  }
}

int Fail(const std::string& text, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", text.c_str(), what.c_str());
  return 1;
}

// 0 when the predicate is TRUE for the rows of the bitmap, however many rows it is asked for at once, and
// never TRUE and FALSE at once.
int CheckPredicate(const std::string& text, const Predicate& predicate, const RowFilter& filter) {
  for (int64_t begin = 0; begin < kRows; ++begin) {
    const int count = static_cast<int>(std::min<int64_t>(kRows - begin, 1 + begin % kWordRows));
    const Truth many = predicate.Test(begin, count), one = predicate.Test(begin, 1);
    if ((many.yes & many.no) != 0) return Fail(text, "TRUE and FALSE at once");
    if (((many.yes | many.no) & ~LowBits(count)) != 0) return Fail(text, "a row that was not asked for");
    if (many.yes % 2 != one.yes || many.no % 2 != one.no) return Fail(text, "one row is another than many");
    for (int i = 0; i < count; ++i) {
      const bool yes = (many.yes >> i & 1) != 0;
      if (yes != filter.Passes(static_cast<int32_t>(begin + i))) return Fail(text, "a bitmap of other rows");
    }
  }
  return 0;
}

// 0 when the text is refused with a column, or lets the same rows pass however they are tested.
int CheckText(const std::string& text, const AttributeColumns& columns, FilterCache* cache,
              int64_t* accepted) {
  const auto filter = cache->Get(text);
  if (!filter.ok()) {
    const bool named = absl::StrContains(filter.status().message(), "filter, column ");
    return named ? 0 : Fail(text, std::string(filter.status().message()));
  }
  if (absl::StripAsciiWhitespace(text).empty()) return 0;
  ++*accepted;
  const absl::StatusOr<FilterNode> parsed = ParseFilter(text);
  if (!parsed.ok()) return Fail(text, "accepted once only");
  const absl::StatusOr<PredicatePtr> predicate = CompileFilter(*parsed, columns);
  return predicate.ok() ? CheckPredicate(text, **predicate, **filter) : Fail(text, "compiled once only");
}

int CheckFiles(std::vector<AttributeBytes> attributes, std::mt19937* random, int64_t* accepted) {
  AttributeBytes& attribute = attributes[Below(random, attributes.size())];
  auto file = std::next(attribute.files.begin(), Below(random, attribute.files.size()));
  Mutate(random, &file->second);
  const absl::StatusOr<LoadedAttributes> loaded = LoadAttributes(attributes, kRows);
  if (!loaded.ok()) {
    const bool named = absl::StrContains(loaded.status().message(), ".npy: ");
    return named ? 0 : Fail(attribute.name, std::string(loaded.status().message()));
  }
  ++*accepted;
  FilterCacheOptions options;
  options.max_bytes = 0;
  FilterCache cache(&loaded->columns, options);
  for (const char* text : {"a = 1 OR f > 0 OR b OR s >= 'a' OR 1 = ANY(ids)", "'a' = ANY(tags)",
                           "s = ANY(tags) OR a = ANY(ids)", "a IN (1, 2, 3, 4, 5, 6)"}) {
    if (!cache.Get(text).ok()) return Fail(text, "refused");
  }
  return 0;
}

int Run(int64_t texts, uint32_t seed) {
  std::mt19937 random(seed);
  const std::vector<AttributeBytes> attributes = DrawAttributes(&random);
  const LoadedAttributes loaded = *LoadAttributes(attributes, kRows);
  FilterCacheOptions options;
  options.max_bytes = 20'000;  // Filters come and go.
  FilterCache cache(&loaded.columns, options);
  int64_t accepted = 0, files = 0;
  for (int64_t i = 0; i < texts; ++i) {
    std::string text = DrawText(&random, 4);
    for (size_t n = Below(&random, 3); n > 0; --n) Mutate(&random, &text);
    if (CheckText(text, loaded.columns, &cache, &accepted) != 0) return 1;
    if (cache.bytes() > options.max_bytes) return Fail(text, "more memory than the bound");
    if (i % 10 == 0 && CheckFiles(attributes, &random, &files) != 0) return 1;
  }
  std::printf("%ld texts, %ld of them valid; %ld damaged files, %ld of them still valid\n",
              static_cast<long>(texts), static_cast<long>(accepted), static_cast<long>((texts + 9) / 10),
              static_cast<long>(files));
  return 0;
}

}  // namespace
}  // namespace nann

int main(int argc, char** argv) { return nann::FuzzMain(argc, argv, "filter_fuzz TEXTS [SEED]", nann::Run); }
