#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/attention.glsl"
/* delta_s = <do_s, o_s>; dq_s = scale sum_j<=s ds_sj k_j, ds_sj = w_sj (<do_s, v_j> - delta_s),
 * w_sj = exp(scale q_s k_j - lse_s) (Dao et al. 2022, appendix B.4) */
#define BLOCK 4

void main()
{
    if (!locate())
        return;
    F32x4 qkv = VEC4S(p.qkv), dout = VEC4S(p.dout);
    uint s = min(own, p.S - 1);
    vec4 q[N], d_o[N], dq[N];
    float delta = 0.0;
    for (uint i = 0; i < N; i++) {
        q[i] = qkv.v[at(s, 0, i)] * p.scale;
        d_o[i] = dout.v[at_o(s, i)];
        dq[i] = vec4(0.0);
        delta += dot(d_o[i], VEC4S(p.o).v[at_o(s, i)]);
    }
    delta = lanes_sum(delta);
    float lse = p.lse.v[at_row(s)];
    for (uint j0 = 0; j0 < last; j0 += BLOCK) {
        float score[BLOCK];
        vec4 score4[BLOCK], dweight4[BLOCK];
        [[unroll]] for (uint jj = 0; jj < BLOCK; jj++)
            score4[jj] = dweight4[jj] = vec4(0.0);
        for (uint i = 0; i < N; i++)
            [[unroll]] for (uint jj = 0; jj < BLOCK; jj++) {
                uint j = min(j0 + jj, p.S - 1);
                score4[jj] = fma(q[i], qkv.v[at(j, 1, i)], score4[jj]);
                dweight4[jj] = fma(d_o[i], qkv.v[at(j, 2, i)], dweight4[jj]);
            }
        [[unroll]] for (uint jj = 0; jj < BLOCK; jj++) {
            float w = exp(lanes_sum(total4(score4[jj])) - lse), dscore = w * (lanes_sum(total4(dweight4[jj])) - delta);
            score[jj] = j0 + jj <= s ? dscore : 0.0;
        }
        for (uint i = 0; i < N; i++)
            [[unroll]] for (uint jj = 0; jj < BLOCK; jj++)
                dq[i] = fma(vec4(score[jj]), qkv.v[at(min(j0 + jj, p.S - 1), 1, i)], dq[i]);
    }
    if (own >= p.S)
        return;
    for (uint i = 0; i < N; i++)
        VEC4S(p.dqkv).v[at(s, 0, i)] = dq[i] * p.scale;
    if (part == 0)
        p.delta.v[at_row(s)] = delta;
}
