/* Devices as JSON and in words. */
#ifndef VKMOE_TOOLS_DEVICES_H
#define VKMOE_TOOLS_DEVICES_H

#include <jansson.h>
#include <vkmoe/vkmoe.h>

/* "discrete" and the like. Never NULL. */
const char *device_type_name(enum vkmoe_device_type type);

/* What it is and can do; NULL: no memory. */
json_t *device_json(const struct vkmoe_device_info *device);

#endif
