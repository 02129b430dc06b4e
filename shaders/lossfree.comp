#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* Loss-free balance (Wang et al. 2024): b[e] += rate * sign(mean of count - count[e]). E count[e] is compared with the sum
 * in 64 bits: sign(0) is exact. */
PUSH(lossfree);

void main()
{
    uint e = invocation_index(), total = 0;
    for (uint i = 0; i < p.E; i++)
        total += p.count.v[i];
    if (e >= p.E || p.stats.v.skip != 0)
        return;
    uint high, low;
    umulExtended(p.count.v[e], p.E, high, low);
    float sign_ = high != 0 || low > total ? -1.0 : low < total ? 1.0 : 0.0;
    p.bias.v[e] += p.rate * sign_;
}
