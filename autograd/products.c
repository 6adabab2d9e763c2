/* products.c - matrix products that a tape does in larger pieces than it is asked to.
 *
 * A recurrent weight W meets a product at every time step, twice:
 *
 *   forward    y_t = h_{t-1} W'       W is laid out for the micro-kernel once, not T times
 *   backward   dW += dy_t' h_{t-1}    B rows each: too few for a good product. The rows of many
 *                                     steps are collected in a panel, which is multiplied when
 *                                     it is full or the gradient is complete:
 *
 *                    dy_T'  |  h_{T-1}
 *                    ...    |  ...            dW += [dy_T' ... dy_1'] [h_{T-1}; ...; h_0]
 *                    dy_1'  |  h_0
 *
 * Any op list that uses W in this way gains, built in or not. */
#include "autograd/tape_impl.h"

#include "tensor/kernels.h"

enum {
    PANEL_ROWS = 512,     /* collected before they are multiplied */
    PANEL_BYTES = 1 << 26 /* a panel that would take more is not collected */
};

static tl_matrix weight_matrix(const tl_node *w, bool transposed)
{
    const tl_layout *l = w->layout;
    tl_matrix m = {w->data, l->shape[0], l->shape[1], l->stride[0], l->stride[1]};
    return transposed ? tl_matrix_transposed(m) : m;
}

/* What a stretch makes for itself is forgotten with it; but not the leaves of parameters. */
static bool will_stay(const tl_tape *t, uint32_t id)
{
    const tl_node *n = tl_node_at(t, id);
    return id < t->again || (!n->op && n->leaf && tl_is_tied(t, id));
}

const tl_packed *tl_tape_packed(tl_tape *t, tl_var weight, bool transposed)
{
    static const tl_packed met_once; /* a mark: only its address counts */
    if ((weight.id & TL_LOOSE) || !will_stay(t, weight.id))
        return NULL;
    uint64_t key = ((uint64_t)weight.id << 1 | (transposed ? 1 : 0)) + 1;
    tl_packed *packed = tl_map_find(&t->packed, key);
    if (packed && packed != &met_once)
        return packed;
    const tl_node *w = tl_node_at(t, weight.id);
    if (w->op && !packed && weight.id >= t->chain) {
        tl_map_insert(t, &t->packed, key, (void *)(uintptr_t)&met_once);
        return NULL;
    }
    tl_dtype dtype = (tl_dtype)w->dtype;
    tl_matrix m = weight_matrix(w, transposed);
    void *data = tl_arena_get(&t->lasting, tl_packed_bytes(dtype, m.rows, m.cols));
    packed = tl_arena_get(&t->lasting, sizeof *packed);
    if (!data || !packed) {
        tl_tape_no_memory(t);
        return NULL;
    }
    *packed = (tl_packed){data, m.rows, m.cols, dtype};
    tl_packed_write(packed, 0, m);
    return tl_map_insert(t, &t->packed, key, packed) ? packed : NULL;
}

/* ---- panels of outer products ----------------------------------------------------------- */

/* By address: a gradient has one panel at a time, whatever its shape. */
static tl_panel *find_panel(tl_tape *t, const void *target)
{
    for (uint32_t i = 0; i < t->panel_count; i++)
        if (t->panels[i].target == target)
            return &t->panels[i];
    return NULL;
}

static tl_panel *unused_panel(tl_tape *t)
{
    tl_panel *unused = find_panel(t, NULL);
    if (unused)
        return unused;
    if (t->panel_count == t->panel_capacity) {
        uint32_t capacity = t->panel_capacity ? 2 * t->panel_capacity : 8;
        tl_panel *larger = tl_memory_get(&t->memory, capacity * sizeof *larger);
        if (!larger)
            return NULL;
        for (uint32_t i = 0; i < t->panel_count; i++)
            larger[i] = t->panels[i];
        tl_memory_give(&t->memory, t->panels, t->panel_capacity * sizeof *t->panels);
        t->panels = larger;
        t->panel_capacity = capacity;
    }
    t->panels[t->panel_count] = (tl_panel){0};
    return &t->panels[t->panel_count++];
}

/* A's rows as they come, a gap of a cache line between them: rows 4 KiB apart fight for the same
 * places in the cache. B's rows packed. */
static int64_t gap(tl_dtype dtype)
{
    return TL_ALIGN / (int64_t)tl_dtype_size(dtype);
}

static tl_panel *open_panel(tl_tape *t, tl_dtype dtype, tl_matrix target, int64_t rows)
{
    tl_panel *p = unused_panel(t);
    int64_t stride = target.rows + gap(dtype);
    tl_block *a = tl_pool_get(&t->pool, (size_t)(rows * stride) * tl_dtype_size(dtype));
    tl_block *b = tl_pool_get(&t->pool, tl_packed_bytes(dtype, rows, target.cols));
    if (!p || !a || !b) {
        tl_pool_put(&t->pool, a);
        tl_pool_put(&t->pool, b);
        tl_tape_no_memory(t);
        return NULL;
    }
    *p = (tl_panel){
        .target = target.data, .capacity = rows, .a_block = a, .b_block = b, .matrix = target};
    p->a = (tl_matrix){tl_block_data(a), 0, target.rows, stride, 1};
    p->b = (tl_packed){tl_block_data(b), rows, target.cols, dtype};
    return p;
}

/* target += A' B */
static void multiply(tl_tape *t, tl_panel *p)
{
    tl_packed_product(t->blas, tl_matrix_transposed(p->a), &p->b, NULL, 1, p->matrix);
    p->a.rows = 0;
}

static void close_panel(tl_tape *t, tl_panel *p)
{
    tl_pool_put(&t->pool, p->a_block);
    tl_pool_put(&t->pool, p->b_block);
    *p = (tl_panel){0};
}

void tl_panel_flush(tl_tape *t, const void *target)
{
    tl_panel *p = find_panel(t, target);
    if (p) {
        multiply(t, p);
        close_panel(t, p);
    }
}

void tl_panels_drop(tl_tape *t)
{
    for (uint32_t i = 0; i < t->panel_count; i++)
        if (t->panels[i].target)
            close_panel(t, &t->panels[i]);
}

static tl_matrix some_rows(tl_matrix m, int64_t from, int64_t count, tl_dtype dtype)
{
    m.data = (char *)m.data + from * m.row_stride * (int64_t)tl_dtype_size(dtype);
    m.rows = count;
    return m;
}

static void append(tl_panel *p, tl_dtype dtype, tl_matrix a, tl_matrix b)
{
    int64_t from[2] = {a.row_stride, a.col_stride}, to[2] = {p->a.row_stride, 1};
    tl_layout source = {.ndim = 2, .shape = {a.rows, a.cols}, .stride = {from[0], from[1]}},
              target = source;
    target.stride[0] = to[0];
    target.stride[1] = to[1];
    tl_layout_finish(&source);
    tl_layout_finish(&target);
    tl_matrix room = some_rows(p->a, p->a.rows, a.rows, dtype);
    tl_copy((tl_array){a.data, &source, dtype}, (tl_array){room.data, &target, dtype});
    tl_packed_write(&p->b, p->a.rows, b);
    p->a.rows += a.rows;
}

bool tl_tape_add_outer(tl_tape *t, tl_dtype dtype, tl_matrix a, tl_matrix b, tl_matrix target)
{
    size_t row_bytes = (size_t)(a.cols + b.cols) * tl_dtype_size(dtype);
    if (row_bytes * PANEL_ROWS > PANEL_BYTES) {
        tl_blas_product(t->blas, dtype, tl_matrix_transposed(a), b, 1, target);
        return true;
    }
    tl_panel *p = find_panel(t, target.data);
    if (p && (p->matrix.rows != target.rows || p->matrix.cols != target.cols)) {
        tl_panel_flush(t, target.data); /* two leaves whose gradients are views of one storage */
        p = NULL;
    }
    if (!p && !(p = open_panel(t, dtype, target, PANEL_ROWS)))
        return false;
    for (int64_t row = 0; row < a.rows;) {
        int64_t room = p->capacity - p->a.rows, rows = a.rows - row < room ? a.rows - row : room;
        append(p, dtype, some_rows(a, row, rows, dtype), some_rows(b, row, rows, dtype));
        row += rows;
        if (p->a.rows == p->capacity)
            multiply(t, p);
    }
    return true;
}
