#!/bin/sh
# Takes the first C program out of README.md, compiles it against the library as it was built, runs it,
# and compares what it prints with the README's block after it.
#     readme.sh README.md COMPILER INCLUDE_DIR LIBRARY_DIR [FLAGS]
set -eu
readme=$1 compiler=$2 include=$3 library=$4 flags=${5-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk '/^```c$/ && !done {on=1; next} /^```$/ && on {on=0; done=1} on' "$readme" >"$work/readme.c"
awk '/^```c$/ {seen=1} /^```text$/ && seen && !done {on=1; next} /^```$/ && on {on=0; done=1} on' "$readme" \
    >"$work/expected"
[ -s "$work/readme.c" ] || { echo "README.md has no C program"; exit 1; }
[ -s "$work/expected" ] || { echo "README.md does not show what its program prints"; exit 1; }
# shellcheck disable=SC2086
"$compiler" -std=c11 -Wall -Wextra -Werror $flags -I"$include" "$work/readme.c" -o "$work/readme" \
    -L"$library" -ltapeloop -lm -Wl,-rpath,"$library"
"$work/readme" >"$work/printed"
diff -u "$work/expected" "$work/printed"
