/* What is told of a device: by `vkmoe devices`, and by the commands that run on one to be compared with others. */
#ifndef VKMOE_TOOLS_DEVICE_INFO_H
#define VKMOE_TOOLS_DEVICE_INFO_H

#include <jansson.h>
#include <vkmoe/vkmoe.h>

const char *device_type_name(enum vkmoe_device_type type);

/* Name, type, driver, UUID, Vulkan's version, memory and capabilities as an object; NULL: no memory. */
json_t *device_json(const struct vkmoe_device_info *device);

#endif
