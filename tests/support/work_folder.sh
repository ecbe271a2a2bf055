# A folder that a test may empty: one that is new or empty, or that a test made before. Whatever else is given, by mistake perhaps,
# holds somebody's files, and they stay.
#   . tests/support/work_folder.sh; fresh_folder FOLDER

fresh_folder() {
  local folder=$1 mark=made-by-a-test
  if [[ -d $folder && -n $(ls -A "$folder") && ! -e $folder/$mark ]]; then
    printf '%s: `%s` holds files that no test made: wants a folder that is new, empty or has a file %s\n' "$0" "$folder" "$mark" >&2
    exit 1
  fi
  rm -rf "$folder"
  mkdir -p "$folder"
  : >"$folder/$mark"
}
