/* The messages are protocol buffers, encoded here by hand: one message of four fields does not warrant a dependency.
 *     Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
 *     Summary { repeated Value value = 1; }     Value { string tag = 1; float simple_value = 2; }
 * Each lies in a TFRecord: length (u64), masked CRC of the length (u32), message, masked CRC of the message (u32); little
 * endian. */
#include "train/tensorboard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

enum { MAX_TAG = 200, MAX_VALUE = MAX_TAG + 16, MAX_EVENT = MAX_VALUE + 64 };

struct vkm_tensorboard {
    const struct vkmoe_log *log;
    char *path;
    FILE *file;
};

/* ---- encoding ---- */

struct bytes {
    unsigned char data[MAX_EVENT];
    size_t count;
};

static void put_little(struct bytes *to, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        to->data[to->count++] = (unsigned char)(value >> 8 * i);
}

static void put_varint(struct bytes *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        to->data[to->count++] = (unsigned char)(value | 0x80);
    to->data[to->count++] = (unsigned char)value;
}

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(struct bytes *to, unsigned field, enum wire wire)
{
    put_varint(to, field << 3 | (unsigned)wire);
}

static void put_bytes(struct bytes *to, unsigned field, const void *data, size_t count)
{
    put_key(to, field, BYTES);
    put_varint(to, count);
    memcpy(to->data + to->count, data, count);
    to->count += count;
}

static struct bytes begin_event(void)
{
    struct bytes event = {.count = 0};
    struct timespec now = {0};
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    memcpy(&bits, &seconds, sizeof bits);
    put_key(&event, 1, FIXED64);
    put_little(&event, bits, 8);
    return event;
}

/* CRC-32C (Castagnoli), a bit a time: the records of a step are short. */
static uint32_t crc32c(const unsigned char *data, size_t count)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/* A CRC that is stored beside what it covers is rotated and offset, so that a CRC over both is not degenerate. */
static uint32_t masked_crc(const unsigned char *data, size_t count)
{
    uint32_t crc = crc32c(data, count);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---- the file ---- */

static enum vkmoe_status failed(struct vkm_tensorboard *tb)
{
    return vkm_fail(tb->log, VKMOE_ERROR_IO, "cannot write %s: %s", tb->path, strerror(errno));
}

static enum vkmoe_status write_record(struct vkm_tensorboard *tb, const struct bytes *event)
{
    struct bytes head = {.count = 0}, tail = {.count = 0};
    put_little(&head, event->count, 8);
    put_little(&head, masked_crc(head.data, 8), 4);
    put_little(&tail, masked_crc(event->data, event->count), 4);
    bool written = fwrite(head.data, 1, head.count, tb->file) == head.count &&
                   fwrite(event->data, 1, event->count, tb->file) == event->count &&
                   fwrite(tail.data, 1, tail.count, tb->file) == tail.count;
    return written ? VKMOE_OK : failed(tb);
}

/* A name that is taken (by a run resumed within the second) gives way to the next second's. */
static enum vkmoe_status create(struct vkm_tensorboard *tb, const char *dir)
{
    char host[64] = "", name[160];
    int64_t second = (int64_t)time(NULL);
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0' || strchr(host, '/'))
        strcpy(host, "localhost");
    do {
        free(tb->path);
        snprintf(name, sizeof name, "events.out.tfevents.%" PRId64 ".%s.%ld", second++, host, (long)getpid());
        tb->path = vkm_path_join(dir, name);
        if (!tb->path)
            return vkm_fail_memory(tb->log);
        tb->file = fopen(tb->path, "wbx");
    } while (!tb->file && errno == EEXIST);
    return tb->file ? VKMOE_OK : failed(tb);
}

enum vkmoe_status vkm_tensorboard_open(const struct vkmoe_log *log, const char *dir, struct vkm_tensorboard **out)
{
    static const char version[] = "brain.Event:2";
    struct vkm_tensorboard *tb = calloc(1, sizeof *tb);
    *out = NULL;
    if (!tb)
        return vkm_fail_memory(log);
    tb->log = log;
    enum vkmoe_status status = create(tb, dir);
    if (status == VKMOE_OK) {
        struct bytes event = begin_event();
        put_bytes(&event, 3, version, sizeof version - 1);
        status = write_record(tb, &event);
    }
    if (status == VKMOE_OK)
        status = vkm_tensorboard_flush(tb);
    if (status == VKMOE_OK)
        *out = tb;
    else
        vkm_tensorboard_close(tb);
    return status;
}

enum vkmoe_status vkm_tensorboard_scalar(struct vkm_tensorboard *tb, const char *tag, uint64_t step, double value)
{
    struct bytes event = begin_event(), point = {.count = 0}, summary = {.count = 0};
    size_t length = strlen(tag);
    float single = (float)value;
    uint32_t bits;
    if (length > MAX_TAG)
        return vkm_fail(tb->log, VKMOE_ERROR_ARGUMENT, "tag \"%s\" has more than %d bytes; choose a shorter one", tag,
                        MAX_TAG);
    memcpy(&bits, &single, sizeof bits);
    put_bytes(&point, 1, tag, length);
    put_key(&point, 2, FIXED32);
    put_little(&point, bits, 4);
    put_bytes(&summary, 1, point.data, point.count);
    put_key(&event, 2, VARINT);
    put_varint(&event, step);
    put_bytes(&event, 5, summary.data, summary.count);
    return write_record(tb, &event);
}

enum vkmoe_status vkm_tensorboard_flush(struct vkm_tensorboard *tb)
{
    return fflush(tb->file) == 0 ? VKMOE_OK : failed(tb);
}

void vkm_tensorboard_close(struct vkm_tensorboard *tb)
{
    if (!tb)
        return;
    if (tb->file)
        fclose(tb->file);
    free(tb->path);
    free(tb);
}
