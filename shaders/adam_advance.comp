#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* t += 1; 1 - beta^t = beta (1 - beta^(t-1)) + (1 - beta), which keeps its relative precision from the first step on. */
PUSH(adam_advance);

void main()
{
    if (invocation_index() != 0)
        return;
    float rest1 = fma(p.state.v.rest1, p.beta1, p.one_minus_beta1);
    float rest2 = fma(p.state.v.rest2, p.beta2, p.one_minus_beta2);
    p.state.v.step += 1;
    p.state.v.skipped += p.stats.v.skip;
    p.state.v.rest1 = rest1;
    p.state.v.rest2 = rest2;
    p.control.v.lr = p.lr;
    p.control.v.bias1 = 1.0 / rest1;
    p.control.v.bias2 = 1.0 / rest2;
}
