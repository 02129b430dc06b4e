#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/attention.glsl"
/* o = softmax_j<=s(scale q_s k_j) v, lse = log sum_j exp(scale q_s k_j), keys in blocks with a running maximum
 * (Dao et al. 2022): the scores of a sequence never exist at once. */
#define BLOCK 8

void main()
{
    if (!locate())
        return;
    F32x4 qkv = VEC4S(p.qkv);
    uint s = min(own, p.S - 1);
    vec4 q[N], acc[N];
    for (uint i = 0; i < N; i++) {
        q[i] = qkv.v[at(s, 0, i)] * p.scale;
        acc[i] = vec4(0.0);
    }
    float top = -1.0 / 0.0, total = 0.0;
    for (uint j0 = 0; j0 < last; j0 += BLOCK) {
        float score[BLOCK];
        float block_top = top;
        [[unroll]] for (uint jj = 0; jj < BLOCK; jj++) {
            uint j = min(j0 + jj, p.S - 1);
            vec4 terms = vec4(0.0);
            for (uint i = 0; i < N; i++)
                terms = fma(q[i], qkv.v[at(j, 1, i)], terms);
            float sum = lanes_sum(terms);
            score[jj] = j0 + jj <= s ? sum : -1.0 / 0.0;
            block_top = max(block_top, score[jj]);
        }
        float shrink = exp(top - block_top);
        top = block_top;
        total *= shrink;
        for (uint i = 0; i < N; i++)
            acc[i] *= shrink;
        [[unroll]] for (uint jj = 0; jj < BLOCK; jj++) {
            uint j = min(j0 + jj, p.S - 1);
            float weight = exp(score[jj] - top);
            total += weight;
            for (uint i = 0; i < N; i++)
                acc[i] = fma(vec4(weight), qkv.v[at(j, 2, i)], acc[i]);
        }
    }
    if (own >= p.S)
        return;
    for (uint i = 0; i < N; i++)
        VEC4S(p.o).v[at_o(s, i)] = acc[i] / total;
    if (part == 0)
        p.lse.v[at_row(s)] = top + log(total);
}
