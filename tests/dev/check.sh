#!/usr/bin/env bash
# ./dev: exit codes, and what it says where a package is missing (with stand-ins for the system's programs).
# usage: check.sh source-folder
set -uo pipefail
dev=$1/dev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() {  # exit code, text that must appear, command...
  local code=$1 text=$2 output verdict=0
  shift 2
  output=$(cd "$work" && "$@" 2>&1) || verdict=$?
  if [[ $verdict -ne $code || $output != *"$text"* ]]; then
    printf '%s\n  wants exit code %s and "%s", got %s and\n%s\n' "$*" "$code" "$text" "$verdict" "$output"
    failures=$((failures + 1))
  fi
}

expect 0 'usage: ./dev' "$dev"
expect 0 'usage: ./dev' "$dev" help
expect 1 'unknown command: nonsense' "$dev" nonsense
mkdir "$work/precious"
expect 1 'is no build folder of ours' env BUILD_DIR="$work/precious" "$dev" clean

# A machine without Debian's tools and with a compiler that finds no header.
mkdir "$work/bin"
for program in bash env awk dirname nproc cmake; do ln -s "$(command -v $program)" "$work/bin/$program"; done
printf '#!/bin/sh\nexit 1\n' >"$work/bin/g++"
chmod +x "$work/bin/g++"
expect 1 'libeigen3-dev: Eigen 3.4, https://eigen.tuxfamily.org' env -u CXX PATH="$work/bin" "$dev" test
expect 1 'ninja-build: Ninja, https://ninja-build.org' env -u CXX PATH="$work/bin" "$dev" bench

# A machine without a device, and one without Python.
expect 1 'gpu needs python3' env PATH="$work/bin" "$dev" gpu
if command -v python3 >/dev/null; then
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$(python3 -c 'import sys; print(sys.executable)')" >"$work/bin/python3"
  chmod +x "$work/bin/python3"
  for step in "" build check bench; do expect 2 'there is no CUDA device here' env PATH="$work/bin" "$dev" gpu $step; done
  expect 2 'invalid choice' env PATH="$work/bin" "$dev" gpu nonsense
fi

# A Debian where one package is missing, and then one where apt-get cannot help.
printf '#!/usr/bin/env bash\n[[ "${@: -1}" == ninja-build ]] || echo installed\n' >"$work/bin/dpkg-query"
printf '#!/usr/bin/env bash\necho "apt-get $*"\n[[ $1 == update ]]\n' >"$work/bin/apt-get"
printf '#!/usr/bin/env bash\necho "as root:"\nexec "$@"\n' >"$work/bin/sudo"
chmod +x "$work/bin/"{dpkg-query,apt-get,sudo}
expect 1 'dev: installing Debian packages: ninja-build' env PATH="$work/bin" "$dev" bench
expect 1 'install -y -qq --no-install-recommends ninja-build' env PATH="$work/bin" "$dev" bench
expect 1 'apt-get could not install ninja-build' env PATH="$work/bin" "$dev" bench

echo "$failures failures"
[[ $failures -eq 0 ]]
