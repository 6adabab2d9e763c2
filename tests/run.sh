#!/bin/sh
# Installs what the tests need, builds with AddressSanitizer and UndefinedBehaviorSanitizer, runs them;
# then once more as released, because the AVX2 and AVX-512 code is only in that build.
set -eu
cd "$(dirname "$0")/.."

.ci/packages gcc libc6-dev make cmake libblis-dev libxxhash-dev libjansson-dev libcmocka-dev

for preset in asan release; do
    echo "== $preset"
    cmake --preset $preset >build-$preset.log 2>&1 || { cat build-$preset.log; exit 1; }
    cmake --build --preset $preset --parallel "$(nproc)" >build-$preset.log 2>&1 || { cat build-$preset.log; exit 1; }
    if grep -n 'warning:' build-$preset.log; then
        echo "the build has warnings"
        exit 1
    fi
    rm -f build-$preset.log
    ctest --preset $preset --parallel "$(nproc)"
done
