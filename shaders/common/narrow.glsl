/* 16-bit floats in memory: TYPE (TYPE_F16 or TYPE_BF16) says which; its constant's number is SPEC_NARROW, if that is defined
 * before. Storage alone needs no 16-bit arithmetic. */
#extension GL_EXT_shader_16bit_storage : require
#ifndef SPEC_NARROW
#define SPEC_NARROW SPEC_TYPE
#endif
layout(constant_id = SPEC_NARROW) const uint TYPE = TYPE_F16;
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer U16 { uint16_t v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer U32x2 { uvec2 v[]; };

float widen(uint bits)
{
    return TYPE == TYPE_BF16 ? uintBitsToFloat(bits << 16) : unpackHalf2x16(bits).x;
}
/* Four of them, as they lie in memory. */
vec4 widen4(uvec2 bits)
{
    if (TYPE == TYPE_BF16)
        return uintBitsToFloat(uvec4(bits.x << 16, bits.x & 0xffff0000u, bits.y << 16, bits.y & 0xffff0000u));
    return vec4(unpackHalf2x16(bits.x), unpackHalf2x16(bits.y));
}
/* bf16: to nearest, ties to even; a NaN stays one. f16: as the device converts. */
uint narrow(float x)
{
    if (TYPE == TYPE_F16)
        return packHalf2x16(vec2(x, 0.0));
    uint bits = floatBitsToUint(x);
    return isnan(x) ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
uvec2 narrow4(vec4 x)
{
    if (TYPE == TYPE_F16)
        return uvec2(packHalf2x16(x.xy), packHalf2x16(x.zw));
    return uvec2(narrow(x.x) | narrow(x.y) << 16, narrow(x.z) | narrow(x.w) << 16);
}

uint load16_bits(F32 array, uint i) { return uint(U16(uvec2(array)).v[i]); }
uvec2 load16x4_bits(F32 array, uint i) { return U32x2(uvec2(array)).v[i / 4]; } /* i a multiple of 4 */
float load16(F32 array, uint i) { return widen(load16_bits(array, i)); }
vec2 load16x2(F32 array, uint i) { return widen4(uvec2(U32(uvec2(array)).v[i / 2], 0)).xy; } /* i even */
vec4 load16x4(F32 array, uint i) { return widen4(load16x4_bits(array, i)); }
void store16(F32 array, uint i, float x) { U16(uvec2(array)).v[i] = uint16_t(narrow(x)); }
void store16x4(F32 array, uint i, vec4 x) { U32x2(uvec2(array)).v[i / 4] = narrow4(x); }
