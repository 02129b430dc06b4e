/* What the attention kernels share. A query (or, for dK and dV, a key) belongs to LANES neighbouring invocations, which
 * hold every LANES-th vec4 of it; scores are summed over them. A CPU device has LANES = 1: eight queries a subgroup, and
 * every key and value is a uniform load. qkv rows are q | k | v, a head's part at head * width in each. */
#extension GL_KHR_shader_subgroup_shuffle : require

layout(constant_id = SPEC_ATTENTION_WIDTH) const uint WIDTH = 8;
layout(constant_id = SPEC_ATTENTION_LANES) const uint LANES = 1;
const uint N = WIDTH / LANES; /* vec4s an invocation holds */
PUSH(attention);
#ifndef EACH
#define EACH (gl_WorkGroupSize.x / LANES) /* queries or keys of a workgroup */
#endif

uint b, h;     /* sequence and head */
uint own;      /* this invocation's query or key in the sequence */
uint first, last; /* range of the workgroup's, [first, last) */
uint part;     /* which of the LANES */

/* false: nothing to do for the whole workgroup */
bool locate()
{
    uint each = EACH;
    uint tiles = (p.S + each - 1) / each;
    uint group = group_index(), bh = group / tiles;
    b = bh / p.H;
    h = bh - b * p.H;
    first = (group - bh * tiles) * each;
    last = min(first + each, p.S);
    own = first + gl_LocalInvocationID.x / LANES;
    part = gl_LocalInvocationID.x % LANES;
    return b < p.B;
}

/* Index of vec4 i of token s's q (0), k (1) or v (2); and of its row in o. */
uint at(uint s, uint which, uint i) { return ((b * p.S + s) * 3 + which) * p.H * WIDTH + h * WIDTH + part + LANES * i; }
uint at_o(uint s, uint i) { return (b * p.S + s) * p.H * WIDTH + h * WIDTH + part + LANES * i; }
/* Index of token s's log-sum-exp and delta. */
uint at_row(uint s) { return (b * p.S + s) * p.H + h; }

float lanes_sum(float x)
{
    for (uint d = LANES / 2; d > 0; d /= 2)
        x += subgroupShuffleXor(x, d);
    return x;
}
/* Of products summed in four chains of multiply-adds: each waits for the one before */
float lanes_sum(vec4 x) { return lanes_sum((x.x + x.y) + (x.z + x.w)); }
