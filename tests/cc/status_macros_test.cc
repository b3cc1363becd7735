#include "ops/core/base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace nann {
namespace {

using Owned = std::unique_ptr<std::string>;

absl::StatusOr<Owned> Make(const char* value) {
  if (value == nullptr) return absl::NotFoundError("no value");
  return std::make_unique<std::string>(value);
}

absl::Status Check(const char* value) {
  return value == nullptr ? absl::InvalidArgumentError("no value to check") : absl::OkStatus();
}

// Both macros twice, in a function that returns a value which cannot be copied.
absl::StatusOr<Owned> Join(const char* left, const char* right) {
  NANN_RETURN_IF_ERROR(Check(left));
  NANN_ASSIGN_OR_RETURN(const Owned first, Make(left));
  Owned second;
  NANN_ASSIGN_OR_RETURN(second, Make(right));
  NANN_RETURN_IF_ERROR(Check(right));
  return std::make_unique<std::string>(*first + *second);
}

TEST(StatusMacrosTest, ValuesAreMovedToNewAndToExistingVariables) {
  const absl::StatusOr<Owned> joined = Join("a", "b");
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(**joined, "ab");
}

TEST(StatusMacrosTest, AnErrorLeavesTheFunctionWithCodeAndMessage) {
  EXPECT_EQ(Join(nullptr, "b").status(), absl::InvalidArgumentError("no value to check"));
  EXPECT_EQ(Join("a", nullptr).status(), absl::NotFoundError("no value"));
}

TEST(StatusMacrosTest, ReturnIfErrorIsOneStatementAndEvaluatesOnce) {
  int evaluated = 0;
  const auto run = [&evaluated](bool check) -> absl::Status {
    if (check)
      NANN_RETURN_IF_ERROR(Check(++evaluated == 1 ? "first" : nullptr));
    else
      ++evaluated;
    return absl::OkStatus();
  };
  EXPECT_TRUE(run(true).ok());
  EXPECT_EQ(evaluated, 1);
  EXPECT_TRUE(run(false).ok());
  EXPECT_EQ(evaluated, 2);
  EXPECT_FALSE(run(true).ok());
}

TEST(StatusMacrosTest, AssignOrReturnEvaluatesOnce) {
  int evaluated = 0;
  const auto run = [&evaluated]() -> absl::Status {
    NANN_ASSIGN_OR_RETURN(const Owned value, Make(++evaluated == 1 ? "value" : nullptr));
    return absl::AbortedError(*value);
  };
  EXPECT_EQ(run(), absl::AbortedError("value"));
  EXPECT_EQ(evaluated, 1);
}

}  // namespace
}  // namespace nann
