#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* -sum_e q log q of q = p / S, S = sum p, over all experts and over the active ones, with 0 log 0 = 0: NaN where a p is NaN,
 * 0 where all are dropped. A workgroup a token. */
PUSH(entropy);

float term(float p, float sum)
{
    float q = p == 0.0 ? 0.0 : p / sum;
    return q > 0.0 ? -q * log(q) : q;
}
/* Of an expert that may have been dropped. */
float weight(uint row, uint e) { return e < p.E ? p.p.v[row + min(e, p.E - 1)] : 0.0; }

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.E, slot = t * p.K, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    float total = 0.0, chosen = 0.0, full = 0.0, topk = 0.0;
    for (uint e = lane; e < p.E; e += lanes)
        total += p.p.v[row + e];
    total = workgroup_sum(total);
    for (uint e = lane; e < p.E; e += lanes)
        full += term(p.p.v[row + e], total);
    full = workgroup_sum(full);
    for (uint k = 0; k < p.K; k++)
        chosen += weight(row, p.idx.v[slot + k]);
    for (uint k = 0; k < p.K; k++)
        topk += term(weight(row, p.idx.v[slot + k]), chosen);
    if (lane == 0) {
        p.full.v[t] = full;
        p.topk.v[t] = topk;
    }
}
