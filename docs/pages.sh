#!/usr/bin/env bash
# A page for each formula, docs/formulas/objective/NAME.md, and their index: made of the formula's docblock and code in
# include/rlhf, its rows in docs/features.md and tests/golden/COVERAGE.md, what its family's page in docs/formulas says of its
# gradient, limits and peers, and the numbers and figures that docs/plots.sh has computed (docs/formulas/objective/points.tsv).
# usage: pages.sh [--check] [root]     --check: write nothing, show what differs
#
# What gets a page: in objective/, advantage/, reward/, algorithm/ a struct with a docblock and a call operator, `reads` or a
# check(); and in any folder what docs/formulas/index.md names, if it has a docblock. What gets a figure: what is differentiated
# item by item; docs/formulas/objective/no-figure.txt names the exceptions. Those docblocks must have a formula and a source.
set -euo pipefail
export LC_ALL=C
check=
if [[ ${1:-} == --check ]]; then
  check=yes
  shift
fi
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
target=docs/formulas/objective
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

awk -v out="$made" '
# ---- text ----------------------------------------------------------------------------------------------------------------
function trim(s) { sub(/^[ \t\n]+/, "", s); sub(/[ \t\n]+$/, "", s); return s }
function last_of(path) { sub(/.*\//, "", path); return path }
function complain(what) { print what > "/dev/stderr"; wrong++ }

# Plain words of a docblock as Markdown: nothing is emphasised or a tag by accident, arXiv numbers are links.
function plain(s,   at, id, done) {
  gsub(/</, "\\&lt;", s)
  gsub(/\*/, "\\*", s)
  done = ""
  while (match(s, /arXiv [0-9][0-9][0-9][0-9]\.[0-9]+/)) {
    at = RSTART
    id = substr(s, at + 6, RLENGTH - 6)
    done = done substr(s, 1, at - 1) "[arXiv " id "](https://arxiv.org/abs/" id ")"
    s = substr(s, at + 6 + length(id))
  }
  return done s
}
# A docblock as Markdown: its \f$ formulas between $` and `$, its `code` as it stands.
function markdown(s,   m, c, e, done, inner) {
  done = ""
  while (s != "") {
    m = index(s, "\\f$")
    c = index(s, "`")
    if (m > 0 && (c == 0 || m < c)) {
      done = done plain(substr(s, 1, m - 1))
      s = substr(s, m + 3)
      e = index(s, "\\f$")
      if (e == 0) return done plain(s)
      inner = trim(substr(s, 1, e - 1))
      done = done "$`" inner "`$"
      s = substr(s, e + 3)
    } else if (c > 0) {
      e = index(substr(s, c + 1), "`")
      if (e == 0) return done plain(s)
      done = done plain(substr(s, 1, c - 1)) substr(s, c, e + 1)
      s = substr(s, c + e + 1)
    } else return done plain(s)
  }
  return done
}
function cell(s) { s = markdown(s); gsub(/\|/, "\\|", s); return s }

# Sentences of a flat text, into list; a full stop inside a formula or code ends none.
function sentences(s, list,   n, i, c, k, word) {
  n = 0
  k = ""
  while (s != "") {
    i = 1
    while (1) {
      c = substr(s, i, 1)
      if (c == "") break
      if (substr(s, i, 3) == "\\f$") { c = index(substr(s, i + 3), "\\f$"); i += c > 0 ? c + 5 : 3; continue }
      if (c == "`") { c = index(substr(s, i + 1), "`"); i += c > 0 ? c + 1 : 1; continue }
      if (c == "." && substr(s, i + 1, 2) ~ /^ [A-Z`\\]/ && !(substr(s, 1, i) ~ /( al|Dr|Am|Stat|Assoc| vs|[ (][A-Z])[.]$/ && substr(s, i + 2) !~ /^(Source|Catalogue|Gradient|Range|Ties|Statistics|Needs)/)) break
      i++
    }
    list[++n] = trim(substr(s, 1, i))
    s = trim(substr(s, i + 1))
  }
  return n
}
function slug(s) { s = tolower(s); gsub(/[^a-z0-9_ -]/, "", s); gsub(/ /, "-", s); return s }

# Links of a page of docs/formulas, seen from docs/formulas/objective.
function from_family(s, page,   done, at, t, e) {
  done = ""
  while ((at = index(s, "](")) > 0) {
    done = done substr(s, 1, at + 1)
    s = substr(s, at + 2)
    e = index(s, ")")
    t = substr(s, 1, e - 1)
    if (t ~ /^https?:/) done = done t
    else if (t ~ /^#/) done = done "../" page t
    else done = done "../" t
    s = substr(s, e)
  }
  return done s
}

# ---- reading -------------------------------------------------------------------------------------------------------------
FNR == 1 { doc = ""; hidden = 0; taking = ""; intro = ""; opening = 1; fence = 0; section = 0; item = ""; above = "" }

FILENAME ~ /features\.md$/ {
  if ($0 ~ /^\| / && $0 !~ /^\| id /) {
    n = split($0, part, / \| /)
    id = part[1]
    sub(/^\| /, "", id)
    what_of[id] = part[2]
    here = part[4]
    for (k = 4; k <= n; ++k) {
      here = part[k]
      while (match(here, /`[a-z_0-9]+`/)) {
        name = substr(here, RSTART + 1, RLENGTH - 2)
        if (index(" " rows_of[name] " ", " " id " ") == 0) rows_of[name] = rows_of[name] (rows_of[name] == "" ? "" : " ") id
        if (part[4] ~ ("^`" name "`") && match(part[4], /\(formulas\/[a-z-]+\.md#[a-z0-9-]+\)/))
          anchor_of[name] = anchor_of[name] " " substr(part[4], RSTART + 10, RLENGTH - 11)
        match(here, /`[a-z_0-9]+`/)
        here = substr(here, RSTART + RLENGTH)
      }
    }
  }
  next
}
FILENAME ~ /COVERAGE\.md$/ {
  if ($0 ~ /^\| [A-Za-z§]/ && $0 !~ /^\| Row /) {
    split($0, part, / \| /)
    id = part[1]
    sub(/^\| /, "", id)
    sub(/ \|$/, "", part[4])
    golden[id] = part[2] " | " part[3] " | " part[4]
  }
  next
}
FILENAME ~ /no-figure\.txt$/ {
  if ($0 !~ /^#/ && NF > 0) {
    name = $1
    sub(/^[^ ]+ +/, "")
    no_figure[name] = $0
  }
  next
}
FILENAME ~ /points\.tsv$/ {  # figure name, axis, labels of the slopes; point: name, curve, x, value, slopes
  split($0, part, "\t")
  if (part[1] == "figure") {
    figure_axis[part[2]] = part[3]
    figure_slopes[part[2]] = part[4]
  } else if (part[1] == "point") {
    line = "| " part[3] " | " part[4] " | " part[5]
    for (k = 6; k in part && k <= split($0, ignored, "\t"); ++k) line = line " | " part[k]
    points[part[2]] = points[part[2]] line " |\n"
  }
  next
}

# Pages of families: their sections, whole, and which page the index puts a name on.
FILENAME ~ /docs\/formulas\/[a-z-]+\.md$/ {
  page = last_of(FILENAME)
  if (page == "index.md") {
    if ($0 ~ /^\| / && $0 ~ /\]\([a-z-]+\.md\)/) {
      split($0, part, / \| /)
      group = part[1]
      gsub(/[|*]/, "", group)
      group = trim(group)
      if (group != "") this_group = group
      match($0, /\]\([a-z-]+\.md\)/)
      where = substr($0, RSTART + 2, RLENGTH - 3)
      if (!(where in group_of)) { group_of[where] = this_group; order[++families] = where }
      rest = part[3]
      while (match(rest, /`[a-z_0-9]+`/)) {
        name = substr(rest, RSTART + 1, RLENGTH - 2)
        if (!(name in page_of)) page_of[name] = where
        rest = substr(rest, RSTART + RLENGTH)
      }
    }
    next
  }
  if ($0 ~ /^One by one: /) next
  if ($0 ~ /^```/) fence = !fence
  if (!fence && $0 ~ /^# /) { title[page] = substr($0, 3); sections[page] = 1; heading[page, 1] = "" }
  else if (!fence && $0 ~ /^##+ /) { heading[page, ++sections[page]] = $0; sub(/^#+ /, "", heading[page, sections[page]]) }
  else text[page, sections[page]] = text[page, sections[page]] $0 "\n"
  next
}

# Headers. Items: fields with their meanings, of every struct that a formula may be called with.
{ source = FILENAME }
opening && /^\/\/( |$)/ { if (intro_of[source] != "" || $0 != "//") intro_of[source] = intro_of[source] substr($0, 4) "\n"; next }
opening && /^#include|^namespace/ { opening = 0 }
/^namespace [a-z_]*(_detail|_reads|step|field) \{/ { hidden = 1 }
/^}  \/\/ namespace/ { hidden = 0 }
taking != "" {
  body = body $0 "\n"
  if ($0 ~ /^}/) { finish(); taking = "" }
  next
}
/^\/\/\// { doc = doc substr($0, 5) "\n"; next }
/^template|^requires|^  requires/ { head = head $0 "\n"; next }
!hidden && /^enum class / {
  name = $3
  sub(/[ :{].*/, "", name)
  taking = "enum:" name
  body = (doc == "" ? "" : commented(doc)) $0 "\n"
  if ($0 ~ /};$/) { finish(); taking = "" }
  next
}
!hidden && /^struct [a-z_0-9]+/ {
  name = $2
  sub(/[<{;:].*/, "", name)
  taking = name
  body = head $0 "\n"
  if ($0 ~ /;$/ || $0 ~ /};$/) { finish(); taking = "" }
  next
}
!hidden && /^[a-zA-Z_\[].* [a-z_0-9]+\($|^[a-zA-Z_\[].* [a-z_0-9]+\([^;]*[,{]$|^[a-zA-Z_\[].* [a-z_0-9]+\([^;]*\) \{ .*\}$/ && !/^(struct|using|namespace|inline constexpr)/ {
  name = $0
  sub(/\(.*/, "", name)
  sub(/.* /, "", name)
  taking = "function:" name
  body = head $0 "\n"
  if ($0 ~ /\}$/) { finish(); taking = "" }
  next
}
{ doc = ""; head = "" }

function commented(d) { d = "/// " d; gsub(/\n/, "\n/// ", d); sub(/\/\/\/ $/, "", d); return d }
function finish(   name, kind) {
  kind = "struct"
  name = taking
  if (name ~ /^enum:/) {
    name = substr(name, 6)
    enum_code[source, name] = body
    enum_names[source] = enum_names[source] " " name
  } else {
    if (name ~ /^function:/) { kind = "function"; name = substr(name, 10) }
    if (doc != "" && !((name, "doc") in entry) && kind == "struct") fields_of(name, body)
    if (name in code && source_of[name] == source && kind_of[name] == "struct" && body ~ ("struct " name "<"))
      code[name] = code[name] "\n" body  # a specialisation
    else if (doc != "" && !(name in code)) {
      code[name] = body
      doc_of[name] = doc
      source_of[name] = source
      kind_of[name] = kind
      found[++count] = name
    }
  }
  doc = ""
  head = ""
}
# Members with their comments, for tables of what a formula reads and of its defaults.
function fields_of(name, body,   n, line, i, l, note, type, field, value, pending) {
  n = split(body, line, "\n")
  pending = ""
  for (i = 1; i <= n; ++i) {
    l = line[i]
    if (l ~ /^  \/\/\/ /) { pending = trim(pending " " substr(l, 7)); continue }
    if (l ~ /^ +[a-z_]+\{\};|^  [A-Za-z_]/ && l ~ /;/ && l !~ /^  (static|using|return|friend|template|typename|if|for|private|public|RLHF)/ && l !~ /^  [^=\/;{]*\(/) {
      note = pending
      if (match(l, /\/\/\/< /)) {
        note = substr(l, RSTART + 5)
        l = substr(l, 1, RSTART - 1)
        while (line[i + 1] ~ /^ +\/\/\/< /) { ++i; note = note " " substr(line[i], index(line[i], "///<") + 5) }
      }
      sub(/ +\/\/.*$/, "", l)
      sub(/;[ ]*$/, "", l)
      l = trim(l)
      value = ""
      if (match(l, / = /)) { value = substr(l, RSTART + 3); l = substr(l, 1, RSTART - 1) }
      else if (match(l, /\{[^{}]*\}$/)) { value = substr(l, RSTART); l = substr(l, 1, RSTART - 1) }
      field = l
      sub(/.* /, "", field)
      type = trim(substr(l, 1, length(l) - length(field)))
      if (type != "" && field ~ /^[a-z_0-9]+$/) {
        members[name] = members[name] (members[name] == "" ? "" : " ") field
        member_type[name, field] = type
        member_value[name, field] = value
        member_note[name, field] = note
      }
    }
    pending = ""
  }
}

# ---- what a formula says of itself -----------------------------------------------------------------------------------------
# Bounds that check() refuses, into want[member]; checks shared by several structs of a header are functions beside them.
function wants_of(text, want,   at, e, depth, c, call, n, piece) {
  gsub(/[ \n]+/, " ", text)
  while ((at = index(text, "remark::argument(")) > 0) {
    text = substr(text, at + 17)
    depth = 1
    for (e = 1; depth > 0 && e <= length(text); ++e) {
      c = substr(text, e, 1)
      if (c == "(") depth++
      if (c == ")") depth--
    }
    call = substr(text, 1, e - 2)
    n = split(call, piece, "\"")
    if (n >= 4) want[piece[n > 5 ? 4 : 2]] = piece[n - 1]
  }
}

function item_of(name, c,   kinds, n, k, i) {
  c = code[name]
  n = split("token pair score_pair value_item labelled_response", kinds, " ")
  for (i = 1; i <= n; ++i) if (c ~ ("operator\\(\\)\\(const " kinds[i] "<V>&")) return kinds[i]
  return ""
}
function other_item(name,   list, n, i) {
  n = split("reward_step mismatch response_token selection_token loss_survey aggregation_counts", list, " ")
  for (i = 1; i <= n; ++i) if (code[name] ~ ("const " list[i] "(<V>|<[A-Za-z]+>)?&")) return list[i]
  return ""
}
function uses(name, field,   c) {
  c = code[name]
  if (c ~ ("[.]" field "[^a-z_(]")) return 1
  if (match(c, /unsigned reads =[^;]*;/) && substr(c, RSTART, RLENGTH) ~ ("::" field "[^a-z_]")) return 1
  return 0
}
function row(field, given, kind, note) { return "| `" field "` | " given " | " kind " | " cell(note) " |\n" }
function reading(name,   kind, c, t, n, f, i, has, type, given, reads) {
  kind = item_of(name)
  c = code[name]
  t = ""
  if (kind == "") {
    kind = other_item(name)
    if (kind == "") return ""
    n = split(members[kind], f, " ")
    for (i = 1; i <= n; ++i)
      if (uses(name, f[i]) || kind == "aggregation_counts" && c ~ (f[i])) t = t "| `" f[i] "` | " cell(member_note[kind, f[i]]) " |\n"
    if (t == "") return ""
    return "From `" kind "`:\n\n| field | meaning |\n|---|---|\n" t
  }
  reads = ""
  if (match(c, /unsigned reads =[^;]*;/)) reads = substr(c, RSTART, RLENGTH)
  gsub(/_detail::/, "", reads)
  n = split(members[kind == "pair" ? "response" : kind], f, " ")
  for (i = 1; i <= n; ++i) {
    has = uses(name, f[i])
    if (f[i] == "logp" && c ~ /log_ratio|average_logp|ratio\(|[.]score\(/) has = 1
    if (f[i] == "ref_logp" && (c ~ /[.]log_ratio\(|log_ratio_margin/ || reads ~ /references/)) has = 1
    if (f[i] == "length" && (c ~ /divisor\(|average_logp/ || reads ~ /lengths/)) has = 1
    if (f[i] == "label" && c ~ /desirable\(/) has = 1
    if (f[i] == "old_logp" && c ~ /weighted_detail::ratio|unclipped/) has = 1
    if (f[i] == "reward" && reads ~ /rewards|_reward/) has = 1
    if (f[i] == "previous_logp" && reads ~ /previous/) has = 1
    if (!has) continue
    type = member_type[kind == "pair" ? "response" : kind, f[i]]
    given = "`" f[i] "`"
    if (kind == "pair") {
      given = f[i] == "logp" ? "`chosen`, `rejected`" : f[i] == "length" ? "`chosen_length`, `rejected_length`" : \
              f[i] == "reward" ? "`chosen_reward`, `rejected_reward`" : f[i] == "ref_logp" ? "`ref_chosen`, `ref_rejected`" : \
              "`previous_chosen`, `previous_rejected`"
    }
    t = t row(f[i], given, type == "V" ? "differentiable" : "constant", member_note[kind == "pair" ? "response" : kind, f[i]])
  }
  if (kind == "pair" && (c ~ /[pi][.]margin[^_a-z(]/ || reads ~ /pair_margin/))
    t = t row("margin", "`margin`", "constant", member_note["pair", "margin"])
  if (t == "") return ""
  return "Of " item_words[kind] ":\n\n| field | given as | in the loss | meaning |\n|---|---|---|---|\n" t
}
function defaults(name,   want, n, m, i, t, header, v) {
  header = whole[source_of[name]]
  delete_all(want)
  wants_of(code[name], want)
  # A check that a header shares.
  while (match(header, /constexpr status check_[a-z_]+\(/)) {
    v = substr(header, RSTART + 17, RLENGTH - 18)
    header = substr(header, RSTART + RLENGTH)
    if (index(code[name], v "(") > 0) wants_of(substr(header, 1, index(header, "\n}")), want)
  }
  n = split(members[name], m, " ")
  t = ""
  for (i = 1; i <= n; ++i) {
    v = member_value[name, m[i]]
    if (v == "{}" && member_type[name, m[i]] ~ /double|int/) v = "0"
    if (member_note[name, m[i]] == "" && member_type[name, m[i]] ~ /^[A-Z][A-Za-z]*$/)
      member_note[name, m[i]] = "any " (member_type[name, m[i]] ~ /First|Second|Value|Gradient|Objective|Formula/ ? "formula of the kind" : tolower(member_type[name, m[i]]))
    t = t "| `" m[i] "` | `" member_type[name, m[i]] "` | " (v == "" ? "–" : "`" v "`") " | " \
        (m[i] in want ? cell(want[m[i]]) : "") " | " cell(member_note[name, m[i]]) " |\n"
  }
  if (t == "") return ""
  return "| member | type | default | must be | meaning |\n|---|---|---|---|---|\n" t
}
function delete_all(list,   k) { for (k in list) delete list[k] }

# ---- what the page of its family says ----------------------------------------------------------------------------------------
function mention(name, s) { return s ~ ("[`{]" name "[`{<(]") }
function heads(name, s,   n, l, i) {  # is it what a section is about?
  n = split(s, l, "\n")
  for (i = 1; i <= n; ++i) if (l[i] ~ /^`[a-z_]+[`{].*(features? \[|· header|· golden|` in \[)/ && mention(name, l[i])) return 1
  return 0
}
function tabled(name, s,   n, l, i, c) {
  n = split(s, l, "\n")
  for (i = 1; i <= n; ++i) {
    if (l[i] !~ /^\| `/) continue
    c = substr(l[i], 3)
    sub(/ \| .*/, "", c)
    if (mention(name, c)) return 1
  }
  return 0
}
function place(name,   pages, n, i, p, s, pass) {
  n = 0
  if (name in page_of) pages[++n] = page_of[name]
  else for (i = 1; i <= families; ++i) pages[++n] = order[i]
  for (pass = 1; pass <= 4; ++pass)
    for (i = 1; i <= n; ++i) {
      p = pages[i]
      for (s = 1; s <= sections[p]; ++s)
        if (pass == 1 ? heads(name, text[p, s]) : pass == 2 ? index(anchor_of[name] " ", " " p "#" slug(heading[p, s]) " ") > 0 : \
            pass == 3 ? tabled(name, text[p, s]) : mention(name, text[p, s])) {
          family[name] = p
          part_of[name] = s
          return 1
        }
    }
  for (i = 1; i <= n; ++i)  # not by name: then where its header is linked
    for (s = 1; s <= sections[pages[i]]; ++s)
      if (index(text[pages[i], s], "(../../" source_of[name] ")") > 0) {
        family[name] = pages[i]
        part_of[name] = s
        return 1
      }
  if (!(name in page_of)) return 0
  family[name] = page_of[name]
  part_of[name] = 1
  return 1
}
# What follows a word in bold, up to the next such word or the end of the paragraph.
function bold(s, words,   out_text, n, para, i, at, p, rest, k) {
  out_text = ""
  gsub(/\n<!-- snippet[^\n]*\n/, "\n\n", s)
  n = split(s, para, /\n\n+/)
  for (i = 1; i <= n; ++i) {
    p = para[i]
    if (p ~ /^```/ ) continue
    if (!match(p, "[*][*](" words ")[.]?[*][*]")) continue
    rest = substr(p, RSTART + RLENGTH)
    if (match(rest, /\*\*(Gradients?|Ranges?|Ties|Limits?|Bounds|Statistics?|Defaults?|Peers|Sources?|Golden|Targets|Huber)[.]?\*\*/)) rest = substr(rest, 1, RSTART - 1)
    out_text = out_text (out_text == "" ? "" : "\n\n") trim(rest)
  }
  return out_text
}
# The table of symbols of a section.
function symbols_in(s,   n, l, i, t) {
  n = split(s, l, "\n")
  for (i = 1; i <= n; ++i)
    if (l[i] ~ /^\| symbol /) {
      for (t = ""; l[i] ~ /^\|/; ++i) t = t l[i] "\n"
      return t
    }
  return ""
}
function upper(s) { return toupper(substr(s, 1, 1)) substr(s, 2) }
# Rows of the tables of a section that are about it, where the head of the table says that they tell of the slope.
function slopes_in(name, s,   n, l, i, top, c, t, open) {
  n = split(s, l, "\n")
  t = ""
  top = ""
  for (i = 1; i <= n; ++i) {
    if (l[i] !~ /^\|/) { top = ""; open = 0; continue }
    if (top == "") { top = l[i]; ++i; top = top "\n" l[i]; continue }
    c = substr(l[i], 3)
    sub(/ \| .*/, "", c)
    if (mention(name, c) && top ~ /partial|gradient|slope/) {
      if (!open) t = t (t == "" ? "" : "\n") top "\n"
      open = 1
      t = t l[i] "\n"
    }
  }
  return t
}

# ---- a page ------------------------------------------------------------------------------------------------------------------
function put(heading_text, s) { if (trim(s) != "") print "## " heading_text "\n\n" trim(s) "\n" > file }
function displayed(s, least,   all, m, e, inner) {  # formulas of a docblock that are worth a line of their own
  all = ""
  while ((m = index(s, "\\f$")) > 0) {
    s = substr(s, m + 3)
    e = index(s, "\\f$")
    if (e == 0) break
    inner = trim(substr(s, 1, e - 1))
    if (length(inner) > least && (least == 0 || inner ~ /[=+^-]|\\log|\\max|\\min|\\sum|\\frac|\\exp/)) all = all "```math\n" inner "\n```\n\n"
    s = substr(s, e + 3)
  }
  return all
}
function write_page(name,   paragraphs, np, i, ns, list, k, s, what, src, peer, numerics, slope, stats, flat, ids, n, id, sect, p, g, line, row_text, header, t, e, raw, symbols) {
  file = out "/" name ".md"
  p = family[name]
  sect = text[p, part_of[name]]
  raw = what = src = peer = numerics = slope = stats = ""
  np = split(doc_of[name], paragraphs, /\n *\n/)
  flat = doc_of[name]
  gsub(/[ \n]+/, " ", flat)
  ids = rows_of[name]
  for (i = 1; i <= np; ++i) {
    s = paragraphs[i]
    gsub(/[ \n]+/, " ", s)
    s = trim(s)
    line = ""
    delete_all(list)
    ns = sentences(s, list)
    for (k = 1; k <= ns; ++k) {
      s = list[k]
      if (match(s, /[;,.]? ?[Cc]atalogue .*/)) {
        e = substr(s, RSTART, RLENGTH)
        s = trim(substr(s, 1, RSTART - 1))
        if (s != "" && s !~ /[.]$/) s = s "."
      }
      if (s == "" || s == ".") continue
      if (i == 1 && k == 1 && s !~ /^Source/) line = s
      else if (s ~ /^Sources?:[. ]*$/) continue
      else if (s ~ /^Sources?:/) { sub(/^Sources?: */, "", s); src = src (src == "" ? "" : " ") s }
      else if (s ~ /^(Gradients?|Slopes?|Derivatives?)[ :]/) slope = slope (slope == "" ? "" : " ") s
      else if (s ~ /^(Statistics?|`clip_fraction)/) stats = stats (stats == "" ? "" : " ") s
      else if (s !~ /^`/ && (" " s " ") ~ /[^A-Za-z](TRL|verl|OpenRLHF|HALOs|ROLL|NeMo|SkyRL|AReaL|slime|prime-rl|ms-swift|Liger|open-instruct|trlX|LLaMA-Factory|TorchRL|oat|program)[^A-Za-z]/)
        peer = peer (peer == "" ? "" : " ") s
      else if (s ~ /Range|range|[Ff]inite|[Oo]verflow|Ties|[Aa]t a tie|kink|NaN|infinit|rounding|cancel|never negative|below 0|0 where/)
        numerics = numerics (numerics == "" ? "" : " ") s
      else line = line (line == "" ? "" : " ") s
    }
    raw = raw " " line
    if (line != "") what = what (what == "" ? "" : "\n\n") markdown(line)
  }
  if (trim(src) == "" && flat ~ /arXiv/) {
    delete_all(list)
    ns = sentences(flat, list)
    for (k = 1; k <= ns; ++k) if (list[k] ~ /arXiv/) src = src (src == "" ? "" : " ") list[k]
    sub(/[;,.]? ?[Cc]atalogue .*/, "", src)
    src = trim(src)
  }
  e = bold(sect, "Sources?")
  header = source_of[name]

  print "<!-- Made by docs/pages.sh from " header ": change that, or the page of the family. -->\n" > file
  print "# `" name "`\n" > file
  print upper(what) "\n" > file
  print "Family: [" title[p] "](../" p (heading[p, part_of[name]] == "" ? "" : "#" slug(heading[p, part_of[name]])) ") · header" > file
  print "[`" substr(header, index(header, "rlhf/") + 5) "`](../../../" header ") · [all formulas](index.md)\n" > file

  t = displayed(raw, 9)
  if (t == "") t = displayed(raw, 0)
  if (t == "") {
    n = split(sect, list, "\n")
    for (k = 1; k <= n; ++k)
      if (list[k] == "```math" && heads(name, sect)) { while (list[k] != "```") { t = t list[k] "\n"; ++k }; t = t "```\n\n" }
  }
  symbols = symbols_in(sect)
  for (k = 1; symbols == "" && k <= sections[p]; ++k) if (heading[p, k] ~ /share/) symbols = symbols_in(text[p, k])
  s = trim(intro_of[header])
  np = split(s, paragraphs, /\n\n+/)
  s = ""
  for (i = 2; i <= np; ++i) {
    if (paragraphs[i] ~ /[^ ]   +[^ ]|(^|\n)  [^ ]/) { s = s "\n\n```text\n" paragraphs[i] "\n```"; continue }
    gsub(/\n/, " ", paragraphs[i])
    s = s "\n\n" markdown(trim(paragraphs[i]))
  }
  put("Formula", t (s != "" ? "Of its header:" (trim(s) ~ /^```/ ? "\n\n" : " ") : "") trim(s))

  if (symbols != "") put("Symbols of the family", from_family(symbols, p))

  # Of an algorithm the head of its file tells.
  if (src == "" && header ~ /\/algorithm\//) {
    np = split(intro_of[header], paragraphs, /\n\n+/)
    for (i = 1; i <= np; ++i) {
      if (paragraphs[i] ~ /(^|\n)  [^ ]/) continue
      gsub(/[ \n]+/, " ", paragraphs[i])
      delete_all(list)
      ns = sentences(paragraphs[i], list)
      for (k = 1; k <= ns; ++k) if (list[k] ~ /arXiv/) src = src (src == "" ? "" : " ") list[k]
    }
  }
  s = markdown(src)
  if (s == "" && e != "") s = from_family(e, p)
  put("Source", upper(s))
  put("What it reads", reading(name))
  put("Members", defaults(name))

  g = markdown(slope)
  e = ""
  if (heads(name, sect) || part_of[name] == 1) e = bold(sect, "Gradients?")
  if (e != "" && (heads(name, sect) || !tabled(name, sect))) g = g (g == "" ? "" : "\n\n") (heads(name, sect) ? "" : "Of the family: ") upper(from_family(e, p))
  t = ""
  for (k = 1; k <= sections[p]; ++k) {
    s = slopes_in(name, text[p, k])
    t = t (t == "" || s == "" ? "" : "\n") s
  }
  if (t != "") g = g (g == "" ? "" : "\n\n") from_family(t, p)
  if (name in figure_axis) {
    g = g (g == "" ? "" : "\n\n") "![value and slope](plots/" name ".svg)\n\nComputed by the struct itself" (figure_slopes[name] == "" ? "" : ", the slopes with dual numbers") ":\n\n"
    n = split(figure_slopes[name], list, ";")
    g = g "| | " figure_axis[name] " | value"
    for (k = 1; k <= n; ++k) g = g " | " list[k]
    g = g " |\n|---|---|---"
    for (k = 1; k <= n; ++k) g = g "|---"
    g = g "|\n" points[name]
  }
  put(name in figure_axis && figure_slopes[name] == "" ? "Values" : "Gradient", g)

  s = markdown(numerics)
  e = bold(sect, "Ranges?|Ties|Limits?|Bounds")
  if (e != "") s = s (s == "" ? "" : "\n\n") (heads(name, sect) ? "" : "Of its family: ") upper(from_family(e, p))
  put("Numerical behaviour", s)
  s = markdown(stats)
  e = bold(sect, "Statistics?")
  if (s == "" && e != "" && code[name] ~ /statistics_names/) s = upper(from_family(e, p))
  if (s == "" && match(code[name], /statistics_names\[\] = \{[^}]*\}/)) {
    s = substr(code[name], RSTART + 22, RLENGTH - 23)
    gsub(/[ \n]+/, " ", s)
    gsub(/"/, "`", s)
    s = "Its own: " s "."
  }
  put("Statistics", s)

  t = ""
  n = split(enum_names[header], list, " ")
  for (k = 1; k <= n; ++k)
    if (code[name] ~ ("[^a-z_:]" list[k] "[ :]")) t = t enum_code[header, list[k]] "\n"
  put("Code", "```cpp\n" t code[name] "```")

  n = split(ids, list, " ")
  row_text = ""
  for (k = 1; k <= n; ++k) {
    id = list[k]
    row_text = row_text "| " id " | " what_of[id] " | " (id in golden ? golden[id] : "– | – | –") " |\n"
  }
  if (row_text != "")
    put("Held to", "Rows of the [feature table](../../features.md) and their [golden vectors](../../../tests/golden/README.md); what stands " \
        "behind each number is in\n[COVERAGE.md](../../../tests/golden/COVERAGE.md).\n\n| row | what | vectors | cases | obtained |\n|---|---|---|---|---|\n" row_text)

  s = markdown(peer)
  e = bold(sect, "Peers")
  if (e != "") s = s (s == "" ? "" : "\n\n") (heads(name, sect) || sections[p] == 1 && !tabled(name, sect) ? "" : "Of its family: ") from_family(e, p)
  put("What its peers do differently", s)
  close(file)
}

END {
  item_words["token"] = "a token"
  item_words["pair"] = "each response of a pair"
  item_words["score_pair"] = "a pair of scores"
  item_words["value_item"] = "a value"
  item_words["labelled_response"] = "a response"
  # The headers once more, whole: for checks that several structs share.
  for (i = 1; i <= count; ++i) {
    source = source_of[found[i]]
    if (source in whole) continue
    while ((getline line < source) > 0) whole[source] = whole[source] line "\n"
    close(source)
  }
  pages = 0
  for (i = 1; i <= count; ++i) {
    name = found[i]
    formula = source_of[name] ~ /rlhf\/(objective|advantage|reward|algorithm)\// && kind_of[name] == "struct" && \
              code[name] ~ /operator\(\)|unsigned reads|status check\(\) const/
    if (!formula && !(name in page_of)) continue
    if (!place(name)) { complain("docs/formulas: no page tells of `" name "` (" source_of[name] ")"); continue }
    write_page(name)
    has_page[name] = 1
    in_family[family[name]] = in_family[family[name]] " " name
    ++pages
    if (item_of(name) != "") {
      if (name in figure_axis && name in no_figure) complain("docs/formulas/objective/no-figure.txt: " name " has a figure")
      if (doc_of[name] !~ /\\f\$/ && source_of[name] !~ /algorithm/) complain(source_of[name] ": the docblock of " name " has no formula")
      if (doc_of[name] !~ /Source|arXiv|catalogue|Catalogue/ && source_of[name] !~ /algorithm/) complain(source_of[name] ": the docblock of " name " has no source")
      if (!(name in figure_axis) && !(name in no_figure)) complain("rlhf-plots draws no figure of " name ": add a line to examples/plots")
    }
  }
  for (name in no_figure) if (!(name in has_page) || item_of(name) == "") complain("docs/formulas/objective/no-figure.txt: " name " needs no figure")
  for (name in figure_axis) if (!(name in has_page)) complain("rlhf-plots draws " name ", which has no page")
  file = out "/index.md"
  print "<!-- Made by docs/pages.sh. -->\n\n# Formulas, one by one\n" > file
  print "A page for each struct and driver that is a formula, made from its docblock and code: formula, source, what it reads, members with their\nbounds, gradient with numbers and a figure computed by the struct itself, golden vectors, what peers do differently. The\n[pages of the families](../index.md) introduce them. " pages " pages; `./dev docs` makes them anew.\n" > file
  last = ""
  for (i = 1; i <= families; ++i) {
    p = order[i]
    if (in_family[p] == "") continue
    if (group_of[p] != last) { print (last == "" ? "" : "\n") "## " upper(group_of[p]) "\n\n| family | formulas |\n|---|---|" > file; last = group_of[p] }
    n = split(in_family[p], list, " ")
    line = ""
    for (k = 1; k <= n; ++k) line = line (k == 1 ? "" : ", ") "[`" list[k] "`](" list[k] ".md)"
    print "| [" title[p] "](../" p ") | " line " |" > file
    gsub(/\]\(/, "](objective/", line)
    print p "\tOne by one: " line "." > (out "/families.tsv")
  }
  close(file)
  print pages " pages"
  exit wrong > 0
}' docs/features.md tests/golden/COVERAGE.md $target/no-figure.txt $target/points.tsv docs/formulas/*.md include/rlhf/math/fields.hpp \
  include/rlhf/{objective,advantage,reward,algorithm,driver,train}/*.hpp || wrong=yes

# Each family's page names the pages of its formulas below its title.
sed 's/\t/\n/' "$made/families.tsv" >"$made/lines"
rm "$made/families.tsv"
while read -r page && read -r line; do
  awk -v line="$line" '/^One by one: / { skip = 1; next } skip { skip = 0; if ($0 == "") next } { print }
    /^# / && !done { print "\n" line; done = 1 }' "docs/formulas/$page" >"$made/page"
  cmp -s "$made/page" "docs/formulas/$page" && continue
  if [[ $check ]]; then
    diff -u "docs/formulas/$page" "$made/page" || wrong=yes
  else
    cp "$made/page" "docs/formulas/$page"
  fi
done <"$made/lines"
rm -f "$made/lines" "$made/page"

if [[ $check ]]; then
  cp -r "$target"/{points.tsv,no-figure.txt,plots} "$made"
  diff -ru "$target" "$made" | head -n 200 || true
  diff -rq "$target" "$made" >/dev/null || { echo "docs/formulas/objective is not what docs/pages.sh makes: run ./dev docs"; wrong=yes; }
else
  rm -f "$target"/*.md
  cp "$made"/*.md "$target"
fi
[[ -z ${wrong:-} ]]
