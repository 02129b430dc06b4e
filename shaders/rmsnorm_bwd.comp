#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* dx[t,d] += rstd * (w dy - x rstd^2 mean_d(w dy x)), rstd[t] = 1 / sqrt(mean_d x^2 + eps); a workgroup a row.
 * The weight's gradient is colsum of dy * x * rstd. */
PUSH(rmsnorm_bwd);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.D, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    float square = 0.0, inner = 0.0;
    for (uint d = lane; d < p.D; d += lanes) {
        float x = p.x.v[row + d];
        square = fma(x, x, square);
        inner = fma(p.w.v[d] * p.dy.v[row + d], x, inner);
    }
    float rstd = inversesqrt(workgroup_sum(square) / float(p.D) + p.eps);
    float mean = workgroup_sum(inner) / float(p.D) * rstd * rstd;
    for (uint d = lane; d < p.D; d += lanes)
        p.dx.v[row + d] += rstd * (p.w.v[d] * p.dy.v[row + d] - p.x.v[row + d] * mean);
    if (lane == 0)
        p.rstd.v[t] = rstd;
}
