/* packed.inl - included by packed.c once for each real type and instruction set.
 *
 * One tile of Y = X W: ROWS rows of X against one panel of W, VECTORS * 64 bytes wide at a time. The
 * running sums stay in registers; each number of X is spread over a register and multiplied with a
 * row of the panel. X is read where it lies, its rows x_row and its columns x_col apart. */

typedef real R(lanes) __attribute__((vector_size(64), aligned(64)));
typedef real R(loose_lanes) __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));

TARGET static inline __attribute__((always_inline)) void
R(tile)(const int rows, const int vectors, int64_t k, const real *x, int64_t x_row, int64_t x_col,
        const real *w, const real *start, int64_t start_row, real beta, real *y, int64_t y_row)
{
    enum { LANES = 64 / sizeof(real), WIDTH = TL_PANEL_BYTES / sizeof(real) };
    R(lanes) sum[MOST_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            R(lanes) zero = {0};
            sum[r][v] = zero;
            if (start)
                sum[r][v] = *(const R(loose_lanes) *)(start + r * start_row + v * LANES);
            else if (beta != 0)
                sum[r][v] = *(const R(loose_lanes) *)(y + r * y_row + v * LANES) * beta;
        }
    for (int64_t i = 0; i < k; i++) {
        R(lanes) row[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            row[v] = *(const R(lanes) *)(w + i * WIDTH + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[r][v] += x[r * x_row + i * x_col] * row[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            *(R(loose_lanes) *)(y + r * y_row + v * LANES) = sum[r][v];
}

/* All rows against the panel, ROWS at a time, the rest in halves. X by rows (x_col 1) or by columns
 * (x_row 1) is told to the compiler: it then needs fewer registers for addresses. */
TARGET static inline __attribute__((always_inline)) void
R(column)(const bool by_rows, int64_t rows, int64_t k, const real *x, int64_t x_row, int64_t x_col,
          const real *w, const real *start, int64_t start_row, real beta, real *y, int64_t y_row)
{
    int64_t across = by_rows ? x_row : 1, along = by_rows ? 1 : x_col;
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS)
        R(tile)
        (ROWS, VECTORS, k, x + r * across, across, along, w, start ? start + r * start_row : NULL,
         start_row, beta, y + r * y_row, y_row);
    if (ROWS > 4 && r + 4 <= rows) {
        R(tile)
        (4, VECTORS, k, x + r * across, across, along, w, start ? start + r * start_row : NULL,
         start_row, beta, y + r * y_row, y_row);
        r += 4;
    }
    if (r + 2 <= rows) {
        R(tile)
        (2, VECTORS, k, x + r * across, across, along, w, start ? start + r * start_row : NULL,
         start_row, beta, y + r * y_row, y_row);
        r += 2;
    }
    if (r < rows)
        R(tile)
        (1, VECTORS, k, x + r * across, across, along, w, start ? start + r * start_row : NULL,
         start_row, beta, y + r * y_row, y_row);
}

/* Columns [0, WIDTH) of a panel. */
TARGET static void R(panel_product)(const tl_panel_product *p)
{
    enum { LANES = 64 / sizeof(real), WIDTH = TL_PANEL_BYTES / sizeof(real) };
    const real *x = p->x, *w = p->w, *start = p->start;
    real *y = p->y;
    for (int64_t j = 0; j < WIDTH; j += VECTORS * LANES) {
        const real *first = start ? start + j : NULL;
        if (p->x_col == 1)
            R(column)
            (true, p->rows, p->k, x, p->x_row, 1, w + j, first, p->start_row, (real)p->beta, y + j,
             p->y_row);
        else
            R(column)
            (false, p->rows, p->k, x, 1, p->x_col, w + j, first, p->start_row, (real)p->beta, y + j,
             p->y_row);
    }
}
