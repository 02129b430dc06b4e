/* Attention, and the operations that memory bounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ops.h"
#include "cases/cases.h"

/* ---- attention: x qkv, o, lse, dout, delta, dqkv ----------------------------------------------------------------- */

static void plan_attention(struct op *o, double products)
{
    const struct op_shape *s = &o->s;
    const uint64_t T = (uint64_t)s->B * s->S, D = (uint64_t)s->H * s->width;
    op_reserve32(o, 0, 3 * T * D);
    op_reserve32(o, 1, T * D);
    op_reserve32(o, 2, T * s->H);
    op_reserve32(o, 3, T * D);
    op_reserve32(o, 4, T * s->H);
    op_reserve32(o, 5, 3 * T * D);
    /* Each product of S by S: causal, half of it. */
    o->work = products * (double)T * (double)D * s->S;
    snprintf(o->shape, sizeof o->shape, "B %u, S %u, H %u, width %u", s->B, s->S, s->H, s->width);
}

static void plan_attention_fwd(struct op *o)
{
    plan_attention(o, 2);
}

static void plan_attention_bwd(struct op *o)
{
    plan_attention(o, 5);
}

static void record_attention(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_attention(rec, &o->attention);
}

static enum vkmoe_status setup_attention(struct op *o)
{
    const struct op_shape *s = &o->s;
    struct vkm_rec *rec;
    o->attention = (struct vkm_attention){.type = o->type, .B = s->B, .S = s->S, .H = s->H, .width = s->width,
                                          .qkv = o->x[0], .o = o->x[1], .lse = o->x[2], .dout = o->x[3],
                                          .delta = o->x[4], .dqkv = o->x[5]};
    enum vkmoe_status status = vkm_rec_create(o->ctx, "bench setup", &rec);
    if (status)
        return status;
    record_attention(rec, o, 0); /* the backward's output and lse */
    return vkm_rec_run_once(rec);
}

/* Its arrays are f32 in any case: without matrices it is the same kernel. */
static const char *skip_attention(const struct vkmoe_context *ctx, uint32_t type)
{
    return type == TYPE_F32 || ctx->caps.cm[type].use_attention ? NULL : "as in f32: not on cooperative matrices here";
}

static void record_attention_bwd(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_attention_bwd(rec, &o->attention);
}

/* ---- RMSNorm: x x, w, y; backward x x, w, dy, dx, dw, scratch ------------------------------------------------------ */

static void plan_rmsnorm(struct op *o)
{
    const uint64_t T = o->s.T, D = o->s.D;
    op_reserve(o, 0, T * D);
    op_reserve(o, 1, D);
    op_reserve(o, 2, T * D);
    o->work = 4.0 * (double)(2 * T * D + D);
    snprintf(o->shape, sizeof o->shape, "T %u, D %u", o->s.T, o->s.D);
}

static void record_rmsnorm(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_rmsnorm(rec, o->x[0], o->x[1], o->x[2], (struct vkm_buf){0}, TYPE_F32, o->s.T, o->s.D, 1e-5f);
}

static void plan_rmsnorm_bwd(struct op *o)
{
    const uint64_t T = o->s.T, D = o->s.D;
    plan_rmsnorm(o);
    op_reserve(o, 3, T * D);
    op_reserve(o, 4, D);
    op_reserve(o, 5, vkm_rmsnorm_scratch(o->s.T, o->s.D) / sizeof(float));
    o->work = 4.0 * (double)(4 * T * D + 3 * D); /* dx and dw are added to */
}

static void record_rmsnorm_bwd(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_rmsnorm_bwd(rec, o->x[0], o->x[1], o->x[2], o->x[3], o->x[4], o->x[5], o->s.T, o->s.D, 1e-5f);
}

/* ---- loss: x logits, targets, loss, z_loss ------------------------------------------------------------------------- */

static void plan_xent(struct op *o)
{
    const uint64_t T = o->s.T, V = o->s.V;
    for (uint32_t i = 0; i < 4; i++)
        op_reserve(o, i, i == 0 ? T * V : T);
    vkm_arena_reserve(o->arena, "loss scale", sizeof(struct loss_scale), &o->small);
    o->work = 4.0 * (double)(2 * T * V + 3 * T);
    snprintf(o->shape, sizeof o->shape, "T %u, V %u", o->s.T, o->s.V);
}

static enum vkmoe_status setup_xent(struct op *o)
{
    uint32_t *target = malloc(o->x[1].bytes);
    if (!target)
        return vkm_fail_memory(&o->ctx->log);
    case_fill_indices(target, o->s.T, 1, o->s.V);
    enum vkmoe_status status = vkm_buf_upload(o->ctx, o->x[1], target, o->x[1].bytes);
    free(target);
    const struct loss_scale one = {.scale = 1};
    return status ? status : vkm_buf_upload(o->ctx, o->small, &one, sizeof one);
}

static void record_xent(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_xent(rec, o->x[0], o->x[1], o->x[2], o->x[3], o->small, o->s.T, o->s.V, 0, 1);
}

/* ---- routing: x logits, copies of them (the gate overwrites them), g, lse ------------------------------------------ */

static void plan_route(struct op *o)
{
    const struct op_shape *s = &o->s;
    const uint64_t z = (uint64_t)s->T * s->E, R = (uint64_t)s->T * s->K;
    op_reserve(o, 0, z);
    op_reserve(o, 1, z * OP_Z_COPIES);
    op_reserve(o, 2, R);
    op_reserve(o, 3, s->T);
    op_routing_reserve(o);
    /* z read, p written; idx and g written; idx read twice; row_of, token_of, slot_of written */
    o->work = 4.0 * (double)(2 * z + 7 * R + s->T);
    snprintf(o->shape, sizeof o->shape, "T %u, E %u, K %u", s->T, s->E, s->K);
}

static struct vkm_buf z_copy(const struct op *o, uint32_t i)
{
    return vkm_buf_slice(o->x[1], i * o->x[0].bytes, o->x[0].bytes);
}

static void prepare_route(struct vkm_rec *rec, void *op)
{
    const struct op *o = op;
    for (uint32_t i = 0; i < OP_Z_COPIES; i++)
        vkm_rec_copy(rec, z_copy(o, i), o->x[0]);
}

static void record_route(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    vkm_op_gate(rec, &(struct vkm_gate){.T = o->s.T, .E = o->s.E, .K = o->s.K, .norm_topk = true, .z = z_copy(o, i),
                                        .idx = o->routing.idx, .g = o->x[2], .lse = o->x[3]});
    vkm_op_route(rec, &o->routing, (struct vkm_buf){0});
}

/* ---- combination: x rows, g, base, y ------------------------------------------------------------------------------- */

static void plan_combine(struct op *o)
{
    const struct op_shape *s = &o->s;
    const uint64_t TD = (uint64_t)s->T * s->D, R = (uint64_t)s->T * s->K;
    op_reserve(o, 0, R * s->D);
    op_reserve(o, 1, R);
    op_reserve(o, 2, TD);
    op_reserve(o, 3, TD);
    op_routing_reserve(o);
    o->work = 4.0 * (double)(R * s->D + 2 * R + 2 * TD);
    snprintf(o->shape, sizeof o->shape, "T %u, D %u, E %u, K %u", s->T, s->D, s->E, s->K);
}

static void record_combine(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_combine(rec, &o->routing, o->x[0], o->x[1], o->x[2], o->x[3], o->s.D);
}

/* ---- AdamW: x w, g, m, v ------------------------------------------------------------------------------------------- */

static void plan_adamw(struct op *o)
{
    for (uint32_t i = 0; i < 4; i++)
        op_reserve(o, i, o->s.count);
    vkm_arena_reserve(o->arena, "control", 256 + sizeof(struct step_stats), &o->small);
    o->work = 4.0 * 8 * o->s.count;
    snprintf(o->shape, sizeof o->shape, "%u", o->s.count);
}

static struct vkm_buf adamw_stats(const struct op *o)
{
    return vkm_buf_slice(o->small, 256, sizeof(struct step_stats));
}

/* A rate of 0: however often it is repeated, the weights stay what they are. */
static enum vkmoe_status setup_adamw(struct op *o)
{
    const struct step_control control = {.bias1 = 1, .bias2 = 1};
    const struct step_stats stats = {.clip_scale = 1};
    struct vkm_rec *rec;
    enum vkmoe_status status;
    if ((status = vkm_buf_upload(o->ctx, o->small, &control, sizeof control)) ||
        (status = vkm_buf_upload(o->ctx, adamw_stats(o), &stats, sizeof stats)) ||
        (status = vkm_rec_create(o->ctx, "bench setup", &rec)))
        return status;
    vkm_rec_fill(rec, o->x[3], 0x3f000000); /* 0.5: means of squares are not negative */
    return vkm_rec_run_once(rec);
}

/* Betas near 1: moments without a gradient go down so slowly that no denormal number comes of it. */
static void record_adamw(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_adamw(rec, o->x[0], o->x[1], o->x[2], o->x[3], (struct vkm_buf){0}, TYPE_F32,
                 vkm_buf_slice(o->small, 0, sizeof(struct step_control)), adamw_stats(o), o->s.count, 0.99999f, 0.99999f, 1e-8f, 0);
}

const struct op_case op_others[] = {
    {"attention", false, plan_attention_fwd, setup_attention, record_attention,
     .skip = skip_attention,
     .cpu = {{.B = 4, .S = 128, .H = 4, .width = 32}}, .gpu = {{.B = 8, .S = 1024, .H = 12, .width = 64}}},
    {"attention backward", false, plan_attention_bwd, setup_attention, record_attention_bwd,
     .skip = skip_attention,
     .cpu = {{.B = 4, .S = 128, .H = 4, .width = 32}}, .gpu = {{.B = 8, .S = 1024, .H = 12, .width = 64}}},
    {"rmsnorm", true, plan_rmsnorm, NULL, record_rmsnorm,
     .cpu = {{.T = 16384, .D = 512}}, .gpu = {{.T = 65536, .D = 1024}}},
    {"rmsnorm backward", true, plan_rmsnorm_bwd, NULL, record_rmsnorm_bwd,
     .cpu = {{.T = 16384, .D = 512}}, .gpu = {{.T = 65536, .D = 1024}}},
    {"xent", true, plan_xent, setup_xent, record_xent,
     .cpu = {{.T = 16384, .V = 264}}, .gpu = {{.T = 131072, .V = 264}, {.T = 2048, .V = 50304}}},
    {"gate and route", true, plan_route, NULL, record_route, prepare_route, OP_Z_COPIES,
     .cpu = {{.T = 4096, .D = 256, .F = 256, .E = 32, .K = 4}}, .gpu = {{.T = 65536, .D = 1024, .F = 1024, .E = 128, .K = 8}}},
    {"combine", true, plan_combine, op_routing_setup, record_combine,
     .cpu = {{.T = 4096, .D = 512, .F = 256, .E = 32, .K = 4}}, .gpu = {{.T = 32768, .D = 1024, .F = 1024, .E = 32, .K = 4}}},
    {"adamw", true, plan_adamw, setup_adamw, record_adamw,
     .cpu = {{.count = 8 << 20}}, .gpu = {{.count = 64 << 20}}},
    {0},
};
