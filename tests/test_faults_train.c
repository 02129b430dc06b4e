/* The nth allocation, Vulkan call, or call that reads or writes files fails, or the thread that writes checkpoints cannot be
 * had: for every n that a short run reaches that saves, validates and is resumed. Each time one line says so and a status tells
 * it (or what failed was not needed), the newest checkpoint is whole, and training goes on from there to the same bits. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/file.h>

#include "fault_fixture.h"
#include "host_fixture.h"
#include "train/trainer.h"
#include "train_fixture.h"

/* ---- files that fail --------------------------------------------------------------------------------------------- */

/* name(result, when it fails, parameters, arguments); with 64-bit offsets glibc's names have a 64. */
#define FILE_CALLS(X) \
    X(read, ssize_t, -1, (int fd, void *to, size_t n), (fd, to, n)) \
    X(pread64, ssize_t, -1, (int fd, void *to, size_t n, off_t at), (fd, to, n, at)) \
    X(write, ssize_t, -1, (int fd, const void *from, size_t n), (fd, from, n)) \
    X(fsync, int, -1, (int fd), (fd)) \
    X(rename, int, -1, (const char *from, const char *to), (from, to)) \
    X(mkdir, int, -1, (const char *path, mode_t mode), (path, mode)) \
    X(unlink, int, -1, (const char *path), (path)) \
    X(rmdir, int, -1, (const char *path), (path)) \
    X(symlink, int, -1, (const char *to, const char *path), (to, path)) \
    X(fstat64, int, -1, (int fd, struct stat *out), (fd, out)) \
    X(lstat64, int, -1, (const char *path, struct stat *out), (path, out)) \
    X(opendir, DIR *, NULL, (const char *path), (path)) \
    X(fopen64, FILE *, NULL, (const char *path, const char *mode), (path, mode)) \
    X(fflush, int, EOF, (FILE *file), (file)) \
    X(pthread_create, int, EAGAIN, (pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *u), (t, a, f, u))

#define WRAP(name, type, error, parameters, arguments) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        if (!fault_due(#name)) \
            return __real_##name arguments; \
        errno = EIO; \
        return error; \
    }
FILE_CALLS(WRAP)

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (!fault_due("open64"))
        return __real_open64(path, flags, mode);
    errno = EIO;
    return -1;
}

/* jansson's allocations: ten times as many as all else, so they fail by themselves. */
static const char json_malloc[] = "jansson's malloc";
void *__real_malloc(size_t bytes);

static void *json_allocate(size_t bytes)
{
    return fault.only == json_malloc && fault_due(json_malloc) ? NULL : __real_malloc(bytes);
}

/* ---- the run ----------------------------------------------------------------------------------------------------- */

enum { STEPS = 5 };

static struct host host;
static struct vkmoe_context *ctx;
static struct vkmoe_data *data;

static struct vkmoe_trainer_desc describe_run(const char *dir)
{
    struct vkmoe_trainer_desc desc = {.model = model, .train = train, .data = data, .run_dir = dir};
    desc.model.layers = 1;
    desc.model.d_expert = 4;
    desc.model.seq = 8;
    desc.train.steps = STEPS;
    desc.train.batch = desc.train.accum = desc.train.keep = desc.train.log_every = 1;
    return desc;
}

static enum vkmoe_status go(struct vkmoe_trainer *t, uint64_t until)
{
    struct vkmoe_step_report report;
    enum vkmoe_status status = VKMOE_OK;
    while (!status && vkmoe_trainer_steps(t) < until)
        status = vkmoe_trainer_step(t, &report);
    return status;
}

static enum vkmoe_status short_run(const char *dir)
{
    struct vkmoe_trainer_desc desc = describe_run(dir);
    struct vkmoe_validation validation;
    struct vkmoe_trainer *t;
    enum vkmoe_status status = vkmoe_trainer_create(ctx, &desc, &t);
    if (!status && !(status = go(t, 2)) && !(status = vkmoe_trainer_evaluate(t, 64, &validation)) &&
        !(status = vkmoe_trainer_save_later(t)) && !(status = go(t, 3)))
        status = vkmoe_trainer_save(t);
    vkmoe_trainer_destroy(t);
    if (status)
        return status;
    status = vkmoe_trainer_create(ctx, &(struct vkmoe_trainer_desc){.data = data, .resume_dir = dir}, &t);
    if (!status && !(status = go(t, STEPS)))
        status = vkmoe_trainer_save(t);
    vkmoe_trainer_destroy(t);
    return status;
}

/* From its newest checkpoint, or from the beginning, to the end. */
static void complete(const char *dir)
{
    char *newest;
    struct vkmoe_trainer_desc desc = describe_run(dir);
    enum vkmoe_status status = VKMOE_OK;
    if (access(dir, F_OK) == 0)
        cr_assert_eq(vkm_run_newest(&test_log, dir, &newest), VKMOE_OK, "%s", seen.last);
    else
        newest = NULL;
    if (newest) {
        cr_expect_eq(vkm_checkpoint_verify(&test_log, newest, VKM_VERIFY_ALL), VKMOE_OK, "%s", seen.last);
        desc = (struct vkmoe_trainer_desc){.data = data, .resume_dir = dir};
    } else {
        remove_all(dir);
    }
    free(newest);
    struct vkmoe_trainer *t = trainer(ctx, &desc);
    if (!(status = go(t, STEPS)))
        status = vkmoe_trainer_save(t);
    cr_assert_eq(status, VKMOE_OK, "%s", seen.last);
    vkmoe_trainer_destroy(t);
}

/* Checksums of weights and moments at the end: "<sum>  model.safetensors..." */
static void sums_of(const char *dir, char sums[2][64])
{
    static const char *const names[] = {"model.safetensors", "optimizer.safetensors"};
    char path[300], *text;
    size_t bytes;
    snprintf(path, sizeof path, "%s/step-%08d/checksums.xxh128", dir, STEPS);
    cr_assert_eq(vkm_file_read(&test_log, path, 1 << 16, &text, &bytes), VKMOE_OK, "%s", seen.last);
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(text, names[i]);
        cr_assert(at && at - text >= 34);
        snprintf(sums[i], 64, "%.34s", at - 34);
    }
    free(text);
}

static void adopt(void)
{
    struct vkmoe_vulkan_desc desc = host_desc(&host, host.needs->liked, true);
    desc.get_instance_proc_addr = fault_instance_proc;
    cr_assert_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
}

/* The nth opportunity fails. false: there are not so many. */
static bool with_fault(const char *dir, long n, char expected[2][64])
{
    char sums[2][64];
    const long before = host.live;
    remove_all(dir);
    seen.errors = 0;
    fault.what = NULL;
    atomic_store(&fault.left, n);
    const enum vkmoe_status status = short_run(dir);
    atomic_store(&fault.left, -1);
    const char *what = fault.what ? fault.what : "none";
    cr_expect(!status || fault.what, "without a fault: %s", seen.last);
    cr_expect_eq(seen.errors, status != VKMOE_OK, "fault %ld, %s, status %d: %u lines, the last \"%s\"", n, what, (int)status,
                 seen.errors, seen.last);
    cr_expect_eq(host.live, before, "fault %ld, %s: %ld Vulkan allocations, %ld before", n, what, host.live, before);
    if (status == VKMOE_ERROR_DEVICE_LOST) {
        vkmoe_context_destroy(ctx);
        adopt();
    }
    complete(dir);
    sums_of(dir, sums);
    for (int i = 0; i < 2; i++)
        cr_expect_str_eq(sums[i], expected[i], "fault %ld, %s: other bits in the end", n, what);
    return fault.what;
}

/* As many faults as VKMOE_FAULTS says, or fifty, evenly spaced; all of them take half an hour. */
static void with_faults(const char *dir, const char *only, char expected[2][64])
{
    const char *wanted = getenv("VKMOE_FAULTS");
    const long sample = wanted && atol(wanted) > 0 ? atol(wanted) : 50;
    long tried = 0;
    fault.only = only;
    remove_all(dir);
    atomic_store(&fault.left, LONG_MAX);
    cr_assert_eq(short_run(dir), VKMOE_OK, "%s", seen.last);
    const long total = LONG_MAX - atomic_load(&fault.left), stride = (total + sample - 1) / sample;
    for (long n = 0; n < total; n += stride)
        tried += with_fault(dir, n, expected);
    fprintf(stderr, "%s: %ld of %ld opportunities failed\n", only ? only : "allocations, Vulkan calls, files, threads", tried, total);
    cr_expect(tried > 20 && total > 1000);
    atomic_store(&fault.left, -1);
    fault.only = NULL;
}

Test(faults_train, nothing_is_lost, .init = scratch_begin, .fini = scratch_end)
{
    char dir[256], expected[2][64];
    json_set_alloc_funcs(json_allocate, free);
    host_begin(&host);
    host_open(&host, host.needs->liked, true);
    fault.get_instance_proc_addr = host.vk.GetInstanceProcAddr;
    data = text();
    adopt();
    strcpy(dir, at("run"));
    cr_assert_eq(short_run(dir), VKMOE_OK, "%s", seen.last); /* now it has its pipelines */
    sums_of(dir, expected);
    with_faults(dir, NULL, expected);
    with_faults(dir, json_malloc, expected);
    vkmoe_context_destroy(ctx);
    vkmoe_data_close(data);
    seen.errors = 0;
    host_end(&host);
}
