#include "ops/tiles.h"

struct vkm_tiles vkm_tiles(const struct vkmoe_context *ctx)
{
    const struct vkm_caps *caps = &ctx->caps;
    if (caps->cpu) {
        uint32_t wg = caps->subgroup;
        return (struct vkm_tiles){
            .row_wg = wg, .flat_wg = wg * 8, .attention_wg = wg, .attention_lanes = 1, .route_chunk = 64,
        };
    }
    return (struct vkm_tiles){
        .row_wg = caps->subgroup > 128 ? caps->subgroup : 128, .flat_wg = 256, .attention_wg = 64,
        .attention_lanes = caps->subgroup < 8 ? caps->subgroup : 8, /* they sum over lanes of a subgroup */
        .route_chunk = 64,
    };
}

/* Bytes of shared memory that gemm_cm.comp takes at most (EPILOGUE_SWIGLU has two Bs and two results). */
static uint32_t cm_shared_bytes(const struct vkm_gemm_tiles *t)
{
    uint32_t vecs = t->bk / 4 + 2, subgroups = t->bm / t->tm * (t->bn / t->tn);
    return 8 * vecs * (t->bm + 2 * t->bn) + 4 * t->bm * (1 + t->bn / t->tn) + 8 * subgroups * t->cm.m * t->cm.n;
}

static struct vkm_gemm_tiles cm_tiles(const struct vkmoe_context *ctx, uint32_t type)
{
    const struct vkm_caps *caps = &ctx->caps;
    /* Eight subgroups of 64 by 32 where shared memory has room (NVIDIA, AMD), else four of 32 by 32. */
    static const uint32_t shapes[][5] = {{128, 128, 32, 64, 32}, {64, 64, 32, 32, 32}, {32, 32, 16, 16, 16}};
    struct vkm_gemm_tiles t = {0};
    for (size_t i = caps->cpu ? 2 : 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint32_t *s = shapes[i];
        t = (struct vkm_gemm_tiles){
            .kernel = type == TYPE_F16 ? VKM_KERNEL_GEMM_CM_F16 : VKM_KERNEL_GEMM_CM_BF16, .bm = s[0], .bn = s[1],
            .bk = s[2], .tm = s[3], .tn = s[4], .wg = s[0] / s[3] * (s[1] / s[4]) * caps->subgroup, .cm = caps->cm[type]};
        if (t.wg <= caps->max_invocations && cm_shared_bytes(&t) <= caps->shared_bytes)
            break;
    }
    return t;
}

bool vkm_gemm_has_cm(const struct vkmoe_context *ctx, uint32_t type)
{
    if (type == TYPE_F32 || !ctx->caps.cm[type].m)
        return false;
    struct vkm_gemm_tiles t = cm_tiles(ctx, type);
    return vkm_shaders[t.kernel].words && t.wg <= ctx->caps.max_invocations && cm_shared_bytes(&t) <= ctx->caps.shared_bytes;
}

struct vkm_gemm_tiles vkm_gemm_tiles(const struct vkmoe_context *ctx, uint32_t type)
{
    const struct vkm_caps *caps = &ctx->caps;
    if (caps->cm[type].use)
        return cm_tiles(ctx, type);
    if (caps->cpu) {
        uint32_t wg = caps->subgroup;
        return (struct vkm_gemm_tiles){
            .kernel = type == TYPE_F32 ? VKM_KERNEL_GEMM_DIRECT : VKM_KERNEL_GEMM_DIRECT_16, .wg = wg, .bm = 8,
            .bn = 4 * wg, .bk = 4, .tm = 8, .tn = 4};
    }
    return (struct vkm_gemm_tiles){
        .kernel = type == TYPE_F32 ? VKM_KERNEL_GEMM_TILED : VKM_KERNEL_GEMM_TILED_16, .wg = 256, .bm = 64, .bn = 64,
        .bk = 16, .tm = 4, .tn = 4};
}
