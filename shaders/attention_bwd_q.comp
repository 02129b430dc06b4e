#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/attention.glsl"
/* delta_s = <do_s, o_s>; dq_s = scale sum_j<=s ds_sj k_j, ds_sj = w_sj (<do_s, v_j> - delta_s),
 * w_sj = exp(scale q_s k_j - lse_s) (Dao et al. 2022, appendix B.4) */

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
    for (uint j = 0; j < last; j++) {
        float score = 0.0, dweight = 0.0;
        for (uint i = 0; i < N; i++) {
            score += dot(q[i], qkv.v[at(j, 1, i)]);
            dweight += dot(d_o[i], qkv.v[at(j, 2, i)]);
        }
        score = lanes_sum(score);
        dweight = lanes_sum(dweight);
        float dscore = j <= s ? exp(score - lse) * (dweight - delta) : 0.0;
        for (uint i = 0; i < N; i++)
            dq[i] += dscore * qkv.v[at(j, 1, i)];
    }
    if (own >= p.S)
        return;
    for (uint i = 0; i < N; i++)
        VEC4S(p.dqkv).v[at(s, 0, i)] = dq[i] * p.scale;
    if (part == 0)
        p.delta.v[at_row(s)] = delta;
}
