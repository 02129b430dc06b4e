#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#include "common/row.glsl"
/* SimBal (arXiv 2506.14038) of one router. With the Gram matrix G = W W^T: row[i] = sum_j |G - I|_ij, and
 * dW_i += 2 coef loss_scale sum_j sign(G - I)_ij W_j, sign(0) = 0. A workgroup a row i. It takes BITS experts j at a time, whose
 * signs are bits that every invocation has. */
PUSH(simbal);
const uint BITS = 32;

/* The n-th column of an invocation from d on, less the invocation's number */
uint column(uint d, uint n)
{
    uint at = d + n * gl_WorkGroupSize.x, lane = gl_LocalInvocationID.x;
    return TOGETHER ? row_part(at) : min(at + lane, p.D - 1) - lane;
}

void main()
{
    uint i = group_index(), lane = gl_LocalInvocationID.x;
    if (i >= p.E)
        return;
    float total = 0.0, scale = 2.0 * p.coef * p.loss_scale.v.scale;
    for (uint first = 0; first < p.E; first += BITS) {
        uint experts = min(p.E - first, BITS), above = 0, below = 0;
        for (uint j = 0; j < experts; j++) {
            uint other = min(first + j, p.E - 1) * p.D; /* see gathered_a in gemm.glsl */
            float product = 0.0;
            FOR_ROW(d, p.D)
                product = fma(load_row(p.w, i * p.D + d), load_row(p.w, other + d), product);
            float off = workgroup_sum(product) - float(i == first + j);
            total += abs(off);
            above |= uint(off > 0.0) << j;
            below |= uint(off < 0.0) << j;
        }
        for (uint d = 0; d < p.D; d += EACH * gl_WorkGroupSize.x) {
            float sum[EACH];
            [[unroll]] for (uint n = 0; n < EACH; n++)
                sum[n] = 0.0;
            for (uint j = 0; j < experts; j++) {
                uint other = min(first + j, p.E - 1) * p.D;
                float s = float(above >> j & 1) - float(below >> j & 1);
                [[unroll]] for (uint n = 0; n < EACH; n++)
                    sum[n] = fma(s, load_row(p.w, other + column(d, n)), sum[n]);
            }
            [[unroll]] for (uint n = 0; n < EACH; n++) {
                uint to = i * p.D + column(d, n);
                float before = load_row(p.dw, to);
                if (TOGETHER || d + n * gl_WorkGroupSize.x + lane < p.D)
                    p.dw.v[to + lane] = fma(scale, sum[n], before);
            }
        }
    }
    if (lane == 0)
        p.row.v[i] = total;
}
