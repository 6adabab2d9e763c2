/* map.c - from strided and broadcast operands to the contiguous runs that kernels want.
 *
 *   shape [4,3,5]       y [15,5,1]       dimensions that are adjacent in memory for every
 *                       x [15,5,1]       operand are merged first: here all become [60]
 *                       b [0, 0,1]       here only two do: [12,5], 12 runs of 5
 *
 * An operand whose last stride is not 1 is gathered, a tile at a time, into a small buffer. */
#include "tensor/kernels.h"

#include <string.h>

enum { TILE = 256 }; /* elements: with four operands of f64 8 KiB, a quarter of a level 1 cache */

/* Operands 0..count-1 are the inputs, operand `count` is the output. */
typedef struct loops {
    int count, ndim;
    int64_t shape[TL_MAX_DIMS];
    int64_t stride[TL_MAP_MOST + 1][TL_MAX_DIMS];
    int64_t size[TL_MAP_MOST + 1]; /* bytes of an element */
} loops;

static bool adjacent(const loops *l, const tl_layout *const *layout, int dim)
{
    for (int k = 0; k <= l->count; k++)
        if (l->stride[k][l->ndim - 1] != layout[k]->stride[dim] * layout[k]->shape[dim])
            return false;
    return true;
}

/* Merges from the left; dimensions of size one vanish. At least one dimension is left. */
static void plan(loops *l, int count, const tl_layout *const *layout)
{
    l->count = count;
    l->ndim = 0;
    const tl_layout *all = layout[count]; /* they agree in shape */
    for (int dim = 0; dim < all->ndim; dim++) {
        int64_t size = all->shape[dim];
        if (size == 1)
            continue;
        if (l->ndim && adjacent(l, layout, dim))
            l->shape[l->ndim - 1] *= size;
        else
            l->shape[l->ndim++] = size;
        for (int k = 0; k <= count; k++)
            l->stride[k][l->ndim - 1] = layout[k]->stride[dim];
    }
    if (l->ndim == 0) {
        l->shape[0] = 1;
        for (int k = 0; k <= count; k++)
            l->stride[k][0] = 1;
        l->ndim = 1;
    }
}

#define GATHER(ctype)                                                                                  \
    for (int64_t i = 0; i < n; i++)                                                                    \
    ((ctype *)to)[i] = ((const ctype *)from)[i * stride]
#define SCATTER(ctype)                                                                                 \
    for (int64_t i = 0; i < n; i++)                                                                    \
    ((ctype *)to)[i * stride] = ((const ctype *)from)[i]

static void gather(size_t size, int64_t n, const void *from, int64_t stride, void *to)
{
    if (size == 4)
        GATHER(uint32_t);
    else if (size == 8)
        GATHER(uint64_t);
    else
        GATHER(uint8_t);
}

static void scatter(size_t size, int64_t n, const void *from, int64_t stride, void *to)
{
    if (size == 4)
        SCATTER(uint32_t);
    else if (size == 8)
        SCATTER(uint64_t);
    else
        SCATTER(uint8_t);
}

/* What to do with each run along the last dimension; `data` points at its first elements. */
typedef struct task {
    void (*run)(const struct task *task, const loops *l, char *const *data);
    tl_kernel *kernel;
    const double *scalar;
    tl_dtype dtype; /* of the output */
} task;

static void run_kernel(const task *t, const loops *l, char *const *data)
{
    int last = l->ndim - 1, count = l->count;
    int64_t n = l->shape[last];
    const int64_t *size = l->size;
    _Alignas(64) char buffer[TL_MAP_MOST + 1][TILE * sizeof(double)];
    bool direct = true;
    for (int k = 0; k <= count; k++)
        direct = direct && l->stride[k][last] == 1;
    if (direct) {
        t->kernel(n, (const void *const *)data, data[count], t->scalar);
        return;
    }
    for (int64_t start = 0; start < n; start += TILE) {
        int64_t tile = n - start < TILE ? n - start : TILE;
        const void *x[TL_MAP_MOST];
        for (int k = 0; k < count; k++) {
            int64_t stride = l->stride[k][last];
            const char *here = data[k] + start * stride * size[k];
            if (stride != 1)
                gather((size_t)size[k], tile, here, stride, buffer[k]);
            x[k] = stride == 1 ? here : buffer[k];
        }
        int64_t stride = l->stride[count][last];
        char *out = data[count] + start * stride * size[count];
        t->kernel(tile, x, stride == 1 ? out : buffer[count], t->scalar);
        if (stride != 1)
            scatter((size_t)size[count], tile, buffer[count], stride, out);
    }
}

/* An odometer over all dimensions but the last. */
static void walk(const task *t, const loops *l, char **data)
{
    int64_t index[TL_MAX_DIMS] = {0};
    for (;;) {
        t->run(t, l, data);
        int dim = l->ndim - 2;
        for (; dim >= 0; dim--) {
            bool carry = ++index[dim] == l->shape[dim];
            int64_t steps = carry ? 1 - l->shape[dim] : 1;
            for (int k = 0; k <= l->count; k++)
                data[k] += l->stride[k][dim] * steps * l->size[k];
            if (!carry)
                break;
            index[dim] = 0;
        }
        if (dim < 0)
            return;
    }
}

static void map(const task *t, int count, const tl_array *x, tl_array y)
{
    char *data[TL_MAP_MOST + 1];
    const tl_layout *layout[TL_MAP_MOST + 1] = {NULL};
    loops l;
    for (int k = 0; k <= count; k++) {
        tl_array operand = k < count ? x[k] : y;
        data[k] = operand.data;
        layout[k] = operand.layout;
        l.size[k] = (int64_t)tl_dtype_size(operand.dtype);
    }
    plan(&l, count, layout);
    walk(t, &l, data);
}

void tl_map(tl_kernel *kernel, int count, const tl_array *x, tl_array y, const double *scalar)
{
    if (y.layout->count == 0)
        return;
    bool contiguous = y.layout->contiguous;
    const void *data[TL_MAP_MOST];
    for (int k = 0; k < count; k++) {
        contiguous = contiguous && x[k].layout->contiguous;
        data[k] = x[k].data;
    }
    if (contiguous)
        kernel(y.layout->count, data, y.data, scalar);
    else
        map(&(task){run_kernel, kernel, scalar, y.dtype}, count, x, y);
}

/* ---- copies and sums: maps whose output is read too ------------------------------------- */

static void copy_4(int64_t n, const void *const *x, void *y, const double *scalar)
{
    (void)scalar;
    memmove(y, x[0], (size_t)n * 4);
}

static void copy_8(int64_t n, const void *const *x, void *y, const double *scalar)
{
    (void)scalar;
    memmove(y, x[0], (size_t)n * 8);
}

static void copy_1(int64_t n, const void *const *x, void *y, const double *scalar)
{
    (void)scalar;
    memmove(y, x[0], (size_t)n);
}

void tl_copy(tl_array x, tl_array y)
{
    size_t size = tl_dtype_size(y.dtype);
    tl_map(size == 4 ? copy_4 : size == 8 ? copy_8 : copy_1, 1, &x, y, NULL);
}

void tl_add_into(tl_array x, tl_array y)
{
    tl_array operands[2] = {y, x};
    tl_map(tl_kernel_add[y.dtype], 2, operands, y, NULL);
}

/* Where y stands still along a run, the run is summed; elsewhere it is added element by element. */
static void run_sum(const task *t, const loops *l, char *const *data)
{
    int last = l->ndim - 1;
    if (l->stride[2][last] == 0)
        tl_sum_run(t->dtype, l->shape[last], data[1], l->stride[1][last], data[2]);
    else
        run_kernel(t, l, data);
}

void tl_sum_into(tl_array x, tl_array y)
{
    if (x.layout->count == 0)
        return;
    tl_layout wide;
    if (!tl_layout_expand(y.layout, x.layout, &wide))
        return; /* the caller has checked */
    tl_array target = {y.data, &wide, y.dtype}, operands[2] = {target, x};
    map(&(task){run_sum, tl_kernel_add[y.dtype], NULL, y.dtype}, 2, operands, target);
}
