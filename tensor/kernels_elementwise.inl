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
