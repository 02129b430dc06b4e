#include "oracle.h"

#include <stdlib.h>
#include <string.h>

const char *ref_param_name(enum ref_param id)
{
    static const char *const names[REF_PARAM_KINDS] = {"attn_norm", "qkv", "attn_out", "moe_norm", "router",
                                                       "router_bias", "w13", "w2", "shared13", "shared2", "embed",
                                                       "final_norm", "head", "input"};
    return names[id];
}

size_t ref_param_count(const struct ref_model *m, enum ref_param id)
{
    switch (id) {
    case REF_ATTN_NORM:
        return m->H ? m->D : 0;
    case REF_QKV:
        return m->H ? 3 * m->D * m->D : 0;
    case REF_ATTN_OUT:
        return m->H ? m->D * m->D : 0;
    case REF_ROUTER:
        return m->E * m->D;
    case REF_ROUTER_BIAS:
        return m->bias ? m->E : 0;
    case REF_SHARED13:
        return 2 * m->G * m->D;
    case REF_SHARED2:
        return m->D * m->G;
    case REF_W13:
        return m->E * 2 * m->F * m->D;
    case REF_W2:
        return m->E * m->D * m->F;
    case REF_EMBED:
        return m->H ? m->V * m->D : 0;
    case REF_FINAL_NORM:
        return m->V ? m->D : 0;
    case REF_HEAD:
        return m->V * m->D;
    case REF_INPUT:
        return m->D * m->I;
    default:
        return m->D;
    }
}

size_t ref_param_offset(const struct ref_model *m, enum ref_param id, size_t layer)
{
    size_t of_layer = 0, before = 0;
    for (int i = 0; i < REF_EMBED; i++)
        of_layer += ref_param_count(m, (enum ref_param)i);
    for (int i = id < REF_EMBED ? 0 : REF_EMBED; i < (int)id; i++)
        before += ref_param_count(m, (enum ref_param)i);
    return of_layer * (id < REF_EMBED ? layer : m->L) + before;
}

size_t ref_params_total(const struct ref_model *m)
{
    return ref_param_offset(m, REF_PARAM_KINDS, 0);
}

/* What a block's forward leaves for its backward. */
struct block {
    struct num *x, *xn;    /* [T,D] input; normalised */
    struct num *qkv;       /* [T,3D] after rope */
    struct num *o;         /* [T,D] of attention */
    struct num *mid, *mn;  /* [T,D] after attention; normalised */
    struct ref_moe_state moe;
    struct num *h13, *a;   /* [T,2G], [T,G] of the shared expert */
};

struct run {
    const struct ref_model *m;
    const struct num *params;
    struct num *grad;      /* the caller's, or NULL */
    size_t T;
    struct ref_heads heads;
    struct num *cosines, *sines; /* [S, hd/2] */
    struct block *blocks;
};

static const struct num *param(const struct run *r, enum ref_param id, size_t layer)
{
    return r->params + ref_param_offset(r->m, id, layer);
}

static struct num *grad(const struct run *r, enum ref_param id, size_t layer)
{
    return r->grad + ref_param_offset(r->m, id, layer);
}

static struct ref_moe_weights moe_weights(const struct run *r, size_t l)
{
    return (struct ref_moe_weights){param(r, REF_ROUTER, l), param(r, REF_W13, l), param(r, REF_W2, l)};
}

static struct ref_moe moe_of(const struct run *r, size_t l)
{
    const struct ref_model *m = r->m;
    return (struct ref_moe){r->T, m->D, m->E, m->K, m->F, m->norm_topk, m->sigmoid,
                            m->bias ? param(r, REF_ROUTER_BIAS, l) : NULL};
}

/* x [T,D] becomes the block's output. */
static void block_forward(struct run *r, size_t l, const uint32_t *idx, struct num *x)
{
    const size_t T = r->T, D = r->m->D;
    struct block *b = &r->blocks[l];
    *b = (struct block){.x = ref_new(T * D), .xn = ref_new(T * D), .qkv = ref_new(T * 3 * D), .o = ref_new(T * D),
                        .mid = ref_new(T * D), .mn = ref_new(T * D), .h13 = ref_new(T * 2 * r->m->G),
                        .a = ref_new(T * r->m->G)};
    const struct ref_moe_weights w = moe_weights(r, l);
    const struct ref_moe moe = moe_of(r, l);

    memcpy(b->x, x, T * D * sizeof *x);
    memcpy(b->mid, x, T * D * sizeof *x);
    if (r->m->H) {
        ref_rmsnorm(T, D, b->x, param(r, REF_ATTN_NORM, l), r->m->norm_eps, b->xn, NULL);
        ref_gemm_nt(T, 3 * D, D, 1, b->xn, param(r, REF_QKV, l), false, b->qkv);
        ref_rope(r->heads, r->cosines, r->sines, false, b->qkv);
        ref_attention(r->heads, b->qkv, b->o, NULL);
        ref_gemm_nt(T, D, D, 1, b->o, param(r, REF_ATTN_OUT, l), false, b->mid);
        ref_add(T * D, b->mid, b->x, b->mid);
    }

    ref_rmsnorm(T, D, b->mid, param(r, REF_MOE_NORM, l), r->m->norm_eps, b->mn, NULL);
    ref_moe_forward(&moe, &w, b->mn, idx, &b->moe, x);
    ref_add(T * D, x, b->mid, x);
    if (r->m->G)
        ref_shared_forward(T, D, r->m->G, b->mn, param(r, REF_SHARED13, l), param(r, REF_SHARED2, l), b->h13, b->a, x);
}

/* dx [T,D], the gradient of the block's output, becomes that of its input. */
static void block_backward(struct run *r, size_t l, const struct num *dp_extra, struct num *dx)
{
    const size_t T = r->T, D = r->m->D;
    const struct block *b = &r->blocks[l];
    const struct ref_moe_weights w = moe_weights(r, l);
    const struct ref_moe moe = moe_of(r, l);
    struct num *d = ref_new(T * D), *dn = ref_new(T * D), *dqkv = ref_new(T * 3 * D);

    ref_moe_backward(&moe, &w, b->mn, &b->moe, dx, dp_extra, r->m->router_z,
                     &(struct ref_moe_grads){dn, grad(r, REF_ROUTER, l), grad(r, REF_W13, l), grad(r, REF_W2, l)});
    if (r->m->G)
        ref_shared_backward(T, D, r->m->G, b->mn, param(r, REF_SHARED13, l), param(r, REF_SHARED2, l), b->h13, b->a, dx, dn,
                            grad(r, REF_SHARED13, l), grad(r, REF_SHARED2, l));
    ref_rmsnorm_backward(T, D, b->mid, param(r, REF_MOE_NORM, l), dn, r->m->norm_eps, d, grad(r, REF_MOE_NORM, l));
    ref_add(T * D, dx, d, dx);

    if (r->m->H) {
        ref_gemm_nn(T, D, D, 1, dx, param(r, REF_ATTN_OUT, l), false, d);
        ref_gemm_tn(D, D, T, 1, dx, b->o, true, grad(r, REF_ATTN_OUT, l));
        ref_attention_backward(r->heads, b->qkv, d, dqkv);
        ref_rope(r->heads, r->cosines, r->sines, true, dqkv);
        ref_gemm_nn(T, D, 3 * D, 1, dqkv, param(r, REF_QKV, l), false, dn);
        ref_gemm_tn(3 * D, D, T, 1, dqkv, b->xn, true, grad(r, REF_QKV, l));
        ref_rmsnorm_backward(T, D, b->x, param(r, REF_ATTN_NORM, l), dn, r->m->norm_eps, d, grad(r, REF_ATTN_NORM, l));
        ref_add(T * D, dx, d, dx);
    }
    free(d);
    free(dn);
    free(dqkv);
}

static void block_free(struct block *b)
{
    free(b->x);
    free(b->xn);
    free(b->qkv);
    free(b->o);
    free(b->mid);
    free(b->mn);
    free(b->h13);
    free(b->a);
    ref_moe_state_free(&b->moe);
}

/* Adds the losses on block l's routing to *out; their gradient goes to the router's (SimBal) or to dp [T,E] (LBL), or is
 * block_backward's (router z-loss). */
static void balance(struct run *r, size_t l, struct ref_model_out *out, struct num *dp)
{
    const struct ref_model *m = r->m;
    const struct ref_moe_state *s = &r->blocks[l].moe;
    if (m->simbal > 0)
        out->simbal = num_add(out->simbal, ref_simbal(m->E, m->D, m->simbal, param(r, REF_ROUTER, l),
                                                      r->grad ? grad(r, REF_ROUTER, l) : NULL));
    if (m->lbl > 0) {
        const struct ref_lbl lbl = {r->T, m->E, m->K, m->lbl_group ? m->lbl_group : r->T, m->lbl_full, m->sigmoid, m->lbl,
                                    m->load ? m->load + l * m->E : NULL};
        out->lbl = num_add(out->lbl, ref_lbl(&lbl, s->p, s->idx, dp));
    }
    struct num_sum squares = {0};
    for (size_t t = 0; t < r->T && m->router_z > 0; t++)
        num_sum_mul(&squares, s->lse[t], s->lse[t]);
    out->router_z = num_add(out->router_z, num_sum_end(&squares));
}

/* A stack's loss on y [T,O] into *out, its gradient into dy: of the mean squared error (kernels get 1 / T rounded, and 2 / O),
 * or the one that is given. */
static void stack_loss(const struct run *r, const struct num *y, size_t O, struct ref_model_out *out, struct num *dy)
{
    const struct num two = num_exact(2), count = num_exact((double)O), mean = num_exact(1 / (double)r->T);
    struct num_sum sum = {0};
    for (size_t i = 0; i < r->T * O; i++) {
        if (r->m->dout) {
            dy[i] = r->m->dout[i];
            num_sum_mul(&sum, y[i], dy[i]);
            continue;
        }
        const struct num error = num_sub(y[i], r->m->target[i]);
        num_sum_mul(&sum, error, error);
        dy[i] = num_mul(num_mul(num_widen(mean, NUM_U * mean.v), num_div(two, count)), error);
    }
    out->cross_entropy = num_sum_end(&sum);
    if (!r->m->dout)
        out->cross_entropy = num_mul(num_div(out->cross_entropy, count), mean);
}

/* Mean losses into *out, their gradient into dlogits [T,V]. */
static void losses(struct run *r, const struct num *logits, const uint32_t *targets, struct ref_model_out *out,
                   struct num *dlogits)
{
    const size_t T = r->T;
    struct num *loss = ref_new(2 * T), *zloss = loss + T;
    struct num_sum sum = {0}, zsum = {0};
    size_t counted = 0;
    for (size_t t = 0; t < T; t++)
        counted += targets[t] != REF_IGNORED;
    const struct num count = num_exact(counted ? (double)counted : 1.0);
    ref_xent(T, r->m->V, logits, targets, r->m->z_loss, 1 / count.v, loss, zloss, dlogits);
    for (size_t i = 0; i < T * r->m->V; i++)
        dlogits[i] = num_widen(dlogits[i], NUM_U * fabs(dlogits[i].v)); /* a kernel gets 1 / count rounded */
    for (size_t t = 0; t < T; t++) {
        num_sum_add(&sum, loss[t]);
        num_sum_add(&zsum, zloss[t]);
    }
    out->cross_entropy = num_div(num_sum_end(&sum), count);
    out->z_loss = num_div(num_sum_end(&zsum), count);
    free(loss);
}

static void backward(struct run *r, const uint32_t *tokens, const struct num *last, const struct num *normed,
                     const struct num *dlogits, struct num *const *dp, struct num *din)
{
    const size_t T = r->T, D = r->m->D, V = r->m->V, L = r->m->L, I = r->m->I;
    struct num *dx = ref_new(T * D), *dn = ref_new(T * D);
    if (V) {
        ref_gemm_nn(T, D, V, 1, dlogits, param(r, REF_HEAD, L), false, dn);
        ref_gemm_tn(V, D, T, 1, dlogits, normed, true, grad(r, REF_HEAD, L));
        ref_rmsnorm_backward(T, D, last, param(r, REF_FINAL_NORM, L), dn, r->m->norm_eps, dx, grad(r, REF_FINAL_NORM, L));
    } else {
        memcpy(dx, dlogits, T * D * sizeof *dx);
    }
    for (size_t l = L; l-- > 0;)
        block_backward(r, l, dp[l], dx);
    if (r->m->H)
        ref_embed_backward(T, D, tokens, dx, grad(r, REF_EMBED, L));
    if (I) {
        ref_gemm_tn(D, I, T, 1, dx, r->m->in, true, grad(r, REF_INPUT, L));
        if (din)
            ref_gemm_nn(T, I, D, 1, dx, param(r, REF_INPUT, L), false, din);
    } else if (din) {
        memcpy(din, dx, T * D * sizeof *dx);
    }
    free(dx);
    free(dn);
}

static void rope_numbers(struct run *r)
{
    const size_t n = r->heads.S * (r->heads.hd / 2);
    float *tables = calloc(2 * n + 1, sizeof *tables);
    if (!tables)
        abort();
    ref_rope_tables(r->heads.S, r->heads.hd, r->m->rope_theta, tables, tables + n);
    r->cosines = ref_exact_new(tables, n);
    r->sines = ref_exact_new(tables + n, n);
    free(tables);
}

void ref_model_run(const struct ref_model *m, const struct num *params, const uint32_t *tokens,
                   const uint32_t *targets, const uint32_t *idx, struct ref_model_out *out)
{
    const size_t T = m->B * m->S, D = m->D, E = m->E, K = m->K, V = m->V, L = m->L, O = V ? V : D;
    struct run run = {
        .m = m, .params = params, .grad = out->grad, .T = T,
        .heads = {.B = m->B, .S = m->S, .H = m->H, .hd = m->H ? D / m->H : 0},
    };
    struct num **dp = calloc(L + 1, sizeof *dp);
    run.blocks = calloc(L + 1, sizeof *run.blocks);
    if (!dp || !run.blocks)
        abort();
    rope_numbers(&run);

    struct num *x = ref_new(T * D), *normed = ref_new(T * D), *logits = ref_new(T * O), *dlogits = ref_new(T * O);
    if (m->H)
        ref_embed(T, D, tokens, param(&run, REF_EMBED, L), x);
    else if (m->I)
        ref_gemm_nt(T, D, m->I, 1, m->in, param(&run, REF_INPUT, L), false, x);
    else
        memcpy(x, m->in, T * D * sizeof *x);
    out->simbal = out->lbl = out->router_z = num_exact(0);
    for (size_t l = 0; l < L; l++) {
        const struct ref_moe_state *s = &run.blocks[l].moe;
        block_forward(&run, l, idx ? idx + l * T * K : NULL, x);
        dp[l] = ref_new(T * E);
        balance(&run, l, out, dp[l]);
        if (out->idx)
            memcpy(out->idx + l * T * K, s->idx, T * K * sizeof *s->idx);
        if (out->router_logits)
            memcpy(out->router_logits + l * T * E, s->z, T * E * sizeof *s->z);
    }
    if (V) {
        ref_rmsnorm(T, D, x, param(&run, REF_FINAL_NORM, L), m->norm_eps, normed, NULL);
        ref_gemm_nt(T, V, D, 1, normed, param(&run, REF_HEAD, L), false, logits);
    } else {
        memcpy(logits, x, T * D * sizeof *x);
    }
    out->z_loss = num_exact(0);
    if (m->target || m->dout)
        stack_loss(&run, logits, O, out, dlogits);
    else
        losses(&run, logits, targets, out, dlogits);
    out->loss = num_add(num_add(out->cross_entropy, out->z_loss), num_add(out->simbal, out->lbl));
    out->loss = num_add(out->loss, num_mul(num_exact(m->router_z / (double)T), out->router_z));
    if (out->logits)
        memcpy(out->logits, logits, T * O * sizeof *logits);
    if (out->grad)
        backward(&run, tokens, x, normed, dlogits, dp, out->din);

    for (size_t l = 0; l < L; l++) {
        block_free(&run.blocks[l]);
        free(dp[l]);
    }
    free(run.blocks);
    free(dp);
    free(run.cosines);
    free(run.sines);
    free(x);
    free(normed);
    free(logits);
    free(dlogits);
}
