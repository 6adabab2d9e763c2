/* functional.c - compositions of tl_grad and tl_jvp. */
#include "autograd/functional.h"

#include <string.h>

#include "autograd/ops.h"
#include "autograd/tape_impl.h"

/* Room for `count` variables until the tape is reset. */
static tl_var *variables(tl_tape *t, int64_t count)
{
    return tl_scratch(t, (size_t)(count ? count : 1) * sizeof(tl_var));
}

/* sum over k of a_k . b_k */
static tl_var dot(tl_tape *t, const char *who, int count, const tl_var *a, const tl_var *b)
{
    char left[TL_LAYOUT_TEXT], right[TL_LAYOUT_TEXT];
    tl_var sum = TL_NONE;
    for (int k = 0; k < count; k++) {
        const tl_node *x = tl_node_of(t, a[k], who), *y = x ? tl_node_of(t, b[k], who) : NULL;
        if (!y)
            return tl_poison(t);
        if (!tl_layout_same_shape(x->layout, y->layout) || x->dtype != y->dtype) {
            tl_tape_fail(t, TL_ERR_SHAPE, "%s: vector %d is %s %s, but the input is %s %s", who, k,
                         tl_dtype_name((tl_dtype)y->dtype), tl_layout_text(y->layout, right),
                         tl_dtype_name((tl_dtype)x->dtype), tl_layout_text(x->layout, left));
            return tl_poison(t);
        }
        tl_var term = tl_sum(t, tl_mul(t, a[k], b[k]));
        sum = tl_is_none(sum) ? term : tl_add(t, sum, term);
    }
    return sum;
}

static tl_status fill_poison(tl_tape *t, int count, tl_var *products)
{
    for (int k = 0; k < count; k++)
        products[k] = tl_poison(t);
    return t->error.status;
}

/* A sum that no longer depends on the inputs (the function was linear) has the derivative zero. */
static tl_status grad_or_zero(tl_tape *t, tl_var sum, tl_var seed, int count, const tl_var *inputs,
                              tl_var *products)
{
    if (tl_is_none(sum) || tl_needs_gradient(t, sum))
        return tl_grad(t, sum, seed, count, inputs, true, products);
    for (int k = 0; k < count && !t->error.status; k++) {
        tl_array x = tl_value(t, inputs[k]);
        products[k] = tl_full(t, x.dtype, x.layout->ndim, x.layout->shape, 0);
    }
    return t->error.status;
}

tl_status tl_hvp(tl_tape *t, tl_var loss, int count, const tl_var *inputs, const tl_var *vectors,
                 tl_var *products)
{
    tl_var *first = variables(t, count);
    fill_poison(t, count, products);
    if (count < 1)
        return tl_tape_fail(t, TL_ERR_ARGUMENT, "hvp: no inputs");
    if (!first || tl_grad(t, loss, TL_NONE, count, inputs, true, first) != TL_OK)
        return t->error.status;
    tl_var sum = dot(t, "hvp", count, first, vectors);
    return t->error.status ? t->error.status : grad_or_zero(t, sum, TL_NONE, count, inputs, products);
}

tl_status tl_gnvp(tl_tape *t, tl_var loss, tl_var output, int count, const tl_var *inputs,
                  const tl_var *vectors, tl_var *products)
{
    tl_var curved;
    fill_poison(t, count, products);
    if (count < 1)
        return tl_tape_fail(t, TL_ERR_ARGUMENT, "gnvp: no inputs");
    tl_var moved = tl_jvp(t, output, count, inputs, vectors);
    if (tl_hvp(t, loss, 1, &output, &moved, &curved) != TL_OK)
        return t->error.status;
    return tl_grad(t, output, curved, count, inputs, true, products);
}

/* Zeros of output's shape, but for a one at `position`. */
static tl_var unit(tl_tape *t, tl_array output, int64_t position)
{
    tl_var one = tl_full(t, output.dtype, output.layout->ndim, output.layout->shape, 0);
    tl_array a = tl_value(t, one);
    if (!a.data)
        return tl_poison(t);
    tl_tensor view = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    tl_tensor_set(&view, position, 1);
    return one;
}

tl_var tl_jacobian(tl_tape *t, tl_var output, tl_var input)
{
    const tl_node *y = tl_node_of(t, output, "jacobian"),
                  *x = y ? tl_node_of(t, input, "jacobian") : NULL;
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    int64_t shape[TL_MAX_DIMS];
    if (!x)
        return tl_poison(t);
    tl_layout out = *y->layout, in = *x->layout;
    int ndim = out.ndim + in.ndim;
    if (ndim > TL_MAX_DIMS) {
        tl_tape_fail(t, TL_ERR_SHAPE, "jacobian: %s by %s has %d dimensions, at most %d",
                     tl_layout_text(&out, a), tl_layout_text(&in, b), ndim, TL_MAX_DIMS);
        return tl_poison(t);
    }
    memcpy(shape, out.shape, (size_t)out.ndim * sizeof *shape);
    memcpy(shape + out.ndim, in.shape, (size_t)in.ndim * sizeof *shape);
    tl_array value = tl_node_array(y);
    if (out.count == 0 || !tl_needs_gradient(t, output))
        return tl_full(t, value.dtype, ndim, shape, 0);
    tl_var *row = variables(t, out.count);
    for (int64_t i = 0; row && i < out.count && !t->error.status; i++)
        tl_grad(t, output, unit(t, value, i), 1, &input, true, &row[i]);
    if (t->error.status)
        return tl_poison(t);
    return tl_reshape(t, tl_stack(t, (int)out.count, row, 0), ndim, shape);
}

tl_var tl_hessian(tl_tape *t, tl_var loss, tl_var input)
{
    tl_var first;
    if (tl_grad(t, loss, TL_NONE, 1, &input, true, &first) != TL_OK)
        return tl_poison(t);
    return tl_jacobian(t, first, input);
}
