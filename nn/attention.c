/* attention.c - scores, weights, context; see the drawing in attention.h. */
#include "nn/attention.h"

#include <math.h>
#include <stdio.h>

#include "autograd/ops.h"

/* ---- parameters ------------------------------------------------------------------------- */

static const char *const kind_name[] = {"additive", "dot", "general", "scaled dot"};

static bool config_fits(tl_params *params, const tl_attention_config *c)
{
    if ((unsigned)c->kind > TL_ATTEND_SCALED) {
        tl_fail(&params->error, TL_ERR_ARGUMENT, "attention: there is no kind %d", (int)c->kind);
        return false;
    }
    const char *name = kind_name[c->kind];
    if (c->query < 1 || c->key < 1 || c->size < 0)
        tl_fail(&params->error, TL_ERR_ARGUMENT,
                "%s attention: query %lld and key %lld must be at least 1, size %lld at least 0", name,
                (long long)c->query, (long long)c->key, (long long)c->size);
    else if ((c->kind == TL_ATTEND_DOT || c->kind == TL_ATTEND_SCALED) && c->query != c->key)
        tl_fail(&params->error, TL_ERR_SHAPE, "%s attention: query %lld and key %lld must be the same",
                name, (long long)c->query, (long long)c->key);
    return tl_params_status(params) == TL_OK;
}

static void add_layer(tl_linear_layer *layer, tl_params *params, const tl_attention_config *c,
                      const char *name, int64_t inputs, int64_t outputs)
{
    char prefix[128];
    snprintf(prefix, sizeof prefix, "%s%s.", c->prefix ? c->prefix : "attention.", name);
    tl_linear_init(layer, params, prefix, inputs, outputs, false);
}

void tl_attention_init(tl_attention *attention, tl_params *params, const tl_attention_config *config)
{
    *attention = (tl_attention){.config = *config};
    tl_attention_config *c = &attention->config;
    if (!config_fits(params, c))
        return;
    c->size = c->size ? c->size : c->query;
    if (c->kind == TL_ATTEND_ADDITIVE) {
        add_layer(&attention->query, params, c, "query", c->query, c->size);
        add_layer(&attention->key, params, c, "key", c->key, c->size);
        add_layer(&attention->score, params, c, "score", c->size, 1);
    } else if (c->kind == TL_ATTEND_GENERAL) {
        add_layer(&attention->key, params, c, "key", c->key, c->query);
    }
}

/* ---- the memory ------------------------------------------------------------------------- */

/* u8 [B,T]: 1 at steps beyond the row's length; TL_NONE where there are none. */
static tl_var padding_mask(tl_tape *t, int64_t steps, int64_t rows, const int64_t *lengths)
{
    int64_t shortest = steps;
    for (int64_t b = 0; b < rows; b++) {
        if (lengths[b] < 0 || lengths[b] > steps) {
            tl_tape_fail(t, TL_ERR_ARGUMENT, "attention: length %lld of row %lld is not within 0..%lld",
                         (long long)lengths[b], (long long)b, (long long)steps);
            return tl_poison(t);
        }
        shortest = lengths[b] < shortest ? lengths[b] : shortest;
    }
    if (shortest == steps)
        return TL_NONE;
    uint8_t *over = tl_scratch(t, (size_t)(rows * steps));
    for (int64_t i = 0; over && i < rows * steps; i++)
        over[i] = i % steps >= lengths[i / steps];
    return over ? tl_constant_from(t, TL_U8, TL_SHAPE(rows, steps), over) : tl_poison(t);
}

static tl_attention_memory no_memory(tl_tape *t)
{
    return (tl_attention_memory){tl_poison(t), tl_poison(t), TL_NONE};
}

tl_attention_memory tl_attention_begin(tl_tape *t, const tl_attention *attention, tl_var outputs,
                                       const int64_t *lengths)
{
    char text[TL_LAYOUT_TEXT];
    const tl_attention_config *c = &attention->config;
    const tl_layout *l = tl_value(t, outputs).layout;
    if (!l)
        return no_memory(t);
    if (l->ndim != 3 || l->shape[0] < 1 || l->shape[2] != c->key) {
        tl_tape_fail(t, TL_ERR_SHAPE,
                     "attention: wants the encoder's outputs, [T,B,%lld] with T >= 1, not %s",
                     (long long)c->key, tl_layout_text(l, text));
        return no_memory(t);
    }
    int64_t steps = l->shape[0], rows = l->shape[1];
    tl_attention_memory m = {.values = tl_contiguous(t, tl_transpose(t, outputs, 0, 1)),
                             .padding = lengths ? padding_mask(t, steps, rows, lengths) : TL_NONE};
    if (!tl_is_none(m.padding)) /* 0 times NaN would be NaN, in the sum and in the gradient of U */
        m.values = tl_masked_fill(t, m.values, tl_reshape(t, m.padding, TL_SHAPE(rows, steps, 1)), 0);
    bool projects = c->kind == TL_ATTEND_ADDITIVE || c->kind == TL_ATTEND_GENERAL;
    m.keys = projects ? tl_linear(t, m.values, &attention->key) : m.values;
    return m;
}

/* ---- a look at it ----------------------------------------------------------------------- */

static bool query_fits(tl_tape *t, const tl_attention *a, const tl_attention_memory *m, tl_var q)
{
    char text[TL_LAYOUT_TEXT];
    const tl_layout *l = tl_value(t, q).layout, *values = tl_value(t, m->values).layout;
    if (!l || !values)
        return false;
    if (l->ndim >= 2 && l->ndim <= TL_MAX_DIMS - 2 && l->shape[l->ndim - 1] == a->config.query &&
        l->shape[l->ndim - 2] == values->shape[0])
        return true;
    tl_tape_fail(t, TL_ERR_SHAPE, "attention: wants a query [..,%lld,%lld], not %s",
                 (long long)values->shape[0], (long long)a->config.query, tl_layout_text(l, text));
    return false;
}

/* q: [..,B,Q] -> [..,B,T] */
static tl_var scores(tl_tape *t, const tl_attention *a, tl_var keys, tl_var q)
{
    if (a->config.kind == TL_ATTEND_ADDITIVE) {
        tl_var from_q = tl_unsqueeze(t, tl_linear(t, q, &a->query), -2); /* [..,B,1,A] */
        return tl_squeeze(t, tl_linear(t, tl_tanh(t, tl_add(t, keys, from_q)), &a->score), -1);
    }
    tl_var s = tl_squeeze(t, tl_matmul(t, keys, tl_unsqueeze(t, q, -1)), -1);
    double scale = 1 / sqrt((double)a->config.query);
    return a->config.kind == TL_ATTEND_SCALED ? tl_mul_scalar(t, s, scale) : s;
}

/* Padding gets a large negative number, not -inf, before the softmax and 0 after it: so a row that is
 * nothing but padding has neither a NaN nor a gradient. */
static tl_var softmax_without(tl_tape *t, tl_var s, tl_var padding)
{
    if (tl_is_none(padding))
        return tl_softmax(t, s);
    return tl_masked_fill(t, tl_softmax(t, tl_masked_fill(t, s, padding, -1e30)), padding, 0);
}

tl_var tl_attend(tl_tape *t, const tl_attention *attention, const tl_attention_memory *memory, tl_var q,
                 tl_var *weights)
{
    tl_var a = tl_poison(t);
    tl_scope_begin(t, "attention", -1);
    if (query_fits(t, attention, memory, q))
        a = softmax_without(t, scores(t, attention, memory->keys, q), memory->padding);
    tl_var context = tl_squeeze(t, tl_matmul(t, tl_unsqueeze(t, a, -2), memory->values), -2);
    tl_scope_end(t);
    if (weights)
        *weights = a;
    return context;
}
