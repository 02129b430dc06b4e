#include "ops/probe.h"

#include <math.h>
#include <stdlib.h>

#include "ops/tiles.h"

enum { ROUNDS = 3 };

struct probe {
    struct vkmoe_context *ctx;
    struct vkm_attention a;
    struct vkm_arena *arena;
    float *qkv, *dout, *o, *dqkv;     /* of the last sequence: [S,3D], [S,D] */
    double *sums;                     /* 4 [S,width] and 3 [S] */
    double seconds[2];
};

/* -1, -0.5, 0, 0.5 or 1: 16 bits hold it, and f32 the sums of their products, exactly. */
static float half_integer(uint32_t i)
{
    i = (i * 2654435761u) >> 16;
    return 0.5f * (float)(i % 5) - 1.0f;
}

/* All sequences and heads get other numbers; those of the last sequence stay in `last`. */
static enum vkmoe_status fill(struct probe *p, struct vkm_buf buf, size_t row, uint32_t seed, float *last)
{
    const size_t count = p->a.S * row;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t b = 0; b < p->a.B && !status; b++) {
        for (size_t i = 0; i < count; i++)
            last[i] = half_integer((uint32_t)(b * count + i) * 2 + seed);
        status = vkm_buf_upload(p->ctx, vkm_buf_slice(buf, 4 * b * count, 4 * count), last, 4 * count);
    }
    return status;
}

static enum vkmoe_status run(struct probe *p, bool matrices)
{
    struct vkm_rec *rec;
    p->ctx->caps.cm[p->a.type].use_attention = matrices;
    enum vkmoe_status status = vkm_rec_create(p->ctx, "probe", &rec);
    if (status)
        return status;
    vkm_op_attention(rec, &p->a);
    vkm_op_attention_bwd(rec, &p->a);
    if (!(status = vkm_rec_end(rec)) && !(status = vkm_rec_time(rec, 1, &p->seconds[matrices])))
        status = vkm_rec_time(rec, ROUNDS, &p->seconds[matrices]);
    vkm_rec_destroy(rec);
    return status;
}

/* By how much a weight, or a weight's gradient, changes as it is narrowed, if its magnitude is within off of x: f16 by 2^-10, in
 * either direction, or all of it where it may be subnormal; bf16 by 2^-8. */
static double narrowed(uint32_t type, double x, double off)
{
    const double most = fabs(x) + off;
    if (type == TYPE_BF16)
        return 0x1p-8 * most;
    return fmax(0x1p-10 * most, fabs(x) - off < 0x1p-14 ? fmin(most, 0x1p-14) : 0);
}

/* Token s of the head that begins at column h: adds what it gives to the keys' gradients dk, dv [S,width] and to their bounds ek,
 * ev, by way of w, d, e [S]. Its own o and dq are compared at once; false: one of them is wrong. Scores and <do, v> are exact;
 * `rest` is what f32 may be off by, relative to the sum of the terms' magnitudes: 2 u for each term of the products,
 * cut off, as much for the softmax's sum, 71 u for each of at most S / 16 rescalings, and the exponential functions. */
static bool token(const struct probe *p, uint32_t s, uint32_t h, double *dk, double *dv, double *ek, double *ev,
                  double *w)
{
    const uint32_t S = p->a.S, W = p->a.width, D = p->a.H * W, type = p->a.type;
    const float *q = p->qkv + (size_t)s * 3 * D + h, *dout = p->dout + (size_t)s * D + h;
    const double scale = 1 / sqrt(W), rest = (16.0 * S + 1024) * 0x1p-24;
    double *d = w + S, *e = d + S, top = -INFINITY, total = 0, delta = 0, off_delta = 0;
    for (uint32_t j = 0; j <= s; j++) {
        const float *k = p->qkv + (size_t)j * 3 * D + D + h, *v = k + D;
        w[j] = d[j] = 0;
        for (uint32_t i = 0; i < W; i++) {
            w[j] += scale * (double)q[i] * (double)k[i];
            d[j] += (double)dout[i] * (double)v[i];
        }
        top = fmax(top, w[j]);
    }
    for (uint32_t j = 0; j <= s; j++)
        total += w[j] = exp(w[j] - top);
    bool right = true;
    for (uint32_t i = 0; i < W; i++) {
        double o = 0, off = 0;
        for (uint32_t j = 0; j <= s; j++) {
            const double v = (double)p->qkv[(size_t)j * 3 * D + 2 * D + h + i];
            o += w[j] / total * v;
            off += (narrowed(type, w[j], rest * w[j]) + rest * w[j]) / total * fabs(v);
        }
        right = right && fabs((double)p->o[(size_t)s * D + h + i] - o) <= off;
        delta += (double)dout[i] * o;
        off_delta += fabs((double)dout[i]) * (off + rest * fabs(o));
    }
    for (uint32_t j = 0; j <= s; j++) { /* w = the weight, d = the score's gradient, e = its bound */
        w[j] /= total;
        const double off_w = narrowed(type, w[j], rest * w[j]) + rest * w[j];
        e[j] = w[j] * (off_delta + rest * (fabs(d[j]) + fabs(delta)));
        d[j] = w[j] * (d[j] - delta);
        e[j] += narrowed(type, d[j], e[j]) + rest * fabs(d[j]);
        for (uint32_t i = 0; i < W; i++) {
            dk[j * W + i] += scale * d[j] * (double)q[i];
            ek[j * W + i] += scale * e[j] * fabs((double)q[i]);
            dv[j * W + i] += w[j] * (double)dout[i];
            ev[j * W + i] += off_w * fabs((double)dout[i]);
        }
    }
    for (uint32_t i = 0; i < W; i++) {
        double dq = 0, off = 0;
        for (uint32_t j = 0; j <= s; j++) {
            const double k = (double)p->qkv[(size_t)j * 3 * D + D + h + i];
            dq += scale * d[j] * k;
            off += scale * e[j] * fabs(k);
        }
        right = right && fabs((double)p->dqkv[(size_t)s * 3 * D + h + i] - dq) <= off;
    }
    return right;
}

/* The last sequence's last head against the same in double precision. */
static bool check(const struct probe *p)
{
    const uint32_t S = p->a.S, W = p->a.width, D = p->a.H * W, h = D - W;
    const size_t n = (size_t)S * W;
    double *dk = p->sums, *dv = dk + n, *ek = dv + n, *ev = ek + n, *w = ev + n;
    bool right = true;
    for (size_t i = 0; i < 4 * n; i++)
        p->sums[i] = 0;
    for (uint32_t s = 0; s < S && right; s++)
        right = token(p, s, h, dk, dv, ek, ev, w);
    for (size_t i = 0; i < n && right; i++) {
        const float *got = p->dqkv + i / W * 3 * D + D + h + i % W;
        right = fabs((double)got[0] - dk[i]) <= ek[i] && fabs((double)got[D] - dv[i]) <= ev[i];
    }
    return right;
}

static void decide(struct probe *p)
{
    struct vkm_cm *cm = &p->ctx->caps.cm[p->a.type];
    const char *name = p->a.type == TYPE_F16 ? "f16" : "bf16";
    const bool right = check(p);
    const double ratio = p->seconds[0] / p->seconds[1];
    cm->use_attention = right && ratio > 1;
    if (!right)
        vkm_log(&p->ctx->log, VKMOE_LOG_WARNING, "%s (%s) computes attention on %s cooperative matrices wrongly; going on without "
                "them there", p->ctx->info.name, p->ctx->info.driver, name);
    else
        vkm_log(&p->ctx->log, VKMOE_LOG_DEBUG, "attention on %s cooperative matrices: %.2f times as fast as without, %s", name,
                ratio, cm->use_attention ? "used" : "not used");
}

static bool has_matrices(const struct probe *p)
{
    bool has = p->ctx->caps.cm[p->a.type].m > 0;
    for (int pass = VKM_ATTENTION_FORWARD; pass <= VKM_ATTENTION_BWD_KV && has; pass++)
        has = vkm_attention_tiles(p->ctx, &p->a, (enum vkm_attention_pass)pass, true).cm.m > 0;
    return has;
}

enum vkmoe_status vkm_attention_probe(struct vkmoe_context *ctx, uint32_t type)
{
    struct probe p = {.ctx = ctx};
    p.a = (struct vkm_attention){.B = 4, .S = 500, .H = 16, .width = 64, .type = type};
    if (ctx->caps.cpu)
        p.a = (struct vkm_attention){.B = 1, .S = 50, .H = 2, .width = 16, .type = type};
    const size_t T = (size_t)p.a.B * p.a.S, D = (size_t)p.a.H * p.a.width, S = p.a.S;
    enum vkmoe_status status;
    if (!has_matrices(&p))
        return VKMOE_OK;
    if ((status = vkm_arena_create(ctx, "probe", VKM_MEMORY_DEVICE, &p.arena)))
        return status;
    vkm_arena_reserve(p.arena, "qkv", 4 * 3 * T * D, &p.a.qkv);
    vkm_arena_reserve(p.arena, "o", 4 * T * D, &p.a.o);
    vkm_arena_reserve(p.arena, "lse", 4 * T * p.a.H, &p.a.lse);
    vkm_arena_reserve(p.arena, "dout", 4 * T * D, &p.a.dout);
    vkm_arena_reserve(p.arena, "delta", 4 * T * p.a.H, &p.a.delta);
    vkm_arena_reserve(p.arena, "dqkv", 4 * 3 * T * D, &p.a.dqkv);
    float *values = malloc(8 * S * D * sizeof *values);
    p.sums = malloc((4 * S * p.a.width + 3 * S) * sizeof *p.sums);
    if (!values || !p.sums)
        status = vkm_fail_memory(&ctx->log);
    if (!status) {
        p.qkv = values;
        p.dout = p.qkv + 3 * S * D;
        p.o = p.dout + S * D;
        p.dqkv = p.o + S * D;
    }
    if (!status && !(status = vkm_arena_commit(p.arena)) && !(status = fill(&p, p.a.qkv, 3 * D, 0, p.qkv)) &&
        !(status = fill(&p, p.a.dout, D, 1, p.dout)) && !(status = run(&p, false)) && !(status = run(&p, true)) &&
        !(status = vkm_buf_download(ctx, vkm_buf_slice(p.a.o, 4 * (T - S) * D, 4 * S * D), p.o, 4 * S * D)) &&
        !(status = vkm_buf_download(ctx, vkm_buf_slice(p.a.dqkv, 4 * 3 * (T - S) * D, 4 * 3 * S * D), p.dqkv, 4 * 3 * S * D)))
        decide(&p);
    struct vkm_cm *cm = &ctx->caps.cm[type];
    cm->use_attention = cm->use_attention && !status;
    free(values);
    free(p.sums);
    vkm_arena_destroy(p.arena);
    return status;
}
