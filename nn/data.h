/* data.h - from a text to what a recurrent network reads.
 *
 *     file ---> bytes ---> codes 0..V-1 ---> B streams, read side by side
 *
 *     codes     t h e   c a t   s a t ...                    B = 2 streams of 5 steps
 *
 *               step      0  1  2  3  4
 *     inputs    stream 0  t  h  e     c
 *               stream 1  a  t     s  a
 *     targets   stream 0  h  e     c  a      what comes next
 *               stream 1  t     s  a  t
 *
 * Stream b is the b-th of B equal parts of the text. Going on along the steps it reads on where it
 * was, so the state of one stretch is the right one to begin the next stretch with: stateful
 * truncated BPTT (bptt.h). Letters: T time, B batch (the streams), V vocabulary. */
#ifndef TL_DATA_H
#define TL_DATA_H

#include "../autograd/tape.h"

typedef struct tl_text {
    uint8_t *byte;
    int64_t count;
} tl_text;

/* Reads a file (a pipe will do) to its end, or its first `limit` bytes if limit > 0. TL_ERR_IO: it
 * cannot be opened or read; TL_ERR_FORMAT: it is empty. The message names it. */
TL_API tl_status tl_text_read(tl_text *text, const char *path, int64_t limit, tl_error *error);
TL_API void tl_text_free(tl_text *text); /* all zeros is fine */

/* ---- vocabulary: the bytes that occur, in their order ----------------------------------- */

typedef struct tl_vocabulary {
    int size;          /* V, 1..256; 0: no text was seen */
    uint8_t byte[256]; /* of codes 0..V-1, ascending */
    int16_t code[256]; /* of each byte; -1: does not occur */
} tl_vocabulary;

TL_API void tl_vocabulary_of(tl_vocabulary *vocabulary, int64_t count, const uint8_t *byte);

/* Each byte becomes its code, in place. TL_ERR_INDEX where one has none; all are then as before. */
TL_API tl_status tl_vocabulary_encode(const tl_vocabulary *vocabulary, int64_t count, uint8_t *byte,
                                      tl_error *error);

enum { TL_VOCABULARY_TEXT = 513 }; /* room for any vocabulary's text */

/* As text, for the metadata of a file: two hexadecimal digits a byte. Returns `text`. */
TL_API const char *tl_vocabulary_text(const tl_vocabulary *vocabulary, char text[TL_VOCABULARY_TEXT]);
/* TL_ERR_FORMAT for what the function above does not write. */
TL_API tl_status tl_vocabulary_parse(tl_vocabulary *vocabulary, const char *text, tl_error *error);

/* ---- streams ---------------------------------------------------------------------------- */

typedef struct tl_streams {
    const uint8_t *code; /* borrowed */
    int64_t batch;       /* B */
    int64_t steps;       /* of each stream; 0: too short a text */
} tl_streams;

/* As many steps as there are inputs and targets for: (count - 1) / B. batch >= 1. */
TL_API tl_streams tl_streams_of(int64_t count, const uint8_t *code, int64_t batch);

/* Steps [from, to) of all streams as a constant of the tape: i64 [T,B]. The targets are the inputs one
 * step later. TL_ERR_INDEX unless 0 <= from < to <= steps. */
TL_API tl_var tl_streams_inputs(tl_tape *t, const tl_streams *streams, int64_t from, int64_t to);
TL_API tl_var tl_streams_targets(tl_tape *t, const tl_streams *streams, int64_t from, int64_t to);

#endif
