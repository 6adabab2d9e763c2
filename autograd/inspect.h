/* inspect.h - a tape read from outside: every variable, in the order of recording.
 *
 *     for (uint32_t i = 0; i < tl_tape_count(t); i++) {
 *         tl_node_info n;
 *         tl_inspect(t, tl_tape_at(t, i), &n);
 *         printf("%s %s\n", n.op, n.scope);
 *     }
 *
 * and written out whole, as text, JSON or a graph; and reduced to one number that depends on structure
 * alone. */
#ifndef TL_INSPECT_H
#define TL_INSPECT_H

#include "op.h"

/* ---- variable by variable --------------------------------------------------------------- */

typedef struct tl_node_info {
    const char *op;   /* "mul"; "leaf", "frozen" (a leaf that wants no gradient), "constant" */
    const char *name; /* of tl_name; NULL: none */
    char scope[128];  /* "layer 0, step 3", outermost first; "": none */
    int inputs;       /* operands, see tl_input */
    tl_dtype dtype;
    const tl_layout *layout; /* good until the tape is reset */
    size_t bytes;            /* of its numbers; 0 for a view */
    const tl_op *rule;       /* NULL for leaves and constants */
    const tl_attr *attr;     /* the op's constants; NULL for leaves and constants */
    bool needs_gradient;
    bool walked; /* by a backward that did not retain */
} tl_node_info;

/* How many variables were recorded, and the one at an index below that (poison beyond). */
TL_API uint32_t tl_tape_count(const tl_tape *t);
TL_API tl_var tl_tape_at(tl_tape *t, uint32_t index);
/* The index of a variable; UINT32_MAX for one that was not recorded. */
TL_API uint32_t tl_tape_index(const tl_tape *t, tl_var v);
TL_API tl_status tl_inspect(tl_tape *t, tl_var v, tl_node_info *info);
/* Operand k of the op that made v; TL_NONE when there is none of that number. */
TL_API tl_var tl_input(tl_tape *t, tl_var v, int k);

/* Gives a variable a name for dumps and messages; `name` must outlive the recording. Parameters of nn/
 * have theirs. */
TL_API void tl_name(tl_tape *t, tl_var v, const char *name);

/* tl_keep_gradient for every variable recorded so far that wants one. */
TL_API void tl_keep_gradients(tl_tape *t);

/* ---- all of it -------------------------------------------------------------------------- */

typedef enum tl_dump_format { TL_DUMP_TEXT, TL_DUMP_JSON, TL_DUMP_DOT } tl_dump_format;

typedef struct tl_dump_options {
    tl_dump_format format;
    uint32_t from, to; /* variables from .. to-1; to 0: to the end */
    /* Norms of the gradients that were kept (see tl_keep_gradients): a column, a number, or, in a
     * graph, a colour, from white for the smallest to red for the largest, on a logarithmic scale. */
    bool gradients;
    /* Graphs: all that was recorded in a scope of this name becomes one node: "step" shows long
     * sequences. NULL: none. */
    const char *fold;
} tl_dump_options;

/* Text: a line a variable. JSON: {"nodes": [{"id", "op", "inputs", "dtype", "shape", "scope", "bytes",
 * "needs_gradient", and where they exist "name", "attributes", "gradient_norm" (null: not finite)},
 * ...]}. DOT: for Graphviz, with a cluster for each scope. NULL options: text. TL_ERR_IO when the stream
 * does not take it. */
TL_API tl_status tl_dump(tl_tape *t, FILE *stream, const tl_dump_options *options);

/* ---- structure as a number -------------------------------------------------------------- */

/* XXH3 of the graph that leads from `inputs` (which may be none) to `outputs`: ops, constants of ops,
 * dtypes, shapes, and who uses whom; leaves and constants by kind and shape. Equal for equal graphs,
 * whatever the values, names, scopes and the order in which independent ops were recorded; a result
 * used twice differs from the same computed twice. 0 with the error on the tape. */
TL_API uint64_t tl_graph_hash(tl_tape *t, int outputs, const tl_var *output, int inputs,
                              const tl_var *input);
/* XXH3 of variables from .. to-1 in the order of recording (to 0: to the end); operands from outside
 * count by the order in which they are met. So stretches of a tape can be compared: step 3 and step 4,
 * say (of tl_unroll: behind their first op, which takes slice 3, or 4, of the input). */
TL_API uint64_t tl_tape_hash(tl_tape *t, uint32_t from, uint32_t to);

#endif
