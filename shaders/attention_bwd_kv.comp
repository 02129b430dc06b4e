#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/attention.glsl"
/* dv_j = sum_s>=j w_sj do_s; dk_j = scale sum_s>=j ds_sj q_s, with w and ds as in attention_bwd_q.comp, which ran before
 * and left delta */
#define BLOCK 2 /* queries at a time */

void main()
{
    if (!locate())
        return;
    F32x4 qkv = VEC4S(p.qkv), dout = VEC4S(p.dout);
    uint j = min(own, p.S - 1);
    vec4 k[N], v[N], dk[N], dv[N];
    for (uint i = 0; i < N; i++) {
        k[i] = qkv.v[at(j, 1, i)] * p.scale;
        v[i] = qkv.v[at(j, 2, i)];
        dk[i] = vec4(0.0);
        dv[i] = vec4(0.0);
    }
    for (uint s0 = first; s0 < p.S; s0 += BLOCK) {
        vec4 score[BLOCK], dweight[BLOCK];
        float weight[BLOCK], dscore[BLOCK];
        [[unroll]] for (uint ss = 0; ss < BLOCK; ss++)
            score[ss] = dweight[ss] = vec4(0.0);
        for (uint i = 0; i < N; i++)
            [[unroll]] for (uint ss = 0; ss < BLOCK; ss++) {
                uint s = min(s0 + ss, p.S - 1);
                score[ss] = fma(k[i], qkv.v[at(s, 0, i)], score[ss]);
                dweight[ss] = fma(v[i], dout.v[at_o(s, i)], dweight[ss]);
            }
        [[unroll]] for (uint ss = 0; ss < BLOCK; ss++) {
            uint row = at_row(min(s0 + ss, p.S - 1));
            float w = exp(lanes_sum(score[ss]) - p.lse.v[row]);
            weight[ss] = s0 + ss < p.S && j <= s0 + ss ? w : 0.0;
            dscore[ss] = weight[ss] * (lanes_sum(dweight[ss]) - p.delta.v[row]);
        }
        for (uint i = 0; i < N; i++)
            [[unroll]] for (uint ss = 0; ss < BLOCK; ss++) {
                uint s = min(s0 + ss, p.S - 1);
                dv[i] = fma(vec4(weight[ss]), dout.v[at_o(s, i)], dv[i]);
                dk[i] = fma(vec4(dscore[ss]), qkv.v[at(s, 0, i)], dk[i]);
            }
    }
    if (own >= p.S)
        return;
    for (uint i = 0; i < N; i++) {
        VEC4S(p.dqkv).v[at(j, 1, i)] = dk[i] * p.scale;
        VEC4S(p.dqkv).v[at(j, 2, i)] = dv[i];
    }
}
