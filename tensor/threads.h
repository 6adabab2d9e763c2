/* threads.h - a team of threads that share loops. (internal)
 *
 * Work is cut by its shape, never by the number of threads, so that results have the same
 * bits with any team; the team only decides who does which piece. */
#ifndef TL_THREADS_H
#define TL_THREADS_H

#include <stdint.h>

typedef struct tl_threads tl_threads;

/* Does pieces [begin, end). */
typedef void tl_piece(void *context, int64_t begin, int64_t end);

/* A team of `count` (the caller is one of them). NULL when there is no memory or no thread to
 * be had. A team of one costs nothing. */
tl_threads *tl_threads_new(int count);
void tl_threads_free(tl_threads *team);
int tl_threads_count(const tl_threads *team);

/* Does pieces 0..pieces-1, in runs of some of them at a time, and returns when all are done. */
void tl_threads_run(tl_threads *team, int64_t pieces, tl_piece *piece, void *context);

#endif
