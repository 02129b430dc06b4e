/* Workgroup and tile sizes by what a device can do: the one table that kernels' shapes come from. */
#ifndef VKM_OPS_TILES_H
#define VKM_OPS_TILES_H

#include "ops/ops.h"

struct vkm_tiles {
    enum vkm_kernel gemm;       /* VKM_KERNEL_GEMM_DIRECT or _TILED */
    uint32_t gemm_wg;           /* invocations of a product's workgroup */
    uint32_t bm, bn, bk;        /* its tile of C, and its depth */
    uint32_t tm, tn;            /* results of an invocation */
    uint32_t row_wg;            /* workgroup of kernels with one row each (norm, softmax) */
    uint32_t flat_wg;           /* of elementwise kernels */
    uint32_t attention_wg;
    uint32_t attention_lanes;   /* most invocations that share a query */
    uint32_t route_chunk;       /* tokens in a routing chunk */
};
struct vkm_tiles vkm_tiles(const struct vkmoe_context *ctx);

static inline uint32_t vkm_div_up(uint64_t a, uint64_t b)
{
    return (uint32_t)((a + b - 1) / b);
}

/* Fills a dispatch's kernel, label, workgroup size and arguments. */
#define VKM_DISPATCH(label_, kernel_, wg_, args_)                                                                        \
    .label = (label_), .kernel = (kernel_), .spec = {(wg_)}, .spec_count = 1, .args = &(args_), .args_bytes = sizeof(args_)

#endif
