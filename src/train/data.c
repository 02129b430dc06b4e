#include "train/data.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "base/utf8.h"

/* A growing run of tokens. */
struct text {
    uint16_t *tokens;
    uint64_t count, capacity;
};

struct split {
    const uint16_t *tokens;
    uint64_t count, bytes;
};

struct vkmoe_data {
    struct vkmoe_log log;
    struct text train, valid;       /* what was read from the paths */
    struct split splits[3];         /* by enum vkm_split */
    struct vkmoe_data_info info;
    uint64_t fingerprint;
};

/* ---- reading ------------------------------------------------------------------------------------------------- */

struct reader {
    struct vkmoe_data *data;
    struct text *text;
    json_t *seen;                   /* directories of the current path, as keys: a loop of links ends here */
    unsigned char *piece;           /* [PIECE] */
};
enum { PIECE = 256 * 1024 };

static const char marker[] = "<|endoftext|>";
enum { MARKER = sizeof marker - 1 };

static bool reserve(struct text *text, uint64_t more)
{
    if (more <= text->capacity - text->count)
        return true;
    uint64_t capacity = text->count + more + text->capacity / 2;
    if (capacity > SIZE_MAX / sizeof *text->tokens)
        return false;
    uint16_t *grown = realloc(text->tokens, (size_t)capacity * sizeof *grown);
    if (!grown)
        return false;
    text->tokens = grown;
    text->capacity = capacity;
    return true;
}

/* Whether the tokens from `line` on, without a line break, are the marker. */
static bool is_marker(const struct text *text, uint64_t line)
{
    if (text->count - line != MARKER)
        return false;
    for (size_t i = 0; i < MARKER; i++) {
        if (text->tokens[line + i] != (unsigned char)marker[i])
            return false;
    }
    return true;
}

static void end_text(struct text *text, uint64_t line)
{
    text->count = line;
    text->tokens[text->count++] = VKMOE_TOKEN_END_OF_TEXT;
}

/* Appends bytes; *line is where the current line begins. There is room. */
static void append(struct text *text, const unsigned char *bytes, size_t count, uint64_t *line)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            uint64_t end = text->count;
            if (end > *line && text->tokens[end - 1] == '\r')
                text->count--;
            if (is_marker(text, *line)) {
                end_text(text, *line);
            } else {
                text->count = end;
                text->tokens[text->count++] = '\n';
            }
            *line = text->count;
        } else {
            text->tokens[text->count++] = bytes[i];
        }
    }
}

struct verdict {
    bool text;
    uint64_t offset;                /* of the first byte that is not text */
};

/* Appends the file's tokens. Where it is not text, verdict says so and the status is VKMOE_OK. */
static enum vkmoe_status read_bytes(struct reader *in, const char *path, int fd, struct verdict *verdict)
{
    struct text *text = in->text;
    struct vkm_utf8 state = {0};
    uint64_t line = text->count;
    *verdict = (struct verdict){.text = true};
    for (;;) {
        ssize_t got = read(fd, in->piece, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return vkm_fail(&in->data->log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            break;
        size_t count = (size_t)got, good = vkm_utf8_check(&state, in->piece, count);
        const unsigned char *zero = memchr(in->piece, 0, good);
        if (zero)
            good = (size_t)(zero - in->piece);
        verdict->offset += good;
        if (good < count) {
            verdict->text = false;
            return VKMOE_OK;
        }
        if (!reserve(text, count))
            return vkm_fail_memory(&in->data->log);
        append(text, in->piece, count, &line);
    }
    verdict->text = state.due == 0;
    if (is_marker(text, line))
        end_text(text, line);
    return VKMOE_OK;
}

/* Reads one file. `named`: the user gave this very path, so it has to be text. */
static enum vkmoe_status read_file(struct reader *in, const char *path, bool named)
{
    const struct vkmoe_log *log = &in->data->log;
    struct text *text = in->text;
    uint64_t before = text->count, bytes, first;
    struct verdict verdict;
    int fd;
    enum vkmoe_status status = vkm_file_open(log, path, &fd, &bytes);
    if (status != VKMOE_OK)
        return status;
    /* A file's size is no reason to allocate by it: it may be a hole, or no text. Most files are read in one piece. */
    first = bytes < PIECE ? bytes : PIECE;
    if (!reserve(text, first + 1)) {
        close(fd);
        return vkm_fail_memory(log);
    }
    if (before > 0 && text->tokens[before - 1] != VKMOE_TOKEN_END_OF_TEXT)
        text->tokens[text->count++] = VKMOE_TOKEN_END_OF_TEXT;
    uint64_t start = text->count;
    status = read_bytes(in, path, fd, &verdict);
    close(fd);
    if (status != VKMOE_OK)
        return status;
    if (verdict.text && text->count > start) {
        in->data->info.files++;
        return VKMOE_OK;
    }
    text->count = before;
    if (!named) {
        in->data->info.files_skipped++;
        return VKMOE_OK;
    }
    if (verdict.text)
        return vkm_fail(log, VKMOE_ERROR_FORMAT, "%s is empty; give a file with text", path);
    return vkm_fail(log, VKMOE_ERROR_FORMAT,
                    "%s is not UTF-8 text (at byte offset %" PRIu64 "); "
                    "if it is text in another encoding, convert it with: iconv -f ENCODING -t UTF-8",
                    path, verdict.offset);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Not alphasort: its order depends on the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Notes a directory; false where it was there already (or there is no memory: *status). */
static bool first_visit(struct reader *in, const struct stat *info, enum vkmoe_status *status)
{
    char key[64];
    snprintf(key, sizeof key, "%ju:%ju", (uintmax_t)info->st_dev, (uintmax_t)info->st_ino);
    if (json_object_get(in->seen, key))
        return false;
    if (json_object_set_new(in->seen, key, json_true()) == 0)
        return true;
    *status = vkm_fail_memory(&in->data->log);
    return false;
}

static enum vkmoe_status read_entry(struct reader *in, const char *path);

static enum vkmoe_status read_directory(struct reader *in, const char *path, const struct stat *info)
{
    const struct vkmoe_log *log = &in->data->log;
    enum vkmoe_status status = VKMOE_OK;
    struct dirent **entries;
    if (!first_visit(in, info, &status))
        return status;
    int count = scandir(path, &entries, visible, by_name);
    if (count < 0)
        return vkm_fail(log, VKMOE_ERROR_IO, "cannot read directory %s: %s", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        char *child = status == VKMOE_OK ? vkm_path_join(path, entries[i]->d_name) : NULL;
        if (child)
            status = read_entry(in, child);
        else if (status == VKMOE_OK)
            status = vkm_fail_memory(log);
        free(child);
        free(entries[i]);
    }
    free(entries);
    return status;
}

/* Something that was found in a directory. */
static enum vkmoe_status read_entry(struct reader *in, const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return read_directory(in, path, &info);
        if (S_ISREG(info.st_mode))
            return read_file(in, path, false);
    } else if (errno != ENOENT && errno != ELOOP) { /* those two: a link to nowhere */
        return vkm_fail(&in->data->log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    }
    in->data->info.files_skipped++;
    return VKMOE_OK;
}

/* A path that the user gave. */
static enum vkmoe_status read_path(struct reader *in, const char *path)
{
    const struct vkmoe_log *log = &in->data->log;
    struct stat info;
    uint64_t files = in->data->info.files;
    if (!path || !*path)
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "a path of text is empty; give a file or a directory");
    if (stat(path, &info) != 0)
        return vkm_fail(log, VKMOE_ERROR_IO, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return read_file(in, path, true);
    json_object_clear(in->seen);
    enum vkmoe_status status = read_directory(in, path, &info);
    if (status == VKMOE_OK && in->data->info.files == files)
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT,
                        "%s holds no file of UTF-8 text; give a directory with text, or a file", path);
    return status;
}

static enum vkmoe_status read_paths(struct reader *in, const char *const *paths, size_t count, struct text *text)
{
    enum vkmoe_status status = VKMOE_OK;
    in->text = text;
    for (size_t i = 0; i < count && status == VKMOE_OK; i++)
        status = read_path(in, paths[i]);
    return status;
}

static struct split make_split(const uint16_t *tokens, uint64_t count)
{
    struct split split = {.tokens = tokens, .count = count};
    for (uint64_t i = 0; i < count; i++)
        split.bytes += tokens[i] != VKMOE_TOKEN_END_OF_TEXT;
    return split;
}

/* Multiply and xor-shift, four tokens a time (60 MB of text take less than 0.1 s); the multiplier is that of the 64-bit
 * golden ratio. The order of bytes in memory does not enter. */
static uint64_t hash(uint64_t state, uint64_t word)
{
    state = (state ^ word) * 0x9E3779B97F4A7C15u;
    return state ^ state >> 32;
}

static uint64_t hash_split(uint64_t state, const struct split *split)
{
    const uint16_t *t = split->tokens;
    uint64_t i = 0;
    state = hash(state, split->count);
    for (; i + 4 <= split->count; i += 4)
        state = hash(state, (uint64_t)t[i] | (uint64_t)t[i + 1] << 16 | (uint64_t)t[i + 2] << 32 |
                                (uint64_t)t[i + 3] << 48);
    for (; i < split->count; i++)
        state = hash(state, t[i]);
    return state;
}

enum vkmoe_status vkmoe_data_open(const struct vkmoe_data_desc *desc, struct vkmoe_data **out)
{
    struct reader in = {0};
    enum vkmoe_status status = VKMOE_ERROR_ARGUMENT;
    *out = NULL;
    if (!desc)
        return status;
    if (desc->train_count + desc->valid_count == 0)
        return vkm_fail(&desc->log, status, "no text was given; name a file or a directory");
    in.data = calloc(1, sizeof *in.data);
    in.seen = json_object();
    in.piece = malloc(PIECE);
    if (!in.data || !in.seen || !in.piece) {
        status = vkm_fail_memory(&desc->log);
        goto fail;
    }
    struct vkmoe_data *data = in.data;
    data->log = desc->log;
    status = read_paths(&in, desc->train, desc->train_count, &data->train);
    if (status == VKMOE_OK)
        status = read_paths(&in, desc->valid, desc->valid_count, &data->valid);
    if (status != VKMOE_OK)
        goto fail;

    uint64_t held_out = desc->valid_count > 0 ? 0 : data->train.count / 10, kept = data->train.count - held_out;
    data->splits[VKM_SPLIT_ALL] = make_split(data->train.tokens, data->train.count);
    data->splits[VKM_SPLIT_TRAIN] = make_split(data->train.tokens, kept);
    data->splits[VKM_SPLIT_VALID] = desc->valid_count > 0 ? make_split(data->valid.tokens, data->valid.count)
                                                          : make_split(data->train.tokens + kept, held_out);
    data->info.train_tokens = data->splits[VKM_SPLIT_TRAIN].count;
    data->info.valid_tokens = data->splits[VKM_SPLIT_VALID].count;
    data->fingerprint = hash_split(hash_split(0, &data->splits[VKM_SPLIT_TRAIN]), &data->splits[VKM_SPLIT_VALID]);
    *out = data;
    in.data = NULL;
fail:
    vkmoe_data_close(in.data);
    json_decref(in.seen);
    free(in.piece);
    return status;
}

void vkmoe_data_close(struct vkmoe_data *data)
{
    if (!data)
        return;
    free(data->train.tokens);
    free(data->valid.tokens);
    free(data);
}

struct vkmoe_data_info vkmoe_data_info(const struct vkmoe_data *data)
{
    return data->info;
}

/* ---- windows ------------------------------------------------------------------------------------------------- */

uint64_t vkm_data_tokens(const struct vkmoe_data *data, enum vkm_split split)
{
    return data->splits[split].count;
}

uint64_t vkm_data_bytes(const struct vkmoe_data *data, enum vkm_split split)
{
    return data->splits[split].bytes;
}

uint64_t vkm_data_fingerprint(const struct vkmoe_data *data)
{
    return data->fingerprint;
}

enum vkmoe_status vkm_data_check(const struct vkmoe_data *data, uint32_t seq)
{
    uint64_t train = data->info.train_tokens, valid = data->info.valid_tokens;
    if (train <= seq)
        return vkm_fail(&data->log, VKMOE_ERROR_ARGUMENT,
                        "the training text has %" PRIu64 " tokens, but seq (%u) needs at least %" PRIu64
                        "; give more text or a smaller seq", train, seq, (uint64_t)seq + 1);
    if (valid < 2)
        return vkm_fail(&data->log, VKMOE_ERROR_ARGUMENT,
                        "the validation text has %" PRIu64 " tokens and needs at least 2; give more text", valid);
    return VKMOE_OK;
}

void vkm_data_sample(const struct vkmoe_data *data, uint64_t seed, uint64_t first, uint32_t count, uint32_t seq,
                     uint32_t *tokens, uint32_t *targets)
{
    const struct split *s = &data->splits[VKM_SPLIT_TRAIN];
    for (uint32_t w = 0; w < count; w++) {
        const uint16_t *from = s->tokens + vkm_rng_below(seed, VKM_STREAM_DATA, first + w, s->count - seq);
        for (uint32_t i = 0; i < seq; i++) {
            *tokens++ = from[i];
            *targets++ = from[i + 1];
        }
    }
}

uint64_t vkm_data_windows(const struct vkmoe_data *data, enum vkm_split split, uint32_t seq)
{
    uint64_t count = data->splits[split].count;
    return count < 2 ? 0 : (count - 2) / seq + 1;
}

uint32_t vkm_data_window(const struct vkmoe_data *data, enum vkm_split split, uint64_t index, uint32_t seq,
                         uint32_t *tokens, uint32_t *targets)
{
    const struct split *s = &data->splits[split];
    uint64_t windows = vkm_data_windows(data, split, seq), first = windows ? index % windows * seq : 0;
    uint32_t real = 0;
    for (uint32_t i = 0; i < seq; i++) {
        uint64_t at = first + i;
        bool predicts = index < windows && at + 1 < s->count;
        tokens[i] = s->count ? s->tokens[at % s->count] : 0;
        targets[i] = predicts ? s->tokens[at + 1] : VKM_TARGET_NONE;
        real += predicts;
    }
    return real;
}
