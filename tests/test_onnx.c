/* ONNX's RNN, LSTM and GRU through converted cells, against the standard's equations in plain loops,
 * and against what ONNX Runtime and the reference evaluator of the onnx package gave
 * (tests/golden/rnn). */
#include "support.h"

#include <jansson.h>

#include "autograd/gradcheck.h"
#include "nn/onnx.h"
#include "tensor/io_safetensors.h"

#ifndef GOLDEN
#define GOLDEN "tests/golden"
#endif

enum { T = 5, B = 3, I = 6, H = 4, MOST_GATES = 4 };

static const int gates_of[] = {[TL_ONNX_RNN] = 1, [TL_ONNX_LSTM] = 4, [TL_ONNX_GRU] = 3};

/* A node of an ONNX graph, its inputs and outputs. */
typedef struct node {
    tl_onnx_attributes a;
    int64_t D;
    tl_onnx_weights w;
    tl_tensor *X, *h0, *c0;
    const int64_t *lengths;
    tl_tensor *Y, *Y_h, *Y_c;
} node;

/* ---- the standard, in plain loops ------------------------------------------------------- */

static double at3(const tl_tensor *x, int64_t i, int64_t j, int64_t k)
{
    return tl_tensor_get(x, (i * x->layout.shape[1] + j) * x->layout.shape[2] + k);
}

static double at2(const tl_tensor *x, int64_t i, int64_t j)
{
    return x ? tl_tensor_get(x, i * x->layout.shape[1] + j) : 0;
}

static double activation(const char *name, double x)
{
    return strcmp(name, "Tanh") == 0       ? tanh(x)
           : strcmp(name, "Sigmoid") == 0  ? 1 / (1 + exp(-x))
           : strcmp(name, "Relu") == 0     ? fmax(x, 0)
           : strcmp(name, "Softsign") == 0 ? x / (1 + fabs(x))
           : strcmp(name, "Softplus") == 0 ? log(1 + exp(x))
                                           : NAN;
}

static double clipped(const node *n, double x)
{
    return n->a.clip > 0 ? fmin(fmax(x, -n->a.clip), n->a.clip) : x;
}

/* One row of the batch in one direction. */
typedef struct row {
    const node *n;
    int64_t d, b, t;
    double h[H], c[H];
} row;

static double x_at(const row *r, int64_t i)
{
    return r->n->a.layout ? at3(r->n->X, r->b, r->t, i) : at3(r->n->X, r->t, r->b, i);
}

/* Xt*(Wk^T) + Wbk, element j of gate k */
static double from_x(const row *r, int k, int64_t j)
{
    double sum = at2(r->n->w.B, r->d, k * H + j);
    for (int64_t i = 0; i < I; i++)
        sum += x_at(r, i) * at3(r->n->w.W, r->d, k * H + j, i);
    return sum;
}

/* v*(Rk^T), and Rbk */
static double from_h(const row *r, const double *v, int k, int64_t j)
{
    double sum = 0;
    for (int64_t i = 0; i < H; i++)
        sum += v[i] * at3(r->n->w.R, r->d, k * H + j, i);
    return sum;
}

static double r_bias(const row *r, int k, int64_t j)
{
    return at2(r->n->w.B, r->d, (gates_of[r->n->a.op] + k) * H + j);
}

/* All of it, with the peephole's part, through the clip. */
static double gate(const row *r, int k, int64_t j, double peephole, const char *f)
{
    double a = from_x(r, k, j) + from_h(r, r->h, k, j) + peephole + r_bias(r, k, j);
    return activation(f, clipped(r->n, a));
}

static void rnn_step(row *r)
{
    double h[H];
    for (int64_t j = 0; j < H; j++)
        h[j] = gate(r, 0, j, 0, r->n->a.activations[0] ? r->n->a.activations[0] : "Tanh");
    memcpy(r->h, h, sizeof h);
}

static void lstm_step(row *r)
{
    double h[H], c[H];
    const tl_tensor *P = r->n->w.P; /* i, o, f */
    for (int64_t j = 0; j < H; j++) {
        double i = gate(r, 0, j, at2(P, r->d, j) * r->c[j], "Sigmoid");
        double f = gate(r, 2, j, at2(P, r->d, 2 * H + j) * r->c[j], "Sigmoid");
        if (r->n->a.input_forget)
            f = 1 - i;
        c[j] = f * r->c[j] + i * gate(r, 3, j, 0, "Tanh");
        double o = gate(r, 1, j, at2(P, r->d, H + j) * c[j], "Sigmoid");
        h[j] = o * tanh(c[j]);
    }
    memcpy(r->h, h, sizeof h);
    memcpy(r->c, c, sizeof c);
}

static void gru_step(row *r)
{
    double z[H], reset[H], reset_h[H], h[H];
    for (int64_t j = 0; j < H; j++) {
        z[j] = gate(r, 0, j, 0, "Sigmoid");
        reset[j] = gate(r, 1, j, 0, "Sigmoid");
        reset_h[j] = reset[j] * r->h[j];
    }
    for (int64_t j = 0; j < H; j++) {
        double recurrent = r->n->a.linear_before_reset == TL_ONNX_LBR_1
                               ? reset[j] * (from_h(r, r->h, 2, j) + r_bias(r, 2, j))
                               : from_h(r, reset_h, 2, j) + r_bias(r, 2, j);
        h[j] = (1 - z[j]) * tanh(clipped(r->n, from_x(r, 2, j) + recurrent)) + z[j] * r->h[j];
    }
    memcpy(r->h, h, sizeof h);
}

/* Row (d, b) of a state [D,B,H] or [B,D,H] */
static int64_t state_at(const node *n, int64_t d, int64_t b, int64_t j)
{
    return (n->a.layout ? b * n->D + d : d * B + b) * H + j;
}

static void evaluate_row(const node *n, int64_t d, int64_t b)
{
    row r = {.n = n, .d = d, .b = b};
    int64_t length = n->lengths ? n->lengths[b] : T;
    bool backwards = d == 1 || n->a.direction == TL_ONNX_REVERSE;
    for (int64_t j = 0; j < H; j++) {
        r.h[j] = n->h0 ? tl_tensor_get(n->h0, state_at(n, d, b, j)) : 0;
        r.c[j] = n->c0 ? tl_tensor_get(n->c0, state_at(n, d, b, j)) : 0;
    }
    for (int64_t step = 0; step < length; step++) {
        r.t = backwards ? length - 1 - step : step;
        n->a.op == TL_ONNX_RNN ? rnn_step(&r) : n->a.op == TL_ONNX_LSTM ? lstm_step(&r) : gru_step(&r);
        for (int64_t j = 0; j < H; j++)
            tl_tensor_set(n->Y,
                          n->a.layout ? ((b * T + r.t) * n->D + d) * H + j
                                      : ((r.t * n->D + d) * B + b) * H + j,
                          r.h[j]);
    }
    for (int64_t j = 0; j < H; j++) {
        tl_tensor_set(n->Y_h, state_at(n, d, b, j), r.h[j]);
        tl_tensor_set(n->Y_c, state_at(n, d, b, j), r.c[j]);
    }
}

/* Y, Y_h, Y_c of the node by the standard. */
static void evaluate(const node *n)
{
    tl_tensor_fill(n->Y, 0);
    for (int64_t d = 0; d < n->D; d++)
        for (int64_t b = 0; b < B; b++)
            evaluate_row(n, d, b);
}

/* ---- nodes ------------------------------------------------------------------------------ */

static tl_tensor *state_tensor(const node *n, dice *d)
{
    return n->a.layout ? random_tensor(d, TL_F64, TL_SHAPE(B, n->D, H), -1, 1)
                       : random_tensor(d, TL_F64, TL_SHAPE(n->D, B, H), -1, 1);
}

/* What lies beyond a row's length is nobody's to read. */
static void spoil_padding(const node *n)
{
    for (int64_t t = 0; n->lengths && t < T; t++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; i < I && t >= n->lengths[b]; i++)
                tl_tensor_set(n->X, (n->a.layout ? b * T + t : t * B + b) * I + i, NAN);
}

static int take(int *number, int choices)
{
    int choice = *number % choices;
    *number /= choices;
    return choice;
}

static const char *const rnn_activations[] = {NULL, "Tanh", "Relu", "Sigmoid", "Softsign", "Softplus"};

/* Node `number` of all combinations of options; false when there are no more. */
static bool make_node(node *n, tl_onnx_operator op, int number)
{
    static const int64_t lengths[B] = {3, 5, 1}, with_nothing[B] = {0, 2, 4};
    dice d = dice_of((uint64_t)(1000 * (int)op + number));
    *n = (node){.a = {.op = op, .hidden_size = number % 2 ? H : 0}};
    n->a.direction = (tl_onnx_direction)take(&number, 3);
    n->a.layout = take(&number, 2);
    const int64_t *all[] = {NULL, lengths, with_nothing};
    n->lengths = all[take(&number, 3)];
    bool initial = take(&number, 2), bias = take(&number, 2), peephole = false;
    n->a.clip = take(&number, 2) ? 0.4 : 0;
    if (op == TL_ONNX_RNN) {
        n->a.activations[0] = rnn_activations[take(&number, COUNT_OF(rnn_activations))];
        n->a.activations[1] = n->a.direction == TL_ONNX_BIDIRECTIONAL ? n->a.activations[0] : NULL;
    } else if (op == TL_ONNX_LSTM) {
        peephole = take(&number, 2);
        n->a.input_forget = take(&number, 2);
    } else {
        n->a.linear_before_reset = take(&number, 2) ? TL_ONNX_LBR_1 : TL_ONNX_LBR_0;
    }
    if (number)
        return false;
    n->D = n->a.direction == TL_ONNX_BIDIRECTIONAL ? 2 : 1;
    int64_t GH = gates_of[op] * H;
    n->w.W = random_tensor(&d, TL_F64, TL_SHAPE(n->D, GH, I), -1, 1);
    n->w.R = random_tensor(&d, TL_F64, TL_SHAPE(n->D, GH, H), -1, 1);
    n->w.B = bias ? random_tensor(&d, TL_F64, TL_SHAPE(n->D, 2 * GH), -1, 1) : NULL;
    n->w.P = peephole ? random_tensor(&d, TL_F64, TL_SHAPE(n->D, 3 * H), -1, 1) : NULL;
    n->X = n->a.layout ? random_tensor(&d, TL_F64, TL_SHAPE(B, T, I), -1, 1)
                       : random_tensor(&d, TL_F64, TL_SHAPE(T, B, I), -1, 1);
    n->h0 = initial ? state_tensor(n, &d) : NULL;
    n->c0 = initial && op == TL_ONNX_LSTM ? state_tensor(n, &d) : NULL;
    n->Y = n->a.layout ? random_tensor(&d, TL_F64, TL_SHAPE(B, T, n->D, H), -1, 1)
                       : random_tensor(&d, TL_F64, TL_SHAPE(T, n->D, B, H), -1, 1);
    n->Y_h = state_tensor(n, &d);
    n->Y_c = state_tensor(n, &d);
    spoil_padding(n);
    return true;
}

static void free_node(node *n)
{
    tl_tensor *all[] = {n->X, n->h0, n->c0, n->Y, n->Y_h, n->Y_c};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
    tl_onnx_weights_free(&n->w);
}

/* The network of a node; fails in words. */
static tl_params *convert(tl_rnn *rnn, const tl_onnx_attributes *a, const tl_onnx_weights *w)
{
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_onnx_init(rnn, params, "node.", a, w);
    if (tl_params_status(params) != TL_OK)
        fail_msg("%s", params->error.message);
    return params;
}

static tl_var leaf_or_none(tl_tape *t, tl_tensor *x, tl_tensor *gradient)
{
    return x ? tl_leaf(t, x, gradient) : TL_NONE;
}

static tl_onnx_inputs inputs_of(tl_tape *t, const node *n)
{
    return (tl_onnx_inputs){.X = tl_leaf(t, n->X, NULL),
                            .initial_h = leaf_or_none(t, n->h0, NULL),
                            .initial_c = leaf_or_none(t, n->c0, NULL),
                            .sequence_lens = n->lengths};
}

static void name_node(const node *n, int number, char text[128])
{
    snprintf(text, 128, "operator %d, number %d: direction %d, layout %d, clip %g", (int)n->a.op,
             number, (int)n->a.direction, n->a.layout, n->a.clip);
}

static void compare(tl_tape *t, tl_var got, const tl_tensor *expected, double tolerance,
                    const char *what)
{
    tl_tensor *value = value_of(t, got);
    check_tensors(value, expected, tolerance, what, __FILE__, __LINE__);
    tl_tensor_release(value);
}

/* ---- values ----------------------------------------------------------------------------- */

static void check_values(const node *n, const tl_rnn *rnn, const char *what)
{
    tl_tape *t = tl_tape_new(NULL);
    tl_onnx_inputs in = inputs_of(t, n);
    tl_onnx_outputs out = tl_onnx_run(t, rnn, &in);
    check_ok(t, what, 0);
    compare(t, out.Y, n->Y, 1e-12, what);
    compare(t, out.Y_h, n->Y_h, 1e-12, what);
    assert_int_equal(tl_is_none(out.Y_c), n->a.op != TL_ONNX_LSTM);
    if (n->a.op == TL_ONNX_LSTM)
        compare(t, out.Y_c, n->Y_c, 1e-12, what);
    tl_tape_free(t);
}

static void values_are_the_standards(void **state)
{
    static const int wanted[] = {864, 576, 288};
    (void)state;
    for (int op = 0; op < 3; op++) {
        node n;
        int number = 0;
        for (; make_node(&n, (tl_onnx_operator)op, number); number++) {
            char text[128];
            tl_rnn rnn;
            name_node(&n, number, text);
            tl_params *params = convert(&rnn, &n.a, &n.w);
            evaluate(&n);
            check_values(&n, &rnn, text);
            tl_rnn_free(&rnn);
            tl_params_free(params);
            free_node(&n);
        }
        assert_int_equal(number, wanted[op]);
    }
}

/* ---- what others computed --------------------------------------------------------------- */

static tl_onnx_attributes read_attributes(const json_t *json)
{
    static const char *const names[] = {"RNN", "LSTM", "GRU"};
    static const char *const directions[] = {"forward", "reverse", "bidirectional"};
    const char *op = json_string_value(json_object_get(json, "op"));
    const char *direction = json_string_value(json_object_get(json, "direction"));
    const json_t *list = json_object_get(json, "activations");
    tl_onnx_attributes a = {.hidden_size = json_integer_value(json_object_get(json, "hidden_size")),
                            .layout = (int)json_integer_value(json_object_get(json, "layout")),
                            .clip = json_number_value(json_object_get(json, "clip")),
                            .input_forget =
                                json_integer_value(json_object_get(json, "input_forget")) != 0};
    for (int k = 0; k < 3; k++) {
        a.op = strcmp(op, names[k]) == 0 ? (tl_onnx_operator)k : a.op;
        a.direction = strcmp(direction, directions[k]) == 0 ? (tl_onnx_direction)k : a.direction;
    }
    if (a.op == TL_ONNX_GRU)
        a.linear_before_reset = json_integer_value(json_object_get(json, "linear_before_reset"))
                                    ? TL_ONNX_LBR_1
                                    : TL_ONNX_LBR_0;
    for (size_t k = 0; k < json_array_size(list); k++)
        a.activations[k] = json_string_value(json_array_get(list, k));
    return a;
}

/* In f64; NULL where there is none. */
static tl_tensor *stored(const tl_tensor_file *file, const char *number, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s/%s", number, name);
    const tl_tensor *x = tl_tensor_file_find(file, key);
    return x ? tl_tensor_copy(x, x->dtype == TL_I64 ? TL_I64 : TL_F64, NULL) : NULL;
}

static void check_stored(const tl_tensor_file *file, const char *number, const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    bool runtime = strcmp(json_string_value(json_object_get(json, "by")), "runtime") == 0;
    double tolerance = runtime ? 2e-6 : 1e-12; /* f32 and f64 */
    node n = {.a = read_attributes(json),
              .w = {.W = stored(file, number, "W"),
                    .R = stored(file, number, "R"),
                    .B = stored(file, number, "B"),
                    .P = stored(file, number, "P")},
              .X = stored(file, number, "X"),
              .h0 = stored(file, number, "initial_h"),
              .c0 = stored(file, number, "initial_c"),
              .Y = stored(file, number, "Y"),
              .Y_h = stored(file, number, "Y_h"),
              .Y_c = stored(file, number, "Y_c")};
    tl_tensor *lengths = stored(file, number, "sequence_lens");
    n.lengths = lengths ? lengths->data : NULL;
    tl_rnn rnn;
    tl_params *params = convert(&rnn, &n.a, &n.w);
    tl_tape *t = tl_tape_new(NULL);
    tl_onnx_inputs in = inputs_of(t, &n);
    tl_onnx_outputs out = tl_onnx_run(t, &rnn, &in);
    check_ok(t, text, 0);
    compare(t, out.Y, n.Y, tolerance, text);
    compare(t, out.Y_h, n.Y_h, tolerance, text);
    if (n.Y_c)
        compare(t, out.Y_c, n.Y_c, tolerance, text);
    tl_tape_free(t);
    tl_rnn_free(&rnn);
    tl_params_free(params);
    tl_tensor_release(lengths);
    free_node(&n);
    json_decref(json);
}

static void other_evaluators_agree(void **state)
{
    (void)state;
    tl_tensor_file file;
    tl_error error = {0};
    if (tl_safetensors_load(GOLDEN "/rnn/onnx.safetensors", &file, &error) != TL_OK)
        fail_msg("%s", error.message);
    assert_true(file.metadata_count >= 45);
    for (int k = 0; k < file.metadata_count; k++)
        check_stored(&file, file.metadata[2 * k], file.metadata[2 * k + 1]);
    tl_tensor_file_free(&file);
}

/* ---- there and back --------------------------------------------------------------------- */

static void check_attributes(const tl_onnx_attributes *a, const tl_onnx_attributes *expected)
{
    assert_int_equal(a->op, expected->op);
    assert_int_equal(a->direction, expected->direction);
    assert_int_equal(a->hidden_size, H);
    assert_int_equal(a->layout, expected->layout);
    assert_same(a->clip, expected->clip);
    assert_int_equal(a->input_forget, expected->input_forget);
    assert_int_equal(a->linear_before_reset, expected->linear_before_reset);
    int count = a->op != TL_ONNX_RNN ? 0 : a->direction == TL_ONNX_BIDIRECTIONAL ? 2 : 1;
    for (int k = 0; k < TL_ONNX_MOST_ACTIVATIONS; k++) {
        if (k >= count)
            assert_null(a->activations[k]);
        else
            assert_string_equal(a->activations[k],
                                expected->activations[k] ? expected->activations[k] : "Tanh");
    }
}

/* Bit by bit; where `skip` says so, 0. */
static void check_weight(const tl_tensor *got, const tl_tensor *given, bool coupled, const char *what)
{
    assert_int_equal(got != NULL, given != NULL);
    if (!got)
        return;
    assert_true(tl_layout_same_shape(&got->layout, &given->layout));
    int64_t block = H * (given->layout.ndim == 3 ? given->layout.shape[2] : 1);
    int64_t blocks = given->layout.shape[1] / H;
    for (int64_t i = 0; i < given->layout.count; i++) {
        int64_t k = i / block % blocks;
        bool unused = coupled && (blocks == 3 ? k == 2 : k % 4 == 2); /* f of i, o, f (, c) */
        check_near(tl_tensor_get(got, i), unused ? 0 : tl_tensor_get(given, i), 0, what, i, __FILE__,
                   __LINE__);
    }
}

static void a_node_comes_back(void **state)
{
    (void)state;
    for (int op = 0; op < 3; op++) {
        node n;
        for (int number = 0; make_node(&n, (tl_onnx_operator)op, number); number++) {
            tl_rnn rnn, again;
            tl_error error = {0};
            tl_onnx_attributes a;
            tl_onnx_weights w;
            tl_params *params = convert(&rnn, &n.a, &n.w);
            assert_int_equal(tl_onnx_store(&rnn, 0, &a, &w, &error), TL_OK);
            check_attributes(&a, &n.a);
            check_weight(w.W, n.w.W, n.a.input_forget, "W");
            check_weight(w.R, n.w.R, n.a.input_forget, "R");
            check_weight(w.B, n.w.B, n.a.input_forget, "B");
            check_weight(w.P, n.w.P, n.a.input_forget, "P");
            tl_params *second = convert(&again, &a, &w); /* which is the node again */
            evaluate(&n);
            check_values(&n, &again, "once more");
            tl_onnx_weights_free(&w);
            assert_null(w.W);
            tl_rnn_free(&again);
            tl_params_free(second);
            tl_rnn_free(&rnn);
            tl_params_free(params);
            free_node(&n);
        }
    }
}

/* ---- derivatives ------------------------------------------------------------------------ */

typedef struct weighing {
    tl_tensor *Y, *Y_h, *Y_c; /* the loss is the sum of the outputs times these */
} weighing;

static double dot(const tl_tensor *x, const tl_tensor *g)
{
    double sum = 0;
    for (int64_t i = 0; i < x->layout.count; i++)
        sum += tl_tensor_get(x, i) * tl_tensor_get(g, i);
    return sum;
}

static double reference_loss(const node *n, const weighing *g)
{
    evaluate(n);
    return dot(n->Y, g->Y) + dot(n->Y_h, g->Y_h) + (n->a.op == TL_ONNX_LSTM ? dot(n->Y_c, g->Y_c) : 0);
}

/* dloss/dx of the standard's loops by central differences */
static void check_difference(const node *n, const weighing *g, tl_tensor *x, const tl_tensor *gradient,
                             const char *what)
{
    for (int64_t i = 0; x && i < x->layout.count; i++) {
        double value = tl_tensor_get(x, i), step = 1e-5;
        if (isnan(value)) { /* padding */
            assert_same(tl_tensor_get(gradient, i), 0);
            continue;
        }
        tl_tensor_set(x, i, value + step);
        double above = reference_loss(n, g);
        tl_tensor_set(x, i, value - step);
        double below = reference_loss(n, g);
        tl_tensor_set(x, i, value);
        check_near(tl_tensor_get(gradient, i), (above - below) / (2 * step), 1e-8, what, i, __FILE__,
                   __LINE__);
    }
}

static tl_var weighed(tl_tape *t, tl_var x, tl_tensor *g)
{
    return tl_sum(t, tl_mul(t, x, tl_constant(t, g)));
}

/* Gradients of the parameters as ONNX has the weights: they travel like the weights themselves. */
static void check_gradients(const node *n, const char *what)
{
    dice d = dice_of(11);
    tl_rnn rnn;
    tl_error error = {0};
    tl_onnx_attributes a;
    tl_onnx_weights w;
    tl_params *params = convert(&rnn, &n->a, &n->w);
    tl_tape *t = tl_tape_new(NULL);
    weighing g = {random_tensor(&d, TL_F64, n->Y->layout.ndim, n->Y->layout.shape, -1, 1),
                  state_tensor(n, &d), state_tensor(n, &d)};
    tl_tensor *dX = zeros_like(n->X), *dh0 = zeros_like(n->Y_h), *dc0 = zeros_like(n->Y_c);
    tl_onnx_outputs out = tl_onnx_run(t, &rnn,
                                      &(tl_onnx_inputs){.X = tl_leaf(t, n->X, dX),
                                                        .initial_h = leaf_or_none(t, n->h0, dh0),
                                                        .initial_c = leaf_or_none(t, n->c0, dc0),
                                                        .sequence_lens = n->lengths});
    tl_var loss = tl_add(t, weighed(t, out.Y, g.Y), weighed(t, out.Y_h, g.Y_h));
    if (n->a.op == TL_ONNX_LSTM)
        loss = tl_add(t, loss, weighed(t, out.Y_c, g.Y_c));
    tl_backward(t, loss);
    check_ok(t, what, 0);
    for (int k = 0; k < params->count; k++)
        tl_tensor_assign(params->entry[k]->value, params->entry[k]->gradient, NULL);
    assert_int_equal(tl_onnx_store(&rnn, 0, &a, &w, &error), TL_OK);
    check_difference(n, &g, n->w.W, w.W, what);
    check_difference(n, &g, n->w.R, w.R, what);
    check_difference(n, &g, n->w.B, w.B, what);
    check_difference(n, &g, n->w.P, w.P, what);
    check_difference(n, &g, n->X, dX, what);
    check_difference(n, &g, n->h0, dh0, what);
    check_difference(n, &g, n->c0, dc0, what);
    tl_onnx_weights_free(&w);
    tl_tensor *all[] = {g.Y, g.Y_h, g.Y_c, dX, dh0, dc0};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
    tl_tape_free(t);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* A sample: 37 has no factor in common with the numbers of choices. */
static void gradients_are_those_of_the_loops(void **state)
{
    (void)state;
    for (int op = 0; op < 3; op++) {
        node n;
        for (int number = op; make_node(&n, (tl_onnx_operator)op, number); number += 37) {
            char text[128];
            name_node(&n, number, text);
            check_gradients(&n, text);
            free_node(&n);
        }
    }
}

typedef struct converted {
    const tl_rnn *rnn;
    const tl_params *params;
    bool initial_h, initial_c;
    const int64_t *lengths;
} converted;

/* in: X, the initial states, and the values of all parameters, which are the network's leaves. */
static tl_var run_converted(tl_tape *t, const tl_var *in, void *context)
{
    const converted *c = context;
    tl_onnx_outputs out = tl_onnx_run(t, c->rnn,
                                      &(tl_onnx_inputs){.X = in[0],
                                                        .initial_h = c->initial_h ? in[1] : TL_NONE,
                                                        .initial_c = c->initial_c ? in[2] : TL_NONE,
                                                        .sequence_lens = c->lengths});
    tl_var all[] = {tl_reshape(t, out.Y, 1, (const int64_t[]){-1}),
                    tl_reshape(t, out.Y_h, 1, (const int64_t[]){-1})};
    return tl_concat(t, 2, all, 0);
}

static void check_by_gradcheck(tl_onnx_operator op, int number)
{
    node n;
    tl_rnn rnn;
    tl_tensor *inputs[32];
    tl_gradcheck_report report;
    assert_true(make_node(&n, op, number));
    tl_params *params = convert(&rnn, &n.a, &n.w);
    converted c = {&rnn, params, n.h0 != NULL, n.c0 != NULL, NULL};
    int count = 0;
    for (int64_t i = 0; i < n.X->layout.count; i++) /* no lengths here: no padding either */
        if (isnan(tl_tensor_get(n.X, i)))
            tl_tensor_set(n.X, i, 0.25);
    inputs[count++] = n.X;
    if (n.h0)
        inputs[count++] = n.h0;
    if (n.c0)
        inputs[count++] = n.c0;
    for (int k = 0; k < params->count; k++)
        inputs[count++] = params->entry[k]->value;
    if (tl_gradcheck(run_converted, &c, count, inputs, NULL, &report) != TL_OK)
        fail_msg("operator %d, number %d: %s", (int)op, number, report.message);
    assert_true(report.checked > 100);
    tl_rnn_free(&rnn);
    tl_params_free(params);
    free_node(&n);
}

/* The last numbers have every option: initial states, biases, clip, peepholes, coupling. */
static void gradcheck_agrees(void **state)
{
    (void)state;
    const int counts[] = {864, 576, 288};
    for (int op = 0; op < 3; op++)
        for (int direction = 0; direction < 3; direction++)
            check_by_gradcheck((tl_onnx_operator)op, counts[op] - 1 - direction);
}

/* ---- layers of other networks ----------------------------------------------------------- */

/* The second layer of two, of floats; without B its biases become 0. */
static void one_layer_of_several(void **state)
{
    (void)state;
    dice d = dice_of(5);
    tl_rnn rnn;
    tl_error error = {0};
    tl_onnx_attributes a;
    tl_onnx_weights stored;
    tl_params *params = tl_params_new(TL_F32, 2);
    tl_rnn_init(&rnn, params,
                &(tl_rnn_config){.cell = &tl_gru_cell, .input = 3, .hidden = H, .layers = 2});
    tl_onnx_weights w = {.W = random_tensor(&d, TL_F64, TL_SHAPE(1, 3 * H, H), -1, 1),
                         .R = random_tensor(&d, TL_F64, TL_SHAPE(1, 3 * H, H), -1, 1)};
    double before = tl_tensor_get(tl_rnn_weight(&rnn, 0, 0, "weight_hh")->value, 7);
    assert_int_equal(tl_onnx_load(&rnn, 1, &w, &error), TL_OK);
    assert_same(tl_tensor_get(tl_rnn_weight(&rnn, 0, 0, "weight_hh")->value, 7), before);
    tl_tensor *ours = tl_rnn_weight(&rnn, 1, 0, "weight_hh")->value;
    assert_same(tl_tensor_get(ours, 2), (float)tl_tensor_get(w.R, H * H + 2)); /* r is ONNX's second */
    assert_same(tl_tensor_get(ours, H * H + 2), (float)tl_tensor_get(w.R, 2)); /* z its first */
    assert_same(tl_tensor_get(tl_rnn_weight(&rnn, 1, 0, "bias_hh")->value, 3), 0);
    assert_int_equal(tl_onnx_store(&rnn, 1, &a, &stored, &error), TL_OK);
    assert_int_equal(stored.W->dtype, TL_F32);
    assert_int_equal(a.linear_before_reset, TL_ONNX_LBR_1);
    assert_non_null(stored.B);
    assert_tensors(stored.R, w.R, 1e-7);
    tl_onnx_weights_free(&stored);
    tl_onnx_weights_free(&w);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

/* ---- refusals --------------------------------------------------------------------------- */

static void refused(const tl_onnx_attributes *a, const tl_onnx_weights *w, tl_status status,
                    const char *message)
{
    tl_rnn rnn;
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_onnx_init(&rnn, params, NULL, a, w);
    assert_string_equal(params->error.message, message);
    assert_int_equal(params->error.status, status);
    assert_int_equal(params->count == 0 || status == TL_ERR_SHAPE, 1);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

static tl_tensor *zeros(int64_t a, int64_t b, int64_t c)
{
    tl_tensor *x = c ? tl_tensor_zeros(TL_F64, TL_SHAPE(a, b, c), NULL)
                     : tl_tensor_zeros(TL_F64, TL_SHAPE(a, b), NULL);
    assert_non_null(x);
    return x;
}

static void attributes_are_refused_in_words(void **state)
{
    (void)state;
    const tl_status argument = TL_ERR_ARGUMENT;
    tl_onnx_weights w = {.W = zeros(1, 3 * H, I), .R = zeros(1, 3 * H, H)};
    tl_onnx_weights p = {.W = w.W, .R = w.R, .P = zeros(1, 3 * H, 0)};
#define REFUSED(weights, status, message, ...)                                                         \
    refused(&(tl_onnx_attributes){__VA_ARGS__}, &(weights), (status), (message))
    REFUSED(w, argument, "onnx: the operators are RNN, LSTM and GRU, not 7", .op = (tl_onnx_operator)7);
    REFUSED(w, argument,
            "onnx GRU: linear_before_reset must be said: TL_ONNX_LBR_0 (ONNX's default) or "
            "TL_ONNX_LBR_1 (PyTorch's networks)",
            .op = TL_ONNX_GRU);
    REFUSED(w, argument, "onnx GRU: linear_before_reset is 0 or 1", .op = TL_ONNX_GRU,
            .linear_before_reset = (tl_onnx_reset)3);
    REFUSED(w, argument, "onnx LSTM: linear_before_reset is an attribute of GRU", .op = TL_ONNX_LSTM,
            .linear_before_reset = TL_ONNX_LBR_0);
    REFUSED(w, argument, "onnx RNN: direction is forward, reverse or bidirectional",
            .direction = (tl_onnx_direction)3);
    REFUSED(w, argument, "onnx RNN: layout is 0 or 1", .layout = 2);
    REFUSED(w, argument, "onnx RNN: clip must be greater than 0, or 0 for none", .clip = -1);
    REFUSED(w, argument, "onnx RNN: clip must be greater than 0, or 0 for none", .clip = NAN);
    REFUSED(w, argument, "onnx RNN: input_forget is an attribute of LSTM", .input_forget = true);
    REFUSED(p, argument, "onnx RNN: P, peepholes, is an input of LSTM", .op = TL_ONNX_RNN);
    REFUSED(w, TL_ERR_SHAPE, "onnx RNN: hidden_size is 5, but R has 4 columns", .hidden_size = 5);
    REFUSED(w, argument,
            "onnx RNN: activation 0 is Elu, should be Tanh, Relu, Sigmoid, Softsign or Softplus",
            .activations = {"Elu"});
    REFUSED(w, argument, "onnx RNN: 1 activations, should be 2", .direction = TL_ONNX_BIDIRECTIONAL,
            .activations = {"Tanh"});
    REFUSED(w, argument, "onnx RNN: both directions must have the same activation",
            .direction = TL_ONNX_BIDIRECTIONAL, .activations = {"Tanh", "Relu"});
    REFUSED(w, argument, "onnx LSTM: activation 2 is Relu, should be Tanh", .op = TL_ONNX_LSTM,
            .activations = {"Sigmoid", "Tanh", "Relu"});
    REFUSED(w, argument, "onnx GRU: 3 activations, should be 2", .op = TL_ONNX_GRU,
            .linear_before_reset = TL_ONNX_LBR_1, .activations = {"Sigmoid", "Tanh", "Tanh"});
    tl_tensor_release(p.P);
    tl_onnx_weights_free(&w);
}

static void weights_are_refused_in_words(void **state)
{
    (void)state;
    tl_tensor *W = zeros(1, 4 * H, I), *R = zeros(1, 4 * H, H), *bias = zeros(1, 4 * H, 0);
    tl_tensor *whole = tl_tensor_zeros(TL_I64, TL_SHAPE(1, 3 * H), NULL), *flat = zeros(4 * H, I, 0);
    tl_tensor *wrong = zeros(2, 4 * H, I);
    const tl_onnx_attributes lstm = {.op = TL_ONNX_LSTM};
    const char *wanted = "onnx LSTM: W and R are wanted, both of three dimensions";
    refused(&lstm, &(tl_onnx_weights){.W = W}, TL_ERR_ARGUMENT, wanted);
    refused(&lstm, &(tl_onnx_weights){.W = flat, .R = R}, TL_ERR_ARGUMENT, wanted);
    refused(&lstm, &(tl_onnx_weights){.W = wrong, .R = R}, TL_ERR_SHAPE,
            "onnx LSTM: W is f64 [2,16,6], should be real [1,16,6]");
    refused(&(tl_onnx_attributes){.op = TL_ONNX_RNN}, &(tl_onnx_weights){.W = W, .R = R}, TL_ERR_SHAPE,
            "onnx RNN: W is f64 [1,16,6], should be real [1,4,6]");
    refused(&lstm, &(tl_onnx_weights){.W = W, .R = R, .B = bias}, TL_ERR_SHAPE,
            "onnx LSTM: B is f64 [1,16], should be real [1,32]");
    refused(&lstm, &(tl_onnx_weights){.W = W, .R = R, .P = whole}, TL_ERR_SHAPE,
            "onnx LSTM: P is i64 [1,12], should be real [1,12]");
    tl_tensor *all[] = {W, R, bias, whole, flat, wrong};
    for (int k = 0; k < COUNT_OF(all); k++)
        tl_tensor_release(all[k]);
}

static tl_var softer(tl_tape *t, tl_var x)
{
    return tl_tanh(t, tl_affine(t, x, 0.5, 0));
}

static void cannot_store(const tl_rnn_config *config, int layer, const char *message)
{
    tl_rnn rnn;
    tl_onnx_attributes a;
    tl_onnx_weights w;
    tl_error error = {0};
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn_init(&rnn, params, config);
    assert_int_equal(tl_onnx_store(&rnn, layer, &a, &w, &error), TL_ERR_ARGUMENT);
    assert_string_equal(error.message, message);
    assert_null(w.W);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

static void keep(const tl_cell_call *c, tl_var x, tl_var *state)
{
    (void)c;
    state[0] = x;
}

static void networks_are_refused_in_words(void **state)
{
    (void)state;
    static const tl_cell_type same = {.name = "same", .states = {{"h", "H"}}, .step = keep};
    const tl_elman_options own = {.activation = softer};
    const tl_lstm_options normed = {.layer_norm = true};
#define CANNOT_STORE(layer, message, ...)                                                              \
    cannot_store(&(tl_rnn_config){.input = I, .hidden = I, .layers = 1, __VA_ARGS__}, (layer),         \
                 (message))
    CANNOT_STORE(0, "onnx: network of same cells: the operators are RNN, LSTM and GRU", .cell = &same);
    CANNOT_STORE(0, "onnx: network of lstm cells: its LSTM has no projection", .cell = &tl_lstm_cell,
                 .projection = 2);
    CANNOT_STORE(0, "onnx: network of lstm cells: its LSTM has no layer normalisation",
                 .cell = &tl_lstm_cell, .options = &normed);
    CANNOT_STORE(0, "onnx: network of gru cells: there is no zoneout", .cell = &tl_gru_cell,
                 .zoneout = {0.1});
    CANNOT_STORE(0, "onnx: network of elman cells: its RNN has no such activation",
                 .cell = &tl_elman_cell, .options = &own);
    CANNOT_STORE(1, "onnx GRU: there is no layer 1", .cell = &tl_gru_cell);
    CANNOT_STORE(0, "onnx: network of no cells: the network was not built, see tl_params_status",
                 .cell = NULL);
}

static void loading_is_all_or_nothing(void **state)
{
    (void)state;
    dice d = dice_of(9);
    tl_rnn rnn;
    tl_error error = {0};
    tl_params *params = tl_params_new(TL_F64, 1);
    tl_rnn_init(
        &rnn, params,
        &(tl_rnn_config){.cell = &tl_lstm_cell, .input = I, .hidden = H, .layers = 1, .no_bias = true});
    tl_tensor *W = random_tensor(&d, TL_F64, TL_SHAPE(1, 4 * H, I), 3, 4), *R = zeros(1, 4 * H, I);
    double before = tl_tensor_get(params->entry[0]->value, 3);
    assert_int_equal(tl_onnx_load(&rnn, 0, &(tl_onnx_weights){.W = W, .R = R}, &error), TL_ERR_SHAPE);
    assert_string_equal(error.message, "onnx LSTM: R is f64 [1,16,6], should be real [1,16,4]");
    const struct {
        tl_onnx_weights w;
        int layer;
        const char *message;
    } others[] = {
        {{.W = W}, 0, "onnx LSTM: R is missing"},
        {{.R = R}, 0, "onnx LSTM: W is missing"},
        {{.W = W, .R = R}, -1, "onnx LSTM: there is no layer -1"},
        {{.W = W, .R = R, .B = R}, 0, "onnx LSTM: there is B, and the network has no biases"},
        {{.W = W, .R = R, .P = R}, 0, "onnx LSTM: there is P, and the network has no peepholes"}};
    for (int k = 0; k < COUNT_OF(others); k++) {
        error = (tl_error){0};
        assert_int_equal(tl_onnx_load(&rnn, others[k].layer, &others[k].w, &error), TL_ERR_ARGUMENT);
        assert_string_equal(error.message, others[k].message);
    }
    assert_same(tl_tensor_get(params->entry[0]->value, 3), before);
    tl_tensor_release(W);
    tl_tensor_release(R);
    tl_rnn_free(&rnn);
    tl_params_free(params);
}

static void inputs_are_refused_in_words(void **state)
{
    (void)state;
    node n;
    tl_rnn rnn;
    tl_tape *t = tl_tape_new(NULL);
    assert_true(make_node(&n, TL_ONNX_GRU, 2)); /* two directions, layout 0 */
    tl_params *params = convert(&rnn, &n.a, &n.w);
#define RUN(...) tl_onnx_run(t, &rnn, &(tl_onnx_inputs){.X = tl_constant(t, n.X), __VA_ARGS__})
    tl_onnx_outputs out = RUN(.initial_h = tl_full(t, TL_F64, TL_SHAPE(B, 2, H), 0));
    assert_null(tl_value(t, out.Y).data);
    assert_error(t, TL_ERR_SHAPE, "onnx: initial_h is [3,2,4], should be [2,3,4]");
    RUN(.initial_c = tl_full(t, TL_F64, TL_SHAPE(2, B, H), 0));
    assert_error(t, TL_ERR_ARGUMENT, "onnx: initial_c is an input of LSTM");
    RUN(.sequence_lens = (const int64_t[]){1, 6, 2});
    assert_error(t, TL_ERR_ARGUMENT, "unroll: length 6 of row 1 is not within 0..5");
    tl_onnx_run(t, &rnn, &(tl_onnx_inputs){.X = tl_full(t, TL_F64, TL_SHAPE(T, B, H), 0)});
    assert_error(t, TL_ERR_SHAPE, "unroll: gru network wants [T,B,6] with T >= 1, not [5,3,4]");
    rnn.config.connection = TL_RESIDUAL;
    RUN(.sequence_lens = NULL);
    assert_error(t, TL_ERR_ARGUMENT,
                 "onnx: network of gru cells: an operator is one layer, without connections or "
                 "normalisation around it");
    tl_rnn_free(&rnn);
    tl_params_free(params);
    tl_tape_free(t);
    free_node(&n);
}

/* A network, not an operator: what is new in the cells and in the unrolling. */
static void nonsense_is_refused_by_the_network(void **state)
{
    (void)state;
    const tl_lstm_options lstm = {.clip = -2};
    const tl_gru_options gru = {.clip = NAN};
    const tl_elman_options elman = {.clip = -0.5};
    const struct {
        const tl_cell_type *cell;
        const void *options;
        bool both;
        const char *message;
    } cases[] = {
        {&tl_lstm_cell, &lstm, false, "rnn of lstm cells: clip must be greater than 0, or 0 for none"},
        {&tl_gru_cell, &gru, false, "rnn of gru cells: clip must be greater than 0, or 0 for none"},
        {&tl_elman_cell, &elman, false,
         "rnn of elman cells: clip must be greater than 0, or 0 for none"},
        {&tl_gru_cell, NULL, true,
         "rnn of gru cells: both bidirectional and reverse: of two directions one reads backwards "
         "anyway"}};
    for (int k = 0; k < COUNT_OF(cases); k++) {
        tl_rnn rnn;
        tl_params *params = tl_params_new(TL_F64, 1);
        tl_rnn_init(&rnn, params,
                    &(tl_rnn_config){.cell = cases[k].cell,
                                     .options = cases[k].options,
                                     .input = I,
                                     .hidden = H,
                                     .layers = 1,
                                     .bidirectional = cases[k].both,
                                     .reverse = cases[k].both});
        assert_int_equal(tl_params_status(params), TL_ERR_ARGUMENT);
        assert_string_equal(params->error.message, cases[k].message);
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
}

/* h' = h + x: a cell that can scan, to see that a scan, too, reads backwards. */
static void add_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    state[0] = tl_add(c->tape, state[0], x);
}

static tl_var add_scan(const tl_cell_call *c, tl_var x, tl_var *state)
{
    tl_var y = tl_add(c->tape, tl_cumsum(c->tape, x, 0, false), state[0]);
    state[0] = tl_select(c->tape, y, 0, c->steps - 1);
    return y;
}

static const tl_cell_type adder = {
    .name = "adder", .states = {{"h", "H"}}, .step = add_step, .scan = add_scan};

/* Outputs and last state are those of the backward half of a network that reads in both directions. */
static void check_reverse(const tl_cell_type *cell, bool sequential)
{
    dice d = dice_of(17);
    tl_rnn reverse, both;
    tl_tape *t = tl_tape_new(NULL);
    tl_params *params = tl_params_new(TL_F64, 4);
    tl_rnn_config config = {.cell = cell, .input = H, .hidden = H, .layers = 1, .prefix = "both."};
    config.sequential = sequential;
    config.bidirectional = true;
    tl_rnn_init(&both, params, &config);
    config.bidirectional = false;
    config.reverse = true;
    config.prefix = "reverse.";
    tl_rnn_init(&reverse, params, &config);
    assert_int_equal(tl_params_status(params), TL_OK);
    for (int k = 0; k < reverse.weights; k++)
        if (reverse.weight[k])
            tl_tensor_assign(reverse.weight[k]->value, both.weight[both.weights + k]->value, NULL);
    tl_tensor *x = random_tensor(&d, TL_F64, TL_SHAPE(T, B, H), -1, 1);
    tl_var states[2] = {TL_NONE, TL_NONE}, state = TL_NONE, in = tl_constant(t, x);
    tl_var y = tl_unroll(t, &both, in, states);
    assert_vars(t, tl_unroll(t, &reverse, in, &state), tl_slice(t, y, 2, H, 2 * H, 1), 1e-14);
    assert_vars(t, state, states[1], 1e-14);
    assert_vars(t, state, tl_select(t, tl_slice(t, y, 2, H, 2 * H, 1), 0, 0), 1e-14);
    assert_ok(t);
    tl_unroll_with(t, &reverse, in, NULL,
                   &(tl_unroll_options){.reset = tl_full(t, TL_U8, TL_SHAPE(T, B), 0)});
    assert_error(t, TL_ERR_ARGUMENT, "unroll: reset is not for a network that reads backwards");
    tl_tensor_release(x);
    tl_rnn_free(&reverse);
    tl_rnn_free(&both);
    tl_params_free(params);
    tl_tape_free(t);
}

static void reverse_is_the_backward_half(void **state)
{
    (void)state;
    check_reverse(&tl_gru_cell, false);
    check_reverse(&adder, true);
    check_reverse(&adder, false);
}

/* ---- memory ----------------------------------------------------------------------------- */

#ifndef TEST_SANITIZED /* whose allocators must not be replaced */
static long
    fails_at; /* the n-th aligned_alloc from now, which is where the library has its memory from */

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *p;
    return (fails_at && --fails_at == 0) || posix_memalign(&p, alignment, bytes) ? NULL : p;
}

static void a_failing_allocation_is_survived(void **state)
{
    (void)state;
    node n;
    assert_true(make_node(&n, TL_ONNX_LSTM, 575)); /* which has everything */
    bool reached = true;
    for (long k = 1; reached; k++) {
        tl_rnn rnn;
        tl_error error = {0};
        tl_onnx_attributes a;
        tl_onnx_weights w;
        tl_params *params = tl_params_new(TL_F64, 1);
        fails_at = k;
        tl_onnx_init(&rnn, params, NULL, &n.a, &n.w);
        tl_status built = tl_params_status(params), stored = TL_OK;
        if (built == TL_OK) {
            stored = tl_onnx_store(&rnn, 0, &a, &w, &error);
            assert_int_equal(stored, error.status);
            assert_true(w.W == NULL || stored == TL_OK);
            tl_onnx_weights_free(&w);
        }
        reached = !fails_at;
        fails_at = 0;
        if (!reached)
            assert_true(k > 40);
        if (reached && built != TL_ERR_MEMORY && stored != TL_ERR_MEMORY)
            fail_msg("allocation %ld failed, but the status is %d, then %d", k, built, stored);
        tl_rnn_free(&rnn);
        tl_params_free(params);
    }
    free_node(&n);
}
#else
static void a_failing_allocation_is_survived(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_are_the_standards),
                                       cmocka_unit_test(other_evaluators_agree),
                                       cmocka_unit_test(a_node_comes_back),
                                       cmocka_unit_test(gradients_are_those_of_the_loops),
                                       cmocka_unit_test(gradcheck_agrees),
                                       cmocka_unit_test(one_layer_of_several),
                                       cmocka_unit_test(attributes_are_refused_in_words),
                                       cmocka_unit_test(weights_are_refused_in_words),
                                       cmocka_unit_test(networks_are_refused_in_words),
                                       cmocka_unit_test(loading_is_all_or_nothing),
                                       cmocka_unit_test(inputs_are_refused_in_words),
                                       cmocka_unit_test(nonsense_is_refused_by_the_network),
                                       cmocka_unit_test(reverse_is_the_backward_half),
                                       cmocka_unit_test(a_failing_allocation_is_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
