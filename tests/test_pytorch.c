/* Whole recurrent networks against PyTorch: its state_dict loaded by name, then outputs, last states
 * and all gradients in f64. The answers are stored in tests/golden/rnn, where the script is that made
 * them. */
#include "support.h"

#include <unistd.h>

#include "nn/unroll.h"
#include "tensor/io_safetensors.h"

#ifndef GOLDEN
#define GOLDEN "tests/golden"
#endif

enum { MOST_CASES = 128, MOST_CELLS = 6 };

typedef struct stored {
    tl_tensor_file file;
    tl_params *params; /* of all networks */
    int count;
    tl_rnn rnn[MOST_CASES]; /* that of case "7" is number 7 */
    char kind[MOST_CASES][16];
} stored;

/* ---- what is stored --------------------------------------------------------------------- */

static tl_tensor *part(const stored *s, int number, const char *what)
{
    char key[128];
    snprintf(key, sizeof key, "%d/%s", number, what);
    return tl_tensor_file_find(&s->file, key);
}

/* A number of the configuration, which Python wrote as {"kind": "gru", "layers": 2, ...}. */
static int setting(const char *json, const char *key)
{
    char text[32];
    snprintf(text, sizeof text, "\"%s\": ", key);
    const char *at = strstr(json, text);
    if (!at)
        fail_msg("no %s in %s", key, json);
    return atoi(at + strlen(text));
}

static const tl_elman_options relu = {.activation = tl_relu};

static void build(stored *s, int number, const char *json)
{
    char prefix[16];
    char *kind = s->kind[number];
    if (sscanf(json, "{\"kind\": \"%15[a-z]\"", kind) != 1)
        fail_msg("no kind in %s", json);
    snprintf(prefix, sizeof prefix, "%d.", number);
    const tl_tensor *x = part(s, number, "x");
    bool lstm = strcmp(kind, "lstm") == 0 || strcmp(kind, "projected") == 0;
    tl_rnn_config config = {.cell = strcmp(kind, "gru") == 0 ? &tl_gru_cell
                                    : lstm                   ? &tl_lstm_cell
                                                             : &tl_elman_cell,
                            .options = strcmp(kind, "relu") == 0 ? &relu : NULL,
                            .input = x->layout.shape[2],
                            .hidden = 4,
                            .projection = strcmp(kind, "projected") == 0 ? 3 : 0,
                            .layers = setting(json, "layers"),
                            .bidirectional = setting(json, "bidirectional"),
                            .no_bias = !setting(json, "bias"),
                            .batch_first = setting(json, "batch_first"),
                            .prefix = prefix};
    tl_rnn_init(&s->rnn[number], s->params, &config);
}

static stored *open_stored(void)
{
    tl_error error = {0};
    stored *s = calloc(1, sizeof *s);
    assert_non_null(s);
    if (tl_safetensors_load(GOLDEN "/rnn/cases.safetensors", &s->file, &error) != TL_OK)
        fail_msg("%s", error.message);
    s->params = tl_params_new(TL_F64, 1);
    s->count = s->file.metadata_count;
    assert_in_range(s->count, 60, MOST_CASES);
    for (int number = 0; number < s->count; number++) {
        char key[16];
        snprintf(key, sizeof key, "%d", number);
        build(s, number, tl_tensor_file_metadata(&s->file, key));
    }
    if (tl_params_status(s->params) != TL_OK)
        fail_msg("%s", s->params->error.message);
    return s;
}

static void close_stored(stored *s)
{
    for (int number = 0; number < s->count; number++)
        tl_rnn_free(&s->rnn[number]);
    tl_params_free(s->params);
    tl_tensor_file_free(&s->file);
    free(s);
}

/* ---- one case --------------------------------------------------------------------------- */

/* To 1e-10 of the element, or of the largest one where terms cancel. */
static void compare(const stored *s, int number, const char *what, const tl_tensor *got)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    const tl_tensor *expected = part(s, number, what);
    if (!expected)
        fail_msg("case %d (%s): no %s is stored", number, s->kind[number], what);
    if (!tl_layout_same_shape(&got->layout, &expected->layout))
        fail_msg("case %d (%s), %s: %s, PyTorch has %s", number, s->kind[number], what,
                 tl_layout_text(&got->layout, a), tl_layout_text(&expected->layout, b));
    double largest = 0;
    for (int64_t i = 0; i < expected->layout.count; i++)
        largest = fmax(largest, fabs(tl_tensor_get(expected, i)));
    for (int64_t i = 0; i < expected->layout.count; i++) {
        double x = tl_tensor_get(got, i), y = tl_tensor_get(expected, i);
        if (!(fabs(x - y) <= 1e-10 * (fabs(y) + 1e-3 * largest)))
            fail_msg("case %d (%s), %s, element %lld: %+.17g, PyTorch has %+.17g", number,
                     s->kind[number], what, (long long)i, x, y);
    }
}

static void compare_value(const stored *s, int number, const char *what, tl_tape *t, tl_var v)
{
    tl_tensor *got = value_of(t, v);
    compare(s, number, what, got);
    tl_tensor_release(got);
}

/* sum v g, with the stored gradient g of v */
static tl_var term(const stored *s, int number, const char *what, tl_tape *t, tl_var v)
{
    return tl_sum(t, tl_mul(t, v, tl_constant(t, part(s, number, what))));
}

static tl_var leaf_of(tl_tape *t, tl_tensor *x, tl_tensor **gradient)
{
    *gradient = x ? zeros_like(x) : NULL;
    return x ? tl_leaf(t, x, *gradient) : TL_NONE;
}

static void compare_gradients(const stored *s, int number)
{
    const tl_rnn *rnn = &s->rnn[number];
    int weights = rnn->config.layers * rnn->directions * rnn->weights, compared = 0;
    for (int k = 0; k < weights; k++) {
        char what[64];
        if (!rnn->weight[k])
            continue;
        snprintf(what, sizeof what, "d/%s", strchr(rnn->weight[k]->name, '.') + 1);
        compare(s, number, what, rnn->weight[k]->gradient);
        compared++;
    }
    assert_true(compared >= 2 * rnn->config.layers * rnn->directions);
}

static void run_case(const stored *s, int number)
{
    static const char *const initial_names[] = {"h0", "c0"}, *const last_names[] = {"h", "c"};
    static const char *const given_names[] = {"gh", "gc"}, *const found_names[] = {"dh0", "dc0"};
    const tl_rnn *rnn = &s->rnn[number];
    int cells = rnn->config.layers * rnn->directions;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *dx, *d0[2];
    tl_var initial[2], last[MOST_CELLS], state[2 * MOST_CELLS];
    const tl_tensor *lengths = part(s, number, "lengths");
    tl_unroll_options options = {.lengths = lengths ? lengths->data : NULL};
    tl_var x = leaf_of(t, part(s, number, "x"), &dx);
    for (int k = 0; k < rnn->states; k++) {
        initial[k] = leaf_of(t, part(s, number, initial_names[k]), &d0[k]);
        for (int cell = 0; cell < cells; cell++)
            state[cell * rnn->states + k] = d0[k] ? tl_select(t, initial[k], 0, cell) : TL_NONE;
    }
    tl_var y = tl_unroll_with(t, rnn, x, state, &options);
    tl_var loss = term(s, number, "gy", t, y);
    compare_value(s, number, "y", t, y);
    for (int k = 0; k < rnn->states; k++) {
        for (int cell = 0; cell < cells; cell++)
            last[cell] = state[cell * rnn->states + k];
        tl_var stacked = tl_stack(t, cells, last, 0);
        compare_value(s, number, last_names[k], t, stacked);
        loss = tl_add(t, loss, term(s, number, given_names[k], t, stacked));
    }
    tl_zero_gradients(s->params);
    tl_backward(t, loss);
    assert_ok(t);
    compare_gradients(s, number);
    compare(s, number, "dx", dx);
    for (int k = 0; k < rnn->states; k++) {
        if (d0[k])
            compare(s, number, found_names[k], d0[k]);
        tl_tensor_release(d0[k]);
    }
    tl_tensor_release(dx);
    tl_tape_free(t);
}

/* ---- tests ------------------------------------------------------------------------------ */

static void load_modules(stored *s)
{
    tl_error error = {0};
    if (tl_params_load(s->params, GOLDEN "/rnn/modules.safetensors", &error) != TL_OK)
        fail_msg("%s", error.message);
}

static void networks_agree_with_pytorch(void **state)
{
    (void)state;
    stored *s = open_stored();
    load_modules(s);
    for (int number = 0; number < s->count; number++)
        run_case(s, number);
    close_stored(s);
}

static void so_do_cells_of_primitive_ops(void **state)
{
    (void)state;
    stored *s = open_stored();
    load_modules(s);
    for (int number = 0; number < s->count; number++) {
        s->rnn[number].config.composed = true;
        run_case(s, number);
    }
    close_stored(s);
}

/* 16 sets of options, 3 depths, 2 numbers of directions: every value of each occurs with every kind. */
static void cases_cover_what_they_should(void **state)
{
    static const char *const kinds[] = {"tanh", "relu", "lstm", "projected", "gru"};
    (void)state;
    stored *s = open_stored();
    for (int k = 0; k < COUNT_OF(kinds); k++) {
        unsigned seen = 0;
        for (int number = 0; number < s->count; number++) {
            const tl_rnn_config *c = &s->rnn[number].config;
            if (strcmp(s->kind[number], kinds[k]) == 0)
                seen |= 1u << c->layers | (c->bidirectional ? 16u : 32u) | (c->no_bias ? 64u : 128u) |
                        (c->batch_first ? 256u : 512u) | (part(s, number, "h0") ? 1024u : 2048u) |
                        (part(s, number, "lengths") ? 4096u : 8192u);
        }
        if (seen != 0x3ffe)
            fail_msg("%s: seen %x, should be 3ffe", kinds[k], seen);
    }
    close_stored(s);
}

static tl_params *small_gru(tl_rnn *rnn)
{
    tl_params *params = tl_params_new(TL_F64, 3);
    tl_rnn_init(rnn, params,
                &(tl_rnn_config){
                    .cell = &tl_gru_cell, .input = 2, .hidden = 4, .layers = 1, .prefix = "encoder."});
    assert_int_equal(tl_params_status(params), TL_OK);
    return params;
}

/* All that does not fit, in one message, and nothing is changed. */
static void what_does_not_fit_is_listed(void **state)
{
    (void)state;
    char path[] = "/tmp/tapeloop-pytorch-XXXXXX", expected[TL_MESSAGE_SIZE];
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    tl_rnn rnn;
    tl_error error = {0};
    tl_params *params = small_gru(&rnn);
    double before = tl_tensor_get(params->entry[0]->value, 5);
    tl_tensor *w_ih = tl_tensor_zeros(TL_F64, TL_SHAPE(12, 2), NULL);
    tl_tensor *w_hh = tl_tensor_zeros(TL_F64, TL_SHAPE(16, 4), NULL); /* an LSTM's */
    tl_tensor *bias = tl_tensor_zeros(TL_F64, TL_SHAPE(12), NULL);
    char names[][32] = {"encoder.weight_ih_l0", "encoder.weight_hh_l0", "encoder.bias_ih_l0",
                        "encoder.bias_ih_l1"};
    const tl_named_tensor entries[] = {
        {names[0], w_ih}, {names[1], w_hh}, {names[2], bias}, {names[3], bias}};
    assert_int_equal(tl_safetensors_save(path, 4, entries, 0, NULL, &error), TL_OK);
    assert_int_equal(tl_params_load(params, path, &error), TL_ERR_FORMAT);
    snprintf(expected, sizeof expected,
             "%s does not fit the model: encoder.weight_hh_l0 is f64 [16,4] in the file, [12,4] "
             "here; encoder.bias_hh_l0 is missing; encoder.bias_ih_l1 is unknown",
             path);
    assert_string_equal(error.message, expected);
    assert_same(tl_tensor_get(params->entry[0]->value, 5), before);
    tl_tensor_release(w_ih);
    tl_tensor_release(w_hh);
    tl_tensor_release(bias);
    tl_rnn_free(&rnn);
    tl_params_free(params);
    remove(path);
}

/* More than a message holds: the rest is counted. */
static void a_long_list_is_cut(void **state)
{
    (void)state;
    tl_rnn rnn;
    tl_error error = {0};
    tl_params *params = small_gru(&rnn);
    assert_int_equal(tl_params_load(params, GOLDEN "/rnn/modules.safetensors", &error), TL_ERR_FORMAT);
    assert_non_null(strstr(error.message, "encoder.weight_ih_l0 is missing; "));
    assert_non_null(strstr(error.message, "0.weight_ih_l0 is unknown; "));
    const char *rest = strstr(error.message, "; and ");
    assert_non_null(rest);
    int more = 0;
    assert_int_equal(sscanf(rest, "; and %d more", &more), 1);
    assert_in_range(more, 500, 2000);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_agree_with_pytorch), cmocka_unit_test(so_do_cells_of_primitive_ops),
        cmocka_unit_test(cases_cover_what_they_should), cmocka_unit_test(what_does_not_fit_is_listed),
        cmocka_unit_test(a_long_list_is_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
