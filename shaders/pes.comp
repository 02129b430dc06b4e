#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* With u_i = f_i / |f_i| (0 where f_i = 0) of the outputs f_i = rows[i,t] of all experts:
 * sum_{i<j} <u_i, u_j> = (|sum_i u_i|^2 - sum_i |u_i|^2) / 2, so pes[t] = that difference over E (E - 1).
 * A workgroup a token. */
PUSH(pes);

shared float scale[MAX_EXPERTS]; /* 1 / |f_i| */

void main()
{
    uint t = group_index(), lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    if (t >= p.T)
        return;
    float own = 0.0; /* sum of |u_i|^2 */
    for (uint e = 0; e < p.E; e++) {
        uint row = (e * p.T + t) * p.D;
        float square = 0.0;
        for (uint d = lane; d < p.D; d += lanes) {
            float f = p.rows.v[row + d];
            square = fma(f, f, square);
        }
        square = workgroup_sum(square);
        if (lane == 0)
            scale[e] = square > 0.0 ? inversesqrt(square) : 0.0;
        own += square > 0.0 ? 1.0 : 0.0;
    }
    barrier();
    float together = 0.0;
    for (uint d = lane; d < p.D; d += lanes) {
        float sum = 0.0;
        for (uint e = 0; e < p.E; e++)
            sum = fma(p.rows.v[(e * p.T + t) * p.D + d], scale[min(e, MAX_EXPERTS - 1)], sum); /* see gemm.glsl */
        together = fma(sum, sum, together);
    }
    together = workgroup_sum(together);
    if (lane == 0)
        p.pes.v[t] = p.E > 1 ? (together - own) / float(p.E * (p.E - 1)) : 0.0;
}
