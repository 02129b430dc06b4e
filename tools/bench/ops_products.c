/* Matrix products: dense in the three forms, and grouped over experts as the layer uses them. */
#include <stdio.h>

#include "bench/ops.h"

static void plan_dense(struct op *o)
{
    const uint64_t m = o->s.m, n = o->s.n, k = o->s.k;
    op_reserve(o, 0, m * k);
    op_reserve(o, 1, n * k);
    op_reserve32(o, 2, m * n);
    const uint64_t partial = vkm_gemm_partial(o->ctx, o->type, o->s.m, o->s.n, o->s.k);
    if (o->kind->form == GEMM_TN && partial)
        op_reserve32(o, 3, partial / sizeof(float));
    o->work = 2.0 * (double)m * (double)n * (double)k;
    snprintf(o->shape, sizeof o->shape, "%u x %u x %u", o->s.m, o->s.n, o->s.k);
}

/* A product's element is the sum of one row of A times one of B, or of columns as the form says. */
static void check_dense(struct check *c, const struct op *o)
{
    const size_t m = o->s.m, n = o->s.n, k = o->s.k, columns = check_window(n);
    const bool a_columns = o->kind->form == GEMM_TN, b_rows = o->kind->form == GEMM_NT;
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t i = check_place(m, 1, place), j = check_place(n, columns, place);
        const struct num *a = op_numbers(c, o, 0, a_columns ? i : i * k, a_columns ? m : 1, k);
        struct num *b = check_new(c, columns * k);
        for (size_t x = 0; x < columns; x++)
            for (size_t y = 0; y < k; y++)
                b[x * k + y] = op_number(o, 1, b_rows ? (j + x) * k + y : y * n + j + x);
        check_expect(c, "c", o->x[2], TYPE_F32, i * n + j, check_product(c, o->type, columns, k, a, b), columns);
    }
}

static void record_dense(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    (void)i;
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = o->kind->name, .form = o->kind->form, .type = o->type,
                                        .narrow = NARROW_A | NARROW_B, .a = o->x[0], .b = o->x[1],
                                        .c = o->x[2], .m = o->s.m, .n = o->s.n, .k = o->s.k, .partial = o->x[3]});
}

/* x[0] tokens [T,D], x[1] hidden rows [R,F], x[2] weights [E,F,D], x[3] rows of results [R,D] */
static void plan_grouped(struct op *o)
{
    const struct op_shape *s = &o->s;
    const uint64_t R = (uint64_t)s->T * s->K;
    op_reserve(o, 0, (uint64_t)s->T * s->D);
    op_reserve(o, 1, R * s->F);
    if (o->kind->form == GEMM_TN)
        op_reserve32(o, 2, (uint64_t)s->E * s->F * s->D);
    else
        op_reserve(o, 2, (uint64_t)s->E * s->F * s->D);
    if (o->kind->form == GEMM_NN)
        op_reserve(o, 3, R * s->D);
    op_routing_reserve(o);
    o->work = 2.0 * (double)R * s->F * s->D;
    snprintf(o->shape, sizeof o->shape, "T %u, D %u, F %u, E %u, K %u", s->T, s->D, s->F, s->E, s->K);
}

/* NT: hidden rows from tokens. NN: the gradient of the experts' input. TN: the gradient of the weights. */
static void record_grouped(struct vkm_rec *rec, void *op, uint32_t i)
{
    const struct op *o = op;
    const struct op_shape *s = &o->s;
    const uint32_t R = s->T * s->K;
    struct vkm_gemm g = {.label = o->kind->name, .form = o->kind->form, .routing = &o->routing};
    (void)i;
    switch (g.form) {
    case GEMM_NT:
        g.gather = GATHER_A;
        g.narrow = NARROW_A | NARROW_B | NARROW_C;
        g.a = o->x[0], g.b = o->x[2], g.c = o->x[1];
        g.m = R, g.n = s->F, g.k = s->D;
        break;
    case GEMM_NN:
        g.narrow = NARROW_A | NARROW_B | NARROW_C;
        g.a = o->x[1], g.b = o->x[2], g.c = o->x[3];
        g.m = R, g.n = s->D, g.k = s->F;
        break;
    default:
        g.gather = GATHER_B;
        g.narrow = NARROW_A | NARROW_B;
        g.a = o->x[1], g.b = o->x[0], g.c = o->x[2];
        g.m = s->F, g.n = s->D, g.k = R;
    }
    vkm_op_gemm(rec, &g);
}

/* Rows by their experts' weights; the gradient of weights from an expert's rows. */
static void check_grouped(struct check *c, const struct op *o)
{
    const struct op_shape *s = &o->s;
    const size_t D = s->D, F = s->F, R = (size_t)s->T * s->K;
    const uint32_t form = o->kind->form;
    const struct op_rows rows = op_rows(c, o, NULL);
    const size_t n = form == GEMM_NT ? F : D, columns = check_window(n);
    for (int place = 0; place < CHECK_PLACES; place++) {
        const uint64_t j = check_place(n, columns, place);
        uint64_t r = check_place(R, 1, place), e = 0, f = check_place(F, 1, place);
        while (rows.offset[e + 1] <= r)
            e++;
        const size_t k = form == GEMM_TN ? rows.offset[e + 1] - rows.offset[e] : form == GEMM_NT ? D : F;
        const struct num *a = form == GEMM_NT ? op_numbers(c, o, 0, rows.token_of[r] * D, 1, D)
                              : form == GEMM_NN ? op_numbers(c, o, 1, r * F, 1, F)
                                                : op_numbers(c, o, 1, rows.offset[e] * F + f, F, k);
        struct num *b = check_new(c, columns * k);
        for (size_t x = 0; x < columns; x++)
            for (size_t y = 0; y < k; y++)
                b[x * k + y] = form == GEMM_NT ? op_number(o, 2, (e * F + j + x) * D + y)
                               : form == GEMM_NN ? op_number(o, 2, (e * F + y) * D + j + x)
                                                 : op_number(o, 0, rows.token_of[rows.offset[e] + y] * D + j + x);
        const struct num *want = check_product(c, o->type, columns, k, a, b);
        if (form == GEMM_TN)
            check_expect(c, "weights' gradient", o->x[2], TYPE_F32, (e * F + f) * D + j, want, columns);
        else
            check_expect(c, "rows", o->x[form == GEMM_NT ? 1 : 3], o->type, r * n + j, want, columns);
    }
}

#define CUBE(size) {.m = size, .n = size, .k = size}
#define DENSE(name_, form_)                                                                                              \
    {.name = name_, .product = true, .form = form_, .plan = plan_dense, .record = record_dense, .check = check_dense, \
     .cpu = {CUBE(256), CUBE(512), CUBE(1024)}, .gpu = {CUBE(256), CUBE(512), CUBE(1024), CUBE(4096)}}
#define GROUPED(name_, form_)                                                                                            \
    {.name = name_, .product = true, .form = form_, .plan = plan_grouped, .setup = op_routing_setup,       \
     .record = record_grouped, .check = check_grouped,                                                                  \
     .cpu = {{.T = 64, .D = 256, .F = 1024, .E = 8, .K = 2}, {.T = 512, .D = 256, .F = 1024, .E = 8, .K = 2},              \
             {.T = 2048, .D = 256, .F = 1024, .E = 8, .K = 2}},                                                          \
     .gpu = {{.T = 8192, .D = 1024, .F = 1024, .E = 8, .K = 2}}}

const struct op_case op_products[] = {
    DENSE("product nt", GEMM_NT),
    DENSE("product nn", GEMM_NN),
    DENSE("product tn", GEMM_TN),
    GROUPED("grouped product nt", GEMM_NT),
    GROUPED("grouped product nn", GEMM_NN),
    GROUPED("grouped product tn", GEMM_TN),
    {0},
};
