#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* Load-balancing loss (Fedus et al. 2022, eq. 4): out += coef * E * sum_e f_e P_e, f_e = count_e / T, P_e = psum_e / T */
PUSH(lbl);

void main()
{
    float sum = 0.0;
    for (uint e = gl_LocalInvocationID.x; e < p.E; e += gl_WorkGroupSize.x)
        sum += float(p.count.v[e]) / float(p.T) * (p.psum.v[e] / float(p.T));
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.out_.v[0] += p.coef * float(p.E) * sum;
}
