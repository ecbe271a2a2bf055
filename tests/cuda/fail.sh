#!/usr/bin/env bash
# fail/*.cu: with -DMUST_FAIL nvcc refuses the file with the message on its first line; without it the file compiles, silently.
# usage: fail.sh toolchain.sh file.cu
source "$(dirname "$0")/../support/compilers.sh"
file=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { "$nvcc" -std=c++20 -arch=sm_90 --Werror all-warnings -I "$source_dir/include" "$@" -c "$file" -o "$work/out.o" 2>&1; }
expect=$(sed -n '1s|^// expect: ||p' "$file")
[[ -n $expect ]] || { echo "$file: the first line must be '// expect: regex'"; exit 1; }
if message=$(compile -DMUST_FAIL); then
  echo "$file compiles, but must not"
  exit 1
fi
if ! grep -Eq -- "$expect" <<<"$message"; then
  printf '%s: the message does not match "%s":\n%s\n' "$file" "$expect" "$(head -n 30 <<<"$message")"
  exit 1
fi
lines=$(wc -l <<<"$message")
if [[ $lines -gt 12 ]]; then
  printf '%s: %s lines are too long a message:\n%s\n' "$file" "$lines" "$(head -n 30 <<<"$message")"
  exit 1
fi
compile
