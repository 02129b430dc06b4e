#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/cm.glsl"
/* Can the compiler do it? meson.build asks. */
void main()
{
    coopmat<NARROW_FLOAT, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a =
        coopmat<NARROW_FLOAT, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>(0);
}
