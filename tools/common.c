#include "common.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "live.h"

const char *program = "vkmoe";
bool device_lost;

static char prefix[32] = "vkmoe";

void messages_begin(const char *command)
{
    snprintf(prefix, sizeof prefix, "vkmoe %s", command);
}

void message(const char *format, ...)
{
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (unsigned char *c = (unsigned char *)line; *c; c++) /* what is quoted may hold anything: a terminal would obey it */
        if (*c < ' ' || *c == 0x7f || (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0))
            *c = ' ';
    live_clear();
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", prefix, line);
}

static void log_important(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level == VKMOE_LOG_ERROR)
        message("%s", line);
    else if (level == VKMOE_LOG_WARNING)
        message("warning: %s", line);
}

static void log_all(void *user, enum vkmoe_log_level level, const char *line)
{
    if (level == VKMOE_LOG_ERROR || level == VKMOE_LOG_WARNING)
        log_important(user, level, line);
    else
        message("%s", line);
}

struct vkmoe_log library_log(bool verbose)
{
    return (struct vkmoe_log){ .fn = verbose ? log_all : log_important };
}

char *path_in(const char *dir, const char *name)
{
    const size_t length = strlen(dir), size = length + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s%s%s", dir, length > 0 && dir[length - 1] == '/' ? "" : "/", name);
    else
        message("out of memory");
    return path;
}

char *cache_directory(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const bool standard = cache && cache[0] == '/';
    if (!standard && (!home || home[0] != '/'))
        return NULL;
    return standard ? path_in(cache, "vkmoe") : path_in(home, ".cache/vkmoe");
}

struct vkmoe_context *open_context(const struct common_options *options)
{
    const char *device = options->device ? options->device : getenv("VKMOE_DEVICE");
    char *cache_dir = cache_directory();
    struct vkmoe_context *ctx = NULL;
    vkmoe_context_create(&(struct vkmoe_context_desc){
        .log = library_log(options->verbose),
        .device = device && *device ? device : NULL,
        .cache_dir = cache_dir,
        .profile_path = options->profile,
        .validate = options->validate,
        .timeout_seconds = options->timeout,
    }, &ctx);
    free(cache_dir);
    return ctx;
}

int close_context(struct vkmoe_context *ctx, int status)
{
    const uint64_t complaints = ctx ? vkmoe_context_validation_messages(ctx) : 0;
    device_lost = device_lost || (ctx && vkmoe_context_lost(ctx));
    vkmoe_context_destroy(ctx);
    if (complaints == 0 || status != EXIT_OK)
        return status;
    message("%" PRIu64 " validation messages", complaints);
    return EXIT_FAILED;
}

void print_quoted(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:=@%";
    if (*text && !text[strspn(text, plain)]) {
        fputs(text, stdout);
        return;
    }
    putchar('\'');
    for (; *text; text++)
        fputs(*text == '\'' ? "'\\''" : (const char[]){ *text, 0 }, stdout);
    putchar('\'');
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, size_t count)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, ascending);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

const char *format_bytes(char text[16], uint64_t bytes)
{
    static const char units[][4] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024.0 && unit < 6) {
        value /= 1024.0;
        unit++;
    }
    snprintf(text, 16, "%.*f %s", unit > 0 && value < 100.0 ? 1 : 0, value, units[unit]);
    return text;
}

const char *format_count(char text[16], double count)
{
    static const char units[] = { 0, 'k', 'M', 'G', 'T' };
    size_t unit = 0;
    while (count >= 999.5 && unit < 4) {
        count /= 1000.0;
        unit++;
    }
    snprintf(text, 16, "%.*f%.1s", unit > 0 ? (count < 10.0 ? 2 : count < 100.0 ? 1 : 0) : 0, count, &units[unit]);
    return text;
}

const char *format_seconds(char text[16], double seconds)
{
    const unsigned whole = seconds < 3.6e6 ? (unsigned)(seconds + 0.5) : 3600000u;
    if (seconds < 59.95)
        snprintf(text, 16, "%.1fs", seconds);
    else if (whole < 3600)
        snprintf(text, 16, "%um%02us", whole / 60, whole % 60);
    else
        snprintf(text, 16, "%uh%02um", whole / 3600, whole / 60 % 60);
    return text;
}
