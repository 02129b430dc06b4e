#include "ops/tiles.h"

struct vkm_tiles vkm_tiles(const struct vkmoe_context *ctx)
{
    const struct vkm_caps *caps = &ctx->caps;
    if (caps->cpu) {
        uint32_t wg = caps->subgroup;
        return (struct vkm_tiles){
            .gemm = VKM_KERNEL_GEMM_DIRECT, .gemm_wg = wg, .bm = 8, .bn = 4 * wg, .bk = 4, .tm = 8, .tn = 4,
            .row_wg = wg, .flat_wg = wg * 8, .attention_wg = wg, .attention_lanes = 1, .route_chunk = 64,
        };
    }
    return (struct vkm_tiles){
        .gemm = VKM_KERNEL_GEMM_TILED, .gemm_wg = 256, .bm = 64, .bn = 64, .bk = 16, .tm = 4, .tn = 4,
        .row_wg = caps->subgroup > 128 ? caps->subgroup : 128, .flat_wg = 256, .attention_wg = 64,
        .attention_lanes = caps->subgroup < 8 ? caps->subgroup : 8, /* they sum over lanes of a subgroup */
        .route_chunk = 64,
    };
}
