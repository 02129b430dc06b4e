#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* dgate[t,k] = sum of its partial sums; dp of a chosen expert = dgate, or through g = p / sum(p):
 * (dgate_k - sum_j dgate_j g_j) / sum(p); zero for the others. LBL adds coef * E * f_e / T to every dp, f constant.
 * dz = p (dp - sum_e p dp). A workgroup a token. */
PUSH(gate_bwd);

float dgate(uint slot)
{
    uint row = min(p.row_of.v[slot], p.T * p.K - 1) * p.parts; /* in range: see gemm.glsl, gathered_a */
    float sum = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < p.parts; i += gl_WorkGroupSize.x)
        sum += p.dgate.v[row + i];
    return workgroup_sum(sum);
}

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.E, slot = t * p.K, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;

    float mean = 0.0, chosen = 0.0;
    if (p.norm_topk != 0) {
        for (uint k = 0; k < p.K; k++) {
            mean = fma(dgate(slot + k), p.g.v[slot + k], mean);
            chosen += p.p.v[row + min(p.idx.v[slot + k], p.E - 1)];
        }
    }

    float inner = 0.0;
    for (uint e = lane; e < p.E; e += lanes) {
        float dp = PRESENT(p.count) ? p.lbl_scale * float(p.count.v[e]) : 0.0;
        p.dz.v[row + e] = dp;
        inner = fma(p.p.v[row + e], dp, inner);
    }
    inner = workgroup_sum(inner);
    for (uint k = 0; k < p.K; k++) {
        uint e = min(p.idx.v[slot + k], p.E - 1);
        float dp = dgate(slot + k) - mean;
        if (p.norm_topk != 0)
            dp /= chosen;
        inner = fma(p.p.v[row + e], dp, inner);
        if (lane == e % lanes)
            p.dz.v[row + e] += dp;
    }
    for (uint e = lane; e < p.E; e += lanes)
        p.dz.v[row + e] = p.p.v[row + e] * (p.dz.v[row + e] - inner);
}
