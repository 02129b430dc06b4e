#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* dgate[t,k] = sum of its partial sums; dp of an active expert = dgate, or through g = p / sum(p):
 * (dgate_k - sum_j dgate_j g_j) / sum(p); zero for the others.
 * LBL, with c_e = coef E / T * load_e (over all experts, or 0 for those not active) constant: dp += c for a softmax, for a
 * sigmoid through q = p / S, S = sum_e p: dp += (c - sum_j c_j q_j) / S.
 * dz = p (dp - sum_e p dp) + 2 z_coef / T lse p for a softmax, dp p (1 - p) for a sigmoid. A workgroup a token. */
layout(constant_id = SPEC_GATE_K) const uint K = 1;
PUSH(gate_bwd);

shared float dgate[K];

/* An invocation a slot: their rows are waited for together. */
void add_parts(uint slot)
{
    for (uint k = gl_LocalInvocationID.x; k < K; k += gl_WorkGroupSize.x) {
        uint row = min(p.row_of.v[slot + k], p.T * K - 1); /* in range: see gemm.glsl, gathered_a */
        float sum = 0.0;
        for (uint i = 0; i < p.parts; i++)
            sum += p.dgate.v[i * p.T * K + row];
        dgate[k] = sum;
    }
    workgroup_barrier();
}

uint expert(uint slot) { return min(p.idx.v[slot], p.E - 1); }

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.E, slot = t * K, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;

    float mean = 0.0, chosen = 0.0;
    add_parts(slot);
    if (p.norm_topk != 0) {
        [[unroll]] for (uint k = 0; k < K; k++) {
            mean = fma(dgate[k], p.g.v[slot + k], mean);
            chosen += p.p.v[row + expert(slot + k)];
        }
    }

    float loss_scale = p.loss_scale.v.scale, lbl_scale = p.lbl_scale * loss_scale;
    /* dz holds LBL's c, then dp, then dz. Without LBL lbl_scale is 0 and load is some array of E numbers. */
    uint load = t / p.group * p.E;
    for (uint e = lane; e < p.E; e += lanes)
        p.dz.v[row + e] = p.lbl_full != 0 ? lbl_scale * p.load.v[load + e] : 0.0;
    [[unroll]] for (uint k = 0; k < K; k++) {
        uint e = expert(slot + k);
        if (lane == e % lanes)
            p.dz.v[row + e] = lbl_scale * p.load.v[load + e];
    }
    if (p.sigmoid != 0 && p.lbl_scale != 0.0) {
        float total = 0.0, along = 0.0;
        for (uint e = lane; e < p.E; e += lanes) {
            total += p.p.v[row + e];
            along = fma(p.dz.v[row + e], p.p.v[row + e], along);
        }
        total = workgroup_sum(total);
        along = workgroup_sum(along) / total;
        for (uint e = lane; e < p.E; e += lanes)
            p.dz.v[row + e] = (p.dz.v[row + e] - along) / total;
    }
    [[unroll]] for (uint k = 0; k < K; k++) {
        uint e = expert(slot + k);
        float dp = dgate[k] - mean;
        if (p.norm_topk != 0)
            dp /= chosen;
        if (lane == e % lanes)
            p.dz.v[row + e] += dp;
    }

    if (p.sigmoid != 0) {
        for (uint e = lane; e < p.E; e += lanes) {
            float gate = p.p.v[row + e];
            p.dz.v[row + e] *= gate * (1.0 - gate);
        }
        return;
    }
    float inner = 0.0;
    for (uint e = lane; e < p.E; e += lanes)
        inner = fma(p.p.v[row + e], p.dz.v[row + e], inner);
    inner = workgroup_sum(inner);
    float pull = p.z_scale != 0.0 ? p.z_scale * loss_scale * p.lse.v[t] : 0.0;
    for (uint e = lane; e < p.E; e += lanes)
        p.dz.v[row + e] = p.p.v[row + e] * (p.dz.v[row + e] - inner + pull);
}
