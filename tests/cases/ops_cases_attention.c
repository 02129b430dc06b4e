/* Rotary positions and attention. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "cases/narrow.h"

static struct vkm_attention described(struct ops *o, const struct case_attention *s, struct ops_array *cosines,
                                      struct ops_array *sines)
{
    const size_t half = (size_t)s->S * (s->hd / 2);
    float *tables = ops_new_floats(o, 2 * half);
    ref_rope_tables(s->S, s->hd, 1e4, tables, tables + half);
    *cosines = ops_in_copy(o, half, tables);
    *sines = ops_in_copy(o, half, tables + half);
    return (struct vkm_attention){.B = s->B, .S = s->S, .H = s->H, .width = s->hd, .cos = cosines->buf,
                                  .sin = sines->buf, .type = o->type};
}

static struct ref_heads heads_of(const struct case_attention *s)
{
    return (struct ref_heads){.B = s->B, .S = s->S, .H = s->H, .hd = s->hd};
}

static bool rope(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_attention *s = CASE_AT(case_attentions, index);
    const size_t n = (size_t)s->B * s->S * 3 * s->H * s->hd;
    ops_begin(o, result, index, "rope B %u, S %u, H %u, width %u", s->B, s->S, s->H, s->hd);
    struct ops_array cosines, sines;
    const struct vkm_attention a = described(o, s, &cosines, &sines);
    struct ops_array x = ops_changed_random(o, n, 2), dx = ops_changed_random(o, n, 2);
    vkm_op_rope(ops_record(o), &a, x.buf, false);
    vkm_op_rope(ops_record(o), &a, dx.buf, true);
    if (ops_run(o)) {
        struct num *want = ops_num(o, x), *want_dx = ops_num(o, dx), *c = ops_num(o, cosines), *si = ops_num(o, sines);
        ref_rope(heads_of(s), c, si, false, want);
        ref_rope(heads_of(s), c, si, true, want_dx);
        ops_expect(o, "x", x, want);
        ops_expect(o, "dx", dx, want_dx);
    }
    return ops_end(o);
}

/* q, k, v in [-scale, scale]; narrow: in which bounds of operands in 16 bits, NULL: there are none. */
static void attend(struct ops *o, const struct case_attention *s, float scale, const struct ref_narrow *narrow)
{
    const size_t T = (size_t)s->B * s->S, D = (size_t)s->H * s->hd;
    struct ref_heads heads = heads_of(s);
    struct ops_array cosines, sines;
    struct vkm_attention a = described(o, s, &cosines, &sines);
    struct ops_array qkv = ops_in(o, T * 3 * D, scale), dout = ops_in(o, T * D, 1);
    struct ops_array out = ops_out(o, T * D), lse = ops_out(o, T * s->H), dqkv = ops_out(o, T * 3 * D);
    a.qkv = qkv.buf;
    a.o = out.buf;
    a.lse = lse.buf;
    a.dout = dout.buf;
    a.delta = ops_scratch(o, 4ull * T * s->H).buf;
    a.dqkv = dqkv.buf;
    vkm_op_attention(ops_record(o), &a);
    vkm_op_attention_bwd(ops_record(o), &a);
    if (ops_run(o)) {
        struct num *want = ops_new(o, T * D), *want_lse = ops_new(o, T * s->H), *gradient = ops_new(o, T * 3 * D);
        struct num *x = ops_num(o, qkv);
        heads.narrow = narrow;
        ref_attention(heads, x, want, want_lse);
        ref_attention_backward(heads, x, ops_num(o, dout), gradient);
        ops_expect(o, "o", out, want);
        ops_expect(o, "lse", lse, want_lse);
        ops_expect(o, "dqkv", dqkv, gradient);
    }
}

static bool attention(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_attention *s = CASE_AT(case_attentions, index);
    ops_begin(o, result, index, "attention B %u, S %u, H %u, width %u", s->B, s->S, s->H, s->hd);
    attend(o, s, index % 2 ? 1 : 3, NULL); /* scores of a few units: weights that are neither all alike nor one alone */
    return ops_end(o);
}

/* On cooperative matrices, where the variant has them: then a pass whose heads are too wide for them runs without, on what the
 * others left. Without them nothing is rounded, and the bounds are attention's. */
static bool narrow_attention(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_attention *s = CASE_AT(case_narrow_attentions, index);
    const struct ref_narrow narrow = narrow_rounding(o->type);
    ops_begin(o, result, index, "attention %s, B %u, S %u, H %u, width %u", o->type == TYPE_F16 ? "f16" : "bf16", s->B, s->S,
              s->H, s->hd);
    attend(o, s, 2, o->ctx->caps.cm[o->type].use_attention ? &narrow : NULL);
    return ops_end(o);
}

const struct ops_case ops_cases_attention[] = {
    {"rope", rope, CASE_COUNT(case_attentions), CASE_COUNT(case_attentions_large), .lanes = true},
    {"attention", attention, CASE_COUNT(case_attentions), CASE_COUNT(case_attentions_large)},
    {"16-bit attention", narrow_attention, CASE_COUNT(case_narrow_attentions), CASE_COUNT(case_narrow_attentions_large), true},
    {0},
};
