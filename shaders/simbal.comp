#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* SimBal (arXiv 2506.14038): row[i] = sum_j |G - I|_ij of the Gram matrix G = W W^T, and G becomes loss_scale sign(G - I), from which
 * dW = 2 coef loss_scale sign(G - I) W. sign(0) = 0. A workgroup a row. */
PUSH(simbal);

void main()
{
    uint i = group_index();
    if (i >= p.E)
        return;
    float sum = 0.0;
    for (uint j = gl_LocalInvocationID.x; j < p.E; j += gl_WorkGroupSize.x) {
        float off = p.gram.v[i * p.E + j] - float(i == j);
        sum += abs(off);
        p.gram.v[i * p.E + j] = p.loss_scale.v.scale * sign(off);
    }
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.row.v[i] = sum;
}
