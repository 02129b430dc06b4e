/* What a file of tensors, a checkpoint or a run holds, as JSON. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "train/hf.h"
#include "train/manifest.h"
#include "train/run_dir.h"
#include "train/safetensors.h"

/* Failures below the top become lines of "problems". */
struct inspection {
    json_t *root, *problems;        /* problems belongs to root */
};

static void note_problem(void *user, enum vkmoe_log_level level, const char *line)
{
    struct inspection *in = user;
    if (level <= VKMOE_LOG_WARNING)
        json_array_append_new(in->problems, json_string(line));
}

static struct vkmoe_log problems_of(struct inspection *in)
{
    return (struct vkmoe_log){.fn = note_problem, .user = in};
}

static json_t *shape_of(const struct vkm_tensor *t)
{
    json_t *shape = json_array();
    for (uint32_t d = 0; d < t->rank; d++)
        json_array_append_new(shape, json_integer((json_int_t)t->dims[d]));
    return shape;
}

/* "tensors", "elements" and "metadata" of a file. */
static enum vkmoe_status add_tensors(const struct vkmoe_log *log, const char *path, json_t *into)
{
    struct vkm_safetensors *file;
    const struct vkm_tensor *t;
    enum vkmoe_status status = vkm_safetensors_open(log, path, &file);
    if (status)
        return status;
    json_t *list = json_array();
    uint64_t elements = 0;
    for (size_t i = 0; (t = vkm_safetensors_at(file, i)); i++) {
        elements += t->count;
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", t->dtype, "shape", shape_of(t),
                                              "bytes", (json_int_t)t->bytes));
    }
    json_object_set_new(into, "tensors", list);
    json_object_set_new(into, "elements", json_integer((json_int_t)elements));
    if (vkm_safetensors_notes(file))
        json_object_set_new(into, "metadata", json_deep_copy(vkm_safetensors_notes(file)));
    vkm_safetensors_close(file);
    return VKMOE_OK;
}

/* "files": name, bytes and how each stands to its checksum: "ok", "differs", or "none" where there is none. */
static void add_files(struct inspection *in, const char *dir)
{
    const struct vkmoe_log log = problems_of(in);
    json_t *files = json_array();
    char *manifest = vkm_path_join(dir, VKM_MANIFEST_FILE);
    const bool sums = manifest && access(manifest, F_OK) == 0;
    struct dirent **items = NULL;
    const int count = scandir(dir, &items, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = items[i]->d_name;
        struct stat info;
        char *path = vkm_path_join(dir, name);
        if (path && stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            const char *checksum = "none";
            if (sums && strcmp(name, VKM_MANIFEST_FILE) != 0)
                checksum = vkm_manifest_verify(&log, dir, &name, 1, true) ? "differs" : "ok";
            json_array_append_new(files, json_pack("{s:s?, s:I, s:s}", "name", name, "bytes", (json_int_t)info.st_size, "checksum",
                                                   checksum));
        }
        free(path);
        free(items[i]);
    }
    free(items);
    free(manifest);
    json_object_set_new(in->root, "files", files);
}

/* All of trainer.json, and the model from config.json where that alone is there. */
static void add_configuration(struct inspection *in, const char *dir)
{
    const struct vkmoe_log log = problems_of(in);
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
    struct vkm_run_state state;
    json_t *config = NULL, *trainer = NULL;
    char *path = vkm_path_join(dir, "trainer.json"), *hf = vkm_path_join(dir, "config.json");
    if (path && access(path, F_OK) == 0) {
        json_object_set_new(in->root, "kind", json_string("checkpoint"));
        if (!vkm_json_load(&log, path, &trainer))
            json_object_update_missing(in->root, trainer);
        if (trainer)
            vkm_checkpoint_config(&log, dir, &model, &train, &state);
    } else if (hf) {
        json_object_set_new(in->root, "kind", json_string("model"));
        if (!vkm_json_load(&log, hf, &config) && !vkm_hf_config_read(&log, dir, &model))
            json_object_set_new(in->root, "config", json_deep_copy(config));
    }
    json_decref(config);
    json_decref(trainer);
    free(path);
    free(hf);
}

static void inspect_directory(struct inspection *in, const char *dir)
{
    const struct vkmoe_log log = problems_of(in);
    char *model = vkm_path_join(dir, "model.safetensors");
    json_object_set_new(in->root, "directory", json_string(dir));
    add_configuration(in, dir);
    if (model)
        add_tensors(&log, model, in->root);
    add_files(in, dir);
    free(model);
}

enum vkmoe_status vkmoe_inspect(struct vkmoe_log log, const char *path, char **json)
{
    struct inspection in = {.root = json_object(), .problems = json_array()};
    struct stat info;
    char *dir = NULL;
    enum vkmoe_status status = VKMOE_OK;
    *json = NULL;
    json_object_set_new(in.root, "path", json_string(path));
    json_object_set_new(in.root, "problems", in.problems);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        if (!(status = vkmoe_checkpoint_find(log, path, &dir)))
            inspect_directory(&in, dir);
    } else {
        json_object_set_new(in.root, "kind", json_string("tensors"));
        status = add_tensors(&log, path, in.root);
    }
    if (!status && !(*json = vkm_json_text(in.root, JSON_INDENT(2) | JSON_REAL_PRECISION(9))))
        status = vkm_fail_memory(&log);
    json_decref(in.root);
    free(dir);
    return status;
}
