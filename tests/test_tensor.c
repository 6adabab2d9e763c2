/* Layouts, tensors, views, assignment, printing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/tensor.h"

/* ---- help ------------------------------------------------------------------------------- */

/* The library takes its memory from aligned_alloc. This program has its own, which can be told
 * to fail, and which refuses sizes that a sanitizer would stop the program for. */
static int failing_allocation = 0; /* the n-th from now, and no other; 0 for none */

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *pointer = NULL;
    bool fails = failing_allocation && --failing_allocation == 0;
    return !fails && !(bytes >> 40) && posix_memalign(&pointer, alignment, bytes) == 0 ? pointer : NULL;
}

#define assert_number(actual, expected) check_number((actual), (expected), __LINE__)

static void check_number(double actual, double expected, int line)
{
    if (!(actual == expected || (isnan(actual) && isnan(expected))))
        fail_msg("line %d: %.17g should be %.17g", line, actual, expected);
}

#define assert_fails(error, code, text) check_error(&(error), (code), (text), __LINE__)

static void check_error(tl_error *error, tl_status status, const char *message, int line)
{
    if (error->status != status || strcmp(error->message, message) != 0)
        fail_msg("line %d: status %d \"%s\" should be %d \"%s\"", line, error->status, error->message,
                 status, message);
    *error = (tl_error){.status = TL_OK};
}

static tl_layout layout_of(int ndim, const int64_t *shape)
{
    tl_layout layout;
    assert_int_equal(tl_layout_make(&layout, ndim, shape), TL_OK);
    return layout;
}

#define LAYOUT(...) layout_of(TL_SHAPE(__VA_ARGS__))
#define ELEMENTS(...)                                                                                  \
    (const int64_t[])                                                                                  \
    {                                                                                                  \
        __VA_ARGS__                                                                                    \
    }

static void check_shape(const tl_layout *layout, const char *text)
{
    char own[TL_LAYOUT_TEXT];
    assert_string_equal(tl_layout_text(layout, own), text);
}

/* 0, 1, 2, ... */
static tl_tensor *counting(tl_dtype dtype, int ndim, const int64_t *shape)
{
    tl_tensor *tensor = tl_tensor_empty(dtype, ndim, shape, NULL);
    assert_non_null(tensor);
    for (int64_t i = 0; i < tensor->layout.count; i++)
        tl_tensor_set(tensor, i, (double)i);
    return tensor;
}

/* Where element i lies, told by division only. */
static int64_t offset_of(const tl_layout *layout, int64_t i)
{
    int64_t offset = 0;
    for (int d = layout->ndim - 1; d >= 0; i /= layout->shape[d], d--)
        offset += i % layout->shape[d] * layout->stride[d];
    return offset;
}

static unsigned dice_state = 1;

static int64_t dice(int64_t sides) /* 0..sides-1 */
{
    dice_state = dice_state * 1664525u + 1013904223u;
    return (int64_t)(dice_state >> 16) % sides;
}

/* ---- layouts ---------------------------------------------------------------------------- */

static void layout_make_is_row_major(void **state)
{
    (void)state;
    tl_layout a = LAYOUT(4, 3, 5);
    assert_int_equal(a.count, 60);
    assert_true(a.contiguous);
    assert_memory_equal(a.stride, ELEMENTS(15, 5, 1), 3 * sizeof(int64_t));

    tl_layout scalar;
    assert_int_equal(tl_layout_make(&scalar, 0, NULL), TL_OK);
    assert_int_equal(scalar.count, 1);
    assert_true(scalar.contiguous);

    tl_layout empty = LAYOUT(4, 0, 5);
    assert_int_equal(empty.count, 0);
    assert_true(empty.contiguous);
    assert_memory_equal(empty.stride, ELEMENTS(5, 5, 1), 3 * sizeof(int64_t));
}

static void layout_make_refuses(void **state)
{
    (void)state;
    tl_layout a = LAYOUT(7);
    const int64_t ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const int64_t most = INT64_MAX / 8;
    assert_int_equal(tl_layout_make(&a, 9, ones), TL_ERR_ARGUMENT);
    assert_int_equal(tl_layout_make(&a, -1, ones), TL_ERR_ARGUMENT);
    assert_int_equal(tl_layout_make(&a, TL_SHAPE(3, -2)), TL_ERR_ARGUMENT);
    assert_int_equal(tl_layout_make(&a, TL_SHAPE(most + 1)), TL_ERR_ARGUMENT);
    assert_int_equal(tl_layout_make(&a, TL_SHAPE(1LL << 32, 1LL << 31)), TL_ERR_ARGUMENT);
    assert_int_equal(tl_layout_make(&a, TL_SHAPE(0, 1LL << 40, 1LL << 40)), TL_ERR_ARGUMENT);
    check_shape(&a, "[7]"); /* untouched */

    assert_int_equal(tl_layout_make(&a, 8, ones), TL_OK);
    assert_int_equal(tl_layout_make(&a, TL_SHAPE(most)), TL_OK);
    assert_int_equal(a.count, most);
    assert_int_equal(tl_layout_make(&a, TL_SHAPE(1LL << 40, 0, 1LL << 19)), TL_OK);
    tl_layout_finish(&a);
    assert_int_equal(a.count, 0);
}

static void layout_finish_sees_gaps(void **state)
{
    (void)state;
    tl_layout a = LAYOUT(4, 3);
    a.shape[1] = 2; /* strides 3, 1 */
    tl_layout_finish(&a);
    assert_int_equal(a.count, 8);
    assert_false(a.contiguous);
    a.shape[0] = 1; /* the only jump is never made */
    tl_layout_finish(&a);
    assert_int_equal(a.count, 2);
    assert_true(a.contiguous);
    a.shape[0] = 4;
    a.shape[1] = 0;
    tl_layout_finish(&a);
    assert_int_equal(a.count, 0);
    assert_true(a.contiguous); /* no element, no gap */
}

static void layout_same_shape(void **state)
{
    (void)state;
    tl_layout a = LAYOUT(4, 3), b = LAYOUT(4, 3), c = LAYOUT(3, 4), d = LAYOUT(4, 3, 1);
    b.stride[0] = 17;
    assert_true(tl_layout_same_shape(&a, &b));
    assert_false(tl_layout_same_shape(&a, &c));
    assert_false(tl_layout_same_shape(&a, &d));
    assert_false(tl_layout_same_shape(&d, &a));
}

static void check_broadcast(tl_layout a, tl_layout b, const char *text) /* NULL: does not fit */
{
    tl_layout forth, back;
    assert_int_equal(tl_layout_broadcast(&a, &b, &forth), text != NULL);
    assert_int_equal(tl_layout_broadcast(&b, &a, &back), text != NULL);
    if (!text)
        return;
    check_shape(&forth, text);
    check_shape(&back, text);
    assert_true(forth.contiguous);
}

static void layout_broadcast_is_numpys(void **state)
{
    (void)state;
    tl_layout scalar = layout_of(0, NULL);
    check_broadcast(LAYOUT(4, 3), LAYOUT(4, 3), "[4,3]");
    check_broadcast(LAYOUT(4, 3), LAYOUT(3), "[4,3]");
    check_broadcast(LAYOUT(4, 1), LAYOUT(5), "[4,5]");
    check_broadcast(LAYOUT(2, 1, 5), LAYOUT(7, 1), "[2,7,5]");
    check_broadcast(LAYOUT(4, 3), scalar, "[4,3]");
    check_broadcast(scalar, scalar, "[]");
    check_broadcast(LAYOUT(0), LAYOUT(1), "[0]");
    check_broadcast(LAYOUT(4, 1), LAYOUT(0), "[4,0]");
    check_broadcast(LAYOUT(4, 3), LAYOUT(4), NULL);
    check_broadcast(LAYOUT(0), LAYOUT(2), NULL);
    check_broadcast(LAYOUT(1LL << 40, 1), LAYOUT(1LL << 40), NULL); /* fits nowhere */

    tl_layout a = LAYOUT(4, 1), b = LAYOUT(3);
    assert_true(tl_layout_broadcast(&a, &b, &a)); /* the result may replace an argument */
    check_shape(&a, "[4,3]");
}

static void layout_expand_has_zero_strides(void **state)
{
    (void)state;
    tl_layout from = LAYOUT(3, 1), to = LAYOUT(2, 3, 5), out;
    assert_true(tl_layout_expand(&from, &to, &out));
    check_shape(&out, "[2,3,5]");
    assert_memory_equal(out.stride, ELEMENTS(0, 1, 0), 3 * sizeof(int64_t));
    assert_int_equal(out.count, 30);
    assert_false(out.contiguous);

    assert_true(tl_layout_expand(&to, &to, &out));
    assert_true(out.contiguous);
    assert_false(tl_layout_expand(&to, &from, &out)); /* never the other way */
    tl_layout other = LAYOUT(2, 3);
    assert_false(tl_layout_expand(&other, &to, &out));
    tl_layout one = LAYOUT(1), none = LAYOUT(0);
    assert_true(tl_layout_expand(&one, &none, &out));
    assert_int_equal(out.count, 0);
}

/* A view of that shape exists when the offsets of its elements are affine in the indices: steps
 * along each dimension give the strides, and all others must follow. */
static bool view_exists(const tl_layout *from, const tl_layout *shape)
{
    tl_layout view = *shape;
    for (int d = 0; d < shape->ndim; d++)
        view.stride[d] = shape->shape[d] > 1 ? offset_of(from, shape->stride[d]) : 0;
    for (int64_t i = 0; i < from->count; i++)
        if (offset_of(&view, i) != offset_of(from, i))
            return false;
    return true;
}

static void check_reshape(const tl_layout *from, const tl_layout *shape, int *views)
{
    tl_layout out;
    bool found = tl_layout_reshape(from, shape, &out);
    assert_int_equal(found, view_exists(from, shape));
    if (!found)
        return;
    ++*views;
    assert_true(tl_layout_same_shape(&out, shape));
    assert_int_equal(out.count, from->count);
    for (int64_t i = 0; i < from->count; i++)
        assert_int_equal(offset_of(&out, i), offset_of(from, i));
}

/* Every shape of up to 4 dimensions with `count` elements, ones included. */
static void check_all_reshapes(const tl_layout *from, int *shapes, int *views)
{
    const int64_t n = from->count;
    for (int64_t a = 1; a <= n; a++)
        for (int64_t b = 1; b <= n; b++)
            for (int64_t c = 1; c <= n; c++)
                if (n % a == 0 && n / a % b == 0 && n / a / b % c == 0) {
                    tl_layout shape = LAYOUT(a, b, c, n / a / b / c);
                    check_reshape(from, &shape, views);
                    ++*shapes;
                }
}

static void layout_reshape_finds_every_view(void **state)
{
    (void)state;
    int shapes = 0, views = 0;
    const int64_t strides[][3] = {
        {6, 3, 1}, {10, 3, 1}, {12, 6, 2}, {6, 1, 2}, {1, 4, 8}, {0, 3, 1}, {3, 0, 1}, {3, 1, 0},
        {0, 0, 0}, {20, 5, 1}, {30, 9, 3}, {0, 0, 1}, {0, 1, 2}, {6, 3, 2}, {1, 1, 1},
    };
    for (size_t s = 0; s < sizeof strides / sizeof strides[0]; s++)
        for (int one = -1; one < 3; one++) { /* one of the dimensions may have size 1 */
            tl_layout from = LAYOUT(4, 2, 3);
            memcpy(from.stride, strides[s], sizeof strides[s]);
            if (one >= 0)
                from.shape[one] = 1;
            tl_layout_finish(&from);
            check_all_reshapes(&from, &shapes, &views);
        }
    assert_true(views > 500 && views < shapes - 500); /* both answers occur often */

    tl_layout a = LAYOUT(4, 3), b = LAYOUT(6), none = LAYOUT(0, 3), other = LAYOUT(7, 0), out;
    assert_false(tl_layout_reshape(&a, &b, &out));
    assert_true(tl_layout_reshape(&none, &other, &out));
    check_shape(&out, "[7,0]");
}

static void layout_text_has_room(void **state)
{
    (void)state;
    tl_layout scalar = layout_of(0, NULL), a = LAYOUT(16, 128), longest = {.ndim = TL_MAX_DIMS};
    check_shape(&scalar, "[]");
    check_shape(&a, "[16,128]");
    for (int d = 0; d < TL_MAX_DIMS; d++)
        longest.shape[d] = INT64_MIN;
    char text[TL_LAYOUT_TEXT];
    assert_int_equal(strlen(tl_layout_text(&longest, text)), 8 * 20 + 7 + 2);
}

/* ---- making ----------------------------------------------------------------------------- */

static void dtypes(void **state)
{
    (void)state;
    assert_string_equal(tl_dtype_name(TL_F32), "f32");
    assert_string_equal(tl_dtype_name(TL_U8), "u8");
    assert_int_equal(tl_dtype_size(TL_F32), 4);
    assert_int_equal(tl_dtype_size(TL_F64), 8);
    assert_int_equal(tl_dtype_size(TL_I64), 8);
    assert_int_equal(tl_dtype_size(TL_U8), 1);
}

static void making(void **state)
{
    (void)state;
    const float values[] = {1.5f, -2, 3, -4, 5, -6.25f};
    tl_tensor *a = tl_tensor_from(TL_F32, TL_SHAPE(2, 3), values, NULL);
    assert_memory_equal(a->data, values, sizeof values);
    assert_int_equal((uintptr_t)a->data % 64, 0);
    assert_number(tl_tensor_get(a, 5), -6.25);

    tl_tensor *zeros = tl_tensor_zeros(TL_I64, TL_SHAPE(3, 2), NULL);
    for (int64_t i = 0; i < 6; i++)
        assert_number(tl_tensor_get(zeros, i), 0);

    tl_tensor *scalar = tl_tensor_from(TL_F64, 0, NULL, &(double){-0.1}, NULL);
    assert_number(tl_tensor_get(scalar, 0), -0.1);

    tl_tensor *copy = tl_tensor_copy(a, TL_F64, NULL);
    assert_int_equal(copy->dtype, TL_F64);
    check_shape(&copy->layout, "[2,3]");
    assert_number(((double *)copy->data)[1], -2);

    tl_tensor_release(a);
    tl_tensor_release(zeros);
    tl_tensor_release(scalar);
    tl_tensor_release(copy);
    tl_tensor_release(NULL);
    assert_null(tl_tensor_retain(NULL));
}

static void making_says_what_is_wrong(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    const int64_t ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_null(tl_tensor_zeros(TL_F32, 9, ones, &error));
    assert_fails(error, TL_ERR_ARGUMENT, "tensor_zeros: 9 dimensions; 0 to 8 are possible");
    assert_null(tl_tensor_empty(TL_F32, TL_SHAPE(2, -3), &error));
    assert_fails(error, TL_ERR_ARGUMENT,
                 "tensor_empty: a size is negative, or there are too many elements: [2,-3]");
    assert_null(tl_tensor_from(TL_U8, TL_SHAPE(1LL << 32, 1LL << 32), "", &error));
    assert_fails(
        error, TL_ERR_ARGUMENT,
        "tensor_from: a size is negative, or there are too many elements: [4294967296,4294967296]");
    assert_null(tl_tensor_empty(TL_F32, TL_SHAPE(1LL << 58, 3), &error));
    assert_fails(error, TL_ERR_MEMORY,
                 "tensor_empty: no memory for f32 [288230376151711744,3], 3458764513820540928 bytes");
    assert_null(tl_tensor_empty(TL_F32, 9, ones, NULL)); /* nobody wants to know */
}

/* Not under valgrind, which puts its own aligned_alloc in the place of this program's. */
static bool memory_can_fail(void)
{
    failing_allocation = 1;
    tl_tensor *probe = tl_tensor_zeros(TL_F32, 0, NULL, NULL);
    failing_allocation = 0;
    tl_tensor_release(probe);
    return !probe;
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    if (!memory_can_fail())
        skip();
    tl_tensor *a = counting(TL_F32, TL_SHAPE(3, 4));
    for (int n = 1; n <= 2; n++) { /* the tensor; its storage */
        tl_error error = {.status = TL_OK};
        failing_allocation = n;
        assert_null(tl_tensor_zeros(TL_F64, TL_SHAPE(5, 2), &error));
        assert_fails(error, TL_ERR_MEMORY, "tensor_zeros: no memory for f64 [5,2], 80 bytes");
        failing_allocation = n;
        assert_null(tl_tensor_copy(a, TL_F64, &error));
        assert_fails(error, TL_ERR_MEMORY, "tensor_copy: no memory for f64 [3,4], 96 bytes");
    }
    tl_error errors[4] = {{.status = TL_OK}};
    failing_allocation = 1;
    assert_null(tl_tensor_slice(a, 0, 0, 1, 1, &errors[0]));
    failing_allocation = 1;
    assert_null(tl_tensor_permute(a, (int[]){1, 0}, &errors[1]));
    failing_allocation = 1;
    assert_null(tl_tensor_reshape(a, TL_SHAPE(12), &errors[2]));
    failing_allocation = 1;
    assert_null(tl_tensor_expand(a, TL_SHAPE(2, 3, 4), &errors[3]));
    for (int i = 0; i < 4; i++)
        assert_int_equal(errors[i].status, TL_ERR_MEMORY);
    assert_non_null(strstr(errors[0].message, "tensor_slice: no memory for a view"));
    tl_tensor_release(a);
}

/* ---- references ------------------------------------------------------------------------- */

static void views_outlive_their_origin(void **state)
{
    (void)state;
    tl_tensor *a = counting(TL_F64, TL_SHAPE(4, 3));
    tl_tensor *row = tl_tensor_slice(a, 0, 2, 3, 1, NULL);
    tl_tensor *again = tl_tensor_retain(row);
    assert_ptr_equal(again, row);
    tl_tensor_release(a);
    tl_tensor_release(row);
    tl_tensor_set(again, 1, -70);
    assert_number(tl_tensor_get(again, 0), 6);
    assert_number(tl_tensor_get(again, 1), -70);
    tl_tensor_release(again);
}

enum { THREADS = 4, TURNS = 20000 };

static void *take_and_drop(void *argument)
{
    tl_tensor *shared = argument;
    for (int i = 0; i < TURNS; i++) {
        tl_tensor *own = tl_tensor_retain(shared);
        tl_tensor *view = tl_tensor_slice(own, 0, 1, 3, 1, NULL);
        tl_tensor_release(own);
        tl_tensor_release(view);
    }
    tl_tensor_release(shared);
    return NULL;
}

static void references_are_counted_across_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    tl_tensor *shared = counting(TL_F32, TL_SHAPE(5));
    tl_tensor *view = tl_tensor_slice(shared, 0, 4, 5, 1, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_drop, tl_tensor_retain(shared)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(shared->references, 1);
    tl_tensor_release(shared);
    assert_number(tl_tensor_get(view, 0), 4); /* the storage is still there */
    tl_tensor_release(view);                  /* and is freed here: the leak checker collects */
}

/* ---- views ------------------------------------------------------------------------------ */

static void slice_takes_what_it_says(void **state)
{
    (void)state;
    tl_tensor *a = counting(TL_I64, TL_SHAPE(2, 7, 3));
    for (int64_t start = 0; start <= 7; start++)
        for (int64_t stop = 0; stop <= 7; stop++)
            for (int64_t step = 1; step <= 8; step++) {
                tl_tensor *s = tl_tensor_slice(a, 1, start, stop, step, NULL);
                int64_t j = 0;
                for (int64_t i = start; i < stop; i += step, j++)
                    for (int64_t c = 0; c < 3; c++)
                        for (int64_t b = 0; b < 2; b++)
                            assert_number(tl_tensor_get(s, (b * s->layout.shape[1] + j) * 3 + c),
                                          (double)((b * 7 + i) * 3 + c));
                assert_int_equal(s->layout.shape[1], j);
                assert_int_equal(s->layout.count, 2 * j * 3);
                tl_tensor_release(s);
            }
    tl_tensor_release(a);
}

static void slice_counts_from_the_end(void **state)
{
    (void)state;
    tl_tensor *a = counting(TL_F32, TL_SHAPE(4, 5));
    tl_tensor *s = tl_tensor_slice(a, -1, -3, -1, 1, NULL); /* columns 2, 3 */
    check_shape(&s->layout, "[4,2]");
    assert_number(tl_tensor_get(s, 0), 2);
    assert_number(tl_tensor_get(s, 7), 18);
    tl_tensor *one = tl_tensor_slice(s, 0, 1, 4, INT64_MAX, NULL); /* no overflow */
    check_shape(&one->layout, "[1,2]");
    assert_number(tl_tensor_get(one, 1), 8);
    tl_tensor *none = tl_tensor_slice(s, 0, 4, 4, 1, NULL);
    assert_int_equal(none->layout.count, 0);
    assert_ptr_equal(none->data, s->data);
    tl_tensor_release(a);
    tl_tensor_release(s);
    tl_tensor_release(one);
    tl_tensor_release(none);
}

static void slice_refuses(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor *a = counting(TL_F32, TL_SHAPE(4, 5));
    tl_tensor *scalar = tl_tensor_zeros(TL_F32, 0, NULL, NULL);
    assert_null(tl_tensor_slice(a, 3, 0, 1, 1, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_slice: dim 3 of a [4,5] tensor");
    assert_null(tl_tensor_slice(a, -3, 0, 1, 1, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_slice: dim -3 of a [4,5] tensor");
    assert_null(tl_tensor_slice(scalar, 0, 0, 1, 1, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_slice: dim 0 of a [] tensor");
    assert_null(tl_tensor_slice(a, 0, 0, 5, 1, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_slice: 0 to 5 in dim 0 of a [4,5] tensor");
    assert_null(tl_tensor_slice(a, 1, -6, 2, 1, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_slice: -6 to 2 in dim 1 of a [4,5] tensor");
    assert_null(tl_tensor_slice(a, 1, INT64_MIN, INT64_MAX, 1, &error));
    assert_int_equal(error.status, TL_ERR_INDEX);
    error.status = TL_OK;
    assert_null(tl_tensor_slice(a, 1, 0, 2, 0, &error));
    assert_fails(error, TL_ERR_ARGUMENT, "tensor_slice: step 0; 1 is the least");
    tl_tensor_release(a);
    tl_tensor_release(scalar);
}

static void permute(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor *a = counting(TL_F64, TL_SHAPE(2, 3, 4));
    tl_tensor *p = tl_tensor_permute(a, (int[]){2, 0, 1}, NULL); /* p[k,i,j] = a[i,j,k] */
    check_shape(&p->layout, "[4,2,3]");
    assert_false(p->layout.contiguous);
    for (int64_t k = 0; k < 4; k++)
        for (int64_t i = 0; i < 2; i++)
            for (int64_t j = 0; j < 3; j++)
                assert_number(tl_tensor_get(p, (k * 2 + i) * 3 + j), (double)((i * 3 + j) * 4 + k));
    assert_null(tl_tensor_permute(a, (int[]){0, 3, 1}, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_permute: dim 3 of a [2,3,4] tensor");
    assert_null(tl_tensor_permute(a, (int[]){0, -1, 1}, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_permute: dim -1 of a [2,3,4] tensor");
    assert_null(tl_tensor_permute(a, (int[]){0, 1, 1}, &error));
    assert_fails(error, TL_ERR_INDEX, "tensor_permute: dim 1 twice in the order for a [2,3,4] tensor");
    tl_tensor_release(a);
    tl_tensor_release(p);
}

static void reshape(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor *a = counting(TL_F32, TL_SHAPE(2, 6));
    tl_tensor *r = tl_tensor_reshape(a, TL_SHAPE(4, 3), NULL);
    tl_tensor_set(r, 7, -7);
    assert_number(tl_tensor_get(a, 7), -7); /* the same numbers */
    tl_tensor *columns = tl_tensor_permute(a, (int[]){1, 0}, NULL);
    assert_null(tl_tensor_reshape(columns, TL_SHAPE(12), &error));
    assert_fails(
        error, TL_ERR_ARGUMENT,
        "tensor_reshape: the elements of this [6,2] view do not lie so that [12] could be one: "
        "copy it");
    assert_null(tl_tensor_reshape(a, TL_SHAPE(5, 2), &error));
    assert_fails(error, TL_ERR_SHAPE, "tensor_reshape: [2,6] has 12 elements, [5,2] has 10");
    assert_null(tl_tensor_reshape(a, TL_SHAPE(-1, 2), &error));
    assert_fails(error, TL_ERR_ARGUMENT,
                 "tensor_reshape: a size is negative, or there are too many elements: [-1,2]");
    tl_tensor_release(a);
    tl_tensor_release(r);
    tl_tensor_release(columns);
}

static void expand(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor *a = counting(TL_F32, TL_SHAPE(3, 1));
    tl_tensor *e = tl_tensor_expand(a, TL_SHAPE(2, 3, 4), NULL);
    for (int64_t i = 0; i < 24; i++)
        assert_number(tl_tensor_get(e, i), (double)(i / 4 % 3));
    assert_null(tl_tensor_expand(a, TL_SHAPE(4, 2), &error));
    assert_fails(error, TL_ERR_SHAPE, "tensor_expand: [3,1] cannot be broadcast to [4,2]");
    assert_null(tl_tensor_expand(a, TL_SHAPE(3), &error));
    assert_fails(error, TL_ERR_SHAPE, "tensor_expand: [3,1] cannot be broadcast to [3]");
    tl_tensor_release(a);
    tl_tensor_release(e);
}

/* ---- reading and writing ---------------------------------------------------------------- */

/* A view of a new tensor, sliced and permuted in any way; its tensor goes to `whole`. */
static tl_tensor *any_view(tl_dtype dtype, const int64_t shape[3], tl_tensor **whole)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const int *order = orders[dice(6)];
    int64_t larger[3], start[3], step[3];
    for (int d = 0; d < 3; d++) {
        int64_t size = shape[order[d]];
        start[d] = dice(3);
        step[d] = 1 + dice(2);
        larger[d] = start[d] + size * step[d] + dice(2);
    }
    tl_tensor *view = counting(dtype, 3, larger);
    *whole = tl_tensor_retain(view);
    for (int d = 0; d < 3; d++) {
        int64_t stop = start[d] + shape[order[d]] * step[d];
        tl_tensor *part = tl_tensor_slice(view, d, start[d], stop, step[d], NULL);
        tl_tensor_release(view);
        view = part;
    }
    int back[3];
    for (int d = 0; d < 3; d++)
        back[order[d]] = d;
    tl_tensor *turned = tl_tensor_permute(view, back, NULL);
    tl_tensor_release(view);
    return turned;
}

static double sum(const tl_tensor *tensor)
{
    double total = 0;
    for (int64_t i = 0; i < tensor->layout.count; i++)
        total += tl_tensor_get(tensor, i);
    return total;
}

static void assign_meets_every_layout(void **state)
{
    (void)state;
    dice_state = 11;
    for (int round = 0; round < 3000; round++) {
        const int64_t to_shape[3] = {dice(5), 1 + dice(4), 1 + dice(3)};
        int64_t from_shape[3];
        for (int d = 0; d < 3; d++)
            from_shape[d] = dice(4) ? to_shape[d] : 1;
        tl_tensor *to_whole, *from_whole;
        tl_tensor *to = any_view((tl_dtype)dice(3), to_shape, &to_whole); /* u8: too short for all */
        tl_tensor *from = any_view((tl_dtype)dice(3), from_shape, &from_whole);
        tl_tensor *seen = tl_tensor_expand(from, 3, to_shape, NULL);
        double others = sum(to_whole) - sum(to);

        assert_int_equal(tl_tensor_assign(to, from, NULL), TL_OK);
        for (int64_t i = 0; i < to->layout.count; i++)
            assert_number(tl_tensor_get(to, i), tl_tensor_get(seen, i));
        assert_number(sum(to_whole) - sum(to), others); /* not a number beside the view has changed */

        assert_int_equal(tl_tensor_fill(to, -3), TL_OK);
        assert_number(sum(to), -3 * (double)to->layout.count);
        assert_number(sum(to_whole) - sum(to), others);
        tl_tensor_release(to);
        tl_tensor_release(from);
        tl_tensor_release(seen);
        tl_tensor_release(to_whole);
        tl_tensor_release(from_whole);
    }
}

static void assign_converts(void **state)
{
    (void)state;
    const double values[] = {2.75, -2.75,    255.9,     256,    1e300, -1e300,
                             NAN,  INFINITY, -INFINITY, 0x1p53, 0x1p63};
    const double as_u8[] = {2, 0, 255, 255, 255, 0, 0, 255, 0, 255, 255};
    const int64_t as_i64[] = {2, -2,        255,       256,       INT64_MAX, INT64_MIN,
                              0, INT64_MAX, INT64_MIN, 1LL << 53, INT64_MAX};
    tl_tensor *real = tl_tensor_from(TL_F64, TL_SHAPE(11), values, NULL);
    tl_tensor *u8 = tl_tensor_copy(real, TL_U8, NULL), *i64 = tl_tensor_copy(real, TL_I64, NULL);
    tl_tensor *f32 = tl_tensor_copy(real, TL_F32, NULL), *back = tl_tensor_copy(u8, TL_F32, NULL);
    assert_memory_equal(i64->data, as_i64, sizeof as_i64);
    for (int64_t i = 0; i < 11; i++) {
        assert_number(tl_tensor_get(u8, i), as_u8[i]);
        assert_number(tl_tensor_get(back, i), as_u8[i]);
        assert_number(tl_tensor_get(f32, i), (double)(float)values[i]);
    }
    tl_tensor *all[] = {real, u8, i64, f32, back};
    for (int i = 0; i < 5; i++)
        tl_tensor_release(all[i]);
}

static void assign_converts_long_rows(void **state)
{
    (void)state;
    tl_tensor *a = counting(TL_F32, TL_SHAPE(2, 1031)); /* more than a row is converted at a time */
    tl_tensor *odd = tl_tensor_slice(a, 1, 1, 1031, 2, NULL);
    tl_tensor *copy = tl_tensor_copy(odd, TL_I64, NULL);
    for (int64_t i = 0; i < 2 * 515; i++)
        assert_number(tl_tensor_get(copy, i), (double)(i / 515 * 1031 + i % 515 * 2 + 1));
    tl_tensor_release(a);
    tl_tensor_release(odd);
    tl_tensor_release(copy);
}

static void integers_keep_their_bits(void **state)
{
    (void)state;
    const int64_t values[] = {INT64_MAX, INT64_MIN + 1, (1LL << 53) + 1, -7, 0, 5};
    const int64_t turned[] = {INT64_MAX, -7, INT64_MIN + 1, 0, (1LL << 53) + 1, 5};
    tl_tensor *a = tl_tensor_from(TL_I64, TL_SHAPE(2, 3), values, NULL);
    tl_tensor *p = tl_tensor_permute(a, (int[]){1, 0}, NULL);
    tl_tensor *copy = tl_tensor_copy(p, TL_I64, NULL);
    assert_memory_equal(copy->data, turned, sizeof turned);
    tl_tensor_release(a);
    tl_tensor_release(p);
    tl_tensor_release(copy);
}

static void assign_refuses(void **state)
{
    (void)state;
    tl_error error = {.status = TL_OK};
    tl_tensor *a = counting(TL_F32, TL_SHAPE(4, 3)), *b = counting(TL_F32, TL_SHAPE(4));
    tl_tensor *wide = tl_tensor_expand(b, TL_SHAPE(2, 4), NULL);
    assert_int_equal(tl_tensor_assign(a, b, &error), TL_ERR_SHAPE);
    assert_fails(error, TL_ERR_SHAPE, "tensor_assign: [4] cannot be broadcast to [4,3]");
    assert_int_equal(tl_tensor_assign(b, a, &error), TL_ERR_SHAPE);
    assert_fails(error, TL_ERR_SHAPE, "tensor_assign: [4,3] cannot be broadcast to [4]");
    assert_int_equal(tl_tensor_assign(wide, b, &error), TL_ERR_ARGUMENT);
    assert_fails(error, TL_ERR_ARGUMENT,
                 "tensor_assign: elements of the expanded [2,4] target share places in memory");
    assert_number(sum(b), 6);
    tl_tensor_release(a);
    tl_tensor_release(b);
    tl_tensor_release(wide);
}

static void empty_tensors_work_everywhere(void **state)
{
    (void)state;
    tl_tensor *none = tl_tensor_from(TL_F32, TL_SHAPE(3, 0, 2), NULL, NULL);
    tl_tensor *row = counting(TL_F64, TL_SHAPE(2));
    tl_tensor *views[] = {
        tl_tensor_slice(none, 0, 1, 3, 2, NULL),
        tl_tensor_slice(none, 1, 0, 0, 1, NULL),
        tl_tensor_permute(none, (int[]){2, 0, 1}, NULL),
        tl_tensor_reshape(none, TL_SHAPE(0), NULL),
        tl_tensor_expand(none, TL_SHAPE(4, 3, 0, 2), NULL),
        tl_tensor_copy(none, TL_I64, NULL),
        tl_tensor_zeros(TL_U8, TL_SHAPE(0), NULL),
    };
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        assert_non_null(views[i]);
        assert_int_equal(views[i]->layout.count, 0);
        tl_tensor_release(views[i]);
    }
    assert_int_equal(tl_tensor_assign(none, row, NULL), TL_OK);
    assert_int_equal(tl_tensor_fill(none, 1), TL_OK);
    tl_tensor_release(none);
    tl_tensor_release(row);
}

/* ---- printing --------------------------------------------------------------------------- */

#define assert_prints(tensor, text) check_print((tensor), (text), __LINE__)

static void check_print(tl_tensor *tensor, const char *text, int line) /* releases the tensor */
{
    char *printed = NULL;
    size_t bytes;
    FILE *stream = open_memstream(&printed, &bytes);
    tl_status status = tl_tensor_print(tensor, stream);
    fclose(stream);
    if (status != TL_OK || strcmp(printed, text) != 0)
        fail_msg("line %d: printed (status %d)\n%s\nshould be\n%s", line, status, printed, text);
    free(printed);
    tl_tensor_release(tensor);
}

static tl_tensor *reals(tl_dtype dtype, int ndim, const int64_t *shape, const double *values)
{
    tl_tensor *given = tl_tensor_from(TL_F64, ndim, shape, values, NULL);
    tl_tensor *tensor = tl_tensor_copy(given, dtype, NULL);
    tl_tensor_release(given);
    return tensor;
}

#define REALS(...)                                                                                     \
    (const double[])                                                                                   \
    {                                                                                                  \
        __VA_ARGS__                                                                                    \
    }

static void print_aligns_columns(void **state)
{
    (void)state;
    assert_prints(reals(TL_F32, TL_SHAPE(2, 3), REALS(0.5, -1.25, 3.14159, 100, 0, -0.00012)),
                  "[[  0.5000  -1.2500   3.1416]\n"
                  " [100.0000   0.0000  -0.0001]]  f32 [2,3]\n");
    assert_prints(reals(TL_F64, TL_SHAPE(3), REALS(1, -20, 3)), "[  1. -20.   3.]  f64 [3]\n");
    assert_prints(reals(TL_F64, TL_SHAPE(3), REALS(1.5, -1e-7, 0)),
                  "[ 1.5000e+00 -1.0000e-07  0.0000e+00]  f64 [3]\n");
    assert_prints(reals(TL_F64, TL_SHAPE(2), REALS(1e20, 1)), "[1.0000e+20 1.0000e+00]  f64 [2]\n");
    assert_prints(reals(TL_F32, TL_SHAPE(4), REALS(NAN, INFINITY, -INFINITY, 2)),
                  "[ nan  inf -inf   2.]  f32 [4]\n");
    assert_prints(reals(TL_F32, TL_SHAPE(1), REALS(NAN)), "[nan]  f32 [1]\n");
    assert_prints(reals(TL_U8, TL_SHAPE(2, 2), REALS(1, 0, 0, 1)), "[[1 0]\n [0 1]]  u8 [2,2]\n");
    assert_prints(tl_tensor_from(TL_I64, TL_SHAPE(2), ELEMENTS(INT64_MIN, 7), NULL),
                  "[-9223372036854775808                    7]  i64 [2]\n");
}

static void print_scalars_and_nothing(void **state)
{
    (void)state;
    assert_prints(reals(TL_F64, 0, NULL, REALS(-2.5)), "-2.5000  f64 []\n");
    assert_prints(tl_tensor_zeros(TL_F32, TL_SHAPE(3, 0), NULL), "[]  f32 [3,0]\n");
}

static void print_cuts_long_dimensions(void **state)
{
    (void)state;
    assert_prints(counting(TL_I64, TL_SHAPE(8)), "[0 1 2 3 4 5 6 7]  i64 [8]\n");
    assert_prints(counting(TL_I64, TL_SHAPE(9)), "[0 1 2 ... 6 7 8]  i64 [9]\n");
    assert_prints(counting(TL_I64, TL_SHAPE(10, 2)), "[[ 0  1]\n"
                                                     " [ 2  3]\n"
                                                     " [ 4  5]\n"
                                                     " ...\n"
                                                     " [14 15]\n"
                                                     " [16 17]\n"
                                                     " [18 19]]  i64 [10,2]\n");
}

static void print_follows_strides(void **state)
{
    (void)state;
    tl_tensor *a = counting(TL_I64, TL_SHAPE(2, 3, 2));
    tl_tensor *p = tl_tensor_permute(a, (int[]){2, 0, 1}, NULL);
    tl_tensor_release(a);
    assert_prints(p, "[[[ 0  2  4]\n"
                     "  [ 6  8 10]]\n"
                     "\n"
                     " [[ 1  3  5]\n"
                     "  [ 7  9 11]]]  i64 [2,2,3]\n");
}

static void print_reports_a_full_stream(void **state)
{
    (void)state;
    FILE *full = fopen("/dev/full", "w");
    if (!full)
        skip();
    tl_tensor *a = counting(TL_F32, TL_SHAPE(3));
    assert_int_equal(tl_tensor_print(a, full), TL_ERR_IO);
    fclose(full);
    tl_tensor_release(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_make_is_row_major),
        cmocka_unit_test(layout_make_refuses),
        cmocka_unit_test(layout_finish_sees_gaps),
        cmocka_unit_test(layout_same_shape),
        cmocka_unit_test(layout_broadcast_is_numpys),
        cmocka_unit_test(layout_expand_has_zero_strides),
        cmocka_unit_test(layout_reshape_finds_every_view),
        cmocka_unit_test(layout_text_has_room),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(making),
        cmocka_unit_test(making_says_what_is_wrong),
        cmocka_unit_test(out_of_memory_leaks_nothing),
        cmocka_unit_test(views_outlive_their_origin),
        cmocka_unit_test(references_are_counted_across_threads),
        cmocka_unit_test(slice_takes_what_it_says),
        cmocka_unit_test(slice_counts_from_the_end),
        cmocka_unit_test(slice_refuses),
        cmocka_unit_test(permute),
        cmocka_unit_test(reshape),
        cmocka_unit_test(expand),
        cmocka_unit_test(assign_meets_every_layout),
        cmocka_unit_test(assign_converts),
        cmocka_unit_test(assign_converts_long_rows),
        cmocka_unit_test(integers_keep_their_bits),
        cmocka_unit_test(assign_refuses),
        cmocka_unit_test(empty_tensors_work_everywhere),
        cmocka_unit_test(print_aligns_columns),
        cmocka_unit_test(print_scalars_and_nothing),
        cmocka_unit_test(print_cuts_long_dimensions),
        cmocka_unit_test(print_follows_strides),
        cmocka_unit_test(print_reports_a_full_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
