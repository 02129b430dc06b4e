#include "train/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    PIECE = 1 << 20,                /* bytes read at a time */
    MAX_MANIFEST = 64 * 1024,       /* bytes; a checkpoint's has a few hundred */
    DIGITS = 32,
};

enum vkmoe_status vkm_checksum_file(const struct vkmoe_log *log, const char *path, struct vkm_checksum *out)
{
    int fd;
    uint64_t bytes, done = 0;
    *out = (struct vkm_checksum){{0}};
    enum vkmoe_status status = vkm_file_open(log, path, &fd, &bytes);
    if (status)
        return status;
    XXH3_state_t *state = XXH3_createState();
    char *piece = malloc(PIECE);
    if (!state || !piece) {
        status = vkm_fail_memory(log);
        goto end;
    }
    XXH3_128bits_reset(state);
    while (done < bytes) {
        const ssize_t got = read(fd, piece, bytes - done < PIECE ? (size_t)(bytes - done) : PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            status = got < 0 ? vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno))
                             : vkm_fail(log, VKMOE_ERROR_FORMAT, "%s became shorter while it was read", path);
            goto end;
        }
        XXH3_128bits_update(state, piece, (size_t)got);
        done += (uint64_t)got;
    }
    const XXH128_hash_t hash = XXH3_128bits_digest(state);
    snprintf(out->text, sizeof out->text, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64, (uint64_t)hash.low64);
end:
    XXH3_freeState(state);
    free(piece);
    close(fd);
    return status;
}

static enum vkmoe_status checksum_in(const struct vkmoe_log *log, const char *dir, const char *name, struct vkm_checksum *out)
{
    char *path = vkm_path_join(dir, name);
    const enum vkmoe_status status = path ? vkm_checksum_file(log, path, out) : vkm_fail_memory(log);
    free(path);
    return status;
}

enum vkmoe_status vkm_manifest_write(const struct vkmoe_log *log, const char *dir, const char *const *names, size_t count)
{
    struct vkm_checksum sum;
    char *path = vkm_path_join(dir, VKM_MANIFEST_FILE), line[DIGITS + 256];
    struct vkm_writer writer = {0};
    enum vkmoe_status status = path ? vkm_writer_begin(log, path, &writer) : vkm_fail_memory(log);
    for (size_t i = 0; i < count && !status; i++) {
        if ((status = checksum_in(log, dir, names[i], &sum)))
            break;
        const int length = snprintf(line, sizeof line, "%s  %s\n", sum.text, names[i]);
        status = vkm_writer_append(&writer, line, (size_t)length);
    }
    if (!status)
        status = vkm_writer_commit(&writer);
    vkm_writer_abort(&writer);
    free(path);
    return status;
}

/* The line "<32 digits>  name" of the manifest; NULL: there is none. */
static const char *find_line(const char *text, const char *name)
{
    const size_t length = strlen(name);
    while (*text) {
        const size_t line = strcspn(text, "\n");
        if (line == DIGITS + 2 + length && memcmp(text + DIGITS, "  ", 2) == 0 && memcmp(text + DIGITS + 2, name, length) == 0)
            return text;
        text += line + (text[line] == '\n');
    }
    return NULL;
}

enum vkmoe_status vkm_manifest_verify(const struct vkmoe_log *log, const char *dir, const char *const *names, size_t count,
                                      bool required)
{
    struct vkm_checksum sum;
    char *path = vkm_path_join(dir, VKM_MANIFEST_FILE), *text = NULL;
    size_t bytes;
    if (!path)
        return vkm_fail_memory(log);
    enum vkmoe_status status = VKMOE_OK;
    if (required || access(path, F_OK) == 0)
        status = vkm_file_read(log, path, MAX_MANIFEST, &text, &bytes);
    for (size_t i = 0; i < count && text && !status; i++) {
        const char *line = find_line(text, names[i]);
        if (!line)
            status = vkm_fail(log, VKMOE_ERROR_FORMAT, "%s: has no checksum of %s; restore a copy of the directory", path,
                              names[i]);
        else if (!(status = checksum_in(log, dir, names[i], &sum)) && memcmp(line, sum.text, DIGITS) != 0)
            status = vkm_fail(log, VKMOE_ERROR_FORMAT, "%s/%s is not as it was saved: its checksum is %s, that in %s %.32s; "
                              "restore a copy, or use another checkpoint", dir, names[i], sum.text, VKM_MANIFEST_FILE, line);
    }
    free(text);
    free(path);
    return status;
}
