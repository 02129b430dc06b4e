/* What the device can do at best: arithmetic, memory, launching. The rest is held against it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/clock.h"
#include "bench/measure.h"
#include "ops/tiles.h"

static enum vkmoe_status wrong(const struct bench *b, const char *what)
{
    return vkm_fail(&b->ctx->log, VKMOE_ERROR_DEVICE,
                    "%s (%s) was timed at '%s' and did not do it: its figures would mean nothing; see 'vkmoe selftest'",
                    b->ctx->info.name, b->ctx->info.driver, what);
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------- */

struct arithmetic {
    struct vkm_buf out;
    uint32_t groups, wg, loops;
    float never; /* an invocation whose sum is that writes it to out */
    uint32_t type; /* TYPE_ of what is multiplied */
    const struct bench_clock *clock; /* read into the run; NULL: not */
};

/* Lets each invocation write its sum, and reads the clock meanwhile. */
static enum vkmoe_status find_sum(struct bench *b, const char *name, struct arithmetic *f, float sum,
                                  void (*record)(struct vkm_rec *rec, void *user, uint32_t i), float *found)
{
    struct vkm_rec *rec;
    enum vkmoe_status status = vkm_rec_create(b->ctx, name, &rec);
    if (status)
        return status;
    f->never = sum;
    vkm_rec_fill(rec, f->out, 0);
    record(rec, f, 0);
    if (!(status = vkm_rec_end(rec)) && !(status = vkm_rec_submit(rec, NULL))) {
        if (f->clock)
            b->run.clock_mhz = bench_clock_mhz(f->clock);
        status = vkm_wait(b->ctx, b->ctx->submitted);
    }
    vkm_rec_destroy(rec);
    return status ? status : vkm_buf_download(b->ctx, f->out, found, sizeof *found);
}

/* Times it; then looks whether it comes to `sum`. */
static enum vkmoe_status time_arithmetic(struct bench *b, const char *name, struct arithmetic *f, float sum,
                                         void (*record)(struct vkm_rec *rec, void *user, uint32_t i), struct bench_times *times)
{
    struct vkm_arena *arena;
    float found;
    enum vkmoe_status status = vkm_arena_create(b->ctx, "bench", VKM_MEMORY_DEVICE, &arena);
    if (status)
        return status;
    f->never = -1;
    vkm_arena_reserve(arena, "out", sizeof found, &f->out);
    if (!(status = vkm_arena_commit(arena)) &&
        !(status = bench_time(b, &(struct bench_case){.record = record, .user = f, .anyway = true}, times)) &&
        !(status = find_sum(b, name, f, sum, record, &found)) && found != sum)
        status = wrong(b, name);
    vkm_arena_destroy(arena);
    return status;
}

static uint64_t fma_flops(const struct arithmetic *f)
{
    const uint32_t chains = 4 * (f->type == TYPE_F16 ? BENCH_FMA16_CHAINS : BENCH_FMA_CHAINS);
    return 2ull * chains * BENCH_FMA_STEPS * f->loops * f->wg * f->groups;
}

static void record_fma(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct arithmetic *f = user;
    struct vkm_bench_fma_args args = {.out_ = f->out.addr, .x = 0.5f, .y = 0.25f, .never = f->never, .loops = f->loops};
    (void)i;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("bench.fma", f->type == TYPE_F16 ? VKM_KERNEL_BENCH_FMA_F16 : VKM_KERNEL_BENCH_FMA, f->wg, args),
        .groups = vkm_groups(vkm_rec_context(rec), f->groups), .write = {f->out}, .flops = fma_flops(f)});
}

static enum vkmoe_status multiply_adds(struct bench *b, const char *name, uint32_t type, const struct bench_clock *clock,
                                       struct bench_result *r)
{
    /* Enough workgroups that a part-filled last wave of them does not count. */
    struct arithmetic f = {.type = type, .groups = b->ctx->caps.cpu ? 512 : 32768, .wg = vkm_tiles(b->ctx).flat_wg, .loops = 64,
                           .clock = clock};
    struct bench_times times;
    /* Each chain comes down to y / (1 - x) = 0.5 and stays there, however it is rounded. */
    const float chains = (float)(4 * (type == TYPE_F16 ? BENCH_FMA16_CHAINS : BENCH_FMA_CHAINS));
    enum vkmoe_status status = time_arithmetic(b, name, &f, 0.5f * chains, record_fma, &times);
    if (status)
        return status;
    *r = bench_rate(b, "ceilings", name, "GFLOP/s", NULL, 1e-9 * (double)fma_flops(&f), &times);
    snprintf(r->note, sizeof r->note, "multiply-adds in registers, two operations each");
    return VKMOE_OK;
}

static enum vkmoe_status fma_f32(struct bench *b, const char *name, struct bench_result *r)
{
    struct bench_clock clock;
    bench_clock_open(b->ctx, &clock);
    const enum vkmoe_status status = multiply_adds(b, name, TYPE_F32, &clock, r);
    bench_clock_close(&clock);
    if (!status && !isnan(b->run.clock_mhz))
        printf("clock       %.0f MHz while it multiplies in registers\n", b->run.clock_mhz);
    return status;
}

static enum vkmoe_status fma_f16(struct bench *b, const char *name, struct bench_result *r)
{
    return multiply_adds(b, name, TYPE_F16, NULL, r);
}

static bool has_float16(const struct vkmoe_context *ctx)
{
    return ctx->caps.float16;
}

/* ---- cooperative matrices ---------------------------------------------------------------------------------------- */

static void record_matrices(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct arithmetic *m = user;
    const struct vkm_cm *cm = &vkm_rec_context(rec)->caps.cm[m->type];
    struct vkm_bench_fma_args args = {.out_ = m->out.addr, .x = 0.5f, .y = 0.25f, .never = m->never, .loops = m->loops};
    (void)i;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        .label = "bench.cm", .kernel = m->type == TYPE_F16 ? VKM_KERNEL_BENCH_CM_F16 : VKM_KERNEL_BENCH_CM_BF16,
        .spec = {[0] = m->wg, [SPEC_BENCH_CM_M] = cm->m, [SPEC_BENCH_CM_N] = cm->n, [SPEC_BENCH_CM_K] = cm->k},
        .spec_count = SPEC_BENCH_CM_K + 1, .args = &args, .args_bytes = sizeof args,
        .groups = vkm_groups(vkm_rec_context(rec), m->groups), .write = {m->out}});
}

static enum vkmoe_status matrices(struct bench *b, const char *name, uint32_t type, struct bench_result *r)
{
    const struct vkm_caps *caps = &b->ctx->caps;
    const struct vkm_cm *cm = &caps->cm[type];
    const uint32_t subgroups = caps->cpu ? 1 : 256 / caps->subgroup;
    struct arithmetic m = {.type = type, .groups = caps->cpu ? 16 : 4096, .wg = subgroups * caps->subgroup,
                           .loops = caps->cpu ? 8 : 256};
    struct bench_times times;
    /* Chain j adds (x + j % 2) (y j/2) in each of its terms: 0.5 j/2 for two chains; all sums are exact. */
    const uint32_t pairs = BENCH_CM_CHAINS / 2, terms = m.loops * cm->k;
    enum vkmoe_status status =
        time_arithmetic(b, name, &m, 0.5f * (float)(pairs * (pairs - 1) / 2) * (float)terms, record_matrices, &times);
    if (status)
        return status;
    const double flops = 2.0 * cm->m * cm->n * cm->k * BENCH_CM_CHAINS * m.loops * subgroups * m.groups;
    *r = bench_rate(b, "ceilings", name, "GFLOP/s", NULL, 1e-9 * flops, &times);
    snprintf(r->shape, sizeof r->shape, "%u x %u x %u", cm->m, cm->n, cm->k);
    snprintf(r->note, sizeof r->note, "products in registers, sums in f32; %s by training",
             cm->use ? "used" : "slower than without or wrong: not used");
    return VKMOE_OK;
}

static bool has_f16(const struct vkmoe_context *ctx)
{
    return vkm_gemm_has_cm(ctx, TYPE_F16);
}

static bool has_bf16(const struct vkmoe_context *ctx)
{
    return vkm_gemm_has_cm(ctx, TYPE_BF16);
}

static enum vkmoe_status matrices_f16(struct bench *b, const char *name, struct bench_result *r)
{
    return matrices(b, name, TYPE_F16, r);
}

static enum vkmoe_status matrices_bf16(struct bench *b, const char *name, struct bench_result *r)
{
    return matrices(b, name, TYPE_BF16, r);
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

struct copy {
    struct vkm_buf src, dst;
};

static void record_copy_kernel(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct copy *c = user;
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const uint32_t wg = vkm_tiles(ctx).flat_wg, count = (uint32_t)(c->src.bytes / 16);
    struct vkm_bench_copy_args args = {c->src.addr, c->dst.addr, count};
    (void)i;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("bench.copy", VKM_KERNEL_BENCH_COPY, wg, args),
        .groups = vkm_groups(ctx, vkm_div_up(count, wg * BENCH_COPY_EACH)), .read = {c->src}, .write = {c->dst}});
}

static void record_copy_command(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct copy *c = user;
    (void)i;
    vkm_rec_copy(rec, c->dst, c->src);
}

/* Whether both hold the same, in windows at the beginning, in the middle and at the end. */
static enum vkmoe_status same(struct bench *b, const struct copy *c, bool *yes)
{
    enum { WINDOW = 1 << 20 };
    enum vkmoe_status status = VKMOE_OK;
    char *bytes = malloc(2 * WINDOW);
    if (!bytes)
        return vkm_fail_memory(&b->ctx->log);
    *yes = true;
    for (int i = 0; i < 3 && !status; i++) {
        const uint64_t at = (c->src.bytes - WINDOW) / 2 * (uint64_t)i;
        if (!(status = vkm_buf_download(b->ctx, vkm_buf_slice(c->src, at, WINDOW), bytes, WINDOW)) &&
            !(status = vkm_buf_download(b->ctx, vkm_buf_slice(c->dst, at, WINDOW), bytes + WINDOW, WINDOW)))
            *yes &= !memcmp(bytes, bytes + WINDOW, WINDOW);
    }
    free(bytes);
    return status;
}

/* Times a copy to where zeros were. */
static enum vkmoe_status time_copy(struct bench *b, const char *name, struct copy *c,
                                   void (*record)(struct vkm_rec *rec, void *user, uint32_t i), struct bench_times *times)
{
    struct vkm_rec *rec;
    bool copied = false;
    enum vkmoe_status status = vkm_rec_create(b->ctx, name, &rec);
    if (status)
        return status;
    vkm_rec_fill(rec, c->dst, 0);
    if ((status = vkm_rec_run_once(rec)) ||
        (status = bench_time(b, &(struct bench_case){.record = record, .user = c, .anyway = true}, times)) ||
        (status = same(b, c, &copied)))
        return status;
    return copied ? VKMOE_OK : wrong(b, name);
}

/* Well past any cache, but a small part of what there is. */
static uint64_t copy_bytes(const struct vkmoe_context *ctx)
{
    uint64_t bytes = ctx->caps.cpu ? 256 << 20 : 512 << 20;
    while (bytes > 16 << 20 && (bytes > vkm_memory_available(ctx) / 8 || bytes > ctx->caps.max_block / 2))
        bytes /= 2;
    return bytes;
}

static enum vkmoe_status copy(struct bench *b, const char *name, struct bench_result *r)
{
    const uint64_t bytes = copy_bytes(b->ctx);
    struct copy c;
    struct vkm_arena *arena;
    struct bench_times kernel, command;
    enum vkmoe_status status = vkm_arena_create(b->ctx, "bench", VKM_MEMORY_DEVICE, &arena);
    if (status)
        return status;
    vkm_arena_reserve(arena, "source", bytes, &c.src);
    vkm_arena_reserve(arena, "destination", bytes, &c.dst);
    if ((status = vkm_arena_commit(arena)) || (status = bench_fill(b->ctx, c.src, &(struct bench_fill){.seed = 1, .scale = 1})) ||
        (status = time_copy(b, name, &c, record_copy_kernel, &kernel)) ||
        (status = time_copy(b, name, &c, record_copy_command, &command)))
        goto done;
    const bool by_kernel = kernel.median < command.median;
    *r = bench_rate(b, "ceilings", name, "GB/s", NULL, 2e-9 * (double)bytes, by_kernel ? &kernel : &command);
    snprintf(r->shape, sizeof r->shape, "%u MiB", (unsigned)(bytes >> 20));
    snprintf(r->note, sizeof r->note, "read and written bytes; by %s (the other way: %.3g)",
             by_kernel ? "a kernel" : "vkCmdCopyBuffer", 2e-9 * (double)bytes / (by_kernel ? command : kernel).median);
done:
    vkm_arena_destroy(arena);
    return status;
}

/* ---- launches --------------------------------------------------------------------------------------------------- */

struct launch {
    struct vkm_buf buf;
    bool dependent;
};

/* A dispatch of one workgroup that finds nothing to do. */
static void record_launch(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct launch *l = user;
    struct vkm_fill_args args = {.v = l->buf.addr, .count = 0};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("bench.launch", VKM_KERNEL_FILL, vkm_tiles(vkm_rec_context(rec)).flat_wg, args),
        .groups = {1, 1, 1}};
    (void)i;
    if (l->dependent)
        dispatch.write[0] = l->buf;
    vkm_rec_dispatch(rec, &dispatch);
}

static enum vkmoe_status launch(struct bench *b, const char *name, bool dependent, struct bench_result *r)
{
    struct launch l = {.dependent = dependent};
    struct bench_times times;
    struct vkm_arena *arena;
    enum vkmoe_status status = vkm_arena_create(b->ctx, "bench", VKM_MEMORY_DEVICE, &arena);
    if (status)
        return status;
    vkm_arena_reserve(arena, "nothing", sizeof(uint32_t), &l.buf);
    if (!(status = vkm_arena_commit(arena)))
        status = bench_time(b, &(struct bench_case){.record = record_launch, .user = &l, .anyway = true}, &times);
    vkm_arena_destroy(arena);
    if (status)
        return status;
    *r = bench_rate(b, "ceilings", name, "us", NULL, 1, &times);
    r->median = 1e6 * times.median; /* a time, not a rate */
    r->low = 1e6 * times.low;
    r->high = 1e6 * times.high;
    snprintf(r->note, sizeof r->note, "an empty dispatch, %s", dependent ? "with a barrier before it" : "without barriers");
    return VKMOE_OK;
}

static enum vkmoe_status launch_dependent(struct bench *b, const char *name, struct bench_result *r)
{
    return launch(b, name, true, r);
}

static enum vkmoe_status launch_independent(struct bench *b, const char *name, struct bench_result *r)
{
    return launch(b, name, false, r);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static const struct ceiling {
    const char *name;
    bool (*offered)(const struct vkmoe_context *ctx); /* NULL: by every device */
    enum vkmoe_status (*measure)(struct bench *b, const char *name, struct bench_result *r);
} ceilings[] = {
    {CEILING_FMA_F32, NULL, fma_f32},
    {"fma f16", has_float16, fma_f16},
    {CEILING_CM_F16, has_f16, matrices_f16},
    {CEILING_CM_BF16, has_bf16, matrices_bf16},
    {CEILING_COPY, NULL, copy},
    {"launch, dependent", NULL, launch_dependent},
    {"launch, independent", NULL, launch_independent},
};

enum vkmoe_status bench_ceilings(struct bench *b)
{
    enum vkmoe_status status = VKMOE_OK;
    for (size_t i = 0; i < sizeof ceilings / sizeof *ceilings && !status; i++) {
        const struct ceiling *c = &ceilings[i];
        struct bench_result r;
        if (c->offered && !c->offered(b->ctx))
            continue;
        if (!(status = c->measure(b, c->name, &r)))
            status = bench_report(b, &r);
    }
    return status;
}
