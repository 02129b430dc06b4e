/* Devices, contexts, memory, pipelines and the profiler. */
#include "gpu_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- devices and contexts ---- */

Test(gpu, context)
{
    struct vkmoe_context *ctx = open_context();
    const struct vkmoe_device_info *info = vkmoe_context_device(ctx);
    fprintf(stderr, "device: %s (%s), subgroup %u\n", info->name, info->driver, info->subgroup_size);
    cr_expect(info->usable);
    cr_expect_str_empty(info->reason);
    cr_expect_eq(strlen(info->uuid), 36);
    cr_expect_gt(info->memory_bytes, 0);
    cr_expect_geq(ctx->caps.subgroup, 1);
    cr_expect_geq(ctx->caps.max_invocations, 128);
    cr_expect_geq(ctx->caps.max_groups, 65535);
    cr_expect_gt(vkm_memory_available(ctx), 0);
    cr_expect_leq(vkm_memory_available(ctx), info->memory_bytes);
    cr_expect_eq(vkm_wait(ctx, 0), VKMOE_OK);
    close_context(ctx, 0);
    vkmoe_context_destroy(NULL);
}

Test(gpu, devices)
{
    struct vkmoe_context *ctx = open_context();
    struct vkmoe_device_info *infos;
    size_t count;
    cr_assert_eq(vkmoe_devices_list(test_log, &infos, &count), VKMOE_OK, "%s", seen.last);
    cr_assert_gt(count, 0);
    size_t found = 0;
    while (found < count && strcmp(infos[found].uuid, vkmoe_context_device(ctx)->uuid))
        found++;
    cr_assert_lt(found, count);

    /* The same device by its index, UUID and a part of its name in another case. */
    char index[24], part[5] = "";
    snprintf(index, sizeof index, "%zu", found);
    for (int i = 0; i < 4; i++)
        part[i] = infos[found].name[i] ^ (infos[found].name[i] >= 'A' ? 0x20 : 0);
    const char *names[] = {index, infos[found].uuid, part};
    for (int i = 0; i < 3; i++) {
        struct vkmoe_context *same = open_desc((struct vkmoe_context_desc){.device = names[i]});
        cr_expect_str_eq(vkmoe_context_device(same)->name, infos[found].name);
        vkmoe_context_destroy(same);
    }
    vkmoe_devices_free(infos);
    vkmoe_devices_free(NULL);
    close_context(ctx, 0);
}

Test(gpu, unknown_device)
{
    vkmoe_context_destroy(open_context());
    const char *names[] = {"no such device", "4000000000"};
    for (int i = 0; i < 2; i++) {
        struct vkmoe_context_desc desc = {.log = test_log, .device = names[i]};
        struct vkmoe_context *ctx = (void *)&desc;
        seen.errors = 0;
        cr_expect_eq(vkmoe_context_create(&desc, &ctx), VKMOE_ERROR_DEVICE);
        cr_expect_null(ctx);
        cr_expect_eq(seen.errors, 1);
        cr_expect(strstr(seen.last, names[i]) && strstr(seen.last, "there are: 0 "), "%s", seen.last);
    }
}

/* ---- memory ---- */

Test(gpu, arena)
{
    struct vkmoe_context *ctx = open_context();
    struct vkm_arena *a = arena(ctx, VKM_MEMORY_DEVICE);
    struct vkm_buf bufs[5];
    const uint64_t bytes[5] = {4, 257, 1000, 4096, 12};
    for (int i = 0; i < 5; i++)
        vkm_arena_reserve(a, "buffer", bytes[i], &bufs[i]);
    cr_expect_eq(bufs[0].addr, 0);
    cr_expect_eq(ctx->allocated, 0);
    uint64_t used = 256 + 512 + 1024 + 4096 + 256;
    cr_expect_geq(vkm_arena_bytes(a), used + VKM_BLOCK_SLACK);
    cr_expect_leq(vkm_arena_bytes(a), used + VKM_BLOCK_SLACK + VKM_BUF_ALIGN);
    cr_assert_eq(vkm_arena_commit(a), VKMOE_OK, "%s", seen.last);
    for (int i = 0; i < 5; i++) {
        cr_expect_eq(bufs[i].bytes, bytes[i]);
        cr_expect_neq(bufs[i].addr, 0);
        cr_expect_eq(bufs[i].addr % VKM_BUF_ALIGN, 0);
        cr_expect_eq(bufs[i].handle, bufs[0].handle);
        cr_expect(!i || bufs[i].addr >= bufs[i - 1].addr + bytes[i - 1]);
        cr_expect_eq(bufs[i].offset - bufs[0].offset, bufs[i].addr - bufs[0].addr);
    }
    struct vkm_buf slice = vkm_buf_slice(bufs[3], 100, 50);
    cr_expect_eq(slice.addr, bufs[3].addr + 100);
    cr_expect_eq(slice.offset, bufs[3].offset + 100);
    cr_expect_eq(slice.bytes, 50);
    cr_expect_eq(ctx->allocated, vkm_arena_bytes(a));
    vkm_arena_destroy(a);
    vkm_arena_destroy(NULL);
    cr_expect_eq(ctx->allocated, 0);
    close_context(ctx, 0);
}

Test(gpu, arena_splits_blocks)
{
    struct vkmoe_context *ctx = open_context();
    enum { COUNT = 20, BYTES = 300 * 1024 };
    struct vkm_arena *a = arena(ctx, VKM_MEMORY_DEVICE);
    struct vkm_buf bufs[COUNT];
    ctx->caps.max_block = 1024 * 1024;
    for (int i = 0; i < COUNT; i++)
        vkm_arena_reserve(a, "buffer", BYTES, &bufs[i]);
    cr_assert_eq(vkm_arena_commit(a), VKMOE_OK, "%s", seen.last);
    unsigned blocks = 1;
    for (int i = 1; i < COUNT; i++)
        blocks += bufs[i].handle != bufs[i - 1].handle;
    cr_expect_eq(blocks, 7);
    cr_expect_leq(vkm_arena_bytes(a), 7 * ctx->caps.max_block);

    struct vkm_rec *rec = recording(ctx);
    for (uint32_t i = 0; i < COUNT; i++)
        record_fill(ctx, rec, bufs[i], i + 1, (struct vkm_buf){0});
    cr_expect_eq(vkm_rec_barriers(rec), 0);
    run(ctx, rec);
    for (uint32_t i = 0; i < COUNT; i++)
        expect_words(ctx, bufs[i], i + 1);
    vkm_rec_destroy(rec);
    vkm_arena_destroy(a);
    close_context(ctx, 0);
}

Test(gpu, arena_refuses)
{
    struct vkmoe_context *ctx = open_context();
    struct vkm_buf buf, other;

    struct vkm_arena *a = arena(ctx, VKM_MEMORY_DEVICE); /* one buffer past the largest block */
    vkm_arena_reserve(a, "giant", ctx->caps.max_block, &buf);
    cr_expect_eq(vkm_arena_commit(a), VKMOE_ERROR_DEVICE_MEMORY);
    cr_expect(strstr(seen.last, "giant"), "%s", seen.last);
    vkm_arena_destroy(a);

    a = arena(ctx, VKM_MEMORY_DEVICE); /* more than there is, in blocks that are allowed */
    for (uint64_t total = 0; total <= 2 * ctx->info.memory_bytes; total += ctx->caps.max_block / 2)
        vkm_arena_reserve(a, "part", ctx->caps.max_block / 2, &buf);
    cr_expect_eq(vkm_arena_commit(a), VKMOE_ERROR_DEVICE_MEMORY);
    cr_expect(strstr(seen.last, "arena test needs"), "%s", seen.last);
    cr_expect_eq(buf.addr, 0);
    vkm_arena_destroy(a);

    a = arena(ctx, VKM_MEMORY_DEVICE);
    vkm_arena_reserve(a, "none", 0, &buf);
    vkm_arena_reserve(a, "some", 16, &other);
    cr_expect_eq(vkm_arena_commit(a), VKMOE_ERROR_ARGUMENT);
    cr_expect(strstr(seen.last, "none"), "%s", seen.last);
    vkm_arena_destroy(a);
    close_context(ctx, 3);
}

static void roundtrip(struct vkmoe_context *ctx, struct vkm_buf buf, uint64_t bytes)
{
    uint8_t *in = malloc(bytes), *out = calloc(1, bytes + 1);
    for (uint64_t i = 0; i < bytes; i++)
        in[i] = (uint8_t)(i * 31 + i / 251);
    out[bytes] = 0xa5;
    cr_assert_eq(vkm_buf_upload(ctx, buf, in, bytes), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_buf_download(ctx, buf, out, bytes), VKMOE_OK, "%s", seen.last);
    cr_expect(!memcmp(in, out, bytes), "%llu bytes", (unsigned long long)bytes);
    cr_expect_eq(out[bytes], 0xa5);
    free(in);
    free(out);
}

Test(gpu, transfer)
{
    struct vkmoe_context *ctx = open_context();
    struct vkm_arena *a = arena(ctx, VKM_MEMORY_DEVICE);
    struct vkm_buf buf;
    const uint64_t mib = 1024 * 1024, sizes[] = {1, 3, 255, 4097, 32 * mib, 32 * mib + 1, 70 * mib + 13};
    vkm_arena_reserve(a, "buffer", 70 * mib + 13, &buf);
    cr_assert_eq(vkm_arena_commit(a), VKMOE_OK, "%s", seen.last);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct vkm_buf unmapped = buf;
        unmapped.host = NULL;
        roundtrip(ctx, buf, sizes[i]);
        roundtrip(ctx, unmapped, sizes[i]); /* through staging, also on devices that map everything */
    }
    cr_expect_eq(vkm_buf_upload(ctx, buf, NULL, 0), VKMOE_OK);
    vkm_arena_destroy(a);
    close_context(ctx, 0);
}

Test(gpu, host_memory)
{
    struct vkmoe_context *ctx = open_context();
    struct vkm_arena *up = arena(ctx, VKM_MEMORY_UPLOAD), *back = arena(ctx, VKM_MEMORY_READBACK);
    struct vkm_buf src, dst;
    vkm_arena_reserve(up, "src", 1000, &src);
    vkm_arena_reserve(back, "dst", 1000, &dst);
    cr_assert_eq(vkm_arena_commit(up), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_arena_commit(back), VKMOE_OK, "%s", seen.last);
    cr_assert_not_null(src.host);
    cr_assert_not_null(dst.host);
    struct vkm_rec *rec = recording(ctx);
    vkm_rec_copy(rec, dst, src);
    memset(src.host, 0x11, 1000);
    run(ctx, rec);
    cr_expect(!memcmp(src.host, dst.host, 1000));
    memset(src.host, 0x22, 1000);
    uint64_t ticket;
    cr_assert_eq(vkm_rec_submit(rec, &ticket), VKMOE_OK);
    cr_assert_eq(vkm_wait(ctx, ticket), VKMOE_OK);
    cr_expect(!memcmp(src.host, dst.host, 1000));
    vkm_rec_destroy(rec);
    vkm_arena_destroy(up);
    vkm_arena_destroy(back);
    close_context(ctx, 0);
}

/* ---- pipelines and their file ---- */

static char dir[256];

/* Skips before anything is made where there is no device. */
static void make_dir(void)
{
    const char *base = getenv("TMPDIR");
    vkmoe_context_destroy(open_context());
    snprintf(dir, sizeof dir, "%.200s/vkmoe-test-XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
}

/* Path of the only file in dir/sub, or "" */
static void only_file(char *path, size_t bytes)
{
    char sub[300];
    snprintf(sub, sizeof sub, "%s/sub", dir);
    DIR *d = opendir(sub);
    *path = '\0';
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        cr_expect_str_empty(path, "more than one file");
        snprintf(path, bytes, "%s/%s", sub, entry->d_name);
    }
    if (d)
        closedir(d);
}

static void remove_dir(void)
{
    char path[600], sub[300];
    only_file(path, sizeof path);
    snprintf(sub, sizeof sub, "%s/sub", dir);
    remove(path);
    rmdir(sub);
    cr_expect_eq(rmdir(dir), 0);
}

/* Compiles two pipelines with the cache in `where` and uses one. */
static void use_pipelines(const char *where)
{
    struct vkmoe_context *ctx = open_desc((struct vkmoe_context_desc){.cache_dir = where});
    struct vkm_pipeline first, again, other;
    const uint32_t spec[] = {64, 128};
    cr_assert_eq(vkm_pipeline_get(ctx, VKM_KERNEL_FILL, &spec[0], 1, 0, &first), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_pipeline_get(ctx, VKM_KERNEL_FILL, &spec[1], 1, 0, &other), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_pipeline_get(ctx, VKM_KERNEL_FILL, &spec[0], 1, 0, &again), VKMOE_OK, "%s", seen.last);
    cr_expect_eq(first.handle, again.handle);
    cr_expect_neq(first.handle, other.handle);
    struct three t = three(ctx, 4096);
    struct vkm_rec *rec = recording(ctx);
    record_fill(ctx, rec, t.a, 5, (struct vkm_buf){0});
    run(ctx, rec);
    expect_words(ctx, t.a, 5);
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);
}

static long file_bytes(const char *path)
{
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    fclose(file);
    return bytes;
}

static void set_byte(const char *path, long at, int value)
{
    FILE *file = fopen(path, "r+b");
    fseek(file, at, SEEK_SET);
    fputc(value, file);
    fclose(file);
}

static int get_byte(const char *path, long at)
{
    FILE *file = fopen(path, "rb");
    fseek(file, at, SEEK_SET);
    int value = fgetc(file);
    fclose(file);
    return value;
}

Test(gpu, pipeline_file)
{
    char path[600], sub[300];
    make_dir();
    snprintf(sub, sizeof sub, "%s/sub", dir);
    use_pipelines(sub); /* created, with its directory */
    only_file(path, sizeof path);
    cr_assert(*path);
    long bytes = file_bytes(path);
    use_pipelines(sub); /* read */

    for (int damage = 0; damage < 6; damage++) {
        switch (damage) {
        case 0: set_byte(path, bytes - 1, get_byte(path, bytes - 1) ^ 0x10); break;
        case 1: set_byte(path, 3, '?'); break;
        case 2: set_byte(path, 30, 0x7f); break; /* a size that is not there */
        case 3: cr_assert_eq(truncate(path, bytes / 2), 0); break;
        case 4: cr_assert_eq(truncate(path, 0), 0); break;
        case 5: set_byte(path, file_bytes(path), 1); break; /* one byte more */
        }
        struct stat before, after;
        stat(path, &before);
        use_pipelines(sub);
        stat(path, &after);
        cr_expect_neq(before.st_ino, after.st_ino, "damage %d: the file was not replaced", damage);
    }
    cr_expect_eq(seen.warnings, 0, "%s", seen.last);
    remove_dir();
}

Test(gpu, pipeline_file_cannot_be_written)
{
    char path[300];
    make_dir();
    snprintf(path, sizeof path, "%s/sub", dir);
    FILE *file = fopen(path, "w"); /* a file where the directory should be */
    fclose(file);
    use_pipelines(path);
    cr_expect_eq(seen.warnings, 1);
    cr_expect(strstr(seen.last, "cannot keep compiled pipelines"), "%s", seen.last);
    remove(path);
    cr_expect_eq(rmdir(dir), 0);
}

/* ---- profiler ---- */

Test(gpu, profile)
{
    char path[300], text[20000] = "";
    make_dir();
    snprintf(path, sizeof path, "%s/trace.json", dir);
    struct vkmoe_context *ctx = open_desc((struct vkmoe_context_desc){.profile_path = path});
    struct three t = three(ctx, 40000);
    struct vkm_rec *rec = recording(ctx);
    vkm_rec_push(rec, "layer 1");
    record_fill(ctx, rec, t.a, 1, (struct vkm_buf){0});
    vkm_rec_copy(rec, t.b, t.a);
    vkm_rec_pop(rec);
    run(ctx, rec);
    cr_assert_eq(vkm_rec_submit(rec, NULL), VKMOE_OK, "%s", seen.last);
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);

    cr_expect(strstr(seen.all, "test.fill") && strstr(seen.all, "copy"), "%s", seen.all);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    cr_assert_gt(fread(text, 1, sizeof text - 1, file), 0);
    fclose(file);
    unsigned events = 0;
    for (const char *at = text; (at = strstr(at, "\"ph\":\"X\"")); at++)
        events++;
    cr_expect_eq(events, 4);
    cr_expect(strstr(text, "\"layer 1/test.fill\""));
    cr_expect(strstr(text, "\"traceEvents\""));
    remove(path);
    cr_expect_eq(rmdir(dir), 0);
}

Test(gpu, profile_cannot_be_written)
{
    vkmoe_context_destroy(open_context());
    struct vkmoe_context_desc desc = {.log = test_log, .profile_path = "/nonexistent directory/trace.json"};
    struct vkmoe_context *ctx;
    seen.errors = 0;
    cr_expect_eq(vkmoe_context_create(&desc, &ctx), VKMOE_ERROR_IO);
    cr_expect_null(ctx);
    cr_expect_eq(seen.errors, 1);
}
