/* nets.h - what the tests of recurrent networks share: networks with numbers that are not nearly
 * linear, small cells that show what happens between the steps, and losses that see everything. */
#ifndef TL_TESTS_NETS_H
#define TL_TESTS_NETS_H

#include "support.h"

#include "nn/unroll.h"

typedef struct net {
    tl_params *params;
    tl_rnn rnn;
} net;

/* Larger than the usual initial values. */
static inline void fill_with_dice(tl_params *params, uint64_t seed)
{
    dice d = dice_of(seed);
    for (int k = 0; k < params->count; k++)
        for (int64_t i = 0; i < params->entry[k]->value->layout.count; i++)
            tl_tensor_set(params->entry[k]->value, i, dice_real(&d, -0.9, 0.9));
}

static inline net net_from(const tl_rnn_config *config)
{
    net n = {.params = tl_params_new(TL_F64, 5)};
    assert_non_null(n.params);
    tl_rnn_init(&n.rnn, n.params, config);
    if (tl_params_status(n.params) != TL_OK)
        fail_msg("%s", n.params->error.message);
    fill_with_dice(n.params, 17);
    return n;
}

static inline void net_free(net *n)
{
    tl_rnn_free(&n->rnn);
    tl_params_free(n->params);
}

/* ---- cells without secrets -------------------------------------------------------------- */

static inline void echo_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    (void)c;
    state[0] = x;
}

static inline void keep_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    (void)x;
    state[0] = tl_affine(c->tape, state[0], 1, 0);
}

static inline void total_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = tl_add(c->tape, state[0], x);
}

/* Input and hidden size the same: h' = x; h' = h; h' = h + x. */
static const tl_cell_type echo_cell = {.name = "echo", .states = {{"h", "H"}}, .step = echo_step};
static const tl_cell_type keep_cell = {.name = "keep", .states = {{"h", "H"}}, .step = keep_step};
static const tl_cell_type total_cell = {.name = "total", .states = {{"h", "H"}}, .step = total_step};

/* ---- everything that comes out ---------------------------------------------------------- */

enum { MOST_ASKED = 120 };

/* Sum of numbers and weights that are all different. */
static inline tl_var weigh(tl_tape *t, tl_var x, uint64_t seed)
{
    tl_array a = tl_value(t, x);
    assert_non_null(a.layout);
    dice d = dice_of(seed);
    tl_tensor *w = random_tensor(&d, TL_F64, a.layout->ndim, a.layout->shape, -1, 1);
    tl_var sum = tl_sum(t, tl_mul(t, x, tl_constant(t, w)));
    tl_tensor_release(w);
    return sum;
}

/* One variable [n] of outputs and last states. */
static inline tl_var joined(tl_tape *t, tl_var y, int states, const tl_var *state)
{
    tl_var all = tl_reshape(t, y, TL_SHAPE(-1));
    for (int s = 0; s < states; s++)
        all = tl_concat(t, 2, (tl_var[]){all, tl_reshape(t, state[s], TL_SHAPE(-1))}, 0);
    return all;
}

/* All parameters as leaves; how many. */
static inline int use_all(tl_tape *t, const net *n, tl_var *leaf)
{
    assert_true(n->params->count <= MOST_ASKED);
    for (int k = 0; k < n->params->count; k++)
        leaf[k] = tl_use(t, n->params->entry[k]);
    return n->params->count;
}

/* Bit for bit. */
static inline void check_bits(tl_tape *t, tl_var a, tl_var b, const char *what, const char *file,
                              int line)
{
    tl_tensor *x = check_value(t, a, file, line), *y = check_value(t, b, file, line);
    check_tensors(x, y, 0, what, file, line);
    size_t bytes = (size_t)x->layout.count * tl_dtype_size(x->dtype);
    if (x->dtype != y->dtype || memcmp(x->data, y->data, bytes) != 0)
        fail_msg("%s:%d: %s: not the same bits", file, line, what);
    tl_tensor_release(x);
    tl_tensor_release(y);
}

#define assert_bits(t, a, b) check_bits((t), (a), (b), #a, __FILE__, __LINE__)

#endif
