/* Reductions over a workgroup; every invocation gets the result. The order is fixed, so the bits are. One subgroup
 * needs no shared memory. */
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

shared float reduce_part[256];

#define WORKGROUP_REDUCE(name, subgroup_op, op)                        \
    float name(float x)                                                \
    {                                                                  \
        x = subgroup_op(x);                                            \
        if (!ALONE && gl_NumSubgroups > 1) {                           \
            barrier();                                                 \
            if (gl_SubgroupInvocationID == 0)                          \
                reduce_part[gl_SubgroupID] = x;                        \
            barrier();                                                 \
            x = reduce_part[0];                                        \
            for (uint i = 1; i < gl_NumSubgroups; i++)                 \
                x = op(x, reduce_part[i]);                             \
        }                                                              \
        return x;                                                      \
    }
float reduce_add(float a, float b) { return a + b; }
WORKGROUP_REDUCE(workgroup_sum, subgroupAdd, reduce_add)
WORKGROUP_REDUCE(workgroup_max, subgroupMax, max)
