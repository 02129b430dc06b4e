/* Operations with 16-bit operands, f16 or bf16 as the variant says: plain kernels, and cooperative matrices. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "cases/narrow.h"
#include "ops/tiles.h"

#include <math.h>

/* How a case's operands are multiplied. */
static bool matrices(const struct ops *o)
{
    return o->ctx->caps.cm[o->type].use;
}

static const char *type_name(const struct ops *o)
{
    return o->type == TYPE_F16 ? "f16" : "bf16";
}

/* An array of a case that may lie in 16 bits. */
struct mixed {
    struct ops_array a;
    size_t count;
    uint32_t type; /* TYPE_F32: it lies in 32 */
};

static size_t words(const struct mixed *m)
{
    return m->type == TYPE_F32 ? m->count : (m->count + 1) / 2;
}

static void fill(struct ops *o, struct mixed *m)
{
    if (m->type == TYPE_F32)
        return;
    uint32_t *random = ops_new_words(o, m->count);
    uint16_t *bits = (uint16_t *)ops_floats_before(o, m->a);
    case_fill_indices(random, m->count, o->seed + m->a.at, UINT32_MAX);
    for (size_t i = 0; i < m->count; i++)
        bits[i] = narrow_draw(m->type, random[i]);
}

static struct mixed input(struct ops *o, size_t count, bool narrow, uint32_t type)
{
    struct mixed m = {.count = count, .type = narrow ? type : TYPE_F32};
    m.a = ops_in(o, words(&m), 1);
    fill(o, &m);
    return m;
}

static struct mixed output(struct ops *o, size_t count, bool narrow, uint32_t type)
{
    struct mixed m = {.count = count, .type = narrow ? type : TYPE_F32};
    m.a = ops_out(o, words(&m));
    return m;
}

static struct mixed changed(struct ops *o, size_t count, bool narrow, uint32_t type)
{
    struct mixed m = {.count = count, .type = narrow ? type : TYPE_F32};
    m.a = ops_changed_random(o, words(&m), 4);
    fill(o, &m);
    return m;
}

/* What it held before the run, exactly. */
static struct num *exact(struct ops *o, const struct mixed *m)
{
    if (m->type == TYPE_F32)
        return ops_num(o, m->a);
    struct num *x = ops_new(o, m->count);
    const uint16_t *bits = (const uint16_t *)ops_floats_before(o, m->a);
    for (size_t i = 0; i < m->count; i++)
        x[i] = num_exact(narrow_value(m->type, bits[i]));
    return x;
}

/* The same as an operand of a product: 32-bit ones may be rounded. */
static struct num *operand(struct ops *o, const struct mixed *m, uint32_t type)
{
    struct num *x = exact(o, m);
    for (size_t i = 0; i < m->count && m->type == TYPE_F32; i++)
        x[i] = narrow_operand(type, x[i]);
    return x;
}

static void allow_cutting(struct ops *o, size_t n, size_t count, const struct num *sizes, struct num *x)
{
    if (matrices(o))
        narrow_allow_cutting(n, count, sizes, x);
}

static struct num *magnitudes(struct ops *o, const struct num *x, size_t count)
{
    struct num *y = ops_new(o, count);
    for (size_t i = 0; i < count; i++)
        y[i] = num_exact(fabs(x[i].v));
    return y;
}

static void expect(struct ops *o, const char *name, const struct mixed *m, struct num *want)
{
    if (m->type == TYPE_F32) {
        ops_expect(o, name, m->a, want);
        return;
    }
    float *got = ops_new_floats(o, m->count);
    const uint16_t *bits = (const uint16_t *)ops_words(o, m->a);
    for (size_t i = 0; i < m->count; i++) {
        got[i] = narrow_value(m->type, bits[i]);
        want[i] = narrow_stored(m->type, want[i]);
    }
    ops_expect_floats(o, name, got, m->count, want);
}

/* ---- dense ---- */

typedef void ref_product(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b,
                         bool accumulate, struct num *c);
static ref_product *const products[] = {[GEMM_NT] = ref_gemm_nt, [GEMM_NN] = ref_gemm_nn, [GEMM_TN] = ref_gemm_tn};

/* What layers have in 16 bits, form by form; of a large shape the first three are enough. */
static const struct {
    uint32_t form, narrow;
} layer_products[] = {
    {GEMM_NT, NARROW_A | NARROW_B},
    {GEMM_NN, NARROW_B | NARROW_C},
    {GEMM_TN, NARROW_B},
    {GEMM_NT, NARROW_B},
    {GEMM_NN, NARROW_A | NARROW_B},
    {GEMM_TN, NARROW_A | NARROW_B},
    {GEMM_NN, NARROW_B},
};
enum { LAYER_PRODUCTS = sizeof layer_products / sizeof *layer_products };

static bool gemm(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_gemm *s = CASE_AT(case_gemms, index);
    const size_t a = (size_t)s->M * s->K, b = (size_t)s->N * s->K, c = (size_t)s->M * s->N;
    ops_begin(o, result, index, "gemm %s, M %u, N %u, K %u", type_name(o), s->M, s->N, s->K);
    const uint32_t count = index < CASE_COUNT(case_gemms) ? LAYER_PRODUCTS : 3;
    struct mixed as[LAYER_PRODUCTS], bs[LAYER_PRODUCTS], cs[LAYER_PRODUCTS];
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t narrow = layer_products[i].narrow;
        as[i] = input(o, a, narrow & NARROW_A, o->type);
        bs[i] = input(o, b, narrow & NARROW_B, o->type);
        cs[i] = output(o, c, narrow & NARROW_C, o->type);
        vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "case", .form = layer_products[i].form, .type = o->type,
            .narrow = narrow, .a = as[i].a.buf, .b = bs[i].a.buf, .c = cs[i].a.buf, .m = s->M, .n = s->N, .k = s->K,
            .alpha = 0.5f, .partial = ops_scratch(o, vkm_gemm_partial(o->ctx, o->type, s->M, s->N, s->K)).buf});
    }
    if (ops_run(o))
        for (uint32_t i = 0; i < count; i++) {
            static const char *const names[] = {[GEMM_NT] = "A Bt", [GEMM_NN] = "A B", [GEMM_TN] = "At B"};
            const uint32_t form = layer_products[i].form;
            struct num *x = operand(o, &as[i], o->type), *y = operand(o, &bs[i], o->type);
            struct num *want = ops_new(o, c), *sizes = ops_new(o, c);
            products[form](s->M, s->N, s->K, 0.5, x, y, false, want);
            products[form](s->M, s->N, s->K, 0.5, magnitudes(o, x, a), magnitudes(o, y, b), false, sizes);
            allow_cutting(o, s->K, c, sizes, want);
            expect(o, names[form], &cs[i], want);
        }
    return ops_end(o);
}

/* ---- grouped: the experts' products as nn/moe.c has them ---- */

struct grouped {
    size_t T, E, R, F, D;
    struct ops_routing routing;
    uint32_t *count, *offset, *row_of, *token_of, *slot_of;
};

static struct grouped begin_grouped(struct ops *o, size_t index)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    struct grouped g = {.T = s->T, .E = s->E, .R = (size_t)s->T * s->top_k, .F = s->N, .D = s->K};
    uint32_t *idx = ops_new_words(o, g.R);
    case_route(s->routing, s->T, s->E, s->top_k, index, idx);
    struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->top_k, .F = s->N, .D = s->K, .type = o->type};
    g.routing = ops_routing(o, shape, ops_in_copy(o, g.R, idx));
    g.count = ops_new_words(o, g.E);
    g.offset = ops_new_words(o, g.E + 1);
    g.row_of = ops_new_words(o, g.R);
    g.token_of = ops_new_words(o, g.R);
    g.slot_of = ops_new_words(o, g.R);
    ref_dispatch(g.T, g.E, s->top_k, idx, g.count, g.offset, g.row_of, g.token_of, g.slot_of);
    vkm_op_route(ops_record(o), &g.routing.r, (struct vkm_buf){0});
    return g;
}

static void name_grouped(struct ops *o, size_t index, struct ops_result *result, const char *what)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    ops_begin(o, result, index, "%s %s, T %u, F %u, D %u, E %u, K %u, %s", what, type_name(o), s->T, s->N, s->K, s->E, s->top_k,
              case_routing_name(s->routing));
}

/* gate_up, down */
static bool forward(struct ops *o, size_t index, struct ops_result *result)
{
    const bool x16 = index % 2;
    name_grouped(o, index, result, "experts");
    struct grouped g = begin_grouped(o, index);
    const struct vkm_routing *r = &g.routing.r;
    const uint32_t R = (uint32_t)g.R, ab = (x16 ? NARROW_A : 0u) | NARROW_B;
    struct mixed x = input(o, g.T * g.D, x16, o->type), w13 = input(o, g.E * 2 * g.F * g.D, true, o->type);
    struct mixed h13 = output(o, 2 * g.R * g.F, true, o->type), act = output(o, g.R * g.F, true, o->type);
    struct mixed a = input(o, g.R * g.F, true, o->type), w2 = input(o, g.E * g.D * g.F, !x16, o->type);
    struct mixed rows = output(o, g.R * g.D, x16, o->type);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "gate_up", .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU,
        .routing = r, .gather = GATHER_A, .narrow = ab | NARROW_C, .a = x.a.buf, .b = w13.a.buf, .c = h13.a.buf,
        .act = act.a.buf, .m = R, .n = r->F, .k = r->D});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "down", .form = GEMM_NT, .routing = r,
        .narrow = NARROW_A | (x16 ? NARROW_C : NARROW_B), .a = a.a.buf, .b = w2.a.buf, .c = rows.a.buf, .m = R, .n = r->D,
        .k = r->F});
    if (ops_run(o)) {
        struct num *nx = operand(o, &x, o->type), *nw = operand(o, &w13, o->type), *h = ops_new(o, h13.count);
        struct num *sizes = ops_new(o, h13.count), *want_act = ops_new(o, act.count), *y = ops_new(o, rows.count);
        ref_grouped_nt(g.E, g.offset, 2 * g.F, g.D, nx, g.token_of, nw, false, h);
        ref_grouped_nt(g.E, g.offset, 2 * g.F, g.D, magnitudes(o, nx, x.count), g.token_of, magnitudes(o, nw, w13.count),
                       false, sizes);
        allow_cutting(o, g.D, h13.count, sizes, h);
        ref_swiglu(g.R, g.F, h, want_act);
        expect(o, "h13", &h13, h);
        expect(o, "act", &act, want_act);
        struct num *na = operand(o, &a, o->type), *n2 = operand(o, &w2, o->type);
        sizes = ops_new(o, rows.count);
        ref_grouped_nt(g.E, g.offset, g.D, g.F, na, NULL, n2, false, y);
        ref_grouped_nt(g.E, g.offset, g.D, g.F, magnitudes(o, na, a.count), NULL, magnitudes(o, n2, w2.count), false, sizes);
        allow_cutting(o, g.F, rows.count, sizes, y);
        expect(o, "rows", &rows, y);
    }
    return ops_end(o);
}

/* down.bwd.x with dSwiGLU */
static bool dswiglu(struct ops *o, size_t index, struct ops_result *result)
{
    name_grouped(o, index, result, "experts' dSwiGLU");
    struct grouped g = begin_grouped(o, index);
    const struct vkm_routing *r = &g.routing.r;
    const uint32_t parts = vkm_gemm_parts(o->ctx, r);
    struct mixed dy = input(o, g.T * g.D, false, o->type), w2 = input(o, g.E * g.D * g.F, true, o->type);
    struct mixed h13 = changed(o, 2 * g.R * g.F, true, o->type), act = output(o, g.R * g.F, true, o->type);
    struct ops_array gate = ops_in(o, g.R, 1), dgate = ops_out(o, g.R * parts);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "dswiglu", .form = GEMM_NN, .epilogue = EPILOGUE_DSWIGLU,
        .routing = r, .gather = GATHER_A, .narrow = NARROW_B | NARROW_C, .a = dy.a.buf, .b = w2.a.buf, .c = h13.a.buf,
        .act = act.a.buf, .gate = gate.buf, .dgate = dgate.buf, .m = (uint32_t)g.R, .n = r->F, .k = r->D});
    if (ops_run(o)) {
        const size_t n = g.R * g.F;
        struct num *h = exact(o, &h13), *weight = ops_num(o, gate), *raw = ops_new(o, n), *sizes = ops_new(o, n);
        struct num *a = ops_new(o, n), *da = ops_new(o, n), *dh = ops_new(o, 2 * n), *dg = ops_new(o, g.R);
        struct num *nd = operand(o, &dy, o->type), *nw = operand(o, &w2, o->type);
        float *sums = ops_new_floats(o, g.R);
        ref_swiglu(g.R, g.F, h, a);
        ref_grouped_nn(g.E, g.offset, g.F, g.D, nd, g.token_of, nw, false, raw);
        ref_grouped_nn(g.E, g.offset, g.F, g.D, magnitudes(o, nd, dy.count), g.token_of, magnitudes(o, nw, w2.count), false,
                       sizes);
        allow_cutting(o, g.D, n, sizes, raw);
        ref_gate_gradient(g.T, r->K, g.F, g.row_of, raw, a, dg);
        for (size_t i = 0; i < n; i++) {
            const struct num w = weight[g.slot_of[i / g.F]];
            da[i] = num_mul(w, raw[i]);
            a[i] = num_mul(w, a[i]);
        }
        ref_swiglu_backward(g.R, g.F, h, da, dh);
        for (size_t slot = 0; slot < g.R; slot++)
            for (uint32_t part = 0; part < parts; part++)
                sums[slot] += ops_floats(o, dgate)[part * g.R + g.row_of[slot]];
        expect(o, "dh13", &h13, dh);
        expect(o, "gate act", &act, a);
        ops_expect_floats(o, "dgate", sums, g.R, dg);
    }
    return ops_end(o);
}

/* down.bwd.w, gate_up.bwd.w and gate_up.bwd.x */
static bool gradients(struct ops *o, size_t index, struct ops_result *result)
{
    name_grouped(o, index, result, "experts' gradients");
    struct grouped g = begin_grouped(o, index);
    const struct vkm_routing *r = &g.routing.r;
    const uint32_t R = (uint32_t)g.R;
    struct mixed dy = input(o, g.T * g.D, false, o->type), act = input(o, g.R * g.F, true, o->type);
    struct mixed h = input(o, g.T * g.D, true, o->type), w = input(o, g.E * g.F * g.D, true, o->type);
    struct ops_array dw2 = ops_added(o, g.E * g.D * g.F), dw1 = ops_added(o, g.E * g.F * g.D);
    struct mixed dx = output(o, g.R * g.D, true, o->type);
    const struct vkm_buf partial[2] = {ops_partial(o, r, r->D, r->F), ops_partial(o, r, r->F, r->D)};
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "down.bwd.w", .form = GEMM_TN, .routing = r, .gather = GATHER_A,
        .narrow = NARROW_B, .a = dy.a.buf, .b = act.a.buf, .c = dw2.buf, .m = r->D, .n = r->F, .k = R, .accumulate = true,
        .partial = partial[0]});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "gate_up.bwd.w", .form = GEMM_TN, .routing = r,
        .gather = GATHER_B, .narrow = NARROW_A | NARROW_B, .a = act.a.buf, .b = h.a.buf, .c = dw1.buf, .m = r->F,
        .n = r->D, .k = R, .accumulate = true, .partial = partial[1]});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "gate_up.bwd.x", .form = GEMM_NN, .routing = r,
        .narrow = NARROW_A | NARROW_B | NARROW_C, .a = act.a.buf, .b = w.a.buf, .c = dx.a.buf, .m = R, .n = r->D,
        .k = r->F});
    if (ops_run(o)) {
        struct num *nd = operand(o, &dy, o->type), *na = operand(o, &act, o->type), *nh = operand(o, &h, o->type);
        struct num *nw = operand(o, &w, o->type), *sa = magnitudes(o, na, act.count), *want = ops_num(o, dw2);
        struct num *sizes = ops_new(o, dw2.count);
        ref_grouped_tn(g.E, g.offset, g.D, g.F, nd, g.token_of, na, NULL, true, want);
        ref_grouped_tn(g.E, g.offset, g.D, g.F, magnitudes(o, nd, dy.count), g.token_of, sa, NULL, false, sizes);
        allow_cutting(o, g.R, dw2.count, sizes, want);
        ops_expect(o, "dw2", dw2, want);
        want = ops_num(o, dw1);
        sizes = ops_new(o, dw1.count);
        ref_grouped_tn(g.E, g.offset, g.F, g.D, na, NULL, nh, g.token_of, true, want);
        ref_grouped_tn(g.E, g.offset, g.F, g.D, sa, NULL, magnitudes(o, nh, h.count), g.token_of, false, sizes);
        allow_cutting(o, g.R, dw1.count, sizes, want);
        ops_expect(o, "dw1", dw1, want);
        want = ops_new(o, dx.count);
        sizes = ops_new(o, dx.count);
        ref_grouped_nn(g.E, g.offset, g.D, g.F, na, NULL, nw, false, want);
        ref_grouped_nn(g.E, g.offset, g.D, g.F, sa, NULL, magnitudes(o, nw, w.count), false, sizes);
        allow_cutting(o, g.F, dx.count, sizes, want);
        expect(o, "dx rows", &dx, want);
    }
    return ops_end(o);
}

/* ---- what reads or writes 16-bit arrays besides products ---- */

static bool combine(struct ops *o, size_t index, struct ops_result *result)
{
    const bool with_g = index % 2;
    name_grouped(o, index, result, "combine");
    struct grouped g = begin_grouped(o, index);
    const struct vkm_buf none = {0};
    struct mixed rows = input(o, g.R * g.D, true, o->type);
    struct ops_array gate = ops_in(o, g.R, 1), y = ops_out(o, g.T * g.D);
    vkm_op_combine(ops_record(o), &g.routing.r, rows.a.buf, with_g ? gate.buf : none, none, y.buf, g.routing.r.D);
    if (ops_run(o)) {
        struct num *want = ops_new(o, y.count);
        ref_combine(g.T, g.D, g.routing.r.K, g.row_of, with_g ? ops_num(o, gate) : NULL, exact(o, &rows), want);
        ops_expect(o, "y", y, want);
    }
    return ops_end(o);
}

/* RMSNorm's and AdamW's second output, and the copy of weights that were loaded. */
static bool copies(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_norm *s = CASE_AT(case_norms, index);
    const size_t n = (size_t)s->T * s->D;
    ops_begin(o, result, index, "16-bit copies %s, T %u, D %u", type_name(o), s->T, s->D);
    const struct step_control control = {3e-3f, 2, 3};
    const struct step_stats stats = {.clip_scale = 1};
    const struct ref_adamw opt = {3e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1 / (double)control.bias1, 1 / (double)control.bias2};
    struct ops_array x = ops_in(o, n, 3), weight = ops_in(o, s->D, 1), y = ops_out(o, n);
    struct ops_array w = ops_changed_random(o, n, 1), g = ops_changed_random(o, n, 0.5f), m = ops_changed_random(o, n, 0.1f);
    float *zeros = ops_new_floats(o, n);
    struct ops_array v = ops_changed(o, n, zeros), c = ops_in_copy(o, sizeof control / 4, &control);
    struct ops_array st = ops_in_copy(o, sizeof stats / 4, &stats);
    struct mixed y16 = output(o, n, true, o->type), w16 = output(o, n, true, o->type), x16 = output(o, n, true, o->type);
    vkm_op_rmsnorm(ops_record(o), x.buf, weight.buf, y.buf, y16.a.buf, o->type, s->T, s->D, 1e-5f);
    vkm_op_adamw(ops_record(o), w.buf, g.buf, m.buf, v.buf, w16.a.buf, o->type, c.buf, st.buf, n, 0.9f, 0.95f, 1e-8f, 0.1f);
    vkm_op_narrow(ops_record(o), x.buf, x16.a.buf, o->type, n);
    if (ops_run(o)) {
        struct num *ny = ops_new(o, n), *nw = ops_num(o, w), *nx = ops_num(o, x);
        ref_rmsnorm(s->T, s->D, nx, ops_num(o, weight), 1e-5f, ny, NULL);
        ref_adamw(&opt, n, num_exact(1), ops_num(o, g), nw, ops_num(o, m), ops_num(o, v));
        ops_expect(o, "y", y, ny);
        ops_expect(o, "w", w, nw);
        expect(o, "y in 16 bits", &y16, ny);
        expect(o, "w in 16 bits", &w16, nw);
        expect(o, "x in 16 bits", &x16, nx);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_narrow[] = {
    {"16-bit gemm", gemm, CASE_COUNT(case_gemms), CASE_COUNT(case_gemms_large), true},
    {"16-bit experts", forward, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), true},
    {"16-bit dSwiGLU", dswiglu, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), true},
    {"16-bit gradients", gradients, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), true},
    {"16-bit combine", combine, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), true},
    {"16-bit copies", copies, CASE_COUNT(case_norms), CASE_COUNT(case_norms_large), true},
    {0},
};
