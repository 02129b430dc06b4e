/* What is measured of routing, the step of loss-free balance, sums of squares, and what dropped experts leave alone. */
#include "ops_cases.h"

#include "cases/cases.h"

#include <string.h>

_Static_assert(REF_BINS == GATE_BINS && REF_MOST_EXPERTS == MAX_EXPERTS, "the reference has the library's limits");

/* idx [T,K] of a shape; `dropped` leaves E in the place of some, and of all of every fifth token. */
static uint32_t *route_tokens(struct ops *o, const struct case_grouped *s, size_t seed, bool dropped)
{
    const size_t R = (size_t)s->T * s->top_k;
    uint32_t *idx = ops_new_words(o, R);
    case_route(s->routing, s->T, s->E, s->top_k, seed, idx);
    for (size_t slot = 0; slot < R && dropped; slot++)
        if (slot * 7 % 3 == 0 || slot / s->top_k % 5 == 4)
            idx[slot] = s->E;
    return idx;
}

/* ---- gates ---- */

enum weights { SPREAD, ONE_HOT, TINY, EVEN, WEIGHTS };

/* p [T,E]: not normalised; with zeros; almost all in one expert; all alike. */
static float *gate_weights(struct ops *o, size_t T, size_t E, size_t seed, enum weights kind)
{
    float *p = ops_new_floats(o, T * E);
    case_fill(p, T * E, seed, 1);
    for (size_t i = 0; i < T * E; i++) {
        const bool one = i % E == i / E % E;
        p[i] = kind == SPREAD ? fabsf(p[i]) : kind == EVEN ? 0.3f : one ? 1 : kind == TINY ? 1e-30f * fabsf(p[i]) : 0;
    }
    return p;
}

static bool entropy(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    const size_t T = s->T, E = s->E, K = s->top_k;
    struct ops_array p[WEIGHTS], idx[WEIGHTS], full[WEIGHTS], topk[WEIGHTS];
    ops_begin(o, result, index, "entropy T %u, E %u, K %u, %s", s->T, s->E, s->top_k, case_routing_name(s->routing));
    for (int i = 0; i < WEIGHTS; i++) {
        p[i] = ops_in_copy(o, T * E, gate_weights(o, T, E, index, (enum weights)i));
        idx[i] = ops_in_copy(o, T * K, route_tokens(o, s, index, i % 2 == 0));
        full[i] = ops_out(o, T);
        topk[i] = ops_out(o, T);
        const struct vkm_gate gate = {.T = s->T, .E = s->E, .K = s->top_k, .z = p[i].buf, .idx = idx[i].buf};
        vkm_op_entropy(ops_record(o), &gate, full[i].buf, topk[i].buf);
    }
    if (ops_run(o))
        for (int i = 0; i < WEIGHTS; i++) {
            struct num *want = ops_new(o, T), *active = ops_new(o, T);
            ref_entropy(T, E, K, ops_num(o, p[i]), ops_words(o, idx[i]), want, active);
            ops_expect(o, "over all", full[i], want);
            ops_expect(o, "over the active", topk[i], active);
        }
    return ops_end(o);
}

static bool expert_load(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    uint32_t divisor = 1; /* largest below T */
    for (uint32_t d = 2; d < s->T; d++)
        divisor = s->T % d ? divisor : d;
    const uint32_t group[] = {1, divisor, s->T};
    struct ops_array load[6];
    ops_begin(o, result, index, "expert load T %u, E %u, K %u, groups of 1, %u and T, %s", s->T, s->E, s->top_k, divisor,
              case_routing_name(s->routing));
    const uint32_t *idx[2] = {route_tokens(o, s, index, false), route_tokens(o, s, index, true)};
    for (int dropped = 0; dropped < 2; dropped++) {
        const struct vkm_gate gate = {.T = s->T, .E = s->E, .K = s->top_k,
                                      .idx = ops_in_copy(o, (size_t)s->T * s->top_k, idx[dropped]).buf};
        for (int i = 0; i < 3; i++) {
            load[3 * dropped + i] = ops_out(o, (size_t)s->T / group[i] * s->E);
            vkm_op_expert_load(ops_record(o), &gate, group[i], load[3 * dropped + i].buf);
        }
    }
    if (ops_run(o))
        for (int i = 0; i < 6; i++) {
            struct num *want = ops_new(o, load[i].count);
            ref_expert_load(s->T, group[i % 3], s->E, s->top_k, idx[i / 3], want);
            ops_expect(o, i < 3 ? "load" : "load, some dropped", load[i], want);
        }
    return ops_end(o);
}

/* The counts of a step, and of so many that f32 does not hold them. */
static bool expert_load_total(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    static const uint32_t times[] = {1, 1000003};
    struct ops_array load[2];
    uint32_t *counts[2];
    ops_begin(o, result, index, "total load T %u, E %u, K %u, %s", s->T, s->E, s->top_k, case_routing_name(s->routing));
    const uint32_t *idx = route_tokens(o, s, index, false);
    for (int i = 0; i < 2; i++) {
        counts[i] = ops_new_words(o, s->E);
        for (size_t slot = 0; slot < (size_t)s->T * s->top_k; slot++)
            counts[i][idx[slot]] += times[i];
        load[i] = ops_out(o, s->E);
        vkm_op_expert_load_total(ops_record(o), s->E, s->top_k, ops_in_copy(o, s->E, counts[i]).buf, load[i].buf);
    }
    if (ops_run(o))
        for (int i = 0; i < 2; i++) {
            struct num *want = ops_new(o, s->E);
            ref_expert_load_total(s->E, s->top_k, counts[i], want);
            ops_expect(o, i ? "load, large counts" : "load", load[i], want);
        }
    return ops_end(o);
}

static bool seu(struct ops *o, size_t index, struct ops_result *result)
{
    const uint32_t E = case_experts[index], groups = 13;
    ops_begin(o, result, index, "SEU of %u groups, E %u", groups, E);
    float *values = ops_new_floats(o, (size_t)groups * E);
    case_fill(values, (size_t)groups * E, index, 1);
    for (size_t i = 0; i < (size_t)groups * E; i++) /* about half are used; all of the first group, none of the last */
        values[i] = i < E ? 1.0f / (float)(i + 1) : i < (size_t)(groups - 1) * E ? fmaxf(values[i], 0) : 0;
    struct ops_array load = ops_in_copy(o, (size_t)groups * E, values), used = ops_out(o, groups);
    vkm_op_seu(ops_record(o), load.buf, used.buf, groups, E);
    if (ops_run(o)) {
        struct num *want = ops_new(o, groups);
        ref_seu(groups, E, ops_num(o, load), want);
        ops_expect(o, "used", used, want);
    }
    return ops_end(o);
}

/* Random numbers, with the ends of bins and their neighbours among them; and all in one bin. */
static bool histogram(struct ops *o, size_t index, struct ops_result *result)
{
    const uint32_t n = *CASE_AT(case_lengths, index);
    struct ops_array x[2], bins[2];
    uint32_t *start = ops_new_words(o, GATE_BINS);
    ops_begin(o, result, index, "histogram of %u", n);
    case_fill_indices(start, GATE_BINS, index, 1u << 31);
    for (int i = 0; i < 2; i++) {
        float *values = ops_new_floats(o, n);
        case_fill(values, n, index, 1);
        for (uint32_t k = 0; k < n; k++) {
            const float end = (float)((k + index) / 4 % (GATE_BINS + 1)) / GATE_BINS;
            const float near[] = {end, nextafterf(end, 0), nextafterf(end, 1), fabsf(values[k])};
            values[k] = i ? 1 : near[k % 4];
        }
        x[i] = ops_in_copy(o, n, values);
        bins[i] = ops_changed(o, GATE_BINS, start);
        vkm_op_histogram(ops_record(o), x[i].buf, bins[i].buf, n);
    }
    if (ops_run(o))
        for (int i = 0; i < 2; i++) {
            uint32_t *want = ops_new_words(o, GATE_BINS);
            memcpy(want, start, GATE_BINS * sizeof *want);
            ref_histogram(n, ops_floats_before(o, x[i]), want);
            ops_expect_words(o, i ? "bins, all in one" : "bins", bins[i], want);
        }
    return ops_end(o);
}

static bool gram(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_router *s = &case_routers[index];
    ops_begin(o, result, index, "Gram matrix E %u, D %u%s", s->E, s->D, s->orthonormal ? ", orthonormal" : "");
    float *router = ops_new_floats(o, (size_t)s->E * s->D);
    case_fill_router(router, s, index);
    struct ops_array w = ops_in_copy(o, (size_t)s->E * s->D, router), square = ops_out(o, 1), most = ops_out(o, 1);
    struct ops_array scratch = ops_scratch(o, 4ull * s->E * s->E);
    vkm_op_gram(ops_record(o), w.buf, square.buf, most.buf, scratch.buf, s->E, s->D);
    if (ops_run(o)) {
        struct num largest, mean;
        ref_orthogonality(s->E, s->D, ops_num(o, w), &largest, &mean);
        ops_expect(o, "mean square", square, &mean);
        ops_expect(o, "largest", most, &largest);
    }
    return ops_end(o);
}

/* Of every four tokens one keeps its experts, one has them in another order, one has another expert, one loses an expert
 * (dropped: E) more than before. What was compared is the next comparison's past. */
static bool routing_change(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    const size_t K = s->top_k, R = s->T * K;
    ops_begin(o, result, index, "routing change T %u, E %u, K %u, %s", s->T, s->E, s->top_k,
              case_routing_name(s->routing));
    uint32_t *before = route_tokens(o, s, index, index % 2), *now = ops_new_words(o, R);
    for (size_t slot = 0; slot < R; slot++) {
        const size_t t = slot / K, k = slot % K;
        now[slot] = t % 4 == 1 ? before[t * K + K - 1 - k] : before[slot];
        if (t % 4 == 2 && k == t % K)
            now[slot] = s->E + 1;
        if (t % 4 == 3 && k == t % K)
            now[slot] = s->E;
    }
    struct ops_array past = ops_changed(o, R, before), idx = ops_in_copy(o, R, now);
    struct ops_array changed[3] = {ops_out(o, s->T), ops_out(o, s->T), ops_out(o, s->T)};
    struct ops_array first = ops_in_copy(o, R, before);
    vkm_op_routing_change(ops_record(o), past.buf, idx.buf, changed[0].buf, s->T, s->top_k);
    vkm_op_routing_change(ops_record(o), past.buf, idx.buf, changed[1].buf, s->T, s->top_k);
    vkm_op_routing_change(ops_record(o), past.buf, first.buf, changed[2].buf, s->T, s->top_k);
    if (ops_run(o)) {
        struct num *want = ops_new(o, s->T);
        ref_routing_change(s->T, K, before, now, want);
        ops_expect(o, "changed", changed[0], want);
        ops_expect(o, "unchanged", changed[1], ops_new(o, s->T));
        ref_routing_change(s->T, K, now, before, want);
        ops_expect(o, "changed back", changed[2], want);
        ops_expect_words(o, "before", past, before);
    }
    return ops_end(o);
}

/* ---- loss-free balance ---- */

enum counts { COUNTS_RANDOM, COUNTS_TIED, COUNTS_EVEN, COUNTS_LARGE, COUNTS };

/* count [E]; TIED: some are exactly the mean; LARGE: E times a count does not fit into 32 bits. */
static uint32_t *expert_counts(struct ops *o, uint32_t E, size_t seed, enum counts kind)
{
    uint32_t *count = ops_new_words(o, E);
    case_fill_indices(count, E, seed, 1000);
    for (uint32_t e = 0; e < E && kind != COUNTS_RANDOM; e++)
        count[e] = 500;
    if (kind == COUNTS_TIED)
        for (uint32_t e = 0; 3 * e + 2 < E; e++) {
            count[3 * e]--;
            count[3 * e + 2]++;
        }
    if (kind == COUNTS_LARGE)
        count[E / 2] = 4000000000u;
    return count;
}

static bool lossfree(struct ops *o, size_t index, struct ops_result *result)
{
    const uint32_t E = case_experts[index];
    const float rate = 1e-3f;
    uint32_t *count[COUNTS];
    struct ops_array bias[COUNTS][2];
    ops_begin(o, result, index, "loss-free balance E %u", E);
    struct step_stats step[2] = {{.clip_scale = 1}, {.clip_scale = 1, .skip = 1}};
    for (int skip = 0; skip < 2; skip++) {
        struct ops_array stats = ops_in_copy(o, sizeof step[skip] / 4, &step[skip]);
        for (int i = 0; i < COUNTS; i++) {
            count[i] = expert_counts(o, E, index, (enum counts)i);
            bias[i][skip] = ops_changed_random(o, E, 0.1f);
            vkm_op_lossfree(ops_record(o), bias[i][skip].buf, ops_in_copy(o, E, count[i]).buf, stats.buf, E, rate);
        }
    }
    if (ops_run(o))
        for (int i = 0; i < COUNTS; i++)
            for (int skip = 0; skip < 2; skip++) {
                struct num *want = ops_num(o, bias[i][skip]);
                ref_lossfree(E, rate, count[i], skip, want);
                ops_expect(o, skip ? "bias, skipped step" : "bias", bias[i][skip], want);
            }
    return ops_end(o);
}

static bool square(struct ops *o, size_t index, struct ops_result *result)
{
    const uint32_t n = *CASE_AT(case_lengths, index);
    ops_begin(o, result, index, "sum of %u squares", n);
    struct ops_array x = ops_in(o, n, 2), out = ops_added(o, 1), scratch = ops_scratch(o, vkm_square_scratch(n));
    vkm_op_square(ops_record(o), x.buf, out.buf, scratch.buf, n);
    if (ops_run(o)) {
        struct num *terms = ops_num(o, x), *want = ops_num(o, out);
        struct num_sum total = {0};
        for (uint32_t i = 0; i < n; i++)
            num_sum_mul(&total, terms[i], terms[i]);
        num_sum_add(&total, *want);
        *want = num_sum_end(&total);
        ops_expect(o, "sum", out, want);
    }
    return ops_end(o);
}

/* ---- pairwise expert similarity ---- */

enum outputs { RANDOM, ALIKE, SILENT, IDENTICAL, OPPOSITE, ORTHOGONAL, OUTPUTS };
static const char *const output_names[] = {"random", "alike", "some zero", "identical", "opposite", "orthogonal"};

/* rows [E,T,D]: random; a large common part, so that the mean is near 1; every third zero, and all of the first token's;
 * the same of all experts but for the length, a power of 2; the same with both signs in turn; axes. */
static float *outputs(struct ops *o, const struct case_outputs *s, size_t seed, enum outputs kind)
{
    const size_t T = s->T, D = s->D, E = s->E;
    float *rows = ops_new_floats(o, E * T * D);
    case_fill(rows, E * T * D, seed, 1);
    for (size_t i = 0; i < E * T * D; i++) {
        const size_t e = i / (T * D), t = i / D % T, d = i % D;
        const float first = rows[t * D + d], length = ldexpf(1, (int)(e % 7) - 3);
        switch (kind) {
        case ALIKE:
            rows[i] = e ? first + 0.01f * rows[i] : first;
            break;
        case SILENT:
            rows[i] = (e + t) % 3 == 1 || t == 0 ? 0 : rows[i];
            break;
        case IDENTICAL:
            rows[i] = e ? first * length : first;
            break;
        case OPPOSITE:
            rows[i] = e % 2 ? -first : first;
            break;
        case ORTHOGONAL:
            rows[i] = d == (e + t) % D ? length : 0;
            break;
        default:
            break;
        }
    }
    return rows;
}

static bool pes(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_outputs *s = &case_outputs[index];
    const int kinds = s->D >= s->E ? OUTPUTS : ORTHOGONAL;
    struct ops_array rows[OUTPUTS], got[OUTPUTS];
    ops_begin(o, result, index, "PES T %u, D %u, E %u", s->T, s->D, s->E);
    for (int i = 0; i < kinds; i++) {
        rows[i] = ops_in_copy(o, (size_t)s->E * s->T * s->D, outputs(o, s, index, (enum outputs)i));
        got[i] = ops_out(o, s->T);
        vkm_op_pes(ops_record(o), rows[i].buf, got[i].buf, s->T, s->D, s->E);
    }
    if (!ops_run(o))
        return ops_end(o);
    for (int i = 0; i < kinds; i++) {
        struct num *want = ops_new(o, s->T);
        ref_pes(s->T, s->D, s->E, ops_num(o, rows[i]), want);
        ops_expect(o, output_names[i], got[i], want);
        for (size_t t = 0; t < s->T; t++) {
            const double off = fabs((double)ops_floats(o, got[i])[t] - want[t].v);
            if (!(off <= 1e-5)) /* what a figure with five decimals needs */
                ops_fail(o, "PES of %s outputs is off by %.3g at token %zu", output_names[i], off, t);
            if (s->E > 1 && (i == IDENTICAL || i == ORTHOGONAL) && fabs(want[t].v - (i == IDENTICAL)) > 1e-12)
                ops_fail(o, "the reference says %.17g of %s outputs", want[t].v, output_names[i]);
        }
    }
    return ops_end(o);
}

/* ---- dropped experts ---- */

/* Slots whose idx is E have no row: routing passes them over, the sum over a token's experts reads neither their
 * row_of, which may be anything, nor rows that no slot has, and no weight's gradient has a part of them. */
static bool dropped(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_grouped *s = CASE_AT(case_groupeds, index);
    const size_t T = s->T, E = s->E, K = s->top_k, R = T * K, D = s->K;
    enum { F = 4 };
    const struct vkm_buf none = {0};
    const uint32_t garbage[] = {UINT32_MAX, 0x7fc0dead, 0x40000000, (uint32_t)R};
    ops_begin(o, result, index, "dropped experts T %u, D %u, E %u, K %u, %s", s->T, s->K, s->E, s->top_k,
              case_routing_name(s->routing));
    uint32_t *idx = route_tokens(o, s, index, true), *count = ops_new_words(o, E), *offset = ops_new_words(o, E + 1);
    uint32_t *row_of = ops_new_words(o, R), *token_of = ops_new_words(o, R), *slot_of = ops_new_words(o, R);
    ref_dispatch(T, E, K, idx, count, offset, row_of, token_of, slot_of);
    float *weights = ops_new_floats(o, R), *outputs_of = ops_new_floats(o, R * D);
    case_fill(weights, R, index, 1);
    case_fill(outputs_of, R * D, index + 1, 1);
    for (size_t slot = 0; slot < R; slot++)
        if (idx[slot] == E)
            weights[slot] = 0;
    for (size_t i = offset[E] * D; i < R * D; i++)
        outputs_of[i] = NAN;
    uint32_t *given = ops_new_words(o, R);
    for (size_t slot = 0; slot < R; slot++)
        given[slot] = idx[slot] == E ? garbage[slot % CASE_COUNT(garbage)] : row_of[slot];

    const struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->top_k, .F = F, .D = s->K};
    struct ops_routing routing = ops_routing(o, shape, ops_in_copy(o, R, idx));
    struct ops_array rows = ops_in_copy(o, R * D, outputs_of), g = ops_in_copy(o, R, weights), base = ops_in(o, T * D, 1);
    struct ops_array y[2] = {ops_out(o, T * D), ops_out(o, T * D)}, x = ops_in(o, T * F, 1), dw = ops_out(o, E * D * F);
    struct vkm_routing by_hand = {.T = s->T, .E = s->E, .K = s->top_k, .row_of = ops_in_copy(o, R, given).buf};
    vkm_op_route(ops_record(o), &routing.r, none);
    vkm_op_combine(ops_record(o), &routing.r, rows.buf, g.buf, none, y[0].buf, s->K);
    vkm_op_combine(ops_record(o), &by_hand, rows.buf, g.buf, base.buf, y[1].buf, s->K);
    vkm_op_gemm(ops_record(o), &(struct vkm_gemm){.label = "case", .form = GEMM_TN, .routing = &routing.r, .gather = GATHER_B,
        .a = rows.buf, .b = x.buf, .c = dw.buf, .m = s->K, .n = F, .k = (uint32_t)R,
        .partial = ops_partial(o, &routing.r, s->K, F)});
    if (ops_run(o)) {
        struct num *outputs_num = ops_num(o, rows), *want = ops_new(o, T * D);
        ops_expect_words(o, "count", routing.count, count);
        ops_expect_words(o, "offset", routing.offset, offset);
        for (size_t slot = 0; slot < R; slot++)
            if (idx[slot] < E && (ops_words(o, routing.row_of)[slot] != row_of[slot] ||
                                  ops_words(o, routing.slot_of)[row_of[slot]] != slot ||
                                  ops_words(o, routing.token_of)[row_of[slot]] != slot / K))
                ops_fail(o, "slot %zu is not in row %u", slot, row_of[slot]);
        /* The reference's row_of of a dropped slot is 0: its weight is an exact zero, and so is the product. */
        for (size_t i = offset[E] * D; i < R * D; i++)
            outputs_num[i] = num_exact(0);
        ref_combine(T, D, K, row_of, ops_num(o, g), outputs_num, want);
        ops_expect(o, "y", y[0], want);
        ref_add(T * D, want, ops_num(o, base), want);
        ops_expect(o, "base + y", y[1], want);
        want = ops_new(o, dw.count);
        ref_grouped_tn(E, offset, D, F, outputs_num, NULL, ops_num(o, x), token_of, false, want);
        ops_expect(o, "dw", dw, want);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_metrics[] = {
    {"entropy", entropy, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large)},
    {"expert load", expert_load, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large)},
    {"total load", expert_load_total, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large)},
    {"SEU", seu, CASE_COUNT(case_experts)},
    {"histogram", histogram, CASE_COUNT(case_lengths), CASE_COUNT(case_lengths_large)},
    {"Gram matrix", gram, CASE_COUNT(case_routers)},
    {"routing change", routing_change, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large)},
    {"loss-free balance", lossfree, CASE_COUNT(case_experts)},
    {"squares", square, CASE_COUNT(case_lengths), CASE_COUNT(case_lengths_large)},
    {"PES", pes, CASE_COUNT(case_outputs)},
    {"dropped experts", dropped, CASE_COUNT(case_groupeds), CASE_COUNT(case_groupeds_large), .lanes = true},
    {0},
};
