/* Which tiles of matrix products are fastest on a device: measured, since no table knows every card. */
#ifndef VKM_NN_TUNE_H
#define VKM_NN_TUNE_H

#include "ops/tiles.h"

struct vkm_tune_result {
    struct vkm_gemm_tiles tiles;
    double seconds;                 /* of a layer of experts, forward and backward: the least of some runs */
    bool right;                     /* the same bits as with the default tiles */
};
struct vkm_tune_report {
    uint32_t type;
    enum vkm_rows rows;
    struct vkm_tune_result results[VKM_GEMM_CANDIDATES]; /* the default first */
    uint32_t count, best;           /* index of the fastest right one */
};

/* Times all candidates for that type and number of rows and notes the best in ctx->tuning. Fails as memory and submissions do. */
enum vkmoe_status vkm_gemm_tune(struct vkmoe_context *ctx, uint32_t type, enum vkm_rows rows, struct vkm_tune_report *out);

#endif
