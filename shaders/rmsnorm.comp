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
    uint row = min(t, p.T - 1) * p.D, lane = gl_LocalInvocationID.x;
    float square = 0.0;
    FOR_ROW(d, p.D) {
        float x = load_row(p.x, row + d);
        square = fma(x, x, square);
    }
    float rstd = inversesqrt(workgroup_sum(square) / float(p.D) + p.eps);
    FOR_ROW(d, p.D) {
        float y = load_row(p.x, row + d) * rstd * load_row(p.w, d);
        p.y.v[row + d + lane] = y;
#ifdef WITH_16
        store16(p.y16, row + d + lane, y);
#endif
    }
}
