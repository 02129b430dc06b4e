#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_ballot : require
#include "common/base.glsl"
/* dw[v,d] += sum over t with tok[t] = v, in order of t, of dy[t,d].
 * One subgroup a vocabulary row: its lanes look at as many tokens at once, then add the rows that match. */
PUSH(embed_bwd);

void main()
{
    uint v = group_index();
    if (v >= p.V)
        return;
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    for (uint t0 = 0; t0 < p.T; t0 += lanes) {
        uint t = t0 + lane;
        uvec4 hits = subgroupBallot(t < p.T && p.tok.v[min(t, p.T - 1)] == v);
        for (uint word = 0; word < 4; word++) {
            uint bits = hits[word];
            while (bits != 0) {
                uint hit = uint(findLSB(bits));
                bits &= bits - 1;
                uint row = (t0 + word * 32 + hit) * p.D;
                for (uint d = lane; d < p.D; d += lanes)
                    p.dw.v[v * p.D + d] += p.dy.v[row + d];
            }
        }
    }
}
