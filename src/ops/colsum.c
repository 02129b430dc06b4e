#include "ops/colsum.h"
#include "ops/tiles.h"

/* Rows that an invocation adds in one pass, or in the first of two. A CPU device takes longer to begin another pass than to add. */
enum { CHUNK = 64, CHUNK_CPU = 1024 };

uint64_t vkm_colsum_scratch(uint32_t rows, uint32_t cols)
{
    return rows > CHUNK ? (uint64_t)vkm_div_up(rows, CHUNK) * cols * sizeof(float) : 0;
}

static void pass(struct vkm_rec *rec, const char *label, struct vkm_buf x, struct vkm_buf y, struct vkm_buf s,
                 struct vkm_buf out, uint32_t rows, uint32_t cols, uint32_t chunk, bool accumulate)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const bool together = vkm_lanes_fit(ctx, cols);
    uint32_t wg = together ? VKM_LANES : vkm_tiles(ctx).flat_wg;
    struct vkm_colsum_args args = {x.addr, y.addr, s.addr, out.addr, rows, cols, chunk, accumulate};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH(label, VKM_KERNEL_COLSUM, wg, args),
        .groups = vkm_groups(ctx, vkm_div_up((uint64_t)vkm_div_up(rows, chunk) * cols, wg)), .read = {x}, .write = {out}};
    uint32_t reads = 1;
    if (y.bytes)
        dispatch.read[reads++] = y;
    if (s.bytes)
        dispatch.read[reads++] = s;
    vkm_dispatch_lanes(&dispatch, together);
    dispatch.spec[SPEC_COLSUM_Y] = y.bytes > 0;
    dispatch.spec[SPEC_COLSUM_S] = s.bytes > 0;
    dispatch.spec_count = SPEC_COLSUM_S + 1;
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_colsum(struct vkm_rec *rec, const char *label, struct vkm_buf x, struct vkm_buf y, struct vkm_buf s,
                   struct vkm_buf out, struct vkm_buf scratch, uint32_t rows, uint32_t cols, bool accumulate)
{
    struct vkm_buf none = {0};
    const uint32_t chunk = vkm_rec_context(rec)->caps.cpu ? CHUNK_CPU : CHUNK, chunks = vkm_div_up(rows, chunk);
    if (rows <= chunk) {
        pass(rec, label, x, y, s, out, rows, cols, rows, accumulate);
        return;
    }
    pass(rec, label, x, y, s, scratch, rows, cols, chunk, false);
    pass(rec, label, scratch, none, none, out, chunks, cols, chunks, accumulate);
}
