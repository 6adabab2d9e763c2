/* The tape read from outside: walked, dumped, hashed. */
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "autograd/inspect.h"
#include "nn/unroll.h"

static const double six[] = {0.5, -1, 2, 0.25, -0.5, 1};

/* Everything tl_dump writes, as a string to be freed. */
static char *dumped(tl_tape *t, const tl_dump_options *options)
{
    FILE *stream = tmpfile();
    assert_int_equal(tl_dump(t, stream, options), TL_OK);
    long size = ftell(stream);
    char *text = malloc((size_t)size + 1);
    rewind(stream);
    assert_int_equal(fread(text, 1, (size_t)size, stream), size);
    text[size] = 0;
    fclose(stream);
    return text;
}

static int count_of(const char *text, const char *piece)
{
    int count = 0;
    for (; (text = strstr(text, piece)); text += strlen(piece))
        count++;
    return count;
}

/* ---- a small tape of every kind of variable ----------------------------------------------- */

typedef struct small {
    tl_tape *t;
    tl_tensor *w, *x, *b;
    tl_var leaf, frozen, constant, slice, h, y;
} small;

static void record_small(small *m)
{
    tl_tape *t = m->t;
    m->leaf = tl_leaf(t, m->w, NULL);
    m->frozen = tl_leaf_frozen(t, m->b);
    m->constant = tl_constant(t, m->x);
    tl_name(t, m->leaf, "weight");
    tl_scope_begin(t, "layer", 0);
    m->slice = tl_slice(t, m->constant, 1, 0, 2, 1);
    tl_scope_begin(t, "step", 3);
    m->h = tl_matmul(t, m->leaf, m->slice);
    tl_scope_end(t);
    tl_scope_end(t);
    tl_scope_begin(t, "head", -1);
    m->y = tl_sum(t, tl_add(t, m->h, m->frozen));
    tl_scope_end(t);
    tl_name(t, m->y, "the \"loss\"");
}

static small small_new(void)
{
    small m = {.t = tl_tape_new(NULL),
               .w = tensor_of(TL_F64, TL_SHAPE(3, 2), six),
               .x = tensor_of(TL_F64, TL_SHAPE(2, 3), six),
               .b = tensor_of(TL_F64, TL_SHAPE(2), six)};
    record_small(&m);
    return m;
}

static void small_free(small *m)
{
    tl_tape_free(m->t);
    tl_tensor_release(m->w);
    tl_tensor_release(m->x);
    tl_tensor_release(m->b);
}

/* ---- variable by variable ----------------------------------------------------------------- */

static void every_variable_in_order(void **state)
{
    (void)state;
    small m = small_new();
    const struct {
        const char *op, *name, *scope, *shape;
        int inputs, in[2];
        size_t bytes;
        bool needs_gradient;
    } expected[] = {
        {"leaf", "weight", "", "[3,2]", 0, {0}, 48, true},
        {"frozen", NULL, "", "[2]", 0, {0}, 16, false},
        {"constant", NULL, "", "[2,3]", 0, {0}, 48, false},
        {"slice", NULL, "layer 0", "[2,2]", 1, {2}, 0, false},
        {"matmul", NULL, "layer 0, step 3", "[3,2]", 2, {0, 3}, 48, true},
        {"add", NULL, "head", "[3,2]", 2, {4, 1}, 48, true},
        {"sum", "the \"loss\"", "head", "[]", 1, {5}, 8, true},
    };
    char shape[TL_LAYOUT_TEXT];
    assert_int_equal(tl_tape_count(m.t), COUNT_OF(expected));
    for (uint32_t i = 0; i < (uint32_t)COUNT_OF(expected); i++) {
        tl_node_info n;
        tl_var v = tl_tape_at(m.t, i);
        assert_int_equal(tl_tape_index(m.t, v), i);
        assert_int_equal(tl_inspect(m.t, v, &n), TL_OK);
        assert_string_equal(n.op, expected[i].op);
        assert_int_equal(n.name != NULL, expected[i].name != NULL);
        if (n.name)
            assert_string_equal(n.name, expected[i].name);
        assert_string_equal(n.scope, expected[i].scope);
        assert_string_equal(tl_layout_text(n.layout, shape), expected[i].shape);
        assert_int_equal(n.dtype, TL_F64);
        assert_int_equal(n.bytes, expected[i].bytes);
        assert_int_equal(n.needs_gradient, expected[i].needs_gradient);
        assert_int_equal(n.inputs, expected[i].inputs);
        for (int k = 0; k < n.inputs; k++)
            assert_int_equal(tl_tape_index(m.t, tl_input(m.t, v, k)), expected[i].in[k]);
        assert_true(tl_is_none(tl_input(m.t, v, n.inputs)) && tl_is_none(tl_input(m.t, v, -1)));
        assert_int_equal(n.rule != NULL, n.inputs > 0);
        assert_int_equal(n.attr != NULL, n.inputs > 0);
        assert_false(n.walked);
    }
    tl_node_info n;
    tl_inspect(m.t, m.slice, &n);
    assert_ptr_equal(n.rule, &tl_op_slice);
    assert_true(n.attr->i[0] == 1 && n.attr->i[1] == 0 && n.attr->i[2] == 2);
    assert_ok(m.t);

    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    tl_inspect(m.t, m.h, &n);
    assert_true(n.walked);
    tl_inspect(m.t, m.slice, &n); /* nothing came there */
    assert_false(n.walked);
    small_free(&m);
}

static void what_is_not_on_the_tape(void **state)
{
    (void)state;
    small m = small_new();
    tl_node_info n;
    tl_no_record_begin(m.t);
    tl_var loose = tl_tanh(m.t, m.leaf);
    assert_int_equal(tl_tape_index(m.t, loose), UINT32_MAX);
    assert_int_equal(tl_inspect(m.t, loose, &n), TL_OK);
    tl_no_record_end(m.t, 0, NULL);
    assert_int_equal(tl_tape_index(m.t, TL_NONE), UINT32_MAX);
    assert_int_equal(tl_tape_index(m.t, tl_poison(m.t)), UINT32_MAX);
    assert_ok(m.t);
    tl_var beyond = tl_tape_at(m.t, tl_tape_count(m.t));
    assert_int_equal(tl_inspect(m.t, beyond, &n), TL_ERR_STALE);
    assert_string_equal(n.op, "");
    tl_tape_reset(m.t);
    assert_int_equal(tl_tape_count(m.t), 0);
    assert_int_equal(tl_tape_index(m.t, m.h), UINT32_MAX); /* of the recording before */
    assert_int_equal(tl_inspect(m.t, m.h, &n), TL_ERR_STALE);
    tl_tape_reset(m.t);
    tl_name(m.t, m.h, "gone");
    assert_error(m.t, TL_ERR_STALE, "name: variable is from before the tape was reset");
    assert_true(tl_is_none(tl_input(m.t, TL_NONE, 0)));
    assert_error(m.t, TL_ERR_ARGUMENT, "input: a required variable is TL_NONE");
    record_small(&m);
    tl_name(m.t, m.h, "first");
    tl_name(m.t, m.h, "second"); /* the last name stays */
    tl_inspect(m.t, m.h, &n);
    assert_string_equal(n.name, "second");
    small_free(&m);
}

static void gradients_of_all(void **state)
{
    (void)state;
    small m = small_new();
    tl_keep_gradients(m.t);
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    assert_vars(m.t, tl_gradient(m.t, m.h), tl_full(m.t, TL_F64, TL_SHAPE(3, 2), 1), 0);
    assert_false(tl_is_none(tl_gradient(m.t, m.leaf)));
    assert_true(tl_is_none(tl_gradient(m.t, m.slice)));
    assert_true(tl_is_none(tl_gradient(m.t, m.frozen)));
    assert_ok(m.t);
    small_free(&m);
}

/* ---- text --------------------------------------------------------------------------------- */

static void text_exactly(void **state)
{
    (void)state;
    small m = small_new();
    char *text = dumped(m.t, NULL);
    assert_string_equal(
        text, "%0      leaf                            f64 [3,2]              48 B    weight\n"
              "%1      frozen                          f64 [2]                16 B  \n"
              "%2      constant                        f64 [2,3]              48 B  \n"
              "%3      slice          %2               f64 [2,2]               0 B  layer 0"
              "  {\"dim\": 1, \"start\": 0, \"stop\": 2, \"step\": 1}\n"
              "%4      matmul         %0 %3            f64 [3,2]              48 B  layer 0, step 3\n"
              "%5      add            %4 %1            f64 [3,2]              48 B  head\n"
              "%6      sum            %5               f64 []                  8 B  head  the \"loss\""
              "  {\"axes\": [0, 1], \"keepdim\": false}\n");
    free(text);
    tl_keep_gradient(m.t, m.h); /* the leaf's is kept in any case */
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    text = dumped(m.t, &(tl_dump_options){.gradients = true, .from = 4, .to = 6});
    assert_string_equal(
        text, "%4      matmul         %0 %3            f64 [3,2]              48 B  layer 0, step 3"
              "  |gradient| 2.44949\n"
              "%5      add            %4 %1            f64 [3,2]              48 B  head\n");
    free(text);
    text = dumped(m.t, &(tl_dump_options){.from = 1000}); /* nothing there */
    assert_string_equal(text, "");
    free(text);
    small_free(&m);
}

static void text_of_many_operands(void **state)
{
    (void)state;
    enum { MANY = 40 };
    tl_tape *t = tl_tape_new(NULL);
    tl_var x[MANY];
    for (int k = 0; k < MANY; k++)
        x[k] = tl_full(t, TL_F32, TL_SHAPE(2), k);
    tl_stack(t, MANY, x, 0);
    tl_no_record_begin(t);
    tl_var loose = tl_neg(t, x[0]);
    tl_no_record_end(t, 1, &loose);
    tl_tensor *w = tl_tensor_zeros(TL_F32, TL_SHAPE(2), NULL);
    tl_mul(t, tl_leaf(t, w, NULL), loose); /* an operand that was not recorded */
    char *text = dumped(t, &(tl_dump_options){.from = MANY});
    assert_non_null(strstr(text, "%0 %1 %2 %3 "));
    assert_non_null(strstr(text, "... f32 [40,2]"));
    assert_non_null(strstr(text, "%41 ~ "));
    free(text);
    tl_tape_free(t);
    tl_tensor_release(w);
}

static void dumps_that_fail(void **state)
{
    (void)state;
    small m = small_new();
    for (int format = TL_DUMP_TEXT; format <= TL_DUMP_DOT; format++) {
        FILE *full = fopen("/dev/full", "w");
        if (!full)
            return;
        assert_int_equal(tl_dump(m.t, full, &(tl_dump_options){.format = (tl_dump_format)format}),
                         TL_ERR_IO);
        fclose(full);
    }
    assert_ok(m.t);
    tl_tape_fail(m.t, TL_ERR_ARGUMENT, "something");
    assert_int_equal(tl_dump(m.t, stderr, NULL), TL_ERR_ARGUMENT);
    small_free(&m);
}

/* ---- JSON --------------------------------------------------------------------------------- */

static json_t *parsed(tl_tape *t, tl_dump_options options)
{
    json_error_t error;
    options.format = TL_DUMP_JSON;
    char *text = dumped(t, &options);
    json_t *root = json_loads(text, 0, &error);
    if (!root)
        fail_msg("%s at line %d of\n%s", error.text, error.line, text);
    free(text);
    return root;
}

static void json_says_it_all(void **state)
{
    (void)state;
    small m = small_new();
    tl_keep_gradient(m.t, m.h);
    assert_int_equal(tl_backward(m.t, m.y), TL_OK);
    json_t *root =
        parsed(m.t, (tl_dump_options){.gradients = true, .to = 7}); /* without backward's one */
    json_t *nodes = json_object_get(root, "nodes");
    assert_int_equal(json_array_size(nodes), 7);
    for (uint32_t i = 0; i < 7; i++) {
        tl_node_info n;
        json_t *node = json_array_get(nodes, i), *in = json_object_get(node, "inputs");
        json_t *shape = json_object_get(node, "shape"), *name = json_object_get(node, "name");
        tl_inspect(m.t, tl_tape_at(m.t, i), &n);
        assert_int_equal(json_integer_value(json_object_get(node, "id")), i);
        assert_string_equal(json_string_value(json_object_get(node, "op")), n.op);
        assert_string_equal(json_string_value(json_object_get(node, "dtype")), "f64");
        assert_string_equal(json_string_value(json_object_get(node, "scope")), n.scope);
        assert_int_equal(json_integer_value(json_object_get(node, "bytes")), n.bytes);
        assert_int_equal(json_is_true(json_object_get(node, "needs_gradient")), n.needs_gradient);
        assert_int_equal(name != NULL, n.name != NULL);
        if (name)
            assert_string_equal(json_string_value(name), n.name);
        assert_int_equal(json_array_size(in), n.inputs);
        for (int k = 0; k < n.inputs; k++)
            assert_int_equal(json_integer_value(json_array_get(in, (size_t)k)),
                             tl_tape_index(m.t, tl_input(m.t, tl_tape_at(m.t, i), k)));
        assert_int_equal(json_array_size(shape), n.layout->ndim);
        for (int k = 0; k < n.layout->ndim; k++)
            assert_int_equal(json_integer_value(json_array_get(shape, (size_t)k)), n.layout->shape[k]);
        assert_int_equal(json_object_get(node, "gradient_norm") != NULL, i == 4 || i == 0);
        assert_int_equal(json_object_get(node, "attributes") != NULL, i == 3 || i == 6);
    }
    json_t *h = json_array_get(nodes, 4), *slice = json_array_get(nodes, 3);
    assert_near(json_real_value(json_object_get(h, "gradient_norm")), sqrt(6), 1e-12);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(slice, "attributes"), "stop")),
                     2);
    json_decref(root);
    root = parsed(m.t, (tl_dump_options){.from = 3, .to = 5});
    assert_int_equal(json_array_size(json_object_get(root, "nodes")), 2);
    json_decref(root);
    tl_tape_reset(m.t);
    root = parsed(m.t, (tl_dump_options){0});
    assert_int_equal(json_array_size(json_object_get(root, "nodes")), 0);
    json_decref(root);
    small_free(&m);
}

/* Gradients that are no numbers are what one dumps a tape for. */
static void gradients_that_are_not_finite(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *x = tensor_of(TL_F64, TL_SHAPE(2), REALS(0, 4));
    tl_var v = tl_leaf(t, x, NULL), a = tl_affine(t, v, 1, 0), y = tl_sum(t, tl_sqrt(t, a));
    tl_keep_gradients(t);
    assert_int_equal(tl_backward(t, y), TL_OK);
    json_t *root = parsed(t, (tl_dump_options){.gradients = true});
    json_t *norm = json_object_get(json_array_get(json_object_get(root, "nodes"), tl_tape_index(t, a)),
                                   "gradient_norm");
    assert_true(json_is_null(norm));
    json_decref(root);
    char *text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .gradients = true});
    assert_non_null(strstr(text, "fillcolor=\"0.0 0.900 1.0\" tooltip=\"|gradient| inf\""));
    assert_null(strstr(text, "fillcolor=\"0.0 nan"));
    assert_null(strstr(text, "fillcolor=\"0.0 -nan"));
    free(text);
    tl_tape_free(t);
    tl_tensor_release(x);
}

/* ---- DOT ---------------------------------------------------------------------------------- */

static bool dot_exists(void)
{
    return system("dot -V > /dev/null 2> /dev/null") == 0;
}

/* Braces outside of quotes close in order; where Graphviz is installed it reads the graph. */
static void check_dot(const char *text)
{
    int depth = 0;
    bool quoted = false;
    for (const char *c = text; *c; c++) {
        if (*c == '\\' && quoted && c[1])
            c++;
        else if (*c == '"')
            quoted = !quoted;
        else if (!quoted && *c == '{')
            depth++;
        else if (!quoted && *c == '}')
            assert_true(--depth > 0 || strcmp(c, "}\n") == 0);
    }
    assert_int_equal(depth, 0);
    assert_false(quoted);
    if (!dot_exists())
        return;
    FILE *dot = popen("dot -Tplain > /dev/null", "w");
    assert_non_null(dot);
    fputs(text, dot);
    assert_int_equal(pclose(dot), 0);
}

static void dot_of_a_small_tape(void **state)
{
    (void)state;
    small m = small_new();
    char *text = dumped(m.t, &(tl_dump_options){.format = TL_DUMP_DOT});
    assert_string_equal(text, "strict digraph tape {\n"
                              "rankdir=LR;\n"
                              "node [shape=ellipse fontsize=10];\n"
                              "n0 [label=\"weight\\n[3,2]\" shape=box];\n"
                              "n1 [label=\"frozen\\n[2]\" shape=box];\n"
                              "n2 [label=\"constant\\n[2,3]\" shape=box];\n"
                              "subgraph cluster_1 {\n"
                              "label=\"layer 0\";\n"
                              "n3 [label=\"slice\\n[2,2]\"];\n"
                              "subgraph cluster_2 {\n"
                              "label=\"step 3\";\n"
                              "n4 [label=\"matmul\\n[3,2]\"];\n"
                              "}\n"
                              "}\n"
                              "subgraph cluster_3 {\n"
                              "label=\"head\";\n"
                              "n5 [label=\"add\\n[3,2]\"];\n"
                              "n6 [label=\"the \\\"loss\\\"\\n[]\"];\n"
                              "}\n"
                              "n2 -> n3;\n"
                              "n0 -> n4;\n"
                              "n3 -> n4;\n"
                              "n4 -> n5;\n"
                              "n1 -> n5;\n"
                              "n5 -> n6;\n"
                              "}\n");
    check_dot(text);
    free(text);
    text = dumped(m.t, &(tl_dump_options){.format = TL_DUMP_DOT, .from = 4, .to = 6});
    assert_int_equal(count_of(text, "label="), 5); /* two nodes, three scopes */
    assert_int_equal(count_of(text, "->"), 1);
    check_dot(text);
    free(text);
    small_free(&m);
}

typedef struct network {
    tl_params *params;
    tl_rnn module;
} network;

static network network_new(const tl_cell_type *cell, int layers)
{
    network n = {.params = tl_params_new(TL_F64, 5)};
    tl_rnn_config config = {.cell = cell, .input = 2, .hidden = 3, .layers = layers};
    tl_rnn_init(&n.module, n.params, &config);
    assert_int_equal(tl_params_status(n.params), TL_OK);
    return n;
}

static void network_free(network *n)
{
    tl_rnn_free(&n->module);
    tl_params_free(n->params);
}

static tl_var unrolled(tl_tape *t, const network *n, int64_t steps)
{
    tl_var x = tl_full(t, TL_F64, TL_SHAPE(steps, 4, 2), 0.5);
    return tl_unroll(t, &n->module, x, NULL);
}

static void dot_of_a_network(void **state)
{
    (void)state;
    enum { STEPS = 5, LAYERS = 2 };
    network n = network_new(&tl_lstm_cell, LAYERS);
    tl_tape *t = tl_tape_new(NULL);
    tl_var loss = tl_sum(t, tl_square(t, unrolled(t, &n, STEPS)));
    char *text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT});
    check_dot(text);
    assert_int_equal(count_of(text, "subgraph cluster_"), LAYERS * (1 + STEPS));
    assert_int_equal(count_of(text, "label=\"step 4\""), LAYERS);
    assert_int_equal(count_of(text, "label=\"rnn.weight_hh_l1\\n"), 1); /* one leaf for all steps */
    free(text);

    /* folded: a node for each step, between them only the recurrence and what is shared */
    text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .fold = "step"});
    check_dot(text);
    assert_int_equal(count_of(text, "shape=box3d"), LAYERS * STEPS);
    assert_int_equal(count_of(text, "subgraph cluster_"), LAYERS);
    assert_int_equal(count_of(text, "label=\"step 2\\n"), LAYERS);
    assert_int_equal(count_of(text, "lstm_gates"), 0);
    free(text);
    text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .fold = "layer"});
    check_dot(text);
    assert_int_equal(count_of(text, "shape=box3d"), LAYERS);
    assert_int_equal(count_of(text, "subgraph cluster_"), 0);
    free(text);
    text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .fold = "no such scope"});
    assert_int_equal(count_of(text, "shape=box3d"), 0);
    free(text);

    /* with gradients: from white to red */
    tl_keep_gradients(t);
    assert_int_equal(tl_backward(t, loss), TL_OK);
    text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .gradients = true});
    check_dot(text);
    assert_true(count_of(text, "fillcolor=\"0.0 0.900 1.0\"") >= 1); /* the largest */
    assert_true(count_of(text, "fillcolor=\"0.0 0.000 1.0\"") >= 1); /* the smallest */
    free(text);
    text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .gradients = true, .fold = "step"});
    check_dot(text);
    assert_int_equal(count_of(text, "nodes\" style=filled"), LAYERS * STEPS);
    free(text);
    tl_tape_free(t);
    network_free(&n);
}

/* Derivatives that are recorded belong to the scopes of what they are derived from: a step is one node
 * even so, and counts all that is in it. */
static void a_fold_of_what_was_recorded_twice(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tensor_of(TL_F64, TL_SHAPE(1), REALS(0.5));
    tl_var leaf = tl_leaf(t, w, NULL), h = leaf, g;
    for (int step = 0; step < 3; step++) {
        tl_scope_begin(t, "step", step);
        h = tl_sin(t, tl_mul(t, h, leaf));
        tl_scope_end(t);
    }
    assert_int_equal(tl_grad(t, h, TL_NONE, 1, &leaf, true, &g), TL_OK);
    int in_scope[3] = {0};
    for (uint32_t i = 0; i < tl_tape_count(t); i++) {
        tl_node_info n;
        tl_inspect(t, tl_tape_at(t, i), &n);
        if (n.scope[0])
            in_scope[n.scope[5] - '0']++;
    }
    char *text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT, .fold = "step"}), label[64];
    check_dot(text);
    assert_int_equal(count_of(text, "shape=box3d"), 3);
    for (int step = 0; step < 3; step++) {
        snprintf(label, sizeof label, "label=\"step %d\\n%d nodes\"", step, in_scope[step]);
        assert_int_equal(count_of(text, label), 1);
    }
    free(text);
    text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT});
    check_dot(text);
    free(text);
    tl_tape_free(t);
    tl_tensor_release(w);
}

static void names_that_need_quotes(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_scope_begin(t, "a \"scope\" {of} \\ odd", -1);
    tl_var v = tl_full(t, TL_F32, TL_SHAPE(2), 1);
    tl_name(t, v, "c:\\x \"y\" {z}\ttab");
    tl_scope_end(t);
    char *text = dumped(t, &(tl_dump_options){.format = TL_DUMP_DOT});
    check_dot(text);
    free(text);
    json_t *root = parsed(t, (tl_dump_options){0});
    json_t *node = json_array_get(json_object_get(root, "nodes"), 0);
    assert_string_equal(json_string_value(json_object_get(node, "name")), "c:\\x \"y\" {z}\ttab");
    assert_string_equal(json_string_value(json_object_get(node, "scope")), "a \"scope\" {of} \\ odd");
    json_decref(root);
    tl_tape_free(t);
}

/* ---- the structure as a number ------------------------------------------------------------ */

/* A family of small functions of x (a constant), w and v (leaves), each different from the first. */
enum {
    PLAIN,
    OTHER_OP,
    OTHER_ORDER_OF_OPERANDS,
    OTHER_CONSTANT_OF_AN_OP,
    OTHER_INTEGER_OF_AN_OP,
    OTHER_SHAPE,
    OTHER_DTYPE,
    LEAF_FOR_CONSTANT,
    CONSTANT_FOR_LEAF,
    COMPUTED_TWICE,
    OTHER_LEAF,
    ONE_OP_MORE,
    DETACHED,
    OUTPUTS_SWAPPED,
    ONE_OUTPUT,
    VARIANTS
};

typedef struct values {
    double shift; /* other numbers */
    bool early;   /* recorded in another order */
    bool scopes;  /* and with names */
} values;

static uint64_t hash_of(tl_tape *t, int variant, values how, bool inputs)
{
    tl_dtype dtype = variant == OTHER_DTYPE ? TL_F32 : TL_F64;
    int64_t size = variant == OTHER_SHAPE ? 4 : 3;
    tl_tensor *w = tl_tensor_zeros(dtype, TL_SHAPE(size, size), NULL), *v = zeros_like(w),
              *x = zeros_like(w);
    tl_tensor_fill(w, how.shift);
    if (how.scopes)
        tl_scope_begin(t, "layer", 3);
    tl_var early = how.early ? tl_leaf(t, v, NULL) : TL_NONE;
    tl_var a = variant == CONSTANT_FOR_LEAF ? tl_constant(t, w) : tl_leaf(t, w, NULL);
    tl_var c = variant == LEAF_FOR_CONSTANT ? tl_leaf(t, x, NULL) : tl_constant(t, x);
    if (how.early)
        tl_full(t, dtype, TL_SHAPE(7), 1); /* what nobody uses does not count */
    tl_var right = how.early ? tl_sin(t, early) : TL_NONE;
    tl_var p = variant == OTHER_ORDER_OF_OPERANDS ? tl_mul(t, c, a) : tl_mul(t, a, c);
    tl_var h = variant == OTHER_OP ? tl_sigmoid(t, p) : tl_tanh(t, p);
    if (variant == DETACHED)
        h = tl_detach(t, h);
    tl_var b = how.early ? early : variant == OTHER_LEAF ? a : tl_leaf(t, v, NULL);
    if (how.scopes) {
        tl_name(t, h, "hidden");
        tl_scope_end(t);
    }
    if (!how.early)
        right = tl_sin(t, b);
    tl_var again = variant == COMPUTED_TWICE ? tl_tanh(t, p) : h;
    tl_var q = tl_mul(t, tl_add(t, h, right), again);
    q = tl_affine(t, q, variant == OTHER_CONSTANT_OF_AN_OP ? 3 : 2, 0);
    q = tl_slice(t, q, 0, 0, variant == OTHER_INTEGER_OF_AN_OP ? 1 : 2, 1);
    q = tl_slice(t, q, 0, 0, 1, 1);
    if (variant == ONE_OP_MORE)
        q = tl_neg(t, q);
    tl_var out[] = {variant == OUTPUTS_SWAPPED ? h : q, variant == OUTPUTS_SWAPPED ? q : h};
    tl_var in[] = {a, c, b};
    assert_ok(t);
    uint64_t hash = tl_graph_hash(t, variant == ONE_OUTPUT ? 1 : 2, out, inputs ? 3 : 0, in);
    assert_ok(t);
    tl_tensor_release(w);
    tl_tensor_release(v);
    tl_tensor_release(x);
    return hash;
}

static void equal_structure_equal_hash(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL), *other = tl_tape_new(NULL);
    for (int inputs = 0; inputs < 2; inputs++)
        for (int variant = 0; variant < VARIANTS; variant++) {
            if (variant == OTHER_LEAF) /* has no leaf of its own to be recorded early */
                continue;
            uint64_t plain = hash_of(t, variant, (values){.shift = 1}, inputs);
            assert_true(plain != 0);
            assert_true(plain == hash_of(t, variant, (values){.shift = 2}, inputs)); /* further on */
            assert_true(plain == hash_of(other, variant, (values){.early = true}, inputs));
            assert_true(plain == hash_of(other, variant, (values){.scopes = true}, inputs));
        }
    tl_tape_free(t);
    tl_tape_free(other);
}

static void each_change_changes_the_hash(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    for (int inputs = 0; inputs < 2; inputs++) {
        uint64_t hash[VARIANTS];
        for (int k = 0; k < VARIANTS; k++)
            hash[k] = hash_of(t, k, (values){0}, inputs);
        for (int k = 0; k < VARIANTS; k++)
            for (int j = 0; j < k; j++) {
                /* an input stands for any, be it a leaf or a constant */
                bool alike = inputs && (k == LEAF_FOR_CONSTANT || k == CONSTANT_FOR_LEAF) &&
                             (j == PLAIN || j == LEAF_FOR_CONSTANT);
                if ((hash[k] == hash[j]) != alike)
                    fail_msg("variants %d and %d, inputs %d: %s", j, k, inputs,
                             alike ? "should be equal" : "should differ");
            }
    }
    tl_tape_free(t);
}

/* The same weight for each step, or one a step: the recurrent and the feedforward network. */
static void tied_and_untied(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tl_tensor_zeros(TL_F64, TL_SHAPE(3, 3), NULL), *other[4];
    uint64_t hash[3];
    for (int k = 0; k < 4; k++)
        other[k] = zeros_like(w);
    for (int how = 0; how < 3; how++) { /* tied; untied; four matrices */
        if (how == 1)
            tl_untie(t, w);
        tl_var h = tl_full(t, TL_F64, TL_SHAPE(2, 3), 1);
        for (int step = 0; step < 4; step++)
            h = tl_tanh(t, tl_linear_op(t, h, tl_leaf(t, how == 2 ? other[step] : w, NULL), TL_NONE));
        hash[how] = tl_graph_hash(t, 1, &h, 0, NULL);
        tl_tape_reset(t);
    }
    assert_true(hash[0] != hash[1]);
    assert_true(hash[1] == hash[2]);
    tl_tape_free(t);
    tl_tensor_release(w);
    for (int k = 0; k < 4; k++)
        tl_tensor_release(other[k]);
}

/* A part in the middle: what lies before its inputs does not count. */
static void inputs_are_placeholders(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tl_tensor_zeros(TL_F64, TL_SHAPE(3), NULL);
    tl_var a = tl_leaf(t, w, NULL), b = tl_sin(t, tl_exp(t, a)), c = tl_full(t, TL_F64, TL_SHAPE(3), 1);
    tl_var x = tl_mul(t, a, b), y = tl_mul(t, b, c), z = tl_mul(t, b, b);
    tl_var in_x[] = {a, b}, in_y[] = {b, c}, swapped[] = {b, a};
    assert_true(tl_graph_hash(t, 1, &x, 2, in_x) == tl_graph_hash(t, 1, &y, 2, in_y));
    assert_true(tl_graph_hash(t, 1, &x, 2, in_x) != tl_graph_hash(t, 1, &x, 2, swapped));
    assert_true(tl_graph_hash(t, 1, &x, 0, NULL) != tl_graph_hash(t, 1, &y, 0, NULL));
    assert_true(tl_graph_hash(t, 1, &z, 1, &b) != tl_graph_hash(t, 1, &x, 2, in_x));
    assert_true(tl_graph_hash(t, 1, &a, 1, &a) == tl_graph_hash(t, 1, &b, 1, &b)); /* nothing between */
    /* an output twice, none at all */
    tl_var twice[] = {x, x}, two[] = {x, y};
    assert_true(tl_graph_hash(t, 2, twice, 0, NULL) != tl_graph_hash(t, 2, two, 0, NULL));
    assert_true(tl_graph_hash(t, 0, NULL, 0, NULL) != 0);
    assert_ok(t);
    tl_no_record_begin(t);
    tl_var loose = tl_exp(t, a);
    assert_true(tl_graph_hash(t, 1, &loose, 0, NULL) == 0);
    assert_error(t, TL_ERR_ARGUMENT, "graph_hash: output 0 was not recorded");
    assert_true(tl_graph_hash(t, 1, &x, 0, NULL) == 0);
    assert_error(t, TL_ERR_STALE, "graph_hash: variable is from before the tape was reset");
    tl_tape_free(t);
    tl_tensor_release(w);
}

/* ---- stretches ---------------------------------------------------------------------------- */

/* First and last + 1 variable of a scope. */
static void find_scope(tl_tape *t, const char *scope, uint32_t *from, uint32_t *to)
{
    *from = *to = 0;
    for (uint32_t i = 0; i < tl_tape_count(t); i++) {
        tl_node_info n;
        tl_inspect(t, tl_tape_at(t, i), &n);
        if (strcmp(n.scope, scope) != 0)
            continue;
        *from = *to ? *from : i;
        *to = i + 1;
    }
}

static void steps_are_alike(void **state)
{
    (void)state;
    const tl_cell_type *kinds[] = {&tl_elman_cell, &tl_lstm_cell, &tl_gru_cell};
    tl_tape *t = tl_tape_new(NULL);
    for (int k = 0; k < COUNT_OF(kinds); k++) {
        network n = network_new(kinds[k], 2);
        uint64_t hash[2][6];
        unrolled(t, &n, 6);
        for (int layer = 0; layer < 2; layer++)
            for (int step = 0; step < 6; step++) {
                char scope[64];
                uint32_t from, to;
                snprintf(scope, sizeof scope, "layer %d, step %d", layer, step);
                find_scope(t, scope, &from, &to);
                assert_true(to > from + 1);
                /* the first one takes the step's slice of the input, and says which */
                tl_node_info first;
                tl_inspect(t, tl_tape_at(t, from), &first);
                assert_string_equal(first.op, "select");
                assert_int_equal(first.attr->i[1], step);
                hash[layer][step] = tl_tape_hash(t, from + 1, to);
            }
        assert_true(hash[0][3] == hash[0][4] && hash[1][3] == hash[1][4] && hash[0][1] == hash[0][5]);
        assert_true(hash[0][3] == hash[1][3]); /* and so are layers of one size */
        assert_ok(t);
        tl_tape_reset(t);
        network_free(&n);
    }
    tl_tape_free(t);
}

static void stretches_that_differ(void **state)
{
    (void)state;
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tl_tensor_zeros(TL_F64, TL_SHAPE(3), NULL);
    tl_var a = tl_leaf(t, w, NULL), b = tl_full(t, TL_F64, TL_SHAPE(3), 1);
    uint32_t at[8];
    for (int k = 0; k < 8; k++) {
        at[k] = tl_tape_count(t);
        tl_var p = tl_mul(t, k == 5 ? b : a, b);
        tl_var q = k == 1   ? tl_sigmoid(t, p)
                   : k == 2 ? tl_tanh(t, b)
                   : k == 3 ? tl_affine(t, p, 2, 0)
                   : k == 4 ? tl_affine(t, p, 3, 0)
                            : tl_tanh(t, p);
        tl_add(t, q, k == 6 ? b : a);
    }
    uint64_t hash[8];
    for (int k = 0; k < 8; k++)
        hash[k] = tl_tape_hash(t, at[k], at[k] + 3);
    assert_true(hash[7] == hash[0]);
    for (int k = 0; k < 7; k++)
        for (int j = 0; j < k; j++)
            if (hash[k] == hash[j])
                fail_msg("stretches %d and %d are not alike", j, k);
    assert_true(tl_tape_hash(t, 0, 0) == tl_tape_hash(t, 0, tl_tape_count(t)));
    assert_true(tl_tape_hash(t, 0, 0) != tl_tape_hash(t, 1, 0));
    assert_true(tl_tape_hash(t, 1000, 0) == tl_tape_hash(t, 2000, 3000)); /* nothing there */
    tl_tape_free(t);
    tl_tensor_release(w);
}

/* ---- an unrolled RNN is a feedforward network ---------------------------------------------- */

/* h = tanh(W x_t + U h + b), a cell without an `input` of its own. */
typedef struct plain_cell {
    tl_var w, u, b;
} plain_cell;

static const tl_cell_weight plain_weights[] = {TL_WEIGHT(plain_cell, w, .shape = "H,I"),
                                               TL_WEIGHT(plain_cell, u, .shape = "H,H"),
                                               TL_WEIGHT(plain_cell, b, .shape = "H"), TL_WEIGHTS_END};

static void plain_step(const tl_cell_call *c, tl_var x, tl_var *state)
{
    const plain_cell *m = c->weights;
    tl_var from_x = tl_linear_op(c->tape, x, m->w, m->b);
    state[0] = tl_tanh(c->tape, tl_linear_op(c->tape, state[0], m->u, from_x));
}

static const tl_cell_type plain_type = {.name = "plain",
                                        .bytes = sizeof(plain_cell),
                                        .weights = plain_weights,
                                        .states = {{"h", "H"}},
                                        .step = plain_step};

/* Five layers, each with a skip connection from its slice of the input. weights: [5], or one for all.
 */
static void written_out(tl_tape *t, tl_params *const *weights, int count, tl_var *out)
{
    tl_var x = tl_full(t, TL_F64, TL_SHAPE(5, 4, 2), 2), h = tl_full(t, TL_F64, TL_SHAPE(4, 3), 0);
    for (int layer = 0; layer < 5; layer++) {
        tl_params *own = weights[layer % count];
        tl_var w = tl_use(t, own->entry[0]), u = tl_use(t, own->entry[1]), b = tl_use(t, own->entry[2]);
        tl_var from_x = tl_linear_op(t, tl_select(t, x, 0, layer), w, b);
        out[layer] = h = tl_tanh(t, tl_linear_op(t, h, u, from_x));
    }
}

static void an_unrolled_network_is_a_feedforward_one(void **state)
{
    (void)state;
    enum { T = 5 };
    tl_tape *t = tl_tape_new(NULL), *by_hand = tl_tape_new(NULL);
    tl_params *own[T];
    tl_rnn rnn[T];
    for (int k = 0; k < T; k++) {
        own[k] = tl_params_new(TL_F64, 1);
        tl_rnn_init(&rnn[k], own[k],
                    &(tl_rnn_config){.cell = &plain_type, .input = 2, .hidden = 3, .layers = 1});
        assert_int_equal(tl_params_status(own[k]), TL_OK);
    }
    tl_var state_of[1] = {TL_NONE}, out[T];
    tl_var y = tl_unroll(t, &rnn[0], tl_full(t, TL_F64, TL_SHAPE(T, 4, 2), 1), state_of);
    uint64_t recurrent = tl_graph_hash(t, 1, &y, 0, NULL);
    written_out(by_hand, own, 1, out);
    tl_var z = tl_stack(by_hand, T, out, 0);
    assert_true(recurrent == tl_graph_hash(by_hand, 1, &z, 0, NULL));
    /* the last state is there too; four layers would be another network */
    assert_true(tl_graph_hash(t, 1, state_of, 0, NULL) ==
                tl_graph_hash(by_hand, 1, &out[T - 1], 0, NULL));
    assert_true(tl_graph_hash(t, 1, state_of, 0, NULL) != tl_graph_hash(by_hand, 1, &out[3], 0, NULL));

    /* and untied, it is the feedforward network with weights of its own in each layer */
    tl_tape_reset(t);
    tl_tape_reset(by_hand);
    for (int k = 0; k < 3; k++)
        tl_untie(t, own[0]->entry[k]->value);
    y = tl_unroll(t, &rnn[0], tl_full(t, TL_F64, TL_SHAPE(T, 4, 2), 1), NULL);
    written_out(by_hand, own, T, out);
    z = tl_stack(by_hand, T, out, 0);
    uint64_t untied = tl_graph_hash(t, 1, &y, 0, NULL);
    assert_true(untied == tl_graph_hash(by_hand, 1, &z, 0, NULL));
    assert_true(untied != recurrent);
    assert_ok(t);
    assert_ok(by_hand);
    tl_tape_free(t);
    tl_tape_free(by_hand);
    for (int k = 0; k < T; k++) {
        tl_rnn_free(&rnn[k]);
        tl_params_free(own[k]);
    }
}

static tl_var built_in(tl_tape *t, const network *n, const char *name)
{
    return tl_use(t, tl_rnn_weight(&n->module, 0, 0, name));
}

/* The library's own cells do the input's products for all steps at once; so must who writes it out. */
static void built_in_cells_written_out(void **state)
{
    (void)state;
    enum { T = 4 };
    for (int lstm = 0; lstm < 2; lstm++) {
        network n = network_new(lstm ? &tl_lstm_cell : &tl_elman_cell, 1);
        tl_tape *t = tl_tape_new(NULL), *by_hand = tl_tape_new(NULL);
        tl_var y = unrolled(t, &n, T), out[T];
        tl_var x = tl_full(by_hand, TL_F64, TL_SHAPE(T, 4, 2), 0);
        tl_var h = tl_full(by_hand, TL_F64, TL_SHAPE(4, 3), 0),
               c = tl_full(by_hand, TL_F64, TL_SHAPE(4, 3), 0);
        tl_var bias =
            tl_add(by_hand, built_in(by_hand, &n, "bias_ih"), built_in(by_hand, &n, "bias_hh"));
        tl_var from_x = tl_linear_op(by_hand, x, built_in(by_hand, &n, "weight_ih"), bias);
        tl_var u = built_in(by_hand, &n, "weight_hh");
        for (int layer = 0; layer < T; layer++) {
            tl_var a = tl_linear_op(by_hand, h, u, tl_select(by_hand, from_x, 0, layer));
            if (lstm)
                tl_lstm_gates(by_hand, a, c, &h, &c);
            else
                h = tl_tanh(by_hand, a);
            out[layer] = h;
        }
        tl_var z = tl_stack(by_hand, T, out, 0);
        assert_true(tl_graph_hash(t, 1, &y, 0, NULL) == tl_graph_hash(by_hand, 1, &z, 0, NULL));
        assert_ok(t);
        assert_ok(by_hand);
        tl_tape_free(t);
        tl_tape_free(by_hand);
        network_free(&n);
    }
}

/* ---- size --------------------------------------------------------------------------------- */

static void a_million_in_a_row(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    tl_tape *t = tl_tape_new(NULL);
    tl_tensor *w = tensor_of(TL_F64, TL_SHAPE(1), REALS(0.5));
    tl_var leaf = tl_leaf(t, w, NULL), h = leaf, shorter = leaf;
    for (int k = 0; k < MANY; k++) {
        shorter = h;
        h = tl_sin(t, h);
    }
    uint64_t a = tl_graph_hash(t, 1, &h, 0, NULL), b = tl_graph_hash(t, 1, &shorter, 0, NULL);
    assert_true(a && b && a != b);
    assert_true(tl_graph_hash(t, 1, &h, 1, &leaf) == tl_graph_hash(t, 1, &h, 1, &leaf));
    assert_true(tl_tape_hash(t, 1, 0) != 0);
    assert_ok(t);
    tl_tape_free(t);
    tl_tensor_release(w);
}

/* ---- too little memory ---------------------------------------------------------------------- */

static tl_var keep_it(tl_tape *t, tl_var v, tl_var g, void *context)
{
    (void)v, (void)context;
    return tl_affine(t, g, 1, 0);
}

/* Everything that may ask for memory, with a limit on it. */
static tl_status all_of_it(size_t limit)
{
    tl_tape_config config = {.memory = limit};
    tl_tape *t = tl_tape_new(&config);
    tl_tensor *w = tl_tensor_zeros(TL_F64, TL_SHAPE(40, 40), NULL), *v = zeros_like(w);
    tl_profile_line lines[4];
    tl_var uses[8], g[2];
    tl_tape_trap(t, true);
    tl_tape_watch(t, true);
    tl_tape_profile(t, true);
    tl_untie(t, w);
    tl_var h = tl_leaf(t, v, NULL), first = h, along = tl_full(t, TL_F64, TL_SHAPE(40, 40), 1);
    for (int step = 0; step < 4; step++) {
        tl_scope_begin(t, "step", step);
        tl_var p = tl_matmul(t, h, tl_leaf(t, w, NULL));
        h = tl_tanh(t, p);
        tl_hook_gradient(t, h, keep_it, NULL);
        tl_hook_gradient(t, p, keep_it, NULL);
        if (step == 1)
            tl_stop_edge(t, h, 0);
        tl_name(t, h, "hidden");
        tl_scope_end(t);
    }
    tl_var loss = tl_mean(t, tl_square(t, h));
    tl_keep_gradients(t);
    tl_backward_retain(t, loss);
    tl_grad(t, loss, TL_NONE, 1, &first, true, g);
    tl_jvp(t, loss, 1, &first, &along);
    tl_graph_hash(t, 1, &loss, 1, &first);
    tl_tape_hash(t, 0, 0);
    FILE *stream = fopen("/dev/null", "w");
    for (int format = TL_DUMP_TEXT; format <= TL_DUMP_DOT; format++)
        tl_dump(
            t, stream,
            &(tl_dump_options){.format = (tl_dump_format)format, .gradients = true, .fold = "step"});
    fclose(stream);
    tl_untied_uses(t, w, 8, uses);
    tl_profile_lines(t, 4, lines);
    tl_status status = tl_tape_status(t);
    tl_tape_reset(t);
    assert_int_equal(tl_tape_status(t), TL_OK);
    tl_tape_free(t);
    tl_tensor_release(w);
    tl_tensor_release(v);
    return status;
}

static void too_little_memory(void **state)
{
    (void)state;
    assert_int_equal(all_of_it(0), TL_OK);
    int failures = 0;
    tl_status status = TL_ERR_MEMORY;
    for (size_t limit = 1; status != TL_OK && limit < (size_t)64 << 20; limit += 1 + limit / 64) {
        status = all_of_it(limit);
        failures += status == TL_ERR_MEMORY;
        if (status != TL_OK && status != TL_ERR_MEMORY)
            fail_msg("limit %zu: %s", limit, tl_status_text(status));
    }
    assert_int_equal(status, TL_OK);
    assert_true(failures > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variable_in_order),
        cmocka_unit_test(what_is_not_on_the_tape),
        cmocka_unit_test(gradients_of_all),
        cmocka_unit_test(text_exactly),
        cmocka_unit_test(text_of_many_operands),
        cmocka_unit_test(dumps_that_fail),
        cmocka_unit_test(json_says_it_all),
        cmocka_unit_test(gradients_that_are_not_finite),
        cmocka_unit_test(dot_of_a_small_tape),
        cmocka_unit_test(dot_of_a_network),
        cmocka_unit_test(a_fold_of_what_was_recorded_twice),
        cmocka_unit_test(names_that_need_quotes),
        cmocka_unit_test(equal_structure_equal_hash),
        cmocka_unit_test(each_change_changes_the_hash),
        cmocka_unit_test(tied_and_untied),
        cmocka_unit_test(inputs_are_placeholders),
        cmocka_unit_test(steps_are_alike),
        cmocka_unit_test(stretches_that_differ),
        cmocka_unit_test(an_unrolled_network_is_a_feedforward_one),
        cmocka_unit_test(built_in_cells_written_out),
        cmocka_unit_test(a_million_in_a_row),
        cmocka_unit_test(too_little_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
