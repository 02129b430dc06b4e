#include "ops/probe.h"

#include <stdlib.h>
#include <string.h>

#include "ops/tiles.h"

enum { FORMS = 3, ROUNDS = 3 };

struct probe {
    struct vkmoe_context *ctx;
    uint32_t type, n;                 /* matrices of n by n */
    struct vkm_arena *arena;
    struct vkm_buf a, b, c[FORMS];
    float *result[2];                 /* [FORMS,n,n] with plain kernels, with cooperative matrices */
    double seconds[2];
};

/* -2 to 2 in 16 bits */
static uint16_t small_integer(uint32_t type, uint32_t i)
{
    static const uint16_t f16[] = {0xc000, 0xbc00, 0, 0x3c00, 0x4000}, bf16[] = {0xc000, 0xbf80, 0, 0x3f80, 0x4000};
    i = (i * 2654435761u) >> 16;
    return (type == TYPE_F16 ? f16 : bf16)[i % 5];
}

static enum vkmoe_status fill(struct probe *p)
{
    const size_t count = (size_t)p->n * p->n;
    enum vkmoe_status status = VKMOE_OK;
    uint16_t *values = malloc(count * sizeof *values);
    if (!values)
        return vkm_fail_memory(&p->ctx->log);
    for (int which = 0; which < 2 && !status; which++) {
        for (uint32_t i = 0; i < count; i++)
            values[i] = small_integer(p->type, 2 * i + (uint32_t)which);
        status = vkm_buf_upload(p->ctx, which ? p->b : p->a, values, count * sizeof *values);
    }
    free(values);
    return status;
}

static enum vkmoe_status run(struct probe *p, bool matrices)
{
    struct vkm_rec *rec;
    const uint64_t bytes = (uint64_t)p->n * p->n * sizeof(float);
    p->ctx->caps.cm[p->type].use = matrices;
    enum vkmoe_status status = vkm_rec_create(p->ctx, "probe", &rec);
    if (status)
        return status;
    for (uint32_t form = 0; form < FORMS; form++)
        vkm_op_gemm(rec, &(struct vkm_gemm){
            .label = "probe", .form = form, .type = p->type, .narrow = NARROW_A | NARROW_B, .a = p->a, .b = p->b,
            .c = p->c[form], .m = p->n, .n = p->n, .k = p->n});
    if (!(status = vkm_rec_end(rec)) && !(status = vkm_rec_time(rec, 1, &p->seconds[matrices])))
        status = vkm_rec_time(rec, ROUNDS, &p->seconds[matrices]);
    vkm_rec_destroy(rec);
    for (uint32_t form = 0; form < FORMS && !status; form++)
        status = vkm_buf_download(p->ctx, p->c[form], p->result[matrices] + form * bytes / sizeof(float), bytes);
    return status;
}

/* Are they right? */
static bool decide(struct probe *p)
{
    struct vkm_cm *cm = &p->ctx->caps.cm[p->type];
    const char *name = p->type == TYPE_F16 ? "f16" : "bf16";
    const bool right = !memcmp(p->result[0], p->result[1], FORMS * (size_t)p->n * p->n * sizeof(float));
    const double ratio = p->seconds[0] / p->seconds[1];
    cm->use = right && ratio > 1;
    if (!right)
        vkm_log(&p->ctx->log, VKMOE_LOG_WARNING, "%s (%s) multiplies %s cooperative matrices wrongly; going on without them",
                p->ctx->info.name, p->ctx->info.driver, name);
    else
        vkm_log(&p->ctx->log, VKMOE_LOG_DEBUG, "%s cooperative matrices of %u x %u x %u: %.2f times as fast as without, %s",
                name, cm->m, cm->n, cm->k, ratio, cm->use ? "used" : "not used");
    return right;
}

static enum vkmoe_status probe_matrices(struct vkmoe_context *ctx, uint32_t type)
{
    struct vkm_cm *cm = &ctx->caps.cm[type];
    struct probe p = {.ctx = ctx, .type = type, .n = ctx->caps.cpu ? 128 : 1024};
    const size_t count = (size_t)p.n * p.n;
    enum vkmoe_status status;
    bool right = false;
    if (cm->probed || !vkm_gemm_has_cm(ctx, type))
        return VKMOE_OK;
    if ((status = vkm_arena_create(ctx, "probe", VKM_MEMORY_DEVICE, &p.arena)))
        return status;
    vkm_arena_reserve(p.arena, "a", count * sizeof(uint16_t), &p.a);
    vkm_arena_reserve(p.arena, "b", count * sizeof(uint16_t), &p.b);
    for (int form = 0; form < FORMS; form++)
        vkm_arena_reserve(p.arena, "c", count * sizeof(float), &p.c[form]);
    for (int i = 0; i < 2; i++)
        if (!(p.result[i] = malloc(FORMS * count * sizeof(float))))
            status = vkm_fail_memory(&ctx->log);
    if (!status && !(status = vkm_arena_commit(p.arena)) && !(status = fill(&p)) && !(status = run(&p, false)) &&
        !(status = run(&p, true)))
        right = decide(&p);
    cm->use = cm->use && !status;
    free(p.result[0]);
    free(p.result[1]);
    vkm_arena_destroy(p.arena);
    if (!status && right && (cm->use || !ctx->caps.cpu)) /* what a CPU device is slower with, it only takes long to compile */
        status = vkm_attention_probe(ctx, type);
    cm->probed = !status;
    return status;
}

enum vkmoe_status vkm_probe(struct vkmoe_context *ctx, uint32_t type)
{
    enum vkmoe_status status = vkm_lanes_probe(ctx);
    return status || type == TYPE_F32 ? status : probe_matrices(ctx, type);
}
