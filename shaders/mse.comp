#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* loss[t] = mean_o (y - target)^2; dy = scale loss_scale (2 / O) (y - target), in place or not. A workgroup a row. */
PUSH(mse);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    float factor = p.scale * p.loss_scale.v.scale * (2.0 / float(p.O)), sum = 0.0;
    for (uint o = gl_LocalInvocationID.x; o < p.O; o += gl_WorkGroupSize.x) {
        float error = p.y.v[t * p.O + o] - p.target.v[t * p.O + o];
        sum += error * error;
        p.dy.v[t * p.O + o] = factor * error;
    }
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.loss.v[t] = sum / float(p.O);
}
