#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#include "common/row.glsl"
/* dx[t,d] += rstd * (w dy - x rstd^2 mean_d(w dy x)), rstd[t] = 1 / sqrt(mean_d x^2 + eps); a workgroup a row.
 * The weight's gradient is colsum of dy * x * rstd. */
PUSH(rmsnorm_bwd);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = min(t, p.T - 1) * p.D, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    float square = 0.0, inner = 0.0;
    for (uint first = 0; first < p.D; first += EACH * lanes)
        [[unroll]] for (uint j = 0; j < EACH; j++) {
            uint d = first + j * lanes;
            if (TOGETHER || d + lane < p.D) {
                float x = load_row(p.x, row, d, p.D);
                square = fma(x, x, square);
                inner = fma(load_row(p.w, 0, d, p.D) * load_row(p.dy, row, d, p.D), x, inner);
            }
        }
    float rstd = inversesqrt(workgroup_sum(square) / float(p.D) + p.eps);
    float mean = workgroup_sum(inner) / float(p.D) * rstd * rstd;
    for (uint first = 0; first < p.D; first += EACH * lanes)
        [[unroll]] for (uint j = 0; j < EACH; j++) {
            uint d = first + j * lanes;
            if (TOGETHER || d + lane < p.D) {
                float direct = load_row(p.w, 0, d, p.D) * load_row(p.dy, row, d, p.D), x = load_row(p.x, row, d, p.D);
                p.dx.v[row + d + lane] = load_row(p.dx, row, d, p.D) + rstd * (direct - x * mean);
            }
        }
    if (lane == 0)
        p.rstd.v[t] = rstd;
}
