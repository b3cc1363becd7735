// The words of a filter.
#ifndef NANN_OPS_CORE_FILTER_FILTER_LEXER_H_
#define NANN_OPS_CORE_FILTER_FILTER_LEXER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace nann {

struct FilterToken {
  enum class Kind { kEnd, kName, kString, kNumber, kSymbol };

  Kind kind = Kind::kEnd;
  bool quoted = false;  // A name in double quotes, which is no keyword.
  int column = 1;       // Of its first character, counted in characters from 1.
  // A name or a string without its quotes; a number without sign; a symbol as it is written.
  std::string text;

  // Whether it is this keyword, in upper case here and in any case there.
  bool Is(absl::string_view keyword) const;
  // For messages: what was found.
  std::string Found() const;
};

// The error of a filter at a column of its text.
absl::Status FilterError(int column, absl::string_view message);

// A quoted text for messages, cut where it is long.
std::string ShownInMessage(absl::string_view text, char quote);

// Whether `bytes` are UTF-8: messages quote the text, and clients take nothing else.
bool IsUtf8(absl::string_view bytes);

// Cuts a text into tokens, one at a time. The text must outlive the lexer.
class FilterLexer {
 public:
  explicit FilterLexer(absl::string_view text) : text_(text) {}

  // The next token; kEnd at the end, again and again. InvalidArgument for an unclosed quote or a character
  // that begins no token.
  absl::StatusOr<FilterToken> Next();

 private:
  absl::StatusOr<FilterToken> Quoted(char quote, FilterToken token);
  absl::StatusOr<FilterToken> NumberToken(FilterToken token);
  char At(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  // Moves behind `bytes` more bytes.
  absl::string_view Take(size_t bytes);

  absl::string_view text_;
  size_t at_ = 0;
  int column_ = 1;
};

}  // namespace nann

#endif  // NANN_OPS_CORE_FILTER_FILTER_LEXER_H_
