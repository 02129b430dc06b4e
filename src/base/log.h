/* Messages and failures: every failing function says why, once, and returns its status. */
#ifndef VKM_BASE_LOG_H
#define VKM_BASE_LOG_H

#include <vkmoe/vkmoe.h>

#if defined(__GNUC__)
#define VKM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define VKM_PRINTF(fmt, args)
#endif

/* Formats one line and hands it to log (which may be NULL or zero). */
void vkm_log(const struct vkmoe_log *log, enum vkmoe_log_level level, const char *fmt, ...) VKM_PRINTF(3, 4);

/* Logs the line as an error and returns status: `return vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", ...);` */
enum vkmoe_status vkm_fail(const struct vkmoe_log *log, enum vkmoe_status status, const char *fmt, ...) VKM_PRINTF(3, 4);

/* vkm_fail for an allocation that returned NULL. */
enum vkmoe_status vkm_fail_memory(const struct vkmoe_log *log);

#endif
