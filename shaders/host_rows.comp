#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#ifdef WITH_16
#include "common/narrow.glsl"
#endif
/* packed[r, i] = host[r stride + i], or with WRITE the other way. 32-bit words are copied whatever they mean; 16-bit floats
 * are widened and narrowed. Nothing else reads or writes a host's arrays. */
PUSH(host_rows);

void main()
{
    uint i = invocation_index();
    if (i >= p.all * p.width)
        return;
    uint r = i / p.width, at = r * p.stride + i % p.width;
    bool there = r < p.rows;
#ifdef WRITE
    if (!there)
        return;
#ifdef WITH_16
    store16(F32(uvec2(p.host)), at, uintBitsToFloat(p.packed.v[i]));
#else
    p.host.v[at] = p.packed.v[i];
#endif
#else
    if (!there)
        p.packed.v[i] = 0;
    else
#ifdef WITH_16
        p.packed.v[i] = floatBitsToUint(load16(F32(uvec2(p.host)), at));
#else
        p.packed.v[i] = p.host.v[at];
#endif
#endif
}
