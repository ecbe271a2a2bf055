// PTX text to decoded kernels: what nvcc 13 writes for this library, no more; anything else is refused by name.

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>
#include <set>

#include "program.hpp"

namespace ptx {
namespace {

constexpr auto npos = std::string_view::npos;

[[nodiscard]] bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }
[[nodiscard]] std::string_view trimmed(std::string_view s) {
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
  return s;
}
[[nodiscard]] bool in_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
}
[[nodiscard]] std::vector<std::string_view> split(std::string_view s, char by) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= s.size(); ++i) {
    if (i < s.size() && (s[i] == '{' || s[i] == '[' || s[i] == '(')) ++depth;
    if (i < s.size() && (s[i] == '}' || s[i] == ']' || s[i] == ')')) --depth;
    if (i == s.size() || (s[i] == by && depth == 0)) {
      if (const auto part = trimmed(s.substr(begin, i - begin)); !part.empty()) parts.push_back(part);
      begin = i + 1;
    }
  }
  return parts;
}
[[noreturn]] void refuse(const std::string& what, std::string_view text) {
  throw fault("ptx: " + what + ": " + std::string(trimmed(text).substr(0, 200)));
}
/// Comments become blanks, so that places in the text stay.
void blank_comments(std::string& s) {
  for (std::size_t i = 0; i + 1 < s.size(); ++i)
    if (s[i] == '/' && s[i + 1] == '/')
      for (; i < s.size() && s[i] != '\n'; ++i) s[i] = ' ';
    else if (s[i] == '/' && s[i + 1] == '*') {
      const std::size_t end = std::min(s.find("*/", i), s.size() - 2);
      for (; i < end + 2; ++i) s[i] = ' ';
    }
}
[[nodiscard]] std::size_t closing(std::string_view s, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < s.size(); ++i) {
    if (s[i] == '{') ++depth;
    if (s[i] == '}' && --depth == 0) return i;
  }
  refuse("a brace that nothing closes", s.substr(open));
}
[[nodiscard]] std::int64_t to_number(std::string_view s) {
  const bool minus = starts(s, "-");
  if (minus) s.remove_prefix(1);
  const bool hex = starts(s, "0x");
  if (hex) s.remove_prefix(2);
  word value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, hex ? 16 : 10);
  if (error != std::errc() || (end != s.data() + s.size() && *end != 'U')) refuse("no number", s);
  return static_cast<std::int64_t>(minus ? ~value + 1 : value);
}
[[nodiscard]] std::size_t bytes_of(std::string_view type) {
  if (type == "pred") return 1;
  const std::size_t digit = type.find_first_of("0123456789");
  if (digit == npos) refuse("an unknown type", type);
  return static_cast<std::size_t>(to_number(type.substr(digit))) / 8;
}

/// `.shared .align 8 .b8 name[248]`: any number of directives, a type, a name, perhaps a size.
struct declaration {
  std::string name;
  std::size_t bytes = 0, alignment = 1;
};
[[nodiscard]] declaration declared(std::string_view text) {
  declaration d;
  if (const std::size_t value = text.find('='); value != npos) refuse("a variable with a value", text);
  std::string flat(text);
  for (const char c : {'\t', '\n'}) std::replace(flat.begin(), flat.end(), c, ' ');
  const auto words = split(flat, ' ');
  std::size_t element = 1;
  for (std::size_t i = 0; i + 1 < words.size(); ++i)
    if (words[i] == ".align")
      d.alignment = static_cast<std::size_t>(to_number(words[++i]));
    else if (words[i].find_first_of("0123456789") != npos && words[i][0] == '.')
      element = bytes_of(words[i].substr(1));
  const std::string_view last = words.back();
  const std::size_t open = last.find('[');
  d.name = last.substr(0, open);
  d.alignment = std::max(d.alignment, element);
  d.bytes = element;
  if (open != npos) {
    const std::string_view count = last.substr(open + 1, last.find(']') - open - 1);
    d.bytes = count.empty() ? 0 : element * static_cast<std::size_t>(to_number(count));
  }
  return d;
}
[[nodiscard]] std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

const std::map<std::string_view, slot>& special_registers() {
  static const std::map<std::string_view, slot> all = {
      {"%tid.x", tid_x},     {"%tid.y", tid_y},       {"%tid.z", tid_z},       {"%ntid.x", ntid_x},
      {"%ntid.y", ntid_y},   {"%ntid.z", ntid_z},     {"%ctaid.x", ctaid_x},   {"%ctaid.y", ctaid_y},
      {"%ctaid.z", ctaid_z}, {"%nctaid.x", nctaid_x}, {"%nctaid.y", nctaid_y}, {"%nctaid.z", nctaid_z},
      {"%laneid", lane_id},  {"WARP_SZ", warp_size}};
  return all;
}

/// What the routines of a kernel share.
struct unit {
  kernel& all;
  module& from;
  std::map<std::string, word> shared;  ///< addresses of variables in shared memory
  std::map<std::string, std::size_t> routines;

  word place_shared(const declaration& d) {
    const auto [found, fresh] = shared.try_emplace(d.name, 0);
    if (fresh) {
      all.shared_bytes = round_up(all.shared_bytes, d.alignment);
      found->second = shared_begin + all.shared_bytes;
      all.shared_bytes += d.bytes;
    }
    return found->second;
  }
  /// Where a routine stands; decoded if it is the first call of it.
  std::size_t routine_of(const std::string& name);
};

/// The text of one routine: `(results) name (parameters) { ... }`, without the name.
class decoder {
 public:
  explicit decoder(unit& u, std::string name) : unit_(u), scopes_(1) { routine_.name = std::move(name); }

  [[nodiscard]] routine run(std::string_view results, std::string_view parameters, std::string_view text) {
    declare_parameters(parameters, routine_.parameters);
    declare_parameters(results, routine_.results);
    body(text);
    return std::move(routine_);
  }

 private:
  void declare_parameters(std::string_view list, std::vector<parameter>& into) {
    for (const auto text : split(list, ',')) into.push_back(declare_parameter(text));
  }
  parameter declare_parameter(std::string_view text) {
    const declaration d = declared(text);
    routine_.parameter_bytes = round_up(routine_.parameter_bytes, d.alignment);
    const parameter p{routine_.parameter_bytes, d.bytes};
    scopes_.back()[d.name] = constant(parameter_begin + p.offset);
    offsets_[d.name] = p.offset;
    routine_.parameter_bytes += d.bytes;
    return p;
  }
  void body(std::string_view text) {
    // Labels first: branches go forward too.
    for (std::size_t i = 0; i < text.size();) {
      const char c = text[i];
      if (std::isspace(static_cast<unsigned char>(c)) || c == ';') {
        ++i;
      } else if (c == '{') {
        scopes_.emplace_back();
        ++i;
      } else if (c == '}') {
        scopes_.pop_back();
        ++i;
      } else {
        std::size_t end = i;
        while (end < text.size() && in_name(text[end])) ++end;
        if (end < text.size() && text[end] == ':') {
          labels_[std::string(text.substr(i, end - i))] = static_cast<std::uint32_t>(routine_.code.size());
          i = end + 1;
          continue;
        }
        end = text.find(';', i);
        if (end == npos) refuse("a statement without its end", text.substr(i));
        statement(trimmed(text.substr(i, end - i)));
        i = end + 1;
      }
    }
    instruction last;
    last.what = effect::leave;
    routine_.code.push_back(last);
    routine_.executed.resize(routine_.code.size());
    for (const auto& [at, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) refuse("a label that is nowhere", label);
      routine_.code[at].target = found->second;
    }
  }

  void statement(std::string_view text) {
    if (text[0] != '.') return operation(text);
    if (starts(text, ".reg")) return declare_registers(trimmed(text.substr(4)));
    if (starts(text, ".pragma")) return;
    if (starts(text, ".shared")) return static_cast<void>(unit_.place_shared(declared(text)));
    if (starts(text, ".param")) return static_cast<void>(declare_parameter(text));
    if (starts(text, ".local")) {
      const declaration d = declared(text);
      routine_.local_bytes = round_up(routine_.local_bytes, d.alignment);
      routine_.local_addresses.emplace_back(routine_.slots, local_begin + routine_.local_bytes);
      scopes_.back()[d.name] = routine_.slots++;
      routine_.local_bytes += d.bytes;
      return;
    }
    refuse("an unknown directive", text);
  }
  void declare_registers(std::string_view text) {
    const std::size_t blank = text.find_first_of(" \t");
    for (std::string_view name : split(text.substr(blank), ',')) {
      const std::size_t open = name.find('<');
      if (open == npos) {
        scopes_.back()[std::string(name)] = routine_.slots++;
        continue;
      }
      const auto count = to_number(name.substr(open + 1, name.find('>') - open - 1));
      for (std::int64_t i = 0; i < count; ++i)
        scopes_.back()[std::string(name.substr(0, open)) + std::to_string(i)] = routine_.slots++;
    }
  }

  slot constant(word value) {
    const auto [found, fresh] = constants_.try_emplace(value, routine_.slots);
    if (fresh) routine_.constants.emplace_back(routine_.slots++, value);
    return found->second;
  }
  /// The slot of a register, a number or the address of a variable.
  slot operand(std::string_view name) {
    if (name == "_") return sink_ == 0 ? sink_ = routine_.slots++ : sink_;
    if (const auto found = special_registers().find(name); found != special_registers().end()) return found->second;
    if (std::isdigit(static_cast<unsigned char>(name[0])) || name[0] == '-') {
      if (starts(name, "0f") || starts(name, "0F") || starts(name, "0d") || starts(name, "0D"))
        return constant(static_cast<word>(to_number("0x" + std::string(name.substr(2)))));
      return constant(static_cast<word>(to_number(name)));
    }
    const std::string key(name);
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(key); found != scope->end()) return found->second;
    if (const auto found = unit_.shared.find(key); found != unit_.shared.end()) return constant(found->second);
    if (const auto found = unit_.from.shared().find(key); found != unit_.from.shared().end())
      return constant(unit_.place_shared({key, found->second.bytes, found->second.alignment}));
    if (const auto found = unit_.from.variables().find(key); found != unit_.from.variables().end())
      return constant(found->second.address);
    refuse("an unknown name", name);
  }
  template <std::size_t N>
  void add(slot (&list)[N], std::uint8_t& count, std::string_view text) {
    for (const auto name : text[0] == '{' ? split(text.substr(1, text.size() - 2), ',') : split(text, '|')) {
      if (count == N) refuse("too many operands", text);
      list[count++] = operand(name);
    }
  }
  void address(instruction& i, std::string_view text) {
    if (text.size() < 2 || text[0] != '[') refuse("no address", text);
    text = trimmed(text.substr(1, text.size() - 2));
    const std::size_t plus = text.find('+');
    i.address = operand(trimmed(text.substr(0, plus)));
    if (plus != npos) i.offset = to_number(trimmed(text.substr(plus + 1)));
  }

  void operation(std::string_view text) {
    instruction i;
    i.text = text;
    std::string_view rest = text;
    if (rest[0] == '@') {
      rest.remove_prefix(1);
      i.guarded = true;
      if (rest[0] == '!') i.guard_negated = true, rest.remove_prefix(1);
      const std::size_t blank = rest.find_first_of(" \t");
      i.guard = operand(rest.substr(0, blank));
      rest = trimmed(rest.substr(blank));
    }
    const std::size_t blank = std::min(rest.find_first_of(" \t\n"), rest.size());
    const std::string opcode(rest.substr(0, blank));
    const auto operands = split(rest.substr(blank), ',');
    const auto parts = split(opcode, '.');
    i.opcode = &*opcodes().insert(opcode).first;
    const auto said = [&](std::string_view word) {
      return std::find(parts.begin() + 1, parts.end(), word) != parts.end();
    };
    const std::string_view name = parts[0];

    if (name == "ld" || name == "st") {
      i.what = name == "ld" ? effect::load : effect::store;
      i.where = said("global")   ? space::global
                : said("shared") ? space::shared
                : said("local")  ? space::local
                : said("param")  ? space::parameter
                                 : space::generic;
      i.synchronises = said("volatile") || said("relaxed") || said("acquire") || said("release");
      i.elements = said("v4") ? 4 : said("v2") ? 2 : 1;
      i.bytes = static_cast<std::uint8_t>(bytes_of(parts.back()));
      i.is_signed = parts.back()[0] == 's';
      address(i, operands[i.what == effect::load ? 1 : 0]);
      if (i.what == effect::load)
        add(i.to, i.tos, operands[0]);
      else
        add(i.from, i.froms, operands[1]);
    } else if (name == "bra") {
      i.what = effect::branch;
      branches_.emplace_back(routine_.code.size(), std::string(operands[0]));
    } else if (name == "ret" || name == "exit") {
      i.what = effect::leave;
    } else if (name == "call") {
      i.what = effect::call;
      i.target = static_cast<std::uint32_t>(routine_.calls.size());
      routine_.calls.push_back(call_of(operands));
    } else if ((name == "bar" || name == "barrier") && said("warp")) {
      i.what = effect::warp_barrier;
      add(i.from, i.froms, operands[0]);
    } else if (name == "bar" || name == "barrier") {
      if (operands.size() != 1 || operands[0] != "0") refuse("a barrier of a part of the block", text);
      i.what = effect::block_barrier;
    } else if (name == "shfl") {
      i.what = effect::shuffle;
      i.mode = static_cast<std::uint8_t>(said("up")     ? shuffle_mode::up
                                         : said("down") ? shuffle_mode::down
                                         : said("bfly") ? shuffle_mode::butterfly
                                                        : shuffle_mode::index);
      results_and_operands(i, operands);
    } else if (name == "vote") {
      i.what = effect::vote;
      i.mode = static_cast<std::uint8_t>(said("all")   ? vote_mode::all
                                         : said("any") ? vote_mode::any
                                         : said("uni") ? vote_mode::uniform
                                                       : vote_mode::ballot);
      results_and_operands(i, operands);
    } else if (name == "activemask") {
      i.what = effect::active_mask;
      results_and_operands(i, operands);
    } else if (name == "griddepcontrol" || name == "fence" || name == "membar") {
      i.what = effect::nothing;  // kernels run one after the other, and what they write is seen at once
    } else {
      i.what = effect::compute;
      i.compute = find_computation(opcode);
      if (i.compute == nullptr) refuse("an instruction that the machine does not know", text);
      results_and_operands(i, operands);
    }
    routine_.code.push_back(i);
  }
  void results_and_operands(instruction& i, const std::vector<std::string_view>& operands) {
    if (operands.empty()) return;
    add(i.to, i.tos, operands[0]);
    for (std::size_t k = 1; k < operands.size(); ++k) add(i.from, i.froms, operands[k]);
  }
  /// `(result), function, (arguments)`, each list where there is one.
  routine::call call_of(const std::vector<std::string_view>& operands) {
    routine::call c;
    bool named = false;
    for (const std::string_view operand : operands) {
      if (operand[0] != '(') {
        named = true;
        c.callee = unit_.routine_of(std::string(operand));
        continue;
      }
      for (const auto name : split(operand.substr(1, operand.size() - 2), ','))
        (named ? c.arguments : c.results).push_back(offsets_.find(name)->second);
    }
    return c;
  }
  /// One copy of each opcode for the program's life.
  static std::set<std::string>& opcodes() {
    static std::set<std::string> all;
    return all;
  }

  unit& unit_;
  routine routine_;
  std::vector<std::map<std::string, slot, std::less<>>> scopes_;
  std::map<std::string, std::size_t, std::less<>>
      offsets_;  ///< of parameters, the routine's own and those it passes on
  std::map<word, slot> constants_;
  std::map<std::string, std::uint32_t> labels_;
  std::vector<std::pair<std::size_t, std::string>> branches_;
  slot sink_ = 0;
};

std::size_t unit::routine_of(const std::string& name) {
  if (const auto found = routines.find(name); found != routines.end()) return found->second;
  const std::string_view* const body = from.body(name);
  if (body == nullptr) refuse("a call of what is not there", name);
  std::string_view text = trimmed(*body), results;
  if (starts(text, "(")) {
    results = text.substr(1, text.find(')') - 1);
    text = text.substr(text.find(')') + 1);
  }
  const std::size_t open = text.find('('), close = text.find(')'), begin = text.find('{');
  const std::size_t place = routines[name] = all.routines.size();
  all.routines.emplace_back();
  all.routines[place] =
      decoder(*this, name)
          .run(results, text.substr(open + 1, close - open - 1), text.substr(begin + 1, text.size() - begin - 2));
  return place;
}

}  // namespace

module::module(std::string text) :text_(std::move(text)) {
  blank_comments(text_);
  const std::string_view all = text_;
  for (std::size_t i = 0; i < all.size();) {
    const std::size_t end = std::min(all.find_first_of(";\n{", i), all.size());
    const std::string_view line = trimmed(all.substr(i, end - i));
    const bool entry = line.find(".entry") != npos;
    if (entry || line.find(".func") != npos) {
      const std::size_t from = i + all.substr(i).find(entry ? ".entry" : ".func") + (entry ? 6 : 5);
      const std::size_t body = all.find_first_of(";{", from);
      if (all[body] == ';') {  // declared, to be defined below or nowhere
        i = body + 1;
        continue;
      }
      const std::size_t last = closing(all, body);
      const std::string_view whole = all.substr(from, last + 1 - from);
      const std::size_t behind = starts(trimmed(whole), "(") ? whole.find(')') + 1 : 0;  // a function's result
      const std::string_view rest = trimmed(whole.substr(behind));
      bodies_[std::string(rest.substr(0, rest.find_first_of(" \t\n(")))] = whole;
      i = last + 1;
    } else {
      const std::size_t stop = std::min(all.find(';', i), all.size());
      const std::string_view whole = trimmed(all.substr(i, stop - i));
      const bool global = starts(line, ".global") || starts(line, ".visible .global") || starts(line, ".const");
      const bool shared = starts(line, ".shared") || starts(line, ".extern .shared");
      // Those with values are left out, and refused by name where a kernel asks for them.
      if ((global || shared) && whole.find('=') == npos) {
        const declaration d = declared(whole);
        if (global)
          globals_[d.name] = {d.bytes, 0};
        else
          shared_[d.name] = {d.bytes, d.alignment};
      }
      i = (global || shared ? stop : end) + 1;
    }
  }
}

const kernel& module::get(const std::string& name) {
  if (const auto done = decoded_.find(name); done != decoded_.end()) return done->second;
  kernel k;
  k.name = name;
  const std::string_view text = bodies_.at(name);
  if (const std::size_t most = text.find(".maxntid"); most < text.find('{')) {
    k.most_threads = 1;
    const std::string_view line = text.substr(most + 8, text.find_first_of("\n{", most) - most - 8);
    for (const auto number : split(line, ',')) k.most_threads *= to_number(number);
  }
  unit u{k, *this, {}, {}};
  static_cast<void>(u.routine_of(name));
  return decoded_[name] = std::move(k);
}

}  // namespace ptx
