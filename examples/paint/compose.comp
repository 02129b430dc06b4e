/* The frame: on the left what the network says each pixel's colour is, on the right who said it. */
#version 460
#extension GL_GOOGLE_include_directive : require
#include "pointers.glsl"

layout(local_size_x = 64) in;
layout(push_constant, scalar) uniform Push {
    Floats colours;            /* [pixels, 3] */
    Words chosen;              /* [pixels, top_k] of the layer that is shown, the strongest first */
    Words frame;               /* [height, 2 width] RGBA8, written */
    uint width, height, top_k, experts;
};

/* Hues all around the circle; every other one is paler and darker, so that neighbours differ. */
vec3 expert_colour(uint expert)
{
    const float hue = float(expert) / float(experts);
    const vec3 pure = clamp(abs(fract(hue + vec3(0, 2, 1) / 3) * 6 - 3) - 1, 0, 1);
    return expert % 2 == 0 ? mix(vec3(1), pure, 0.85) : 0.72 * mix(vec3(1), pure, 0.65);
}

void main()
{
    const uint i = gl_GlobalInvocationID.x;
    if (i >= width * height)
        return;
    const vec3 colour = clamp(vec3(colours.at[3 * i], colours.at[3 * i + 1], colours.at[3 * i + 2]), 0, 1);
    const float light = dot(colour, vec3(0.30, 0.59, 0.11));
    const uint to = i / width * 2 * width + i % width;
    frame.at[to] = packUnorm4x8(vec4(colour, 1));
    frame.at[to + width] = packUnorm4x8(vec4(expert_colour(chosen.at[i * top_k]) * (0.6 + 0.4 * light), 1));
}
