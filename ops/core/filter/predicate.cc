#include "predicate.h"

#include <algorithm>
#include <utility>

#include "bits.h"

namespace nann {
namespace {

class Constant : public Predicate {
 public:
  Constant(bool yes, bool no) : truth_{yes ? ~uint64_t{0} : 0, no ? ~uint64_t{0} : 0} {}
  Truth Test(int64_t, int count) const override {
    return {truth_.yes & LowBits(count), truth_.no & LowBits(count)};
  }
  double Cost() const override { return 1; }

 private:
  const Truth truth_;
};

double CostOfAll(const std::vector<PredicatePtr>& children) {
  double cost = 1;
  for (const PredicatePtr& child : children) cost += child->Cost();
  return cost;
}

class Not : public Predicate {
 public:
  explicit Not(PredicatePtr child) : child_(std::move(child)) {}
  Truth Test(int64_t begin, int count) const override {
    const Truth truth = child_->Test(begin, count);
    return {truth.no, truth.yes};
  }
  double Cost() const override { return child_->Cost(); }

 private:
  const PredicatePtr child_;
};

// Stops at the first child after which no further one can change the outcome for these rows.
class And : public Predicate {
 public:
  explicit And(std::vector<PredicatePtr> children) : children_(std::move(children)) {}
  Truth Test(int64_t begin, int count) const override {
    Truth all = {LowBits(count), 0};
    for (const PredicatePtr& child : children_) {
      const Truth truth = child->Test(begin, count);
      all.yes &= truth.yes;
      all.no |= truth.no;
      if (all.no == LowBits(count)) break;
    }
    return all;
  }
  double Cost() const override { return CostOfAll(children_); }

 private:
  const std::vector<PredicatePtr> children_;
};

class Or : public Predicate {
 public:
  explicit Or(std::vector<PredicatePtr> children) : children_(std::move(children)) {}
  Truth Test(int64_t begin, int count) const override {
    Truth any = {0, LowBits(count)};
    for (const PredicatePtr& child : children_) {
      const Truth truth = child->Test(begin, count);
      any.yes |= truth.yes;
      any.no &= truth.no;
      if (any.yes == LowBits(count)) break;
    }
    return any;
  }
  double Cost() const override { return CostOfAll(children_); }

 private:
  const std::vector<PredicatePtr> children_;
};

class IsUnknown : public Predicate {
 public:
  explicit IsUnknown(PredicatePtr child) : child_(std::move(child)) {}
  Truth Test(int64_t begin, int count) const override {
    const Truth truth = child_->Test(begin, count);
    const uint64_t known = truth.yes | truth.no;
    return {LowBits(count) & ~known, known};
  }
  double Cost() const override { return 1 + child_->Cost(); }

 private:
  const PredicatePtr child_;
};

// Of Predicate::Cost: to find 64 values in a set, and to go through 64 lists or as many elements.
constexpr double kCostOfSet = 20, kCostOfList = 4;

uint64_t ValidAt(const uint64_t* valid, int64_t begin, int count) {
  return valid == nullptr ? LowBits(count) : BitsAt(valid, begin, count);
}

class IsNull : public Predicate {
 public:
  explicit IsNull(const uint64_t* valid) : valid_(valid) {}
  Truth Test(int64_t begin, int count) const override {
    const uint64_t valid = ValidAt(valid_, begin, count);
    return {LowBits(count) & ~valid, valid};
  }
  double Cost() const override { return 1; }

 private:
  const uint64_t* const valid_;
};

// How values are stored, and which kernel compares them.
const int64_t* ValuesOf(const AttributeColumn& column, const int64_t*) { return column.int64s.data(); }
const float* ValuesOf(const AttributeColumn& column, const float*) { return column.floats.data(); }
const int32_t* ValuesOf(const AttributeColumn& column, const int32_t*) { return column.codes.data(); }
const uint8_t* ValuesOf(const AttributeColumn& column, const uint8_t*) { return column.bools.data(); }

uint64_t MatchWord(const int64_t* x, const Interval<int64_t>& i) {
  return SupportedMatchKernels().back()->int64s(x, i);
}
uint64_t MatchWord(const int32_t* x, const Interval<int32_t>& i) {
  return SupportedMatchKernels().back()->int32s(x, i);
}
uint64_t MatchWord(const float* x, const Interval<float>& i) {
  return SupportedMatchKernels().back()->floats(x, i);
}
uint64_t MatchWord(const uint8_t* x, const Interval<uint8_t>& i) {
  return SupportedMatchKernels().back()->bytes(x, i);
}

// Fewer values than this are compared one by one; more that are no whole word are copied into one.
constexpr int kFewValues = 8;

// Bit i is set where x[i] is within the interval, for 1 <= count <= 64 values.
template <typename T>
uint64_t MatchValues(const T* x, int count, const Interval<T>& interval) {
  if (count == kWordRows) return MatchWord(x, interval);
  if (count < kFewValues) {
    uint64_t word = 0;
    for (int i = 0; i < count; ++i) word |= static_cast<uint64_t>(Matches(x[i], interval)) << i;
    return word;
  }
  T whole[kWordRows] = {};
  std::copy(x, x + count, whole);
  return MatchWord(whole, interval) & LowBits(count);
}

template <typename T>
class Match : public Predicate {
 public:
  Match(const AttributeColumn& column, const Interval<T>& interval)
      : values_(ValuesOf(column, static_cast<const T*>(nullptr))),
        valid_(column.valid),
        interval_(interval) {}
  Truth Test(int64_t begin, int count) const override {
    const uint64_t valid = ValidAt(valid_, begin, count);
    const uint64_t match = MatchValues(values_ + begin, count, interval_);
    return {match & valid, ~match & valid};
  }
  double Cost() const override { return 1; }

 private:
  const T* const values_;
  const uint64_t* const valid_;
  const Interval<T> interval_;
};

template <typename T>
class Member : public Predicate {
 public:
  Member(const AttributeColumn& column, ValueSet set)
      : values_(ValuesOf(column, static_cast<const T*>(nullptr))),
        valid_(column.valid),
        set_(std::move(set)) {}
  Truth Test(int64_t begin, int count) const override {
    const uint64_t valid = ValidAt(valid_, begin, count);
    uint64_t match = 0;
    for (int i = 0; i < count; ++i) {
      match |= static_cast<uint64_t>(set_.Contains(KeyOf(values_[begin + i]))) << i;
    }
    return {match & valid, ~match & valid};
  }
  double Cost() const override { return kCostOfSet; }

 private:
  static int64_t KeyOf(T x) {
    if constexpr (std::is_same_v<T, float>) return KeyOfFloat(x);
    return static_cast<int64_t>(x);
  }

  const T* const values_;
  const uint64_t* const valid_;
  const ValueSet set_;
};

// Which rows have one of the elements whose bits are given. Elements come in ascending order.
class RowsOfElements {
 public:
  // The rows that begin at offsets[0].
  explicit RowsOfElements(const int64_t* offsets) : offsets_(offsets) {}

  // Bit i of `elements` is element first + i. None of the elements is behind the last row.
  void Add(int64_t first, uint64_t elements) {
    for (; elements != 0; elements &= elements - 1) {
      const int64_t element = first + __builtin_ctzll(elements);
      while (offsets_[row_ + 1] <= element) ++row_;
      rows_ |= uint64_t{1} << row_;
    }
  }
  uint64_t rows() const { return rows_; }

 private:
  const int64_t* const offsets_;
  int row_ = 0;
  uint64_t rows_ = 0;
};

template <typename T>
class MatchAny : public Predicate {
 public:
  MatchAny(const AttributeColumn& column, const Interval<T>& interval)
      : values_(ValuesOf(column, static_cast<const T*>(nullptr))),
        offsets_(column.offsets.data()),
        valid_(column.valid),
        element_valid_(column.element_valid),
        interval_(interval),
        length_(column.mean_length()) {}
  Truth Test(int64_t begin, int count) const override {
    RowsOfElements matching(offsets_ + begin), unknown(offsets_ + begin);
    const int64_t end = offsets_[begin + count];
    for (int64_t first = offsets_[begin]; first < end; first += kWordRows) {
      const int part = static_cast<int>(std::min<int64_t>(end - first, kWordRows));
      const uint64_t known = ValidAt(element_valid_, first, part);
      matching.Add(first, MatchValues(values_ + first, part, interval_) & known);
      unknown.Add(first, ~known & LowBits(part));
    }
    const uint64_t valid = ValidAt(valid_, begin, count);
    const uint64_t yes = matching.rows() & valid;
    return {yes, LowBits(count) & ~yes & ~(unknown.rows() & valid)};
  }
  double Cost() const override { return kCostOfList * (1 + length_); }

 private:
  const T* const values_;
  const int64_t* const offsets_;
  const uint64_t* const valid_;
  const uint64_t* const element_valid_;
  const Interval<T> interval_;
  const double length_;
};

class NullEqualsAny : public Predicate {
 public:
  explicit NullEqualsAny(const AttributeColumn& column)
      : offsets_(column.offsets.data()), valid_(column.valid) {}
  Truth Test(int64_t begin, int count) const override {
    uint64_t filled = 0;
    for (int i = 0; i < count; ++i) {
      filled |= static_cast<uint64_t>(offsets_[begin + i] < offsets_[begin + i + 1]) << i;
    }
    return {0, LowBits(count) & ~(filled & ValidAt(valid_, begin, count))};
  }
  double Cost() const override { return kCostOfList; }

 private:
  const int64_t* const offsets_;
  const uint64_t* const valid_;
};

}  // namespace

PredicatePtr MakeConstant(bool yes, bool no) { return std::make_unique<Constant>(yes, no); }
PredicatePtr MakeNot(PredicatePtr child) { return std::make_unique<Not>(std::move(child)); }
PredicatePtr MakeAnd(std::vector<PredicatePtr> children) {
  return children.size() == 1 ? std::move(children[0]) : std::make_unique<And>(std::move(children));
}
PredicatePtr MakeOr(std::vector<PredicatePtr> children) {
  return children.size() == 1 ? std::move(children[0]) : std::make_unique<Or>(std::move(children));
}
PredicatePtr MakeIsUnknown(PredicatePtr child) { return std::make_unique<IsUnknown>(std::move(child)); }
PredicatePtr MakeIsNull(const AttributeColumn& column) { return std::make_unique<IsNull>(column.valid); }

template <typename T>
PredicatePtr MakeMatch(const AttributeColumn& column, const Interval<T>& interval) {
  if (column.type.is_list) return std::make_unique<MatchAny<T>>(column, interval);
  return std::make_unique<Match<T>>(column, interval);
}

template <typename T>
PredicatePtr MakeMember(const AttributeColumn& column, ValueSet set) {
  return std::make_unique<Member<T>>(column, std::move(set));
}

template PredicatePtr MakeMatch(const AttributeColumn&, const Interval<int64_t>&);
template PredicatePtr MakeMatch(const AttributeColumn&, const Interval<int32_t>&);
template PredicatePtr MakeMatch(const AttributeColumn&, const Interval<float>&);
template PredicatePtr MakeMatch(const AttributeColumn&, const Interval<uint8_t>&);
template PredicatePtr MakeMember<int64_t>(const AttributeColumn&, ValueSet);
template PredicatePtr MakeMember<int32_t>(const AttributeColumn&, ValueSet);
template PredicatePtr MakeMember<float>(const AttributeColumn&, ValueSet);

PredicatePtr MakeNullEqualsAny(const AttributeColumn& column) {
  return std::make_unique<NullEqualsAny>(column);
}

}  // namespace nann
