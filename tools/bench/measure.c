#include "bench/measure.h"
#include "ops/ops.h"
#include "ops/probe.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "bench/stamps.h"
#include "common.h"

enum { REPETITIONS = 5, REPETITIONS_MOST = 200, RECORDED_MOST = 1000 };
/* A recording is so long that what surrounds it does not count; a part of the time goes into raising the clocks. */
static const double recording_seconds = 0.005, warm_share = 0.2;
/* What a clock that has not moved stands for: every rate stays finite. */
static const double least_seconds = 1e-9;

/* ---- time ------------------------------------------------------------------------------------------------------- */

static enum vkmoe_status time_once(struct bench *b, struct vkm_rec *rec, struct vkm_rec *prepare, double *seconds)
{
    struct vkmoe_context *ctx = b->ctx;
    enum vkmoe_status status;
    if (prepare && (status = vkm_rec_submit(prepare, NULL)))
        return status;
    if (b->stamps) {
        if ((status = stamps_first(ctx, b->stamps)) || (status = vkm_rec_submit(rec, NULL)) ||
            (status = stamps_second(ctx, b->stamps)))
            return status;
        status = stamps_seconds(ctx, b->stamps, seconds);
        *seconds = fmax(*seconds, least_seconds);
        return status;
    }
    if ((status = vkm_wait(ctx, ctx->submitted)))
        return status;
    const double start = vkm_seconds();
    if ((status = vkm_rec_submit(rec, NULL)) || (status = vkm_wait(ctx, ctx->submitted)))
        return status;
    *seconds = fmax(vkm_seconds() - start, least_seconds);
    return VKMOE_OK;
}

static enum vkmoe_status record(const struct bench *b, const struct bench_case *c, uint32_t count, struct vkm_rec **out)
{
    enum vkmoe_status status = vkm_rec_create(b->ctx, "bench", out);
    for (uint32_t i = 0; !status && i < count; i++)
        c->record(*out, c->user, i);
    return status ? status : vkm_rec_end(*out);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, uint32_t count, double at)
{
    const double place = at * (count - 1);
    const uint32_t below = (uint32_t)place, above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

struct bench_times bench_times_of(double *seconds, uint32_t count)
{
    qsort(seconds, count, sizeof *seconds, ascending);
    return (struct bench_times){.median = quantile(seconds, count, 0.5), .low = quantile(seconds, count, 0.25),
                                .high = quantile(seconds, count, 0.75), .repetitions = count};
}

/* Repeats a recording of `count` executions. */
static enum vkmoe_status repeat(struct bench *b, struct vkm_rec *rec, struct vkm_rec *prepare, uint32_t count,
                                double seconds, struct bench_times *out)
{
    double times[REPETITIONS_MOST];
    enum vkmoe_status status = VKMOE_OK;
    uint32_t n = 0;
    double start = vkm_seconds();
    do {
        status = time_once(b, rec, prepare, &times[0]);
    } while (!status && vkm_seconds() - start < warm_share * seconds);
    start = vkm_seconds();
    while (!status && n < REPETITIONS_MOST && (n < REPETITIONS || vkm_seconds() - start < seconds)) {
        status = time_once(b, rec, prepare, &times[n]);
        times[n++] /= count;
    }
    if (!status)
        *out = bench_times_of(times, n);
    return status;
}

/* Executions that make a recording long enough, from the time of one. */
static uint32_t enough(const struct bench *b, const struct bench_case *c, double seconds)
{
    const double wanted = fmin(recording_seconds, 0.1 * b->seconds);
    const uint32_t most = c->most ? c->most : RECORDED_MOST;
    const double count = seconds > 0 ? ceil(wanted / seconds) : most;
    return count < most ? (uint32_t)count : most;
}

enum vkmoe_status bench_time(struct bench *b, const struct bench_case *c, struct bench_times *out)
{
    struct vkm_rec *rec = NULL, *prepare = NULL;
    uint32_t count = 1;
    double seconds;
    enum vkmoe_status status = record(b, c, 1, &rec);
    if (!status && c->prepare && !(status = vkm_rec_create(b->ctx, "bench setup", &prepare))) {
        c->prepare(prepare, c->user);
        status = vkm_rec_end(prepare);
    }
    /* The first execution compiles and touches memory; the second tells how long one takes. */
    for (int i = 0; !status && i < 2; i++)
        status = time_once(b, rec, prepare, &seconds);
    if (!status && !c->anyway && seconds > b->seconds) {
        *out = (struct bench_times){.median = seconds, .low = seconds, .high = seconds};
        goto done;
    }
    if (!status && (count = enough(b, c, seconds)) > 1) {
        vkm_rec_destroy(rec);
        status = record(b, c, count, &rec);
    }
    if (!status)
        status = repeat(b, rec, prepare, count, c->seconds > 0 ? c->seconds : b->seconds, out);
done:
    vkm_rec_destroy(rec);
    vkm_rec_destroy(prepare);
    return status;
}

/* ---- begin and end ---------------------------------------------------------------------------------------------- */

static void fill_buffer(struct vkm_rec *rec, void *user, uint32_t i)
{
    vkm_rec_fill(rec, *(const struct vkm_buf *)user, i);
}

/* Whether the device's clock can be believed: it must not see more time pass than we do, and a software device, which
 * has nothing to wait for but itself, not much less. */
static enum vkmoe_status check_stamps(struct bench *b, bool *fine)
{
    struct vkmoe_context *ctx = b->ctx;
    struct vkm_arena *arena;
    struct vkm_buf buf;
    struct vkm_rec *rec = NULL;
    double device = 0, wall = 0;
    enum vkmoe_status status = vkm_arena_create(ctx, "bench", VKM_MEMORY_DEVICE, &arena);
    if (status)
        return status;
    vkm_arena_reserve(arena, "bench", 64 << 20, &buf);
    if (!(status = vkm_arena_commit(arena)))
        status = record(b, &(struct bench_case){.record = fill_buffer, .user = &buf}, 4, &rec);
    for (int i = 0; !status && i < 2; i++) {
        const double start = vkm_seconds();
        status = time_once(b, rec, NULL, &device);
        wall = vkm_seconds() - start;
    }
    *fine = device > least_seconds && device <= 1.01 * wall && (!ctx->caps.cpu || device >= 0.5 * wall);
    vkm_rec_destroy(rec);
    vkm_arena_destroy(arena);
    return status;
}

/* f32, and what else was asked for: with 0, the 16-bit types that have cooperative matrices which are worth it. */
static enum vkmoe_status choose_types(struct bench *b, unsigned types)
{
    enum vkmoe_status status = VKMOE_OK;
    const unsigned f32 = 1u << TYPE_F32;
    if ((types & ~f32) && !b->ctx->caps.storage16)
        return vkm_fail(&b->ctx->log, VKMOE_ERROR_DEVICE, "%s (%s) has no 16-bit arrays: --precision f32 is what it has",
                        b->ctx->info.name, b->ctx->info.driver);
    for (uint32_t type = TYPE_F32; type <= TYPE_BF16 && !status; type++) {
        status = vkm_probe(b->ctx, type);
        b->types[type] = types ? types >> type & 1 : type == TYPE_F32 || b->ctx->caps.cm[type].use;
    }
    return status;
}

enum vkmoe_status bench_begin(struct vkmoe_context *ctx, double seconds, unsigned types, struct bench *b)
{
    const time_t now = time(NULL);
    struct tm utc;
    bool fine = true;
    *b = (struct bench){.ctx = ctx, .seconds = seconds, .run.clock_mhz = NAN};
    b->run.device = ctx->info;
    b->run.seconds = seconds;
    snprintf(b->run.vkmoe, sizeof b->run.vkmoe, "%s", vkmoe_version());
    if (gmtime_r(&now, &utc))
        strftime(b->run.date, sizeof b->run.date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    enum vkmoe_status status = VKMOE_OK;
    if (ctx->caps.timestamp_ns > 0 && !(status = stamps_create(ctx, &b->stamps)))
        status = check_stamps(b, &fine);
    if (!fine) {
        stamps_destroy(ctx, b->stamps);
        b->stamps = NULL;
    }
    return status ? status : choose_types(b, types);
}

void bench_end(struct bench *b)
{
    stamps_destroy(b->ctx, b->stamps);
    bench_run_free(&b->run);
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

struct bench_result bench_rate(const struct bench *b, const char *group, const char *name, const char *unit,
                               const char *ceiling, double work, const struct bench_times *times)
{
    struct bench_result r = {.median = work / times->median, .low = work / times->high, .high = work / times->low,
                             .repetitions = times->repetitions, .share = NAN, .of_balanced = NAN, .host = NAN};
    snprintf(r.group, sizeof r.group, "%s", group);
    snprintf(r.name, sizeof r.name, "%s", name);
    snprintf(r.unit, sizeof r.unit, "%s", unit);
    snprintf(r.timer, sizeof r.timer, "%s", b->stamps ? "timestamps" : "wall");
    if (ceiling) {
        snprintf(r.ceiling, sizeof r.ceiling, "%s", ceiling);
        r.share = r.median / bench_ceiling(b, ceiling);
    }
    return r;
}

double bench_ceiling(const struct bench *b, const char *name)
{
    for (size_t i = 0; i < b->run.results.count; i++) {
        const struct bench_result *r = &b->run.results.items[i];
        if (strcmp(r->group, "ceilings") == 0 && strcmp(r->name, name) == 0)
            return r->median;
    }
    return NAN;
}

static enum vkmoe_status keep(struct bench *b, struct bench_list *list, const struct bench_result *r)
{
    return bench_list_add(list, r) ? VKMOE_OK : vkm_fail_memory(&b->ctx->log);
}

enum vkmoe_status bench_report(struct bench *b, const struct bench_result *r)
{
    const struct bench_list *all = &b->run.results;
    bench_print(r, all->count ? all->items[all->count - 1].group : "");
    return keep(b, &b->run.results, r);
}

enum vkmoe_status bench_skip(struct bench *b, const char *group, const char *name, const char *shape, const char *fmt, ...)
{
    struct bench_result r = {.median = NAN, .low = NAN, .high = NAN, .share = NAN, .of_balanced = NAN, .host = NAN};
    va_list args;
    va_start(args, fmt);
    vsnprintf(r.note, sizeof r.note, fmt, args);
    va_end(args);
    snprintf(r.group, sizeof r.group, "%s", group);
    snprintf(r.name, sizeof r.name, "%s", name);
    snprintf(r.shape, sizeof r.shape, "%s", shape);
    bench_print_skipped(&r);
    return keep(b, &b->run.skipped, &r);
}

enum vkmoe_status bench_skip_slow(struct bench *b, const char *group, const char *name, const char *shape, double seconds)
{
    char time[16], hint[40] = "";
    if (1.2 * seconds < SECONDS_MOST)
        snprintf(hint, sizeof hint, ": --seconds %.0f takes it", ceil(1.2 * seconds));
    return bench_skip(b, group, name, shape, "about %s to do once%s", format_seconds(time, seconds), hint);
}

double bench_product_rate(const struct bench *b, uint32_t type)
{
    return b->product_rate[type] > 0 ? b->product_rate[type] : bench_ceiling(b, bench_product_ceiling(b, type)) / 3;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

bool bench_fits(const struct bench *b, uint64_t bytes)
{
    return bytes <= vkm_memory_available(b->ctx) / 10 * 9;
}

const char *bench_product_ceiling(const struct bench *b, uint32_t type)
{
    const char *matrices = type == TYPE_F16 ? CEILING_CM_F16 : CEILING_CM_BF16;
    return b->ctx->caps.cm[type].use && !isnan(bench_ceiling(b, matrices)) ? matrices : CEILING_FMA_F32;
}

const char *bench_typed_name(char text[40], const char *name, uint32_t type)
{
    snprintf(text, 40, "%s%s", name, type == TYPE_F16 ? " f16" : type == TYPE_BF16 ? " bf16" : "");
    return text;
}
