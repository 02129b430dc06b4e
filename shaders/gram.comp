#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* Mean square and largest magnitude of G - I, G = W W^T [E,E]. One workgroup. */
PUSH(gram);

void main()
{
    float square = 0.0, most = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < p.E * p.E; i += gl_WorkGroupSize.x) {
        float off = p.gram.v[i] - float(i % (p.E + 1) == 0);
        square = fma(off, off, square);
        most = max(most, abs(off));
    }
    square = workgroup_sum(square);
    most = workgroup_max(most);
    if (gl_LocalInvocationID.x == 0) {
        p.square.v[0] = square / float(p.E * p.E);
        p.most.v[0] = most;
    }
}
