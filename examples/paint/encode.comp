/* The network's input for each pixel, once: its position, and sines and cosines of it in `octaves` frequencies, the
 * higher the fainter. The router sees them too: at equal strength the finest ones would tear its regions to shreds. */
#version 460
#extension GL_GOOGLE_include_directive : require
#include "pointers.glsl"

layout(local_size_x = 64) in;
layout(push_constant, scalar) uniform Push {
    Floats features;           /* [width * height, 2 + 4 octaves] */
    uint width, height, octaves;
};

void main()
{
    const uint i = gl_GlobalInvocationID.x;
    if (i >= width * height)
        return;
    uint to = i * (2 + 4 * octaves);
    const vec2 position = (vec2(i % width, i / width) + 0.5) / vec2(width, height) * 2 - 1;
    features.at[to++] = position.x;
    features.at[to++] = position.y;
    for (uint k = 0; k < octaves; k++) {
        const vec2 angle = 3.14159265 * float(1 << k) * position;
        const float strength = pow(0.65, float(k));
        features.at[to++] = strength * sin(angle.x);
        features.at[to++] = strength * cos(angle.x);
        features.at[to++] = strength * sin(angle.y);
        features.at[to++] = strength * cos(angle.y);
    }
}
