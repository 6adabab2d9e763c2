/* tape_impl.h - what a tape is made of. (internal)
 *
 * A tape after three steps of h = tanh(w h + x), x known, w and h0 leaves:
 *
 *   id   0    1    2     3     4     5    6     7     8    9    10    11
 *       w    h0   x1  | mul  add  tanh  x2 | mul  add  tanh ...
 *                        |    |    |          |
 *   in   -    -    -    0,1  3,2   4    -    0,5  7,6   8
 *
 * Ids are recording order, so operands always have smaller ids, and walking from the last id to
 * the first is a topological order. Off the record (in a no-record region, and while a first
 * derivative is computed) results live in a second table of loose nodes, which are reused as soon
 * as nobody needs them; bit 31 of an id says that it is loose. */
#ifndef TL_TAPE_IMPL_H
#define TL_TAPE_IMPL_H

#include "autograd/op.h"
#include "tensor/arena.h"
#include "tensor/blas.h"
#include "tensor/threads.h"

/* On the path of every small op: not inlined, each costs some 30 instructions of 450. */
#define TL_INLINE __attribute__((always_inline)) inline

enum {
    NODE_NEEDS_GRADIENT = 1,
    NODE_CONSUMED = 2, /* walked back */
    NODE_KEEP = 4,     /* keep the gradient when it is complete */
    NODE_DEFERRED = 8, /* outer products of its gradient are still in a panel */
    NODE_RECENT = 16,  /* loose: on the list of those to be freed at the end of the region */
    NODE_LAZY = 32,    /* loose: not computed yet */
    NODE_SINK = 64,    /* loose: the numbers are a leaf's gradient tensor */
    NODE_ASKED = 128,  /* tl_grad asks for the gradient, for the time of its walk */
    NODE_HOOKED = 256, /* recorded: has hooks */
    NODE_CUT = 512,    /* recorded: no derivative passes to some operand */
    NODE_ALL = 1023
};

#define TL_LOOSE 0x80000000u

typedef struct tl_leaf_info {
    tl_tensor *value, *gradient; /* gradient may be NULL */
    const char *name;            /* NULL: none */
    uint64_t version;            /* of the value when it was recorded */
} tl_leaf_info;

/* 64 bytes, one cache line. */
typedef struct tl_node {
    const tl_op *op; /* NULL: leaf or constant */
    const tl_layout *layout;
    void *data;
    tl_block *block; /* loose: keeps data alive; recorded: NULL, data is the arena's or a tensor's */
    union {
        const tl_attr *attr;
        const tl_leaf_info *leaf; /* op == NULL */
    };
    union {
        uint32_t few[2];
        const uint32_t *many; /* count > 2 */
        uint32_t next_free;   /* loose, unused */
    } in;
    uint32_t scope;
    union {
        uint32_t gradient; /* recorded: handle of the gradient so far; 0: none yet */
        uint32_t refs;     /* loose */
    };
    union {
        uint32_t kept;       /* recorded: handle of the gradient kept for the user */
        uint32_t generation; /* loose: raised whenever the node is freed */
    };
    uint32_t count : 20, dtype : 2, flags : 10;
} tl_node;

_Static_assert(sizeof(void *) != 8 || sizeof(tl_node) == 64, "a node is a cache line");

enum { TL_MOST_OPERANDS = (1 << 20) - 1 };

/* A growing table whose entries never move. */
typedef struct tl_table {
    tl_node **chunk;
    uint32_t chunks, capacity; /* of the array of chunks */
    uint32_t count;            /* nodes in use, or that ever were */
} tl_table;

enum { TL_CHUNK_BITS = 10, TL_CHUNK_NODES = 1 << TL_CHUNK_BITS };

static inline tl_node *tl_table_at(const tl_table *table, uint32_t index)
{
    return &table->chunk[index >> TL_CHUNK_BITS][index & (TL_CHUNK_NODES - 1)];
}

/* A small open-addressing map from 64-bit keys (never 0) to pointers. */
typedef struct tl_map_entry {
    uint64_t key;
    void *value;
} tl_map_entry;

typedef struct tl_map_table {
    tl_map_entry *entry;
    uint32_t capacity, count; /* capacity: a power of two */
} tl_map_table;

typedef struct tl_scope {
    const char *name;
    int64_t index;
    uint32_t parent;
} tl_scope;

typedef struct tl_scope_list {
    tl_scope *entry;
    uint32_t count, capacity, current;
} tl_scope_list;

typedef struct tl_id_list {
    uint32_t *id;
    uint32_t count, capacity;
} tl_id_list;

/* A tensor whose numbers the tape uses, and what they were when it was recorded. */
typedef struct tl_held {
    tl_tensor *tensor;
    uint64_t version, hash; /* hash: 0 unless the tape watches contents */
    uint32_t id;            /* of the leaf or constant; UINT32_MAX: of a leaf's gradient */
} tl_held;

/* Called with the gradient of a variable when that is complete; the last one added comes last. */
typedef struct tl_hook_entry {
    tl_hook *function;
    void *context;
    struct tl_hook_entry *next;
} tl_hook_entry;

/* A leaf that stands for one use of an untied tensor. */
typedef struct tl_untied_use {
    const tl_tensor *tensor;
    uint32_t id;
} tl_untied_use;

/* What tl_apply does beside its work, when any of it is asked for. */
enum {
    OBSERVE_TRAP = 1,    /* stop at the first number that is not finite */
    OBSERVE_PROFILE = 2, /* count, time, bytes */
    OBSERVE_CHANGES = 4  /* while walking: some held tensor was changed since it was recorded */
};

/* Rows of outer products a_r b_r' that wait to become one product, target += A' B. */
typedef struct tl_panel {
    void *target;     /* NULL: unused */
    int64_t capacity; /* rows */
    tl_block *a_block, *b_block;
    tl_matrix a; /* a.rows: how many there are so far */
    tl_packed b;
    tl_matrix matrix; /* the target */
} tl_panel;

typedef struct tl_walk {
    bool active;
    bool create_graph; /* record what the derivatives compute */
    bool sinks;        /* add to the gradient tensors of leaves */
    bool retain;
    uint32_t node; /* where the walk is */
    /* tl_grad: does a variable of floor..last depend on an input? What does not has no business in the
     * walk. NULL: all that wants a gradient does. */
    const bool *leads;
    uint32_t last;
    uint32_t floor;    /* nothing before this variable matters: the first of tl_grad's inputs */
    uint32_t pending;  /* nodes with an op whose gradient has begun */
    tl_id_list leaves; /* leaves whose gradient has begun */
} tl_walk;

struct tl_tape {
    uint32_t generation;
    int unrecorded; /* depth of no-record regions; > 0: results are loose */
    tl_table nodes, loose;
    uint32_t first_free; /* loose node, + 1; 0: none */
    tl_id_list recent;   /* loose nodes to look at when the region ends */
    tl_id_list regions;  /* where in `recent` the user's regions begin */
    tl_arena arena;      /* values, attributes: in the order of recording */
    tl_arena lasting;    /* what a stretch that is recorded again must leave in place: layouts, packed
                            weights */
    tl_pool pool;
    tl_memory memory;
    tl_map_table layouts, leaves, packed;
    tl_map_table hooks, stopped, names, untied; /* by id; `untied` by tensor */
    tl_map_table profile;                       /* op -> tl_profile_line; survives a reset */
    unsigned observe;                           /* OBSERVE_..., survives a reset */
    /* Variables from `again` on are recorded for a derivative only; UINT32_MAX: none are. Weights that
     * were made before `chain` are used in many steps; 0: none is known to be. */
    uint32_t again, chain;
    bool watch; /* hash what is held; survives a reset */
    tl_scope_list scopes;
    tl_held *held;
    uint32_t held_count, held_capacity;
    tl_untied_use *untied_uses;
    uint32_t untied_count, untied_capacity;
    tl_panel *panels;
    uint32_t panel_count, panel_capacity;
    tl_walk walk;
    uint64_t recomputed; /* steps of chains, see chain.c */
    tl_threads *team;
    tl_blas *blas;
    tl_random random;
    uint64_t seed;
    tl_error error;
};

/* ---- tape.c ----------------------------------------------------------------------------- */

static inline tl_node *tl_node_at(const tl_tape *t, uint32_t id)
{
    return id & TL_LOOSE ? tl_table_at(&t->loose, id & ~TL_LOOSE) : tl_table_at(&t->nodes, id);
}

static inline tl_var tl_var_of(const tl_tape *t, uint32_t id)
{
    uint32_t generation = id & TL_LOOSE ? tl_node_at(t, id)->generation : t->generation;
    return (tl_var){t, id, generation};
}

static inline const uint32_t *tl_node_inputs(const tl_node *n)
{
    return n->count > 2 ? n->in.many : n->in.few;
}

static inline tl_array tl_node_array(const tl_node *n)
{
    return (tl_array){n->data, n->layout, (tl_dtype)n->dtype};
}

/* The node of a variable, or NULL with the error recorded; `who` names the caller in the message. */
tl_node *tl_node_unusual(tl_tape *t, tl_var v, const char *who);

static inline tl_node *tl_node_of(tl_tape *t, tl_var v, const char *who)
{
    if (v.tape == t && v.id < t->nodes.count && v.generation == t->generation)
        return tl_table_at(&t->nodes, v.id);
    if (v.tape == t && v.id >= TL_LOOSE && (v.id & ~TL_LOOSE) < t->loose.count) {
        tl_node *n = tl_table_at(&t->loose, v.id & ~TL_LOOSE);
        if (n->generation == v.generation && n->data)
            return n;
    }
    return tl_node_unusual(t, v, who);
}

const tl_layout *tl_tape_layout(tl_tape *t, const tl_layout *layout); /* interned; NULL: no memory */
tl_status tl_tape_no_memory(tl_tape *t);

/* A loose node over `block` (whose reference it takes) or over memory that outlives it (block NULL). */
tl_node *tl_loose_new(tl_tape *t, tl_dtype dtype, const tl_layout *layout, void *data, tl_block *block,
                      uint32_t *id);
/* The same with room of its own, contiguous, not cleared. */
tl_node *tl_loose_room(tl_tape *t, tl_dtype dtype, const tl_layout *layout, uint32_t *id);
void tl_loose_retain(tl_tape *t, uint32_t id); /* recorded ids are fine and ignored */
void tl_loose_release(tl_tape *t, uint32_t id);
void tl_recent_sweep(tl_tape *t, uint32_t mark); /* frees recent loose nodes that nobody holds */
bool tl_node_force(tl_tape *t, tl_node *n);      /* computes a lazy node */

/* Fills a call from a node; `in` and `x` have room for n->count. */
void tl_node_call(tl_tape *t, const tl_node *n, tl_var *in, tl_array *x, tl_call *call);

bool tl_id_push(tl_tape *t, tl_id_list *list, uint32_t id);

bool tl_table_extend(tl_tape *t, tl_table *table); /* room for one more node */
/* A recorded node without an op: constant or leaf. NULL with the error recorded. */
tl_node *tl_record_value(tl_tape *t, tl_dtype dtype, const tl_layout *layout, void *data, uint32_t *id);

/* Appends the current scope to a message: " (layer 0, step 3)". */
void tl_scope_text(const tl_tape *t, uint32_t scope, size_t size, char *text);

/* ---- going back to an earlier length, tape.c --------------------------------------------- */

typedef struct tl_tape_mark {
    uint32_t nodes, scopes, held, leaves, untied;
    tl_arena_mark arena;
} tl_tape_mark;

bool tl_is_tied(const tl_tape *t, uint32_t leaf); /* one leaf for all uses of its tensor */

tl_tape_mark tl_tape_mark_here(const tl_tape *t);
/* Forgets all that was recorded since; not if tied leaves are among it, which others may know. */
void tl_tape_rewind(tl_tape *t, const tl_tape_mark *mark);

void *tl_grow_array(tl_tape *t, void *array, uint32_t *capacity, size_t size);

/* ---- recompute.c: what ops that are recorded again have in common ------------------------ */

/* Where on the tape, and with which random numbers, something is recorded. */
typedef struct tl_moment {
    uint32_t scope, chain;
    int unrecorded;
    tl_random random;
} tl_moment;

tl_moment tl_moment_now(const tl_tape *t);
void tl_moment_set(tl_tape *t, const tl_moment *moment);
/* Their derivative: `walk` records the op's ops again, from variable `from` on, and walks them; then
 * the tape is rewound. */
void tl_derive_again(const tl_call *c, tl_var dy,
                     void (*walk)(const tl_call *c, tl_var dy, uint32_t from));

/* ---- backward.c ------------------------------------------------------------------------- */

/* Within a walk: adds seed[k] to the gradient of output[k], and walks from the end of the tape back to
 * variable `from`. */
void tl_walk_stretch(tl_tape *t, uint32_t from, int count, const tl_var *output, const tl_var *seed);

/* ---- observe.c -------------------------------------------------------------------------- */

/* Compares all that the tape holds with what it was, and sets OBSERVE_CHANGES accordingly. */
void tl_find_changes(tl_tape *t);
/* False, with the error, when an operand of the rule that is being walked was changed. */
bool tl_refuse_changed(tl_tape *t, int count, const tl_var *in);
/* False, with the error: "exp: element [1,2] of its result is nan". */
bool tl_trap(tl_tape *t, const char *name, const char *what, int operand, tl_array x);
uint64_t tl_hash_numbers(const tl_tensor *x);
double tl_clock(void); /* seconds */
/* Adds all but the name to the op's line. */
void tl_profile_add(tl_tape *t, const tl_op *op, tl_profile_line more);

/* ---- hooks.c ---------------------------------------------------------------------------- */

/* The gradient that the hooks of node `id` make of g. */
tl_var tl_run_hooks(tl_tape *t, uint32_t id, tl_var g);
bool tl_is_stopped(const tl_tape *t, uint32_t id, int operand);

/* ---- map_table.c ------------------------------------------------------------------------ */

void *tl_map_find(const tl_map_table *map, uint64_t key);
bool tl_map_insert(tl_tape *t, tl_map_table *map, uint64_t key, void *value);
void tl_map_clear(tl_map_table *map);
void tl_map_free(tl_tape *t, tl_map_table *map);

/* ---- products.c: matrix products that the tape does in larger pieces -------------------- */

/* A weight laid out for products, kept until the tape is reset. `transposed`: for x W' rather than x W.
 * A leaf or constant is packed at its first use; what an op made (a slice of a weight, taken anew at
 * every step, say) only at its second. NULL: to be used as it lies, or no memory: see the error. */
const tl_packed *tl_tape_packed(tl_tape *t, tl_var weight, bool transposed);
/* target += a' b, now or when the gradient is complete. a: r x m, b: r x n. */

bool tl_tape_add_outer(tl_tape *t, tl_dtype dtype, tl_matrix a, tl_matrix b, tl_matrix target);
void tl_panel_flush(tl_tape *t, const void *target);
void tl_panels_drop(tl_tape *t);

#endif
