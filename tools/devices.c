#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "devices.h"
#include "json.h"

struct devices_options {
    bool json, verbose;
};

const char *device_type_name(enum vkmoe_device_type type)
{
    switch (type) {
    case VKMOE_DEVICE_INTEGRATED: return "integrated";
    case VKMOE_DEVICE_DISCRETE: return "discrete";
    case VKMOE_DEVICE_VIRTUAL: return "virtual";
    case VKMOE_DEVICE_CPU: return "cpu";
    case VKMOE_DEVICE_OTHER: break;
    }
    return "other";
}

static int widest(const struct vkmoe_device_info *devices, size_t count, size_t offset)
{
    size_t width = 6;
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen((const char *)&devices[i] + offset);
        width = length > width ? length : width;
    }
    return (int)width;
}

static void print_table(const struct vkmoe_device_info *devices, size_t count)
{
    const int name_width = widest(devices, count, offsetof(struct vkmoe_device_info, name));
    const int driver_width = widest(devices, count, offsetof(struct vkmoe_device_info, driver));
    printf("%2s  %-*s  %-10s  %-*s  %9s  %8s  %-3s  %-4s  %-7s  %s\n", "#", name_width, "name", "type", driver_width,
           "driver", "memory", "subgroup", "f16", "bf16", "coopmat", "usable");
    for (size_t i = 0; i < count; i++) {
        const struct vkmoe_device_info *d = &devices[i];
        char memory[16];
        printf("%2zu  %-*s  %-10s  %-*s  %9s  %8" PRIu32 "  %-3s  %-4s  %-7s  %s%s\n", i, name_width, d->name,
               device_type_name(d->type), driver_width, d->driver, format_bytes(memory, d->memory_bytes), d->subgroup_size,
               d->float16 ? "yes" : "no", d->bfloat16 ? "yes" : "no", d->cooperative_matrix ? "yes" : "no",
               d->usable ? "yes" : "no: ", d->usable ? "" : d->reason);
    }
}

json_t *device_json(const struct vkmoe_device_info *d)
{
    char version[24];
    snprintf(version, sizeof version, "%u.%u.%u", d->api_version >> 22, d->api_version >> 12 & 0x3ff,
             d->api_version & 0xfff);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b, s:b}",
        "name", d->name, "type", device_type_name(d->type), "driver", d->driver, "uuid", d->uuid, "vulkan", version,
        "memory_bytes", (json_int_t)d->memory_bytes, "subgroup_size", (json_int_t)d->subgroup_size,
        "shared_bytes", (json_int_t)d->shared_bytes, "float16", (int)d->float16, "bfloat16", (int)d->bfloat16,
        "cooperative_matrix", (int)d->cooperative_matrix);
}

static bool print_json(const struct vkmoe_device_info *devices, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < count; i++) {
        const struct vkmoe_device_info *d = &devices[i];
        json_t *item = json_pack("{s:I}", "index", (json_int_t)i);
        json_t *usable = json_pack("{s:b, s:s}", "usable", (int)d->usable, "reason", d->reason);
        if (json_object_update_new(item, device_json(d)) != 0 || json_object_update_new(item, usable) != 0) {
            json_decref(item);
            item = NULL;
        }
        if (json_array_append_new(list, item) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    const bool printed = json_print(list);
    json_decref(list);
    return printed;
}

static const struct option_spec options[] = {
    { .name = "json", .type = OPTION_SWITCH, .offset = offsetof(struct devices_options, json), .otherwise = "off",
      .help = "print a JSON array" },
    { .name = "verbose", .type = OPTION_SWITCH, .offset = offsetof(struct devices_options, verbose),
      .otherwise = "off", .help = "print what the library has to tell, too" },
};

static int run(const struct command *command, int argc, char **argv)
{
    struct devices_options o = { 0 };
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed != OPTIONS_OK)
        return parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
    struct vkmoe_device_info *devices;
    size_t count;
    if (vkmoe_devices_list(library_log(o.verbose), &devices, &count) != VKMOE_OK)
        return EXIT_FAILED;
    int status = EXIT_OK;
    if (count == 0) {
        message("no Vulkan device; install your GPU's Vulkan driver, or Mesa's software driver (tools/setup.sh does)");
        status = EXIT_FAILED;
    } else if (!o.json) {
        print_table(devices, count);
    } else if (!print_json(devices, count)) {
        status = EXIT_FAILED;
    }
    vkmoe_devices_free(devices);
    return status;
}

const struct command command_devices = {
    .name = "devices",
    .summary = "Lists the Vulkan devices and whether vkmoe can use them",
    .synopsis = "[--json]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
