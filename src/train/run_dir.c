#include "train/run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"

enum { NAME = 40 };                 /* bytes of a name in the directory */

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void checkpoint_name(char name[NAME], uint64_t step)
{
    snprintf(name, NAME, "step-%08" PRIu64, step);
}

/* Whether the name is a checkpoint's, and of which step; rest: what follows the number. */
static bool parse_name(const char *name, uint64_t *step, const char **rest)
{
    char *end;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return false;
    errno = 0;
    *step = strtoull(name + 5, &end, 10);
    *rest = end;
    return errno == 0;
}

char *vkm_run_checkpoint(const char *dir, uint64_t step)
{
    char name[NAME];
    checkpoint_name(name, step);
    return vkm_path_join(dir, name);
}

static char *with_suffix(const char *path, const char *suffix)
{
    const size_t head = strlen(path), tail = strlen(suffix);
    char *out = malloc(head + tail + 1);
    if (out) {
        memcpy(out, path, head);
        memcpy(out + head, suffix, tail + 1);
    }
    return out;
}

static int descending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Steps of the checkpoints there, newest first, the caller's to free. */
static enum vkmoe_status list_steps(const struct vkmoe_log *log, const char *dir, uint64_t **steps, size_t *count)
{
    size_t capacity = 0;
    uint64_t step;
    const char *rest;
    *steps = NULL;
    *count = 0;
    DIR *stream = opendir(dir);
    if (!stream)
        return vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", dir, strerror(errno));
    for (const struct dirent *item; (item = readdir(stream));) {
        if (!parse_name(item->d_name, &step, &rest) || *rest)
            continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            uint64_t *more = realloc(*steps, capacity * sizeof **steps);
            if (!more) {
                closedir(stream);
                free(*steps);
                *steps = NULL;
                return vkm_fail_memory(log);
            }
            *steps = more;
        }
        (*steps)[(*count)++] = step;
    }
    closedir(stream);
    if (*count)
        qsort(*steps, *count, sizeof **steps, descending);
    return VKMOE_OK;
}

enum vkmoe_status vkm_run_newest(const struct vkmoe_log *log, const char *dir, char **path)
{
    uint64_t *steps;
    size_t count;
    *path = NULL;
    enum vkmoe_status status = list_steps(log, dir, &steps, &count);
    if (!status && count && !(*path = vkm_run_checkpoint(dir, steps[0])))
        status = vkm_fail_memory(log);
    free(steps);
    return status;
}

enum vkmoe_status vkmoe_checkpoint_find(struct vkmoe_log log, const char *dir, char **path)
{
    char *config = vkm_path_join(dir, "config.json"), *trainer = vkm_path_join(dir, "trainer.json");
    const bool model = config && trainer && (access(config, F_OK) == 0 || access(trainer, F_OK) == 0);
    const bool fine = config && trainer;
    *path = NULL;
    free(config);
    free(trainer);
    if (!fine)
        return vkm_fail_memory(&log);
    if (model)
        return (*path = vkm_path_join("", dir)) ? VKMOE_OK : vkm_fail_memory(&log);
    enum vkmoe_status status = vkm_run_newest(&log, dir, path);
    if (!status && !*path)
        status = vkm_fail(&log, VKMOE_ERROR_IO, "%s holds no model (config.json) and no checkpoint (step-...); give the directory "
                          "of a run or of a model", dir);
    return status;
}

void vkmoe_text_free(char *text)
{
    free(text);
}

/* ---- the lock ---------------------------------------------------------------------------------------------------- */

/* Removes what was being written or removed when a process was killed. */
static enum vkmoe_status clear_remains(const struct vkmoe_log *log, const char *dir)
{
    enum vkmoe_status status = VKMOE_OK;
    uint64_t step;
    const char *rest;
    DIR *stream = opendir(dir);
    if (!stream)
        return vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", dir, strerror(errno));
    for (const struct dirent *item; !status && (item = readdir(stream));) {
        if (!parse_name(item->d_name, &step, &rest) || strcmp(rest, ".tmp") != 0)
            continue;
        char *path = vkm_path_join(dir, item->d_name);
        status = path ? vkm_dir_remove(log, path) : vkm_fail_memory(log);
        free(path);
    }
    closedir(stream);
    return status;
}

static enum vkmoe_status refuse_second(const struct vkmoe_log *log, const char *dir, int fd)
{
    char owner[16] = "";
    const ssize_t got = pread(fd, owner, sizeof owner - 1, 0);
    owner[got > 0 ? strspn(owner, "0123456789") : 0] = '\0';
    return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "%s: a run is being trained there%s%s; wait for its end, or use another directory",
                    dir, *owner ? " by process " : "", owner);
}

enum vkmoe_status vkm_run_lock(const struct vkmoe_log *log, const char *dir, int *fd)
{
    enum vkmoe_status status = VKMOE_OK;
    char owner[16];
    *fd = -1;
    char *path = vkm_path_join(dir, ".lock");
    if (!path)
        return vkm_fail_memory(log);
    const int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (opened < 0)
        status = vkm_fail(log, VKMOE_ERROR_IO, "cannot write %s: %s; choose another directory", path, strerror(errno));
    free(path);
    if (status)
        return status;
    if (flock(opened, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            status = refuse_second(log, dir, opened);
        else
            vkm_log(log, VKMOE_LOG_WARNING, "%s cannot be locked (%s): let only one process train there", dir, strerror(errno));
        close(opened);
        return status ? status : clear_remains(log, dir);
    }
    const int length = snprintf(owner, sizeof owner, "%ld\n", (long)getpid());
    if (ftruncate(opened, 0) != 0 || pwrite(opened, owner, (size_t)length, 0) != length)
        vkm_log(log, VKMOE_LOG_DEBUG, "%s: the lock is held without its owner's number: %s", dir, strerror(errno));
    *fd = opened;
    return clear_remains(log, dir);
}

void vkm_run_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

/* dir/name -> the checkpoint, replaced in one step. A file system without links goes without. */
static enum vkmoe_status set_link(const struct vkmoe_log *log, const char *dir, const char *name, uint64_t step)
{
    char target[NAME];
    checkpoint_name(target, step);
    char *path = vkm_path_join(dir, name), *temporary = path ? with_suffix(path, ".tmp") : NULL;
    enum vkmoe_status status = VKMOE_OK;
    if (!temporary) {
        status = vkm_fail_memory(log);
    } else if ((unlink(temporary) != 0 && errno != ENOENT) || symlink(target, temporary) != 0) {
        if (errno != EPERM && errno != ENOTSUP && errno != EOPNOTSUPP && errno != ENOSYS)
            status = vkm_fail(log, VKMOE_ERROR_IO, "cannot write %s: %s", path, strerror(errno));
    } else {
        status = vkm_file_rename(log, temporary, path);
    }
    free(temporary);
    free(path);
    return status;
}

/* By way of another name, so that a checkpoint is whole or not there. */
static enum vkmoe_status remove_checkpoint(const struct vkmoe_log *log, const char *dir, uint64_t step)
{
    char *path = vkm_run_checkpoint(dir, step), *temporary = path ? with_suffix(path, ".tmp") : NULL;
    enum vkmoe_status status = temporary ? vkm_file_rename(log, path, temporary) : vkm_fail_memory(log);
    if (!status)
        status = vkm_dir_remove(log, temporary);
    free(temporary);
    free(path);
    return status;
}

static enum vkmoe_status remove_old(const struct vkmoe_log *log, const char *dir, uint32_t keep, uint64_t best)
{
    uint64_t *steps;
    size_t count;
    enum vkmoe_status status = list_steps(log, dir, &steps, &count);
    for (size_t i = keep; i < count && !status; i++)
        if (steps[i] != best)
            status = remove_checkpoint(log, dir, steps[i]);
    free(steps);
    return status;
}

enum vkmoe_status vkm_run_save(const struct vkmoe_log *log, const char *dir, const struct vkmoe_model_config *model,
                               const struct vkmoe_train_config *train, const struct vkm_run_state *state,
                               const struct vkm_params *params, vkm_fetch_fn fetch, void *user)
{
    char *path = vkm_run_checkpoint(dir, state->step), *temporary = path ? with_suffix(path, ".tmp") : NULL;
    enum vkmoe_status status = temporary ? vkm_dir_remove(log, temporary) : vkm_fail_memory(log);
    if (status)
        goto end;
    if ((status = vkm_checkpoint_save(log, temporary, model, train, state, params, fetch, user)) ||
        (status = vkm_file_rename(log, temporary, path))) {
        const struct vkmoe_log silent = {0};
        vkm_dir_remove(&silent, temporary); /* what cannot be removed now is by the next process that locks */
        goto end;
    }
    if (!(status = set_link(log, dir, "latest", state->step)) &&
        (!state->best_step || !(status = set_link(log, dir, "best", state->best_step))))
        status = remove_old(log, dir, train->keep, state->best_step);
end:
    free(temporary);
    free(path);
    return status;
}
