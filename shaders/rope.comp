#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/row.glsl"
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
    uint row = min(t, p.T - 1) * 3 * p.H * 2 * HALF, angles = t % p.S * HALF, lane = gl_LocalInvocationID.x;
    FOR_ROW(d, p.H * 2 * HALF) { /* pairs: TOGETHER eight of one head */
        uint pair = TOGETHER ? d : d + lane, head = pair / HALF, to = row + head * HALF + d, at = angles + d - head * HALF;
        float c = load_row(p.cos_, at), s = load_row(p.sin_, at) * p.sign_;
        float x = load_row(p.x, to), y = load_row(p.x, to + HALF);
        p.x.v[to + lane] = x * c - y * s;
        p.x.v[to + HALF + lane] = y * c + x * s;
    }
}
