#include "gpu/profiler.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EVENTS = 1000000 };      /* of the trace; the summary goes on counting */

struct site {
    const char *recording, *label;
    char prefix[48];
    uint64_t flops;
    uint32_t group;
};

/* All sites with the same label. */
struct group {
    const char *label;
    uint64_t calls;
    double ns, flops;
};

struct event {
    uint32_t site;
    uint64_t begin, ticks;          /* begin counts from the first timestamp */
};

struct vkm_profiler {
    double tick_ns;
    uint64_t mask, first;
    FILE *file;
    char *path, *temporary;
    struct site *sites;
    struct group *groups;
    struct event *events;
    size_t site_count, site_capacity, group_count, group_capacity, event_count, event_capacity;
    uint64_t dropped;
};

/* Makes room for one more; false: no memory. */
static bool grow(void **list, size_t count, size_t *capacity, size_t item)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *bigger = realloc(*list, wanted * item);
    if (!bigger)
        return false;
    *list = bigger;
    *capacity = wanted;
    return true;
}

static void release(struct vkm_profiler *profiler)
{
    free(profiler->path);
    free(profiler->temporary);
    free(profiler->sites);
    free(profiler->groups);
    free(profiler->events);
    free(profiler);
}

enum vkmoe_status vkm_profiler_create(struct vkmoe_context *ctx, const char *path, struct vkm_profiler **out)
{
    *out = NULL;
    if (ctx->caps.timestamp_ns <= 0)
        return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE, "%s has no timestamps; run without profiling", ctx->info.name);
    struct vkm_profiler *profiler = calloc(1, sizeof *profiler);
    if (!profiler)
        return vkm_fail_memory(&ctx->log);
    size_t bytes = strlen(path) + 8;
    profiler->path = malloc(bytes);
    profiler->temporary = malloc(bytes);
    if (!profiler->path || !profiler->temporary) {
        release(profiler);
        return vkm_fail_memory(&ctx->log);
    }
    snprintf(profiler->path, bytes, "%s", path);
    snprintf(profiler->temporary, bytes, "%s.tmp", path);
    profiler->file = fopen(profiler->temporary, "w");
    if (!profiler->file) {
        enum vkmoe_status status = vkm_fail(&ctx->log, VKMOE_ERROR_IO, "cannot write the profile %s: %s; choose "
                                            "another file", path, strerror(errno));
        release(profiler);
        return status;
    }
    profiler->tick_ns = ctx->caps.timestamp_ns;
    profiler->mask = ctx->caps.timestamp_mask;
    *out = profiler;
    return VKMOE_OK;
}

uint32_t vkm_profiler_site(struct vkm_profiler *profiler, const char *recording, const char *prefix, const char *label,
                           uint64_t flops)
{
    size_t g = 0;
    while (g < profiler->group_count && strcmp(profiler->groups[g].label, label))
        g++;
    if (!grow((void **)&profiler->sites, profiler->site_count, &profiler->site_capacity, sizeof *profiler->sites) ||
        !grow((void **)&profiler->groups, g, &profiler->group_capacity, sizeof *profiler->groups) ||
        profiler->site_count >= UINT32_MAX)
        return UINT32_MAX;
    if (g == profiler->group_count)
        profiler->groups[profiler->group_count++] = (struct group){.label = label};
    struct site *site = &profiler->sites[profiler->site_count];
    *site = (struct site){.recording = recording, .label = label, .flops = flops, .group = (uint32_t)g};
    snprintf(site->prefix, sizeof site->prefix, "%s", prefix);
    return (uint32_t)profiler->site_count++;
}

void vkm_profiler_add(struct vkm_profiler *profiler, uint32_t site, uint64_t begin, uint64_t end)
{
    if (site >= profiler->site_count)
        return;
    if (!profiler->first)
        profiler->first = begin;
    uint64_t ticks = (end - begin) & profiler->mask;
    struct group *group = &profiler->groups[profiler->sites[site].group];
    group->calls++;
    group->ns += (double)ticks * profiler->tick_ns;
    group->flops += (double)profiler->sites[site].flops;
    if (profiler->event_count >= MAX_EVENTS || !grow((void **)&profiler->events, profiler->event_count,
                                                     &profiler->event_capacity, sizeof *profiler->events)) {
        profiler->dropped++;
        return;
    }
    profiler->events[profiler->event_count++] =
        (struct event){site, (begin - profiler->first) & profiler->mask, ticks};
}

/* A JSON string; characters that would need escaping do not occur in our labels and are left out. */
static void put_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text; text++)
        if (*text != '"' && *text != '\\' && (unsigned char)*text >= ' ')
            fputc(*text, file);
    fputc('"', file);
}

static bool write_trace(struct vkm_profiler *profiler, const char *device)
{
    FILE *file = profiler->file;
    fprintf(file, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"device\":");
    put_string(file, device);
    fprintf(file, ",\"events_left_out\":%" PRIu64 "},\"traceEvents\":[\n", profiler->dropped);
    fprintf(file, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":");
    put_string(file, device);
    fprintf(file, "}}");
    for (size_t i = 0; i < profiler->event_count; i++) {
        const struct event *event = &profiler->events[i];
        const struct site *site = &profiler->sites[event->site];
        char name[160];
        snprintf(name, sizeof name, "%s%s%s", site->prefix, *site->prefix ? "/" : "", site->label);
        fprintf(file, ",\n{\"name\":");
        put_string(file, name);
        fprintf(file, ",\"cat\":");
        put_string(file, site->recording);
        fprintf(file, ",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"flops\":%" PRIu64 "}}",
                (double)event->begin * profiler->tick_ns * 1e-3, (double)event->ticks * profiler->tick_ns * 1e-3,
                site->flops);
    }
    fprintf(file, "\n]}\n");
    bool good = !ferror(file);
    good = !fclose(file) && good;
    return good && !rename(profiler->temporary, profiler->path);
}

static int by_time(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : strcmp(x->label, y->label);
}

static void log_summary(const struct vkmoe_context *ctx, struct vkm_profiler *profiler)
{
    double total = 0;
    for (size_t i = 0; i < profiler->group_count; i++)
        total += profiler->groups[i].ns;
    qsort(profiler->groups, profiler->group_count, sizeof *profiler->groups, by_time);
    vkm_log(&ctx->log, VKMOE_LOG_INFO, "profile: %-28s %9s %12s %7s %10s", "operation", "calls", "ms", "share",
            "GFLOP/s");
    for (size_t i = 0; i < profiler->group_count; i++) {
        const struct group *group = &profiler->groups[i];
        char rate[32] = "-";
        if (!group->calls)
            continue;
        if (group->flops > 0 && group->ns > 0)
            snprintf(rate, sizeof rate, "%.1f", group->flops / group->ns);
        vkm_log(&ctx->log, VKMOE_LOG_INFO, "profile: %-28s %9" PRIu64 " %12.3f %6.1f%% %10s", group->label,
                group->calls, group->ns * 1e-6, total > 0 ? 100 * group->ns / total : 0, rate);
    }
}

void vkm_profiler_destroy(struct vkmoe_context *ctx, struct vkm_profiler *profiler)
{
    if (!profiler)
        return;
    if (profiler->event_count)
        log_summary(ctx, profiler);
    if (!write_trace(profiler, ctx->info.name)) {
        vkm_fail(&ctx->log, VKMOE_ERROR_IO, "cannot write the profile %s: %s", profiler->path, strerror(errno));
        remove(profiler->temporary);
    }
    release(profiler);
}
