#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* p[t,e] = softmax_e z[t,e], or sigmoid(z[t,e]). Experts in the order of (z + bias, lower e first): the best drop_top are
 * passed over, the next K are active; g[t,k] = p of the k-th, divided by the sum of the K where norm_topk. A weight below
 * prune_below drops its expert: idx = E, g = 0. A workgroup a token. */
PUSH(gate);

/* The order of experts: a before b. */
bool before(float a, uint ia, float b, uint ib) { return a > b || (a == b && ia < ib); }

/* Chosen by logit: the gate keeps their order, and rounding cannot make new ties. */
float compared(uint row, uint e) { return PRESENT(p.bias) ? p.z.v[row + e] + p.bias.v[e] : p.z.v[row + e]; }

float top, total; /* of the softmax */
float gate(float z) { return p.sigmoid != 0 ? 1.0 / (1.0 + exp(-z)) : exp(z - top) / total; }

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.E, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;

    if (p.sigmoid == 0) {
        top = -1.0 / 0.0;
        for (uint e = lane; e < p.E; e += lanes)
            top = max(top, p.z.v[row + e]);
        top = workgroup_max(top);
        total = 0.0;
        for (uint e = lane; e < p.E; e += lanes)
            total += exp(p.z.v[row + e] - top);
        total = workgroup_sum(total);
        if (lane == 0)
            p.lse.v[t] = top + log(total);
    }

    float last = 1.0 / 0.0;
    uint last_e = 0;
    float chosen_sum = 0.0;
    for (uint rank = 0; rank < p.drop_top + p.K; rank++) {
        float best = -1.0 / 0.0;
        uint best_e = 0xffffffu;
        for (uint e = lane; e < p.E; e += lanes) {
            float score = compared(row, e);
            bool left = rank == 0 || before(last, last_e, score, e);
            if (left && before(score, e, best, best_e)) {
                best = score;
                best_e = e;
            }
        }
        last = workgroup_max(best);
        last_e = uint(-workgroup_max(best == last ? -float(best_e) : -16777215.0));
        uint e = min(last_e, p.E - 1);
        /* By the lane that turns this logit into the gate below: another might read it too late. */
        float g = workgroup_sum(lane == e % lanes ? gate(p.z.v[row + e]) : 0.0);
        if (rank >= p.drop_top) {
            chosen_sum += g;
            if (lane == 0) {
                p.idx.v[t * p.K + rank - p.drop_top] = e;
                p.g.v[t * p.K + rank - p.drop_top] = g;
            }
        }
    }
    for (uint slot = t * p.K; slot < (t + 1) * p.K; slot++)
        if (lane == 0) {
            float g = p.norm_topk != 0 ? p.g.v[slot] / chosen_sum : p.g.v[slot];
            bool dropped = g < p.prune_below;
            p.g.v[slot] = dropped ? 0.0 : g;
            if (dropped)
                p.idx.v[slot] = p.E;
        }
    for (uint e = lane; e < p.E; e += lanes)
        p.z.v[row + e] = gate(p.z.v[row + e]);
}
