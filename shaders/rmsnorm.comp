#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#include "common/row.glsl"
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
    uint row = min(t, p.T - 1) * p.D, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    float square = 0.0;
    for (uint first = 0; first < p.D; first += EACH * lanes)
        [[unroll]] for (uint j = 0; j < EACH; j++) {
            uint d = first + j * lanes;
            if (TOGETHER || d + lane < p.D) {
                float x = load_row(p.x, row, d, p.D);
                square = fma(x, x, square);
            }
        }
    float rstd = inversesqrt(workgroup_sum(square) / float(p.D) + p.eps);
    for (uint first = 0; first < p.D; first += EACH * lanes)
        [[unroll]] for (uint j = 0; j < EACH; j++) {
            uint d = first + j * lanes;
            if (TOGETHER || d + lane < p.D) {
                float y = load_row(p.x, row, d, p.D) * rstd * load_row(p.w, 0, d, p.D);
                p.y.v[row + d + lane] = y;
#ifdef WITH_16
                store16(p.y16, row + d + lane, y);
#endif
            }
        }
}
