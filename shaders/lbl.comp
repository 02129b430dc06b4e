#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* Load-balancing loss (Fedus et al. 2022, eq. 4): term[t] = sum_e load_e q_e over all experts or the active ones, q = p, or
 * p / sum_e p where the gate is a sigmoid; their mean times coef E is the loss. A workgroup a token. */
PUSH(lbl);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.E, slot = t * p.K, load = t / p.group * p.E;
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    float sum = 0.0, total = 0.0;
    for (uint e = lane; e < p.E; e += lanes) {
        float gate = p.p.v[row + e];
        total += gate;
        sum = fma(p.load.v[load + e], gate, sum);
    }
    sum = workgroup_sum(sum);
    total = workgroup_sum(total);
    float chosen = 0.0;
    for (uint k = 0; k < p.K; k++) {
        uint e = min(p.idx.v[slot + k], p.E - 1);
        chosen = fma(p.load.v[load + e], p.p.v[row + e], chosen);
    }
    sum = p.full != 0 ? sum : chosen;
    if (p.sigmoid != 0)
        sum /= total;
    if (lane == 0)
        p.term.v[t] = sum;
}
