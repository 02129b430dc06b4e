#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/attention.glsl"
/* dv_j = sum_s>=j w_sj do_s; dk_j = scale sum_s>=j ds_sj q_s, with w and ds as in attention_bwd_q.comp, which ran before
 * and left delta */

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
    for (uint s = first; s < p.S; s++) {
        float score = 0.0, dweight = 0.0;
        for (uint i = 0; i < N; i++) {
            score += dot(k[i], qkv.v[at(s, 0, i)]);
            dweight += dot(v[i], dout.v[at_o(s, i)]);
        }
        score = lanes_sum(score);
        dweight = lanes_sum(dweight);
        float weight = j <= s ? exp(score - p.lse.v[at_row(s)]) : 0.0;
        float dscore = weight * (dweight - p.delta.v[at_row(s)]);
        for (uint i = 0; i < N; i++) {
            dv[i] += weight * dout.v[at_o(s, i)];
            dk[i] += dscore * qkv.v[at(s, 0, i)];
        }
    }
    if (own >= p.S)
        return;
    for (uint i = 0; i < N; i++) {
        VEC4S(p.dqkv).v[at(j, 1, i)] = dk[i] * p.scale;
        VEC4S(p.dqkv).v[at(j, 2, i)] = dv[i];
    }
}
