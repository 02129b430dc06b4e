/* Gate, routing, grouped products with their gathers and epilogues, combination. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "ops/tiles.h"

#include <stdlib.h>
#include <string.h>

static struct ops_array like(struct ops *o, struct vkm_buf *buf)
{
    struct ops_array a = ops_scratch(o, buf->bytes);
    *buf = a.buf;
    return a;
}

struct ops_routing ops_routing(struct ops *o, struct vkm_routing shape, struct ops_array idx)
{
    struct ops_routing out = {.r = shape, .idx = idx};
    struct vkm_arena *arena;
    /* The library's own sizes, in the case's memory. */
    if (vkm_arena_create(o->ctx, "routing", VKM_MEMORY_DEVICE, &arena))
        abort();
    vkm_routing_reserve(o->ctx, arena, &out.r);
    if (vkm_arena_commit(arena))
        abort();
    out.r.idx = idx.buf;
    out.count = like(o, &out.r.count);
    out.offset = like(o, &out.r.offset);
    out.row_of = like(o, &out.r.row_of);
    out.token_of = like(o, &out.r.token_of);
    out.slot_of = like(o, &out.r.slot_of);
    out.tiles = like(o, &out.r.tiles);
    out.commands = like(o, &out.r.commands);
    like(o, &out.r.chunk_count);
    vkm_arena_destroy(arena);
    return out;
}

struct vkm_buf ops_partial(struct ops *o, const struct vkm_routing *routing, uint32_t m, uint32_t n)
{
    return ops_scratch(o, vkm_gemm_partial_routed(o->ctx, routing, m, n)).buf;
}

/* The reference's routing. */
struct rows {
    uint32_t *count, *offset, *row_of, *token_of, *slot_of;
};

static struct rows rows_of(struct ops *o, const struct vkm_routing *r, const uint32_t *idx)
{
    const size_t R = (size_t)r->T * r->K;
    struct rows rows = {ops_new_words(o, r->E), ops_new_words(o, r->E + 1), ops_new_words(o, R), ops_new_words(o, R),
                        ops_new_words(o, R)};
    ref_dispatch(r->T, r->E, r->K, idx, rows.count, rows.offset, rows.row_of, rows.token_of, rows.slot_of);
    return rows;
}

static void check_tiles(struct ops *o, const struct ops_routing *routing, const struct rows *rows)
{
    const struct vkm_gemm_tiles tiles = vkm_routed_tiles(o->ctx, &routing->r);
    uint32_t *map = ops_new_words(o, routing->tiles.count), *commands = ops_new_words(o, 6), n = 0;
    memcpy(map, ops_words(o, routing->tiles), 4 * routing->tiles.count); /* behind the last one: anything */
    for (uint32_t e = 0; e < routing->r.E; e++)
        for (uint32_t row = rows->offset[e]; row < rows->offset[e + 1]; row += tiles.bm, n++) {
            map[2 * n] = e;
            map[2 * n + 1] = row;
        }
    for (int i = 0; i < 2; i++) {
        commands[3 * i] = n;
        commands[3 * i + 1] = vkm_div_up(i ? routing->r.D : routing->r.F, tiles.bn);
        commands[3 * i + 2] = 1;
    }
    ops_expect_words(o, "tiles", routing->tiles, map);
    ops_expect_words(o, "commands", routing->commands, commands);
}

static bool check_route(struct ops *o, const struct case_grouped *s, size_t index, struct ops_result *result)
{
    const struct vkm_buf none = {0};
    ops_begin(o, result, index, "route T %u, E %u, K %u, %s", s->T, s->E, s->top_k, case_routing_name(s->routing));
    uint32_t *idx = ops_new_words(o, (size_t)s->T * s->top_k), *total = ops_new_words(o, s->E);
    case_route(s->routing, s->T, s->E, s->top_k, index, idx);
    case_fill_indices(total, s->E, index, 1000);
    struct ops_array in = ops_in_copy(o, (size_t)s->T * s->top_k, idx), sums = ops_changed(o, s->E, total);
    struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->top_k, .F = s->N, .D = s->K};
    struct ops_routing first = ops_routing(o, shape, in), second = ops_routing(o, shape, in);
    vkm_op_route(ops_record(o), &first.r, sums.buf);
    vkm_op_route(ops_record(o), &second.r, none);
    if (ops_run(o)) {
        struct rows rows = rows_of(o, &shape, idx);
        for (uint32_t e = 0; e < s->E; e++)
            total[e] += rows.count[e];
        for (int i = 0; i < 2; i++) {
            const struct ops_routing *routing = i ? &second : &first;
            ops_expect_words(o, "count", routing->count, rows.count);
            ops_expect_words(o, "offset", routing->offset, rows.offset);
            ops_expect_words(o, "row_of", routing->row_of, rows.row_of);
            ops_expect_words(o, "token_of", routing->token_of, rows.token_of);
            ops_expect_words(o, "slot_of", routing->slot_of, rows.slot_of);
            check_tiles(o, routing, &rows);
        }
        ops_expect_words(o, "total", sums, total);
    }
    return ops_end(o);
}

static bool route(struct ops *o, size_t index, struct ops_result *result)
{
    return check_route(o, CASE_AT(case_groupeds, index), index, result);
}

static bool route_many(struct ops *o, size_t index, struct ops_result *result)
{
    return check_route(o, &case_routes_many[index], index, result);
}

/* ---- grouped products ---- */

/* T tokens of width D, R rows of width F: what the cases of one shape share. */
struct grouped {
    size_t T, E, R, F, D;
    struct ops_routing routing;
    struct rows rows;
    struct ops_array x;    /* [T,D] */
    struct ops_array h;    /* [R,F] */
};

static struct grouped begin_grouped(struct ops *o, size_t index, struct ops_result *result, const char *what)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    struct grouped g = {.T = s->T, .E = s->E, .R = (size_t)s->T * s->top_k, .F = s->N, .D = s->K};
    ops_begin(o, result, index, "%s T %u, F %u, D %u, E %u, K %u, %s", what, s->T, s->N, s->K, s->E, s->top_k,
              case_routing_name(s->routing));
    uint32_t *idx = ops_new_words(o, g.R);
    case_route(s->routing, s->T, s->E, s->top_k, index, idx);
    struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->top_k, .F = s->N, .D = s->K};
    g.routing = ops_routing(o, shape, ops_in_copy(o, g.R, idx));
    g.rows = rows_of(o, &shape, idx);
    g.x = ops_in(o, g.T * g.D, 1);
    g.h = ops_in(o, g.R * g.F, 1);
    vkm_op_route(ops_record(o), &g.routing.r, (struct vkm_buf){0});
    return g;
}

static bool grouped_rows(struct ops *o, size_t index, struct ops_result *result)
{
    struct grouped g = begin_grouped(o, index, result, "grouped rows");
    const struct vkm_routing *r = &g.routing.r;
    const uint32_t R = (uint32_t)g.R, F = r->F, D = r->D;
    struct ops_array b = ops_in(o, g.E * F * D, 1); /* [E,F,D]; transposed: [E,D,F] */
    struct ops_array gathered = ops_out(o, g.R * F), in_order = ops_out(o, g.R * D);
    struct ops_array back = ops_added(o, g.R * D), forth = ops_out(o, g.R * F);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "nt.gather", .form = GEMM_NT, .routing = r,
        .gather = GATHER_A, .a = g.x.buf, .b = b.buf, .c = gathered.buf, .m = R, .n = F, .k = D});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "nt", .form = GEMM_NT, .routing = r, .a = g.h.buf,
        .b = b.buf, .c = in_order.buf, .m = R, .n = D, .k = F});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "nn", .form = GEMM_NN, .routing = r, .accumulate = true,
        .a = g.h.buf, .b = b.buf, .c = back.buf, .m = R, .n = D, .k = F});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "nn.gather", .form = GEMM_NN, .routing = r,
        .gather = GATHER_A, .a = g.x.buf, .b = b.buf, .c = forth.buf, .m = R, .n = F, .k = D});
    if (ops_run(o)) {
        struct num *x = ops_num(o, g.x), *h = ops_num(o, g.h), *w = ops_num(o, b), *wide = ops_new(o, g.R * g.F);
        struct num *narrow = ops_new(o, g.R * g.D), *sum = ops_num(o, back);
        ref_grouped_nt(g.E, g.rows.offset, g.F, g.D, x, g.rows.token_of, w, false, wide);
        ops_expect(o, "X[token] Bt", gathered, wide);
        ref_grouped_nt(g.E, g.rows.offset, g.D, g.F, h, NULL, w, false, narrow);
        ops_expect(o, "A Bt", in_order, narrow);
        ref_grouped_nn(g.E, g.rows.offset, g.D, g.F, h, NULL, w, true, sum);
        ops_expect(o, "C + A B", back, sum);
        ref_grouped_nn(g.E, g.rows.offset, g.F, g.D, x, g.rows.token_of, w, false, wide);
        ops_expect(o, "X[token] B", forth, wide);
    }
    return ops_end(o);
}

static bool grouped_reduction(struct ops *o, size_t index, struct ops_result *result)
{
    struct grouped g = begin_grouped(o, index, result, "grouped reduction");
    const struct vkm_routing *r = &g.routing.r;
    const uint32_t R = (uint32_t)g.R, F = r->F, D = r->D;
    struct ops_array first = ops_out(o, g.E * D * F), second = ops_added(o, g.E * F * D);
    const struct vkm_buf partial[2] = {ops_partial(o, r, D, F), ops_partial(o, r, F, D)};
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "tn.gather_a", .form = GEMM_TN, .routing = r,
        .gather = GATHER_A, .a = g.x.buf, .b = g.h.buf, .c = first.buf, .m = D, .n = F, .k = R,
        .partial = partial[0]});
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "tn.gather_b", .form = GEMM_TN, .routing = r,
        .gather = GATHER_B, .accumulate = true, .a = g.h.buf, .b = g.x.buf, .c = second.buf, .m = F, .n = D, .k = R,
        .partial = partial[1]});
    if (ops_run(o)) {
        struct num *x = ops_num(o, g.x), *h = ops_num(o, g.h), *want = ops_new(o, first.count);
        struct num *sum = ops_num(o, second);
        ref_grouped_tn(g.E, g.rows.offset, g.D, g.F, x, g.rows.token_of, h, NULL, false, want);
        ops_expect(o, "X[token]t B", first, want);
        ref_grouped_tn(g.E, g.rows.offset, g.F, g.D, h, NULL, x, g.rows.token_of, true, sum);
        ops_expect(o, "C + At X[token]", second, sum);
    }
    return ops_end(o);
}

static bool grouped_swiglu(struct ops *o, size_t index, struct ops_result *result)
{
    struct grouped g = begin_grouped(o, index, result, "grouped SwiGLU");
    const struct vkm_routing *r = &g.routing.r;
    struct ops_array b = ops_in(o, g.E * 2 * g.F * g.D, 1), h13 = ops_out(o, g.R * 2 * g.F);
    struct ops_array act = ops_out(o, g.R * g.F);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "swiglu", .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU,
        .routing = r, .gather = GATHER_A, .a = g.x.buf, .b = b.buf, .c = h13.buf, .act = act.buf, .m = (uint32_t)g.R,
        .n = r->F, .k = r->D});
    if (ops_run(o)) {
        struct num *want = ops_new(o, h13.count), *want_act = ops_new(o, act.count);
        ref_grouped_nt(g.E, g.rows.offset, 2 * g.F, g.D, ops_num(o, g.x), g.rows.token_of, ops_num(o, b), false, want);
        ref_swiglu(g.R, g.F, want, want_act);
        ops_expect(o, "h13", h13, want);
        ops_expect(o, "act", act, want_act);
    }
    return ops_end(o);
}

static bool grouped_dswiglu(struct ops *o, size_t index, struct ops_result *result)
{
    struct grouped g = begin_grouped(o, index, result, "grouped dSwiGLU");
    const struct vkm_routing *r = &g.routing.r;
    const uint32_t parts = vkm_gemm_parts(o->ctx, r);
    struct ops_array b = ops_in(o, g.E * g.D * g.F, 1), gate = ops_in(o, g.R, 1), act = ops_out(o, g.R * g.F);
    struct ops_array h13 = ops_changed_random(o, g.R * 2 * g.F, 4), dgate = ops_out(o, g.R * parts);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "dswiglu", .form = GEMM_NN, .epilogue = EPILOGUE_DSWIGLU,
        .routing = r, .gather = GATHER_A, .a = g.x.buf, .b = b.buf, .c = h13.buf, .act = act.buf, .gate = gate.buf,
        .dgate = dgate.buf, .m = (uint32_t)g.R, .n = r->F, .k = r->D});
    if (ops_run(o)) {
        struct num *h = ops_num(o, h13), *weight = ops_num(o, gate), *raw = ops_new(o, g.R * g.F);
        struct num *a = ops_new(o, g.R * g.F), *da = ops_new(o, g.R * g.F), *dh = ops_new(o, h13.count);
        struct num *dg = ops_new(o, g.R);
        float *sums = ops_new_floats(o, g.R);
        ref_swiglu(g.R, g.F, h, a);
        ref_grouped_nn(g.E, g.rows.offset, g.F, g.D, ops_num(o, g.x), g.rows.token_of, ops_num(o, b), false, raw);
        ref_gate_gradient(g.T, r->K, g.F, g.rows.row_of, raw, a, dg);
        for (size_t i = 0; i < g.R * g.F; i++) {
            const struct num w = weight[g.rows.slot_of[i / g.F]];
            da[i] = num_mul(w, raw[i]);
            a[i] = num_mul(w, a[i]);
        }
        ref_swiglu_backward(g.R, g.F, h, da, dh);
        for (size_t slot = 0; slot < g.R; slot++)
            for (uint32_t part = 0; part < parts; part++)
                sums[slot] += ops_floats(o, dgate)[part * g.R + g.rows.row_of[slot]];
        ops_expect(o, "dh13", h13, dh);
        ops_expect(o, "gate act", act, a);
        ops_expect_floats(o, "dgate", sums, g.R, dg);
    }
    return ops_end(o);
}

static bool combine(struct ops *o, size_t index, struct ops_result *result)
{
    struct grouped g = begin_grouped(o, index, result, "combine");
    const struct vkm_routing *r = &g.routing.r;
    const bool with_g = index % 2, with_base = index % 3 != 1;
    const struct vkm_buf none = {0};
    struct ops_array rows = ops_in(o, g.R * g.D, 1), gate = ops_in(o, g.R, 1), y = ops_out(o, g.T * g.D);
    vkm_op_combine(ops_record(o), r, rows.buf, with_g ? gate.buf : none, with_base ? g.x.buf : none, y.buf, r->D);
    if (ops_run(o)) {
        struct num *want = ops_new(o, y.count);
        ref_combine(g.T, g.D, r->K, g.rows.row_of, with_g ? ops_num(o, gate) : NULL, ops_num(o, rows), want);
        if (with_base)
            ref_add(y.count, want, ops_num(o, g.x), want);
        ops_expect(o, "y", y, want);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_moe[] = {
    {"route", route, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large)},
    {"route of many slots", route_many, CASE_COUNT(case_routes_many)},
    {"grouped rows", grouped_rows, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), .lanes = true},
    {"grouped reduction", grouped_reduction, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), .lanes = true},
    {"grouped SwiGLU", grouped_swiglu, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), .lanes = true},
    {"grouped dSwiGLU", grouped_dswiglu, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), .lanes = true},
    {"combine", combine, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), .lanes = true},
    {0},
};
