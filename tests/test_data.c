/* Text to tokens and tokens to windows. */
#include "scratch.h"
#include "train/data.h"

#include <jansson.h>

TestSuite(data, .init = scratch_begin, .fini = scratch_end);

enum { END = VKMOE_TOKEN_END_OF_TEXT };

static enum vkmoe_status open_two(const char *train, const char *valid, struct vkmoe_data **out)
{
    struct vkmoe_data_desc desc = {.log = test_log, .train = &train, .train_count = train != NULL, .valid = &valid,
                                   .valid_count = valid != NULL};
    return vkmoe_data_open(&desc, out);
}

static struct vkmoe_data *open_text(const char *name)
{
    struct vkmoe_data *data;
    assert_ok(open_two(at(name), NULL, &data));
    return data;
}

/* All tokens of the training paths are those of `wanted`, in which '@' is the end-of-text token. */
static void expect_tokens(const struct vkmoe_data *data, const char *wanted)
{
    uint32_t tokens[512] = {0}, targets[512] = {0};
    uint64_t length = strlen(wanted), ends = 0;
    cr_expect_eq(vkm_data_tokens(data, VKM_SPLIT_ALL), length, "%llu tokens for \"%s\"",
                 (unsigned long long)vkm_data_tokens(data, VKM_SPLIT_ALL), wanted);
    vkm_data_window(data, VKM_SPLIT_ALL, 0, 511, tokens, targets);
    for (size_t i = 0; i < length; i++) {
        uint32_t is = length == 1 ? END : i ? targets[i - 1] : tokens[0]; /* one token makes no window */
        uint32_t expected = wanted[i] == '@' ? END : (unsigned char)wanted[i];
        cr_expect_eq(is, expected, "\"%s\"[%zu] is %u", wanted, i, is);
        ends += expected == END;
    }
    cr_expect_eq(vkm_data_bytes(data, VKM_SPLIT_ALL), length - ends);
}

static const struct {
    const char *text, *tokens;
} markers[] = {
    {"abc", "abc"},
    {"a\nb\n", "a\nb\n"},
    {"a\r\nb\r\n", "a\r\nb\r\n"},
    {"<|endoftext|>", "@"},
    {"<|endoftext|>\n", "@"},
    {"<|endoftext|>\r\n", "@"},
    {"<|endoftext|>\na", "@a"},
    {"a\n<|endoftext|>\nb", "a\n@b"},
    {"a\r\n<|endoftext|>\r\nb\r\n", "a\r\n@b\r\n"},
    {"a\n<|endoftext|>", "a\n@"},
    {"a\n<|endoftext|>\n\nb", "a\n@\nb"},
    {"<|endoftext|>\n<|endoftext|>\n", "@@"},
    {"a<|endoftext|>\n", "a<|endoftext|>\n"},
    {"<|endoftext|>a\n", "<|endoftext|>a\n"},
    {" <|endoftext|>\n", " <|endoftext|>\n"},
    {"<|endoftext|>\r", "<|endoftext|>\r"},
    {"<|endoftext|>\r\r\n", "<|endoftext|>\r\r\n"},
    {"<|endoftex|>\n", "<|endoftex|>\n"},
    {"\n\n", "\n\n"},
    {"\r\n", "\r\n"},
    {"\xC3\xA4\xE2\x82\xAC", "\xC3\xA4\xE2\x82\xAC"},
};

Test(data, end_of_text_lines)
{
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        put("t", markers[i].text);
        struct vkmoe_data *data = open_text("t");
        expect_tokens(data, markers[i].tokens);
        vkmoe_data_close(data);
    }
}

/* A character and a marker across the boundary between two reads. */
Test(data, long_files)
{
    enum { SIZE = 700 * 1024 };
    static char text[SIZE + 1];
    static uint32_t tokens[SIZE], targets[SIZE];
    for (size_t shift = 0; shift < 16; shift++) {
        memset(text, 'x', SIZE);
        memcpy(text + 256 * 1024 - shift, "\n<|endoftext|>\n", 15);
        memcpy(text + 512 * 1024 - shift, "\xF0\x9F\x98\x80", 4);
        put("t", text);
        struct vkmoe_data *data = open_text("t");
        cr_assert_eq(vkm_data_tokens(data, VKM_SPLIT_ALL), SIZE - 13);
        cr_expect_eq(vkm_data_bytes(data, VKM_SPLIT_ALL), SIZE - 14);
        vkm_data_window(data, VKM_SPLIT_ALL, 0, SIZE, tokens, targets);
        cr_expect_eq(tokens[256 * 1024 - shift + 1], END);
        cr_expect_eq(tokens[512 * 1024 - shift - 13], 0xF0);
        vkmoe_data_close(data);
    }
}

Test(data, directories)
{
    struct vkmoe_data *data;
    make_dir("d");
    make_dir("d/b");
    make_dir("d/.hidden");
    make_dir("d/empty");
    put("d/a", "1");
    put("d/b/z", "2<|endoftext|>");
    put("d/b/a", "3\n<|endoftext|>\n");
    put("d/c", "4");
    put("d/.e", "hidden");
    put("d/.hidden/f", "hidden");
    put("d/none", "");
    put_bytes("d/nul", "a\0b", 3);
    put("d/latin", "12345\xE4");
    put("d/short", "12345\xC3");
    cr_assert_eq(mkfifo(at("d/pipe"), 0666), 0);
    cr_assert_eq(symlink("..", at("d/b/up")), 0);
    cr_assert_eq(symlink("self", at("d/self")), 0);
    cr_assert_eq(symlink("nowhere", at("d/dangling")), 0);
    cr_assert_eq(symlink("c", at("d/link")), 0);
    data = open_text("d");
    expect_tokens(data, "1@3\n@2<|endoftext|>@4@4");
    struct vkmoe_data_info info = vkmoe_data_info(data);
    cr_expect_eq(info.files, 5);
    cr_expect_eq(info.files_skipped, 7); /* dangling, latin, none, nul, pipe, self, short */
    vkmoe_data_close(data);

    /* A directory that is given twice is read twice. */
    const char *paths[] = {at("d/b"), at("d/c"), at("d/b")};
    struct vkmoe_data_desc desc = {.log = test_log, .train = paths, .train_count = 3};
    assert_ok(vkmoe_data_open(&desc, &data));
    cr_expect_eq(vkmoe_data_info(data).files, 3 + 1 + 3 + 4, "b/up leads to all of d, but not again to b");
    vkmoe_data_close(data);
}

Test(data, failures)
{
    struct vkmoe_data *data;
    put("empty", "");
    put("latin", "gr\xFC\xDF");
    put_bytes("nul", "abc\0d", 5);
    put("cut", "abc\xE2\x82");
    put("fine", "text");
    make_dir("dir");
    put("dir/binary", "\xFF\xFE");
    make_dir("nothing");
    cr_assert_eq(mkfifo(at("pipe"), 0666), 0);
    expect_failure(open_two(at("empty"), NULL, &data), VKMOE_ERROR_FORMAT, "empty is empty");
    expect_failure(open_two(at("latin"), NULL, &data), VKMOE_ERROR_FORMAT, "offset 2");
    cr_expect(strstr(seen.line, "iconv"));
    expect_failure(open_two(at("nul"), NULL, &data), VKMOE_ERROR_FORMAT, "offset 3");
    expect_failure(open_two(at("cut"), NULL, &data), VKMOE_ERROR_FORMAT, "offset 5");
    expect_failure(open_two(at("none"), NULL, &data), VKMOE_ERROR_IO, "No such file");
    expect_failure(open_two(at("fine/x"), NULL, &data), VKMOE_ERROR_IO, "Not a directory");
    expect_failure(open_two(at("pipe"), NULL, &data), VKMOE_ERROR_IO, "a pipe");
    expect_failure(open_two(at("dir"), NULL, &data), VKMOE_ERROR_ARGUMENT, "no file of UTF-8 text");
    expect_failure(open_two(at("nothing"), NULL, &data), VKMOE_ERROR_ARGUMENT, "no file of UTF-8 text");
    expect_failure(open_two("", NULL, &data), VKMOE_ERROR_ARGUMENT, "empty");
    expect_failure(open_two(NULL, NULL, &data), VKMOE_ERROR_ARGUMENT, "no text");
    expect_failure(open_two(at("fine"), at("latin"), &data), VKMOE_ERROR_FORMAT, "latin");
    cr_expect_null(data);
    cr_expect_eq(vkmoe_data_open(NULL, &data), VKMOE_ERROR_ARGUMENT);
    vkmoe_data_close(NULL);
    if (geteuid() != 0) {
        cr_assert_eq(chmod(at("fine"), 0), 0);
        expect_failure(open_two(at("fine"), NULL, &data), VKMOE_ERROR_IO, "denied");
    }
}

Test(data, splits)
{
    struct vkmoe_data *data;
    put("t", "0123456789012345678901234");
    put("v", "abc");
    data = open_text("t");
    cr_expect_eq(vkm_data_tokens(data, VKM_SPLIT_TRAIN), 23);
    cr_expect_eq(vkm_data_tokens(data, VKM_SPLIT_VALID), 2);
    cr_expect_eq(vkm_data_tokens(data, VKM_SPLIT_ALL), 25);
    assert_ok(vkm_data_check(data, 22));
    expect_failure(vkm_data_check(data, 23), VKMOE_ERROR_ARGUMENT, "needs at least 24");
    expect_failure(vkm_data_check(data, UINT32_MAX), VKMOE_ERROR_ARGUMENT, "needs at least 4294967296");
    uint32_t tokens[4], targets[4];
    cr_expect_eq(vkm_data_window(data, VKM_SPLIT_VALID, 0, 4, tokens, targets), 1);
    cr_expect(tokens[0] == '3' && targets[0] == '4' && tokens[1] == '4' && targets[1] == VKM_TARGET_NONE);
    cr_expect(tokens[2] == '3' && tokens[3] == '4' && targets[3] == VKM_TARGET_NONE);
    vkmoe_data_close(data);

    assert_ok(open_two(at("t"), at("v"), &data));
    cr_expect_eq(vkm_data_tokens(data, VKM_SPLIT_TRAIN), 25);
    cr_expect_eq(vkm_data_tokens(data, VKM_SPLIT_VALID), 3);
    cr_expect_eq(vkmoe_data_info(data).valid_tokens, 3);
    vkmoe_data_close(data);

    put("v", "a");
    assert_ok(open_two(at("t"), at("v"), &data));
    expect_failure(vkm_data_check(data, 4), VKMOE_ERROR_ARGUMENT, "validation text has 1");
    vkmoe_data_close(data);
}

/* Together the windows predict every token but the first, once and in order; behind the end are tokens of the text, without
 * targets. */
Test(data, windows_cover_everything)
{
    char text[64] = {0};
    uint32_t tokens[16], targets[16], again[16];
    for (uint64_t length = 1; length < 40; length++) {
        memset(text, 0, sizeof text);
        for (uint64_t i = 0; i < length; i++)
            text[i] = (char)('0' + i);
        put("t", text);
        struct vkmoe_data *data = open_text("t");
        for (uint32_t seq = 1; seq <= 16; seq++) {
            uint64_t at_token = 0, windows = vkm_data_windows(data, VKM_SPLIT_ALL, seq);
            for (uint64_t w = 0; w < windows; w++) {
                uint32_t real = vkm_data_window(data, VKM_SPLIT_ALL, w, seq, tokens, targets);
                cr_assert(real > 0);
                for (uint32_t i = 0; i < seq; i++) {
                    cr_assert_eq(tokens[i], '0' + (w * seq + i) % length);
                    cr_assert_eq(targets[i], i < real ? '0' + at_token + 1 : VKM_TARGET_NONE);
                    at_token += i < real;
                }
                cr_assert_eq(vkm_data_window(data, VKM_SPLIT_ALL, windows * 3 + w, seq, again, targets), 0);
                cr_assert_arr_eq(again, tokens, seq * sizeof *again);
                for (uint32_t i = 0; i < seq; i++)
                    cr_assert_eq(targets[i], VKM_TARGET_NONE);
            }
            cr_assert_eq(at_token, length - 1);
            if (windows == 0) {
                cr_assert_eq(vkm_data_window(data, VKM_SPLIT_ALL, 5, seq, tokens, targets), 0);
                cr_assert(tokens[seq - 1] == '0' && targets[0] == VKM_TARGET_NONE);
            }
        }
        cr_expect(length >= 10 || vkm_data_window(data, VKM_SPLIT_VALID, 0, 1, tokens, targets) == 0);
        vkmoe_data_close(data);
    }
}

static uint64_t fingerprint_of(const char *train, const char *valid)
{
    struct vkmoe_data *data;
    put("t", train);
    put("v", valid ? valid : "unused");
    assert_ok(open_two(at("t"), valid ? at("v") : NULL, &data));
    uint64_t value = vkm_data_fingerprint(data);
    vkmoe_data_close(data);
    return value;
}

Test(data, fingerprints)
{
    static const struct {
        const char *train, *valid;
    } texts[] = {
        {"abcdefghij", NULL}, {"abcdefghi", "j"}, {"abcdefgh", "ij"}, {"abcdefghji", NULL}, {"abcdefgh", NULL},
        {"abcdefghijabcdefghij", NULL}, {"a", "b"}, {"b", "a"}, {"a", NULL}, {"ab", "b"}, {"a\n<|endoftext|>", "b"},
    };
    enum { N = sizeof texts / sizeof *texts };
    uint64_t values[N];
    for (int i = 0; i < N; i++) {
        values[i] = fingerprint_of(texts[i].train, texts[i].valid);
        cr_expect_eq(values[i], fingerprint_of(texts[i].train, texts[i].valid));
        for (int j = 0; j < i; j++) {
            bool same = i == 1 && j == 0; /* the last tenth is what is held out */
            cr_expect_eq(values[i] == values[j], same, "%d and %d", j, i);
        }
    }
    /* A file on another machine says the same: this one was computed by another program. */
    cr_expect_eq(fingerprint_of("abcde", "f"), 0x83EB42E84853134FU);
    char text[64] = {0};
    memset(text, 'x', 40);
    uint64_t all_x = fingerprint_of(text, "v");
    for (int i = 0; i < 40; i++) {
        text[i] = 'y';
        cr_expect_neq(fingerprint_of(text, "v"), all_x, "token %d", i);
        text[i] = 'x';
    }
}

Test(data, samples_depend_on_seed_and_number)
{
    enum { SEQ = 5, N = 64 };
    uint32_t all[N * SEQ], targets[N * SEQ], one[SEQ], next[SEQ];
    bool first = false, last = false;
    unsigned other = 0;
    put("t", "0123456789abcdef");
    put("v", "12");
    struct vkmoe_data *data;
    assert_ok(open_two(at("t"), at("v"), &data));
    vkm_data_sample(data, 9, 100, N, SEQ, all, targets);
    for (uint32_t w = 0; w < N; w++) {
        vkm_data_sample(data, 9, 100 + w, 1, SEQ, one, next);
        cr_assert_arr_eq(one, all + w * SEQ, sizeof one);
        cr_assert_arr_eq(next, targets + w * SEQ, sizeof next);
        cr_assert_arr_eq(one + 1, next, sizeof one - sizeof *one);
        first |= one[0] == '0';
        last |= next[SEQ - 1] == 'f';
        vkm_data_sample(data, 10, 100 + w, 1, SEQ, next, targets + w * SEQ);
        other += memcmp(one, next, sizeof one) != 0;
        vkm_data_sample(data, 9, 100 + w, 1, SEQ, one, targets + w * SEQ);
    }
    cr_expect(first && last, "both ends of the text are used");
    cr_expect(other > N / 2, "another seed takes other windows");
    /* The shortest text that is allowed has one window. */
    vkmoe_data_close(data);
    put("t", "012345");
    assert_ok(open_two(at("t"), at("v"), &data));
    assert_ok(vkm_data_check(data, SEQ));
    vkm_data_sample(data, 1, 0, N, SEQ, all, targets);
    for (uint32_t w = 0; w < N; w++)
        cr_assert_eq(all[w * SEQ], '0');
    vkmoe_data_close(data);
}

Test(data, tokenizer_file)
{
    json_t *root, *vocab, *value;
    const char *key;
    bool ids[257] = {0};
    assert_ok(vkm_tokenizer_write(&test_log, scratch));
    cr_assert((root = json_load_file(at("tokenizer.json"), 0, NULL)));
    vocab = json_object_get(json_object_get(root, "model"), "vocab");
    cr_assert_eq(json_object_size(vocab), 257);
    json_object_foreach(vocab, key, value)
        ids[json_integer_value(value)] = true;
    for (int i = 0; i < 257; i++)
        cr_assert(ids[i]);
    /* As in GPT-2: printable characters stand for themselves, a space for U+0120, a line break for U+010A. */
    cr_expect_eq(json_integer_value(json_object_get(vocab, "A")), 'A');
    cr_expect_eq(json_integer_value(json_object_get(vocab, "\xC4\xA0")), ' ');
    cr_expect_eq(json_integer_value(json_object_get(vocab, "\xC4\x8A")), '\n');
    cr_expect_eq(json_integer_value(json_object_get(vocab, "\xC5\x83")), 0xAD);
    cr_expect_eq(json_integer_value(json_object_get(vocab, "<|endoftext|>")), END);
    json_decref(root);
    cr_assert((root = json_load_file(at("tokenizer_config.json"), 0, NULL)));
    json_decref(root);
    expect_failure(vkm_tokenizer_write(&test_log, at("none")), VKMOE_ERROR_IO, "none/tokenizer.json");
}
