#include "nn/artbp.h"

#include "autograd/ops.h"

double tl_artbp_probability(const tl_artbp *artbp, int64_t age)
{
    if (artbp->alpha == 0)
        return 1 / artbp->length;
    return (artbp->alpha - 1) / ((artbp->alpha - 2) * artbp->length + (double)age);
}

static tl_var scale(tl_tape *t, tl_var v, tl_var gradient, void *context)
{
    (void)v;
    return tl_affine(t, gradient, *(const double *)context, 0);
}

/* Values go on, gradients are multiplied by 1 / (1 - c). The state as a variable of its own, so that
 * what the loss of its own step has to say of it is not. */
static void go_on(tl_tape *t, int states, tl_var *state, double c)
{
    double *factor = tl_scratch(t, sizeof *factor);
    if (!factor)
        return;
    *factor = 1 / (1 - c);
    for (int k = 0; k < states; k++) {
        const tl_layout *l = tl_is_none(state[k]) ? NULL : tl_value(t, state[k]).layout;
        if (!l || !tl_needs_gradient(t, state[k]))
            continue;
        state[k] = tl_reshape(t, state[k], l->ndim, l->shape);
        tl_hook_gradient(t, state[k], scale, factor);
    }
}

typedef struct stretch {
    tl_tape *t;
    const tl_artbp *artbp;
    int states;
    tl_var *state;
    tl_var loss; /* of all steps so far; TL_NONE: none yet */
    int64_t from;
} stretch;

static bool record(stretch *s, int64_t step)
{
    tl_var loss = s->artbp->record(s->t, s->artbp->model, step, s->state);
    if (tl_tape_status(s->t) != TL_OK)
        return false;
    if (!tl_is_none(loss))
        s->loss = tl_is_none(s->loss) ? loss : tl_add(s->t, s->loss, loss);
    return tl_tape_status(s->t) == TL_OK;
}

/* Backward, update, restart. */
static bool finish(stretch *s, int64_t to)
{
    double value = 0;
    if (!tl_is_none(s->loss)) {
        value = tl_item(s->t, s->loss);
        if (tl_needs_gradient(s->t, s->loss) && tl_backward(s->t, s->loss) != TL_OK)
            return false;
    }
    bool more = !s->artbp->update || s->artbp->update(s->artbp->model, s->from, to, value);
    s->loss = TL_NONE;
    s->from = to;
    return tl_tape_restart(s->t, s->states, s->state) == TL_OK && more;
}

static bool fits(tl_tape *t, const tl_artbp *artbp)
{
    if (artbp->length > 1 && (artbp->alpha == 0 || artbp->alpha > 2))
        return true;
    tl_tape_fail(t, TL_ERR_ARGUMENT,
                 "artbp: wants a mean length > 1 and an alpha > 2, or 0 for none; not %g and %g",
                 artbp->length, artbp->alpha);
    return false;
}

tl_status tl_artbp_run(tl_tape *t, const tl_artbp *artbp, int64_t steps, int states, tl_var *state)
{
    stretch s = {.t = t, .artbp = artbp, .states = states, .state = state, .loss = TL_NONE};
    tl_random random = tl_random_seed(artbp->seed);
    if (!fits(t, artbp))
        return tl_tape_status(t);
    for (int64_t step = 0; step < steps && record(&s, step); step++) {
        bool last = step + 1 == steps;
        double c = tl_artbp_probability(artbp, step + 1 - s.from);
        bool cut = last || (artbp->cuts ? artbp->cuts[step] : tl_random_unit(&random) < c);
        if (!cut)
            go_on(t, states, state, c);
        else if (!finish(&s, step + 1))
            break;
    }
    return tl_tape_status(t);
}
