#!/bin/sh
# From a bare Debian 12 (or newer) to a recurrent network that has learned to write: installs what is
# missing, builds, shows that BPTT is backprop on the unrolled graph, trains on this project's sources.
#
#     examples/quickstart.sh             everything, in under three minutes on two cores
#     examples/quickstart.sh --short     the same on a small size, for continuous integration
set -eu
cd "$(dirname "$0")/.."

epochs=8 hidden=192 limit=1000000000
case ${1-} in
    "") ;;
    --short) epochs=1 hidden=48 limit=120000 ;;
    *) echo "usage: $0 [--short]" >&2; exit 2 ;;
esac

.ci/packages gcc libc6-dev make cmake libblis-dev libxxhash-dev libjansson-dev

build=build/quickstart
[ -f $build/CMakeCache.txt ] ||
    cmake -S . -B $build -DTAPELOOP_TESTS=OFF -DTAPELOOP_BENCH=OFF >/dev/null
cmake --build $build --parallel "$(nproc)" | grep -vE '^\[ *[0-9]+%\] (Building|Built|Generating|Creating)' || true
[ -x $build/examples/char_rnn ] || { echo "the build failed: cmake --build $build shows why" >&2; exit 1; }

echo
$build/examples/bptt_is_backprop
echo
$build/examples/char_rnn --threads "$(nproc)" --epochs $epochs --hidden $hidden --batch 16 --limit $limit \
    --temperature 0.6 --sample 400 --save $build/model.safetensors
