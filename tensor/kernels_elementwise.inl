/* kernels_elementwise.inl - included by kernels_elementwise.c once for each real type.
 *
 * y[i] = f(x[0][i], x[1][i], ...). A function that a kernel applies, M(exp) for example, is
 * tl_exp_f32 or tl_exp_f64 of vmath.h. */

KERNEL(neg)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = -a[i];
}

KERNEL(add)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

KERNEL(sub)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] - b[i];
}

KERNEL(mul)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * b[i];
}

KERNEL(div)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] / b[i];
}

KERNEL(affine) /* scale a + shift */
{
    const real *a = x[0], scale = (real)scalar[0], shift = (real)scalar[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = scale * a[i] + shift;
}

KERNEL(lerp) /* a + w (b - a) */
{
    const real *a = x[0], *b = x[1], *w = x[2];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + w[i] * (b[i] - a[i]);
}

KERNEL(addcmul) /* a + value b c */
{
    const real *a = x[0], *b = x[1], *c = x[2], value = (real)scalar[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + value * b[i] * c[i];
}

KERNEL(exp)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = M(exp)(a[i]);
}

KERNEL(log)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = M(log)(a[i]);
}

KERNEL(square)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * a[i];
}

KERNEL(relu)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] < 0 ? 0 : a[i];
}

KERNEL(relu_grad)
{
    const real *dy = x[0], *a = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] <= 0 ? 0 : dy[i];
}

KERNEL(tanh)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = M(tanh)(a[i]);
}

KERNEL(tanh_grad)
{
    const real *dy = x[0], *tanh = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = dy[i] * (1 - tanh[i] * tanh[i]);
}

KERNEL(sigmoid)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = M(sigmoid)(a[i]);
}

KERNEL(sigmoid_grad)
{
    const real *dy = x[0], *s = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = dy[i] * (s[i] * (1 - s[i]));
}

KERNEL(abs)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = F(fabs)(a[i]);
}

KERNEL(sign)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] != a[i] ? a[i] : (real)((a[i] > 0) - (a[i] < 0));
}

KERNEL(reciprocal)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = 1 / a[i];
}

KERNEL(sqrt)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = F(sqrt)(a[i]);
}

KERNEL(rsqrt)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = 1 / F(sqrt)(a[i]);
}

KERNEL(expm1)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(expm1)(a[i]);
}

KERNEL(log1p)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(log1p)(a[i]);
}

KERNEL(log2)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(log2)(a[i]);
}

KERNEL(sin)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(sin)(a[i]);
}

KERNEL(cos)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(cos)(a[i]);
}

KERNEL(tan)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(tan)(a[i]);
}

KERNEL(atan)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(atan)(a[i]);
}

KERNEL(sinh)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(sinh)(a[i]);
}

KERNEL(cosh)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(cosh)(a[i]);
}

KERNEL(erf)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(erf)(a[i]);
}

KERNEL(floor)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(floor)(a[i]);
}

KERNEL(ceil)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(ceil)(a[i]);
}

KERNEL(round)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(rint)(a[i]);
}

KERNEL(step)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = (real)(a[i] > 0);
}

KERNEL(softplus)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] > 0 ? a[i] + F(log1p)(F(exp)(-a[i])) : F(log1p)(F(exp)(a[i]));
}

KERNEL(logsigmoid)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] < 0 ? a[i] - F(log1p)(F(exp)(a[i])) : -F(log1p)(F(exp)(-a[i]));
}

KERNEL(silu)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * M(sigmoid)(a[i]);
}

KERNEL(mish)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * M(tanh)(a[i] > 0 ? a[i] + F(log1p)(F(exp)(-a[i])) : F(log1p)(F(exp)(a[i])));
}

KERNEL(gelu)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * (real)0.5 * (1 + F(erf)(a[i] * (real)0.7071067811865476));
}

KERNEL(gelu_tanh)
{
    const real *a = x[0], root = (real)0.7978845608028654, cubic = (real)0.044715;
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * (real)0.5 * (1 + M(tanh)(root * (a[i] + cubic * a[i] * a[i] * a[i])));
}

KERNEL(softsign)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] / (1 + F(fabs)(a[i]));
}

KERNEL(leaky_relu)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] > 0 ? a[i] : (real)scalar[0] * a[i];
}

KERNEL(elu)
{
    const real *a = x[0];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] > 0 ? a[i] : (real)scalar[0] * F(expm1)(a[i]);
}

KERNEL(hardsigmoid)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] <= -3 ? 0 : a[i] >= 3 ? 1 : (a[i] + 3) / 6;
}

KERNEL(clamp)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] < (real)scalar[0]   ? (real)scalar[0]
                 : a[i] > (real)scalar[1] ? (real)scalar[1]
                                          : a[i];
}

KERNEL(between)
{
    const real *a = x[0];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = (real)(a[i] >= (real)scalar[0] && a[i] <= (real)scalar[1]);
}

KERNEL(maximum)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] > b[i] || a[i] != a[i] ? a[i] : b[i];
}

KERNEL(minimum)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] < b[i] || a[i] != a[i] ? a[i] : b[i];
}

KERNEL(atan2)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(atan2)(a[i], b[i]);
}

KERNEL(hypot)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(hypot)(a[i], b[i]);
}

KERNEL(pow)
{
    const real *a = x[0], *b = x[1];
    real *out = y;
    for (int64_t i = 0; i < n; i++)
        out[i] = F(pow)(a[i], b[i]);
}

KERNEL(pow_scalar) /* a^p; the powers that are met in loops cost no call */
{
    const real *a = x[0], p = (real)scalar[0];
    real *out = y;
    if (p == 1 || p == 2 || p == 3) {
        TL_SIMD
        for (int64_t i = 0; i < n; i++)
            out[i] = p == 1 ? a[i] : p == 2 ? a[i] * a[i] : a[i] * a[i] * a[i];
        return;
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = F(pow)(a[i], p);
}
