/* vmath.h - exp, tanh and sigmoid that a compiler can vectorise: no branches, no calls. (internal)
 *
 * f32: polynomials after Cephes (S. L. Moshier), range-reduced as in Cody and Waite, 1980;
 * largest error seen over the whole range: 2 ulp, see tests/test_kernels.c. f64: the platform's. */
#ifndef TL_VMATH_H
#define TL_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float tl_power_of_two_f32(int32_t n) /* -126 <= n <= 127 */
{
    int32_t bits = (int32_t)((uint32_t)(n + 127) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2. The power is applied in two halves,
 * so that results below the normal range come out as they should. */
static inline float tl_exp_f32(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x > 89.0f ? 89.0f : x;       /* NaN passes both */
    x = x < -104.0f ? -104.0f : x;
    float shifted = x * 1.44269504088896341f + magic;
    int32_t bits, magic_bits;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&magic_bits, &magic, sizeof magic_bits);
    int32_t n = bits - magic_bits;
    n = n > 128 ? 128 : n < -150 ? -150 : n; /* whatever NaN made of it */
    float rounded = shifted - magic;
    float r = (x - rounded * 0.693359375f) - rounded * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t half = n >> 1;
    return p * tl_power_of_two_f32(half) * tl_power_of_two_f32(n - half);
}

static inline float tl_sigmoid_f32(float x)
{
    return 1.0f / (1.0f + tl_exp_f32(-x));
}

static inline float tl_tanh_f32(float x)
{
    float magnitude = fabsf(x);
    float square = x * x;
    float p = -5.70498872745e-3f;
    p = p * square + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    float small = p * square * magnitude + magnitude;
    float capped = magnitude > 10.0f ? 10.0f : magnitude;
    float large = 1.0f - 2.0f / (tl_exp_f32(2.0f * capped) + 1.0f);
    return copysignf(magnitude < 0.625f ? small : large, x);
}

static inline float tl_log_f32(float x)
{
    return logf(x);
}

static inline double tl_log_f64(double x)
{
    return log(x);
}

static inline double tl_exp_f64(double x)
{
    return exp(x);
}

static inline double tl_sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline double tl_tanh_f64(double x)
{
    return tanh(x);
}

#endif
