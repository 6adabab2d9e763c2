/* tape.c - a tape's life: made, written on, read, reset. Recording an op is in record.c, walking
 * back in backward.c; tape_impl.h draws the data structure. */
#include "autograd/tape_impl.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "tensor/kernels.h"

/* ---- birth and death -------------------------------------------------------------------- */

tl_tape *tl_tape_new(const tl_tape_config *config)
{
    tl_tape_config none = {0};
    if (!config)
        config = &none;
    tl_tape *t = tl_system_get(sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->memory.limit = config->memory;
    t->generation = 1;
    tl_arena_init(&t->arena, &t->memory);
    tl_arena_init(&t->lasting, &t->memory);
    t->again = UINT32_MAX;
    tl_pool_init(&t->pool, &t->memory);
    t->seed = config->seed;
    t->random = tl_random_seed(config->seed);
    t->team = tl_threads_new(config->threads);
    t->blas = t->team ? tl_blas_new(t->team) : NULL;
    if (!t->blas) {
        tl_tape_free(t);
        return NULL;
    }
    return t;
}

static void free_list(tl_tape *t, tl_id_list *list)
{
    tl_memory_give(&t->memory, list->id, list->capacity * sizeof *list->id);
}

static void free_table(tl_tape *t, tl_table *table)
{
    for (uint32_t i = 0; i < table->chunks; i++)
        tl_memory_give(&t->memory, table->chunk[i], TL_CHUNK_NODES * sizeof(tl_node));
    tl_memory_give(&t->memory, table->chunk, table->capacity * sizeof *table->chunk);
}

void tl_tape_free(tl_tape *t)
{
    if (!t)
        return;
    tl_tape_reset(t);
    free_table(t, &t->nodes);
    free_table(t, &t->loose);
    free_list(t, &t->recent);
    free_list(t, &t->regions);
    free_list(t, &t->walk.leaves);
    tl_map_free(t, &t->layouts);
    tl_map_free(t, &t->leaves);
    tl_map_free(t, &t->packed);
    tl_map_free(t, &t->hooks);
    tl_map_free(t, &t->stopped);
    tl_map_free(t, &t->names);
    tl_map_free(t, &t->untied);
    tl_tape_profile(t, false);
    tl_map_free(t, &t->profile);
    tl_memory_give(&t->memory, t->untied_uses, t->untied_capacity * sizeof *t->untied_uses);
    tl_memory_give(&t->memory, t->scopes.entry, t->scopes.capacity * sizeof *t->scopes.entry);
    tl_memory_give(&t->memory, t->held, t->held_capacity * sizeof *t->held);
    tl_memory_give(&t->memory, t->panels, t->panel_capacity * sizeof *t->panels);
    tl_arena_free(&t->arena);
    tl_arena_free(&t->lasting);
    tl_pool_free(&t->pool);
    tl_blas_free(t->blas);
    tl_threads_free(t->team);
    tl_system_give(t);
}

void tl_tape_reset(tl_tape *t)
{
    tl_panels_drop(t);
    for (uint32_t i = 0; i < t->loose.count; i++) {
        tl_node *n = tl_table_at(&t->loose, i);
        tl_pool_put(&t->pool, n->block);
        *n = (tl_node){.generation = n->generation + 1};
    }
    for (uint32_t i = 0; i < t->held_count; i++)
        tl_tensor_release(t->held[i].tensor);
    t->loose.count = t->nodes.count = t->held_count = t->untied_count = 0;
    t->first_free = 0;
    t->recent.count = t->regions.count = t->walk.leaves.count = 0;
    t->walk.active = false;
    t->walk.pending = 0;
    t->unrecorded = 0;
    tl_map_clear(&t->layouts);
    tl_map_clear(&t->leaves);
    tl_map_clear(&t->packed);
    tl_map_clear(&t->hooks);
    tl_map_clear(&t->stopped);
    tl_map_clear(&t->names);
    tl_map_clear(&t->untied);
    t->observe &= ~(unsigned)OBSERVE_CHANGES;
    t->scopes.count = t->scopes.current = 0;
    tl_arena_reset(&t->arena);
    tl_arena_reset(&t->lasting);
    t->again = UINT32_MAX;
    t->chain = 0;
    t->generation++;
    t->error.status = TL_OK;
    t->error.message[0] = 0;
}

bool tl_is_tied(const tl_tape *t, uint32_t leaf)
{
    uint64_t key = (uint64_t)(uintptr_t)tl_node_at(t, leaf)->leaf->value;
    return (uintptr_t)tl_map_find(&t->leaves, key) == (uintptr_t)leaf + 1;
}

tl_tape_mark tl_tape_mark_here(const tl_tape *t)
{
    return (tl_tape_mark){.nodes = t->nodes.count,
                          .scopes = t->scopes.count,
                          .held = t->held_count,
                          .leaves = t->leaves.count,
                          .untied = t->untied_count,
                          .arena = tl_arena_mark_here(&t->arena)};
}

/* What a node holds beside its place in the arena. */
static void let_go(tl_tape *t, tl_node *n)
{
    for (uint32_t k = 0; k < n->count; k++)
        tl_loose_release(t, tl_node_inputs(n)[k]);
    if (n->gradient)
        tl_loose_release(t, n->gradient - 1);
    if (n->kept)
        tl_loose_release(t, n->kept - 1);
}

void tl_tape_rewind(tl_tape *t, const tl_tape_mark *mark)
{
    if (t->error.status || t->leaves.count != mark->leaves)
        return;
    for (uint32_t id = mark->nodes; id < t->nodes.count; id++)
        let_go(t, tl_node_at(t, id));
    while (t->held_count > mark->held)
        tl_tensor_release(t->held[--t->held_count].tensor);
    t->nodes.count = mark->nodes;
    t->scopes.count = mark->scopes;
    t->untied_count = mark->untied;
    tl_arena_release(&t->arena, mark->arena);
}

tl_status tl_tape_restart(tl_tape *t, int count, tl_var *keep)
{
    enum { FEW = 16 };
    struct {
        tl_layout layout;
        tl_dtype dtype;
        tl_block *block;
    } few[FEW], *saved = few;
    tl_block *list = count > FEW ? tl_pool_get(&t->pool, (size_t)count * sizeof *saved) : NULL;
    if (list)
        saved = tl_block_data(list);
    tl_status status = count > FEW && !list ? tl_tape_no_memory(t) : t->error.status;
    int ready = 0;
    for (; status == TL_OK && ready < count; ready++) {
        tl_array value = tl_value(t, keep[ready]);
        if (!value.data) {
            status = t->error.status;
            break;
        }
        saved[ready].dtype = value.dtype;
        tl_layout_make(&saved[ready].layout, value.layout->ndim, value.layout->shape);
        saved[ready].block =
            tl_pool_get(&t->pool, (size_t)value.layout->count * tl_dtype_size(value.dtype));
        if (!saved[ready].block) {
            status = tl_tape_no_memory(t);
            break;
        }
        tl_copy(value,
                (tl_array){tl_block_data(saved[ready].block), &saved[ready].layout, value.dtype});
    }
    if (status == TL_OK)
        tl_tape_reset(t);
    for (int k = 0; k < ready; k++) {
        if (status == TL_OK)
            keep[k] = tl_constant_from(t, saved[k].dtype, saved[k].layout.ndim, saved[k].layout.shape,
                                       tl_block_data(saved[k].block));
        tl_pool_put(&t->pool, saved[k].block);
    }
    tl_pool_put(&t->pool, list);
    return status == TL_OK ? t->error.status : status;
}

/* ---- errors and scopes ------------------------------------------------------------------ */

tl_status tl_tape_status(const tl_tape *t)
{
    return t->error.status;
}

const char *tl_tape_message(const tl_tape *t)
{
    return t->error.message;
}

tl_var tl_poison(tl_tape *t)
{
    return (tl_var){t, UINT32_MAX, t->generation};
}

tl_status tl_tape_no_memory(tl_tape *t)
{
    if (t->memory.limit)
        return tl_tape_fail(t, TL_ERR_MEMORY, "out of memory: the tape holds %zu of at most %zu bytes",
                            t->memory.held, t->memory.limit);
    return tl_tape_fail(t, TL_ERR_MEMORY, "out of memory: the tape holds %zu bytes", t->memory.held);
}

/* "layer 1, step 17", outermost first; what does not fit is left away. */
static size_t write_scope(const tl_tape *t, uint32_t scope, size_t size, char *text)
{
    const tl_scope *s = &t->scopes.entry[scope - 1];
    size_t used = s->parent ? write_scope(t, s->parent, size, text) : 0;
    if (used >= size)
        return used;
    const char *comma = used ? ", " : "";
    int more = s->index < 0 ? snprintf(text + used, size - used, "%s%s", comma, s->name)
                            : snprintf(text + used, size - used, "%s%s %lld", comma, s->name,
                                       (long long)s->index);
    return used + (size_t)(more > 0 ? more : 0);
}

void tl_scope_text(const tl_tape *t, uint32_t scope, size_t size, char *text)
{
    text[0] = 0;
    if (scope)
        write_scope(t, scope, size, text);
}

tl_status tl_tape_fail(tl_tape *t, tl_status status, const char *format, ...)
{
    if (t->error.status == TL_OK) {
        t->error.status = status;
        char scope[128];
        tl_scope_text(t, t->scopes.current, sizeof scope, scope);
        va_list arguments;
        va_start(arguments, format);
        int used = vsnprintf(t->error.message, sizeof t->error.message, format, arguments);
        va_end(arguments);
        if (scope[0] && used > 0 && (size_t)used < sizeof t->error.message)
            snprintf(t->error.message + used, sizeof t->error.message - (size_t)used, " (%s)", scope);
    }
    return status;
}

/* Doubles an array that the tape owns. */
void *tl_grow_array(tl_tape *t, void *array, uint32_t *capacity, size_t size)
{
    uint32_t larger = *capacity ? 2 * *capacity : 64;
    void *fresh = tl_memory_get(&t->memory, larger * size);
    if (!fresh) {
        tl_tape_no_memory(t);
        return NULL;
    }
    if (array)
        memcpy(fresh, array, *capacity * size);
    tl_memory_give(&t->memory, array, *capacity * size);
    *capacity = larger;
    return fresh;
}

/* A scope that cannot be kept for lack of memory poisons the tape; the depth stays right, because
 * begin and end then both do nothing. */
void tl_scope_begin(tl_tape *t, const char *name, int64_t index)
{
    if (t->error.status)
        return;
    tl_scope_list *s = &t->scopes;
    if (s->count == s->capacity) {
        tl_scope *larger = tl_grow_array(t, s->entry, &s->capacity, sizeof *s->entry);
        if (!larger)
            return;
        s->entry = larger;
    }
    s->entry[s->count++] = (tl_scope){name, index, s->current};
    s->current = s->count;
}

void tl_scope_end(tl_tape *t)
{
    if (!t->error.status && t->scopes.current)
        t->scopes.current = t->scopes.entry[t->scopes.current - 1].parent;
}

/* ---- variables and nodes ---------------------------------------------------------------- */

bool tl_id_push(tl_tape *t, tl_id_list *list, uint32_t id)
{
    if (list->count == list->capacity) {
        uint32_t *larger = tl_grow_array(t, list->id, &list->capacity, sizeof *list->id);
        if (!larger)
            return false;
        list->id = larger;
    }
    list->id[list->count++] = id;
    return true;
}

bool tl_table_extend(tl_tape *t, tl_table *table)
{
    if (table->count < table->chunks * TL_CHUNK_NODES)
        return true;
    if (table->chunks == table->capacity) {
        tl_node **larger = tl_grow_array(t, table->chunk, &table->capacity, sizeof *table->chunk);
        if (!larger)
            return false;
        table->chunk = larger;
    }
    tl_node *chunk = tl_memory_get(&t->memory, TL_CHUNK_NODES * sizeof *chunk);
    if (!chunk) {
        tl_tape_no_memory(t);
        return false;
    }
    memset(chunk, 0, TL_CHUNK_NODES * sizeof *chunk);
    table->chunk[table->chunks++] = chunk;
    return true;
}

/* Everything but a plain variable of this recording: loose ones, poison, and mistakes. */
tl_node *tl_node_unusual(tl_tape *t, tl_var v, const char *who)
{
    if (t->error.status)
        return NULL;
    if (tl_is_none(v)) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "%s: a required variable is TL_NONE", who);
        return NULL;
    }
    if (v.tape != t) {
        tl_tape_fail(t, TL_ERR_STALE, "%s: variable belongs to another tape", who);
        return NULL;
    }
    if (v.id != UINT32_MAX && (v.id & TL_LOOSE) && (v.id & ~TL_LOOSE) < t->loose.count) {
        tl_node *n = tl_node_at(t, v.id);
        if (n->generation == v.generation && n->layout)
            return tl_node_force(t, n) ? n : NULL;
        tl_tape_fail(t, TL_ERR_STALE, "%s: variable of a no-record region that has ended", who);
        return NULL;
    }
    tl_tape_fail(t, TL_ERR_STALE, "%s: variable is from before the tape was reset", who);
    return NULL;
}

const tl_layout *tl_tape_layout(tl_tape *t, const tl_layout *layout)
{
    size_t dims = (size_t)layout->ndim * sizeof(int64_t);
    uint64_t key = XXH3_64bits_withSeed(layout->shape, dims, (uint64_t)layout->ndim) ^
                   XXH3_64bits_withSeed(layout->stride, dims, 1);
    for (;; key++) { /* the next key where two hashes are alike */
        key = key ? key : 1;
        tl_layout *known = tl_map_find(&t->layouts, key);
        if (!known)
            break;
        if (known->ndim == layout->ndim && memcmp(known->shape, layout->shape, dims) == 0 &&
            memcmp(known->stride, layout->stride, dims) == 0)
            return known;
    }
    tl_layout *copy = tl_arena_get(&t->lasting, sizeof *copy);
    if (!copy) {
        tl_tape_no_memory(t);
        return NULL;
    }
    *copy = *layout;
    return tl_map_insert(t, &t->layouts, key, copy) ? copy : NULL;
}

tl_node *tl_record_value(tl_tape *t, tl_dtype dtype, const tl_layout *layout, void *data, uint32_t *id)
{
    layout = tl_tape_layout(t, layout);
    if (!layout || !tl_table_extend(t, &t->nodes))
        return NULL;
    *id = t->nodes.count++;
    tl_node *n = tl_node_at(t, *id);
    *n = (tl_node){
        .layout = layout, .data = data, .scope = t->scopes.current, .dtype = (unsigned)dtype & 3};
    return n;
}

static bool hold(tl_tape *t, tl_tensor *tensor, uint32_t id)
{
    if (t->held_count == t->held_capacity) {
        tl_held *larger = tl_grow_array(t, t->held, &t->held_capacity, sizeof *t->held);
        if (!larger)
            return false;
        t->held = larger;
    }
    t->held[t->held_count++] =
        (tl_held){.tensor = tl_tensor_retain(tensor),
                  .version = tl_tensor_version(tensor),
                  .hash = t->watch && id != UINT32_MAX ? tl_hash_numbers(tensor) : 0,
                  .id = id};
    return true;
}

static bool trap_value(tl_tape *t, const char *name, tl_array value)
{
    return !(t->observe & OBSERVE_TRAP) || tl_trap(t, name, "its value", -1, value);
}

tl_var tl_constant(tl_tape *t, tl_tensor *value)
{
    uint32_t id;
    if (t->error.status)
        return tl_poison(t);
    if (!value) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "constant: tensor is NULL");
        return tl_poison(t);
    }
    if (!tl_record_value(t, value->dtype, &value->layout, value->data, &id) || !hold(t, value, id) ||
        !trap_value(t, "constant", tl_tensor_array(value)))
        return tl_poison(t);
    return tl_var_of(t, id);
}

/* A constant with contiguous room of its own in the arena. */
static tl_node *constant_room(tl_tape *t, const char *who, tl_dtype dtype, int ndim,
                              const int64_t *shape, uint32_t *id)
{
    tl_layout layout;
    if (t->error.status)
        return NULL;
    if (tl_layout_make(&layout, ndim, shape) != TL_OK) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "%s: not a shape", who);
        return NULL;
    }
    void *data = tl_arena_get(&t->arena, (size_t)layout.count * tl_dtype_size(dtype));
    if (!data) {
        tl_tape_no_memory(t);
        return NULL;
    }
    return tl_record_value(t, dtype, &layout, data, id);
}

tl_var tl_constant_from(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape, const void *values)
{
    uint32_t id;
    tl_node *n = constant_room(t, "constant_from", dtype, ndim, shape, &id);
    if (!n)
        return tl_poison(t);
    if (n->layout->count && !values) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "constant_from: values is NULL");
        return tl_poison(t);
    }
    if (n->layout->count)
        memcpy(n->data, values, (size_t)n->layout->count * tl_dtype_size(dtype));
    if (!trap_value(t, "constant_from", tl_node_array(n)))
        return tl_poison(t);
    return tl_var_of(t, id);
}

tl_var tl_full(tl_tape *t, tl_dtype dtype, int ndim, const int64_t *shape, double value)
{
    uint32_t id;
    tl_node *n = constant_room(t, "full", dtype, ndim, shape, &id);
    if (!n)
        return tl_poison(t);
    tl_tensor view = {.data = n->data, .layout = *n->layout, .dtype = dtype};
    tl_tensor_fill(&view, value);
    if ((t->observe & OBSERVE_TRAP) && !tl_trap(t, "full", "its value", -1, tl_node_array(n)))
        return tl_poison(t);
    return tl_var_of(t, id);
}

static tl_var new_leaf(tl_tape *t, tl_tensor *value, tl_tensor *gradient, bool wants)
{
    uint32_t id;
    tl_leaf_info *leaf = tl_arena_get(&t->lasting, sizeof *leaf);
    if (!leaf) {
        tl_tape_no_memory(t);
        return tl_poison(t);
    }
    *leaf = (tl_leaf_info){.value = value, .gradient = gradient, .version = tl_tensor_version(value)};
    tl_node *n = tl_record_value(t, value->dtype, &value->layout, value->data, &id);
    if (!n || !hold(t, value, id) || (gradient && !hold(t, gradient, UINT32_MAX)) ||
        !trap_value(t, "leaf", tl_tensor_array(value)))
        return tl_poison(t);
    n->leaf = leaf;
    n->flags = wants ? NODE_NEEDS_GRADIENT : 0;
    return tl_var_of(t, id);
}

static bool leaf_fits(tl_tape *t, const tl_tensor *value, const tl_tensor *gradient)
{
    if (t->error.status)
        return false;
    if (!value)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "leaf: tensor is NULL");
    else if (!tl_dtype_is_real(value->dtype))
        tl_tape_fail(t, TL_ERR_DTYPE, "leaf: only reals have derivatives, not %s",
                     tl_dtype_name(value->dtype));
    else if (gradient && (gradient->dtype != value->dtype || !gradient->layout.contiguous ||
                          !tl_layout_same_shape(&gradient->layout, &value->layout))) {
        char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
        tl_tape_fail(t, TL_ERR_SHAPE,
                     "leaf: value %s %s needs a contiguous gradient like it, not %s %s",
                     tl_dtype_name(value->dtype), tl_layout_text(&value->layout, a),
                     tl_dtype_name(gradient->dtype), tl_layout_text(&gradient->layout, b));
    }
    return t->error.status == TL_OK;
}

static uint64_t key_of(const tl_tensor *tensor)
{
    return (uint64_t)(uintptr_t)tensor;
}

/* A known leaf whose numbers are no longer those that were recorded: some of the tape's results belong
 * to the old ones, and so may a copy in another layout. */
static tl_var known_leaf(tl_tape *t, uint32_t id)
{
    const tl_leaf_info *leaf = tl_node_at(t, id)->leaf;
    char shape[TL_LAYOUT_TEXT];
    if (leaf->version == tl_tensor_version(leaf->value))
        return tl_var_of(t, id);
    tl_tape_fail(
        t, TL_ERR_CHANGED,
        "leaf: the numbers of %s %s were changed since it was recorded; reset the tape before it "
        "is used again",
        leaf->name ? leaf->name : "a tensor", tl_layout_text(&leaf->value->layout, shape));
    return tl_poison(t);
}

static tl_var tied_leaf(tl_tape *t, tl_tensor *value, tl_tensor *gradient, bool wants)
{
    uintptr_t known = (uintptr_t)tl_map_find(&t->leaves, key_of(value));
    if (known)
        return known_leaf(t, (uint32_t)(known - 1));
    tl_var v = new_leaf(t, value, gradient, wants);
    if (!t->error.status && !tl_map_insert(t, &t->leaves, key_of(value), (void *)((uintptr_t)v.id + 1)))
        return tl_poison(t);
    return v;
}

/* One more use of an untied tensor. */
static tl_var untied_use(tl_tape *t, tl_tensor *value)
{
    if (t->again != UINT32_MAX) {
        tl_tape_fail(
            t, TL_ERR_ARGUMENT,
            "untie: a use within a stretch that is recorded again would be forgotten with it, and its "
            "gradient too; record the steps plainly");
        return tl_poison(t);
    }
    tl_var v = new_leaf(t, value, NULL, true);
    if (t->error.status)
        return v;
    if (t->untied_count == t->untied_capacity) {
        tl_untied_use *larger =
            tl_grow_array(t, t->untied_uses, &t->untied_capacity, sizeof *t->untied_uses);
        if (!larger)
            return tl_poison(t);
        t->untied_uses = larger;
    }
    t->untied_uses[t->untied_count++] = (tl_untied_use){value, v.id};
    return v;
}

tl_var tl_leaf(tl_tape *t, tl_tensor *value, tl_tensor *gradient)
{
    if (!leaf_fits(t, value, gradient))
        return tl_poison(t);
    if (t->untied.count && tl_map_find(&t->untied, key_of(value)))
        return untied_use(t, value);
    return tied_leaf(t, value, gradient, true);
}

tl_var tl_leaf_frozen(tl_tape *t, tl_tensor *value)
{
    return leaf_fits(t, value, NULL) ? tied_leaf(t, value, NULL, false) : tl_poison(t);
}

tl_var tl_leaf_untied(tl_tape *t, tl_tensor *value)
{
    return leaf_fits(t, value, NULL) ? new_leaf(t, value, NULL, true) : tl_poison(t);
}

tl_status tl_untie(tl_tape *t, const tl_tensor *value)
{
    if (t->error.status)
        return t->error.status;
    if (!value)
        return tl_tape_fail(t, TL_ERR_ARGUMENT, "untie: tensor is NULL");
    if (tl_map_find(&t->leaves, key_of(value)))
        return tl_tape_fail(t, TL_ERR_ARGUMENT,
                            "untie: the tensor is on the tape already; untie it before its first use");
    tl_map_insert(t, &t->untied, key_of(value), t);
    return t->error.status;
}

bool tl_is_untied(const tl_tape *t, const tl_tensor *value)
{
    return t->untied.count && tl_map_find(&t->untied, key_of(value)) != NULL;
}

int64_t tl_untied_uses(tl_tape *t, const tl_tensor *value, int64_t most, tl_var *uses)
{
    int64_t count = 0;
    for (uint32_t k = 0; k < t->untied_count; k++)
        if (t->untied_uses[k].tensor == value) {
            if (count < most)
                uses[count] = tl_var_of(t, t->untied_uses[k].id);
            count++;
        }
    return count;
}

/* ---- reading ---------------------------------------------------------------------------- */

tl_array tl_value(tl_tape *t, tl_var v)
{
    tl_node *n = tl_node_of(t, v, "value");
    return n ? tl_node_array(n) : (tl_array){0};
}

tl_tensor *tl_value_copy(tl_tape *t, tl_var v)
{
    tl_node *n = tl_node_of(t, v, "value_copy");
    if (!n)
        return NULL;
    tl_tensor view = {.data = n->data, .layout = *n->layout, .dtype = (tl_dtype)n->dtype};
    tl_tensor *copy = tl_tensor_copy(&view, view.dtype, NULL);
    if (!copy)
        tl_tape_no_memory(t);
    return copy;
}

double tl_item(tl_tape *t, tl_var v)
{
    tl_node *n = tl_node_of(t, v, "item");
    if (!n)
        return NAN;
    if (n->layout->count != 1) {
        char shape[TL_LAYOUT_TEXT];
        tl_tape_fail(t, TL_ERR_SHAPE, "item: wants one element, not %s",
                     tl_layout_text(n->layout, shape));
        return NAN;
    }
    tl_tensor view = {.data = n->data, .layout = *n->layout, .dtype = (tl_dtype)n->dtype};
    return tl_tensor_get(&view, 0);
}

bool tl_needs_gradient(tl_tape *t, tl_var v)
{
    tl_node *n = tl_node_of(t, v, "needs_gradient");
    return n && (n->flags & NODE_NEEDS_GRADIENT);
}

void *tl_scratch(tl_tape *t, size_t bytes)
{
    void *room = t->error.status ? NULL : tl_arena_get(&t->arena, bytes);
    if (!room)
        tl_tape_no_memory(t);
    return room;
}

tl_tape_usage tl_tape_measure(const tl_tape *t)
{
    size_t chunks = (size_t)(t->nodes.chunks + t->loose.chunks) * TL_CHUNK_NODES;
    return (tl_tape_usage){.variables = t->nodes.count,
                           .live = t->memory.live + (t->nodes.count + t->loose.count) * sizeof(tl_node),
                           .peak = t->memory.peak + chunks * sizeof(tl_node),
                           .held = t->memory.held,
                           .system_calls = t->memory.system_calls};
}

tl_random *tl_tape_random(tl_tape *t)
{
    return &t->random;
}

const char *tl_tape_kernels(const tl_tape *t)
{
    return t->blas->kernels;
}
