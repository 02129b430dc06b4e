#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define STRING(x) #x
#define VERSION(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)

const char *vkmoe_version(void)
{
    return VERSION(VKMOE_VERSION_MAJOR, VKMOE_VERSION_MINOR, VKMOE_VERSION_PATCH);
}

bool vkmoe_version_fits(uint32_t number)
{
    const uint32_t ours = VKMOE_VERSION_NUMBER, major = number >> 22, minor = number >> 12 & 1023;
    return number <= ours && major == VKMOE_VERSION_MAJOR && (VKMOE_VERSION_MAJOR > 0 || minor == VKMOE_VERSION_MINOR);
}

const char *vkmoe_status_name(enum vkmoe_status status)
{
    switch (status) {
    case VKMOE_OK: return "ok";
    case VKMOE_ERROR_ARGUMENT: return "invalid argument";
    case VKMOE_ERROR_DEVICE: return "device not usable";
    case VKMOE_ERROR_MEMORY: return "out of memory";
    case VKMOE_ERROR_DEVICE_MEMORY: return "out of device memory";
    case VKMOE_ERROR_IO: return "input/output error";
    case VKMOE_ERROR_FORMAT: return "malformed file";
    case VKMOE_ERROR_DEVICE_LOST: return "device lost";
    case VKMOE_ERROR_VULKAN: return "vulkan error";
    case VKMOE_ERROR_DIVERGED: return "training diverged";
    }
    return "unknown status";
}

static void vlog(const struct vkmoe_log *log, enum vkmoe_log_level level, const char *fmt, va_list args)
{
    char line[1024];
    if (!log || !log->fn)
        return;
    vsnprintf(line, sizeof line, fmt, args);
    for (char *c = line; *c; c++) /* a name in a message may hold anything; a line stays one line */
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    log->fn(log->user, level, line);
}

void vkm_log(const struct vkmoe_log *log, enum vkmoe_log_level level, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vlog(log, level, fmt, args);
    va_end(args);
}

enum vkmoe_status vkm_fail(const struct vkmoe_log *log, enum vkmoe_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vlog(log, VKMOE_LOG_ERROR, fmt, args);
    va_end(args);
    return status;
}

enum vkmoe_status vkm_fail_memory(const struct vkmoe_log *log)
{
    return vkm_fail(log, VKMOE_ERROR_MEMORY,
                    "out of host memory; close other programs or use a smaller model or less text");
}
