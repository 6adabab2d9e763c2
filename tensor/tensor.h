/* tensor.h - dtype, layout, tensor: numbers and where they lie in memory.
 *
 *   tl_tensor ---> layout   { ndim 2, shape [2,3], stride [3,1] }      (elements, not bytes)
 *       |
 *       +--------> storage  { references, bytes }  <---- other views of the same numbers
 *       |             |
 *       +- data --->  [ 64-byte aligned bytes ]
 *
 * A tensor is a view: several may share a storage, which lives until the last of them is
 * released. Strides may be zero (expanded dimensions), never negative. */
#ifndef TL_TENSOR_H
#define TL_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "status.h"

#define TL_DTYPE_LIST(X)                                                                               \
    X(TL_F32, "f32", float)                                                                            \
    X(TL_F64, "f64", double)                                                                           \
    X(TL_I64, "i64", int64_t) /* indices, class */                                                     \
    X(TL_U8, "u8", uint8_t)   /* masks */

typedef enum tl_dtype {
#define X(code, name, ctype) code,
    TL_DTYPE_LIST(X)
#undef X
} tl_dtype;

TL_API const char *tl_dtype_name(tl_dtype dtype); /* "f32" */
TL_API size_t tl_dtype_size(tl_dtype dtype);      /* bytes of an element */

static inline bool tl_dtype_is_real(tl_dtype dtype)
{
    return dtype == TL_F32 || dtype == TL_F64;
}

enum { TL_MAX_DIMS = 8 };

/* How an n-dimensional array lies in memory. A scalar has ndim 0 and one element; a
 * dimension of size zero makes an array without elements. */
typedef struct tl_layout {
    int64_t count;   /* elements: the product of the sizes */
    int32_t ndim;    /* 0..TL_MAX_DIMS */
    bool contiguous; /* row-major without gaps: element i is data[i] */
    int64_t shape[TL_MAX_DIMS];
    int64_t stride[TL_MAX_DIMS]; /* in elements */
} tl_layout;

enum { TL_LAYOUT_TEXT = 192 }; /* room for any layout's text */

/* Row-major layout of that shape. TL_ERR_ARGUMENT: more than TL_MAX_DIMS dimensions, a
 * negative size, or more elements than can be addressed (sizes of 0 count as 1 in this). */
TL_API tl_status tl_layout_make(tl_layout *layout, int ndim, const int64_t *shape);
/* Recomputes count and contiguous after shape and stride were set by hand. */
TL_API void tl_layout_finish(tl_layout *layout);
TL_API bool tl_layout_same_shape(const tl_layout *a, const tl_layout *b);
/* NumPy's rule: sizes are aligned at the right; equal, or one of them is 1. The result's
 * shape goes to `out` (contiguous). False when the shapes do not fit, or not into memory. */
TL_API bool tl_layout_broadcast(const tl_layout *a, const tl_layout *b, tl_layout *out);
/* `from` seen with `to`'s shape: broadcast dimensions get stride 0. False if it cannot be. */
TL_API bool tl_layout_expand(const tl_layout *from, const tl_layout *to, tl_layout *out);
/* `from` with another shape of as many elements, without moving any. False if that needs a copy. */
TL_API bool tl_layout_reshape(const tl_layout *from, const tl_layout *shape, tl_layout *out);
/* "[16,128]" into `text`, which it returns. */
TL_API const char *tl_layout_text(const tl_layout *layout, char text[TL_LAYOUT_TEXT]);

typedef struct tl_storage tl_storage;

typedef struct tl_tensor {
    void *data; /* of the first element */
    tl_layout layout;
    tl_dtype dtype;
    int references; /* private; use tl_tensor_retain and tl_tensor_release */
    tl_storage *storage;
} tl_tensor;

/* ---- making ---------------------------------------------------------------
 * Each returns a tensor with one reference, or NULL with the reason in `error`. */

TL_API tl_tensor *tl_tensor_empty(tl_dtype dtype, int ndim, const int64_t *shape, tl_error *error);
TL_API tl_tensor *tl_tensor_zeros(tl_dtype dtype, int ndim, const int64_t *shape, tl_error *error);
/* Copies `values` (row-major, of that dtype). */
TL_API tl_tensor *tl_tensor_from(tl_dtype dtype, int ndim, const int64_t *shape, const void *values,
                                 tl_error *error);
/* A contiguous copy, converted to `dtype`. Reals to integers truncate; what is out of range
 * becomes the nearest that is not, and NaN 0. */
TL_API tl_tensor *tl_tensor_copy(const tl_tensor *source, tl_dtype dtype, tl_error *error);

/* Shape literals: tl_tensor_zeros(TL_F32, TL_SHAPE(16, 128), &error). */
#define TL_SHAPE(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                       \
    {                                                                                                  \
        __VA_ARGS__                                                                                    \
    }

TL_API tl_tensor *tl_tensor_retain(tl_tensor *tensor); /* returns it; NULL is fine */
TL_API void tl_tensor_release(tl_tensor *tensor);      /* NULL is fine */

/* ---- views: the same numbers under another layout --------------------------------------- */

/* Elements start, start+step, ... below stop of dimension `dim`; negative counts from the end.
 * TL_ERR_INDEX when one of them is out of range: nothing is clipped. */
TL_API tl_tensor *tl_tensor_slice(tl_tensor *tensor, int dim, int64_t start, int64_t stop, int64_t step,
                                  tl_error *error);
TL_API tl_tensor *tl_tensor_permute(tl_tensor *tensor, const int *order, tl_error *error);
/* A view; TL_ERR_ARGUMENT when only a copy could have that shape. */
TL_API tl_tensor *tl_tensor_reshape(tl_tensor *tensor, int ndim, const int64_t *shape, tl_error *error);
/* NumPy's broadcast_to. */
TL_API tl_tensor *tl_tensor_expand(tl_tensor *tensor, int ndim, const int64_t *shape, tl_error *error);

/* ---- reading and writing ---------------------------------------------------------------- */

/* Copies elements, converting dtype; `source` is broadcast to the shape of `target`.
 * TL_ERR_ARGUMENT for a target that is expanded itself. The two may not overlap. */
TL_API tl_status tl_tensor_assign(tl_tensor *target, const tl_tensor *source, tl_error *error);
TL_API tl_status tl_tensor_fill(tl_tensor *tensor, double value);
/* Element at row-major position `i` of the view, as a double. No bounds check: see layout.count. */
TL_API double tl_tensor_get(const tl_tensor *tensor, int64_t i);
TL_API void tl_tensor_set(tl_tensor *tensor, int64_t i, double value);
/* Every function of the library that writes a tensor's numbers raises the version that all views of
 * them share; a tape finds out by it that numbers it still needs were changed. Who writes through
 * `data` says so with tl_tensor_touch. */
TL_API void tl_tensor_touch(tl_tensor *tensor);
TL_API uint64_t tl_tensor_version(const tl_tensor *tensor);
/* Nested brackets, aligned columns, long dimensions cut in the middle, as NumPy prints.
 * TL_ERR_IO when the stream does not take it. */
TL_API tl_status tl_tensor_print(const tl_tensor *tensor, FILE *stream);

/* ---- a borrowed look -------------------------------------------------------------------- */

/* What kernels and the rules of an op see: no ownership, valid as long as what it looks at. */
typedef struct tl_array {
    void *data;
    const tl_layout *layout;
    tl_dtype dtype;
} tl_array;

static inline tl_array tl_tensor_array(const tl_tensor *tensor)
{
    return (tl_array){tensor->data, &tensor->layout, tensor->dtype};
}

/* An elementwise kernel: y[i] = f(x[0][i], x[1][i], ...), i < n, over contiguous numbers.
 * `scalar` holds the op's constants, if it has any. y may be one of the x. */
typedef void tl_kernel(int64_t n, const void *const *x, void *y, const double *scalar);

#endif
