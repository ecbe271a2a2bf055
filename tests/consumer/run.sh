#!/usr/bin/env bash
# Builds a project of a user's and runs its program.
# usage: run.sh find_package|add_subdirectory|pkg_config cmake rlhf-build-folder rlhf-source-folder compiler generator components
set -euo pipefail
kind=$1 cmake=$2 build=$3 source=$4 compiler=$5 generator=$6 components=$7
here=$(cd "$(dirname "$0")" && pwd)

work=$build/tests/consumer/$kind.work
. "$(dirname "${BASH_SOURCE[0]}")/../support/work_folder.sh"
fresh_folder "$work"

if [[ $kind != add_subdirectory ]]; then
  "$cmake" --install "$build" --prefix "$work/first" >/dev/null
  mv "$work/first" "$work/prefix"  # an installation may be moved
fi

if [[ $kind == pkg_config ]]; then
  export PKG_CONFIG_PATH=$work/prefix/share/pkgconfig
  pkg-config --exists 'rlhf >= 0.1'
  read -ra flags < <(pkg-config --cflags rlhf)
  "$compiler" -std=c++20 "${flags[@]}" "$here/core.cpp" -o "$work/program"
  "$work/program"
  exit
fi

"$cmake" -S "$here/$kind" -B "$work/build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release --no-warn-unused-cli \
  -DCMAKE_PREFIX_PATH="$work/prefix" -DRLHF_SOURCE="$source" -DRLHF_EXPECTED_PREFIX="$work/prefix" -DCOMPONENTS="$components"
"$cmake" --build "$work/build" --parallel 1
for program in "$work"/build/program-*; do
  echo "running $(basename "$program")"
  "$program"
done
