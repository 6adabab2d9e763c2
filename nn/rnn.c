/* rnn.c - the parameters of a recurrent network, made from the list of weights of its cell. */
#include "nn/rnn.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "nn/init.h"
#include "tensor/arena.h"

/* ---- shapes as text: "4H,I" ------------------------------------------------------------- */

static int64_t letter_size(const tl_rnn_config *c, char letter, int64_t inputs)
{
    switch (letter) {
    case 'H':
        return c->hidden;
    case 'I':
        return inputs;
    case 'P':
        return c->projection ? c->projection : c->hidden;
    default:
        return c->cell->size ? c->cell->size(c, c->options, letter) : 0;
    }
}

/* Number of dimensions; -1 for what is not a shape. inputs: I of the layer. */
static int read_shape(const tl_rnn_config *c, const char *text, int64_t inputs,
                      int64_t shape[TL_MAX_DIMS])
{
    int ndim = 0;
    if (!text)
        return -1;
    while (*text) {
        char *end;
        text += strspn(text, " ");
        int64_t size = strtoll(text, &end, 10);
        if (end == text)
            size = 1;
        if (*end && *end != ',')
            size *= letter_size(c, *end++, inputs);
        if (size < 1 || ndim == TL_MAX_DIMS - 1 || (*end && (*end != ',' || !end[1])))
            return -1;
        shape[ndim++] = size;
        text = *end ? end + 1 : end;
    }
    return ndim;
}

int tl_cell_shape(const tl_rnn_config *config, const char *text, int64_t inputs,
                  int64_t shape[TL_MAX_DIMS])
{
    return read_shape(config, text, inputs, shape);
}

/* At most one more than the struct has variables: the list may want its end. */
static int count_weights(const tl_cell_type *type)
{
    int count = 0, most = (int)(type->bytes / sizeof(tl_var)) + 1;
    while (type->weights && count < most && type->weights[count].name)
        count++;
    return count;
}

static int count_states(const tl_cell_type *type)
{
    int count = 0;
    while (count < TL_MOST_STATES && type->states[count].name)
        count++;
    return count;
}

static int64_t output_size(const tl_rnn_config *c)
{
    int64_t shape[TL_MAX_DIMS];
    return read_shape(c, c->cell->states[0].shape, c->hidden, shape) == 1 ? shape[0] : -1;
}

static int64_t layer_input(const tl_rnn_config *c, int layer)
{
    return layer ? output_size(c) * (c->bidirectional ? 2 : 1) : c->input;
}

/* ---- is it a network? ------------------------------------------------------------------- */

static bool fail(tl_params *params, const tl_rnn_config *c, const char *format, ...) TL_PRINTF(3, 4);

static bool fail(tl_params *params, const tl_rnn_config *c, const char *format, ...)
{
    char text[TL_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tl_fail(&params->error, TL_ERR_ARGUMENT, "rnn of %s cells: %s", c->cell ? c->cell->name : "no",
            text);
    return false;
}

/* Why it is no shape. what: "weight", "state". */
static bool shape_fails(tl_params *params, const tl_rnn_config *c, const char *what, const char *name,
                        const char *text)
{
    if (!text)
        return fail(params, c, "%s %s: no shape is given", what, name);
    for (const char *letter = text; *letter; letter++)
        if (isalpha((unsigned char)*letter) && letter_size(c, *letter, c->input) < 1)
            return fail(
                params, c,
                "%s %s: \"%s\": the size of %c is not known%s; H, I and P are, others the cell's "
                "`size` must tell",
                what, name, text, *letter,
                *letter == 'B' ? ", shapes are those of one row of the batch" : "");
    return fail(params, c,
                "%s %s: \"%s\" is not a shape: sizes with commas between, each a number, a letter or "
                "both, as \"4H,I\"",
                what, name, text);
}

/* Does each weight have a variable of its own? */
static bool weights_fit(tl_params *params, const tl_rnn_config *c)
{
    const tl_cell_type *type = c->cell;
    int weights = count_weights(type), room = (int)(type->bytes / sizeof(tl_var));
    if (type->bytes % sizeof(tl_var))
        return fail(params, c, "its %zu bytes are not those of a struct of variables, %zu each",
                    type->bytes, sizeof(tl_var));
    if (weights > room)
        return fail(params, c,
                    "its list has more weights than its struct has variables, %d; or no TL_WEIGHTS_END",
                    room);
    for (int k = 0; k < weights; k++) {
        const tl_cell_weight *w = &type->weights[k];
        if (w->offset % sizeof(tl_var) || w->offset >= type->bytes)
            return fail(params, c, "weight %s: its offset is not that of a variable of its struct",
                        w->name);
        for (int j = 0; j < k; j++)
            if (type->weights[j].offset == w->offset)
                return fail(params, c, "weights %s and %s are the same variable of its struct",
                            type->weights[j].name, w->name);
        if (!w->shape && !type->begin)
            return fail(params, c, "weight %s has no shape, and there is no `begin` to make it",
                        w->name);
    }
    return true;
}

/* Does each variable have a weight? One without would be missing in every step. */
static bool variables_fit(tl_params *params, const tl_rnn_config *c)
{
    const tl_cell_type *type = c->cell;
    int weights = count_weights(type), room = (int)(type->bytes / sizeof(tl_var));
    for (int v = 0; v < room; v++) {
        bool listed = false;
        for (int k = 0; k < weights; k++)
            listed = listed || type->weights[k].offset == (size_t)v * sizeof(tl_var);
        if (!listed)
            return fail(params, c,
                        "its struct has %d variables, its list %d weights: number %d of the struct has "
                        "none",
                        room, weights, v + 1);
    }
    return true;
}

static bool states_fit(tl_params *params, const tl_rnn_config *c)
{
    const tl_cell_type *type = c->cell;
    if (!count_states(type) || type->states[TL_MOST_STATES].name)
        return fail(params, c, "1 to %d states", TL_MOST_STATES);
    for (int k = 0; k < count_states(type); k++) {
        const tl_cell_state *state = &type->states[k];
        int64_t shape[TL_MAX_DIMS];
        if (read_shape(c, state->shape, c->input, shape) < 0)
            return shape_fails(params, c, "state", state->name, state->shape);
        for (int j = 0; j < k; j++)
            if (strcmp(type->states[j].name, state->name) == 0)
                return fail(params, c, "two states are called %s", state->name);
    }
    return output_size(c) > 0 ||
           fail(params, c, "state 0 (%s) is the output, and must have one dimension, not \"%s\"",
                type->states[0].name, type->states[0].shape);
}

static bool cell_fits(tl_params *params, const tl_rnn_config *c)
{
    const tl_cell_type *type = c->cell;
    return weights_fit(params, c) && variables_fit(params, c) && states_fit(params, c) &&
           (!c->projection || output_size(c) == c->projection ||
            fail(params, c, "they have no projection")) &&
           (type->step || type->scan || fail(params, c, "no step"));
}

static bool is_probability(double p)
{
    return p >= 0 && p <= 1;
}

static bool config_fits(tl_params *params, const tl_rnn_config *c)
{
    if (!c->cell)
        return fail(params, c, "no cell");
    if (c->input < 1 || c->hidden < 1 || c->layers < 1 || c->projection < 0)
        return fail(params, c,
                    "input %lld, hidden %lld, layers %d must be at least 1, projection %lld at least 0",
                    (long long)c->input, (long long)c->hidden, c->layers, (long long)c->projection);
    if (c->bidirectional && c->reverse)
        return fail(params, c,
                    "both bidirectional and reverse: of two directions one reads backwards anyway");
    if ((unsigned)c->init > TL_RNN_IDENTITY || (unsigned)c->connection > TL_HIGHWAY)
        return fail(params, c, "no initialisation %d, or no connection %d", (int)c->init,
                    (int)c->connection);
    bool noise = is_probability(c->dropout) && is_probability(c->variational) &&
                 is_probability(c->recurrent_dropout) && is_probability(c->drop_connect);
    for (int k = 0; k < TL_MOST_STATES; k++)
        noise = noise && is_probability(c->zoneout[k]);
    if (!noise)
        return fail(params, c, "probabilities of dropping lie between 0 and 1");
    const char *reason = c->cell->refuse ? c->cell->refuse(c, c->options) : NULL;
    if (reason)
        return fail(params, c, "%s", reason);
    return cell_fits(params, c);
}

/* ---- first values ----------------------------------------------------------------------- */

static tl_status init_identity(tl_tensor *x, double value)
{
    for (int64_t i = 0; i < x->layout.count; i++)
        tl_tensor_set(x, i, i / x->layout.shape[1] == i % x->layout.shape[1] ? value : 0);
    return TL_OK;
}

static tl_status init_block(tl_random *random, tl_tensor *x, tl_cell_init how, double value)
{
    return how == TL_INIT_XAVIER       ? tl_init_xavier(random, x)
           : how == TL_INIT_ORTHOGONAL ? tl_init_orthogonal(random, x)
                                       : init_identity(x, value);
}

/* Of a matrix: each gate's H rows are one of their own. */
static void init_by_gate(tl_params *params, const tl_rnn_config *c, tl_tensor *x, tl_cell_init how,
                         double value)
{
    int64_t rows = x->layout.shape[0], block = rows % c->hidden ? rows : c->hidden;
    for (int64_t row = 0; row < rows; row += block) {
        tl_tensor *part = tl_tensor_slice(x, 0, row, row + block, 1, &params->error);
        if (part && init_block(&params->random, part, how, value) != TL_OK)
            tl_fail(&params->error, TL_ERR_MEMORY, "rnn: out of memory");
        tl_tensor_release(part);
    }
}

/* Of more dimensions: the last two are matrices. */
static void init_matrices(tl_params *params, const tl_rnn_config *c, tl_tensor *x, tl_cell_init how,
                          double value)
{
    int ndim = x->layout.ndim;
    if (ndim == 2)
        init_by_gate(params, c, x, how, value);
    for (int64_t i = 0; ndim > 2 && i < x->layout.shape[0]; i++) {
        tl_tensor *row = tl_tensor_slice(x, 0, i, i + 1, 1, &params->error);
        tl_tensor *part =
            row ? tl_tensor_reshape(row, ndim - 1, x->layout.shape + 1, &params->error) : NULL;
        if (part)
            init_matrices(params, c, part, how, value);
        tl_tensor_release(part);
        tl_tensor_release(row);
    }
}

/* What the scheme of the network means for a weight that says nothing itself. */
static tl_cell_init by_scheme(const tl_rnn_config *c, const tl_cell_weight *w, int ndim, double *value)
{
    if (c->init == TL_RNN_UNIFORM)
        return TL_INIT_UNIFORM;
    if (ndim < 2)
        return TL_INIT_ZEROS;
    if (c->init == TL_RNN_ORTHOGONAL && w->recurrent)
        return TL_INIT_ORTHOGONAL;
    if (c->init != TL_RNN_IDENTITY)
        return TL_INIT_XAVIER;
    *value = w->recurrent ? 1 : 0.001;
    return w->recurrent ? TL_INIT_IDENTITY : TL_INIT_NORMAL;
}

static void init_values(tl_params *params, const tl_rnn_config *c, tl_tensor *x, tl_cell_init how,
                        double value)
{
    switch (how) {
    case TL_INIT_DEFAULT:
    case TL_INIT_ZEROS:
        break;
    case TL_INIT_VALUE:
        tl_tensor_fill(x, value);
        break;
    case TL_INIT_UNIFORM:
        tl_init_uniform(&params->random, x, c->hidden);
        break;
    case TL_INIT_NORMAL:
        tl_random_normal(&params->random, x, 0, value);
        break;
    case TL_INIT_XAVIER:
    case TL_INIT_ORTHOGONAL:
    case TL_INIT_IDENTITY:
        init_matrices(params, c, x, how, value);
        break;
    }
}

/* Is it a matrix, where the values want one? */
static bool init_fits(tl_params *params, const tl_rnn_config *c, const char *name, tl_cell_init how,
                      int ndim)
{
    if ((unsigned)how > TL_INIT_IDENTITY)
        return fail(params, c, "%s: no initial values of kind %d", name, (int)how);
    if (ndim >= 2 || (how != TL_INIT_XAVIER && how != TL_INIT_ORTHOGONAL && how != TL_INIT_IDENTITY))
        return true;
    return fail(
        params, c,
        "%s: Xavier, orthogonal and identity are initial values of matrices, not of %d dimension%s",
        name, ndim, ndim == 1 ? "" : "s");
}

/* ---- building --------------------------------------------------------------------------- */

static tl_param *add(tl_params *params, const tl_rnn_config *c, const char *name, int layer,
                     const char *suffix, int ndim, const int64_t *shape)
{
    char text[96];
    snprintf(text, sizeof text, "%s_l%d%s", name, layer, suffix);
    return tl_params_add(params, c->prefix ? c->prefix : "rnn.", text, ndim, shape);
}

/* The weights of one cell, in the order of the list. */
static void add_cell(tl_rnn *rnn, tl_params *params, int layer, int direction)
{
    const tl_rnn_config *c = &rnn->config;
    tl_rnn_config of_layer = *c;
    of_layer.input = layer_input(c, layer);
    unsigned features = c->cell->features ? c->cell->features(&of_layer, c->options) : 0;
    tl_param **weight = &rnn->weight[(layer * rnn->directions + direction) * rnn->weights];
    for (int k = 0; k < rnn->weights; k++) {
        const tl_cell_weight *w = &c->cell->weights[k];
        int64_t shape[TL_MAX_DIMS];
        if (!w->shape || (w->bias && c->no_bias) || (w->feature && !(w->feature & features)))
            continue;
        int ndim = read_shape(c, w->shape, layer_input(c, layer), shape);
        if (ndim < 0) {
            shape_fails(params, c, "weight", w->name, w->shape);
            return;
        }
        if (!init_fits(params, c, w->name, w->init, ndim))
            return;
        weight[k] = add(params, c, w->name, layer, direction ? "_reverse" : "", ndim, shape);
        double value = w->value;
        tl_cell_init how = w->init == TL_INIT_DEFAULT ? by_scheme(c, w, ndim, &value) : w->init;
        if (weight[k])
            init_values(params, c, weight[k]->value, how, value);
    }
    if (c->cell->init && tl_params_status(params) == TL_OK)
        c->cell->init(c, c->options, weight);
}

/* The initial states that are parameters. */
static void add_initial(tl_rnn *rnn, tl_params *params, int layer, int direction)
{
    const tl_rnn_config *c = &rnn->config;
    tl_param **initial = &rnn->initial[(layer * rnn->directions + direction) * rnn->states];
    for (int k = 0; k < rnn->states; k++) {
        const tl_cell_state *state = &c->cell->states[k];
        const tl_cell_initial *first = &c->cell->initial[k];
        char name[64];
        int64_t shape[TL_MAX_DIMS];
        if (!c->learned_state && first->init == TL_INIT_DEFAULT)
            continue;
        snprintf(name, sizeof name, "%s0", state->name);
        int ndim = read_shape(c, state->shape, layer_input(c, layer), shape);
        if (!init_fits(params, c, name, first->init, ndim))
            return;
        initial[k] = add(params, c, name, layer, direction ? "_reverse" : "", ndim, shape);
        if (initial[k])
            init_values(params, c, initial[k]->value,
                        first->init == TL_INIT_DEFAULT ? TL_INIT_VALUE : first->init, first->value);
    }
}

static void add_between(tl_rnn *rnn, tl_params *params, int layer)
{
    const tl_rnn_config *c = &rnn->config;
    tl_rnn_layer *l = &rnn->layer[layer];
    int64_t width = tl_rnn_output(rnn);
    if (c->layer_norm) {
        l->norm_weight = add(params, c, "norm_weight", layer, "", 1, &width);
        l->norm_bias = add(params, c, "norm_bias", layer, "", 1, &width);
        if (l->norm_weight)
            tl_tensor_fill(l->norm_weight->value, 1);
    }
    if (c->connection == TL_HIGHWAY && layer_input(c, layer) == width) {
        l->highway_weight = add(params, c, "highway_weight", layer, "", TL_SHAPE(width, width));
        l->highway_bias = add(params, c, "highway_bias", layer, "", 1, &width);
        if (l->highway_weight)
            tl_init_uniform(&params->random, l->highway_weight->value, width);
        if (l->highway_bias)
            tl_tensor_fill(l->highway_bias->value, -1);
    }
}

static void *zeroed(size_t count, size_t size)
{
    void *room = tl_system_get(count * size);
    if (room)
        memset(room, 0, count * size);
    return room;
}

static bool make_room(tl_rnn *rnn)
{
    const tl_rnn_config *c = &rnn->config;
    size_t cells = (size_t)c->layers * (size_t)rnn->directions;
    rnn->weight = zeroed(cells * (size_t)rnn->weights, sizeof *rnn->weight);
    rnn->initial = zeroed(cells * (size_t)rnn->states, sizeof *rnn->initial);
    rnn->layer = zeroed((size_t)c->layers, sizeof *rnn->layer);
    return (rnn->weight || !rnn->weights) && rnn->layer && rnn->initial;
}

/* The network's own copy; a cell with options always has some. */
static bool copy_options(tl_rnn *rnn, tl_params *params, const void *options)
{
    size_t bytes = rnn->config.cell->options_bytes;
    rnn->config.options = NULL;
    if (!bytes)
        return !options || fail(params, &rnn->config, "options are given, but its options_bytes is 0");
    void *copy = zeroed(1, bytes);
    if (!copy)
        tl_fail(&params->error, TL_ERR_MEMORY, "rnn: out of memory");
    else if (options)
        memcpy(copy, options, bytes);
    rnn->config.options = copy;
    return copy != NULL;
}

void tl_rnn_init(tl_rnn *rnn, tl_params *params, const tl_rnn_config *config)
{
    *rnn = (tl_rnn){.config = *config};
    if (config->cell && !copy_options(rnn, params, config->options))
        return;
    if (tl_params_status(params) != TL_OK || !config_fits(params, &rnn->config))
        return;
    rnn->directions = config->bidirectional ? 2 : 1;
    rnn->weights = count_weights(config->cell);
    rnn->states = count_states(config->cell);
    if (!make_room(rnn)) {
        tl_fail(&params->error, TL_ERR_MEMORY, "rnn: out of memory");
        return;
    }
    for (int layer = 0; layer < config->layers; layer++) {
        for (int direction = 0; direction < rnn->directions; direction++) {
            add_cell(rnn, params, layer, direction);
            add_initial(rnn, params, layer, direction);
        }
        add_between(rnn, params, layer);
    }
    if (tl_params_status(params) != TL_OK) /* half a network is none */
        tl_rnn_free(rnn);
}

void tl_rnn_free(tl_rnn *rnn)
{
    tl_system_give((void *)(uintptr_t)(rnn->config.cell && rnn->config.cell->options_bytes
                                           ? rnn->config.options
                                           : NULL));
    tl_system_give(rnn->weight);
    tl_system_give(rnn->initial);
    tl_system_give(rnn->layer);
    *rnn = (tl_rnn){0};
}

int tl_rnn_states(const tl_rnn *rnn)
{
    return rnn->config.layers * rnn->directions * rnn->states;
}

int64_t tl_rnn_output(const tl_rnn *rnn)
{
    return rnn->layer ? rnn->directions * output_size(&rnn->config) : 0;
}

tl_param *tl_rnn_weight(const tl_rnn *rnn, int layer, int direction, const char *name)
{
    if (layer < 0 || layer >= rnn->config.layers || direction < 0 || direction >= rnn->directions)
        return NULL;
    for (int k = 0; k < rnn->weights; k++)
        if (strcmp(rnn->config.cell->weights[k].name, name) == 0)
            return rnn->weight[(layer * rnn->directions + direction) * rnn->weights + k];
    return NULL;
}

/* ---- in words --------------------------------------------------------------------------- */

static void describe_parameters(const tl_params *params, FILE *stream)
{
    char shape[TL_LAYOUT_TEXT];
    int64_t total = 0;
    for (int k = 0; k < params->count; k++) {
        const tl_param *p = params->entry[k];
        fprintf(stream, "  %-32s %-14s %lld\n", p->name, tl_layout_text(&p->value->layout, shape),
                (long long)p->value->layout.count);
        total += p->value->layout.count;
    }
    fprintf(stream, "  %-32s %-14s %lld\n", "in all", "", (long long)total);
}

tl_status tl_cell_describe(const tl_rnn_config *config, FILE *stream)
{
    tl_rnn rnn;
    tl_params *params = tl_params_new(TL_F32, 0);
    if (!params)
        return TL_ERR_MEMORY;
    tl_rnn_init(&rnn, params, config);
    tl_status status = tl_params_status(params);
    if (status == TL_OK) {
        const tl_cell_type *type = config->cell;
        fprintf(stream, "%s\n\n%s\n\n", type->name,
                type->equations ? type->equations : "(no equations given)");
        if (type->gates)
            fprintf(stream, "gates, in blocks of H rows: %s\n", type->gates);
        for (int k = 0; k < rnn.states; k++)
            fprintf(stream, "%s %s: [B,%s]%s\n", "state", type->states[k].name, type->states[k].shape,
                    k ? "" : ", the output");
        fprintf(stream, "\nparameters (I %lld, H %lld):\n", (long long)config->input,
                (long long)config->hidden);
        describe_parameters(params, stream);
    } else {
        fprintf(stream, "%s\n", params->error.message);
    }
    tl_rnn_free(&rnn);
    tl_params_free(params);
    return status == TL_OK && ferror(stream) ? TL_ERR_IO : status;
}
