#include "tensor/arena.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(tl_block) == TL_ALIGN, "a block's data starts on a cache line");

enum { FIRST_CHUNK = 1 << 18, LARGEST_CHUNK = 1 << 26 }; /* bytes */

void *tl_system_get(size_t bytes)
{
    if (bytes > SIZE_MAX - TL_ALIGN)
        return NULL;
    size_t rounded = (bytes + (TL_ALIGN - 1)) & ~(size_t)(TL_ALIGN - 1);
    return aligned_alloc(TL_ALIGN, rounded ? rounded : TL_ALIGN);
}

void tl_system_give(void *pointer)
{
    free(pointer);
}

void *tl_memory_get(tl_memory *memory, size_t bytes)
{
    if (memory->limit && (memory->held > memory->limit || bytes > memory->limit - memory->held))
        return NULL;
    void *pointer = tl_system_get(bytes);
    memory->system_calls++;
    if (pointer)
        memory->held += bytes;
    return pointer;
}

void tl_memory_give(tl_memory *memory, void *pointer, size_t bytes)
{
    if (pointer)
        memory->held -= bytes;
    tl_system_give(pointer);
}

/* ---- arena ------------------------------------------------------------------------------ */

struct tl_arena_chunk {
    struct tl_arena_chunk *next;
    size_t bytes; /* header included */
};

static char *chunk_start(tl_arena_chunk *chunk)
{
    return (char *)chunk + TL_ALIGN;
}

void tl_arena_init(tl_arena *arena, tl_memory *memory)
{
    *arena = (tl_arena){.memory = memory};
}

static void enter_chunk(tl_arena *arena, tl_arena_chunk *chunk)
{
    arena->current = chunk;
    arena->next = chunk_start(chunk);
    arena->end = (char *)chunk + chunk->bytes;
}

void tl_arena_reset(tl_arena *arena)
{
    arena->memory->live -= arena->used;
    arena->used = 0;
    if (arena->first)
        enter_chunk(arena, arena->first);
}

tl_arena_mark tl_arena_mark_here(const tl_arena *arena)
{
    return (tl_arena_mark){arena->current, arena->next, arena->end, arena->used};
}

void tl_arena_release(tl_arena *arena, tl_arena_mark mark)
{
    if (!mark.current) {
        tl_arena_reset(arena);
        return;
    }
    arena->memory->live -= arena->used - mark.used;
    arena->current = mark.current;
    arena->next = mark.next;
    arena->end = mark.end;
    arena->used = mark.used;
}

void tl_arena_free(tl_arena *arena)
{
    arena->memory->live -= arena->used;
    for (tl_arena_chunk *chunk = arena->first, *next; chunk; chunk = next) {
        next = chunk->next;
        tl_memory_give(arena->memory, chunk, chunk->bytes);
    }
    tl_arena_init(arena, arena->memory);
}

/* The next chunk that can hold `bytes`: one kept from an earlier recording (chunks too
 * small for this request are passed over until the next reset), or a new one, twice as
 * large as the last, inserted behind the current one. */
void *tl_arena_grow(tl_arena *arena, size_t bytes)
{
    if (!bytes || bytes > SIZE_MAX - TL_ALIGN)
        return NULL;
    tl_arena_chunk *last = arena->current;
    for (tl_arena_chunk *kept = last ? last->next : NULL; kept; last = kept, kept = kept->next)
        if (kept->bytes - TL_ALIGN >= bytes) {
            enter_chunk(arena, kept);
            return tl_arena_get(arena, bytes);
        }
    size_t size = last ? 2 * last->bytes : FIRST_CHUNK;
    if (size > LARGEST_CHUNK)
        size = LARGEST_CHUNK;
    if (size < bytes + TL_ALIGN)
        size = bytes + TL_ALIGN;
    tl_arena_chunk *chunk = tl_memory_get(arena->memory, size);
    if (!chunk && size > bytes + TL_ALIGN) /* near the limit: ask for no more than is needed */
        chunk = tl_memory_get(arena->memory, size = bytes + TL_ALIGN);
    if (!chunk)
        return NULL;
    *chunk = (tl_arena_chunk){.bytes = size};
    if (last)
        last->next = chunk;
    else
        arena->first = chunk;
    enter_chunk(arena, chunk);
    return tl_arena_get(arena, bytes);
}

/* ---- pool ------------------------------------------------------------------------------- */

/* Sizes are counted in cache lines. Lines 1..8 have a class each; from then on a
 * doubling is cut into eight, so class and size follow from the top four bits. */
static uint32_t class_of(size_t lines, size_t *rounded)
{
    if (lines <= 8) {
        *rounded = lines;
        return (uint32_t)lines;
    }
    unsigned shift = 0;
    for (size_t rest = lines - 1; rest >= 16; rest >>= 1)
        shift++;
    size_t eighths = ((lines - 1) >> shift) + 1; /* 9..16 */
    *rounded = eighths << shift;
    return (uint32_t)(8 * shift + eighths);
}

void tl_pool_init(tl_pool *pool, tl_memory *memory)
{
    memset(pool, 0, sizeof *pool);
    pool->memory = memory;
}

void tl_pool_free(tl_pool *pool)
{
    for (int c = 0; c < TL_POOL_CLASSES; c++)
        for (tl_block *block = pool->free[c], *next; block; block = next) {
            next = block->next;
            tl_memory_give(pool->memory, block, sizeof *block + block->bytes);
        }
    tl_pool_init(pool, pool->memory);
}

tl_block *tl_pool_get(tl_pool *pool, size_t bytes)
{
    if ((uint64_t)bytes >> 44) /* 16 TiB: past the last class */
        return NULL;
    size_t lines = bytes ? (bytes + TL_ALIGN - 1) / TL_ALIGN : 1, rounded;
    uint32_t class = class_of(lines, &rounded);
    tl_block *block = pool->free[class];
    if (block) {
        pool->free[class] = block->next;
    } else {
        block = tl_memory_get(pool->memory, sizeof *block + rounded * TL_ALIGN);
        if (!block)
            return NULL;
        block->bytes = rounded * TL_ALIGN;
        block->class = class;
    }
    block->next = NULL;
    block->refs = 1;
    tl_memory_live(pool->memory, block->bytes);
    return block;
}

void tl_pool_put(tl_pool *pool, tl_block *block)
{
    if (!block || --block->refs)
        return;
    pool->memory->live -= block->bytes;
    block->next = pool->free[block->class];
    pool->free[block->class] = block;
}
