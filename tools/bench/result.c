#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

bool bench_list_add(struct bench_list *list, const struct bench_result *result)
{
    struct bench_result *items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return false;
    items[list->count++] = *result;
    list->items = items;
    return true;
}

void bench_run_free(struct bench_run *run)
{
    free(run->results.items);
    free(run->skipped.items);
    run->results = run->skipped = (struct bench_list){0};
}

bool bench_same(const struct bench_result *a, const struct bench_result *b)
{
    /* How much is copied follows the device's memory; a ceiling is a ceiling. */
    const bool ceilings = strcmp(a->group, "ceilings") == 0;
    return strcmp(a->group, b->group) == 0 && strcmp(a->name, b->name) == 0 && strcmp(a->unit, b->unit) == 0 &&
           (ceilings || strcmp(a->shape, b->shape) == 0);
}

const struct bench_result *bench_find(const struct bench_run *run, const struct bench_result *result)
{
    for (size_t i = 0; i < run->results.count; i++)
        if (bench_same(&run->results.items[i], result))
            return &run->results.items[i];
    return NULL;
}
