#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* How fast f32 arithmetic can be: chains a = a x + y that do not depend on each other and never leave registers. Twelve
 * cover the latency of every pipe we know, and with x and y still fit the sixteen registers of AVX2. */
PUSH(bench_fma);

#define STEP                 \
    a = fma(a, vec4(x), vec4(y)); \
    b = fma(b, vec4(x), vec4(y)); \
    c = fma(c, vec4(x), vec4(y));

void main()
{
    float x = p.x, y = p.y;
    vec4 a = vec4(0, 1, 2, 3) + float(gl_LocalInvocationID.x), b = a + 4.0, c = a + 8.0;
    for (uint i = 0; i < p.loops; i++) {
        STEP STEP STEP STEP STEP STEP STEP STEP
    }
    /* A store that does not happen while it is timed, which the compiler cannot know: nothing is left out, and memory is not in the
     * way. */
    vec4 fours = a + b + c;
    float sum = fours.x + fours.y + fours.z + fours.w;
    if (sum == p.never)
        p.out_.v[0] = sum;
}
