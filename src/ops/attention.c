#include <math.h>

#include "ops/tiles.h"

void vkm_op_rope(struct vkm_rec *rec, const struct vkm_attention *a, struct vkm_buf x, bool inverse)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const uint32_t T = a->B * a->S, wg = vkm_tiles(ctx).row_wg;
    const uint32_t row = a->width / 2 % VKM_LANES ? 0 : vkm_lanes_row(ctx, a->H * a->width, wg);
    struct vkm_rope_args args = {x.addr, a->cos.addr, a->sin.addr, T, a->S, a->H, inverse ? -1.0f : 1.0f};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        .label = inverse ? "rope.bwd" : "rope", .kernel = VKM_KERNEL_ROPE, .args = &args, .args_bytes = sizeof args,
        .spec = {[0] = wg, [SPEC_LANES] = row, [SPEC_ROPE_HALF] = a->width / 2}, .spec_count = SPEC_ROPE_HALF + 1,
        .groups = vkm_groups(ctx, T), .read = {a->cos, a->sin}, .write = {x}});
}

/* A dispatch of one of the attention kernels; the caller adds what it reads and writes. */
static struct vkm_dispatch attention(const struct vkmoe_context *ctx, const struct vkm_attention *a, const char *label,
                                     enum vkm_attention_pass pass, const struct vkm_attention_args *args)
{
    const struct vkm_attention_tiles t = vkm_attention_tiles(ctx, a, pass, ctx->caps.cm[a->type].use_attention);
    uint64_t groups = (uint64_t)vkm_div_up(a->S, t.rows) * a->B * a->H;
    return (struct vkm_dispatch){
        .label = label, .kernel = t.kernel, .args = args, .args_bytes = sizeof *args,
        .spec = {[0] = t.wg, [SPEC_ATTENTION_WIDTH] = a->width / 4, [SPEC_ATTENTION_LANES] = t.lanes,
                 [SPEC_ATTENTION_TYPE] = a->type, [SPEC_ATTENTION_ROWS] = t.rows, [SPEC_ATTENTION_COLS] = t.cols,
                 [SPEC_ATTENTION_CM_M] = t.cm.m, [SPEC_ATTENTION_CM_N] = t.cm.n, [SPEC_ATTENTION_CM_K] = t.cm.k},
        .spec_count = t.cm.m ? SPEC_ATTENTION_CM_K + 1 : SPEC_ATTENTION_LANES + 1, .groups = vkm_groups(ctx, groups),
        .flops = 2ull * a->B * a->H * a->S * a->S * a->width};
}

static struct vkm_attention_args attention_args(const struct vkm_attention *a)
{
    return (struct vkm_attention_args){
        a->qkv.addr, a->o.addr, a->lse.addr, a->dout.addr, a->delta.addr, a->dqkv.addr, a->B, a->S, a->H,
        (float)(1 / sqrt((double)a->width))};
}

void vkm_op_attention(struct vkm_rec *rec, const struct vkm_attention *a)
{
    struct vkm_attention_args args = attention_args(a);
    struct vkm_dispatch forward = attention(vkm_rec_context(rec), a, "attention", VKM_ATTENTION_FORWARD, &args);
    forward.read[0] = a->qkv;
    forward.write[0] = a->o;
    forward.write[1] = a->lse;
    vkm_rec_dispatch(rec, &forward);
}

void vkm_op_attention_bwd(struct vkm_rec *rec, const struct vkm_attention *a)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_attention_args args = attention_args(a);
    struct vkm_dispatch q = attention(ctx, a, "attention.bwd.q", VKM_ATTENTION_BWD_Q, &args);
    q.read[0] = a->qkv;
    q.read[1] = a->o;
    q.read[2] = a->lse;
    q.read[3] = a->dout;
    q.write[0] = a->delta;
    q.write[1] = a->dqkv;
    vkm_rec_dispatch(rec, &q);

    struct vkm_dispatch kv = attention(ctx, a, "attention.bwd.kv", VKM_ATTENTION_BWD_KV, &args);
    kv.read[0] = a->qkv;
    kv.read[1] = a->delta;
    kv.read[2] = a->lse;
    kv.read[3] = a->dout;
    kv.write[0] = a->dqkv;
    vkm_rec_dispatch(rec, &kv);
}
