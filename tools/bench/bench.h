/* The benchmark: what it measures goes into a struct bench_run, which is printed, written as JSON and compared. */
#ifndef VKMOE_BENCH_BENCH_H
#define VKMOE_BENCH_BENCH_H

#include <jansson.h>
#include <vkmoe/vkmoe.h>

/* One figure. A number that does not apply is NAN; a text, empty. */
struct bench_result {
    char group[16];         /* "ceilings", "ops", "layer", "steps" */
    char name[40], shape[64], unit[16];
    double median;          /* over repetitions, in units */
    double low, high;       /* the quartiles */
    uint32_t repetitions;
    char timer[16];         /* "timestamps" of the device or "wall" clock */
    char ceiling[40];       /* the ceiling that it is held against */
    double share;           /* of it */
    double of_balanced;     /* layer: over the same figure with balanced routing */
    double host;            /* steps on a GPU: the host thread's CPU time over the time that passed */
    char note[160];         /* how it came about; of what was skipped, why */
};

struct bench_list {
    struct bench_result *items;
    size_t count;
};

/* What one run on one device gave. */
struct bench_run {
    char vkmoe[32], date[32];
    struct vkmoe_device_info device;
    double seconds;         /* asked for each figure */
    double clock_mhz;       /* of the device while it multiplied in registers; NAN: not known (clock.h) */
    struct bench_list results; /* ceilings first */
    struct bench_list skipped; /* name, shape and note */
};

/* false: no memory. */
bool bench_list_add(struct bench_list *list, const struct bench_result *result);
void bench_run_free(struct bench_run *run);

/* Whether two results measure the same. */
bool bench_same(const struct bench_result *a, const struct bench_result *b);
/* The result of a run that measures the same, or NULL. */
const struct bench_result *bench_find(const struct bench_run *run, const struct bench_result *result);

/* ---- json.c: the format is documented in docs/benchmarks/README.md ---------------------------------------- */

enum { BENCH_FORMAT = 1 };

/* NULL: no memory. */
json_t *bench_run_json(const struct bench_run *run);
/* Reads a file that anyone may have written. false after one message; *run is then empty. */
bool bench_run_load(const char *path, struct bench_run *run);

/* ---- print.c ---------------------------------------------------------------------------------------------- */

/* "29.14": four digits that count. */
const char *bench_number(char text[24], double value);
/* A heading wherever a new group begins, and a line. */
void bench_print(const struct bench_result *result, const char *previous_group);
void bench_print_skipped(const struct bench_result *result);

/* ---- compare.c -------------------------------------------------------------------------------------------- */

/* Prints results side by side, and with html writes a page of them. The exit status. */
int bench_compare(const char *const *paths, size_t count, const char *html);

#endif
