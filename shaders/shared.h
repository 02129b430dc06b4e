/* Read by C and by GLSL: the kernels' push constants, the structures they share with the host, the specialization
 * constants' numbers. In C an address is a uint64_t; in GLSL it is a buffer_reference to an array of that type.
 * Dimension letters as in src/ops/ops.h. Push constants are at most 128 bytes, addresses first. */
#ifndef VKM_SHARED_H
#define VKM_SHARED_H

#ifdef GL_core_profile
#define ARGS(name) struct name##_args
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer F32 { float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer U32 { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer F32x4 { vec4 v[]; };
#else
#include <stdint.h>
#define ARGS(name) struct vkm_##name##_args
typedef uint64_t F32, U32;
typedef uint32_t uint;
#endif

/* v[0..count) = value */
ARGS(fill) {
    U32 v;
    uint count;
    uint value;
};

#endif
