#include "nn/param.h"

#include "autograd/inspect.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "tensor/arena.h"
#include "tensor/io_safetensors.h"
#include "tensor/kernels.h"

tl_params *tl_params_new(tl_dtype dtype, uint64_t seed)
{
    tl_params *params = tl_system_get(sizeof *params);
    if (params)
        *params = (tl_params){.dtype = dtype, .random = tl_random_seed(seed)};
    return params;
}

static void free_param(tl_param *param)
{
    if (!param)
        return;
    tl_tensor_release(param->value);
    tl_tensor_release(param->gradient);
    tl_system_give(param->name);
    tl_system_give(param);
}

void tl_params_free(tl_params *params)
{
    if (!params)
        return;
    for (int i = 0; i < params->count; i++)
        free_param(params->entry[i]);
    tl_system_give(params->entry);
    tl_system_give(params);
}

static tl_param *new_param(const tl_params *params, const char *prefix, const char *name, int ndim,
                           const int64_t *shape, tl_error *error)
{
    size_t length = strlen(prefix) + strlen(name) + 1;
    tl_param *param = tl_system_get(sizeof *param);
    if (!param)
        return NULL;
    *param = (tl_param){.name = tl_system_get(length),
                        .value = tl_tensor_zeros(params->dtype, ndim, shape, error),
                        .gradient = tl_tensor_zeros(params->dtype, ndim, shape, error)};
    if (!param->name || !param->value || !param->gradient) {
        free_param(param);
        return NULL;
    }
    snprintf(param->name, length, "%s%s", prefix, name);
    return param;
}

static bool make_room(tl_params *params)
{
    if (params->count < params->capacity)
        return true;
    int capacity = params->capacity ? 2 * params->capacity : 16;
    tl_param **larger = tl_system_get((size_t)capacity * sizeof *larger);
    if (!larger)
        return false;
    if (params->count)
        memcpy(larger, params->entry, (size_t)params->count * sizeof *larger);
    tl_system_give(params->entry);
    params->entry = larger;
    params->capacity = capacity;
    return true;
}

tl_param *tl_params_add(tl_params *params, const char *prefix, const char *name, int ndim,
                        const int64_t *shape)
{
    if (params->error.status != TL_OK)
        return NULL;
    tl_param *param =
        make_room(params) ? new_param(params, prefix, name, ndim, shape, &params->error) : NULL;
    if (!param) {
        tl_fail(&params->error, TL_ERR_MEMORY, "parameter %s%s: out of memory", prefix, name);
        return NULL;
    }
    if (tl_params_find(params, param->name)) {
        tl_fail(&params->error, TL_ERR_ARGUMENT, "parameter %s exists already", param->name);
        free_param(param);
        return NULL;
    }
    params->entry[params->count++] = param;
    return param;
}

tl_status tl_params_status(const tl_params *params)
{
    return params->error.status;
}

tl_param *tl_params_find(const tl_params *params, const char *name)
{
    for (int i = 0; i < params->count; i++)
        if (strcmp(params->entry[i]->name, name) == 0)
            return params->entry[i];
    return NULL;
}

int64_t tl_params_elements(const tl_params *params)
{
    int64_t elements = 0;
    for (int i = 0; i < params->count; i++)
        elements += params->entry[i]->value->layout.count;
    return elements;
}

tl_var tl_use(tl_tape *t, const tl_param *param)
{
    if (param) {
        tl_var v =
            param->frozen ? tl_leaf_frozen(t, param->value) : tl_leaf(t, param->value, param->gradient);
        tl_name(t, v, param->name);
        return v;
    }
    tl_tape_fail(t, TL_ERR_ARGUMENT,
                 "parameter is NULL: the model was not built, see tl_params_status");
    return tl_poison(t);
}

/* ---- gradients -------------------------------------------------------------------------- */

void tl_zero_gradients(tl_params *params)
{
    for (int i = 0; i < params->count; i++) {
        tl_tensor *g = params->entry[i]->gradient;
        memset(g->data, 0, (size_t)g->layout.count * tl_dtype_size(g->dtype));
        tl_tensor_touch(g);
    }
}

double tl_gradient_norm(const tl_params *params)
{
    double squares = 0;
    for (int i = 0; i < params->count; i++) {
        const tl_tensor *g = params->entry[i]->gradient;
        if (!params->entry[i]->frozen)
            squares += tl_sum_squares(g->dtype, g->layout.count, g->data);
    }
    return sqrt(squares);
}

/* ---- files ------------------------------------------------------------------------------ */

tl_status tl_params_save(const tl_params *params, const char *path, int metadata_count,
                         const char *const *metadata, tl_error *error)
{
    tl_named_tensor *entries = tl_system_get((size_t)params->count * sizeof *entries);
    if (!entries)
        return tl_fail(error, TL_ERR_MEMORY, "%s: out of memory", path);
    for (int i = 0; i < params->count; i++)
        entries[i] = (tl_named_tensor){params->entry[i]->name, params->entry[i]->value};
    tl_status status =
        tl_safetensors_save(path, params->count, entries, metadata_count, metadata, error);
    tl_system_give(entries);
    return status;
}

/* Collects complaints; what does not fit the message is counted. */
typedef struct complaints {
    char text[TL_MESSAGE_SIZE - 128];
    size_t used;
    int count, left_out;
} complaints;

TL_PRINTF(2, 3) static void complain(complaints *c, const char *format, ...)
{
    char one[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(one, sizeof one, format, arguments);
    va_end(arguments);
    c->count++;
    if (length < 0 || c->used + (size_t)length + 3 > sizeof c->text) {
        c->left_out++;
        return;
    }
    c->used +=
        (size_t)snprintf(c->text + c->used, sizeof c->text - c->used, "%s%s", c->used ? "; " : "", one);
}

static void compare(const tl_params *params, const tl_tensor_file *file, complaints *c)
{
    char have[TL_LAYOUT_TEXT], want[TL_LAYOUT_TEXT];
    for (int i = 0; i < params->count; i++) {
        const tl_param *p = params->entry[i];
        const tl_tensor *stored = tl_tensor_file_find(file, p->name);
        if (!stored)
            complain(c, "%s is missing", p->name);
        else if (!tl_layout_same_shape(&stored->layout, &p->value->layout) ||
                 !tl_dtype_is_real(stored->dtype))
            complain(c, "%s is %s %s in the file, %s here", p->name, tl_dtype_name(stored->dtype),
                     tl_layout_text(&stored->layout, have), tl_layout_text(&p->value->layout, want));
    }
    for (int i = 0; i < file->count; i++)
        if (!tl_params_find(params, file->entries[i].name))
            complain(c, "%s is unknown", file->entries[i].name);
}

tl_status tl_params_load(tl_params *params, const char *path, tl_error *error)
{
    tl_tensor_file file;
    tl_status status = tl_safetensors_load(path, &file, error);
    if (status != TL_OK)
        return status;
    complaints c = {.count = 0};
    compare(params, &file, &c);
    if (c.left_out)
        status = tl_fail(error, TL_ERR_FORMAT, "%s does not fit the model: %s; and %d more", path,
                         c.text, c.left_out);
    else if (c.count)
        status = tl_fail(error, TL_ERR_FORMAT, "%s does not fit the model: %s", path, c.text);
    for (int i = 0; status == TL_OK && i < params->count; i++)
        status = tl_tensor_assign(params->entry[i]->value,
                                  tl_tensor_file_find(&file, params->entry[i]->name), error);
    tl_tensor_file_free(&file);
    return status;
}
