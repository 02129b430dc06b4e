/* Cooperative matrices of 16-bit floats: NARROW_FLOAT is their type, bf16 with BF16 defined, else f16. */
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#ifdef BF16
#extension GL_EXT_bfloat16 : require
#define NARROW_FLOAT bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define NARROW_FLOAT float16_t
#endif
