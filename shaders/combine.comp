#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/row.glsl"
#ifdef WITH_16
#include "common/narrow.glsl"
#endif
/* y[t,d] = base[t,d] + sum_k g[t,k] * rows[row_of[t,k],d]: a gather in the order of k, no atomics; a workgroup a row */
layout(constant_id = SPEC_COMBINE_K) const uint K = 1;
layout(constant_id = SPEC_COMBINE_WEIGHTED) const bool WEIGHTED = false; /* g is there: see gathered_a in common/gemm.glsl */
layout(constant_id = SPEC_COMBINE_VEC4) const bool VEC4 = false;         /* rows are whole vec4s */
PUSH(combine);
const uint NUMBERS = VEC4 ? 4 : 1; /* numbers of a row that an invocation has at a time; of vec4s the first is, else */

vec4 load(F32 array, uint i) { return VEC4 ? VEC4S(array).v[i / 4] : vec4(array.v[i], 0.0, 0.0, 0.0); }
#ifdef WITH_16
vec4 row_values(uint i) { return VEC4 ? load16x4(p.rows, i) : vec4(load16(p.rows, i), 0.0, 0.0, 0.0); }
#else
vec4 row_values(uint i) { return load(p.rows, i); }
#endif

void main()
{
    uint t = group_index(), slot = min(t, p.T - 1) * K;
    if (t >= p.T)
        return;
    if (TOGETHER) {
        FOR_ROW(d, p.D) {
            float sum = 0.0;
            [[unroll]] for (uint k = 0; k < K; k++) {
                float g = WEIGHTED ? p.g.v[slot + k] : 1.0;
                float x = load_row(p.rows, min(p.row_of.v[slot + k], p.T * K - 1) * p.D + d);
                sum += g != 0.0 ? g * x : 0.0;
            }
            F32 base = F32(PRESENT(p.base) ? uvec2(p.base) : uvec2(p.rows)); /* loaded in any case */
            float before = load_row(base, min(t, p.T - 1) * p.D + d);
            p.y.v[t * p.D + d + gl_LocalInvocationID.x] = PRESENT(p.base) ? sum + before : sum;
        }
        return;
    }
    uint row[K];
    float g[K]; /* 0: a dropped expert, which has no row: any other is loaded, in no branch, so that all are waited for together */
    [[unroll]] for (uint k = 0; k < K; k++) {
        row[k] = min(p.row_of.v[slot + k], p.T * K - 1) * p.D;
        g[k] = WEIGHTED ? p.g.v[slot + k] : 1.0;
    }
    for (uint first = 0; first < p.D; first += NUMBERS * gl_WorkGroupSize.x) {
        uint own = first + NUMBERS * gl_LocalInvocationID.x, d = min(own, p.D - NUMBERS), i = t * p.D + d;
        vec4 sum = vec4(0.0);
        [[unroll]] for (uint k = 0; k < K; k++) {
            vec4 x = row_values(row[k] + d);
            sum += g[k] != 0.0 ? g[k] * x : vec4(0.0);
        }
        if (own >= p.D)
            continue;
        if (PRESENT(p.base))
            sum += load(p.base, i);
        if (VEC4)
            VEC4S(p.y).v[i / 4] = sum;
        else
            p.y.v[i] = sum.x;
    }
}
