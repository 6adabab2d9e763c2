/* progress.h - how far a long loop has come, on a stream of the caller's.
 *
 * On a terminal one line that is drawn over and over:
 *
 *     epoch 2/5  1.7123 nats (2.470 bits) [======>            ]  38%  51,234 chars/s  1:12 left
 *
 * and elsewhere (a file, a pipe) a plain line now and then:
 *
 *      40%  epoch 2/5  1.7119 nats (2.470 bits)  51,240 chars/s  1:10 left
 *
 * The time left is what the rest takes at the average speed so far. */
#ifndef TL_PROGRESS_H
#define TL_PROGRESS_H

#include "../tensor/tensor.h"

typedef struct tl_progress {
    FILE *stream;
    const char *unit;    /* "chars"; must outlive this */
    int64_t total;       /* units of work */
    bool bar;            /* draw over the same line; set by begin if the stream is a terminal */
    double interval;     /* seconds between two lines; set by begin to 0.1 for a bar, else 10 */
    double began, shown; /* seconds; private */
    int drawn;           /* columns of the line on the terminal; private */
} tl_progress;

/* Starts the clock. `bar` and `interval` may be changed afterwards. Nothing is to be freed. */
TL_API tl_progress tl_progress_begin(FILE *stream, const char *unit, int64_t total);

/* `done` units of the total are done; the text is the caller's news. Writes something only if
 * `interval` has passed since the last time. */
TL_API void tl_progress_show(tl_progress *progress, int64_t done, const char *format, ...)
    TL_PRINTF(3, 4);

/* Wipes the bar away, for something else to be written where it was. Without a bar: nothing. */
TL_API void tl_progress_clear(tl_progress *progress);

/* ---- numbers for people ----------------------------------------------------------------- */

enum { TL_NUMBER_TEXT = 32 };

TL_API const char *tl_count_text(int64_t count, char text[TL_NUMBER_TEXT]);     /* "51,234" */
TL_API const char *tl_duration_text(double seconds, char text[TL_NUMBER_TEXT]); /* "1:12", "2:03:04" */
TL_API double tl_seconds(void); /* of a clock that only goes forward */

#endif
