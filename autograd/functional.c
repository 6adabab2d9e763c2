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

static bool vectors_fit(tl_tape *t, const char *who, int count, const tl_var *inputs,
                        const tl_var *vectors)
{
    char left[TL_LAYOUT_TEXT], right[TL_LAYOUT_TEXT];
    for (int k = 0; k < count; k++) {
        const tl_node *x = tl_node_of(t, inputs[k], who),
                      *v = x ? tl_node_of(t, vectors[k], who) : NULL;
        if (!v)
            return false;
        if (!tl_layout_same_shape(x->layout, v->layout) || x->dtype != v->dtype) {
            tl_tape_fail(t, TL_ERR_SHAPE, "%s: vector %d is %s %s, but the input is %s %s", who, k,
                         tl_dtype_name((tl_dtype)v->dtype), tl_layout_text(v->layout, right),
                         tl_dtype_name((tl_dtype)x->dtype), tl_layout_text(x->layout, left));
            return false;
        }
    }
    return true;
}

/* All elements of all of them, one after the other: [N]. */
static tl_var flatten(tl_tape *t, int count, const tl_var *x, tl_var *room)
{
    for (int k = 0; k < count; k++)
        room[k] = tl_reshape(t, x[k], 1, &tl_node_at(t, x[k].id)->layout->count);
    return tl_concat(t, count, room, 0);
}

static tl_status fill_poison(tl_tape *t, int count, tl_var *products)
{
    for (int k = 0; k < count; k++)
        products[k] = tl_poison(t);
    return t->error.status;
}

/* The vectors are where the second walk starts from, not factors that it passes: so they may depend on
 * the inputs themselves, and the products are those of H at its place with what the vectors are. */
tl_status tl_hvp(tl_tape *t, tl_var loss, int count, const tl_var *inputs, const tl_var *vectors,
                 tl_var *products)
{
    fill_poison(t, count, products);
    if (count < 1)
        return tl_tape_fail(t, TL_ERR_ARGUMENT, "hvp: no inputs");
    tl_var *first = variables(t, 2 * (int64_t)count);
    if (!first || tl_grad(t, loss, TL_NONE, count, inputs, true, first) != TL_OK ||
        !vectors_fit(t, "hvp", count, inputs, vectors))
        return t->error.status;
    if (count == 1)
        return tl_grad(t, first[0], vectors[0], 1, inputs, true, products);
    tl_var all = flatten(t, count, first, first + count);
    tl_var seed = flatten(t, count, vectors, first + count);
    return tl_grad(t, all, seed, count, inputs, true, products);
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
