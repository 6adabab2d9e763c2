/* arena.h - where the bytes of a tape come from. (internal)
 *
 *   system --(chunks, blocks)--> tl_memory: counts what is held, live and at peak
 *                                   |
 *                  +----------------+----------------+
 *                  |                                 |
 *               arena                              pool
 *     bump pointer, freed all at once     blocks of one size class, refcounted,
 *     (values of recorded variables)      freed one by one (gradients, scratch)
 *
 * Both keep what they got: a second recording like the first asks the system for nothing. */
#ifndef TL_ARENA_H
#define TL_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/status.h"

enum { TL_ALIGN = 64 }; /* bytes: a cache line, and the widest vector register */

typedef struct tl_memory {
    size_t held;  /* bytes obtained from the system and not returned */
    size_t live;  /* bytes of those handed out at the moment */
    size_t peak;  /* largest `live` since the last tl_memory_reset_peak */
    size_t limit; /* `held` may not pass this; 0 for no limit */
    size_t system_calls;
} tl_memory;

/* 64-byte aligned; NULL when the system or the limit says no. */
void *tl_memory_get(tl_memory *memory, size_t bytes);
void tl_memory_give(tl_memory *memory, void *pointer, size_t bytes);

static inline void tl_memory_live(tl_memory *memory, size_t more) /* bytes handed out */
{
    memory->live += more;
    if (memory->live > memory->peak)
        memory->peak = memory->live;
}

/* The same without a tape: for tensors and the library's own structures. */
void *tl_system_get(size_t bytes);
void tl_system_give(void *pointer);

typedef struct tl_arena_chunk tl_arena_chunk;

typedef struct tl_arena {
    tl_memory *memory;
    tl_arena_chunk *first, *current;
    char *next, *end; /* the free part of `current` */
    size_t used;      /* bytes handed out since the last reset */
} tl_arena;

void tl_arena_init(tl_arena *arena, tl_memory *memory);
void tl_arena_reset(tl_arena *arena); /* frees nothing, forgets everything */
void tl_arena_free(tl_arena *arena);

/* Everything handed out after a mark can be taken back at once, in the order of a stack. */
typedef struct tl_arena_mark {
    tl_arena_chunk *current;
    char *next, *end;
    size_t used;
} tl_arena_mark;

tl_arena_mark tl_arena_mark_here(const tl_arena *arena);
void tl_arena_release(tl_arena *arena, tl_arena_mark mark);

void *tl_arena_grow(tl_arena *arena, size_t bytes); /* the slow path of the next one */

static inline void *tl_arena_get(tl_arena *arena, size_t bytes)
{
    bytes = bytes ? (bytes + (TL_ALIGN - 1)) & ~(size_t)(TL_ALIGN - 1) : TL_ALIGN;
    if (bytes > (size_t)(arena->end - arena->next) || !bytes) /* 0: rounding overflowed */
        return tl_arena_grow(arena, bytes);
    void *pointer = arena->next;
    arena->next += bytes;
    arena->used += bytes;
    tl_memory_live(arena->memory, bytes);
    return pointer;
}

/* A block: 64 bytes of header, then the data. */
typedef struct tl_block {
    struct tl_block *next; /* in the free list */
    size_t bytes;          /* of data */
    uint32_t refs;
    uint32_t class;
    char padding[TL_ALIGN - sizeof(void *) - sizeof(size_t) - 2 * sizeof(uint32_t)];
} tl_block;

enum { TL_POOL_CLASSES = 320 }; /* 8 a doubling: at most 12.5 % of a block is wasted */

typedef struct tl_pool {
    tl_memory *memory;
    tl_block *free[TL_POOL_CLASSES];
} tl_pool;

void tl_pool_init(tl_pool *pool, tl_memory *memory);
void tl_pool_free(tl_pool *pool);                   /* blocks still in use are the caller's mistake */
tl_block *tl_pool_get(tl_pool *pool, size_t bytes); /* refs = 1; NULL when there is no memory */
void tl_pool_put(tl_pool *pool, tl_block *block);   /* drops a reference */

static inline void *tl_block_data(tl_block *block)
{
    return block + 1;
}

#endif
