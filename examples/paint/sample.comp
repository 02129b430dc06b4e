/* The rows of one training step: pixels drawn at random, their features and their colours. */
#version 460
#extension GL_GOOGLE_include_directive : require
#include "pointers.glsl"

layout(local_size_x = 64) in;
layout(push_constant, scalar) uniform Push {
    Floats features;           /* [pixels, inputs] */
    Words picture;             /* [pixels] RGBA8 */
    Floats rows;               /* [batch, inputs], written */
    Floats targets;            /* [batch, 3], written */
    uint pixels, inputs, batch, seed, step;
};

/* pcg: a hash of 32 bits (Jarzynski and Olano 2020) */
uint hash(uint x)
{
    x = x * 747796405u + 2891336453u;
    x = ((x >> ((x >> 28) + 4)) ^ x) * 277803737u;
    return (x >> 22) ^ x;
}

void main()
{
    const uint i = gl_GlobalInvocationID.x, row = i / inputs, column = i % inputs;
    if (row >= batch)
        return;
    const uint pixel = hash(row + hash(step + hash(seed))) % pixels;
    rows.at[i] = features.at[pixel * inputs + column];
    if (column < 3)
        targets.at[row * 3 + column] = unpackUnorm4x8(picture.at[pixel])[column];
}
