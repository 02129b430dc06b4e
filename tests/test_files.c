/* Safetensors files and Hugging Face directories, good and damaged. */
#include "base/json.h"
#include "nn/config.h"
#include "scratch.h"
#include "train/hf.h"
#include "train/safetensors.h"

TestSuite(files, .init = scratch_begin, .fini = scratch_end);

/* ---- safetensors --------------------------------------------------------------------------------------------- */

static char *slurp(const char *name, size_t *bytes)
{
    char *data;
    assert_ok(vkm_file_read(&test_log, at(name), 1 << 30, &data, bytes));
    return data;
}

static void write_three(const char *name)
{
    struct vkm_safetensors_writer *w;
    const float values[11] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    assert_ok(vkm_safetensors_create(&test_log, at(name), &w));
    assert_ok(vkm_safetensors_note(w, "step", "12"));
    assert_ok(vkm_safetensors_declare(w, "matrix", (const uint64_t[]){2, 3}, 2));
    assert_ok(vkm_safetensors_declare(w, "a vector", (const uint64_t[]){4}, 1));
    assert_ok(vkm_safetensors_declare(w, "scalar", NULL, 0));
    assert_ok(vkm_safetensors_append(w, values, 3));
    assert_ok(vkm_safetensors_append(w, values + 3, 7));
    assert_ok(vkm_safetensors_append(w, values + 10, 1));
    assert_ok(vkm_safetensors_commit(w));
    vkm_safetensors_destroy(w);
}

Test(files, safetensors_round_trip)
{
    struct vkm_safetensors *f;
    const struct vkm_tensor *t;
    float values[6];
    write_three("t");
    assert_ok(vkm_safetensors_open(&test_log, at("t"), &f));
    cr_expect_str_eq(vkm_safetensors_metadata(f, "format"), "pt");
    cr_expect_str_eq(vkm_safetensors_metadata(f, "step"), "12");
    cr_expect_null(vkm_safetensors_metadata(f, "none"));
    assert_ok(vkm_safetensors_expect(f, "matrix", (const uint64_t[]){2, 3}, 2, &t));
    assert_ok(vkm_safetensors_read(f, t, 0, 6, values));
    cr_expect(values[0] == 0 && values[5] == 5);
    assert_ok(vkm_safetensors_expect(f, "a vector", (const uint64_t[]){4}, 1, &t));
    assert_ok(vkm_safetensors_read(f, t, 1, 2, values));
    cr_expect(values[0] == 7 && values[1] == 8);
    expect_failure(vkm_safetensors_read(f, t, 3, 2, values), VKMOE_ERROR_ARGUMENT, "no such f32");
    expect_failure(vkm_safetensors_read(f, t, UINT64_MAX, 2, values), VKMOE_ERROR_ARGUMENT, "no such f32");
    assert_ok(vkm_safetensors_expect(f, "scalar", NULL, 0, &t));
    cr_expect_eq(t->count, 1);
    expect_failure(vkm_safetensors_expect(f, "none", NULL, 0, &t), VKMOE_ERROR_FORMAT, "\"none\" is missing");
    expect_failure(vkm_safetensors_expect(f, "matrix", (const uint64_t[]){3, 2}, 2, &t), VKMOE_ERROR_FORMAT,
                   "F32 [2, 3] where the model's is F32 [3, 2]");
    vkm_safetensors_close(f);
    vkm_safetensors_close(NULL);

    size_t bytes;
    char *raw = slurp("t", &bytes);
    cr_expect_eq((bytes - 11 * sizeof(float)) % 8, 0, "the data are aligned");
    free(raw);
}

Test(files, safetensors_unfinished)
{
    struct vkm_safetensors_writer *w;
    assert_ok(vkm_safetensors_create(&test_log, at("t"), &w));
    assert_ok(vkm_safetensors_declare(w, "x", (const uint64_t[]){2}, 1));
    expect_failure(vkm_safetensors_commit(w), VKMOE_ERROR_ARGUMENT, "0 elements instead of 2");
    vkm_safetensors_destroy(w);
    vkm_safetensors_destroy(NULL);
    cr_expect_neq(access(at("t"), F_OK), 0);
    cr_expect_neq(access(at("t.tmp"), F_OK), 0);
    expect_failure(vkm_safetensors_create(&test_log, at("none/t"), &w), VKMOE_ERROR_IO, "none/t");
    cr_expect_null(w);
}

/* Every shorter file, one byte more, and every byte of the header changed: an error or a sound file, never a crash. */
Test(files, safetensors_damaged)
{
    struct vkm_safetensors *f;
    size_t bytes;
    write_three("t");
    char *raw = slurp("t", &bytes);
    for (size_t cut = 0; cut < bytes; cut++) {
        put_bytes("cut", raw, cut);
        expect_failure(vkm_safetensors_open(&test_log, at("cut"), &f), VKMOE_ERROR_FORMAT, "cut: ");
    }
    char *longer = calloc(bytes + 1, 1);
    memcpy(longer, raw, bytes);
    put_bytes("cut", longer, bytes + 1);
    expect_failure(vkm_safetensors_open(&test_log, at("cut"), &f), VKMOE_ERROR_FORMAT, "45 bytes of data where");
    for (size_t i = 0; i < bytes - 11 * sizeof(float); i++) {
        static const char changes[] = {0, ' ', '0', '9', '"', '-', '[', '\xFF', '\n'};
        for (size_t c = 0; c < sizeof changes; c++) {
            memcpy(longer, raw, bytes);
            longer[i] = changes[c];
            put_bytes("cut", longer, bytes);
            seen.errors = 0;
            enum vkmoe_status status = vkm_safetensors_open(&test_log, at("cut"), &f);
            cr_expect(status == VKMOE_OK ? seen.errors == 0 : status == VKMOE_ERROR_FORMAT && seen.errors == 1,
                      "byte %zu: %s", i, seen.line);
            vkm_safetensors_close(f);
        }
    }
    free(longer);
    free(raw);
    expect_failure(vkm_safetensors_open(&test_log, at("none"), &f), VKMOE_ERROR_IO, "No such file");
    expect_failure(vkm_safetensors_open(&test_log, scratch, &f), VKMOE_ERROR_IO, "a directory");
}

#define X(dtype, shape, offsets) "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define XY(x, y) "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" x "},\"y\":{\"dtype\":\"F32\"," \
    "\"shape\":[1],\"data_offsets\":" y "}}"

/* Headers over 8 bytes of data. says: NULL where the file is sound. */
static const struct {
    const char *header, *says;
} headers[] = {
    {X("\"F32\"", "[2]", "[0,8]"), NULL},
    {X("\"F32\"", "[2,1,1]", "[0,8]") "   ", NULL},
    {X("\"BF16\"", "[4]", "[0,8]"), NULL},
    {X("\"F64\"", "[]", "[0,8]"), NULL},
    {XY("[0,4]", "[4,8]"), NULL},
    {XY("[4,8]", "[0,4]"), NULL},
    {XY("[0,4]", "[0,4]"), "begins at 0 where the one before ends at 4"},
    {XY("[0,4]", "[3,7]"), "begins at 3"},
    {X("\"F32\"", "[1]", "[0,4]"), "8 bytes of data where the tensors need 4"},
    {X("\"F32\"", "[1]", "[4,8]"), "begins at 4"},
    {X("\"F32\"", "[3]", "[0,12]"), "outside the file"},
    {X("\"F32\"", "[2]", "[8,0]"), "outside the file"},
    {X("\"F32\"", "[2]", "[-8,0]"), "outside the file"},
    {X("\"F32\"", "[2]", "[0,8.0]"), "outside the file"},
    {X("\"F32\"", "[2]", "[0]"), "lacks"},
    {X("\"F32\"", "[2]", "8"), "lacks"},
    {X("\"F32\"", "2", "[0,8]"), "lacks"},
    {X("32", "[2]", "[0,8]"), "lacks"},
    {X("\"F33\"", "[2]", "[0,8]"), "unknown dtype"},
    {X("\"F32\"", "[3]", "[0,8]"), "8 bytes where its shape needs 12"},
    {X("\"F32\"", "[-2]", "[0,8]"), "not a size"},
    {X("\"F32\"", "[2.0]", "[0,8]"), "not a size"},
    {X("\"F32\"", "[\"2\"]", "[0,8]"), "not a size"},
    {X("\"F32\"", "[4294967296,4294967296]", "[0,0]"), "overflows"},
    {X("\"F32\"", "[9223372036854775807]", "[0,8]"), "overflows"},
    {X("\"F32\"", "[9223372036854775808]", "[0,8]"), "not valid JSON"},
    {X("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "9 dimensions"},
    {"{\"x\":1}", "lacks"},
    {"{\"__metadata__\":[]}", "not an object"},
    {"{}", "need 0"},
    {"[]", "not a JSON object"},
    {"{\"x\":NaN}", "not valid JSON"},
    {"", "not valid JSON"},
};

Test(files, safetensors_headers)
{
    struct vkm_safetensors *f;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        char raw[512] = {0};
        size_t length = strlen(headers[i].header);
        raw[0] = (char)(length & 0xFF);
        raw[1] = (char)(length >> 8);
        memcpy(raw + 8, headers[i].header, length);
        put_bytes("t", raw, 8 + length + 8);
        if (headers[i].says) {
            expect_failure(vkm_safetensors_open(&test_log, at("t"), &f), VKMOE_ERROR_FORMAT, headers[i].says);
            continue;
        }
        assert_ok(vkm_safetensors_open(&test_log, at("t"), &f));
        const struct vkm_tensor *t = vkm_safetensors_find(f, "x"), *found;
        if (strcmp(t->dtype, "F32") != 0) {
            float value[8];
            expect_failure(vkm_safetensors_expect(f, "x", t->dims, t->rank, &found), VKMOE_ERROR_FORMAT, t->dtype);
            expect_failure(vkm_safetensors_read(f, t, 0, 1, value), VKMOE_ERROR_ARGUMENT, "no such f32");
        }
        vkm_safetensors_close(f);
    }
    static const unsigned char lengths[][8] = {{255, 255, 255, 255, 255, 255, 255, 255}, {1}, {0, 225, 245, 5}};
    for (size_t i = 0; i < 3; i++) {
        put_bytes("t", lengths[i], 8);
        expect_failure(vkm_safetensors_open(&test_log, at("t"), &f), VKMOE_ERROR_FORMAT,
                       i ? "truncated" : "its header");
    }
}

/* ---- Hugging Face directories --------------------------------------------------------------------------------- */

static struct vkmoe_model_config model_of(bool norm_topk)
{
    return (struct vkmoe_model_config){.layers = 2, .d_model = 24, .heads = 3, .experts = 5, .top_k = 2, .d_expert = 12,
                                       .seq = 16, .vocab = 264, .rope_theta = 1e4f, .norm_eps = 1e-5f,
                                       .norm_topk = norm_topk};
}

Test(files, hf_tensors_cover_the_parameters)
{
    for (int norm = 0; norm < 2; norm++) {
        struct vkmoe_model_config model = model_of(norm);
        struct vkm_params params;
        struct vkm_hf_tensor *tensors;
        size_t count, zeros = 0;
        assert_ok(vkm_params_create(&test_log, &model, &params));
        assert_ok(vkm_hf_tensors(&test_log, &model, &tensors, &count));
        for (uint32_t p = 0; p < params.count; p++) {
            const struct vkm_param *param = &params.list[p];
            char *covered = calloc(param->count, 1);
            for (size_t i = 0; i < count; i++) {
                if (tensors[i].zeros || vkm_params_get(&params, tensors[i].param, tensors[i].layer) != param)
                    continue;
                cr_assert(tensors[i].first + tensors[i].count <= param->count, "%s", tensors[i].name);
                for (uint64_t e = 0; e < tensors[i].count; e++)
                    covered[tensors[i].first + e]++;
            }
            for (uint64_t e = 0; e < param->count; e++)
                cr_assert_eq(covered[e], 1, "%s[%llu] %d times", param->name, (unsigned long long)e, covered[e]);
            free(covered);
        }
        for (size_t i = 0; i < count; i++)
            zeros += tensors[i].zeros;
        cr_expect_eq(zeros, norm ? 0 : 2 * (3 + 4));
        cr_expect_eq(count, 3 + 2 * (2 + 4 + 1 + 5 * 3) + zeros);
        free(tensors);
        vkm_params_destroy(&params);
    }
}

Test(files, hf_config_round_trip)
{
    struct vkmoe_model_config preset, read;
    struct vkmoe_train_config unused;
    for (const char *const *name = vkmoe_preset_names(); *name; name++) {
        memset(&preset, 0, sizeof preset);
        memset(&read, 0, sizeof read);
        cr_assert(vkmoe_preset(*name, &preset, &unused));
        assert_ok(vkm_hf_config_write(&test_log, scratch, &preset));
        assert_ok(vkm_hf_config_read(&test_log, scratch, &read));
        cr_expect(read.layers == preset.layers && read.d_model == preset.d_model && read.heads == preset.heads);
        cr_expect(read.experts == preset.experts && read.top_k == preset.top_k && read.d_expert == preset.d_expert);
        cr_expect(read.seq == preset.seq && read.vocab == preset.vocab && read.norm_topk == preset.norm_topk);
        cr_expect(read.rope_theta == preset.rope_theta && read.norm_eps == preset.norm_eps);
    }
}

/* Sets one field of config.json ("null" as JSON takes it away) and reads the directory. */
static enum vkmoe_status read_changed(bool norm_topk, const char *key, const char *value)
{
    struct vkmoe_model_config model = model_of(norm_topk);
    json_t *root;
    assert_ok(vkm_hf_config_write(&test_log, scratch, &model));
    assert_ok(vkm_json_load(&test_log, at("config.json"), &root));
    json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL));
    assert_ok(vkm_json_save(&test_log, at("config.json"), root));
    return vkm_hf_config_read(&test_log, scratch, &model);
}

Test(files, hf_config_failures)
{
    static const struct {
        bool norm_topk;
        const char *key, *value, *says;
    } cases[] = {
        {true, "model_type", "\"llama\"", "\"mixtral\" or"},
        {true, "model_type", "null", "a string"},
        {true, "num_hidden_layers", "0", "\"num_hidden_layers\" must be an integer from 1 to 256"},
        {true, "num_hidden_layers", "1e3", "an integer"},
        {true, "hidden_size", "25", "\"head_dim\""},
        {true, "num_local_experts", "2000", "config.json: experts (2000)"},
        {true, "num_experts_per_tok", "6", "config.json: top_k (6) must be between 1 and experts (5)"},
        {true, "num_key_value_heads", "1", "equal to"},
        {true, "tie_word_embeddings", "true", "must be false"},
        {true, "sliding_window", "4096", "must be null"},
        {true, "vocab_size", "100", "vocab (100)"},
        {true, "rms_norm_eps", "0", "norm_eps (0)"},
        {true, "rope_theta", "\"x\"", "a number"},
        {false, "norm_topk_prob", "true", "must be false"},
        {false, "shared_expert_intermediate_size", "8", "from 4 to 4"},
        {false, "decoder_sparse_step", "2", "from 1 to 1"},
        {false, "num_experts", "null", "an integer"},
    };
    struct vkmoe_model_config model;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(read_changed(cases[i].norm_topk, cases[i].key, cases[i].value), VKMOE_ERROR_FORMAT,
                       cases[i].says);
    expect_failure(vkm_hf_config_read(&test_log, at("none"), &model), VKMOE_ERROR_IO, "none/config.json");
    put("config.json", "{");
    expect_failure(vkm_hf_config_read(&test_log, scratch, &model), VKMOE_ERROR_FORMAT, "config.json:1:");
}
