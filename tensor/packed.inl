/* packed.inl - included by packed.c once for each real type. */

/* Columns [col, col+cols) of the source, all its rows, into a panel `width` wide. */
TL_CLONES static void R(write_panel)(int width, int64_t cols, tl_matrix source, int64_t col, void *target)
{
    const real *restrict from = (const real *)source.data + col * source.col_stride;
    real *restrict to = target;
    if (source.col_stride == 1) {
        for (int64_t k = 0; k < source.rows; k++)
            for (int64_t j = 0; j < cols; j++)
                to[k * width + j] = from[k * source.row_stride + j];
    } else if (source.row_stride == 1) {
        for (int64_t j = 0; j < cols; j++)
            for (int64_t k = 0; k < source.rows; k++)
                to[k * width + j] = from[j * source.col_stride + k];
    } else {
        for (int64_t k = 0; k < source.rows; k++)
            for (int64_t j = 0; j < cols; j++)
                to[k * width + j] = from[k * source.row_stride + j * source.col_stride];
    }
    if (cols < width)
        for (int64_t k = 0; k < source.rows; k++)
            for (int64_t j = cols; j < width; j++)
                to[k * width + j] = 0;
}

/* y = x panel + beta y, one row; `start` stands in for beta y where it is given. Four running
 * sums, because one would wait for itself at every step. */
TL_CLONES static void R(row_times_panel)(int64_t k, int width, int64_t cols, const void *row, int64_t x_stride,
                                         const void *panel_data, const void *start, real beta, void *target)
{
    enum { LANES = 64 / sizeof(real) };
    const real *x = row, *first = start;
    real *y = target;
    for (int64_t j0 = 0; j0 < cols; j0 += LANES) {
        const real *w = (const real *)panel_data + j0;
        int lanes = (int)(width - j0 < LANES ? width - j0 : LANES);
        real sum[4][LANES] = {{0}};
        int64_t i = 0;
        if (lanes == LANES)
            for (; i + 4 <= k; i += 4)
                for (int u = 0; u < 4; u++)
                    for (int j = 0; j < LANES; j++)
                        sum[u][j] += x[(i + u) * x_stride] * w[(i + u) * width + j];
        for (; i < k; i++)
            for (int j = 0; j < lanes; j++)
                sum[0][j] += x[i * x_stride] * w[i * width + j];
        for (int j = 0; j < lanes && j0 + j < cols; j++) {
            real before = first ? first[j0 + j] : beta == 0 ? 0 : beta * y[j0 + j];
            y[j0 + j] = before + ((sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]));
        }
    }
}

/* What BLIS's micro-kernel does, for processors it has none for: 4 rows by 64 bytes of columns. */
TL_CLONES static void R(portable_tile)(const struct tl_tile_kernel *kernel, int64_t rows, int64_t cols, int64_t k,
                                       const void *batch, const void *weight, real beta, void *target,
                                       int64_t stride)
{
    enum { ROWS = 4, COLS = 64 / sizeof(real) };
    const real *x = batch, *w = weight;
    real *y = target, sum[ROWS][COLS] = {{0}};
    (void)kernel; /* its widths are ROWS and COLS */
    for (int64_t i = 0; i < k; i++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLS; c++)
                sum[r][c] += x[i * ROWS + r] * w[i * COLS + c];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            y[r * stride + c] = sum[r][c] + (beta == 0 ? 0 : beta * y[r * stride + c]);
}
