/* The directory of a run: checksums, what is kept, the lock, what a killed process leaves. */
#include "layouts.h"
#include "scratch.h"
#include "train/manifest.h"
#include "train/run_dir.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>

TestSuite(run_dir, .init = scratch_begin, .fini = scratch_end);

/* ---- checksums --------------------------------------------------------------------------------------------------- */

/* As `xxh128sum` prints them. */
Test(run_dir, checksums)
{
    static char million[3 << 20];
    struct vkm_checksum sum;
    put("empty", "");
    assert_ok(vkm_checksum_file(&test_log, at("empty"), &sum));
    cr_expect_str_eq(sum.text, "99aa06d3014798d86001c324468d497f");
    put("abc", "abc");
    assert_ok(vkm_checksum_file(&test_log, at("abc"), &sum));
    cr_expect_str_eq(sum.text, "06b05ab6733a618578af5f94892f3950");
    for (size_t i = 0; i < sizeof million; i++)
        million[i] = (char)(i * 7 % 251);
    put_bytes("pieces", million, sizeof million);
    assert_ok(vkm_checksum_file(&test_log, at("pieces"), &sum));
    cr_expect_str_eq(sum.text, "66fca2a9def51f8f93043ee444d11458");
    expect_failure(vkm_checksum_file(&test_log, at("absent"), &sum), VKMOE_ERROR_IO, "absent");
    make_dir("directory");
    expect_failure(vkm_checksum_file(&test_log, at("directory"), &sum), VKMOE_ERROR_IO, "a directory");
}

Test(run_dir, manifest)
{
    static const char *const names[] = {"a", "b", "c"};
    put("a", "one");
    put("b", "");
    put("c", "three");
    assert_ok(vkm_manifest_verify(&test_log, scratch, names, 3, false));
    expect_failure(vkm_manifest_verify(&test_log, scratch, names, 3, true), VKMOE_ERROR_IO, VKM_MANIFEST_FILE);
    assert_ok(vkm_manifest_write(&test_log, scratch, names, 2));
    assert_ok(vkm_manifest_verify(&test_log, scratch, names, 2, true));
    expect_failure(vkm_manifest_verify(&test_log, scratch, names, 3, true), VKMOE_ERROR_FORMAT, "has no checksum of c");
    put("a", "onf");
    expect_failure(vkm_manifest_verify(&test_log, scratch, names, 2, false), VKMOE_ERROR_FORMAT, "/a is not as it was saved");
    put("a", "one ");
    expect_failure(vkm_manifest_verify(&test_log, scratch, names, 2, false), VKMOE_ERROR_FORMAT, "/a is not as it was saved");
    put("a", "one");
    cr_assert_eq(remove(at("b")), 0);
    expect_failure(vkm_manifest_verify(&test_log, scratch, names, 2, false), VKMOE_ERROR_IO, "/b");
    expect_failure(vkm_manifest_write(&test_log, scratch, names, 2), VKMOE_ERROR_IO, "/b");
    cr_expect_neq(access(at(VKM_MANIFEST_FILE ".tmp"), F_OK), 0);
    put(VKM_MANIFEST_FILE, "99aa06d3014798d86001c324468d497f  ax\n99aa06d3014798d86001c324468d49  a\nx");
    expect_failure(vkm_manifest_verify(&test_log, scratch, names, 1, false), VKMOE_ERROR_FORMAT, "has no checksum of a");
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

static enum vkmoe_status zeros(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                               uint64_t count, float *values)
{
    int *left = user;
    (void)param, (void)part, (void)first;
    if ((*left)-- == 0)
        return vkm_fail(&test_log, VKMOE_ERROR_DEVICE_LOST, "device lost");
    memset(values, 0, count * sizeof *values);
    return VKMOE_OK;
}

/* fetches: how many succeed. */
static enum vkmoe_status save(uint64_t step, uint64_t best, uint32_t keep, int fetches)
{
    const struct vkmoe_model_config model = layout_model(0);
    const struct vkmoe_train_config train = {.steps = 100, .batch = 1, .accum = 1, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f,
                                             .lr = 1, .log_every = 10, .keep = keep, .max_bad_steps = 50};
    const struct vkm_run_state state = {.step = step, .best_step = best, .loss_scale = 1};
    struct vkm_params params;
    assert_ok(vkm_params_create(&test_log, &model, NULL, &params));
    const enum vkmoe_status status = vkm_run_save(&test_log, at("run"), &model, &train, &state, &params, zeros, &fetches);
    vkm_params_destroy(&params);
    return status;
}

static bool there(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "run/%s", name);
    return access(at(path), F_OK) == 0;
}

static void expect_newest(const char *name)
{
    char *path;
    assert_ok(vkm_run_newest(&test_log, at("run"), &path));
    cr_assert(path || !*name, "there is no checkpoint");
    cr_expect(!path || strcmp(strrchr(path, '/') + 1, name) == 0, "%s, not %s", path, name);
    free(path);
}

static void expect_link(const char *name, const char *to)
{
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "run/%s", name);
    cr_expect_gt(readlink(at(path), target, sizeof target - 1), 0);
    cr_expect_str_eq(target, to);
}

Test(run_dir, keeps_the_newest_and_the_best)
{
    make_dir("run");
    expect_newest("");
    assert_ok(save(5, 0, 2, -1));
    cr_expect(!there("best"));
    assert_ok(save(10, 10, 2, -1));
    assert_ok(save(15, 10, 2, -1));
    cr_expect(!there("step-00000005") && there("step-00000010") && there("step-00000015"));
    assert_ok(save(20, 10, 2, -1));
    assert_ok(save(25, 10, 2, -1));
    cr_expect(there("step-00000010") && !there("step-00000015") && there("step-00000020") && there("step-00000025"));
    expect_link("latest", "step-00000025");
    expect_link("best", "step-00000010");
    assert_ok(save(30, 30, 1, -1));
    cr_expect(!there("step-00000010") && !there("step-00000025") && there("step-00000030"));
    expect_link("best", "step-00000030");
    expect_newest("step-00000030");
    assert_ok(vkm_checkpoint_verify(&test_log, at("run/latest"), VKM_VERIFY_ALL));
    assert_ok(save(1234567890, 30, 2, -1));
    expect_newest("step-1234567890");
}

/* Whenever saving fails, what was saved before is all there is, and whole. */
Test(run_dir, failed_saves)
{
    make_dir("run");
    assert_ok(save(1, 0, 1, -1));
    for (int fetches = 0; fetches < 40; fetches += 3) {
        expect_failure(save(2, 0, 1, fetches), VKMOE_ERROR_DEVICE_LOST, "device lost");
        cr_expect(!there("step-00000002") && !there("step-00000002.tmp"));
        expect_newest("step-00000001");
    }
    assert_ok(vkm_checkpoint_verify(&test_log, at("run/step-00000001"), VKM_VERIFY_ALL));
    make_dir("run/step-00000003");
    make_dir("run/step-00000003/in the way");
    expect_failure(save(3, 0, 1, -1), VKMOE_ERROR_IO, "step-00000003");
    cr_expect(there("step-00000001"));
}

Test(run_dir, find)
{
    char *path;
    make_dir("run");
    expect_failure(vkmoe_checkpoint_find(test_log, at("run"), &path), VKMOE_ERROR_IO, "no checkpoint");
    expect_failure(vkmoe_checkpoint_find(test_log, at("absent"), &path), VKMOE_ERROR_IO, "absent");
    cr_expect_null(path);
    assert_ok(save(7, 0, 1, -1));
    put("run/step-9", "a file");
    put("run/step-x", "");
    make_dir("run/step-8.tmp");
    cr_assert_eq(remove(at("run/step-9")), 0);
    assert_ok(vkmoe_checkpoint_find(test_log, at("run"), &path));
    cr_expect_str_eq(strrchr(path, '/') + 1, "step-00000007");
    vkmoe_text_free(path);
    assert_ok(vkmoe_checkpoint_find(test_log, at("run/step-00000007"), &path));
    cr_expect_str_eq(strrchr(path, '/') + 1, "step-00000007");
    vkmoe_text_free(path);
}

/* ---- the lock ---------------------------------------------------------------------------------------------------- */

Test(run_dir, lock)
{
    int first, second;
    make_dir("run");
    make_dir("run/step-00000004.tmp");
    put("run/step-00000004.tmp/model.safetensors", "half");
    make_dir("run/step-00000005");
    assert_ok(vkm_run_lock(&test_log, at("run"), &first));
    cr_expect(!there("step-00000004.tmp") && there("step-00000005"));
    char says[64];
    snprintf(says, sizeof says, "being trained there by process %ld", (long)getpid());
    expect_failure(vkm_run_lock(&test_log, at("run"), &second), VKMOE_ERROR_ARGUMENT, says);
    cr_expect_eq(second, -1);
    vkm_run_unlock(first);
    assert_ok(vkm_run_lock(&test_log, at("run"), &first));
    vkm_run_unlock(first);
    vkm_run_unlock(-1);
    expect_failure(vkm_run_lock(&test_log, at("absent"), &first), VKMOE_ERROR_IO, "absent");
}

/* A process that is killed takes its lock with it; one that lives keeps it. */
Test(run_dir, stale_lock)
{
    int pipe_ends[2], fd;
    char byte = 0;
    make_dir("run");
    cr_assert_eq(pipe(pipe_ends), 0);
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        byte = vkm_run_lock(&test_log, at("run"), &fd) == VKMOE_OK;
        if (write(pipe_ends[1], &byte, 1) == 1)
            pause();
        _exit(0);
    }
    cr_assert(read(pipe_ends[0], &byte, 1) == 1 && byte == 1);
    char says[64];
    snprintf(says, sizeof says, "by process %ld", (long)child);
    expect_failure(vkm_run_lock(&test_log, at("run"), &fd), VKMOE_ERROR_ARGUMENT, says);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_ok(vkm_run_lock(&test_log, at("run"), &fd));
    vkm_run_unlock(fd);
}

/* ---- what is told about them --------------------------------------------------------------------------------------- */

static json_t *inspected(const char *name)
{
    char *text;
    assert_ok(vkmoe_inspect(test_log, at(name), &text));
    json_t *root = json_loads(text, 0, NULL);
    cr_assert(json_is_object(root), "%s", text);
    vkmoe_text_free(text);
    return root;
}

static size_t problems(const json_t *root, const char *says)
{
    size_t i, found = 0;
    json_t *line;
    json_array_foreach(json_object_get(root, "problems"), i, line)
        found += strstr(json_string_value(line), says) != NULL;
    return found;
}

Test(run_dir, inspect)
{
    char *text;
    make_dir("run");
    expect_failure(vkmoe_inspect(test_log, at("run"), &text), VKMOE_ERROR_IO, "no checkpoint");
    expect_failure(vkmoe_inspect(test_log, at("absent"), &text), VKMOE_ERROR_IO, "absent");
    assert_ok(save(7, 0, 1, -1));
    json_t *root = inspected("run");
    cr_expect_str_eq(json_string_value(json_object_get(root, "kind")), "checkpoint");
    cr_expect_eq(json_integer_value(json_object_get(root, "step")), 7);
    cr_expect_eq(json_array_size(json_object_get(root, "files")), 7);
    cr_expect_eq(json_array_size(json_object_get(root, "problems")), 0);
    cr_expect_gt(json_integer_value(json_object_get(root, "elements")), 1000);
    json_decref(root);
    root = inspected("run/latest/optimizer.safetensors");
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(root, "metadata"), "step")), "7");
    json_decref(root);

    FILE *file = fopen(at("run/latest/optimizer.safetensors"), "r+");
    cr_assert(file && fseek(file, -1, SEEK_END) == 0 && fputc(1, file) == 1 && fclose(file) == 0);
    put("run/latest/trainer.json", "{");
    root = inspected("run");
    cr_expect_eq(problems(root, "optimizer.safetensors is not as it was saved"), 1);
    cr_expect_eq(problems(root, "trainer.json is not as it was saved"), 1);
    cr_expect_eq(problems(root, "not valid JSON"), 1);
    json_decref(root);
    cr_assert_eq(remove(at("run/latest/trainer.json")), 0);
    cr_assert_eq(remove(at("run/latest/" VKM_MANIFEST_FILE)), 0);
    root = inspected("run/latest");
    cr_expect_str_eq(json_string_value(json_object_get(root, "kind")), "model");
    cr_expect(json_is_object(json_object_get(root, "config")));
    json_decref(root);
}
