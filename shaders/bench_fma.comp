#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* How fast arithmetic can be, f32 or (F16) f16: chains a = a x + y that do not depend on each other and never leave registers.
 * Twelve cover the latency of every pipe we know, and with x and y still fit the sixteen registers of AVX2; of f16, of which GPUs
 * multiply two at once, twice as many. */
#ifdef F16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define REAL float16_t
#define FOUR f16vec4
const uint CHAINS = BENCH_FMA16_CHAINS;
#else
#define REAL float
#define FOUR vec4
const uint CHAINS = BENCH_FMA_CHAINS;
#endif
PUSH(bench_fma);

void main()
{
    FOUR x = FOUR(REAL(p.x)), y = FOUR(REAL(p.y)), a[CHAINS];
    [[unroll]] for (uint j = 0; j < CHAINS; j++)
        a[j] = FOUR(vec4(1, 2, 3, 4) + float(gl_LocalInvocationID.x + 4 * j));
    for (uint i = 0; i < p.loops; i++)
        [[unroll]] for (uint step = 0; step < BENCH_FMA_STEPS; step++)
            [[unroll]] for (uint j = 0; j < CHAINS; j++)
                a[j] = fma(a[j], x, y);
    /* A store that does not happen while it is timed, which the compiler cannot know: nothing is left out, and memory is not in the
     * way. */
    vec4 fours = vec4(0.0);
    [[unroll]] for (uint j = 0; j < CHAINS; j++)
        fours += vec4(a[j]);
    float sum = fours.x + fours.y + fours.z + fours.w;
    if (sum == p.never)
        p.out_.v[0] = sum;
}
