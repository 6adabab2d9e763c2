#include "tensor/tensor.h"

#include <inttypes.h>
#include <string.h>

#include "tensor/arena.h"

/* ---- dtypes ----------------------------------------------------------------------------- */

const char *tl_dtype_name(tl_dtype dtype)
{
    switch (dtype) {
#define X(code, name, ctype)                                                                           \
    case code:                                                                                         \
        return name;
        TL_DTYPE_LIST(X)
#undef X
    }
    return "unknown dtype";
}

size_t tl_dtype_size(tl_dtype dtype)
{
    switch (dtype) {
#define X(code, name, ctype)                                                                           \
    case code:                                                                                         \
        return sizeof(ctype);
        TL_DTYPE_LIST(X)
#undef X
    }
    return 0;
}

/* ---- layouts ---------------------------------------------------------------------------- */

/* No array has more elements, so that its bytes fit a ptrdiff_t whatever the dtype. */
#define MOST_ELEMENTS ((int64_t)(PTRDIFF_MAX / 8))

#define X(code, name, ctype) _Static_assert(sizeof(ctype) <= 8, "MOST_ELEMENTS allows for 8 bytes");
TL_DTYPE_LIST(X)
#undef X

tl_status tl_layout_make(tl_layout *layout, int ndim, const int64_t *shape)
{
    if (ndim < 0 || ndim > TL_MAX_DIMS)
        return TL_ERR_ARGUMENT;
    /* `shape` may be the layout's own. Of the arrays only the dimensions that there are get written:
     * this function is called several times a time step. */
    int64_t stride = 1; /* counts an empty dimension as one element: [0,n,m] has strides too */
    int64_t strides[TL_MAX_DIMS], count = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        strides[d] = stride;
        if (shape[d] < 0 || __builtin_mul_overflow(stride, shape[d] ? shape[d] : 1, &stride) ||
            stride > MOST_ELEMENTS)
            return TL_ERR_ARGUMENT;
        count *= shape[d];
    }
    layout->count = count;
    layout->ndim = ndim;
    layout->contiguous = true;
    for (int d = 0; d < ndim; d++) {
        layout->shape[d] = shape[d];
        layout->stride[d] = strides[d];
    }
    return TL_OK;
}

void tl_layout_finish(tl_layout *layout)
{
    int64_t packed = 1; /* the stride that a gapless row-major array has here */
    bool gapless = true;
    for (int d = layout->ndim - 1; d >= 0; d--) {
        if (layout->shape[d] != 1 && layout->stride[d] != packed)
            gapless = false;
        packed *= layout->shape[d];
    }
    layout->count = packed;
    layout->contiguous = gapless || packed == 0;
}

bool tl_layout_same_shape(const tl_layout *a, const tl_layout *b)
{
    size_t bytes = (size_t)a->ndim * sizeof a->shape[0];
    return a->ndim == b->ndim && memcmp(a->shape, b->shape, bytes) == 0;
}

/* Size of dimension `d` of a layout that is given leading ones until it has `ndim` dimensions. */
static int64_t aligned_size(const tl_layout *layout, int d, int ndim)
{
    int own = d - (ndim - layout->ndim);
    return own < 0 ? 1 : layout->shape[own];
}

bool tl_layout_broadcast(const tl_layout *a, const tl_layout *b, tl_layout *out)
{
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    int64_t shape[TL_MAX_DIMS];
    for (int d = 0; d < ndim; d++) {
        int64_t of_a = aligned_size(a, d, ndim), of_b = aligned_size(b, d, ndim);
        if (of_a != of_b && of_a != 1 && of_b != 1)
            return false;
        shape[d] = of_a == 1 ? of_b : of_a;
    }
    return tl_layout_make(out, ndim, shape) == TL_OK;
}

bool tl_layout_expand(const tl_layout *from, const tl_layout *to, tl_layout *out)
{
    int added = to->ndim - from->ndim; /* dimensions in front */
    if (added < 0)
        return false;
    tl_layout seen = *to;
    for (int d = 0; d < to->ndim; d++) {
        int64_t size = aligned_size(from, d, to->ndim);
        if (size != to->shape[d] && size != 1)
            return false;
        seen.stride[d] = size == to->shape[d] && d >= added ? from->stride[d - added] : 0;
    }
    tl_layout_finish(&seen);
    *out = seen;
    return true;
}

/* Seen from the right, the dimensions of `from` form runs: within a run one stride leads through
 * all elements, between two runs there is a jump. A view exists when the new sizes can be cut at
 * the same places:
 *
 *     shape [4,2,3] stride [10,3,1]   two runs: 4 (stride 10) and 2*3 (stride 1)
 *       ->  [2,2,6]                   cut 2*2 | 6: strides [20,10,1]
 *       ->  [8,3]                     would need a run of 3 and one of 8: a copy */
bool tl_layout_reshape(const tl_layout *from, const tl_layout *shape, tl_layout *out)
{
    tl_layout view;
    if (from->count != shape->count || tl_layout_make(&view, shape->ndim, shape->shape) != TL_OK)
        return false;
    if (from->contiguous) {
        *out = view;
        return true;
    }
    int next = view.ndim - 1;
    for (int d = from->ndim - 1; d >= 0; d--) {
        int64_t stride = from->stride[d], run = from->shape[d], cut = 1;
        while (d > 0 && (from->shape[d - 1] == 1 || from->stride[d - 1] == run * stride))
            run *= from->shape[--d];
        for (; next >= 0 && cut < run; next--) {
            view.stride[next] = cut * stride;
            cut *= view.shape[next];
        }
        if (cut != run)
            return false;
    }
    tl_layout_finish(&view);
    *out = view;
    return true;
}

const char *tl_layout_text(const tl_layout *layout, char text[TL_LAYOUT_TEXT])
{
    int used = snprintf(text, TL_LAYOUT_TEXT, "[");
    for (int d = 0; d < layout->ndim; d++)
        used += snprintf(text + used, (size_t)(TL_LAYOUT_TEXT - used), d ? ",%" PRId64 : "%" PRId64,
                         layout->shape[d]);
    snprintf(text + used, (size_t)(TL_LAYOUT_TEXT - used), "]");
    return text;
}

/* tl_layout_make for the functions below: it also says what is wrong. */
static tl_status layout_for(const char *function, int ndim, const int64_t *shape, tl_layout *layout,
                            tl_error *error)
{
    if (ndim < 0 || ndim > TL_MAX_DIMS)
        return tl_fail(error, TL_ERR_ARGUMENT, "%s: %d dimensions; 0 to %d are possible", function,
                       ndim, TL_MAX_DIMS);
    tl_status status = tl_layout_make(layout, ndim, shape);
    if (status == TL_OK)
        return TL_OK;
    tl_layout asked = {.ndim = ndim};
    memcpy(asked.shape, shape, (size_t)ndim * sizeof *shape);
    char text[TL_LAYOUT_TEXT];
    return tl_fail(error, status, "%s: a size is negative, or there are too many elements: %s",
                   function, tl_layout_text(&asked, text));
}

/* ---- references ------------------------------------------------------------------------- */

/* Tensors and storages may be shared between threads; their numbers are guarded by nobody. */

static void add_reference(int *references)
{
    __atomic_fetch_add(references, 1, __ATOMIC_RELAXED);
}

/* True for the last one. Acquire and release: whoever frees has seen what the others wrote. */
static bool drop_reference(int *references)
{
    return __atomic_sub_fetch(references, 1, __ATOMIC_ACQ_REL) == 0;
}

/* The numbers follow right behind, and so start on a cache line. */
struct tl_storage {
    _Alignas(TL_ALIGN) size_t bytes;
    uint64_t version; /* raised whenever numbers are written */
    int references;
};

tl_tensor *tl_tensor_retain(tl_tensor *tensor)
{
    if (tensor)
        add_reference(&tensor->references);
    return tensor;
}

void tl_tensor_release(tl_tensor *tensor)
{
    if (!tensor || !drop_reference(&tensor->references))
        return;
    if (drop_reference(&tensor->storage->references))
        tl_system_give(tensor->storage);
    tl_system_give(tensor);
}

void tl_tensor_touch(tl_tensor *tensor)
{
    if (tensor->storage)
        __atomic_fetch_add(&tensor->storage->version, 1, __ATOMIC_RELAXED);
}

uint64_t tl_tensor_version(const tl_tensor *tensor)
{
    return tensor->storage ? __atomic_load_n(&tensor->storage->version, __ATOMIC_RELAXED) : 0;
}

/* ---- making ----------------------------------------------------------------------------- */

static size_t bytes_of(const tl_tensor *tensor) /* when contiguous */
{
    return (size_t)tensor->layout.count * tl_dtype_size(tensor->dtype);
}

static tl_tensor *tensor_of_layout(const char *function, tl_dtype dtype, const tl_layout *layout,
                                   tl_error *error)
{
    size_t bytes = (size_t)layout->count * tl_dtype_size(dtype);
    tl_tensor *tensor = tl_system_get(sizeof *tensor);
    tl_storage *storage = tl_system_get(sizeof *storage + bytes);
    if (!tensor || !storage) {
        tl_system_give(tensor);
        tl_system_give(storage);
        char text[TL_LAYOUT_TEXT];
        tl_fail(error, TL_ERR_MEMORY, "%s: no memory for %s %s, %zu bytes", function,
                tl_dtype_name(dtype), tl_layout_text(layout, text), bytes);
        return NULL;
    }
    *storage = (tl_storage){.bytes = bytes, .references = 1};
    *tensor = (tl_tensor){
        .data = storage + 1, .layout = *layout, .dtype = dtype, .references = 1, .storage = storage};
    return tensor;
}

static tl_tensor *tensor_of_shape(const char *function, tl_dtype dtype, int ndim, const int64_t *shape,
                                  tl_error *error)
{
    tl_layout layout;
    if (layout_for(function, ndim, shape, &layout, error) != TL_OK)
        return NULL;
    return tensor_of_layout(function, dtype, &layout, error);
}

tl_tensor *tl_tensor_empty(tl_dtype dtype, int ndim, const int64_t *shape, tl_error *error)
{
    return tensor_of_shape("tensor_empty", dtype, ndim, shape, error);
}

tl_tensor *tl_tensor_zeros(tl_dtype dtype, int ndim, const int64_t *shape, tl_error *error)
{
    tl_tensor *tensor = tensor_of_shape("tensor_zeros", dtype, ndim, shape, error);
    if (tensor)
        memset(tensor->data, 0, bytes_of(tensor));
    return tensor;
}

tl_tensor *tl_tensor_from(tl_dtype dtype, int ndim, const int64_t *shape, const void *values,
                          tl_error *error)
{
    tl_tensor *tensor = tensor_of_shape("tensor_from", dtype, ndim, shape, error);
    if (tensor && tensor->layout.count)
        memcpy(tensor->data, values, bytes_of(tensor));
    return tensor;
}

tl_tensor *tl_tensor_copy(const tl_tensor *source, tl_dtype dtype, tl_error *error)
{
    tl_tensor *copy =
        tensor_of_shape("tensor_copy", dtype, source->layout.ndim, source->layout.shape, error);
    if (copy)
        tl_tensor_assign(copy, source, error); /* cannot fail: the shapes are the same */
    return copy;
}

/* ---- views ------------------------------------------------------------------------------ */

static char *advance(const tl_tensor *tensor, int64_t elements)
{
    return (char *)tensor->data + elements * (int64_t)tl_dtype_size(tensor->dtype);
}

static tl_tensor *view_of(const char *function, tl_tensor *tensor, const tl_layout *layout,
                          int64_t first, tl_error *error)
{
    tl_tensor *view = tl_system_get(sizeof *view);
    if (!view) {
        tl_fail(error, TL_ERR_MEMORY, "%s: no memory for a view, %zu bytes", function, sizeof *view);
        return NULL;
    }
    add_reference(&tensor->storage->references);
    *view = (tl_tensor){.data = advance(tensor, first),
                        .layout = *layout,
                        .dtype = tensor->dtype,
                        .references = 1,
                        .storage = tensor->storage};
    return view;
}

static int64_t from_end(int64_t index, int64_t size)
{
    return index < 0 ? index + size : index;
}

static bool outside(int64_t index, int64_t most)
{
    return index < 0 || index > most;
}

tl_tensor *tl_tensor_slice(tl_tensor *tensor, int dim, int64_t start, int64_t stop, int64_t step,
                           tl_error *error)
{
    tl_layout layout = tensor->layout;
    char text[TL_LAYOUT_TEXT];
    tl_layout_text(&layout, text);

    int64_t d = from_end(dim, layout.ndim);
    if (outside(d, (int64_t)layout.ndim - 1)) {
        tl_fail(error, TL_ERR_INDEX, "tensor_slice: dim %d of a %s tensor", dim, text);
        return NULL;
    }
    int64_t size = layout.shape[d], begin = from_end(start, size), end = from_end(stop, size);
    if (outside(begin, size) || outside(end, size)) {
        tl_fail(error, TL_ERR_INDEX,
                "tensor_slice: %" PRId64 " to %" PRId64 " in dim %d of a %s tensor", start, stop, dim,
                text);
        return NULL;
    }
    if (step < 1) {
        tl_fail(error, TL_ERR_ARGUMENT, "tensor_slice: step %" PRId64 "; 1 is the least", step);
        return NULL;
    }
    layout.shape[d] = end > begin ? (end - begin - 1) / step + 1 : 0;
    if (layout.shape[d] > 1) /* otherwise no step is taken, and a huge one would overflow */
        layout.stride[d] *= step;
    tl_layout_finish(&layout);
    int64_t first = layout.count ? begin * tensor->layout.stride[d] : 0; /* never past the storage */
    return view_of("tensor_slice", tensor, &layout, first, error);
}

tl_tensor *tl_tensor_permute(tl_tensor *tensor, const int *order, tl_error *error)
{
    const tl_layout *old = &tensor->layout;
    tl_layout layout = *old;
    unsigned seen = 0; /* bit d: dimension d has its new place */
    for (int i = 0; i < old->ndim; i++) {
        int d = order[i];
        if (outside(d, (int64_t)old->ndim - 1) || seen >> d & 1) {
            char text[TL_LAYOUT_TEXT];
            tl_fail(error, TL_ERR_INDEX, "tensor_permute: dim %d %s a %s tensor", d,
                    outside(d, (int64_t)old->ndim - 1) ? "of" : "twice in the order for",
                    tl_layout_text(old, text));
            return NULL;
        }
        seen |= 1u << d;
        layout.shape[i] = old->shape[d];
        layout.stride[i] = old->stride[d];
    }
    tl_layout_finish(&layout);
    return view_of("tensor_permute", tensor, &layout, 0, error);
}

tl_tensor *tl_tensor_reshape(tl_tensor *tensor, int ndim, const int64_t *shape, tl_error *error)
{
    tl_layout asked, view;
    if (layout_for("tensor_reshape", ndim, shape, &asked, error) != TL_OK)
        return NULL;
    if (tl_layout_reshape(&tensor->layout, &asked, &view))
        return view_of("tensor_reshape", tensor, &view, 0, error);

    char from[TL_LAYOUT_TEXT], to[TL_LAYOUT_TEXT];
    tl_layout_text(&tensor->layout, from);
    tl_layout_text(&asked, to);
    if (asked.count != tensor->layout.count)
        tl_fail(error, TL_ERR_SHAPE, "tensor_reshape: %s has %" PRId64 " elements, %s has %" PRId64,
                from, tensor->layout.count, to, asked.count);
    else
        tl_fail(
            error, TL_ERR_ARGUMENT,
            "tensor_reshape: the elements of this %s view do not lie so that %s could be one: copy it",
            from, to);
    return NULL;
}

tl_tensor *tl_tensor_expand(tl_tensor *tensor, int ndim, const int64_t *shape, tl_error *error)
{
    tl_layout asked, view;
    if (layout_for("tensor_expand", ndim, shape, &asked, error) != TL_OK)
        return NULL;
    if (tl_layout_expand(&tensor->layout, &asked, &view))
        return view_of("tensor_expand", tensor, &view, 0, error);
    char from[TL_LAYOUT_TEXT], to[TL_LAYOUT_TEXT];
    tl_fail(error, TL_ERR_SHAPE, "tensor_expand: %s cannot be broadcast to %s",
            tl_layout_text(&tensor->layout, from), tl_layout_text(&asked, to));
    return NULL;
}

/* ---- rows: n elements at equal distances ------------------------------------------------ */

static int64_t saturate_i64(double value)
{
    if (value != value)
        return 0;
    if (value <= -0x1p63)
        return INT64_MIN;
    return value < 0x1p63 ? (int64_t)value : INT64_MAX;
}

static uint8_t saturate_u8(double value)
{
    if (!(value > 0)) /* NaN too */
        return 0;
    return value < UINT8_MAX ? (uint8_t)value : UINT8_MAX;
}

static void load_row(double *to, tl_dtype dtype, const void *from, int64_t stride, int64_t n)
{
    switch (dtype) {
#define X(code, name, ctype)                                                                           \
    case code:                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                                \
            to[i] = (double)((const ctype *)from)[i * stride];                                         \
        break;
        TL_DTYPE_LIST(X)
#undef X
    }
}

static void store_row(tl_dtype dtype, void *to, int64_t stride, const double *from, int64_t n)
{
    switch (dtype) {
    case TL_F32:
        for (int64_t i = 0; i < n; i++)
            ((float *)to)[i * stride] = (float)from[i];
        break;
    case TL_F64:
        for (int64_t i = 0; i < n; i++)
            ((double *)to)[i * stride] = from[i];
        break;
    case TL_I64:
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)to)[i * stride] = saturate_i64(from[i]);
        break;
    case TL_U8:
        for (int64_t i = 0; i < n; i++)
            ((uint8_t *)to)[i * stride] = saturate_u8(from[i]);
        break;
    }
}

/* Within one dtype, elements do not pass through a double: an i64 keeps all its bits. */
static void copy_row(tl_dtype dtype, void *to, int64_t to_stride, const void *from, int64_t from_stride,
                     int64_t n)
{
    if (to_stride == 1 && from_stride == 1) {
        memcpy(to, from, (size_t)n * tl_dtype_size(dtype));
        return;
    }
    switch (dtype) {
#define X(code, name, ctype)                                                                           \
    case code:                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                                \
            ((ctype *)to)[i * to_stride] = ((const ctype *)from)[i * from_stride];                     \
        break;
        TL_DTYPE_LIST(X)
#undef X
    }
}

/* ---- walks: two arrays of one shape, row by row ----------------------------------------- */

typedef struct side {
    tl_dtype dtype;
    int64_t step; /* bytes of an element */
    int64_t stride[TL_MAX_DIMS];
} side;

typedef struct walk {
    int ndim; /* at least 1; the last dimension is the row */
    int64_t shape[TL_MAX_DIMS];
    side to, from;
} walk;

/* Dimensions that follow each other evenly on both sides are joined to one, and those of size 1
 * left out: two plain arrays of any shape become a single long row. */
static walk walk_together(const tl_layout *to, const tl_layout *from)
{
    walk w = {.ndim = 0};
    for (int d = 0; d < to->ndim; d++) {
        int64_t size = to->shape[d];
        if (size == 1)
            continue;
        int last = w.ndim - 1;
        bool joins = w.ndim && w.to.stride[last] == size * to->stride[d] &&
                     w.from.stride[last] == size * from->stride[d];
        if (!joins) {
            last = w.ndim++;
            w.shape[last] = 1;
        }
        w.shape[last] *= size;
        w.to.stride[last] = to->stride[d];
        w.from.stride[last] = from->stride[d];
    }
    if (!w.ndim) { /* one element */
        w.ndim = 1;
        w.shape[0] = w.to.stride[0] = w.from.stride[0] = 1;
    }
    return w;
}

static void convert_row(const walk *w, char *to, const char *from)
{
    enum { PART = 256 };
    double part[PART];
    int last = w->ndim - 1;
    int64_t to_stride = w->to.stride[last], from_stride = w->from.stride[last];
    for (int64_t i = 0, n; i < w->shape[last]; i += n) {
        n = w->shape[last] - i < PART ? w->shape[last] - i : PART;
        load_row(part, w->from.dtype, from + i * from_stride * w->from.step, from_stride, n);
        store_row(w->to.dtype, to + i * to_stride * w->to.step, to_stride, part, n);
    }
}

static void walk_rows(const walk *w, int d, char *to, const char *from)
{
    if (d < w->ndim - 1)
        for (int64_t i = 0; i < w->shape[d]; i++)
            walk_rows(w, d + 1, to + i * w->to.stride[d] * w->to.step,
                      from + i * w->from.stride[d] * w->from.step);
    else if (w->to.dtype == w->from.dtype)
        copy_row(w->to.dtype, to, w->to.stride[d], from, w->from.stride[d], w->shape[d]);
    else
        convert_row(w, to, from);
}

/* `from`: the layout of the source, expanded to the shape of the target. */
static void copy_elements(tl_tensor *target, const tl_tensor *source, const tl_layout *from)
{
    if (!target->layout.count)
        return;
    walk w = walk_together(&target->layout, from);
    w.to.dtype = target->dtype;
    w.to.step = (int64_t)tl_dtype_size(target->dtype);
    w.from.dtype = source->dtype;
    w.from.step = (int64_t)tl_dtype_size(source->dtype);
    walk_rows(&w, 0, target->data, source->data);
}

/* ---- reading and writing ---------------------------------------------------------------- */

static bool shares_places(const tl_layout *layout)
{
    for (int d = 0; d < layout->ndim; d++)
        if (layout->shape[d] > 1 && layout->stride[d] == 0)
            return true;
    return false;
}

tl_status tl_tensor_assign(tl_tensor *target, const tl_tensor *source, tl_error *error)
{
    tl_layout from;
    char of_target[TL_LAYOUT_TEXT], of_source[TL_LAYOUT_TEXT];
    if (!tl_layout_expand(&source->layout, &target->layout, &from))
        return tl_fail(error, TL_ERR_SHAPE, "tensor_assign: %s cannot be broadcast to %s",
                       tl_layout_text(&source->layout, of_source),
                       tl_layout_text(&target->layout, of_target));
    if (shares_places(&target->layout))
        return tl_fail(error, TL_ERR_ARGUMENT,
                       "tensor_assign: elements of the expanded %s target share places in memory",
                       tl_layout_text(&target->layout, of_target));
    copy_elements(target, source, &from);
    tl_tensor_touch(target);
    return TL_OK;
}

tl_status tl_tensor_fill(tl_tensor *tensor, double value)
{
    tl_tensor one = {.data = &value, .dtype = TL_F64};
    tl_layout everywhere = tensor->layout;
    memset(everywhere.stride, 0, sizeof everywhere.stride);
    copy_elements(tensor, &one, &everywhere);
    tl_tensor_touch(tensor);
    return TL_OK;
}

static char *element(const tl_tensor *tensor, int64_t i)
{
    const tl_layout *layout = &tensor->layout;
    if (layout->contiguous)
        return advance(tensor, i);
    int64_t offset = 0;
    for (int d = layout->ndim - 1; d >= 0; d--) {
        offset += i % layout->shape[d] * layout->stride[d];
        i /= layout->shape[d];
    }
    return advance(tensor, offset);
}

double tl_tensor_get(const tl_tensor *tensor, int64_t i)
{
    double value = 0;
    load_row(&value, tensor->dtype, element(tensor, i), 1, 1);
    return value;
}

void tl_tensor_set(tl_tensor *tensor, int64_t i, double value)
{
    store_row(tensor->dtype, element(tensor, i), 1, &value, 1);
    tl_tensor_touch(tensor);
}
