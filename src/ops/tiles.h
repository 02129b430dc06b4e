/* Workgroup and tile sizes by what a device can do: the one table that kernels' shapes come from. */
#ifndef VKM_OPS_TILES_H
#define VKM_OPS_TILES_H

#include "ops/ops.h"

struct vkm_tiles {
    uint32_t row_wg;            /* workgroup of kernels with one row each (norm, softmax) */
    uint32_t flat_wg;           /* of elementwise kernels */
    uint32_t attention_wg;
    uint32_t attention_lanes;   /* that may share a query, at most */
    uint32_t route_chunk;       /* tokens in a routing chunk */
    uint32_t scan_wg;           /* of few workgroups that go through many numbers each */
    uint32_t split_groups;      /* workgroups that a long sum is cut up to make, see vkm_gemm_partial; 0: it is not */
    uint32_t embed_subgroups;   /* that the embedding's backward should have */
    uint32_t embed_rows;        /* that it loads at once */
    bool pairs;                 /* elementwise kernels may load and store two f32 as 64 bits */
};
struct vkm_tiles vkm_tiles(const struct vkmoe_context *ctx);

/* How a matrix product is cut up. */
struct vkm_gemm_tiles {
    enum vkm_kernel kernel;     /* VKM_KERNEL_GEMM_... */
    uint32_t wg;                /* invocations of a workgroup */
    uint32_t bm, bn, bk;        /* its tile of C, and its depth */
    uint32_t tm, tn;            /* results of an invocation; gemm_cm: of a subgroup */
    struct vkm_cm cm;
};
static inline struct vkm_tuned vkm_tuned_of(const struct vkm_gemm_tiles *t)
{
    return (struct vkm_tuned){t->bm, t->bn, t->bk, t->tm, t->tn, t->wg};
}
/* For operands of `type` (TYPE_F32, TYPE_F16, TYPE_BF16), and few or many rows in a group: what was tuned, or else what is
 * usually good. */
struct vkm_gemm_tiles vkm_gemm_tiles(const struct vkmoe_context *ctx, uint32_t type, enum vkm_rows rows);
/* Lanes of a subgroup that a product's pipeline asks for; 0: as every pipeline. One that ends in SwiGLU keeps two sums for each
 * result, which takes as many registers as there are where lanes share them. */
uint32_t vkm_gemm_subgroup(const struct vkmoe_context *ctx, const struct vkm_gemm_tiles *t, uint32_t epilogue);
/* Which it is for so many rows in all of a product's groups (1 of a dense product). */
enum vkm_rows vkm_gemm_rows(uint64_t rows, uint64_t groups);
/* Of the products whose rows are the experts' */
struct vkm_gemm_tiles vkm_routed_tiles(const struct vkmoe_context *ctx, const struct vkm_routing *r);
/* All that the device can run, for tuning; their number. */
enum { VKM_GEMM_CANDIDATES = 9 };
uint32_t vkm_gemm_candidates(const struct vkmoe_context *ctx, uint32_t type, struct vkm_gemm_tiles out[VKM_GEMM_CANDIDATES]);
enum { VKM_LANES = 8 };
/* A CPU device that can run shaders/common/lanes.glsl: whether it is worth it is caps.lanes. */
bool vkm_has_lanes(const struct vkmoe_context *ctx);
/* caps.lanes, where kernels are a CPU device's */
static inline uint32_t vkm_lanes(const struct vkmoe_context *ctx)
{
    return ctx->caps.cpu ? ctx->caps.lanes : 0;
}
/* Rows of a tile of gemm_lanes, which loads its part of B for each tile: the most that leave each processor some, of `rows` by
 * `others` tiles; at least `least`, a power of two. */
enum { VKM_LANES_ROWS = 256 };
uint32_t vkm_lanes_rows(const struct vkmoe_context *ctx, uint32_t least, uint64_t rows, uint64_t others);
/* The kernel of cooperative matrices for `type` exists and the device has what it needs: whether it is used is cm[type].use. */
bool vkm_gemm_has_cm(const struct vkmoe_context *ctx, uint32_t type);

/* How an attention kernel is cut up. */
enum vkm_attention_pass { VKM_ATTENTION_FORWARD, VKM_ATTENTION_BWD_Q, VKM_ATTENTION_BWD_KV };
struct vkm_attention_tiles {
    enum vkm_kernel kernel;     /* VKM_KERNEL_ATTENTION... */
    uint32_t wg;                /* invocations of a workgroup */
    uint32_t lanes;             /* of them share a query (BWD_KV: a key); 1 with cooperative matrices */
    uint32_t rows;              /* queries (keys) of a workgroup */
    uint32_t cols;              /* keys (queries) at a time; cooperative matrices alone */
    struct vkm_cm cm;           /* m == 0: without cooperative matrices */
};
/* With cooperative matrices where `matrices` is true and the device has what they take, else without. */
struct vkm_attention_tiles vkm_attention_tiles(const struct vkmoe_context *ctx, const struct vkm_attention *a,
                                               enum vkm_attention_pass pass, bool matrices);

static inline uint32_t vkm_div_up(uint64_t a, uint64_t b)
{
    return (uint32_t)((a + b - 1) / b);
}

/* Fills a dispatch's kernel, label, workgroup size and arguments. */
#define VKM_DISPATCH(label_, kernel_, wg_, args_)                                                                        \
    .label = (label_), .kernel = (kernel_), .spec = {(wg_)}, .spec_count = 1, .args = &(args_), .args_bytes = sizeof(args_)

/* Kernels of common/row.glsl load rows of so many numbers together: whole fours of vectors, where the device is better at that. */
static inline bool vkm_lanes_fit(const struct vkmoe_context *ctx, uint64_t width)
{
    return vkm_lanes(ctx) && width % (4 * VKM_LANES) == 0;
}
/* Their SPEC_LANES; on a GPU, whose workgroups are of wg, rows are whole where they are whole workgroups. */
static inline uint32_t vkm_lanes_row(const struct vkmoe_context *ctx, uint32_t width, uint32_t wg)
{
    return (ctx->caps.cpu ? vkm_lanes_fit(ctx, width) : width % wg == 0) ? width : 0;
}

/* Tells them, after the other constants; such a dispatch's workgroup is of VKM_LANES. row: SPEC_LANES */
static inline void vkm_dispatch_lanes(struct vkm_dispatch *dispatch, uint32_t row)
{
    dispatch->spec[SPEC_LANES] = row;
    dispatch->spec_count = SPEC_LANES + 1;
}

/* Makes it the variant of a kernel that has a 16-bit array. */
static inline void vkm_dispatch_narrow(struct vkm_dispatch *dispatch, enum vkm_kernel kernel, uint32_t type)
{
    dispatch->kernel = kernel;
    dispatch->spec[SPEC_TYPE] = type;
    dispatch->spec_count = SPEC_TYPE + 1;
}

#endif
