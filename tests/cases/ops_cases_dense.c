/* Embedding, RMSNorm, matrix products, column sums. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "ops/colsum.h"

static bool embed(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_embed *s = CASE_AT(case_embeds, index);
    ops_begin(o, result, index, "embed T %u, V %u, D %u", s->T, s->V, s->D);
    uint32_t *tokens = ops_new_words(o, s->T);
    case_fill_indices(tokens, s->T, index, s->V);
    struct ops_array tok = ops_in_copy(o, s->T, tokens), w = ops_in(o, s->V * s->D, 1), y = ops_out(o, s->T * s->D);
    struct ops_array dy = ops_in(o, s->T * s->D, 1), dw = ops_added(o, s->V * s->D);
    vkm_op_embed(ops_record(o), w.buf, tok.buf, y.buf, s->T, s->D);
    vkm_op_embed_bwd(ops_record(o), dw.buf, tok.buf, dy.buf, s->T, s->D, s->V);
    if (ops_run(o)) {
        struct num *want = ops_new(o, y.count), *gradient = ops_num(o, dw);
        ref_embed(s->T, s->D, tokens, ops_num(o, w), want);
        ref_embed_backward(s->T, s->D, tokens, ops_num(o, dy), gradient);
        ops_expect(o, "y", y, want);
        ops_expect(o, "dw", dw, gradient);
    }
    return ops_end(o);
}

static bool rmsnorm(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_norm *s = CASE_AT(case_norms, index);
    const size_t n = (size_t)s->T * s->D;
    const float eps = 1e-5f;
    ops_begin(o, result, index, "rmsnorm T %u, D %u", s->T, s->D);
    struct ops_array x = ops_in(o, n, 3), w = ops_in(o, s->D, 1), y = ops_out(o, n), dy = ops_in(o, n, 1);
    struct ops_array dx = ops_added(o, n), dw = ops_added(o, s->D);
    struct ops_array scratch = ops_scratch(o, vkm_rmsnorm_scratch(s->T, s->D));
    vkm_op_rmsnorm(ops_record(o), x.buf, w.buf, y.buf, (struct vkm_buf){0}, TYPE_F32, s->T, s->D, eps);
    vkm_op_rmsnorm_bwd(ops_record(o), x.buf, w.buf, dy.buf, dx.buf, dw.buf, scratch.buf, s->T, s->D, eps);
    if (ops_run(o)) {
        struct num *want = ops_new(o, n), *want_dx = ops_new(o, n), *want_dw = ops_num(o, dw);
        struct num *nx = ops_num(o, x), *nw = ops_num(o, w);
        ref_rmsnorm(s->T, s->D, nx, nw, eps, want, NULL);
        ref_rmsnorm_backward(s->T, s->D, nx, nw, ops_num(o, dy), eps, want_dx, want_dw);
        ref_add(n, want_dx, ops_num(o, dx), want_dx);
        ops_expect(o, "y", y, want);
        ops_expect(o, "dx", dx, want_dx);
        ops_expect(o, "dw", dw, want_dw);
    }
    return ops_end(o);
}

static bool colsum(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_norm *s = CASE_AT(case_norms, index);
    const size_t n = (size_t)s->T * s->D;
    const bool add = index % 2, with_y = index % 4 < 2, with_s = index % 3 != 0;
    const struct vkm_buf none = {0};
    ops_begin(o, result, index, "colsum %u rows of %u%s%s%s", s->T, s->D, with_y ? ", times y" : "",
              with_s ? ", scaled" : "", add ? ", added" : "");
    struct ops_array x = ops_in(o, n, 1), y = ops_in(o, n, 1), scale = ops_in(o, s->T, 1);
    struct ops_array out = add ? ops_added(o, s->D) : ops_out(o, s->D);
    struct ops_array scratch = ops_scratch(o, vkm_colsum_scratch(s->T, s->D));
    vkm_op_colsum(ops_record(o), "colsum", x.buf, with_y ? y.buf : none, with_s ? scale.buf : none, out.buf,
                  scratch.buf, s->T, s->D, add);
    if (ops_run(o)) {
        struct num *nx = ops_num(o, x), *ny = ops_num(o, y), *ns = ops_num(o, scale), *want = ops_num(o, out);
        for (size_t c = 0; c < s->D; c++) {
            struct num_sum sum = {0};
            for (size_t r = 0; r < s->T; r++) {
                struct num term = nx[r * s->D + c];
                term = with_y ? num_mul(term, ny[r * s->D + c]) : term;
                num_sum_add(&sum, with_s ? num_mul(term, ns[r]) : term);
            }
            if (add)
                num_sum_add(&sum, want[c]);
            want[c] = num_sum_end(&sum);
        }
        ops_expect(o, "sum", out, want);
    }
    return ops_end(o);
}

/* ---- matrix products ---- */

typedef void ref_product(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b,
                         bool accumulate, struct num *c);

enum added { NOTHING, ITSELF, BASE };

/* One product; `off` shifts A by that many words from the alignment of buffers. */
struct product {
    uint32_t form;
    enum added added;
    float alpha;
    size_t off;
    struct ops_array a, b, c, base;
};

static void record_product(struct ops *o, const struct case_gemm *s, struct product *p)
{
    const size_t a = (size_t)s->M * s->K, b = (size_t)s->N * s->K, c = (size_t)s->M * s->N;
    const struct vkm_buf none = {0};
    p->a = ops_in(o, a + p->off, 1);
    p->b = ops_in(o, b, 1);
    p->base = ops_in(o, c, 1);
    p->c = p->added == ITSELF ? ops_added(o, c) : ops_out(o, c);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){
        .label = "case", .form = p->form, .a = vkm_buf_slice(p->a.buf, 4 * p->off, 4 * a), .b = p->b.buf, .c = p->c.buf,
        .m = s->M, .n = s->N, .k = s->K, .alpha = p->alpha, .accumulate = p->added == ITSELF,
        .partial = ops_scratch(o, vkm_gemm_partial(o->ctx, TYPE_F32, s->M, s->N, s->K)).buf,
        .base = p->added == BASE ? p->base.buf : none});
}

static void check_product(struct ops *o, const struct case_gemm *s, const struct product *p)
{
    static ref_product *const products[] = {[GEMM_NT] = ref_gemm_nt, [GEMM_NN] = ref_gemm_nn, [GEMM_TN] = ref_gemm_tn};
    static const char *const names[3][3] = {{"A Bt", "C + A Bt", "base + A Bt"}, {"A B", "C + A B", "base + A B"},
                                            {"At B", "C + At B", "base + At B"}};
    struct num *want = ops_num(o, p->added == BASE ? p->base : p->c);
    products[p->form](s->M, s->N, s->K, p->alpha, ops_num(o, p->a) + p->off, ops_num(o, p->b), p->added != NOTHING,
                         want);
    ops_expect(o, names[p->form][p->added], p->c, want);
}

static bool gemm(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_gemm *s = CASE_AT(case_gemms, index);
    struct product products[6];
    /* On a large shape the three forms will do. */
    const uint32_t count = index < CASE_COUNT(case_gemms) ? 6 : 3;
    ops_begin(o, result, index, "gemm M %u, N %u, K %u", s->M, s->N, s->K);
    for (uint32_t i = 0; i < count; i++) {
        const bool plain = i < 3;
        products[i] = (struct product){
            .form = i % 3, .added = plain ? NOTHING : (index + i) % 2 ? ITSELF : BASE, .alpha = plain ? 1 : -0.7f,
            .off = plain ? 0 : 1 + index % 3};
        record_product(o, s, &products[i]);
    }
    if (ops_run(o))
        for (uint32_t i = 0; i < count; i++)
            check_product(o, s, &products[i]);
    return ops_end(o);
}

/* A feed-forward layer's two fused products: the rows form without a routing, so without a gate. N is the hidden width. */
static bool swiglu(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_gemm *s = CASE_AT(case_gemms, index);
    const size_t M = s->M, F = s->N, K = s->K;
    ops_begin(o, result, index, "SwiGLU and its backward, M %u, F %u, D %u", s->M, s->N, s->K);
    struct ops_array x = ops_in(o, M * K, 1), w13 = ops_in(o, 2 * F * K, 1), h13 = ops_out(o, M * 2 * F);
    struct ops_array act = ops_out(o, M * F);
    struct ops_array dy = ops_in(o, M * K, 1), w2 = ops_in(o, K * F, 1), dh13 = ops_changed_random(o, M * 2 * F, 4);
    struct ops_array again = ops_out(o, M * F);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "swiglu", .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU,
        .a = x.buf, .b = w13.buf, .c = h13.buf, .act = act.buf, .m = s->M, .n = s->N, .k = s->K});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "dswiglu", .form = GEMM_NN, .epilogue = EPILOGUE_DSWIGLU,
        .a = dy.buf, .b = w2.buf, .c = dh13.buf, .act = again.buf, .m = s->M, .n = s->N, .k = s->K});
    if (ops_run(o)) {
        struct num *h = ops_new(o, h13.count), *a = ops_new(o, act.count), *da = ops_new(o, act.count);
        ref_gemm_nt(M, 2 * F, K, 1, ops_num(o, x), ops_num(o, w13), false, h);
        ref_swiglu(M, F, h, a);
        ops_expect(o, "h13", h13, h);
        ops_expect(o, "act", act, a);
        struct num *before = ops_num(o, dh13);
        ref_swiglu(M, F, before, a);
        ops_expect(o, "act again", again, a);
        ref_gemm_nn(M, F, K, 1, ops_num(o, dy), ops_num(o, w2), false, da);
        ref_swiglu_backward(M, F, before, da, h);
        ops_expect(o, "dh13", dh13, h);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_dense[] = {
    {"embed", embed, CASE_COUNT(case_embeds), CASE_COUNT(case_embeds_large)},
    {"rmsnorm", rmsnorm, CASE_COUNT(case_norms), CASE_COUNT(case_norms_large), .lanes = true},
    {"colsum", colsum, CASE_COUNT(case_norms), CASE_COUNT(case_norms_large), .lanes = true},
    {"gemm", gemm, CASE_COUNT(case_gemms), CASE_COUNT(case_gemms_large), .lanes = true},
    {"SwiGLU", swiglu, CASE_COUNT(case_gemms), CASE_COUNT(case_gemms_large), .lanes = true},
    {0},
};
