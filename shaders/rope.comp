#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* Rotary positions (Su et al. 2021), halves paired as Hugging Face Llama does: with i < width / 2 and the angle of
 * (position, i), (x_i, x_{i + width/2}) becomes (x_i c - x_{i + width/2} s, x_{i + width/2} c + x_i s), for q and k.
 * The backward is the rotation by the negative angle. */
PUSH(rope);

void main()
{
    uint half_ = p.width / 2, heads = 2 * p.H;
    uint index = invocation_index();
    if (index >= p.T * heads * half_)
        return;
    uint i = index % half_, head = index / half_ % heads, t = index / half_ / heads;
    uint at = t * 3 * p.H * p.width + head * p.width + i;
    uint angle = t % p.S * half_ + i;
    float c = p.cos_.v[angle], s = p.sin_.v[angle] * p.sign_;
    float x = p.x.v[at], y = p.x.v[at + half_];
    p.x.v[at] = x * c - y * s;
    p.x.v[at + half_] = y * c + x * s;
}
