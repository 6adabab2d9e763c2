/* clones.h - one binary for every x86-64: hot loops are compiled for AVX-512, AVX2 and the
 * baseline, and the loader picks. (internal)
 *
 * The levels are features, not processors: "haswell" would be taken by Intel's Haswell alone.
 *
 * Sanitizers instrument the code that picks before they are ready to run, so their builds
 * use the baseline. Elsewhere than on x86-64 the compiler's default is taken. */
#ifndef TL_CLONES_H
#define TL_CLONES_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                             \
    __has_feature(memory_sanitizer)
#define TL_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TL_SANITIZED 1
#endif

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(TL_SANITIZED)
#define TL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TL_CLONES
#endif

#endif
