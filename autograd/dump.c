/* dump.c - a tape written out: text to read, JSON for programs, DOT for Graphviz.
 *
 * In a graph every scope is a cluster, so that layers and steps can be seen:
 *
 *     +- layer 0 ---------------------------------+
 *     |  +- step 0 ------+     +- step 1 ------+  |
 *     |  | linear - tanh ------- linear - tanh |  |
 *     |  +---------------+     +---------------+  |
 *     +-------------------------------------------+ */
#include "autograd/inspect.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "autograd/named.h"
#include "autograd/tape_impl.h"
#include "tensor/kernels.h"

/* What a scope that becomes one node stands for. */
typedef struct fold {
    uint32_t count; /* nodes; 0: none, or written already */
    double norm;    /* the largest of their gradients' */
} fold;

typedef struct dump {
    tl_tape *tape;
    FILE *stream;
    tl_dump_options options;
    double smallest, largest; /* norms of gradients, logarithms */
    fold *folds;              /* by scope; NULL when none is folded */
} dump;

/* Norm of the gradient that was kept; negative: none was. */
static double gradient_norm(const dump *d, uint32_t id)
{
    const tl_node *n = tl_node_at(d->tape, id);
    if (!d->options.gradients || !n->kept)
        return -1;
    tl_var g = tl_gradient(d->tape, tl_var_of(d->tape, id));
    tl_array a = tl_value(d->tape, g);
    double squares = 0;
    tl_tensor view = {.data = a.data, .layout = *a.layout, .dtype = a.dtype};
    for (int64_t i = 0; i < a.layout->count; i++)
        squares += tl_tensor_get(&view, i) * tl_tensor_get(&view, i);
    return sqrt(squares);
}

static bool is_loose(uint32_t id)
{
    return id & TL_LOOSE;
}

/* ---- text ------------------------------------------------------------------------------- */

static void text_inputs(const dump *d, uint32_t id, size_t size, char *text)
{
    const tl_node *n = tl_node_at(d->tape, id);
    size_t used = 0;
    text[0] = 0;
    for (uint32_t k = 0; k < n->count && used < size; k++) {
        uint32_t in = tl_node_inputs(n)[k];
        int more = is_loose(in) ? snprintf(text + used, size - used, "%s~", k ? " " : "")
                                : snprintf(text + used, size - used, "%s%%%u", k ? " " : "", in);
        used += (size_t)(more > 0 ? more : 0);
    }
    if (used >= size)
        snprintf(text + size - 4, 4, "...");
}

static void dump_text(const dump *d, uint32_t id)
{
    tl_node_info n;
    char shape[TL_LAYOUT_TEXT], inputs[64], constants[256] = "";
    tl_inspect(d->tape, tl_var_of(d->tape, id), &n);
    text_inputs(d, id, sizeof inputs, inputs);
    if (n.rule && n.rule->attributes)
        tl_attr_to_json(n.rule, n.attr, sizeof constants, constants);
    fprintf(d->stream, "%%%-6u %-14s %-16s %s %-12s %8zu B  %s", id, n.op, inputs,
            tl_dtype_name(n.dtype), tl_layout_text(n.layout, shape), n.bytes, n.scope);
    fprintf(d->stream, "%s%s%s%s", n.name ? "  " : "", n.name ? n.name : "", constants[0] ? "  " : "",
            constants);
    double norm = gradient_norm(d, id);
    if (!(norm < 0))
        fprintf(d->stream, "  |gradient| %.6g", norm);
    fputc('\n', d->stream);
}

/* ---- JSON ------------------------------------------------------------------------------- */

static json_t *json_shape(const tl_layout *layout)
{
    json_t *shape = json_array();
    for (int k = 0; k < layout->ndim; k++)
        json_array_append_new(shape, json_integer(layout->shape[k]));
    return shape;
}

static void dump_json(const dump *d, uint32_t id)
{
    tl_node_info n;
    char constants[512];
    tl_inspect(d->tape, tl_var_of(d->tape, id), &n);
    json_t *node = json_object(), *inputs = json_array();
    for (int k = 0; k < n.inputs; k++) {
        uint32_t in = tl_node_inputs(tl_node_at(d->tape, id))[k];
        json_array_append_new(inputs, is_loose(in) ? json_null() : json_integer(in));
    }
    json_object_set_new(node, "id", json_integer(id));
    json_object_set_new(node, "op", json_string(n.op));
    json_object_set_new(node, "inputs", inputs);
    json_object_set_new(node, "dtype", json_string(tl_dtype_name(n.dtype)));
    json_object_set_new(node, "shape", json_shape(n.layout));
    json_object_set_new(node, "scope", json_string(n.scope));
    json_object_set_new(node, "bytes", json_integer((json_int_t)n.bytes));
    json_object_set_new(node, "needs_gradient", json_boolean(n.needs_gradient));
    if (n.name)
        json_object_set_new(node, "name", json_string(n.name));
    if (n.rule && n.rule->attributes)
        json_object_set_new(
            node, "attributes",
            json_loads(tl_attr_to_json(n.rule, n.attr, sizeof constants, constants), 0, NULL));
    double norm = gradient_norm(d, id);
    if (!(norm < 0)) /* JSON has no word for what is not finite */
        json_object_set_new(node, "gradient_norm", isfinite(norm) ? json_real(norm) : json_null());
    fputs(id == d->options.from ? "\n" : ",\n", d->stream);
    json_dumpf(node, d->stream, 0);
    json_decref(node);
}

/* ---- DOT -------------------------------------------------------------------------------- */

static void quoted(FILE *stream, const char *text)
{
    for (; *text; text++)
        fprintf(stream, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
}

/* The outermost scope of that name that the scope lies in; 0: none. */
static uint32_t folded(const dump *d, uint32_t scope)
{
    uint32_t found = 0;
    for (; scope && d->options.fold; scope = d->tape->scopes.entry[scope - 1].parent)
        if (strcmp(d->tape->scopes.entry[scope - 1].name, d->options.fold) == 0)
            found = scope;
    return found;
}

/* A leaf was recorded where it was first used, but belongs to all its uses. */
static bool is_leaf(const dump *d, uint32_t id)
{
    const tl_node *n = tl_node_at(d->tape, id);
    return !n->op && n->leaf;
}

static void node_name(const dump *d, uint32_t id, char name[32])
{
    uint32_t one = is_leaf(d, id) ? 0 : folded(d, tl_node_at(d->tape, id)->scope);
    snprintf(name, 32, one ? "s%u" : "n%u", one ? one : id);
}

static void scope_label(const dump *d, uint32_t scope)
{
    const tl_scope *s = &d->tape->scopes.entry[scope - 1];
    quoted(d->stream, s->name);
    if (s->index >= 0)
        fprintf(d->stream, " %lld", (long long)s->index);
}

/* From white, at the smallest norm, to red; what is not finite is as red as can be. */
static void colour(const dump *d, double norm)
{
    if (norm < 0)
        return;
    double range = d->largest - d->smallest;
    double share = norm <= 0                       ? 0
                   : !isfinite(norm) || range <= 0 ? 1
                                                   : (log(norm) - d->smallest) / range;
    fprintf(d->stream, " style=filled fillcolor=\"0.0 %.3f 1.0\" tooltip=\"|gradient| %.6g\"",
            0.9 * share, norm);
}

static void dot_node(const dump *d, uint32_t id)
{
    tl_node_info n;
    char shape[TL_LAYOUT_TEXT];
    tl_inspect(d->tape, tl_var_of(d->tape, id), &n);
    double norm = gradient_norm(d, id);
    fprintf(d->stream, "n%u [label=\"", id);
    quoted(d->stream, n.name ? n.name : n.op);
    fprintf(d->stream, "\\n%s\"%s", tl_layout_text(n.layout, shape), n.rule ? "" : " shape=box");
    colour(d, norm);
    if (!(norm < 0))
        fprintf(d->stream, " xlabel=\"%.2g\"", norm);
    fputs("];\n", d->stream);
}

/* Of NaN and a number the NaN. */
static double larger(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}

/* A scope may stand in several stretches of the tape: derivatives that are recorded belong to the
 * scopes of what they are derived from. */
static void count_folds(const dump *d)
{
    for (uint32_t id = d->options.from; id < d->options.to; id++) {
        uint32_t scope = is_leaf(d, id) ? 0 : folded(d, tl_node_at(d->tape, id)->scope);
        if (!scope)
            continue;
        fold *f = &d->folds[scope - 1];
        f->norm = larger(gradient_norm(d, id), f->count++ ? f->norm : -1);
    }
}

/* One node for all of a scope; its colour is that of the largest gradient in it. */
static void dot_fold(const dump *d, uint32_t scope)
{
    fold *f = &d->folds[scope - 1];
    if (!f->count)
        return;
    fprintf(d->stream, "s%u [shape=box3d label=\"", scope);
    scope_label(d, scope);
    fprintf(d->stream, "\\n%u nodes\"", f->count);
    colour(d, f->norm);
    fputs("];\n", d->stream);
    f->count = 0;
}

/* The scopes around `scope` are the clusters to be open; those already open, down to their common
 * ancestor, are closed. */
static void enter(const dump *d, uint32_t *open, uint32_t scope)
{
    const tl_scope *entry = d->tape->scopes.entry;
    uint32_t above = scope;
    while (above && above != *open)
        above = entry[above - 1].parent;
    if (above == *open && (above || !*open)) { /* inside what is open: go down */
        if (scope == *open)
            return;
        enter(d, open, entry[scope - 1].parent);
        fprintf(d->stream, "subgraph cluster_%u {\nlabel=\"", scope);
        scope_label(d, scope);
        fputs("\";\n", d->stream);
        *open = scope;
    } else {
        fputs("}\n", d->stream);
        *open = entry[*open - 1].parent;
        enter(d, open, scope);
    }
}

static void dot_nodes(const dump *d)
{
    uint32_t open = 0;
    for (uint32_t id = d->options.from; id < d->options.to; id++)
        if (is_leaf(d, id))
            dot_node(d, id);
    for (uint32_t id = d->options.from; id < d->options.to; id++) {
        uint32_t scope = tl_node_at(d->tape, id)->scope, one = folded(d, scope);
        if (is_leaf(d, id) || (one && !d->folds[one - 1].count))
            continue;
        enter(d, &open, one ? d->tape->scopes.entry[one - 1].parent : scope);
        if (one)
            dot_fold(d, one);
        else
            dot_node(d, id);
    }
    enter(d, &open, 0);
}

static void dot_edges(const dump *d)
{
    char from[32], to[32];
    for (uint32_t id = d->options.from; id < d->options.to; id++) {
        const tl_node *n = tl_node_at(d->tape, id);
        node_name(d, id, to);
        for (uint32_t k = 0; k < n->count; k++) {
            uint32_t in = tl_node_inputs(n)[k];
            if (is_loose(in) || in < d->options.from)
                continue;
            node_name(d, in, from);
            if (strcmp(from, to) != 0)
                fprintf(d->stream, "%s -> %s;\n", from, to);
        }
    }
}

static void dump_dot(dump *d)
{
    tl_tape *t = d->tape;
    size_t bytes = t->scopes.count * sizeof(fold);
    tl_block *room = d->options.fold && bytes ? tl_pool_get(&t->pool, bytes) : NULL;
    if (d->options.fold && bytes && !room) {
        tl_tape_no_memory(t);
        return;
    }
    d->folds = room ? memset(tl_block_data(room), 0, bytes) : NULL;
    if (d->folds)
        count_folds(d);
    fputs("strict digraph tape {\nrankdir=LR;\nnode [shape=ellipse fontsize=10];\n", d->stream);
    dot_nodes(d);
    dot_edges(d);
    fputs("}\n", d->stream);
    tl_pool_put(&t->pool, room);
}

/* ---- all -------------------------------------------------------------------------------- */

static void find_range(dump *d)
{
    d->smallest = INFINITY;
    d->largest = -INFINITY;
    for (uint32_t id = d->options.from; id < d->options.to; id++) {
        double norm = gradient_norm(d, id);
        if (norm <= 0 || !isfinite(norm))
            continue;
        d->smallest = fmin(d->smallest, log(norm));
        d->largest = fmax(d->largest, log(norm));
    }
}

tl_status tl_dump(tl_tape *t, FILE *stream, const tl_dump_options *options)
{
    dump d = {.tape = t, .stream = stream};
    if (options)
        d.options = *options;
    if (t->error.status)
        return t->error.status;
    if (!d.options.to || d.options.to > t->nodes.count)
        d.options.to = t->nodes.count;
    if (d.options.gradients)
        find_range(&d);
    if (d.options.format == TL_DUMP_DOT)
        dump_dot(&d);
    if (d.options.format == TL_DUMP_JSON)
        fputs("{\"nodes\": [", stream);
    for (uint32_t id = d.options.from; id < d.options.to && d.options.format != TL_DUMP_DOT; id++)
        if (d.options.format == TL_DUMP_JSON)
            dump_json(&d, id);
        else
            dump_text(&d, id);
    if (d.options.format == TL_DUMP_JSON)
        fputs("]}\n", stream);
    return t->error.status ? t->error.status : fflush(stream) || ferror(stream) ? TL_ERR_IO : TL_OK;
}
