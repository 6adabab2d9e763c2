/* kernels_rows.inl - included by kernels_rows.c once for each real type: what is done to a
 * whole run of numbers at a time. Sums are kept in double. */

TL_CLONES static double R(sum)(int64_t n, const real *x, int64_t stride)
{
    double sum = 0;
    if (stride == 1) {
        TL_SIMD_SUM(sum)
        for (int64_t i = 0; i < n; i++)
            sum += x[i];
    } else {
        for (int64_t i = 0; i < n; i++)
            sum += x[i * stride];
    }
    return sum;
}

TL_CLONES static double R(sum_squares)(int64_t n, const real *x)
{
    double sum = 0;
    TL_SIMD_SUM(sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

TL_CLONES static void R(scale)(int64_t n, real *x, real factor)
{
    TL_SIMD
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* NaNs are passed over: they come out by the exponentials. */
TL_CLONES static real R(largest)(int64_t n, const real *x)
{
    real largest = -INFINITY;
    TL_SIMD_MAX(largest)
    for (int64_t i = 0; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* y = exp(x - m) / sum unless it is NULL; m is the largest x. Returns log sum exp(x - m). */
TL_CLONES static double R(softmax_row)(int64_t n, const real *x, real *y, double *m)
{
    const real largest = R(largest)(n, x);
    *m = (double)largest;
    double sum = 0;
    if (!y) {
        TL_SIMD_SUM(sum)
        for (int64_t i = 0; i < n; i++)
            sum += M(exp)(x[i] - largest);
        return log(sum);
    }
    TL_SIMD_SUM(sum)
    for (int64_t i = 0; i < n; i++) {
        y[i] = M(exp)(x[i] - largest);
        sum += y[i];
    }
    R(scale)(n, y, (real)(1 / sum));
    return log(sum);
}

/* The first i with the largest sign * x[i], or the first with a NaN; n > 0. */
TL_CLONES static int64_t R(extreme_at)(int64_t n, const real *x, real sign)
{
    real largest = sign * x[0];
    int any_nan = 0;
    TL_SIMD_MAX_ANY(largest, any_nan)
    for (int64_t i = 0; i < n; i++) {
        largest = sign * x[i] > largest ? sign * x[i] : largest;
        any_nan |= x[i] != x[i];
    }
    for (int64_t i = 0; i < n; i++)
        if (any_nan ? x[i] != x[i] : sign * x[i] == largest)
            return i;
    return 0;
}

/* share[i] = [x[i] = y] / how many */
TL_CLONES static void R(ties_row)(int64_t n, const real *x, real y, real *share)
{
    double count = 0;
    TL_SIMD_SUM(count)
    for (int64_t i = 0; i < n; i++) {
        share[i] = x[i] == y;
        count += share[i];
    }
    R(scale)(n, share, (real)(1 / count));
}

/* The largest |x[i]|, or (sign -1) the smallest; NaN if there is one. */
TL_CLONES static double R(extreme_size)(int64_t n, const real *x, real sign)
{
    real largest = sign > 0 ? 0 : -(real)INFINITY;
    int any_nan = 0;
    TL_SIMD_MAX_ANY(largest, any_nan)
    for (int64_t i = 0; i < n; i++) {
        real size = sign * R(size)(x[i]);
        largest = size > largest ? size : largest;
        any_nan |= x[i] != x[i];
    }
    return any_nan ? (double)NAN : (double)(sign * largest);
}

/* Squares that neither overflow nor vanish need no scale. */
static double R(norm_row)(int64_t n, const real *x, double p)
{
    double sum = 0;
    if (p == 2 && (sum = R(sum_squares)(n, x)) > 1e-280 && sum < 1e280)
        return sqrt(sum);
    sum = 0;
    for (int64_t i = 0; i < n && (p == 0 || p == 1); i++)
        sum += p == 0 ? x[i] != 0 : fabs((double)x[i]);
    if (p == 0 || p == 1)
        return sum;
    double scale = R(extreme_size)(n, x, p > 0 ? 1 : -1);
    if (isinf(p) || isinf(scale) || isnan(scale) || scale == 0)
        return scale;
    for (int64_t i = 0; i < n; i++)
        sum += pow(fabs((double)x[i]) / scale, p);
    return scale * pow(sum, 1 / p);
}

/* y_t = y_(t-1) + x_t */
TL_CLONES static void R(cumsum_columns)(int64_t n, int64_t columns, int64_t step, const real *x,
                                        real *y)
{
    double sum[TL_SCAN_COLUMNS] = {0}, only = 0;
    for (int64_t t = 0; t < n && columns == 1; t++) /* in a register */
        y[t * step] = (real)(only += (double)x[t * step]);
    for (int64_t t = 0; t < n && columns > 1; t++) {
        TL_SIMD
        for (int64_t j = 0; j < columns; j++) {
            sum[j] += (double)x[t * step + j];
            y[t * step + j] = (real)sum[j];
        }
    }
}

/* h_t = a_t h_(t-1) + b_t */
TL_CLONES static void R(recurrence_columns)(int64_t n, int64_t columns, int64_t step, const real *a,
                                            const real *b, const real *start, real *h)
{
    if (!start)
        memcpy(h, b, (size_t)columns * sizeof *b);
    real only = start ? *start : *b;
    for (int64_t t = !start; t < n && columns == 1; t++) /* in a register */
        h[t * step] = only = a[t * step] * only + b[t * step];
    for (int64_t t = !start; t < n && columns > 1; t++) {
        const real *before = t ? h + (t - 1) * step : start, *at = a + t * step, *bt = b + t * step;
        real *ht = h + t * step;
        TL_SIMD
        for (int64_t j = 0; j < columns; j++)
            ht[j] = at[j] * before[j] + bt[j];
    }
}

/* product = a_(n-1) ... a_0;  end = h_(n-1) from h_-1 = 0 */
TL_CLONES static void R(recurrence_end)(int64_t n, int64_t columns, int64_t step, const real *a,
                                        const real *b, real *product, real *end)
{
    memcpy(product, a, (size_t)columns * sizeof *a);
    memcpy(end, b, (size_t)columns * sizeof *b);
    real only = *product, last = *end;
    for (int64_t t = 1; t < n && columns == 1; t++) { /* in registers */
        *product = only = a[t * step] * only;
        *end = last = a[t * step] * last + b[t * step];
    }
    for (int64_t t = 1; t < n && columns > 1; t++) {
        const real *at = a + t * step, *bt = b + t * step;
        TL_SIMD
        for (int64_t j = 0; j < columns; j++) {
            product[j] = at[j] * product[j];
            end[j] = at[j] * end[j] + bt[j];
        }
    }
}

TL_CLONES static void R(recurrence_carry)(int64_t columns, const real *product, const real *h,
                                          real *end)
{
    TL_SIMD
    for (int64_t j = 0; j < columns; j++)
        end[j] = h[j] != 0 ? product[j] * h[j] + end[j] : end[j];
}

TL_CLONES static void R(sgd)(int64_t n, real *p, const real *g, real *v, real rate, real momentum,
                             real decay)
{
    TL_SIMD
    for (int64_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * p[i]);
        p[i] -= rate * v[i];
    }
}

TL_CLONES static void R(adam)(int64_t n, real *p, const real *g, real *m, real *v,
                              const tl_adam_rates *r)
{
    const real beta1 = (real)r->beta1, beta2 = (real)r->beta2, epsilon = (real)r->epsilon;
    const real rest1 = (real)(1 - r->beta1), rest2 = (real)(1 - r->beta2);
    const real step = (real)(r->rate / r->correction1), root = (real)(1 / sqrt(r->correction2));
    const real keep = (real)(1 - r->rate * r->weight_decay);
    TL_SIMD
    for (int64_t i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + rest1 * g[i];
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i];
        p[i] = keep * p[i] - step * m[i] / (R(root)(v[i]) * root + epsilon);
    }
}

/* One row of an LSTM's step from its gates' pre-activations a = [i | f | g | o], n of each:
 * c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh c' */
TL_CLONES static void R(lstm_row)(int64_t n, const real *a, const real *c, real *h_next, real *c_next)
{
    TL_SIMD
    for (int64_t j = 0; j < n; j++) {
        real i = M(sigmoid)(a[j]), f = M(sigmoid)(a[n + j]), g = M(tanh)(a[2 * n + j]);
        real next = f * c[j] + i * g;
        c_next[j] = next;
        h_next[j] = M(sigmoid)(a[3 * n + j]) * M(tanh)(next);
    }
}

/* Its derivative, the activations computed anew rather than kept: dh, dc' -> da, dc */
TL_CLONES static void R(lstm_row_grad)(int64_t n, const real *a, const real *c, const real *c_next,
                                       const real *dh, const real *dc_next, real *da, real *dc)
{
    TL_SIMD
    for (int64_t j = 0; j < n; j++) {
        real i = M(sigmoid)(a[j]), f = M(sigmoid)(a[n + j]), g = M(tanh)(a[2 * n + j]);
        real o = M(sigmoid)(a[3 * n + j]), s = M(tanh)(c_next[j]);
        real d = dc_next[j] + dh[j] * o * (1 - s * s); /* of c', by both ways */
        da[j] = d * g * (i * (1 - i));
        da[n + j] = d * c[j] * (f * (1 - f));
        da[2 * n + j] = d * i * (1 - g * g);
        da[3 * n + j] = dh[j] * s * (o * (1 - o));
        dc[j] = d * f;
    }
}

/* One row of a GRU's gates r, z, n: a from x, u from h, each 3 n numbers (autograd/op_cell.c). */
TL_CLONES static void R(gru_row)(int64_t n, const real *a, const real *u, const real *h, real *h_next)
{
    TL_SIMD
    for (int64_t j = 0; j < n; j++) {
        real r = M(sigmoid)(a[j] + u[j]), z = M(sigmoid)(a[n + j] + u[n + j]);
        real m = M(tanh)(a[2 * n + j] + r * u[2 * n + j]);
        h_next[j] = m + z * (h[j] - m);
    }
}

/* Its derivative: dh' -> da, du, dh */
TL_CLONES static void R(gru_row_grad)(int64_t n, const real *a, const real *u, const real *h,
                                      const real *dh_next, real *da, real *du, real *dh)
{
    TL_SIMD
    for (int64_t j = 0; j < n; j++) {
        real r = M(sigmoid)(a[j] + u[j]), z = M(sigmoid)(a[n + j] + u[n + j]);
        real m = M(tanh)(a[2 * n + j] + r * u[2 * n + j]);
        real dm = dh_next[j] * (1 - z) * (1 - m * m), dr = dm * u[2 * n + j] * (r * (1 - r));
        real dz = dh_next[j] * (h[j] - m) * (z * (1 - z));
        da[j] = du[j] = dr;
        da[n + j] = du[n + j] = dz;
        da[2 * n + j] = dm;
        du[2 * n + j] = dm * r;
        dh[j] = dh_next[j] * z;
    }
}
