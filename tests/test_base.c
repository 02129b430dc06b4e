/* Random numbers, UTF-8, files and JSON: what needs no device. */
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "scratch.h"

#include <float.h>
#include <math.h>

TestSuite(base, .init = scratch_begin, .fini = scratch_end);

/* ---- random numbers ------------------------------------------------------------------------------------------ */

/* Random123's kat_vectors for philox4x32, 10 rounds. */
Test(base, philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        vkm_rng_philox(known[i].counter, known[i].key, out);
        cr_expect_arr_eq(out, known[i].out, sizeof out, "vector %zu", i);
    }
    uint32_t words[4], direct[4];
    vkm_rng_words(0x299f31d0a4093822, 0x13198a2e, 0x85a308d3243f6a88, words);
    vkm_rng_philox((const uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0}, known[2].key, direct);
    cr_expect_arr_eq(words, direct, sizeof words);
}

Test(base, rng_below_is_the_scaled_word)
{
    static const uint64_t limits[] = {1, 2, 3, 10, 4294967295, 4294967296, 4294967297, 1000000000000, UINT64_MAX};
    for (size_t n = 0; n < sizeof limits / sizeof *limits; n++) {
        for (uint64_t i = 0; i < 1000; i++) {
            uint32_t w[4];
            vkm_rng_words(7, 3, i, w);
            uint64_t value = vkm_rng_below(7, 3, i, limits[n]);
            /* floor(word * n / 2^64), a bit of the word at a time. */
            uint64_t word = (uint64_t)w[1] << 32 | w[0], exact = 0;
            for (int bit = 0; bit < 64; bit++) {
                uint64_t sum = exact + (word >> bit & 1 ? limits[n] : 0);
                exact = sum >> 1 | (uint64_t)(sum < exact) << 63;
            }
            cr_assert(value < limits[n]);
            cr_assert_eq(value, exact, "n %llu, index %llu", (unsigned long long)limits[n], (unsigned long long)i);
        }
    }
}

Test(base, rng_distributions)
{
    enum { N = 200000 };
    double sum = 0, square = 0, uniform = 0, fourth = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = vkm_rng_uniform(1, VKM_STREAM_SAMPLE, i), z = vkm_rng_normal(1, VKM_STREAM_INIT, i);
        cr_assert(u >= 0 && u < 1);
        cr_assert(isfinite(z));
        uniform += u / N;
        sum += z / N;
        square += z * z / N;
        fourth += z * z * z * z / N;
    }
    /* Five standard errors of each mean. */
    cr_expect_float_eq(uniform, 0.5, 5 * sqrt(1.0 / 12 / N));
    cr_expect_float_eq(sum, 0, 5 / sqrt(N));
    cr_expect_float_eq(square, 1, 5 * sqrt(2.0 / N));
    cr_expect_float_eq(fourth, 3, 5 * sqrt(96.0 / N));
}

/* ---- UTF-8 --------------------------------------------------------------------------------------------------- */

/* bad: index of the first wrong byte, or -1; a text that ends too early counts as wrong at its end. */
static const struct {
    const char *text;
    int bad;
} utf8_cases[] = {
    {"", -1}, {"plain", -1}, {"gr\xC3\xBC\xC3\x9F", -1}, {"\xE2\x82\xAC", -1}, {"\xF0\x9F\x98\x80", -1},
    {"\xF4\x8F\xBF\xBF", -1}, {"\xED\x9F\xBF", -1}, {"\xEE\x80\x80", -1}, {"\xEF\xBB\xBF", -1},
    {"a\x80", 1}, {"\xC0\x80", 0}, {"\xC1\xBF", 0}, {"\xC3(", 1}, {"\xE0\x9F\xBF", 1}, {"\xED\xA0\x80", 1},
    {"\xF0\x8F\xBF\xBF", 1}, {"\xF4\x90\x80\x80", 1}, {"\xF5\x80\x80\x80", 0}, {"\xFF", 0}, {"ab\xE2\x82", 4},
    {"\xE2\x82\xE2", 2}, {"\xF0\x9F\x98", 3}, {"\xC3", 1},
};

Test(base, utf8_in_any_pieces)
{
    for (size_t c = 0; c < sizeof utf8_cases / sizeof *utf8_cases; c++) {
        const unsigned char *text = (const unsigned char *)utf8_cases[c].text;
        size_t length = strlen(utf8_cases[c].text);
        for (size_t cut = 0; cut <= length; cut++) {
            struct vkm_utf8 state = {0};
            size_t good = vkm_utf8_check(&state, text, cut);
            if (good == cut)
                good += vkm_utf8_check(&state, text + cut, length - cut);
            int bad = good < length || state.due > 0 ? (int)good : -1;
            cr_expect_eq(bad, utf8_cases[c].bad, "case %zu cut at %zu: %d", c, cut, bad);
        }
    }
}

/* ---- files --------------------------------------------------------------------------------------------------- */

static void expect_content(const char *name, const char *wanted)
{
    char *data;
    size_t bytes;
    assert_ok(vkm_file_read(&test_log, at(name), 1000, &data, &bytes));
    cr_expect_str_eq(data, wanted);
    cr_expect_eq(bytes, strlen(wanted));
    free(data);
}

Test(base, paths)
{
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = vkm_path_join(cases[i][0], cases[i][1]);
        cr_expect_str_eq(path, cases[i][2]);
        free(path);
    }
}

Test(base, directories)
{
    struct stat info;
    assert_ok(vkm_dir_create(&test_log, at("a/b//c/")));
    cr_expect(stat(at("a/b/c"), &info) == 0 && S_ISDIR(info.st_mode));
    assert_ok(vkm_dir_create(&test_log, at("a/b/c")));
    assert_ok(vkm_dir_create(&test_log, "/"));
    put("file", "x");
    expect_failure(vkm_dir_create(&test_log, at("file/d")), VKMOE_ERROR_IO, "file");
    expect_failure(vkm_dir_create(&test_log, at("file")), VKMOE_ERROR_IO, "a file of that name is there");
    expect_failure(vkm_dir_create(&test_log, ""), VKMOE_ERROR_IO, "name");
    expect_failure(vkm_dir_create(&test_log, "/proc/none/d"), VKMOE_ERROR_IO, "/proc/none");
}

Test(base, read_failures)
{
    char *data;
    size_t bytes;
    put("long", "12345");
    cr_assert_eq(mkfifo(at("pipe"), 0666), 0);
    expect_failure(vkm_file_read(&test_log, at("none"), 10, &data, &bytes), VKMOE_ERROR_IO, "No such file");
    expect_failure(vkm_file_read(&test_log, scratch, 10, &data, &bytes), VKMOE_ERROR_IO, "a directory");
    expect_failure(vkm_file_read(&test_log, at("pipe"), 10, &data, &bytes), VKMOE_ERROR_IO, "a pipe");
    expect_failure(vkm_file_read(&test_log, at("long"), 4, &data, &bytes), VKMOE_ERROR_FORMAT, "at most 4");
    cr_expect_null(data);
    expect_content("long", "12345");
}

Test(base, write_replaces_at_once)
{
    struct vkm_writer writer;
    put("f", "old");
    put("f.tmp", "left behind");
    assert_ok(vkm_writer_begin(&test_log, at("f"), &writer));
    assert_ok(vkm_writer_append(&writer, "ne", 2));
    expect_content("f", "old");
    assert_ok(vkm_writer_append(&writer, "w", 1));
    assert_ok(vkm_writer_sync(&writer));
    expect_content("f", "old");
    assert_ok(vkm_writer_commit(&writer));
    expect_content("f", "new");
    vkm_writer_abort(&writer);
    cr_expect_neq(access(at("f.tmp"), F_OK), 0);
    expect_content("f", "new");

    assert_ok(vkm_writer_begin(&test_log, at("f"), &writer));
    assert_ok(vkm_writer_append(&writer, "half", 4));
    vkm_writer_abort(&writer);
    vkm_writer_abort(&writer);
    expect_content("f", "new");
    cr_expect_neq(access(at("f.tmp"), F_OK), 0);
}

Test(base, write_failures)
{
    struct vkm_writer writer = {0};
    vkm_writer_abort(&writer);
    expect_failure(vkm_file_write(&test_log, at("none/f"), "x", 1), VKMOE_ERROR_IO, "none/f");
    expect_failure(vkm_file_write(&test_log, "/proc/f", "x", 1), VKMOE_ERROR_IO, "/proc/f");
    make_dir("d");
    put("d/x", "");
    expect_failure(vkm_file_write(&test_log, at("d"), "x", 1), VKMOE_ERROR_IO, "directory");
    cr_expect_neq(access(at("d.tmp"), F_OK), 0);
    make_dir("e.tmp");
    expect_failure(vkm_file_write(&test_log, at("e"), "x", 1), VKMOE_ERROR_IO, "cannot write");
    cr_expect_eq(access(at("e.tmp"), F_OK), 0);

    /* Another process began the same file in between. */
    struct vkm_writer other;
    assert_ok(vkm_writer_begin(&test_log, at("f"), &writer));
    assert_ok(vkm_writer_begin(&test_log, at("f"), &other));
    assert_ok(vkm_writer_append(&other, "other", 5));
    expect_failure(vkm_writer_commit(&writer), VKMOE_ERROR_IO, "another process");
    vkm_writer_abort(&writer);
    assert_ok(vkm_writer_commit(&other));
    expect_content("f", "other");
}

Test(base, write_to_a_full_disk)
{
    struct vkm_writer writer = {.log = &test_log, .path = NULL};
    if (access("/dev/full", W_OK) != 0)
        cr_skip_test("no /dev/full");
    put("f", "old");
    assert_ok(vkm_writer_begin(&test_log, at("f"), &writer));
    FILE *full = fopen("/dev/full", "w");
    cr_assert(full);
    cr_assert(dup2(fileno(full), writer.fd) >= 0);
    fclose(full);
    expect_failure(vkm_writer_append(&writer, "x", 1), VKMOE_ERROR_IO, "No space");
    vkm_writer_abort(&writer);
    expect_content("f", "old");
    cr_expect_neq(access(at("f.tmp"), F_OK), 0);
}

/* ---- JSON ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text, *says;
} bad_json[] = {
    {"", "j:"}, {"{", "j:1:"}, {"{\n\"a\": 1,\n}", "j:3:"}, {"[1]", "not a JSON object"}, {"7", "j:1:"},
    {"{\"a\": NaN}", "j:1:"}, {"{\"a\": 1e999}", "j:1:"}, {"{\"a\": 1, \"a\": 2}", "duplicate"},
    {"{\"a\": 99999999999999999999}", "too big"}, {"{} x", "j:1:"}, {"{\"a\": \"\xFF\"}", "j:1:"},
};

Test(base, json_that_is_none)
{
    json_t *root;
    for (size_t i = 0; i < sizeof bad_json / sizeof *bad_json; i++) {
        put("j", bad_json[i].text);
        expect_failure(vkm_json_load(&test_log, at("j"), &root), VKMOE_ERROR_FORMAT, bad_json[i].says);
        cr_expect_null(root);
    }
    char deep[10001] = {0};
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "{\"a\":", 5);
    put("j", deep);
    expect_failure(vkm_json_load(&test_log, at("j"), &root), VKMOE_ERROR_FORMAT, "depth");
    expect_failure(vkm_json_load(&test_log, at("none"), &root), VKMOE_ERROR_IO, "No such file");
}

Test(base, json_fields)
{
    put("j", "{\"n\": 5, \"r\": 0.5, \"b\": true, \"s\": \"text\", \"o\": {}, \"z\": null, \"m\": -1, \"h\": 9e18}");
    struct vkm_json in = {.log = &test_log, .path = "j"};
    json_t *root;
    assert_ok(vkm_json_load(&test_log, at("j"), &root));
    in.object = root;
    cr_expect_eq(vkm_json_uint(&in, "n", 5, 5), 5);
    cr_expect_eq(vkm_json_real(&in, "n", 0, 10), 5);
    cr_expect_eq(vkm_json_real(&in, "r", 0, 1), 0.5);
    cr_expect(vkm_json_bool(&in, "b"));
    cr_expect_str_eq(vkm_json_string(&in, "s"), "text");
    cr_expect_not_null(vkm_json_object(&in, "o"));
    cr_expect(vkm_json_has(&in, "n") && !vkm_json_has(&in, "z") && !vkm_json_has(&in, "none"));
    cr_expect_eq(in.status, VKMOE_OK);
#define expect_field(call, part) \
    in.status = VKMOE_OK; \
    expect_failure(((void)(call), in.status), VKMOE_ERROR_FORMAT, part)
    expect_field(vkm_json_uint(&in, "n", 6, 9), "j: \"n\" must be an integer from 6 to 9");
    expect_field(vkm_json_uint(&in, "m", 0, 9), "\"m\" must be");
    expect_field(vkm_json_uint(&in, "h", 0, 9), "\"h\" must be");
    expect_field(vkm_json_uint(&in, "r", 0, 9), "\"r\" must be");
    expect_field(vkm_json_uint(&in, "none", 0, 9), "\"none\" is missing: it must be an integer");
    expect_field(vkm_json_real(&in, "r", 0, 0.25), "a number from 0 to 0.25");
    expect_field(vkm_json_real(&in, "s", 0, 1), "a number");
    expect_field(vkm_json_bool(&in, "n"), "true or false");
    expect_field(vkm_json_string(&in, "z"), "a string");
    expect_field(vkm_json_object(&in, "s"), "an object");
    /* The first failure is the one that is told. */
    cr_expect_eq(vkm_json_uint(&in, "none", 3, 9), 3);
    cr_expect_eq(seen.errors, 1);
    json_decref(root);
}

Test(base, json_floats_read_back)
{
    static const float special[] = {0, 1, 0.1f, 1e-5f, 1e-8f, 5e-4f, 10000, FLT_MAX, FLT_MIN, FLT_EPSILON, 16777216};
    for (uint64_t i = 0; i < 300; i++) {
        float value = i < sizeof special / sizeof *special ? special[i] : (float)exp(20 * vkm_rng_normal(1, 1, i));
        if (!isfinite(value))
            continue;
        assert_ok(vkm_json_save(&test_log, at("j"), json_pack("{s:o}", "v", vkm_json_float(value))));
        json_t *root;
        assert_ok(vkm_json_load(&test_log, at("j"), &root));
        float again = (float)json_number_value(json_object_get(root, "v"));
        cr_assert(again == value, "%.9g became %.9g", (double)value, (double)again);
        json_decref(root);
    }
    assert_ok(vkm_json_save(&test_log, at("j"), json_pack("{s:o}", "v", vkm_json_float(1e-5f))));
    expect_content("j", "{\n  \"v\": 1e-5\n}\n");
    expect_failure(vkm_json_save(&test_log, at("j"), NULL), VKMOE_ERROR_MEMORY, "memory");
}

/* Semantic versions: what a program was compiled with, against the library. */
Test(base, versions_fit)
{
    cr_expect(vkmoe_version_fits(VKMOE_VERSION_NUMBER));
    cr_expect_not(vkmoe_version_fits(VKMOE_VERSION_NUMBER + 1), "the library is older than the program");
    cr_expect_not(vkmoe_version_fits(VKMOE_VERSION_NUMBER + (1 << 12)));
    cr_expect_not(vkmoe_version_fits(VKMOE_VERSION_NUMBER + (1 << 22)));
}
