/* Every operation against the reference in double precision, on the device at hand: the cases of the tests
 * (tests/cases/), and larger ones. What runs first on a card that nobody has tried, and goes into a report of a fault. */
#include "selftest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "commands.h"
#include "common.h"
#include "devices.h"
#include "live.h"

#include "gpu/context.h"

enum { FAILURES_SHOWN = 3, NAMES = 1024 };

struct selftest_options {
    struct common_options common;
    const char *json, *only;
};

/* What the library says while a case runs: it belongs to that case, and would tear the table's line apart. */
struct said {
    char first[sizeof ((struct ops_result *)0)->failure]; /* error of the case; empty: none */
    size_t complaints;                                    /* of the validation layers, in an operation */
    struct vkmoe_log next;                                /* gets everything else */
};

static void on_log(void *user, enum vkmoe_log_level level, const char *line)
{
    struct said *said = user;
    if (level == VKMOE_LOG_ERROR && !said->first[0])
        snprintf(said->first, sizeof said->first, "%s", line);
    else if (level != VKMOE_LOG_ERROR && said->next.fn)
        said->next.fn(said->next.user, level, line);
}

/* ---- which operations ---- */

static bool contains(const char *text, const char *part)
{
    const size_t length = strlen(part);
    for (; *text; text++)
        if (strncasecmp(text, part, length) == 0)
            return true;
    return false;
}

/* Appends ", name". */
static void append(char *names, size_t size, const char *name)
{
    const size_t used = strlen(names);
    snprintf(names + used, size - used, "%s%s", used ? ", " : "", name);
}

/* How many operations have `only` in their name; *names gets all. */
static size_t matching(const char *only, char *names, size_t size)
{
    size_t count = 0;
    names[0] = '\0';
    for (size_t t = 0; ops_case_tables[t]; t++)
        for (const struct ops_case *c = ops_case_tables[t]; c->name; c++) {
            count += !only || contains(c->name, only);
            append(names, size, c->name);
        }
    return count;
}

size_t selftest_operations(const struct selftest *test, bool wrong, char *names, size_t size)
{
    size_t count = 0;
    if (names)
        names[0] = '\0';
    for (size_t i = 0; i < test->count; i++) {
        const struct ops_case *c = test->results[i].operation;
        bool counted = false, counts = false;
        for (size_t k = 0; k < test->count; k++)
            if (test->results[k].operation == c) {
                const bool is_wrong = test->results[k].failure_count > 0 || test->results[k].complaints > 0;
                counted = counted || k < i;
                counts = counts || !wrong || is_wrong;
            }
        if (counted || !counts)
            continue;
        count++;
        if (names)
            append(names, size, c->name);
    }
    return count;
}

/* ---- running ---- */

/* false: no memory. */
static bool add_failure(struct selftest_result *r, const struct ops_result *failure)
{
    struct ops_result *more = realloc(r->failures, (r->failure_count + 1) * sizeof *more);
    if (!more)
        return false;
    r->failures = more;
    r->failures[r->failure_count++] = *failure;
    return true;
}

static bool run_case(struct ops *o, struct said *said, struct selftest_result *r, size_t index)
{
    struct ops_result result;
    const uint64_t complaints = vkmoe_context_validation_messages(o->ctx);
    said->first[0] = '\0';
    bool fine = r->operation->run(o, index, &result);
    r->complaints += (size_t)(vkmoe_context_validation_messages(o->ctx) - complaints);
    r->cases++;
    r->values += result.values;
    if (r->cases == 1 || result.ratio > r->worst.ratio)
        r->worst = result;
    if (said->first[0]) {
        const size_t used = strlen(result.failure);
        snprintf(result.failure + used, sizeof result.failure - used, "%s%s", used ? ": " : "", said->first);
        fine = false;
    }
    return fine || add_failure(r, &result);
}

/* Prints the line that run_operation ends: a driver that takes the process down leaves what it died of. */
static void begin_line(const struct selftest_result *r)
{
    printf("%-20s %-10s", r->operation->name, r->variant->name);
    fflush(stdout);
}

static void end_line(const struct selftest_result *r)
{
    char values[16];
    printf(" %6zu %8s %8.3f %8.1f  %s\n", r->cases, format_count(values, (double)r->values), r->worst.ratio, r->seconds,
           r->failure_count > 0 || r->complaints > 0 ? "FAILED" : "ok");
}

/* false after a message: no memory for what went wrong. */
static bool run_operation(struct ops *o, struct said *said, struct selftest *test, struct selftest_result *r)
{
    const double start = clock_seconds();
    bool fine = true;
    begin_line(r);
    for (size_t i = 0; fine && i < r->operation->count + r->operation->large && !o->ctx->lost; i++)
        fine = run_case(o, said, r, i);
    r->seconds = clock_seconds() - start;
    test->lost = o->ctx->lost;
    end_line(r);
    if (!fine)
        message("out of memory");
    return fine;
}

/* false after a message. */
static bool run_variant(struct vkmoe_context *ctx, struct said *said, const struct ops_variant *variant,
                        const char *json, struct selftest *test)
{
    struct ops *o;
    said->first[0] = '\0';
    if (ops_create(ctx, variant, &o) != VKMOE_OK) {
        message("%s", said->first);
        return false;
    }
    bool fine = true;
    for (size_t t = 0; ops_case_tables[t]; t++)
        for (const struct ops_case *c = ops_case_tables[t]; c->name && fine && !test->lost; c++) {
            if (!ops_variant_fits(variant, c->narrow, c->lanes) || (test->only && !contains(c->name, test->only)))
                continue;
            struct selftest_result *r = &test->results[test->count];
            *r = (struct selftest_result){ .operation = c, .variant = variant };
            test->running = r;
            fine = (!json || selftest_save(test, json)) && run_operation(o, said, test, r);
            test->count++;
            test->running = NULL;
        }
    ops_destroy(o);
    return fine;
}

/* ---- telling ---- */

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

static void print_header(const struct selftest *test, const struct vkmoe_context *ctx)
{
    const struct vkmoe_device_info *d = test->device;
    char memory[16], shared[16];
    printf("device      %s: %s, %s, Vulkan %u.%u.%u, %s\n", d->name, device_type_name(d->type), d->driver,
           d->api_version >> 22, d->api_version >> 12 & 0x3ff, d->api_version & 0xfff,
           format_bytes(memory, d->memory_bytes));
    printf("capable of  subgroups of %" PRIu32 ", %s of shared memory, f16 %s, bf16 %s, cooperative matrices %s\n",
           test->subgroup, format_bytes(shared, d->shared_bytes), yes_no(d->float16), yes_no(d->bfloat16),
           yes_no(d->cooperative_matrix));
    printf("vkmoe       %s%s\n", vkmoe_version(), test->validated ? ", under the validation layers" : "");
    for (const struct ops_variant *v = ops_variants; v->name; v++)
        if (!v->offered || v->offered(ctx))
            printf("kernels     %s: %s\n", v->name, v->text);
    printf("\n%-20s %-10s %6s %8s %8s %8s\n", "operation", "kernels", "cases", "values", "error", "seconds");
}

static void print_failures(const struct selftest_result *r)
{
    printf("\n%s, %s:\n", r->operation->name, r->variant->text);
    for (size_t i = 0; i < r->failure_count && i < FAILURES_SHOWN; i++)
        printf("  %s\n      %s\n", r->failures[i].name, r->failures[i].failure);
    if (r->failure_count > FAILURES_SHOWN)
        printf("  and %zu more of %zu cases\n", r->failure_count - FAILURES_SHOWN, r->cases);
    if (r->complaints > 0)
        printf("  %zu validation messages\n", r->complaints);
}

static void print_end(const struct selftest *test, const char *json)
{
    char names[NAMES];
    const size_t wrong = selftest_operations(test, true, names, sizeof names);
    const size_t all = selftest_operations(test, false, NULL, 0);
    printf("error: the largest, as a part of what single precision may be off by; above 1 is wrong\n");
    for (size_t i = 0; i < test->count; i++)
        if (test->results[i].failure_count > 0 || test->results[i].complaints > 0)
            print_failures(&test->results[i]);
    putchar('\n');
    if (test->lost)
        printf("the device was lost in %s; what comes after it did not run\n",
               test->results[test->count - 1].operation->name);
    if (all == 0) {
        printf("nothing was tested: %s has none of the kernels that '%s' is for\n", test->device->name, test->only);
        return;
    }
    if (wrong == 0) {
        printf("%s%zu operation%s correct on %s\n", test->only ? "" : "all ", all, all == 1 ? "" : "s", test->device->name);
        return;
    }
    printf("%zu of %zu operations %s wrong on %s: %s\n", wrong, all, wrong == 1 ? "is" : "are", test->device->name, names);
    printf("Do not train on it. Try another version of its driver; report this with %s\n",
           json ? json : "the file that --json FILE writes");
}

/* ---- the command ---- */

#define FLAG(flag_name, flag_type, member, ...)                                                                        \
    { .name = flag_name, .type = flag_type, .offset = offsetof(struct selftest_options, member), __VA_ARGS__ }

static const struct option_spec options[] = {
    FLAG("only", OPTION_TEXT, only, .value = "NAME", .otherwise = "all operations",
         .help = "operations with NAME in their name, in any case"),
    FLAG("json", OPTION_TEXT, json, .value = "FILE", .otherwise = "none",
         .help = "write device, results and all failures to FILE, too; it is kept up to date while the test runs"),
    COMMON_OPTIONS(struct selftest_options),
};

static size_t variant_count(void)
{
    size_t count = 0;
    while (ops_variants[count].name)
        count++;
    return count;
}

static void free_results(struct selftest *test)
{
    for (size_t i = 0; test->results && i < test->count; i++)
        free(test->results[i].failures);
    free(test->results);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct selftest_options o = { 0 };
    struct selftest test = { 0 };
    char names[NAMES];
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed != OPTIONS_OK)
        return parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
    const size_t operations = matching(o.only, names, sizeof names);
    if (operations == 0) {
        message("--only %s: no such operation; there are %s", o.only, names);
        return EXIT_USAGE;
    }
    if (o.json && (!o.json[0] || o.json[strlen(o.json) - 1] == '/')) {
        message("--json '%s' is not the name of a file", o.json);
        return EXIT_USAGE;
    }
    struct vkmoe_context *ctx = open_context(&o.common);
    if (!ctx)
        return EXIT_FAILED;
    struct said said = { .next = ctx->log };
    ctx->log = (struct vkmoe_log){ on_log, &said };
    test.device = &ctx->info;
    test.subgroup = ctx->caps.subgroup;
    test.only = o.only;
    test.validated = o.common.validate;
    test.results = calloc(operations * variant_count(), sizeof *test.results);
    bool fine = test.results;
    if (!fine)
        message("out of memory");
    /* Written before anything runs, so that a place where it cannot be is known now. */
    fine = fine && (!o.json || selftest_save(&test, o.json));
    if (fine)
        print_header(&test, ctx);
    for (const struct ops_variant *v = ops_variants; v->name && fine && !test.lost; v++)
        if (!v->offered || v->offered(ctx))
            fine = run_variant(ctx, &said, v, o.json, &test);
    test.finished = fine && !test.lost;
    fine = fine && (!o.json || selftest_save(&test, o.json));
    if (fine)
        print_end(&test, o.json);
    fine = fine && !test.lost && selftest_operations(&test, false, NULL, 0) > 0 && selftest_operations(&test, true, NULL, 0) == 0;
    free_results(&test);
    ctx->log = said.next;
    return close_context(ctx, fine ? EXIT_OK : EXIT_FAILED);
}

const struct command command_selftest = {
    .name = "selftest",
    .summary = "Checks every operation on a device against double precision",
    .synopsis = "[flags]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
