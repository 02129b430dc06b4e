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
    uint row = min(t, p.T - 1) * p.D, lane = gl_LocalInvocationID.x;
    float square = 0.0, inner = 0.0;
    FOR_ROW(d, p.D) {
        float x = load_row(p.x, row + d);
        square = fma(x, x, square);
        inner = fma(load_row(p.w, d) * load_row(p.dy, row + d), x, inner);
    }
    float rstd = inversesqrt(workgroup_sum(square) / float(p.D) + p.eps);
    float mean = workgroup_sum(inner) / float(p.D) * rstd * rstd;
    FOR_ROW(d, p.D) {
        float direct = load_row(p.w, d) * load_row(p.dy, row + d), x = load_row(p.x, row + d);
        p.dx.v[row + d + lane] = load_row(p.dx, row + d) + rstd * (direct - x * mean);
    }
    if (lane == 0)
        p.rstd.v[t] = rstd;
}
