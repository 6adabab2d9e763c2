/* hooks.c - a hand in the way back: gradients seen or replaced, edges along which none passes. */
#include "autograd/tape_impl.h"

static uint64_t node_key(uint32_t id)
{
    return (uint64_t)id + 1;
}

static uint64_t edge_key(uint32_t id, int operand)
{
    return node_key(id) << 20 | (uint64_t)operand;
}

static tl_node *recorded_node(tl_tape *t, tl_var v, const char *who)
{
    tl_node *n = tl_node_of(t, v, who);
    if (n && (v.id & TL_LOOSE)) {
        tl_tape_fail(t, TL_ERR_ARGUMENT, "%s: the variable was not recorded", who);
        return NULL;
    }
    return n;
}

void tl_hook_gradient(tl_tape *t, tl_var v, tl_hook *hook, void *context)
{
    tl_node *n = recorded_node(t, v, "hook_gradient");
    if (!n)
        return;
    tl_hook_entry *entry = tl_arena_get(&t->lasting, sizeof *entry);
    if (!entry) {
        tl_tape_no_memory(t);
        return;
    }
    *entry = (tl_hook_entry){hook, context, NULL};
    tl_hook_entry *last = tl_map_find(&t->hooks, node_key(v.id));
    while (last && last->next)
        last = last->next;
    if (last)
        last->next = entry;
    else if (!tl_map_insert(t, &t->hooks, node_key(v.id), entry))
        return;
    n->flags |= NODE_HOOKED;
}

tl_var tl_run_hooks(tl_tape *t, uint32_t id, tl_var g)
{
    char a[TL_LAYOUT_TEXT], b[TL_LAYOUT_TEXT];
    for (const tl_hook_entry *h = tl_map_find(&t->hooks, node_key(id)); h; h = h->next) {
        const tl_node *old = tl_node_of(t, g, "hook");
        tl_var made = old ? h->function(t, tl_var_of(t, id), g, h->context) : TL_NONE;
        if (t->error.status)
            return g;
        if (tl_is_none(made))
            continue;
        const tl_node *n = tl_node_of(t, made, "hook");
        if (!n)
            return g;
        if (!tl_layout_same_shape(n->layout, old->layout) || n->dtype != old->dtype) {
            tl_tape_fail(t, TL_ERR_SHAPE, "hook: returned a gradient %s %s for one of %s %s",
                         tl_dtype_name((tl_dtype)n->dtype), tl_layout_text(n->layout, a),
                         tl_dtype_name((tl_dtype)old->dtype), tl_layout_text(old->layout, b));
            return g;
        }
        g = made;
    }
    return g;
}

void tl_stop_edge(tl_tape *t, tl_var v, int operand)
{
    tl_node *n = recorded_node(t, v, "stop_edge");
    if (!n)
        return;
    if (operand < 0 || operand >= (int)n->count) {
        tl_tape_fail(t, TL_ERR_INDEX, "stop_edge: %s has %d operands, there is none of number %d",
                     n->op ? n->op->name : "a leaf or constant", (int)n->count, operand);
        return;
    }
    if (tl_map_insert(t, &t->stopped, edge_key(v.id, operand), t))
        n->flags |= NODE_CUT;
}

bool tl_is_stopped(const tl_tape *t, uint32_t id, int operand)
{
    return tl_map_find(&t->stopped, edge_key(id, operand)) != NULL;
}
