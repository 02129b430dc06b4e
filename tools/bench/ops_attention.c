/* Attention: x qkv, o, lse, dout, delta, dqkv. */
#include <stdio.h>

#include "bench/ops.h"
#include "cases/narrow.h"

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

/* ---- checks: one head, which stands alone ------------------------------------------------------------------------ */

struct head {
    struct ref_heads heads;    /* one sequence, one head */
    struct ref_narrow narrow;
    uint64_t token, column;    /* where it begins in rows of D */
    struct num *qkv;           /* [S,3 width] */
};

/* The last head of the last sequence. */
static void last_head(struct check *c, const struct op *o, struct head *h)
{
    const struct op_shape *s = &o->s;
    const size_t D = (size_t)s->H * s->width, width = s->width;
    *h = (struct head){.token = (uint64_t)(s->B - 1) * s->S, .column = D - width, .qkv = check_new(c, 3 * width * s->S)};
    h->heads = (struct ref_heads){.B = 1, .S = s->S, .H = 1, .hd = width};
    if (o->type != TYPE_F32) {
        h->narrow = narrow_rounding(o->type);
        h->heads.narrow = &h->narrow;
    }
    for (size_t t = 0; t < s->S; t++)
        for (size_t part = 0; part < 3; part++)
            for (size_t i = 0; i < width; i++)
                h->qkv[(3 * t + part) * width + i] = op_number(o, 0, ((h->token + t) * 3 + part) * D + h->column + i);
}

static void check_attention(struct check *c, const struct op *o)
{
    const size_t S = o->s.S, H = o->s.H, width = o->s.width;
    struct num *want = check_new(c, S * width), *lse = check_new(c, S);
    struct head h;
    last_head(c, o, &h);
    ref_attention(h.heads, h.qkv, want, lse);
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t t = check_place(S, 1, place);
        check_expect(c, "o", o->x[1], TYPE_F32, (h.token + t) * H * width + h.column, &want[t * width], width);
        check_expect(c, "lse", o->x[2], TYPE_F32, (h.token + t) * H + H - 1, &lse[t], 1);
    }
}

static void check_attention_bwd(struct check *c, const struct op *o)
{
    const size_t S = o->s.S, width = o->s.width, D = o->s.H * width;
    struct num *dout = check_new(c, S * width), *want = check_new(c, 3 * S * width);
    struct head h;
    last_head(c, o, &h);
    for (size_t t = 0; t < S; t++)
        for (size_t i = 0; i < width; i++)
            dout[t * width + i] = op_number(o, 3, (h.token + t) * D + h.column + i);
    ref_attention_backward(h.heads, h.qkv, dout, want);
    for (int place = 0; place < CHECK_PLACES; place++)
        for (size_t part = 0; part < 3; part++) {
            const uint64_t t = check_place(S, 1, place);
            check_expect(c, "dqkv", o->x[5], TYPE_F32, ((h.token + t) * 3 + part) * D + h.column, &want[(3 * t + part) * width],
                         width);
        }
}

const struct op_case op_attention[] = {
    {"attention", false, plan_attention_fwd, setup_attention, record_attention, .check = check_attention,
     .skip = skip_attention,
     .cpu = {{.B = 4, .S = 128, .H = 4, .width = 32}}, .gpu = {{.B = 8, .S = 1024, .H = 12, .width = 64}}},
    {"attention backward", false, plan_attention_bwd, setup_attention, record_attention_bwd, .check = check_attention_bwd,
     .skip = skip_attention,
     .cpu = {{.B = 4, .S = 128, .H = 4, .width = 32}}, .gpu = {{.B = 8, .S = 1024, .H = 12, .width = 64}}},
    {0},
};
