#include "tensor/random.h"

#include <math.h>

/* ---- the generator ---------------------------------------------------------------------- */

/* One round: each half is multiplied, and the products' high words cross over to the other half. */
static void philox_round(uint32_t x[4], const uint32_t key[2])
{
    uint64_t even = (uint64_t)0xD2511F53 * x[0];
    uint64_t odd = (uint64_t)0xCD9E8D57 * x[2];
    uint32_t crossed[2] = {(uint32_t)(odd >> 32) ^ x[1] ^ key[0],
                           (uint32_t)(even >> 32) ^ x[3] ^ key[1]};
    x[0] = crossed[0];
    x[1] = (uint32_t)odd;
    x[2] = crossed[1];
    x[3] = (uint32_t)even;
}

void tl_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4])
{
    enum { ROUNDS = 10 };
    uint32_t x[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k[2] = {key[0], key[1]};
    for (int round = 0; round < ROUNDS; round++) {
        philox_round(x, k);
        k[0] += 0x9E3779B9; /* the golden ratio */
        k[1] += 0xBB67AE85; /* the square root of 3, minus 1 */
    }
    for (int i = 0; i < 4; i++)
        words[i] = x[i];
}

/* What a block is drawn for: the third word of its counter. Draws and the seeds of split
 * generators can then never be the same block. */
enum { FOR_DRAWS, FOR_SEEDS };

typedef struct block {
    uint32_t words[4];
} block;

static block block_at(uint64_t seed, uint64_t position, uint32_t purpose)
{
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), purpose, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    block drawn;
    tl_philox4x32(counter, key, drawn.words);
    return drawn;
}

static uint64_t half(const block *drawn, int which)
{
    return (uint64_t)drawn->words[2 * which + 1] << 32 | drawn->words[2 * which];
}

static double unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

static block next_block(tl_random *random)
{
    return block_at(random->seed, random->next++, FOR_DRAWS);
}

tl_random tl_random_seed(uint64_t seed)
{
    return (tl_random){.seed = seed};
}

tl_random tl_random_split(const tl_random *parent, uint64_t index)
{
    block seed = block_at(parent->seed, index, FOR_SEEDS);
    return tl_random_seed(half(&seed, 0));
}

/* ---- single numbers, a block each ------------------------------------------------------- */

uint32_t tl_random_u32(tl_random *random)
{
    return next_block(random).words[0];
}

static uint64_t next_u64(tl_random *random)
{
    block drawn = next_block(random);
    return half(&drawn, 0);
}

double tl_random_unit(tl_random *random)
{
    return unit(next_u64(random));
}

int64_t tl_random_below(tl_random *random, int64_t bound)
{
    uint64_t n = (uint64_t)bound;
    uint64_t surplus = (UINT64_MAX - n + 1) % n; /* 2^64 mod n: so many would be drawn too often */
    uint64_t drawn;
    do
        drawn = next_u64(random);
    while (drawn < surplus);
    return (int64_t)(drawn % n);
}

/* ---- fills: a block makes two numbers --------------------------------------------------- */

typedef struct pair {
    double first, second;
} pair;

/* Two numbers of a distribution with parameters `a` and `b` out of two in [0, 1). */
typedef pair distribution(double u, double v, double a, double b);

static pair uniform(double u, double v, double low, double high)
{
    return (pair){low + (high - low) * u, low + (high - low) * v};
}

/* Box and Muller, "A note on the generation of random normal deviates", 1958. The logarithm is
 * of 1 - u, which is never 0. */
static pair normal(double u, double v, double mean, double deviation)
{
    const double two_pi = 6.283185307179586476925;
    double radius = deviation * sqrt(-2 * log(1 - u));
    return (pair){mean + radius * cos(two_pi * v), mean + radius * sin(two_pi * v)};
}

static pair bernoulli(double u, double v, double probability, double unused)
{
    (void)unused;
    return (pair){u < probability, v < probability};
}

static void fill(tl_random *random, tl_tensor *tensor, distribution *draw, double a, double b)
{
    int64_t count = tensor->layout.count;
    for (int64_t i = 0; i < count; i += 2) {
        block drawn = next_block(random);
        pair numbers = draw(unit(half(&drawn, 0)), unit(half(&drawn, 1)), a, b);
        tl_tensor_set(tensor, i, numbers.first);
        if (i + 1 < count)
            tl_tensor_set(tensor, i + 1, numbers.second);
    }
}

tl_status tl_random_uniform(tl_random *random, tl_tensor *tensor, double low, double high)
{
    if (!tl_dtype_is_real(tensor->dtype))
        return TL_ERR_DTYPE;
    fill(random, tensor, uniform, low, high);
    return TL_OK;
}

tl_status tl_random_normal(tl_random *random, tl_tensor *tensor, double mean, double deviation)
{
    if (!tl_dtype_is_real(tensor->dtype))
        return TL_ERR_DTYPE;
    fill(random, tensor, normal, mean, deviation);
    return TL_OK;
}

tl_status tl_random_bernoulli(tl_random *random, tl_tensor *tensor, double probability)
{
    if (!tl_dtype_is_real(tensor->dtype) && tensor->dtype != TL_U8)
        return TL_ERR_DTYPE;
    if (!(probability >= 0 && probability <= 1)) /* NaN too */
        return TL_ERR_ARGUMENT;
    fill(random, tensor, bernoulli, probability, 0);
    return TL_OK;
}

/* Fisher and Yates, as Durstenfeld put it: element i changes places with one of 0..i. */
tl_status tl_random_permutation(tl_random *random, tl_tensor *tensor)
{
    if (tensor->dtype != TL_I64)
        return TL_ERR_DTYPE;
    if (tensor->layout.ndim != 1)
        return TL_ERR_SHAPE;
    int64_t *element = tensor->data, stride = tensor->layout.stride[0];
    for (int64_t i = 0; i < tensor->layout.shape[0]; i++) {
        int64_t j = tl_random_below(random, i + 1);
        element[i * stride] = element[j * stride];
        element[j * stride] = i;
    }
    tl_tensor_touch(tensor);
    return TL_OK;
}
