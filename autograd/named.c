/* named.c - the one line in which an op names its constants, read in both directions. */
#include "autograd/named.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "autograd/tape_impl.h"

/* ---- one entry of the line -------------------------------------------------------------- */

typedef struct field {
    char name[32];
    char kind;      /* 'i', 'f', or 'b': the flag */
    int first;      /* of i or f; the bit of the flag, -1: all of it */
    int count;      /* how many; -1: a list of its own length */
    char words[96]; /* "mean,sum,none"; "": none */
} field;

/* Reads the entry at *line and moves on; false at the end. */
static bool next_field(const char **line, field *f)
{
    char place[96];
    int used = 0;
    *f = (field){.count = 1};
    if (!*line || sscanf(*line, " %31[^=]=%95s%n", f->name, place, &used) != 2)
        return false;
    *line += used;
    if (strncmp(place, "flag", 4) == 0) {
        f->kind = 'b';
        f->first = -1;
        if (place[4] == '.')
            sscanf(place + 5, "%d", &f->first);
        else if (place[4] == ':')
            snprintf(f->words, sizeof f->words, "%s", place + 5);
        return true;
    }
    char star = 0;
    f->kind = place[0];
    if (sscanf(place + 1, "%d:%d", &f->first, &f->count) < 1)
        star = place[1];
    else
        sscanf(place + 1, "%*d%c", &star);
    if (star == '*')
        f->count = -1;
    return true;
}

/* Word number `index` of "mean,sum,none" into `word`; false when there are fewer. */
static bool word_at(const char *words, int index, char word[64])
{
    const char *at = words;
    for (; index > 0 && at; index--)
        at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
    if (!at)
        return false;
    snprintf(word, 64, "%.*s", (int)strcspn(at, ","), at);
    return true;
}

/* ---- reading ---------------------------------------------------------------------------- */

static bool read_flag(const field *f, const json_t *value, tl_attr *attr)
{
    char word[64];
    if (f->words[0]) {
        for (int k = 0; json_is_string(value) && word_at(f->words, k, word); k++)
            if (strcmp(word, json_string_value(value)) == 0) {
                attr->flag = k;
                return true;
            }
        return false;
    }
    if (f->first < 0 && json_is_integer(value))
        attr->flag = (int32_t)json_integer_value(value);
    else if (json_is_boolean(value) && json_is_true(value))
        attr->flag |= 1 << (f->first < 0 ? 0 : f->first);
    return json_is_boolean(value) || (f->first < 0 && json_is_integer(value));
}

static bool read_integers(const field *f, const json_t *value, tl_attr *attr)
{
    if (f->count == 1 && json_is_integer(value)) {
        attr->i[f->first] = json_integer_value(value);
        return true;
    }
    size_t n = json_array_size(value);
    if (!json_is_array(value) || (f->count >= 0 && n != (size_t)f->count) ||
        n + (size_t)f->first > TL_MAX_DIMS)
        return false;
    for (size_t k = 0; k < n; k++) {
        if (!json_is_integer(json_array_get(value, k)))
            return false;
        attr->i[(size_t)f->first + k] = json_integer_value(json_array_get(value, k));
    }
    if (f->count < 0)
        attr->n = (int32_t)n;
    return true;
}

/* JSON has no numbers that are not finite: they are words. */
static bool read_real(const json_t *value, double *x)
{
    static const struct {
        const char *word;
        double value;
    } words[] = {{"inf", (double)INFINITY}, {"-inf", -(double)INFINITY}, {"nan", (double)NAN}};
    *x = json_number_value(value);
    for (int k = 0; k < 3 && json_is_string(value); k++)
        if (strcmp(json_string_value(value), words[k].word) == 0) {
            *x = words[k].value;
            return true;
        }
    return json_is_number(value);
}

static bool read_field(const field *f, const json_t *value, tl_attr *attr)
{
    if (f->kind == 'b')
        return read_flag(f, value, attr);
    if (f->kind == 'i')
        return read_integers(f, value, attr);
    return read_real(value, &attr->f[f->first]);
}

static const char *wanted(const field *f, char text[128])
{
    if (f->kind == 'b')
        snprintf(text, 128, "%s%s", f->words[0] ? "one of " : "true or false", f->words);
    else if (f->kind == 'f')
        snprintf(text, 128, "a number");
    else if (f->count == 1)
        snprintf(text, 128, "an integer");
    else if (f->count < 0)
        snprintf(text, 128, "a list of at most %d integers", TL_MAX_DIMS - f->first);
    else
        snprintf(text, 128, "a list of %d integers", f->count);
    return text;
}

static bool is_known(const tl_op *op, const char *name)
{
    const char *line = op->attributes;
    field f;
    while (next_field(&line, &f))
        if (strcmp(f.name, name) == 0)
            return true;
    return false;
}

/* What n is where it is no list's length: the entries of i up to the last one that has a name. */
static int32_t given(const tl_op *op)
{
    const char *line = op->attributes;
    int last = 0;
    field f;
    while (next_field(&line, &f))
        if (f.kind == 'i' && f.first + f.count > last)
            last = f.first + f.count;
    return last;
}

static tl_status read_all(const tl_op *op, json_t *object, tl_attr *attr, tl_error *error)
{
    const char *line = op->attributes, *name;
    char text[128];
    field f;
    json_t *value;
    attr->n = given(op);
    while (next_field(&line, &f)) {
        value = json_object_get(object, f.name);
        if (!value)
            return tl_fail(error, TL_ERR_ARGUMENT, "%s: constant \"%s\" is missing: %s", op->name,
                           f.name, wanted(&f, text));
        if (!read_field(&f, value, attr))
            return tl_fail(error, TL_ERR_ARGUMENT, "%s: constant \"%s\" wants %s", op->name, f.name,
                           wanted(&f, text));
    }
    json_object_foreach(object, name, value) if (!is_known(op, name)) return tl_fail(
        error, TL_ERR_ARGUMENT, "%s: there is no constant \"%s\"; it has: %s", op->name, name,
        op->attributes ? op->attributes : "none");
    return TL_OK;
}

tl_status tl_attr_from_json(const tl_op *op, const char *json, tl_attr *attr, tl_error *error)
{
    json_error_t where;
    *attr = (tl_attr){0};
    json_t *object = json_loads(json ? json : "{}", 0, &where);
    if (!json_is_object(object)) {
        json_decref(object);
        return tl_fail(error, TL_ERR_ARGUMENT, "%s: constants are not a JSON object: %s", op->name,
                       json);
    }
    tl_status status = read_all(op, object, attr, error);
    json_decref(object);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------- */

static json_t *real_of(double x)
{
    if (isfinite(x))
        return json_real(x);
    return json_string(isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
}

static json_t *field_value(const field *f, const tl_attr *attr)
{
    char word[64];
    if (f->kind == 'b' && f->words[0])
        return word_at(f->words, attr->flag, word) ? json_string(word) : json_integer(attr->flag);
    if (f->kind == 'b')
        return json_boolean(attr->flag >> (f->first < 0 ? 0 : f->first) & 1);
    if (f->kind == 'f')
        return real_of(attr->f[f->first]);
    if (f->count == 1)
        return json_integer(attr->i[f->first]);
    json_t *list = json_array();
    for (int k = 0; k < (f->count < 0 ? attr->n : f->count); k++)
        json_array_append_new(list, json_integer(attr->i[f->first + k]));
    return list;
}

const char *tl_attr_to_json(const tl_op *op, const tl_attr *attr, size_t size, char *text)
{
    const char *line = op->attributes;
    json_t *object = json_object();
    field f;
    while (next_field(&line, &f))
        json_object_set_new(object, f.name, field_value(&f, attr));
    char *whole = json_dumps(object, JSON_REAL_PRECISION(17));
    snprintf(text, size, "%s", whole ? whole : "{}");
    free(whole);
    json_decref(object);
    return text;
}

/* ---- the ops ---------------------------------------------------------------------------- */

tl_status tl_op_describe(int index, tl_op_info *info)
{
    const tl_op *op = tl_op_at(index);
    if (!op)
        return TL_ERR_INDEX;
    bool none = op->kind == TL_NOT_DIFFERENTIABLE || op->mask_result;
    *info = (tl_op_info){.name = op->name,
                         .equation = op->equation,
                         .attributes = op->attributes ? op->attributes : "",
                         .least = op->least,
                         .most = op->most,
                         .differentiable = none           ? 0
                                           : op->backward ? 2
                                                          : 1};
    return TL_OK;
}

int tl_var_shape(tl_tape *t, tl_var v, int64_t *shape, int *dtype)
{
    tl_array x = tl_value(t, v);
    if (!x.layout)
        return -1;
    memcpy(shape, x.layout->shape, (size_t)x.layout->ndim * sizeof *shape);
    if (dtype)
        *dtype = (int)x.dtype;
    return x.layout->ndim;
}

tl_status tl_var_read(tl_tape *t, tl_var v, int64_t count, double *numbers)
{
    tl_array x = tl_value(t, v);
    if (!x.layout)
        return tl_tape_status(t);
    if (x.layout->count != count)
        return tl_tape_fail(t, TL_ERR_SHAPE, "var_read: room for %lld elements, there are %lld",
                            (long long)count, (long long)x.layout->count);
    tl_tensor view = {.data = x.data, .layout = *x.layout, .dtype = x.dtype};
    for (int64_t i = 0; i < count; i++)
        numbers[i] = tl_tensor_get(&view, i);
    return TL_OK;
}

tl_var tl_apply_named(tl_tape *t, const char *name, int count, const tl_var *in, const char *json)
{
    const tl_op *op = tl_op_find(name);
    tl_error error = {0};
    tl_attr attr;
    if (tl_tape_status(t) != TL_OK)
        return tl_poison(t);
    if (!op)
        tl_tape_fail(t, TL_ERR_ARGUMENT, "there is no op called \"%s\"", name);
    else if (tl_attr_from_json(op, json, &attr, &error) != TL_OK)
        tl_tape_fail(t, error.status, "%s", error.message);
    else
        return tl_apply(t, op, count, in, &attr);
    return tl_poison(t);
}
