#include "gpu/tuning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

enum { FORMAT = 1, LARGEST = 4096 };

static const char *const type_names[] = {"f32", "f16", "bf16"};
static const char *const rows_names[] = {"few", "many"};

static char *path_of(const struct vkmoe_context *ctx, const char *dir)
{
    char name[64];
    snprintf(name, sizeof name, "tuning-%s.json", ctx->info.uuid);
    return vkm_path_join(dir, name);
}

/* Its index in the names; count where it is none of them. */
static size_t word(struct vkm_json *in, const char *key, const char *const *names, size_t count)
{
    const char *text = vkm_json_string(in, key);
    size_t i = 0;
    while (text && i < count && strcmp(text, names[i]) != 0)
        i++;
    vkm_json_require(in, text && i < count, key, "a word that this version knows");
    return i;
}

static void read_tiles(struct vkmoe_context *ctx, struct vkm_json *in)
{
    const size_t type = word(in, "type", type_names, 3), rows = word(in, "rows", rows_names, VKM_ROWS_KINDS);
    const struct vkm_tuned tuned = {
        (uint32_t)vkm_json_uint(in, "bm", 1, LARGEST), (uint32_t)vkm_json_uint(in, "bn", 1, LARGEST),
        (uint32_t)vkm_json_uint(in, "bk", 1, LARGEST), (uint32_t)vkm_json_uint(in, "tm", 1, LARGEST),
        (uint32_t)vkm_json_uint(in, "tn", 1, LARGEST), (uint32_t)vkm_json_uint(in, "wg", 1, LARGEST)};
    if (!in->status)
        ctx->tuning.gemm[type][rows] = tuned;
}

static enum vkmoe_status read_file(struct vkmoe_context *ctx, const struct vkmoe_log *log, const char *path)
{
    json_t *root;
    enum vkmoe_status status = vkm_json_load(log, path, &root);
    if (status)
        return status;
    struct vkm_json in = {.log = log, .path = path, .object = root};
    const uint64_t format = vkm_json_uint(&in, "format", 1, INT32_MAX);
    const char *driver = vkm_json_string(&in, "driver");
    const json_t *list = json_object_get(root, "gemm"), *item;
    size_t i;
    vkm_json_require(&in, json_is_array(list), "gemm", "a list");
    if (!in.status && format == FORMAT && strcmp(driver, ctx->info.driver) == 0)
        json_array_foreach (list, i, item) {
            struct vkm_json tiles = {.log = log, .path = path, .object = item};
            vkm_json_require(&in, json_is_object(item), "gemm", "a list of objects");
            if (in.status)
                break;
            read_tiles(ctx, &tiles);
            in.status = tiles.status;
        }
    json_decref(root);
    return in.status;
}

/* What is wrong with the file is no more than a warning. */
struct quiet {
    struct vkmoe_log log;
};

static void as_warning(void *user, enum vkmoe_log_level level, const char *line)
{
    const struct quiet *quiet = user;
    if (quiet->log.fn)
        quiet->log.fn(quiet->log.user, level == VKMOE_LOG_ERROR ? VKMOE_LOG_WARNING : level, line);
}

enum vkmoe_status vkm_tuning_load(struct vkmoe_context *ctx, const char *dir)
{
    struct quiet quiet = {ctx->log};
    const struct vkmoe_log log = {as_warning, &quiet};
    ctx->tuning = (struct vkm_tuning){0};
    if (!dir)
        return VKMOE_OK;
    char *path = path_of(ctx, dir);
    if (!path)
        return vkm_fail_memory(&ctx->log);
    enum vkmoe_status status = access(path, F_OK) == 0 ? read_file(ctx, &log, path) : VKMOE_OK;
    if (status && status != VKMOE_ERROR_MEMORY) {
        vkm_log(&ctx->log, VKMOE_LOG_WARNING, "%s is left aside; 'vkmoe tune' writes it anew", path);
        ctx->tuning = (struct vkm_tuning){0};
        status = VKMOE_OK;
    }
    free(path);
    return status;
}

enum vkmoe_status vkm_tuning_save(const struct vkmoe_context *ctx, const char *dir, char **path)
{
    json_t *list = json_array();
    enum vkmoe_status status;
    *path = path_of(ctx, dir);
    bool fine = list && *path;
    for (int type = 0; type < 3 && fine; type++)
        for (int rows = 0; rows < VKM_ROWS_KINDS && fine; rows++) {
            const struct vkm_tuned *t = &ctx->tuning.gemm[type][rows];
            if (t->bm)
                fine = json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "type",
                                                             type_names[type], "rows", rows_names[rows], "bm", (int)t->bm,
                                                             "bn", (int)t->bn, "bk", (int)t->bk, "tm", (int)t->tm, "tn",
                                                             (int)t->tn, "wg", (int)t->wg)) == 0;
        }
    if (!fine) {
        json_decref(list);
        status = vkm_fail_memory(&ctx->log);
    } else if (!(status = vkm_dir_create(&ctx->log, dir))) {
        status = vkm_json_save(&ctx->log, *path,
                               json_pack("{s:i, s:s, s:o}", "format", FORMAT, "driver", ctx->info.driver, "gemm", list));
    } else {
        json_decref(list);
    }
    if (status) {
        free(*path);
        *path = NULL;
    }
    return status;
}
