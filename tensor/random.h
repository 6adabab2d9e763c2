/* random.h - counter-based random numbers (Philox4x32-10: Salmon et al., "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011).
 *
 * Number i of a stream is a function of (seed, stream, i) and of nothing else: the same
 * seed gives the same numbers in any order and with any number of threads. */
#ifndef TL_RANDOM_H
#define TL_RANDOM_H

#include "tensor.h"

/* The generator itself: a block of four random words for each counter and key. */
TL_API void tl_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]);

typedef struct tl_random {
    uint64_t seed;
    uint64_t next; /* how many blocks of four 32-bit words were drawn; may be saved and restored */
} tl_random;

TL_API tl_random tl_random_seed(uint64_t seed);
/* A generator whose numbers have nothing to do with the parent's, chosen by `index`. */
TL_API tl_random tl_random_split(const tl_random *parent, uint64_t index);

TL_API uint32_t tl_random_u32(tl_random *random);
TL_API double tl_random_unit(tl_random *random);                  /* [0, 1) with 53 bits */
TL_API int64_t tl_random_below(tl_random *random, int64_t bound); /* 0..bound-1, unbiased; bound >= 1 */

/* Fill a tensor of any layout; element i of the row-major order gets number i. f32 and f64
 * tensors get the same numbers up to rounding. TL_ERR_DTYPE for other dtypes, except that
 * Bernoulli also fills u8. TL_ERR_ARGUMENT for a probability outside [0, 1]. Uniform numbers
 * lie in [low, high); the rounding (to f32, above all) may lift one to `high`. */
TL_API tl_status tl_random_uniform(tl_random *random, tl_tensor *tensor, double low, double high);
TL_API tl_status tl_random_normal(tl_random *random, tl_tensor *tensor, double mean, double deviation);
TL_API tl_status tl_random_bernoulli(tl_random *random, tl_tensor *tensor, double probability);
/* i64 tensor of one dimension: 0..n-1 in random order. */
TL_API tl_status tl_random_permutation(tl_random *random, tl_tensor *tensor);

#endif
