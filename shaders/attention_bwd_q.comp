#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/attention.glsl"
/* delta_s = <do_s, o_s>; dq_s = scale sum_j<=s ds_sj k_j, ds_sj = w_sj (<do_s, v_j> - delta_s),
 * w_sj = exp(scale q_s k_j - lse_s) (Dao et al. 2022, appendix B.4) */
#define BLOCK 2 /* keys at a time */

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
        vec4 score[BLOCK], dweight[BLOCK];
        float dscore[BLOCK];
        [[unroll]] for (uint jj = 0; jj < BLOCK; jj++)
            score[jj] = dweight[jj] = vec4(0.0);
        for (uint i = 0; i < N; i++)
            [[unroll]] for (uint jj = 0; jj < BLOCK; jj++) {
                uint j = min(j0 + jj, p.S - 1);
                score[jj] = fma(q[i], qkv.v[at(j, 1, i)], score[jj]);
                dweight[jj] = fma(d_o[i], qkv.v[at(j, 2, i)], dweight[jj]);
            }
        [[unroll]] for (uint jj = 0; jj < BLOCK; jj++) {
            float x = exp(lanes_sum(score[jj]) - lse) * (lanes_sum(dweight[jj]) - delta);
            dscore[jj] = j0 + jj <= s ? x : 0.0;
        }
        for (uint i = 0; i < N; i++)
            [[unroll]] for (uint jj = 0; jj < BLOCK; jj++)
                dq[i] = fma(vec4(dscore[jj]), qkv.v[at(min(j0 + jj, p.S - 1), 1, i)], dq[i]);
    }
    if (own >= p.S)
        return;
    for (uint i = 0; i < N; i++)
        VEC4S(p.dqkv).v[at(s, 0, i)] = dq[i] * p.scale;
    if (part == 0)
        p.delta.v[at_row(s)] = delta;
}
