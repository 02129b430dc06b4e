/* Results of several devices side by side. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "common.h"
#include "devices.h"
#include "files.h"
#include "json.h"
#include "report_page.h"

enum { MAX_RUNS = 26 }; /* they are called A to Z */

/* All that any of the runs measured, in the first one's order. */
static bool all_results(const struct bench_run *runs, size_t count, struct bench_list *out)
{
    static const char *const groups[] = {"ceilings", "ops", "layer", "steps"};
    for (size_t g = 0; g < 4; g++)
        for (size_t i = 0; i < count; i++)
            for (size_t k = 0; k < runs[i].results.count; k++) {
                const struct bench_result *r = &runs[i].results.items[k];
                const struct bench_run seen = {.results = *out};
                if (strcmp(r->group, groups[g]) == 0 && !bench_find(&seen, r) && !bench_list_add(out, r)) {
                    message("out of memory");
                    return false;
                }
            }
    return true;
}

/* How many times as fast: of times, the smaller is the faster. */
static double speed(const struct bench_result *r, const struct bench_result *first)
{
    return strcmp(r->unit, "us") == 0 ? first->median / r->median : r->median / first->median;
}

static void print_row(const struct bench_run *runs, size_t count, const struct bench_result *row)
{
    const struct bench_result *first = bench_find(&runs[0], row);
    printf("  %-20s %-35s %-8s", row->name, strcmp(row->group, "ceilings") == 0 ? "" : row->shape, row->unit);
    for (size_t i = 0; i < count; i++) {
        const struct bench_result *r = bench_find(&runs[i], row);
        char number[24], ratio[24] = "";
        if (r && first && i > 0)
            snprintf(ratio, sizeof ratio, "%.2fx", speed(r, first));
        printf(" %8s", r ? bench_number(number, r->median) : "-");
        if (i > 0)
            printf(" %7s", ratio);
    }
    putchar('\n');
}

static void print_table(const struct bench_run *runs, size_t count, const struct bench_list *rows)
{
    char memory[16];
    for (size_t i = 0; i < count; i++) {
        const struct vkmoe_device_info *d = &runs[i].device;
        printf("%c  %s (%s), %s\n   %s, vkmoe %s, %.10s\n", (char)('A' + i), d->name, device_type_name(d->type),
               format_bytes(memory, d->memory_bytes), d->driver, runs[i].vkmoe, runs[i].date);
    }
    printf("\n%67s", "");
    for (size_t i = 0; i < count; i++)
        printf(i > 0 ? " %8c     x A" : " %8c", (char)('A' + i));
    putchar('\n');
    for (size_t i = 0; i < rows->count; i++) {
        const struct bench_result *row = &rows->items[i];
        if (i == 0 || strcmp(row->group, rows->items[i - 1].group) != 0)
            printf("%s%s\n", i > 0 ? "\n" : "", row->group);
        print_row(runs, count, row);
    }
}

static bool write_page(const struct bench_run *runs, size_t count, const char *path)
{
    json_t *list = json_array();
    bool whole = list;
    for (size_t i = 0; whole && i < count; i++)
        whole = json_array_append_new(list, bench_run_json(&runs[i])) == 0;
    char *text = whole ? json_page_text(list) : NULL;
    if (!text)
        message("out of memory");
    const bool written = text && output_write(path, (struct output){.parts = {{bench_page_head, bench_page_head_bytes},
                                                                             {text, strlen(text)},
                                                                             {bench_page_tail, bench_page_tail_bytes}}});
    free(text);
    json_decref(list);
    return written;
}

int bench_compare(const char *const *paths, size_t count, const char *html)
{
    struct bench_list rows = {0};
    int status = EXIT_FAILED;
    size_t loaded = 0;
    if (count > MAX_RUNS) {
        message("%zu results are too many: at most %d", count, MAX_RUNS);
        return EXIT_USAGE;
    }
    struct bench_run *runs = calloc(count, sizeof *runs);
    if (!runs) {
        message("out of memory");
        return EXIT_FAILED;
    }
    while (loaded < count && bench_run_load(paths[loaded], &runs[loaded]))
        loaded++;
    if (loaded < count || !all_results(runs, count, &rows) || (html && !write_page(runs, count, html)))
        goto done;
    print_table(runs, count, &rows);
    status = EXIT_OK;
done:
    for (size_t i = 0; i < loaded; i++)
        bench_run_free(&runs[i]);
    free(runs);
    free(rows.items);
    return status;
}
