# Sourced by the scripts that call compilers. $1 of the script is the generated toolchain.sh (see tests/CMakeLists.txt), which
# sets source_dir, compilers, eigen_dirs, thrust_dirs, thrust_definitions, nvcc and march.

set -euo pipefail
export LC_ALL=C

warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror)

# system_includes dir...: -isystem flags, but never for /usr/include (which breaks the compilers' own include_next).
system_includes() {
  local dir
  for dir in "$@"; do
    [[ $dir == /usr/include ]] || printf '%s\n' -isystem "$dir"
  done
}

source "$1"
mapfile -t eigen_flags < <(system_includes "${eigen_dirs[@]}")
mapfile -t thrust_flags < <(system_includes "${thrust_dirs[@]}")
for definition in "${thrust_definitions[@]}"; do thrust_flags+=("-D$definition"); done
shift
