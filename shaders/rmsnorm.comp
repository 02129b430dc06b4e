#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#ifdef WITH_16
#include "common/narrow.glsl"
#endif
/* y[t,d] = x[t,d] * w[d] / sqrt(mean_d x^2 + eps); a workgroup a row */
PUSH(rmsnorm);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * p.D, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    float square = 0.0;
    for (uint d = lane; d < p.D; d += lanes) {
        float x = p.x.v[row + d];
        square = fma(x, x, square);
    }
    float rstd = inversesqrt(workgroup_sum(square) / float(p.D) + p.eps);
    for (uint d = lane; d < p.D; d += lanes) {
        float y = p.x.v[row + d] * rstd * p.w.v[d];
        p.y.v[row + d] = y;
#ifdef WITH_16
        store16(p.y16, row + d, y);
#endif
    }
}
