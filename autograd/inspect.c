/* inspect.c - a tape's variables, one by one. */
#include "autograd/inspect.h"

#include "autograd/tape_impl.h"

static uint64_t name_key(uint32_t id)
{
    return (uint64_t)id + 1;
}

static bool is_view(const tl_op *op)
{
    return op && !op->forward && !op->kernel;
}

uint32_t tl_tape_count(const tl_tape *t)
{
    return t->nodes.count;
}

tl_var tl_tape_at(tl_tape *t, uint32_t index)
{
    return index < t->nodes.count ? tl_var_of(t, index) : tl_poison(t);
}

uint32_t tl_tape_index(const tl_tape *t, tl_var v)
{
    return v.tape == t && v.generation == t->generation && v.id < t->nodes.count ? v.id : UINT32_MAX;
}

static const char *kind_of(const tl_node *n)
{
    return n->op                            ? n->op->name
           : n->flags & NODE_NEEDS_GRADIENT ? "leaf"
           : n->leaf                        ? "frozen"
                                            : "constant";
}

tl_status tl_inspect(tl_tape *t, tl_var v, tl_node_info *info)
{
    const tl_node *n = tl_node_of(t, v, "inspect");
    *info = (tl_node_info){.op = ""};
    if (!n)
        return t->error.status;
    *info = (tl_node_info){.op = kind_of(n),
                           .inputs = (int)n->count,
                           .dtype = (tl_dtype)n->dtype,
                           .layout = n->layout,
                           .rule = n->op,
                           .attr = n->op ? n->attr : NULL,
                           .needs_gradient = n->flags & NODE_NEEDS_GRADIENT,
                           .walked = n->flags & NODE_CONSUMED};
    if (!is_view(n->op))
        info->bytes = (size_t)n->layout->count * tl_dtype_size(info->dtype);
    info->name = n->op || !n->leaf ? tl_map_find(&t->names, name_key(v.id)) : n->leaf->name;
    tl_scope_text(t, n->scope, sizeof info->scope, info->scope);
    return TL_OK;
}

tl_var tl_input(tl_tape *t, tl_var v, int k)
{
    const tl_node *n = tl_node_of(t, v, "input");
    return n && k >= 0 && k < (int)n->count ? tl_var_of(t, tl_node_inputs(n)[k]) : TL_NONE;
}

/* A leaf's name stands in the leaf: naming a parameter at every use costs nothing. */
void tl_name(tl_tape *t, tl_var v, const char *name)
{
    tl_node *n = tl_node_of(t, v, "name");
    if (!n)
        return;
    if (!n->op && n->leaf)
        ((tl_leaf_info *)(uintptr_t)n->leaf)->name = name;
    else
        tl_map_insert(t, &t->names, name_key(v.id), (void *)(uintptr_t)name);
}

void tl_keep_gradients(tl_tape *t)
{
    for (uint32_t id = 0; id < t->nodes.count; id++)
        if (tl_node_at(t, id)->flags & NODE_NEEDS_GRADIENT)
            tl_node_at(t, id)->flags |= NODE_KEEP;
}
