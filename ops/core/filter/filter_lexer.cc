#include "filter_lexer.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace nann {
namespace {

constexpr absl::string_view kSymbols[] = {"<=", ">=", "<>", "!=", "==", "=", "<",
                                          ">",  "(",  ")",  ",",  "+",  "-"};
// Longer texts are cut in messages.
constexpr size_t kShownBytes = 40;

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

bool BeginsName(char c) {
  return absl::ascii_isalpha(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool ContinuesName(char c) { return BeginsName(c) || absl::ascii_isdigit(c); }

// At most kShownBytes bytes of `text`, whole characters.
std::string Shown(absl::string_view text) {
  if (text.size() <= kShownBytes) return std::string(text);
  size_t end = kShownBytes;
  while (end > 0 && IsContinuation(text[end])) --end;
  return absl::StrCat(text.substr(0, end), "...");
}

// The bytes of the UTF-8 character that begins with `first`, 0 where none does, and its smallest code point.
int LengthOf(unsigned char first, uint32_t* smallest) {
  *smallest = first < 0x80 ? 0 : first < 0xe0 ? 0x80 : first < 0xf0 ? 0x800 : 0x10000;
  return first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
}

}  // namespace

bool IsUtf8(absl::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    uint32_t smallest;
    const int length = LengthOf(static_cast<unsigned char>(bytes[i]), &smallest);
    if (length == 0 || bytes.size() - i < static_cast<size_t>(length)) return false;
    uint32_t point = static_cast<unsigned char>(bytes[i]) & (length == 1 ? 0x7f : 0x7f >> length);
    for (int k = 1; k < length; ++k) {
      if (!IsContinuation(bytes[i + k])) return false;
      point = point << 6 | (static_cast<unsigned char>(bytes[i + k]) & 0x3f);
    }
    const bool surrogate = point >= 0xd800 && point <= 0xdfff;
    if (point < smallest || point > 0x10ffff || surrogate) return false;
    i += length;
  }
  return true;
}

absl::Status FilterError(int column, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("filter, column ", column, ": ", message));
}

std::string ShownInMessage(absl::string_view text, char quote) {
  const std::string mark(1, quote);
  return absl::StrCat(mark, Shown(text), mark);
}

bool FilterToken::Is(absl::string_view keyword) const {
  return kind == Kind::kName && !quoted && absl::EqualsIgnoreCase(text, keyword);
}

std::string FilterToken::Found() const {
  switch (kind) {
    case Kind::kEnd:
      return "the end";
    case Kind::kName:
      return quoted ? ShownInMessage(text, '"') : Shown(text);
    case Kind::kString:
      return ShownInMessage(text, '\'');
    case Kind::kNumber:
    case Kind::kSymbol:
      return Shown(text);
  }
  return "";
}

absl::string_view FilterLexer::Take(size_t bytes) {
  const absl::string_view taken = text_.substr(at_, bytes);
  for (char c : taken) column_ += IsContinuation(c) ? 0 : 1;
  at_ += bytes;
  return taken;
}

absl::StatusOr<FilterToken> FilterLexer::Next() {
  while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) Take(1);
  FilterToken token;
  token.column = column_;
  if (at_ == text_.size()) return token;
  const char c = text_[at_];
  if (c == '\'' || c == '"') return Quoted(c, token);
  if (absl::ascii_isdigit(c) || (c == '.' && absl::ascii_isdigit(At(at_ + 1)))) return NumberToken(token);
  if (BeginsName(c)) {
    size_t end = at_;
    while (ContinuesName(At(end))) ++end;
    token.kind = FilterToken::Kind::kName;
    token.text = std::string(Take(end - at_));
    return token;
  }
  if (absl::StartsWith(text_.substr(at_), "--")) {
    return FilterError(column_, "expected no comment, found --; leave it out");
  }
  for (absl::string_view symbol : kSymbols) {
    if (!absl::StartsWith(text_.substr(at_), symbol)) continue;
    token.kind = FilterToken::Kind::kSymbol;
    token.text = std::string(Take(symbol.size()));
    return token;
  }
  return FilterError(column_, absl::StrCat("expected an attribute, a literal or an operator, found ",
                                           absl::ascii_isprint(c) ? std::string(1, c) : "a control character",
                                           "; docs/filters.md has the language"));
}

absl::StatusOr<FilterToken> FilterLexer::Quoted(char quote, FilterToken token) {
  token.kind = quote == '"' ? FilterToken::Kind::kName : FilterToken::Kind::kString;
  token.quoted = true;
  Take(1);
  while (true) {
    const size_t end = text_.find(quote, at_);
    if (end == absl::string_view::npos) {
      return FilterError(token.column,
                         absl::StrCat("expected a closing ", std::string(1, quote), ", found the end; write ",
                                      std::string(2, quote), " for the character itself"));
    }
    absl::StrAppend(&token.text, Take(end - at_));
    Take(1);
    if (At(at_) != quote) break;
    absl::StrAppend(&token.text, Take(1));  // Doubled: the character itself.
  }
  if (token.kind == FilterToken::Kind::kName && token.text.empty()) {
    return FilterError(token.column, "expected the name of an attribute between the quotes, found none");
  }
  return token;
}

absl::StatusOr<FilterToken> FilterLexer::NumberToken(FilterToken token) {
  size_t end = at_;
  const auto digits = [&] {
    while (absl::ascii_isdigit(At(end))) ++end;
  };
  digits();
  if (At(end) == '.') {
    ++end;
    digits();
  }
  if (At(end) == 'e' || At(end) == 'E') {
    ++end;
    if (At(end) == '+' || At(end) == '-') ++end;
    if (!absl::ascii_isdigit(At(end))) {
      return FilterError(token.column, "expected digits after the e of a number; 1e3 is a thousand");
    }
    digits();
  }
  if (ContinuesName(At(end)) || At(end) == '.') {
    return FilterError(token.column,
                       absl::StrCat("expected a number, found ", Shown(text_.substr(at_, end - at_)),
                                    " and more; put names that begin with a digit in double quotes"));
  }
  token.kind = FilterToken::Kind::kNumber;
  token.text = std::string(Take(end - at_));
  return token;
}

}  // namespace nann
