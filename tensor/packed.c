/* packed.c - products of packed matrices: who does which tile, and in what order.
 *
 * Each tile of the result is computed by one member of the team, over blocks of k in
 * ascending order: the same bits whoever does it. */
#include "tensor/blas.h"

#include <string.h>

#include "tensor/clones.h"

enum {
    K_BLOCK = 384,           /* numbers of a panel's column that stay in the level 1 cache */
    ROW_BLOCK = 96,          /* rows of X packed at a time */
    FEW_ROWS = 3,            /* up to here a tile would be mostly padding */
    FORK_FLOPS = 1000000     /* below it a fork costs more than it saves */
};

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

/* ---- packing ------------------------------------------------------------------ */

int tl_packed_width(const tl_blas *blas, tl_dtype dtype, tl_side side)
{
    return side == TL_WEIGHT_SIDE ? blas->tile[dtype].weight_width : blas->tile[dtype].batch_width;
}

size_t tl_packed_bytes(const tl_blas *blas, tl_dtype dtype, tl_side side, int64_t k, int64_t n)
{
    int64_t width = tl_packed_width(blas, dtype, side);
    return (size_t)((n + width - 1) / width * width * k) * tl_dtype_size(dtype);
}

tl_packed tl_packed_over(const tl_blas *blas, tl_dtype dtype, tl_side side, int64_t k, int64_t n, void *data)
{
    return (tl_packed){data, k, n, tl_packed_width(blas, dtype, side), dtype};
}

static void *panel(const tl_packed *packed, int64_t index, int64_t row)
{
    return (char *)packed->data +
           (size_t)((index * packed->k + row) * packed->width) * tl_dtype_size(packed->dtype);
}

#define real float
#define R(name) name##_f32
#include "tensor/packed.inl"
#undef real
#undef R
#define real double
#define R(name) name##_f64
#include "tensor/packed.inl"
#undef real
#undef R

static void write_panels(const tl_packed *packed, int64_t row, tl_matrix source)
{
    for (int64_t p = 0, col = 0; col < packed->n; p++, col += packed->width) {
        int64_t cols = at_most(packed->n - col, packed->width);
        if (packed->dtype == TL_F32)
            write_panel_f32(packed->width, cols, source, col, panel(packed, p, row));
        else
            write_panel_f64(packed->width, cols, source, col, panel(packed, p, row));
    }
}

void tl_packed_write(const tl_packed *packed, int64_t row, tl_matrix source)
{
    write_panels(packed, row, source);
}

/* ---- Y = X W -------------------------------------------------------------------- */

typedef struct product {
    tl_blas *blas;
    tl_matrix x, y;
    const tl_packed *w;
    const char *start;
    double beta;
    bool by_rows; /* the team shares blocks of rows; otherwise panels of W */
} product;

static int64_t panels_of(const tl_packed *packed)
{
    return (packed->n + packed->width - 1) / packed->width;
}

static char *row_of(tl_matrix m, int64_t row, int64_t col, size_t size)
{
    return (char *)m.data + (size_t)(row * m.row_stride + col * m.col_stride) * size;
}

static void tile(const tl_blas *blas, tl_dtype dtype, int64_t rows, int64_t cols, int64_t k, const void *batch,
                 const void *weight, double beta, void *y, int64_t stride)
{
    const struct tl_tile_kernel *kernel = &blas->tile[dtype];
    if (kernel->function)
        tl_blas_tile(blas, dtype, rows, cols, k, batch, weight, beta, y, stride);
    else if (dtype == TL_F32)
        portable_tile_f32(kernel, rows, cols, k, batch, weight, (float)beta, y, stride);
    else
        portable_tile_f64(kernel, rows, cols, k, batch, weight, beta, y, stride);
}

static void start_tile(const product *p, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    size_t size = tl_dtype_size(p->w->dtype);
    for (int64_t i = row; i < row + rows; i++)
        memcpy(row_of(p->y, i, col, size), p->start + (size_t)col * size, (size_t)cols * size);
}

/* Rows [row, row+rows) of Y against panels [first, last) of W. */
static void do_block(const product *p, char *scratch, int64_t row, int64_t rows, int64_t first, int64_t last)
{
    tl_dtype dtype = p->w->dtype;
    size_t size = tl_dtype_size(dtype);
    for (int64_t k0 = 0; k0 < p->w->k; k0 += K_BLOCK) {
        int64_t k = at_most(p->w->k - k0, K_BLOCK);
        /* X' of this block, so that its rows lie along the panels. */
        tl_packed x = tl_packed_over(p->blas, dtype, TL_BATCH_SIDE, k, rows, scratch);
        tl_matrix part = {row_of(p->x, row, k0, size), k, rows, p->x.col_stride, p->x.row_stride};
        write_panels(&x, 0, part);
        double beta = k0 > 0 || p->start ? 1 : p->beta;
        for (int64_t w = first; w < last; w++) {
            int64_t col = w * p->w->width, cols = at_most(p->w->n - col, p->w->width);
            for (int64_t i = 0, b = 0; i < rows; i += x.width, b++) {
                int64_t tile_rows = at_most(rows - i, x.width);
                if (k0 == 0 && p->start)
                    start_tile(p, row + i, tile_rows, col, cols);
                tile(p->blas, dtype, tile_rows, cols, k, panel(&x, b, 0), panel(p->w, w, k0), beta,
                     row_of(p->y, row + i, col, size), p->y.row_stride);
            }
        }
    }
}

/* Few rows: a matrix-vector product over the panels, in plain C. */
static void do_rows(const product *p, int64_t first, int64_t last)
{
    for (int64_t row = 0; row < p->x.rows; row++)
        for (int64_t w = first; w < last; w++) {
            int64_t col = w * p->w->width, cols = at_most(p->w->n - col, p->w->width);
            size_t size = tl_dtype_size(p->w->dtype);
            const void *x = row_of(p->x, row, 0, size);
            void *y = row_of(p->y, row, col, size);
            const void *start = p->start ? p->start + (size_t)col * size : NULL;
            if (p->w->dtype == TL_F32)
                row_times_panel_f32(p->w->k, p->w->width, cols, x, p->x.col_stride, panel(p->w, w, 0), start,
                                    (float)p->beta, y);
            else
                row_times_panel_f64(p->w->k, p->w->width, cols, x, p->x.col_stride, panel(p->w, w, 0), start,
                                    p->beta, y);
        }
}

static void do_share(void *context, int member, int64_t begin, int64_t end)
{
    const product *p = context;
    char *scratch = p->blas->scratch + (size_t)member * p->blas->scratch_bytes;
    if (p->x.rows <= FEW_ROWS) {
        do_rows(p, begin, end);
        return;
    }
    int64_t first_row = p->by_rows ? begin * ROW_BLOCK : 0;
    int64_t last_row = p->by_rows ? at_most(end * ROW_BLOCK, p->x.rows) : p->x.rows;
    for (int64_t row = first_row; row < last_row; row += ROW_BLOCK)
        do_block(p, scratch, row, at_most(last_row - row, ROW_BLOCK), p->by_rows ? 0 : begin,
                 p->by_rows ? panels_of(p->w) : end);
}

void tl_packed_product(tl_blas *blas, tl_matrix x, const tl_packed *w, const void *start, double beta,
                       tl_matrix y)
{
    if (x.rows <= 0 || w->n <= 0)
        return;
    product p = {blas, x, y, w, start, beta, false};
    int64_t row_blocks = (x.rows + ROW_BLOCK - 1) / ROW_BLOCK;
    p.by_rows = row_blocks >= 4;
    int64_t pieces = p.by_rows ? row_blocks : panels_of(w);
    double flops = 2.0 * (double)x.rows * (double)w->n * (double)w->k;
    if (w->k == 0) /* an empty sum: only the start is left */
        do_rows(&p, 0, panels_of(w));
    else if (flops < FORK_FLOPS)
        do_share(&p, 0, 0, pieces);
    else
        tl_threads_run(blas->team, pieces, do_share, &p);
}

/* ---- C += A' B -------------------------------------------------------------------- */

typedef struct outer {
    tl_blas *blas;
    const tl_packed *a, *b;
    int64_t k;
    tl_matrix c;
} outer;

static void do_outer(void *context, int member, int64_t begin, int64_t end)
{
    (void)member;
    const outer *o = context;
    size_t size = tl_dtype_size(o->a->dtype);
    for (int64_t k0 = 0; k0 < o->k; k0 += K_BLOCK) {
        int64_t k = at_most(o->k - k0, K_BLOCK);
        for (int64_t j = begin; j < end; j++) {
            int64_t col = j * o->b->width, cols = at_most(o->b->n - col, o->b->width);
            for (int64_t i = 0, row = 0; row < o->a->n; i++, row += o->a->width)
                tile(o->blas, o->a->dtype, at_most(o->a->n - row, o->a->width), cols, k, panel(o->a, i, k0),
                     panel(o->b, j, k0), 1, row_of(o->c, row, col, size), o->c.row_stride);
        }
    }
}

void tl_packed_outer(tl_blas *blas, const tl_packed *a, const tl_packed *b, int64_t k, tl_matrix c)
{
    outer o = {blas, a, b, k, c};
    if (2.0 * (double)a->n * (double)b->n * (double)k < FORK_FLOPS)
        do_outer(&o, 0, 0, panels_of(b));
    else
        tl_threads_run(blas->team, panels_of(b), do_outer, &o);
}
