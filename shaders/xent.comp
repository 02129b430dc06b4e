#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* lse = log sum_v exp l[v]; loss = lse - l[target], z = z_coef lse^2;
 * dl[v] = scale loss_scale (exp(l[v] - lse) (1 + 2 z_coef lse) - [v = target]), in place. A workgroup a row. */
PUSH(xent);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.V, target = p.target.v[t], lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    bool counts = target != TARGET_NONE;

    float top = -1.0 / 0.0;
    for (uint v = lane; v < p.V; v += lanes)
        top = max(top, p.logits.v[row + v]);
    top = workgroup_max(top);
    float total = 0.0;
    for (uint v = lane; v < p.V; v += lanes)
        total += exp(p.logits.v[row + v] - top);
    total = workgroup_sum(total);
    float lse = top + log(total);
    if (lane == 0) {
        p.loss.v[t] = counts ? lse - p.logits.v[row + min(target, p.V - 1)] : 0.0;
        p.z_loss.v[t] = counts ? p.z_coef * lse * lse : 0.0;
    }
    if (p.scale == 0.0)
        return;
    barrier(); /* the target's logit has been read */
    float scale = p.scale * p.loss_scale.v.scale;
    float slope = (1.0 + 2.0 * p.z_coef * lse) / total;
    for (uint v = lane; v < p.V; v += lanes) {
        float dl = exp(p.logits.v[row + v] - top) * slope;
        p.logits.v[row + v] = counts ? scale * (dl - float(v == target)) : 0.0;
    }
}
