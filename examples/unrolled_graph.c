/* unrolled_graph.c - a recurrent network, unrolled, is a feedforward network: the same graph.
 *
 * An Elman network reads T = 4 inputs. Below it is recorded twice: by tl_unroll, from the cell's
 * equations, and by hand, layer after layer, as a feedforward network of four layers that share their
 * weights. The structural hash, which sees ops, shapes and connections but neither names nor numbers,
 * finds one and the same graph; and one other, as soon as each layer has weights of its own.
 *
 * Both graphs are left as unrolled.svg and by_hand.svg (drawn by Graphviz's `dot`, if that is
 * installed, otherwise as .dot files), every node coloured by the norm of its gradient: from the loss
 * back in time it fades. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <tapeloop/tapeloop.h>

enum { T = 4, B = 2, I = 3, H = 5 };

/* h' = tanh(W_ih x + b_ih + W_hh h + b_hh), unrolled by the library. */
static tl_var unrolled(tl_tape *t, const tl_rnn *m, tl_tensor *inputs, tl_var *last)
{
    tl_var state = tl_full(t, TL_F64, TL_SHAPE(B, H), 0);
    tl_unroll(t, m, tl_constant(t, inputs), &state);
    *last = state;
    return tl_mean(t, tl_square(t, state));
}

/* One weight for all layers, or one for each of them. */
static tl_var weight(tl_tape *t, const tl_param *p, bool shared)
{
    return shared ? tl_use(t, p) : tl_leaf_untied(t, p->value);
}

/* The same network, four layers, without a loop. What comes from below, a, is one product for all
 * layers. */
static tl_var by_hand(tl_tape *t, const tl_rnn *m, tl_tensor *inputs, bool shared, tl_var *last)
{
    const tl_param *w_ih = tl_rnn_weight(m, 0, 0, "weight_ih"),
                   *b_ih = tl_rnn_weight(m, 0, 0, "bias_ih");
    const tl_param *w_hh = tl_rnn_weight(m, 0, 0, "weight_hh"),
                   *b_hh = tl_rnn_weight(m, 0, 0, "bias_hh");
    tl_var x = tl_constant(t, inputs);
    tl_var a = tl_linear_op(t, x, tl_use(t, w_ih), tl_add(t, tl_use(t, b_ih), tl_use(t, b_hh)));
    tl_var h0 = tl_full(t, TL_F64, TL_SHAPE(B, H), 0);
    tl_var w1 = weight(t, w_hh, shared), a1 = tl_select(t, a, 0, 0);
    tl_var h1 = tl_tanh(t, tl_linear_op(t, h0, w1, a1));
    tl_var w2 = weight(t, w_hh, shared), a2 = tl_select(t, a, 0, 1);
    tl_var h2 = tl_tanh(t, tl_linear_op(t, h1, w2, a2));
    tl_var w3 = weight(t, w_hh, shared), a3 = tl_select(t, a, 0, 2);
    tl_var h3 = tl_tanh(t, tl_linear_op(t, h2, w3, a3));
    tl_var w4 = weight(t, w_hh, shared), a4 = tl_select(t, a, 0, 3);
    tl_var h4 = tl_tanh(t, tl_linear_op(t, h3, w4, a4));
    *last = h4;
    return tl_mean(t, tl_square(t, h4));
}

/* Norms of the gradient at each hidden state, from the last to the first: h = tanh(linear(h before,
 * ..)). */
static void print_gradients(tl_tape *t, tl_var h)
{
    for (int step = T; step > 0; step--) {
        tl_tensor *g = tl_value_copy(t, tl_gradient(t, h));
        double squares = 0;
        for (int64_t i = 0; g && i < g->layout.count; i++)
            squares += tl_tensor_get(g, i) * tl_tensor_get(g, i);
        printf("    |dL/dh_%d|^2 = %.3e\n", step, squares);
        tl_tensor_release(g);
        h = tl_input(t, tl_input(t, h, 0), 0);
    }
}

static tl_status draw(tl_tape *t, const char *name)
{
    char path[64], command[256];
    snprintf(path, sizeof path, "%s.dot", name);
    FILE *stream = fopen(path, "w");
    if (!stream)
        return TL_ERR_IO;
    tl_dump_options options = {.format = TL_DUMP_DOT, .gradients = true};
    tl_status status = tl_dump(t, stream, &options);
    if (fclose(stream) != 0 || status != TL_OK)
        return TL_ERR_IO;
    snprintf(command, sizeof command, "dot -Tsvg %s.dot -o %s.svg 2>/dev/null", name, name);
    if (system(command) == 0)
        printf("    drawn: %s.svg\n", name);
    else
        printf("    written: %s (Graphviz is not installed; \"dot -Tsvg\" would draw it)\n", path);
    return TL_OK;
}

typedef enum { UNROLLED, BY_HAND, BY_HAND_UNTIED } form;

/* Records one form of the network, walks it back, draws it; its hash. */
static uint64_t show(tl_tape *t, form which, const tl_rnn *m, tl_tensor *inputs)
{
    static const char *const title[] = {"unrolled by the library", "written out by hand",
                                        "written out, a weight for each layer"};
    static const char *const file[] = {"unrolled", "by_hand", NULL};
    tl_var last;
    tl_tape_reset(t);
    tl_var loss = which == UNROLLED ? unrolled(t, m, inputs, &last)
                                    : by_hand(t, m, inputs, which == BY_HAND, &last);
    tl_keep_gradients(t);
    uint64_t hash = tl_graph_hash(t, 1, &loss, 0, NULL);
    if (tl_backward(t, loss) != TL_OK)
        return 0;
    printf("%s: %u variables, L = %.15f, hash %016" PRIx64 "\n", title[which], tl_tape_count(t),
           tl_item(t, loss), hash);
    print_gradients(t, last);
    if (file[which] && draw(t, file[which]) != TL_OK)
        tl_tape_fail(t, TL_ERR_IO, "%s.dot could not be written", file[which]);
    printf("\n");
    return hash;
}

int main(void)
{
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *inputs = tl_tensor_empty(TL_F64, TL_SHAPE(T, B, I), NULL);
    tl_rnn m = {0};
    uint64_t hash[3] = {0};
    if (params && t && inputs) {
        tl_random random = tl_random_seed(2);
        tl_random_normal(&random, inputs, 0, 1);
        tl_rnn_init(&m, params,
                    &(tl_rnn_config){.cell = &tl_elman_cell, .input = I, .hidden = H, .layers = 1});
        for (form which = UNROLLED; which <= BY_HAND_UNTIED && tl_tape_status(t) == TL_OK; which++)
            hash[which] = show(t, which, &m, inputs);
    }
    bool failed = !t || tl_tape_status(t) != TL_OK || !hash[UNROLLED];
    if (failed)
        fprintf(stderr, "%s\n", t ? tl_tape_message(t) : "out of memory");
    else if (hash[UNROLLED] == hash[BY_HAND] && hash[BY_HAND] != hash[BY_HAND_UNTIED])
        printf("The unrolled network and the feedforward network are the same graph.\n");
    else
        failed = true, printf("FAILED: the hashes are not as they should be.\n");
    tl_rnn_free(&m);
    tl_tensor_release(inputs);
    tl_tape_free(t);
    tl_params_free(params);
    return failed;
}
