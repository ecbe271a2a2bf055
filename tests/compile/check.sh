#!/usr/bin/env bash
# One file that must compile, or must not.
# usage: check.sh toolchain.sh pass|fail file.cpp
#
# pass: the file compiles without a warning, on every compiler found.
# fail: the first line is `// expect: regex` (extended regular expression). With -DMUST_FAIL the file does not compile and the
#       message matches. Without it (when the file names MUST_FAIL at all) the file compiles, which shows that
#       the lines under `#ifdef MUST_FAIL`, and nothing else, are what the compilers refuse.
source "$(dirname "$0")/../support/compilers.sh"
kind=$1 file=$2

compile() {  # compiler flag...: the message on standard output
  local compiler=$1
  shift
  "$compiler" -std=c++20 -fsyntax-only "${warnings[@]}" -Wno-unused-{parameter,variable,function} "$@" -I "$source_dir/include" "${eigen_flags[@]}" "$file" 2>&1
}

good() {
  local message
  message=$(compile "$@") || { printf '%s does not compile with %s:\n%s\n' "$file" "$*" "$(head -n 30 <<<"$message")"; exit 1; }
}

for compiler in "${compilers[@]}"; do
  if [[ $kind == pass ]]; then
    good "$compiler"
    continue
  fi
  expect=$(sed -n '1s|^// expect: ||p' "$file")
  [[ -n $expect ]] || { echo "$file: the first line must be '// expect: regex'"; exit 1; }
  if message=$(compile "$compiler" -DMUST_FAIL); then
    echo "$file compiles with $compiler, but must not"
    exit 1
  fi
  if ! grep -Eq -- "$expect" <<<"$message"; then
    printf '%s: the message of %s does not match "%s":\n%s\n' "$file" "$compiler" "$expect" "$(head -n 30 <<<"$message")"
    exit 1
  fi
  if grep -q MUST_FAIL "$file"; then good "$compiler"; fi
done
