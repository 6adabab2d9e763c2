#include "nn/data.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tensor/arena.h"

/* ---- reading ---------------------------------------------------------------------------- */

enum { FIRST_ROOM = 1 << 16 }; /* bytes; doubled as long as there is more to read */

static bool make_room(tl_text *text, int64_t *room)
{
    if (text->count < *room)
        return true;
    int64_t larger = *room ? 2 * *room : FIRST_ROOM;
    uint8_t *byte = tl_system_get((size_t)larger);
    if (!byte)
        return false;
    if (text->count)
        memcpy(byte, text->byte, (size_t)text->count);
    tl_system_give(text->byte);
    text->byte = byte;
    *room = larger;
    return true;
}

static tl_status read_all(tl_text *text, FILE *file, const char *path, int64_t limit, tl_error *error)
{
    int64_t room = 0;
    while (limit <= 0 || text->count < limit) {
        if (!make_room(text, &room))
            return tl_fail(error, TL_ERR_MEMORY, "%.300s: out of memory after %lld bytes", path,
                           (long long)text->count);
        int64_t wanted = limit > 0 && limit < room ? limit : room;
        size_t got = fread(text->byte + text->count, 1, (size_t)(wanted - text->count), file);
        text->count += (int64_t)got;
        if (got == 0)
            break;
    }
    if (ferror(file))
        return tl_fail(error, TL_ERR_IO, "%.300s: cannot be read: %s", path, strerror(errno));
    if (text->count == 0)
        return tl_fail(error, TL_ERR_FORMAT, "%.300s: is empty", path);
    return TL_OK;
}

tl_status tl_text_read(tl_text *text, const char *path, int64_t limit, tl_error *error)
{
    *text = (tl_text){.count = 0};
    FILE *file = fopen(path, "rbe");
    if (!file)
        return tl_fail(error, TL_ERR_IO, "%.300s: cannot be opened: %s", path, strerror(errno));
    tl_status status = read_all(text, file, path, limit, error);
    fclose(file);
    if (status != TL_OK)
        tl_text_free(text);
    return status;
}

void tl_text_free(tl_text *text)
{
    tl_system_give(text->byte);
    *text = (tl_text){.count = 0};
}

/* ---- vocabulary ------------------------------------------------------------------------- */

static void number_bytes(tl_vocabulary *v, const bool occurs[256])
{
    v->size = 0;
    for (int b = 0; b < 256; b++) {
        v->code[b] = occurs[b] ? (int16_t)v->size : -1;
        if (occurs[b])
            v->byte[v->size++] = (uint8_t)b;
    }
}

void tl_vocabulary_of(tl_vocabulary *v, int64_t count, const uint8_t *byte)
{
    bool occurs[256] = {false};
    for (int64_t i = 0; i < count; i++)
        occurs[byte[i]] = true;
    number_bytes(v, occurs);
}

tl_status tl_vocabulary_encode(const tl_vocabulary *v, int64_t count, uint8_t *byte, tl_error *error)
{
    for (int64_t i = 0; i < count; i++)
        if (v->code[byte[i]] < 0) {
            char quoted[] = {' ', '\'', (char)byte[i], '\'', '\0'};
            bool printable = byte[i] > ' ' && byte[i] < 127;
            return tl_fail(error, TL_ERR_INDEX,
                           "byte %lld is 0x%02x%s, which is not in the vocabulary of %d", (long long)i,
                           byte[i], printable ? quoted : "", v->size);
        }
    for (int64_t i = 0; i < count; i++)
        byte[i] = (uint8_t)v->code[byte[i]];
    return TL_OK;
}

static const char digits[] = "0123456789abcdef";

const char *tl_vocabulary_text(const tl_vocabulary *v, char text[TL_VOCABULARY_TEXT])
{
    char *next = text;
    for (int i = 0; i < v->size; i++) {
        *next++ = digits[v->byte[i] >> 4];
        *next++ = digits[v->byte[i] & 15];
    }
    *next = '\0';
    return text;
}

static int digit_value(char c) /* -1: not a digit */
{
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

tl_status tl_vocabulary_parse(tl_vocabulary *v, const char *text, tl_error *error)
{
    bool occurs[256] = {false};
    int previous = -1;
    for (const char *c = text; *c; c += 2) {
        int high = digit_value(c[0]), low = high < 0 ? -1 : digit_value(c[1]);
        int byte = 16 * high + low;
        if (low < 0 || byte <= previous)
            return tl_fail(error, TL_ERR_FORMAT,
                           "not a vocabulary: ascending bytes in hexadecimal, not '%.20s'", c);
        occurs[byte] = true;
        previous = byte;
    }
    if (previous < 0)
        return tl_fail(error, TL_ERR_FORMAT, "not a vocabulary: it is empty");
    number_bytes(v, occurs);
    return TL_OK;
}

/* ---- streams ---------------------------------------------------------------------------- */

tl_streams tl_streams_of(int64_t count, const uint8_t *code, int64_t batch)
{
    return (tl_streams){.code = code, .batch = batch, .steps = count > 0 ? (count - 1) / batch : 0};
}

/* Steps from+ahead..to+ahead-1. */
static tl_var read_streams(tl_tape *t, const tl_streams *s, int64_t from, int64_t to, int64_t ahead)
{
    if (from < 0 || to <= from || to > s->steps) {
        tl_tape_fail(t, TL_ERR_INDEX, "streams: steps %lld..%lld of %lld", (long long)from,
                     (long long)to - 1, (long long)s->steps);
        return tl_poison(t);
    }
    int64_t steps = to - from;
    int64_t *index = tl_scratch(t, (size_t)(steps * s->batch) * sizeof *index); /* [T,B] */
    if (!index)
        return tl_poison(t);
    for (int64_t b = 0; b < s->batch; b++) {
        const uint8_t *stream = s->code + b * s->steps + from + ahead;
        for (int64_t step = 0; step < steps; step++)
            index[step * s->batch + b] = stream[step];
    }
    return tl_constant_from(t, TL_I64, TL_SHAPE(steps, s->batch), index);
}

tl_var tl_streams_inputs(tl_tape *t, const tl_streams *streams, int64_t from, int64_t to)
{
    return read_streams(t, streams, from, to, 0);
}

tl_var tl_streams_targets(tl_tape *t, const tl_streams *streams, int64_t from, int64_t to)
{
    return read_streams(t, streams, from, to, 1);
}
