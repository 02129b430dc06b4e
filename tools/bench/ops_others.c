/* The operations that memory bounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ops.h"
#include "cases/cases.h"

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

static void check_rmsnorm(struct check *c, const struct op *o)
{
    const size_t D = o->s.D;
    const struct num *w = op_numbers(c, o, 1, 0, 1, D);
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t row = check_place(o->s.T, 1, place) * D;
        struct num *want = check_new(c, D);
        ref_rmsnorm(1, D, op_numbers(c, o, 0, row, 1, D), w, 1e-5f, want, NULL);
        check_expect(c, "y", o->x[2], TYPE_F32, row, want, D);
    }
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

/* Rows of dx, and some columns of dw, which is a sum over all rows. */
static void check_rmsnorm_bwd(struct check *c, const struct op *o)
{
    const size_t T = o->s.T, D = o->s.D;
    const struct num *w = op_numbers(c, o, 1, 0, 1, D);
    struct num_sum sums[CHECK_PLACES] = {0};
    struct num *x = check_new(c, D), *y = check_new(c, D), *want = check_new(c, D);
    for (size_t t = 0; t < T; t++) {
        struct num rstd;
        for (size_t i = 0; i < D; i++)
            x[i] = op_number(o, 0, t * D + i);
        ref_rmsnorm(1, D, x, w, 1e-5f, y, &rstd);
        for (int place = 0; place < CHECK_PLACES; place++) {
            const uint64_t i = check_place(D, 1, place);
            num_sum_mul(&sums[place], op_number(o, 2, t * D + i), num_mul(x[i], rstd));
        }
    }
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t row = check_place(T, 1, place) * D, column = check_place(D, 1, place);
        ref_rmsnorm_backward(1, D, op_numbers(c, o, 0, row, 1, D), w, op_numbers(c, o, 2, row, 1, D), 1e-5f, want, NULL);
        ref_add(D, want, op_numbers(c, o, 3, row, 1, D), want);
        check_expect(c, "dx", o->x[3], TYPE_F32, row, want, D);
        *want = num_add(num_sum_end(&sums[place]), op_number(o, 4, column));
        check_expect(c, "dw", o->x[4], TYPE_F32, column, want, 1);
    }
}

/* ---- loss: x logits, targets, loss, z_loss ------------------------------------------------------------------------- */

enum { TARGETS = 1 }; /* their seed */

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
    case_fill_indices(target, o->s.T, TARGETS, o->s.V);
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

static void check_xent(struct check *c, const struct op *o)
{
    const size_t V = o->s.V;
    struct num *loss = check_new(c, 1), *want = check_new(c, V);
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t t = check_place(o->s.T, 1, place);
        const uint32_t target = case_index(TARGETS, t, o->s.V);
        ref_xent(1, V, op_numbers(c, o, 0, t * V, 1, V), &target, 0, 1, loss, NULL, want);
        check_expect(c, "loss", o->x[2], TYPE_F32, t, loss, 1);
        check_expect(c, "dlogits", o->x[0], TYPE_F32, t * V, want, V);
    }
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

/* What is chosen on samples; all rows that follow from it. */
static void check_route(struct check *c, const struct op *o)
{
    const size_t E = o->s.E, K = o->s.K;
    const struct ref_gate gate = {.T = 1, .E = E, .K = K, .norm_topk = true};
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t t = check_place(o->s.T, 1, place);
        struct num *p = check_new(c, E), *g = check_new(c, K), *lse = check_new(c, 1);
        uint32_t *idx = check_new_words(c, K);
        ref_gate(&gate, false, op_numbers(c, o, 0, t * E, 1, E), p, idx, g, lse);
        check_expect_words(c, "idx", o->routing.idx, t * K, idx, K);
        check_expect(c, "p", z_copy(o, 0), TYPE_F32, t * E, p, E);
        check_expect(c, "g", o->x[2], TYPE_F32, t * K, g, K);
        check_expect(c, "lse", o->x[3], TYPE_F32, t, lse, 1);
    }
    const uint32_t *idx = check_read_words(c, o->routing.idx, E);
    const struct op_rows rows = op_rows(c, o, idx);
    check_expect_words(c, "row_of", o->routing.row_of, 0, rows.row_of, o->s.T * K);
    check_expect_words(c, "token_of", o->routing.token_of, 0, rows.token_of, o->s.T * K);
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

static void check_combine(struct check *c, const struct op *o)
{
    const size_t D = o->s.D, K = o->s.K;
    const struct op_rows rows = op_rows(c, o, NULL);
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t t = check_place(o->s.T, 1, place);
        struct num *chosen = check_new(c, K * D);
        for (size_t k = 0; k < K; k++)
            for (size_t i = 0; i < D; i++)
                chosen[k * D + i] = op_number(o, 0, rows.row_of[t * K + k] * D + i);
        struct num *want = check_combined(c, K, D, op_numbers(c, o, 1, t * K, 1, K), chosen);
        ref_add(D, want, op_numbers(c, o, 2, t * D, 1, D), want);
        check_expect(c, "y", o->x[3], TYPE_F32, t * D, want, D);
    }
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

#define ADAMW_BETA 0.99999f
/* Betas near 1: moments without a gradient go down so slowly that no denormal number comes of it. */
static void record_adamw(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_adamw(rec, o->x[0], o->x[1], o->x[2], o->x[3], (struct vkm_buf){0}, TYPE_F32,
                 vkm_buf_slice(o->small, 0, sizeof(struct step_control)), adamw_stats(o), o->s.count, ADAMW_BETA, ADAMW_BETA, 1e-8f,
                 0);
}

static void check_adamw(struct check *c, const struct op *o)
{
    const struct ref_adamw opt = {.beta1 = ADAMW_BETA, .beta2 = ADAMW_BETA, .eps = 1e-8f, .bias1 = 1, .bias2 = 1};
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t i = check_place(o->s.count, CHECK_WINDOW, place);
        struct num *w = op_numbers(c, o, 0, i, 1, CHECK_WINDOW), *m = op_numbers(c, o, 2, i, 1, CHECK_WINDOW);
        struct num *v = check_new(c, CHECK_WINDOW);
        for (size_t x = 0; x < CHECK_WINDOW; x++)
            v[x] = num_exact(0.5);
        ref_adamw(&opt, CHECK_WINDOW, num_exact(1), op_numbers(c, o, 1, i, 1, CHECK_WINDOW), w, m, v);
        check_expect(c, "w", o->x[0], TYPE_F32, i, w, CHECK_WINDOW);
        check_expect(c, "m", o->x[2], TYPE_F32, i, m, CHECK_WINDOW);
        check_expect(c, "v", o->x[3], TYPE_F32, i, v, CHECK_WINDOW);
    }
}

const struct op_case op_others[] = {
    {"rmsnorm", true, plan_rmsnorm, NULL, record_rmsnorm, check_rmsnorm,
     .cpu = {{.T = 16384, .D = 512}}, .gpu = {{.T = 65536, .D = 1024}}},
    {"rmsnorm backward", true, plan_rmsnorm_bwd, NULL, record_rmsnorm_bwd, check_rmsnorm_bwd,
     .cpu = {{.T = 16384, .D = 512}}, .gpu = {{.T = 65536, .D = 1024}}},
    {"xent", true, plan_xent, setup_xent, record_xent, check_xent,
     .cpu = {{.T = 16384, .V = 264}}, .gpu = {{.T = 131072, .V = 264}, {.T = 2048, .V = 50304}}},
    {"gate and route", true, plan_route, NULL, record_route, check_route, prepare_route, OP_Z_COPIES,
     .cpu = {{.T = 4096, .D = 256, .F = 256, .E = 32, .K = 4}}, .gpu = {{.T = 65536, .D = 1024, .F = 1024, .E = 128, .K = 8}}},
    {"combine", true, plan_combine, op_routing_setup, record_combine, check_combine,
     .cpu = {{.T = 4096, .D = 512, .F = 256, .E = 32, .K = 4}}, .gpu = {{.T = 32768, .D = 1024, .F = 1024, .E = 32, .K = 4}}},
    {"adamw", true, plan_adamw, setup_adamw, record_adamw, check_adamw,
     .cpu = {{.count = 8 << 20}}, .gpu = {{.count = 64 << 20}}},
    {0},
};
