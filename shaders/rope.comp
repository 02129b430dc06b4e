#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* Rotary positions (Su et al. 2021), halves paired as Hugging Face Llama does: with i < width / 2 and the angle of
 * (position, i), (x_i, x_{i + width/2}) becomes (x_i c - x_{i + width/2} s, x_{i + width/2} c + x_i s), for q and k.
 * The backward is the rotation by the negative angle. A workgroup a token. */
layout(constant_id = SPEC_ROPE_HALF) const uint HALF = 1; /* width / 2: a constant divides faster */
PUSH(rope);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = t * 3 * p.H * 2 * HALF, angles = t % p.S * HALF;
    for (uint index = gl_LocalInvocationID.x; index < 2 * p.H * HALF; index += gl_WorkGroupSize.x) {
        uint head = index / HALF, i = index - head * HALF, at = row + head * 2 * HALF + i;
        float c = p.cos_.v[angles + i], s = p.sin_.v[angles + i] * p.sign_;
        float x = p.x.v[at], y = p.x.v[at + HALF];
        p.x.v[at] = x * c - y * s;
        p.x.v[at + HALF] = y * c + x * s;
    }
}
