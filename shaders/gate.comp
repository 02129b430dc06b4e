#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* p[t,e] = softmax_e z[t,e]; the K largest by (value, lower e first) are active; g[t,k] = p of the k-th, divided by the
 * sum of the K where norm_topk. A workgroup a token. */
PUSH(gate);

/* The order of top-K: a before b. */
bool before(float a, uint ia, float b, uint ib) { return a > b || (a == b && ia < ib); }

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.E, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;

    float top = -1.0 / 0.0;
    for (uint e = lane; e < p.E; e += lanes)
        top = max(top, p.z.v[row + e]);
    top = workgroup_max(top);
    float total = 0.0;
    for (uint e = lane; e < p.E; e += lanes)
        total += exp(p.z.v[row + e] - top);
    total = workgroup_sum(total);

    /* Chosen by logit: softmax keeps their order, and rounding cannot make new ties. */
    float last = 1.0 / 0.0;
    uint last_e = 0;
    float chosen_sum = 0.0;
    for (uint k = 0; k < p.K; k++) {
        float best = -1.0 / 0.0;
        uint best_e = 0xffffffu;
        for (uint e = lane; e < p.E; e += lanes) {
            float z = p.z.v[row + e];
            bool left = k == 0 || before(last, last_e, z, e);
            if (left && before(z, e, best, best_e)) {
                best = z;
                best_e = e;
            }
        }
        last = workgroup_max(best);
        last_e = uint(-workgroup_max(best == last ? -float(best_e) : -16777215.0));
        float gate = exp(last - top) / total;
        chosen_sum += gate;
        if (lane == 0) {
            p.idx.v[t * p.K + k] = min(last_e, p.E - 1);
            p.g.v[t * p.K + k] = gate;
        }
    }
    for (uint k = 0; k < p.K; k++)
        if (p.norm_topk != 0 && lane == 0)
            p.g.v[t * p.K + k] /= chosen_sum;
    for (uint e = lane; e < p.E; e += lanes)
        p.z.v[row + e] = exp(p.z.v[row + e] - top) / total;
}
