/* Arrays that are reached by their address: no descriptors anywhere. */
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Floats {
    float at[];
};
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Words {
    uint at[];
};
