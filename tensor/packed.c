/* packed.c - products of packed matrices, Y = X W.
 *
 * The micro-kernel is our own (packed.inl) and not BLIS's, for three reasons that were measured on a
 * Zen 5 core at f32: it reads X where it lies, so that X need not be packed (7 % of an LSTM's step);
 * its tile of 8 rows fits the usual batches, where 12 rows leave a third of the work for padding at
 * B = 16; and one source serves every processor, known to BLIS or not.
 *
 * Each tile of Y is computed by one member of the team, over blocks of k in ascending order: the same
 * bits whoever does it. */
#include "tensor/blas.h"

#include <string.h>

enum {
    TL_PANEL_BYTES = 128, /* a panel's row: 32 numbers of f32 */
    MOST_ROWS = 8,        /* of a tile */
    K_BLOCK = 256,        /* rows of a panel read at a time: 32 KiB */
    ROW_BLOCK = 128,      /* rows of X read at a time: 128 KiB at f32 */
    FORK_FLOPS = 1000000  /* below it a fork costs more than it saves */
};

/* One panel's part of the product, for `rows` rows. Y has room for all columns of the panel. */
typedef struct tl_panel_product {
    int64_t rows, k;
    const void *x, *w, *start;
    int64_t x_row, x_col, y_row, start_row; /* strides; x_row or x_col is 1 */
    double beta;
    void *y;
} tl_panel_product;

/* ---- the kernels ------------------------------------------------------------------------ */

#if defined(__x86_64__) && defined(__GNUC__)
#define ROWS    8
#define VECTORS 2 /* 16 sums of 32 registers of 64 bytes */
#if defined(__clang__) /* prefers 32 bytes otherwise, whatever the type says */
#define TARGET __attribute__((target("arch=x86-64-v4"), min_vector_width(512)))
#else
#define TARGET __attribute__((target("arch=x86-64-v4")))
#endif
#define real    float
#define R(name) name##_f32_v4
#include "tensor/packed.inl"
#undef real
#undef R
#define real    double
#define R(name) name##_f64_v4
#include "tensor/packed.inl"
#undef real
#undef R
#undef ROWS
#undef VECTORS
#undef TARGET

#define ROWS    6
#define VECTORS 1 /* 12 sums of 16 registers of 32 bytes */
#define TARGET  __attribute__((target("arch=x86-64-v3")))
#define real    float
#define R(name) name##_f32_v3
#include "tensor/packed.inl"
#undef real
#undef R
#define real    double
#define R(name) name##_f64_v3
#include "tensor/packed.inl"
#undef real
#undef R
#undef ROWS
#undef VECTORS
#undef TARGET
#endif

#define ROWS    4
#define VECTORS 1
#define TARGET
#define real    float
#define R(name) name##_f32
#include "tensor/packed.inl"
#undef real
#undef R
#define real    double
#define R(name) name##_f64
#include "tensor/packed.inl"
#undef real
#undef R

typedef void panel_kernel(const tl_panel_product *p);

static panel_kernel *kernel_for(int level, tl_dtype dtype)
{
#if defined(__x86_64__) && defined(__GNUC__)
    static panel_kernel *const kernels[3][2] = {{panel_product_f32, panel_product_f64},
                                                {panel_product_f32_v3, panel_product_f64_v3},
                                                {panel_product_f32_v4, panel_product_f64_v4}};
    return kernels[level][dtype];
#else
    (void)level;
    return dtype == TL_F32 ? panel_product_f32 : panel_product_f64;
#endif
}

int tl_packed_level(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

/* ---- packing ---------------------------------------------------------------------------- */

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

static int64_t panel_width(tl_dtype dtype)
{
    return TL_PANEL_BYTES / (int64_t)tl_dtype_size(dtype);
}

static int64_t panels_of(const tl_packed *packed)
{
    int64_t width = panel_width(packed->dtype);
    return (packed->n + width - 1) / width;
}

size_t tl_packed_bytes(tl_dtype dtype, int64_t k, int64_t n)
{
    int64_t width = panel_width(dtype);
    return (size_t)((n + width - 1) / width * k) * TL_PANEL_BYTES;
}

static void *panel_row(const tl_packed *packed, int64_t panel, int64_t row)
{
    return (char *)packed->data + (panel * packed->k + row) * TL_PANEL_BYTES;
}

/* In the shape of copies of 4 or 8 bytes: the numbers themselves do not matter here. */
#define PACK(type)                                                                                     \
    do {                                                                                               \
        const type *restrict from = (const type *)source.data + col * source.col_stride;               \
        type *restrict to = target;                                                                    \
        if (source.col_stride == 1)                                                                    \
            for (int64_t k = 0; k < source.rows; k++)                                                  \
                for (int64_t j = 0; j < cols; j++)                                                     \
                    to[k * width + j] = from[k * source.row_stride + j];                               \
        else                                                                                           \
            for (int64_t j = 0; j < cols; j++)                                                         \
                for (int64_t k = 0; k < source.rows; k++)                                              \
                    to[k * width + j] = from[j * source.col_stride + k * source.row_stride];           \
        for (int64_t k = 0; k < source.rows && cols < width; k++)                                      \
            memset(to + k * width + cols, 0, (size_t)(width - cols) * sizeof(type));                   \
    } while (0)

static void write_panel_4(int64_t width, int64_t cols, tl_matrix source, int64_t col, void *target)
{
    PACK(uint32_t);
}

static void write_panel_8(int64_t width, int64_t cols, tl_matrix source, int64_t col, void *target)
{
    PACK(uint64_t);
}

void tl_packed_write(const tl_packed *packed, int64_t row, tl_matrix source)
{
    int64_t width = panel_width(packed->dtype);
    for (int64_t p = 0, col = 0; col < packed->n; p++, col += width) {
        int64_t cols = at_most(packed->n - col, width);
        if (tl_dtype_size(packed->dtype) == 4)
            write_panel_4(width, cols, source, col, panel_row(packed, p, row));
        else
            write_panel_8(width, cols, source, col, panel_row(packed, p, row));
    }
}

/* ---- Y = X W ---------------------------------------------------------------------------- */

typedef struct product {
    tl_blas *blas;
    tl_matrix x, y;
    const tl_packed *w;
    tl_matrix start; /* data NULL: none */
    double beta;
    bool by_rows; /* the team shares blocks of rows; otherwise panels of W */
} product;

static char *element(tl_matrix m, int64_t row, int64_t col, size_t size)
{
    return (char *)m.data + (row * m.row_stride + col * m.col_stride) * (int64_t)size;
}

/* A panel that hangs over Y's edge goes through a buffer of full width. */
static void do_edge(const product *p, tl_panel_product part, int64_t cols)
{
    _Alignas(64) char buffer[MOST_ROWS][TL_PANEL_BYTES] = {{0}};
    size_t size = tl_dtype_size(p->w->dtype), bytes = (size_t)cols * size;
    int64_t rows = part.rows, x_step = part.x_row * (int64_t)size, y_step = part.y_row * (int64_t)size;
    int64_t start_step = part.start_row * (int64_t)size;
    const char *start = part.start;
    char *y = part.y;
    part.start = NULL;
    part.beta = start ? 1 : part.beta;
    part.y = buffer;
    part.y_row = panel_width(p->w->dtype);
    for (int64_t r = 0; r < rows; r += MOST_ROWS) {
        part.rows = at_most(rows - r, MOST_ROWS);
        for (int64_t i = 0; i < part.rows && part.beta != 0; i++)
            memcpy(buffer[i], start ? start + (r + i) * start_step : y + (r + i) * y_step, bytes);
        kernel_for(p->blas->level, p->w->dtype)(&part);
        for (int64_t i = 0; i < part.rows; i++)
            memcpy(y + (r + i) * y_step, buffer[i], bytes);
        part.x = (const char *)part.x + part.rows * x_step;
    }
}

/* Rows [row, row+rows) of Y against panels [first, last) of W. */
static void do_block(const product *p, int64_t row, int64_t rows, int64_t first, int64_t last)
{
    tl_dtype dtype = p->w->dtype;
    size_t size = tl_dtype_size(dtype);
    int64_t width = panel_width(dtype), k0 = 0;
    do {
        for (int64_t w = first; w < last; w++) {
            int64_t col = w * width, cols = at_most(p->w->n - col, width);
            tl_panel_product part = {
                .rows = rows,
                .k = at_most(p->x.cols - k0, K_BLOCK),
                .x = element(p->x, row, k0, size),
                .w = panel_row(p->w, w, k0),
                .start = k0 == 0 && p->start.data ? element(p->start, row, col, size) : NULL,
                .start_row = p->start.row_stride,
                .x_row = p->x.row_stride,
                .x_col = p->x.col_stride,
                .y_row = p->y.row_stride,
                .beta = k0 == 0 ? p->beta : 1,
                .y = element(p->y, row, col, size)};
            if (cols < width)
                do_edge(p, part, cols);
            else
                kernel_for(p->blas->level, dtype)(&part);
        }
        k0 += K_BLOCK;
    } while (k0 < p->x.cols);
}

static void do_share(void *context, int64_t begin, int64_t end)
{
    const product *p = context;
    int64_t first_row = p->by_rows ? begin * ROW_BLOCK : 0;
    int64_t last_row = p->by_rows ? at_most(end * ROW_BLOCK, p->x.rows) : p->x.rows;
    for (int64_t row = first_row; row < last_row; row += ROW_BLOCK)
        do_block(p, row, at_most(last_row - row, ROW_BLOCK), p->by_rows ? 0 : begin,
                 p->by_rows ? panels_of(p->w) : end);
}

void tl_packed_product(tl_blas *blas, tl_matrix x, const tl_packed *w, const tl_matrix *start,
                       double beta, tl_matrix y)
{
    if (x.rows <= 0 || w->n <= 0)
        return;
    product p = {blas, x, y, w, start ? *start : (tl_matrix){0}, beta, false};
    int64_t row_blocks = (x.rows + ROW_BLOCK - 1) / ROW_BLOCK;
    p.by_rows = row_blocks >= 4;
    int64_t pieces = p.by_rows ? row_blocks : panels_of(w);
    if (2.0 * (double)x.rows * (double)w->n * (double)x.cols < FORK_FLOPS)
        do_share(&p, 0, pieces);
    else
        tl_threads_run(blas->team, pieces, do_share, &p);
}
