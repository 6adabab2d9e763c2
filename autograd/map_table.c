/* map_table.c - open addressing with linear probing; keys are hashes or addresses already. */
#include "autograd/tape_impl.h"

#include <string.h>

#include <xxhash.h>

enum { FIRST_CAPACITY = 64 };

static tl_map_entry *slot_of(const tl_map_table *map, uint64_t key)
{
    uint32_t mask = map->capacity - 1;
    uint32_t i = (uint32_t)(XXH3_64bits(&key, sizeof key)) & mask;
    while (map->entry[i].key && map->entry[i].key != key)
        i = (i + 1) & mask;
    return &map->entry[i];
}

void *tl_map_find(const tl_map_table *map, uint64_t key)
{
    return map->capacity ? slot_of(map, key)->value : NULL;
}

static bool grow(tl_tape *t, tl_map_table *map)
{
    tl_map_table larger = {.capacity = map->capacity ? 2 * map->capacity : FIRST_CAPACITY,
                           .count = map->count};
    size_t bytes = larger.capacity * sizeof *larger.entry;
    larger.entry = tl_memory_get(&t->memory, bytes);
    if (!larger.entry)
        return false;
    memset(larger.entry, 0, bytes);
    for (uint32_t i = 0; i < map->capacity; i++)
        if (map->entry[i].key)
            *slot_of(&larger, map->entry[i].key) = map->entry[i];
    tl_memory_give(&t->memory, map->entry, map->capacity * sizeof *map->entry);
    *map = larger;
    return true;
}

bool tl_map_insert(tl_tape *t, tl_map_table *map, uint64_t key, void *value)
{
    if (2 * (map->count + 1) > map->capacity && !grow(t, map)) {
        tl_tape_no_memory(t);
        return false;
    }
    tl_map_entry *slot = slot_of(map, key);
    map->count += slot->key == 0;
    *slot = (tl_map_entry){key, value};
    return true;
}

void tl_map_clear(tl_map_table *map)
{
    if (map->count)
        memset(map->entry, 0, map->capacity * sizeof *map->entry);
    map->count = 0;
}

void tl_map_free(tl_tape *t, tl_map_table *map)
{
    tl_memory_give(&t->memory, map->entry, map->capacity * sizeof *map->entry);
    *map = (tl_map_table){0};
}
