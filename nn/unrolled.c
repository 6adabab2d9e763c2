/* unrolled.c - the handles of an unrolled network, and what can be read off them. */
#include "nn/unroll.h"

#include "autograd/functional.h"
#include "autograd/ops.h"

static bool is_cell(const tl_unrolled *u, int layer, int direction)
{
    return layer >= 0 && layer < u->layers && direction >= 0 && direction < u->directions;
}

tl_var tl_step_input(const tl_unrolled *u, int layer, int direction, int64_t step)
{
    if (!is_cell(u, layer, direction) || step < 0 || step >= u->steps)
        return TL_NONE;
    return u->input[(layer * u->directions + direction) * u->steps + step];
}

tl_var tl_step_output(const tl_unrolled *u, int layer, int direction, int64_t step)
{
    if (!is_cell(u, layer, direction) || step < 0 || step >= u->steps)
        return TL_NONE;
    return u->output[(layer * u->directions + direction) * u->steps + step];
}

tl_var tl_step_state(const tl_unrolled *u, int layer, int direction, int k, int64_t count)
{
    if (!is_cell(u, layer, direction) || k < 0 || k >= u->states || count < 0 || count > u->steps)
        return TL_NONE;
    int64_t cell = layer * u->directions + direction;
    return u->state[(cell * u->states + k) * (u->steps + 1) + count];
}

static tl_var gradient_or_zeros(tl_tape *t, tl_var v)
{
    tl_var g = tl_gradient(t, v);
    tl_array a = tl_value(t, v);
    if (!tl_is_none(g) || !a.layout)
        return g;
    return tl_full(t, a.dtype, a.layout->ndim, a.layout->shape, 0);
}

tl_var tl_state_gradients(tl_tape *t, const tl_unrolled *u, int layer, int direction, int k)
{
    tl_var *g = tl_scratch(t, (size_t)(u->steps + 1) * sizeof *g);
    if (tl_is_none(tl_step_state(u, layer, direction, k, 0)))
        tl_tape_fail(t, TL_ERR_INDEX, "state_gradients: there is no state %d in layer %d, direction %d",
                     k, layer, direction);
    for (int64_t count = 0; g && count <= u->steps && tl_tape_status(t) == TL_OK; count++)
        g[count] = gradient_or_zeros(t, tl_step_state(u, layer, direction, k, count));
    return g && tl_tape_status(t) == TL_OK ? tl_stack(t, (int)u->steps + 1, g, 0) : tl_poison(t);
}

tl_var tl_state_jacobian(tl_tape *t, const tl_unrolled *u, int layer, int direction, int k, int64_t to,
                         int64_t from)
{
    tl_var y = tl_step_state(u, layer, direction, k, to),
           x = tl_step_state(u, layer, direction, k, from);
    if (!tl_is_none(x) && !tl_is_none(y) && to >= from)
        return tl_jacobian(t, y, x);
    tl_tape_fail(
        t, TL_ERR_INDEX,
        "state_jacobian: no states %lld and %lld, one after the other, of state %d in layer %d, "
        "direction %d",
        (long long)to, (long long)from, k, layer, direction);
    return tl_poison(t);
}

tl_var tl_step_gradients(tl_tape *t, const tl_tensor *weight)
{
    int64_t count = tl_untied_uses(t, weight, 0, NULL);
    if (!count) {
        tl_tape_fail(t, TL_ERR_ARGUMENT,
                     "step_gradients: the tensor was not untied (tl_untie) before it was used");
        return tl_poison(t);
    }
    tl_var *uses = tl_scratch(t, (size_t)count * sizeof *uses);
    if (!uses)
        return tl_poison(t);
    tl_untied_uses(t, weight, count, uses);
    for (int64_t k = 0; k < count; k++)
        uses[k] = gradient_or_zeros(t, uses[k]);
    return tl_stack(t, (int)count, uses, 0);
}
