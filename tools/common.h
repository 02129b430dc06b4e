/* What the subcommands share: messages, the context, and reading the environment. */
#ifndef VKMOE_TOOLS_COMMON_H
#define VKMOE_TOOLS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

#include "options.h"

enum exit_status { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Flags of every subcommand that opens a device; the first member of its values. */
struct common_options {
    const char *device, *profile;
    uint32_t timeout;
    bool validate, verbose;
};

/* Rows for the table of a subcommand whose values have a member `common`. */
#define COMMON_OPTIONS(values)                                                                                         \
    DEVICE_OPTION(values),                                                                                             \
    { .name = "profile", .type = OPTION_TEXT, .offset = offsetof(values, common.profile), .value = "FILE",             \
      .otherwise = "none", .help = "write a Chrome/Perfetto trace of the device's work, which slows it" },              \
    CHECK_OPTIONS(values)
#define DEVICE_OPTION(values)                                                                                          \
    { .name = "device", .type = OPTION_TEXT, .offset = offsetof(values, common.device), .value = "WHICH",              \
      .otherwise = "$VKMOE_DEVICE, else the first usable",                                                             \
      .help = "index, part of the name, or UUID: see 'vkmoe devices'" }
#define CHECK_OPTIONS(values)                                                                                          \
    { .name = "timeout", .type = OPTION_U32, .offset = offsetof(values, common.timeout), .value = "SECONDS", .min = 1,   \
      .otherwise = "120, of a software device 1800",                                                                   \
      .help = "give up a device that finishes no part of its work for so long" },                                      \
    { .name = "validate", .type = OPTION_SWITCH, .offset = offsetof(values, common.validate), .otherwise = "off",      \
      .help = "turn on the Vulkan validation layers; what they say is a failure" },                              \
    { .name = "verbose", .type = OPTION_SWITCH, .offset = offsetof(values, common.verbose), .otherwise = "off",        \
      .help = "print what the library has to tell, too" }

/* How vkmoe was called, for commands that are printed as advice. */
extern const char *program;

/* Messages begin with "vkmoe NAME: " from now on. */
void messages_begin(const char *command);

/* Writes one line to stderr. */
__attribute__((format(printf, 1, 2))) void message(const char *format, ...);

/* The library's messages to stderr: errors and warnings, and with verbose the rest. */
struct vkmoe_log library_log(bool verbose);

/* "dir/name"; the caller frees it. NULL after a message: no memory. */
char *path_in(const char *dir, const char *name);

/* $XDG_CACHE_HOME/vkmoe or ~/.cache/vkmoe, the caller's to free; NULL where there is no home. */
char *cache_directory(void);

/* Opens the device that options and environment ask for; NULL after a message. */
struct vkmoe_context *open_context(const struct common_options *options);

/* Whether a device was closed that had been lost or hangs: its driver may still be running. */
extern bool device_lost;

/* Destroys the context, which may be NULL. Returns status, or EXIT_FAILED where the validation layers complained. */
int close_context(struct vkmoe_context *ctx, int status);

/* Prints text to stdout so that a shell reads it as one word. */
void print_quoted(const char *text);

/* Sorts the values; NAN where there are none. */
double median(double *values, size_t count);

/* text is a buffer that is returned. Bytes in the largest binary unit that leaves a number of at least 1. */
const char *format_bytes(char text[16], uint64_t bytes);
/* 1234567 as "1.23M". */
const char *format_count(char text[16], double count);
/* Seconds as "1h02m", "3m07s" or "4.2s". */
const char *format_seconds(char text[16], double seconds);

#endif
