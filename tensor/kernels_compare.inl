/* kernels_compare.inl - included by kernels_compare.c once for each dtype, which is `number` here.
 * Masks are u8, zeros and ones; a mask that is read may hold any other number for 1, too. */

KERNEL(eq)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] == b[i];
}

KERNEL(ne)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] != b[i];
}

KERNEL(lt)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] < b[i];
}

KERNEL(le)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] <= b[i];
}

KERNEL(gt)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] > b[i];
}

KERNEL(ge)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] >= b[i];
}

KERNEL(logical_and)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] != 0 && b[i] != 0;
}

KERNEL(logical_or)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] != 0 || b[i] != 0;
}

KERNEL(logical_xor)
{
    const number *a = x[0], *b = x[1];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = (a[i] != 0) != (b[i] != 0);
}

KERNEL(logical_not)
{
    const number *a = x[0];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] == 0;
}

KERNEL(isnan)
{
    const number *a = x[0];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] != a[i];
}

KERNEL(isfinite) /* the difference is NaN for infinities and NaN */
{
    const number *a = x[0];
    uint8_t *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] - a[i] == 0;
}

KERNEL(where)
{
    const uint8_t *mask = x[0];
    const number *a = x[1], *b = x[2];
    number *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = mask[i] ? a[i] : b[i];
}

KERNEL(masked_fill)
{
    const number *a = x[0], fill = NUMBER(scalar[0]);
    const uint8_t *mask = x[1];
    number *out = y;
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        out[i] = mask[i] ? fill : a[i];
}
